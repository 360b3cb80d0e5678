"""Unpickles a file that may run code, because its sha256 was allowed, in a process of its own.

Knows that process and what may come back from it: tensors by name, read as data. Refuses to hold an
object that the pickle made.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dlaudit.audit.files import named_function, refusal, said
from dlaudit.errors import LoadError
from dlaudit.models.confinement import RIGHTS, Confined, confine

if TYPE_CHECKING:
    from torch import Tensor

SECONDS = 120
"""Processor time for unpickling."""

OPENING = 120
"""Seconds on the clock for importing torch and the code, before anything is unpickled."""

ROOM = 2 * 1024**3
"""Bytes of memory besides six times the file's own size."""

TENSORS, REPORT = "tensors.safetensors", "report.json"
KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH")
"""Variables of the environment that the process is given: no secrets."""


class Released(NamedTuple):
    """state: tensors by key; facts: how they lay in the file; confined: what held meanwhile."""

    state: dict[str, Tensor]
    facts: dict[str, Any]
    confined: Confined


def released(weights: Path, factory: str, *, seconds: int = SECONDS) -> Released:
    """The tensors of a pickle that runs code.

    factory: ``file.py:function``, the file whose classes the pickle may name. seconds: of processor
    time; three times as long may pass on the clock. Raises LoadError where no state dict comes out.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        command = [
            sys.executable, "-m", "dlaudit.models.quarantine", str(weights.resolve()), folder,
            str(seconds), factory,
        ]  # fmt: skip
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        environment |= {
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        try:
            done = subprocess.run(  # noqa: S603  (this interpreter, this module)
                command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
                timeout=OPENING + 3 * seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise _nothing(weights, f"no end after {error.timeout:g} s") from error
        # The first line was written before the pickle was touched: nothing in it can change that.
        first = done.stdout.partition(b"\n")[0]
        try:
            confined = Confined(*map(tuple, json.loads(first)))
        except (ValueError, TypeError) as error:
            last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise _nothing(weights, last or f"exit code {done.returncode}") from error
        report = _report(out / REPORT)
        if "problem" in report or not (out / TENSORS).is_file():
            raise _nothing(weights, report.get("problem") or ended(done.returncode))
        return Released(_tensors(out / TENSORS, weights), report.get("facts", {}), confined)


def ended(code: int) -> str:
    """How a process ended that wrote nothing."""
    return f"its end by signal {-code}" if code < 0 else f"its end by code {code}"


def _nothing(weights: Path, got: str) -> LoadError:
    return refusal(
        weights, expected="a state dict, or a module, from unpickling it in a process of its own",
        got=got[:300],
    )  # fmt: skip


def _report(path: Path) -> dict[str, Any]:
    """What the process says of the file: words only, whoever wrote them."""
    with contextlib.suppress(OSError, ValueError):
        report = json.loads(path.read_bytes()[:65536])
        if isinstance(report, dict):
            facts = report.get("facts")
            told = (
                {key: str(value)[:200] for key, value in facts.items()}
                if isinstance(facts, dict)
                else {}
            )
            problem = {"problem": str(report["problem"])} if "problem" in report else {}
            return {"facts": told, **problem}
    return {}


def _tensors(path: Path, weights: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    from dlaudit.models import airlock

    airlock.admit(path, accepts={"safetensors"}, expected="tensors")
    try:
        return load_file(path)
    except Exception as error:
        raise _nothing(weights, said(error)) from error


def described(confined: Confined) -> str:
    """How the code was confined, for the record and the top of the report."""
    text = "its code ran in a process of its own, kept from " + _listed(confined.held)
    if confined.missing:
        text += f"; NOT enforced on this system: {_listed(confined.missing)}"
    return text


def _listed(rights: tuple[str, ...]) -> str:
    limited = [f"{one} beyond a limit" for one in rights if one in RIGHTS[:3]]
    return ", ".join([one for one in rights if one not in RIGHTS[:3]] + limited) or "nothing"


def main(weights: str, folder: str, seconds: str, factory: str) -> None:
    """The process: load what it needs, give up its rights, unpickle, write tensors."""
    import torch
    from safetensors.torch import save_file

    from dlaudit.models.state_dicts import tensors_of

    named_function(Path(), factory, field="file")
    out, size = Path(folder), Path(weights).stat().st_size
    torch.set_num_threads(1)
    used = sum(os.times()[:2])
    held = confine(
        out,
        memory=ROOM + 6 * size,
        seconds=int(used) + int(seconds),
        file_size=2 * size + (1 << 26),
    )
    print(json.dumps(held), flush=True)  # noqa: T201  (the pipe to the parent)
    try:
        content = torch.load(weights, map_location="cpu", weights_only=False)
        state, facts = tensors_of(content, Path(weights))
        # Tied tensors are written twice: whoever loads them ties them again.
        save_file(
            {key: one.detach().clone().contiguous() for key, one in state.items()}, out / TENSORS
        )
        report: Mapping[str, Any] = {"facts": facts}
    except LoadError as error:
        report = {"problem": "; ".join(error.problems)}
    except Exception as error:  # noqa: BLE001  (told to the parent)
        report = {"problem": said(error)}
    (out / REPORT).write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
