"""Which families of triggers an inspection of the model alone finds, and which it does not.

The pictures, triggers and perceptrons of ``backdoors.py`` (digits moved about in 12 x 12 pixels), and a
convolutional net on the same; blend, patch and source-specific triggers in 1 % and 5 % of the training
rows, three seeds; 30 twins without poison. Pairs are searched beside one reference, trained on the same
rows without poison from other weights, and only where they matter: source-specific triggers and twins.
Thresholds were set on seeds below 20; the judging seeds begin at 2000. Results are kept as they come: a
killed run goes on.

    python benchmarks/inspection.py             36 models and 30 twins, about half an hour
    python benchmarks/inspection.py --sample    one blend and its twin, overlay inversion only
    python benchmarks/inspection.py --so-far    tells what is there, runs nothing
    python benchmarks/inspection.py --record    also writes benchmarks/RESULTS.md
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import backdoors as panel
import ledger
import numpy as np
import torch
from torch import nn

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.record import Measurement
from dlaudit.backdoors.inversion import Inversion
from dlaudit.backdoors.overlay import Overlay
from dlaudit.backdoors.pairs import Pairs
from dlaudit.backdoors.weights import Weights
from dlaudit.datasets.arrays import ArrayDataset
from dlaudit.models.torch_model import TorchModel

FAMILIES, RATES, SEEDS = ("blend", "patch", "source-specific"), (0.01, 0.05), 3
TWINS = {"perceptron": 20, "convolutional": 10}
"""Of each kind of net."""
KINDS = tuple(TWINS)
DETECTORS = {
    "inversion": Inversion(pictures=0), "overlay": Overlay(pictures=0), "pairs": Pairs(),
    "weights": Weights(),
}  # fmt: skip
TITLE = "Inspection of the model alone: families found and not found"


class Case(NamedTuple):
    """One net; rate 0 is a twin without poison."""

    kind: str
    family: str
    rate: float
    seed: int

    @property
    def name(self) -> str:
        """What its result is kept under."""
        return f"{self.kind} {self.family} {self.rate:g} {self.seed}"


def convolutional(rows: panel.Rows, seed: int) -> nn.Module:
    """A small convolutional net with batch normalisation after three epochs of Adam."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(24 * 9, 64), nn.ReLU(), nn.Linear(64, 10),
        )  # fmt: skip
    return panel.fitted(net, rows, seed, epochs=3)


class Made(NamedTuple):
    """A net and what is known of it. success: of the attack; reference: trained on clean rows, if asked."""

    net: nn.Module
    test: panel.Rows
    target: int
    success: float
    reference: nn.Module | None


def trained(kind: str, rows: panel.Rows, seed: int) -> nn.Module:
    """A net of either kind."""
    return panel.trained(rows, 10, seed) if kind == "perceptron" else convolutional(rows, seed)


def made(case: Case, *, reference: bool) -> Made:
    """Plant and train; a reference has other starting weights and the same rows without poison."""
    train, test = panel.images(case.seed)
    target = (3 * case.seed + 1) % 10
    attack = panel.Case(case.family, case.rate, case.seed)
    net = trained(
        case.kind, panel.poisoned(train, attack, target) if case.rate else train, case.seed
    )
    success = 0.0
    if case.rate:
        source = (target + 3) % 10
        host = test.y == source if case.family == "source-specific" else test.y != target
        put = torch.from_numpy(panel.trigger(case.family, case.seed)(test.x[host]))
        with torch.no_grad():
            success = float((net(put).argmax(dim=1) == target).float().mean())
    beside = trained(case.kind, train, case.seed + 500) if reference else None
    return Made(net, test, target, success, beside)


def judged(case: Case, detectors: list[str]) -> dict[str, Any]:
    """Plant, train, inspect blindly; what the attack achieves and whom each detector suspects."""
    net, test, target, success, reference = made(case, reference="pairs" in detectors)
    result: dict[str, Any] = {"target": str(target), "success": success}
    for name in detectors:
        with tempfile.TemporaryDirectory() as folder:
            data = ArrayDataset(test.x, test.y)
            model, *beside = (
                TorchModel(one, bounds=(0, 1), classes=data.classes, device="cpu")
                for one in (net, reference) if one is not None
            )  # fmt: skip
            further = {f"reference{k}": one for k, one in enumerate(beside)}
            bench = Bench(
                Subject(model, data, further), run=f"backdoors.{name}", plan_seed=case.seed,
                store=EvidenceStore(Path(folder)), cache=Path(folder) / "cache",
            )  # fmt: skip
            start = time.process_time()
            found = [one for one in DETECTORS[name].measure(bench) if isinstance(one, Measurement)]
        if name == "weights":
            result[name] = by_margin(found)
            continue
        ratios = [one for one in found if one.name == "trigger_ratio"]
        anomaly = {one.slice["class"]: one.value for one in found if one.name == "anomaly"}
        first = max(ratios, key=lambda one: one.value, default=None)
        result[name] = {
            "suspected": [m.slice["class"] for m in found if m.name == "suspected" and m.value],
            "first": "" if first is None else first.slice["class"],
            "ratio": 0 if first is None else first.value,
            "anomaly": 0 if first is None else anomaly.get(first.slice["class"], 0),
            "passes": sum(one.passes.forward + one.passes.backward for one in (model, *beside)),
            "seconds": time.process_time() - start,
        }
    return result


def by_margin(found: list[Measurement]) -> dict[str, Any]:
    """Whom the published level of MM-BD, p below 0.05, would accuse; the check itself accuses nobody."""
    (p,) = (one for one in found if one.name == "margin_p")
    return {
        "suspected": [p.conditions["class"]] if p.value < 0.05 else [],
        "first": p.conditions["class"], "ratio": p.value, "passes": 0, "seconds": 0,
    }  # fmt: skip


def cases(first: int) -> list[Case]:
    """Every model, one kind of net after the other."""
    return [
        case
        for kind, twins in TWINS.items()
        for case in (
            *(
                Case(kind, family, rate, first + seed)
                for seed in range(SEEDS) for family in FAMILIES for rate in RATES
            ),
            *(Case(kind, "twin", 0.0, first + seed) for seed in range(twins)),
        )
    ]  # fmt: skip


def told(results: dict[Case, dict[str, Any]]) -> list[str]:
    """Detection where the attack works, by net, family and rate; accusations of twins."""
    lines = []
    for name in DETECTORS:
        some = {case: one for case, one in results.items() if name in one}
        if not some:
            continue
        for kind in KINDS:
            twins = [some[case][name] for case in some if (case.kind, case.rate) == (kind, 0)]
            if not twins:
                continue
            accused = sum(bool(one["suspected"]) for one in twins)
            ends = sorted(one["ratio"] for one in twins)
            what = "p of the largest lead" if name == "weights" else "largest ratio"
            verb = "would at p < 0.05 accuse" if name == "weights" else "accused"
            lines.append(
                f"backdoors.{name}: {verb} {panel.share(accused, len(twins))} {kind} twins "
                f"({what} {ends[0]:.2f} to {ends[-1]:.2f})."
            )
        wrong = sum(
            bool(set(one[name]["suspected"]) - {one["target"]})
            for case, one in some.items() if case.rate
        )  # fmt: skip
        if name == "weights":
            continue
        spent = [one[name] for one in some.values()]
        lines.append(
            f"backdoors.{name}: a class besides the target in {wrong} poisoned models; median "
            f"{np.median([one['passes'] for one in spent]):,.0f} passes (forward and backward), "
            f"{np.median([one['seconds'] for one in spent]):.0f} CPU s."
        )
    lines += ["", f"| net | family | share | success | {' | '.join(DETECTORS)} |"]
    lines += ["|---|---|---|---|" + "---|" * len(DETECTORS)]
    for kind in KINDS:
        for family in FAMILIES:
            for rate in RATES:
                row = [one for case, one in results.items() if case[:3] == (kind, family, rate)]
                if not row:
                    continue
                cells = [
                    f"{sum(one['target'] in one[d]['suspected'] for one in row if d in one)} of "
                    f"{sum(d in one for one in row)}"
                    if any(d in one for one in row)
                    else "not run"
                    for d in DETECTORS
                ]
                success = " ".join(f"{one['success']:.2f}" for one in row)
                lines.append(
                    f"| {kind} | {family} | {rate:.0%} | {success} | {' | '.join(cells)} |"
                )
    return lines


def main() -> None:
    """Train, inspect, count and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="one model and its twin")
    parser.add_argument("--first", type=int, default=2000, help="first seed; 0 for tuning seeds")
    parser.add_argument("--only", default="", help="one detector")
    parser.add_argument("--so-far", action="store_true", help="tell what is there, run nothing")
    parser.add_argument("--record", action="store_true", help="write benchmarks/RESULTS.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    wanted, detectors = cases(options.first), [options.only] if options.only else list(DETECTORS)
    if options.sample:
        first = options.first
        wanted = [Case("perceptron", "blend", 0.01, first), Case("perceptron", "twin", 0.0, first)]
        detectors = ["overlay"]
    results: dict[Case, dict[str, Any]] = {}
    for name in detectors:
        path = ledger.WORK / f"inspection-{options.first}-{name}.jsonl"
        state = ledger.State(path, {name: repr(DETECTORS[name])})
        for case in wanted:
            if name == "pairs" and case.family not in {"source-specific", "twin"}:
                continue
            if case.name not in state:
                if options.so_far:
                    continue
                state.keep(case.name, judged(case, [name]))
                print(case.name, state[case.name], flush=True)
            results.setdefault(case, {}).update(state[case.name])
    lines = [f"Seeds from {options.first}, {len(results)} models of {len(wanted)}.", *told(results)]
    print("\n".join(lines))
    if options.record:
        ledger.record(TITLE, lines, ledger.stamp("inspection.py"))


if __name__ == "__main__":
    main()
