"""Benches over recorded decisions: no net is needed to speak of groups."""

import numpy as np
import pytest

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.parts import Decisions, Model
from dlaudit.audit.record import Card
from dlaudit.datasets.arrays import ArrayDataset
from dlaudit.errors import NotOffered

BASIS = {"special_category_basis": "made up for a test"}


class Recorded(Model):
    """Decisions that stand in the first column of x, as they were recorded."""

    offers = frozenset({"decisions"})

    def __init__(self, classes):
        self.card = Card(name="recorded", fingerprint="0" * 64)
        self.classes = classes

    def logits(self, x):
        raise NotOffered("decisions only")

    def decide(self, batch):
        return Decisions(predicted=batch.x[:, 0])


class Scored(Recorded):
    """Decisions and scores, as they stand in the first two columns of x."""

    def decide(self, batch):
        return Decisions(predicted=batch.x[:, 0], score=batch.x[:, 1].astype(float))


@pytest.fixture
def bench_of(tmp_path):
    """(y, predicted, groups) -> a Bench."""
    made = []

    def build(
        y, predicted, groups, *, classes=("no", "yes"), run="fairness.groups", seed=1,
        score=None, features=None, context=BASIS, **data
    ):  # fmt: skip
        x = np.asarray(predicted)[:, None]
        if score is not None:
            x = np.stack([x[:, 0], score], axis=1)
        if features is not None:
            x = np.concatenate([x, features], axis=1)
        dataset = ArrayDataset(
            x,
            np.asarray(y),
            classes=classes,
            kind="tabular",
            groups={name: np.asarray(column) for name, column in groups.items()},
            **data,
        )
        folder = tmp_path / str(len(made))
        made.append(folder)
        return Bench(
            Subject((Recorded if score is None else Scored)(classes), dataset),
            run=run,
            plan_seed=seed,
            store=EvidenceStore(folder),
            cache=folder / "cache",
            context=context,
        )

    return build


@pytest.fixture
def rows_of():
    """Confusion counts per group -> (y, predicted, group) with one entry per sample."""

    def build(counts):
        y, predicted, group = [], [], []
        for name, (tn, fp, fn, tp) in counts.items():
            y += [0] * (tn + fp) + [1] * (fn + tp)
            predicted += [0] * tn + [1] * fp + [0] * fn + [1] * tp
            group += [name] * (tn + fp + fn + tp)
        return np.array(y), np.array(predicted), np.array(group)

    return build


@pytest.fixture
def told():
    """(check, bench) -> {(name, slice, attribute): measurement or undefined}, artifacts aside."""

    def measure(check, bench):
        found = {}
        for one in check.measure(bench):
            if hasattr(one, "media_type"):
                continue
            where = tuple(one.slice.values()) or (one.conditions.get("attribute"),)
            key = (one.name, *where)
            assert key not in found, f"{key} is told twice"
            found[key] = one
        return found

    return measure
