"""Which loader reads a data set is told from its name and first bytes."""

from __future__ import annotations

import pytest

from dlaudit.datasets import infer
from dlaudit.errors import LoadError


@pytest.mark.parametrize(
    ("name", "content", "loader"),
    [
        ("d.npz", b"PK\x03\x04", "npz"), ("d.csv", b"a,b\n", "csv"), ("D.CSV", b"a,b\n", "csv"),
        ("d.parquet", b"PAR1", "parquet"), ("d.pq", b"PAR1", "parquet"), ("d", b"PAR1rest", "parquet"),
    ],
)  # fmt: skip
def test_a_data_set_finds_its_loader(tmp_path, name, content, loader):
    (tmp_path / name).write_bytes(content)
    assert infer(tmp_path / name) == loader


def test_a_folder_holds_pictures_and_a_function_is_a_factory(tmp_path):
    (tmp_path / "f.py").write_text("")
    assert infer(tmp_path) == "images"
    assert infer(tmp_path / "f.py:make") == "factory"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("d.npy", b"\x93NUMPY", "Say where the labels are"), ("d.xlsx", b"PK", "a file called d.xlsx"),
        ("f.py", b"", "Write .*f.py:factory"), ("d", b"", "an empty file"),
        ("gone", None, "nothing of this name"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_what_is_accepted(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(LoadError, match=said):
        infer(tmp_path / name)
