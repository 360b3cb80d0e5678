"""Long benchmarks go on where they were killed, and publish each section once."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def ledger(tmp_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("ledger", BENCHMARKS / "ledger.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.HERE = tmp_path
    return module


def test_what_was_measured_before_a_kill_is_not_measured_again(
    ledger: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "work" / "state.jsonl"
    first = ledger.State(path, {"n": 3})
    assert "a" not in first
    assert first.keep("a", {"robust": (1, 0)}) == {"robust": [1, 0]}
    first.keep("b", 2)
    with path.open("a") as file:
        file.write('\n["c", {"robu')  # killed while it wrote
    again = ledger.State(path, {"n": 3})
    assert again["a"] == {"robust": [1, 0]}
    assert again["b"] == 2
    assert "c" not in again
    again.keep("c", 3)
    assert ledger.State(path, {"n": 3})["c"] == 3


def test_results_of_other_settings_are_forgotten(ledger: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "state.jsonl"
    ledger.State(path, {"n": 3}).keep("a", 1)
    assert "a" not in ledger.State(path, {"n": 4})
    assert "a" not in ledger.State(path, {"n": 3})


def test_a_section_takes_the_place_of_its_older_self(ledger: ModuleType, tmp_path: Path) -> None:
    results = tmp_path / "RESULTS.md"
    results.write_text("# Results\n\n## One\n\n- old\n\n`stamp`\n\n## Two\n\n- kept\n\n`stamp`\n")
    ledger.record("One", ["new", "", "| a |", "|---|"], "command, commit, date")
    ledger.record("Three", ["more"], "command")
    assert results.read_text() == (
        "# Results\n\n## One\n\n- new\n\n| a |\n|---|\n\n`command, commit, date`\n\n"
        "## Two\n\n- kept\n\n`stamp`\n\n## Three\n\n- more\n\n`command`\n"
    )


def test_a_stamp_names_command_commit_date_and_machine(ledger: ModuleType) -> None:
    words = ledger.stamp("some.py", torch=False)
    assert words.startswith("python benchmarks/some.py")
    for part in ("commit ", "Python 3."):
        assert part in words
