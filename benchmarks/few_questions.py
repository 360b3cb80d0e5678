"""Attacks that see little, against foolbox's and against the optimum: a small net on digits.

``attacks.decision`` and foolbox's HopSkipJump: the median distance of what they find, at the same
number of questions. ``attacks.sparse`` and foolbox's L0FMN: how many samples at most k changed pixels
fool; for k = 1 and 2 also by trying every pixel and every pair of pixels at 0, 1/2 and 1.

    python benchmarks/few_questions.py             186 samples
    python benchmarks/few_questions.py --sample    40 samples, for CI
    python benchmarks/few_questions.py --record    also writes to benchmarks/RESULTS.md
"""

from __future__ import annotations

import argparse
import itertools
from typing import NamedTuple

import numpy as np
import torch
from ledger import record, stamp
from torch import Tensor, nn

from dlaudit import Attack, Batch, Epsilon, Threat, TorchModel
from dlaudit.attacks.base import Norm
from dlaudit.attacks.decision import Decision
from dlaudit.attacks.sparse import Sparse
from dlaudit.attacks.via_foolbox import Foolbox

CURVE = (1, 2, 3, 5)


class Setting(NamedTuple):
    """A trained net and samples that it decides rightly."""

    model: TorchModel
    x: Tensor
    y: Tensor


def setting(n: int) -> Setting:
    """64-48-10 on scikit-learn's digits; the first n samples were not trained on."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    y = torch.tensor(labels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
        optimiser = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9)
        for _ in range(120):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[300:]), y[300:]).backward()
            optimiser.step()
    model = TorchModel(net.eval(), bounds=(0, 1), device="cpu", classes=tuple("0123456789"))
    right = model.logits(x[:n]).argmax(dim=1) == y[:n]
    return Setting(model, x[:n][right], y[:n][right])


def searched(attack: Attack, at: Setting, norm: Norm) -> tuple[Tensor, float, float]:
    """What an attack finds, and the forward and backward passes that each sample cost."""
    before, n = at.model.passes.cost, len(at.y)
    batch = Batch(at.x.clone(), at.y.clone(), np.arange(n).astype(str))
    threat = Threat(norm=norm, epsilon=100.0, bounds=(0, 1))
    found = attack.search(at.model, batch, threat, torch.Generator().manual_seed(0))
    spent = at.model.passes.since(before)
    return found.x, spent.forward / n, spent.backward / n


def distance(x: Tensor, at: Setting, norm: Norm) -> float:
    """The median over the samples, all of which are fooled."""
    order = torch.inf if norm == "linf" else 2
    fooled = at.model.logits(x).argmax(dim=1) != at.y
    delta = torch.linalg.vector_norm((x - at.x).flatten(1).double(), ord=order, dim=1)
    return float(torch.where(fooled, delta, torch.inf).median())


def decisions(at: Setting) -> list[str]:
    """Lines on the walks along the boundary."""
    lines = []
    for norm, steps in itertools.product(("l2", "linf"), (4, 10)):
        theirs = Foolbox.member("HopSkipJumpAttack")(norm=norm, steps=steps)
        x, asked, _ = searched(theirs, at, norm)
        walk = Decision(norm=norm, epsilon=Epsilon(1e-9), queries=int(asked))
        ours, spent, _ = searched(walk, at, norm)
        lines.append(
            f"{norm}: median distance {distance(ours, at, norm):.3f} with {spent:,.0f} questions a "
            f"sample; foolbox's HopSkipJump {distance(x, at, norm):.3f} with {asked:,.0f}."
        )
    return lines


def shares(changed: Tensor) -> str:
    """The share of samples that so many changed pixels fool, in words."""
    return ", ".join(f"{float((changed <= k).double().mean()):.3f} (k = {k})" for k in CURVE)


def counted(x: Tensor, at: Setting) -> Tensor:
    """(n,) how many pixels changed, infinite where nothing is fooled."""
    fooled = at.model.logits(x).argmax(dim=1) != at.y
    count = (x != at.x).flatten(1).sum(dim=1).double()
    return torch.where(fooled, count, torch.inf)


def every_pair(at: Setting) -> Tensor:
    """(n,) 1 or 2 where one or two pixels fool, by trying all of them; else infinite."""
    pairs = torch.tensor(list(itertools.combinations_with_replacement(range(64), 2)))
    single, row = pairs[:, 0] == pairs[:, 1], torch.arange(len(pairs))
    found = torch.full((len(at.y),), torch.inf, dtype=torch.float64)
    for i, values in itertools.product(range(len(at.y)), itertools.product((0, 0.5, 1), repeat=2)):
        tried = at.x[i].flatten().repeat(len(pairs), 1)
        for side, value in enumerate(values):
            tried[row, pairs[:, side]] = value
        fooled = at.model.logits(tried.view(-1, 1, 8, 8)).argmax(dim=1) != at.y[i]
        if fooled.any():
            found[i] = min(float(found[i]), 1.0 if bool((fooled & single).any()) else 2.0)
    return found


def sparse(at: Setting) -> list[str]:
    """Lines on the fewest values."""
    curve = Epsilon(list(CURVE))
    attacks = {
        "attacks.sparse": Sparse(epsilon=curve),
        "attacks.sparse, gradients only": Sparse(epsilon=curve, search_by="gradient"),
        "attacks.sparse, logits only": Sparse(epsilon=curve, search_by="random"),
        "foolbox's L0FMN": Foolbox.member("L0FMNAttack")(norm="l0", epsilon=curve),
    }
    lines = []
    for name, attack in attacks.items():
        x, forward, backward = searched(attack, at, "l0")
        lines.append(
            f"{name}: fooled {shares(counted(x, at))}; {forward:.0f} F + {backward:.0f} B a sample."
        )
    best = every_pair(at)
    one, two = (float((best <= k).double().mean()) for k in (1, 2))
    return [*lines, f"every pixel and every pair tried: {one:.3f} (k = 1), {two:.3f} (k = 2)."]


def main() -> None:
    """Measure, print, and write to RESULTS.md if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="small and quick, for CI")
    parser.add_argument("--record", action="store_true", help="write to benchmarks/RESULTS.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    at = setting(40 if options.sample else 200)
    lines = [f"A 64-48-10 net on digits, {len(at.y)} samples.", *decisions(at), *sparse(at)]
    print("\n".join(lines))
    stamped = stamp("few_questions.py")
    print(stamped)
    if options.record:
        record("Attacks that see little", lines, stamped)


if __name__ == "__main__":
    main()
