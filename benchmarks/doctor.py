"""How often the doctor voids an honest model, and how often a masked one gets past it.

Handwritten digits (8 x 8, scikit-learn): a perceptron, a convolutional net and a net with batch
normalisation in turn, every second one trained on adversarial examples, each well trained and examined
after four searches. Then the same nets behind eleven masks, and with inputs in other units. A mask is
caught if the robust accuracy is voided, or within two points of the bare model's. Thresholds were set
on seeds below 20; these are the judging seeds.

    python benchmarks/doctor.py             seeds 1000 to 1019, an hour; a killed one goes on
    python benchmarks/doctor.py --sample    one seed, few digits, the cheap searches, for CI
    python benchmarks/doctor.py --full      also the full examination of five honest nets
    python benchmarks/doctor.py --record    also writes benchmarks/RESULTS.md
    python benchmarks/doctor.py --anew      forgets what an earlier one left

Results lie examination by examination in benchmarks/work/doctor.jsonl.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ledger import WORK, State, record, stamp
from torch import nn

from dlaudit import Attack, Measurement
from dlaudit.attacks.cascade import Cascade
from dlaudit.attacks.fgsm import FGSM
from dlaudit.attacks.pgd import PGD
from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.parts import Epsilon
from dlaudit.audit.statistics import wilson
from dlaudit.datasets.arrays import ArrayDataset
from dlaudit.models.torch_model import TorchModel

HERE = Path(__file__).resolve().parent
BUDGET = Epsilon(0.1)
SEARCHES = {
    "PGD, margin, 20 steps": PGD(epsilon=BUDGET),
    "PGD, cross-entropy, 10 steps": PGD(epsilon=BUDGET, steps=10, loss="cross_entropy"),
    "FGSM": FGSM(epsilon=BUDGET),
    "the cascade": Cascade(epsilon=BUDGET),
}
TOLERATED = 0.02


def beside(name: str) -> Any:
    """A module of planted defects that the tests use too."""
    spec = importlib.util.spec_from_file_location(name, HERE.parent / "tests" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def net_of(seed: int) -> nn.Module:
    """One of three architectures, by the seed; its weights are the seed's."""
    torch.manual_seed(seed)
    if seed % 3 == 0:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    if seed % 3 == 1:
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10),
        )  # fmt: skip
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.GELU(), nn.Linear(64, 64),
        nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def trained(train: Any, seed: int, *, hardened: bool, epochs: int = 25) -> nn.Module:
    """A net trained on digits, or on examples of three steps around them."""
    net, random = net_of(seed), torch.Generator().manual_seed(seed)
    x, y, size = torch.from_numpy(train.x), torch.from_numpy(train.y), 0.1
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=random).split(64):
            inputs, labels = x[rows], y[rows]
            if hardened:
                change = (2 * torch.rand(inputs.shape, generator=random) - 1) * size
                for _ in range(3):
                    at = (inputs + change).clamp(0, 1).requires_grad_()
                    loss = nn.functional.cross_entropy(net(at), labels)
                    (slope,) = torch.autograd.grad(loss, at)
                    change = (change + 0.6 * size * slope.sign()).clamp(-size, size)
                inputs = (inputs + change).clamp(0, 1).detach()
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(inputs), labels).backward()
            optimiser.step()
    return net.eval()


def bench_of(net: nn.Module, x: np.ndarray, y: np.ndarray, bounds: Any, folder: Path) -> Bench:
    """A place of work at one net, as the engine would make it."""
    model = TorchModel(net, bounds=bounds, device="cpu", classes=tuple("0123456789"))
    model.recognise(x[:32])
    subject = Subject(model, ArrayDataset(x, y, name="digits"))
    return Bench(
        subject, run="attacks.examined", plan_seed=1, store=EvidenceStore(folder),
        cache=folder / "cache",
    )  # fmt: skip


class Counted(NamedTuple):
    """One attack's figure, what voids it, and what its examination added, forward and backward."""

    value: float
    voids: list[str]
    added: tuple[float, float]


def counted(attack: Attack, net: nn.Module, test: Any, bounds: Any = (0, 1)) -> Counted:
    """Run an attack on a net."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        bench = bench_of(net, test.x, test.y, bounds, Path(folder))
        bench.answers()
        before = bench.model.passes.cost
        yielded = list(attack.measure(bench))
        spent = bench.model.passes.since(before)
        table = next(one for one in yielded if getattr(one, "name", "").endswith(".samples"))
        with np.load(Path(folder) / table.path) as columns:
            own = columns["forward"].sum(), columns["backward"].sum()
    (figure,) = (one for one in yielded if getattr(one, "name", "") == "robust_accuracy")
    voids = [one.name.removeprefix("doctor.") for one in figure.caveats if one.voids]
    added = (float(spent.forward / own[0] - 1), float(spent.backward / own[1] - 1))
    return Counted(figure.value, voids, added)


def full(net: nn.Module, test: Any) -> tuple[list[str], Any]:
    """What voids an honest net's figure in the full examination, and its cost."""
    from dlaudit.attacks.doctor import Doctor

    check = Doctor(level="full", parameters={"epsilon": BUDGET.plain}, queries=1000)
    with tempfile.TemporaryDirectory() as folder:
        bench = bench_of(net, test.x, test.y, (0, 1), Path(folder))
        bench.answers()
        found = [one for one in check.measure(bench) if isinstance(one, Measurement)]
        return [
            one.slice["diagnostic"] for one in found if one.conditions.get("voids")
        ], bench.model.passes.cost


def share(hits: int, n: int) -> str:
    """A count with Wilson's interval."""
    interval = wilson(hits, n)
    return f"{hits} of {n} [{interval.low:.2f}, {interval.high:.2f}]"


def main() -> None:
    """Train, attack, examine, count and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="one seed and the cheap searches")
    parser.add_argument("--first", type=int, default=1000, help="first seed; 0 for tuning")
    parser.add_argument("--full", action="store_true", help="the full examination of five nets")
    parser.add_argument("--record", action="store_true", help="write benchmarks/RESULTS.md")
    parser.add_argument("--anew", action="store_true", help="forget what an earlier one left")
    options = parser.parse_args()
    torch.set_num_threads(1)
    digits, masked = beside("planted_digits"), beside("masked_digits")
    seeds = range(options.first, options.first + (1 if options.sample else 20))
    searches = dict(list(SEARCHES.items())[: 3 if options.sample else None])
    n = 200 if options.sample else 600
    path = WORK / f"doctor{'_sample' * options.sample}.jsonl"
    if options.anew or options.sample:
        path.unlink(missing_ok=True)
    state = State(path, {"epsilon": BUDGET.plain, "n": n})
    tests = {seed: digits.halves(seed)[1] for seed in seeds}
    tests = {seed: one._replace(x=one.x[:n], y=one.y[:n]) for seed, one in tests.items()}
    nets = {seed: trained(digits.halves(seed)[0], seed, hardened=seed % 2 == 1) for seed in seeds}
    lines = [
        f"Seeds {seeds[0]} to {seeds[-1]}, linf epsilon = {BUDGET.plain}, {n} test digits each."
    ]
    added: list[tuple[float, float]] = []

    def say(words: str) -> None:
        lines.append(words)
        print(words, flush=True)

    def examined(what: str, seed: int, *asked: Any) -> Counted:
        name = f"{what}, {seed}"
        return Counted(*(state[name] if name in state else state.keep(name, counted(*asked))))

    bare: dict[tuple[str, int], float] = {}
    for name, search in searches.items():
        runs = {seed: examined(name, seed, search, nets[seed], tests[seed]) for seed in seeds}
        added += [run.added for run in runs.values()]
        bare |= {(name, seed): run.value for seed, run in runs.items()}
        reasons = sorted({reason for run in runs.values() for reason in run.voids})
        values = [run.value for run in runs.values()]
        say(
            f"honest, {name}: voided {share(sum(bool(run.voids) for run in runs.values()), len(runs))}"
            f"{' (' + ', '.join(reasons) + ')' if reasons else ''}; robust accuracy "
            f"{min(values):.2f} to {max(values):.2f}."
        )
    for mask, put in masked.MASKS.items():
        caught, voided = 0, []
        for name, search in searches.items():
            what = f"{mask}, {name}"
            runs = {
                seed: examined(what, seed, search, put(nets[seed]), tests[seed]) for seed in seeds
            }
            added += [run.added for run in runs.values()]
            voided.append(sum(bool(run.voids) for run in runs.values()))
            caught += sum(
                bool(run.voids) or run.value <= bare[name, seed] + TOLERATED
                for seed, run in runs.items()
            )
        counts = ", ".join(map(str, voided))
        tried = len(searches) * len(seeds)
        say(f"{mask}: caught {share(caught, tried)}; voided {counts} of {len(seeds)} by search.")
    search = PGD(epsilon=Epsilon("8/255"))
    for units, (given, first, bounds) in masked.UNITS.items():
        voids = 0
        for seed in seeds:
            test = tests[seed]._replace(x=given(tests[seed].x).astype(np.float32))
            net = masked.Masked(nets[seed], before=first)
            voids += bool(examined(units, seed, search, net, test, bounds).voids)
        say(f"{units}, PGD at 8/255: voided {share(voids, len(seeds))}.")
    most = [max(part) for part in zip(*added, strict=True)]
    mean = [float(np.mean(part)) for part in zip(*added, strict=True)]
    say(
        f"passes added by the quick examination: forward {mean[0]:.1%} on average, {most[0]:.1%} at "
        f"most; backward {mean[1]:.1%}, {most[1]:.1%} at most (goal 15 %)."
    )
    if options.full:
        for seed in list(seeds)[:5]:
            reasons, cost = full(nets[seed], tests[seed])
            say(
                f"full examination of honest net {seed}: {', '.join(reasons) or 'nothing'} voids; "
                f"{cost.forward:,} forward and {cost.backward:,} backward passes in all."
            )
    if options.record:
        record("The doctor", lines, stamp("doctor.py"))


if __name__ == "__main__":
    main()
