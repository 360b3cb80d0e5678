"""How often backdoors.inversion finds a planted patch, and how often it accuses a clean twin.

Handwritten digits (8 x 8, scikit-learn), a patch of four pixels in a corner, 0 %, 1 % and 5 % of the
training set poisoned, a convolutional net and a perceptron. (The same digits as 64 columns of a table
draw the same numbers and give the same figures.) Thresholds were set on seeds below 20; these are the
judging seeds.

    python benchmarks/inversion.py             seeds 1000 to 1019, about ten minutes
    python benchmarks/inversion.py --sample    one seed, a minute
    python benchmarks/inversion.py --record    also appends to benchmarks/RESULTS.md
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.util
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlaudit.audit.record import Measurement
from dlaudit.audit.statistics import wilson
from dlaudit.backdoors.inversion import Inversion

HERE = Path(__file__).resolve().parent
RATES = (0.0, 0.01, 0.05)
KINDS = ("convolutional net", "perceptron")


def planted() -> Any:
    """The digits and nets that the tests use."""
    path = HERE.parent / "tests" / "planted_digits.py"
    spec = importlib.util.spec_from_file_location("planted_digits", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def judged(digits: Any, kind: str, rate: float, seed: int, folder: Path) -> dict[str, Any]:
    """Train one model and inspect it: target, success of the patch, suspected classes, seconds."""
    train, test = digits.halves(seed)
    target = (3 * seed + 1) % 10
    learned = digits.poisoned(train, share=rate, target=target, seed=seed) if rate else train
    module = digits.net(seed) if kind == "convolutional net" else digits.perceptron(seed)
    module = digits.trained(learned, seed=seed, epochs=30, module=module)
    stamped = torch.from_numpy(digits.patched(test.x[test.y != target]))
    with torch.no_grad():
        success = float((module(stamped).argmax(dim=1) == target).float().mean())
    bench = digits.bench_at(folder, module, test, run="backdoors.inversion", seed=seed)
    start = time.process_time()
    found = [one for one in Inversion(pictures=0).measure(bench) if isinstance(one, Measurement)]
    return {
        "target": str(target),
        "success": success,
        "suspected": [one.slice["class"] for one in found if one.name == "suspected" and one.value],
        "ratio": max(one.value for one in found if one.name == "trigger_ratio"),
        "seconds": time.process_time() - start,
        "passes": bench.model.passes.cost,
    }


def share(hits: int, n: int) -> str:
    """A count with Wilson's interval."""
    interval = wilson(hits, n)
    return f"{hits} of {n} [{interval.low:.2f}, {interval.high:.2f}]"


def main() -> None:
    """Train, inspect, count and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="one seed")
    parser.add_argument(
        "--first", type=int, default=1000, help="first seed; 0 for the tuning seeds"
    )
    parser.add_argument("--record", action="store_true", help="append to benchmarks/RESULTS.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    digits = planted()
    seeds = range(options.first, options.first + (1 if options.sample else 20))
    lines = [f"Seeds {seeds[0]} to {seeds[-1]}, {Inversion()}."]
    for kind in KINDS:
        for rate in RATES:
            with tempfile.TemporaryDirectory() as folder:
                runs = [judged(digits, kind, rate, s, Path(folder) / str(s)) for s in seeds]
            seconds = np.median([run["seconds"] for run in runs])
            ends = [run["ratio"] for run in runs]
            words = f"{kind}, {rate:.0%} poisoned: "
            if rate:
                worked = [run for run in runs if run["success"] >= 0.5]
                hits = sum(run["target"] in run["suspected"] for run in worked)
                other = sum(bool(set(run["suspected"]) - {run["target"]}) for run in runs)
                words += (
                    f"found {share(hits, len(worked))} where the patch works on at least half; "
                    f"another class accused in {other} of {len(runs)}"
                )
            else:
                words += f"accused {share(sum(bool(run['suspected']) for run in runs), len(runs))}"
            words += (
                f"; largest ratio {min(ends):.2f} to {max(ends):.2f}, median {seconds:.1f} CPU s."
            )
            lines.append(words)
            print(words, flush=True)
    if options.record:
        stamp = (
            f"python benchmarks/inversion.py, {dt.datetime.now(dt.UTC):%Y-%m-%d}, "
            f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
        )
        points = [f"- {line}" for line in lines]
        section = ["", "## Trigger inversion", "", *points, "", f"`{stamp}`", ""]
        with (HERE / "RESULTS.md").open("a", encoding="utf-8") as file:
            file.write("\n".join(section))


if __name__ == "__main__":
    main()
