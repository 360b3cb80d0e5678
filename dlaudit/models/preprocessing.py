"""What happens to inputs before a network sees them, as a part of the model: standardising, spectra.

Knows torch, and the words in which a plan or a network says it; refuses what it cannot do exactly. What
stands in here is in the model's graph, so that budgets are in units of the data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dlaudit.audit.files import refusal
from dlaudit.errors import LoadError, nearest

DECLARED = "declared"
"""The plan's word for: by what the network says of itself."""

SAYS = ("pretrained_cfg", "default_cfg")
"""Where networks say what they were trained on, as timm's do."""

UNUSED = "the network says a mean and a std of its inputs, and the plan does not use them"
"""Where neither ``preprocessing`` nor the data's own values tell whether somebody standardises."""

WORDS = ("mean", "std", "spectrogram", "mel")
SPECTRUM = {"window": 400, "hop": 160, "log": False}
MEL: dict[str, Any] = {**SPECTRUM, "rate": None, "bins": 64, "low": 0.0, "high": None}
FLOOR = 1e-10
"""Below it nothing is taken the logarithm of."""


class Standardise(nn.Module):
    """(x - mean) / std, channel by channel: (B, C, …) -> the same shape."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: list[float], std: list[float], size: tuple[int, ...] = ()) -> None:
        """mean, std: one number, or one per channel, in units of the data. size: (C, H, W) to be met."""
        super().__init__()
        self.size = size
        for name, given in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(given, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """See the class. Raises LoadError for other channels, or another size."""
        channels = x.shape[1] if x.ndim > 1 else 0
        if len(self.mean) not in {1, channels} or (self.size and tuple(x.shape[1:]) != self.size):
            expected = f"inputs of shape {self.size}" if self.size else f"{len(self.mean)} channels"
            message = (
                f"preprocessing: expected {expected}, got inputs of shape {tuple(x.shape[1:])}"
            )
            raise LoadError(message)
        shape = (-1, *[1] * (x.ndim - 2))
        return (x - self.mean.reshape(shape)) / self.std.reshape(shape)


class Spectrum(nn.Module):
    """Sounds (B, 1, length) -> power of their spectrum (B, 1, bins, frames), on mel bands where so asked.

    A periodic Hann window, frames centred and reflected at the ends; |STFT|² (Oppenheim & Schafer); the
    natural logarithm where ``log``.
    """

    hann: Tensor
    bands: Tensor

    def __init__(self, *, window: int, hop: int, log: bool, bands: Tensor | None = None) -> None:
        """window, hop: in samples. bands: (window // 2 + 1, bins) weights, see ``mel_bands``."""
        super().__init__()
        self.window, self.hop, self.log = window, hop, log
        self.mel = bands is not None
        self.register_buffer("hann", torch.hann_window(window))
        self.register_buffer("bands", torch.zeros(0) if bands is None else bands)

    def forward(self, x: Tensor) -> Tensor:
        """See the class. Raises LoadError for sounds that are too short for one frame."""
        sound = x.flatten(1)
        if sound.shape[1] <= self.window // 2:
            message = (
                f"preprocessing: expected sounds longer than half a window ({self.window // 2} samples), "
                f"got {sound.shape[1]}"
            )
            raise LoadError(message)
        found = torch.stft(
            sound, self.window, self.hop, window=self.hann, center=True, return_complex=True
        )
        power = found.real.square() + found.imag.square()
        if self.mel:
            power = (power.transpose(1, 2) @ self.bands).transpose(1, 2)
        return (power.clamp_min(FLOOR).log() if self.log else power).unsqueeze(1)


def mel_bands(window: int, rate: float, bins: int, low: float, high: float) -> Tensor:
    """(window // 2 + 1, bins) triangles, evenly spaced in mel = 2595 log10(1 + f / 700), of height 1."""

    def mel(hertz: float) -> float:
        return 2595 * math.log10(1 + hertz / 700)

    places = torch.linspace(mel(low), mel(high), bins + 2, dtype=torch.float64)
    edges = 700 * (10 ** (places / 2595) - 1)
    frequency = torch.linspace(0, rate / 2, window // 2 + 1, dtype=torch.float64)[:, None]
    rising = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp_min(0).float()


def said_by(net: nn.Module) -> dict[str, Any]:
    """What a network says of the inputs it was trained on; empty where it says nothing."""
    for name in SAYS:
        given = getattr(net, name, None)
        if isinstance(given, Mapping):
            return dict(given)
        if given is not None and hasattr(given, "__dict__"):
            return dict(vars(given))
    return {}


def preprocessed(
    net: nn.Module, written: str | Mapping[str, Any], place: object
) -> tuple[nn.Module, dict[str, Any]]:
    """The network behind its preprocessing, and what that is, for the card.

    written: ``"declared"``, or a table with mean and std, spectrogram or mel. Raises LoadError.
    """
    size: tuple[int, ...] = ()
    if isinstance(written, str):
        said = said_by(net)
        if written != DECLARED:
            raise refusal(
                None, "preprocessing", expected=f'"{DECLARED}", or a table of {", ".join(WORDS)}',
                got=repr(written),
            )  # fmt: skip
        if "mean" not in said or "std" not in said:
            raise refusal(
                place, "preprocessing", expected=f"a network that says mean and std in {' or '.join(SAYS)}",
                got=f"only {', '.join(said)}" if said else "one that says nothing",
                hint="preprocessing = { mean = [...], std = [...] } says it in the plan.",
            )  # fmt: skip
        if said.get("fixed_input_size"):
            size = tuple(int(side) for side in said.get("input_size", ()))
        table = {"mean": said["mean"], "std": said["std"]}
    else:
        table = dict(written)
    if odd := sorted(set(table) - set(WORDS)):
        raise refusal(
            None, "preprocessing", expected=f"words out of {', '.join(WORDS)}", got=repr(odd[0]),
            hint=nearest(odd[0], WORDS),
        )  # fmt: skip
    steps: list[nn.Module] = []
    spectra = [word for word in ("spectrogram", "mel") if word in table]
    if len(spectra) > 1:
        raise refusal(None, "preprocessing", expected="spectrogram or mel", got="both")
    facts: dict[str, Any] = {}
    for word in spectra:
        given = _spectrum(table[word], word)
        steps.append(_built(given, word))
        facts[word] = given
    if "mean" in table or "std" in table:
        mean, std = (
            _numbers(table.get(name, default), name)
            for name, default in (("mean", 0.0), ("std", 1.0))
        )
        if min(std) <= 0:
            raise refusal(
                None, "preprocessing: std", expected="numbers above 0", got=str(table["std"])
            )
        if len(mean) != len(std) and 1 not in {len(mean), len(std)}:
            raise refusal(
                None, "preprocessing", expected="as many numbers in std as in mean",
                got=f"{len(std)} and {len(mean)}",
            )  # fmt: skip
        width = max(len(mean), len(std))
        mean, std = (one * (width if len(one) == 1 else 1) for one in (mean, std))
        steps.append(Standardise(mean, std, size))
        facts |= {"mean": mean, "std": std}
    if not steps:
        raise refusal(
            None, "preprocessing", expected=f"one of {', '.join(WORDS)}", got="an empty table"
        )
    by = "the network itself" if isinstance(written, str) else "the plan"
    return nn.Sequential(*steps, net), {"preprocessing": {**facts, "said by": by}}


def _spectrum(given: object, word: str) -> dict[str, Any]:
    """The parameters of a spectrum with what is left out filled in. Raises LoadError."""
    known = SPECTRUM if word == "spectrogram" else MEL
    if not isinstance(given, Mapping):
        raise refusal(
            None, f"preprocessing: {word}", expected=f"a table of {', '.join(known)}", got=repr(given)
        )  # fmt: skip
    if odd := sorted(set(given) - set(known)):
        raise refusal(
            None, f"preprocessing: {word}", expected=f"words out of {', '.join(known)}",
            got=repr(odd[0]), hint=nearest(odd[0], known),
        )  # fmt: skip
    whole = {**known, **given}
    if word == "mel" and whole["high"] is None and _is_number(whole["rate"]):
        whole["high"] = whole["rate"] / 2
    for key, value in whole.items():
        right = isinstance(value, bool) if key == "log" else _is_number(value) and value >= 0
        if key in {"window", "hop", "bins"}:
            right = right and isinstance(value, int) and value > 0
        if not right or (key == "rate" and value <= 0):
            raise refusal(
                None, f"preprocessing: {word}.{key}",
                expected="true or false" if key == "log" else "a number (Hz, or samples) above 0",
                got="nothing" if value is None else repr(value),
            )  # fmt: skip
    if word == "mel" and not whole["low"] < whole["high"] <= whole["rate"] / 2:
        raise refusal(
            None, "preprocessing: mel.high", expected=f"above low and at most {whole['rate'] / 2:g}",
            got=str(whole["high"]),
        )  # fmt: skip
    return whole


def _built(given: dict[str, Any], word: str) -> Spectrum:
    bands = None
    if word == "mel":
        bands = mel_bands(
            given["window"], given["rate"], given["bins"], given["low"], given["high"]
        )
        if empty := int((bands.sum(dim=0) == 0).sum()):
            raise refusal(
                None, "preprocessing: mel.bins", expected="bands that each hold a frequency",
                got=f"{empty} of {given['bins']} that hold none", hint="Fewer bins, or a longer window.",
            )  # fmt: skip
    return Spectrum(window=given["window"], hop=given["hop"], log=given["log"], bands=bands)


def _numbers(given: Any, name: str) -> list[float]:
    values = list(given) if isinstance(given, list | tuple) else [given]
    if not values or not all(_is_number(one) for one in values):
        raise refusal(
            None, f"preprocessing: {name}", expected="a finite number, or one per channel",
            got=repr(given),
        )  # fmt: skip
    return [float(one) for one in values]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
