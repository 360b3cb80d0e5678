"""How many of the labels that are doubted most were called wrong by people: cleanlab's CIFAR-10 list.

    python benchmarks/label_errors.py            # needs the ground truths (DLAUDIT_TRUTHS)
    python benchmarks/label_errors.py --record   # also writes benchmarks/RESULTS.md

10,000 test labels with published cross-validated probabilities; 275 of them were shown to five people each,
and 54 lost the majority. A label that nobody reviewed counts as right here: precision is a lower bound.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from pathlib import Path

import ledger
import numpy as np

from dlaudit.audit.statistics import wilson
from dlaudit.data_quality.via_cleanlab import doubted

TRUTHS = Path(os.environ.get("DLAUDIT_TRUTHS", Path(__file__).parents[1] / "../shared/truths"))
TITLE = "Suspected labels of CIFAR-10 and what people said"
WRONG = 54


def main() -> int:
    """Rank, count, print, write to RESULTS.md if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--record", action="store_true", help="write a section of RESULTS.md")
    options = parser.parse_args()
    folder = TRUTHS / "label_errors"
    if not folder.is_dir():
        print("skipped: DLAUDIT_TRUTHS names no folder with label_errors")
        return 0
    given = np.load(folder / "cifar10_pyx.npz")
    with (folder / "cifar10_reviewed.csv").open(encoding="utf-8") as file:
        reviewed = {
            int(row["test_index"]): row["majority_error"] == "1" for row in csv.DictReader(file)
        }
    found = doubted(given["labels"].astype(int), given["pred_probs"])
    suspected = np.flatnonzero(found.suspected)
    order = np.argsort(found.confidence, kind="stable")
    ranked = suspected[np.argsort(found.confidence[suspected], kind="stable")]
    lines = [
        "| labels looked at | called wrong by most reviewers | precision, 95 % (Wilson) | reviewed at all |",
        "|---|---|---|---|",
    ]
    rows = [(f"{k} most doubtful", order[:k]) for k in (10, 25, WRONG, 100)]
    rows.append((f"all {len(ranked)} suspected", ranked))
    for name, chosen in rows:
        wrong = sum(reviewed.get(int(row), False) for row in chosen)
        looked = sum(int(row) in reviewed for row in chosen)
        bounds = wilson(wrong, len(chosen))
        lines.append(
            f"| {name} | {wrong} of {len(chosen)} | {wrong / len(chosen):.3f} "
            f"[{bounds.low:.3f}, {bounds.high:.3f}] | {looked} |"
        )
    caught = sum(reviewed.get(int(row), False) for row in suspected)
    lines += ["", f"{caught} of the {WRONG} labels that people called wrong are suspected"]
    print("\n".join(lines))
    if options.record:
        ledger.record(TITLE, lines, ledger.stamp("label_errors.py", torch=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
