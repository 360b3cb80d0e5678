"""Linear relations between named columns, read from text such as ``total = a + b``.

Knows a small grammar and nothing that runs: numbers, names, ``+``, ``-``, ``*``, ``/`` by a number and
one of ``=``, ``<=``, ``>=``. Names that are no plain words stand in quotes.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple, NoReturn

from dlaudit.errors import nearest

TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<quoted>"[^"]+"|'[^']+'|`[^`]+`)
      | (?P<word>[^\W\d][\w.]*)
      | (?P<sign><=|>=|==|!=|[-+*/=<>()^%,])
    )""",
    re.VERBOSE,
)
COMPARED = {"=": "=", "==": "=", "<=": "<=", ">=": ">="}
GRAMMAR = "terms of numbers and columns joined by + and -, one =, <= or >= between them"


class Relation(NamedTuple):
    """Σ weight · column <= bound, or = bound.

    weights: column -> weight, none of them 0. solved: the column that the text defines, where an
    equation has one column alone on a side. written: as it stands in the plan.
    """

    weights: dict[str, float]
    bound: float
    equal: bool
    solved: str | None
    written: str


def read_relation(text: str, columns: Collection[str]) -> Relation:
    """One relation between columns. Raises ValueError with what was expected and got.

    columns: the names there are.
    """
    tokens = list(_tokens(text))
    signs = [
        place for place, (kind, value) in enumerate(tokens) if kind == "sign" and value in COMPARED
    ]
    if len(signs) != 1:
        strict = [repr(value) for _, value in tokens if value in {"<", ">", "!="}]
        got = strict[0] if strict else f"{len(signs)} comparisons"
        message = f"{text!r}: expected {GRAMMAR}, got {got}"
        raise ValueError(message)
    left = _Side(tokens[: signs[0]], text, columns).read()
    right = _Side(tokens[signs[0] + 1 :], text, columns).read()
    sign = COMPARED[tokens[signs[0]][1]]
    weights = dict(left.weights)
    for name, weight in right.weights.items():
        weights[name] = weights.get(name, 0.0) - weight
    weights = {name: weight for name, weight in weights.items() if weight}
    if not weights:
        message = f"{text!r}: expected at least one column, got none that counts"
        raise ValueError(message)
    bound = right.constant - left.constant
    if sign == ">=":
        weights, bound = {name: -weight for name, weight in weights.items()}, -bound
    alone = [side.alone for side in (left, right) if side.alone in weights]
    solved = alone[0] if sign == "=" and alone else None
    return Relation(weights, bound + 0.0, sign == "=", solved, text)


def _tokens(text: str) -> list[tuple[str, str]]:
    """(kind, value) of every token. Raises ValueError at what is none."""
    found, place = [], 0
    while text[place:].strip():
        match = TOKEN.match(text, place)
        if match is None:
            message = f"{text!r}: expected {GRAMMAR}, got {text[place:].strip()[0]!r}"
            raise ValueError(message)
        found.append((str(match.lastgroup), match[str(match.lastgroup)]))
        place = match.end()
    return found


class _Side:
    """One side of a relation: a sum of terms."""

    def __init__(self, tokens: list[tuple[str, str]], text: str, columns: Collection[str]) -> None:
        self.tokens, self.text, self.columns = tokens, text, columns
        self.weights: dict[str, float] = {}
        self.constant = 0.0
        self.alone: str | None = None

    def read(self) -> _Side:
        """Fill weights and constant."""
        if not self.tokens:
            self._refuse("nothing on one side")
        sign = 1.0
        first = True
        while self.tokens:
            if self._next("sign", "+-"):
                sign = -1.0 if self.tokens.pop(0)[1] == "-" else 1.0
            elif not first:
                self._refuse(repr(self.tokens[0][1]))
            factor, name = self._term()
            if name is None:
                self.constant += sign * factor
            else:
                self.weights[name] = self.weights.get(name, 0.0) + sign * factor
            first = False
        if not self.constant and list(self.weights.values()) == [1.0]:
            self.alone = next(iter(self.weights))
        return self

    def _next(self, kind: str, values: str = "") -> bool:
        return (
            bool(self.tokens)
            and self.tokens[0][0] == kind
            and (not values or self.tokens[0][1] in values)
        )

    def _term(self) -> tuple[float, str | None]:
        """A product of numbers and at most one column: (factor, column or None)."""
        factor, name = self._factor()
        while self._next("sign", "*/"):
            divides = self.tokens.pop(0)[1] == "/"
            other, column = self._factor()
            if column is not None and (name is not None or divides):
                self._refuse("columns multiplied or divided by each other, which is not linear")
            if divides and other == 0:
                self._refuse("a division by 0")
            factor = factor / other if divides else factor * other
            name = column or name
        return factor, name

    def _factor(self) -> tuple[float, str | None]:
        if not self.tokens:
            self._refuse("an end too early")
        kind, value = self.tokens.pop(0)
        if kind == "number":
            return float(value), None
        if kind == "sign":
            self._refuse(repr(value))
        name = value[1:-1] if kind == "quoted" else value
        if name not in self.columns:
            message = f"{self.text!r}: no column is called {name!r}. {nearest(name, self.columns)}"
            raise ValueError(message)
        return 1.0, name

    def _refuse(self, got: str) -> NoReturn:
        message = f"{self.text!r}: expected {GRAMMAR}, got {got}"
        raise ValueError(message)
