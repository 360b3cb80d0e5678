"""Replaces tokens of a text, few at a time, until the decision changes.

Knows token ids, what may replace what, and where a net looks ids up; never words, nor what counts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dlaudit.attacks.losses import margin
from dlaudit.audit.parts import Model
from dlaudit.errors import NonFinite, NotOffered

SCORES_AT_ONCE = 2**24
"""First-order gains held at once: rows times positions times words, 128 MiB of float64."""
ROWS_AT_ONCE = 256

Answer = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(ids (b, L), samples (b,)) -> (decided otherwise (b,) bool, lead of the label (b,))."""
Gain = Callable[[Tensor, Tensor], Tensor]
"""(ids (b, L), samples (b,)) -> (b, L, V): how much each replacement promises."""


class Lexicon(NamedTuple):
    """What may replace what. size: V, ids run from 0 to V - 1.

    protected: ids that are neither replaced nor put in. synonyms: id -> the ids that may replace it;
    None where any may.
    """

    size: int
    protected: frozenset[int] = frozenset()
    synonyms: dict[int, tuple[int, ...]] | None = None

    def replacements(self) -> np.ndarray:
        """(V,) bool: ids that may be put in at all."""
        usable: np.ndarray = np.ones(self.size, dtype=bool)
        usable[[one for one in self.protected if one < self.size]] = False
        return usable

    def replaceable(self, ids: np.ndarray) -> np.ndarray:
        """(B, L) -> (B, L) bool: positions whose token has something to be replaced by."""
        free: np.ndarray = ~np.isin(ids, sorted(self.protected))
        if self.synonyms is None:
            return free if self.replacements().sum() > 1 else np.zeros_like(free)
        kept = [
            one for one, others in self.synonyms.items() if set(others) - self.protected - {one}
        ]
        free &= np.isin(ids, kept)
        return free

    def admits(self, ids: np.ndarray, clean: np.ndarray, budget: np.ndarray) -> np.ndarray:
        """(B, L), (B, L), (B,) -> (B,) bool: which texts differ from the clean ones as allowed.

        Decides by itself, token by token: no search is believed.
        """
        result = np.zeros(len(ids), dtype=bool)
        for row, (new, old, most) in enumerate(zip(ids, clean, budget, strict=True)):
            places = np.flatnonzero(new != old)
            pairs = [(int(old[place]), int(new[place])) for place in places]
            result[row] = len(places) <= most and all(
                before not in self.protected
                and after not in self.protected
                and 0 <= after < self.size
                and (self.synonyms is None or after in self.synonyms.get(before, ()))
                for before, after in pairs
            )
        return result


class Walked(NamedTuple):
    """What a search proposes. x: (B, L) ids; forward, backward: (B,) passes spent."""

    x: Tensor
    forward: Tensor
    backward: Tensor


def substitute(
    clean: Tensor,
    budget: Tensor,
    *,
    answer: Answer,
    gain: Gain,
    lexicon: Lexicon,
    candidates: int,
    beam: int,
    guided: bool,
) -> Walked:
    """Up to ``budget`` replacements in each text, the most promising tried first (Ebrahimi et al. 2018).

    Every round each of the ``beam`` best texts is given its ``candidates`` most promising single
    replacements; all are shown to the model, and the best go on. A text that fools leaves at once, so
    that it has no more replacements than it needs here. No position is replaced twice.

    clean: (B, L) ids; budget: (B,) int64. guided: whether a look at the gain costs a forward and a
    backward pass.
    """
    n, length = clean.shape
    device = clean.device
    x = clean.clone()
    forward = torch.zeros(n, dtype=torch.float64, device=device)
    backward = torch.zeros_like(forward)
    kept = clean.unsqueeze(1)  # (n, W, L): the beam of each open text
    index = torch.arange(n, device=device)
    for edits in range(1, int(budget.max()) + 1 if n else 1):
        stay = budget[index] >= edits
        index, kept = index[stay], kept[stay]
        if not len(index):
            break
        width = kept.shape[1]
        rows, owner = kept.reshape(-1, length), index.repeat_interleave(width)
        if guided:
            forward[index] += width
            backward[index] += width
        made = replaced(rows, owner, clean, gain=gain, lexicon=lexicon, candidates=candidates)
        tried = made.valid.view(len(index), -1)
        texts = made.ids.view(len(index), tried.shape[1], length)
        lead = torch.full(tried.shape, torch.inf, dtype=torch.float64, device=device)
        wrong = torch.zeros_like(tried)
        if tried.any():
            asked = index.unsqueeze(1).expand_as(tried)[tried]
            wrong[tried], lead[tried] = answer(texts[tried], asked)
            forward[index] += tried.sum(dim=1)
        rank = torch.where(wrong, -torch.inf, lead)
        kept = best_of(texts, rank, beam)
        fooled = wrong.any(dim=1)
        moved = tried.any(dim=1)
        x[index[moved]] = kept[moved, 0]
        index, kept = index[~fooled & moved], kept[~fooled & moved]
    return Walked(x, forward, backward)


class Made(NamedTuple):
    """Texts with one more replacement. ids: (b, C, L); valid: (b, C) bool, false where none was left."""

    ids: Tensor
    valid: Tensor


def replaced(
    rows: Tensor,
    owner: Tensor,
    clean: Tensor,
    *,
    gain: Gain,
    lexicon: Lexicon,
    candidates: int,
) -> Made:
    """The most promising single replacements of each row. rows: (b, L); owner: (b,) its samples."""
    length, size = rows.shape[1], lexicon.size
    at_once = max(1, min(ROWS_AT_ONCE, SCORES_AT_ONCE // (length * size)))
    ids, valid = [], []
    usable = torch.from_numpy(lexicon.replacements()).to(rows.device)
    for start in range(0, len(rows), at_once):
        part, whose = rows[start : start + at_once], owner[start : start + at_once]
        scores = gain(part, whose)
        free = torch.from_numpy(lexicon.replaceable(clean[whose].cpu().numpy())).to(rows.device)
        free &= part == clean[whose]
        scores = scores.masked_fill(~free.unsqueeze(2) | ~usable, -torch.inf)
        scores.scatter_(2, part.unsqueeze(2), -torch.inf)
        if lexicon.synonyms is not None:
            scores = scores.masked_fill(~allowed(part, lexicon), -torch.inf)
        top = scores.flatten(1).topk(min(candidates, length * size), dim=1)
        place, token = top.indices // size, top.indices % size
        ids.append(part.unsqueeze(1).repeat(1, place.shape[1], 1).scatter_(
            2, place.unsqueeze(2), token.unsqueeze(2)
        ))  # fmt: skip
        valid.append(torch.isfinite(top.values))
    return Made(torch.cat(ids), torch.cat(valid))


def allowed(rows: Tensor, lexicon: Lexicon) -> Tensor:
    """(b, L) -> (b, L, V) bool: which ids each token's list of synonyms holds."""
    result = torch.zeros(*rows.shape, lexicon.size, dtype=torch.bool, device=rows.device)
    for token in sorted(set(rows.flatten().tolist())):
        others = [one for one in (lexicon.synonyms or {}).get(token, ()) if one < lexicon.size]
        listed = torch.zeros(lexicon.size, dtype=torch.bool, device=rows.device)
        listed[others] = True
        result[rows == token] = listed
    return result


def best_of(texts: Tensor, rank: Tensor, beam: int) -> Tensor:
    """(n, T, L), (n, T) -> (n, W, L): the W texts of smallest rank, no two alike while others last."""
    rank, chosen = rank.clone(), []
    row = torch.arange(len(texts), device=texts.device)
    for _ in range(min(beam, texts.shape[1])):
        best = texts[row, rank.argmin(dim=1)]
        chosen.append(best)
        # What was chosen, and its copies, come last from now on.
        rank = rank.masked_fill((texts == best.unsqueeze(1)).all(dim=2), torch.inf)
    return torch.stack(chosen, dim=1)


class Embedded:
    """The gradient of the margin with respect to the embedding of each token."""

    def __init__(self, model: Model, example: Tensor) -> None:
        """example: (b, L) ids, by which the layer that looks them up is found.

        Raises NotOffered where the model is no torch module, or no ``nn.Embedding`` is given the ids.
        """
        self.model = model
        self.layer = looked_up(model, example)

    def gain(self, y: Tensor) -> Gain:
        """First-order gains (Ebrahimi et al. 2018, eq. 4): (e_new - e_old) · d margin / d e_old.

        y: (B,) labels of all samples. Raises NonFinite on a gradient that is NaN or infinite.
        """

        def gains(ids: Tensor, owner: Tensor) -> Tensor:
            slope = self.slope(ids, y[owner])
            table = self.layer.weight.detach().to(slope)
            promised = slope @ table.T  # (b, L, V)
            return promised - promised.gather(2, ids.unsqueeze(2))

        return gains

    def slope(self, ids: Tensor, y: Tensor) -> Tensor:
        """(b, L), (b,) -> (b, L, D)."""
        leaves: list[Tensor] = []

        def cut(module: Any, inputs: Any, output: Tensor) -> Tensor:
            del module, inputs
            leaf = output.detach().requires_grad_()
            leaves.append(leaf)
            return leaf

        # cuDNN gives no gradient of recurrent layers in eval mode; torch's own code does.
        with (
            hooked(self.layer, cut),
            torch.enable_grad(),
            torch.backends.cudnn.flags(enabled=False),
        ):
            logits = opened(self.model)(ids)
            (slope,) = torch.autograd.grad(margin(logits, y).sum(), leaves[0])
        if not torch.isfinite(slope).all():
            message = f"the gradient is NaN or infinite on a batch of {len(ids)}"
            raise NonFinite(message)
        return slope


def looked_up(model: Model, example: Tensor) -> nn.Embedding:
    """The embedding that is given the model's input ids. Raises NotOffered where there is none."""
    found: list[nn.Embedding] = []

    def watched(module: nn.Embedding) -> Callable[..., None]:
        def note(layer: Any, inputs: Any) -> None:
            del layer
            given = inputs[0] if inputs else None
            if (
                isinstance(given, Tensor)
                and given.shape == example.shape
                and (given == example).all()
            ):
                found.append(module)

        return note

    net = opened(model)
    with contextlib.ExitStack() as stack, torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Embedding):
                stack.enter_context(removed(module.register_forward_pre_hook(watched(module))))
        net(example)
    if not found:
        message = (
            f"{model.card.name}: expected an nn.Embedding that is given the ids of the input, got none. "
            f'guide = "tries" searches without gradients'
        )
        raise NotOffered(message)
    return found[0]


def opened(model: Model) -> nn.Module:
    """The model's torch module. Raises NotOffered where there is none."""
    if model.module is None:
        message = f'{model.card.name} has no torch module to open; guide = "tries" needs none'
        raise NotOffered(message)
    return model.module


@contextlib.contextmanager
def hooked(layer: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    """A forward hook for a while."""
    with removed(layer.register_forward_hook(hook)):
        yield


@contextlib.contextmanager
def removed(handle: Any) -> Iterator[None]:
    """A handle that is taken back at the end."""
    try:
        yield
    finally:
        handle.remove()


def drawn(generator: torch.Generator, size: int) -> Gain:
    """Replacements at random, for models that show no gradient."""

    def gains(ids: Tensor, owner: Tensor) -> Tensor:
        del owner
        scores = torch.rand((*ids.shape, size), generator=generator)
        return scores.to(ids.device)

    return gains
