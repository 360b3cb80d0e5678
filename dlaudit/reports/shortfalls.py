"""What an audit did not show, in lines that every format can hold: nothing is left out by a thin one.

Knows rules that did not pass, runs that did not end and numbers that do not exist; no format.
"""

from __future__ import annotations

from typing import NamedTuple

from dlaudit.reports import wording
from dlaudit.reports.outline import NO_RULE, Judged, Outline


class Shortfall(NamedTuple):
    """One thing that was not shown: what it is called, in which way it fell short, and why."""

    name: str
    kind: str
    reason: str
    waived: bool = False

    @property
    def line(self) -> str:
        """``attacks.pgd: errored: Timeout: 120 s``, on one line."""
        kind = f"{self.kind}, waived" if self.waived else self.kind
        return wording.one_line(f"{self.name}: {kind}: {self.reason}")


def shortfalls(outline: Outline) -> list[Shortfall]:
    """Rules that did not pass, worst first; runs that errored or were skipped; undefined numbers."""
    found = [] if outline.judged else [Shortfall("(no rule)", "not assessed", NO_RULE)]
    found += [_of_rule(one) for one in outline.judged if one.status != "pass"]
    found += [
        Shortfall(one.run.id, one.kind, one.reason, waived=not one.blocking)
        for one in outline.unmeasured
    ]
    return found + undefined(outline)


def undefined(outline: Outline) -> list[Shortfall]:
    """Every number that does not exist, with its reason."""
    return [
        Shortfall(f"{run.id} {_named(one.name, wording.where(one.slice, one.conditions))}",
                  "undefined", one.reason)
        for run, numbers in outline.undefined
        for one in numbers
    ]  # fmt: skip


def _named(name: str, where: str) -> str:
    return f"{name} ({where})" if where else name


def _of_rule(one: Judged) -> Shortfall:
    asked = f" ({wording.criterion(one.rule)}, {one.rule.run})" if one.rule else ""
    label = wording.VERDICTS[one.status].label
    reason = one.reason + (f" ({wording.waiver(one.waived)})" if one.waived else "")
    return Shortfall(f"{one.id}{asked}", label, reason, waived=one.waived is not None)
