"""Texts that change a decision when a few of their tokens are replaced.

Knows the budget of replacements and who is attacked; how replacements are found stands in
``token_search``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from dlaudit.attacks.base import IN_255, Attack, Norm, Terms, Threat
from dlaudit.audit.parts import Batch, Epsilon, Model, Needs, Yielded
from dlaudit.audit.record import Cost, Measurement, Scalar, Undefined
from dlaudit.errors import NotOffered

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from dlaudit.attacks.harness import Outcomes
    from dlaudit.attacks.token_search import Answer, Lexicon
    from dlaudit.audit.bench import Bench, Block

CURVE = Epsilon([1, 2, 4])
"""Replacements, where no budget is given."""


class Tokens(Attack, frozen=True, kw_only=True):
    """Token substitution by the embedding's gradient, each replacement verified (HotFlip).

    epsilon: how many tokens may be replaced, a number or a curve; with ``unit = "share"``, the share of
    a text's own tokens, rounded down. protected: ids that are neither replaced nor put in, such as
    specials and padding (the embedding's own padding is among them anyway). synonyms: token id -> the
    ids that may replace it; without it any id may. vocabulary: how many ids there are, where no
    embedding tells. guide: ``"gradient"`` looks for promising replacements by the gradient at the net's
    embedding, ``"tries"`` draws them at random, ``"auto"`` is the first where it can be. candidates:
    replacements that are verified in each round by a forward pass; beam: how many texts go on to the
    next round.

    Texts without a token that may be replaced are left out and counted.
    """

    needs: ClassVar[Needs] = Needs(model=("decisions",), data=("labels", "tokens"))
    measures: ClassVar[tuple[str, ...]] = (*Attack.measures, "left_out")
    proportions: ClassVar[tuple[str, ...]] = measures
    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    scales: ClassVar[bool] = False

    norm: Norm = "l0"
    unit: Literal["tokens", "share"] = "tokens"
    protected: list[int] = msgspec.field(default_factory=lambda: [0])
    synonyms: dict[str, list[int]] | None = None
    vocabulary: int | None = None
    guide: Literal["auto", "gradient", "tries"] = "auto"
    candidates: int = 16
    beam: int = 1

    def __post_init__(self) -> None:
        """Refuse budgets that count no tokens, and numbers that make no search."""
        super().__post_init__()
        if self.epsilon is IN_255:
            curve = CURVE if self.unit == "tokens" else Epsilon([0.1, 0.2])
            msgspec.structs.force_setattr(self, "epsilon", curve)
        if self.unit == "tokens":
            wrong = [one for one in self.epsilon if not one.is_integer()]
            expected = "whole numbers of tokens"
        else:
            wrong = [one for one in self.epsilon if one > 1]
            expected = "shares between 0 and 1"
        if wrong:
            message = f"epsilon: expected {expected}, got {wrong[0]:g}"
            raise ValueError(message)
        for name in ("levels", "mixed_precision"):
            if getattr(self, name):
                message = f"{name}: expected none, because ids are whole numbers and stay so"
                raise ValueError(message)
        for name in ("candidates", "beam"):
            if getattr(self, name) < 1:
                message = f"{name}: expected a number >= 1, got {getattr(self, name)}"
                raise ValueError(message)
        if strange := [one for one in self.synonyms or () if not one.isdecimal()]:
            message = f"synonyms: expected token ids as keys, got {strange[0]!r}"
            raise ValueError(message)

    def conditions(self, epsilon: float) -> dict[str, Scalar]:
        """See ``Attack.conditions``; epsilon counts tokens, or is their share."""
        listed = "any token" if self.synonyms is None else f"lists for {len(self.synonyms)} tokens"
        return {
            **super().conditions(epsilon),
            "synonyms": listed,
        }

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Attack every clean-correct text and measure what survives each budget.

        Raises NotOffered for recorded decisions, for inputs that are no ids, and where gradients are
        asked for and no embedding is given the ids.
        """
        from dlaudit.attacks.harness import Outcomes, columns, measurements

        if bench.model.card.facts.get("kind") == "recorded decisions":
            message = f"{bench.model.card.name} cannot be asked about texts that were not recorded"
            raise NotOffered(message)
        sampling = bench.sampling(samples=self.samples)
        answers, seen = sampling.answers, 0
        outcomes = Outcomes(answers, len(self.epsilon.values))
        search = _Search(self, bench)
        protected = ", ".join(str(one) for one in sorted(search.lexicon.protected))
        terms = Terms(
            lambda _batch, epsilon: Threat(norm="l0", epsilon=epsilon),
            stated={
                "guided_by": "gradient" if search.embedded else "tries",
                "protected": protected or "none",
            },
            applies=search.applies, reason="no token of the text may be replaced",
        )  # fmt: skip

        def so_far() -> Iterator[Measurement | Undefined]:
            part = outcomes.first(seen)
            return measurements(self, bench, part, terms, interval=sampling.proportion)

        for block in sampling.blocks():
            search.attack(block, outcomes)
            seen = block.start + len(block.batch.y)
            if sampling.decided(so_far()):
                break
        answers, outcomes = answers.at(slice(seen)), outcomes.first(seen)
        yield from sampling.told(so_far(), seen=seen)
        yield bench.keep_table(
            f"{bench.run}.samples", columns(answers, outcomes),
            caption=f"{bench.run}: what happened to each of {len(answers.y)} texts, one row each.",
        )  # fmt: skip

    def passes(self, *, n: int, classes: int) -> Cost:
        """The most it can cost with budgets in tokens; shares are taken for texts of a hundred."""
        del classes
        chosen = n if self.samples is None else min(n, self.samples)
        most = self.epsilon.values[-1] * (1 if self.unit == "tokens" else 100)
        rounds = int(most) * self.beam * chosen
        guided = 0 if self.guide == "tries" else rounds
        return Cost(forward=rounds * self.candidates + guided + chosen, backward=guided)


class _Search:
    """One run's search: the lexicon, the embedding if there is one, block after block."""

    def __init__(self, attack: Tokens, bench: Bench) -> None:
        from dlaudit.attacks.token_search import Embedded

        self.attack_, self.bench = attack, bench
        first = next(iter(bench.data.batches("test")))
        self.embedded: Embedded | None = None
        if attack.guide != "tries":
            try:
                self.embedded = Embedded(bench.model, _ids(first.x[:2], bench))
            except NotOffered:
                if attack.guide == "gradient":
                    raise
        self.lexicon = self._lexicon()

    def _lexicon(self) -> Lexicon:
        """What may replace what. Raises NotOffered where ids of the data are not in the vocabulary."""
        import numpy as np

        from dlaudit.attacks.token_search import Lexicon

        attack = self.attack_
        largest = max(int(np.max(batch.x)) for batch in self.bench.data.batches("test"))
        size = attack.vocabulary
        if size is None:
            size = self.embedded.layer.num_embeddings if self.embedded else largest + 1
        if largest >= size:
            message = (
                f"vocabulary: expected more ids than the largest in the data, {largest}, got {size}"
            )
            raise NotOffered(message)
        lists = attack.synonyms
        synonyms = None if lists is None else {int(one): tuple(lists[one]) for one in lists}
        padding = None if self.embedded is None else self.embedded.layer.padding_idx
        own = frozenset() if padding is None else frozenset({padding})
        return Lexicon(size, frozenset(attack.protected) | own, synonyms)

    def applies(self, batch: Batch) -> Tensor:
        """See ``Terms.applies``."""
        import numpy as np
        import torch

        return torch.from_numpy(self.lexicon.replaceable(np.asarray(batch.x)).any(axis=1))

    def attack(self, block: Block, outcomes: Outcomes) -> None:
        """Search once, up to the largest budget; judge what is returned at each."""
        import numpy as np

        from dlaudit.attacks.token_search import drawn, substitute
        from dlaudit.audit.bench import rows

        bench, lexicon = self.bench, self.lexicon
        here = slice(block.start, block.start + len(block.batch.y))
        outcomes.left_out[here] = ~self.applies(block.batch).numpy()
        open_ = np.flatnonzero(outcomes.correct[here] & ~outcomes.left_out[here])
        if not len(open_):
            return
        part, at = rows(block.batch, open_), block.start + open_
        own = (~np.isin(np.asarray(part.x), sorted(lexicon.protected))).sum(axis=1)
        budgets = np.stack([self._budget(epsilon, own) for epsilon in self.attack_.epsilon])
        clean = _ids(part.x, bench)
        y = clean.new_tensor(np.asarray(part.y, dtype=np.int64))
        gain = (
            self.embedded.gain(y)
            if self.embedded
            else drawn(block.generator("tries"), lexicon.size)
        )
        walked = substitute(
            clean, clean.new_tensor(budgets[-1]), answer=_asked(bench.model, part), gain=gain,
            lexicon=lexicon, candidates=self.attack_.candidates, beam=self.attack_.beam,
            guided=self.embedded is not None,
        )  # fmt: skip
        found, before = walked.x.cpu().numpy(), clean.cpu().numpy()
        decisions = bench.model.decide(part._replace(x=found.astype(part.x.dtype)))
        edits = (found != before).sum(axis=1)
        wrong = np.asarray(decisions.predicted) != np.asarray(part.y)
        outcomes.forward[at] += walked.forward.cpu().numpy() + 1
        outcomes.backward[at] += walked.backward.cpu().numpy()
        for k, (epsilon, budget) in enumerate(zip(self.attack_.epsilon, budgets, strict=True)):
            inside = wrong & lexicon.admits(found, before, budget)
            fresh = inside & (outcomes.epsilon_fooled[at] < 0)
            outcomes.epsilon_fooled[at[fresh]] = epsilon
            outcomes.distance[at[fresh]] = edits[fresh]
            outcomes.adversarial[at[fresh]] = np.asarray(decisions.predicted)[fresh]
            # Replacements are made one by one: with a smaller budget the first of them stand.
            outcomes.moved[k, at] = (edits > 0) & (budget > 0)

    def _budget(self, epsilon: float, own: np.ndarray) -> np.ndarray:
        """How many replacements each text may have. own: (B,) its tokens that are not protected."""
        import numpy as np

        if self.attack_.unit == "tokens":
            return np.full(len(own), int(epsilon))
        return np.floor(epsilon * own + 1e-9).astype(np.int64)


def _ids(x: Any, bench: Bench) -> Any:
    """Ids as an int64 tensor on the model's device. Raises NotOffered for anything else."""
    import torch

    ids = torch.as_tensor(x)
    if ids.is_floating_point() or ids.ndim != 2:
        message = (
            f"{bench.run} replaces tokens: expected ids, whole numbers of shape (n, length), got "
            f"{ids.dtype} of shape {tuple(ids.shape)} in {bench.data.card.name}"
        )
        raise NotOffered(message)
    return ids.long().to(bench.model.device)


def _asked(model: Model, batch: Batch) -> Answer:
    """How the model answers texts for samples of a batch, by whatever it offers."""
    import numpy as np
    import torch

    from dlaudit.attacks.harness import margins
    from dlaudit.audit.bench import rows

    def answer(ids: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
        part = rows(batch, owner.cpu().numpy())
        decisions = model.decide(part._replace(x=ids.cpu().numpy().astype(part.x.dtype)))
        wrong = np.asarray(decisions.predicted) != np.asarray(part.y)
        lead = np.zeros(len(wrong))
        if decisions.logits is not None:
            lead = margins(decisions.logits, np.asarray(part.y))
        return torch.from_numpy(wrong).to(ids.device), torch.as_tensor(lead).double().to(ids.device)

    return answer
