"""Failures as pictures: only where the plan asks, the most convincing first, in words too."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dlaudit import Epsilon, TorchModel
from dlaudit.attacks.fgsm import FGSM
from dlaudit.attacks.pictures import GAP, confidences, said, side_by_side

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
        assert shown.size == (3 * 112 + 2 * GAP, 112)


def test_the_three_panels_by_hand() -> None:
    """Two grey pixels; one goes from 0.2 to 0.3. The difference fills half of the range."""
    clean = np.array([[0.2, 0.6]], dtype=np.float32)
    moved = np.array([[0.3, 0.6]], dtype=np.float32)
    content, factor = side_by_side(clean, moved, (0, 1))
    assert factor == pytest.approx(5)
    shown = np.asarray(Image.open(io.BytesIO(content)))[0, :, 0]
    assert [shown[i] for i in (0, 111, 116, 227, 232, 343)] == [51, 153, 76, 153, 255, 128]
    assert (shown[112:116] == 255).all()


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
    assert [shown[i] for i in (0, 111, 116, 227)] == [28, 255, 0, 255]


def test_labels_and_confidences_in_words() -> None:
    assert said(("cat", "dog"), 1, 0.5) == "“dog” (50.0%)"
    assert said((), 3, None) == "class 3"
    assert confidences(None, np.array([0])) is None
    logits = np.array([[0.0, np.log(3.0)], [1000.0, 0.0]])
    assert confidences(logits, np.array([1, 0])) == pytest.approx([0.75, 1.0])
