"""What dropping fooled samples saves: attacks.pgd, 40 steps, beside the raw loop that keeps them all.

On a network without defence nearly everybody leaves within a few steps: goal at most 0.6 of the raw
loop. On a robust one nearly nobody leaves, and looking who may leave must cost next to nothing: goal
at most 1.02. The attack's examination of itself is off in these figures; what it adds is told beside
them. Both sides run in one process on one thread, in turns; CPU seconds, the median of the paired
ratios.

    python benchmarks/compaction.py             256 MNIST images, two networks, about three minutes
    python benchmarks/compaction.py --sample    a perceptron on digits, seconds, for CI
    python benchmarks/compaction.py --record    also writes benchmarks/RESULTS.md
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import subjects
import torch
from ledger import record, stamp
from overhead import ALLOCATOR, Setting, measure
from subjects import Subject

STEPS = 40
GOALS = {"undefended": 0.6, "robust": 1.02}


def told(subject: Subject, goal: float, *, repeats: int) -> str:
    """One line: passes and CPU seconds as shares of the raw loop's."""
    setting = Setting(*subject)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(setting, steps=STEPS, repeats=repeats, folder=Path(folder))
        examined = measure(
            setting, steps=STEPS, repeats=1, folder=Path(folder) / "examined", doctor="quick"
        )
    spent = found["forward"] + found["backward"]
    passes = spent / (found["raw_forward"] + found["raw_backward"])
    extra = (examined["forward"] + examined["backward"]) / spent - 1
    return (
        f"{subject.name}, linf epsilon = {subject.epsilon:g}, {found['n']} images, {found['robust']} "
        f"left robust (raw loop {found['robust_raw']}): {passes:.3f} of the passes, {found['ratio']:.3f} "
        f"of the CPU seconds of the raw loop (medians {found['harness_seconds']:.2f} and "
        f"{found['raw_seconds']:.2f} s); goal at most {goal:g}. Its examination adds {extra:.1%} of the "
        "passes."
    )


def main() -> None:
    """Measure, print, and write RESULTS.md if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="small and quick, for CI")
    parser.add_argument("--record", action="store_true", help="write benchmarks/RESULTS.md")
    options = parser.parse_args()
    if ALLOCATOR.items() - os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ALLOCATOR)  # noqa: S606
    torch.set_num_threads(1)
    if options.sample or not subjects.present():
        weak, strong, n, repeats = subjects.tiny(0.5), subjects.tiny(0.0001), 256, 3
    else:
        weak, strong = subjects.undefended(0.3), subjects.published("mnist_trades", 0.3)
        n, repeats = 256, 5
    lines = [f"attacks.pgd with {STEPS} steps; medians of {repeats} repeats in turns, one thread."]
    for subject, goal in ((weak, GOALS["undefended"]), (strong, GOALS["robust"])):
        lines.append(told(subject.rightly_decided(n), goal, repeats=repeats))
        print(lines[-1], flush=True)
    if options.sample:
        print("On a network this small the harness outweighs the passes: no goal is judged.")
    stamped = stamp("compaction.py")
    print(stamped)
    if options.record:
        record("What dropping fooled samples saves", lines, stamped)


if __name__ == "__main__":
    main()
