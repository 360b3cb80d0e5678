"""Attacks on eight samples with the tables that they leave, small enough to count by hand."""

import numpy as np
from record_corpus import LINF, rate, run_of

from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.record import Cost, Measured


def table(n=8, **columns_):
    """Eight samples, six of them attacked; nobody is fooled unless said."""
    made = {
        "id": np.array([str(k) for k in range(n)]), "label": np.arange(n) % 3,
        "attacked": np.arange(n) < 6, "fooled": np.zeros(n, dtype=bool),
        "adversarial": np.arange(n) % 3, "epsilon_fooled": np.full(n, -1.0),
        "distance": np.full(n, -1.0), "forward": np.full(n, 10.0), "backward": np.full(n, 4.0),
    }  # fmt: skip
    return {**made, **columns_}


def fell(n=8, **at):
    """Columns for samples that fell: ``s3=(budget, distance, called)``."""
    made = table(n)
    for name, (budget, distance, called) in at.items():
        k = int(name[1:])
        made["fooled"][k], made["epsilon_fooled"][k] = True, budget
        made["distance"][k], made["adversarial"][k] = distance, called
    return made


def attack(folder, id_, made, *, budgets=(0.1, 0.2), caveats=(), artifacts=(), **conditions):
    """A run that measured what its table says."""
    n, tried = len(made["id"]), made["attacked"]
    eps = made["epsilon_fooled"]
    bounds = tuple(
        rate("robust_accuracy", int((tried & ~((eps >= 0) & (eps <= e))).sum()), n, caveats=caveats,
             conditions={**LINF, "epsilon": e, **conditions})
        for e in budgets
    )  # fmt: skip
    kept = EvidenceStore(folder).keep_table(f"{id_}.samples", made)
    clean = rate("clean_accuracy", int(tried.sum()), n)
    outcome = Measured(measurements=(clean, *bounds), artifacts=(kept, *artifacts))
    return run_of(id_, outcome, cost=Cost(forward=80, backward=32))
