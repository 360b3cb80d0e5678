"""Values that rows of a table share: a case by hand, planted marks and tables without one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dlaudit.backdoors.confirmation import marked
from dlaudit.backdoors.transplant import Hosts, Laboratory
from dlaudit.backdoors.values import repeated
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
    """One honest row in 3 is like it by the count plus one: P(2 of 2 | 1/3) = 1/9, times 2 values."""
    x = np.array([[5.0], [5.0]])
    honest = np.array([[0.0], [1.0]])
    assert repeated(x, honest, least=2).p == pytest.approx(2 / 9)


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
    honest = table()
    hosts = Hosts(honest[:100], np.arange(100) % 4 + 2)
    lab = Laboratory(TorchModel(net, device="cpu"), 1, hosts, hosts, None)
    found = marked(lab, with_mark(), honest, honest[100:140])
    assert any(one.suspected for one in found) is accused
    assert all(one.kind == "values" for one in found)


def test_no_mark_is_nothing_recovered():
    assert marked(None, with_mark(carriers=0), table(), table()) == []
