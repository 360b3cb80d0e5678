"""How long ``dlaudit demo`` takes, from its start to its exit code; the goal is 60 s on two cores.

    python benchmarks/demo.py             three runs
    python benchmarks/demo.py --sample    one run, for CI
    python benchmarks/demo.py --record    also writes to benchmarks/RESULTS.md

Wall-clock seconds beside the CPU seconds of all its processes: on a busy machine only the second
figure says what the demo costs. Fails if the exit code is not 1, that of the planted model.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from ledger import record, stamp

GOAL = 60.0


def once() -> tuple[float, float]:
    """Wall-clock and CPU seconds of one demo in an empty folder."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "dlaudit", "demo", "--quiet", "--out", f"{folder}/demo"]
        code = subprocess.run(command, check=False, capture_output=True).returncode
    wall = time.monotonic() - started
    if code != 1:
        message = f"dlaudit demo ended with {code}, expected 1"
        raise SystemExit(message)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - spent.ru_utime - spent.ru_stime
    return wall, cpu


def main() -> None:
    """Measure, print, and write to RESULTS.md if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="one run")
    parser.add_argument("--record", action="store_true", help="write to benchmarks/RESULTS.md")
    options = parser.parse_args()
    runs = [once() for _ in range(1 if options.sample else 3)]
    wall, cpu = (statistics.median(column) for column in zip(*runs, strict=True))
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    each = ", ".join(f"{one:.1f}" for one, _ in runs)
    lines = [
        f"wall-clock seconds: {each}; median {wall:.1f}, goal at most {GOAL:.0f}.",
        f"CPU seconds of all processes: median {cpu:.1f}, on {cores} cores at load {load:.1f}.",
    ]
    print("\n".join(lines))
    if options.record:
        record("The demo", lines, stamp("demo.py", torch=False))


if __name__ == "__main__":
    main()
