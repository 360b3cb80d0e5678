"""The spine of an audit, and the audit itself: ``dlaudit.audit(model=…, data=…, suites=[…])``.

The folder and the function share a name because both are what they say; so this module can be
called. Python provides for that: the class of a module object may be replaced.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> object:
        """Run an audit; see ``dlaudit.audit.api.audit``."""
        from dlaudit.audit.api import audit

        return audit(*args, **options)


sys.modules[__name__].__class__ = _CallableModule
