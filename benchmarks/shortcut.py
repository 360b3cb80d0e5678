"""How often explain.shortcut finds a planted watermark, and how often it accuses a clean twin.

Handwritten digits (8 x 8, scikit-learn) with a mark of four pixels on every picture of one class;
half of the pictures of another class were marked and labelled alike for training, so that the mark
is what the class is known by. The clean twin has the same data without the mark, with masks that fit
(ink above 0) and masks drawn too tightly (ink above 0.3). Found and accused: the suite's own rule
fails, the whole interval of some class or of all lies above 0.1.

    python benchmarks/shortcut.py             seeds 1000 to 1019, about two minutes
    python benchmarks/shortcut.py --sample    two seeds
    python benchmarks/shortcut.py --record    also appends to benchmarks/RESULTS.md
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.util
import platform
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlaudit.audit.record import Measurement
from dlaudit.audit.statistics import wilson
from dlaudit.explain.shortcut import Shortcut
from dlaudit.explain.suite import SUITE

HERE = Path(__file__).resolve().parent
LIMIT = next(rule.threshold for rule in SUITE.rules if rule.run == "explain.shortcut")


def planted() -> Any:
    """The digits and nets that the tests use."""
    path = HERE.parent / "tests" / "planted_digits.py"
    spec = importlib.util.spec_from_file_location("planted_digits", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def accused(
    digits: Any, module: Any, test: Any, mask: np.ndarray, *, seed: int, folder: Path
) -> dict[str, float]:
    """The lower ends above the limit, by class (``""`` for all pictures)."""
    bench = digits.bench_at(folder, module, test, run="explain.shortcut", seed=seed, mask=mask)
    return {
        one.slice.get("class", ""): one.interval.low
        for one in Shortcut().measure(bench)
        if isinstance(one, Measurement) and one.interval and one.interval.low > LIMIT
    }


def main() -> None:
    """Train, replace, count and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="two seeds")
    parser.add_argument(
        "--first", type=int, default=1000, help="first seed; 0 for the tuning seeds"
    )
    parser.add_argument("--record", action="store_true", help="append to benchmarks/RESULTS.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    digits = planted()
    seeds = range(options.first, options.first + (2 if options.sample else 20))
    counts = dict.fromkeys(("found", "named", "fitting", "tight"), 0)
    for seed in seeds:
        train, test = digits.halves(seed)
        marked = (7 * seed + 2) % 10
        x, y = digits.watermarked(train, marked).x.copy(), train.y.copy()
        at = np.flatnonzero(train.y == (marked + 1) % 10)[::2]
        x[at], y[at] = digits.patched(x[at]), marked
        with tempfile.TemporaryDirectory() as folder:
            bad = digits.trained(digits.Digits(x, y), seed=seed, module=digits.net(seed))
            hit = accused(
                digits,
                bad,
                digits.watermarked(test, marked),
                test.mask,
                seed=seed,
                folder=Path(folder) / "bad",
            )
            honest = digits.trained(train, seed=seed, module=digits.net(seed))
            fitting = accused(
                digits, honest, test, test.mask, seed=seed, folder=Path(folder) / "fitting"
            )
            tight = accused(
                digits, honest, test, test.x[:, 0] > 0.3, seed=seed, folder=Path(folder) / "tight"
            )
        counts["found"] += bool(hit)
        counts["named"] += str(marked) in hit and max(hit, key=hit.get) == str(marked)
        counts["fitting"] += bool(fitting)
        counts["tight"] += bool(tight)
    words = {
        "found": "watermark found",
        "named": "its class named as the worst",
        "fitting": "clean twin accused, masks that fit",
        "tight": "clean twin accused, masks drawn too tightly",
    }
    lines = [f"Seeds {seeds[0]} to {seeds[-1]}, {Shortcut()}, limit {LIMIT:g}."]
    for name, hits in counts.items():
        interval = wilson(hits, len(seeds))
        lines.append(
            f"{words[name]}: {hits} of {len(seeds)} [{interval.low:.2f}, {interval.high:.2f}]."
        )
    print("\n".join(lines))
    if options.record:
        stamp = (
            f"python benchmarks/shortcut.py, {dt.datetime.now(dt.UTC):%Y-%m-%d}, "
            f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
        )
        points = [f"- {line}" for line in lines]
        section = ["", "## Shortcuts by replacement", "", *points, "", f"`{stamp}`", ""]
        with (HERE / "RESULTS.md").open("a", encoding="utf-8") as file:
            file.write("\n".join(section))


if __name__ == "__main__":
    main()
