"""Every exception that dlaudit raises on purpose; knows nothing but words.

    AuditError                    whatever a user can be told in one sentence
    ├── PlanError                 the plan or the command is wrong            exit 2
    │   ├── UnknownName           nothing is called so; names the nearest
    │   ├── LoadError             a model or data file cannot be read as asked
    │   │   └── UntrustedModel    reading it would execute code
    │   └── RunFolderError        the output folder or the stored run is unusable
    ├── ReportFailed              a renderer crashed; the record is kept      exit 5
    ├── NonFinite                 a model answered NaN or infinity            errored run
    ├── NotExplained              a method does not apply to this model       no number
    └── NotOffered                a model or data set lacks what was called   errored run

``PlanError`` collects: one message per mistake, all of them reported together.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AuditError(Exception):
    """Whatever can be told to a user without a traceback."""


class PlanError(AuditError):
    """One or more mistakes that are known before anything is measured.

    ``problems`` holds one sentence each; ``str()`` joins them, one a line. ``label``: the plan file
    they were found in, where there is one.
    """

    label = ""

    def __init__(self, *problems: str) -> None:
        """problems: sentences of the form ``place: expected …, got …``."""
        super().__init__("\n".join(problems))
        self.problems = problems


class UnknownName(PlanError):
    """Nothing of this kind is called so; the nearest right name is suggested."""

    def __init__(self, name: str, kind: str, known: Iterable[str]) -> None:
        """name: what was asked for; kind: a singular noun; known: the names there are."""
        super().__init__(f"no {kind} is called {name!r}. {nearest(name, known)}")


class LoadError(PlanError):
    """A model or data file cannot be read as the plan asks."""


class UntrustedModel(LoadError):
    """Reading the file would execute code that nobody allowed."""


class RunFolderError(PlanError):
    """A run folder is missing, not empty, or belongs to another plan."""


class ReportFailed(AuditError):
    """A renderer crashed. What was measured and judged is kept, and the other reports are written."""


class NonFinite(AuditError):
    """A model answered NaN or infinity where numbers are needed."""


class NotOffered(AuditError):
    """A model or data set was asked for something that it does not offer."""


class NotExplained(AuditError):
    """A method of explanation does not apply to this model or these inputs; the message says why."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint behind an unknown name: the nearest right one, or all there are."""
    names = sorted(known)
    if close := difflib.get_close_matches(name, names, n=1, cutoff=0.6):
        return f"Did you mean {close[0]}?"
    return f"There are: {', '.join(names)}." if names else "There are none."
