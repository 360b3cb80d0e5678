"""``python cut_off.py COUNTS FOLDER dlaudit-arguments…``: killed at the COUNTth touch of FOLDER.

Whatever Python does with a file is announced to audit hooks beforehand, so every moment between two
changes on disk can be reached. With COUNTS 0 nothing is killed and the number of touches is printed.
Of several counts, ``0,3,4``, the first is run here, so that everything is imported, and each of the others
in a process forked from this one; in the arguments and the folder, ``{}`` stands for the count.
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
    """One run here, and one in a fork for each further count; prints how each fork ended."""
    counts, *words = sys.argv[1:]
    for count in counts.split(","):
        folder, *arguments = (word.replace("{}", count) for word in words)
        child = os.fork() if count != counts.split(",")[0] else None
        if child:
            print("ended", count, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            continue
        if "," in counts:
            os.chdir(Path(folder).parent)
        try:
            cut_off(int(count), folder, arguments)
        except SystemExit:
            if "," not in counts:
                raise
        if child == 0:
            os._exit(0)


main()
