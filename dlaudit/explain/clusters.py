"""Kinds of maps within one decision: where nobody has masks, a place to look first. Hypotheses only.

Knows maps of inputs that are decided alike (SpRAy; Lapuschkin et al. 2019); refuses a judgement: a class
may have several honest kinds of pictures, and a shortcut that all of them share makes one cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Artifact, Cost, Measurement, Scalar, Undefined
from dlaudit.errors import NotExplained
from dlaudit.explain.methods import SHIPPED, known_methods

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench
    from dlaudit.explain.subject import Subject

COUNT, SHARE = "map_clusters", "cluster_share"
SIDE, NEIGHBOURS, MOST = 32, 10, 8
"""Maps are pooled to 32 x 32; each is joined to its ten nearest; more than eight parts are not looked for."""
APART = 0.1
"""k parts are looked at only where the k-th eigenvalue is at most this: few joins lead out of each part
(Cheeger). In noise of one kind the largest gap stands anywhere, behind eigenvalues of 0.2 and more."""
EXEMPLARS = 5
GUESS = "a hypothesis: counted in these maps, with no claim beyond them"


class Found(NamedTuple):
    """labels: (n,) of the part of each map, 0 for the largest; gaps: (MOST,) between eigenvalues."""

    labels: np.ndarray
    gaps: np.ndarray


class Clusters(Check, frozen=True, kw_only=True):
    """Kinds of maps among the inputs that are decided alike, as hypotheses: look at them, conclude nothing.

    ``map_clusters``: parts of the graph of a class's maps at the largest gap of its Laplacian's
    eigenvalues (of parts that hardly hang together), 1 where they are of one kind;
    ``cluster_share``: share of the class's inputs in each. Mean maps of the parts are drawn, with the ids
    of inputs in their middle. Whether a decision hangs on what a part points at is
    ``explain.shortcut``'s question, for the region that you see there.

    method, baseline, settings: as of ``explain.attribution``. minimum: inputs of a class below which
    nothing is looked for.
    """

    needs: ClassVar[Needs] = Needs(model=("logits", "gradients", "module"))
    measures: ClassVar[tuple[str, ...]] = (COUNT, SHARE)

    method: str = "integrated_gradients"
    baseline: Literal["zero", "low", "mean", "blur"] = "zero"
    settings: dict[str, Any] = {}
    samples: Annotated[int, Meta(ge=1)] = 500
    minimum: Annotated[int, Meta(ge=3 * NEIGHBOURS)] = 3 * NEIGHBOURS

    def __post_init__(self) -> None:
        """Refuse an unknown method."""
        known_methods((self.method,))

    def passes(self, *, n: int, classes: int) -> Cost:
        """One map for each input."""
        del classes
        many = min(n, self.samples)
        if self.method not in SHIPPED:
            return Cost(forward=many, backward=0)
        each = SHIPPED[self.method]().passes(positions=64)
        return Cost(forward=many * (1 + each.forward), backward=many * each.backward)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Explain, and part the maps of each decision."""
        import numpy as np

        from dlaudit.explain.attribution import made
        from dlaudit.explain.sanity import grid
        from dlaudit.explain.subject import maps_of, subject_of

        try:
            subject = subject_of(bench, self.samples)
            explainer = made(bench.part("explainers", self.method)(), self.settings, "settings")
            start, rng = subject.baseline(self.baseline), bench.rng("maps")
            maps = maps_of(explainer, subject.request(start, rng))
        except NotExplained as error:
            yield Undefined(name=COUNT, reason=str(error))
            return
        flat = grid(maps, pixels=subject.pixels, side=SIDE)
        decided = subject.target.cpu().numpy()
        part = np.full(len(decided), -1)
        stated: dict[str, Scalar] = {
            "baseline": self.baseline, "neighbours": NEIGHBOURS, "pooled_to": SIDE, "most": MOST,
            "largest_eigenvalue": APART,
            "source": "SpRAy, Lapuschkin et al. 2019",
        }  # fmt: skip
        for k in np.unique(decided):
            label = bench.classes[k] if k < len(bench.classes) else str(k)
            where = {"method": self.method, "class": label}
            rows = np.flatnonzero(decided == k)
            if len(rows) < self.minimum:
                reason = f"{len(rows)} inputs decided so: at least {self.minimum} are needed"
                yield Undefined(name=COUNT, reason=reason, slice=where, conditions=stated)
                continue
            found = parted(flat[rows], bench.rng(f"parts of {k}"))
            part[rows] = found.labels
            sizes = np.bincount(found.labels)
            yield Measurement(
                name=COUNT, value=float(len(sizes)), n=len(rows), exact=GUESS, slice=where,
                conditions=stated, unit="clusters",
            )  # fmt: skip
            for one, size in enumerate(sizes):
                yield Measurement(
                    name=SHARE, value=size / len(rows), n=len(rows), exact=GUESS,
                    slice={**where, "cluster": str(one + 1)}, conditions=stated,
                )  # fmt: skip
            if len(sizes) > 1 and subject.pixels and not subject.words:
                yield self._drawn(bench, subject, label, maps[rows], flat[rows], rows, found)
        yield bench.keep_table(
            f"{bench.run}.samples",
            {"id": subject.batch.id, "predicted": decided, "cluster": part + 1},
            caption="Each input, its decision and the cluster of its map among those decided alike, 1 "
            "for the largest; 0 where a class has too few. A hypothesis.",
        )  # fmt: skip

    def _drawn(  # noqa: PLR0917
        self, bench: Bench, subject: Subject, label: str, maps: np.ndarray, flat: np.ndarray,
        rows: np.ndarray, found: Found,
    ) -> Artifact:  # fmt: skip
        """The mean map of each cluster, and who stands in its middle."""
        import numpy as np

        from dlaudit.explain.pictures import maps_png

        titles, means, named = [], [], []
        for one in range(int(found.labels.max()) + 1):
            inside = np.flatnonzero(found.labels == one)
            mean = maps[inside].reshape(len(inside), -1, *maps.shape[-2:]).sum(axis=1).mean(axis=0)
            from_middle = np.linalg.norm(flat[inside] - flat[inside].mean(axis=0), axis=1)
            middle = inside[np.argsort(from_middle, kind="stable")[:EXEMPLARS]]
            titles.append(f"cluster {one + 1}\n{len(inside)} of {len(rows)}")
            means.append(mean)
            named.append(
                f"cluster {one + 1}: {len(inside)} inputs, in its middle "
                f"{', '.join(str(subject.batch.id[rows[at]]) for at in middle)}"
            )
        said = f"Mean maps of {len(means)} clusters among {len(rows)} inputs decided as {label}"
        return bench.keep(
            f"{bench.run}.{label}", maps_png(titles, means), media_type="image/png",
            caption=f"{said}. A hypothesis, not a finding: look at where they differ, and name that "
            f"region to explain.shortcut. {'; '.join(named)}.",
            alt=f"{said}. {'; '.join(named)}.",
        )  # fmt: skip


def parted(flat: np.ndarray, rng: np.random.Generator) -> Found:
    """Maps of one decision as parts, the largest first. flat: (n, P), not negative; n > NEIGHBOURS."""
    import numpy as np

    from dlaudit.explain.via_sklearn import cut

    near = neighbours(flat)
    spectrum = eigenvalues(near)
    gaps = np.diff(spectrum[: MOST + 1])
    count = int(np.where(spectrum[: len(gaps)] <= APART, gaps, -1.0).argmax()) + 1
    labels = np.zeros(len(flat), dtype=int)
    if count > 1:
        labels = cut(near, count, int(rng.integers(2**31)))
    order = np.argsort(-np.bincount(labels, minlength=count), kind="stable")
    return Found(np.argsort(order)[labels], gaps)


def neighbours(flat: np.ndarray) -> np.ndarray:
    """(n, n) of 0 and 1: whether one of two maps is among the nearest of the other, by their shapes."""
    import numpy as np
    from scipy.spatial.distance import cdist

    total = flat.sum(axis=1, keepdims=True)
    shape = np.divide(flat, total, out=np.zeros_like(flat), where=total > 0)
    apart = cdist(shape, shape)
    np.fill_diagonal(apart, np.inf)
    nearest = np.argsort(apart, axis=1, kind="stable")[:, :NEIGHBOURS]
    joined = np.zeros_like(apart)
    np.put_along_axis(joined, nearest, 1.0, axis=1)
    return np.asarray(np.maximum(joined, joined.T))


def eigenvalues(affinity: np.ndarray) -> np.ndarray:
    """(n,) of the normalised Laplacian I - D^-1/2 A D^-1/2, the smallest first; one 0 for each piece."""
    import numpy as np

    degree = affinity.sum(axis=1)
    scaled = affinity / np.sqrt(degree[:, None] * degree[None])
    return np.asarray(np.linalg.eigvalsh(np.eye(len(affinity)) - scaled))
