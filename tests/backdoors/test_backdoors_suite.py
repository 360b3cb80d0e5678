"""The suite and its pictures: rules with reasons, words that claim nothing more than was done."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlaudit.backdoors.inversion import Inversion
from dlaudit.backdoors.pictures import trigger_png
from dlaudit.backdoors.reference import Reference
from dlaudit.backdoors.scan import Scan
from dlaudit.backdoors.suite import SUITE
from dlaudit.backdoors.susceptibility import Susceptibility
from dlaudit.reports.wording import overclaims

CATALOGUE = Path(__file__).parents[2] / "dlaudit" / "catalogues" / "eu_ai_act.json"


def test_every_default_rule_speaks_of_something_measured_and_gives_its_reason():
    checks = {
        "backdoors.inversion": Inversion, "backdoors.scan": Scan,
        "backdoors.susceptibility": Susceptibility, "backdoors.reference": Reference,
    }  # fmt: skip
    assert SUITE.runs.keys() <= checks.keys()
    for rule in SUITE.rules:
        check = checks[rule.run]
        assert rule.measurement in check.measures
        assert rule.rationale.startswith("Default: ")
        assert len(rule.rationale) > 40
        assert rule.origin == "suite:backdoors"


def test_requirements_stand_in_the_catalogue():
    known = {item["id"] for item in json.loads(CATALOGUE.read_text(encoding="utf-8"))["items"]}
    assert {name for rule in SUITE.rules for name in rule.requirements} <= known


def test_the_suite_never_says_that_a_model_is_clean():
    for text in (SUITE.sentence, SUITE.title, *(rule.rationale for rule in SUITE.rules)):
        assert "clean model" not in text.lower()
        assert "free of" not in text.lower()
        assert overclaims(text) == []
    assert "no trigger of this family was found" in SUITE.sentence


def test_a_scan_needs_training_rows_and_its_cost_is_counted_by_them():
    offers = {"model": frozenset({"logits"}), "data": frozenset({"labels"}), "train_fn": False}
    assert Scan().missing(**offers) == ("data: train",)
    assert Scan.passes_over == "train"
    assert Scan().passes(n=12_000, classes=10).forward == 120 * 12_000


@pytest.mark.parametrize(
    ("mask", "pattern"),
    [
        (np.eye(8)[None], np.ones((1, 8, 8))),
        (np.eye(8)[None], np.arange(192.0).reshape(3, 8, 8)),
        (np.eye(200)[None], np.ones((1, 200, 200))),
        (np.eye(8), np.ones((8, 8))),
        (np.linspace(0, 1, 30), np.arange(30.0)),
        (np.zeros(2), np.zeros(2)),
    ],
)
def test_every_shape_of_trigger_becomes_a_picture(mask, pattern):
    first, again = trigger_png(mask, pattern), trigger_png(mask, pattern)
    assert first == again
    with Image.open(io.BytesIO(first)) as image:
        assert image.format == "PNG"
        assert image.width > image.height or mask.ndim == 1


def test_the_pixels_of_a_mask_are_those_of_the_picture():
    mask = np.zeros((1, 8, 8))
    mask[0, 0, 7] = 1
    with Image.open(io.BytesIO(trigger_png(mask, np.ones((1, 8, 8))))) as image:
        pixels = np.asarray(image)
    right = pixels[:, -128:]
    assert right[5, 120].tolist() == [255, 255, 255]
    assert right[120, 5].tolist() == [0, 0, 0]
