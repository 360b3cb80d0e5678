"""Pictures become numbers in [0, 1]; nothing outside their folder is read."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dlaudit.datasets import images
from dlaudit.datasets.pictures import PictureDataset
from dlaudit.errors import LoadError

RNG = np.random.default_rng(3)
PIXELS = {
    f"{kind}/{number}.png": RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    for kind in ("cat", "dog")
    for number in range(3)
}


@pytest.fixture
def folder(tmp_path):
    """Two classes of three pictures, 6 high and 5 wide."""
    for name, pixels in PIXELS.items():
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path


def loaded(folder, **args):
    return images.load(root=folder, path="set", **args)


def whole(data):
    batches = list(data.batches())
    assert sum(len(batch.y) for batch in batches) == data.size()
    return np.concatenate([batch.x for batch in batches]), batches[0]


def test_a_folder_is_a_class_and_pixels_are_divided_by_255(folder):
    x, batch = whole(loaded(folder))
    assert x.shape == (6, 3, 6, 5)
    assert x.dtype == np.float32
    expected = np.stack([np.moveaxis(pixels, 2, 0) for pixels in PIXELS.values()]) / np.float32(255)
    np.testing.assert_array_equal(x, expected)
    assert batch.y.tolist() == [0, 0, 0, 1, 1, 1]
    assert batch.id.tolist() == list(PIXELS)
    data = loaded(folder)
    assert data.classes == ("cat", "dog")
    assert data.offers == {"images", "labels"}
    assert data.card.facts["class_counts"] == [3, 3]


def test_large_sets_are_decoded_anew_and_give_the_same(folder):
    held = loaded(folder)
    paths = [folder / "set" / name for name in PIXELS]
    streamed = PictureDataset(
        paths,
        list(PIXELS),
        [0, 0, 0, 1, 1, 1],
        name="set",
        classes=("cat", "dog"),
        groups={},
        held=0,
    )
    np.testing.assert_array_equal(whole(held)[0], whole(streamed)[0])


def test_grey_pictures_have_one_channel_and_sixteen_bits_become_eight(tmp_path):
    for number, mode in enumerate(("L", "I;16")):
        path = tmp_path / "set" / "a" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        top = 255 if mode == "L" else 65535
        pixels = np.full((4, 4), top, dtype=np.uint8 if mode == "L" else np.uint16)
        Image.fromarray(pixels).save(path)
    (tmp_path / "set" / "b").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "set" / "b" / "0.png")
    x, _ = whole(loaded(tmp_path))
    assert x.shape == (3, 1, 4, 4)
    assert x[:2].min() == 1.0
    assert whole(loaded(tmp_path, channels=3))[0].shape == (3, 3, 4, 4)


@pytest.mark.parametrize(("size", "shape"), [(3, (3, 3)), ([2, 7], (2, 7))])
def test_pictures_are_resized_to_height_and_width(folder, size, shape):
    x, _ = whole(loaded(folder, size=size))
    assert x.shape == (6, 3, *shape)
    first = Image.fromarray(PIXELS["cat/0.png"]).resize(shape[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(x[0], np.moveaxis(np.asarray(first), 2, 0) / np.float32(255))


def test_a_table_names_files_labels_and_groups(folder):
    (folder / "set" / "metadata.csv").write_text(
        "file,label,group_skin,clinic\ndog/0.png,ill,dark,A\ncat/0.png,well,,B\n"
    )
    data = loaded(folder, groups=["clinic"])
    x, batch = whole(data)
    assert batch.id.tolist() == ["dog/0.png", "cat/0.png"]
    assert batch.y.tolist() == [0, 1]
    assert data.classes == ("ill", "well")
    assert batch.groups["skin"].tolist() == ["dark", "unknown"]
    assert batch.groups["clinic"].tolist() == ["A", "B"]
    np.testing.assert_array_equal(x[0], np.moveaxis(PIXELS["dog/0.png"], 2, 0) / np.float32(255))
    (folder / "list.csv").write_text("picture,kind\ncat/1.png,c\n")
    data = loaded(folder, table="list.csv", file="picture", label="kind", classes=["c", "d"])
    assert data.size() == 1


def test_a_moved_folder_is_the_same_data_and_a_changed_picture_is_not(folder, tmp_path):
    before = loaded(folder).card.fingerprint
    (folder / "set").rename(folder / "moved")
    assert images.load(root=folder, path="moved").card.fingerprint == before
    assert images.load(root=folder, path="moved", size=3).card.fingerprint != before
    Image.new("RGB", (5, 6)).save(folder / "moved" / "cat" / "0.png")
    assert images.load(root=folder, path="moved").card.fingerprint != before


def cut(folder):
    path = folder / "set" / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:60])


def another(folder):
    Image.new("RGB", (9, 9)).save(folder / "set" / "dog" / "1.png")


def outside(folder):
    Image.new("RGB", (5, 6)).save(folder / "secret.png")
    (folder / "set" / "dog" / "1.png").unlink()
    (folder / "set" / "dog" / "1.png").symlink_to(folder / "secret.png")


def class_outside(folder):
    (folder / "other").mkdir()
    Image.new("RGB", (5, 6)).save(folder / "other" / "0.png")
    (folder / "set" / "bird").symlink_to(folder / "other", target_is_directory=True)


def table(*lines):
    return lambda folder: (folder / "set" / "metadata.csv").write_text("\n".join(lines) + "\n")


def emptied(folder):
    for path in (folder / "set").rglob("*.png"):
        path.unlink()


def flat(folder):
    (folder / "set" / "cat").rename(folder / "cats")
    (folder / "set" / "dog").rename(folder / "dogs")


def postscript(folder):
    (folder / "set" / "dog" / "1.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 6\n"
    )


def floats(folder):
    Image.new("F", (5, 6)).save(folder / "set" / "dog" / "1.tiff")


BAD = [
    ("floats", floats, {}, "neither 8 nor 16 bits deep"),
    ("truncated", cut, {}, "1.png: expected a whole picture"),
    ("text", lambda f: (f / "set/dog/1.png").write_text("hello"), {}, "got UnidentifiedImageError"),
    ("empty", lambda f: (f / "set/dog/1.png").write_bytes(b""), {}, "got an empty file"),
    ("PostScript", postscript, {}, "got UnidentifiedImageError"),
    ("another size", another, {}, "expected 6 x 5 pixels, the size of cat/0.png, got 9 x 9 pixels"),
    ("a link out of the folder", outside, {}, "'dog/1.png', which leads out of it"),
    ("a class outside", class_outside, {}, "'bird', which leads out of it"),
    ("a dangling link", lambda f: (f / "set/dog/9.png").symlink_to(f / "set/gone"), {}, "a link to nothing"),
    ("no pictures", emptied, {}, "expected pictures"),
    ("no classes", flat, {}, "expected a folder for each class"),
    ("missing", lambda f: (f / "set").rename(f / "sets"), {}, "Did you mean sets?"),
    ("a file", lambda f: (f / "set").rename(f / "old") and (f / "set").write_text("x"), {}, "got a file"),
    ("groups without a table", lambda _: None, {"groups": ["sex"]}, "expected a table metadata.csv"),
    ("an unknown class", lambda _: None, {"classes": ["cat", "dot"]}, "got 'dog'. Did you mean dot?"),
    ("two channels", lambda _: None, {"channels": 2}, "channels: expected 1 or 3, got 2"),
    ("no size", lambda _: None, {"size": 0}, "size: expected a number of pixels"),
    ("three sides", lambda _: None, {"size": [1, 2, 3]}, "size: expected"),
    ("no column", table("path,label", "cat/0.png,c"), {}, "column 'file'"),
    ("no picture", table("file,label", "cat/7.png,c"), {}, "nothing of this name"),
    ("a way out", table("file,label", "../secret.png,c"), {}, "'../secret.png', which leads out of it"),
    ("an absolute path", table("file,label", "/etc/hostname,c"), {}, "which leads out of it"),
    ("twice", table("file,label", "cat/0.png,c", "cat/0.png,d"), {}, "got 'cat/0.png' twice"),
    ("no label", table("file,label", "cat/0.png,"), {}, "column 'label': expected a value in every row"),
    ("no such group", table("file,label,sex", "cat/0.png,c,f"), {"groups": ["sexe"]}, "Did you mean sex?"),
    ("no such table", lambda _: None, {"table": "list.csv"}, "list.csv: expected a CSV table"),
]  # fmt: skip


@pytest.mark.parametrize("row", BAD, ids=[row[0] for row in BAD])
def test_a_bad_folder_is_refused_in_one_sentence(folder, row):
    _, spoil, args, said = row
    spoil(folder)
    with pytest.raises(LoadError) as refused:
        loaded(folder, **args)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "expected" in str(refused.value)


def test_a_picture_of_more_pixels_than_any_camera_makes_is_refused(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(LoadError, match="at most 20 pixels"):
        loaded(folder)
