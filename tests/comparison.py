"""Two records of one plan: equal in all that DESIGN.md §4 does not let differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from dlaudit.audit.record import AuditRecord
from dlaudit.audit.run_folder import stored


def lasting(record: AuditRecord | Path) -> dict[str, Any]:
    """The record without what may differ: times, environment, seconds and devices of runs."""
    found = stored(record) if isinstance(record, Path) else record
    plain: dict[str, Any] = msgspec.to_builtins(found)
    for key in ("started", "finished", "environment"):
        del plain[key]
    for run in plain["runs"]:
        del run["seconds"], run["device"]
    return plain
