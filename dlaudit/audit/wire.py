"""What parent and worker say to each other: typed messages, length first. Nothing is pickled."""

from __future__ import annotations

import os
import select
import struct

import msgspec

from dlaudit.audit.perform import Done, Job, Opened
from dlaudit.audit.plan import Source


class Begin(msgspec.Struct, frozen=True, kw_only=True, tag_field="say", tag="begin"):
    """Read this plan and open what it names."""

    source: Source


class Perform(msgspec.Struct, frozen=True, kw_only=True, tag_field="say", tag="perform"):
    """Do this job."""

    job: Job


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag_field="say", tag="refused"):
    """The plan cannot be run. ``defect``: a traceback, where dlaudit itself is at fault."""

    problems: tuple[str, ...] = ()
    defect: str = ""


Request = Begin | Perform
Reply = Opened | Refused | Done

_LENGTH = struct.Struct(">Q")
_PIECE = 1 << 20


def send(fd: int, message: Request | Reply) -> None:
    """Write one message, whole. Raises BrokenPipeError if nobody listens any more."""
    body = msgspec.msgpack.encode(message)
    frame = memoryview(_LENGTH.pack(len(body)) + body)
    while frame:
        frame = frame[os.write(fd, frame) :]


class Inbox:
    """Messages out of a pipe, taken piece by piece so that half a message never blocks."""

    def __init__(self, fd: int, kind: object) -> None:
        """kind: the union of messages to expect."""
        self._fd = fd
        self._kind = kind
        self._held = bytearray()

    def waiting(self) -> bool:
        """Whether ``take`` has something to do: a whole message is held, or bytes can be read."""
        return self._end() is not None or bool(select.select([self._fd], [], [], 0)[0])

    def take(self) -> object | None:
        """The next whole message, or None if there is only part of one. Raises EOFError."""
        if self._end() is None:
            piece = os.read(self._fd, _PIECE)
            if not piece:
                raise EOFError
            self._held += piece
        end = self._end()
        if end is None:
            return None
        body = bytes(self._held[_LENGTH.size : end])
        del self._held[:end]
        message: object = msgspec.msgpack.decode(body, type=self._kind)
        return message

    def _end(self) -> int | None:
        """Where the first message that is held ends; None if it is not whole yet."""
        if len(self._held) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._held)
        end = _LENGTH.size + int(length)
        return end if len(self._held) >= end else None
