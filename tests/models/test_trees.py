"""Boosted trees answer as their own libraries do, and files that are none are refused in one sentence."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import catboost
import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaudit.audit.bench import Subject
from dlaudit.audit.parts import Batch
from dlaudit.audit.subject import fitted
from dlaudit.datasets.tables import load_csv
from dlaudit.errors import LoadError, PlanError
from dlaudit.models import infer, trees

X = np.random.default_rng(0).normal(size=(200, 3))
TWO = (X[:, 0] + X[:, 1] > 0).astype(int)
THREE = np.digitize(X[:, 1], [-0.5, 0.5])
LOADERS = {
    "xgboost": trees.load_xgboost, "lightgbm": trees.load_lightgbm, "catboost": trees.load_catboost,
}  # fmt: skip
SUFFIXES = {"json": "xgboost", "ubj": "xgboost", "txt": "lightgbm", "cbm": "catboost"}


def boosted(objective: str, x, y, **more) -> catboost.CatBoost:
    """A few trees of CatBoost, which leaves no files behind."""
    quiet = {
        "verbose": 0,
        "thread_count": 1,
        "allow_writing_files": False,
        "iterations": 4,
        "depth": 2,
    }
    return catboost.CatBoost({"loss_function": objective, **quiet}).fit(x, y, **more)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trees")
    for name, y, theirs, other in (
        ("two", TWO, "binary:logistic", "binary"), ("three", THREE, "multi:softprob", "multiclass"),
        ("number", X[:, 0], "reg:squarederror", "regression"), ("rank", THREE, "rank:pairwise", "lambdarank"),
    ):  # fmt: skip
        more = {"num_class": 3} if name == "three" else {}
        data = xgboost.DMatrix(X, y)
        booster = xgboost.train({"objective": theirs, "max_depth": 2, **more}, data, 4)
        booster.save_model(folder / f"{name}.json")
        booster.save_model(folder / f"{name}.ubj")
        group = [200] if name == "rank" else None
        booster = lightgbm.train(
            {"objective": other, "verbose": -1, "num_leaves": 4, "num_threads": 1, **more},
            lightgbm.Dataset(X, y, group=group), 4,
        )  # fmt: skip
        booster.save_model(folder / f"{name}.txt")
        objective = {
            "two": "Logloss",
            "three": "MultiClass",
            "number": "RMSE",
            "rank": "QueryRMSE",
        }[name]
        booster = boosted(objective, X, y, **({"group_id": group_ids()} if name == "rank" else {}))
        booster.save_model(str(folder / f"{name}.cbm"))
    words = pd.DataFrame(X).assign(said=np.where(TWO, "well done", "not good"))
    boosted("Logloss", words, TWO, text_features=["said"]).save_model(str(folder / "words.cbm"))
    return folder


def group_ids() -> list[int]:
    return [row // 50 for row in range(200)]


@pytest.mark.parametrize("name", ["two", "three"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_logits_stand_for_the_library_s_own_probabilities(saved, name, suffix):
    path = saved / f"{name}.{suffix}"
    use = infer(path)
    assert use == SUFFIXES[suffix]
    model = LOADERS[use](root=saved, path=path.name)
    if use == "xgboost":
        booster = xgboost.Booster()
        booster.load_model(path)
        expected = booster.predict(xgboost.DMatrix(X))
    elif use == "catboost":
        booster = catboost.CatBoost().load_model(str(path))
        expected = booster.predict(X, prediction_type="Probability")
        expected = expected[:, 1] if name == "two" else expected
    else:
        expected = lightgbm.Booster(model_file=path).predict(X)
    model.recognise(X)
    given = model.logits(X).softmax(1).numpy()
    if name == "two":
        expected = np.stack([1 - expected, expected], axis=1)
    np.testing.assert_allclose(given, expected, atol=1e-5)
    assert model.offers == {"decisions", "logits"}
    assert (model.logits(X).argmax(1).numpy() == (TWO if name == "two" else THREE)).mean() > 0.7


@pytest.mark.parametrize("path", ["number.json", "number.txt", "number.cbm"])
def test_regression_predicts_values(saved, path):
    model = LOADERS[infer(saved / path)](root=saved, path=path)
    values = model.values(Batch(X, np.zeros(200), np.arange(200).astype(str)))
    assert np.corrcoef(values, X[:, 0])[0, 1] > 0.9
    assert model.offers == {"values"}


def test_empty_cells_take_the_branch_that_was_learned(saved):
    gaps = X.copy()
    gaps[::2, 1] = np.nan
    booster = xgboost.Booster(model_file=str(saved / "two.json"))
    model = trees.load_xgboost(root=saved, path="two.json")
    margin = booster.predict(xgboost.DMatrix(gaps), output_margin=True)
    np.testing.assert_allclose(model.logits(gaps).numpy()[:, 1], margin, atol=1e-6)


def spoil(folder: Path, name: str, how) -> None:
    path = folder / name
    path.write_bytes(how(path.read_bytes()))


def changed(content: bytes) -> bytes:
    described = json.loads(content)
    described["learner"]["objective"]["name"] = "no:such"
    return json.dumps(described).encode()


COMMON = [
    ("empty", lambda _: b"", {}, "got an empty file"),
    ("half", lambda c: c[: len(c) // 2], {}, "whole model saved by"),
    ("text", lambda _: b"hello", {}, "expected a"), ("JSON", lambda _: b"{}", {}, "expected a"),
    ("binary", lambda _: b"\xff\xfe\0\1", {}, "expected a"),
    ("a pickle", lambda _: pickle.dumps([1]), {}, "booster.save_model"),
    ("HDF5", lambda _: b"\x89HDF\r\n\x1a\n", {}, "HDF5"), ("a zip", lambda _: b"PK\3\4cut", {}, "damaged"),
    ("missing", lambda c: c, {"path": "gone.bin"}, "nothing of this name"),
    ("a folder", lambda c: c, {"path": "."}, "got a folder"),
    ("no name", lambda c: c, {"path": ""}, "expected"),
    ("bounds reversed", lambda c: c, {"bounds": [1, 0]}, "bounds: expected low below high"),
    ("one class", lambda c: c, {"classes": ["a"]}, "classes: expected at least two"),
    ("no batch", lambda c: c, {"batch": 0}, "batch: expected"),
    ("cut by a line", lambda c: c[:-300], {}, "expected a whole model"),
    ("a link to nothing", lambda c: c, {"path": "dangling"}, "got a link to nothing"),
]  # fmt: skip
ROWS = [
    *(("xgboost", "two.json", *row) for row in COMMON), *(("lightgbm", "two.txt", *row) for row in COMMON),
    *(("catboost", "two.cbm", *row) for row in COMMON if row[0] != "a pickle"),
    ("catboost", "two.cbm", "another magic", lambda c: b"CBM2" + c[4:], {}, "expected a model saved by"),
    ("catboost", "words.cbm", "text", lambda c: c, {"path": "words.cbm"}, "got text or embeddings in [3]"),
    ("catboost", "rank.cbm", "a ranking", lambda c: c, {"path": "rank.cbm"}, "objective: expected one of"),
    ("xgboost", "two.json", "another objective", changed, {}, "expected"),
    ("xgboost", "rank.json", "a ranking", lambda c: c, {"path": "rank.json"}, "objective: expected one of"),
    ("lightgbm", "rank.txt", "a ranking", lambda c: c, {"path": "rank.txt"}, "objective: expected one of"),
]  # fmt: skip


def test_every_library_has_at_least_fifteen_bad_files():
    for use in LOADERS:
        assert sum(row[0] == use for row in ROWS) >= 15


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("row", ROWS, ids=[f"{row[0]}: {row[2]}" for row in ROWS])
def test_what_is_no_model_is_refused_in_one_sentence(saved, tmp_path, row):
    use, name, _, how, args, said = row
    (tmp_path / name).write_bytes((saved / name).read_bytes())
    (tmp_path / "dangling").symlink_to("nowhere")
    spoil(tmp_path, name, how)
    with pytest.raises(LoadError) as refused:
        LOADERS[use](root=tmp_path, **({"path": name} | args))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("path", ["two.json", "two.txt", "two.cbm"])
def test_inputs_of_another_width_are_refused(saved, path):
    model = LOADERS[infer(saved / path)](root=saved, path=path)
    with pytest.raises(
        LoadError, match=r"expected 3 features per sample, as in training, got shape \(2,\)"
    ):
        model.recognise(X[:, :2])


@pytest.mark.parametrize("library", LOADERS)
def test_without_the_library_the_extra_is_named(saved, monkeypatch, library):
    monkeypatch.setitem(__import__("sys").modules, library, None)
    path = {"xgboost": "two.json", "lightgbm": "two.txt", "catboost": "two.cbm"}[library]
    with pytest.raises(LoadError, match=rf"dlaudit\[{library}\]"):
        LOADERS[library](root=saved, path=path)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000), st.binary(min_size=1, max_size=3))
def test_a_damaged_booster_of_xgboost_is_loaded_or_refused(saved, position, noise):
    content = bytearray((saved / "two.json").read_bytes())
    position %= len(content)
    content[position : position + len(noise)] = noise
    (saved / "damaged.json").write_bytes(content)
    try:
        model = trees.load_xgboost(root=saved, path="damaged.json")
        assert model.offers
    except LoadError as error:
        assert "damaged.json" in str(error)  # noqa: PT017


# -- CatBoost's columns of categories ------------------------------------------------------------------

SHOPS = ["north", "south", "west"]


@pytest.fixture(scope="session")
def coded(tmp_path_factory) -> Path:
    """Trees of a category in words, one of numbers, and a number; and the table they were grown on."""
    folder = tmp_path_factory.mktemp("coded")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"shop": rng.choice(SHOPS, 200), "amount": rng.normal(size=200).round(3),
         "grade": rng.integers(1, 4, 200)}
    )  # fmt: skip
    frame["y"] = ((frame.shop == "south") | ((frame.grade == 2) & (frame.amount > 0))).astype(int)
    boosted("Logloss", frame.drop(columns="y"), frame.y, cat_features=["shop", "grade"]).save_model(
        str(folder / "coded.cbm")
    )
    frame.to_csv(folder / "rows.csv", index=False)
    return folder


GRADE = {"types": {"grade": "category"}}


def rows_of(folder: Path, **more):
    return load_csv(root=folder, path="rows.csv", target="y", **more)


def test_codes_become_the_categories_that_the_trees_were_grown_on(coded):
    model = trees.load_catboost(root=coded, path="coded.cbm")
    data = rows_of(coded, **GRADE)
    subject = fitted(Subject(model=model, data=data))
    x = next(iter(data.batches())).x
    frame = pd.read_csv(coded / "rows.csv").drop(columns="y")
    booster = catboost.CatBoost().load_model(str(coded / "coded.cbm"))
    raw = booster.predict(frame, prediction_type="RawFormulaVal")
    logits = subject.model.logits(x).numpy()
    assert logits[:, 1] - logits[:, 0] == pytest.approx(raw, abs=1e-6)
    # A code between two categories is the nearest; what no category stands for is the last or first.
    moved = x.copy()
    moved[:, 0] += 0.4
    assert subject.model.logits(moved).numpy() == pytest.approx(logits)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            {},
            "column 'grade': expected a category in every row, as in training, got numbers. Say types",
        ),
        (
            GRADE | {"features": ["amount", "shop", "grade"]},
            "the columns of training, in their order",
        ),
        (GRADE | {"features": ["shop", "amount"]}, "expected 3 features per sample"),
    ],
)
def test_a_table_that_does_not_hold_the_categories_is_refused(coded, args, said):
    model = trees.load_catboost(root=coded, path="coded.cbm")
    with pytest.raises(PlanError, match=re.escape(said)):
        fitted(Subject(model=model, data=rows_of(coded, **args)))


def test_an_empty_category_and_bare_arrays_are_refused(coded, tmp_path):
    model = trees.load_catboost(root=coded, path="coded.cbm")
    with pytest.raises(
        LoadError, match="a table whose columns of categories are known, got bare arrays"
    ):
        model.logits(np.zeros((2, 3), dtype=np.float32))
    text = (coded / "rows.csv").read_text().replace("north", "", 1)
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(PlanError, match="column 'shop': expected a category in every row"):
        fitted(Subject(model=model, data=rows_of(tmp_path, **GRADE)))
