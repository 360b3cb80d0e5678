"""Tables: counterfactuals that a person could reach, reasons that stay, importances and curves by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_digits import Digits, bench_at
from torch import nn

from dlaudit.audit.record import Measurement, Undefined
from dlaudit.errors import PlanError
from dlaudit.explain.counterfactuals import Counterfactuals, Freedom, nearest_change
from dlaudit.explain.dependence import accumulated, partial
from dlaudit.explain.importance import Importance
from dlaudit.explain.reasons import Reasons, codes, overlap

NAMES = ("age", "income", "debt", "noise")


class Linear(nn.Module):
    """Approved where income exceeds debt; optionally by age alone."""

    def __init__(self, weights=(0.0, 2.0, -2.0, 0.0)):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))

    def forward(self, x):
        z = x @ self.weights
        return torch.stack([-z, z], dim=1)


def bench(tmp_path, module=None, *, n=200, immutable=("age",), keep_samples=0, columns=4):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, columns)).astype(np.float32)
    y = (x[:, 1] > x[:, 2]).astype(np.int64)
    return bench_at(
        tmp_path, module or Linear(), Digits(x, y), run="explain.tables", bounds=None,
        kind="tabular", classes=("no", "yes"), keep_samples=keep_samples,
        facts={"features": list(NAMES[:columns]), "immutable": list(immutable)},
    )  # fmt: skip


def told(check, made):
    numbers, artifacts = {}, []
    for one in check.measure(made):
        if isinstance(one, Measurement | Undefined):
            assert one.name in check.measures
            numbers[one.name, *one.slice.values()] = one
        else:
            artifacts.append(one)
    return numbers, artifacts


def stored(made, artifacts):
    (one,) = [found for found in artifacts if found.name.endswith(".samples")]
    with np.load(made._store.folder.parent / one.path) as columns:
        return {key: columns[key] for key in columns.files}


# -- counterfactuals


def free(columns=2, **given):
    none = {"fixed": np.zeros(columns, dtype=bool), "direction": np.zeros(columns)}
    return Freedom(**{**none, "spread": np.ones(columns), **given})


def above(x):
    return (x[:, 0] + x[:, 1] > 1).astype(int)


def test_the_nearest_donor_is_taken_and_thinned_by_hand():
    donors = np.array([[5.0, 5.0], [1.5, 0.2]])
    found = nearest_change(np.array([0.0, 0.0]), 0, donors, free(), above)
    # The second donor is nearer; its second column is not needed.
    assert found.tolist() == [1.5, 0.0]


def test_what_may_not_change_does_not():
    donors = np.array([[5.0, 0.5], [0.0, 3.0]])
    fixed = free(fixed=np.array([True, False]))
    assert nearest_change(np.zeros(2), 0, donors, fixed, above).tolist() == [0.0, 3.0]
    falling = free(direction=np.array([0.0, -1.0]))
    assert nearest_change(np.zeros(2), 0, donors, falling, above).tolist() == [5.0, 0.0]
    assert nearest_change(np.zeros(2), 0, donors[1:], falling, above) is None
    assert nearest_change(np.zeros(2), 0, donors[:0], free(), above) is None


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_every_counterfactual_is_decided_otherwise_within_its_freedom(seed):
    rng = np.random.default_rng(seed)
    donors = rng.normal(size=(30, 3)) + 1
    freedom = Freedom(
        rng.random(3) < 0.3, rng.integers(-1, 2, 3).astype(float), rng.uniform(0.5, 2, 3)
    )
    row = rng.normal(size=3) - 1

    def decide(x):
        return (x.sum(axis=1) > 0).astype(int)

    own = int(decide(row[None])[0])
    found = nearest_change(row, own, donors[decide(donors) != own], freedom, decide)
    if found is None:
        return
    assert decide(found[None])[0] != own
    assert (found[freedom.fixed] == row[freedom.fixed]).all()
    assert (freedom.direction * (found - row) >= 0).all()
    for column in np.flatnonzero(found != row):  # none of the changes is for nothing
        back = found.copy()
        back[column] = row[column]
        assert decide(back[None])[0] == own


def test_counterfactuals_change_what_the_model_reads_and_nothing_declared(tmp_path):
    made = bench(tmp_path)
    numbers, artifacts = told(Counterfactuals(samples=40, decreasing=("debt",)), made)
    assert numbers["counterfactual_found",].value > 0.8
    assert numbers["columns_changed",].value < 2.1
    assert numbers["counterfactual_found",].conditions["immutable"] == "age"
    rows = stored(made, artifacts)
    assert (rows["own_age"] == rows["other_age"]).all()
    assert (rows["own_noise"] == rows["other_noise"]).all()
    assert (rows["other_debt"] <= rows["own_debt"]).all()
    other = np.stack([rows[f"other_{name}"] for name in NAMES], axis=1)
    assert (made.model.logits(other).argmax(1).numpy() != rows["predicted"])[rows["found"]].all()


def test_a_model_of_what_cannot_change_has_no_counterfactuals(tmp_path):
    made = bench(tmp_path, Linear((3.0, 0.0, 0.0, 0.0)))
    numbers, _ = told(Counterfactuals(samples=30), made)
    found = numbers["counterfactual_found",]
    assert found.value == 0
    assert found.interval.high < 0.2
    assert "0 counterfactuals" in numbers["columns_changed",].reason


def test_one_decision_is_asked_about_and_names_are_checked(tmp_path):
    made = bench(tmp_path)
    _, artifacts = told(Counterfactuals(samples=40, decision="no"), made)
    assert set(stored(made, artifacts)["predicted"].tolist()) == {0}
    with pytest.raises(PlanError, match="decision: no class is called 'nope'"):
        list(Counterfactuals(decision="nope").measure(made))
    with pytest.raises(
        PlanError, match=r"immutable: no column is called 'agee'\. Did you mean age"
    ):
        list(Counterfactuals(immutable=("agee",)).measure(made))
    with pytest.raises(ValueError, match="stands in decreasing too"):
        Counterfactuals(increasing=("a",), decreasing=("a",))


# -- reasons


def test_reasons_are_the_largest_contributions_and_share_what_they_share():
    values = np.array([[0.1, 3.0, -5.0, 1.0]])
    assert codes(values, 2).tolist() == [[1, 3]]
    assert codes(-values, 2).tolist() == [[2, -1]]
    assert overlap(np.array([[1, 3], [0, 2]]), np.array([[3, 0], [2, 0]])).tolist() == [0.5, 1.0]
    assert overlap(np.array([[1, -1]]), np.array([[1, -1]])).tolist() == [1.0]
    assert np.isnan(overlap(np.array([[-1, -1]]), np.array([[0, 1]]))).all()


def test_reasons_of_a_linear_model_are_weight_times_distance_and_stay(tmp_path):
    made = bench(tmp_path, keep_samples=1)
    numbers, artifacts = told(Reasons(samples=60, reasons=1, protected=("noise",)), made)
    assert numbers["reason_stability",].value > 0.9
    assert numbers["protected_share",].value < 0.01
    rows = stored(made, artifacts)
    sign = np.where(rows["predicted"] == 1, 1, -1)
    x = np.concatenate([block.batch.x for block in made.blocks(samples=60)])
    by_hand = sign * 2 * (x[:, 1] - x[:, 1].mean())
    assert rows["contribution_income"] == pytest.approx(by_hand, abs=1e-4)
    assert set(rows["reasons"].ravel()) <= {"income", "debt", ""}
    (picture,) = [one for one in artifacts if one.media_type == "image/svg+xml"]
    assert "Shapley" in picture.caption


def test_weight_on_a_protected_column_is_told(tmp_path):
    numbers, _ = told(Reasons(samples=60), bench(tmp_path, Linear((2.0, 2.0, 0.0, 0.0))))
    share = numbers["protected_share",]
    assert 0.3 < share.value < 0.7
    _none, _ = told(Reasons(samples=60), bench(tmp_path / "b", immutable=()))
    assert "no column is named" in _none["protected_share",].reason


# -- importance


def test_only_columns_that_the_model_reads_matter(tmp_path):
    made = bench(tmp_path)
    numbers, artifacts = told(Importance(samples=200, points=5), made)
    for name in ("income", "debt"):
        assert numbers["importance", name].interval.low > 0.1
        assert numbers["importance", name].interval.level == pytest.approx(1 - 0.05 / 4)
    for name in ("age", "noise"):
        assert numbers["importance", name].value == 0
        assert "no decision" in numbers["importance", name].exact
    fidelity = numbers["surrogate_fidelity",]
    assert fidelity.interval.low > fidelity.conditions["always_the_most_frequent"]
    assert len([one for one in artifacts if one.media_type == "image/svg+xml"]) == 4


def test_permutation_importance_is_scikit_learns(tmp_path):
    from sklearn.inspection import permutation_importance

    made = bench(tmp_path)

    class Asked:
        def fit(self):
            pass

        def score(self, x, y):
            return float((made.model.logits(x.astype(np.float32)).argmax(1).numpy() == y).mean())

    answers = made.answers()
    x = np.concatenate([block.batch.x for block in made.blocks()])
    theirs = permutation_importance(Asked(), x, answers.y, n_repeats=30, random_state=0)
    numbers, _ = told(Importance(samples=200, repeats=30, curves=0), made)
    ours = [numbers["importance", name].value for name in NAMES]
    assert ours == pytest.approx(theirs.importances_mean, abs=0.02)


def test_a_model_of_one_decision_has_no_surrogate(tmp_path):
    numbers, _ = told(Importance(samples=50), bench(tmp_path, Linear((0.0, 0.0, 0.0, 0.0))))
    assert "nothing to imitate" in numbers["surrogate_fidelity",].reason


def test_courses_of_a_linear_function_are_its_line():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 2))
    rows[:, 1] += rows[:, 0]  # columns that go together

    def answer(x):
        return 2 * x[:, 0] - x[:, 1]

    for course in (partial(rows, 0, answer, points=9), accumulated(rows, 0, answer, bins=9)):
        slope = np.diff(course.y) / np.diff(course.x)
        assert slope == pytest.approx(np.full(len(slope), 2.0))
    flat = partial(rows, 0, answer, points=9)
    assert np.interp(rows[:, 0].mean(), flat.x, flat.y) == pytest.approx(answer(rows).mean())


def test_local_effects_leave_out_what_no_row_can_be():
    """f = x0 x1 with x1 = x0: partial dependence is flat, the local effect is that of x0 squared, halved."""
    x = np.linspace(-1, 1, 2001)
    rows = np.stack([x, x], axis=1)

    def product(z):
        return z[:, 0] * z[:, 1]

    flat = partial(rows, 0, product, points=11)
    assert np.abs(flat.y).max() < 1e-9
    local = accumulated(rows, 0, product, bins=40)
    assert np.ptp(local.y - local.x**2 / 2) < 0.01


@pytest.mark.parametrize("check", [Counterfactuals(), Reasons(), Importance()])
def test_pictures_are_no_table(tmp_path, check):
    from dlaudit.errors import NotOffered

    digits = Digits(np.zeros((5, 1, 4, 4), dtype=np.float32), np.zeros(5, dtype=np.int64))
    made = bench_at(tmp_path, nn.Flatten(), digits, run="explain.tables")
    with pytest.raises(NotOffered, match="rows of numbers"):
        list(check.measure(made))
    assert check.missing(model=frozenset({"logits"}), data=frozenset({"images"}), train_fn=False)
