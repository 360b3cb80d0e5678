"""Tables are read as the plan declares them; whatever is not declared is kept as it is stored."""

from __future__ import annotations

import csv
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaudit.datasets.arrays import Splits
from dlaudit.datasets.table_reading import from_texts
from dlaudit.datasets.table_schema import bin_label, binned
from dlaudit.datasets.tables import describe_table, load_csv, load_parquet
from dlaudit.errors import LoadError
from dlaudit.models.declared import usable_inputs

TABLE = """person,age,sex,ward,weight,seen,debt,outcome
007,24,f,N1,1.0,2026-01-31,0.5,good
008,25,m,N2,2.0,2026-02-01,,bad
009,61,,N1,0.5,2025-12-24,1.5,good
010,,m,N2,1.0,2026-03-01,2.5,bad
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "t.csv").write_text(TABLE)
    return tmp_path


def loaded(folder, **args):
    return load_csv(root=folder, path="t.csv", **({"target": "outcome"} | args))


def whole(data):
    (batch,) = data.batches()
    return batch


def test_features_are_what_is_left_and_words_become_codes_in_sorted_order(folder):
    data = loaded(
        folder, id="person", groups=["sex"], bins={"age": [25]}, weight="weight", date="seen"
    )
    assert data.card.facts["features"] == ["ward", "debt"]
    assert data.card.facts["codes"] == {"ward": ["N1", "N2"]}
    np.testing.assert_array_equal(
        whole(data).x, np.float32([[0, 0.5], [1, np.nan], [0, 1.5], [1, 2.5]])
    )
    assert whole(data).x.dtype == np.float32
    assert data.kind == "tabular"
    assert data.card.facts["weight"] == "weight"
    assert data.card.facts["date"] == "seen"


def test_every_column_is_kept_as_it_is_stored(folder):
    columns = whole(loaded(folder, id="person")).columns
    assert list(columns) == TABLE.partition("\n")[0].split(",")
    assert columns["ward"].tolist() == ["N1", "N2", "N1", "N2"]
    assert columns["weight"].tolist() == [1.0, 2.0, 0.5, 1.0]
    assert np.isnan(columns["age"][3])
    assert pd.isna(columns["sex"][2])
    assert columns["person"].tolist() == ["007", "008", "009", "010"]


def test_ids_are_text_as_written_or_the_number_of_the_row(folder):
    assert whole(loaded(folder, id="person")).id.tolist() == ["007", "008", "009", "010"]
    assert whole(loaded(folder)).id.tolist() == ["0", "1", "2", "3"]
    assert whole(loaded(folder, rows="2:")).id.tolist() == ["2", "3"]


def test_an_empty_group_is_unknown_and_bins_are_left_closed(folder):
    groups = whole(loaded(folder, groups=["sex", "age"], bins={"age": [25, 60]})).groups
    assert groups["sex"].tolist() == ["f", "m", "unknown", "m"]
    assert groups["age"].tolist() == ["<25", "25-59", ">=60", "unknown"]


def test_a_binned_column_is_a_group_even_if_groups_does_not_say_so(folder):
    assert list(whole(loaded(folder, groups=["sex"], bins={"age": [25]})).groups) == ["sex", "age"]


@pytest.mark.parametrize(
    ("positive", "y", "classes"),
    [
        (None, [1, 0, 1, 0], ("bad", "good")),
        ("good", [1, 0, 1, 0], ("bad", "good")),
        ("bad", [0, 1, 0, 1], ("good", "bad")),
        (["good", "bad"], [1, 1, 1, 1], ("not good or bad", "good or bad")),
    ],
)
def test_positive_is_class_one(folder, positive, y, classes):
    data = loaded(folder, positive=positive)
    assert whole(data).y.tolist() == y
    assert data.classes == classes


def test_several_negative_values_share_a_class(folder):
    (folder / "t.csv").write_text("score,x\nLow,1\nHigh,2\nMedium,3\nNone given,4\n")
    data = loaded(folder, target="score", positive=["High", "Medium"])
    assert whole(data).y.tolist() == [0, 1, 1, 0]
    assert data.classes == ("not High or Medium", "High or Medium")


@pytest.mark.parametrize(
    ("cells", "y", "classes"),
    [
        ("1 2 2 1", [0, 1, 1, 0], ("1", "2")),
        ("0 2 2 0", [0, 2, 2, 0], ("0", "1", "2")),
        ("0 1 0 1", [0, 1, 0, 1], ("0", "1")),
        ("0.0 1.0 0.0 1.0", [0, 1, 0, 1], ("0", "1")),
        ("True False True True", [1, 0, 1, 1], ("False", "True")),
        ("10 9 10 2", [2, 1, 2, 0], ("2", "9", "10")),
        ("-1 1 1 -1", [0, 1, 1, 0], ("-1", "1")),
    ],
)
def test_targets_are_indices_where_they_count_from_zero_else_sorted_values(
    folder, cells, y, classes
):
    (folder / "t.csv").write_text("y,x\n" + "".join(f"{cell},1\n" for cell in cells.split()))
    data = loaded(folder, target="y")
    assert whole(data).y.tolist() == y
    assert data.classes == classes


def test_declared_classes_give_the_order_and_may_name_indices(folder):
    assert whole(loaded(folder, classes=["good", "bad", "ugly"])).y.tolist() == [0, 1, 0, 1]
    (folder / "t.csv").write_text("y,x\n0,1\n1,2\n")
    data = loaded(folder, target="y", classes=["died", "lived"])
    assert data.classes == ("died", "lived")
    assert whole(data).y.tolist() == [0, 1]


def test_declared_types_decide(folder):
    data = loaded(
        folder, features=["debt", "ward"], types={"debt": "category", "ward": ["N2", "N1"]}
    )
    assert data.card.facts["codes"] == {"debt": [0.5, 1.5, 2.5, None], "ward": ["N2", "N1"]}
    np.testing.assert_array_equal(whole(data).x, [[0, 1], [3, 0], [1, 1], [2, 0]])


def test_gaps_are_told_and_refused_only_by_a_model_that_is_given_them(folder):
    data = loaded(folder, groups=["sex"])
    assert data.card.facts["missing"] == {"age": 1, "debt": 1}
    with pytest.raises(
        LoadError, match="column 'debt': expected a number in every row, got 1 empty cells"
    ):
        usable_inputs(data)
    usable_inputs(data, gaps=True)
    usable_inputs(loaded(folder, features=["ward"]))


def test_numbers_and_words_in_one_column_are_told_and_refused_when_used(folder):
    (folder / "t.csv").write_text("y,code\n0,250\n1,V57\n0,300\n")
    data = loaded(folder, target="y")
    assert data.card.facts["not_numbers"] == {"code": "'V57' in row 1"}
    with pytest.raises(LoadError, match="expected numbers or text, got both \\('V57' in row 1\\)"):
        usable_inputs(data)
    data = loaded(folder, target="y", types={"code": "category"})
    usable_inputs(data)
    assert data.card.facts["codes"] == {"code": ["250", "300", "V57"]}


def test_codes_that_differ_between_splits_are_refused(folder):
    (folder / "a.csv").write_text("y,c\n0,red\n1,blue\n")
    (folder / "b.csv").write_text("y,c\n0,red\n1,green\n")

    def both(**args):
        return Splits(
            {
                split: load_csv(root=folder, path=name, target="y", **args)
                for split, name in (("test", "a.csv"), ("train", "b.csv"))
            }
        )

    with pytest.raises(
        LoadError, match=r"expected the categories \['blue', 'red'\].*types = \{ c = "
    ):
        usable_inputs(both())
    usable_inputs(both(types={"c": ["red", "green", "blue"]}))


def test_the_reading_is_part_of_the_identity(folder):
    prints = [
        loaded(folder, **args).card.fingerprint
        for args in ({}, {"positive": "good"}, {"target": "sex", "rows": "0:2"}, {"rows": "0:2"},
                     {"groups": ["sex"]}, {"features": ["age"]})
    ]  # fmt: skip
    assert len(set(prints)) == 6
    moved = folder / "moved"
    moved.mkdir()
    (moved / "t.csv").write_text(TABLE)
    assert loaded(moved).card.fingerprint == prints[0]


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("\ufefft,y\n1,0\n2,1\n", {"encoding": "utf-8"}),
        ("t;y\n1;0\n2;1\n", {"separator": ";"}),
        ("t\ty\n1\t0\n2\t1\n", {"separator": "\t"}),
        ("t,y\r\n1,0\r\n\r\n2,1\r\n", {}),
        ('"t",y\n"1",0\n"2",1', {}),
    ],
)
def test_csv_comes_in_several_dresses(folder, text, args):
    (folder / "t.csv").write_bytes(text.encode())
    data = loaded(folder, target="y", **args)
    assert data.card.facts["features"] == ["t"]
    assert whole(data).x.tolist() == [[1.0], [2.0]]


def test_other_encodings_are_read_when_they_are_named(folder):
    (folder / "t.csv").write_bytes("stadt,y\nKöln,0\nBonn,1\n".encode("latin-1"))
    data = loaded(folder, target="y", encoding="latin-1")
    assert data.card.facts["codes"] == {"stadt": ["Bonn", "Köln"]}


def test_a_column_without_a_name_is_no_feature(folder):
    (folder / "t.csv").write_text(",a,y\n0,5,0\n1,6,1\n")
    data = loaded(folder, target="y")
    assert data.card.facts["features"] == ["a"]
    assert data.card.facts["columns"] == ["column 1", "a", "y"]


@settings(max_examples=60)
@given(
    st.lists(st.integers(-50, 50), min_size=1, max_size=6, unique=True),
    st.lists(st.floats(-99, 99)),
)
def test_bins_cover_every_number_exactly_once(edges, numbers):
    """By hand: the label is that of the one interval [low, high) that holds the number."""
    edges = sorted(edges)
    intervals = list(zip([-np.inf, *edges], [*edges, np.inf], strict=True))
    labels = [bin_label(edges, place) for place in range(len(edges) + 1)]
    assert len(set(labels)) == len(labels)
    for number, label in zip(numbers, binned(np.array(numbers, dtype=float), edges), strict=True):
        holding = [
            name
            for name, (low, high) in zip(labels, intervals, strict=True)
            if low <= number < high
        ]
        assert holding == [label]


@pytest.mark.parametrize(
    ("edges", "labels"),
    [
        ([25], ["<25", ">=25"]), ([25, 45], ["<25", "25-44", ">=45"]), ([5, 6], ["<5", "5", ">=6"]),
        ([0.5, 1.5], ["<0.5", "[0.5, 1.5)", ">=1.5"]), ([-2, 3], ["<-2", "-2-2", ">=3"]),
    ],
)  # fmt: skip
def test_bins_are_named_as_a_reader_would_name_them(edges, labels):
    assert [bin_label(edges, place) for place in range(len(edges) + 1)] == labels


@settings(max_examples=80)
@given(
    st.lists(
        st.lists(st.sampled_from(["", "1", "2.5", "abc", "a,b", 'say "x"', "ü", "NA", "-3", "1e3"]),
                 min_size=3, max_size=3),
        min_size=1, max_size=12,
    )
)  # fmt: skip
def test_pandas_reads_the_same_values(tmp_path_factory, rows):
    """An independent reader of the same file: numbers, words and gaps are the same."""
    path = tmp_path_factory.getbasetemp() / "p.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["a", "b", "c", "y"], *([*row, "0"] for row in rows)])
    data = load_csv(root=path.parent, path="p.csv", target="y")
    frame = pd.read_csv(path)
    (batch,) = data.batches()
    for name in "abc":
        ours, theirs = pd.Series(batch.columns[name].tolist()), frame[name]
        assert ours.isna().tolist() == theirs.isna().tolist()
        assert [str(v) if isinstance(v, str) else float(v) for v in ours.dropna()] == [
            str(v) if isinstance(v, str) else float(v) for v in theirs.dropna()
        ]


@given(st.lists(st.integers(-(10**17), 10**17).map(str), min_size=1, max_size=9))
def test_whole_numbers_stay_whole(texts):
    _, values, _ = from_texts(texts)
    assert values.dtype == np.int64
    assert values.tolist() == [int(text) for text in texts]


@pytest.fixture
def frame():
    return pd.DataFrame(
        {
            "n": [1, 2, 3], "f": [0.5, np.nan, 2.0], "b": [True, False, True], "s": ["x", None, "y"],
            "c": pd.Categorical(["u", "v", "u"]), "d": pd.to_datetime(["2026-01-01"] * 3),
            "gap": pd.array([1, None, 3], dtype="Int64"), "y": ["no", "yes", "no"],
        }
    )  # fmt: skip


def test_parquet_keeps_its_types(tmp_path, frame):
    frame.to_parquet(tmp_path / "t.parquet")
    data = load_parquet(root=tmp_path, path="t.parquet", target="y", groups=["s"], date="d")
    batch = whole(data)
    assert data.card.facts["features"] == ["n", "f", "b", "c", "gap"]
    assert batch.columns["n"].dtype == np.int64
    assert batch.columns["b"].dtype == bool
    assert batch.columns["c"].tolist() == ["u", "v", "u"]
    assert batch.groups["s"].tolist() == ["x", "unknown", "y"]
    np.testing.assert_array_equal(
        batch.x, np.float32([[1, 0.5, 1, 0, 1], [2, np.nan, 0, 1, np.nan], [3, 2, 1, 0, 3]])
    )


def test_parquet_numbers_beyond_sixty_three_bits_are_kept_as_floats(tmp_path):
    frame = pd.DataFrame({"big": np.array([2**63 + 1, 1], dtype=np.uint64), "y": [0, 1]})
    frame.to_parquet(tmp_path / "t.parquet")
    data = load_parquet(root=tmp_path, path="t.parquet", target="y")
    assert whole(data).x[0, 0] == np.float32(2**63)


def test_parquet_and_csv_of_one_table_are_the_same_data(tmp_path):
    (tmp_path / "t.csv").write_text(TABLE)
    pd.read_csv(tmp_path / "t.csv", dtype={"person": str}).to_parquet(
        tmp_path / "t.parquet", index=False
    )
    args = {"target": "outcome", "groups": ["sex"], "bins": {"age": [25]}, "id": "person"}
    one = whole(load_csv(root=tmp_path, path="t.csv", **args))
    other = whole(load_parquet(root=tmp_path, path="t.parquet", **args))
    np.testing.assert_array_equal(one.x, other.x)
    assert one.id.tolist() == other.id.tolist()
    assert {k: v.tolist() for k, v in one.groups.items()} == {
        k: v.tolist() for k, v in other.groups.items()
    }


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, frame, monkeypatch):
    frame.to_parquet(tmp_path / "t.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(LoadError, match=r"pip install 'dlaudit\[parquet\]'"):
        load_parquet(root=tmp_path, path="t.parquet", target="y")


def test_a_table_is_described_for_a_first_plan(folder):
    described = describe_table(folder / "t.csv")
    assert described.rows == 4
    assert described.targets[0] == "outcome"
    assert described.groups == ("age", "sex")
    assert described.args == {"target": "outcome", "groups": ["age", "sex"]}
    by_name = {column.name: column for column in described.columns}
    assert by_name["debt"].type == "number"
    assert (by_name["sex"].distinct, by_name["sex"].missing) == (2, 1)
    assert all(note.endswith(".") for note in described.notes)
    (folder / "t.csv").write_text(
        "age,code,y\n" + "".join(f"{n},{n},{n % 2}\n" for n in range(30)) + "9,A1,1\n"
    )
    described = describe_table(folder / "t.csv")
    assert described.args == {"target": "y", "bins": {"age": [14.0]}}
    assert any("code holds numbers and text" in note for note in described.notes)
    loaded(folder, **described.args)
    (folder / "t.csv").write_text("a\n1.5\n")
    with pytest.raises(LoadError, match="a column that could be a target"):
        describe_table(folder / "t.csv")
