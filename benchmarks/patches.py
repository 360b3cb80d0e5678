"""One pattern for all on a trained network: what learning adds to chance, and what a search for each adds.

    python benchmarks/patches.py --record      writes the section of benchmarks/RESULTS.md

A ResNet-20 of CIFAR-10 on lossless pictures that it has learned from and makes no error on when clean;
half of them teach, the others are judged. The control has one step instead of a hundred: a pattern of
chance. Needs the truths (DLAUDIT_TRUTHS, default ../shared/truths).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
from pathlib import Path

import numpy as np
from ledger import record, stamp

from dlaudit import ArrayDataset, Attack, Bench, Epsilon, Measurement, TorchModel
from dlaudit.attacks.patch import Patch
from dlaudit.attacks.universal import Universal
from dlaudit.audit.bench import Subject
from dlaudit.audit.evidence import EvidenceStore

TRUTHS = Path(
    os.environ.get("DLAUDIT_TRUTHS", Path(__file__).resolve().parents[2] / "shared" / "truths")
)
TRIED: dict[str, Attack] = {
    "universal linf 8/255": Universal(epsilon=Epsilon("8/255")),
    "universal linf 8/255, chance": Universal(epsilon=Epsilon("8/255"), steps=1, batch=1),
    "universal l2 1": Universal(norm="l2", epsilon=Epsilon(1)),
    "sticker of 2 and 5 %, 10 places": Patch(epsilon=Epsilon([0.02, 0.05])),
    "sticker of 2 and 5 %, chance": Patch(epsilon=Epsilon([0.02, 0.05]), steps=1, batch=1),
    "sticker of 5 %, one place": Patch(epsilon=Epsilon(0.05), places=1),
    "sticker of 5 % towards class 3": Patch(epsilon=Epsilon(0.05), target="3"),
    "patch of each of 2 and 5 %, 3 windows of 20 steps": Patch(
        epsilon=Epsilon([0.02, 0.05]), mode="sample", places=3, steps=20, samples=100
    ),
}


def main() -> None:
    """Print what each leaves, and record it if asked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--samples", type=int, default=400)
    asked = parser.parse_args()
    folder = TRUTHS / "cifar_resnet"
    spec = importlib.util.spec_from_file_location("cifar_resnet", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net = module.load(str(folder / "resnet20.safetensors"), 20)
    model = TorchModel(net, bounds=(0, 1), device="cpu", classes=tuple("0123456789"))
    with np.load(folder / "train_sample.npz") as stored:
        x = np.moveaxis(stored["x"][: asked.samples], -1, 1).astype(np.float32) / 255
        y = stored["y"][: asked.samples].astype(np.int64)
    data = ArrayDataset(np.ascontiguousarray(x), y, name="cifar")
    lines = ["| attack | epsilon | robust accuracy | n | target success |", "|---|---|---|---|---|"]
    for name, attack in TRIED.items():
        with tempfile.TemporaryDirectory() as place:
            bench = Bench(
                Subject(model, data), run="attacks.benchmark", plan_seed=1,
                store=EvidenceStore(Path(place)), cache=Path(place) / "cache",
            )  # fmt: skip
            found = [one for one in attack.measure(bench) if isinstance(one, Measurement)]
        hits = {one.conditions["epsilon"]: one for one in found if one.name == "target_success"}
        for one in found:
            if one.name == "robust_accuracy":
                epsilon = one.conditions["epsilon"]
                hit = f"{hits[epsilon].value:.3f}" if epsilon in hits else ""
                low, high = one.interval.low, one.interval.high
                lines.append(
                    f"| {name} | {epsilon:.4g} | {one.value:.3f} [{low:.3f}, {high:.3f}] | {one.n} | {hit} |"
                )
        print(lines[-1], flush=True)
    if asked.record:
        record("Patches and universal perturbations", ["", *lines, ""], stamp("patches.py"))


if __name__ == "__main__":
    main()
