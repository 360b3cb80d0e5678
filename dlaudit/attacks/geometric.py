"""The worst of small rotations, moves, scalings and shears for every sample (Engstrom et al. 2019).

Knows a stated grid and who is fooled on it; no norm, no ball and no threshold: a moved picture is far
away in every norm, so the grid itself is the threat model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Artifact, Caveat, Cost, Measurement, Scalar
from dlaudit.audit.statistics import wilson

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.attacks.flips import Album
    from dlaudit.attacks.motions import Motion, Reach
    from dlaudit.audit.bench import Answers, Bench, Block

Kind = Literal["rotation", "translation", "scaling", "shear", "flip", "rotation_translation"]
COLUMNS: dict[str, tuple[str, ...]] = {
    "rotation": ("degrees",), "translation": ("right", "down"), "scaling": ("factor",),
    "shear": ("shear",), "flip": ("flip",), "rotation_translation": ("degrees", "right", "down"),
}  # fmt: skip
"""What of a motion describes one of its kind."""


class Geometric(Check, frozen=True, kw_only=True):
    """The worst motion of each sample out of a stated grid: rotation, translation, scaling, shear, flip.

    kinds: which grids. rotation, shear: degrees to either side; translation: share of width and
    height; scaling: change to either side. angles: rotations on the grid; points: steps along every
    other axis. draws: random rotations with a move, the worst of which counts for
    rotation_translation; ``search = "grid"`` asks all angles x points x points of them instead.
    padding: what comes in at the edge, ``zeros`` for the lower end of the valid range. samples: how
    many test samples, None for all.

    ``robust_accuracy``: right when clean and after every motion tried, over all samples, per kind,
    and for all kinds together. ``random_accuracy``: right after one random rotation with a move.
    Every moved picture is predicted by the model as it is deployed.
    """

    needs: ClassVar[Needs] = Needs(model=("logits",), data=("images", "labels"))
    measures: ClassVar[tuple[str, ...]] = ("clean_accuracy", "robust_accuracy", "random_accuracy")
    proportions: ClassVar[tuple[str, ...]] = measures

    kinds: tuple[Kind, ...] = (
        "rotation", "translation", "scaling", "shear", "rotation_translation",
    )  # fmt: skip
    rotation: float = 30.0
    translation: float = 0.1
    scaling: float = 0.1
    shear: float = 10.0
    angles: int = 31
    points: int = 5
    draws: int = 10
    search: Literal["draws", "grid"] = "draws"
    padding: Literal["zeros", "border", "reflection"] = "zeros"
    samples: int | None = None

    def __post_init__(self) -> None:
        """Refuse grids of nothing and motions that leave no picture."""
        if not self.kinds or len(set(self.kinds)) < len(self.kinds):
            message = f"kinds: expected at least one, each once, got {list(self.kinds)}"
            raise ValueError(message)
        for name in ("angles", "points", "draws", "samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                message = f"{name}: expected a number >= 1, got {value}"
                raise ValueError(message)
        for name, most in (("rotation", 360), ("translation", 1), ("scaling", 1), ("shear", 90)):
            value = getattr(self, name)
            if not 0 < value < most:
                message = f"{name}: expected a number above 0 and below {most}, got {value}"
                raise ValueError(message)

    @property
    def reach(self) -> Reach:
        """How far the motions go."""
        from dlaudit.attacks.motions import Reach

        return Reach(self.rotation, self.translation, self.scaling, self.shear)

    def tried(self, kind: Kind) -> int:
        """How many motions of a kind a sample must withstand."""
        if self._drawn(kind):
            return self.draws
        return len(self._grid(kind))

    def _drawn(self, kind: Kind) -> bool:
        """Whether motions of this kind are drawn at random."""
        return kind == "rotation_translation" and self.search == "draws"

    def _grid(self, kind: Kind) -> list[Motion]:
        from dlaudit.attacks.motions import grid

        return grid(kind, self.reach, angles=self.angles, points=self.points)

    def passes(self, *, n: int, classes: int) -> Cost:
        """The most it can cost: every sample withstands every motion."""
        del classes
        chosen = n if self.samples is None else min(n, self.samples)
        each = 1 + sum(self.tried(kind) for kind in self.kinds)
        return Cost(forward=chosen * each, backward=0)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Move every sample that is right until it is wrong or the grid ends."""
        import numpy as np

        from dlaudit.attacks.flips import Album, accuracy_after

        answers = bench.answers(samples=self.samples)
        n, album = len(answers.y), Album(bench)
        columns: dict[str, np.ndarray] = {"forward": np.zeros(n, dtype=np.int64)}
        for kind in self.kinds:
            columns |= {
                f"{kind}_fooled": np.zeros(n, dtype=bool),
                f"{kind}_adversarial": answers.predicted.copy(),
            } | {f"{kind}_{name}": np.zeros(n) for name in COLUMNS[kind]}
        columns["random"] = np.full(n, -1)
        for block in bench.blocks(samples=self.samples):
            self._block(bench, block, answers=answers, columns=columns, album=album)
        yield Measurement(name="clean_accuracy", **accuracy_after(answers.predicted, answers.y))
        yield from self._robust(bench, answers, columns)
        yield Measurement(
            name="random_accuracy", **accuracy_after(columns["random"], answers.y),
            conditions={**self._conditions("rotation_translation"), "tried": 1, "grid": "one drawn"},
        )  # fmt: skip
        yield self._evidence(bench, answers, columns)
        yield from album.artifacts()

    def _block(
        self,
        bench: Bench,
        block: Block,
        *,
        answers: Answers,
        columns: dict[str, np.ndarray],
        album: Album,
    ) -> None:
        """Everything that is done to one block. columns: written to."""
        import numpy as np

        from dlaudit.attacks.motions import drawn, moved
        from dlaudit.attacks.unit_pictures import UnitPictures

        pictures = UnitPictures.of(block.batch, bench)
        at = slice(block.start, block.start + len(block.batch.y))
        once = drawn(len(block.batch.y), self.reach, block.generator("random accuracy"))
        x = pictures.inputs(moved(pictures.x, once, beyond=self.padding))
        columns["random"][at] = bench.model.decide(block.batch._replace(x=x)).predicted
        columns["forward"][at] += 1
        for kind in self.kinds:
            open_ = np.flatnonzero(answers.correct[at])
            for motions in self._rounds(kind, block):
                if not len(open_):
                    break
                open_ = self._round(
                    bench,
                    block,
                    kind,
                    motions,
                    open_,
                    pictures=pictures,
                    columns=columns,
                    album=album,
                )

    def _rounds(self, kind: Kind, block: Block) -> Iterator[list[Motion]]:
        """The motions to try, one after the other: one for all, or one for each sample of the block."""
        if not self._drawn(kind):
            yield from ([motion] for motion in self._grid(kind))
            return
        from dlaudit.attacks.motions import drawn

        generator = block.generator(kind)
        for _ in range(self.draws):
            yield drawn(len(block.batch.y), self.reach, generator)

    def _round(
        self,
        bench: Bench,
        block: Block,
        kind: Kind,
        motions: list[Motion],
        open_: np.ndarray,
        *,
        pictures: Any,
        columns: dict[str, np.ndarray],
        album: Album,
    ) -> np.ndarray:
        """Try one motion of each sample that is still right. Returns those that still are."""
        import numpy as np
        import torch

        from dlaudit.attacks.flips import Flip
        from dlaudit.attacks.motions import moved, strength
        from dlaudit.audit.bench import rows

        part = pictures.rows(torch.from_numpy(open_))
        chosen = motions if len(motions) == 1 else [motions[k] for k in open_]
        x = part.inputs(moved(part.x, chosen, beyond=self.padding))
        batch = rows(block.batch, open_)
        predicted = np.asarray(bench.model.decide(batch._replace(x=x)).predicted)
        wrong = predicted != np.asarray(batch.y)
        columns["forward"][block.start + open_] += 1
        for k in np.flatnonzero(wrong):
            motion, row = chosen[k if len(chosen) > 1 else 0], block.start + open_[k]
            columns[f"{kind}_fooled"][row] = True
            columns[f"{kind}_adversarial"][row] = predicted[k]
            for name in COLUMNS[kind]:
                columns[f"{kind}_{name}"][row] = getattr(motion, name)
            far = strength(motion, self.reach)
            if album.wants(kind, far):
                label, clean = int(batch.y[k]), part.clean[k].numpy()
                album.add(
                    kind,
                    Flip(
                        far, motion.said(), str(batch.id[k]), label, int(predicted[k]), clean, x[k]
                    ),
                )
        return np.asarray(open_[~wrong])

    def _robust(
        self, bench: Bench, answers: Answers, columns: dict[str, np.ndarray]
    ) -> Iterator[Measurement]:
        """What withstood each grid, and what withstood all of them."""
        import numpy as np

        doubt = Caveat(
            source=bench.run, name="upper_bound",
            message="Right at every motion that was tried: a motion between or beyond them may fool.",
        )  # fmt: skip
        n = len(answers.y)
        fooled = {kind: columns[f"{kind}_fooled"] for kind in self.kinds}
        rows = [(fooled[kind], self._conditions(kind)) for kind in self.kinds]
        if len(self.kinds) > 1:
            tried = sum(self.tried(kind) for kind in self.kinds)
            said: dict[str, Scalar] = {
                "kind": "all", "tried": tried, "grid": "all of: " + ", ".join(self.kinds),
            }  # fmt: skip
            rows.append((np.any(list(fooled.values()), axis=0), self._settings() | said))
        for lost, conditions in rows:
            robust = int((answers.correct & ~lost).sum())
            yield Measurement(
                name="robust_accuracy", value=robust / n, n=n, interval=wilson(robust, n),
                direction="higher", conditions=conditions, caveats=(doubt,),
            )  # fmt: skip

    def _conditions(self, kind: Kind) -> dict[str, Scalar]:
        """The whole grid of a kind, beside its number."""
        reach = {
            "rotation": f"{self.angles} angles within {self.rotation:g} degrees",
            "translation": f"{self.points} x {self.points} moves within {self.translation:g} of the side",
            "scaling": f"{self.points} factors within 1 +- {self.scaling:g}",
            "shear": f"{self.points} angles within {self.shear:g} degrees",
            "flip": "sideways, upside down, both",
            "rotation_translation": f"{self.angles} angles within {self.rotation:g} degrees x "
            f"{self.points} x {self.points} moves within {self.translation:g} of the side",
        }[kind]
        if self._drawn(kind):
            reach = (
                f"{self.draws} drawn uniformly within {self.rotation:g} degrees and "
                f"{self.translation:g} of the side"
            )
        return self._settings() | {"kind": kind, "tried": self.tried(kind), "grid": reach}

    def _settings(self) -> dict[str, Scalar]:
        """What is alike for all kinds."""
        return {
            "rotation": self.rotation, "translation": self.translation, "scaling": self.scaling,
            "shear": self.shear, "padding": self.padding, "interpolation": "bilinear",
            "norm": "none: the grid is the threat model",
        }  # fmt: skip

    def _evidence(self, bench: Bench, answers: Answers, columns: dict[str, np.ndarray]) -> Artifact:
        """One row per sample: the first motion of each kind that fooled it, the mildest on a grid."""
        known = {"id": answers.id, "label": answers.y, "predicted": answers.predicted}
        return bench.keep_table(
            f"{bench.run}.samples", known | columns,
            caption=f"{bench.run}: the first motion of each kind that fooled each of "
            f"{len(answers.y)} samples, and what it was called then.",
        )  # fmt: skip
