"""What the harness costs: attacks.pgd through it, against a raw loop with the same passes.

Both run in one process on one thread, interleaved, measured in CPU seconds; the figure is the
median of the paired ratios. Goal: at most 1.05.

    python benchmarks/overhead.py             512 images, 7 repeats
    python benchmarks/overhead.py --sample    a few seconds, for CI
    python benchmarks/overhead.py --record    also writes to benchmarks/RESULTS.md

The network is the MNIST truth model (DLAUDIT_TRUTHS, default ../shared/truths) at a budget that
fools nobody, so that both sides spend the same passes; without the truths, a convolutional
network of the same size with seeded weights that is asked to keep its own decisions.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from ledger import record, stamp
from torch import Tensor, nn

from dlaudit import ArrayDataset, Epsilon, Measurement, TorchModel
from dlaudit.attacks.pgd import PGD
from dlaudit.audit.bench import BLOCK, Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.record import Cost

ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "500000000",
}
"""glibc keeps its memory: otherwise page faults, up to a quarter of the time, fall on either side by
the luck of the allocator (measured: 0.95 and 1.03 for the same code)."""

HERE = Path(__file__).resolve().parent
TRUTHS = Path(os.environ.get("DLAUDIT_TRUTHS", HERE.parent.parent / "shared" / "truths"))
GOAL = 1.05


class Setting(NamedTuple):
    """A network, images that it decides as labelled, and the budget."""

    name: str
    net: nn.Module
    x: Tensor
    y: Tensor
    epsilon: float


def truth_setting(n: int) -> Setting:
    """The first n MNIST test images that the TRADES network gets right by a margin."""
    folder = TRUTHS / "mnist_trades"
    spec = importlib.util.spec_from_file_location("mnist_trades", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net = module.load(str(folder / "weights.safetensors"))
    with np.load(folder / "mnist_test.npz") as stored:
        x = torch.from_numpy(stored["x"][: n + n // 8, None].astype(np.float32) / 255)
        y = torch.from_numpy(stored["y"][: n + n // 8].astype(np.int64))
    with torch.no_grad():
        logits = net(x)
    first, second = logits.topk(2, dim=1).values.unbind(dim=1)
    right = (logits.argmax(dim=1) == y) & (first - second > 1)
    return Setting("MNIST TRADES network", net, x[right][:n], y[right][:n], 0.01)


def own_setting(n: int) -> Setting:
    """A seeded network of the same shape; labels are its own decisions, the budget is tiny."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(1024, 200), nn.ReLU(), nn.Linear(200, 10),
        ).eval()  # fmt: skip
    x = torch.rand(n, 1, 28, 28, generator=generator)
    with torch.no_grad():
        y = net(x).argmax(dim=1)
    return Setting("seeded network, its own decisions", net, x, y, 1e-6)


def raw(setting: Setting, sizes: list[float]) -> int:
    """The loop as one writes it by hand: random start, steps on the margin, one last look."""
    net, robust = setting.net, 0
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for start in range(0, len(setting.y), BLOCK):
        clean, y = setting.x[start : start + BLOCK], setting.y[start : start + BLOCK]
        label = y.unsqueeze(1)
        low = (clean - setting.epsilon).clamp(0, 1)
        high = (clean + setting.epsilon).clamp(0, 1)
        noise = 2 * torch.rand(clean.shape, generator=generator) - 1
        x = (clean + setting.epsilon * noise).clamp(low, high)
        for size in sizes:
            x = x.detach().requires_grad_()
            logits = net(x)
            others = logits.scatter(1, label, -torch.inf)
            loss = (others.amax(dim=1) - logits.gather(1, label).squeeze(1)).sum()
            (gradient,) = torch.autograd.grad(loss, x)
            x = torch.add(x.detach(), gradient.sign(), alpha=size).clamp_(low, high)
        with torch.no_grad():
            robust += int((net(x).argmax(dim=1) == y).sum())
    return robust


def harnessed(attack: PGD, bench: Bench) -> int:
    """The whole check: blocks, search, judgement, intervals, evidence."""
    for one in attack.measure(bench):
        if isinstance(one, Measurement) and one.name == "robust_accuracy":
            return round(one.value * one.n)
    message = "attacks.pgd measured no robust accuracy"
    raise RuntimeError(message)


def measure(
    setting: Setting, *, steps: int, repeats: int, folder: Path, doctor: str = "off"
) -> dict[str, float]:
    """Interleaved repeats of both; CPU seconds and passes.

    doctor: the attack's examination of itself, which spends passes of its own (compaction.py says how
    many) and is no part of the harness.
    """
    model = TorchModel(setting.net, bounds=(0, 1), device="cpu")
    data = ArrayDataset(setting.x.numpy(), setting.y.numpy(), classes=tuple("0123456789"))
    attack = PGD(epsilon=Epsilon(setting.epsilon), steps=steps, doctor=doctor)
    sizes = attack.sizes(setting.epsilon)

    def bench(repeat: int) -> Bench:
        place = folder / str(repeat)
        made = Bench(
            Subject(model, data),
            run="attacks.pgd",
            plan_seed=1,
            store=EvidenceStore(place),
            cache=folder,
        )
        made.answers()  # a run of its own, with its own cost
        return made

    def timed(side: str, repeat: int) -> float:
        place = bench(repeat)
        before, start = model.passes.cost, time.process_time()
        robust = harnessed(attack, place) if side == "harness" else raw(setting, sizes)
        seconds = time.process_time() - start
        outcome[side] = (robust, model.passes.since(before))
        return seconds

    outcome: dict[str, tuple[int, Cost]] = {}
    seconds: dict[str, list[float]] = {"harness": [], "raw": []}
    for repeat in range(-1, repeats):  # the first pair warms up
        # Whoever comes second finds warmer memory: take turns.
        for side in ("harness", "raw") if repeat % 2 else ("raw", "harness"):
            spent = timed(side, repeat)
            if repeat >= 0:
                seconds[side].append(spent)
    n = len(setting.y)
    return {
        "n": n,
        "robust": outcome["harness"][0],
        "robust_raw": outcome["raw"][0],
        "forward": outcome["harness"][1].forward,
        "backward": outcome["harness"][1].backward,
        "raw_forward": n * (steps + 1),
        "raw_backward": n * steps,
        "harness_seconds": statistics.median(seconds["harness"]),
        "raw_seconds": statistics.median(seconds["raw"]),
        "ratio": statistics.median(
            ours / theirs for ours, theirs in zip(seconds["harness"], seconds["raw"], strict=True)
        ),
    }


def main() -> None:
    """Measure, print, and write to RESULTS.md if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="small and quick, for CI")
    parser.add_argument("--record", action="store_true", help="write to benchmarks/RESULTS.md")
    options = parser.parse_args()
    if ALLOCATOR.items() - os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ALLOCATOR)  # noqa: S606
    n, steps, repeats = (256, 8, 5) if options.sample else (512, 20, 7)
    torch.set_num_threads(1)
    found = (TRUTHS / "mnist_trades").is_dir() and not options.sample
    setting = truth_setting(n) if found else own_setting(n)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(setting, steps=steps, repeats=repeats, folder=Path(folder))
    lines = [
        f"{setting.name}, linf epsilon = {setting.epsilon:g}, {steps} steps, {result['n']} images.",
        f"robust: {result['robust']} in the harness, {result['robust_raw']} in the raw loop.",
        f"passes of the harness: {result['forward']} F + {result['backward']} B.",
        f"passes of the raw loop: {result['raw_forward']} F + {result['raw_backward']} B.",
        f"CPU seconds, medians of {repeats} interleaved repeats, one thread: "
        + " and ".join(f"{name} {result[f'{name}_seconds']:.2f}" for name in ("harness", "raw")),
        f"ratio (median of the paired ratios): {result['ratio']:.3f}; goal at most {GOAL}.",
    ]
    print("\n".join(lines))
    stamped = stamp("overhead.py")
    print(stamped)
    if options.record:
        record("Overhead of the harness", lines, stamped)


if __name__ == "__main__":
    main()
