"""How long groups, gaps and amplification take on a million rows, six attributes and all their pairs.

    python benchmarks/fairness_scale.py            # one million rows, 2,000 resamples
    python benchmarks/fairness_scale.py --sample   # twenty thousand rows, seconds
    python benchmarks/fairness_scale.py --record   # also appends to benchmarks/RESULTS.md

The goal is 20 s on two cores and 4 GiB. Prints seconds (on the clock and of the processor, clean answers
and evidence included) and the largest resident memory. Nothing is resampled row by row: the permutation
test draws group counts from the hypergeometric distribution that shuffled rows follow.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.parts import Decisions, Model
from dlaudit.audit.record import Card
from dlaudit.datasets.arrays import ArrayDataset
from dlaudit.errors import NotOffered
from dlaudit.fairness.amplification import Amplification
from dlaudit.fairness.disparity import Disparity
from dlaudit.fairness.groups import Groups

HERE = Path(__file__).resolve().parent
ATTRIBUTES = {"sex": 3, "race": 6, "age": 5, "region": 8, "education": 4, "status": 3}
CHECKS = {
    "fairness.groups": Groups,
    "fairness.disparity": Disparity,
    "fairness.amplification": Amplification,
}


class Recorded(Model):
    """Decisions that were made elsewhere: the cost of a model is not what is measured here."""

    offers = frozenset({"decisions"})
    classes = ("no", "yes")
    card = Card(name="recorded", fingerprint="0" * 64)

    def logits(self, x: object) -> object:
        """There are none."""
        del x
        raise NotOffered(self.card.name)

    def decide(self, batch: object) -> Decisions:
        """The decision stands in the only column."""
        return Decisions(predicted=batch.x[:, 0])


def population(n: int) -> ArrayDataset:
    """Labels and decisions with a gap between the values of every attribute."""
    rng = np.random.default_rng(0)
    codes = {name: rng.integers(0, count, n) for name, count in ATTRIBUTES.items()}
    chance = 0.35 + 0.02 * sum(code / ATTRIBUTES[name] for name, code in codes.items())
    y = (rng.random(n) < chance).astype(np.int64)
    predicted = np.where(rng.random(n) < 0.2, 1 - y, y)
    groups = {
        name: np.array([f"{name} {i}" for i in range(ATTRIBUTES[name])])[code]
        for name, code in codes.items()
    }
    return ArrayDataset(
        predicted[:, None], y, classes=("no", "yes"), kind="tabular", groups=groups,
        fingerprint="1" * 64,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", action="store_true", help="twenty thousand rows")
    parser.add_argument("--record", action="store_true", help="append to benchmarks/RESULTS.md")
    options = parser.parse_args()
    n = 20_000 if options.sample else 1_000_000
    data = population(n)
    results = {
        "rows": n,
        "attributes": len(ATTRIBUTES),
        "resamples": 2000,
        "seconds": {},
        "CPU seconds": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for run, check in CHECKS.items():
            started = time.perf_counter(), time.process_time()
            bench = Bench(
                Subject(Recorded(), data), run=run, plan_seed=1, store=EvidenceStore(Path(folder)),
                cache=Path(folder) / "cache",
                context={"special_category_basis": "made up for a benchmark"},
            )  # fmt: skip
            told = sum(1 for _ in check(intersections=True, most_groups=50).measure(bench))
            results["seconds"][run] = round(time.perf_counter() - started[0], 2)
            results["CPU seconds"][run] = round(time.process_time() - started[1], 2)
            results[f"told by {run}"] = told
    for clock in ("seconds", "CPU seconds"):
        results[clock]["all"] = round(sum(results[clock].values()), 2)
    results["peak memory, GiB"] = round(
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2
    )
    print(json.dumps(results, indent=2))
    if options.record:
        load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
        seconds, spent = results["seconds"], results["CPU seconds"]
        each = ", ".join(f"{run} {seconds[run]:.1f}" for run in CHECKS)
        with (HERE / "RESULTS.md").open("a", encoding="utf-8") as file:
            file.write(
                "\n## Groups of a million rows\n\n"
                f"- {n:,} rows, {len(ATTRIBUTES)} attributes and all their pairs, 2,000 resamples: "
                f"{seconds['all']:.1f} s on the clock ({each}), {spent['all']:.1f} CPU seconds, on "
                f"{cores} cores at load {load:.1f}; goal at most 20 s.\n"
                f"- largest resident memory: {results['peak memory, GiB']:.2f} GiB; goal at most 4.\n\n"
                f"`python benchmarks/fairness_scale.py --record, {dt.datetime.now(dt.UTC).date()}, "
                f"{platform.machine()}, Python {platform.python_version()}`\n"
            )


if __name__ == "__main__":
    main()
