"""In which order one run takes its samples, and when it has seen enough of them.

Knows positions, blocks and the run's own rules; never what is measured. Usually every sample is
taken, in stored order. A plan that says ``until_decided`` has samples taken at random, in blocks that
grow, until each rule of the run passes or fails by intervals that hold at every size at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from dlaudit.audit.judge import judge
from dlaudit.audit.record import Caveat, CheckRun, Interval, Measured, Measurement, Rule, Undefined
from dlaudit.audit.statistics import LEVEL, confidence_sequence, wilson

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench, Block

FIRST = 32
"""Samples of the first block: fewer decide only rules that a glance decides."""
READ = 4096
"""Samples gathered by one passage through a split, which may lie on a disk: memory against time."""


class Sampling:
    """The samples of one run, in the order in which they are taken.

    answers: their clean answers, in that order.
    """

    def __init__(
        self, bench: Bench, split: str, chosen: np.ndarray | None, rules: Sequence[Rule]
    ) -> None:
        """chosen: sorted positions in the split, None for all; rules: those that may end the run."""
        import numpy as np

        self._bench, self._split, self._rules = bench, split, tuple(rules)
        self._level = max([LEVEL, *(rule.level for rule in rules)])
        self._undecided = [rule.id for rule in rules]
        self._ended_by: tuple[str, ...] = ()
        whole = bench.answers(split)
        self._chosen, self.answers = chosen, whole if chosen is None else whole.at(chosen)
        self._pieces: list[np.ndarray] = []
        if self._rules:
            positions = np.arange(len(whole.y)) if chosen is None else chosen
            order = bench.order(split, len(positions))
            # Stored order inside a block: which samples it holds is random, and that is enough.
            self._pieces = [
                np.sort(positions[order[a:b]]) for a, b in growing(len(order), bench.block)
            ]
            if self._pieces:
                self.answers = whole.at(np.concatenate(self._pieces))

    def blocks(self) -> Iterator[Block]:
        """The samples block by block; ``start`` is the position in ``answers``."""
        if not self._rules:
            yield from self._bench.blocks_at(self._split, self._chosen)
            return
        start = 0
        for number, batch in enumerate(self._bench.gathered(self._split, self._pieces, READ)):
            yield self._bench.block_of(number, start, batch)
            start += len(batch.y)

    def proportion(self, successes: int, n: int) -> Interval:
        """The interval of a proportion of the samples taken so far.

        Wilson's where n was fixed beforehand, else the confidence sequence, which holds its level
        wherever the run stops.
        """
        if self._rules:
            return confidence_sequence(successes, n, self._level)
        return wilson(successes, n)

    def decided(self, so_far: Iterable[Measurement | Undefined]) -> bool:
        """Whether every rule of the run passes or fails on what is measured so far.

        The judge itself is asked, so a run ends exactly when its verdicts would stand. False where
        nothing may end the run early; ``so_far`` is then not looked at.
        """
        if not self._rules:
            return False
        found = list(so_far)
        outcome = Measured(
            measurements=tuple(one for one in found if isinstance(one, Measurement)),
            undefined=tuple(one for one in found if isinstance(one, Undefined)),
        )
        name = self._bench.run
        run = CheckRun(
            id=name,
            check=name,
            params={},
            seed=0,
            seconds=0.0,
            device="",
            cost=None,
            outcome=outcome,
        )
        before = self._undecided
        self._undecided = [
            rule.id
            for rule in self._rules
            if judge(rule, {name: run}).status not in {"pass", "fail"}
        ]
        self._ended_by = tuple(rule for rule in before if rule not in self._undecided)
        return not self._undecided

    def told(
        self, measured: Iterable[Measurement | Undefined], *, seen: int
    ) -> Iterator[Measurement | Undefined]:
        """The same numbers, each with a caveat that says where the run stopped, if it did early."""
        total = len(self.answers.y)
        if not self._rules or self._undecided or seen == total:
            yield from measured
            return
        last = ", ".join(self._ended_by) or "all at once"
        message = (
            f"Stopped after {seen} of {total} samples in random order, when every rule of the run was "
            f"decided (last: {last}). The interval holds at every stopping place; the value itself "
            f"leans towards the decision."
        )
        caveat = Caveat(source=self._bench.run, name="stopped_early", message=message)
        for one in measured:
            if isinstance(one, Measurement):
                yield msgspec.structs.replace(one, caveats=(*one.caveats, caveat))
            else:
                yield one


def growing(n: int, block: int) -> Iterator[tuple[int, int]]:
    """Ends of blocks that double what was taken so far, up to ``block`` samples each."""
    start = 0
    while start < n:
        stop = min(n, start + min(block, max(start, FIRST)))
        yield start, stop
        start = stop
