"""What every test may ask for: ground truths, the planted-fault plug-in, one compute thread."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import Ended
from hypothesis import Phase, settings

ROOT = Path(__file__).parents[1]
TRUTHS = "DLAUDIT_TRUTHS"

# The same examples each time, and a busy machine is no failure. "first": one failing example will do.
settings.register_profile("dlaudit", deadline=None, derandomize=True)
settings.register_profile(
    "first", settings.get_profile("dlaudit"), phases=[Phase.explicit, Phase.generate]
)
settings.load_profile(os.environ.get("DLAUDIT_HYPOTHESIS", "dlaudit"))

for _library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR"):
    # Before torch or numpy is imported, and inherited by every process that a test starts.
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--ci", action="store_true", help="run the tests marked slow too: the whole tables"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--ci"):
        return
    late = pytest.mark.skip(reason="slow: a part of the whole table, run with --ci")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(late)


@pytest.fixture(scope="session")
def truths() -> Path:
    """The folder of ground truths; tests that ask for it are skipped where it is missing."""
    folder = ROOT / os.environ.get(TRUTHS, "../shared/truths")
    if not folder.is_dir():
        pytest.skip(f"ground truths: {TRUTHS} names no folder, nor is there ../shared/truths")
    return folder.resolve()


@pytest.fixture(scope="session")
def plug() -> Path:
    """The plug-in file ``toy.py``: parts that behave, or fail in every way that is asked for."""
    return Path(__file__).parent / "plugs" / "toy.py"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Sums are added in one order: no test depends on how many cores there are."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def dlaudit_process() -> Callable[..., Ended]:
    """``dlaudit …`` as a process, which may be ended by anything."""

    def call(*arguments: object, env: dict[str, str] | None = None, **options: Any) -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", "dlaudit.cli", *map(str, arguments)], capture_output=True,
            text=True, check=False, env={**os.environ, **(env or {})}, **options,
        )  # fmt: skip
        return Ended(done.returncode, done.stdout, done.stderr)

    return call
