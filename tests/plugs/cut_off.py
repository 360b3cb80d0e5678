"""``python cut_off.py COUNT FOLDER dlaudit-arguments…``: killed at the COUNTth touch of FOLDER.

Whatever Python does with a file is announced to audit hooks beforehand, so every moment between two
changes on disk can be reached. With COUNT 0 nothing is killed and the number of touches is printed.
"""

from __future__ import annotations

import os
import signal
import sys

TOUCHES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.chmod",
           "shutil.rmtree", "tempfile.mkstemp", "os.scandir", "os.listdir"}  # fmt: skip


def main() -> None:
    """Count, and die when it is time."""
    last, folder, *arguments = sys.argv[1:]
    seen = 0

    def hook(event: str, details: tuple[object, ...]) -> None:
        nonlocal seen
        if event in TOUCHES and any(str(one).startswith(folder) for one in details):
            seen += 1
            if seen == int(last):
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    sys.argv = ["dlaudit", *arguments]
    from dlaudit.cli import main as run

    try:
        run()
    finally:
        print(f"touches {seen}", file=sys.stderr)


main()
