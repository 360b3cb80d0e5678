"""Shortcuts: do decisions hang on what is not the object? Decided by replacement, not by a map.

Knows pictures, masks and declared regions; refuses to guess a region that nobody named.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple

from msgspec import Meta

from dlaudit.audit.parts import Needs, Yielded
from dlaudit.audit.record import Artifact, Cost, Interval, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import LEVEL, clopper_pearson, mean_interval
from dlaudit.explain.regions import RegionCheck

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Answers, Bench
    from dlaudit.explain.replacement import Pictures

BACKGROUND = "background"
NAME, PULL = "shortcut_effect", "shortcut_pull"
SAME = "the region holds the same values whichever picture it is taken from: nothing to replace"


class Probed(NamedTuple):
    """What a region's replacement did. rows: (m,) the samples that had both donors.

    own, other: (m,) probability of the predicted class with the region of a picture of that class,
    and of another class, averaged over the donors; moved: (m,) bool, any input differed. pull: (m, C),
    what the region of a picture of class c adds to the probability of c, NaN without such a donor.
    """

    rows: np.ndarray
    own: np.ndarray
    other: np.ndarray
    moved: np.ndarray
    pull: np.ndarray

    @property
    def effect(self) -> np.ndarray:
        """(m,): what the region's content tells the model about the class."""
        difference: np.ndarray = self.own - self.other
        return difference


class Shortcut(RegionCheck, frozen=True, kw_only=True):
    """How much of the decision hangs on the background or on a declared region, by replacing it.

    The region is filled twice: from a picture of another class and, as control, from another picture
    of the predicted class. Both fills have the same area, seams and procedure; they differ only in
    the class that the region comes from. ``shortcut_effect`` is the mean paired difference in the
    probability of the original decision, own class minus other class: near 0 where the region says
    nothing, above 0 where the decision hangs on it. ``shortcut_pull`` asks the other way about, of the
    same fills: how much the region of another class's picture raises the probability of *that* class.
    A model that knows a class by its object or by its mark loses nothing without the mark (no effect),
    and calls whatever carries it by its name (pull). (A random region of equal area is no
    control for a background: it would cover the object.)

    regions: name -> [top, left, height, width] in pixels, beside ``background`` where the data have
    masks. samples: how many test pictures. donors: pictures per fill and sample. minimum: pictures
    below which no number is given. margin: pixels around the object counted as object.
    """

    needs: ClassVar[Needs] = Needs(model=("logits",), data=("images", "labels"))
    masked: ClassVar[str] = BACKGROUND
    measures: ClassVar[tuple[str, ...]] = (NAME, PULL)

    samples: Annotated[int, Meta(ge=1)] = 1000
    donors: Annotated[int, Meta(ge=1)] = 4
    margin: Annotated[int, Meta(ge=0)] = 0

    def passes(self, *, n: int, classes: int) -> Cost:
        """Two fills per donor and region; the background counts as one region."""
        del classes
        return Cost(
            forward=2 * self.donors * min(n, self.samples) * (1 + len(self.regions)), backward=0
        )

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Replace every region and compare the two fills, over all pictures and per class."""
        from dlaudit.audit.bench import joined
        from dlaudit.explain.replacement import pictures

        batch = reduce(joined, (block.batch for block in bench.blocks(samples=self.samples)))
        answers = bench.answers(samples=self.samples)
        shown = pictures(batch.x, batch.mask, margin=self.margin)
        regions = self._regions(shown)
        if not regions:
            reason = "no masks in the data and no regions declared: nothing to replace"
            yield Undefined(name=NAME, reason=reason)
            return
        probed = {
            name: self._probe(bench, shown, region, answers) for name, region in regions.items()
        }
        for name, found in probed.items():
            yield from self._measured(bench, name, found, answers)
        yield _evidence(bench, answers, probed)
        yield from self._pictures(bench, shown, regions, probed)

    def _regions(self, shown: Pictures) -> dict[str, np.ndarray]:
        """Every region by name, (n, H, W) bool. Raises ValueError for a box outside the pictures."""
        found = {} if shown.background is None else {BACKGROUND: shown.background}
        return found | self.declared(shown.x.shape)

    def _probe(self, bench: Bench, shown: Pictures, region: np.ndarray, answers: Answers) -> Probed:
        """Fill one region from pictures of the predicted class and of other classes."""
        import numpy as np

        from dlaudit.explain.replacement import donors

        rng = bench.rng("donors")
        drawn = [
            tuple(donors(answers.y, answers.predicted, rng, same=same) for same in (True, False))
            for _ in range(self.donors)
        ]
        rows = np.flatnonzero(np.all([of >= 0 for pair in drawn for of in pair], axis=0))
        own, other = np.zeros(len(rows)), np.zeros(len(rows))
        moved = np.zeros(len(rows), dtype=bool)
        pulled, times = np.zeros((2, len(rows), len(bench.classes)))
        for start in range(0, len(rows), bench.block):
            part = slice(start, start + bench.block)
            at = rows[part]
            for same, different in drawn:
                filled = [shown.replaced(at, region, of[at]) for of in (same, different)]
                chances = [_chances(bench, x) for x in filled]
                each, decided = np.arange(len(at)), answers.predicted[at]
                for sums, chance in zip((own, other), chances, strict=True):
                    sums[part] += chance[each, decided] / self.donors
                given = answers.y[different[at]]
                pulled[start + each, given] += (chances[1] - chances[0])[each, given]
                times[start + each, given] += 1
                moved[part] |= (filled[0] != filled[1]).reshape(len(at), -1).any(axis=1)
        none = np.full_like(pulled, np.nan)
        pull = np.divide(pulled, times, out=none, where=times > 0)
        return Probed(rows, own, other, moved, pull)

    def _measured(
        self, bench: Bench, region: str, found: Probed, answers: Answers
    ) -> Iterator[Yielded]:
        """The effect of one region, over all pictures and for each predicted class."""
        import numpy as np

        conditions = self._conditions(region)
        yield self._one(found, slice(None), LEVEL, {"region": region}, conditions)
        predicted = answers.predicted[found.rows]
        classes = np.unique(predicted)
        large = [k for k in classes if (predicted == k).sum() >= self.minimum]
        level = 1 - (1 - LEVEL) / max(len(large), 1)
        for k in classes:
            label = bench.classes[k] if k < len(bench.classes) else str(k)
            where = {"region": region, "class": label}
            yield self._one(found, predicted == k, level, where, conditions)
        yield from self._pulled(bench, region, found)

    def _pulled(self, bench: Bench, region: str, found: Probed) -> Iterator[Yielded]:
        """What the region of each class does to pictures that are decided otherwise."""
        import numpy as np

        there = ~np.isnan(found.pull)
        large = int((there.sum(axis=0) >= self.minimum).sum())
        level = 1 - (1 - LEVEL) / max(large, 1)
        conditions = {
            **self._conditions(region), "classes": "as labelled, of the donors",
            "effect": "probability of the donor's class: its region minus one of the predicted class",
        }  # fmt: skip
        for k in np.flatnonzero(there.any(axis=0)):
            rows, where = there[:, k], {"region": region, "class": bench.classes[k]}
            one = Probed(
                found.rows[rows], found.pull[rows, k], np.zeros(int(rows.sum())),
                found.moved[rows], found.pull[rows],
            )  # fmt: skip
            yield self._one(one, slice(None), level, where, conditions, name=PULL)

    def _one(
        self,
        found: Probed,
        which: slice | np.ndarray,
        level: float,
        where: dict[str, str],
        conditions: dict[str, Scalar],
        *,
        name: str = NAME,
    ) -> Yielded:
        """The mean effect over some of the samples."""
        effect, moved = found.effect[which], found.moved[which]
        n = len(effect)
        if n < self.minimum:
            reason = f"{n} pictures with a donor of each kind: at least {self.minimum} are needed"
            return Undefined(name=name, reason=reason, slice=where, conditions=conditions)
        still = not moved.any()
        return Measurement(
            name=name, value=0.0 if still else float(effect.mean()), n=n,
            interval=None if still else paired_interval(effect, level),
            exact=SAME if still else None, direction="lower", slice=where, conditions=conditions,
        )  # fmt: skip

    def _conditions(self, region: str) -> dict[str, Scalar]:
        """The protocol, as far as it changes the number."""
        stated: dict[str, Scalar] = {
            "effect": "probability of the predicted class: own-class fill minus other-class fill",
            "control": "the same region, from another picture of the predicted class",
            "donors": self.donors,
            "margin": self.margin,
            "classes": "as predicted",
            "search": "classes of a region, Bonferroni",
        }
        if region in self.regions:
            stated["box"] = " ".join(str(number) for number in self.regions[region])
        return stated

    def _pictures(
        self,
        bench: Bench,
        shown: Pictures,
        regions: dict[str, np.ndarray],
        probed: dict[str, Probed],
    ) -> Iterator[Artifact]:
        """The pictures that a replacement changed most, if the plan keeps samples."""
        import numpy as np

        from dlaudit.explain.pictures import strip_png

        answers = bench.answers(samples=self.samples)
        for name, found in probed.items():
            strongest = np.argsort(-found.effect, kind="stable")[: bench.keep_samples]
            for at in strongest:
                row = int(found.rows[at])
                hidden = np.where(regions[name][row], shown.filler, shown.x[row])
                label, sample = bench.classes[answers.predicted[row]], answers.id[row]
                said = (
                    f"from {found.own[at]:.2f} (own class) to {found.other[at]:.2f} (other class)"
                )
                yield bench.keep(
                    f"{bench.run}.{name}.{sample}", strip_png([shown.x[row], hidden]),
                    media_type="image/png",
                    caption=f"Sample {sample}, decided as {label}: filling the region {name} from "
                    f"pictures of another class moves the probability of {label} {said}. Left: the "
                    "picture; right: the same with the region set to its mean.",
                    alt=f"Sample {sample} as it is and without its region {name}; the probability of "
                    f"{label} moves {said}.",
                )  # fmt: skip


def paired_interval(differences: np.ndarray, level: float = LEVEL) -> Interval:
    """Interval of the mean of paired differences of probabilities: each in [-1, 1].

    Student's t, wide enough also for a few samples unlike all that were seen: a share of at most
    Clopper and Pearson's upper end at 0 of n, each at most 1 away from 0. Without that, 30 pictures
    of which 3 % hang on a region would hold the truth in 58 of 100 cases.
    """
    value = float(differences.mean())
    unlike = clopper_pearson(0, len(differences), level).high
    low, high = (1 - unlike) * value - unlike, (1 - unlike) * value + unlike
    method = "clopper-pearson-unlike"
    student = mean_interval(differences, level)
    if student is not None and student.high - student.low > high - low:
        low, high = min(low, student.low), max(high, student.high)
        method = student.method
    return Interval(low=max(-1.0, low), high=min(1.0, high), level=level, method=method)


def _chances(bench: Bench, x: np.ndarray) -> np.ndarray:
    """(B, C) softmax probabilities, in double precision."""
    import numpy as np
    import torch

    return np.asarray(torch.softmax(bench.model.logits(x).double().cpu(), dim=1).numpy())


def _evidence(bench: Bench, answers: Answers, probed: dict[str, Probed]) -> Artifact:
    """One row per sample: the two probabilities for every region, where there were donors."""
    import numpy as np

    n = len(answers.y)
    columns: dict[str, np.ndarray] = {
        "id": answers.id, "label": answers.y, "predicted": answers.predicted,
    }  # fmt: skip
    for name, found in probed.items():
        measured, own, other = np.zeros(n, dtype=bool), np.zeros(n), np.zeros(n)
        measured[found.rows], own[found.rows], other[found.rows] = True, found.own, found.other
        columns |= {f"{name}_measured": measured, f"{name}_own": own, f"{name}_other": other}
    return bench.keep_table(
        f"{bench.run}.samples", columns,
        caption="Probability of the predicted class of each picture when a region is filled from its "
        "own class (own) and from another (other).",
    )  # fmt: skip
