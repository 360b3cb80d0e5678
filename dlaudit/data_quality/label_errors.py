"""Labels that look wrong: those that a learner which never saw them confidently contradicts.

Knows labels and out-of-sample probabilities; refuses to correct a label, and to call one wrong: it is
suspected, and a person looks at it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Cost, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import LEVEL, wilson

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench

TEST, TRAIN = "test", "train"
NAMES = ("suspected_labels", "class_suspected_labels")


class LabelErrors(Check, frozen=True, kw_only=True):
    """The share of labels that confident learning doubts, and which ones.

    judge ``model``: the audited model's own answers, which are out of sample on the test split alone;
    ``features``: five-fold boosted trees on the columns of a table, or a logistic regression on thumbnails of
    pictures, on the split named. ``suspected_labels``: share of rows that cleanlab's confident joint puts
    into another class (interval: Wilson, the judge taken as given); ``class_suspected_labels``: the same
    among the rows of one given label, at Bonferroni's level. A weak judge doubts labels that are right;
    ``judge_accuracy`` says how often the judge agrees with the labels at all.

    samples: at most so many rows, drawn by the plan's seed; minimum: rows a class needs to be judged.
    """

    needs: ClassVar[Needs] = Needs(model=("decisions",), data=("labels",))
    measures: ClassVar[tuple[str, ...]] = (*NAMES, "judge_accuracy")

    judge: Literal["model", "features"] = "model"
    split: str = TEST
    samples: Annotated[int, Meta(ge=50)] = 50_000
    minimum: Annotated[int, Meta(ge=5)] = 10

    def passes(self, *, n: int, classes: int) -> Cost:
        """Nothing beyond the clean answers."""
        del n, classes
        return Cost(forward=0, backward=0)

    def __post_init__(self) -> None:
        """Refuse answers about rows that the model may have learned from."""
        if self.judge == "model" and self.split != TEST:
            message = (
                f'split: expected "{TEST}" where the model judges, got {self.split!r}: it may have learned '
                'that split\'s labels by heart. judge = "features" never judges a row that it has seen'
            )
            raise ValueError(message)

    def missing(
        self, *, model: frozenset[str], data: frozenset[str], train_fn: bool
    ) -> tuple[str, ...]:
        """Also the split that is judged."""
        found = super().missing(model=model, data=data, train_fn=train_fn)
        gone = self.split != TEST and self.split not in data
        return (*found, f"a split {self.split!r} of the data") if gone else found

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Find a judge, ask what it doubts, and list it."""
        import numpy as np

        from dlaudit.data_quality import via_cleanlab

        stated: dict[str, Scalar] = {"judge": self.judge, "split": self.split}
        answers = bench.answers(self.split)
        chosen = np.arange(len(answers.y))
        if len(chosen) > self.samples:
            chosen = np.sort(bench.rng("samples").choice(len(chosen), self.samples, replace=False))
        y, ids = answers.y[chosen], answers.id[chosen]
        sizes = np.bincount(y, minlength=len(bench.classes))
        judged = np.flatnonzero(sizes >= self.minimum)
        inside = np.isin(y, judged)
        chances: np.ndarray | str
        if len(judged) < 2:
            chances = f"fewer than two classes with {self.minimum} rows"
        elif self.judge == "model":
            chances = _of_model(answers.at(chosen))
        else:
            chances = _of_features(bench, self.split, chosen, y, judged)
        if isinstance(chances, str):
            for name in self.measures:
                yield Undefined(name=name, reason=chances, conditions=stated)
            return
        codes = np.searchsorted(judged, y[inside])
        known = chances[inside][:, judged]
        # Between the judged classes alone; a row without any chance there says nothing.
        total = known.sum(axis=1, keepdims=True)
        known = np.where(total > 0, known / np.where(total > 0, total, 1), 1 / len(judged))
        found = via_cleanlab.doubted(codes, known)
        n, hits = len(codes), int(found.suspected.sum())
        yield Measurement(
            name=NAMES[0], value=hits / n, n=n, interval=wilson(hits, n), direction="lower",
            conditions=stated,
        )  # fmt: skip
        agreed = int((known.argmax(axis=1) == codes).sum())
        yield Measurement(
            name="judge_accuracy", value=agreed / n, n=n, interval=wilson(agreed, n),
            direction="higher", conditions=stated,
        )  # fmt: skip
        for code, label in enumerate(judged):
            of = int(sizes[label])
            out = int(found.suspected[codes == code].sum())
            yield Measurement(
                name=NAMES[1], value=out / of, n=of, direction="lower", conditions=stated,
                interval=wilson(out, of, 1 - (1 - LEVEL) / len(judged)),
                slice={"class": bench.classes[label]},
            )  # fmt: skip
        order = np.lexsort((found.confidence, ~found.suspected))
        columns = {
            "id": ids[inside], "label": y[inside], "suggested": judged[known.argmax(axis=1)],
            "confidence": found.confidence, "suspected": found.suspected,
        }  # fmt: skip
        yield bench.keep_table(
            f"{bench.run}.samples", {name: column[order] for name, column in columns.items()},
            caption="Every row that was judged, the suspected ones first, the most doubtful on top.",
        )  # fmt: skip


def _of_model(answers: object) -> np.ndarray | str:
    """(n, K) probabilities out of what the model answered, or why there are none."""
    import numpy as np
    from scipy.special import softmax

    logits, score = answers.logits, answers.score  # type: ignore[attr-defined]
    if logits is not None and logits.shape[1] > 1:
        found: np.ndarray = softmax(logits.astype(np.float64), axis=1)
        return found
    if score is None:
        return "the model gives decisions only: a doubt needs probabilities"
    if ((score < 0) | (score > 1)).any():
        return "the recorded scores are no probabilities: some lie outside 0 to 1"
    return np.stack([1 - score, score], axis=1).astype(np.float64)


def _of_features(
    bench: Bench, split: str, chosen: np.ndarray, y: np.ndarray, judged: np.ndarray
) -> np.ndarray | str:
    """(n, C) out-of-fold probabilities from what the data set itself holds."""
    import numpy as np

    from dlaudit.data_quality import rows, via_sklearn

    (read,) = rows.read(bench, (split,))
    values, images = read.vector[chosen], read.phash is not None
    if not values.shape[1]:
        return "the table has no feature to judge a label by"
    inside = np.isin(y, judged)
    found = np.zeros((len(y), int(judged.max()) + 1))
    codes = np.searchsorted(judged, y[inside])
    folded = via_sklearn.chances(values[inside], codes, bench.rng("folds"), linear=images)
    place = np.ix_(np.flatnonzero(inside), judged)
    found[place] = folded.chances
    return found
