"""The search itself: it finds what is there, stays in its box, and is the same every time."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from planted_digits import patched
from torch import nn

from dlaudit.backdoors.forms import Adding, Addition, Covering, Trigger, clipped
from dlaudit.backdoors.triggers import SLACK, SUCCESS, Search, _kept
from dlaudit.models.torch_model import TorchModel


def switch(features=6, at=2, strength=8.0):
    """A linear model that answers 1 if one feature is large, else 0."""
    module = nn.Linear(features, 2)
    with torch.no_grad():
        module.weight.zero_()
        module.weight[1, at] = strength
        module.bias.copy_(torch.tensor([strength / 2, 0.0]))
    return module


def search_in(module, x, *, low=0.0, high=1.0, steps=150, batch=16, mask_shape=None):
    x = torch.as_tensor(x)
    return Search(
        TorchModel(module, device="cpu"), x, torch.tensor(low), torch.tensor(high),
        tuple(x.shape[1:]) if mask_shape is None else mask_shape, steps, batch,
    )  # fmt: skip


def generators(*numbers):
    return [np.random.default_rng(number) for number in numbers]


def test_the_feature_that_decides_is_found_and_set():
    x = np.random.default_rng(0).uniform(0, 0.3, (80, 6)).astype(np.float32)
    search = search_in(switch(), x)
    (trigger,) = search.triggers([1], [np.arange(40)], generators(0))
    mask = trigger.mask.numpy()
    assert mask.argmax() == 2
    assert trigger.norm == pytest.approx(mask.sum(), abs=1e-4)
    # Half of the way up decides: (1 - m) x + m >= 0.5 for x up to 0.3 needs m of about 0.3 at least.
    assert 0.25 < mask[2] < 0.8
    assert np.delete(mask, 2).sum() < 0.1
    assert search.called(trigger, 1, np.arange(40, 80)).mean() >= 0.95


def test_a_class_that_no_input_calls_up_has_no_trigger():
    module = nn.Linear(6, 3)
    with torch.no_grad():
        module.weight.zero_()
        module.bias.copy_(torch.tensor([1.0, 0.0, -5.0]))
    x = np.random.default_rng(0).random((40, 6), dtype=np.float32)
    assert search_in(module, x, steps=40).triggers([2], [np.arange(40)], generators(0)) == [None]


def test_triggers_stay_inside_the_box_of_each_feature():
    x = np.random.default_rng(0).uniform(0, 0.3, (60, 6)).astype(np.float32)
    low, high = torch.linspace(-1, 0, 6), torch.linspace(0.7, 3, 6)
    base = search_in(switch(), x)
    (trigger,) = base._replace(low=low, high=high).triggers([1], [np.arange(60)], generators(1))
    assert (trigger.pattern >= low).all()
    assert (trigger.pattern <= high).all()
    assert ((trigger.mask >= 0) & (trigger.mask <= 1)).all()


def test_the_same_generator_gives_the_same_trigger_in_whatever_company():
    x = np.random.default_rng(0).uniform(0, 0.3, (60, 6)).astype(np.float32)
    search = search_in(switch(), x, steps=60)
    rows = np.arange(60)
    alone = search.triggers([1], [rows], generators(7))[0]
    again = search.triggers([1], [rows], generators(7))[0]
    company = search.triggers([0, 1], [rows, rows], generators(8, 7))[1]
    assert torch.equal(alone.mask, again.mask)
    assert torch.equal(alone.pattern, again.pattern)
    assert torch.allclose(alone.mask, company.mask, atol=1e-4)


def test_many_classes_are_searched_in_portions(monkeypatch):
    import dlaudit.backdoors.triggers as module

    sizes = []
    original = module._optimised
    monkeypatch.setattr(module, "_optimised", lambda *a: sizes.append(len(a[1])) or original(*a))
    x = np.random.default_rng(0).uniform(0, 0.3, (30, 6)).astype(np.float32)
    found = search_in(switch(), x, steps=5, batch=256).triggers(
        [0, 1, 0], [np.arange(30)] * 3, generators(0, 1, 2)
    )
    assert sizes == [2, 1]
    assert len(found) == 3


def test_every_pass_is_counted():
    x = np.random.default_rng(0).uniform(0, 0.3, (30, 6)).astype(np.float32)
    search = search_in(switch(), x, steps=10, batch=4)
    search.triggers([1], [np.arange(30)], generators(0))
    assert search.model.passes.backward == 40


def test_a_trigger_covers_what_it_masks_and_nothing_else():
    trigger = Trigger(1.0, torch.tensor([[[1.0, 0.0], [0.5, 0.0]]]), torch.full((3, 2, 2), 4.0))
    found = trigger.on(torch.zeros(2, 3, 2, 2))
    assert found.shape == (2, 3, 2, 2)
    assert found[1, 2].tolist() == [[4.0, 0.0], [2.0, 0.0]]


def test_only_triggers_that_work_and_are_cheaper_are_kept():
    tried = [[], []]
    search = search_in(switch(), np.zeros((4, 6), dtype=np.float32))
    parts = (torch.ones(2, 1), torch.ones(2, 1))
    for norms in ((5.0, 5.0), (4.95, 5.0), (4.0, 5.0)):
        _kept(tried, torch.tensor([True, False]), torch.tensor(norms), search, parts)
    assert [[one.norm for one in of] for of in tried] == [[5.0, 4.0], []]


def test_a_candidate_that_was_lucky_on_its_batches_gives_way_to_a_dearer_one_that_holds():
    x = np.zeros((50, 6), dtype=np.float32)
    search = search_in(switch(), x)
    weak = Trigger(0.1, torch.zeros(6), torch.ones(6))
    strong = Trigger(1.0, torch.ones(6), torch.ones(6))
    assert search._first_that_holds([weak, strong], 1, np.arange(50)) is strong
    assert search._first_that_holds([weak], 1, np.arange(50)) is None
    assert 0 < SLACK < SUCCESS <= 1


def test_a_planted_patch_is_found_where_it_was_planted(twins):
    poisoned, _, test = twins
    others = np.flatnonzero(test.y != 3)
    search = search_in(poisoned, test.x, batch=32, mask_shape=(1, 8, 8))
    (trigger,) = search.triggers([3], [others[:200]], generators(0))
    inside = trigger.mask[0, :2, :2].sum() / trigger.mask.sum()
    assert inside > 0.5
    assert trigger.mask.shape == (1, 8, 8)
    stamped = torch.from_numpy(patched(test.x[others]))
    assert (poisoned(stamped).argmax(dim=1) == 3).float().mean() > 0.9


def added(x, **given):
    return search_in(switch(), x, **given)._replace(form=Adding())


def test_the_faintest_addition_changes_the_feature_that_decides_and_hardly_another():
    """All rows lie within [0, 0.3] where 0.5 decides: at least 0.5 must be added, 0.2 would do for some."""
    x = np.random.default_rng(0).uniform(0, 0.3, (80, 6)).astype(np.float32)
    search = added(x, steps=300)
    (overlay,) = search.triggers([1], [np.arange(40)], generators(0))
    change = overlay.change.numpy()
    assert change.argmax() == 2
    assert 0.45 < change[2] < 0.7
    assert np.abs(np.delete(change, 2)).max() < 0.1
    assert overlay.norm == pytest.approx(float(np.linalg.norm(change)), abs=1e-4)
    assert search.called(overlay, 1, np.arange(40, 80)).mean() >= 0.9


def test_the_cost_of_an_addition_is_its_length_in_widths_of_the_box():
    low, high = torch.tensor([0.0, -1.0, 2.0]), torch.tensor([10.0, 1.0, 2.0])
    parts = (torch.tensor([[3.0, 0.8, 0.0], [0.0, 0.0, 0.0]]),)
    assert Adding().cost(parts, low, high).tolist() == pytest.approx([(0.09 + 0.16) ** 0.5, 0.0])


def test_the_cost_of_a_cover_is_how_much_it_covers():
    parts = (torch.tensor([[[0.5, 1.0]], [[0.0, 0.25]]]), torch.zeros(2, 3, 1, 2))
    zero = torch.tensor(0.0)
    assert Covering().cost(parts, zero, zero).tolist() == [1.5, 0.25]


def test_a_sum_stays_in_the_box_and_a_row_outside_is_not_pulled_in():
    x = torch.tensor([[0.2], [0.9], [1.5], [-0.5]])
    low, high = torch.tensor(0.0), torch.tensor(1.0)
    up = clipped(x, torch.tensor([0.4]), low, high).flatten().tolist()
    assert up == pytest.approx([0.6, 1.0, 1.5, -0.1])
    none = Addition(0.0, torch.zeros(1), low, high).on(x)
    assert torch.equal(none, x)


@given(st.integers(0, 10_000))
def test_whatever_is_added_never_leaves_the_box_of_rows_inside(seed):
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.normal(size=(2, 4)), axis=0)
    x = torch.as_tensor(rng.uniform(low, high, (5, 4)))
    found = clipped(
        x, torch.as_tensor(rng.normal(size=4)), torch.as_tensor(low), torch.as_tensor(high)
    )
    assert (found >= torch.as_tensor(low)).all()
    assert (found <= torch.as_tensor(high)).all()
