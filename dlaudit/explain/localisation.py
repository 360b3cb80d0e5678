"""Where do maps look, and is it where the object is? Shares of maps inside masks or named boxes.

Knows maps and masks; refuses to call a place a reason: whether a decision hangs on it is decided by
replacing it (``explain.shortcut``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from msgspec import Meta

from dlaudit.audit.parts import Needs, Yielded
from dlaudit.audit.record import Artifact, Cost, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import LEVEL
from dlaudit.errors import NotExplained
from dlaudit.explain.methods import SHIPPED, known_methods
from dlaudit.explain.regions import RegionCheck

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench
    from dlaudit.explain.subject import Subject

OBJECT = "object"
Count = Annotated[int, Meta(ge=1)]


class Looked(NamedTuple):
    """Per input, (n,) each, NaN where it does not exist: an empty or full region, an empty map.

    share: of the absolute map inside the region; lift: share over the region's share of the area;
    pointing: whether the largest value lies inside, ties by fractions; accuracy: share of the region
    among as many largest values.
    """

    share: np.ndarray
    lift: np.ndarray
    pointing: np.ndarray
    accuracy: np.ndarray


def looked(maps: np.ndarray, region: np.ndarray) -> Looked:
    """maps: (n, H, W), absolute and summed over channels; region: (n, H, W) bool."""
    import numpy as np

    flat, inside = maps.reshape(len(maps), -1), region.reshape(len(maps), -1)
    total, area = flat.sum(axis=1), inside.mean(axis=1)
    there = (total > 0) & (area > 0) & (area < 1)
    none = np.full(len(flat), np.nan)
    share = np.divide((flat * inside).sum(axis=1), total, out=none.copy(), where=there)
    lift = np.divide(share, area, out=none.copy(), where=there)
    most = flat == flat.max(axis=1, keepdims=True)
    pointing = np.where(there, (most & inside).sum(axis=1) / most.sum(axis=1), np.nan)
    accuracy = none.copy()
    for row in np.flatnonzero(there):
        size = int(inside[row].sum())
        # Values at the border of the top may tie: each of them counts by its chance to be among it.
        edge = np.partition(flat[row], -size)[-size]
        above, at = flat[row] > edge, flat[row] == edge
        places = (size - above.sum()) / at.sum()
        accuracy[row] = ((above & inside[row]).sum() + places * (at & inside[row]).sum()) / size
    return Looked(share, lift, pointing, accuracy)


class Localisation(RegionCheck, frozen=True, kw_only=True):
    """How much of the maps lies where the object is, or in declared regions, per class and group.

    ``mass_share``: share of the absolute attributions inside; ``lift``: that share over the region's
    share of the area, 1 for a map that looks everywhere alike; ``pointing_game``: how often the largest
    value lies inside; ``rank_accuracy``: share of the region among as many largest values.

    methods, baseline, settings, steps: as of ``explain.attribution``. regions: name -> [top, left,
    height, width] in pixels, beside ``object`` where the data have masks. samples: pictures looked at.
    minimum: pictures below which no number is given.
    """

    needs: ClassVar[Needs] = Needs(
        model=("logits", "gradients", "module"), data=("images", "labels")
    )
    masked: ClassVar[str] = OBJECT
    measures: ClassVar[tuple[str, ...]] = (
        "mass_share", "lift", "pointing_game", "rank_accuracy",
    )  # fmt: skip

    methods: tuple[str, ...] = ("integrated_gradients",)
    baseline: Literal["zero", "low", "mean", "blur"] = "zero"
    settings: dict[str, dict[str, Any]] = {}
    samples: Count = 200

    def __post_init__(self) -> None:
        """Refuse unknown methods too."""
        super().__post_init__()
        known_methods(self.methods)

    def passes(self, *, n: int, classes: int) -> Cost:
        """One map for each picture and method."""
        del classes
        each = [SHIPPED[one]().passes(positions=64) for one in self.methods if one in SHIPPED]
        many = min(n, self.samples)
        return Cost(
            forward=many * (1 + sum(one.forward for one in each)),
            backward=many * sum(one.backward for one in each),
        )

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Explain, and count what lies inside."""
        import numpy as np

        from dlaudit.explain.attribution import made
        from dlaudit.explain.faithfulness import scores
        from dlaudit.explain.subject import maps_of, subject_of

        try:
            subject = subject_of(bench, self.samples)
            start = subject.baseline(self.baseline)
        except NotExplained as error:
            for name in self.measures:
                yield Undefined(name=name, reason=str(error))
            return
        columns: dict[str, np.ndarray] = {
            "id": subject.batch.id,
            "predicted": subject.target.cpu().numpy(),
        }
        regions = self._regions(subject)
        for method in self.methods:
            explainer = made(
                bench.part("explainers", method)(), self.settings.get(method, {}), method
            )
            try:
                maps = maps_of(explainer, subject.request(start, bench.rng(f"maps, {method}")))
            except NotExplained as error:
                for name in self.measures:
                    yield Undefined(name=name, reason=str(error), slice={"method": method})
                continue
            size = scores(np.abs(maps.astype(np.float64)), pixels=True)
            for region, inside in regions.items():
                found = looked(size.reshape(inside.shape), inside)
                yield from self._told(bench, subject, method, region, found)
                columns[f"{method}_{region}_share"] = found.share
                columns[f"{method}_{region}_lift"] = found.lift
                columns[f"{method}_{region}_pointing"] = found.pointing
        yield self._kept(bench, columns)

    def _regions(self, subject: Subject) -> dict[str, np.ndarray]:
        """Every region by name, (n, H, W) bool. Raises ValueError for a box outside the pictures."""
        import numpy as np

        shape = tuple(subject.x.shape)
        found: dict[str, np.ndarray] = {}
        if subject.batch.mask is not None:
            found[OBJECT] = np.asarray(subject.batch.mask, dtype=bool).reshape(
                shape[0], *shape[-2:]
            )
        return found | self.declared(shape)

    def _told(
        self, bench: Bench, subject: Subject, method: str, region: str, found: Looked
    ) -> Iterator[Yielded]:
        """The numbers over everybody, per decided class and per group; each search by itself."""
        import numpy as np

        decided = subject.target.cpu().numpy()
        names = np.array([bench.classes[k] if k < len(bench.classes) else str(k) for k in decided])
        everywhere = {"method": method, "region": region}
        yield from self._means(found, np.ones(len(decided), dtype=bool), everywhere, LEVEL)
        for attribute, column in {"class": names, **subject.batch.groups}.items():
            values = np.unique(np.asarray(column).astype(str))
            large = sum(int((column == one).sum() >= self.minimum) for one in values)
            level = 1 - (1 - LEVEL) / max(large, 1)
            for value in values:
                rows = np.asarray(column) == value
                yield from self._means(found, rows, {**everywhere, attribute: str(value)}, level)

    def _means(
        self,
        found: Looked,
        rows: np.ndarray,
        sliced: dict[str, str],
        level: float,
    ) -> Iterator[Measurement | Undefined]:
        """The four means over some of the pictures."""
        import numpy as np

        from dlaudit.explain.telling import mean_of

        stated: dict[str, Scalar] = {
            "baseline": self.baseline, "maps": "absolute, channels added", "classes": "as decided",
            "search": "values of one attribute, Bonferroni",
        }  # fmt: skip
        for name, values in zip(self.measures, found, strict=True):
            some = values[rows]
            n = int((~np.isnan(some)).sum())
            if n < self.minimum:
                reason = (
                    f"{n} pictures with a map and a region that is neither empty nor everything: at "
                    f"least {self.minimum} are needed"
                )
                yield Undefined(name=name, reason=reason, slice=sliced, conditions=stated)
                continue
            yield mean_of(name, some, sliced, stated, "", level=level, share=name != "lift")

    @staticmethod
    def _kept(bench: Bench, columns: dict[str, np.ndarray]) -> Artifact:
        return bench.keep_table(
            f"{bench.run}.samples", columns,
            caption="Each picture: share of the map inside each region, its lift over the region's "
            "area, and whether the largest value lies inside; NaN where that does not exist.",
        )  # fmt: skip
