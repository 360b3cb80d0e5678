"""How often an over-trained net is found and its clean twin accused, and how membership attacks rank.

    python benchmarks/overfitting_detection.py            # seeds 0 to 19, then seeds 1000 to 1019
    python benchmarks/overfitting_detection.py --sample   # one seed, for CI
    python benchmarks/overfitting_detection.py --record   # also appends to benchmarks/RESULTS.md

Both twins learn from the same 1,000 samples of four noisy classes: the planted one 300 steps with 128
hidden units, until it knows every label by heart; the clean one 40 steps with 16 and weight decay. Default
parameters throughout; a default rule of the suite decides, or the criterion that stands in the line.
Fails where fewer than 19 of 20 are found, more than 1 of 20 accused, or an order does not hold on average
over the first five seeds. The tuning seeds were looked at first; nothing was changed after the judging seeds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ledger import WORK, State, record, stamp
from torch import nn

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.judge import judge_all
from dlaudit.audit.parts import Check
from dlaudit.audit.record import CheckRun, Cost, Measured, Measurement
from dlaudit.audit.statistics import clopper_pearson
from dlaudit.datasets.arrays import ArrayDataset, Splits
from dlaudit.models.torch_model import TorchModel
from dlaudit.overfitting.canaries import Canaries
from dlaudit.overfitting.gap import Gap
from dlaudit.overfitting.membership import Membership
from dlaudit.overfitting.reference_attacks import ReferenceAttacks
from dlaudit.overfitting.suite import SUITE

TUNING, JUDGING, SAMPLE = range(20), range(1000, 1020), range(1)
CLASSES = tuple("abcd")
N, FEATURES, APART, NOISE = 1000, 20, 0.6, 0.25
RANKED = 5
"""Seeds on which the attacks are ranked: each asks for 16 further trainings."""
METHODS = ("lira_online", "lira_offline", "rmia", "global_threshold")


def noisy_classes(seed: int) -> Splits:
    """Four Gaussian classes, the same for every seed; in both splits one label in four is drawn anew."""
    means = np.random.default_rng(7).normal(size=(len(CLASSES), FEATURES)) * APART
    rng = np.random.default_rng(seed)

    def split(name: str) -> ArrayDataset:
        y = rng.integers(0, len(CLASSES), N)
        x = (means[y] + rng.normal(size=(N, FEATURES))).astype(np.float32)
        y = np.where(rng.random(N) < NOISE, rng.integers(0, len(CLASSES), N), y)
        ids = np.array([f"{name}{row}" for row in range(N)])
        return ArrayDataset(x, y, name=name, id=ids, classes=CLASSES, kind="tabular")

    return Splits({"test": split("test"), "train": split("train")})


def recipe(*, planted: bool) -> Callable[[Any, int], nn.Module]:
    """The function for training: until every label is known by heart, or a small net for a while."""
    width, steps, decay = (128, 300, 0.0) if planted else (16, 40, 0.1)

    def train_fn(dataset: Any, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        x, y = torch.as_tensor(dataset.x), torch.as_tensor(dataset.y)
        net = nn.Sequential(nn.Linear(x.shape[1], width), nn.ReLU(), nn.Linear(width, len(CLASSES)))
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=decay)
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return net

    return train_fn


def told(check: Check, run: str, seed: int, *, planted: bool) -> list[Measurement]:
    """What a check measures of a model trained with this seed."""
    data, train_fn = noisy_classes(seed), recipe(planted=planted)
    (batch,) = data.batches("train")

    class Given(NamedTuple):
        x: np.ndarray
        y: np.ndarray

    model = TorchModel(train_fn(Given(batch.x, batch.y), seed), classes=CLASSES, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(
            Subject(model, data, train_fn=train_fn), run=run, plan_seed=seed,
            store=EvidenceStore(Path(folder)), cache=Path(folder) / "cache",
        )  # fmt: skip
        return [one for one in check.measure(bench) if isinstance(one, Measurement)]


def one(found: Iterable[Measurement], name: str, **where: str) -> Measurement:
    """The measurement of this name and slice."""
    return next(one for one in found if one.name == name and one.slice == where)


def fails(run: str, found: Iterable[Measurement]) -> bool:
    """Whether a default rule of the suite fails."""
    done = CheckRun(
        id=run, check=run, params={}, seed=0, seconds=0.0, device="cpu",
        cost=Cost(forward=0, backward=0), outcome=Measured(measurements=tuple(found)),
    )  # fmt: skip
    rules = tuple(rule for rule in SUITE.rules if rule.run == run)
    assert rules
    return any(verdict.status == "fail" for verdict in judge_all(rules, [done], []))


def beyond(measurement: Measurement, threshold: float) -> bool:
    """Whether the whole interval lies above a threshold."""
    assert measurement.interval is not None
    return measurement.interval.low > threshold


def gap(seed: int, *, planted: bool) -> dict[str, float]:
    """The accuracy gap, and whether the default rule fails."""
    found = told(Gap(), "overfitting.gap", seed, planted=planted)
    return {"found": fails("overfitting.gap", found), "value": one(found, "accuracy_gap").value}


def membership(seed: int, *, planted: bool) -> dict[str, float]:
    """The AUC of the losses, and whether its interval lies above 0.65, the proposed limit."""
    auc = one(told(Membership(), "overfitting.membership", seed, planted=planted), "membership_auc")
    return {"found": beyond(auc, 0.65), "value": auc.value}


def canaries(seed: int, *, planted: bool) -> dict[str, float]:
    """Wrong labels that come back, and whether more than half of them surely do."""
    check = Canaries(share=0.05)
    found = told(check, "overfitting.canaries", seed, planted=planted)
    memory = one(found, "memorisation")
    return {
        "found": beyond(memory, 0.5), "value": memory.value,
        "epsilon": one(found, "epsilon_lower_bound", method="one_training").value,
    }  # fmt: skip


def attacks(seed: int, *, planted: bool) -> dict[str, float]:
    """TPR at 0.1 % FPR and AUC of every attack with 16 reference models."""
    found = told(ReferenceAttacks(), "overfitting.reference_attacks", seed, planted=planted)
    tails = {m: one(found, "membership_tpr", method=m).value for m in METHODS}
    return tails | {f"auc_{m}": one(found, "membership_auc", method=m).value for m in METHODS}


CLAIMS = {
    "accuracy gap, the default rule fails": gap,
    "membership AUC of the losses, interval above 0.65": membership,
    "5 % canaries, memorisation above 0.5": canaries,
}


def measured(
    state: State, ask: Callable[..., dict[str, float]], seeds: range, *, planted: bool
) -> dict[str, list[float]]:
    """Each number over the seeds; what was measured before is read."""
    rows = []
    for seed in seeds:
        name = f"{ask.__name__} {seed} {planted}"
        if name not in state:
            state.keep(name, {key: float(v) for key, v in ask(seed, planted=planted).items()})
        rows.append(state[name])
    return {key: [row[key] for row in rows] for key in rows[0]}


def lines(state: State, name: str, seeds: range) -> Iterator[tuple[str, bool]]:
    """A line per claim, and whether it keeps what is promised."""
    total = len(seeds)
    for claim, ask in CLAIMS.items():
        both = {planted: measured(state, ask, seeds, planted=planted) for planted in (True, False)}
        counts = {planted: int(sum(told["found"])) for planted, told in both.items()}
        shown = [
            f"{count} of {total} [{bounds.low:.2f}, {bounds.high:.2f}], "
            f"{np.mean(both[planted]['value']):.3f} on average"
            for planted, count in counts.items()
            for bounds in [clopper_pearson(count, total)]
        ]
        kept = max(total - counts[True], counts[False]) <= total // 20
        yield f"{name}: {claim}: found {shown[0]}; clean twin accused {shown[1]}.", kept
    ranked = measured(state, attacks, seeds[:RANKED], planted=True)
    tails = {method: float(np.mean(ranked[method])) for method in METHODS}
    said = ", ".join(
        f"{method} {tails[method]:.4f} (AUC {np.mean(ranked[f'auc_{method}']):.3f})"
        for method in METHODS
    )
    kept = tails["lira_online"] >= tails["lira_offline"] >= tails["global_threshold"]
    each = sum(
        a >= b >= c
        for a, b, c in zip(*(ranked[m] for m in (METHODS[0], METHODS[1], METHODS[3])), strict=True)
    )
    line = (
        f"{name}: TPR at 0.1 % FPR with 16 reference models, over-trained net: {said}; "
        f"online >= offline >= global threshold in {each} of the first {len(seeds[:RANKED])} seeds."
    )
    yield line, kept


def main() -> int:
    """Count, print, append to RESULTS.md if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="one seed")
    parser.add_argument("--tuning", action="store_true", help="only the tuning seeds")
    parser.add_argument("--record", action="store_true", help="append to benchmarks/RESULTS.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rounds = [("tuning seeds 0 to 19", TUNING), ("judging seeds 1000 to 1019", JUDGING)]
    if options.sample:
        rounds = [("a sample, seed 0", SAMPLE)]
    elif options.tuning:
        rounds = rounds[:1]
    settings = {"n": N, "features": FEATURES, "apart": APART, "noise": NOISE, "version": 1}
    path = Path(tempfile.mkdtemp()) if options.sample else WORK
    state = State(path / "overfitting_detection.jsonl", settings)
    said, kept = [], True
    for name, seeds in rounds:
        for line, held in lines(state, name, seeds):
            print(line, flush=True)
            said.append(line)
            kept &= held
    if options.record:
        record("Over-trained nets and clean twins", said, stamp("overfitting_detection.py"))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
