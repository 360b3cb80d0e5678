"""``python cut_off.py COUNTS FOLDER dlaudit-arguments…``: killed at the COUNTth touch of FOLDER.

Whatever Python does with a file is announced to audit hooks beforehand, so every moment between two
changes on disk can be reached. With COUNTS 0 nothing is killed and the number of touches is printed.
Of several counts, ``3,4,5``, each is a process forked from this one, which has imported everything; in the
arguments and the folder, ``{}`` stands for the count.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

TOUCHES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.chmod",
           "shutil.rmtree", "tempfile.mkstemp", "os.scandir", "os.listdir"}  # fmt: skip


def cut_off(last: int, folder: str, arguments: list[str]) -> None:
    """Count, and die when it is time."""
    seen = 0

    def hook(event: str, details: tuple[object, ...]) -> None:
        nonlocal seen
        if event in TOUCHES and any(str(one).startswith(folder) for one in details):
            seen += 1
            if seen == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    sys.argv = ["dlaudit", *arguments]
    from dlaudit.cli import main as run

    try:
        run()
    finally:
        print(f"touches {seen}", file=sys.stderr)


def main() -> None:
    """One run here, or one in a fork for each of several counts; prints how each fork ended."""
    counts, *words = sys.argv[1:]
    if "," not in counts:
        cut_off(int(counts), words[0], words[1:])
        return
    import torch  # noqa: F401  # what takes its time

    import dlaudit.audit.engine
    import dlaudit.models.torch_model  # noqa: F401

    for count in counts.split(","):
        folder, *arguments = (word.replace("{}", count) for word in words)
        child = os.fork()
        if not child:
            os.chdir(Path(folder).parent)
            cut_off(int(count), folder, arguments)
            os._exit(0)
        print(count, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


main()
