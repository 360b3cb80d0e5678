"""Takes rights away from this process, as far as the system lets it, and says what holds.

Knows Linux's limits, Landlock and system-call filters; never what runs inside. Nothing here needs
privileges, and nothing can be undone: it is for a process that ends soon.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

MEMORY, TIME, FILE_SIZE = "memory", "time", "file size"
WRITING, NETWORK, PROCESSES = "writing elsewhere", "network", "further processes"
RIGHTS = (MEMORY, TIME, FILE_SIZE, WRITING, NETWORK, PROCESSES)
"""What a process can be kept from, in the words of the record."""

NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2
EPERM, ENOSYS = 1, 38
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
LOAD, EQUALS, AT_LEAST, SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""Instructions of a filter: load a word; compare it; test its bits; end. (linux/bpf_common.h)"""

THREAD = 0x00010000
"""The flag by which clone makes a thread of this process."""

X32 = 0x40000000


class Calls(NamedTuple):
    """Numbers of system calls on one kind of processor (linux/audit.h, asm/unistd.h)."""

    machine: int
    clone: int
    network: tuple[int, ...]
    processes: tuple[int, ...]


NUMBERED = {
    # network: socket, socketpair, connect, io_uring_setup. processes: fork, vfork, execve, execveat,
    # ptrace, kill, tkill, tgkill, process_vm_writev, pidfd_getfd, pidfd_send_signal, unshare, setns,
    # mount, bpf, init_module, finit_module, prlimit64, chmod and chown in all forms.
    "x86_64": Calls(
        0xC000003E, 56, (41, 53, 42, 425),
        (57, 58, 59, 322, 101, 62, 200, 234, 311, 438, 424, 272, 308, 165, 321, 175, 313, 302, 90, 91,
         268, 452, 92, 93, 94, 260),
    ),
    "aarch64": Calls(
        0xC00000B7, 220, (198, 199, 203, 425),
        (221, 281, 117, 129, 130, 131, 271, 438, 424, 97, 268, 40, 280, 105, 273, 261, 52, 53, 452, 54, 55),
    ),
}  # fmt: skip
CLONE3 = 435
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
CHANGES = sum(1 << bit for bit in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12))
"""Landlock's rights to write, remove and make files. (linux/landlock.h)"""
REFER, TRUNCATE = 1 << 13, 1 << 14


class Confined(NamedTuple):
    """held: what this process can no longer do, or only within a limit; missing: what it still can."""

    held: tuple[str, ...]
    missing: tuple[str, ...]


def confine(folder: Path, *, memory: int, seconds: int, file_size: int) -> Confined:
    """Give up everything but reading, computing, and writing below ``folder``.

    memory: further bytes of address space; seconds: of processor time; file_size: bytes of any file.
    """
    steps: list[tuple[tuple[str, ...], Callable[[], bool]]] = [
        ((MEMORY,), lambda: _limit_memory(memory)),
        ((TIME,), lambda: _limit(resource.RLIMIT_CPU, seconds)),
        ((FILE_SIZE,), lambda: _limit(resource.RLIMIT_FSIZE, file_size)),
        ((WRITING,), lambda: _write_only_below(folder)),
        ((NETWORK, PROCESSES), _filter_calls),
    ]
    _limit(resource.RLIMIT_CORE, 0)
    held = [right for rights, step in steps if step() for right in rights]
    return Confined(tuple(held), tuple(right for right in RIGHTS if right not in held))


def _limit(what: int, most: int) -> bool:
    try:
        resource.setrlimit(what, (most, most))
    except (OSError, ValueError):
        return False
    return True


def _limit_memory(more: int) -> bool:
    """So many bytes of address space besides those that are mapped by now."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    except OSError:  # a system that does not say
        return False
    return _limit(resource.RLIMIT_AS, int(pages) * resource.getpagesize() + more)


def _write_only_below(folder: Path) -> bool:
    """Landlock: every change to files but those below a folder fails from now on."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(CREATE_RULESET, None, 0, 1)
    if version < 3:  # older ones cannot forbid that files are cut off
        return False
    rights = CHANGES | REFER | TRUNCATE
    asked = ctypes.create_string_buffer(struct.pack("<Q", rights))
    rules = libc.syscall(CREATE_RULESET, asked, 8, 0)
    if rules < 0:
        return False
    below = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = ctypes.create_string_buffer(struct.pack("<Qi", rights, below))
        return bool(
            libc.syscall(ADD_RULE, rules, 1, rule, 0) == 0
            and libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
            and libc.syscall(RESTRICT_SELF, rules, 0) == 0
        )
    finally:
        os.close(below)
        os.close(rules)


def _filter_calls() -> bool:
    """seccomp: calls that reach other processes or the network fail from now on."""
    calls = NUMBERED.get(platform.machine())
    if sys.platform != "linux" or calls is None:
        return False
    program = b"".join(_program(calls))
    held = ctypes.create_string_buffer(program)
    count, at = len(program) // 8, ctypes.addressof(held)
    described = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", count, at))
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(
        libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
        and libc.prctl(SECCOMP, FILTER, described, 0, 0) == 0
    )


def _program(calls: Calls) -> Iterator[bytes]:
    """The filter: (code, steps if true, steps if false, value) each."""

    def step(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
        return struct.pack("<HBBI", code, true, false, value)

    refused, unknown = ERRNO | EPERM, ERRNO | ENOSYS
    yield step(LOAD, 4)  # the kind of processor
    yield step(EQUALS, calls.machine, true=1)
    yield step(RETURN, refused)
    yield step(LOAD, 0)  # the call's number
    yield step(AT_LEAST, X32, false=1)
    yield step(RETURN, refused)
    for number in (*calls.network, *calls.processes):
        yield step(EQUALS, number, false=1)
        yield step(RETURN, refused)
    yield step(
        EQUALS, CLONE3, false=1
    )  # its flags lie in memory: the C library falls back to clone
    yield step(RETURN, unknown)
    yield step(EQUALS, calls.clone, false=3)
    yield step(LOAD, 16)  # the call's first argument, its lower half
    yield step(SET, THREAD, true=1)
    yield step(RETURN, refused)
    yield step(RETURN, ALLOW)
