"""A training history: read as trainers write it, judged by the published signs, never guessed."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from commandline import dlaudit_command
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaudit.audit.parts import Check
from dlaudit.audit.record import Artifact, Measurement, Skipped, Undefined
from dlaudit.audit.registry import Registry
from dlaudit.errors import LoadError
from dlaudit.overfitting import turning
from dlaudit.overfitting.history import History
from dlaudit.overfitting.log_reading import Series, read_log, role_of
from dlaudit.testing import performed, toy_subject

TURNING = [1.0, 0.8, 0.6, 0.5, 0.45, 0.44] + [0.46 + 0.01 * k for k in range(12)]
FALLING = [1 / (1 + k) for k in range(18)]


def written(tmp_path, train, val, **more):
    path = tmp_path / "history.csv"
    columns = {"epoch": range(1, len(val) + 1), "loss": train, "val_loss": val, **more}
    rows = zip(*columns.values(), strict=True)
    lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines))
    return path


def told(path, **params):
    run = performed("overfitting.history", toy_subject(), Registry(),
                    params={"path": str(path), **params})  # fmt: skip
    outcome = run.outcome
    return {one.name: one for one in (*outcome.measurements, *outcome.undefined)}


# -- the signs ---------------------------------------------------------------------------------------


def test_a_turned_history_as_computed_by_hand(tmp_path):
    """Lowest at epoch 6 (0.44), last 0.57: 29.5 % above; the last ten rise without exception."""
    found = told(written(tmp_path, FALLING, TURNING))
    values = {name: one.value for name, one in found.items() if isinstance(one, Measurement)}
    assert values["best_epoch"] == 6
    assert values["loss_above_best"] == pytest.approx(0.13 / 0.44)
    assert values["validation_loss_trend"] == pytest.approx(1.0)
    assert (values["validation_loss_turned"], values["early_stopping_missed"]) == (1, 1)
    assert values["overtraining_signs"] == 2
    assert (values["nonfinite_epochs"], values["diverged_epochs"]) == (0, 0)
    assert "no shipped_epoch is declared" in found["shipped_not_best"].reason


def test_whoever_shipped_the_best_epoch_missed_nothing(tmp_path):
    path = written(tmp_path, FALLING, TURNING, val_accuracy=[1 - v / 2 for v in TURNING])
    best, last = told(path, shipped_epoch=6), told(path, shipped_epoch=18)
    for name, of_best, of_last in (
        ("overtraining_signs", 1, 3), ("validation_loss_turned", 1, 1),
        ("early_stopping_missed", 0, 1), ("shipped_not_best", 0, 1), ("loss_above_best", 0, 0.13 / 0.44),
        ("accuracy_below_best", 0, 0.065),
    ):  # fmt: skip
        assert best[name].value == pytest.approx(of_best), name
        assert last[name].value == pytest.approx(of_last), name


def test_a_training_loss_that_no_longer_falls_is_no_overtraining(tmp_path):
    flat = FALLING[:6] + [FALLING[5] + 0.001 * (-1) ** k for k in range(12)]
    assert told(written(tmp_path, flat, TURNING))["validation_loss_turned"].value == 0


def test_a_history_that_goes_on_falling_shows_no_sign(tmp_path):
    found = told(written(tmp_path, FALLING, [v + 0.1 for v in FALLING]))
    assert found["overtraining_signs"].value == 0
    assert found["validation_loss_trend"].value == pytest.approx(-1)


def kendall(values):
    """Kendall's tau-b against time, pair by pair."""
    pairs = [(j - i, b - a) for i, a in enumerate(values) for j, b in enumerate(values) if i < j]
    signs = [np.sign(d) for _, d in pairs]
    return sum(signs) / np.sqrt(len(pairs) * np.count_nonzero(signs))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9).map(float), min_size=10, max_size=30))
def test_the_trend_is_kendalls_pair_by_pair_and_turns_with_the_series(values):
    found = turning.trend(values)
    if len(set(values)) == 1:
        assert found is None
        return
    assert found.tau == pytest.approx(kendall(values), abs=1e-9)
    assert turning.trend(values[::-1]).tau == pytest.approx(-found.tau, abs=1e-9)
    assert not (found.rises and found.falls)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.floats(0.01, 10) | st.just(float("nan")) | st.just(float("inf")), min_size=1, max_size=30
    )
)
def test_no_value_is_lost_between_finite_and_not(values):
    series = Series([float(k) for k in range(len(values))], values)
    whole = turning.finite(series)
    assert sorted(whole.at + turning.not_finite(series)) == series.at
    if whole.at:
        assert turning.best(whole)[1] == min(whole.values)
        assert set(turning.diverged(series)) <= set(whole.at)


def test_too_short_a_history_is_undefined_never_fine(tmp_path):
    found = told(written(tmp_path, FALLING[:9], FALLING[:9]))
    assert (
        "9 validation losses that are numbers, fewer than 10"
        in found["validation_loss_turned"].reason
    )
    assert isinstance(found["overtraining_signs"], Undefined)


def test_epochs_that_are_no_numbers_and_worse_than_the_beginning_are_counted(tmp_path):
    train = [*FALLING[:-3], "nan", "1.5", "inf"]
    found = told(written(tmp_path, train, [*FALLING[:-1], ""]))
    assert found["nonfinite_epochs"].value == 2
    assert found["diverged_epochs"].value == 1


def test_a_last_epoch_without_a_number_leaves_early_stopping_undefined(tmp_path):
    found = told(written(tmp_path, FALLING, [*FALLING[:-1], "nan"]))
    assert "is not finite" in found["early_stopping_missed"].reason
    assert isinstance(found["overtraining_signs"], Undefined)


# -- reading -----------------------------------------------------------------------------------------

AS_WRITTEN = {
    "keras": (json.dumps({"loss": [3.0, 2.0], "val_loss": [3.5, 2.5]}), "row"),
    "trainer state": (
        json.dumps({"log_history": [
            {"epoch": 1, "loss": 3.0}, {"epoch": 1, "eval_loss": 3.5},
            {"epoch": 2, "loss": 2.0}, {"epoch": 2, "eval_loss": 2.5},
        ]}), "epoch",
    ),
    "lightning": (
        "epoch,lr-Adam,step,train_loss_epoch,val_loss\n0,.1,9,,3.5\n0,.1,9,3.0,\n1,.1,19,,2.5\n1,.1,19,2.0,\n",
        "epoch",
    ),
    "tensorboard": (
        "run,tag,step,value\na,loss/train,1,3.0\na,loss/val,1,3.5\na,loss/train,2,2.0\na,loss/val,2,2.5\n",
        "step",
    ),
    "several a step": ("epoch;Train Loss;Validation Loss\n1;4.0;3.5\n1;2.0;\n2;2.0;2.5\n", "epoch"),
    "json lines": (
        "\n".join(json.dumps({"epoch": k, "train_loss": 4 - k, "val_loss": 4.5 - k}) for k in (1, 2)),
        "epoch",
    ),
}  # fmt: skip


@pytest.mark.parametrize("writer", AS_WRITTEN)
def test_histories_are_read_as_trainers_write_them(writer, tmp_path):
    text, time = AS_WRITTEN[writer]
    path = tmp_path / "log"
    path.write_text(text)
    log = read_log(path, {})
    assert log.series["train_loss"].values == [3.0, 2.0]
    assert log.series["val_loss"].values == [3.5, 2.5]
    assert log.time == time


def test_names_say_what_a_column_is_or_nothing():
    roles = {
        "loss": "train_loss", "Loss/train": "train_loss", "valLoss": "val_loss", "eval/loss": "val_loss",
        "acc": "train_accuracy", "val_sparse_categorical_accuracy": "val_accuracy", "lr": None,
        "train_loss_step": None, "test_loss": None, "val_loss_best": None, "classification_loss": None,
    }  # fmt: skip
    assert {name: role_of(name) for name in roles} == roles


@pytest.mark.parametrize(
    ("text", "columns", "words"),
    [
        ("loss,train_loss\n1,2\n", {}, "expected one column for train_loss, got loss, train_loss"),
        ("a,b\n1,2\n", {}, "expected a column with a loss"),
        ("epoch,loss\n1,x\n", {}, "expected a number in column 'loss' of row 1, got 'x'"),
        ("epoch,loss\n1,2,3\n", {}, "expected 2 cells in row 2, got 3"),
        ("1,2\n3,4\n", {}, "expected column names in the first line, got numbers"),
        ("epoch,loss\n", {}, "expected a line of column names and rows below it"),
        ("epoch,loss\n1,2\n", {"val_loss": "los"}, "Did you mean loss?"),
        ('{"loss": [1], "val_loss": [1, 2]}', {}, "columns of one length"),
        ("[1, 2]", {}, "expected a list of objects"),
        ('{"loss": [1', {}, "expected JSON"),
    ],
)  # fmt: skip
def test_what_is_no_history_is_refused_in_one_sentence(text, columns, words, tmp_path):
    path = tmp_path / "log"
    path.write_text(text)
    with pytest.raises(LoadError) as refused:
        read_log(path, columns)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_declared_column_is_believed(tmp_path):
    path = tmp_path / "log"
    path.write_text("round,train_loss,loss,held\n1,9,1,2\n2,9,1,3\n")
    log = read_log(path, {"time": "round", "train_loss": "loss", "val_loss": "held"})
    assert log.series["train_loss"].values == [1.0, 1.0]
    assert log.series["val_loss"] == Series([1.0, 2.0], [2.0, 3.0])


# -- in a plan ---------------------------------------------------------------------------------------


def test_without_a_history_the_run_is_skipped():
    run = performed("overfitting.history", toy_subject(), Registry())
    assert isinstance(run.outcome, Skipped)
    assert run.outcome.missing == ("plan: path of a training history",)


def test_other_checks_open_no_files():
    assert Check().open_files(None) is None


def test_the_history_itself_and_its_picture_are_evidence(tmp_path):
    from dlaudit.audit.bench import Bench
    from dlaudit.audit.evidence import EvidenceStore, file_digest

    path = written(tmp_path, FALLING, TURNING)
    bench = Bench(
        toy_subject(), run="overfitting.history", plan_seed=1, store=EvidenceStore(tmp_path),
        cache=tmp_path, root=tmp_path,
    )  # fmt: skip
    found = [one for one in History(path=path.name).measure(bench) if isinstance(one, Artifact)]
    picture, log = found
    assert log.sha256 == file_digest(path)
    svg = ET.fromstring((tmp_path / picture.path).read_bytes())
    words = [one.text for one in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {"training loss", "validation loss", "best, epoch 6"} <= set(words)


PLAN = """
model.use = "toy.model"
data.use = "toy.data"
[checks."overfitting.history"]
path = "{path}"
{more}
"""


@pytest.mark.parametrize(
    ("path", "more", "words"),
    [
        ("history.cvs", "", "Did you mean history.csv?"),
        ("history.csv", "shipped_epoch = 99", "expected one with a validation loss, from 1 to 18, got 99"),
        ("history.csv", 'columns = {{ val_loss = "v" }}', "expected a column 'v' for val_loss"),
        ("history.csv", 'columns = {{ vall_loss = "v" }}', "vall_loss: nothing is called so. Did you"),
    ],
)  # fmt: skip
def test_a_plan_with_a_wrong_history_ends_before_anything_is_measured(
    path, more, words, tmp_path, plug
):
    written(tmp_path, FALLING, TURNING)
    more = more.replace("{{", "{").replace("}}", "}")
    (tmp_path / "audit.toml").write_text(PLAN.format(path=path, more=more))
    ended = dlaudit_command(
        "run",
        "audit.toml",
        "--plugin",
        plug,
        "--out",
        "out",
        "--executor",
        "inline",
        folder=tmp_path,
    )
    assert ended.code == 2
    assert 'checks."overfitting.history"' in ended.stderr
    assert words in ended.stderr, ended.stderr
    assert not (tmp_path / "out").exists()


def test_a_plan_with_a_turned_history_beside_it_fails_by_the_default_rule(tmp_path, plug):
    written(tmp_path, FALLING, TURNING)
    plan = 'suites = ["overfitting"]\ndata.train = {{ use = "toy.data" }}\n' + PLAN
    (tmp_path / "audit.toml").write_text(plan.format(path="history.csv", more=""))
    ended = dlaudit_command(
        "run", tmp_path / "audit.toml", "--plugin", plug, "--out", "out", "--executor", "inline",
        folder=tmp_path.parent,
    )  # fmt: skip
    assert ended.code == 1, ended.stderr
    assert "overfitting.history.overtraining_signs" in ended.stdout
