"""Predicted quantities: their errors per group, in the target's own units."""

import json

import numpy as np
import pytest
from commandline import dlaudit_command
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.record import Undefined
from dlaudit.audit.statistics import clopper_pearson
from dlaudit.audit.subject import fitted
from dlaudit.datasets.tables import load_csv
from dlaudit.errors import LoadError, NonFinite, NotOffered, PlanError
from dlaudit.fairness import errors_by_group as of
from dlaudit.fairness.regression import PER_GROUP, Regression
from dlaudit.models.callable import load as load_callable
from dlaudit.models.predictions import load as load_predictions


@pytest.fixture
def priced(tmp_path):
    """(truth, said, site) -> a Bench over a table of prices."""

    def build(truth, said, site, **model):
        rows = [
            f"{i},{t},{s},{g}" for i, (t, s, g) in enumerate(zip(truth, said, site, strict=True))
        ]
        (tmp_path / "t.csv").write_text("\n".join(["size,price,said,site", *rows]) + "\n")
        data = load_csv(
            root=tmp_path, path="t.csv", target="price", types={"price": "number"}, groups=["site"]
        )
        asked = load_predictions(**(model or {"value": "said"}))
        subject = fitted(Subject(asked, data))
        return Bench(
            subject, run="fairness.regression", plan_seed=1, store=EvidenceStore(tmp_path / "e"),
            cache=tmp_path / "cache",
        )  # fmt: skip

    return build


def prices(seed, *, shift=0.0, wider=1.0, n=400):
    rng = np.random.default_rng(seed)
    site = rng.choice(["a", "b"], n, p=[0.6, 0.4])
    truth = rng.normal(10, 3, n)
    error = rng.normal(size=n) * np.where(site == "b", wider, 1.0)
    return truth, truth + error + shift * (site == "b"), site


def test_errors_of_a_case_computed_by_hand(priced, told):
    truth, said = np.tile([1.0, 2.0], 40), np.tile([2.0, 2.0], 40)  # errors 1 and 0
    site = np.repeat(["a", "b"], 40)
    said[40:] = truth[40:] + np.tile([-1.0, 3.0], 20)
    found = told(Regression(reference={"site": "a"}), priced(truth, said, site))
    assert found["mean_error", "a"].value == pytest.approx(0.5)
    assert found["mean_absolute_error", "b"].value == pytest.approx(2.0)
    assert found["mean_error", "b"].value == pytest.approx(1.0)
    assert found["error_spread", "a"].value == pytest.approx(0.5 * np.sqrt(40 / 39))
    assert found["mean_error_difference", "b"].value == pytest.approx(0.5)
    assert found["mean_absolute_error_difference", "b"].value == pytest.approx(1.5)
    assert found["error_spread_ratio", "b"].value == pytest.approx(4.0)
    assert found["error_spread_ratio", "b"].conditions["reference"] == "a"
    assert {key[0] for key in found} == set(Regression.measures)


def test_means_are_those_of_statsmodels_and_the_spread_is_near_a_bootstrap():
    rng = np.random.default_rng(3)
    one, other = rng.laplace(size=300), rng.normal(0.5, 2, 200)
    found = of.mean(one)
    reference = DescrStatsW(one).tconfint_mean()
    assert (found.interval.low, found.interval.high) == pytest.approx(reference)
    found = of.mean_difference(one, other)
    reference = CompareMeans(DescrStatsW(one), DescrStatsW(other)).tconfint_diff(usevar="unequal")
    assert (found.interval.low, found.interval.high) == pytest.approx(reference)
    found = of.spread(one)
    drawn = bootstrap((one,), lambda x, axis: x.std(axis, ddof=1), n_resamples=2000, rng=rng)
    ends = drawn.confidence_interval
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (ends.low, ends.high), rel=0.05
    )


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), unit=st.floats(0.01, 100), zero=st.floats(-50, 50))
def test_errors_in_other_units_are_the_same_errors(seed, unit, zero):
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=40), rng.exponential(size=60)
    assert of.spread(unit * one + zero).value == pytest.approx(unit * of.spread(one).value)
    ratio, again = of.spread_ratio(one, other), of.spread_ratio(unit * one + zero, unit * other)
    assert again.value == pytest.approx(ratio.value)
    assert again.interval.low == pytest.approx(ratio.interval.low, rel=1e-6)
    assert ratio.interval.low <= ratio.value * 1.05
    turned = of.spread_ratio(other, one)
    assert turned.interval.high == pytest.approx(1 / ratio.interval.low, rel=1e-6)


def test_intervals_of_spreads_hold_their_level():
    rng = np.random.default_rng(4)
    held = {"spread": [], "ratio": []}
    for draw, true in (
        (rng.normal, 1.0), (rng.laplace, np.sqrt(2)), (lambda size: rng.uniform(size=size), 12**-0.5),
    ):  # fmt: skip
        for n in (30, 100, 300):
            for _ in range(300):
                found, ratio = of.spread(draw(size=n)), of.spread_ratio(draw(size=n), draw(size=40))
                held["spread"].append(found.interval.low <= true <= found.interval.high)
                held["ratio"].append(ratio.interval.low <= 1 <= ratio.interval.high)
    shares = {name: float(np.mean(hits)) for name, hits in held.items()}
    print(f"coverage over 2700 trials: {shares}")
    assert min(shares.values()) >= 0.945


def test_a_group_predicted_too_low_is_found_and_its_clean_twin_is_not(priced, told):
    accused = {-0.6: 0, 0.0: 0}
    for seed in range(1000, 1020):
        for shift in accused:
            found = told(Regression(reference={"site": "a"}), priced(*prices(seed, shift=shift)))
            accused[shift] += found["mean_error_difference", "b"].interval.high < -0.1
    for shift, count in accused.items():
        bounds = clopper_pearson(count, 20)
        print(f"shift {shift}: {count} of 20 [{bounds.low:.2f}, {bounds.high:.2f}]")
    assert accused[-0.6] >= 19
    assert accused[0.0] <= 1
    found = told(Regression(reference={"site": "a"}), priced(*prices(1000, wider=2.0)))
    assert found["error_spread_ratio", "b"].interval.low > 1.5


def test_small_groups_are_listed_and_perfect_predictions_have_no_spread(priced, told):
    truth, said, site = prices(0)
    site[:10] = "c"
    bench = priced(truth, said, site)
    found = told(Regression(), bench)
    assert found["mean_error", "c"].reason == "10 samples, fewer than the minimum of 30"
    turned = told(Regression(reference={"site": "c"}), bench)
    assert "the reference c is not estimable" in turned["mean_error_difference", "a"].reason
    found = told(Regression(most_groups=2), bench)
    assert all(isinstance(one, Undefined) for one in found.values())
    found = told(Regression(), priced(truth, truth, site))
    for name in (*PER_GROUP, "error_spread_ratio", "mean_error_difference"):
        assert found[name, "b"].reason == of.ALL_EQUAL


def test_a_quantity_is_no_class_and_a_class_no_quantity(priced, tmp_path):
    bench = priced(*prices(0))
    assert bench.classes == ()
    assert (bench.data.offers, bench.model.offers) == (
        {"values", "groups", "tabular"}, {"values"},
    )  # fmt: skip
    batch = next(bench.data.batches())
    with pytest.raises(NotOffered, match="decides no class"):
        bench.model.decide(batch)
    with pytest.raises(NotOffered, match="no logits"):
        bench.model.logits(batch.x)
    (tmp_path / "f.csv").write_text("y,said,site\n" + "0,1,a\n1,0,b\n" * 4)
    classes = load_csv(root=tmp_path, path="f.csv", target="y", groups=["site"])
    decided = fitted(Subject(load_predictions(column="said", positive=1), classes)).model
    with pytest.raises(NotOffered, match="predicts no quantity"):
        decided.values(batch)
    assert "no classes" in Regression(positive=1).objections({}, {})[0]
    with pytest.raises(LoadError, match="numbers, as types says"):
        load_csv(root=tmp_path, path="f.csv", target="site", types={"site": "number"})


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"value": "said", "positive": 1}, "to stand alone"),
        ({"value": "sayd"}, "Did you mean said"),
        ({"value": "site"}, "numbers, one per sample"),
    ],
)
def test_recorded_quantities_that_cannot_be_read_are_refused(priced, args, words):
    with pytest.raises((LoadError, PlanError), match=words):
        priced(*prices(0), **args)


def test_a_missing_prediction_is_an_error_never_a_number(priced):
    truth, said, site = prices(0)
    said[7] = np.nan
    with pytest.raises((NonFinite, PlanError), match="not finite"):
        priced(truth, said, site)


def test_a_function_of_quantities_is_asked_in_pieces(tmp_path, priced):
    (tmp_path / "f.py").write_text("def price(x):\n    return x[:, :1] * 2\n")
    asked = load_callable(root=tmp_path, file="f.py:price", output="values", batch=7)
    batch = next(priced(*prices(0)).data.batches())
    assert asked.values(batch) == pytest.approx(2.0 * batch.x[:, 0])
    assert asked.passes.forward == len(batch.y)
    (tmp_path / "g.py").write_text("def price(x):\n    return x\n")
    wide = load_callable(root=tmp_path, file="g.py:price", output="values")
    with pytest.raises(LoadError, match="one per sample"):
        wide.values(batch)


def test_an_audit_of_prices_runs_and_what_needs_classes_is_skipped(tmp_path):
    truth, said, site = prices(5, shift=-0.6)
    rows = [f"{t},{s},{g}" for t, s, g in zip(truth, said, site, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["price,said,site", *rows]) + "\n")
    (tmp_path / "audit.toml").write_text("""
name = "prices"
[model]
use = "predictions"
args = { value = "said" }
[data]
use = "csv"
args = { path = "t.csv", target = "price", types = { price = "number" }, groups = ["site"] }
[checks."fairness.regression"]
[checks."fairness.groups"]
[[rules]]
run = "fairness.regression"
measurement = "mean_error_difference"
at_least = -0.1
rationale = "a test"
""")
    answer = dlaudit_command(
        "run", "audit.toml", "--out", "out", "--executor", "inline", folder=tmp_path
    )
    assert answer.code == 1, answer.stderr
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    kinds = {run["id"]: run["outcome"]["kind"] for run in record["runs"]}
    assert kinds == {"fairness.regression": "measured", "fairness.groups": "skipped"}
    assert dlaudit_command("plan", "audit.toml", folder=tmp_path).code == 0
