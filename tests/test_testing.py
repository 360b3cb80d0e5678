"""The conformance kit clears a part that keeps to the contract and names every way to break it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlaudit.audit.judge import blocking_runs, exit_code
from dlaudit.audit.record import AuditRecord, canonical, read_record
from dlaudit.testing import (
    NotConforming,
    conforms,
    performed,
    sample_record,
    toy_arrays,
    toy_data,
    toy_model,
    toy_subject,
)

HEAD = """
import itertools
import torch
import numpy as np
from typing import ClassVar
from torch import nn
from dlaudit import (
    ArrayDataset, Attack, AuditRecord, Batch, Card, Check, Dataset, Measurement, Model, Needs, Rule,
    Suite, TorchModel, Undefined,
)
from dlaudit.testing import toy_arrays, toy_data, toy_model
count = itertools.count()

def number(name, value, **more):
    return Measurement(name=name, value=value, n=1, exact="counted", **more)
"""

GOOD = '''
class Fine(Check):
    """Measure a share."""
    needs: ClassVar[Needs] = Needs(model=("logits",), data=("labels",))
    measures: ClassVar[tuple[str, ...]] = ("share",)
    def measure(self, bench):
        yield number("share", float(bench.answers().correct.mean()))

class Noise(Attack):
    """Uniform noise."""
    def perturb(self, model, batch, threat, generator):
        return batch.x + threat.epsilon * (2 * torch.rand(batch.x.shape, generator=generator) - 1)

def net() -> Model:
    """The toy model."""
    return toy_model()

def rows() -> Dataset:
    """The toy data."""
    return toy_data()

FINE = Suite(
    name="good.fine", title="A suite", runs={"good.fine": {}},
    rules=(Rule(id="", run="good.fine", measurement="share", at_least=0.5, rationale="r"),),
)

def text(record: AuditRecord) -> str:
    """Every run."""
    return "\\n".join(run.id for run in record.runs)
'''


def plugin(folder: Path, name: str, body: str) -> Path:
    (folder / f"{name}.py").write_text(HEAD + body)
    return folder / f"{name}.py"


@pytest.mark.parametrize(
    ("kind", "name"),
    [("check", "fine"), ("attack", "noise"), ("model", "net"), ("dataset", "rows"),
     ("suite", "fine"), ("renderer", "text"), ("checks", "fine")],
)  # fmt: skip
def test_a_part_that_keeps_to_the_contract_conforms(kind: str, name: str, tmp_path: Path) -> None:
    conforms(kind, f"good.{name}", plugins=[plugin(tmp_path, "good", GOOD)])


CHECK = '''
class Part(Check):
    """A check."""
    needs: ClassVar[Needs] = Needs(model=("decisions",), data=("labels",))
    measures: ClassVar[tuple[str, ...]] = ("share",)
'''
ATTACK = '''
class Part(Attack):
    """An attack."""
    def measure(self, bench):
        for e in self.epsilon:
'''
MODEL = '''
def part() -> Model:
    """A model."""
'''
NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(64, 4)
    def forward(self, x):
        return {}
"""
DATA = '''
class Rows(Dataset):
    """Rows."""
    def __init__(self, **over):
        self.card, self.classes = Card(name="r", fingerprint="f"), ("a", "b")
        self.over = over
    def batches(self, split="test"):
        x = np.zeros((4, 1, 8, 8), dtype="float32")
        yield Batch(**{"x": x, "y": np.array([0, 1, 0, 1]), "id": np.array(list("abcd")), **self.over})

def part() -> Dataset:
    """Data."""
'''
SUITE = """
def rule(**of):
    gap = {"run": "overfitting.gap", "measurement": "accuracy_gap", "at_most": 0.05}
    return Rule(**{"id": "", **gap, "rationale": "r", **of})

PART = Suite(name="s", title="A suite", """
RENDERER = '''
def part(record: AuditRecord) -> str:
    """A report."""
'''


def code(*parts: str) -> str:
    """Code out of its parts: whole blocks, and lines that follow them."""
    return "".join(part if part.endswith("\n") else f"{part}\n" for part in parts)


BROKEN: list[tuple[str, str, str, tuple[str, ...]]] = [
    # what is wrong, kind, code, what the kit says
    (
        "no docstring",
        "check",
        code(
            CHECK.replace('    """A check."""\n', ""),
            "    def measure(self, bench):",
            '        yield number("share", 1)',
        ),
        ("it has no docstring",),
    ),
    (
        "no measures",
        "check",
        code(
            CHECK.replace('("share",)', "()"),
            "    def measure(self, bench):",
            '        yield number("share", 1)',
        ),
        ("`measures` is empty", "did not end as errored"),
    ),
    (
        "chance",
        "check",
        code(
            CHECK,
            "    def measure(self, bench):",
            "        bench.answers()",
            '        yield number("share", next(count))',
        ),
        ("two runs with one seed differ",),
    ),
    (
        "a crash",
        "check",
        code(CHECK, "    def measure(self, bench):", "        yield 1 / 0"),
        ("on the toy model: ZeroDivisionError: division by zero",),
    ),
    (
        "a need that nobody meets",
        "check",
        code(CHECK.replace('"labels"', '"audio"'), "    def measure(self, bench): ..."),
        ("lack what it needs: not offered: data: audio",),
    ),
    (
        "swallowed faults",
        "check",
        code(
            CHECK,
            "    def measure(self, bench):",
            "        try:",
            "            bench.answers()",
            "        except Exception:",
            "            pass",
            '        yield number("share", 1)',
        ),
        (
            "a crash of the model did not end as errored",
            "NaN logits of the model did not end as errored",
        ),
    ),
    (
        "a parameter without a value",
        "check",
        code(CHECK, "    needed: int", "    def measure(self, bench): ..."),
        (".needed: is required",),
    ),
    (
        "no clean accuracy",
        "attack",
        code(ATTACK, '            yield number("robust_accuracy", 0.5, conditions={"epsilon": e})'),
        ("it measures no clean_accuracy",),
    ),
    (
        "better than clean",
        "attack",
        code(
            ATTACK,
            '            yield number("robust_accuracy", 0.9, conditions={"epsilon": e})',
            '            yield number("inputs_moved", 1, conditions={"epsilon": e})',
            '        yield number("clean_accuracy", 0.5)',
        ),
        (
            "at epsilon 0 the robust accuracy is not the clean accuracy",
            "at epsilon 0 it moved inputs",
            "the robust accuracy exceeds the clean accuracy",
        ),
    ),
    (
        "an attack on no curve",
        "attack",
        code(ATTACK, "            yield 1 / e"),
        ("on the toy model", "WrongYield"),
    ),
    ("no model", "model", code(MODEL, "    return 3"), ("it returned a int, expected a Model",)),
    (
        "changing fingerprints",
        "model",
        code(MODEL, "    return TorchModel(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))"),
        ("the same files give two fingerprints",),
    ),
    (
        "a crash",
        "model",
        code(NET.format("1 / 0"), MODEL, "    return TorchModel(Net())"),
        ("it cannot answer toy images (12, 1, 8, 8): division by zero",),
    ),
    (
        "a batch that answers together",
        "model",
        code(
            NET.format("self.head(x.flatten(1)) + x.mean()"), MODEL, "    return TorchModel(Net())"
        ),
        ("its answers depend on the size of the batch",),
    ),
    (
        "names for other classes",
        "model",
        code(
            NET.format("self.head(x.flatten(1))"),
            MODEL,
            "    return TorchModel(Net(), classes=('a', 'b'))",
        ),
        ("2 class names for 4 logits",),
    ),
    (
        "a strange shape",
        "model",
        code(NET.format("torch.zeros(len(x), 2, 2)"), MODEL, "    return TorchModel(Net())"),
        ("logits have shape (12, 2, 2), expected (12, classes)",),
    ),
    (
        "no data set",
        "dataset",
        code("def part() -> Dataset:", "    '''Data.'''", "    return 3"),
        ("it returned a int, expected a Dataset",),
    ),
    (
        "repeating ids",
        "dataset",
        code(DATA, "    return Rows(id=np.array(list('abca')))"),
        ("ids repeat",),
    ),
    (
        "strange labels",
        "dataset",
        code(DATA, "    return Rows(y=np.array([0, 1, 2, 3]))"),
        ("labels are not indices into its 2 classes",),
    ),
    (
        "fractions for labels",
        "dataset",
        code(DATA, "    return Rows(y=np.array([0.0, 1, 0, 1]))"),
        ("labels are not indices",),
    ),
    (
        "columns of two lengths",
        "dataset",
        code(DATA, "    return Rows(id=np.array(list('abc')))"),
        ("x, y and id of a batch differ in length",),
    ),
    (
        "rows that change",
        "dataset",
        code(
            DATA,
            "    class Moving(Rows):",
            "        def batches(self, split='test'):",
            "            for batch in super().batches(split):",
            "                yield batch._replace(x=batch.x + next(count))",
            "    return Moving()",
        ),
        ("reading it twice gives different rows",),
    ),
    (
        "a wrong size",
        "dataset",
        code(
            DATA,
            "    class Short(Rows):",
            "        def size(self, split='test'):",
            "            return 3",
            "    return Short()",
        ),
        ("size() says 3, there are 4 rows",),
    ),
    (
        "a changing fingerprint",
        "dataset",
        code(
            DATA,
            "    made = Rows()",
            "    made.card = Card(name='r', fingerprint=str(next(count)))",
            "    return made",
        ),
        ("the same files give two fingerprints",),
    ),
    (
        "an unknown check",
        "suite",
        code(SUITE, 'runs={"overfitting.gapp": {}})'),
        ("overfitting.gapp: no check is called",),
    ),
    (
        "an unknown parameter",
        "suite",
        code(SUITE, 'runs={"overfitting.gap": {"x": 1}})'),
        ("overfitting.gap.x: overfitting.gap has no such parameter",),
    ),
    (
        "a rule without a run",
        "suite",
        code(SUITE, 'runs={"overfitting.gap": {}}, rules=(rule(run="x"),))'),
        ("a rule speaks of the run 'x', which it has not",),
    ),
    (
        "a rule on nothing",
        "suite",
        code(SUITE, 'runs={"overfitting.gap": {}}, rules=(rule(measurement="x"),))'),
        ("a rule speaks of 'x', which overfitting.gap does not measure",),
    ),
    (
        "a rule without a reason",
        "suite",
        code(SUITE, 'runs={"overfitting.gap": {}}, rules=(rule(rationale=""),))'),
        ("the rule on overfitting.gap.accuracy_gap has no rationale",),
    ),
    ("no text", "renderer", code(RENDERER, "    return 3"), ("it returned a int, expected a str",)),
    (
        "two texts",
        "renderer",
        code(RENDERER, "    return ' '.join(run.id for run in record.runs) + str(next(count))"),
        ("it renders one record in two ways",),
    ),
    (
        "silence",
        "renderer",
        code(RENDERER, "    return 'toy.failing'"),
        ("the report does not name toy.crashed", "the report does not name toy.skipped"),
    ),
]


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [row[1:] for row in BROKEN],
    ids=[f"{row[1]}: {row[0]}" for row in BROKEN],
)
def test_every_breach_of_the_contract_is_named(
    kind: str, body: str, said: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(NotConforming) as caught:
        conforms(kind, "bad.part", plugins=[plugin(tmp_path, "bad", body)])
    for words in said:
        assert words in str(caught.value)


def test_a_kind_without_a_kit_is_told() -> None:
    with pytest.raises(NotConforming, match="there is no conformance kit for executors"):
        conforms("executor", "inline")


@pytest.mark.parametrize("args", [{"n": 12}, {"fault": "none"}])
def test_arguments_reach_the_part(args: dict[str, Any], plug: Path) -> None:
    conforms("dataset", "toy.data", plugins=[plug], args=args)
    with pytest.raises(NotConforming, match="on the toy model: RuntimeError: planted"):
        conforms("check", "toy.accuracy", plugins=[plug], args={"fault": "exception"})


# -- the doubles -------------------------------------------------------------------------------------


def test_the_toy_model_is_right_on_most_of_the_toy_images_and_the_groups_are_even() -> None:
    model, data = toy_model(), toy_data()
    (batch,) = data.batches("test")
    accuracy = (np.asarray(model.logits(batch.x)).argmax(1) == batch.y).mean()
    assert 0.9 < accuracy < 1
    assert {"images", "labels", "groups", "mask", "train"} <= data.offers
    assert batch.x.min() >= 0
    assert batch.x.max() <= 1
    assert not np.array_equal(batch.x, next(iter(data.batches("train"))).x)
    again = toy_arrays()
    assert np.array_equal(again["x"], batch.x)


def test_a_run_of_a_check_needs_no_engine() -> None:
    from dlaudit.audit.registry import Registry

    run = performed("attacks.fgsm", toy_subject(), Registry(), params={"epsilon": 0.1}, seed=3)
    assert run.outcome.measurements
    assert run.cost.backward


def test_the_sample_record_holds_every_outcome_and_survives_storing() -> None:
    record = sample_record()
    assert read_record(canonical(record)) == record
    assert isinstance(record, AuditRecord)
    assert [run.id for run in blocking_runs(record)] == ["toy.crashed", "toy.skipped"]
    assert exit_code(record) == 1
