"""Lists the parts there are, each with one line and where it comes from."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dlaudit.audit.registry import GROUPS, Registry
from dlaudit.errors import PlanError, nearest


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A part as it is listed."""

    kind: str
    name: str
    origin: str
    line: str


def listing(
    kind: str | None = None, plugins: tuple[Path, ...] = (), *, as_json: bool = False
) -> str:
    """The parts of one kind, or of all, as text or JSON. Raises PlanError for an unknown kind."""
    if kind is not None and kind not in GROUPS:
        message = f"list: no kind of part is called {kind!r}. {nearest(kind, GROUPS)}"
        raise PlanError(message)
    registry = Registry(tuple(plugin.resolve() for plugin in plugins))
    parts = [
        Listed(kind=group, name=part.name, origin=part.origin, line=part.line)
        for group in ([kind] if kind else GROUPS)
        for part in registry.parts(group)
    ]
    if as_json:
        return msgspec.json.format(msgspec.json.encode(parts), indent=2).decode()
    width = max((len(part.name) for part in parts), default=0)
    lines: list[str] = []
    for group in dict.fromkeys(part.kind for part in parts):
        lines += [] if kind else [group]
        lines += [
            f"  {part.name:<{width}}  {part.line}  ({part.origin})"
            for part in parts
            if part.kind == group
        ]
    return "\n".join(lines)
