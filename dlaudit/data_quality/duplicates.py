"""Copies: test rows that stand in the training split, exactly or nearly, and what they are worth.

Knows which rows are alike; refuses to say how a copy came about: in a table of few categories two people
may be alike by chance, so it says beside it how often training rows repeat among themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Artifact, Caveat, Cost, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import wilson

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench
    from dlaudit.data_quality.rows import Rows

TEST, TRAIN = "test", "train"
FEWEST = 20
"""Rows a side below which a median distance says nothing."""
CENSUS = "a count over every row of these two splits"


class Found(NamedTuple):
    """Per test row the place of its twin in training, -1 if none: exact, near, by perceptual hash.

    distance: of the near twin, NaN if there is none.
    """

    exact: np.ndarray
    near: np.ndarray
    perceptual: np.ndarray
    distance: np.ndarray


class Duplicates(Check, frozen=True, kw_only=True):
    """Test rows whose input stands in the training split too, and accuracy again without them.

    ``test_duplicates``: share of test rows whose input equals a training row's, label aside;
    ``conflicting_duplicates``: how many of these have a label that no training copy has.
    ``test_near_duplicates``: share of the others that lie nearer to a training row than ``near`` times the
    median distance of a training row to its nearest other one (standardised columns of a table, thumbnails
    of pictures; with space ``embedding`` what the model's last layer is given, so that rows are twins in the
    model's eyes); beyond some 5,000 rows a side the search may miss pairs, and ``near_duplicate_recall`` is
    the share of planted twins that it found. ``test_perceptual_duplicates``: share of test pictures whose
    perceptual hash differs from a training picture's in at most ``bits`` of 63 bits; meant for photographs.
    ``repeated_rows``: share of a split's rows that repeat an earlier one.

    ``accuracy_without_duplicates`` leaves out every row that is an exact or a near copy;
    ``accuracy_from_duplicates`` is what accuracy loses by that.
    """

    needs: ClassVar[Needs] = Needs(model=("decisions",), data=("labels", "train"))
    measures: ClassVar[tuple[str, ...]] = (
        "test_duplicates", "conflicting_duplicates", "test_near_duplicates", "near_duplicate_recall",
        "test_perceptual_duplicates", "repeated_rows", "accuracy_without_duplicates",
        "accuracy_from_duplicates",
    )  # fmt: skip

    near: Annotated[float, Meta(ge=0, le=1)] = 0.13
    bits: Annotated[int, Meta(ge=0, le=16)] = 2
    space: Literal["input", "embedding"] = "input"

    def passes(self, *, n: int, classes: int) -> Cost:
        """Nothing beyond the clean answers, but one pass a test row for an embedding.

        How many training rows there are, which need one each, too, is not known beforehand.
        """
        del classes
        return Cost(forward=n if self.space == "embedding" else 0, backward=0)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Look for twins, count them, and score the model on what is left."""
        import numpy as np

        from dlaudit.data_quality import copies, rows

        answers = bench.answers(TEST)
        train, test = rows.read(bench, (TRAIN, TEST), embedded=self.space == "embedding")
        n = len(test.id)
        exact = copies.equal(test.digest, train.digest)
        repeated = {TRAIN: copies.repeats(train.digest), TEST: copies.repeats(test.digest)}
        copied = int((exact >= 0).sum())
        yield Measurement(
            name="test_duplicates", value=copied / n, n=n, exact=CENSUS, direction="lower",
            caveats=tuple(_chance(bench, float(repeated[TRAIN].mean()), copied)),
        )  # fmt: skip
        seen = set(zip(train.digest.tolist(), train.y.tolist(), strict=True)) if copied else set()
        conflicts = sum(
            (int(test.digest[row]), int(test.y[row])) not in seen
            for row in np.flatnonzero(exact >= 0)
        )
        yield Measurement(
            name="conflicting_duplicates", value=conflicts, n=n, exact=CENSUS, direction="lower"
        )
        found = Found(exact, np.full(n, -1), np.full(n, -1), np.full(n, np.nan))
        yield from self._near(bench, train, test, found)
        yield self._perceptual(train, test, found)
        for split, where in repeated.items():
            yield Measurement(
                name="repeated_rows", value=float(where.mean()), n=len(where), exact=CENSUS,
                direction="lower", slice={"split": split},
            )  # fmt: skip
        yield from _accuracy(answers.correct, (found.exact >= 0) | (found.near >= 0))
        yield _evidence(bench, train, test, found)
        if picture := _picture(bench, train, test, found):
            yield picture

    def _near(self, bench: Bench, train: Rows, test: Rows, found: Found) -> Iterator[Yielded]:
        """Near twins of the rows that have no exact one, filled into ``found``."""
        import numpy as np

        from dlaudit.data_quality import copies, neighbours

        stated: dict[str, Scalar] = {"near": self.near, "space": train.space}
        name, recall = "test_near_duplicates", "near_duplicate_recall"
        reason = None
        first = np.flatnonzero(~copies.repeats(train.digest))
        rest = np.flatnonzero(found.exact < 0)
        if min(len(first), len(test.id)) < FEWEST:
            reason = (
                f"{len(first)} different training and {len(test.id)} test rows, fewer than {FEWEST}"
            )
        points, queries = copies.vectors(train, test)
        if self.space == "embedding" and "logits" not in bench.model.offers:
            reason = "the model gives decisions only: it has no embedding"
        if reason is None and not points.shape[1]:
            reason = "every column is constant: nothing to take a distance of"
        radius = 0.0
        if reason is None:
            radius = self.near * neighbours.median_distance(points[first], bench.rng("median"))
            if radius <= 0:
                reason = (
                    "near = 0, or training rows do not differ: no distance is small beside that"
                )
        if reason is not None:
            yield Undefined(name=name, reason=reason, conditions=stated)
            yield Undefined(name=recall, reason=reason, conditions=stated)
            return
        close_by = neighbours.near(queries[rest], points[first], radius, bench.rng("cells"))
        close = close_by.place >= 0
        found.near[rest[close]] = first[close_by.place[close]]
        found.distance[rest[close]] = close_by.distance[close]
        stated["radius"] = radius
        stated["search"] = "every pair" if close_by.recall is None else "random cells"
        yield Measurement(
            name=name, value=int(close.sum()) / len(test.id), n=len(test.id), direction="lower",
            exact=CENSUS if close_by.recall is None else "a count of what the search has found",
            conditions=stated,
        )  # fmt: skip
        if close_by.recall is None:
            yield Measurement(
                name=recall,
                value=1.0,
                n=len(rest),
                exact="every pair was looked at",
                conditions=stated,
            )
        else:
            hits, asked = close_by.recall
            yield Measurement(
                name=recall, value=hits / asked, n=asked, interval=wilson(hits, asked),
                direction="higher", conditions=stated,
            )  # fmt: skip

    def _perceptual(self, train: Rows, test: Rows, found: Found) -> Yielded:
        """Twins by perceptual hash, filled into ``found``."""
        import numpy as np

        from dlaudit.data_quality import perceptual

        name = "test_perceptual_duplicates"
        stated: dict[str, Scalar] = {"bits": self.bits}
        if train.phash is None or test.phash is None:
            return Undefined(name=name, reason="the data are no pictures", conditions=stated)
        where, bits = perceptual.closest(test.phash, train.phash)
        close = np.flatnonzero(bits <= self.bits)
        found.perceptual[close] = where[close]
        return Measurement(
            name=name, value=len(close) / len(test.id), n=len(test.id), exact=CENSUS,
            direction="lower", conditions=stated,
        )  # fmt: skip


def _chance(bench: Bench, repeated: float, copied: int) -> Iterator[Caveat]:
    """A doubt where training rows repeat among themselves: then test rows may match by chance."""
    if copied and repeated > 0:
        message = (
            f"{repeated:.1%} of the training rows repeat an earlier one: where a row is made of few "
            "different values, a test row may equal a training row without being its copy"
        )
        yield Caveat(source=bench.run, name="chance", message=message)


def _accuracy(correct: np.ndarray, left_out: np.ndarray) -> Iterator[Yielded]:
    """Accuracy on the rows that are no copies, and what accuracy owes to the others."""
    from dlaudit.data_quality.intervals import share_of_gain

    names = ("accuracy_without_duplicates", "accuracy_from_duplicates")
    n, out = len(correct), int(left_out.sum())
    if out == n:
        for name in names:
            yield Undefined(name=name, reason="every test row is a copy of a training row")
        return
    right, rest = int(correct[~left_out].sum()), n - out
    yield Measurement(
        name=names[0], value=right / rest, n=rest, interval=wilson(right, rest), direction="higher"
    )
    if not out:
        exact = "no copy was found, so that none is left out"
        yield Measurement(name=names[1], value=0.0, n=n, exact=exact, direction="lower")
        return
    of_copies = int(correct[left_out].sum())
    yield Measurement(
        name=names[1], value=float(correct.mean()) - right / rest, n=n, direction="lower",
        interval=share_of_gain(of_copies, out, right, rest),
    )  # fmt: skip


def _evidence(bench: Bench, train: Rows, test: Rows, found: Found) -> Artifact:
    """Every test row with its twins."""
    import numpy as np

    columns: dict[str, np.ndarray] = {"id": test.id, "label": test.y}
    for name in ("exact", "near", "perceptual"):
        twin = getattr(found, name)
        columns[f"{name}_twin"] = np.where(twin >= 0, train.id[twin], "")
    best = copies_of(found)
    columns["twin_label"] = np.where(best >= 0, train.y[best], -1)
    columns["distance"] = found.distance
    return bench.keep_table(
        f"{bench.run}.samples",
        columns,
        caption="Every test row and its twins in the training split.",
    )


def copies_of(found: Found) -> np.ndarray:
    """The closest kind of twin of each row: exact, else near, else perceptual; -1 if none."""
    import numpy as np

    rest = np.where(found.near >= 0, found.near, found.perceptual)
    best: np.ndarray = np.where(found.exact >= 0, found.exact, rest)
    return best


def _picture(bench: Bench, train: Rows, test: Rows, found: Found) -> Artifact | None:
    """The first pairs side by side; what can be shown of a table is its cells."""
    import numpy as np

    from dlaudit.data_quality import pictures

    best = copies_of(found)
    pairs = [(int(row), int(best[row])) for row in np.flatnonzero(best >= 0)[: pictures.PAIRS]]
    if not pairs:
        return None
    words = [_how(found, row) for row, _ in pairs]
    caption = (
        f"{len(pairs)} of {int((best >= 0).sum())} test rows with a twin in the training split, each "
        "beside its twin."
    )
    alt = "; ".join(
        f"test {test.id[row]} beside train {train.id[twin]} ({how})"
        for (row, twin), how in zip(pairs[:5], words, strict=False)
    )
    if "images" in bench.data.offers:
        shown = pictures.inputs(bench, {TEST: [a for a, _ in pairs], TRAIN: [b for _, b in pairs]})
        titles = [
            (f"test {test.id[row]}", f"train {train.id[twin]}, {how}")
            for (row, twin), how in zip(pairs, words, strict=True)
        ]
        content = pictures.pairs_png(shown[TEST], shown[TRAIN], titles)
        return bench.keep(
            f"{bench.run}.pairs", content, media_type="image/png", caption=caption, alt=f"{alt}."
        )
    if "tabular" not in bench.data.offers:
        return None
    content = pictures.cells_svg(test, train, pairs, words)
    return bench.keep(
        f"{bench.run}.pairs", content, media_type="image/svg+xml", caption=caption, alt=f"{alt}."
    )


def _how(found: Found, row: int) -> str:
    """The word for how a pair was found."""
    if found.exact[row] >= 0:
        return "equal"
    return "near" if found.near[row] >= 0 else "same hash"
