"""The plug-ins in examples/: short, true to the contract, and at work in an audit."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from commandline import dlaudit_command

from dlaudit.audit.record import AuditRecord, Measured, read_record
from dlaudit.testing import conforms, toy_arrays

PLUGINS = Path(__file__).parents[1] / "examples" / "plugins"
CLASSES = ("a", "b", "c", "d")
MOST_LINES = 30

PARTS = [
    ("check", "overconfidence.overconfidence", {}),
    ("attack", "noise.uniform_noise", {}),
    ("model", "nearest_mean.class_means", {"path": "means.npz"}),
    ("dataset", "class_arrays.folder", {"path": "holdout"}),
    ("suite", "house.release", {}),
    ("renderer", "verdict_table.tsv", {}),
    ("catalogue", "release_rules.house", {}),
]

PLAN = """
name = "toy patches"
seed = 1
suites = ["house.release"]
catalogues = ["eu_ai_act", "release_rules.house"]

[model]
use = "nearest_mean.class_means"
args = { path = "means.npz", bounds = [0, 1] }

[data]
use = "class_arrays.folder"
args = { path = "holdout" }
[data.train]
use = "class_arrays.folder"
args = { path = "train" }

[checks."overconfidence.overconfidence"]
sure = 0.5
[checks."noise.uniform_noise"]
epsilon = [0, 0.2]
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Class means and two folders of arrays, as a user might have them."""
    folder = tmp_path_factory.mktemp("files")
    for split, seed in (("train", 1), ("holdout", 2)):
        arrays = toy_arrays(400, seed=seed)
        (folder / split).mkdir()
        for label, name in enumerate(CLASSES):
            np.save(folder / split / f"{name}.npy", arrays["x"][arrays["y"] == label])
    means = {name: np.load(folder / "train" / f"{name}.npy").mean(axis=0) for name in CLASSES}
    np.savez(folder / "means.npz", **means)
    (folder / "audit.toml").write_text(PLAN)
    return folder


@pytest.fixture(scope="module")
def record(files) -> AuditRecord:
    """The audit that uses all plug-ins at once."""
    words = [word for file in sorted(PLUGINS.glob("*.py")) for word in ("--plugin", file)]
    ended = dlaudit_command(
        "run", "audit.toml", *words, "--out", "out", "--executor", "inline",
        "--format", "verdict_table.tsv", folder=files,
    )  # fmt: skip
    assert ended.code in {0, 4}, ended.stderr
    return read_record((files / "out" / "record.json").read_bytes())


@pytest.mark.parametrize("file", sorted(PLUGINS.glob("*.py")), ids=lambda file: file.stem)
def test_an_example_has_at_most_thirty_lines(file):
    lines = [line for line in file.read_text().splitlines() if line.strip()]
    assert len(lines) <= MOST_LINES


def test_there_is_an_example_of_each_kind():
    assert {name.partition(".")[0] for _, name, _ in PARTS} == {
        f.stem for f in PLUGINS.glob("*.py")
    }


@pytest.mark.parametrize(("kind", "name", "args"), PARTS)
def test_an_example_keeps_to_the_contract(kind, name, args, files, monkeypatch):
    monkeypatch.chdir(files)
    conforms(kind, name, plugins=[PLUGINS / f"{name.partition('.')[0]}.py"], args=args)


def test_all_examples_work_together_in_one_audit(record, files):
    assert [run.id for run in record.runs] == [
        "overfitting.gap", "house.small_changes", "overconfidence.overconfidence",
        "noise.uniform_noise",
    ]  # fmt: skip
    assert all(isinstance(run.outcome, Measured) for run in record.runs)
    assert record.model.name == "means"
    sizes = [len(np.load(files / "holdout" / f"{name}.npy")) for name in CLASSES]
    assert record.data.facts["class_counts"] == sizes


def test_a_guests_catalogue_stands_in_the_record_with_its_digest(record):
    """Its items are found like those of the law, and nothing supports what no rule speaks of."""
    own = [one for one in record.findings if one.requirement.startswith("house:")]
    assert [one.status for one in own] == ["no-evidence", "human-process-needed", "no-evidence"]
    assert [card.name for card in record.catalogues] == ["eu_ai_act", "release_rules.house"]
    assert record.catalogues[1].items == 3
    assert len(record.catalogues[1].sha256) == 64


def test_the_code_of_a_plug_in_is_named_in_the_record_by_its_digest(record):
    assert set(record.plan["plugins"]) == {file.name for file in PLUGINS.glob("*.py")}


def test_overconfident_errors_are_counted_as_by_hand(record, files):
    """Squared distances to the means, softmax, wrong answers above a half."""
    means = np.load(files / "means.npz")
    flat = np.stack([means[name].ravel() for name in CLASSES])
    errors = sure = 0
    for label, name in enumerate(CLASSES):
        x = np.load(files / "holdout" / f"{name}.npy")
        logits = -((x.reshape(len(x), 1, -1) - flat) ** 2).sum(axis=2)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        top = shifted.max(axis=1) / shifted.sum(axis=1)
        wrong = logits.argmax(axis=1) != label
        errors += int(wrong.sum())
        sure += int((wrong & (top >= 0.5)).sum())
    found = outcome(record, "overconfidence.overconfidence").measurements[0]
    assert (found.n, found.value) == (errors, pytest.approx(sure / errors))


def test_random_noise_without_a_budget_changes_nothing_and_with_one_never_helps(record):
    values = {
        (one.name, one.conditions.get("epsilon")): one.value
        for one in outcome(record, "noise.uniform_noise").measurements
    }
    clean = values["clean_accuracy", None]
    assert values["robust_accuracy", 0.0] == clean
    assert values["robust_accuracy", 0.2] <= clean


def test_a_guest_renderer_writes_its_report_into_the_run(record, files):
    written = [file for file in (files / "out").iterdir() if "verdict_table" in file.name]
    assert len(written) == 1
    lines = written[0].read_text().splitlines()
    assert {line.split("\t")[0] for line in lines[1:]} == {run.id for run in record.runs}
    written_verdicts = {line.split("\t")[2]: line.split("\t")[3] for line in lines[1:]}
    assert {verdict.rule: verdict.status for verdict in record.verdicts}.items() <= (
        written_verdicts.items()
    )


def test_the_run_is_intact_and_can_be_rendered_again(record, files):
    assert dlaudit_command("verify", "out", folder=files).code == 0
    again = dlaudit_command(
        "report", "out", "--format", "verdict_table.tsv", "--plugin", PLUGINS / "verdict_table.py",
        folder=files,
    )  # fmt: skip
    assert again.stdout.startswith("run\toutcome")


def test_a_process_worker_finds_the_plug_ins_too(record, files):
    """Workers import the files themselves, and measure the same."""
    words = [word for file in sorted(PLUGINS.glob("*.py")) for word in ("--plugin", file)]
    dlaudit_command(
        "run", "audit.toml", *words, "--out", "again", "--executor", "process:1",
        "--format", "json", "--skip", "house.small_changes", folder=files,
    )  # fmt: skip
    again = read_record((files / "again" / "record.json").read_bytes())
    for run in again.runs:
        assert msgspec.to_builtins(run.outcome) == msgspec.to_builtins(outcome(record, run.id))


def test_a_file_that_defines_no_part_is_refused(files, tmp_path):
    """A forgotten annotation is told, not passed over."""
    (tmp_path / "nothing.py").write_text("def tsv(record):\n    return ''\n")
    ended = dlaudit_command(
        "list", "renderers", "--plugin", tmp_path / "nothing.py", folder=tmp_path
    )
    assert ended.code == 2
    assert "defines no part" in ended.stderr


def outcome(record: AuditRecord, run: str) -> Measured:
    """What a run measured."""
    found = next(one.outcome for one in record.runs if one.id == run)
    assert isinstance(found, Measured), json.dumps(msgspec.to_builtins(found))
    return found
