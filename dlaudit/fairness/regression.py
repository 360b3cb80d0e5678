"""Errors of predicted quantities per group: their mean, their size and their spread.

Knows which groups are measured and what an error is, prediction minus truth; refuses thresholds, and
refuses to call an error of one unit large or small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from dlaudit.audit.parts import Needs, Yielded
from dlaudit.audit.record import Cost, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import LEVEL
from dlaudit.fairness.groups import ByGroup, Counted, Crowd

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Answers, Bench
    from dlaudit.fairness.errors_by_group import Estimate

PER_GROUP = ("mean_error", "mean_absolute_error", "error_spread")
AGAINST = ("mean_error_difference", "mean_absolute_error_difference", "error_spread_ratio")
BETTER: dict[str, Literal["higher", "lower"]] = {
    "mean_absolute_error": "lower", "error_spread": "lower",
}  # fmt: skip


class Regression(ByGroup, frozen=True, kw_only=True):
    """Mean error and its spread in each group, for models that predict a quantity.

    Of error = prediction - truth: ``mean_error`` (above 0: predicted too high) and
    ``mean_absolute_error`` (Student's t), ``error_spread`` = standard deviation (Bonett). Against the
    reference (named, or the largest known group): ``mean_error_difference``,
    ``mean_absolute_error_difference`` (Welch) and ``error_spread_ratio``. In the target's own units.

    The data say ``types = { <target> = "number" }``; the model is ``predictions`` with ``value`` or a
    ``callable`` with ``output = "values"``.
    """

    needs: ClassVar[Needs] = Needs(model=("values",), data=("values", "groups"))
    measures: ClassVar[tuple[str, ...]] = (*PER_GROUP, *AGAINST)

    reference: dict[str, str] | None = None

    def objections(self, facts: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[str, ...]:
        """As of every check of groups; and a positive class, since a quantity has none."""
        classes = ("positive: expected none, a quantity has no classes",)
        return (
            *super().objections(facts, context),
            *(classes if self.positive is not None else ()),
        )

    def passes(self, *, n: int, classes: int) -> Cost:
        """One prediction per sample."""
        del classes
        return Cost(forward=n, backward=0)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Measure every group of every attribute and intersection asked for."""
        from dlaudit.fairness import tally

        answers, truth, predicted = _asked(bench, self.split)
        tally.known_attributes(self.reference or {}, answers.groups)
        for counted in self.counted(bench, answers):
            if isinstance(counted, Crowd):
                for name in self.measures:
                    yield counted.undefined(name)
            else:
                yield from self._partition(counted, predicted - truth)
        columns = {f"group_{name}": column for name, column in answers.groups.items()}
        yield bench.keep_table(
            f"{bench.run}.samples",
            {"id": answers.id, "truth": truth, "value": predicted, **columns},
            caption=f"Truth, prediction and groups of each sample of the {self.split} split.",
        )

    def _partition(self, counted: Counted, errors: np.ndarray) -> Iterator[Yielded]:
        """The groups of one attribute or intersection."""
        import numpy as np

        from dlaudit.fairness import errors_by_group as of
        from dlaudit.fairness import tally

        part, sizes = counted.partition, [one.n for one in counted.tallies]
        reference = tally.reference(part, sizes, self.reference or {})
        searched = [g for g, n in enumerate(sizes) if g != reference and n >= self.minimum]
        level = 1 - (1 - LEVEL) / max(1, len(searched)) if part.is_intersection else LEVEL
        base: dict[str, Scalar] = {
            "minimum": self.minimum, "split": self.split, "attribute": part.attribute,
        }  # fmt: skip
        against = {**base, "reference": part.named(reference)}
        here = [errors[part.codes == group] for group in range(len(sizes))]
        single: dict[str, Callable[[np.ndarray], Estimate | str]] = {
            "mean_error": of.mean, "mean_absolute_error": lambda x: of.mean(np.abs(x)),
            "error_spread": of.spread,
        }  # fmt: skip
        paired: dict[str, Callable[[np.ndarray, np.ndarray], Estimate | str]] = {
            "mean_error_difference": lambda x, y: of.mean_difference(x, y, level),
            "mean_absolute_error_difference": (
                lambda x, y: of.mean_difference(np.abs(x), np.abs(y), level)
            ),
            "error_spread_ratio": lambda x, y: of.spread_ratio(x, y, level),
        }
        for group, where in enumerate(part.slices):
            small = self._small(sizes[group])
            for name, estimate in single.items():
                yield _told(name, small or estimate(here[group]), where, base)
            if group == reference:
                continue
            if small is None and (why := self._small(sizes[reference])):
                small = f"the reference {part.named(reference)} is not estimable: {why}"
            for name, compare in paired.items():
                found = small or compare(here[group], here[reference])
                yield _told(name, found, where, against)

    def _small(self, n: int) -> str | None:
        """Why a group is too small, None where it is not."""
        return (
            None if n >= self.minimum else f"{n} samples, fewer than the minimum of {self.minimum}"
        )


def _asked(bench: Bench, split: str) -> tuple[Answers, np.ndarray, np.ndarray]:
    """The samples with their groups, what is true of them, and what is predicted.

    Raises NonFinite for a truth that is missing.
    """
    import numpy as np

    from dlaudit.audit.bench import Answers
    from dlaudit.errors import NonFinite

    batches = list(bench.data.batches(split))
    quantity = bench.data.card.facts["quantity"]
    truth = np.concatenate([np.asarray(one.columns[quantity], dtype=np.float64) for one in batches])
    if not np.isfinite(truth).all():
        message = f"{bench.data.card.name}: {quantity}: expected a number in every row of {split}"
        raise NonFinite(message)
    predicted = np.concatenate([bench.model.values(one) for one in batches])
    nothing = np.zeros(len(truth), dtype=np.int64)
    groups = {
        name: np.concatenate([np.asarray(one.groups[name], dtype=str) for one in batches])
        for name in batches[0].groups
    }
    ids = np.concatenate([np.asarray(one.id, dtype=str) for one in batches])
    return Answers(ids, nothing, nothing, None, None, groups), truth, predicted


def _told(
    name: str, found: Estimate | str, where: dict[str, str], conditions: dict[str, Scalar]
) -> Measurement | Undefined:
    """An estimate as a measurement, a reason as an undefined one."""
    if isinstance(found, str):
        return Undefined(name=name, reason=found, slice=where, conditions=conditions)
    return Measurement(
        name=name, value=found.value, interval=found.interval, n=found.n, slice=where,
        conditions=conditions, direction=BETTER.get(name),
    )  # fmt: skip
