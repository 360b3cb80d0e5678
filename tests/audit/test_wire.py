"""Parent and worker understand each other whole messages at a time, however the bytes arrive."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaudit.audit.executor import lost
from dlaudit.audit.perform import Job
from dlaudit.audit.plan import RunSpec, Source
from dlaudit.audit.wire import Begin, Inbox, Perform, Refused, Reply, Request, send

JOB = Job(
    run=RunSpec(id="a.b", check="a.b", params={"epsilon": [0.1, 0.5], "norm": "l2"}),
    plan_seed=7, block=256, keep_samples=0, folder="/run",
)  # fmt: skip
REQUESTS = [
    Begin(source=Source(root="/", table={"seed": 3, "rules": [{"at_least": 0.5}], "ü": "€"})),
    Perform(job=JOB),
]
REPLIES = [Refused(problems=("a", "b")), Refused(defect="trace"), lost(JOB, "Timeout", "late")]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    for fd in (read, write):
        with contextlib.suppress(OSError):
            os.close(fd)


@pytest.mark.parametrize(
    ("message", "kind"), [(m, Request) for m in REQUESTS] + [(m, Reply) for m in REPLIES]
)
def test_a_message_arrives_as_it_was_sent(
    message: object, kind: object, pipe: tuple[int, int]
) -> None:
    inbox = Inbox(pipe[0], kind)
    assert not inbox.waiting()
    send(pipe[1], message)
    assert inbox.waiting()
    assert inbox.take() == message
    assert not inbox.waiting()


@given(pieces=st.lists(st.integers(1, 60), min_size=1))
def test_half_a_message_waits_for_the_rest(pieces: list[int]) -> None:
    """Several messages, cut at any places: each is taken once, whole and in order."""
    read, write = os.pipe()
    collected, whole = os.pipe()
    for message in REPLIES:
        send(whole, message)
    os.close(whole)
    stream = os.read(collected, 1 << 20)
    inbox, found = Inbox(read, Reply), []
    cuts = iter(pieces * len(stream))
    while stream:
        size = next(cuts)
        os.write(write, stream[:size])
        stream = stream[size:]
        while inbox.waiting():
            if (message := inbox.take()) is not None:
                found.append(message)
    assert found == REPLIES
    for fd in (read, write, collected):
        os.close(fd)


def test_a_message_larger_than_the_pipe_arrives_whole(pipe: tuple[int, int]) -> None:
    message = Refused(defect="x" * 3_000_000)
    sender = threading.Thread(target=send, args=(pipe[1], message))
    sender.start()
    inbox = Inbox(pipe[0], Reply)
    while (taken := inbox.take()) is None:
        pass
    sender.join()
    assert taken == message


def test_the_end_of_the_pipe_is_told_from_silence(pipe: tuple[int, int]) -> None:
    inbox = Inbox(pipe[0], Reply)
    os.write(pipe[1], b"\0\0")
    os.close(pipe[1])
    assert inbox.take() is None
    assert inbox.waiting()
    with pytest.raises(EOFError):
        inbox.take()


def test_nobody_listens(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    with pytest.raises(BrokenPipeError):
        send(pipe[1], REPLIES[0])


def test_what_is_no_message_is_refused(pipe: tuple[int, int]) -> None:
    inbox = Inbox(pipe[0], Reply)
    os.write(pipe[1], (3).to_bytes(8, "big") + b"abc")
    with pytest.raises(msgspec.DecodeError):
        inbox.take()
