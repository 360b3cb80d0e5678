"""A factory may return arrays, a torch Dataset or one of dlaudit's own."""

from __future__ import annotations

import numpy as np
import pytest

from dlaudit.datasets import factory
from dlaudit.errors import LoadError

CODE = """
import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

X = np.arange(12, dtype=np.float64).reshape(4, 3)
Y = np.array([0, 1, 1, 0])

class Map(Dataset):
    def __len__(self): return 4
    def __getitem__(self, index): return torch.from_numpy(X[index]), int(Y[index])

class Named(Map):
    def __getitem__(self, index):
        return {"x": X[index], "y": Y[index], "id": f"s{index}", "group_sex": "fm"[index % 2]}

class Stream(IterableDataset):
    def __iter__(self): return iter([(X[i], Y[i]) for i in range(4)])

def mapped(): return Map()
def named(): return Named()
def stream(): return Stream()
def tensors(): return TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
def pair(): return X, Y
def torch_pair(): return torch.from_numpy(X), torch.from_numpy(Y)
def fields(): return {"x": X, "y": Y, "group_sex": list("fmfm")}
def own():
    from dlaudit import ArrayDataset
    return ArrayDataset(X, Y)
def scaled(factor=1): return X * factor, Y

def nothing(): return None
def three(): return X, Y, Y
def fails(): raise FileNotFoundError("data.db")
def no_y(): return {"x": X}
def ragged(): return [[1, 2], [3]], [0, 1]
def shorter(): return X, Y[:3]
def objects(): return {"x": np.array([object()] * 4), "y": Y}
def empty():
    return [][0:0] and None or type("E", (Map,), {"__len__": lambda self: 0})()
def uneven():
    return type("U", (Map,), {"__getitem__": lambda self, i: (X[i, : i + 1], Y[i])})()
def changing():
    item = lambda self, i: {"x": X[i], "y": Y[i]} | ({} if i else {"z": 0})
    return type("C", (Map,), {"__getitem__": item})()
def bare():
    return type("B", (Map,), {"__getitem__": lambda self, i: X[i, 0]})()
number = 3
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "f.py").write_text(CODE)
    return tmp_path


X = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.mark.parametrize(
    "name",
    ["mapped", "named", "stream", "tensors", "pair", "torch_pair", "fields", "own", "scaled"],
)
def test_every_form_gives_the_same_rows(folder, name):
    (batch,) = factory.load(root=folder, file=f"f.py:{name}").batches()
    np.testing.assert_array_equal(batch.x, X)
    assert batch.y.tolist() == [0, 1, 1, 0]
    if name in {"named", "fields"}:
        assert batch.groups["sex"].tolist() == list("fmfm")
    if name == "named":
        assert batch.id.tolist() == ["s0", "s1", "s2", "s3"]


def test_arguments_reach_the_factory_and_the_identity(folder):
    one = factory.load(root=folder, file="f.py:scaled")
    other = factory.load(root=folder, file="f.py:scaled", args={"factor": 2})
    (batch,) = other.batches()
    np.testing.assert_array_equal(batch.x, 2 * X)
    assert one.card.fingerprint != other.card.fingerprint
    assert one.card.fingerprint == factory.load(root=folder, file="f.py:scaled").card.fingerprint
    assert one.card.facts["files"]["code"]["name"] == "f.py"


BAD = [
    ("nothing", {}, "(x, y), or a dict with x and y, got a NoneType"),
    ("three", {}, "got 3 values"),
    ("fails", {}, "expected a data set from calling it without arguments, got FileNotFoundError: data.db"),
    ("scaled", {"args": {"wide": 1}}, "from calling it with wide, got TypeError"),
    ("no_y", {}, "field 'y': expected an array of this name"),
    ("ragged", {}, "field 'x': expected rows of one shape"),
    ("shorter", {}, "field 'y': expected 4 rows, as in x, got 3"),
    ("objects", {}, "field 'x': expected numbers, booleans or text, got type object"),
    ("empty", {}, "expected at least one sample, got none"),
    ("uneven", {}, "sample 1: field 'x': expected shape (1,), as before, got (2,)"),
    ("changing", {}, "sample 1: expected the fields x, y, z, got x, y"),
    ("bare", {}, "sample 0: expected (x, y), or a dict with x and y"),
    ("number", {}, "expected a function, got a int"),
    ("pears", {}, "Did you mean pair?"),
    ("pair", {"classes": ["a"]}, "got 1"),
    ("pair", {"tokens": True}, "expected token ids"),
    ("pair", {"channel_axis": 1}, "channel_axis"),
]  # fmt: skip


@pytest.mark.parametrize("row", BAD, ids=[f"{row[0]} {row[1]}" for row in BAD])
def test_what_is_no_data_set_is_said_in_one_sentence(folder, row):
    name, args, said = row
    with pytest.raises(LoadError) as refused:
        factory.load(root=folder, file=f"f.py:{name}", **args)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
