"""The decision-only attack: exact on a flat boundary, nearer than foolbox's, and never a false success."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dlaudit import Batch, Bench, Epsilon, Measurement, Threat
from dlaudit.attacks.ball import Ball
from dlaudit.attacks.decision import Decision
from dlaudit.attacks.pgd import PGD
from dlaudit.attacks.via_foolbox import Foolbox
from dlaudit.audit.bench import Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.parts import decode_parameter
from dlaudit.audit.record import Card
from dlaudit.models.black_box import BlackBox
from dlaudit.models.sklearn import SklearnModel


def decisions_of(model: Any, bounds: Any = (0, 1)) -> BlackBox:
    """The same model behind a wall: class indices are all it says."""
    return BlackBox(
        lambda x: model.logits(x).argmax(dim=1).numpy(), bounds=bounds, classes=model.classes,
        card=Card(name="walled", fingerprint="walled"), form="decisions",
    )  # fmt: skip


def searched(attack: Any, model: Any, x: np.ndarray, y: np.ndarray, **threat: Any) -> Any:
    batch = Batch(torch.from_numpy(x), torch.from_numpy(y), np.arange(len(y)).astype(str))
    settings_ = {"norm": attack.norm, "epsilon": 100.0, "bounds": (0, 1)} | threat
    return attack.search(model, batch, Threat(**settings_), torch.Generator().manual_seed(0))


def distances(found: Any, x: np.ndarray, norm: str) -> np.ndarray:
    delta = (found.x.numpy().astype(float) - x).reshape(len(x), -1)
    return np.linalg.norm(delta, ord=np.inf if norm == "linf" else 2, axis=1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_on_a_flat_boundary_it_comes_as_near_as_there_is_to_come(norm: Any, linear: Any) -> None:
    """The distance is the margin over the dual norm of the weights (no range to cut it)."""
    model = linear.model()
    right = linear.margin > 0
    x, y = linear.x[right][:60], linear.y[right][:60]
    attack = Decision(norm=norm, epsilon=Epsilon(1e-6), queries=2000)
    found = searched(attack, decisions_of(model, None), x, y, bounds=None)
    dual = np.abs(linear.w).sum() if norm == "linf" else np.linalg.norm(linear.w)
    ratio = distances(found, x, norm) / (linear.margin[right][:60] / dual)
    assert (ratio >= 1 - 1e-5).all()
    assert np.median(ratio) < 1.03
    assert ratio.max() < 1.25


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "steps"), [("l2", 10), ("linf", 8)])
def test_it_is_nearer_than_foolbox_at_no_more_questions(norm: Any, steps: int, digits: Any) -> None:
    model = digits.model()
    right = model.logits(digits.x[:60]).argmax(dim=1).numpy() == digits.y[:60]
    x, y = digits.x[:60][right], digits.y[:60][right]
    before = model.passes.cost
    theirs = searched(Foolbox.member("HopSkipJumpAttack")(norm=norm, steps=steps), model, x, y)
    asked = model.passes.since(before).forward / len(y)
    attack = Decision(norm=norm, epsilon=Epsilon(1e-6), queries=int(asked))
    ours = searched(attack, model, x, y)
    assert ours.forward.max() <= asked
    better = np.median(distances(ours, x, norm)) / np.median(distances(theirs, x, norm))
    assert better < 1.05
    if norm == "l2":
        assert better < 0.8


def test_every_question_is_counted_and_nobody_asks_more_than_allowed(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    attack = Decision(norm="l2", epsilon=Epsilon([0.3, 0.9]), queries=400)
    result = attacked(attack, digits.model(), digits.x[:80], digits.y[:80])
    spent = result.table["forward"]
    assert result.cost.forward == spent.sum()
    assert result.cost.backward == 0
    judged = np.where(result.table["epsilon_fooled"] == 0.3, 1, 2)
    assert (spent - judged <= 400)[result.table["attacked"]].all()
    told = attack.passes(n=int(result.table["attacked"].sum()), classes=10)
    assert result.cost.forward <= told.forward
    # Who is near enough for the smallest budget asks nothing more.
    near = result.table["epsilon_fooled"] == 0.3
    assert near.any()
    assert spent[near].mean() < spent[result.table["attacked"] & ~near].mean()


def test_a_model_with_nothing_but_decisions_is_attacked_nearly_as_well_as_one_with_gradients(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    budget = Epsilon(0.15)
    model = digits.model()
    white = attacked(PGD(epsilon=budget), model, digits.x[:100], digits.y[:100])
    black = attacked(
        Decision(epsilon=budget, queries=2000), decisions_of(model), digits.x[:100], digits.y[:100]
    )
    strong, weak = (one.one("robust_accuracy").value for one in (white, black))
    assert strong <= weak <= strong + 0.2
    assert black.one("robust_accuracy").conditions["asks_for"] == "decisions"
    assert black.one("inputs_moved").value == 1


def test_a_model_that_decides_nothing_else_is_never_fooled_and_its_twin_is(
    linear: Any, attacked: Callable[..., Any]
) -> None:
    """No start fools a constant: its clean inputs come back, and ``inputs_moved`` says so."""
    constant = BlackBox(
        lambda x: np.ones(len(x), dtype=np.int64), card=Card(name="c", fingerprint="c"),
        classes=("no", "yes"), form="decisions", bounds=(0, 1),
    )  # fmt: skip
    attack = Decision(epsilon=Epsilon(0.9), queries=200)
    stuck = attacked(attack, constant, linear.x[:60], linear.y[:60])
    assert stuck.one("robust_accuracy").value == stuck.one("clean_accuracy").value
    assert stuck.one("inputs_moved").value == 0
    twin = attacked(attack, decisions_of(linear.model()), linear.x[:60], linear.y[:60])
    assert twin.one("robust_accuracy").value == 0


def test_a_forest_on_a_table_is_attacked_within_per_feature_budgets(
    attacked: Callable[..., Any],
) -> None:
    from sklearn.datasets import load_wine
    from sklearn.ensemble import RandomForestClassifier

    x, y = load_wine(return_X_y=True)
    x = x.astype(np.float32)
    forest = RandomForestClassifier(20, random_state=0).fit(x[::2], y[::2])
    model = SklearnModel(forest, "forest")
    spread = (np.percentile(x, 75, axis=0) - np.percentile(x, 25, axis=0)).tolist()
    spread[0] = 0.0  # may not change
    attack = Decision(epsilon_per_feature=spread, epsilon=Epsilon([0.25, 1]), queries=500)
    result = attacked(attack, model, x[1::2], y[1::2])
    curve = result.curve()
    assert curve[1.0] < curve[0.25] <= result.one("clean_accuracy").value
    assert curve[1.0] < 0.5
    assert (result.table["distance"][result.table["fooled"]] <= 1 + 1e-9).all()


def test_a_pipeline_that_was_fitted_on_named_columns_is_shown_the_changed_rows(
    tmp_path: Path,
) -> None:
    """Categories stay as they are (budget 0); what is judged is what the columns then say."""
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    from dlaudit.datasets.tables import load_csv

    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"age": rng.uniform(18, 90, 120), "colour": rng.choice(["r", "g"], 120)})
    frame["outcome"] = np.where(frame["age"] + 20 * (frame["colour"] == "r") > 60, "good", "bad")
    frame.to_csv(tmp_path / "t.csv", index=False)
    prepare = ColumnTransformer(
        [("words", OneHotEncoder(), ["colour"]), ("numbers", StandardScaler(), ["age"])]
    )
    fitted = make_pipeline(prepare, LogisticRegression()).fit(
        frame[["colour", "age"]], frame["outcome"]
    )
    model = SklearnModel(fitted, "pipeline")
    data = load_csv(root=tmp_path, path="t.csv", target="outcome")
    model.meet(data)
    bench = Bench(
        Subject(model, data), run="attacks.decision", plan_seed=1, store=EvidenceStore(tmp_path),
        cache=tmp_path / "cache",
    )  # fmt: skip
    attack = Decision(
        epsilon_per_feature=[1.0, 0.0], epsilon=Epsilon([5, 20, 80]), queries=120, probes=20
    )
    numbers = [one for one in attack.measure(bench) if isinstance(one, Measurement)]
    curve = [one.value for one in numbers if one.name == "robust_accuracy"]
    clean = next(one.value for one in numbers if one.name == "clean_accuracy")
    # The boundary lies at one age per colour: whoever is within the budget of it is fooled.
    coefficient = fitted[-1].coef_[0] / np.array([1, 1, frame["age"].std(ddof=0)])
    reach = np.abs(fitted.decision_function(frame[["colour", "age"]]) / coefficient[2])
    right = fitted.predict(frame[["colour", "age"]]) == frame["outcome"]
    expected = [float(np.mean(right & (reach > e))) for e in attack.epsilon]
    assert clean == np.mean(right)
    assert curve == pytest.approx(expected, abs=0.02)


@settings(max_examples=20)
@given(
    x=arrays(np.float64, (6, 5), elements=st.floats(0, 1)),
    w=arrays(np.float64, 5, elements=st.floats(-2, 2)),
    dtype=st.sampled_from([np.float32, np.float64]),
    norm=st.sampled_from(["linf", "l2"]),
    scale=st.sampled_from([None, [1.0, 0.0, 0.5, 2.0, 1.0]]),
)
def test_whatever_is_returned_is_valid_and_decided_as_it_is_told(
    x: np.ndarray, w: np.ndarray, dtype: Any, norm: Any, scale: Any
) -> None:
    """Inside range and scale to the bit, and either fooling or untouched."""
    clean = x.astype(dtype)
    model = BlackBox(
        lambda given: (np.asarray(given, float) @ w > 0.3).astype(np.int64), form="decisions",
        card=Card(name="w", fingerprint="w"), classes=("a", "b"), bounds=(0, 1),
    )  # fmt: skip
    y = (clean.astype(float) @ w > 0.3).astype(np.int64)
    attack = Decision(norm=norm, epsilon=Epsilon(1e-6), queries=150, probes=20)
    threat = {"scale": None if scale is None else torch.tensor(scale)}
    found = searched(attack, model, clean, y, **threat)
    made = found.x.numpy()
    assert made.dtype == dtype
    ball = Ball(torch.from_numpy(clean), Threat(norm=norm, epsilon=1e6, bounds=(0, 1), **threat))
    assert ball.contains(found.x).all()
    if scale is not None:
        assert (made[:, 1] == clean[:, 1]).all()
    fooled = (made.astype(float) @ w > 0.3).astype(np.int64) != y
    assert (fooled | (made == clean).all(axis=1)).all()


def test_recorded_decisions_cannot_be_asked_anew() -> None:
    assert Decision().missing(
        model=frozenset({"decisions"}), data=frozenset({"labels"}), train_fn=False
    ) == ("model: queries",)
    for offers in ({"decisions", "queries"}, {"decisions", "logits"}):
        assert not Decision().missing(
            model=frozenset(offers), data=frozenset({"labels"}), train_fn=False
        )


def test_the_same_seed_walks_the_same_way(digits: Any) -> None:
    attack = Decision(norm="l2", queries=300)
    one, two = (searched(attack, digits.model(), digits.x[:20], digits.y[:20]) for _ in range(2))
    assert torch.equal(one.x, two.x)
    x, y = torch.from_numpy(digits.x[:20]), torch.from_numpy(digits.y[:20])
    batch = Batch(x, y, np.arange(20).astype(str))
    assert torch.equal(
        attack.perturb(
            digits.model(),
            batch,
            Threat(norm="l2", epsilon=100.0, bounds=(0, 1)), torch.Generator().manual_seed(0),
        ),
        one.x,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"norm": "l0"}, "norm: expected one of linf, l2, got l0"),
        ({"probes": 1}, "probes: expected a number >= 2, got 1"),
        ({"queries": 50}, "queries: expected a number >= probes = 100, got 50"),
    ],
)
def test_parameters_that_make_no_attack_are_refused_in_words(
    params: dict[str, Any], message: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(params, Decision, dec_hook=decode_parameter)
