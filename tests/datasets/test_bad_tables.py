"""Every mistake in a table, or in what is said of it, is named with its place."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaudit.datasets.tables import load_csv, load_parquet
from dlaudit.errors import LoadError

GOOD = "id,age,sex,debt,y\na,24,f,1,0\nb,35,m,2,1\nc,46,f,3,0\n"

ROWS = [
    ("empty", b"", {}, "got an empty file"),
    ("only a header", b"a,y\n", {}, "expected at least one row below the header"),
    ("only blank lines", b"\n\n", {}, "got none"),
    ("a Parquet file", b"PAR1 rest PAR1", {}, "kind: Parquet table"),
    ("packed", b"\x1f\x8b\x08\0rest", {}, "kind: gzip archive"),
    ("a picture", b"\x89PNG\r\n\x1a\n", {}, "kind: PNG picture"),
    ("binary", b"a,y\n1,\0\0\n", {}, "got a binary file"),
    ("UTF-16", "a,y\n1,2\n".encode("utf-16"), {}, 'encoding = "utf-16" reads it'),
    ("latin-1", "a,y\nK\xf6ln,1\n".encode("latin-1"), {}, "line 2: expected text in utf-8"),
    ("no such encoding", GOOD.encode(), {"encoding": "utf-99"}, "encoding: expected an encoding that Python"),
    ("semicolons", b"a;y\n1;0\n", {}, 'separator = ";" reads it'),
    ("two separators", GOOD.encode(), {"separator": "::"}, "separator: expected one character"),
    ("a short line", b"a,b,y\n1,2,0\n1,2\n", {}, "line 3: expected 3 fields, as in the header, got 2"),
    ("a long line", b"a,y\n1,0\n1,2,3\n", {}, "line 3: expected 2 fields, as in the header, got 3"),
    ("an open quote", b'a,y\n"1,0\n2,1\n', {}, "expected CSV, got Error: unexpected end of data"),
    ("a column twice", b"a,a,y\n1,2,0\n", {}, "header: expected each column once, got 'a' twice"),
    ("no target", GOOD.encode(), {"target": "why"}, "target: column 'why'"),
    ("a gap in the target", b"a,y\n1,0\n2,\n", {}, "got 1 empty cells, first in row 1"),
    ("a quantity", b"a,y\n1,0.5\n2,0.7\n", {}, "expected classes, got numbers such as 0.5"),
    ("no such positive", GOOD.encode(), {"positive": 3}, "positive to be one of its values (0, 1), got 3"),
    ("nearly positive", GOOD.encode(), {"target": "sex", "positive": "F"}, "positive to be one of"),
    ("no positive", GOOD.encode(), {"positive": []}, "positive: expected at least one value"),
    ("an unknown class", GOOD.encode(), {"target": "sex", "classes": ["f", "w"]}, "classes f, w, got 'm'"),
    ("no such group", GOOD.encode(), {"groups": ["sexe"]}, "Did you mean sex?"),
    ("no such bin", GOOD.encode(), {"bins": {"aged": [3]}}, "bins: column 'aged'"),
    ("bins of words", GOOD.encode(), {"bins": {"sex": [3]}}, "expected numbers to put in bins, got 'f'"),
    ("bins that fall", GOOD.encode(), {"bins": {"age": [30, 20]}}, "rising numbers, got [30, 20]"),
    ("no bins", GOOD.encode(), {"bins": {"age": []}}, "rising numbers, got []"),
    ("no such id", GOOD.encode(), {"id": "idd"}, "id: column 'idd'"),
    ("an id twice", GOOD.encode(), {"id": "sex"}, "expected one row per id, got 2 rows of 'f'"),
    ("an empty id", b"id,y\na,0\n,1\n", {"id": "id"}, "column 'id': expected a value in every row"),
    ("no such type", GOOD.encode(), {"types": {"age": "numbers"}}, "Did you mean number?"),
    ("a type of nothing", GOOD.encode(), {"types": {"aeg": "number"}}, "Did you mean age?"),
    ("words for numbers", GOOD.encode(), {"types": {"sex": "number"}, "id": "id"}, "numbers, as types"),
    ("another category", GOOD.encode(), {"types": {"sex": ["f"]}, "id": "id"}, "categories ['f'], got 'm'"),
    ("no date", GOOD.encode(), {"date": "sex", "id": "id"}, "expected a date in every row"),
    ("no weight", GOOD.encode(), {"weight": "sex", "id": "id"}, "a weight of at least 0"),
    ("a weight below 0", b"w,y\n-1,0\n2,1\n", {"weight": "w"}, "a weight of at least 0"),
    ("the target as a feature", GOOD.encode(), {"features": ["y"]}, "exclude the target, got the target"),
    ("a feature twice", GOOD.encode(), {"features": ["age", "age"]}, "got twice"),
    ("nothing immutable", GOOD.encode(), {"immutable": ["colour"]}, "immutable: column 'colour'"),
    ("rows outside", GOOD.encode(), {"rows": "0:9"}, 'expected a range within "0:3"'),
    ("no rows", GOOD.encode(), {"rows": "rows.txt"}, "nothing of this name"),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_bad_table_is_refused_in_one_sentence(tmp_path, row):
    _, content, args, said = row
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(LoadError) as refused:
        load_csv(root=tmp_path, path="t.csv", **({"target": "y"} | args))
    assert said in str(refused.value)
    for problem in refused.value.problems:
        assert "\n" not in problem
        assert "expected" in problem


def test_all_that_is_wrong_is_told_together(tmp_path):
    (tmp_path / "t.csv").write_text(GOOD)
    with pytest.raises(LoadError) as refused:
        load_csv(root=tmp_path, path="t.csv", target="x", groups=["race"], id="key")
    assert len(refused.value.problems) == 3
    with pytest.raises(LoadError) as refused:
        load_csv(
            root=tmp_path, path="t.csv", target="y", positive=7, weight="sex", id="id", date="age"
        )
    assert len(refused.value.problems) >= 3


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def halved(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def folder(path):
    path.unlink()
    path.mkdir()


def leading_nowhere(path):
    path.unlink()
    path.symlink_to("nowhere")


def frame(**columns):
    def write(path):
        made = pd.DataFrame(columns)
        made.to_parquet(path) if path.suffix == ".parquet" else made.to_feather(path)

    return write


def written(content):
    return lambda path: path.write_bytes(content)


TYPED = [
    ("empty", written(b""), {}, "got an empty file"),
    ("a CSV", written(b"a,y\n1,0\n"), {}, "a Parquet or Arrow file, got a file of the kind: unknown"),
    ("a pickle", written(b"\x80\x04]\x94."), {}, "kind: pickle"),
    ("a picture", written(b"\x89PNG\r\n"), {}, "kind: PNG picture"),
    ("cut off", cut, {}, "Was it copied to its end?"), ("half", halved, {}, "Was it copied to its end?"),
    ("only a magic of Parquet", written(b"PAR1 cut off"), {}, "expected a whole"),
    ("only a magic of Arrow", written(b"ARROW1\0\0cut off"), {}, "expected a whole"),
    ("a stream of nothing", written(b"\xff\xff\xff\xff\xff\xff\xff\x7f"), {}, "expected a whole"),
    ("a folder", folder, {}, "state.json: expected a saved data set"),
    ("a link to nothing", leading_nowhere, {}, "got a link to nothing"),
    ("missing", lambda path: path.rename(path.with_name("u" + path.suffix)), {}, "nothing of this name"),
    ("no rows", frame(age=[], y=[]), {}, "at least one row"),
    ("no target", lambda _: None, {"target": "why"}, "target: column 'why'"),
    ("a gap in the target", frame(y=[0, None, 1]), {}, "got 1 empty cells, first in row 1"),
    ("a quantity", frame(y=[0.5, 0.7]), {}, "expected classes, got numbers such as 0.5"),
    ("no such group", lambda _: None, {"groups": ["sexe"]}, "Did you mean sex?"),
    ("an id twice", lambda _: None, {"id": "sex"}, "expected one row per id, got 2 rows of 'f'"),
    ("words for numbers", lambda _: None, {"types": {"sex": "number"}}, "numbers, as types"),
    ("rows outside", lambda _: None, {"rows": "0:9"}, 'expected a range within "0:3"'),
]  # fmt: skip


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize("row", TYPED, ids=[row[0] for row in TYPED])
def test_a_bad_typed_table_is_refused_in_one_sentence(tmp_path, suffix, row):
    _, spoil, args, said = row
    path = tmp_path / f"t.{suffix}"
    frame(age=[24, 35, 46], sex=["f", "m", "f"], y=[0, 1, 0])(path)
    spoil(path)
    with pytest.raises(LoadError) as refused:
        load_parquet(root=tmp_path, path=path.name, **({"target": "y"} | args))
    assert said in str(refused.value)
    for problem in refused.value.problems:
        assert "\n" not in problem
        assert "expected" in problem


def test_parquet_columns_that_hold_lists_are_refused_when_used(tmp_path):
    from dlaudit.models.declared import usable_inputs

    pd.DataFrame({"a": [[1, 2], [3]], "y": [0, 1]}).to_parquet(tmp_path / "t.parquet")
    data = load_parquet(root=tmp_path, path="t.parquet", target="y")
    with pytest.raises(LoadError, match="column 'a': expected numbers or text"):
        usable_inputs(data)
    pd.DataFrame({"a": [], "y": []}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(LoadError, match="at least one row"):
        load_parquet(root=tmp_path, path="t.parquet", target="y")


@settings(max_examples=120)
@given(
    st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "replace"))
)
def test_any_bytes_are_read_or_refused(tmp_path_factory, noise):
    folder = tmp_path_factory.getbasetemp()
    (folder / "noise.csv").write_bytes(b"a,y\n" + noise)
    try:
        load_csv(root=folder, path="noise.csv", target="y")
    except LoadError as error:
        assert "noise.csv" in str(error)  # noqa: PT017
