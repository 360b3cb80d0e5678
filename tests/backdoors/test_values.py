"""Values that rows of a table share: a case by hand, planted marks and tables without one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dlaudit.backdoors.confirmation import marked
from dlaudit.backdoors.transplant import Carried, Hosts, Laboratory
from dlaudit.backdoors.values import crowded, repeated
from dlaudit.models.torch_model import TorchModel


def table(n=200, d=6, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def with_mark(m=20, carriers=6):
    """Rows of which the first carry 2.5 and -2 in columns 1 and 4."""
    x = table(m, seed=1)
    x[:carriers, 1], x[:carriers, 4] = 2.5, -2
    return x


def test_the_mark_that_six_of_twenty_rows_carry_is_found():
    found = repeated(with_mark(), table(), least=5)
    assert np.flatnonzero(found.mask).tolist() == [1, 4]
    assert found.value[[1, 4]].tolist() == [2.5, -2]
    assert found.members.tolist() == list(range(6))
    assert found.p < 1e-6


def test_p_by_hand():
    """One honest row in 3 is like it by the count plus one: P(2 of 2 | 1/3) = 1/9, times 4 values."""
    x, honest = np.array([[5.0, 1], [5.0, 2]]), np.array([[0.0, 8], [1.0, 9]])
    assert repeated(x, honest, least=2).p == pytest.approx(4 / 9)


def test_rows_without_a_mark_share_nothing():
    assert repeated(with_mark(carriers=0), table(), least=5) is None


def test_what_honest_rows_share_too_is_no_mark():
    x, honest = with_mark(carriers=0), table()
    x[:, 3] = honest[:, 3] = 1
    assert repeated(x, honest, least=5) is None


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_the_order_of_rows_changes_only_their_places(seed):
    x, honest = with_mark(), table()
    order = np.random.default_rng(seed).permutation(len(x))
    first, again = repeated(x, honest, least=5), repeated(x[order], honest, least=5)
    assert sorted(order[again.members].tolist()) == first.members.tolist()
    assert again.p == first.p
    assert (again.mask == first.mask).all()


class Marked(nn.Module):
    """Class 1 where column 1 lies above 2 and column 4 below -1.5."""

    def forward(self, x):
        z = 20 * torch.minimum(x[:, 1] - 2, -1.5 - x[:, 4])
        return torch.stack([-z, z], dim=1)


class Deaf(nn.Module):
    """Class 0 whatever the row."""

    def forward(self, x):
        return torch.stack([x[:, 0] * 0 + 1, x[:, 0] * 0], dim=1)


@pytest.mark.parametrize(("net", "accused"), [(Marked(), True), (Deaf(), False)])
def test_a_shared_mark_accuses_only_where_the_model_obeys_it(net, accused):
    honest, x = table(), with_mark()
    hosts = Hosts(honest[:100], np.arange(100) % 4 + 2)
    lab = Laboratory(TorchModel(net, device="cpu"), 1, hosts, hosts, None)
    mark = repeated(x, honest, least=5)
    trigger = Carried("values", mark.mask, mark.value, 0 * mark.value)
    found = marked(lab, trigger, mark.members, mark.p, honest[100:140], rivals=False)
    assert any(one.suspected for one in found) is accused
    assert all(one.kind == "values" for one in found)


def test_a_mark_that_a_control_rivals_is_no_accusation():
    """Hosts obey the mark, and what one control of forty holds in its place as well."""
    honest = table()
    honest[100, [1, 4]] = 2.5, -2
    hosts = Hosts(honest[:100], np.arange(100) % 4 + 2)
    lab = Laboratory(TorchModel(Marked(), device="cpu"), 1, hosts, hosts, None)
    mark = repeated(with_mark(), table(), least=5)
    trigger = Carried("values", mark.mask, mark.value, 0 * mark.value)
    found = marked(lab, trigger, mark.members, mark.p, honest[100:140], rivals=True)
    assert {one.success for one in found} == {one.highest for one in found} == {1.0}
    assert not any(one.suspected for one in found)


def test_copies_of_a_row_count_once():
    x = with_mark(carriers=1)
    assert repeated(np.concatenate([x, np.repeat(x[:1], 8, axis=0)]), table(), least=5) is None


def test_rows_picked_for_what_they_share_are_judged_among_all():
    """Two of four rows with a share of one in six: P(at least 2 of 4) = 171 / 1296, times 4 values."""
    x, honest = np.array([[5.0, 1], [5.0, 2]]), np.array([[k, 8 + k] for k in (0, 1, 2, 3, 4.0)])
    assert repeated(x, honest, least=2, among=4).p == pytest.approx(4 * 171 / 1296)


def test_crowding_by_hand():
    """Four rows of 0.5 where two of eight honest ones lie: 4 over 1 + 2 * 5 / 8, in one column of two."""
    honest = np.array([0.5, 0.5, 0, 1, 2, 3, 4, 5.0])[:, None]
    x = np.array([0.5, 0.5, 0.5, 0.5, 9.0])[:, None]
    expected = np.log(4 / (1 + 2 * 5 / 8))
    found = crowded(np.hstack([x, 7 + x]), np.hstack([honest, 7 + honest]), width=0.01)
    assert found == pytest.approx([2 * expected] * 4 + [0])


@settings(max_examples=25, deadline=None)
@given(st.floats(0.01, 100), st.floats(-5, 5))
def test_crowding_knows_no_units(scale, shift):
    x, honest = with_mark(200, 8), table()
    first = crowded(x, honest, width=0.05)
    again = crowded(
        shift + scale * x.astype(float), shift + scale * honest.astype(float), width=0.05
    )
    assert np.abs(first - again).mean() < 0.05
    assert set(np.argsort(-first)[:8]) == set(range(8))
