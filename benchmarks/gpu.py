"""What the harness leaves of a GPU: robust samples a second, and the share of raw throughput.

A ResNet-18 and a small vision transformer at 32 x 32, built here by hand with seeded weights, are
attacked within a budget that fools nobody: every sample costs the whole attack, whose examination
of itself is off. The share is what the same passes take in a bare loop of forward and backward,
divided by what the attack took through the whole harness: goal at least 90 %. In fp32 and in bf16
(the attacks' ``mixed_precision``, beside a bare loop under autocast); wall-clock, the device waited
for.

    python benchmarks/gpu.py             needs a CUDA device and says so without one
    python benchmarks/gpu.py --sample    the same code with tiny networks on any device, for CI
    python benchmarks/gpu.py --record    also writes benchmarks/RESULTS.md, with the device's name
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from ledger import record, stamp
from msgspec import structs
from torch import Tensor, nn
from torch.nn.functional import relu

from dlaudit import ArrayDataset, Attack, Bench, Epsilon, Measurement, TorchModel
from dlaudit.attacks.cascade import Cascade
from dlaudit.attacks.pgd import PGD
from dlaudit.audit.bench import BLOCK
from dlaudit.audit.bench import Subject as Opened
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.record import Cost

GOAL = 0.9
SIDE, CLASSES = 32, 10
TINY = 1e-6
"""A budget that fools nobody, so that nobody leaves early."""


class Residual(nn.Module):
    """Two 3 x 3 convolutions around a shortcut (He et al. 2016, figure 2)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        """before, after: channels."""
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(after), nn.BatchNorm2d(after)])
        self.short: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            convolution = nn.Conv2d(before, after, 1, stride, bias=False)
            self.short = nn.Sequential(convolution, nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        inner = relu(self.norms[0](self.first(x)))
        return relu(self.norms[1](self.second(inner)) + self.short(x))


def resnet18(width: int = 64) -> nn.Module:
    """ResNet-18 with the stem that is usual for 32 x 32 pixels: 11.2 million parameters."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
    ]  # fmt: skip
    before = width
    for stage in range(4):
        after = width * 2**stage
        layers += [Residual(before, after, 2 if stage else 1), Residual(after, after, 1)]
        before = after
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, CLASSES)]
    return nn.Sequential(*layers, *head)


class Encoder(nn.Module):
    """Attention, then a perceptron, each behind a norm and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        """width: of each token; heads: of the attention."""
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.inner = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        seen = self.norms[0](x)
        x = x + self.attention(seen, seen, seen, need_weights=False)[0]
        return x + self.inner(self.norms[1](x))


class Transformer(nn.Module):
    """A vision transformer (Dosovitskiy et al. 2021); "small" is 384 wide, 12 deep, 6 heads."""

    def __init__(self, width: int = 384, depth: int = 12, heads: int = 6, patch: int = 4) -> None:
        """patch: side of a patch in pixels."""
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, (SIDE // patch) ** 2 + 1, width))
        self.encoders = nn.Sequential(*(Encoder(width, heads) for _ in range(depth)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], dim=1) + self.places
        return self.head(self.encoders(tokens)[:, 0])


class Autocast(nn.Module):
    """A network in bf16, its logits in float32: what the bare loop runs beside mixed precision."""

    def __init__(self, net: nn.Module) -> None:
        """net: in float32, as it is stored."""
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return self.net(x).float()


class Speed(NamedTuple):
    """Seconds of one forward-and-backward pass and of one forward pass, per sample."""

    both: float
    forward: float

    def of(self, cost: Cost) -> float:
        """Seconds that these passes take without any harness."""
        return cost.backward * self.both + (cost.forward - cost.backward) * self.forward


def waited(device: str) -> float:
    """The time, after everything that was asked of the device is done; on the CPU, its own time."""
    if device != "cuda":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def timed(step: Callable[[], object], device: str, *, repeats: int) -> float:
    """Seconds of one step, warmed up."""
    for _ in range(2):
        step()
    start = waited(device)
    for _ in range(repeats):
        step()
    return (waited(device) - start) / repeats


def raw(net: nn.Module, x: Tensor, *, repeats: int) -> Speed:
    """The bare loop on one batch: forward with the inputs' gradient, and forward alone."""
    y = net(x).argmax(dim=1)

    def both() -> Tensor:
        part = x.detach().requires_grad_()
        loss = nn.functional.cross_entropy(net(part), y, reduction="sum")
        return torch.autograd.grad(loss, part)[0]

    def forward() -> Tensor:
        with torch.no_grad():
            return net(x)

    device = x.device.type
    return Speed(
        timed(both, device, repeats=repeats) / len(x),
        timed(forward, device, repeats=repeats) / len(x),
    )


def attacked(attack: Attack, model: TorchModel, data: ArrayDataset) -> tuple[float, Cost, int]:
    """Seconds through the whole harness, passes, and how many samples stayed robust."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench = Bench(
            Opened(model, data), run="attacks.timed", plan_seed=1, store=EvidenceStore(folder),
            cache=folder / "cache",
        )  # fmt: skip
        bench.answers()
        before, start = model.passes.cost, waited(model.device)
        (robust,) = [
            one for one in attack.measure(bench)
            if isinstance(one, Measurement) and one.name == "robust_accuracy"
        ]  # fmt: skip
        seconds = waited(model.device) - start
        return seconds, model.passes.since(before), round(robust.value * robust.n)


def networks(*, sample: bool) -> dict[str, Callable[[], nn.Module]]:
    """What is attacked."""
    if sample:
        return {
            "tiny ResNet-18": lambda: resnet18(4),
            "tiny ViT": lambda: Transformer(width=16, depth=2, heads=2, patch=8),
        }
    return {"ResNet-18": resnet18, "ViT-small": Transformer}


def lines(device: str, *, sample: bool) -> Iterator[str]:
    """One line of a table for each network, precision and attack."""
    n, repeats, steps = (8, 2, 2) if sample else (8 * BLOCK, 20, 20)
    epsilon = Epsilon(TINY)
    attacks = {f"attacks.pgd, {steps} steps": PGD(epsilon=epsilon, steps=steps, doctor="off")}
    small = {"budget": 30} if sample else {}
    attacks["attacks.cascade"] = Cascade(epsilon=epsilon, doctor="off", **small)
    yield "| network | precision | attack | robust samples a second | share of raw throughput |"
    yield "|---|---|---|---|---|"
    x = torch.rand(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    for name, make in networks(sample=sample).items():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            built = make()
        for precision in ("fp32", "bf16"):
            mixed = precision == "bf16"
            model = TorchModel(built, bounds=(0, 1), device=device)
            y = torch.cat([model.logits(part).argmax(dim=1).cpu() for part in x.split(BLOCK)])
            bare = Autocast(built) if mixed else built
            speed = raw(bare, x[:BLOCK].to(device), repeats=repeats)
            data = ArrayDataset(x.numpy(), y.numpy(), classes=tuple(map(str, range(CLASSES))))
            for title, one in attacks.items():
                attack = structs.replace(one, mixed_precision=mixed)
                attacked(attack, model, data)  # warms up
                seconds, cost, robust = attacked(attack, model, data)
                share = speed.of(cost) / seconds
                yield f"| {name} | {precision} | {title} | {robust / seconds:,.1f} | {share:.1%} |"


def main() -> None:
    """Measure, print, and write RESULTS.md if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="tiny networks, on any device")
    parser.add_argument("--record", action="store_true", help="write benchmarks/RESULTS.md")
    options = parser.parse_args()
    cuda = torch.cuda.is_available()
    if not cuda and not options.sample:
        sys.exit("No CUDA device is here: nothing was measured. --sample runs the code on the CPU.")
    device = "cuda" if cuda else "cpu"
    if not cuda:
        torch.set_num_threads(1)
    called = torch.cuda.get_device_name() if cuda else "the CPU, which shows only that it runs"
    table = [f"Device: {called}. Goal: at least {GOAL:.0%} of raw throughput.", ""]
    for line in lines(device, sample=options.sample):
        print(line, flush=True)
        table.append(line)
    stamped = stamp("gpu.py")
    print(table[0], stamped, sep="\n")
    if options.record:
        record(f"What the harness leaves of {called}", table, stamped)


if __name__ == "__main__":
    main()
