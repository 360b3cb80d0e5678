"""Attribution maps, tested before they are shown: completeness, sanity, faithfulness on this model.

Knows rows of a table, a method with a baseline each; refuses to show a map without its verdicts.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from msgspec import Meta

from dlaudit.audit.parts import Batch, Check, Needs, Yielded
from dlaudit.audit.record import Artifact, Cost, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import mean_interval

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from dlaudit.audit.bench import Bench
    from dlaudit.explain.faithfulness import Gain
    from dlaudit.explain.sanity import Verdict

Baseline = Literal["zero", "low", "mean"]
MethodName = Literal["integrated_gradients", "saliency", "input_x_gradient"]
Count = Annotated[int, Meta(ge=1)]

COMPLETENESS, SANITY, GAIN = "completeness_error", "sanity", "faithfulness_gain"
CRITERION = "a published criterion with stated thresholds: passed (1) or failed (0)"
ROWS = 256
"""Rows per pass through the module: Integrated Gradients asks for inputs x steps of them."""
TOKENS = (
    "the inputs are whole numbers (token ids): they have no gradient, only their embeddings do, and "
    "maps of embeddings are not measured in this version"
)


class Subject(NamedTuple):
    """What is explained: the decisions on some inputs. x: (n, *input) on the model's device.

    target: (n,) the original decisions; pixels: whether the last two axes are a picture's.
    """

    batch: Batch
    x: Tensor
    target: Tensor
    logits: np.ndarray
    pixels: bool


class Explained(NamedTuple):
    """One row of the table, measured. maps: (n, *input); errors: (n,) or None without completeness.

    verdict: None where ``untested`` says why there is none.
    """

    method: str
    baseline: Baseline
    steps: int | None
    maps: np.ndarray
    errors: np.ndarray | None
    gain: Gain
    verdict: Verdict | None
    untested: str

    @property
    def title(self) -> str:
        """Method and baseline in a few words."""
        return f"{self.method.replace('_', ' ')}, baseline {self.baseline}"


class Attribution(Check, frozen=True, kw_only=True):
    """Attribution maps of the original decisions, each with its own verdicts on this model.

    ``completeness_error``: 95th percentile over the inputs of what the attributions of a path method
    miss of f(x) - f(baseline), as a share of it; steps are doubled from ``steps`` to ``most_steps``
    until it is at most 5 %. ``sanity``: 1 if the maps change when the model's parameters are permuted
    and the input's share in them is partialled out, 0 if not. ``faithfulness_gain``: how much faster
    the decision falls when the map's positions are deleted first, than by the best order that knows
    the input only (area under the curve, paired).

    methods, baselines: each pair is a row; ``zero`` is moved into the model's bounds, ``low`` is
    their lower end, ``mean`` that of the explained inputs. samples: inputs explained. randomised:
    models with permuted parameters. pictures: inputs drawn, if the plan keeps so many samples.
    """

    needs: ClassVar[Needs] = Needs(model=("logits", "gradients", "module"))
    measures: ClassVar[tuple[str, ...]] = (COMPLETENESS, SANITY, GAIN)

    methods: tuple[MethodName, ...] = ("integrated_gradients",)
    baselines: tuple[Baseline, ...] = ("zero", "mean")
    samples: Count = 64
    steps: Count = 50
    most_steps: Count = 400
    randomised: Annotated[int, Meta(ge=2)] = 5
    pictures: Annotated[int, Meta(ge=0)] = 6

    def __post_init__(self) -> None:
        """Refuse an empty table, and a limit below the first number of steps."""
        for name, given in (("methods", self.methods), ("baselines", self.baselines)):
            if not given:
                message = f"{name}: expected at least one, got none"
                raise ValueError(message)
        if self.most_steps < self.steps:
            message = f"most_steps: expected at least steps = {self.steps}, got {self.most_steps}"
            raise ValueError(message)

    def passes(self, *, n: int, classes: int) -> Cost:
        """Maps to show, maps for the sanity test (model, noise, twins), and five deletion orders."""
        del classes
        explained = min(n, self.samples)
        maps = sum(self.steps if name == "integrated_gradients" else 1 for name in self.methods)
        spent = explained * len(self.baselines) * maps * (3 + self.randomised)
        deleted = explained * len(self.baselines) * len(self.methods) * 5 * 21
        return Cost(forward=spent + deleted, backward=spent)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Explain, test the explanations, and draw them with their verdicts."""
        from dlaudit.audit.bench import joined

        batch = reduce(joined, (block.batch for block in bench.blocks(samples=self.samples)))
        if "tokens" in bench.data.offers or batch.x.dtype.kind != "f":
            yield from (Undefined(name=name, reason=TOKENS) for name in self.measures)
            return
        subject = _subject(bench, batch)
        rows = [
            self._explained(bench, subject, method, baseline)
            for method in self.methods
            for baseline in self.baselines
        ]
        for row in rows:
            yield from self._measured(row)
        yield _evidence(bench, subject, rows)
        yield from self._drawn(bench, subject, rows)

    def _explained(
        self, bench: Bench, subject: Subject, method: MethodName, baseline: Baseline
    ) -> Explained:
        """Maps of one row of the table, and their verdicts."""
        import numpy as np

        from dlaudit.explain.faithfulness import Deletion, controls, scores
        from dlaudit.explain.via_captum import METHODS

        start = _baseline(baseline, subject.x, bench.model.bounds)
        maps, errors, steps = self._mapped(bench, subject, method, start)
        purpose = f"{method}, {baseline}"
        rng = bench.rng(f"deletion, {purpose}")
        x, fill = subject.x.cpu().numpy(), start.cpu().numpy()
        ties = rng.random((len(x), scores(x[:1], pixels=subject.pixels).shape[1]))
        deletion = Deletion(bench.model, subject.x, subject.target, start, subject.pixels, ties)
        gain = deletion.gain(
            scores(maps.astype(np.float64), pixels=subject.pixels),
            controls(x, fill, rng, pixels=subject.pixels),
        )
        verdict, untested = self._verdict(bench, subject, method, start, purpose)
        walked = steps if METHODS[method].complete else None
        return Explained(method, baseline, walked, maps, errors, gain, verdict, untested)

    def _mapped(
        self, bench: Bench, subject: Subject, method: MethodName, baseline: Tensor
    ) -> tuple[np.ndarray, np.ndarray | None, int]:
        """Maps, and for a path method their errors and the steps that it took to keep these small."""
        import numpy as np

        from dlaudit.explain.completeness import TOLERANCE, errors, logit_spread, percentile
        from dlaudit.explain.via_captum import METHODS

        steps = self.steps
        maps = _maps(bench, subject, method, baseline, steps)
        if not METHODS[method].complete:
            return maps, None, steps
        target = subject.target.cpu().numpy()
        end = subject.logits[np.arange(len(target)), target]
        origin = bench.model.logits(baseline[None])[0].double().cpu().numpy()[target]
        spread = logit_spread(subject.logits)
        while True:
            sums = maps.reshape(len(maps), -1).sum(axis=1, dtype=np.float64)
            missing = errors(sums, origin, end, spread=spread)
            if percentile(missing) <= TOLERANCE or 2 * steps > self.most_steps:
                return maps, missing, steps
            steps *= 2
            maps = _maps(bench, subject, method, baseline, steps)

    def _verdict(
        self, bench: Bench, subject: Subject, method: MethodName, baseline: Tensor, purpose: str
    ) -> tuple[Verdict | None, str]:
        """The sanity criterion on this row, or the reason why it cannot be applied."""
        from dlaudit.explain.sanity import Untestable, grid, randomisation_test

        module = _module(bench)

        def explain(of: nn.Module, x: Tensor) -> np.ndarray:
            moved = subject._replace(x=x)
            maps = _maps(bench, moved, method, baseline, self.steps, module=of)
            return grid(maps, pixels=subject.pixels)

        distance = grid((subject.x - baseline).cpu().numpy(), pixels=subject.pixels)
        passes: object = bench.model.passes
        try:
            found = randomisation_test(
                explain, module, subject.x, distance, bench.rng(f"sanity, {purpose}"),
                twins=self.randomised, keep={id(passes): passes},
            )  # fmt: skip
        except Untestable as error:
            return None, str(error)
        return found, ""

    def _conditions(self, row: Explained) -> dict[str, Scalar]:
        """How the maps of one row were made."""
        stated: dict[str, Scalar] = {
            "baseline": row.baseline,
            "target": "the original decision's logit",
        }
        return stated if row.steps is None else {**stated, "steps": row.steps}

    def _measured(self, row: Explained) -> Iterator[Yielded]:
        """The three numbers of one row."""
        where, conditions = {"method": row.method}, self._conditions(row)
        if row.errors is not None:
            yield _completeness(row.errors, where, conditions)
        yield self._sanity(row, where, conditions)
        yield _gain(row, where, conditions)

    def _sanity(
        self, row: Explained, where: dict[str, str], conditions: dict[str, Scalar]
    ) -> Yielded:
        """1 or 0, or why neither."""
        from dlaudit.explain import sanity

        stated: dict[str, Scalar] = {
            **conditions,
            "criterion": "partial-rank randomisation of all parameters",
            "randomised_models": self.randomised,
            "least_unexplained": sanity.LEAST_OWN,
            "least_self_correlation": sanity.SAME,
            "passes_below": sanity.OTHER_LOW,
            "fails_from": sanity.OTHER_HIGH,
            "noise_sd": sanity.NOISE,
        }
        found, n = row.verdict, len(row.maps)
        if found is None:
            return Undefined(name=SANITY, reason=row.untested, slice=where, conditions=stated)
        numbers = (
            f"rank correlation with randomised models {found.other:.2f} "
            f"[{found.other_low:.2f}, {found.other_high:.2f}], with itself under noise "
            f"{found.same:.2f}, share not explained by the input {found.own:.2f}"
        )
        if found.status == "inconclusive":
            reason = f"inconclusive: {found.reason} ({numbers})"
            return Undefined(name=SANITY, reason=reason, slice=where, conditions=stated)
        return Measurement(
            name=SANITY, value=float(found.status == "pass"), n=n,
            exact=f"{CRITERION}; {found.reason}: {numbers}", direction="higher", slice=where,
            conditions=stated,
        )  # fmt: skip

    def _drawn(self, bench: Bench, subject: Subject, rows: list[Explained]) -> Iterator[Artifact]:
        """Mean maps of all explained inputs, and single inputs where the plan keeps samples."""
        from dlaudit.explain.drawing import mean_maps, single_maps

        yield from mean_maps(bench, subject, rows)
        if subject.pixels:
            yield from single_maps(bench, subject, rows, min(self.pictures, bench.keep_samples))


def _module(bench: Bench) -> nn.Module:
    """The counted module; the check's needs say that there is one."""
    module = bench.model.module
    if module is None:
        from dlaudit.errors import NotOffered

        message = f"{bench.model.card.name} opens no module to explain"
        raise NotOffered(message)
    return module


def _subject(bench: Bench, batch: Batch) -> Subject:
    """The inputs on the model's device, and the decisions that are to be explained."""
    import torch

    x = torch.as_tensor(batch.x).to(bench.model.device)
    logits = bench.model.logits(x)
    pixels = "images" in bench.data.offers and x.ndim >= 3
    return Subject(batch, x, logits.argmax(dim=1), logits.double().cpu().numpy(), pixels)


def _baseline(name: Baseline, x: Tensor, bounds: tuple[Any, Any] | None) -> Tensor:
    """One input from which a path starts, and by which deleted positions are replaced."""
    import torch

    if name == "mean":
        return x.mean(dim=0)
    zero = torch.zeros_like(x[0])
    if bounds is None:
        return zero
    low, high = (torch.as_tensor(end).to(zero) for end in bounds)
    return zero + low if name == "low" else torch.minimum(torch.maximum(zero, low), high)


def _maps(
    bench: Bench,
    subject: Subject,
    method: MethodName,
    baseline: Tensor,
    steps: int,
    *,
    module: nn.Module | None = None,
) -> np.ndarray:
    """(n, *input) attributions of the original decisions, by the model or another module."""
    import numpy as np

    from dlaudit.explain.via_captum import Request, attributions

    request = Request(
        _module(bench) if module is None else module,
        subject.x,
        subject.target,
        baseline,
        steps,
        ROWS,
    )
    return np.asarray(attributions(method, request).float().cpu().numpy())


def _completeness(
    errors: np.ndarray, where: dict[str, str], conditions: dict[str, Scalar]
) -> Yielded:
    """The 95th percentile of the errors; undefined where so few samples bound no percentile."""
    from dlaudit.explain.completeness import FLOOR, QUANTILE, percentile, percentile_interval

    stated = {**conditions, "percentile": QUANTILE, "floor_in_logit_sd": FLOOR}
    interval = percentile_interval(errors)
    if interval is None:
        reason = (
            f"{len(errors)} inputs: an interval of the 95th percentile needs at least 59; the "
            f"largest error is {errors.max():.3g}"
        )
        return Undefined(name=COMPLETENESS, reason=reason, slice=where, conditions=stated)
    return Measurement(
        name=COMPLETENESS, value=percentile(errors), n=len(errors), interval=interval,
        direction="lower", slice=where, conditions=stated,
    )  # fmt: skip


def _gain(row: Explained, where: dict[str, str], conditions: dict[str, Scalar]) -> Yielded:
    """The paired gain over the best control that knows the input only."""
    from dlaudit.explain.faithfulness import PIECES

    stated: dict[str, Scalar] = {
        **conditions,
        "curve": "deletion, softmax of the original decision",
        "fill": row.baseline,
        "pieces": PIECES,
        "control": row.gain.control,
    }
    paired = row.gain.paired
    interval = mean_interval(paired)
    if interval is None:
        reason = f"{len(paired)} inputs with the same gain: no spread to build an interval on"
        return Undefined(name=GAIN, reason=reason, slice=where, conditions=stated)
    return Measurement(
        name=GAIN, value=float(paired.mean()), n=len(paired), interval=interval,
        direction="higher", slice=where, conditions=stated,
    )  # fmt: skip


def _evidence(bench: Bench, subject: Subject, rows: list[Explained]) -> Artifact:
    """One row per explained input: decision, and per method and baseline its map and its scores."""
    columns: dict[str, Any] = {
        "id": subject.batch.id,
        "label": subject.batch.y,
        "predicted": subject.target.cpu().numpy(),
    }
    for row in rows:
        name = f"{row.method}_{row.baseline}"
        columns[f"{name}_map"] = row.maps.reshape(len(row.maps), -1)
        columns[f"{name}_deletion"] = row.gain.area
        columns[f"{name}_control_deletion"] = row.gain.control_area
        if row.errors is not None:
            columns[f"{name}_completeness_error"] = row.errors
    return bench.keep_table(
        f"{bench.run}.samples", columns,
        caption="Each explained input: its decision and, per method and baseline, the attributions "
        "(flattened), their completeness error and the deletion curves' areas.",
    )  # fmt: skip
