"""Do dlaudit's corruptions cost a network as much as the published ones? Errors side by side.

    python benchmarks/corruptions.py --record      writes the section of benchmarks/RESULTS.md

A ResNet-20 of CIFAR-10 on lossless pictures, corrupted here, beside what RobustBench publishes for its
"Standard" network (a WRN-28-10) on CIFAR-10-C. Another network and other pictures (it has learned from
these, and errs on none when clean), so the figures can only be near: they show that severities are of
the published strength, not that they are the same pictures. Needs the truths (DLAUDIT_TRUTHS, default
../shared/truths).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
from pathlib import Path

import numpy as np
from ledger import record, stamp

from dlaudit import ArrayDataset, Bench, Measurement, TorchModel
from dlaudit.attacks.corruptions import Corruptions
from dlaudit.attacks.severities import COMMON
from dlaudit.audit.bench import Subject
from dlaudit.audit.evidence import EvidenceStore

TRUTHS = Path(
    os.environ.get("DLAUDIT_TRUTHS", Path(__file__).resolve().parents[2] / "shared" / "truths")
)
PUBLISHED = {
    # RobustBench, model_info/cifar10/corruptions/unaggregated_results.csv, row "Standard": accuracies.
    "gaussian_noise": (0.7778, 0.5788, 0.3919, 0.3261, 0.2767),
    "shot_noise": (0.8504, 0.7573, 0.5349, 0.4535, 0.3429),
    "impulse_noise": (0.8289, 0.6905, 0.5737, 0.4011, 0.2708),
    "defocus_blur": (0.9458, 0.9338, 0.8898, 0.7744, 0.5306),
    "glass_blur": (0.5343, 0.5575, 0.5695, 0.4319, 0.4568),
    "motion_blur": (0.9029, 0.8385, 0.7440, 0.7483, 0.6525),
    "zoom_blur": (0.8771, 0.8455, 0.7748, 0.7029, 0.5798),
    "snow": (0.8991, 0.8043, 0.8365, 0.8051, 0.7493),
    "frost": (0.8955, 0.8350, 0.7261, 0.7086, 0.5870),
    "fog": (0.9451, 0.9356, 0.9229, 0.8959, 0.7399),
    "brightness": (0.9475, 0.9438, 0.9378, 0.9281, 0.9070),
    "contrast": (0.9427, 0.9216, 0.8972, 0.8359, 0.5331),
    "elastic": (0.9047, 0.9022, 0.8586, 0.7894, 0.7341),
    "pixelate": (0.9195, 0.8604, 0.8002, 0.6035, 0.4155),
    "jpeg": (0.8636, 0.7965, 0.7796, 0.7415, 0.6970),
}


def errors(samples: int) -> dict[str, list[float]]:
    """The network's error per corruption and severity."""
    folder = TRUTHS / "cifar_resnet"
    spec = importlib.util.spec_from_file_location("cifar_resnet", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net = module.load(str(folder / "resnet20.safetensors"), 20)
    model = TorchModel(net, bounds=(0, 1), device="cpu")
    with np.load(folder / "train_sample.npz") as stored:
        x = np.moveaxis(stored["x"][:samples], -1, 1).astype(np.float32) / 255
        y = stored["y"][:samples].astype(np.int64)
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(
            Subject(model, ArrayDataset(np.ascontiguousarray(x), y, name="cifar")),
            run="attacks.corruptions", plan_seed=1, store=EvidenceStore(Path(place)),
            cache=Path(place) / "cache",
        )  # fmt: skip
        found: dict[str, list[float]] = {}
        for one in Corruptions(corruptions=COMMON).measure(bench):
            if isinstance(one, Measurement) and one.name == "corrupted_accuracy":
                found.setdefault(str(one.conditions["corruption"]), []).append(1 - one.value)
    return found


def main() -> None:
    """Print the table, and record it if asked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--samples", type=int, default=1000)
    asked = parser.parse_args()
    ours = errors(asked.samples)
    lines = [
        f"Errors in percent at severities 1 to 5: ResNet-20 on {asked.samples} pictures corrupted here, and",
        "published of another network (RobustBench, Standard, CIFAR-10-C).",
    ]
    lines = [
        " ".join(lines),
        "",
        "| corruption | here | mean | published | mean |",
        "|---|---|---|---|---|",
    ]
    for name, row in ours.items():
        theirs = [1 - accuracy for accuracy in PUBLISHED[name]]
        cells = [
            cell
            for errors in (row, theirs)
            for cell in (
                " ".join(f"{100 * one:.0f}" for one in errors),
                f"{100 * np.mean(errors):.1f}",
            )
        ]
        lines.append(f"| {' | '.join([name, *cells])} |")
    here = 100 * np.mean(list(ours.values()))
    there = 100 * (1 - np.mean(list(PUBLISHED.values())))
    lines += ["", f"mean over all 75 cells: {here:.1f} here, {there:.1f} published."]
    print("\n".join(lines))
    if asked.record:
        record("Corruptions beside the published ones", lines, stamp("corruptions.py"))


if __name__ == "__main__":
    main()
