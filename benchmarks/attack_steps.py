"""Why attacks.pgd steps as it does: robust accuracy left by each choice at the same passes.

    python benchmarks/attack_steps.py         prints the table of docs/decisions/attack-steps.md

1,000 MNIST test images, 20 steps, one restart; lower is a stronger attack. Needs the truths
(DLAUDIT_TRUTHS, default ../shared/truths). One seed: differences of a few images are chance.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlaudit import ArrayDataset, Attack, Bench, Epsilon, Measurement, TorchModel
from dlaudit.attacks.pgd import PGD
from dlaudit.attacks.via_foolbox import Foolbox
from dlaudit.audit.bench import Subject
from dlaudit.audit.evidence import EvidenceStore

TRUTHS = Path(
    os.environ.get("DLAUDIT_TRUTHS", Path(__file__).resolve().parents[2] / "shared" / "truths")
)
THREATS = (
    ("mnist_trades", "linf", 0.3),
    ("mnist_trades", "l2", 2.0),
    ("mnist_certified", "linf", 0.1),
    ("mnist_certified", "l2", 1.0),
)


def choices(epsilon: float) -> dict[str, dict[str, Any]]:
    """What is compared: the default first, then one thing changed at a time."""
    return {
        "default: linear from 2 epsilon, margin, random start": {},
        "linear from epsilon": {"step_size": Epsilon(epsilon)},
        "linear from epsilon / 2": {"step_size": Epsilon(epsilon / 2)},
        "constant 2.5 epsilon / steps": {"schedule": "constant"},
        "loss cross_entropy": {"loss": "cross_entropy"},
        "loss dlr": {"loss": "dlr"},
        "clean start": {"random_start": False},
        "constant, cross_entropy": {"schedule": "constant", "loss": "cross_entropy"},
    }


def subject(folder: str) -> Subject:
    """A truth network and the first thousand MNIST test images."""
    place = TRUTHS / folder
    spec = importlib.util.spec_from_file_location(folder, place / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with np.load(TRUTHS / "mnist_trades" / "mnist_test.npz") as stored:
        x = stored["x"][:1000, None].astype(np.float32) / 255
        y = stored["y"][:1000].astype(np.int64)
    net = module.load(str(place / "weights.safetensors"))
    return Subject(TorchModel(net, bounds=(0, 1), device="cpu"), ArrayDataset(x, y))


def left(attack: Attack, on: Subject, folder: Path) -> tuple[float, float]:
    """The robust accuracy that an attack leaves, and its passes per sample."""
    bench = Bench(
        on, run="attacks.pgd", plan_seed=1, store=EvidenceStore(folder), cache=folder / "cache"
    )
    bench.answers(samples=attack.samples)
    before = on.model.passes.cost
    found = [one for one in attack.measure(bench) if isinstance(one, Measurement)]
    spent = on.model.passes.since(before)
    (robust,) = [one for one in found if one.name == "robust_accuracy"]
    return robust.value, (spent.forward + spent.backward) / robust.n


def main() -> None:
    """Print both tables in Markdown."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        titles = [f"{place.removeprefix('mnist_')} {norm} {eps:g}" for place, norm, eps in THREATS]
        print(f"| choice | {' | '.join(titles)} |")
        print(f"|---|{'---|' * len(THREATS)}")
        for choice in choices(1):
            cells = []
            for place, norm, epsilon in THREATS:
                attack = PGD(norm=norm, epsilon=Epsilon(epsilon), **choices(epsilon)[choice])
                cells.append(f"{left(attack, subject(place), folder / place)[0]:.3f}")
            print(f"| {choice} | {' | '.join(cells)} |", flush=True)
        print("\n| DeepFool, 256 images | candidates 10 | candidates 3 |\n|---|---|---|")
        kind = Foolbox.member("LinfDeepFoolAttack")
        for place, _, epsilon in THREATS[::2]:
            cells = []
            for candidates in (10, 3):
                attack = kind(epsilon=Epsilon(epsilon), samples=256, candidates=candidates)
                robust, passes = left(attack, subject(place), folder / place)
                cells.append(f"{robust:.3f} at {passes:.0f} passes a sample")
            print(
                f"| {place.removeprefix('mnist_')} {epsilon:g} | {' | '.join(cells)} |", flush=True
            )


if __name__ == "__main__":
    main()
