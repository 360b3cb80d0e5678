"""The suite binds rules to what is measured and claims no more than its checks show."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlaudit.audit.registry import Registry
from dlaudit.catalogues import load
from dlaudit.data_quality import pictures
from dlaudit.data_quality.suite import SUITE

ROOT = Path(__file__).parents[2]
CHECKS = {
    part.name: part.get()
    for part in Registry().parts("checks")
    if part.name.startswith("data_quality.")
}


def test_every_default_rule_judges_something_that_its_run_measures():
    assert set(SUITE.runs) == set(CHECKS)
    for rule in SUITE.rules:
        assert rule.measurement in CHECKS[rule.run].measures
        assert rule.origin == "suite:data_quality"
        assert rule.rationale.startswith("Default, to be replaced")
    assert len({rule.id for rule in SUITE.rules}) == len(SUITE.rules)
    known = {item.id for item in load.eu_ai_act()}
    assert {name for rule in SUITE.rules for name in rule.requirements} <= known


def test_no_sentence_claims_what_no_test_can_show():
    said = [SUITE.sentence, SUITE.title, *(rule.rationale for rule in SUITE.rules)]
    said += [check.__doc__ for check in CHECKS.values()]
    for text in said:
        assert not re.search(r"\b(fair|unbiased|clean|compliant|certified|safe|free of)\b", text)


def test_every_check_of_the_suite_is_on_the_page():
    page = (ROOT / "docs" / "data-quality.md").read_text()
    for name, check in CHECKS.items():
        assert f"| `{name}` |" in page
        for measurement in check.measures:
            assert f"`{measurement}`" in page, measurement
    columns = (ROOT / "docs" / "evidence.md").read_text()
    for name in CHECKS:
        assert name in columns


@pytest.fixture(scope="module")
def detection():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location(
        "data_quality_detection", ROOT / "benchmarks" / "data_quality_detection.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.pop(0)
    return module


FAST = ("copied", "jittered", "leaking", "shared", "flipped")


def test_planted_defects_fail_their_rule_and_their_clean_twins_fail_none(detection):
    """One seed of each claim that takes less than a second; the benchmark counts twenty of all."""
    claims = [one for one in detection.CLAIMS if one.made.__name__ in FAST]
    claims = [one for one in claims if getattr(one.check, "judge", "model") == "model"]
    assert len(claims) == 5
    for claim in claims:
        for planted in (True, False):
            train, test = claim.made(7, planted=planted)
            failed = detection.failing(
                claim.run, detection.told(claim.check, claim.run, train, test, 7)
            )
            assert (claim.measurement in failed) if planted else not failed, claim.name


def test_pairs_of_pictures_stand_side_by_side_on_one_scale(tmp_path):
    dark, bright = np.zeros((1, 8, 8)), np.ones((1, 8, 8))
    content = pictures.pairs_png([dark, dark], [bright, dark], [("a", "b"), ("ü", "d")])
    (tmp_path / "pairs.png").write_bytes(content)
    shown = np.asarray(Image.open(tmp_path / "pairs.png"))
    assert (shown[:96, :96] == 0).all()
    assert (shown[:96, 106:202] == 255).all()
    assert pictures.pairs_png([dark], [bright], [("a", "b")]) == pictures.pairs_png(
        [dark], [bright], [("a", "b")]
    )


def test_a_ranking_names_every_feature_and_escapes_what_it_is_given():
    bars = [
        pictures.Bar("a<b", 0.4, 0.3, 0.5, flagged=True),
        pictures.Bar("c", 0, 0, 0.1, flagged=False),
    ]
    content = pictures.ranking_svg(bars, across="distance").decode()
    assert "a&lt;b" in content
    assert content.count("drifted") == 1
    assert "0.400" in content
    assert pictures.ranking_svg([], across="distance").startswith(b"<svg")
