"""The doctor: an attack is run and examined by the published criteria for broken attacks.

Knows which attack to examine, how thoroughly, and how to tell of it; the criteria stand elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from dlaudit.attacks.base import EXAMINATION, Attack
from dlaudit.audit.parts import Check, Needs, Yielded, decode_parameter
from dlaudit.audit.record import Cost, Scalar
from dlaudit.errors import UnknownName

if TYPE_CHECKING:
    from dlaudit.audit.bench import Bench

PATIENTS = 64
"""Samples that probes look at, whatever the size of the data."""
PROBES = Cost(forward=16 * 5 + 1 + PATIENTS * (15 + 2) + 8 * 100, backward=PATIENTS * 15)
"""Of the quick examination where nothing limits it."""


class Doctor(Check, frozen=True, kw_only=True):
    """Examines an attack by 25 published criteria and four of dlaudit's own.

    attack: its id; parameters: its parameters, as in a plan; samples: as for the attack. level:
    ``quick`` adds at most 15 % to the attack's passes, ``full`` runs every criterion. surrogate: a
    further model of the plan for the transfer of examples, else one is trained on this one's
    decisions. draws: of noise; queries: of Square; a fifth of them for the search by decisions.
    """

    needs: ClassVar[Needs] = Needs(model=("logits",), data=("labels",))
    measures: ClassVar[tuple[str, ...]] = (
        "diagnostics_failed", "diagnostics_voiding", "diagnostic",
    )  # fmt: skip

    attack: str = "attacks.pgd"
    parameters: dict[str, Any] = {}
    level: Literal["quick", "full"] = "quick"
    samples: int | None = None
    surrogate: str | None = None
    draws: int = 10_000
    queries: int = 5000

    def __post_init__(self) -> None:
        """Refuse an attack that is not there, parameters that it does not take, and empty searches."""
        for name in ("draws", "queries"):
            if getattr(self, name) < 1:
                message = f"{name}: expected a number >= 1, got {getattr(self, name)}"
                raise ValueError(message)
        try:
            attack = self.examined()
        except (UnknownName, msgspec.ValidationError) as error:
            message = f"attack: {error}"
            raise ValueError(message) from error
        if not any(epsilon > 0 for epsilon in attack.epsilon):
            message = f"parameters.epsilon: expected a budget above 0, got {attack.epsilon.plain}"
            raise ValueError(message)

    def examined(self) -> Attack:
        """The attack with its parameters. Raises UnknownName, ValidationError."""
        given = {**self.parameters}
        if self.samples is not None:
            given["samples"] = self.samples
        return msgspec.convert(given, type=named(self.attack), dec_hook=decode_parameter)

    def missing(
        self, *, model: frozenset[str], data: frozenset[str], train_fn: bool
    ) -> tuple[str, ...]:
        """See ``Check.missing``: what the attack needs, and logits."""
        own = self.needs.missing(model=model, data=data, train_fn=train_fn)
        return (*own, *self.examined().missing(model=model, data=data, train_fn=train_fn))

    def passes(self, *, n: int, classes: int) -> Cost | None:
        """See ``Check.passes``: the attack's, and what the examination adds at most."""
        attack = self.examined()
        own = attack.passes(n=n, classes=classes)
        if own is None:
            return None
        if self.level == "quick":
            return Cost(
                forward=own.forward + int(EXAMINATION * own.forward),
                backward=own.backward + int(EXAMINATION * own.backward),
            )
        again, most = self._again(attack, classes), 2 * PATIENTS
        asked = max(self.queries // 5, 100)
        other = PATIENTS * (self.draws + self.queries + 2) + most * (asked + 4)
        return Cost(
            forward=own.forward + PROBES.forward + again.forward + other + 8 * 17,
            backward=own.backward + PROBES.backward + again.backward + 8 * 14,
        )

    def _again(self, attack: Attack, classes: int) -> Cost:
        """The attack on the survivors: twice its steps, ten restarts, half its budget."""
        fields, forward, backward = attack.__struct_fields__, 0, 0
        runs: list[Attack] = [attack]
        if "steps" in fields and isinstance(attack.steps, int):  # type: ignore[attr-defined]
            runs.append(msgspec.structs.replace(attack, steps=2 * attack.steps))  # type: ignore[attr-defined]
        if "restarts" in fields:
            runs.append(msgspec.structs.replace(attack, restarts=10))
        for run in runs:
            cost = run.passes(n=PATIENTS, classes=classes)
            if cost is not None:
                forward, backward = forward + cost.forward + PATIENTS, backward + cost.backward
        return Cost(forward=forward, backward=backward)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Attack, examine, tell."""
        from dlaudit.attacks.criteria import yielded
        from dlaudit.attacks.examination import Examination, table
        from dlaudit.attacks.harness import Outcomes, attack_block, columns

        attack = self.examined()
        answers, terms = bench.answers(samples=attack.samples), attack.terms(bench)
        outcomes = Outcomes(answers, len(attack.epsilon.values))
        examination = Examination(attack, bench)
        for block in bench.blocks(samples=attack.samples):
            attack_block(
                attack, bench, block, terms=terms, answers=answers, outcomes=outcomes,
                examination=examination,
            )  # fmt: skip
        if self.level == "quick":
            found = examination.diagnoses(answers, outcomes)
        else:
            from dlaudit.attacks.full_examination import full_examination

            found = full_examination(
                examination, answers, outcomes, surrogate=self.surrogate, draws=self.draws,
                queries=self.queries,
            )  # fmt: skip
        yield from yielded(found, run=bench.run, level=self.level, protocol=self.protocol(attack))
        yield bench.keep_table(
            f"{bench.run}.diagnostics", table(found),
            caption=f"{bench.run}: the verdict on {self.attack} of each diagnostic, one row each.",
        )  # fmt: skip
        yield bench.keep_table(
            f"{bench.run}.samples", columns(answers, outcomes),
            caption=f"{bench.run}: what {self.attack} did to each of {len(answers.y)} samples.",
        )  # fmt: skip

    def protocol(self, attack: Attack) -> dict[str, Scalar]:
        """The attack under examination, as it stands beside every diagnosis."""
        stated = attack.conditions(attack.epsilon.values[-1])
        return {"attack": self.attack, **{f"attack_{key}": value for key, value in stated.items()}}


@cache
def installed(path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """The attacks of every package on the path, by id; their metadata are read once.

    The registry keeps the same list, and a suite does not know it.
    """
    del path
    return {point.name: point for point in entry_points(group="dlaudit.attacks")}


def named(name: str) -> type[Attack]:
    """An installed attack by its id, ``family:member`` too. Raises UnknownName."""
    points = installed(tuple(sys.path))
    family, _, member = name.partition(":")
    kinds = [points[one].load() for one in (family if member else name,) if one in points]
    for kind in kinds:
        found: type[Attack] = kind.member(member) if member else kind
        return found
    raise UnknownName(name, "attack", sorted(points))
