"""How long a stored record takes to become each report, and how the time grows with the record.

    python benchmarks/rendering.py                 1,000 rules, 10,000 measurements, 5 repeats
    python benchmarks/rendering.py --run RUN       and the report of a run of your own, as a command
    python benchmarks/rendering.py --sample        a tenth of it, once: seconds, for CI
    python benchmarks/rendering.py --record        also writes to benchmarks/RESULTS.md

Goals: ``dlaudit report`` takes under a second for the demo's record, and no renderer more than five
seconds for 1,000 rules and 10,000 measurements. Times are medians on the clock and in CPU seconds;
that no renderer grows faster than its record is counted in calls, which no busy machine disturbs
(tests/reports/test_scale.py).
"""

from __future__ import annotations

import argparse
import cProfile
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

from dlaudit.audit.catalogues import opened
from dlaudit.audit.engine import judged
from dlaudit.audit.record import (
    AuditRecord,
    Card,
    CheckRun,
    Cost,
    Interval,
    Measured,
    Measurement,
    Rule,
    Undefined,
    canonical,
    read_record,
)
from dlaudit.audit.registry import Registry
from dlaudit.audit.render import rendered

GOAL, COMMAND_GOAL = 5.0, 1.0
SHA = "0" * 64
FORMATS = (
    "html", "md", "junit", "sarif", "csv", "cyclonedx", "intoto", "model-index", "annex-iv", "json",
)  # fmt: skip


def large(rules: int, per_rule: int) -> AuditRecord:
    """A record with so many rules, a run each ten of them, judged, with the AI Act's findings."""
    book = opened("eu_ai_act", Registry())
    testable = [item.id for item in book if "T" in item.kind]
    runs, asked = [], []
    for k in range(0, rules, 10):
        numbers = [_number(k + i, j) for i in range(10) for j in range(per_rule)]
        missing = (Undefined(name="gap", reason="too few", slice={"site": f"s{k}"}),)
        outcome = Measured(measurements=tuple(numbers), undefined=missing)
        check = ("attacks.pgd", "fairness.groups", "overfitting.gap")[k // 10 % 3]
        runs.append(CheckRun(
            id=f"{check}.{k}", check=check, params={}, seed=k, seconds=1.0, device="cpu",
            cost=Cost(forward=1, backward=0), outcome=outcome,
        ))  # fmt: skip
        asked += [
            Rule(id=f"rule {k + i}", run=runs[-1].id, measurement=f"rate{k + i}", at_least=0.2,
                 rationale="a default", requirements=(testable[(k + i) % len(testable)],))
            for i in range(10)
        ]  # fmt: skip
    record = AuditRecord(
        tool={"name": "dlaudit", "version": "0"}, started="2026-01-01T00:00:00Z",
        finished="2026-01-01T00:00:01Z", plan={"name": "large"}, plan_sha256=SHA, environment={},
        model=Card(name="net", fingerprint=SHA), data=Card(name="rows", fingerprint=SHA),
        runs=tuple(runs), rules=tuple(asked), requirements=book.items,
        catalogues=(book.card("eu_ai_act"),),
    )  # fmt: skip
    return read_record(canonical(judged(record, today=date(2026, 11, 28))))


def _number(rule: int, j: int) -> Measurement:
    value = (rule * 7 + j * 13) % 97 / 97
    low, high = max(0.0, value - 0.1), min(1.0, value + 0.1)
    return Measurement(
        name=f"rate{rule}", value=value, n=100 + j, slice={"group": f"g{j}"},
        conditions={"norm": "linf", "epsilon": j / 255},
        interval=Interval(low=low, high=high, method="wilson"),
    )  # fmt: skip


def calls(record: AuditRecord, name: str, registry: Registry) -> int:
    """Python and C calls that a rendering makes: alike on every machine."""
    profile = cProfile.Profile()
    profile.runcall(rendered, record, name, None, registry)
    return sum(entry.callcount for entry in profile.getstats())


def timed(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median seconds on the clock and of CPU; the first round fills caches and is not counted."""
    clock, cpu = [], []
    for round_ in range(repeats + 1):
        started, spent = time.perf_counter(), time.process_time()
        work()
        if round_ or repeats == 0:
            clock.append(time.perf_counter() - started)
            cpu.append(time.process_time() - spent)
    return statistics.median(clock), statistics.median(cpu)


def main() -> None:
    """Measure, print, and write to the results if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, help="a stored run: its report is timed as a command")
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--record", action="store_true")
    asked = parser.parse_args()
    rules, per_rule, repeats = (100, 10, 1) if asked.sample else (1000, 10, 5)
    registry = Registry()
    record = large(rules, per_rule)
    lines = [
        f"{rules:,} rules, {rules * per_rule:,} measurements, {len(record.findings)} findings:", "",
        "| format | s on the clock | CPU s | size |", "|---|---|---|---|",
    ]  # fmt: skip
    slow = []
    for name in FORMATS:
        clock, cpu = timed(lambda name=name: rendered(record, name, None, registry), repeats)  # type: ignore[misc]
        size = len(rendered(record, name, None, registry).encode())
        lines.append(f"| {name} | {clock:.2f} | {cpu:.2f} | {size / 1e6:.2f} MB |")
        if cpu > GOAL:
            slow.append(name)
    judge, _ = timed(lambda: judged(record), repeats)
    lines += ["", f"judging and finding again: {judge:.2f} s."]
    if asked.run:
        command = [sys.executable, "-m", "dlaudit", "report", str(asked.run), "-o", os.devnull]
        clock, _ = timed(lambda: subprocess.run(command, check=True, capture_output=True), repeats)
        lines.append(
            f"`dlaudit report` of {asked.run.name}: {clock:.2f} s, goal under {COMMAND_GOAL:g}."
        )
    lines.append(f"slower than {GOAL:g} CPU seconds: {', '.join(slow) or 'none'}.")
    print("\n".join(lines))
    if asked.record:
        import ledger

        ledger.record("Reports of large records", lines, ledger.stamp("rendering.py", torch=False))


if __name__ == "__main__":
    main()
