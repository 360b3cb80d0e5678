"""The command line inside the test's own process: what a shell would see, without a shell."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dlaudit.cli import main


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


def dlaudit_command(*words: str | Path, folder: Path) -> Ended:
    """Run ``dlaudit <words>`` in a folder."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        written(sys, "argv", ["dlaudit", *map(str, words)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as leaving:
            return Ended(int(leaving.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("the command line returned without an exit code")


@contextlib.contextmanager
def written(owner: object, name: str, value: object) -> Iterator[None]:
    """An attribute with another value for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def bin_folder() -> Path:
    """Where the installed ``dlaudit`` lies: beside the Python that runs the tests."""
    return Path(sys.executable).parent


def shell_environment() -> dict[str, str]:
    """The environment for a shell that shall find the installed ``dlaudit`` and ``python``."""
    return {
        **os.environ,
        "PATH": f"{bin_folder()}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
    }
