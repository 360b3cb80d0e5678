"""Rows of tables: what is counted obeys every rule, and little is missed that a solver finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from torch import nn

from dlaudit import ArrayDataset, Artifact, Bench, Dataset, Epsilon, Measurement, TorchModel
from dlaudit.attacks import harness
from dlaudit.attacks.tabular import Tabular
from dlaudit.audit.bench import Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.parts import Card, Model
from dlaudit.audit.subject import fitted
from dlaudit.datasets.arrays import Splits
from dlaudit.datasets.tables import load_csv
from dlaudit.errors import NotOffered
from dlaudit.models.black_box import BlackBox
from dlaudit.models.predictions import Predictions
from dlaudit.models.sklearn import SklearnModel

NAMES = ["a", "b", "total", "debt", "income", "k", "kind_x", "kind_y", "kind_z"]
RELATIONS = ["total = a + b", "debt <= 0.4 * income", "k <= income - 5"]


class Attacked(NamedTuple):
    """What a run measured, kept and let count."""

    values: dict[tuple[str, float | None], Measurement]
    table: dict[str, np.ndarray]
    counted: list[tuple[np.ndarray, np.ndarray, float]]
    """(clean row, adversarial row, epsilon) of every success."""

    def robust(self) -> dict[float, float]:
        return {e: m.value for (name, e), m in self.values.items() if name == "robust_accuracy"}


@pytest.fixture
def audited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Attacked]:
    """Run the attack on a model and a data set, and see every row that it is credited with."""
    counted: list[Any] = []
    judge = harness.judge

    def watched(proposed: Any, batch: Any, threat: Any, bench: Any) -> Any:
        judged = judge(proposed, batch, threat, bench)
        counted.extend(
            (batch.x[i].numpy(), judged.x[i].numpy(), threat.epsilon)
            for i in np.flatnonzero(judged.fooled)
        )
        return judged

    monkeypatch.setattr(harness, "judge", watched)
    runs = iter(range(10**6))

    def run(attack: Tabular, model: Model, data: Dataset) -> Attacked:
        counted.clear()
        folder = tmp_path / str(next(runs))
        bench = Bench(
            Subject(model, data), run="attacks.tabular", plan_seed=3, block=64,
            store=EvidenceStore(folder), cache=folder / "cache",
        )  # fmt: skip
        yielded = list(attack.measure(bench))
        (table,) = [one for one in yielded if isinstance(one, Artifact)]
        with np.load(folder / table.path) as columns:
            stored = dict(columns)
        values = {
            (one.name, one.conditions.get("epsilon")): one
            for one in yielded
            if isinstance(one, Measurement)
        }
        return Attacked(values, stored, list(counted))

    return run


def rows_of(x: np.ndarray, y: np.ndarray, names: list[str] | None = None, **facts: Any) -> Dataset:
    facts = facts | ({"features": names} if names else {})
    return ArrayDataset(x, y, kind="tabular", facts=facts, classes=("no", "yes"))


def accounts(n: int, seed: int) -> np.ndarray:
    """Rows that obey RELATIONS, with whole numbers and one group of indicators."""
    rng = np.random.default_rng(seed)
    a, b = (rng.uniform(0, most, n).astype(np.float32) for most in (10, 5))
    income = rng.uniform(20, 60, n).astype(np.float32)
    debt = rng.uniform(0, 0.39, n) * income
    kinds = np.eye(3)[rng.integers(0, 3, n)]
    columns = [a, b, (a + b), debt, income, rng.integers(0, 12, n), kinds]
    return np.column_stack(columns).astype(np.float32)


class Scored(NamedTuple):
    """A linear model of two classes: the score w x + b of the second."""

    w: np.ndarray
    b: float

    @property
    def net(self) -> nn.Linear:
        net = nn.Linear(len(self.w), 2)
        with torch.no_grad():
            net.weight.copy_(torch.from_numpy(np.stack([0 * self.w, self.w])))
            net.bias.copy_(torch.tensor([0.0, self.b]))
        return net

    def torch(self) -> TorchModel:
        return TorchModel(self.net, device="cpu", classes=("no", "yes"))

    def black(self, form: str = "logits") -> BlackBox:
        """The same without gradients; form ``decisions`` gives class indices only."""

        def answer(x: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                logits = self.net(torch.from_numpy(np.asarray(x, np.float32))).numpy()
            return logits.argmax(axis=1) if form == "decisions" else logits

        return BlackBox(
            answer, card=Card(name="black", fingerprint="f"), classes=("no", "yes"), form=form
        )

    def margin(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        score = x.astype(np.float64) @ self.w + self.b
        return np.where(y == 1, score, -score)


def scored(x: np.ndarray, seed: int) -> tuple[Scored, np.ndarray]:
    """A random linear model whose classes are about equally frequent, and its own decisions."""
    w = (np.random.default_rng(seed).normal(size=x.shape[1]) / x.std(axis=0)).astype(np.float32)
    model = Scored(w, -float(np.median(x @ w)))
    return model, model.torch().logits(x).argmax(dim=1).numpy()


@pytest.mark.parametrize("kind", ["torch", "black"])
def test_without_rules_a_linear_model_falls_where_the_closed_form_says(
    kind: str, audited: Callable[..., Attacked]
) -> None:
    """robust iff margin > epsilon Σ |w| IQR; one column in five is immutable."""
    x = np.random.default_rng(0).normal(size=(150, 5)).astype(np.float32) * [1, 5, 0.1, 30, 2]
    x = x.astype(np.float32)
    model, y = scored(x, 1)
    data = rows_of(x, y, ["a", "b", "c", "d", "e"], immutable=["c"])
    attack = Tabular(epsilon=Epsilon([0.1, 0.3]), queries=60)
    result = audited(attack, getattr(model, kind)(), data)
    quartiles = np.subtract(*np.percentile(x.astype(np.float64), [75, 25], axis=0))
    reach = (np.abs(model.w) * quartiles)[[0, 1, 3, 4]].sum()
    margin = model.margin(x, y)
    assert result.robust() == {e: np.mean(margin > e * reach) for e in (0.1, 0.3)}
    stated = result.values["robust_accuracy", 0.3].conditions
    assert stated["unit"] == "interquartile range in test"
    assert stated["columns"] == "5 columns, 1 fixed"
    assert result.values["refused_by_constraints", 0.3].value == 0


def optimum(model: Scored, row: np.ndarray, label: int, box: np.ndarray, changes: int) -> float:
    """The least margin over all allowed rows, by a mixed-integer solver."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    low, high = row - box, row + box
    low[5], high[5] = np.ceil(low[5] - 1e-9), np.floor(high[5] + 1e-9)
    low[6:], high[6:] = (0, 1) if changes else (row[6:], row[6:])
    sums = np.zeros((4, 9))
    sums[0, [0, 1, 2]], sums[1, [3, 4]], sums[2, [5, 4]], sums[3, 6:] = (
        (1, 1, -1),
        (1, -0.4),
        (1, -1),
        1,
    )
    sign = 1 if label == 1 else -1
    found = milp(
        sign * model.w.astype(float), bounds=Bounds(low, high), integrality=[0] * 5 + [1] * 4,
        constraints=LinearConstraint(sums, [0, -np.inf, -np.inf, 1], [0, 0, -5, 1]),
    )  # fmt: skip
    return float(found.fun + sign * model.b)


@pytest.mark.parametrize(
    ("kind", "changes", "seed"),
    [
        ("torch", 1, 1), ("black", 1, 2),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (
            ("torch", 0, 1), ("torch", 0, 2), ("torch", 1, 2), ("black", 0, 1), ("black", 0, 2),
        )),
    ],
)  # fmt: skip
def test_under_rules_a_solver_finds_little_more_and_never_less(
    kind: str, changes: int, seed: int, audited: Callable[..., Attacked]
) -> None:
    x = accounts(60, seed)
    model, y = scored(x, 100 + seed)
    attack = Tabular(epsilon=Epsilon(0.25), relations=RELATIONS, categories=changes)
    result = audited(attack, getattr(model, kind)(), rows_of(x, y, NAMES))
    quartiles = np.subtract(*np.percentile(x.astype(np.float64), [75, 25], axis=0))
    least = np.array([
        optimum(model, row, label, 0.25 * quartiles, changes)
        for row, label in zip(x.astype(np.float64), y.tolist(), strict=True)
    ])  # fmt: skip
    fooled = result.table["fooled"]
    assert result.values["left_out", None].value == 0
    assert not (fooled & (least > 1e-4)).any(), "nothing counts that no allowed row can do"
    missed = (~fooled & (least < -1e-3)).sum()
    assert missed <= 2 < (least < 0).sum()


def obeyed(clean: np.ndarray, found: np.ndarray, reach: np.ndarray, *, changes: int) -> bool:
    """The rules of ``accounts`` once more, in float64 and by hand."""
    a, b, total, debt, income, k = found[:6].astype(np.float64)
    eps = float(np.finfo(found.dtype).eps)
    return (
        abs(total - a - b) <= (eps + 4e-16) * (abs(total) + abs(a) + abs(b))
        and debt <= 0.4 * income + eps * (debt + income)
        and k <= income - 5 + eps * (abs(k) + income + 5)
        and float(k).is_integer()
        and sorted(found[6:]) == [0, 0, 1]
        and (changes > 0 or (found[6:] == clean[6:]).all())
        and bool((np.abs(found[:6].astype(np.float64) - clean[:6]) <= reach[:6] * (1 + 1e-9)).all())
    )


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32), changes=st.integers(0, 1), epsilon=st.sampled_from([0.02, 0.2, 1.0]),
    dtype=st.sampled_from([np.float32, np.float64]), kind=st.sampled_from(["torch", "black", "decisions"]),
)  # fmt: skip
def test_every_row_that_counts_obeys_every_rule_and_predicts_as_reported(
    audited: Callable[..., Attacked],
    *,
    seed: int,
    changes: int,
    epsilon: float,
    dtype: Any,
    kind: str,
) -> None:
    x = accounts(24, seed).astype(dtype)
    x[:, 2] = x[:, 0] + x[:, 1]
    linear = Scored(
        (np.random.default_rng(seed).normal(size=9) / x.std(axis=0)).astype(np.float32), 0.0
    )
    linear = linear._replace(b=-float(np.median(x @ linear.w)))
    model: Any = (
        linear.torch()
        if kind == "torch"
        else linear.black("decisions" if kind == "decisions" else "logits")
    )
    if kind == "torch" and dtype == np.float64:
        model = TorchModel(linear.net.double(), device="cpu", classes=("no", "yes"))
    y = linear.torch().logits(x.astype(np.float32)).argmax(dim=1).numpy()
    attack = Tabular(
        epsilon=Epsilon([epsilon / 2, epsilon]), relations=RELATIONS, categories=changes,
        steps=4, queries=24,
    )  # fmt: skip
    result = audited(attack, model, rows_of(x, y, NAMES))
    quartiles = np.subtract(*np.percentile(x.astype(np.float64), [75, 25], axis=0))
    for clean, found, budget in result.counted:
        assert found.dtype == dtype
        assert obeyed(clean, found, budget * quartiles, changes=changes)
        decisions = model.decide(harness.Batch(found[None], np.zeros(1), np.array(["0"])))
        before = model.decide(harness.Batch(clean[None], np.zeros(1), np.array(["0"])))
        assert decisions.predicted[0] != before.predicted[0]
    assert len(result.counted) == result.table["fooled"].sum()


def test_a_model_that_only_broken_rows_can_fool_withstands_and_the_share_is_told(
    audited: Callable[..., Attacked],
) -> None:
    """The score is total - a - b, which is 0.0 in every real row: the rule is all that protects it."""
    x = accounts(60, 0)
    model = Scored(np.array([-1, -1, 1, 0, 0, 0, 0, 0, 0], np.float32), 0.01)
    y = np.ones(60, np.int64)
    data = rows_of(x, y, NAMES)
    for answering in (model.torch(), model.black()):
        ruled = audited(Tabular(epsilon=Epsilon(0.2), relations=RELATIONS), answering, data)
        assert ruled.robust() == {0.2: 1.0}
        assert ruled.values["refused_by_constraints", 0.2].value == 1
        assert not ruled.table["fooled"].any()
        assert (ruled.table["adversarial"] == 1).all()
        free = audited(Tabular(epsilon=Epsilon(0.2)), answering, data)
        assert free.robust() == {0.2: 0.0}


def test_a_model_that_reads_what_cannot_change_is_its_robust_twin(
    audited: Callable[..., Attacked],
) -> None:
    x = accounts(60, 0)
    weak = Scored(np.array([0, 0, 0, 0, 1, 0, 0, 0, 0], np.float32), -40.0)
    y = weak.torch().logits(x).argmax(dim=1).numpy()
    data = rows_of(x, y, NAMES, immutable=["income"])
    quick = Tabular(epsilon=Epsilon(0.5), steps=5, queries=40)
    strong = audited(quick, weak.torch(), data)
    assert set(strong.robust().values()) == {1.0}
    fallen = audited(quick, weak.torch(), rows_of(x, y, NAMES))
    assert fallen.robust()[0.5] < 0.7
    named = audited(replace(quick, immutable=["income"]), weak.black(), rows_of(x, y, NAMES))
    assert set(named.robust().values()) == {1.0}
    rising = audited(
        replace(quick, increasing=["income"], decreasing=["income"]),
        weak.torch(),
        rows_of(x, y, NAMES),
    )
    assert set(rising.robust().values()) == {1.0}


def test_a_scaler_inside_the_model_keeps_the_budget_in_input_units(
    audited: Callable[..., Attacked],
) -> None:
    x = accounts(60, 3)
    model, y = scored(x, 5)
    spread, middle = x.std(axis=0) + 1, x.mean(axis=0)
    inner = Scored(model.w * spread, float(model.b + model.w @ middle)).net

    class Scaler(nn.Module):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            return (given - torch.from_numpy(middle)) / torch.from_numpy(spread)

    piped = TorchModel(nn.Sequential(Scaler(), inner), device="cpu", classes=("no", "yes"))
    attack = Tabular(epsilon=Epsilon(0.2), relations=RELATIONS, queries=0, restarts=1)
    plain = audited(attack, model.torch(), rows_of(x, y, NAMES)).robust()
    assert audited(attack, piped, rows_of(x, y, NAMES)).robust() == pytest.approx(plain, abs=0.02)


def test_too_few_tries_for_a_wide_table_are_told_and_enough_find_the_closed_form(
    audited: Callable[..., Attacked],
) -> None:
    x = np.random.default_rng(0).normal(size=(30, 60)).astype(np.float32)
    model, y = scored(x, 1)
    reach = np.abs(model.w) @ np.subtract(*np.percentile(x.astype(np.float64), [75, 25], axis=0))
    expected = np.mean(model.margin(x, y) > 0.1 * reach)
    found = {}
    for queries in (60, 260):
        attack = Tabular(epsilon=Epsilon(0.1), queries=queries)
        found[queries] = audited(attack, model.black(), rows_of(x, y)).values[
            "robust_accuracy", 0.1
        ]
    assert found[60].value > expected == found[260].value
    assert [one.name for one in found[60].caveats] == ["upper_bound", "few_queries"]
    assert [one.name for one in found[260].caveats] == ["upper_bound"]


def test_rows_that_are_none_to_begin_with_are_left_out_and_counted(
    audited: Callable[..., Attacked],
) -> None:
    x = accounts(50, 1)
    model, y = scored(x, 7)
    x[:5, 2] += 1
    x[5:7, 3] = np.nan
    result = audited(Tabular(relations=RELATIONS), model.black("decisions"), rows_of(x, y, NAMES))
    out = result.values["left_out", None]
    assert (out.value, out.n) == (7 / 50, 50)
    assert "breaks the rules" in out.conditions["reason"]
    assert result.values["robust_accuracy", 0.5].n == 43
    assert not result.table["attacked"][:7].any()


def test_units_come_from_training_rows_where_there_are_any(
    audited: Callable[..., Attacked],
) -> None:
    x = accounts(40, 1)
    model, y = scored(x, 7)
    train = accounts(200, 2)
    train[:, 4] *= 3
    data = Splits(
        {"test": rows_of(x, y, NAMES), "train": rows_of(train, np.zeros(200) + y[0], NAMES)}
    )
    result = audited(Tabular(queries=0, steps=2), model.torch(), data)
    assert (
        result.values["robust_accuracy", 0.5].conditions["unit"] == "interquartile range in train"
    )
    given = Tabular(
        queries=0, steps=2, epsilon_per_feature=[0.0] * 4 + [1.0] + [0.0] * 4, categories=0
    )
    moved = audited(given, model.torch(), data)
    assert moved.values["robust_accuracy", 1.0].conditions["unit"] == "epsilon_per_feature"
    for clean, found, _ in moved.counted:
        assert np.flatnonzero(clean != found).tolist() == [4]
    flat = x.copy()
    flat[:, 4] = x[0, 4]  # a column without spread moves by a budget of its own, and by no other
    still = audited(
        Tabular(queries=0, steps=2, categories=0), model.torch(), rows_of(flat, y, NAMES)
    )
    assert all(found[4] == clean[4] for clean, found, _ in still.counted)
    own = replace(given, epsilon_per_feature=[0.0] * 4 + [9.0] + [0.0] * 4)
    loose = audited(
        own, model.torch(), rows_of(flat, model.torch().logits(flat).argmax(dim=1).numpy(), NAMES)
    )
    assert loose.values["inputs_moved", 1.0].value == 1


def test_recorded_decisions_cannot_be_asked_about_other_rows(
    audited: Callable[..., Attacked],
) -> None:
    y = np.arange(4) % 2
    data = ArrayDataset(np.zeros((4, 2), np.float32), y, columns={"p": y}, classes=("no", "yes"))
    with pytest.raises(NotOffered, match="rows that were not recorded"):
        audited(Tabular(), Predictions("p", classes=("0", "1")), data)


@pytest.mark.parametrize("name", ["steps", "restarts", "queries", "categories"])
def test_numbers_that_make_no_search_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected a number >= "):
        Tabular(**{name: -1})


class Cancer(NamedTuple):
    """The breast cancer table of scikit-learn: 30 measurements, the last 120 rows kept for tests."""

    x: np.ndarray
    y: np.ndarray
    names: list[str]

    def data(self, n: int = 60) -> Dataset:
        return Splits({
            "test": rows_of(self.x[-120:][:n], self.y[-120:][:n], self.names),
            "train": rows_of(self.x[:-120], self.y[:-120], self.names),
        })  # fmt: skip


@pytest.fixture(scope="session")
def cancer() -> Cancer:
    from sklearn.datasets import load_breast_cancer

    loaded = load_breast_cancer()
    return Cancer(
        loaded.data.astype(np.float32), loaded.target, [str(one) for one in loaded.feature_names]
    )


CANCER = ["'mean radius' <= 'worst radius'", "'mean area' <= 'worst area'"]


@pytest.fixture(scope="session")
def perceptron(cancer: Cancer) -> nn.Module:
    """A small perceptron with its scaler inside."""

    class Scaler(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            rows = torch.from_numpy(cancer.x[:-120])
            self.register_buffer("middle", rows.mean(dim=0))
            self.register_buffer("spread", rows.std(dim=0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x - self.middle) / self.spread

    x, y = torch.from_numpy(cancer.x[:-120]), torch.from_numpy(cancer.y[:-120])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(Scaler(), nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2))
        for _ in range(200):
            loss = nn.functional.cross_entropy(net(x), y)
            weights = list(net.parameters())
            with torch.no_grad():
                for weight, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                    weight.sub_(0.3 * slope)
    return net.eval()


def test_a_perceptron_on_a_real_table(
    cancer: Cancer, perceptron: nn.Module, audited: Callable[..., Attacked]
) -> None:
    model = TorchModel(perceptron, device="cpu", classes=("no", "yes"))
    attack = Tabular(relations=CANCER, epsilon=Epsilon([0.02, 0.2, 0.5]), queries=40)
    result = audited(attack, model, cancer.data())
    curve = result.robust()
    assert result.values["clean_accuracy", None].value > 0.9
    assert curve[0.02] > 0.8
    assert curve[0.5] < 0.3
    radius, worst = (cancer.names.index(f"{kind} radius") for kind in ("mean", "worst"))
    assert all(found[radius] <= found[worst] for _, found, _ in result.counted)


def test_boosted_trees_on_a_real_table_are_fooled_without_gradients(
    cancer: Cancer, audited: Callable[..., Attacked]
) -> None:
    from sklearn.ensemble import GradientBoostingClassifier

    trees = GradientBoostingClassifier(n_estimators=20, max_depth=2, random_state=0)
    trees.fit(cancer.x[:-120], cancer.y[:-120])
    subject = fitted(Subject(SklearnModel(trees, "trees"), cancer.data(40)))
    attack = Tabular(relations=CANCER, epsilon=Epsilon([0.02, 1.0]), queries=140)
    result = audited(attack, subject.model, subject.data)
    assert result.values["clean_accuracy", None].value > 0.9
    assert result.robust()[0.02] > 0.7
    assert result.robust()[1.0] < 0.4
    assert result.table["backward"].sum() == 0


@pytest.fixture
def loans(tmp_path: Path) -> Dataset:
    """A table with text categories, read from a file, for models that were fitted on named columns."""
    rng = np.random.default_rng(0)
    lines = ["income,job,age,granted"]
    for _ in range(120):
        income, job, age = (
            rng.normal(50, 15),
            rng.choice(["clerk", "nurse", "none"]),
            rng.integers(18, 80),
        )
        granted = income + (20 if job == "nurse" else 0) + rng.normal(0, 3) > 55
        lines.append(f"{income:.3f},{job},{age},{int(granted)}")
    (tmp_path / "loans.csv").write_text("\n".join(lines))
    return load_csv(root=tmp_path, path="loans.csv", target="granted", immutable=["age"])


def test_a_pipeline_on_named_columns_is_shown_the_attacked_cells(
    loans: Dataset, audited: Callable[..., Attacked]
) -> None:
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    (batch,) = loans.batches()
    frame = pd.DataFrame({name: batch.columns[name] for name in ("income", "job", "age")})
    encode = ColumnTransformer([
        ("number", StandardScaler(), ["income", "age"]), ("word", OneHotEncoder(), ["job"]),
    ])  # fmt: skip
    pipeline = make_pipeline(encode, LogisticRegression()).fit(frame, batch.y)
    subject = fitted(Subject(SklearnModel(pipeline, "pipeline"), loans))
    jobs = audited(Tabular(epsilon=Epsilon(0.01), queries=40), subject.model, subject.data)
    still = audited(
        Tabular(epsilon=Epsilon(0.01), queries=40, categories=0), subject.model, subject.data
    )
    assert jobs.robust()[0.01] < 0.6
    assert still.robust()[0.01] > 0.9
    stated = jobs.values["robust_accuracy", 0.01].conditions  # noqa: PD011  (a dict's, no frame's)
    assert stated["columns"] == "3 columns, 1 fixed, 1 coded"
    for clean, found, _ in jobs.counted:
        assert clean[2] == found[2], "age is immutable"
        assert found[1] in {0, 1, 2}
