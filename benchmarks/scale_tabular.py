"""Seconds and memory of the checks of data on tables of 10,000 to a million rows.

    python benchmarks/scale_tabular.py            # 10,000, 100,000 and 1,000,000 rows
    python benchmarks/scale_tabular.py --sample   # 4,000 and 16,000 rows, for CI
    python benchmarks/scale_tabular.py --record   # also writes benchmarks/RESULTS.md

Half of the rows is the training split, half the test split; 20 columns, of which 2 are categories, and in
the test split 1 % exact and 1 % near copies. Each point is a process of its own, so that its peak of memory
is its own; one thread. CPU seconds, because other work may share the machine. Fails where memory passes 4 GB
or where ten times the rows take more than 15 times as long.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ledger
import numpy as np

SIZES, SAMPLE = (10_000, 100_000, 1_000_000), (4_000, 16_000)
CHECKS = ("duplicates", "leakage", "label_errors", "columns", "drift")
MOST_MEMORY, MOST_GROWTH = 4.0, 15.0
TITLE = "Data quality at a million rows"
COLUMNS = 20


def table(n: int, seed: int) -> tuple[Any, Any]:
    """A subject: a linear rule as the model, and data with planted copies."""
    from dlaudit.audit.bench import Subject
    from dlaudit.audit.parts import Model
    from dlaudit.audit.record import Card
    from dlaudit.datasets.arrays import ArrayDataset, Splits

    rng = np.random.default_rng(seed)
    half = n // 2
    x = rng.normal(size=(n, COLUMNS)).astype(np.float32)
    x[:, -2], x[:, -1] = rng.integers(0, 4, n), rng.integers(0, 30, n)
    few = half // 100
    x[half : half + few] = x[:few]
    x[half + few : half + 2 * few] = x[few : 2 * few]
    x[half + few : half + 2 * few, :-2] += 0.01 * rng.normal(size=(few, COLUMNS - 2))
    y = (x[:, 0] + 0.3 * rng.normal(size=n) > 0).astype(np.int64)
    facts = {
        "features": [f"x{k}" for k in range(COLUMNS)],
        "codes": {"x18": list("abcd"), "x19": [f"c{k}" for k in range(30)]},
    }

    class Rule(Model):
        offers = frozenset({"decisions", "logits"})
        card = Card(name="rule", fingerprint="0" * 64)
        classes = ("no", "yes")

        def logits(self, inputs: Any) -> Any:
            import torch

            first = torch.as_tensor(np.asarray(inputs)[:, 0])
            return torch.stack([-4 * first, 4 * first], dim=1)

    def split(part: slice, name: str) -> ArrayDataset:
        ids = np.array([f"{name}{k}" for k in range(half)])
        return ArrayDataset(
            x[part], y[part], name=name, kind="tabular", id=ids, facts=facts, fingerprint="1" * 64,
            columns={"day": np.arange(half, dtype=np.float64)}, classes=("no", "yes"),
        )  # fmt: skip

    data = Splits({"test": split(slice(half, n), "b"), "train": split(slice(half), "a")})
    return Subject(Rule(), data), few


def point(n: int) -> dict[str, Any]:
    """Seconds by check, what was found, and the peak of memory, in this process."""
    from dlaudit.audit.bench import Bench
    from dlaudit.audit.evidence import EvidenceStore
    from dlaudit.audit.record import Measurement
    from dlaudit.audit.registry import Registry

    subject, few = table(n, 0)
    registry, found = Registry(), {"n": n, "planted": few}
    with tempfile.TemporaryDirectory() as folder:
        for name in CHECKS:
            run = f"data_quality.{name}"
            bench = Bench(
                subject, run=run, plan_seed=0, store=EvidenceStore(Path(folder)),
                cache=Path(folder) / "cache",
            )  # fmt: skip
            check = registry.check(run).get()(**({"date": "day"} if name == "drift" else {}))
            before = time.process_time()
            told = [one for one in check.measure(bench) if isinstance(one, Measurement)]
            found[name] = time.process_time() - before
            for one in told:
                if one.name in {"test_duplicates", "test_near_duplicates", "near_duplicate_recall"}:
                    found[one.name] = one.value
    found["gigabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return found


def main() -> int:
    """Measure each size in a process of its own, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="4,000 and 16,000 rows")
    parser.add_argument("--record", action="store_true", help="write a section of RESULTS.md")
    parser.add_argument("--point", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        print(json.dumps(point(options.point)))
        return 0
    sizes = SAMPLE if options.sample else SIZES
    name = "sample" if options.sample else "whole"
    path = ledger.WORK / f"scale_tabular_{name}.jsonl"
    if options.sample:
        path.unlink(missing_ok=True)
    state = ledger.State(path, {"version": 1})
    lines = [
        "CPU seconds by check; half of the rows train, half test",
        "",
        f"| rows | {' | '.join(CHECKS)} | all | GB | exact found | near found | recall of planted twins |",
        "|---|" + "---|" * (len(CHECKS) + 5),
    ]
    kept, before = True, 0.0
    for n in sizes:
        if str(n) not in state:
            ended = subprocess.run(
                [sys.executable, __file__, "--point", str(n)], capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            if ended.returncode:
                print(ended.stderr, file=sys.stderr)
                return 1
            state.keep(str(n), json.loads(ended.stdout.splitlines()[-1]))
        one = state[str(n)]
        total = sum(one[check] for check in CHECKS)
        half, planted = n // 2, one["planted"]
        shown = [
            f"{n:,}", *(f"{one[check]:.1f}" for check in CHECKS), f"{total:.1f}",
            f"{one['gigabytes']:.2f}", f"{one['test_duplicates'] * half:.0f} of {planted}",
            f"{one['test_near_duplicates'] * half:.0f} of {planted}",
            f"{one['near_duplicate_recall']:.3f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(shown)} |")
        kept &= one["gigabytes"] < MOST_MEMORY
        if before and not options.sample:
            kept &= total / before <= MOST_GROWTH
        before = total
    print("\n".join(lines))
    if options.record:
        ledger.record(TITLE, lines, ledger.stamp("scale_tabular.py"))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
