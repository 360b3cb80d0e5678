"""dlaudit audits deep-learning models: checks measure, rules judge, reports tell.

Every public name is here and loaded when it is first used: ``import dlaudit`` imports nothing heavy.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # true to type checkers; importing typing would slow down every start
if TYPE_CHECKING:
    from msgspec import Meta

    from dlaudit.attacks.base import Attack, Threat
    from dlaudit.audit.bench import Answers, Bench
    from dlaudit.audit.parts import (
        Batch,
        Check,
        Dataset,
        Decisions,
        Epsilon,
        Explainer,
        Model,
        Needs,
        Request,
        Suite,
    )
    from dlaudit.audit.record import (
        Artifact,
        AuditRecord,
        Card,
        Catalogue,
        Caveat,
        Cost,
        Interval,
        Measurement,
        Requirement,
        Rule,
        Undefined,
    )
    from dlaudit.datasets.arrays import ArrayDataset
    from dlaudit.models.torch_model import TorchModel

__version__ = "0.1.0"

_HOMES = {
    "dlaudit.attacks.base": ("Attack", "Threat"),
    "dlaudit.audit.bench": ("Answers", "Bench"),
    "dlaudit.audit.parts": (
        "Batch",
        "Check",
        "Dataset",
        "Decisions",
        "Epsilon",
        "Explainer",
        "Model",
        "Needs",
        "Request",
        "Suite",
    ),
    "dlaudit.audit.record": (
        "Artifact",
        "AuditRecord",
        "Card",
        "Catalogue",
        "Caveat",
        "Cost",
        "Interval",
        "Measurement",
        "Requirement",
        "Rule",
        "Undefined",
    ),
    "dlaudit.datasets.arrays": ("ArrayDataset",),
    "dlaudit.models.torch_model": ("TorchModel",),
    "msgspec": ("Meta",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022  (grouped by what they are for)
    "Answers", "Artifact", "ArrayDataset", "Attack", "AuditRecord", "Batch", "Bench", "Card",
    "Catalogue", "Caveat", "Check", "Cost", "Dataset", "Decisions", "Epsilon", "Explainer",
    "Interval", "Measurement", "Meta", "Model", "Needs", "Request", "Requirement",
    "Rule", "Suite", "Threat", "TorchModel", "Undefined", "audit",
]  # fmt: skip


def __getattr__(name: str) -> object:
    """Load a public name at first use (PEP 562)."""
    if name == "audit":
        return import_module("dlaudit.audit")
    if name in _HOME_OF:
        value = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
        return value
    message = f"module 'dlaudit' has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    """The public names."""
    return [*__all__, "__version__"]
