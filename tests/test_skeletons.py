"""`dlaudit new`: skeletons that run as written, names that can be used, nothing overwritten."""

import subprocess
import sys
from pathlib import Path

import pytest
from commandline import dlaudit_command

from dlaudit.errors import PlanError
from dlaudit.skeletons import write_skeleton
from dlaudit.testing import conforms

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.parametrize("kind", ["check", "attack", "suite"])
@pytest.mark.parametrize("name", ["small_step", "noise_2d"])
def test_a_skeleton_keeps_to_the_contract_as_it_is_written(kind, name, tmp_path):
    told = write_skeleton(kind, name, tmp_path / "guest.py")
    part = next(word.rstrip(".") for word in told.split() if word.startswith("guest."))
    conforms(kind, part, plugins=[tmp_path / "guest.py"])


@pytest.mark.parametrize("kind", ["check", "attack", "suite"])
def test_a_skeleton_needs_no_correction_by_the_linter(kind, tmp_path):
    write_skeleton(kind, "my_part", tmp_path)
    for command in (["check"], ["format", "--check"]):
        ended = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", "examples/my_part.py", "-"],
            input=(tmp_path / "my_part.py").read_text(), cwd=REPOSITORY,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_command_writes_the_file_and_says_what_to_do_next(tmp_path):
    ended = dlaudit_command("new", "attack", "my_noise", folder=tmp_path)
    assert ended.code == 0
    assert (tmp_path / "my_noise.py").is_file()
    assert "dlaudit list attacks --plugin my_noise.py" in ended.stdout
    assert "my_noise.my_noise" in ended.stdout


def test_a_file_that_is_there_is_never_overwritten(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("precious = 1\n")
    ended = dlaudit_command("new", "check", "mine", folder=tmp_path)
    assert ended.code == 2
    assert "not overwritten" in ended.stderr
    assert mine.read_text() == "precious = 1\n"


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("MyNoise", "my_noise"),
        ("my-noise", "my_noise"),
        ("my noise!", "my_noise"),
        ("_noise", "noise"),
        ("2fast", "my_2fast"),
        ("class", "my_class"),
        ("---", "my_check"),
    ],
)
def test_a_name_that_cannot_be_used_is_answered_with_the_nearest_that_can(name, right, tmp_path):
    with pytest.raises(PlanError, match=rf"expected snake_case like {right}, got"):
        write_skeleton("check", name, tmp_path)
    write_skeleton("check", right, tmp_path)


def test_a_part_does_not_hide_a_name_of_dlaudit(tmp_path):
    with pytest.raises(PlanError, match="Did you mean my_attack"):
        write_skeleton("attack", "attack", tmp_path)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("plan.toml", r"expected a Python file. Did you mean .*plan\.py"),
        ("nowhere/mine.py", "expected the folder .* to be there"),
    ],
)
def test_a_place_where_no_plug_in_can_lie_is_refused(output, message, tmp_path):
    with pytest.raises(PlanError, match=message):
        write_skeleton("suite", "mine", tmp_path / output)


def test_a_folder_that_nobody_may_write_to_is_told(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PlanError, match="cannot be written: Permission denied"):
        write_skeleton("suite", "mine", tmp_path)
