"""The known traps of measuring groups, in every check of the suite: an error or undefined, never a number."""

import json
import re

import numpy as np
import pytest
from commandline import dlaudit_command

from dlaudit.audit.record import Measurement, Undefined
from dlaudit.errors import AuditError, LoadError, NonFinite
from dlaudit.fairness.amplification import Amplification
from dlaudit.fairness.disparity import Disparity
from dlaudit.fairness.groups import Groups
from dlaudit.fairness.local_law_144 import LocalLaw144
from dlaudit.fairness.proxies import Proxies
from dlaudit.fairness.scores import Scoring
from dlaudit.fairness.slices import Slices
from dlaudit.fairness.what_if import WhatIf

CHECKS = {
    "groups": Groups(), "disparity": Disparity(), "disparity to the best": Disparity(reference="best"),
    "amplification": Amplification(feedback=True), "scores": Scoring(), "slices": Slices(),
    "proxies": Proxies(), "local law 144": LocalLaw144(), "what if": WhatIf(),
}  # fmt: skip
NO_CLASS_NEEDED = re.compile(
    r"(accuracy|group_size|slice|attribute_auc|proxy|flip_rate|matched_share|matched_imbalance)"
)
"""Numbers that say nothing of a positive class."""
COMPARISONS = re.compile(
    r"_(difference|ratio|spread|spread_p|worst|gap|distance|lowest|highest)$|amplification|^differential"
)
N = 400


@pytest.fixture(params=CHECKS, ids=str)
def check(request):
    return CHECKS[request.param]


def numbers(check, bench):
    return [one for one in check.measure(bench) if isinstance(one, Measurement)]


@pytest.fixture
def people():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, N)
    return y, np.where(rng.random(N) < 0.2, 1 - y, y), rng.choice(["f", "m"], N)


@pytest.mark.parametrize(
    ("column", "error"),
    [
        (np.linspace(0.1, 0.9, N), AuditError),
        (np.r_[np.nan, np.ones(N - 1)], NonFinite),
        (np.array(["yes", "no"] * (N // 2)), AuditError),
    ],
    ids=["scores", "NaN", "strings"],
)
def test_what_is_no_decision_is_refused(bench_of, people, check, column, error):
    y, _, sex = people
    with pytest.raises(error):
        numbers(check, bench_of(y, column, {"sex": sex}))


def test_labels_1_and_2_have_no_positive_class_until_the_plan_names_one(bench_of, people, check):
    y, said, sex = people
    bench = bench_of(y + 1, said + 1, {"sex": sex}, classes=("0", "1", "2"), score=said + 1)
    assert [one.name for one in numbers(check, bench) if not NO_CLASS_NEEDED.match(one.name)] == []
    with pytest.raises(LoadError, match="labels below 2"):
        bench_of(y + 1, said + 1, {"sex": sex})


def test_one_group_is_compared_with_nobody(bench_of, people, check):
    y, said, _ = people
    found = numbers(check, bench_of(y, said, {"sex": np.repeat("f", N)}, score=said * 0.8 + 0.1))
    compared = [one.name for one in found if COMPARISONS.search(one.name)]
    # A slice is compared with the rest of the samples, a calibration gap with the labels.
    assert [name for name in compared if not name.startswith(("slice", "calibration_gap"))] == []


def test_an_empty_intersection_and_an_unused_category_are_listed_and_never_numbers(
    bench_of, people, check
):
    y, said, sex = people
    age = np.where(sex == "f", "young", np.where(np.arange(N) % 2, "young", "old"))
    facts = {"groups": {"sex": {"f": 1, "m": 1, "x": 0}}}
    bench = bench_of(y, said, {"sex": sex, "age": age}, facts=facts, score=said * 0.8 + 0.1)
    if hasattr(check, "intersections"):
        from msgspec.structs import replace

        check = replace(check, intersections=True)
    empty = [{"sex": "f", "age": "old"}, {"sex": "x"}]
    told = [one for one in check.measure(bench) if getattr(one, "slice", None) in empty]
    for one in told:
        # How many there are is a number, and the share of none of all.
        assert isinstance(one, Undefined) or one.name in {
            "group_size",
            "applicants",
            "applicants_share",
        }
    if isinstance(check, Groups | Disparity | Amplification | Scoring):
        assert all(where in [one.slice for one in told] for where in empty)


def test_all_negative_predictions_have_no_precision_and_no_ratio(bench_of, people, check):
    y, _, sex = people
    bench = bench_of(y, np.zeros(N, dtype=int), {"sex": sex}, score=np.zeros(N))
    names = [one.name for one in numbers(check, bench)]
    of_nobody = re.compile(
        r"precision|selection_rate_(worst_)?ratio|true_positive_rate_(worst_)?ratio|impact_ratio"
    )
    assert [name for name in names if of_nobody.match(name)] == []


def test_a_report_of_groups_never_says_what_no_test_can_show(tmp_path):
    rng = np.random.default_rng(1)
    rows = [
        f"{y},{y if rng.random() < 0.8 else 1 - y},{rng.choice(['f', 'm'])},{rng.normal():.3f}"
        for y in rng.integers(0, 2, 400)
    ]
    (tmp_path / "d.csv").write_text("\n".join(["y,said,sex,skill", *rows]) + "\n")
    (tmp_path / "audit.toml").write_text("""
name = "decisions"
suites = ["fairness"]
[model]
use = "predictions"
args = { column = "said", positive = 1 }
[data]
use = "csv"
args = { path = "d.csv", target = "y", positive = 1, groups = ["sex"] }
[context]
feedback = true
""")
    answer = dlaudit_command(
        "run", "audit.toml", "--out", "out", "--executor", "inline",
        "--format", "html,md,junit,sarif", folder=tmp_path,
    )  # fmt: skip
    assert answer.code in {0, 1, 3, 4}, answer.stderr
    words = re.compile(
        r"\b(un)?fair\b|\b(un)?biased\b|\bnon-?discriminatory\b|\b(un)?lawful\b", re.IGNORECASE
    )
    files = ("report.html", "summary.md", "junit.xml", "results.sarif")
    said = {name: (tmp_path / "out" / name).read_text() for name in files} | {
        "stdout": answer.stdout
    }
    assert {name: words.findall(text) for name, text in said.items()} == {key: [] for key in said}
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert {run["outcome"]["kind"] for run in record["runs"]} == {"measured"}
    assert said["report.html"].count("data:image/svg+xml") >= 3
