"""Failures as pictures: only where the plan asks, the most convincing first, in words too."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dlaudit import Epsilon, TorchModel
from dlaudit.attacks.fgsm import FGSM
from dlaudit.attacks.pictures import confidences, said, side_by_side

ATTACK = FGSM(epsilon=Epsilon([0.05, 0.1]), loss="margin")


def pictures(result: Any) -> list[Any]:
    return [kept for kept in result.artifacts if kept.media_type == "image/png"]


def test_no_picture_is_kept_unless_the_plan_says_so(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    assert not pictures(attacked(ATTACK, digits.model(), digits.x, digits.y))


def test_tables_have_no_pictures(linear: Any, attacked: Callable[..., Any]) -> None:
    assert not pictures(attacked(ATTACK, linear.model(), linear.x, linear.y, keep_samples=5))


def test_the_most_convincing_failures_are_kept_with_caption_and_alternative_text(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    result = attacked(ATTACK, digits.model(), digits.x, digits.y, keep_samples=3)
    kept = pictures(result)
    assert len(kept) == 3
    table = result.table
    for one in kept:
        row = int(one.name.rpartition(".")[2])
        assert table["epsilon_fooled"][row] == 0.05, "a small budget convinces most"
        label, wrong = table["label"][row], table["adversarial"][row]
        assert f"“{label}” (" in one.caption
        assert f"“{wrong}” (" in one.caption
        assert f"“{label}” (" in one.alt
        assert "linf ε = 0.05" in one.caption
        shown = Image.open(io.BytesIO((result.folder / one.path).read_bytes()))
        assert shown.size == (3 * 112 + 2 * 28, 112)


def test_a_list_beside_the_pictures_tells_the_labels_and_the_factor(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    result = attacked(ATTACK, digits.model(), digits.x, digits.y, keep_samples=3)
    (kept,) = [one for one in result.artifacts if one.media_type == "application/json"]
    told = json.loads((result.folder / kept.path).read_bytes())
    assert [one["picture"] for one in told] == [shot.sha256 for shot in pictures(result)]
    for one, shot in zip(told, pictures(result), strict=True):
        row = int(one["sample"])
        assert one["label"] == str(result.table["label"][row])
        assert one["adversarial"] == str(result.table["adversarial"][row])
        assert 0 < one["confidence"] <= 1
        assert 0 < one["adversarial_confidence"] <= 1
        assert f"magnified {one['magnified']:.3g} times" in shot.caption
        assert (one["norm"], one["epsilon"]) == ("linf", 0.05)


def test_the_three_panels_by_hand() -> None:
    """Two grey pixels; one goes from 0.2 to 0.3. The difference fills half of the range."""
    clean = np.array([[0.2, 0.6]], dtype=np.float32)
    moved = np.array([[0.3, 0.6]], dtype=np.float32)
    content, factor = side_by_side(clean, moved, (0, 1))
    assert factor == pytest.approx(5)
    shown = np.asarray(Image.open(io.BytesIO(content)))
    assert shown.shape == (56, 3 * 112 + 2 * 28, 4)
    assert [shown[0, i, 0] for i in (0, 111, 140, 251, 280, 391)] == [51, 153, 255, 128, 76, 153]
    between = shown[:, 112:140]
    assert (between[0, :, 3] == 0).all(), "the ground of a sign is transparent"
    assert tuple(between[28, 14]) == (128, 128, 128, 255), "a plus crosses in the middle"
    assert shown[28, 266, 3] == 0, "an equals sign is open in the middle"
    assert shown[28 - 3, 266, 3] == 255
    assert (shown[:, :112, 3] == 255).all()


@pytest.mark.parametrize(
    ("shape", "colours"), [((3, 5, 5), 3), ((5, 5, 3), 3), ((1, 5, 5), 1), ((4, 5, 5), 1)]
)
def test_channels_first_or_last_in_colour_or_grey(shape: tuple[int, ...], colours: int) -> None:
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    content, _ = side_by_side(values, values, (0, 1))
    shown = np.asarray(Image.open(io.BytesIO(content)))
    assert shown.shape[0] == 115
    grey = (shown[..., 0] == shown[..., 1]).all()
    assert bool(grey) is (colours == 1)


def test_what_is_no_picture_is_not_drawn() -> None:
    assert side_by_side(np.zeros((2, 3, 4, 5)), np.zeros((2, 3, 4, 5)), (0, 1)) is None


def test_failures_that_cannot_be_drawn_are_still_counted(
    linear: Any, attacked: Callable[..., Any]
) -> None:
    """Volumes pass for images, but four axes are no picture."""

    class Flattened(torch.nn.Sequential):
        def __init__(self) -> None:
            super().__init__(torch.nn.Flatten(), linear.net)

    model = TorchModel(Flattened(), device="cpu", classes=("no", "yes"))
    volumes = linear.x.reshape(-1, 1, 2, 2, 3)
    result = attacked(ATTACK, model, volumes, linear.y, keep_samples=2)
    assert result.table["fooled"].any()
    assert not pictures(result)


def test_without_bounds_the_pair_itself_spans_black_to_white() -> None:
    clean, moved = np.array([[-3.0, 5.0]]), np.array([[-4.0, 5.0]])
    content, _ = side_by_side(clean, moved, None)
    shown = np.asarray(Image.open(io.BytesIO(content)))[0, :, 0]
    assert [shown[i] for i in (0, 111, 280, 391)] == [28, 255, 0, 255]


def test_labels_and_confidences_in_words() -> None:
    assert said(("cat", "dog"), 1, 0.5) == "“dog” (50.0%)"
    assert said((), 3, None) == "class 3"
    assert confidences(None, np.array([0])) is None
    logits = np.array([[0.0, np.log(3.0)], [1000.0, 0.0]])
    assert confidences(logits, np.array([1, 0])) == pytest.approx([0.75, 1.0])
