"""How often planted copies, leaks, wrong labels and drift are found, and clean twins accused.

    python benchmarks/data_quality_detection.py            # tuning seeds 0 to 19
    python benchmarks/data_quality_detection.py --judge    # judging seeds 1000 to 1019
    python benchmarks/data_quality_detection.py --sample   # two seeds, for CI
    python benchmarks/data_quality_detection.py --judge --record   # also writes benchmarks/RESULTS.md

Every claim is a line: what was planted and which default rule fails, in how many of the seeds; its clean
twin (the same data without the defect) accused by any default rule of that run, in how many; Clopper and
Pearson's bounds. Default parameters throughout, but for what the line says. Fails where fewer than 19 of 20
are found or more than 1 of 20 accused.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ledger
import numpy as np

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.judge import judge_all
from dlaudit.audit.parts import Check, Decisions, Model
from dlaudit.audit.record import Card, CheckRun, Cost, Measured, Measurement, Undefined
from dlaudit.audit.statistics import clopper_pearson
from dlaudit.data_quality.drift import Drift
from dlaudit.data_quality.duplicates import Duplicates
from dlaudit.data_quality.label_errors import LabelErrors
from dlaudit.data_quality.leakage import Leakage
from dlaudit.data_quality.suite import SUITE
from dlaudit.datasets.arrays import ArrayDataset, Splits

TUNING, JUDGING, SAMPLE = range(20), range(1000, 1020), range(2)
TITLE = "Planted defects of data and their clean twins"
SHARE = 0.05
WEIGHTS = np.array([3.0, -2.5, 2.0, 1.5, 0, 0, 0, 0])


class Part(NamedTuple):
    """One split: inputs, labels, who a row is about."""

    x: np.ndarray
    y: np.ndarray
    person: np.ndarray


class Fitted(Model):
    """A logistic regression, learned on the training split as it was handed over."""

    offers = frozenset({"decisions", "logits", "queries"})
    card = Card(name="logistic", fingerprint="0" * 64)

    def __init__(self, train: Part) -> None:
        """Learn."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        learner = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        self.learner = learner.fit(train.x.reshape(len(train.x), -1), train.y)
        self.classes = tuple(map(str, range(int(train.y.max()) + 1)))

    def logits(self, x: Any) -> Any:
        """Log probabilities are logits."""
        import torch

        flat = np.asarray(x).reshape(len(x), -1)
        return torch.as_tensor(np.log(np.maximum(self.learner.predict_proba(flat), 1e-12)))

    def decide(self, batch: Any) -> Decisions:
        """The likeliest class."""
        found = self.logits(batch.x).numpy().astype(np.float32)
        return Decisions(predicted=found.argmax(axis=1), logits=found)


def people(n: int, rng: np.random.Generator) -> Part:
    """Eight numbers and two categories; the label follows four of the numbers, with errors of its own."""
    numbers = rng.normal(size=(n, 8))
    numbers[:, 5] = np.exp(numbers[:, 5])
    numbers[:, 6] = np.round(3 * numbers[:, 6])
    logit = 2 * numbers @ WEIGHTS
    y = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int)
    categories = np.c_[rng.choice(4, n, p=[0.5, 0.3, 0.15, 0.05]), rng.integers(0, 12, n)]
    return Part(np.c_[numbers, categories].astype(np.float32), y, rng.permutation(10 * n)[:n])


def table(seed: int, *, n: int = 2000) -> tuple[Part, Part, np.random.Generator]:
    """Training and test split of one source; no person in both."""
    rng = np.random.default_rng(seed)
    whole = people(2 * n, rng)
    train, test = (Part(*(a[part] for a in whole)) for part in (slice(n), slice(n, None)))
    return train, test, rng


def digits(seed: int) -> tuple[Part, Part, np.random.Generator]:
    """Handwritten digits of scikit-learn, 900 to learn from and 800 to test on."""
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(seed)
    x, y = load_digits(return_X_y=True)
    order = rng.permutation(len(x))
    x = x.reshape(-1, 1, 8, 8).astype(np.float32) / 16
    train, test = (Part(x[at], y[at], at) for at in (order[:900], order[900:1700]))
    return train, test, rng


def copied(
    seed: int, *, planted: bool, jitter: float = 0.0, source: Any = table
) -> tuple[Part, Part]:
    """5 % of the test rows are training rows, moved by so much of a standard deviation."""
    train, test, rng = source(seed)
    if planted:
        n = round(SHARE * len(test.y))
        at, of = (
            rng.choice(len(test.y), n, replace=False),
            rng.choice(len(train.y), n, replace=False),
        )
        numbers = slice(0, 8) if source is table else slice(None)
        moved = train.x[of].copy()
        spread = train.x.std(axis=0)
        noise = rng.normal(size=moved.shape) * spread * jitter
        moved[:, numbers] += noise.astype(np.float32)[:, numbers]
        test.x[at], test.y[at] = moved, train.y[of]
    return train, test


def leaking(seed: int, *, planted: bool) -> tuple[Part, Part]:
    """A further column: the label in 97 % of rows with noise upon it, or noise alone."""
    train, test, rng = table(seed)
    made = []
    for part in (train, test):
        told = np.where(rng.random(len(part.y)) < 0.97, part.y, 1 - part.y)
        column = planted * told + rng.normal(scale=0.2, size=len(part.y))
        made.append(part._replace(x=np.c_[part.x, column].astype(np.float32)))
    return made[0], made[1]


def shared(seed: int, *, planted: bool) -> tuple[Part, Part]:
    """5 % of the test rows are of people who stand in training, too, with other rows."""
    train, test, rng = table(seed)
    if planted:
        n = round(SHARE * len(test.y))
        test.person[rng.choice(len(test.y), n, replace=False)] = rng.choice(train.person, n)
    return train, test


def flipped(seed: int, *, planted: bool, source: Any = table) -> tuple[Part, Part]:
    """5 % of the labels of both splits are another class's."""
    train, test, rng = source(seed)
    if planted:
        kinds = int(train.y.max()) + 1
        for part in (train, test):
            at = rng.choice(len(part.y), round(SHARE * len(part.y)), replace=False)
            part.y[at] = (part.y[at] + rng.integers(1, kinds, len(at))) % kinds
    return train, test


def moved(seed: int, *, planted: bool, n: int = 2000, far: float = 0.3) -> tuple[Part, Part]:
    """One number of the test split is higher by 0.3 standard deviations."""
    train, test, _ = table(seed, n=n)
    test.x[:, 4] += far * planted
    return train, test


def mixture(seed: int, *, planted: bool) -> tuple[Part, Part]:
    """A quarter of the commonest category's test rows are of the rarest one instead."""
    train, test, rng = table(seed)
    turned = (test.x[:, 8] == 0) & (rng.random(len(test.y)) < 0.25)
    test.x[turned & planted, 8] = 3
    return train, test


def data_of(train: Part, test: Part) -> Splits:
    """Both splits as a data set: a table, or pictures."""
    pictures = train.x.ndim == 4
    facts: dict[str, Any] = {}
    if not pictures:
        names = [f"x{k}" for k in range(train.x.shape[1])]
        facts = {"features": names, "codes": {"x8": list("abcd"), "x9": list("abcdefghijkl")}}
    classes = tuple(map(str, range(int(train.y.max()) + 1)))

    def split(part: Part, name: str) -> ArrayDataset:
        return ArrayDataset(
            part.x, part.y, name=name, classes=classes, kind="images" if pictures else "tabular",
            id=np.array([f"{name}-{k}" for k in range(len(part.y))]),
            columns={"person": part.person}, fingerprint="1" * 64, facts=facts,
        )  # fmt: skip

    return Splits({"test": split(test, "test"), "train": split(train, "train")})


def told(
    check: Check, run: str, train: Part, test: Part, seed: int
) -> list[Measurement | Undefined]:
    """What a check yields."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(
            Subject(Fitted(train), data_of(train, test)), run=run, plan_seed=seed,
            store=EvidenceStore(Path(folder)), cache=Path(folder) / "cache",
        )  # fmt: skip
        return [one for one in check.measure(bench) if isinstance(one, Measurement | Undefined)]


def failing(run: str, found: list[Measurement | Undefined]) -> set[str]:
    """The measurements of which a default rule of the suite fails."""
    outcome = Measured(
        measurements=tuple(one for one in found if isinstance(one, Measurement)),
        undefined=tuple(one for one in found if isinstance(one, Undefined)),
    )
    done = CheckRun(
        id=run, check=run, params={}, seed=0, seconds=0.0, device="cpu",
        cost=Cost(forward=0, backward=0), outcome=outcome,
    )  # fmt: skip
    rules = tuple(rule for rule in SUITE.rules if rule.run == run)
    verdicts = judge_all(rules, [done], [])
    return {
        rule.measurement
        for rule, verdict in zip(rules, verdicts, strict=True)
        if verdict.status == "fail"
    }


class Claim(NamedTuple):
    """What is planted, what looks for it, and which measurement's rule must fail."""

    name: str
    made: Callable[..., tuple[Part, Part]]
    check: Check
    run: str
    measurement: str


def jittered(seed: int, *, planted: bool) -> tuple[Part, Part]:
    """Near copies of rows of a table."""
    return copied(seed, planted=planted, jitter=0.01)


def noisy_digits(seed: int, *, planted: bool) -> tuple[Part, Part]:
    """Near copies of pictures."""
    return copied(seed, planted=planted, jitter=0.05, source=digits)


def flipped_digits(seed: int, *, planted: bool) -> tuple[Part, Part]:
    """Wrong labels of pictures."""
    return flipped(seed, planted=planted, source=digits)


def few_moved(seed: int, *, planted: bool) -> tuple[Part, Part]:
    """A number that drifted further, seen in few rows."""
    return moved(seed, planted=planted, n=800, far=0.4)


COPIES, LEAKS, LABELS, DRIFT = (
    f"data_quality.{name}" for name in ("duplicates", "leakage", "label_errors", "drift")
)
CLAIMS = (
    Claim("5 % of test rows are training rows", copied, Duplicates(), COPIES, "test_duplicates"),
    Claim(
        "5 % are training rows moved by 1 % of a standard deviation", jittered, Duplicates(), COPIES,
        "test_near_duplicates",
    ),
    Claim(
        "5 % are training digits with 5 % noise", noisy_digits, Duplicates(), COPIES,
        "test_near_duplicates",
    ),
    Claim("a column gives the label away", leaking, Leakage(), LEAKS, "predictive_power"),
    Claim(
        "5 % of test rows are of people in training, ids declared", shared, Leakage(ids=("person",)),
        LEAKS, "leaked_rows",
    ),
    Claim(
        "5 % of labels flipped, the model judges", flipped, LabelErrors(), LABELS, "suspected_labels"
    ),
    Claim(
        "5 % of labels flipped, the features judge", flipped, LabelErrors(judge="features"), LABELS,
        "suspected_labels",
    ),
    Claim(
        "5 % of the digits' labels flipped, the features judge", flipped_digits,
        LabelErrors(judge="features"), LABELS, "suspected_labels",
    ),
    Claim(
        "a number drifted by 0.3 standard deviations, 2,000 rows a side", moved, Drift(), DRIFT,
        "drifted_features",
    ),
    Claim("the same by 0.4, 800 rows a side", few_moved, Drift(), DRIFT, "drifted_features"),
    Claim("a category drifted, 2,000 rows a side", mixture, Drift(), DRIFT, "drifted_features"),
)  # fmt: skip


def line(claim: Claim, seeds: range, state: ledger.State) -> tuple[str, bool]:
    """A claim counted over seeds, and whether it keeps what is promised."""
    for seed in seeds:
        for planted in (True, False):
            key = f"{claim.name} {seed} {planted}"
            if key not in state:
                train, test = claim.made(seed, planted=planted)
                failed = failing(claim.run, told(claim.check, claim.run, train, test, seed))
                state.keep(key, sorted(failed))
    found = sum(claim.measurement in state[f"{claim.name} {seed} True"] for seed in seeds)
    accused = sum(bool(state[f"{claim.name} {seed} False"]) for seed in seeds)
    total = len(seeds)
    shown = []
    for count in (found, accused):
        bounds = clopper_pearson(count, total)
        shown.append(f"{count} of {total} [{bounds.low:.2f}, {bounds.high:.2f}]")
    said = f"{claim.name} ({claim.run.partition('.')[2]}.{claim.measurement})"
    text = f"{said}: found {shown[0]}, clean twin accused {shown[1]}"
    return text, total - found <= 1 and accused <= 1


def lines(seeds: range, state: ledger.State) -> Iterator[tuple[str, bool]]:
    """A line per claim."""
    for claim in CLAIMS:
        yield line(claim, seeds, state)


def main() -> int:
    """Count, print, write to RESULTS.md if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="two seeds")
    parser.add_argument("--judge", action="store_true", help="the judging seeds")
    parser.add_argument("--record", action="store_true", help="write a section of RESULTS.md")
    options = parser.parse_args()
    seeds = SAMPLE if options.sample else JUDGING if options.judge else TUNING
    name = "sample" if options.sample else "judge" if options.judge else "tune"
    path = ledger.WORK / f"data_quality_detection_{name}.jsonl"
    if options.sample:
        path.unlink(missing_ok=True)
    state = ledger.State(path, {"version": 1})
    said, kept = [f"seeds {seeds.start} to {seeds.stop - 1}, default rules"], True
    print(said[0])
    for text, held in lines(seeds, state):
        print(text, flush=True)
        said.append(text)
        kept &= held
    if options.record:
        ledger.record(TITLE, said, ledger.stamp("data_quality_detection.py", torch=False))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
