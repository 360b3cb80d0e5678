"""What every long benchmark needs to remember: its results so far, and where they are published.

Knows files and the stamp below each section of RESULTS.md; never what is measured.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
WORK = HERE / "work"
"""Where unfinished results lie; git does not see it."""


class State:
    """Results by name, one line of JSON each, written as they come: a killed benchmark goes on."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """path: of the file, made if it is missing; one of other settings is begun anew."""
        self.path = path
        self._found: dict[str, Any] = {}
        head = json.dumps(settings, sort_keys=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if lines[:1] == [head]:
            for line in lines[1:]:
                try:
                    name, value = json.loads(line)
                except ValueError:  # the line that was being written when it was killed
                    continue
                self._found[name] = value
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(head + "\n", encoding="utf-8")

    def __contains__(self, name: str) -> bool:
        """Whether a result is there already."""
        return name in self._found

    def __getitem__(self, name: str) -> Any:
        """A stored result."""
        return self._found[name]

    def keep(self, name: str, value: Any) -> Any:
        """Store a result for good and hand it back as it was stored."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps([name, value]))
            file.flush()
            os.fsync(file.fileno())
        self._found[name] = json.loads(json.dumps(value))
        return self._found[name]


def stamp(script: str, *, torch: bool = True) -> str:
    """Command, commit, date and kind of machine, as they stand below each section of RESULTS.md."""
    commit = subprocess.run(
        [shutil.which("git") or "git", "rev-parse", "--short", "HEAD"],
        cwd=HERE, capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    command = " ".join(["python", f"benchmarks/{script}", *sys.argv[1:]])
    parts = [
        command, f"commit {commit or 'unknown'}", str(dt.datetime.now(dt.UTC).date()),
        platform.machine(), f"Python {platform.python_version()}",
    ]  # fmt: skip
    if torch:
        import torch as library

        parts.append(f"torch {library.__version__}")
    return ", ".join(parts)


def record(title: str, lines: Sequence[str], stamped: str) -> None:
    """Write a section of RESULTS.md in the place of an older one of the same title, else at the end."""
    path = HERE / "RESULTS.md"
    sections = path.read_text(encoding="utf-8").rstrip().split("\n## ")
    points = "\n".join(line if line.startswith("|") or not line else f"- {line}" for line in lines)
    made = f"{title}\n\n{points}\n\n`{stamped}`\n"
    kept = [one.rstrip() + "\n" for one in sections]
    at = next((k for k, one in enumerate(kept) if one.partition("\n")[0] == title), None)
    if at is None:
        kept.append(made)
    else:
        kept[at] = made
    path.write_text("\n## ".join(kept), encoding="utf-8")
