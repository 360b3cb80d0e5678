"""What a plan or a network says of its inputs is a part of the model: budgets are in the data's units."""

from __future__ import annotations

import json
import math
import tomllib

import numpy as np
import pytest
import torch
from commandline import dlaudit_command
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy.signal import ShortTimeFFT
from torch import nn

from dlaudit.audit.bench import Subject
from dlaudit.audit.registry import import_file
from dlaudit.audit.subject import fitted
from dlaudit.datasets.arrays import ArrayDataset
from dlaudit.errors import LoadError, PlanError
from dlaudit.models import torch_files
from dlaudit.models.preprocessing import Spectrum, mel_bands, preprocessed

NET = '''
from torch import nn


class Named(nn.Module):
    """Like a network of a collection: made by name and options, and it says what it was trained on."""

    def __init__(self, width, size):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, width), nn.ReLU())
        self.head = nn.Linear(width, 2)
        self.pretrained_cfg = {
            "architecture": "named", "input_size": (3, size, size), "mean": (0.5, 0.4, 0.3),
            "std": (0.2, 0.25, 0.5), "fixed_input_size": True,
        }

    def forward(self, x):
        return self.head(self.body(x))


class Config:
    mean = (0.1,)
    def __init__(self):
        self.mean, self.std = (0.1,), (0.5,)


def create(name, width=4, size=4, says="dict"):
    made = {"named_small": Named}[name](width, size)
    if says == "object":
        made.pretrained_cfg, made.default_cfg = None, Config()
    if says == "nothing":
        del made.pretrained_cfg
    return made


def hearing(bins=8, frames=11):
    return nn.Sequential(nn.Flatten(), nn.Linear(bins * frames, 2))
'''


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    scope: dict = {}
    exec(NET, scope)
    torch.manual_seed(0)
    save_file(scope["create"]("named_small").state_dict(), tmp_path / "w.safetensors")
    return tmp_path


ARGS = {"file": "net.py:create", "args": {"name": "named_small"}, "weights": "w.safetensors"}


def pictures(n: int = 20) -> ArrayDataset:
    rng = np.random.default_rng(0)
    return ArrayDataset(rng.random((n, 3, 4, 4)).astype(np.float32), np.arange(n) % 2)


def test_a_named_network_is_standardised_as_it_says_inside_the_model(folder):
    model = torch_files.load(root=folder, **ARGS, preprocessing="declared", bounds=[0, 1])
    fitted(Subject(model=model, data=pictures()))
    x = torch.from_numpy(next(iter(pictures().batches())).x)
    bare = torch_files.load(root=folder, **ARGS)
    mean = torch.tensor([0.5, 0.4, 0.3]).reshape(3, 1, 1)
    std = torch.tensor([0.2, 0.25, 0.5]).reshape(3, 1, 1)
    torch.testing.assert_close(model.logits(x), bare.logits((x - mean) / std))
    # The gradient is with respect to the data's own units: the chain rule over the spread.
    y = torch.zeros(20, dtype=torch.long)
    expected = bare.loss_gradient((x - mean) / std, y) / std
    torch.testing.assert_close(model.loss_gradient(x, y), expected)
    told = model.card.facts["preprocessing"]
    assert told["mean"] == pytest.approx([0.5, 0.4, 0.3])
    assert told["said by"] == "the network itself"
    assert model.card.fingerprint != bare.card.fingerprint
    assert "the plan does not use them" in bare.card.facts["preprocessing"]
    asked = fitted(Subject(model=bare, data=pictures())).model.card.facts["preflight"]
    assert asked["normalisation"].endswith('is preprocessing = "declared" missing?')


def test_what_stands_in_the_plan_or_in_an_object_does_the_same(folder):
    x = torch.from_numpy(next(iter(pictures().batches())).x)
    bare = torch_files.load(root=folder, **ARGS)
    table = torch_files.load(
        root=folder, **ARGS, preprocessing={"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.5]}
    )
    declared = torch_files.load(root=folder, **ARGS, preprocessing="declared")
    torch.testing.assert_close(table.logits(x), declared.logits(x))
    said = ARGS | {"args": {"name": "named_small", "says": "object"}}
    other = torch_files.load(root=folder, **said, preprocessing="declared")
    torch.testing.assert_close(other.logits(x), bare.logits((x - 0.1) / 0.5))


def test_inputs_that_are_standardised_already_are_asked_about(folder):
    model = torch_files.load(root=folder, **ARGS, preprocessing="declared")
    rng = np.random.default_rng(0)
    data = ArrayDataset(rng.normal(size=(60, 3, 4, 4)).astype(np.float32), np.arange(60) % 2)
    subject = fitted(Subject(model=model, data=data))
    assert "normalised twice" in subject.model.card.facts["preflight"]["normalisation"]


BAD = [
    ("no such word", "own", {}, 'expected "declared", or a table'),
    ("a network that is silent", "declared", {"args": {"name": "named_small", "says": "nothing"}},
     "one that says nothing"),
    ("an empty table", {}, {}, "got an empty table"),
    ("another word", {"means": [0.5]}, {}, "Did you mean mean?"),
    ("words", {"mean": "half"}, {}, "a finite number, or one per channel"),
    ("not finite", {"mean": [float("nan")]}, {}, "a finite number"),
    ("no numbers", {"mean": []}, {}, "a finite number, or one per channel"),
    ("no spread", {"std": [0.0]}, {}, "expected numbers above 0"),
    ("two against three", {"mean": [0.5, 0.5, 0.5], "std": [1.0, 1.0]}, {}, "as many numbers"),
    ("both spectra", {"mel": {"rate": 8000}, "spectrogram": {}}, {}, "got both"),
    ("no table of a spectrum", {"mel": 64}, {}, "expected a table of window"),
    ("no such parameter", {"spectrogram": {"hops": 4}}, {}, "Did you mean hop?"),
    ("no rate", {"mel": {}}, {}, "mel.rate"),
    ("half a window", {"spectrogram": {"window": 10.5}}, {}, "spectrogram.window"),
    ("a hop of nothing", {"spectrogram": {"hop": 0}}, {}, "spectrogram.hop"),
    ("a logarithm of words", {"spectrogram": {"log": "yes"}}, {}, "true or false"),
    ("above half the rate", {"mel": {"rate": 8000, "high": 5000.0}}, {}, "at most 4000"),
    ("more bands than frequencies", {"mel": {"rate": 8000, "window": 32, "bins": 64}}, {}, "that hold none"),
]  # fmt: skip


@pytest.mark.parametrize("row", BAD, ids=[row[0] for row in BAD])
def test_bad_preprocessing_is_refused_in_one_sentence(folder, row):
    _, written, more, said = row
    with pytest.raises(LoadError) as refused:
        torch_files.load(root=folder, **(ARGS | more), preprocessing=written)
    assert said in str(refused.value)
    assert all("\n" not in problem for problem in refused.value.problems)


@pytest.mark.parametrize(
    ("written", "shape", "said"),
    [
        (
            "declared",
            (3, 6, 6),
            "expected inputs of shape (3, 4, 4), got inputs of shape (3, 6, 6)",
        ),
        ({"mean": [0.5] * 3}, (1, 4, 4), "expected 3 channels, got inputs of shape (1, 4, 4)"),
        ({"spectrogram": {"window": 400}}, (1, 100), "longer than half a window"),
    ],
)
def test_data_that_do_not_fit_it_end_the_audit_before_it_begins(folder, written, shape, said):
    model = torch_files.load(root=folder, **ARGS, preprocessing=written)
    data = ArrayDataset(np.zeros((4, *shape), np.float32), np.arange(4) % 2)
    with pytest.raises((LoadError, PlanError), match=said.replace("(", r"\(").replace(")", r"\)")):
        fitted(Subject(model=model, data=data))


# -- spectra -----------------------------------------------------------------------------------------


def test_a_tone_stands_where_its_frequency_is():
    rate, hertz = 8000, 1000
    sound = torch.sin(2 * math.pi * hertz * torch.arange(rate) / rate).reshape(1, 1, -1)
    power = Spectrum(window=400, hop=100, log=False)(sound)[0, 0]
    assert power.shape == (201, 81)
    assert int(power.mean(dim=1).argmax()) == hertz * 400 // rate
    bands = mel_bands(400, rate, 20, 0.0, 4000.0)
    heard = Spectrum(window=400, hop=100, log=True, bands=bands)(sound)[0, 0].mean(dim=1)
    top = int(heard.argmax())
    # mel(1000) = 999.99 of mel(4000) = 2146.06: the tone lies 9.79 steps of 21 up, between bands 8 and 9.
    assert top in {8, 9}


def test_the_spectrum_is_that_of_scipy_and_the_bands_those_of_transformers():
    from transformers.audio_utils import mel_filter_bank

    rng = np.random.default_rng(0)
    sound = rng.normal(size=1600)
    window = np.hanning(401)[:-1]
    theirs = ShortTimeFFT(window, 160, fs=1.0).stft(sound, p0=2, p1=8)
    ours = Spectrum(window=400, hop=160, log=False)(torch.from_numpy(sound).float()[None, None])
    assert ours[0, 0, :, 2:8].numpy() == pytest.approx(np.abs(theirs) ** 2, rel=1e-3, abs=1e-3)
    bank = mel_filter_bank(201, 32, 0.0, 8000.0, 16000, norm=None, mel_scale="htk")
    assert mel_bands(400, 16000, 32, 0.0, 8000.0).numpy() == pytest.approx(bank, abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), louder=st.floats(0.1, 10))
def test_twice_as_loud_is_four_times_the_power(seed, louder):
    sound = torch.randn(2, 1, 640, generator=torch.Generator().manual_seed(seed))
    spectrum = Spectrum(window=64, hop=16, log=False, bands=mel_bands(64, 8000, 8, 0.0, 4000.0))
    torch.testing.assert_close(
        spectrum(sound * louder), spectrum(sound) * louder**2, rtol=1e-3, atol=1e-4
    )
    assert (spectrum(sound) >= 0).all()


def test_a_model_of_spectrograms_has_gradients_in_units_of_the_sound(folder):
    mel = {"rate": 8000, "window": 64, "hop": 16, "bins": 8, "log": True}
    model = torch_files.load(root=folder, file="net.py:hearing", preprocessing={"mel": mel})
    rng = np.random.default_rng(0)
    data = ArrayDataset(
        rng.normal(size=(12, 1, 160)).astype(np.float32), np.arange(12) % 2, kind="audio"
    )
    fitted(Subject(model=model, data=data))
    batch = next(iter(data.batches()))
    gradient = model.loss_gradient(batch.x, batch.y)
    assert gradient.shape == (12, 1, 160)
    step = torch.zeros_like(gradient)
    step[0, 0, 50] = 1e-3

    def loss(x):
        logits = model.logits(x).double()
        return float(
            nn.functional.cross_entropy(logits, torch.from_numpy(batch.y), reduction="sum")
        )

    given = torch.from_numpy(batch.x)
    slope = (loss(given + step) - loss(given - step)) / 2e-3
    assert slope == pytest.approx(float(gradient[0, 0, 50]), rel=0.05, abs=1e-3)
    assert model.card.facts["preprocessing"]["mel"]["high"] == 4000


# -- through an audit --------------------------------------------------------------------------------

TRAINED = """
name = "what stands before a network"
[model]
use = "torch"
[model.args]
file = "net.py:{net}"
args = {args}
weights = "trained.safetensors"
bounds = {bounds}
preprocessing = {preprocessing}
[data]
use = "npz"
args = {{ path = "d.npz" }}
[checks."performance.task"]
resamples = 200
[checks."attacks.fgsm"]
epsilon = 0.3
[checks."explain.attribution"]
samples = 2
methods = ["saliency"]
"""
MEL = "{ mel = { rate = 8000, window = 64, hop = 16, bins = 8, log = true } }"


def tones(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Sounds of 160 samples, low or high, at any phase."""
    rng = np.random.default_rng(1)
    y = np.arange(n) % 2
    phase = rng.uniform(0, 6, (n, 1))
    wave = np.sin(2 * np.pi * np.where(y, 1900, 600)[:, None] * np.arange(160) / 8000 + phase)
    return (0.5 * wave + rng.normal(0, 0.05, (n, 160)))[:, None].astype(np.float32), y


def tinted(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (3, 4, 4) in [0, 1], redder or bluer."""
    rng = np.random.default_rng(1)
    y = np.arange(n) % 2
    x = rng.uniform(0, 0.7, (n, 3, 4, 4))
    x[np.arange(n), 2 * y] += 0.3
    return x.astype(np.float32), y


@pytest.mark.parametrize(
    ("net", "written", "made"),
    [
        ("create", {"args": '{ name = "named_small" }', "bounds": "[0, 1]", "preprocessing": '"declared"'},
         tinted),
        ("hearing", {"args": "{ bins = 8 }", "bounds": "[-1, 1]", "preprocessing": MEL}, tones),
    ],
    ids=["standardised", "mel"],
)  # fmt: skip
def test_a_trained_network_behind_its_preprocessing_goes_through_an_audit(
    tmp_path, net, written, made
):
    (tmp_path / "net.py").write_text(NET)
    text = TRAINED.format(net=net, **written)
    (tmp_path / "plan.toml").write_text(text)
    args = tomllib.loads(text)["model"]["args"]
    x, y = made(80)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        bare = getattr(import_file(tmp_path / "net.py"), net)(**args["args"])
        whole, _ = preprocessed(bare, args["preprocessing"], "net.py")
        optimiser = torch.optim.Adam(bare.parameters(), 0.03)
        for _ in range(60):
            optimiser.zero_grad()
            nn.functional.cross_entropy(whole(torch.from_numpy(x)), torch.from_numpy(y)).backward()
            optimiser.step()
    save_file(bare.state_dict(), tmp_path / "trained.safetensors")
    words = ("run", "plan.toml", "--executor", "inline", "--quiet", "--out", "out")
    assert dlaudit_command(*words, folder=tmp_path).code == 3, "no rule"
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    runs = {run["id"]: run["outcome"] for run in record["runs"]}
    assert {run: one["kind"] for run, one in runs.items()} == dict.fromkeys(runs, "measured")
    told = {
        one["name"]: one["value"]
        for one in runs["performance.task"]["measurements"]
        if not one.get("slice")
    }
    assert told["accuracy"] > 0.9, "it was trained, and what it was trained behind is in the graph"
    attacked = {one["name"]: one["value"] for one in runs["attacks.fgsm"]["measurements"]}
    assert attacked["robust_accuracy"] < attacked["clean_accuracy"]
    assert set(record["model"]["facts"]["preprocessing"]) & {"mean", "mel"}
