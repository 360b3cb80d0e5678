"""Starting is cheap: nothing heavy is imported before it is needed (times: benchmarks/startup.py)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import dlaudit_command

import dlaudit

HEAVY = {"torch", "numpy", "pandas", "sklearn", "matplotlib", "scipy", "jinja2", "msgspec", "captum",
         "foolbox", "fairlearn", "onnxruntime", "skops", "PIL", "rich", "psutil", "ray"}  # fmt: skip
PRINT_HEAVY = f"import sys; print(*sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"


def imported_by(program: str, *arguments: object) -> set[str]:
    """The heavy libraries that a fresh Python holds after a program; its exit code is ignored."""
    program = f"import sys\ntry:\n    {program}\nexcept SystemExit:\n    pass\n{PRINT_HEAVY}"
    ended = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(ended.stderr.splitlines()[-1].split()) if ended.stderr.strip() else set()


COMMAND = "from dlaudit.__main__ import main; main()"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, plug: Path) -> Path:
    """A stored run of the toy suite."""
    folder = tmp_path_factory.mktemp("stored")
    (folder / "audit.toml").write_text(
        'suites = ["toy.ruled"]\nmodel.use = "toy.model"\ndata.use = "toy.data"\n'
    )
    ended = dlaudit_command(
        "run", "audit.toml", "--plugin", plug, "--out", "run", "--executor", "inline", folder=folder
    )
    assert ended.code == 0, ended
    return folder / "run"


@pytest.mark.parametrize(
    "words", [("--help",), ("-h",), ("--version",), ("run", "--help"), ("gate", "--help"), ()]
)
def test_help_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    assert imported_by(COMMAND, *words) == set()


def test_help_does_not_even_import_click() -> None:
    program = f"{COMMAND}\nassert 'click' not in sys.modules"
    subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}", "--help"], check=True, capture_output=True
    )


def test_help_is_what_click_would_print() -> None:
    """If this fails, renew it: COLUMNS=80 python -m dlaudit.cli --help > dlaudit/help.txt."""
    said = [
        subprocess.run(
            [sys.executable, "-m", module, flag], capture_output=True, text=True, check=True,
            env={**os.environ, "COLUMNS": "80"},
        ).stdout
        for module in ("dlaudit", "dlaudit.cli")
        for flag in ("--help", "-h")
    ]  # fmt: skip
    assert len(set(said)) == 1
    assert "Usage: dlaudit [OPTIONS] COMMAND" in said[0]


def test_the_installed_command_is_the_same_program() -> None:
    console = Path(sys.executable).with_name("dlaudit")
    said = [
        subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
        for command in ([str(console)], [sys.executable, "-m", "dlaudit"])
    ]
    assert said[0] == said[1]


def test_importing_dlaudit_imports_nothing_heavy() -> None:
    assert imported_by("import dlaudit; dir(dlaudit)") == set()


def test_every_public_name_is_there_and_found_at_first_use() -> None:
    for name in dlaudit.__all__:
        assert getattr(dlaudit, name) is not None
    assert set(dlaudit.__all__) < set(dir(dlaudit))
    with pytest.raises(AttributeError, match="module 'dlaudit' has no attribute 'Atack'"):
        dlaudit.Atack  # noqa: B018


@pytest.mark.parametrize(
    "words",
    [
        ("gate", "RUN"), ("verify", "RUN"), ("diff", "RUN", "RUN"),
        *(("report", "RUN", "--format", name) for name in ("html", "json", "junit", "sarif", "md")),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_stored_run_is_read_without_torch(words: tuple[str, ...], run: Path) -> None:
    imported = imported_by(COMMAND, *(run if word == "RUN" else word for word in words))
    assert not imported & {
        "torch",
        "pandas",
        "sklearn",
        "captum",
        "foolbox",
        "fairlearn",
        "onnxruntime",
    }
    assert "msgspec" in imported, "the command did read the record"


def test_listing_parts_imports_neither_torch_nor_numpy() -> None:
    assert not imported_by(COMMAND, "list", "checks") & {"torch", "numpy", "pandas", "sklearn"}
    assert not imported_by(COMMAND, "list", "attacks") & {"torch", "numpy"}
    assert not imported_by(COMMAND, "list", "suites") & {"torch", "numpy"}
