"""Inputs that stay on disk are the same inputs; memory stays bounded, whatever their size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaudit.datasets import npy, npz
from dlaudit.datasets.streamed import StreamedDataset
from dlaudit.errors import LoadError, UntrustedModel

X = np.random.default_rng(0).integers(0, 256, size=(3000, 4, 4)).astype(np.uint8)
Y = np.arange(3000) % 3
SITE = np.array(["north", "south"])[np.arange(3000) % 2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    np.save(tmp_path / "site.npy", SITE)
    np.save(tmp_path / "mask.npy", X > 100)
    np.savez(tmp_path / "d.npz", x=X, y=Y, group_site=SITE, mask=X > 100)
    np.savez_compressed(tmp_path / "small.npz", x=X, y=Y, group_site=SITE, mask=X > 100)
    return tmp_path


def whole(data):
    batches = list(data.batches())
    return (
        np.concatenate([batch.x for batch in batches]), np.concatenate([batch.y for batch in batches]),
        np.concatenate([batch.id for batch in batches]),
        np.concatenate([batch.groups["site"] for batch in batches]),
        np.concatenate([batch.mask for batch in batches]),
    )  # fmt: skip


@pytest.mark.parametrize(
    "how", [{}, {"scale": "1/255", "channel_axis": -1}, {"rows": "7:1500"}, {"rows": "rows.txt"}]
)
def test_what_is_read_batch_by_batch_is_what_is_read_at_once(folder, monkeypatch, how):
    (folder / "rows.txt").write_text("2000\n3\n1999\n")
    files = {"labels": "y.npy", "groups": {"site": "site.npy"}, "mask": "mask.npy"}
    held = npz.load(root=folder, path="d.npz", **how)
    monkeypatch.setattr(npz, "HELD", 1000)
    monkeypatch.setattr("dlaudit.datasets.streamed.AT_ONCE", 10_000)
    assert not isinstance(held, StreamedDataset)
    packed = npz.load(root=folder, path="small.npz", **how)
    assert not isinstance(packed, StreamedDataset)
    for data in (
        npz.load(root=folder, path="d.npz", **how), npy.load(root=folder, path="x.npy", **files, **how),
        packed,
    ):  # fmt: skip
        assert data.size() == held.size()
        for mine, expected in zip(whole(data), whole(held), strict=True):
            np.testing.assert_array_equal(mine, expected)
        for word in ("shape", "dtype", "class_counts", "groups"):
            assert data.card.facts[word] == held.card.facts[word]
        assert data.offers == held.offers


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 400), st.data())
def test_any_row_in_any_order(tmp_path_factory, n, most, data):
    folder = tmp_path_factory.getbasetemp()
    np.save(folder / "hx.npy", np.arange(n * 3, dtype=np.float64).reshape(n, 3))
    np.save(folder / "hy.npy", np.zeros(n, dtype=int))
    rows = data.draw(st.lists(st.integers(0, n - 1), min_size=1, unique=True))
    (folder / "hr.txt").write_text("\n".join(map(str, rows)))
    made = npy.load(root=folder, path="hx.npy", labels="hy.npy", rows="hr.txt")
    made.batch = most
    batches = list(made.batches())
    np.testing.assert_array_equal(
        np.concatenate([batch.x for batch in batches])[:, 0], 3 * np.array(rows)
    )
    assert np.concatenate([batch.id for batch in batches]).tolist() == [str(row) for row in rows]


def test_a_number_that_is_none_is_named_by_its_row_in_the_whole(folder):
    x = X.astype(np.float32)
    x[2500] = np.nan
    np.save(folder / "x.npy", x)
    data = npy.load(root=folder, path="x.npy", labels="y.npy")
    with pytest.raises(LoadError, match="NaN or infinity in row 2500"):
        list(data.batches())


def cut(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])


def saved(name, array, **how):
    return lambda folder: np.save(folder / name, array, **how)


LABELS = {"labels": "y.npy"}
BAD = [
    ("truncated", lambda f: cut(f, "x.npy"), LABELS, "bytes for shape (3000, 4, 4)"),
    ("truncated labels", lambda f: cut(f, "y.npy"), LABELS, "bytes for shape (3000,)"),
    ("empty", lambda f: (f / "x.npy").write_bytes(b""), LABELS, "got an empty file"),
    ("text", lambda f: (f / "x.npy").write_text("1,2,3"), LABELS, "kind: unknown"),
    ("an archive", lambda f: (f / "d.npz").rename(f / "x.npy"), LABELS, "kind: npz"),
    ("missing", lambda f: (f / "x.npy").rename(f / "xs.npy"), LABELS, "Did you mean xs.npy?"),
    ("no labels", lambda _: None, {"labels": "z.npy"}, "nothing of this name"),
    ("a folder", lambda f: ((f / "x.npy").unlink(), (f / "x.npy").mkdir()), LABELS, "got a folder"),
    ("column by column", saved("x.npy", np.asfortranarray(np.zeros((3000, 2)))), LABELS, "column by column"),
    ("objects", saved("x.npy", np.array([{}] * 3000, dtype=object), allow_pickle=True), LABELS, "a pickle"),
    ("other lengths", saved("y.npy", Y[:5]), LABELS, "expected 3000 rows, as in x, got 5"),
    ("labels below 0", saved("y.npy", Y - 1), LABELS, "expected class indices"),
    ("text for x", saved("x.npy", np.array([["a"]] * 3000)), LABELS, "expected numbers, got text"),
    ("one axis", saved("x.npy", np.zeros(3000)), LABELS, "expected shape (n, *input)"),
    ("no rows", saved("x.npy", np.zeros((0, 3))), LABELS, "expected at least one row"),
    ("a number", saved("x.npy", np.float32(3)), LABELS, "got a single number"),
    ("NaN at once", saved("x.npy", np.full((3000, 2), np.nan)), LABELS, "NaN or infinity in row 0"),
    ("groups of another length", saved("site.npy", SITE[:9]), LABELS | {"groups": {"a": "site.npy"}}, "3000"),
    ("a mask of greys", saved("mask.npy", X), LABELS | {"mask": "mask.npy"}, "1 where the object is"),
    ("an id twice", lambda _: None, LABELS | {"id": "y.npy"}, "expected one row per id"),
    ("rows outside", lambda _: None, LABELS | {"rows": "0:9999"}, 'a range within "0:3000"'),
    ("no scale", lambda _: None, LABELS | {"scale": "1/0"}, "scale: expected"),
    ("a long header", lambda f: (f / "x.npy").write_bytes(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"), LABELS,
     "an array as numpy stores it"),
]  # fmt: skip


@pytest.mark.parametrize("row", BAD, ids=[row[0] for row in BAD])
def test_a_bad_array_is_refused_in_one_sentence(folder, row):
    name, spoil, args, said = row
    spoil(folder)
    with pytest.raises(LoadError) as refused:
        npy.load(root=folder, path="x.npy", **args)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert isinstance(refused.value, UntrustedModel) == (name == "objects")


RUN = """
import json, resource, sys
from dlaudit.__main__ import main
sys.argv = ["dlaudit", "run", "audit.toml", "--out", "out", "--quiet", "--executor", sys.argv[1]]
try:
    main()
except SystemExit:
    pass
most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps(most * 1024))
"""
PLAN = """
name = "large"
suites = []
[model]
use = "torch"
args = { file = "net.py:build", bounds = [0, 1] }
[data]
use = "npy"
args = { path = "x.npy", labels = "y.npy", groups = { site = "site.npy" } }
[checks."fairness.groups"]
[checks."fairness.disparity"]
[checks."attacks.fgsm"]
epsilon = 0.01
samples = 1000
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["process:1", "inline"])
def test_two_gigabytes_are_audited_in_less_than_one(tmp_path, kind):
    """40,000 pictures of 48 KiB, which take no room on this disk: all but some of them are zeros.

    Every one of them is decided on; the attack reads them all to find the thousand that it moves.
    """
    shape = (40_000, 3, 64, 64)
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, shape)
    x[::97] = 0.5
    del x
    assert (tmp_path / "x.npy").stat().st_size > 1.9e9
    np.save(tmp_path / "y.npy", np.arange(shape[0]) % 2)
    np.save(tmp_path / "site.npy", np.arange(shape[0]) % 3)
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef build():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(12288, 2))\n"
    )
    (tmp_path / "audit.toml").write_text(PLAN)
    # A process starts with the peak of the one that started it (setmax_mm_hiwater_rss at exec), and
    # the tests' own may be above a gigabyte by now; a shell between them hands on a small one.
    command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", RUN, kind]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (tmp_path / "out" / "record.json").is_file(), done.stderr
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert {run["outcome"]["kind"] for run in record["runs"]} == {"measured"}, record["runs"]
    most = json.loads(done.stdout.splitlines()[-1])
    print(f"{kind}: at most {most / 2**20:.0f} MiB resident")
    assert most < 1e9
