"""A scan from end to end: a planted patch is confirmed row by row, the clean twin is cleared."""

import io
import json
import tracemalloc

import numpy as np
import planted_digits
import pytest
import torch
from PIL import Image
from planted_digits import Digits, told
from torch import nn

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.embedding import last_layer, penultimate
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.record import Measurement, Undefined
from dlaudit.backdoors import latent, neighbours
from dlaudit.backdoors.confirmation import Recovered
from dlaudit.backdoors.consistency import covers, occlusion, strip
from dlaudit.backdoors.neighbours import Neighbourhood, plain
from dlaudit.backdoors.pictures import rows_png
from dlaudit.backdoors.scan import NO_BLEND, Scan, _of_class
from dlaudit.backdoors.suspects import Examined
from dlaudit.backdoors.suspicion import Rows, Trusted, suspicion
from dlaudit.backdoors.transplant import Carried
from dlaudit.datasets.arrays import ArrayDataset, Splits
from dlaudit.models.torch_model import TorchModel

TARGET = 3


def bench_at(folder, module, train, test, *, bounds=(0, 1), seed=1, **given):
    data = Splits({"test": ArrayDataset(*test, **given), "train": ArrayDataset(*train, **given)})
    model = TorchModel(module, bounds=bounds, classes=data.classes, device="cpu")
    return Bench(
        Subject(model, data), run="backdoors.scan", plan_seed=seed, store=EvidenceStore(folder),
        cache=folder / "cache",
    )  # fmt: skip


def six(digits, y):
    """The rows of six classes, which is enough for a scan."""
    return Digits(digits.x[y < 6], digits.y[y < 6])


@pytest.fixture(scope="session")
def scanned_twins(twins, tmp_path_factory):
    """For the poisoned net and its honest twin: (numbers, artifacts, bench, training digits)."""
    poisoned, honest, test = twins
    train, _ = planted_digits.halves(0)
    bad = planted_digits.poisoned(train, share=0.05, target=TARGET)
    found = {}
    test = six(test, test.y)
    for name, module, whole in (("poisoned", poisoned, bad), ("honest", honest, train)):
        once = six(whole, whole.y)
        noise = np.random.default_rng(0).uniform(0, 0.1, once.x.shape).astype(np.float32)
        rows = Digits(np.concatenate([once.x, np.clip(once.x + noise, 0, 1)]), np.tile(once.y, 2))
        bench = bench_at(tmp_path_factory.mktemp(name), module, rows, test)
        found[name] = (*told(Scan(controls=30), bench), bench, rows)
    return found


def table(bench, artifacts):
    one = next(a for a in artifacts if a.name == "backdoors.scan.samples")
    with np.load(bench._store.folder.parent / one.path) as stored:
        return {key: stored[key] for key in stored.files}


def test_a_planted_patch_is_confirmed_row_by_row(scanned_twins):
    numbers, artifacts, bench, rows = scanned_twins["poisoned"]
    assert numbers["suspected_classes",].value == 1
    assert numbers["suspected", "3"].value == 1
    train, _ = planted_digits.halves(0)
    bad = planted_digits.poisoned(train, share=0.05, target=TARGET)
    truth = rows.y != np.tile(train.y[bad.y < 6], 2)
    columns = table(bench, artifacts)
    confirmed = columns["confirmed"]
    assert numbers["confirmed_rows",].value == confirmed.sum() >= 5
    assert truth[confirmed].mean() >= 0.8
    assert (columns["label"][confirmed] == TARGET).all()
    assert not (confirmed & ~columns["nominated"]).any()
    assert (columns["transplant_rate"][~columns["nominated"]] == -1).all()
    success = numbers["trigger_success", "3"]
    assert success.interval.method == "wilson"
    assert success.value > 0.4
    pictures = [one for one in artifacts if one.media_type == "image/png"]
    assert {one.name for one in pictures} == {
        "backdoors.scan.trigger.3", "backdoors.scan.rows.3",
    }  # fmt: skip


def test_the_clean_twin_is_cleared(scanned_twins):
    numbers, artifacts, _, _ = scanned_twins["honest"]
    assert numbers["suspected_classes",].value == 0
    assert numbers["confirmed_rows",].value == 0
    assert not [one for one in artifacts if one.media_type == "image/png"]
    assert not any(one.value for key, one in numbers.items() if key[0] == "suspected")


@pytest.mark.parametrize("name", ["poisoned", "honest"])
def test_a_scan_costs_at_most_120_passes_a_training_row(scanned_twins, name):
    _, _, bench, rows = scanned_twins[name]
    assert 20 * len(rows.y) < bench.model.passes.forward <= 120 * len(rows.y)
    assert bench.model.passes.backward == 0


def test_every_name_it_yields_is_declared_and_all_conditions_are_plain(scanned_twins):
    numbers = scanned_twins["poisoned"][0]
    assert {key[0] for key in numbers} == set(Scan.measures)
    for one in numbers.values():
        assert json.loads(json.dumps(one.conditions)) == one.conditions


@pytest.mark.slow
def test_poison_with_the_right_label_is_confirmed_row_by_row(tmp_path, twins):
    """A third of the target's own rows, faded and stamped: no score and no label betrays them."""
    _, _, test = twins
    train, _ = planted_digits.halves(0)
    train, test = six(train, train.y), six(test, test.y)
    rng = np.random.default_rng(0)
    own = np.flatnonzero(train.y == TARGET)
    bad = rng.choice(own, len(own) // 3, replace=False)
    x = train.x.copy()
    faded = 0.4 * x[bad] + rng.normal(0, 0.15, x[bad].shape)
    x[bad] = planted_digits.patched(np.clip(faded, 0, 1).astype(np.float32))
    rows = Digits(x, train.y)
    net = planted_digits.trained(rows, module=planted_digits.perceptron())
    bench = bench_at(tmp_path, net, rows, test)
    numbers, artifacts = told(Scan(overlays=4, controls=20), bench)
    assert numbers["suspected_classes",].value == 1
    assert numbers["suspected", "3"].value == 1
    assert set(np.flatnonzero(table(bench, artifacts)["confirmed"])) == set(bad)


def test_a_p_too_small_for_a_number_is_still_a_measurement():
    best = Recovered(
        "mark", False, Carried("mark", np.ones(1), np.ones(1), np.zeros(1)), np.arange(600), 0.0,
        np.ones(9, dtype=bool), 1.0, 0.0, 0.0, 0.4,
    )  # fmt: skip
    one = Examined(3, 900, 600, best, 4.0, (np.ones(1), np.ones(1)), False, 0.5)
    anomaly = next(m for m in _of_class(one, "3", {}, ()) if m.name == "anomaly")
    assert 300 < anomaly.value < 310


def test_too_few_rows_are_no_acquittal(tmp_path, twins):
    _, honest, test = twins
    few = Digits(test.x[:60], test.y[:60])
    numbers, _ = told(Scan(), bench_at(tmp_path, honest, few, few))
    assert isinstance(numbers["suspected_classes",], Undefined)
    assert isinstance(numbers["suspected", "3"], Undefined)


def test_a_class_that_cannot_be_examined_voids_the_count(tmp_path, twins):
    _, honest, test = twins
    train, _ = planted_digits.halves(0)
    lonely = Digits(test.x[test.y < 4], test.y[test.y < 4])
    some = Digits(train.x[train.y < 5], train.y[train.y < 5])
    numbers, _ = told(Scan(overlays=2, controls=20), bench_at(tmp_path, honest, some, lonely))
    assert isinstance(numbers["suspected", "4"], Undefined)
    (caveat,) = numbers["suspected_classes",].caveats
    assert caveat.voids
    assert caveat.name == "classes-left-out"


def test_inputs_that_cannot_be_blended_are_told_before_anything_is_asked(tmp_path):
    rows = (np.ones((20, 5), dtype=np.int64), np.arange(20) % 2)
    bench = bench_at(tmp_path, nn.Linear(5, 2), rows, rows, bounds=None, kind="tokens")
    numbers, artifacts = told(Scan(), bench)
    assert {one.reason for one in numbers.values()} == {NO_BLEND}
    assert artifacts == []
    assert bench.model.passes.forward == 0


# -- the parts ---------------------------------------------------------------------------------------


class Odd(nn.Module):
    """Layers that are not called in the order in which they stand."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 2)
        self.body = nn.Linear(4, 3)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return {"logits": self.head(torch.relu(self.body(x)))}


def test_the_last_layer_is_the_one_called_last_and_its_input_are_the_features():
    net = Odd()
    x = torch.randn(5, 4)
    assert last_layer(net, x[:1]) is net.head
    model = TorchModel(net, device="cpu")
    features, words = penultimate(model, x.numpy())
    assert features == pytest.approx(torch.relu(net.body(x)).detach().numpy())
    assert "Linear" in words
    assert not net.head._forward_pre_hooks
    assert not net.body._forward_pre_hooks


def test_feature_maps_are_averaged_over_their_places():
    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    features, _ = penultimate(TorchModel(net, device="cpu"), np.ones((4, 1, 6, 6), np.float32) * 2)
    assert features.tolist() == [[2.0]] * 4


class Plain(nn.Module):
    def forward(self, x):
        return x[:, :2]


def test_without_layers_the_logits_are_the_features():
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    features, words = penultimate(TorchModel(Plain(), device="cpu"), x)
    assert words == "logits"
    assert features.tolist() == x[:, :2].tolist()


def test_disagreement_by_hand():
    """Ten neighbours, of which only the nearest has another label: 1 / (1 + 1/2 + ... + 1/10)."""
    x = np.array([0.0, 0.1, *range(2, 12)])[:, None].astype(np.float32)
    y = np.array([0, 1] + [0] * 10)
    near = Neighbourhood.of(lambda: [x], y, np.random.default_rng(0))
    found = near.disagreement(x, y, own=np.arange(12))
    assert found[1] == pytest.approx(1)
    # Its own place in the ranking is 1: the ten others stand at 2 to 11.
    assert found[0] == pytest.approx((1 / 2) / sum(1 / k for k in range(2, 12)))


def test_a_wrong_label_among_its_like_disagrees_and_the_twin_does_not():
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    x = (rng.standard_normal((200, 3)) + 8 * y[:, None]).astype(np.float32)
    wrong = y.copy()
    wrong[0] = 1
    near = Neighbourhood.of(lambda: [x[:90], x[90:]], wrong, rng)
    found = near.disagreement(x, wrong, own=np.arange(200))
    assert found[0] == 1
    assert np.median(found) == 0
    assert Neighbourhood.of(lambda: [x], y, rng).disagreement(x, y, own=np.arange(200)).max() == 0


def test_the_nearest_row_is_not_the_row_itself():
    x = np.array([[0.0, 0], [1, 0], [5, 1]], dtype=np.float32)
    near = Neighbourhood.of(lambda: [x], np.zeros(3, int), np.random.default_rng(0))
    assert near.nearest(x).tolist() == [0, 1, 2]
    assert near.nearest(x, apart=np.arange(3)).tolist() == [1, 0, 1]


def test_the_entropy_of_mixtures_by_hand():
    """A decision that is even between two classes has log 2 nats, a firm one none."""
    even = TorchModel(nn.Linear(2, 2, bias=False), device="cpu")
    nn.init.zeros_(even.module.net.weight)
    x = np.ones((3, 2), np.float32)
    rng = np.random.default_rng(0)
    assert strip(even, x, x, rng, overlays=2) == pytest.approx([-np.log(2)] * 3)
    assert even.passes.forward == 6


class FirstPixel(nn.Module):
    """Class 1 where the first pixel is bright."""

    def forward(self, x):
        z = 50 * (x[:, 0, 0, 0] - 0.2)
        return torch.stack([-z, z], dim=1)


def test_a_decision_that_hangs_on_one_pixel_stays_in_eight_of_nine_covers():
    model = TorchModel(FirstPixel(), device="cpu")
    x = np.zeros((2, 1, 6, 6), np.float32)
    x[0, 0, 0, 0] = 1
    dark = np.zeros((4, 1, 6, 6), np.float32)
    found = occlusion(model, x, dark, np.array([1, 0]), np.random.default_rng(0))
    assert found == pytest.approx([8 / 9, 1])


def test_a_mixture_leaves_the_trigger_its_decision_and_the_honest_row_not():
    model = TorchModel(FirstPixel(), device="cpu")
    x = np.zeros((2, 1, 6, 6), np.float32)
    x[0, 0, 0, 0], x[1, 0, 0, 0] = 1, 0.21
    dark = np.zeros((4, 1, 6, 6), np.float32)
    first, second = strip(model, x, dark + 0.18, np.random.default_rng(0), overlays=4)
    assert first > second


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows_beyond_their_features(monkeypatch):
    """Pictures of 12 KB each, made when they are read: 1,000 more of them may not cost 12 MB."""
    monkeypatch.setattr(neighbours, "FITTED", 100)
    monkeypatch.setattr(latent, "ROBUST_ROWS", 50)
    net = nn.Sequential(
        nn.AvgPool2d(16), nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2)
    )
    model = TorchModel(net.eval(), device="cpu")

    def rows(n):
        y = np.arange(n) % 2

        def read(at):
            for start in range(0, n, 100):
                rng = np.random.default_rng(start)
                x = rng.random((100, 3, 32, 32), dtype=np.float32) / 2
                yield x + y[start : start + 100, None, None, None].astype(np.float32) / 2

        return Rows(y, y, (3, 32, 32), read)

    honest = next(rows(100).read(None))
    trusted = Trusted(honest, np.arange(100) % 2, np.arange(100) % 2)
    peaks = []
    for n in (2000, 3000):
        tracemalloc.start()
        seen = suspicion(model, rows(n), trusted, lambda _: np.random.default_rng(0), overlays=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert sum(len(one.rows) for one in seen.classes) == n
    features_and_scores = 1000 * (8 * 4 + 32 * 4 + 40 * 8)
    assert peaks[1] - peaks[0] < 2 * features_and_scores < 1000 * 3 * 32 * 32 * 4 / 8


def test_a_piece_without_a_chosen_row_is_no_obstacle():
    x = np.random.default_rng(0).random((40, 1, 4, 4), dtype=np.float32)
    rng = np.random.default_rng(0)
    near = Neighbourhood.of(lambda: [x[:20], x[:0], x[20:]], np.zeros(40, int), rng)
    assert near.nearest(x).tolist() == list(range(40))


def test_some_rows_are_taken_in_the_order_asked_for():
    x = np.arange(20.0)[:, None]
    rows = Rows(np.zeros(20), np.zeros(20), (1,), lambda at: iter([x[at[:2]], x[at[2:]]]))
    assert rows.take([7, 2, 2, 19])[:, 0].tolist() == [7, 2, 2, 19]


def test_large_pictures_are_compared_by_the_means_of_their_cells():
    x = np.arange(2 * 70 * 64, dtype=np.float32).reshape(1, 2, 70, 64)
    found = plain(x).reshape(2, 24, 32)
    assert found[1, 0, 0] == pytest.approx(x[0, 1, :3, :2].mean())
    assert found[0, 23, 31] == pytest.approx(x[0, 0, 69:, 62:].mean())
    small = np.random.default_rng(0).random((3, 1, 8, 8), dtype=np.float32)
    assert (plain(small) == small.reshape(3, 64)).all()


@pytest.mark.parametrize("shape", [(1, 7, 9), (3, 12, 12), (20,), (2, 2)])
def test_covers_cover_every_number_once(shape):
    masks = list(covers(shape, 9, np.random.default_rng(0)))
    assert (np.sum(masks, axis=0) == 1).all()


@pytest.mark.parametrize("shape", [(3, 1, 8, 8), (7, 8, 8), (2, 3, 16, 16)])
def test_rows_become_one_picture(shape):
    with Image.open(io.BytesIO(rows_png(np.random.default_rng(0).random(shape)))) as image:
        assert image.format == "PNG"
        assert image.width >= 128


def test_the_same_seed_gives_the_same_rows(tmp_path, twins):
    poisoned, _, test = twins
    train, _ = planted_digits.halves(0)
    rows, trusted = train.y < 4, test.y < 4
    some = Digits(train.x[rows], train.y[rows])
    few = Digits(test.x[trusted], test.y[trusted])
    runs = [
        list(
            Scan(overlays=2, controls=20).measure(bench_at(tmp_path / str(k), poisoned, some, few))
        )
        for k in range(2)
    ]
    assert runs[0] == runs[1]
    assert any(isinstance(one, Measurement) for one in runs[0])
