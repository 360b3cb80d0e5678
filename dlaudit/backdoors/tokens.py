"""Token triggers: which single token, put into any text, calls up a class, and is there a second one like it?

Knows a model of token ids and some texts. Refuses to accuse: in honest models too some words decide alone;
a planted token has no second one beside it, and that is for a reader to weigh.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Caveat, Cost, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import wilson

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Answers, Bench


Count = Annotated[int, Meta(ge=1)]
NO_IDS = "the inputs are no token ids of a torch module: whole numbers of shape (n, length), longer than `at`"
METHOD = (
    "every examined token put into the same texts; of a large vocabulary those that the gradient at the "
    "embedding promises most of (after Wallace et al. 2019)"
)


class Tokens(Check, frozen=True, kw_only=True):
    """The token that, put into any text, calls up each class most often, and the second best one.

    ``trigger_success``: on which share of texts of other classes, unused by the search, the best token
    calls up the class. ``runner_up``: the same of the token that the search put second. Information: no
    token is suspected. Sequences of tokens are not searched for.

    at: the place of the token in the text (1 behind a start token); what stands behind moves on. texts:
    tried with every token. most: tokens tried at most; of a larger vocabulary those that the gradient
    promises most of, as many for each class. samples: texts used, half of them for the search. excluded:
    ids never put in, such as padding. minimum: texts of other classes needed in each half.
    """

    needs: ClassVar[Needs] = Needs(
        model=("logits", "gradients", "module"), data=("labels", "tokens")
    )
    measures: ClassVar[tuple[str, ...]] = ("trigger_success", "runner_up")
    proportions: ClassVar[tuple[str, ...]] = measures

    at: Annotated[int, Meta(ge=0)] = 0
    texts: Count = 32
    most: Count = 4000
    samples: Count = 1000
    excluded: list[int] = msgspec.field(default_factory=lambda: [0])
    minimum: Count = 10

    def passes(self, *, n: int, classes: int) -> Cost:
        """One pass for every token and text, and the confirmations."""
        half = min(n, self.samples) // 2
        guided = classes * self.texts
        return Cost(forward=self.most * self.texts + guided + 2 * classes * half, backward=guided)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Try every token on some texts; confirm the best two of each class on the others."""
        import numpy as np
        import torch

        from dlaudit.audit.bench import joined
        from dlaudit.backdoors.examination import halves
        from dlaudit.backdoors.sweep import called, embedding_of, shares

        batch = reduce(joined, (block.batch for block in bench.blocks(samples=self.samples)))
        readable = batch.x.dtype.kind in "iu" and batch.x.ndim == 2 and self.at < batch.x.shape[1]
        if not readable or bench.model.module is None:
            yield from (Undefined(name=name, reason=NO_IDS) for name in self.measures)
            return
        answers = bench.answers(samples=self.samples)
        ids = torch.as_tensor(batch.x.astype(np.int64)).to(bench.model.device)
        layer = embedding_of(bench.model.module, ids[:2])
        search, unused = halves(answers.y, bench.rng("halves"))
        shown = np.sort(bench.rng("texts").permutation(search)[: self.texts])
        classes = len(bench.model.logits(ids[:1])[0])
        tokens = self._tokens(bench, ids[torch.as_tensor(shown)], classes, layer)
        decided = called(bench.model, ids[torch.as_tensor(shown)], tokens, self.at)
        conditions: dict[str, Scalar] = {
            "method": METHOD, "at": self.at, "texts": len(shown), "tokens_examined": len(tokens),
            "vocabulary": layer.num_embeddings,
        }  # fmt: skip
        caveats = tuple(
            _left_out(bench.run, layer.num_embeddings - len(tokens), len(self.excluded))
        )
        success = np.zeros((len(tokens), classes))
        for target in range(classes):
            label = bench.classes[target] if target < len(bench.classes) else str(target)
            free, fresh = _free(answers, shown, target), unused[_free(answers, unused, target)]
            if min(free.sum(), len(fresh)) < self.minimum:
                reason = (
                    f"{free.sum()} and {len(fresh)} texts of other classes in the two halves: at least "
                    f"{self.minimum} are needed in each"
                )
                for name in self.measures:
                    yield Undefined(name=name, reason=reason, slice={"class": label})
                continue
            success[:, target] = shares(decided, free, target)
            best = np.argsort(-success[:, target], kind="stable")[:2]
            texts = ids[torch.as_tensor(fresh)]
            hits = (called(bench.model, texts, tokens[best], self.at) == target).sum(axis=1)
            for name, token, hit in zip(
                self.measures, tokens[best].tolist(), hits.tolist(), strict=False
            ):
                yield Measurement(
                    name=name, value=hit / len(fresh), n=len(fresh), interval=wilson(hit, len(fresh)),
                    slice={"class": label}, conditions=conditions | {"token": token}, caveats=caveats,
                )  # fmt: skip
        yield bench.keep_table(
            f"{bench.run}.vocabulary", {"id": tokens.astype(str), "success": success},
            caption="On which share of the search's texts each token calls up each class.",
        )  # fmt: skip

    def _tokens(self, bench: Bench, ids: Any, classes: int, layer: Any) -> np.ndarray:
        """The ids to try, in order."""
        import numpy as np
        import torch

        from dlaudit.backdoors.sweep import inserted, promised

        usable = np.setdiff1d(np.arange(layer.num_embeddings), self.excluded)
        if len(usable) <= self.most:
            return usable
        module = bench.model.module
        assert module is not None  # noqa: S101  (measure has looked)
        (held,) = inserted(ids, torch.as_tensor(usable[:1], device=ids.device), self.at)
        chosen = [
            usable[np.argsort(-promised(module, layer, held, self.at, k)[usable], kind="stable")]
            [: max(1, self.most // classes)]
            for k in range(classes)
        ]  # fmt: skip
        return np.unique(np.concatenate(chosen))


def _free(answers: Answers, rows: np.ndarray, target: int) -> np.ndarray:
    """(len(rows),) bool: texts of other classes that are decided otherwise without any token."""
    free: np.ndarray = (answers.y[rows] != target) & (answers.predicted[rows] != target)
    return free


def _left_out(run: str, tokens: int, excluded: int) -> Iterator[Caveat]:
    """Tokens that were not tried."""
    if tokens > excluded:
        message = (
            f"{tokens} tokens of the vocabulary were not tried: the gradient promised less of them"
        )
        yield Caveat(source=run, name="tokens-left-out", message=message)
