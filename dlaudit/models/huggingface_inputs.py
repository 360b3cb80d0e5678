"""What stands between a data set's arrays and a network of ``transformers``, as a part of the model.

Knows the three names under which such networks take inputs; never a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlaudit.audit.files import refusal

SPREAD = 1e-7
"""Added to the variance of a sound, as its feature extractor does."""


class Pictures(nn.Module):
    """(B, C, H, W) in [0, 1] -> logits, standardised as the processor says."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Any, std: Any) -> None:
        """mean, std: per channel, in units of [0, 1]."""
        super().__init__()
        self.net = net
        for name, given in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(given, dtype=torch.float32).reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Any:
        """See the class."""
        return self.net(pixel_values=(x - self.mean) / self.std)


class Texts(nn.Module):
    """(B, length) token ids -> logits; the padding is masked."""

    def __init__(self, net: nn.Module, padding: int) -> None:
        """padding: its id."""
        super().__init__()
        self.net, self.padding = net, padding

    def forward(self, x: Tensor) -> Any:
        """See the class. A text of padding alone keeps its first place, so that something is attended to."""
        mask = x != self.padding
        mask[:, 0] = True
        return self.net(input_ids=x, attention_mask=mask.long())


class Sounds(nn.Module):
    """(B, 1, length) or (B, length) -> logits, each sound standardised if its extractor does so."""

    def __init__(self, net: nn.Module, *, normalised: bool) -> None:
        """normalised: to mean 0 and variance 1."""
        super().__init__()
        self.net, self.normalised = net, normalised

    def forward(self, x: Tensor) -> Any:
        """See the class."""
        x = x.flatten(1)
        if self.normalised:
            spread = x.var(dim=1, keepdim=True, unbiased=False) + SPREAD
            x = (x - x.mean(dim=1, keepdim=True)) / spread.sqrt()
        return self.net(input_values=x)


def asked(net: Any, processor: dict[str, Any], place: Path) -> tuple[nn.Module, str]:
    """The network behind its preprocessing, and what sort of input it takes.

    processor: the folder's preprocessor_config.json, or nothing. Raises LoadError for other inputs.
    """
    match net.main_input_name:
        case "pixel_values":
            use = processor.get("do_normalize", False)
            mean = processor.get("image_mean") if use else None
            std = processor.get("image_std") if use else None
            if use and (not _numbers(mean) or not _numbers(std) or 0 in (std or [])):
                raise refusal(
                    place,
                    "image_mean, image_std",
                    expected="a number per channel",
                    got=f"{mean}, {std}",
                )
            # The processor starts from bytes: what it rescales to is what mean and std are counted in.
            rescaled = not processor or processor.get("do_rescale", False)
            unit = 255 * (processor.get("rescale_factor", 1 / 255) if rescaled else 1.0)
            shift, spread = (
                [one / unit for one in mean or [0.0]],
                [one / unit for one in std or [1.0]],
            )
            return Pictures(net, shift, spread), "images"
        case "input_ids":
            return Texts(net, net.config.pad_token_id or 0), "tokens"
        case "input_values":
            if processor.get("feature_size", 1) != 1:
                raise refusal(
                    place, "feature_size", expected="1: a model of waveforms",
                    got=str(processor["feature_size"]),
                )  # fmt: skip
            return Sounds(net, normalised=bool(processor.get("do_normalize", False))), "audio"
        case other:
            raise refusal(
                place, "inputs", expected="pixel_values, input_ids or input_values", got=str(other)
            )


def _numbers(given: Any) -> bool:
    return (
        isinstance(given, list) and bool(given) and all(isinstance(x, int | float) for x in given)
    )
