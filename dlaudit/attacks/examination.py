"""The examination of an attack's run: what is set aside while it runs, and what is asked afterwards.

Knows the order of an examination and what it may cost; never a criterion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dlaudit.attacks.base import EXAMINATION, Attack, Terms, Threat
from dlaudit.attacks.criteria import LIST, Diagnosis, Level, not_run
from dlaudit.attacks.probes import NOTHING_LEFT, Probing, Purse, probes
from dlaudit.attacks.readings import Case, readings
from dlaudit.attacks.ward import Patients, Ward, Watch
from dlaudit.audit.bench import Answers, Bench, Block, rows
from dlaudit.audit.parts import Batch
from dlaudit.audit.record import Cost

if TYPE_CHECKING:
    from dlaudit.attacks.harness import Outcomes

LONG = {
    "black_box_succeeds": "a search without gradients",
    "converged": "twice the steps and ten restarts",
    "surrogate_transfer": "another model",
    "hard_label_attack": "an attack on decisions alone",
    "fixed_randomness": "a search with the randomness frozen",
    "positive_control": "a twin whose answer is known",
    "monotone_in_epsilon": "a search at half the budget, where there is no curve",
}
"""What the full examination alone does, and takes."""


class Examination:
    """One attack under examination, from its first block to the verdicts."""

    def __init__(self, attack: Attack, bench: Bench) -> None:
        """Nothing is asked of the model before ``diagnoses``."""
        self.attack, self.bench, self.ward = attack, bench, Ward()
        self.watch: Watch | None = None

    @contextmanager
    def watching(self, batch: Batch, threat: Threat) -> Iterator[None]:
        """Look on while a search runs on a batch at the largest budget."""
        self.watch = None
        if self.attack.minimal or threat.epsilon != self.attack.epsilon.values[-1]:
            yield
            return
        with self.ward.watching(self.bench.model, batch, threat) as self.watch:
            yield

    def compare(
        self, batch: Batch, returned: Tensor, examples: Tensor, fooled: np.ndarray, threat: Threat
    ) -> None:
        """Set a search beside its judgement. returned, examples: like batch.x, before and after."""
        self.ward.compare(self.watch, returned, fooled)
        self.watch = None
        hit = torch.from_numpy(np.flatnonzero(fooled)).to(batch.x.device)
        whole = Patients(batch.x, batch.y, np.zeros(len(batch.y)), threat).rows(hit)
        self.ward.keep_example(whole.x, examples[hit], whole.threat)

    def leave(self, batch: Batch, left: np.ndarray, block: Block, terms: Terms) -> None:
        """A block is done. left: positions of the samples that survived its largest budget."""
        outside = self.ward.look(batch, self.bench.model.bounds)
        self.ward.outside_surviving += int(outside[left].sum())
        part = rows(batch, left)
        self.ward.admit(part, terms.threat(part, self.attack.epsilon.values[-1]), block)

    def diagnoses(self, answers: Answers, outcomes: Outcomes) -> tuple[Diagnosis, ...]:
        """The quick examination: every criterion, in the order of the list."""
        case = self.case(answers, outcomes)
        spent = Cost(forward=int(outcomes.forward.sum()), backward=int(outcomes.backward.sum()))
        allowed = Cost(
            forward=int(EXAMINATION * spent.forward), backward=int(EXAMINATION * spent.backward)
        )
        return complete((*readings(case), *probes(self.probing(case, allowed))))

    def case(self, answers: Answers, outcomes: Outcomes) -> Case:
        """What there is to look at."""
        epsilons = [one for one in self.attack.epsilon if one > 0]
        correct = outcomes.correct & ~outcomes.left_out
        robust = correct & ~outcomes.fooled_at(epsilons[-1])
        return Case(
            attack=self.attack, model=self.bench.model, ward=self.ward, correct=correct,
            robust=robust, logits=answers.logits, trace=outcomes.trace, epsilon=epsilons[-1],
            budgets=len(epsilons), n=max(int((~outcomes.left_out).sum()), 1),
        )  # fmt: skip

    def probing(self, case: Case, allowed: Cost | None) -> Probing:
        """What probes are given; allowed: None for no limit of passes."""
        seed = int(self.bench.rng("doctor").integers(2**62))
        patients = self.ward.patients or nobody(case)
        purse = Purse(self.bench.model.passes, allowed)
        return Probing(case, patients, purse, torch.Generator().manual_seed(seed))


def nobody(case: Case) -> Patients:
    """No survivors."""
    threat = Threat(norm=case.attack.norm, epsilon=case.epsilon)
    return Patients(torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64), np.zeros(0), threat)


def complete(found: tuple[Diagnosis, ...], level: Level = "quick") -> tuple[Diagnosis, ...]:
    """One diagnosis for each criterion, in the order of the list; what is missing was not run."""
    known: Mapping[str, Diagnosis] = {one.name: one for one in found}
    return tuple(
        known.get(one.name)
        or not_run(
            one.name,
            f"it takes {LONG[one.name]}, which only the full examination does"
            if level == "quick"
            else NOTHING_LEFT,
        )
        for one in LIST
    )


def examined(attack: Attack, bench: Bench) -> Examination | None:
    """The examination that an attack's own run makes, if it makes one."""
    return Examination(attack, bench) if attack.examines_itself else None


def table(found: tuple[Diagnosis, ...]) -> dict[str, np.ndarray]:
    """The diagnoses as columns, one row each; -1 where a diagnostic was not run."""
    run = [one.failed is not None for one in found]
    return {
        "id": np.array([one.name for one in found]),
        "run": np.array(run),
        "failed": np.array([bool(one.failed) for one in found]),
        "voids": np.array([one.voids for one in found]),
        "statistic": np.array([one.value if one.failed is not None else -1.0 for one in found]),
        "n": np.array([one.n for one in found]),
        "doubtful": np.array([one.doubtful for one in found]),
        "threshold": np.array([one.criterion.threshold for one in found]),
        "source": np.array([one.criterion.source for one in found]),
        "measures": np.array([one.criterion.statistic for one in found]),
        "remedy": np.array([one.criterion.remedy for one in found]),
        "told": np.array([one.told for one in found]),
    }
