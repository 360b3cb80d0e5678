"""Attacks that stop once their rules are decided: the same verdict, fewer samples, and it is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from comparison import lasting
from torch import nn

from dlaudit import Attack, Batch, Epsilon, Rule, TorchModel
from dlaudit.attacks.pgd import PGD
from dlaudit.audit.engine import audit
from dlaudit.audit.executor import InlineExecutor, Limits, ProcessExecutor
from dlaudit.audit.judge import judge
from dlaudit.audit.plan import Source
from dlaudit.audit.preview import preview
from dlaudit.audit.record import CheckRun, Measured
from dlaudit.audit.run_folder import JOURNAL, RECORD
from dlaudit.errors import RunFolderError

RUN = "attacks.tested"


class Pushes(Attack, frozen=True, kw_only=True):
    """Moves the one feature across zero where the budget allows; asks nothing of the model."""

    seen: ClassVar[list[int]] = []

    def perturb(self, model: Any, batch: Batch, threat: Any, generator: Any) -> torch.Tensor:
        self.seen.append(len(batch.y))
        return batch.x - threat.epsilon * torch.sign(batch.x)


def sign_model() -> TorchModel:
    net = nn.Linear(1, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0], [1.0]]))
        net.bias.zero_()
    return TorchModel(net, device="cpu", classes=("no", "yes"))


def planted(robust: float, n: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """x, y: every sample right, a share of them out of reach; those stand first in the file."""
    count = round(robust * n)
    x = np.concatenate([np.full(count, 5.0), np.full(n - count, 0.5)]).astype(np.float32)[:, None]
    return x, np.ones(n, dtype=np.int64)


def rule(**fields: Any) -> Rule:
    return Rule(
        **{"id": "r", "run": RUN, "measurement": "robust_accuracy", "at_least": 0.6} | fields
    )


def verdict(one: Rule, measurements: list[Any]) -> str:
    run = CheckRun(
        id=RUN, check=RUN, params={}, seed=0, seconds=0, device="cpu", cost=None,
        outcome=Measured(measurements=tuple(measurements)),
    )  # fmt: skip
    return judge(one, {RUN: run}).status


@pytest.mark.parametrize(("robust", "expected"), [(0.9, "pass"), (0.3, "fail")])
def test_a_clear_rule_is_decided_on_a_few_samples_taken_at_random_also_from_sorted_files(
    robust: float, expected: str, attacked: Callable[..., Any]
) -> None:
    """In stored order the first 600 samples are all robust: the rule would pass where it fails."""
    x, y = planted(robust)
    result = attacked(Pushes(epsilon=Epsilon(1)), sign_model(), x, y, ending=[rule()])
    found = result.one("robust_accuracy")
    assert found.n < 300
    assert found.interval.method == "beta-binomial confidence sequence"
    assert found.interval.low <= robust <= found.interval.high
    assert verdict(rule(), result.measurements) == expected
    (stopped,) = [one for one in found.caveats if one.name == "stopped_early"]
    assert f"Stopped after {found.n} of 2000 samples" in stopped.message
    assert "last: r)" in stopped.message
    assert not stopped.voids
    assert len(result.table["id"]) == len(set(result.table["id"])) == found.n
    assert result.table["robust"].mean() == pytest.approx(found.value)
    for name in ("clean_accuracy", "inputs_moved"):
        assert result.one(name).interval.method == found.interval.method
        assert result.one(name).caveats[-1].name == "stopped_early"


def test_a_close_rule_uses_all_the_data_and_stays_undecided(attacked: Callable[..., Any]) -> None:
    x, y = planted(0.6)
    result = attacked(Pushes(epsilon=Epsilon(1)), sign_model(), x, y, ending=[rule()])
    found = result.one("robust_accuracy")
    assert (found.n, found.value) == (2000, 0.6)
    assert verdict(rule(), result.measurements) == "inconclusive"
    assert not [one for one in found.caveats if one.name == "stopped_early"]
    assert found.interval.method == "beta-binomial confidence sequence"


def test_without_rules_every_sample_is_taken_in_stored_order(attacked: Callable[..., Any]) -> None:
    x, y = planted(0.9)
    result = attacked(Pushes(epsilon=Epsilon(1)), sign_model(), x, y)
    assert result.one("robust_accuracy").n == 2000
    assert result.one("robust_accuracy").interval.method == "wilson"
    assert result.table["id"].tolist() == [str(i) for i in range(2000)]


def test_it_goes_on_until_the_last_rule_is_decided_and_names_it(
    attacked: Callable[..., Any],
) -> None:
    x, y = planted(0.9)
    near = rule(id="near", at_least=0.8)
    alone = attacked(Pushes(epsilon=Epsilon(1)), sign_model(), x, y, ending=[rule()])
    both = attacked(Pushes(epsilon=Epsilon(1)), sign_model(), x, y, ending=[rule(), near])
    assert both.one("robust_accuracy").n > alone.one("robust_accuracy").n
    assert "last: near)" in both.one("robust_accuracy").caveats[-1].message


def test_a_rule_that_nothing_answers_keeps_the_run_going_to_the_end(
    attacked: Callable[..., Any],
) -> None:
    x, y = planted(0.9)
    deaf = rule(id="deaf", conditions={"epsilon": 7.0})
    result = attacked(Pushes(epsilon=Epsilon(1)), sign_model(), x, y, ending=[rule(), deaf])
    assert result.one("robust_accuracy").n == 2000


def test_a_stricter_level_is_what_the_interval_has(attacked: Callable[..., Any]) -> None:
    x, y = planted(0.9)
    strict = rule(level=0.999)
    result = attacked(Pushes(epsilon=Epsilon(1)), sign_model(), x, y, ending=[strict])
    assert result.one("robust_accuracy").interval.level == 0.999
    assert verdict(strict, result.measurements) == "pass"


def test_a_search_that_returns_nan_is_never_decided(attacked: Callable[..., Any]) -> None:
    class Broken(Pushes, frozen=True, kw_only=True):
        def perturb(self, model: Any, batch: Batch, threat: Any, generator: Any) -> torch.Tensor:
            return batch.x * float("nan")

    x, y = planted(0.9)
    result = attacked(Broken(epsilon=Epsilon(1)), sign_model(), x, y, ending=[rule()])
    assert result.one("robust_accuracy").n == 2000
    assert verdict(rule(), result.measurements) == "inconclusive"


def test_what_is_not_looked_at_is_not_attacked_and_a_subset_stays_one(
    attacked: Callable[..., Any],
) -> None:
    x, y = planted(0.9)
    Pushes.seen.clear()
    result = attacked(
        Pushes(epsilon=Epsilon(1), samples=500), sign_model(), x, y, ending=[rule(at_least=0.89)]
    )
    assert result.one("robust_accuracy").n == sum(Pushes.seen) == 500
    Pushes.seen.clear()
    short = attacked(
        Pushes(epsilon=Epsilon(1), samples=500), sign_model(), x, y, ending=[rule(at_least=0.5)]
    )
    assert short.one("robust_accuracy").n == sum(Pushes.seen) < 200
    assert set(short.table["id"]) <= set(result.table["id"])


def test_the_same_plan_takes_the_same_samples(digits: Any, attacked: Callable[..., Any]) -> None:
    attack, at_most = PGD(epsilon=Epsilon(0.05), steps=5), rule(at_least=None, at_most=0.9)
    one, two = (
        attacked(attack, digits.model(), digits.x, digits.y, ending=[at_most]) for _ in range(2)
    )
    assert one.measurements == two.measurements
    assert all((one.table[name] == two.table[name]).all() for name in one.table)


def source(plug: Any, **table: Any) -> Source:
    return Source(
        root="/", plugins=(str(plug),),
        table={
            "name": "toy", "model": {"use": "toy.model"},
            "data": {"use": "toy.data", "args": {"n": 240}},
            "checks": {"attacks.fgsm": {"epsilon": 1e-6}, "toy.accuracy": {}},
            "rules": [{"run": "attacks.fgsm", "measurement": "robust_accuracy", "at_least": 0.2},
                      {"run": "toy.accuracy", "measurement": "accuracy", "at_least": 0.2}],
            **table,
        },
    )  # fmt: skip


def test_in_a_plan_it_is_sealed_and_leaves_checks_without_blocks_alone(
    tmp_path: Any, plug: Any
) -> None:
    plain, _ = audit(source(plug), InlineExecutor(), tmp_path / "plain")
    soon, _ = audit(source(plug, until_decided=True), InlineExecutor(), tmp_path / "soon")
    assert soon.plan["until_decided"] is True
    assert soon.plan_sha256 != plain.plan_sha256
    assert soon.runs[0].outcome.measurements[1].n < plain.runs[0].outcome.measurements[1].n == 240
    assert soon.runs[1].outcome == plain.runs[1].outcome
    assert [one.status for one in soon.verdicts] == [one.status for one in plain.verdicts]


def test_the_preview_says_what_all_the_data_could_decide_and_that_it_may_stop_before(
    plug: Any,
) -> None:
    plain, soon = (
        preview(source(plug, **more), "inline") for more in ({}, {"until_decided": True})
    )
    assert "stops before where the rules are decided" not in plain
    (line,) = [line for line in soon.splitlines() if line.startswith("  attacks.fgsm.robust")]
    assert line.endswith("(a proportion of all n = 240; stops before where the rules are decided)")
    (other,) = [line for line in soon.splitlines() if line.startswith("  toy.accuracy.accuracy")]
    assert other in plain


def test_a_run_that_was_cut_off_goes_on_to_the_same_record(tmp_path: Any, plug: Any) -> None:
    """The journal is cut in the middle of the line of the run that stopped early."""
    asked = source(plug, until_decided=True)
    whole, folder = audit(asked, InlineExecutor(), tmp_path / "run")
    journal = folder.path / JOURNAL
    seal, first, *_ = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(seal + first[: len(first) // 2])
    (folder.path / RECORD).unlink()
    resumed, _ = audit(asked, InlineExecutor(), folder.path, resume=True)
    assert lasting(resumed) == lasting(whole)
    plain = source(plug)
    with pytest.raises(RunFolderError, match="was sealed with plan"):
        audit(plain, InlineExecutor(), folder.path, resume=True)


@pytest.mark.slow
def test_every_executor_stops_at_the_same_sample(tmp_path: Any, plug: Any) -> None:
    asked = source(plug, until_decided=True)
    inline, _ = audit(asked, InlineExecutor(), tmp_path / "inline")
    executor = ProcessExecutor(2, Limits())
    try:
        worked, _ = audit(asked, executor, tmp_path / "process")
    finally:
        executor.close()
    assert [run.outcome for run in worked.runs] == [run.outcome for run in inline.runs]
