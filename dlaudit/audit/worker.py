"""The worker process: opens the plan once, then performs one job after the other.

Started by ``ProcessExecutor`` as ``python -m dlaudit.audit.worker IN OUT PARENT``; talks through two
pipes, so that whatever a model or a check prints cannot disturb the conversation.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import traceback

from dlaudit.audit.perform import Workplace, open_workplace
from dlaudit.audit.wire import Begin, Inbox, Perform, Refused, Request, send
from dlaudit.errors import PlanError

PR_SET_PDEATHSIG = 1


def main(ask_fd: int, reply_fd: int, parent: int) -> None:
    """Serve until the parent closes its end."""
    faulthandler.enable()
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    inbox = Inbox(ask_fd, Request)
    workplace: Workplace | None = None
    while True:
        try:
            message = inbox.take()
        except EOFError:
            return
        match message:
            case Begin(source=source):
                try:
                    answer, workplace = open_workplace(source)
                except PlanError as error:
                    send(reply_fd, Refused(problems=error.problems))
                    return
                except Exception:  # noqa: BLE001  (reported as dlaudit's own defect, exit 5)
                    send(reply_fd, Refused(defect=traceback.format_exc()))
                    return
                one_thread()
                send(reply_fd, answer)
            case Perform(job=job) if workplace:
                send(reply_fd, workplace.perform(job))


def one_thread() -> None:
    """torch counts the cores itself; one thread per worker keeps sums in one order everywhere."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


def die_with(parent: int) -> None:
    """Have the kernel end this process with its parent, also when that is killed outright."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:4]))
