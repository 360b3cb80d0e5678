"""What each evaluator costs and what it leaves: passes per robust sample, CPU seconds beside raw PGD.

Every contestant attacks the same images of the same network in one run. They take turns block by
block, so that a slow minute of the machine falls on all of them. Whatever a foreign library returns
is cut to the ball and predicted again, like our own.

    python benchmarks/attacks.py             50 MNIST images, about half an hour; a killed one goes on
    python benchmarks/attacks.py --sample    a perceptron on digits, less than a minute, for CI
    python benchmarks/attacks.py --record    also writes benchmarks/RESULTS.md

ART and torchattacks take part where they are installed:

    pip install -e ".[benchmarks]" && pip install --no-deps torchattacks==3.5.1

(torchattacks asks for a release of requests that nothing else accepts, hence --no-deps.)

Passes per robust sample are means over the samples that stayed robust. Ours are counted sample by
sample. Of foreign libraries every call of the network is counted, in proportion to how many of the
robust samples it can hold: the same number where they attack all samples at once.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import io
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import subjects
import torch
from ledger import WORK, State, record, stamp
from msgspec import structs
from subjects import Subject
from torch import Tensor, nn

from dlaudit import ArrayDataset, Attack, Bench, Epsilon, TorchModel
from dlaudit.attacks.pgd import PGD
from dlaudit.audit.bench import Subject as Opened
from dlaudit.audit.evidence import EvidenceStore

BLOCK = 25
RAW = "raw PGD loop, 40 steps"
NOT_THE_LETTER = {
    "ART AutoAttack": "APGD-CE, APGD-DLR, DeepFool and Square, five times each; no FAB",
    "torchattacks AutoAttack": "10 steps instead of 100",
}
"""What carries the name but not the attack (Croce & Hein 2020)."""


class Calls(nn.Module):
    """A network that writes down how many samples each forward and backward call holds."""

    def __init__(self, net: nn.Module) -> None:
        """net: (B, *input) -> (B, C)."""
        super().__init__()
        self.net = net
        self.forwards: list[int] = []
        self.backwards: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        """The network's own logits (B, C)."""
        logits = self.net(x)
        self.forwards.append(len(x))
        if logits.requires_grad:
            logits.register_hook(lambda gradient: self.backwards.append(len(gradient)))
        return logits

    def per_robust(self, robust: int) -> tuple[float, float]:
        """Passes on each robust sample, if every call holds as many of them as it can."""

        def mean(calls: list[int]) -> float:
            return sum(min(1.0, size / robust) for size in calls) if robust else 0.0

        return mean(self.forwards), mean(self.backwards)


Contestant = Callable[[Subject, int], dict[str, float]]


def foreign(attack: Callable[[nn.Module, Subject], Tensor]) -> Contestant:
    """A contestant out of ``attack(network, subject) -> examples``."""

    def run(subject: Subject, seed: int) -> dict[str, float]:
        net = Calls(subject.net).eval()
        quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
        with torch.random.fork_rng(), warnings.catch_warnings(), quiet[0], quiet[1]:
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002  (the libraries draw from the global state)
            start = time.process_time()
            found = attack(net, subject)
            seconds = time.process_time() - start
        for parameter in subject.net.parameters():  # some libraries thaw what was frozen
            parameter.requires_grad_(False)
        moved = found.detach().clamp(subject.x - subject.epsilon, subject.x + subject.epsilon)
        with torch.no_grad():
            robust = int((subject.net(moved.clamp(0, 1)).argmax(dim=1) == subject.y).sum())
        forward, backward = net.per_robust(robust)
        return {
            "robust": robust, "seconds": seconds,
            "forward": robust * forward, "backward": robust * backward,
        }  # fmt: skip

    return run


def ours(make: Callable[[float], Attack]) -> Contestant:
    """A contestant out of one of dlaudit's attacks, through the whole harness.

    Its examination of itself is off: no other contestant examines itself.
    """

    def run(subject: Subject, seed: int) -> dict[str, float]:
        model = TorchModel(subject.net, bounds=(0, 1), device="cpu", classes=tuple("0123456789"))
        data = ArrayDataset(subject.x.numpy(), subject.y.numpy())
        attack = structs.replace(make(subject.epsilon), doctor="off")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            bench = Bench(
                Opened(model, data), run="attacks.contest", plan_seed=seed,
                store=EvidenceStore(folder), cache=folder / "cache",
            )  # fmt: skip
            bench.answers()
            start = time.process_time()
            kept = [one for one in attack.measure(bench) if hasattr(one, "path")]
            seconds = time.process_time() - start
            (table,) = [one for one in kept if one.name == "attacks.contest.samples"]
            with np.load(folder / table.path) as stored:
                robust = stored["robust"]
                return {
                    "robust": int(robust.sum()), "seconds": seconds,
                    "forward": float(stored["forward"][robust].sum()),
                    "backward": float(stored["backward"][robust].sum()),
                }  # fmt: skip

    return run


def raw_loop(net: nn.Module, subject: Subject) -> Tensor:
    """PGD as one writes it by hand: random start, 40 steps on the margin, no look at who is fooled."""
    epsilon, label = subject.epsilon, subject.y.unsqueeze(1)
    low, high = (subject.x - epsilon).clamp(0, 1), (subject.x + epsilon).clamp(0, 1)
    x = (subject.x + epsilon * (2 * torch.rand_like(subject.x) - 1)).clamp(low, high)
    for size in PGD(steps=40).sizes(epsilon):
        x = x.detach().requires_grad_()
        logits = net(x)
        others = logits.scatter(1, label, -torch.inf)
        loss = (others.amax(dim=1) - logits.gather(1, label).squeeze(1)).sum()
        (gradient,) = torch.autograd.grad(loss, x)
        x = torch.add(x.detach(), gradient.sign(), alpha=size).clamp(low, high)
    return x.detach()


def foolbox_pgd(net: nn.Module, subject: Subject) -> Tensor:
    """foolbox's PGD, 40 steps, cross-entropy."""
    import foolbox

    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfPGD(steps=40)
    _, clipped, _ = attack(model, subject.x, subject.y, epsilons=subject.epsilon)
    return clipped


def torchattacks_by(name: str, **parameters: Any) -> Callable[[nn.Module, Subject], Tensor]:
    """An attack of torchattacks by its name."""

    def attack(net: nn.Module, subject: Subject) -> Tensor:
        library = importlib.import_module("torchattacks")
        made = getattr(library, name)(net, eps=subject.epsilon, **parameters)
        return made(subject.x, subject.y)

    return attack


def art_by(name: str, **parameters: Any) -> Callable[[nn.Module, Subject], Tensor]:
    """An attack of ART by its name."""

    def attack(net: nn.Module, subject: Subject) -> Tensor:
        evasion = importlib.import_module("art.attacks.evasion")
        classification = importlib.import_module("art.estimators.classification")
        classifier = classification.PyTorchClassifier(
            model=net, loss=nn.CrossEntropyLoss(), input_shape=tuple(subject.x.shape[1:]),
            nb_classes=10, clip_values=(0.0, 1.0), device_type="cpu",
        )  # fmt: skip
        logging.getLogger("art").setLevel(logging.ERROR)
        made = getattr(evasion, name)(
            classifier, eps=subject.epsilon, batch_size=len(subject.y), **parameters
        )
        return torch.from_numpy(made.generate(subject.x.numpy(), subject.y.numpy()))

    return attack


def contestants(epsilon: float) -> dict[str, Contestant]:
    """Everybody who is here, in the order of the table; who is missing is said."""
    found: dict[str, Contestant] = {
        RAW: foreign(raw_loop),
        "attacks.pgd, 40 steps": ours(lambda e: PGD(epsilon=Epsilon(e), steps=40)),
        "foolbox PGD, 40 steps": foreign(foolbox_pgd),
    }
    if installed("torchattacks"):
        step = epsilon / 10
        found["torchattacks PGD, 40 steps"] = foreign(torchattacks_by("PGD", alpha=step, steps=40))
    if installed("art"):
        found["ART PGD, 40 steps"] = foreign(
            art_by("ProjectedGradientDescentPyTorch", eps_step=epsilon / 10, max_iter=40,
                   verbose=False)
        )  # fmt: skip
    for name, module, kind, parameters in (
        ("attacks.cascade, standard", "cascade", "Cascade", {"setting": "standard"}),
        ("attacks.cascade, thorough", "cascade", "Cascade", {"setting": "thorough"}),
        ("attacks.autoattack", "autoattack", "AutoAttack", {}),
    ):
        made = attack_class(f"dlaudit.attacks.{module}", kind)
        if made is not None:
            found[name] = ours(
                lambda e, made=made, parameters=parameters: made(epsilon=Epsilon(e), **parameters)
            )
    if installed("torchattacks"):
        found["torchattacks AutoAttack"] = foreign(torchattacks_by("AutoAttack", n_classes=10))
    if installed("art") and installed("multiprocess"):
        found["ART AutoAttack"] = foreign(art_by("AutoAttack", eps_step=epsilon / 10))
    return found


def attack_class(module: str, kind: str) -> type[Attack] | None:
    """An attack of dlaudit's, or None where this version has none."""
    try:
        return getattr(importlib.import_module(module), kind)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return None


def installed(library: str) -> bool:
    """Whether a library can be imported."""
    try:
        importlib.import_module(library)
    except ImportError:
        return False
    return True


def contest(subject: Subject, state: State, *, skip: tuple[str, ...]) -> list[str]:
    """Everybody attacks every block, in turns; the table, the raw loop first."""
    here = {
        name: one
        for name, one in contestants(subject.epsilon).items()
        if not any(part in name for part in skip)
    }
    for name, one in here.items():  # imports and first allocations are nobody's cost
        if "AutoAttack" not in name and "autoattack" not in name:
            one(subject.first(1), 0)
    blocks = range(-(-len(subject.y) // BLOCK))
    for block in blocks:
        rows = slice(block * BLOCK, (block + 1) * BLOCK)
        part = subject._replace(x=subject.x[rows], y=subject.y[rows])
        names = list(here)
        for name in names[block % len(names) :] + names[: block % len(names)]:
            key = f"{name} / {block}"
            if key not in state:
                found = state.keep(key, here[name](part, block))
                print(f"block {block}: {name}: {found['seconds']:.1f} s", flush=True)
    return tabled(subject, state, list(here), len(blocks))


def tabled(subject: Subject, state: State, names: list[str], blocks: int) -> list[str]:
    """The sums over all blocks as lines of a table."""
    sums = {
        name: {
            key: sum(state[f"{name} / {block}"][key] for block in range(blocks))
            for key in ("robust", "seconds", "forward", "backward")
        }
        for name in names
    }
    lines = [
        "| attack | left robust | passes per robust sample, F + B | CPU seconds, of the raw loop |",
        "|---|---|---|---|",
    ]
    n, base = len(subject.y), sums[RAW]["seconds"]
    for name, one in sums.items():
        robust = one["robust"]
        passes = "none is left"
        if robust:
            passes = f"{one['forward'] / robust:,.0f} + {one['backward'] / robust:,.0f}"
        lines.append(f"| {name} | {robust} of {n} | {passes} | {one['seconds'] / base:.2f} |")
    told = [f"{name}: {told}." for name, told in NOT_THE_LETTER.items() if name in sums]
    return [*lines, "", *told] if told else lines


def main() -> None:
    """Measure, print, and write RESULTS.md if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="small and quick, for CI")
    parser.add_argument("--record", action="store_true", help="write benchmarks/RESULTS.md")
    parser.add_argument("--images", type=int, default=50, help="how many images are attacked")
    parser.add_argument("--skip", default="", help="leave out attacks of these names, by commas")
    options = parser.parse_args()
    torch.set_num_threads(1)
    quick = options.sample or not subjects.present()
    whole = subjects.tiny() if quick else subjects.published("mnist_trades", 0.3)
    subject = whole.rightly_decided(BLOCK if options.sample else options.images)
    settings = {"subject": subject.name, "epsilon": subject.epsilon, "n": len(subject.y)}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) if options.sample else WORK
        state = State(place / "attacks.jsonl", settings)
        skip = tuple(part for part in options.skip.split(",") if part)
        table = contest(subject, state, skip=skip)
    lines = [
        (
            f"{subject.name}, linf epsilon = {subject.epsilon:g}, {len(subject.y)} images that it "
            f"decides as labelled, blocks of {BLOCK} in turns, one thread."
        ),
        "",
        *table,
    ]
    missing = [name for name in ("torchattacks", "art") if not installed(name)]
    lines += ["", f"Not installed, so not measured: {', '.join(missing)}."] if missing else []
    stamped = stamp("attacks.py")
    print("\n".join([*lines, stamped]))
    if options.record:
        record("What attacks cost", lines, stamped)


if __name__ == "__main__":
    main()
