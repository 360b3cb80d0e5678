"""Pictures: one scale for both signs, the same bytes every time."""

import io

import numpy as np
import pytest
from PIL import Image

from dlaudit.explain.pictures import ANCHORS, bars_png, coloured, maps_png, strip_png, text_svg


def opened(content):
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


def test_the_scale_is_symmetrical_with_white_at_zero():
    found = coloured(np.array([[-1.0, 0.0, 1.0]]))
    assert found[0].tolist() == [ANCHORS[0].tolist(), [247, 247, 247], ANCHORS[-1].tolist()]
    light = coloured(np.linspace(-1, 1, 11)[None])[0].mean(axis=1)
    # As dark for -a as for a, within what the eye tells apart: grey print keeps the size.
    assert np.abs(light - light[::-1]).max() < 30
    assert (np.diff(light[:6]) > 0).all()


def test_red_and_green_never_carry_the_sign_alone():
    """What tells purple from orange is blue, which the common colour blindnesses see."""
    against, for_ = coloured(np.array([[-0.8, 0.8]]))[0]
    assert against[2] - for_[2] > 80


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (3, 8, 8), (4, 8, 8), (3, 200, 160)])
def test_every_shape_of_picture_is_drawn(shape):
    rng = np.random.default_rng(0)
    picture, values = rng.random(shape), rng.normal(size=shape[-2:])
    first = maps_png(["IG\nzero", "größer"], [values, 0 * values], picture)
    assert first == maps_png(["IG\nzero", "größer"], [values, 0 * values], picture)
    assert opened(first).ndim == 3
    assert opened(strip_png([picture, picture * 0])).shape[1] > shape[-1]


def test_a_map_alone_shows_its_colours():
    values = np.zeros((8, 8))
    values[0, 0], values[0, 7] = 2.0, -2.0
    pixels = opened(maps_png(["map"], [values]))
    assert pixels[5, 5].tolist() == ANCHORS[-1].tolist()
    assert pixels[5, 120].tolist() == ANCHORS[0].tolist()
    assert pixels[60, 60].tolist() == [247, 247, 247]


def test_bars_show_the_largest_first():
    pixels = opened(bars_png([f"f{k}" for k in range(30)], np.arange(30.0)))
    dark = (pixels == 90).all(axis=-1).sum(axis=1)
    rows = dark[dark > 0]
    assert rows[0] == rows.max()
    assert opened(bars_png(["a"], np.zeros(1))).shape[0] > 10


def test_a_text_has_each_token_on_its_colour_and_letters_that_can_be_read():
    from xml.etree import ElementTree as ET

    values = np.array([0.0, 2.0, -2.0, 0.1])
    root = ET.fromstring(text_svg(["a<b", "17", "longer than eight", "4"], values))
    space = "{http://www.w3.org/2000/svg}"
    grounds = [one.get("fill") for one in root.iter(f"{space}rect")]
    assert grounds[:3] == ["rgb(247,247,247)", "rgb(127,59,8)", "rgb(45,0,75)"]
    words = [one.text for one in root.iter(f"{space}text")]
    assert words[:3] == ["a<b", "17", "longer t"]
    assert words[-1].startswith("-2 to 2")
    inks = [one.get("fill") for one in root.iter(f"{space}text")]
    assert inks[:3] == ["#222", "#fff", "#fff"]
    many = ET.fromstring(text_svg(["1"] * 30, np.zeros(30)))
    assert len({one.get("y") for one in many.iter(f"{space}rect")}) == 3
