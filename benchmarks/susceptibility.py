"""What a training learns from each planted family, and who sees it: the check on digits and a table.

``backdoors.susceptibility`` as a plan would run it, on the data and the training of ``backdoors.py``
(digits moved about, 12,000 rows; a table of eight classes), with both detectors. One run of the check for
each family, with the seed of the plan as the only thing that is drawn.

    python benchmarks/susceptibility.py              six families at three rates, 15 CPU minutes
    python benchmarks/susceptibility.py --sample     one family at one rate, trigger inversion alone
    python benchmarks/susceptibility.py --so-far     tells what is there, runs nothing
    python benchmarks/susceptibility.py --record     also writes benchmarks/RESULTS.md
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import backdoors
import ledger
import numpy as np
import torch

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.record import Measurement, Undefined
from dlaudit.backdoors.susceptibility import Susceptibility
from dlaudit.datasets.arrays import ArrayDataset, Splits
from dlaudit.models.torch_model import TorchModel

FAMILIES = ("adaptive-blend", "source-specific", "patch", "blend", "clean-label", "values")
RATES = (0.001, 0.01, 0.05)
TITLE = "Susceptibility: families planted, learned and looked for"


def train_fn(dataset: Any, seed: int) -> torch.nn.Module:
    """The training of ``backdoors.py``."""
    rows = backdoors.Rows(np.asarray(dataset.x), np.asarray(dataset.y))
    return backdoors.trained(rows, len(dataset.classes), seed)


def asked(family: str, check: Susceptibility, seed: int) -> list[dict[str, Any]]:
    """What the check says of one family: name, value, interval and conditions of each number."""
    table = family == "values"
    train, test = (backdoors.tables if table else backdoors.images)(seed)
    kind = {"kind": "tabular"} if table else {}
    data = Splits({"train": ArrayDataset(*train, **kind), "test": ArrayDataset(*test, **kind)})
    bounds = None if table else (0, 1)
    with tempfile.TemporaryDirectory() as folder:
        net = backdoors.trained(train, len(data.classes), seed)
        bench = Bench(
            Subject(
                TorchModel(net, bounds=bounds, classes=data.classes, device="cpu"), data,
                train_fn=train_fn,
            ),
            run="backdoors.susceptibility", plan_seed=seed, store=EvidenceStore(Path(folder)),
            cache=Path(folder) / "cache",
        )  # fmt: skip
        found = list(check.measure(bench))
    return [
        {
            "name": one.name, "value": getattr(one, "value", None), "n": getattr(one, "n", 0),
            "ends": [one.interval.low, one.interval.high]
            if isinstance(one, Measurement) and one.interval else [],
            "reason": getattr(one, "reason", ""), "void": any(
                caveat.voids for caveat in getattr(one, "caveats", ())
            ), **one.conditions,
        }
        for one in found if isinstance(one, Measurement | Undefined)
    ]  # fmt: skip


def row(family: str, rate: float, numbers: list[dict[str, Any]]) -> str:
    """One line of the table."""

    def share(name: str, **conditions: Any) -> str:
        for one in numbers:
            wanted = {"name": name, "rate": rate, **conditions}
            if all(one.get(key) == value for key, value in wanted.items()):
                if one["value"] is None:
                    return "-"
                ends = f" [{one['ends'][0]:.2f}, {one['ends'][1]:.2f}]" if one["ends"] else ""
                return f"{one['value']:.2f}{ends}"
        return "-"

    count = next(
        (
            one["poisoned_rows"]
            for one in numbers
            if one.get("rate") == rate and "poisoned_rows" in one
        ),
        0,
    )
    cells = [
        family, f"{rate:.1%}", str(count), share("attack_success"), share("accuracy_change"),
        share("detected", detector="inversion"), share("detected", detector="scan"),
        share("poison_nominated"), share("poison_confirmed"),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Ask, count and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="one family at one rate")
    parser.add_argument("--first", type=int, default=1000, help="the seed; 0 for tuning")
    parser.add_argument("--so-far", action="store_true", help="tell what is there, run nothing")
    parser.add_argument("--record", action="store_true", help="write benchmarks/RESULTS.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rates = (0.01,) if options.sample else RATES
    detectors = ("inversion",) if options.sample else ("inversion", "scan")
    families = FAMILIES[:1] if options.sample else FAMILIES
    settings = {"rates": rates, "detectors": detectors, "seed": options.first}
    state = ledger.State(
        ledger.WORK / f"susceptibility-{options.first}{'-sample' * options.sample}.jsonl", settings
    )
    for family in () if options.so_far else families:
        if family not in state:
            check = Susceptibility(families=(family,), rates=rates, detectors=detectors)
            state.keep(family, asked(family, check, options.first))
            print(family, flush=True)
    families = tuple(family for family in families if family in state)
    every = [one for family in families for one in state[family]]
    accused = [one for one in every if one["name"] == "accused_without_poison" and one["value"]]
    missed = sum(one["value"] or 0 for one in every if one["name"] == "blind")
    works = sum(one["n"] for one in every if one["name"] == "blind")
    told = (
        f"Seed {options.first}, {len(families)} of {len(FAMILIES)} families, detectors "
        f"{', '.join(detectors)}: of {works} models in which the trigger works (a gain of at least "
        f"50 %), {missed:.0f} were seen by nobody; {len(accused)} trainings without poison were accused."
    )
    lines = [
        told,
        "",
        "| family | share | rows | success | accuracy change | inversion | scan | nominated | confirmed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [row(family, rate, state[family]) for family in families for rate in rates]
    print("\n".join(lines))
    if options.record:
        ledger.record(TITLE, lines, ledger.stamp("susceptibility.py"))


if __name__ == "__main__":
    main()
