"""How often over-confidence, over-training and a useless model are found, and clean twins are accused.

    python benchmarks/calibration_detection.py            # tuning seeds 0 to 19, judging 1000 to 1019
    python benchmarks/calibration_detection.py --sample   # two seeds, for CI
    python benchmarks/calibration_detection.py --record   # also appends to benchmarks/RESULTS.md

Nets are trained in earnest, data and twins are made by the seed. A line says what was planted, in how
many of the seeds a default rule fails, and its clean twin in how many, with Clopper and Pearson's bounds.
Default rules and default parameters throughout. Fails where fewer than 19 of 20 are found or more than 1
of 20 accused. Results so far are kept: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ledger import WORK, State, record, stamp

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.judge import judge_all
from dlaudit.audit.parts import Check, Decisions, Model
from dlaudit.audit.record import Card, CheckRun, Cost, Measured, Measurement, Undefined
from dlaudit.audit.statistics import clopper_pearson
from dlaudit.datasets.arrays import ArrayDataset, Splits
from dlaudit.overfitting.baseline import Baseline
from dlaudit.overfitting.calibration import Calibration
from dlaudit.overfitting.history import History
from dlaudit.overfitting.majority import Majority
from dlaudit.overfitting.suite import SUITE

TUNING, JUDGING = range(20), range(1000, 1020)
Rows = tuple[np.ndarray, np.ndarray]


class Case(NamedTuple):
    """What a check works at: splits, answers as (n, C) logits of the test rows, and files."""

    test: Rows
    train: Rows
    logits: np.ndarray
    file: Path | None = None


class Recorded(Model):
    """Logits that were computed beforehand, found by the sample's own number."""

    offers = frozenset({"decisions", "logits"})
    classes = ("a", "b")
    card = Card(name="recorded", fingerprint="0" * 64)

    def __init__(self, logits: np.ndarray) -> None:
        """logits: (n, C) of the test rows, in stored order."""
        self._logits = np.asarray(logits, dtype=np.float32)

    def logits(self, x: Any) -> Any:
        """None for new inputs."""
        raise NotImplementedError

    def decide(self, batch: Any) -> Decisions:
        """What was recorded."""
        own = self._logits[np.asarray(batch.id).astype(int)]
        return Decisions(predicted=own.argmax(axis=1), logits=own)


def noisy(rng: np.random.Generator, n: int, direction: np.ndarray, *, noise: float) -> Rows:
    """Two classes in as many dimensions as ``direction`` has, divided by a plane with a soft edge."""
    x = rng.normal(size=(n, len(direction))).astype(np.float32)
    return x, (x @ direction + rng.normal(scale=noise, size=n) > 0).astype(int)


def trained(
    train: Rows,
    held_out: Rows,
    *,
    seed: int,
    hidden: int,
    epochs: int,
    decay: float,
    batch: int = 100,
) -> tuple[torch.nn.Module, list[tuple[float, float]]]:
    """A small net trained by batches, and its training and validation loss after every epoch."""
    torch.manual_seed(seed)
    net = torch.nn.Sequential(
        torch.nn.Linear(train[0].shape[1], hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 2)
    )
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=decay)
    loss = torch.nn.functional.cross_entropy
    sides = [(torch.tensor(x), torch.tensor(y)) for x, y in (train, held_out)]
    history = []
    for _ in range(epochs):
        for part in torch.randperm(len(train[1])).split(batch):
            optimiser.zero_grad()
            loss(net(sides[0][0][part]), sides[0][1][part]).backward()
            optimiser.step()
        with torch.no_grad():
            history.append(tuple(float(loss(net(x), y)) for x, y in sides))
    return net.eval(), history


def answers(net: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    """Logits of the rows."""
    with torch.no_grad():
        return net(torch.tensor(x)).numpy()


def sharp_head(seed: int, folder: Path, *, planted: bool) -> Case:
    """A trained net whose last layer is multiplied by four, or is as it was trained."""
    del folder
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=10)
    train, test = (noisy(rng, n, direction, noise=3.0) for n in (3000, 3000))
    net, _ = trained(train, test, seed=seed, hidden=8, epochs=8, decay=0.1)
    return Case(test, train, answers(net, test[0]) * (4 if planted else 1))


def turned(seed: int, folder: Path, *, planted: bool) -> Case:
    """A large net that goes on learning 300 noisy samples by heart, or a small one that sees 3,000."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=20)
    train, test = (noisy(rng, n, direction, noise=4.0) for n in (300 if planted else 3000, 1000))
    shape = (
        {"hidden": 64, "epochs": 60, "decay": 0.0} if planted
        else {"hidden": 2, "epochs": 30, "decay": 0.1}
    )  # fmt: skip
    net, history = trained(train, test, seed=seed, **shape)  # type: ignore[arg-type]
    file = folder / "history.csv"
    lines = [f"{epoch},{a!r},{b!r}" for epoch, (a, b) in enumerate(history, start=1)]
    file.write_text("\n".join(["epoch,loss,val_loss", *lines]))
    return Case(test, train, answers(net, test[0]), file)


def fraud(seed: int, folder: Path, *, planted: bool, guess: bool = False) -> Case:
    """One sample in a hundred is fraud; always legitimate or guessing at that rate, or a detector."""
    del folder
    rng = np.random.default_rng(seed)
    n = 20_000
    y = (rng.random(n) < 0.01).astype(int)
    x = np.c_[rng.normal(size=n) + 4 * y, rng.normal(size=n)].astype(np.float32)
    alarm = rng.random(n) < 0.01 if guess else np.zeros(n, bool)
    score = np.where(alarm, 3.0, -6.0) if planted else 3 * (x[:, 0] - 2.5)
    return Case((x, y), (x[:10], y[:10]), np.c_[np.zeros(n), score])


def guessing(seed: int, folder: Path, *, planted: bool) -> Case:
    """See ``fraud``: alarms at the base rate, at random."""
    return fraud(seed, folder, planted=planted, guess=True)


def outdone(seed: int, folder: Path, *, planted: bool) -> Case:
    """A line through a ring, which boosted trees beat; or the ring itself, which nothing beats."""
    del folder
    rng = np.random.default_rng(seed)

    def draw(n: int) -> Rows:
        x = rng.normal(size=(n, 4)).astype(np.float32)
        inside = x[:, 0] ** 2 + x[:, 1] ** 2 < 1.4
        return x, (inside ^ (rng.random(n) < 0.1)).astype(int)

    train, test = draw(1500), draw(2000)
    score = test[0][:, 2] if planted else 1.4 - (test[0][:, :2] ** 2).sum(axis=1)
    return Case(test, train, np.c_[np.zeros(len(score)), score])


class Claim(NamedTuple):
    """What is planted, which run looks for it, and how its check is made from a case."""

    name: str
    case: Callable[..., Case]
    run: str
    check: Callable[[Case], Check]


CLAIMS = (
    Claim("the last layer times four", sharp_head, "overfitting.calibration", lambda _: Calibration()),
    Claim(
        "trained on beyond the turning point", turned, "overfitting.history",
        lambda case: History(path=str(case.file)),
    ),
    Claim("always legitimate, 99 % right", fraud, "overfitting.majority", lambda _: Majority()),
    Claim("alarms at random at the base rate", guessing, "overfitting.majority", lambda _: Majority()),
    Claim("worse than boosted trees", outdone, "overfitting.baseline", lambda _: Baseline()),
)  # fmt: skip


def fails(claim: Claim, seed: int, *, planted: bool) -> bool:
    """Whether a default rule of the suite fails."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case = claim.case(seed, folder, planted=planted)
        data = Splits({
            split: ArrayDataset(x, y, classes=("a", "b"), kind="tabular")
            for split, (x, y) in (("test", case.test), ("train", case.train))
        })  # fmt: skip
        bench = Bench(
            Subject(Recorded(case.logits), data), run=claim.run, plan_seed=seed,
            store=EvidenceStore(folder), cache=folder / "cache",
        )  # fmt: skip
        found = list(claim.check(case).measure(bench))
    outcome = Measured(
        measurements=tuple(one for one in found if isinstance(one, Measurement)),
        undefined=tuple(one for one in found if isinstance(one, Undefined)),
    )
    done = CheckRun(
        id=claim.run, check=claim.run, params={}, seed=0, seconds=0.0, device="cpu",
        cost=Cost(forward=0, backward=0), outcome=outcome,
    )  # fmt: skip
    rules = tuple(rule for rule in SUITE.rules if rule.run == claim.run)
    assert rules
    return any(verdict.status == "fail" for verdict in judge_all(rules, [done], []))


def lines(name: str, seeds: range, state: State | None) -> Iterator[tuple[str, bool]]:
    """A line per claim, and whether it keeps what is promised."""
    for claim in CLAIMS:
        counts = {}
        for planted in (True, False):
            found = []
            for seed in seeds:
                key = f"{claim.name}/{planted}/{seed}"
                if state is None:
                    found.append(fails(claim, seed, planted=planted))
                elif key in state:
                    found.append(state[key])
                else:
                    found.append(state.keep(key, fails(claim, seed, planted=planted)))
            counts[planted] = sum(found)
        shown = [
            f"{count} of {len(seeds)} [{bounds.low:.2f}, {bounds.high:.2f}]"
            for count in counts.values()
            for bounds in [clopper_pearson(count, len(seeds))]
        ]
        kept = len(seeds) - counts[True] <= 1 and counts[False] <= 1
        yield (
            f"{name}: {claim.name}, by {claim.run}: found {shown[0]}, clean twin accused {shown[1]}.",
            kept,
        )


def main() -> int:
    """Count, print, append to RESULTS.md if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="two seeds")
    parser.add_argument("--tuning", action="store_true", help="the tuning seeds alone")
    parser.add_argument("--record", action="store_true", help="append to benchmarks/RESULTS.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rounds = [("tuning seeds 0 to 19", TUNING), ("judging seeds 1000 to 1019", JUDGING)]
    if options.sample:
        rounds = [("a sample, seeds 0 and 1", range(2))]
    elif options.tuning:
        rounds = rounds[:1]
    state = None if options.sample else State(WORK / "calibration_detection.jsonl", {"version": 1})
    said, kept = [], True
    for name, seeds in rounds:
        for line, held in lines(name, seeds, state):
            print(line, flush=True)
            said.append(line)
            kept &= held
    if options.record:
        record(
            "Over-confidence, over-training, useless models",
            said,
            stamp("calibration_detection.py"),
        )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
