"""One row of the table: a method and a baseline on this model, with everything that tests its maps.

Knows how maps are asked for and tested; never which number a report shows, or a threshold.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from dlaudit.audit.bench import Bench
from dlaudit.audit.parts import Explainer
from dlaudit.audit.record import Scalar
from dlaudit.errors import NotExplained
from dlaudit.explain import completeness, faithfulness, infidelity, road, sanity
from dlaudit.explain.faithfulness import Curves, Deletion, Gain, controls, gain, scores
from dlaudit.explain.sanity import Trials, Untestable, Verdict, grid
from dlaudit.explain.subject import Baseline, Subject, maps_of

REMOVALS = 10
"""Random removals behind an infidelity."""
RADIUS = 0.02
"""How far inputs are moved for max-sensitivity, in standard deviations of the inputs."""


class Effort(NamedTuple):
    """How much is spent. steps: of a path at first; most_steps: at most.

    twins: randomised models, 0 without a sanity test; nearby: inputs beside each one for
    max-sensitivity; road: whether pixels are also imputed.
    """

    steps: int
    most_steps: int
    twins: int
    nearby: int
    road: bool


class Row(NamedTuple):
    """One row, measured. maps: (n, *input); errors: (n,), None without completeness.

    verdict: None where ``untested`` says why there is none. deletion, insertion, road: paired gains
    over the best control; road None where not asked for. curves, control_curves: means over the inputs
    by control. infidelity, sensitivity: (n,), NaN where they do not exist; sensitivity None if unasked.
    """

    method: str
    baseline: Baseline
    conditions: dict[str, Scalar]
    maps: np.ndarray
    errors: np.ndarray | None
    deletion: Gain
    insertion: Gain
    road: Gain | None
    curves: Curves
    control_curves: dict[str, Curves]
    infidelity: np.ndarray
    sensitivity: np.ndarray | None
    verdict: Verdict | None
    untested: str

    @property
    def title(self) -> str:
        """Method and baseline in a few words."""
        return f"{self.method.replace('_', ' ')}, baseline {self.baseline}"


class Explained(NamedTuple):
    """What a method gave, from one baseline or whatever the baseline. trials: None if ``untested``."""

    explainer: Explainer
    maps: np.ndarray
    errors: np.ndarray | None
    trials: Trials | None
    untested: str
    sensitivity: np.ndarray | None


class Fill(NamedTuple):
    """A baseline as what deleted positions show, with the controls' curves for it."""

    start: Tensor
    deletion: Deletion
    controls: dict[str, Curves]
    roads: dict[str, np.ndarray]


class Table:
    """Makes rows, and keeps what they share: controls of a fill, maps of methods without a baseline."""

    def __init__(self, bench: Bench, subject: Subject, effort: Effort) -> None:
        """bench: for randomness and the counter of passes."""
        self.bench, self.subject, self.effort = bench, subject, effort
        self._fills: dict[str, Fill] = {}
        self._explained: dict[tuple[str, str], Explained] = {}

    def row(self, method: str, explainer: Explainer, baseline: Baseline) -> Row:
        """Raises NotExplained where the method does not apply, with the reason."""
        subject, fill = self.subject, self._fill(baseline)
        found = self._explain(method, explainer, baseline, fill.start)
        relevant = scores(found.maps.astype(np.float64), pixels=subject.pixels)
        curves = fill.deletion.curves(relevant)
        gains = [
            gain(
                getattr(curves, way),
                {name: getattr(one, way) for name, one in fill.controls.items()},
                sign,
            )
            for way, sign in (("deletion", -1), ("insertion", 1))
        ]
        verdict, untested = self._verdict(found, fill.start, f"{method}, {baseline}")
        return Row(
            method=method, baseline=baseline, conditions=_stated(found.explainer, baseline),
            maps=found.maps, errors=found.errors, deletion=gains[0], insertion=gains[1],
            road=self._road(relevant, fill) if fill.roads else None,
            curves=_mean(curves), control_curves={k: _mean(v) for k, v in fill.controls.items()},
            infidelity=self._infidelity(found, fill, f"infidelity, {baseline}"),
            sensitivity=found.sensitivity, verdict=verdict, untested=untested,
        )  # fmt: skip

    def verdict(
        self, method: str, explainer: Explainer, baseline: Baseline
    ) -> tuple[Verdict | None, str]:
        """The sanity criterion alone, or the reason why it cannot be applied."""
        start = self.subject.baseline(baseline)
        found = self._explain(method, explainer, baseline, start)
        return self._verdict(found, start, f"{method}, {baseline}")

    # -- what a row is made of

    def _explain(
        self, method: str, explainer: Explainer, baseline: Baseline, start: Tensor
    ) -> Explained:
        """Maps and what follows from them; once for all baselines where they do not matter."""
        key = (method, baseline if explainer.based else "")
        if key in self._explained:
            return self._explained[key]
        rng = self.bench.rng(", ".join(("maps", *key)))
        with_steps = _with_steps(explainer, self.effort.steps)
        fitted = with_steps.fitted(self.subject.request(start, rng))
        walked, maps, errors = self._mapped(fitted, start, rng)
        trials, untested = self._trials(fitted, start, rng)
        sensitivity = self._sensitivity(fitted, start, maps, rng) if self.effort.nearby else None
        found = Explained(walked, maps, errors, trials, untested, sensitivity)
        self._explained[key] = found
        return found

    def _mapped(
        self, explainer: Explainer, start: Tensor, rng: np.random.Generator
    ) -> tuple[Explainer, np.ndarray, np.ndarray | None]:
        """Maps, and for a complete method their errors and the steps that it took to keep these small."""
        subject = self.subject
        request = subject.request(start, rng)
        maps = maps_of(explainer, request)
        if not explainer.complete:
            return explainer, maps, None
        target = subject.target.cpu().numpy()
        end = subject.logits[np.arange(len(target)), target]
        with torch.no_grad():
            origin = explainer.origin(request).double().cpu().numpy()
        spread = completeness.logit_spread(subject.logits)
        while True:
            sums = maps.reshape(len(maps), -1).sum(axis=1, dtype=np.float64)
            missing = completeness.errors(sums, origin, end, spread=spread)
            small = completeness.percentile(missing) <= completeness.TOLERANCE
            steps = getattr(explainer, "steps", None)
            if small or steps is None or 2 * steps > self.effort.most_steps:
                return explainer, maps, missing
            explainer = _with_steps(explainer, 2 * steps)
            maps = maps_of(explainer, subject.request(start, rng))

    def _trials(
        self, explainer: Explainer, start: Tensor, rng: np.random.Generator
    ) -> tuple[Trials | None, str]:
        """Maps for the randomisation criterion, or the reason why there are none."""
        subject = self.subject
        if not self.effort.twins:
            return None, "not asked for"
        if subject.module is None:
            return None, "the model opens no module whose parameters could be permuted"
        passes: object = self.bench.model.passes

        def explain(of: nn.Module, x: Tensor) -> np.ndarray:
            maps = maps_of(explainer, subject.request(start, rng, x=x, module=of))
            return grid(maps, pixels=subject.pixels)

        try:
            found = sanity.trials(
                explain, subject.module, subject.x, rng, twins=self.effort.twins,
                keep={id(passes): passes},
            )  # fmt: skip
        except Untestable as error:
            return None, str(error)
        return found, ""

    def _verdict(self, found: Explained, start: Tensor, purpose: str) -> tuple[Verdict | None, str]:
        """The sanity criterion, or the reason why it cannot be applied."""
        if found.trials is None:
            return None, found.untested
        apart = (self.subject.x - start).cpu().numpy()
        distance = grid(apart, pixels=self.subject.pixels)
        try:
            return sanity.judged(found.trials, distance, self.bench.rng(f"sanity, {purpose}")), ""
        except Untestable as error:
            return None, str(error)

    def _sensitivity(
        self, explainer: Explainer, start: Tensor, maps: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """(n,): how much maps change under small moves that leave the decision as it is."""
        subject = self.subject
        reach = RADIUS * float(subject.x.std())
        moved, kept = [], []
        for _ in range(self.effort.nearby):
            step = torch.as_tensor(rng.uniform(-reach, reach, tuple(subject.x.shape)))
            x = subject.x + step.to(subject.x)
            kept.append((subject.answer(x).argmax(dim=1) == subject.target).cpu().numpy())
            found = maps_of(explainer, subject.request(start, rng, x=x))
            moved.append(found.reshape(len(found), -1).astype(np.float64))
        flat = maps.reshape(len(maps), -1).astype(np.float64)
        return infidelity.max_sensitivity(flat, np.stack(moved), np.stack(kept))

    def _infidelity(self, found: Explained, fill: Fill, purpose: str) -> np.ndarray:
        """(n,): what the map misses of the logit's losses when random blocks show the baseline."""
        subject, rng = self.subject, self.bench.rng(purpose)
        apart = (subject.x - fill.start).cpu().numpy().astype(np.float64)
        maps = found.maps.astype(np.float64)
        parts = scores(maps * apart if found.explainer.local else maps, pixels=subject.pixels)
        whole = torch.as_tensor(subject.logits[np.arange(len(maps)), subject.target.cpu().numpy()])
        claimed, happened = [], []
        for _ in range(REMOVALS):
            gone = _half(subject, rng)
            logits = fill.deletion.logits(gone).double().cpu()
            left = logits.gather(1, subject.target.cpu()[:, None])[:, 0]
            claimed.append((parts * gone).sum(axis=1))
            happened.append((whole - left).numpy())
        return infidelity.infidelity(np.stack(claimed), np.stack(happened))

    # -- what rows share

    def _fill(self, baseline: Baseline) -> Fill:
        """The experiment for one baseline, with the curves of the controls."""
        if baseline not in self._fills:
            subject, rng = self.subject, self.bench.rng(f"deletion, {baseline}")
            start = subject.baseline(baseline)
            ties = rng.random((len(subject.x), subject.positions))
            deletion = Deletion(
                subject.answer, subject.x, subject.target, start, subject.pixels, ties
            )
            orders = controls(
                subject.x.cpu().numpy(), start.cpu().numpy(), rng, pixels=subject.pixels
            )
            imputing = self.effort.road and subject.pixels and not subject.words
            roads = {k: self._imputed(one, ties) for k, one in orders.items()} if imputing else {}
            curves = {name: deletion.curves(one) for name, one in orders.items()}
            self._fills[baseline] = Fill(start, deletion, curves, roads)
        return self._fills[baseline]

    def _imputed(self, relevant: np.ndarray, ties: np.ndarray) -> np.ndarray:
        """(n, 2): mean over the percentages of ROAD's LeRF minus MoRF, twice, as a curve of one piece."""
        subject, rng = self.subject, self.bench.rng("road")
        x = subject.x.cpu().numpy()
        pictures = x.reshape(len(x), -1, *x.shape[-2:])
        shape, kept = x.shape[-2:], np.zeros((2, len(x)))
        for masks in road.removals(relevant, ties):
            for way, gone in enumerate(masks):
                seen = [
                    road.imputed(one, hidden.reshape(shape), rng)
                    for one, hidden in zip(pictures, gone, strict=True)
                ]
                filled = torch.as_tensor(np.stack(seen).reshape(x.shape)).to(subject.x)
                same = subject.answer(filled).argmax(dim=1) == subject.target
                kept[way] += same.cpu().numpy() / len(road.PERCENT)
        return np.repeat((kept[1] - kept[0])[:, None], 2, axis=1)

    def _road(self, relevant: np.ndarray, fill: Fill) -> Gain:
        return gain(self._imputed(relevant, fill.deletion.ties), fill.roads, 1)


def agreement(first: Row, second: Row, *, pixels: bool) -> np.ndarray:
    """(n,): rank correlation of two rows' absolute maps, pooled as for the sanity test."""
    pair = [grid(row.maps, pixels=pixels) for row in (first, second)]
    flat = np.ones_like(pair[0])
    return sanity.partial_spearman(pair[0], pair[1], [flat])


def refused(error: NotExplained) -> str:
    """Why a method has no row."""
    return f"does not apply: {error}"


def _half(subject: Subject, rng: np.random.Generator) -> np.ndarray:
    """(n, P) bool: each of a picture's 8 x 8 blocks, or each number, is gone with chance 1/2."""
    n = len(subject.x)
    if not subject.pixels:
        return rng.random((n, subject.positions)) < 0.5
    height, width = subject.x.shape[-2:]
    cells = (min(faithfulness.BLOCKS, height), min(faithfulness.BLOCKS, width))
    down, across = np.indices((height, width))
    gone = rng.random((n, *cells)) < 0.5
    return gone[:, down * cells[0] // height, across * cells[1] // width].reshape(n, -1)


def _mean(curves: Curves) -> Curves:
    return Curves(curves.deletion.mean(axis=0), curves.insertion.mean(axis=0))


def _with_steps(explainer: Explainer, steps: int) -> Explainer:
    """The explainer with so many steps, if it walks a path."""
    if not hasattr(explainer, "steps"):
        return explainer
    return msgspec.structs.replace(explainer, steps=steps)


def _stated(explainer: Explainer, baseline: Baseline) -> dict[str, Scalar]:
    """How the maps of one row were made."""
    own: dict[str, Any] = {
        name: getattr(explainer, name)
        for name in explainer.__struct_fields__
        if isinstance(getattr(explainer, name), Scalar)
    }
    return {"baseline": baseline, "target": "the original decision's logit", **own}
