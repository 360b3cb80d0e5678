"""One real check of every suite, made to fail half way: ``faulty.<suite>`` with a ``fault``."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from toy import Fault, strike

from dlaudit import Check
from dlaudit.audit.parts import Yielded
from dlaudit.audit.registry import Registry


def made_faulty(name: str, check: type[Check]) -> type[Check]:
    """The check with one more parameter: what shall happen after its first number."""

    def measure(self: Check, bench) -> Iterator[Yielded]:
        yielded = check.measure(self, bench)
        yield next(yielded)
        strike(self.fault)
        yield from yielded

    return msgspec.defstruct(
        name, [("fault", Fault, "none")], bases=(check,), namespace={"measure": measure},
        module=__name__, frozen=True, kw_only=True,
    )  # fmt: skip


def first_checks(registry: Registry) -> Iterator[tuple[str, str, type[Check]]]:
    """(suite, run, class of the check) of each suite's first run."""
    for part in registry.parts("suites"):
        run, params = next(iter(part.get().runs.items()))
        yield part.name, run, registry.check(params.get("use", run)).get()


globals().update({suite: made_faulty(suite, check) for suite, _, check in first_checks(Registry())})
