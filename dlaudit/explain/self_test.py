"""Do the tests of maps refuse what never looks at the model? Asked on this model and these inputs.

Knows the controls; a test that lets an edge detector pass says nothing about maps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Cost, Measurement, Undefined
from dlaudit.errors import NotExplained
from dlaudit.explain.methods import SHIPPED

if TYPE_CHECKING:
    from dlaudit.audit.bench import Bench
    from dlaudit.explain.rows import Table

REFUSED, COUNT = "control_refused", "controls_refused"
OF_PICTURES = ("edges", "distance", "centre", "noise")
OF_OTHERS = ("distance", "noise")
"""Rows of a table and sounds have neither edges nor a centre."""


class Controls(Check, frozen=True, kw_only=True):
    """Controls that know the input only, put through the sanity test, which must refuse them all.

    ``control_refused``: 1 if the test fails a control or finds it inconclusive, 0 if it passes it;
    ``controls_refused``: how many of them. samples, randomised: as of ``explain.attribution``.
    """

    needs: ClassVar[Needs] = Needs(model=("logits", "gradients", "module"))
    measures: ClassVar[tuple[str, ...]] = (REFUSED, COUNT)

    samples: Annotated[int, Meta(ge=1)] = 64
    randomised: Annotated[int, Meta(ge=2)] = 5

    def passes(self, *, n: int, classes: int) -> Cost:
        """The randomised models answer once each, for every control."""
        del classes
        asked = min(n, self.samples) * (1 + self.randomised * len(OF_PICTURES))
        return Cost(forward=asked, backward=0)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Put each control through the criterion."""
        from dlaudit.explain.rows import Effort, Table
        from dlaudit.explain.subject import subject_of

        try:
            subject = subject_of(bench, self.samples)
        except NotExplained as error:
            for name in self.measures:
                yield Undefined(name=name, reason=str(error))
            return
        table = Table(bench, subject, Effort(1, 1, self.randomised, 0, road=False))
        told = [
            self._one(table, control) for control in (OF_PICTURES if subject.pixels else OF_OTHERS)
        ]
        yield from told
        refused = [one.value for one in told if isinstance(one, Measurement)]
        if len(refused) < len(told):
            reason = f"{len(told) - len(refused)} of {len(told)} controls could not be tested"
            yield Undefined(name=COUNT, reason=reason)
            return
        yield Measurement(
            name=COUNT, value=sum(refused), n=len(refused), unit="controls", direction="higher",
            exact=f"counted among {len(told)} controls",
        )  # fmt: skip

    def _one(self, table: Table, control: str) -> Measurement | Undefined:
        """What the criterion says of one control."""
        from dlaudit.explain.telling import CRITERION, criterion, numbers

        found, untested = table.verdict(control, SHIPPED[control](), "zero")
        where, stated = {"method": control}, criterion(self.randomised)
        if found is None:
            return Undefined(name=REFUSED, reason=untested, slice=where, conditions=stated)
        return Measurement(
            name=REFUSED, value=float(found.status != "pass"), n=len(table.subject.x),
            exact=f"{CRITERION}; {found.status}, {found.reason}: {numbers(found)}",
            direction="higher", slice=where, conditions=stated,
        )  # fmt: skip
