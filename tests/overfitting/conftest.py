"""Benches over recorded logits: a split is what a model said about it."""

import numpy as np
import pytest

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.parts import Decisions, Model
from dlaudit.audit.record import Card
from dlaudit.datasets.arrays import ArrayDataset, Splits


class Recorded(Model):
    """Answers that stand in x: logits, or decisions in its first column."""

    def __init__(self, classes, *, logits):
        self.card = Card(name="recorded", fingerprint="0" * 64)
        self.classes = classes
        self.offers = frozenset({"decisions", "logits"} if logits else {"decisions"})

    def logits(self, x):
        import torch

        return torch.as_tensor(np.asarray(x))

    def decide(self, batch):
        if "logits" in self.offers:
            return super().decide(batch)
        return Decisions(predicted=batch.x[:, 0])


@pytest.fixture
def bench_of(tmp_path):
    """(x, y) of train and of test -> a Bench; x holds the logits, or the decisions."""
    made = []

    def build(train, test, *, logits=True, classes=("a", "b"), model=None, ids=(None, None)):
        splits = {
            name: ArrayDataset(
                np.asarray(x, dtype=np.float32), y, classes=classes, kind="tabular", id=column
            )
            for (name, (x, y)), column in zip(
                (("test", test), ("train", train)), reversed(ids), strict=True
            )
        }
        folder = tmp_path / str(len(made))
        made.append(folder)
        return Bench(
            Subject(model or Recorded(classes, logits=logits), Splits(splits)),
            run="overfitting.gap",
            plan_seed=1,
            store=EvidenceStore(folder),
            cache=folder / "cache",
        )

    return build


@pytest.fixture
def told():
    """(check, bench) -> {name, or (name, class): measurement or undefined}, artifacts aside."""

    def measure(check, bench):
        found = {}
        for one in check.measure(bench):
            if hasattr(one, "media_type"):
                continue
            key = (one.name, one.slice["class"]) if one.slice else one.name
            assert key not in found, f"{key} is told twice"
            found[key] = one
        return found

    return measure
