"""Rows are chosen by a range or by a file of positions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaudit.datasets.selection import index_file, selected
from dlaudit.errors import LoadError


@given(n=st.integers(1, 50), data=st.data())
def test_a_range_is_that_of_python(tmp_path_factory, n, data):
    start = data.draw(st.none() | st.integers(0, n - 1))
    stop = data.draw(st.none() | st.integers((start or 0) + 1, n))
    written = f"{'' if start is None else start}:{'' if stop is None else stop}"
    chosen = selected(written, tmp_path_factory.getbasetemp(), n)
    np.testing.assert_array_equal(chosen, np.arange(n)[start:stop])


def test_everything_is_chosen_where_nothing_is_said(tmp_path):
    assert selected(None, tmp_path, 5) is None
    assert index_file("1:3", tmp_path) is None


@pytest.mark.parametrize("form", ["txt", "npy"])
def test_positions_keep_their_written_order(tmp_path, form):
    chosen = np.array([3, 0, 4])
    path = tmp_path / f"rows.{form}"
    np.save(path, chosen) if form == "npy" else path.write_text("3\n0\n4\n")
    np.testing.assert_array_equal(selected(path.name, tmp_path, 5), chosen)
    assert index_file(path.name, tmp_path) == path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty file"), (b"\n", "at least one row number"), (b"1\n1\n", "got 1 2 times"),
        (b"1\n9\n", "row numbers from 0 to 4, got 9"), (b"-1\n", "entry 1: expected a row number"),
        (b"row\n1\n", "entry 1: expected a row number, got 'row'"), (b"1.5\n", "got '1.5'"),
        (b"\xff\xfe1", "bytes that are no text"), (b"9" * 30, "expected a row number"),
    ],
)  # fmt: skip
def test_a_bad_list_is_refused(tmp_path, content, said):
    (tmp_path / "rows.txt").write_bytes(content)
    with pytest.raises(LoadError, match=said):
        selected("rows.txt", tmp_path, 5)


@pytest.mark.parametrize("written", ["3:3", "4:2", "0:6", "7:", ":0"])
def test_a_range_that_is_empty_or_leaves_the_table_is_refused(tmp_path, written):
    with pytest.raises(LoadError, match='expected a range within "0:5"'):
        selected(written, tmp_path, 5)


@pytest.mark.parametrize("array", [np.zeros((2, 2), dtype=int), np.array([0.5]), np.array([-1])])
def test_an_array_that_holds_no_positions_is_refused(tmp_path, array):
    np.save(tmp_path / "rows.npy", array)
    with pytest.raises(LoadError, match=r"rows\.npy"):
        selected("rows.npy", tmp_path, 5)
    (tmp_path / "rows.npy").write_bytes(b"\x93NUMPY cut")
    with pytest.raises(LoadError, match="expected an array of row numbers"):
        selected("rows.npy", tmp_path, 5)
