"""Two runs are compared sample by sample, and moved goalposts are seen."""

import json

import msgspec
import numpy as np
import pytest
import torch
from commandline import dlaudit_command
from torch import nn

import dlaudit
from dlaudit.audit.difference import Flip, compare, judged_alike
from dlaudit.audit.record import Rule
from dlaudit.errors import RunFolderError
from dlaudit.testing import toy_arrays, toy_data, toy_model

RULE = {"run": "toy.accuracy", "measurement": "accuracy", "at_least": 0.5}


def audited(model, out, plug, *, rules=(RULE,), data=None):
    dlaudit.audit(
        model, data or toy_data(), checks={"toy.accuracy": {}}, rules=rules, plugins=[plug], out=out
    )
    return out


def broken_model(*, classes=4):
    """The toy model after it has forgotten its last class."""
    model = toy_model(classes=classes)
    with torch.no_grad():
        model.module.net.head.bias[-1] = -1e3
    net = model.module.net
    assert isinstance(net, nn.Module)
    return dlaudit.TorchModel(net, name="toy", bounds=(0.0, 1.0), classes=model.classes)


def test_a_run_does_not_differ_from_itself(tmp_path, plug):
    run = audited(toy_model(), tmp_path / "a", plug)
    difference = compare(run, run)
    assert difference.same_plan
    assert difference.same_model
    assert difference.same_data
    assert not difference.changes
    assert not difference.turns
    assert not difference.criteria
    (answers,) = [one for one in difference.pairings if one.run == "answers"]
    assert (answers.difference, answers.flips, answers.p) == (0.0, (), 1.0)


def test_flipped_samples_are_named_and_counted(tmp_path, plug):
    before = audited(toy_model(), tmp_path / "a", plug)
    after = audited(broken_model(), tmp_path / "b", plug)
    y = toy_arrays()["y"]
    x = torch.as_tensor(toy_arrays()["x"])
    good = np.asarray(toy_model().logits(x)).argmax(1) == y
    bad = np.asarray(broken_model().logits(x)).argmax(1) == y
    difference = compare(before, after)
    assert not difference.same_model
    (answers,) = [one for one in difference.pairings if one.run == "answers"]
    assert (answers.only_first, answers.only_second) == ((good & ~bad).sum(), (bad & ~good).sum())
    assert answers.only_first > 30
    assert answers.difference == pytest.approx(bad.mean() - good.mean())
    assert answers.interval.high < 0
    assert {flip.id for flip in answers.flips} == set(np.flatnonzero(good != bad).astype(str))
    assert answers.flips[0] == Flip(id=answers.flips[0].id, before="yes", after="no")


def test_a_changed_value_stands_beside_the_old_one(tmp_path, plug):
    before = audited(toy_model(), tmp_path / "a", plug)
    after = audited(broken_model(), tmp_path / "b", plug)
    (change,) = [one for one in compare(before, after).changes if one.name == "accuracy"]
    assert change.run == "toy.accuracy"
    assert change.before.value > change.after.value


def test_a_lowered_threshold_is_seen_with_its_turned_verdict(tmp_path, plug):
    strict, mild = {**RULE, "at_least": 0.9}, {**RULE, "at_least": 0.1}
    before = audited(broken_model(), tmp_path / "a", plug, rules=[strict])
    after = audited(broken_model(), tmp_path / "b", plug, rules=[mild])
    difference = compare(before, after)
    assert not difference.same_plan
    assert difference.criteria == (
        "toy.accuracy.accuracy: was accuracy >= 0.9, is accuracy >= 0.1",
    )
    (turn,) = difference.turns
    assert (turn.before, turn.after) == ("fail", "pass")


def test_added_and_dropped_criteria_are_seen(tmp_path, plug):
    before = audited(toy_model(), tmp_path / "a", plug, rules=[RULE])
    after = audited(toy_model(), tmp_path / "b", plug, rules=[{**RULE, "id": "mine"}])
    assert compare(before, after).criteria == (
        "toy.accuracy.accuracy: dropped, it was accuracy >= 0.5",
        "mine: added, accuracy >= 0.5",
    )


def test_another_level_is_another_criterion():
    rule = Rule(id="r", run="a", measurement="m", at_least=0.5)
    assert judged_alike(rule) != judged_alike(msgspec.structs.replace(rule, level=0.9))
    assert judged_alike(rule) == judged_alike(msgspec.structs.replace(rule, rationale="other"))


def test_samples_that_only_one_run_holds_are_not_paired(tmp_path, plug):
    before = audited(toy_model(), tmp_path / "a", plug, data=toy_data(100))
    after = audited(toy_model(), tmp_path / "b", plug, data=toy_data(60))
    difference = compare(before, after)
    assert not difference.same_data
    assert {one.n for one in difference.pairings} == {60}


def test_altered_evidence_is_refused(tmp_path, plug):
    run = audited(toy_model(), tmp_path / "a", plug)
    for table in (run / "evidence").glob("*.npz"):
        table.write_bytes(b"altered")
    with pytest.raises(RunFolderError, match="is missing or was altered"):
        compare(run, run)


def test_the_command_prints_text_and_json(tmp_path, plug):
    before = audited(toy_model(), tmp_path / "a", plug)
    after = audited(broken_model(), tmp_path / "b", plug)
    code, out, _ = dlaudit_command("diff", before, after, folder=tmp_path)
    assert code == 0
    assert "McNemar" in out
    code, out, _ = dlaudit_command("diff", before, after, "--json", folder=tmp_path)
    assert code == 0
    assert json.loads(out)["same_model"] is False
    assert dlaudit_command("diff", before, tmp_path / "nowhere", folder=tmp_path).code == 2
