"""Accuracy under common corruptions: noise, blur, weather, compression and light (Hendrycks 2019).

Knows which cells of corruption and severity are asked and how their errors are put together; never
how a picture is corrupted, and no threshold.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from dlaudit.attacks.severities import (
    COMMON,
    FAMILIES,
    LIGHTING,
    Constants,
    Corruption,
    Severity,
    nearest_constants,
)  # fmt: skip
from dlaudit.audit.parts import Check, Model, Needs, Yielded
from dlaudit.audit.record import Artifact, Cost, Measurement, Scalar, Undefined
from dlaudit.errors import NotOffered, nearest

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.attacks.flips import Album
    from dlaudit.attacks.unit_pictures import UnitPictures
    from dlaudit.audit.bench import Answers, Bench, Block

Cell = tuple[Corruption, Severity]
ALL: tuple[Corruption, ...] = tuple(dict.fromkeys((*COMMON, *LIGHTING)))
WIDE = 64
"""So many pictures are corrupted at once: what stands in memory beside the block."""


class Corruptions(Check, frozen=True, kw_only=True):
    """Accuracy under the 15 common corruptions and shifts of light, at severities 1 to 5.

    corruptions, severities: the cells. constants: those of ImageNet-C (224 pixels) or CIFAR-10-C (32
    pixels), ``auto`` for the nearer in size; lengths grow with the shorter side. samples: how many
    test samples, None for all. baseline: errors to divide by, ``{gaussian_noise = [five errors], …}``,
    or the name of another model of the plan.

    ``mean_corruption_error`` is the mean over corruptions of the mean error over severities, for the
    15 of the paper and for shifts of light apart; ``relative_corruption_error`` is the paper's mCE:
    the mean over corruptions of the sum of errors over that of the baseline.
    """

    needs: ClassVar[Needs] = Needs(model=("logits",), data=("images", "labels"))
    measures: ClassVar[tuple[str, ...]] = (
        "clean_accuracy", "corrupted_accuracy", "mean_corruption_error",
        "relative_corruption_error",
    )  # fmt: skip
    proportions: ClassVar[tuple[str, ...]] = measures[:2]

    corruptions: tuple[Corruption, ...] = ALL
    severities: tuple[Severity, ...] = (1, 2, 3, 4, 5)
    constants: Literal["auto", "imagenet-c", "cifar-10-c"] = "auto"
    samples: int | None = None
    baseline: dict[Corruption, tuple[float, float, float, float, float]] | str | None = None

    def __post_init__(self) -> None:
        """Refuse an empty or doubled list, no samples, and errors that are no shares."""
        for name in ("corruptions", "severities"):
            listed = getattr(self, name)
            if not listed or len(set(listed)) < len(listed):
                message = f"{name}: expected at least one, each once, got {list(listed)}"
                raise ValueError(message)
        if self.samples is not None and self.samples < 1:
            message = f"samples: expected a number >= 1, got {self.samples}"
            raise ValueError(message)
        if isinstance(self.baseline, dict):
            for name, errors in self.baseline.items():
                if not all(0 <= error <= 1 for error in errors):
                    message = f"baseline.{name}: expected five errors in [0, 1], got {list(errors)}"
                    raise ValueError(message)

    @property
    def cells(self) -> list[Cell]:
        """What is asked, in order."""
        return [(name, severity) for name in self.corruptions for severity in self.severities]

    def passes(self, *, n: int, classes: int) -> Cost:
        """One prediction per sample and cell, of the audited model."""
        del classes
        chosen = n if self.samples is None else min(n, self.samples)
        return Cost(forward=chosen * len(self.cells), backward=0)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Corrupt every sample in every way, predict, and put the errors together."""
        import numpy as np

        from dlaudit.attacks.flips import Album, accuracy_after

        answers = bench.answers(samples=self.samples)
        rival = self._rival(bench)
        models = {"": bench.model} | ({"baseline_": rival} if rival is not None else {})
        decided = {
            f"{who}{name}_{severity}": np.full(len(answers.y), -1)
            for who in models
            for name, severity in self.cells
        }
        album, stated = Album(bench), {}
        for block in bench.blocks(samples=self.samples):
            stated = self._ask(
                bench, block, models=models, answers=answers, decided=decided, album=album
            )
        yield Measurement(name="clean_accuracy", **accuracy_after(answers.predicted, answers.y))
        for name, severity in self.cells:
            yield Measurement(
                name="corrupted_accuracy", **accuracy_after(decided[f"{name}_{severity}"], answers.y),
                conditions={"corruption": name, "severity": severity, **stated},
            )  # fmt: skip
        yield from self._means(bench, answers, decided, stated)
        yield _evidence(bench, answers, decided, self.cells)
        yield from album.artifacts()

    def _rival(self, bench: Bench) -> Model | None:
        """The model that the errors are divided by. Raises NotOffered if the plan has none so called."""
        if not isinstance(self.baseline, str):
            return None
        if self.baseline not in bench.models:
            message = (
                f"baseline: the plan has no [models.{self.baseline}]. "
                f"{nearest(self.baseline, bench.models)}"
            )
            raise NotOffered(message)
        return bench.models[self.baseline]

    def _ask(
        self,
        bench: Bench,
        block: Block,
        *,
        models: dict[str, Model],
        answers: Answers,
        decided: dict[str, np.ndarray],
        album: Album,
    ) -> dict[str, Scalar]:
        """Every cell of one block. Returns what stands in the conditions of every number."""
        import numpy as np

        from dlaudit.attacks.flips import Flip
        from dlaudit.attacks.unit_pictures import UnitPictures

        pictures = UnitPictures.of(block.batch, bench)
        layout = pictures.layout
        constants = self.constants
        if constants == "auto":
            constants = nearest_constants(layout.height, layout.width)
        at = slice(block.start, block.start + len(block.batch.y))
        y, right = answers.y[at], answers.correct[at]
        for name, severity in self.cells:
            x = corrupted_inputs(pictures, block, (name, severity), constants)
            for who, model in models.items():
                found = np.asarray(model.decide(block.batch._replace(x=x)).predicted)
                decided[f"{who}{name}_{severity}"][at] = found
                flipped = np.flatnonzero(right & (found != y))
                if not who and len(flipped) and album.wants(name, severity):
                    k = int(flipped[0])
                    change = f"{name.replace('_', ' ')} of severity {severity}"
                    album.add(
                        name,
                        Flip(
                            severity, change, str(block.batch.id[k]), int(y[k]), int(found[k]),
                            pictures.clean[k].numpy(), x[k],
                        ),
                    )  # fmt: skip
        return {"constants": constants, "side": min(layout.height, layout.width)}

    def _means(
        self,
        bench: Bench,
        answers: Answers,
        decided: dict[str, np.ndarray],
        stated: dict[str, Scalar],
    ) -> Iterator[Yielded]:
        """The mean error of each family of corruptions, plain and relative to the baseline."""
        import numpy as np

        from dlaudit.attacks.flips import mean_of_shares

        # (corruption -> (n,) share of the severities at which the sample is wrong)
        wrong = {
            who + name: np.mean(
                [decided[f"{who}{name}_{s}"] != answers.y for s in self.severities], axis=0
            )
            for who in ("", "baseline_")
            for name in self.corruptions
            if f"{who}{name}_{self.severities[0]}" in decided
        }  # fmt: skip
        for family, members in FAMILIES.items():
            names = [name for name in members if name in self.corruptions]
            if not names:
                continue
            shares = np.mean([wrong[name] for name in names], axis=0)
            conditions = {**stated, **self._asked(family, names)}
            yield Measurement(
                name="mean_corruption_error", value=float(shares.mean()), n=len(shares),
                interval=mean_of_shares(shares),
                direction="lower", conditions=conditions,
            )  # fmt: skip
            if self.baseline is not None:
                yield self._relative(bench, wrong, family, names, stated)

    def _asked(self, family: str, names: list[Corruption]) -> dict[str, Scalar]:
        """The cells behind a mean, in words."""
        whole = names == list(FAMILIES[family])
        return {
            "family": family,
            "corruptions": f"all {len(names)}" if whole else " ".join(names),
            "severities": " ".join(str(severity) for severity in self.severities),
        }

    def _relative(
        self,
        bench: Bench,
        wrong: dict[str, Any],
        family: str,
        names: list[Corruption],
        stated: dict[str, Scalar],
    ) -> Yielded:
        """The paper's mCE of a family; undefined where the baseline makes no error to divide by."""
        from dlaudit.attacks.corruption_errors import SAME, to_model, to_table

        measured, table = "relative_corruption_error", self.baseline
        if isinstance(table, dict):
            names = [name for name in names if name in table]
            errors = [
                sum(table[name][severity - 1] for severity in self.severities)
                / len(self.severities)
                for name in names
            ]
            told = f"declared errors, mean {sum(errors) / max(len(errors), 1):.6g}"
        else:
            errors = [float(wrong[f"baseline_{name}"].mean()) for name in names]
            told = f"model {table}"
        conditions = {**stated, **self._asked(family, names), "baseline": told}
        perfect = [name for name, error in zip(names, errors, strict=True) if error == 0]
        ours = [wrong[name] for name in names]
        if not names:
            reason = "the baseline names none of these corruptions"
        elif perfect:
            reason = f"the baseline makes no error under {', '.join(perfect)}"
        else:
            if isinstance(table, dict):
                found = to_table(ours, errors)
            else:
                theirs = [wrong[f"baseline_{name}"] for name in names]
                found = to_model(ours, theirs, bench.rng(f"relative error {family}"))
            reason = SAME
            if found.interval is not None:
                return Measurement(
                    name=measured, value=found.value, n=len(ours[0]), interval=found.interval,
                    direction="lower", conditions=conditions,
                )  # fmt: skip
        return Undefined(name=measured, reason=reason, conditions=conditions)


def corrupted_inputs(
    pictures: UnitPictures, block: Block, cell: Cell, constants: Constants
) -> np.ndarray:
    """One cell's inputs for the model. Severities of a corruption share what is drawn at random."""
    import numpy as np
    import torch

    from dlaudit.attacks.corrupting import corrupted

    name, severity = cell
    generator = block.generator(name)
    made = [
        pictures.inputs(
            corrupted(
                part, name, severity=severity, constants=constants, generator=generator
            )
        )
        for part in torch.split(pictures.x, WIDE)
    ]  # fmt: skip
    return np.concatenate(made)


def _evidence(
    bench: Bench, answers: Answers, decided: dict[str, np.ndarray], cells: list[Cell]
) -> Artifact:
    """One row per sample: its decision in every cell, and the first severity that flipped it."""
    import numpy as np

    columns: dict[str, Any] = {
        "id": answers.id, "label": answers.y, "predicted": answers.predicted,
    }  # fmt: skip
    for name in dict.fromkeys(name for name, _ in cells):
        first = np.zeros(len(answers.y), dtype=np.int64)
        for severity in sorted((s for n, s in cells if n == name), reverse=True):
            wrong = decided[f"{name}_{severity}"] != answers.y
            first = np.where(answers.correct & wrong, severity, first)
        columns[f"{name}_flipped"] = first
    return bench.keep_table(
        f"{bench.run}.samples", columns | decided,
        caption=f"{bench.run}: what each of {len(answers.y)} samples was called under each corruption "
        "at each severity, and the first severity that flipped it.",
    )  # fmt: skip
