"""scikit-learn classifiers answer through skops: on arrays, and on tables by the names of columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from dlaudit.audit.parts import Batch
from dlaudit.datasets.tables import load_csv
from dlaudit.errors import LoadError, NotOffered, UntrustedModel
from dlaudit.models import sklearn

RNG = np.random.default_rng(5)
X = RNG.normal(size=(120, 3))
Y = (X[:, 0] + 0.5 * RNG.normal(size=120) > 0).astype(int)
THREE = np.digitize(X[:, 1], [-0.5, 0.5])


@pytest.fixture
def table(tmp_path):
    """Adults with an age, a colour and gaps; the outcome is a word."""
    frame = pd.DataFrame(
        {
            "age": RNG.integers(18, 90, 120),
            "colour": RNG.choice(["red", "green", "blue"], 120),
            "debt": np.where(RNG.random(120) < 0.1, np.nan, RNG.random(120).round(3)),
            "sex": RNG.choice(["f", "m"], 120),
        }
    )
    frame["outcome"] = np.where(frame["age"] + 20 * (frame["colour"] == "red") > 55, "good", "bad")
    frame.to_csv(tmp_path / "t.csv", index=False)
    return frame


@pytest.fixture
def pipeline(table):
    features = ["colour", "age", "debt"]  # not in the order of the table
    prepare = ColumnTransformer(
        [
            ("words", OneHotEncoder(handle_unknown="ignore"), ["colour"]),
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "debt"]),
        ]
    )
    return make_pipeline(prepare, LogisticRegression()).fit(table[features], table["outcome"])


def opened(tmp_path, estimator, **args):
    skops.io.dump(estimator, tmp_path / "m.skops")
    return sklearn.load(root=tmp_path, path="m.skops", **args)


@pytest.mark.parametrize(
    "estimator",
    [LogisticRegression(), RidgeClassifier(), SVC(), HistGradientBoostingClassifier(max_iter=3)],
    ids=lambda one: type(one).__name__,
)
@pytest.mark.parametrize("y", [Y, THREE], ids=["binary", "three classes"])
def test_logits_decide_as_the_classifier_does(tmp_path, estimator, y):
    fitted = estimator.fit(X, y)
    trusted = ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]
    model = opened(tmp_path, fitted, trusted=trusted)
    logits = model.logits(X).numpy()
    assert logits.shape == (120, len(set(y.tolist())))
    np.testing.assert_array_equal(logits.argmax(axis=1), fitted.predict(X))


def test_probabilities_become_their_logarithms(tmp_path):
    fitted = LogisticRegression().fit(X, THREE)
    model = opened(tmp_path, fitted)
    assert model.recognise(X) == "probabilities"
    expected = np.log(fitted.predict_proba(X))
    np.testing.assert_allclose(model.logits(X).numpy(), expected, atol=1e-5)


def test_a_classifier_without_scores_gives_decisions_only(tmp_path):
    votes = SVC(decision_function_shape="ovo").fit(X, np.digitize(X[:, 1], [-1, 0, 1]))
    model = opened(tmp_path, votes)
    assert model.offers == {"decisions", "queries"}
    batch = Batch(X, Y, np.arange(120).astype(str))
    assert model.decide(batch).logits is None
    np.testing.assert_array_equal(model.decide(batch).predicted, votes.predict(X))
    with pytest.raises(NotOffered):
        model.logits(X)


def test_a_pipeline_is_given_the_raw_columns_of_a_table_by_name(tmp_path, table, pipeline):
    model = opened(tmp_path, pipeline)
    data = load_csv(root=tmp_path, path="t.csv", target="outcome", groups=["sex"])
    assert model.offers == {"decisions"}
    model.meet(data)
    (batch,) = data.batches()
    decided = model.decide(batch)
    expected = pipeline.predict(table[["colour", "age", "debt"]])
    np.testing.assert_array_equal(np.array(data.classes)[decided.predicted], expected)
    np.testing.assert_allclose(
        decided.logits, np.log(pipeline.predict_proba(table[["colour", "age", "debt"]])), atol=1e-5
    )


def test_a_pipeline_answers_bare_arrays_once_it_has_met_the_table(tmp_path, table, pipeline):
    """Codes are turned back into words, and columns are put in the order of training."""
    model = opened(tmp_path, pipeline)
    with pytest.raises(NotOffered, match="named columns"):
        model.logits(np.zeros((2, 3), dtype=np.float32))
    data = load_csv(root=tmp_path, path="t.csv", target="outcome", groups=["sex"])
    model.meet(data)
    assert model.offers == {"decisions", "logits"}
    (batch,) = data.batches()
    np.testing.assert_allclose(model.logits(batch.x).numpy(), model.decide(batch).logits, atol=1e-4)


def test_outputs_stand_in_the_order_of_the_data_s_classes(tmp_path, table, pipeline):
    """positive = "bad" makes bad class 1, although the classifier sorts it first."""
    model = opened(tmp_path, pipeline)
    data = load_csv(root=tmp_path, path="t.csv", target="outcome", positive="bad", groups=["sex"])
    assert data.classes == ("good", "bad")
    model.meet(data)
    assert model.classes == ("good", "bad")
    (batch,) = data.batches()
    decided = model.decide(batch)
    expected = pipeline.predict(table[["colour", "age", "debt"]]) == "bad"
    np.testing.assert_array_equal(decided.predicted, expected.astype(int))
    np.testing.assert_array_equal(decided.logits.argmax(axis=1), decided.predicted)
    np.testing.assert_array_equal(model.logits(batch.x).numpy().argmax(axis=1), decided.predicted)


def test_a_column_that_the_table_lacks_is_named_with_the_nearest(tmp_path, table, pipeline):
    table.rename(columns={"colour": "color"}).to_csv(tmp_path / "t.csv", index=False)
    data = load_csv(root=tmp_path, path="t.csv", target="outcome", groups=["sex"])
    with pytest.raises(LoadError, match=r"'colour'.*Did you mean color\?"):
        opened(tmp_path, pipeline).meet(data)


def test_classes_that_the_data_do_not_have_are_named(tmp_path, table, pipeline):
    table["outcome"] = np.where(table["outcome"] == "good", "yes", "no")
    table.to_csv(tmp_path / "t.csv", index=False)
    data = load_csv(root=tmp_path, path="t.csv", target="outcome", groups=["sex"])
    with pytest.raises(LoadError, match="expected those of the data: no, yes, got bad, good"):
        opened(tmp_path, pipeline).meet(data)
    model = opened(tmp_path, pipeline, classes=["no", "yes"])
    model.meet(data)
    assert model.classes == ("no", "yes")


def test_types_that_nobody_vouched_for_are_named(tmp_path):
    forest = RandomForestClassifier(n_estimators=2, random_state=0).fit(X, Y)
    with pytest.raises(UntrustedModel, match=r'add trusted = \["sklearn\.tree\._tree\.Tree"\]'):
        opened(tmp_path, forest)
    model = opened(tmp_path, forest, trusted=["sklearn.tree._tree.Tree"])
    np.testing.assert_array_equal(model.logits(X).numpy().argmax(axis=1), forest.predict(X))
    assert "sklearn.tree._tree.Tree" in model.card.facts["airlock"]["model"]


def test_what_is_no_classifier_is_refused(tmp_path):
    rows = (
        (LinearRegression().fit(X, Y), "has no classes"), (LogisticRegression(), "not fitted"),
        (StandardScaler().fit(X), "has no classes"),
        (RandomForestClassifier(n_estimators=1).fit(X, np.stack([Y, THREE], axis=1)), "several outputs"),
    )  # fmt: skip
    for estimator, said in rows:
        with pytest.raises(LoadError, match=said):
            opened(tmp_path, estimator, trusted=["sklearn.tree._tree.Tree"])


def test_one_pass_is_counted_for_one_decision(tmp_path, table, pipeline):
    model = opened(tmp_path, pipeline)
    data = load_csv(root=tmp_path, path="t.csv", target="outcome", groups=["sex"])
    model.decide(next(iter(data.batches())))
    assert model.passes.cost.forward == 120


@settings(max_examples=30)
@given(st.permutations(["bad", "good", "ugly"]))
def test_permuting_the_data_s_classes_permutes_the_outputs(order):
    model = sklearn.SklearnModel(
        LogisticRegression().fit(X, np.array(["bad", "good", "ugly"])[THREE]), "here"
    )
    before = model.logits(X).numpy()
    model._match_classes(tuple(order))
    columns = [["bad", "good", "ugly"].index(name) for name in order]
    np.testing.assert_array_equal(model.logits(X).numpy(), before[:, columns])


def test_a_column_missing_from_a_batch_is_named(tmp_path, table, pipeline):
    model = opened(tmp_path, pipeline)
    data = load_csv(root=tmp_path, path="t.csv", target="outcome", groups=["sex"])
    (batch,) = data.batches()
    columns = {name: column for name, column in batch.columns.items() if name != "age"}
    with pytest.raises(LoadError, match="data: column 'age': expected a column, as in training"):
        model.decide(batch._replace(columns=columns))
    assert model.recognise(batch.x) == "probabilities"


def test_features_left_out_of_x_leave_decisions_only(tmp_path, table, pipeline):
    """Rows of the table are answered; arrays that lack a column are not."""
    model = opened(tmp_path, pipeline)
    data = load_csv(root=tmp_path, path="t.csv", target="outcome", features=["age", "debt"])
    model.meet(data)
    assert model.offers == {"decisions"}
    assert len(model.decide(next(iter(data.batches()))).predicted) == 120


def test_an_array_classifier_takes_a_table_whose_words_are_codes(tmp_path, table):
    data = load_csv(root=tmp_path, path="t.csv", target="outcome", features=["age", "colour"])
    (batch,) = data.batches()
    fitted = LogisticRegression(max_iter=500).fit(batch.x, batch.y)
    model = opened(tmp_path, fitted)
    assert model.classes == ()
    model.meet(data)
    np.testing.assert_array_equal(
        model.logits(batch.x).numpy().argmax(axis=1), fitted.predict(batch.x)
    )
    np.testing.assert_array_equal(model.decide(batch).predicted, fitted.predict(batch.x))


def test_an_archive_that_changes_its_mind_is_refused(tmp_path, monkeypatch):
    skops.io.dump(LogisticRegression().fit(X, Y), tmp_path / "m.skops")

    def fails(*_, **__):
        raise AttributeError("no such class in this version")

    monkeypatch.setattr(skops.io, "load", fails)
    with pytest.raises(LoadError, match="this skops and scikit-learn can open, got AttributeError"):
        sklearn.load(root=tmp_path, path="m.skops")
