"""The checker decides which rows are rows: by hand, against brute force, and over whatever repair makes."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaudit import ArrayDataset, Threat
from dlaudit.attacks.ball import Ball
from dlaudit.attacks.relations import read_relation
from dlaudit.attacks.table_columns import Declared, columns_of, detected_groups, spread
from dlaudit.attacks.table_repair import Repair
from dlaudit.attacks.table_rules import Rules, broken
from dlaudit.errors import NotOffered, PlanError

NAMES = ("a", "b", "total", "k", "c", "h_x", "h_y")
RULES = Rules(
    features=NAMES, fixed=frozenset({1}), whole=frozenset({3}), rising=frozenset({0}),
    falling=frozenset({3}), codes={4: 3}, one_hot=((5, 6),), changes=1,
    relations=(read_relation("total = a + b", NAMES), read_relation("a <= 5", NAMES)),
)  # fmt: skip
CLEAN = [1.0, 2.0, 3.0, 4.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({}, None),
        ({0: 2.5, 2: 4.5}, None),
        ({3: 2.0}, None),
        ({4: 2.0}, None),
        ({5: 0.0, 6: 1.0}, None),
        ({0: np.nan}, "finite"),
        ({1: 2.5, 2: 3.5}, "fixed"),
        ({3: 3.5}, "whole"),
        ({0: 0.5, 2: 2.5}, "rising"),
        ({3: 5.0}, "falling"),
        ({4: 3.0}, "categories"),
        ({4: 0.5}, "categories"),
        ({4: -1.0}, "categories"),
        ({5: 0.0}, "categories"),
        ({6: 1.0}, "categories"),
        ({5: 0.5, 6: 0.5}, "categories"),
        ({4: 1.0, 5: 0.0, 6: 1.0}, "changes"),
        ({2: 3.001}, "total = a + b"),
        ({0: 6.0, 2: 8.0}, "a <= 5"),
    ],
)
def test_each_rule_by_hand(changed: dict[int, float], rule: str | None) -> None:
    row = list(CLEAN)
    for place, value in changed.items():
        row[place] = value
    found = broken(np.array([row], np.float32), np.array([CLEAN], np.float32), RULES)
    assert rule is None or found[rule][0]
    if rule != "finite":
        assert [name for name, bad in found.items() if bad[0]] == ([] if rule is None else [rule])


def test_an_equation_holds_up_to_the_rounding_of_its_dtype_and_no_further() -> None:
    a, b = np.float32(0.1), np.float32(0.2)
    total = np.float32(a + b)
    assert float(total) != float(a) + float(b), "not exact in real numbers"
    rules = Rules(NAMES, relations=(read_relation("total = a + b", NAMES),))
    row = np.array([[a, b, total, 0, 0, 0, 0]], np.float32)
    assert not any(bad[0] for bad in broken(row, row, rules).values())
    row[0, 2] = np.nextafter(np.nextafter(np.nextafter(total, 1), 1), 1)
    assert broken(row, row, rules)["total = a + b"][0]
    exact = row.astype(np.float64)
    exact[0, 2] = float(total)
    assert broken(exact, exact, rules)["total = a + b"][0], "float64 knows its values better"


@st.composite
def systems(draw: Any) -> tuple[Rules, torch.Tensor, Threat, torch.Tensor]:
    """Random rules with clean rows that obey them, a box, and rows that a search might propose."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    n, numbers = 8, 6
    scale = draw(st.sampled_from([1.0, 1e3]))
    x = rng.normal(size=(n, numbers)) * scale
    whole = frozenset(np.flatnonzero(rng.random(numbers) < 0.3).tolist())
    x[:, sorted(whole)] = np.round(x[:, sorted(whole)])
    groups = draw(st.integers(0, 2))
    hot = [np.eye(3)[rng.integers(0, 3, n)] for _ in range(groups)]
    codes = {numbers + 3 * groups: 4} if draw(st.booleans()) else {}
    x = np.concatenate([x, *hot, *([rng.integers(0, 4, (n, 1))] if codes else [])], axis=1)
    names = tuple(f"f{place}" for place in range(x.shape[1]))
    x = torch.as_tensor(x).to(dtype).double().numpy()
    relations = []
    for _ in range(draw(st.integers(0, 3))):
        used = rng.choice(x.shape[1], size=3, replace=False)
        weights = rng.choice([-2.0, -0.5, 1.0, 1.0, 3.0], 3)
        level = float((x[:, used] @ weights).max() + rng.choice([0.0, 0.3]) * scale)
        terms = " + ".join(f"{w} * f{u}" for w, u in zip(weights, used, strict=True))
        relations.append(read_relation(terms.replace("+ -", "- ") + f" <= {level:.17g}", names))
    fixed = frozenset(np.flatnonzero(rng.random(x.shape[1]) < 0.15).tolist())
    equal = sorted(set(range(numbers)) - whole - fixed)
    if len(equal) >= 3 and draw(st.booleans()):
        p, q, r = equal[:3]
        x[:, p] = x[:, q] + x[:, r]
        relations = [read_relation(f"f{p} = f{q} + f{r}", names)]
    rules = Rules(
        names, fixed=fixed, whole=whole, codes=codes, changes=draw(st.integers(0, 2)),
        one_hot=tuple(tuple(range(numbers + 3 * g, numbers + 3 * g + 3)) for g in range(groups)),
        rising=frozenset(np.flatnonzero(rng.random(numbers) < 0.15).tolist()), relations=tuple(relations),
    )  # fmt: skip
    clean = torch.as_tensor(x).to(dtype)
    units = np.full(x.shape[1], draw(st.sampled_from([0.01, 1.0])) * scale)
    units[numbers:] = 4
    units[sorted(fixed)] = 0
    threat = Threat(norm="linf", epsilon=1.0, scale=units, rules=rules)
    proposed = clean.double() + torch.as_tensor(rng.normal(size=x.shape) * 2 * units)
    return rules, clean, threat, proposed


def obeys(row: np.ndarray, clean: np.ndarray, rules: Rules, *, hair: int = 8) -> bool:
    """The rules once more, in exact fractions and without a line of the checker.

    hair: roundings of float64, in which the checker adds, that the slack is widened by.
    """
    values = [Fraction(float(value)) for value in row]
    eps = Fraction(float(np.finfo(row.dtype).eps))
    for relation in rules.relations:
        terms = [Fraction(w) * values[rules.features.index(n)] for n, w in relation.weights.items()]
        excess = sum(terms) - Fraction(relation.bound)
        size = sum(map(abs, terms)) + abs(Fraction(relation.bound))
        slack = (eps + hair * Fraction(1, 2**53)) * size
        if (abs(excess) if relation.equal else excess) > slack:
            return False
    changes = sum(row[c] != clean[c] for c in rules.codes)
    changes += sum(any(row[m] != clean[m] for m in group) for group in rules.one_hot)
    return (
        all(row[c] == clean[c] for c in rules.fixed)
        and all(float(row[c]).is_integer() for c in (*rules.whole, *rules.codes))
        and all(row[c] >= clean[c] for c in rules.rising)
        and all(0 <= row[c] < most for c, most in rules.codes.items())
        and all(sorted(row[list(group)]) == [0, 0, 1] for group in rules.one_hot)
        and changes <= rules.changes
    )


@settings(max_examples=120)
@given(systems())
def test_whatever_repair_lets_through_obeys_every_rule_and_the_box(system: Any) -> None:
    rules, clean, threat, proposed = system
    ball = Ball(clean, threat)
    x, good = Repair(ball, rules)(proposed)
    assert x.dtype == clean.dtype
    for i in range(len(x)):
        if good[i]:
            assert obeys(x[i].numpy(), clean[i].numpy(), rules)
            assert ball.contains(x)[i]
        else:
            assert torch.equal(x[i], clean[i]), "what cannot be repaired comes back clean"


@settings(max_examples=120)
@given(systems(), st.floats(0, 1))
def test_the_checker_agrees_with_brute_force_in_exact_fractions(system: Any, share: float) -> None:
    rules, clean, threat, proposed = system
    repaired, _ = Repair(Ball(clean, threat), rules)(proposed)
    chance = torch.rand(clean.shape, generator=torch.Generator().manual_seed(int(share * 1e6)))
    mixed = torch.where(chance < share, proposed.to(clean.dtype), repaired)
    rows, before = mixed.numpy(), clean.numpy()
    found = ~np.any(list(broken(rows, before, rules).values()), axis=0)
    for row, old, admitted in zip(rows, before, found, strict=True):
        assert obeys(row, old, rules, hair=8) or not admitted
        assert admitted or not obeys(row, old, rules, hair=-8)


def data(x: np.ndarray, names: list[str], **facts: Any) -> ArrayDataset:
    y = np.arange(len(x)) % 2
    return ArrayDataset(x.astype(np.float32), y, kind="tabular", facts={"features": names, **facts})


def test_types_and_groups_are_detected_and_told() -> None:
    rng = np.random.default_rng(0)
    hot = np.eye(3)[rng.integers(0, 3, 40)]
    x = np.column_stack([
        rng.normal(size=40), rng.integers(0, 90, 40), hot, rng.integers(0, 2, 40),
        rng.integers(0, 3, 40), np.full(40, 7.5), rng.normal(size=40),
    ])  # fmt: skip
    names = ["income", "age", "job_a", "job_b", "job_c", "owner", "city", "same", "sex"]
    found = columns_of(
        data(x, names, immutable=["sex"], codes={"city": ["x", "y", "z"]}), Declared()
    )
    assert found.rules.whole == {1}
    assert found.rules.one_hot == ((2, 3, 4),)
    assert found.rules.codes == {5: 2, 6: 3}
    assert found.rules.fixed == {8}
    assert found.units[[2, 3, 4, 5, 6, 7, 8]].tolist() == [0] * 7
    assert found.units[0] == pytest.approx(np.subtract(*np.percentile(x[:, 0], [75, 25])), rel=1e-6)
    assert found.span.tolist() == [0, 0, 1, 1, 1, 1, 2, 0, 0]
    assert found.split == "test"
    assert found.told == "9 columns, 1 fixed, 1 constant, 1 whole, 2 coded, 1 one-hot groups"
    declared = columns_of(
        data(x, names), Declared(integers=["income"], one_hot=[["job_a", "job_b"]])
    )
    assert declared.rules.whole == {0}
    assert declared.rules.one_hot == ((2, 3),)


def test_a_spread_of_nothing_is_taken_from_the_deviation() -> None:
    """By hand: nine zeros and a ten have no quartiles apart, and a deviation of 3."""
    column = np.array([0.0] * 9 + [10.0])[:, None]
    assert spread(column)[0] == pytest.approx(1.349 * 3)
    assert spread(np.arange(5.0)[:, None])[0] == 2
    assert spread(np.full((4, 1), np.nan))[0] == 0


def test_indicators_of_which_a_row_has_two_are_no_group() -> None:
    values = np.array([[1, 0], [0, 1], [1, 1]], dtype=float)
    assert detected_groups(["a_x", "a_y"], values, set()) == ()
    assert detected_groups(["a_x", "a_y"], values[:2], set()) == ((0, 1),)
    assert detected_groups(["a_x", "b_y"], values[:2], set()) == ()


def test_everything_that_is_declared_wrongly_is_told_at_once() -> None:
    x = np.random.default_rng(0).normal(size=(5, 2))
    with pytest.raises(PlanError) as caught:
        columns_of(
            data(x, ["a", "b"]),
            Declared(immutable=["q"], one_hot=[["a"], ["a", "b"]], relations=["a <= c", "a b"]),
        )
    assert len(caught.value.problems) == 4
    with pytest.raises(NotOffered, match="expected rows of numbers"):
        columns_of(ArrayDataset(np.zeros((4, 1, 2, 2), np.float32), np.arange(4) % 2), Declared())
