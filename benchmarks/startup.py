"""How long the command line takes to start: --help against a bare Python, gate and report of a run.

    python benchmarks/startup.py                 21 interleaved repeats
    python benchmarks/startup.py --run RUN       gate and report of a run of your own
    python benchmarks/startup.py --sample        a few seconds, for CI
    python benchmarks/startup.py --record        also writes to benchmarks/RESULTS.md

Goals: ``dlaudit --help`` takes at most three times as long as ``python -c pass``; ``gate`` and
``report`` take under a second. Wall-clock medians; each repeat starts every command once, in turn,
so that a busy moment of the machine falls on all of them alike. The stored run, if none is given,
is an audit of the toy model by every suite.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ledger import record, stamp

RATIO, SECONDS = 3.0, 1.0


def commands(run: Path) -> dict[str, list[str]]:
    """What is timed, by the name that it gets in the table."""
    console = str(Path(sys.executable).with_name("dlaudit"))
    return {
        "python -c pass": [sys.executable, "-c", "pass"],
        "dlaudit --help": [console, "--help"],
        "python -m dlaudit --help": [sys.executable, "-m", "dlaudit", "--help"],
        "dlaudit run --help": [console, "run", "--help"],
        "dlaudit gate RUN": [console, "gate", str(run)],
        "dlaudit report RUN --format html": [console, "report", str(run), "--format", "html"],
        "dlaudit report RUN --format junit": [console, "report", str(run), "--format", "junit"],
        "dlaudit verify RUN": [console, "verify", str(run)],
    }


def toy_run(folder: Path) -> Path:
    """A stored run of every suite."""
    import dlaudit
    from dlaudit.testing import toy_data, toy_model

    dlaudit.audit(toy_model(), toy_data(), out=folder / "run", formats=["html"])
    return folder / "run"


def measure(run: Path, repeats: int) -> dict[str, float]:
    """The median of each command's seconds. The first round, which fills the caches, is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in commands(run)}
    for round_ in range(repeats + 1):
        for name, command in commands(run).items():
            started = time.perf_counter()
            subprocess.run(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
            )
            if round_:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def main() -> None:
    """Measure, print, and append to the results if asked to."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--run", type=Path, help="a stored run")
    options.add_argument("--sample", action="store_true", help="three repeats")
    options.add_argument("--record", action="store_true", help="append to RESULTS.md")
    asked = options.parse_args()
    repeats = 3 if asked.sample else 21
    with tempfile.TemporaryDirectory() as scratch:
        medians = measure(asked.run or toy_run(Path(scratch)), repeats)
    bare = medians["python -c pass"]
    lines = [
        f"{name}: {1000 * median:.0f} ms, {median / bare:.1f} times a bare Python"
        for name, median in medians.items()
    ]
    ratio = medians["dlaudit --help"] / bare
    slowest = max(median for name, median in medians.items() if "RUN" in name)
    lines += [
        f"--help: {ratio:.2f} times a bare Python; goal at most {RATIO:g}; medians of {repeats}.",
        f"gate, report, verify: at most {slowest:.2f} s; goal under {SECONDS:g} s.",
    ]
    print("\n".join(lines))
    stamped = stamp("startup.py", torch=False)
    print(stamped)
    if asked.record:
        record("Start of the command line", lines, stamped)


if __name__ == "__main__":
    main()
