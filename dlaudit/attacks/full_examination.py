"""The full examination of an attack's run: every criterion, at whatever it takes.

Knows the order of the probes and what they need to know of the data; never a criterion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dlaudit.attacks.criteria import Diagnosis
from dlaudit.attacks.examination import Examination, complete
from dlaudit.attacks.long_probes import Known, Spending, long_probes
from dlaudit.attacks.probes import probes
from dlaudit.attacks.readings import readings
from dlaudit.audit.bench import Answers
from dlaudit.errors import NotOffered

if TYPE_CHECKING:
    from dlaudit.attacks.harness import Outcomes


def full_examination(
    examination: Examination, answers: Answers, outcomes: Outcomes, *, surrogate: str | None,
    draws: int, queries: int,
) -> tuple[Diagnosis, ...]:  # fmt: skip
    """Every criterion, at whatever it takes.

    surrogate: a further model of the plan; draws, queries: of the long probes. Raises NotOffered if
    the plan names no model of that name.
    """
    bench = examination.bench
    if surrogate is not None and surrogate not in bench.models:
        message = (
            f"{bench.run}: surrogate {surrogate!r} is no model of the plan: expected one of "
            f"{', '.join(sorted(bench.models)) or 'none is named'}"
        )
        raise NotOffered(message)
    case = examination.case(answers, outcomes)
    at = examination.probing(case, None)
    batches = bench.blocks(samples=examination.attack.samples)
    known = Known(
        x=np.concatenate([np.asarray(block.batch.x) for block in batches]),
        decisions=answers.predicted, classes=len(bench.classes), surrogate=bench.models.get(surrogate or ""),
    )  # fmt: skip
    cheap = [one for one in probes(at) if one.name != "random_noise"]
    found = (*readings(case), *cheap, *long_probes(at, known, Spending(draws, queries)))
    return complete(found, "full")
