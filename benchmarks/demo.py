"""How long ``dlaudit demo`` takes, from its start to its exit code; the goal is 60 s on two cores.

    python benchmarks/demo.py             three runs
    python benchmarks/demo.py --sample    one run, for CI
    python benchmarks/demo.py --record    also appends to benchmarks/RESULTS.md

Wall-clock seconds beside the CPU seconds of all its processes: on a busy machine only the second
figure says what the demo costs. Fails if the exit code is not 1, that of the planted model.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
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
    """Measure, print, and append to RESULTS.md if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="one run")
    parser.add_argument("--record", action="store_true", help="append to benchmarks/RESULTS.md")
    options = parser.parse_args()
    runs = [once() for _ in range(1 if options.sample else 3)]
    wall, cpu = (statistics.median(column) for column in zip(*runs, strict=True))
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    each = ", ".join(f"{one:.1f}" for one, _ in runs)
    lines = [
        f"- wall-clock seconds: {each}; median {wall:.1f}, goal at most {GOAL:.0f}.",
        f"- CPU seconds of all processes: median {cpu:.1f}, on {cores} cores at load {load:.1f}.",
    ]
    print("\n".join(lines))
    if options.record:
        git = shutil.which("git") or "git"
        asked = [git, "rev-parse", "--short", "HEAD"]
        answer = subprocess.run(asked, cwd=HERE, capture_output=True, text=True, check=True)
        commit = answer.stdout.strip()
        today = dt.datetime.now(dt.UTC).date()
        with (HERE / "RESULTS.md").open("a", encoding="utf-8") as file:
            file.write("\n## The demo\n\n" + "\n".join(lines) + "\n\n")
            file.write(
                f"`python benchmarks/demo.py --record, commit {commit}, {today}, "
                f"{platform.machine()}, Python {platform.python_version()}`\n"
            )


if __name__ == "__main__":
    main()
