"""Files that a plan names are found, or their absence is said with the nearest right name."""

from __future__ import annotations

import os

import pytest

from dlaudit.audit.files import (
    identity,
    named_file,
    named_folder,
    named_function,
    said,
    sentence,
)
from dlaudit.errors import LoadError


def test_a_sentence_says_where_what_and_what_instead():
    made = sentence("net.pt", "key 'a'", expected="x", got="y", hint="Do z.")
    assert made == "net.pt: key 'a': expected x, got y. Do z."
    assert sentence(None, "bounds", expected="x", got="y") == "bounds: expected x, got y."


def test_paths_are_relative_to_the_root_unless_they_are_absolute(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    assert named_file(tmp_path, "a.txt") == tmp_path / "a.txt"
    assert named_file(tmp_path / "elsewhere", str(tmp_path / "a.txt")) == tmp_path / "a.txt"
    assert named_folder(tmp_path.parent, tmp_path.name) == tmp_path


@pytest.mark.parametrize(
    ("written", "said_so"),
    [
        ("", "got an empty text"), ("b.txt", "Did you mean a.txt?"), ("zebra", "got nothing of this name."),
        ("folder", "got a folder"), ("empty", "got an empty file"), ("link", "got a link to nothing"),
        ("gone/a.txt", "got nothing of this name."), ("a.txt/b", "expected a file, got"),
        ("nul\0", "got nothing of this name"),
    ],
)  # fmt: skip
def test_what_is_no_file_is_refused(tmp_path, written, said_so):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "empty").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(LoadError) as refused:
        named_file(tmp_path, written)
    assert said_so in str(refused.value)


def test_what_is_no_folder_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(LoadError, match="expected a folder, got a file"):
        named_folder(tmp_path, "a.txt")

    def closed(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", closed)
    with pytest.raises(LoadError, match="Permission denied"):
        named_folder(tmp_path.parent, tmp_path.name)


def test_a_function_is_found_in_its_file(tmp_path):
    (tmp_path / "f.py").write_text("def make(): return 7\nclass Net: pass\nvalue = 1\n")
    path, function = named_function(tmp_path, "f.py:make", field="file")
    assert path == tmp_path / "f.py"
    assert function() == 7
    assert named_function(tmp_path, "f.py:Net", field="file")[1].__name__ == "Net"
    for written, hint in (
        ("f.py:mak", "Did you mean make?"), ("f.py:value", "got a int"), ("f.py", '"file.py:function"'),
        ("f.py:", '"file.py:function"'), ("g.py:make", "Did you mean f.py?"), ("f.py:a b", '"file.py:'),
    ):  # fmt: skip
        with pytest.raises(LoadError) as refused:
            named_function(tmp_path, written, field="file")
        assert hint in str(refused.value)


def test_identity_is_by_role_and_content_and_by_settings_that_are_given(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text("same")
    one, facts = identity({"data": tmp_path / "a"})
    assert one == identity({"data": tmp_path / "b"})[0]
    assert (
        one == identity({"data": tmp_path / "a"}, {"scale": None, "reshape": False, "rows": ""})[0]
    )
    assert facts["files"]["data"] == {
        "name": "a",
        "bytes": 4,
        "sha256": "0967115f2813a3541eaef77de9d9d5773f1c0c04314b0bbfe4ff3b3b1c55b5d5",
    }
    others = [
        identity({"weights": tmp_path / "a"}),
        identity({"data": tmp_path / "a"}, {"threshold": 0}),
        identity({"data": tmp_path / "a"}, {"threshold": 1}),
        identity({"data": tmp_path / "a"}, digests={"rows": "0"}),
    ]
    assert len({one, *(print_ for print_, _ in others)}) == 5


def test_what_a_library_raised_is_told_in_one_line():
    assert said(ValueError("\n  first \nsecond")) == "ValueError: first"
    assert said(MemoryError()) == "MemoryError"
