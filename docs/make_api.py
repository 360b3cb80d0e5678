"""Writes docs/api.md: every public name with its signature and its docstring.

    python docs/make_api.py

Knows Python's own inspection; no documentation engine, so that the page is made offline and a test
can hold it to the code.
"""

from __future__ import annotations

import inspect
import re
import typing
from pathlib import Path

import dlaudit
import dlaudit.errors
import dlaudit.testing
from dlaudit.audit import api, statistics

PAGE = Path(__file__).parent / "api.md"
WIDTH = 100
BROKEN = ",\n    "

HEAD = """\
# The API

Everything here is imported from `dlaudit` itself, at first use: `import dlaudit` loads nothing heavy.
This page is made from the code by `python docs/make_api.py`.

```python
import numpy as np
from sklearn.datasets import load_iris
from torch import nn

import dlaudit

x, y = load_iris(return_X_y=True)
net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
record = dlaudit.audit(
    net,
    {"x": x.astype(np.float32), "y": y},
    checks={"attacks.fgsm": {"epsilon": [0.1, 0.5]}},
    rules=[
        {
            "run": "attacks.fgsm",
            "measurement": "clean_accuracy",
            "at_least": 0.9,
            "rationale": "an untrained network should not pass",
        }
    ],
)
print(record.verdicts[0].status, record.verdicts[0].reason)
```

In a notebook, a record shows itself. With paths instead of objects, the audit runs in worker
processes as on the command line.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The page's text."""
    parts = [HEAD, "\n## The audit\n", entry("audit", api.audit)]
    parts.append("\n## Public names\n")
    parts += [entry(name, getattr(dlaudit, name)) for name in dlaudit.__all__ if name != "audit"]
    parts.append("\n## Errors: `dlaudit.errors`\n")
    parts.append("```text\n" + inspect.cleandoc(dlaudit.errors.__doc__ or "") + "\n```\n")
    parts.append("\n## For tests of parts: `dlaudit.testing`\n")
    names = ("conforms", "toy_arrays", "toy_data", "toy_model", "performed")
    parts += [entry(name, getattr(dlaudit.testing, name)) for name in names]
    parts.append("\n## Intervals and tests: `dlaudit.audit.statistics`\n")
    parts += [entry(name, one) for name, one in public_functions(statistics)]
    return "\n".join(parts)


def public_functions(module: object) -> list[tuple[str, object]]:
    """The functions that a module defines, in the order of its text."""
    return [
        (name, one)
        for name, one in vars(module).items()
        if inspect.isfunction(one)
        and not name.startswith("_")
        and one.__module__ == getattr(module, "__name__", "")
    ]


def entry(name: str, one: object, level: int = 3) -> str:
    """A heading, the signature and the docstring; for a class, its own methods too."""
    text = f"{'#' * level} {name}\n\n{signature(name, one)}\n{prose(one)}\n"
    if inspect.isclass(one) and one.__module__.startswith("dlaudit"):
        for method, function in vars(one).items():
            if not method.startswith("_") and documented(function):
                shown = function.fget if isinstance(function, property) else function
                first = (inspect.getdoc(shown) or "").partition("\n\n")[0].replace("\n", " ")
                call = method if isinstance(function, property) else f"{method}{arguments(shown)}"
                text += f"\n- `{call}`: {prose_line(first)}"
        text += "\n"
    return text


def documented(function: object) -> bool:
    """Whether a class attribute is a method or property with a docstring."""
    return (inspect.isfunction(function) or isinstance(function, property)) and bool(
        inspect.getdoc(function)
    )


def signature(name: str, one: object) -> str:
    """How it is called, as Python; empty for what cannot be called."""
    try:
        written = f"{name}{arguments(one)}"
        if len(written) > WIDTH:
            written = f"{name}{arguments(one, separator=BROKEN)}"
    except (TypeError, ValueError):
        return ""
    return f"```text\n{written}\n```\n"


def arguments(function: object, separator: str = ", ") -> str:
    """The parameters and what is returned, without the noise of module names."""
    called = inspect.signature(function)  # type: ignore[arg-type]
    parts: list[str] = []
    starred = False
    for parameter in called.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            starred = True
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parts.append("*")
            starred = True
        parts.append(argument(parameter))
    returned = called.return_annotation
    result = "" if returned in {called.empty, None, "None"} else f" -> {kind(returned)}"
    if separator == BROKEN:
        return f"(\n    {separator.join(parts)},\n){result}"
    return f"({separator.join(parts)}){result}"


def argument(parameter: inspect.Parameter) -> str:
    """One parameter with its type and default."""
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    text = f"{stars}{parameter.name}"
    if parameter.annotation is not parameter.empty:
        text += f": {kind(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        default = parameter.default
        shown = getattr(default, "__name__", None) or repr(default)
        if shown == "<factory>":  # msgspec's sign for a mutable default
            shown = "{}" if "dict" in text else "[]"
        text += f" = {shown}"
    return text


def kind(annotation: object) -> str:
    """A type as it is written in the code."""
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, typing.ForwardRef):
        return annotation.__forward_arg__
    if typing.get_origin(annotation) is typing.Union:  # msgspec resolves `| None` to it
        return " | ".join(kind(one) for one in typing.get_args(annotation)).replace(
            "NoneType", "None"
        )
    return re.sub(r"\b[a-z_]\w*(?:\.\w+)*\.(?=\w)", "", inspect.formatannotation(annotation))


def prose(one: object) -> str:
    """The docstring, with code marked as Markdown marks it; what a Struct made up is no docstring."""
    return prose_line(inspect.getdoc(one) or "")


def prose_line(text: str) -> str:
    """``code`` as `code`; characters that Markdown would take for its own."""
    return text.replace("``", "`").replace("*input", r"\*input").replace("*spatial", r"\*spatial")


if __name__ == "__main__":
    main()
