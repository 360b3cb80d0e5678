"""Renderers that work and renderers that do not."""

from __future__ import annotations

import ctypes
import os
import sys

from dlaudit import AuditRecord


def count(record: AuditRecord) -> str:
    """The number of runs."""
    return f"{len(record.runs)} runs\n"


def crash(record: AuditRecord) -> str:
    """Raise."""
    raise RuntimeError("planted in a renderer")


def leave(record: AuditRecord) -> str:
    """Leave as if all were well."""
    sys.exit(0)


def vanish(record: AuditRecord) -> str:
    """Leave without a word."""
    os._exit(0)


def fall(record: AuditRecord) -> str:
    """Die of a segmentation fault."""
    return str(ctypes.string_at(0))


def mumble(record: AuditRecord) -> str:
    """Return what is no text."""
    return 3
