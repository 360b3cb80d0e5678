"""What an inspection by trigger inversion costs: ten classes, a hundred, and whether they are found.

Convolutional nets trained here on made-up pictures (a smooth pattern for each class, moved about, with
noise), a patch of 3 x 3 pixels in 5 % of the training pictures or none. Counted are passes, the
currency that no machine changes, and CPU seconds on one thread; two cores need no more.

    python benchmarks/inversion_scale.py             ten classes at 28 x 28 and 16 x 16, a hundred at 16 x 16
    python benchmarks/inversion_scale.py --sample    ten classes at 16 x 16
    python benchmarks/inversion_scale.py --record    also writes benchmarks/RESULTS.md
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import ledger
import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.record import Measurement
from dlaudit.backdoors.inversion import Inversion
from dlaudit.datasets.arrays import ArrayDataset
from dlaudit.models.torch_model import TorchModel

TARGET, SHARE, TEST = 3, 0.05, 1_000
TITLE = "Trigger inversion: cost"


def pictures(classes: int, side: int, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 1, side, side) in [0, 1] and labels: coarse patterns, shifted by up to one pixel, noisy."""
    rng = np.random.default_rng([1, classes, side])
    coarse = rng.random((classes, side // 4, side // 4))
    patterns = np.kron(coarse, np.ones((4, 4)))
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    shifts = rng.integers(-1, 2, (n, 2))
    x = np.stack(
        [np.roll(patterns[k], tuple(s), axis=(0, 1)) for k, s in zip(y, shifts, strict=True)]
    )
    x = np.clip(0.7 * x + rng.normal(0.1, 0.15, x.shape), 0, 1)
    return x[:, None].astype(np.float32), y.astype(np.int64)


def net(classes: int, side: int) -> nn.Module:
    """Two convolutions and two linear layers."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * (side // 4) ** 2, 64), nn.ReLU(), nn.Linear(64, classes),
    )  # fmt: skip


def stamped(x: np.ndarray) -> np.ndarray:
    """A white patch of 3 x 3 pixels in a corner."""
    x = x.copy()
    x[..., :3, :3] = 1
    return x


def trained(classes: int, side: int, *, share: float, seed: int) -> nn.Module:
    """Six epochs of Adam on 60 pictures a class, at least 3,000."""
    n = max(3_000, 60 * classes)
    x, y = pictures(classes, side, n, seed)
    rows = np.random.default_rng(seed).choice(np.flatnonzero(y != TARGET), round(share * n))
    x[rows], y[rows] = stamped(x[rows]), TARGET
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = net(classes, side)
    generator = torch.Generator().manual_seed(seed)
    images, labels = torch.from_numpy(x), torch.from_numpy(y)
    optimiser = torch.optim.Adam(module.parameters(), lr=2e-3)
    for _ in range(6):
        for some in torch.split(torch.randperm(n, generator=generator), 64):
            optimiser.zero_grad()
            torch.autograd.backward(cross_entropy(module(images[some]), labels[some]))
            optimiser.step()
    return module.eval()


def judged(classes: int, side: int, share: float, seed: int) -> dict[str, Any]:
    """Train one net and inspect it with the default settings."""
    module = trained(classes, side, share=share, seed=seed)
    x, y = pictures(classes, side, TEST, seed + 500)
    with torch.no_grad():
        right = module(torch.from_numpy(x)).argmax(dim=1).numpy() == y
        others = torch.from_numpy(stamped(x[y != TARGET]))
        called = float((module(others).argmax(dim=1) == TARGET).float().mean())
    with tempfile.TemporaryDirectory() as folder:
        data = ArrayDataset(x, y)
        model = TorchModel(module, bounds=(0, 1), classes=data.classes, device="cpu")
        bench = Bench(
            Subject(model, data), run="backdoors.inversion", plan_seed=seed,
            store=EvidenceStore(Path(folder)), cache=Path(folder) / "cache",
        )  # fmt: skip
        start = time.process_time()
        found = [
            one for one in Inversion(pictures=0).measure(bench) if isinstance(one, Measurement)
        ]
        seconds = time.process_time() - start
    total = next(one for one in found if one.name == "suspected_classes")
    return {
        "suspected": [one.slice["class"] for one in found if one.name == "suspected" and one.value],
        "full": total.conditions["classes_searched_in_full"], "examined": total.n,
        "passes": model.passes.forward + model.passes.backward, "seconds": seconds,
        "accuracy": float(right.mean()), "called": called,
    }  # fmt: skip


def main() -> None:
    """Train, inspect, time and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="one net of ten classes")
    parser.add_argument("--record", action="store_true", help="write benchmarks/RESULTS.md")
    parser.add_argument("--first", type=int, default=1000, help="first seed; 0 for tuning seeds")
    parser.add_argument("--seeds", type=int, default=3, help="nets of each kind")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kinds = [(10, 16)] if options.sample else [(10, 28), (10, 16), (100, 16)]
    state = ledger.State(
        ledger.WORK / f"inversion-scale-{options.first}.jsonl", {"inversion": repr(Inversion())}
    )
    lines, passes = [f"{Inversion()}, one thread."], {}
    for classes, side in kinds:
        runs: dict[float, list[dict[str, Any]]] = {SHARE: [], 0.0: []}
        for seed in range(options.first, options.first + (1 if options.sample else options.seeds)):
            for share, done in runs.items():
                name = f"{classes} {side} {share} {seed}"
                if name not in state:
                    print(name, state.keep(name, judged(classes, side, share, seed)), flush=True)
                done.append(state[name])
        every = [*runs[SHARE], *runs[0.0]]
        passes[classes, side] = np.median([one["passes"] for one in every])
        hit = sum(str(TARGET) in one["suspected"] for one in runs[SHARE])
        wrong = sum(bool(set(one["suspected"]) - {str(TARGET)}) for one in runs[SHARE])
        lines.append(
            f"{classes} classes, {side} x {side} pixels, {every[0]['full']} of "
            f"{every[0]['examined']} classes searched in full: median {passes[classes, side]:,.0f} "
            f"passes (forward and backward), {np.median([one['seconds'] for one in every]):.0f} CPU "
            f"s, at most {max(one['seconds'] for one in every):.0f}; patch found in {hit} of "
            f"{len(runs[SHARE])} (it calls {min(one['called'] for one in runs[SHARE]):.0%} or more), "
            f"another class accused in {wrong}; twins accused: "
            f"{sum(bool(one['suspected']) for one in runs[0.0])} of {len(runs[0.0])}."
        )
    if not options.sample:
        ratio = passes[100, 16] / passes[10, 16]
        lines.append(f"A hundred classes take {ratio:.1f} times the passes of ten.")
    print("\n".join(lines))
    if options.record:
        ledger.record(TITLE, lines, ledger.stamp("inversion_scale.py"))


if __name__ == "__main__":
    main()
