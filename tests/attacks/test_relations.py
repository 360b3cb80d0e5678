"""Relations between columns: what may be written, and what is refused in words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaudit.attacks.relations import read_relation

NAMES = ("total", "a", "b", "debt", "income", "mean radius", "x.1")


@pytest.mark.parametrize(
    ("text", "weights", "bound", "equal", "solved"),
    [
        ("total = a + b", {"total": 1, "a": -1, "b": -1}, 0, True, "total"),
        ("a + b == total", {"a": 1, "b": 1, "total": -1}, 0, True, "total"),
        ("debt <= 0.4 * income", {"debt": 1, "income": -0.4}, 0, False, None),
        ("income * 2 / 5 >= debt", {"income": -0.4, "debt": 1}, 0, False, None),
        ("-a + 3 <= 1e1 - 2 * b", {"a": -1, "b": 2}, 7, False, None),
        ("a >= 0", {"a": -1}, 0, False, None),
        (
            "'mean radius' <= 2 x.1".replace("2 x", "2 * x"),
            {"mean radius": 1, "x.1": -2},
            0,
            False,
            None,
        ),
        ("`mean radius` = a - b + 1", {"mean radius": 1, "a": -1, "b": 1}, 1, True, "mean radius"),
        ("a + a - b = 2 * 3 * b", {"a": 2, "b": -7}, 0, True, None),
    ],
)
def test_a_relation_is_weights_and_a_bound(
    text: str, weights: dict[str, float], bound: float, equal: bool, solved: str | None
) -> None:
    found = read_relation(text, NAMES)
    assert found.weights == weights
    assert (found.bound, found.equal, found.solved, found.written) == (bound, equal, solved, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a + b", "got 0 comparisons"),
        ("a = b = total", "got 2 comparisons"),
        ("a < b", "got '<'"),
        ("a != b", "got '!='"),
        ("a * b <= 1", "which is not linear"),
        ("1 / a <= 1", "which is not linear"),
        ("a / 0 <= 1", "a division by 0"),
        ("a + <= 1", "got an end too early"),
        ("<= 1", "nothing on one side"),
        ("a b <= 1", "got 'b'"),
        ("(a) <= 1", r"got '\('"),
        ("a <= __import__('os')", "no column is called '__import__'"),
        ("1 <= 2", "at least one column"),
        ("a - a <= 2", "at least one column"),
        ("totla = a", "Did you mean total"),
        ("a <= $", r"got '\$'"),
    ],
)
def test_what_is_no_linear_relation_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_relation(text, NAMES)


numbers = st.floats(-100, 100, allow_nan=False).map(lambda one: round(one, 3))


@given(
    left=st.dictionaries(st.sampled_from(["a", "b", "total"]), numbers, min_size=1),
    right=st.dictionaries(st.sampled_from(["a", "debt"]), numbers),
    constant=numbers, sign=st.sampled_from(["=", "<=", ">="]),
    values=st.fixed_dictionaries(dict.fromkeys(("a", "b", "total", "debt"), numbers)),
)  # fmt: skip
def test_what_is_read_means_what_python_would_compute(
    left: Any, right: Any, constant: float, sign: str, values: dict[str, float]
) -> None:
    def side(weights: dict[str, float]) -> str:
        return " + ".join(f"{abs(weight)} * {name}" for name, weight in weights.items()) or "0"

    text = f"{side(left)} {sign} {side(right)} - {abs(constant)}"
    if not any(abs(left.get(name, 0)) - abs(right.get(name, 0)) for name in {*left, *right}):
        with pytest.raises(ValueError, match="at least one column"):
            read_relation(text, NAMES)
        return
    found = read_relation(text, NAMES)
    difference = sum(abs(weight) * values[name] for name, weight in left.items())
    difference -= sum(abs(weight) * values[name] for name, weight in right.items()) - abs(constant)
    mine = sum(weight * values[name] for name, weight in found.weights.items()) - found.bound
    assert (mine if sign != ">=" else -mine) == pytest.approx(difference, abs=1e-6)
