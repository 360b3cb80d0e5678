"""What is explained: the original decisions on some inputs, as one tensor that has slopes.

Knows pictures, rows, sounds and texts; never a method. A text is a picture one token wide whose
channels are its embedding: ids have no slope, their embeddings do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dlaudit.audit.bench import Bench, joined
from dlaudit.audit.parts import Batch, Explainer, Request
from dlaudit.errors import NotExplained
from dlaudit.explain.explaining import attributions

Baseline = Literal["zero", "low", "mean", "blur"]
ROWS = 256
"""Rows per pass through the module: Integrated Gradients asks for inputs x steps of them."""
SIGMA = 8
"""A blur's standard deviation is a side's eighth."""


class Subject(NamedTuple):
    """batch: as the data hold it; x: (n, *input) on the model's device, with slopes.

    answer: x -> logits, no graph attached, in portions; module: of the same logits, with a graph, or
    None; target: (n,) the original decisions; logits: (n, C); pixels: whether the last two axes are a
    picture's; words: whether they are a text's.
    """

    batch: Batch
    x: Tensor
    answer: Callable[[Tensor], Tensor]
    module: nn.Module | None
    target: Tensor
    logits: np.ndarray
    pixels: bool
    words: bool
    bounds: tuple[Any, Any] | None

    @property
    def positions(self) -> int:
        """Pixels, tokens or numbers of an input."""
        return int(np.prod(self.x.shape[-2:] if self.pixels else self.x.shape[1:]))

    def baseline(self, name: Baseline) -> Tensor:
        """(n, *input): where ways start, and what deleted positions are replaced by.

        Raises NotExplained for a blur of what is no picture.
        """
        if name == "blur":
            return self._blurred()
        if name == "mean":
            return self.x.mean(dim=0).expand_as(self.x)
        zero = torch.zeros_like(self.x[0])
        if self.bounds is None:
            return zero.expand_as(self.x)
        low, high = (torch.as_tensor(end).to(zero) for end in self.bounds)
        start = zero + low if name == "low" else torch.minimum(torch.maximum(zero, low), high)
        return start.expand_as(self.x)

    def _blurred(self) -> Tensor:
        """Each picture for itself."""
        from scipy.ndimage import gaussian_filter

        if not self.pixels or self.words:
            message = "baseline blur: expected pictures"
            raise NotExplained(message)
        height, width = self.x.shape[-2:]
        sigma = (*(0,) * (self.x.ndim - 2), height / SIGMA, width / SIGMA)
        return torch.as_tensor(gaussian_filter(self.x.cpu().numpy(), sigma)).to(self.x)

    def request(
        self, baseline: Tensor, rng: np.random.Generator, *,
        x: Tensor | None = None, module: nn.Module | None = None,
    ) -> Request:  # fmt: skip
        """What an explainer is asked. x: other inputs, one for each; module: another one."""
        asked = self.module if module is None else module
        return Request(
            answer=self.answer if asked is None else asked, module=asked,
            x=self.x if x is None else x, target=self.target, baseline=baseline,
            references=self.x, pixels=self.pixels, batch=ROWS,
            generator=torch.Generator().manual_seed(int(rng.integers(2**62))),
        )  # fmt: skip


def subject_of(bench: Bench, samples: int) -> Subject:
    """The decisions to explain. Raises NotExplained for whole numbers that go through no embedding."""
    batch = reduce(joined, (block.batch for block in bench.blocks(samples=samples)))
    x = torch.as_tensor(batch.x).to(bench.model.device)
    answer, module = bench.model.logits, bench.model.module
    words = not x.is_floating_point()
    if words:
        embedded = embedding_of(module, x)
        answer, module, x = embedded.in_portions, embedded, embedded.start
    logits = answer(x)
    pixels = words or ("images" in bench.data.offers and x.ndim >= 3)
    return Subject(
        batch, x, answer, module, logits.argmax(dim=1), logits.double().cpu().numpy(), pixels,
        words, None if words else bench.model.bounds,
    )  # fmt: skip


def maps_of(explainer: Explainer, request: Request) -> np.ndarray:
    """(n, *input) attributions."""
    return np.asarray(attributions(explainer, request).float().cpu().numpy())


class Embedded(nn.Module):
    """A model of token ids, asked by their embeddings: (B, D, L, 1) -> (B, C).

    start: the embeddings of the ids that it was made with.
    """

    def __init__(self, module: nn.Module, place: str, ids: Tensor) -> None:
        """place: the embedding's name; ids: (n, L)."""
        super().__init__()
        self.module, self.place = module, place
        self.ids = ids[:1].clone()
        with torch.no_grad():
            self.start: Tensor = module.get_submodule(place)(ids).movedim(-1, 1)[..., None]

    def forward(self, x: Tensor) -> Tensor:
        """The ids that are passed stand for their number only; their embeddings are replaced."""
        given = x[..., 0].movedim(1, -1)
        hook = self.module.get_submodule(self.place).register_forward_hook(lambda *_: given)
        try:
            logits: Tensor = self.module(self.ids.expand(len(x), -1))
        finally:
            hook.remove()
        return logits

    def in_portions(self, x: Tensor) -> Tensor:
        """The logits of any number of rows, no graph attached."""
        with torch.no_grad():
            return torch.cat([self(part) for part in torch.split(x, ROWS)])


def embedding_of(module: nn.Module | None, ids: Tensor) -> Embedded:
    """The model, opened at the embedding that reads its ids.

    Raises NotExplained where none does, or where the ids are read elsewhere too (a padding mask).
    """
    wanted = "the inputs are whole numbers (token ids), which have no slope: expected "
    readers = [] if module is None else [
        (name, part) for name, part in module.named_modules() if isinstance(part, nn.Embedding)
    ]  # fmt: skip
    if module is None or ids.ndim != 2 or not readers:
        message = f"{wanted}a torch module whose nn.Embedding reads rows of them"
        raise NotExplained(message)
    found: list[str] = []
    some = ids[:2]

    def reading(name: str) -> Callable[..., None]:
        def seen(_: nn.Module, given: Any, __: Any) -> None:
            found.extend([name] if given[0] is some else [])

        return seen

    hooks = [part.register_forward_hook(reading(name)) for name, part in readers]
    try:
        with torch.no_grad():
            logits = module(some)
    finally:
        for hook in hooks:
            hook.remove()
    if len(found) != 1:
        message = f"{wanted}one nn.Embedding that reads them as they come, got {len(found)}"
        raise NotExplained(message)
    embedded = Embedded(module, found[0], ids)
    if not torch.allclose(embedded.in_portions(embedded.start[:2]), logits, rtol=1e-4, atol=1e-5):
        message = (
            f"{wanted}that only {found[0]} reads them; the model reads them elsewhere too (to mask "
            "padding, for instance), and a map of the embeddings would leave that out"
        )
        raise NotExplained(message)
    return embedded
