"""How sure a model is of inputs that are none of its business: noise, scrambled samples, other data.

Knows how to make such inputs and what to count; refuses thresholds for good and bad, and refuses to call
an input foreign that is a sample of the same kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec

from dlaudit.audit.parts import Batch, Check, Needs, Yielded
from dlaudit.audit.record import Artifact, Cost, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import auc, wilson

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench

Kind = Literal["noise", "scrambled"]
NAMES = ("confident_share", "out_of_distribution_auc")
EVERYTHING = "test"


class Elsewhere(Check, frozen=True, kw_only=True):
    """Confidence on inputs from elsewhere: noise, scrambled samples, or another declared split.

    Per ``input``: ``confident_share``, the share whose largest softmax probability is above ``level``
    (also of the test samples themselves, input ``test``), and ``out_of_distribution_auc``, the chance
    that a test sample is answered more confidently than an input from elsewhere (Hendrycks & Gimpel
    2017): 0.5 is no difference, 1 knows every stranger.

    Noise is uniform between the ends of each input's place as seen in the test samples; scrambled are
    pictures with their places permuted, each by itself, and tables with every column permuted over the
    rows. Strangers are made of other samples than those that they are compared with. split: of other
    data, declared in the plan as ``[data.<split>]``.
    """

    needs: ClassVar[Needs] = Needs(model=("logits",), data=("labels",))
    measures: ClassVar[tuple[str, ...]] = NAMES

    kinds: tuple[Kind, ...] = ("noise", "scrambled")
    split: str | None = None
    level: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.9
    samples: Annotated[int, msgspec.Meta(ge=40)] = 1000

    def missing(
        self, *, model: frozenset[str], data: frozenset[str], train_fn: bool
    ) -> tuple[str, ...]:
        """The other split too, where one is named."""
        lacks = self.needs.missing(model=model, data=data, train_fn=train_fn)
        return (
            lacks if self.split is None or self.split in data else (*lacks, f"data: {self.split}")
        )

    def passes(self, *, n: int, classes: int) -> Cost:
        """One pass per stranger; the test samples are answered already."""
        del classes
        half = min(n, 2 * self.samples) // 2
        return Cost(
            forward=half * len(self.kinds) + (self.samples if self.split else 0), backward=0
        )

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Ask the model about strangers and compare with its own samples."""
        import numpy as np

        whole = np.concatenate([b.batch.x for b in bench.blocks(samples=2 * self.samples)])
        answers = bench.answers(samples=2 * self.samples)
        own = sureness(answers.logits)
        order = bench.rng("halves").permutation(len(own))
        kept, turned = np.sort(order[: len(own) // 2]), np.sort(order[len(own) // 2 :])
        yield self._share(own[kept], EVERYTHING)
        found = {EVERYTHING: own[kept]}
        for kind in dict.fromkeys(self.kinds):
            made = self._made(bench, kind, whole, whole[turned])
            if isinstance(made, str):
                for name in NAMES:
                    yield Undefined(name=name, reason=made, slice={"input": kind})
                continue
            found[kind] = sureness(bench.model.logits(made).float().cpu().numpy())
            yield from self._told(own[kept], found[kind], kind)
        if self.split is not None:
            other = [
                self._other(bench, b.batch) for b in bench.blocks(self.split, samples=self.samples)
            ]
            found[self.split] = np.concatenate(other)
            yield from self._told(own[kept], found[self.split], self.split)
        yield _picture(bench, found)
        yield bench.keep_table(
            f"{bench.run}.samples",
            {
                "id": np.concatenate([
                    np.char.add(f"{kind} ", np.arange(len(one)).astype(str)) for kind, one in found.items()
                ]),
                "input": np.concatenate([np.full(len(one), kind) for kind, one in found.items()]),
                "confidence": np.concatenate(list(found.values())),
            },
            caption="The largest probability of each test sample and of each input from elsewhere.",
        )  # fmt: skip

    def _other(self, bench: Bench, batch: Batch) -> np.ndarray:
        """Confidence on a batch of the other split."""
        return sureness(bench.model.logits(batch.x).float().cpu().numpy())

    def _made(
        self, bench: Bench, kind: str, whole: np.ndarray, rows: np.ndarray
    ) -> np.ndarray | str:
        """Strangers like ``rows``, or why there are none."""
        if rows.dtype.kind != "f":
            return f"inputs of type {rows.dtype} cannot be turned into {kind}"
        if kind == "noise":
            return noise(whole, len(rows), bench.rng("noise"))
        if "images" in bench.data.offers and rows.ndim == 4:
            return scrambled_places(rows, bench.rng("scrambled"))
        if rows.ndim == 2:
            return scrambled_columns(rows, bench.rng("scrambled"))
        return f"inputs of shape {rows.shape[1:]} have no columns to permute"

    def _share(self, sure: np.ndarray, where: str) -> Measurement:
        """How many are answered with more confidence than ``level``."""
        above, n = int((sure > self.level).sum()), len(sure)
        stated: dict[str, Scalar] = {"level": self.level}
        return Measurement(
            name="confident_share", value=above / n, n=n, interval=wilson(above, n),
            slice={"input": where}, conditions=stated, direction=None if where == EVERYTHING else "lower",
        )  # fmt: skip

    def _told(self, own: np.ndarray, strange: np.ndarray, where: str) -> Iterator[Measurement]:
        """The two numbers of one kind of stranger."""
        yield self._share(strange, where)
        value, interval = auc(own, strange)
        yield Measurement(
            name="out_of_distribution_auc", value=value, n=len(own) + len(strange), interval=interval,
            slice={"input": where}, direction="higher", conditions={"score": "largest softmax probability"},
        )  # fmt: skip


def sureness(logits: np.ndarray | None) -> np.ndarray:
    """The largest softmax probability of each row. logits: (n, C). Returns (n,)."""
    from dlaudit.overfitting.confidence import softmax

    assert logits is not None  # noqa: S101  (the check needs them)
    most: np.ndarray = softmax(logits).max(axis=1)
    return most


def noise(whole: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """n inputs, each place uniform between the ends that ``whole`` (N, *input) shows there."""
    low, high = whole.min(axis=0), whole.max(axis=0)
    drawn: np.ndarray = (low + (high - low) * rng.random((n, *whole.shape[1:]))).astype(whole.dtype)
    return drawn.clip(low, high)


def scrambled_places(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pictures (n, C, H, W) with the places of each permuted, all channels alike."""
    import numpy as np

    flat = rows.reshape(*rows.shape[:2], -1)
    orders = rng.permuted(np.tile(np.arange(flat.shape[2]), (len(rows), 1)), axis=1)
    return np.take_along_axis(flat, orders[:, None, :], axis=2).reshape(rows.shape)


def scrambled_columns(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A table (n, F) with every column permuted by itself: each value is one that occurs."""
    return rng.permuted(rows, axis=0)


def _picture(bench: Bench, found: dict[str, np.ndarray]) -> Artifact:
    """How many inputs of each kind are answered with at least a confidence."""
    import numpy as np

    from dlaudit.audit.curves import Curve, curves_svg

    grid = np.linspace(0, 1, 101)
    curves = [
        Curve(f"{kind}, n {len(sure):,}", [(float(g), float((sure >= g).mean())) for g in grid])
        for kind, sure in found.items()
    ]
    medians = ", ".join(f"{kind} {float(np.median(sure)):.2f}" for kind, sure in found.items())
    return bench.keep(
        f"{bench.run}.confidence",
        curves_svg(curves, across="confidence", up="share answered with that or more", from_zero=True),
        media_type="image/svg+xml",
        caption=(
            "The share of inputs that is answered with at least a confidence: of the test samples, and "
            "of inputs from elsewhere."
        ),
        alt=f"Median confidence: {medians}.",
    )  # fmt: skip
