"""Benches over tables and pictures made in memory; a model that repeats what its first column says."""

import numpy as np
import pytest

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.parts import Model
from dlaudit.audit.record import Artifact, Card
from dlaudit.datasets.arrays import ArrayDataset, Splits


class FirstColumn(Model):
    """Class 1 where the first number of the input is above 0, with logits."""

    offers = frozenset({"decisions", "logits"})

    def __init__(self, classes):
        self.card = Card(name="first column", fingerprint="0" * 64)
        self.classes = classes

    def logits(self, x):
        import torch

        first = torch.as_tensor(np.asarray(x).reshape(len(x), -1)[:, 0].astype(np.float32))
        rest = torch.full((len(first), len(self.classes) - 2), -9.0)
        return torch.cat([torch.stack([-3 * first, 3 * first], dim=1), rest], dim=1)


class Deciding(FirstColumn):
    """Decisions alone."""

    offers = frozenset({"decisions"})

    def decide(self, batch):
        return super().decide(batch)._replace(logits=None)


@pytest.fixture
def looking():
    """Classes -> a network of two layers that looks at the first of four columns alone."""

    def build(classes):
        import torch

        from dlaudit.models.torch_model import TorchModel

        net = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Linear(2, 2))
        with torch.no_grad():
            for layer in net:
                layer.weight.zero_()
                layer.bias.zero_()
            net[0].weight[:, 0] = torch.tensor([1.0, -1.0])
            net[1].weight[:] = torch.tensor([[-1.0, 1.0], [1.0, -1.0]])
        return TorchModel(net, classes=classes)

    return build


@pytest.fixture
def bench_of(tmp_path):
    """(x, y) of the test split, and of others by name -> a Bench."""
    made = []

    def build(
        test, train=None, *, run="data_quality.x", seed=1, classes=("no", "yes"), kind="tabular",
        ids=None, columns=None, facts=None, model=FirstColumn, **others
    ):  # fmt: skip
        parts = {"test": test, **({} if train is None else {"train": train}), **others}

        def split(name):
            x, y = parts[name]
            named = {key: value[name] for key, value in (columns or {}).items()}
            described = (facts or {}).get(name, (facts or {}).get("test", {}))
            return ArrayDataset(
                np.asarray(x, dtype=np.float32), np.asarray(y), name=name, kind=kind,
                classes=classes, id=None if ids is None else np.asarray(ids[name]),
                columns=named, facts={**described, **({"columns": list(named)} if named else {})},
            )  # fmt: skip

        folder = tmp_path / str(len(made))
        made.append(folder)
        data = Splits({name: split(name) for name in parts})
        return Bench(
            Subject(model(classes), data), run=run, plan_seed=seed, store=EvidenceStore(folder),
            cache=folder / "cache",
        )  # fmt: skip

    return build


@pytest.fixture
def told():
    """(check, bench) -> {(name, slice values…): measurement or undefined}, and artifacts by name."""

    def measure(check, bench):
        found, kept = {}, {}
        for one in check.measure(bench):
            if isinstance(one, Artifact):
                kept[one.name] = one
                continue
            key = (one.name, *one.slice.values())
            assert key not in found, f"{key} is told twice"
            found[key] = one
            assert one.name in type(check).measures
        return found, kept

    return measure


@pytest.fixture
def rows_kept(tmp_path):
    """An artifact -> its table."""

    def load(artifact):
        (path,) = tmp_path.rglob(artifact.path.partition("/")[2])
        return dict(np.load(path, allow_pickle=False))

    return load


@pytest.fixture
def deciding():
    return Deciding
