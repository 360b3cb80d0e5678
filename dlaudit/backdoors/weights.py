"""What a network says of itself without any training row: leads, channels and rows that stand out.

Knows the model and the shape of an input. Refuses to accuse: honest networks have such outliers too, and
networks with triggers often have none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Artifact, Cost, Measurement, Scalar, Undefined
from dlaudit.backdoors.inversion import NO_BLEND, Count

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from dlaudit.audit.bench import Bench
    from dlaudit.backdoors.channels import Layer

READ_OFF = "read off the weights: nothing is sampled"
CLIMBED = "found by a seeded search: a lower bound on the largest lead, without sampling error"
LAW = "a probability under a law fitted to the other classes; it accuses nobody"
MARGIN = (
    "largest lead of each class over the box of inputs (MM-BD, Wang et al. 2024); a warning at most"
)


class Weights(Check, frozen=True, kw_only=True):
    """Outliers of the model itself, as information: largest leads by class, channels, rows of the last layer.

    ``margin``: the largest lead of a class's logit over all others that any input in the box reaches.
    ``margin_p``: the chance of the largest of them among honest classes, under a Gamma law fitted to the
    others. ``channel_outliers``: normalised channels whose gain lies three standard deviations above
    their layer's mean. ``row_anomaly``: how far the norm of a class's row in the last layer lies above
    the others', log scale, in MADs.

    starts, steps: of the ascent, for each class.
    """

    needs: ClassVar[Needs] = Needs(model=("logits", "gradients"), data=("labels",))
    measures: ClassVar[tuple[str, ...]] = ("margin", "margin_p", "channel_outliers", "row_anomaly")

    starts: Count = 10
    steps: Count = 300

    def passes(self, *, n: int, classes: int) -> Cost:
        """Every step of every start."""
        del n
        spent = classes * self.starts * self.steps
        return Cost(forward=spent, backward=spent)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Climb, then read the weights; every number is information."""
        from dlaudit.backdoors.inversion import samples_of

        x = samples_of(bench, 1)
        yield from self._margins(bench, x)
        module = bench.model.module
        if module is None or x is None:
            reason = (
                NO_BLEND if x is None else "the model is no torch module: it has no layers to read"
            )
            for name in ("channel_outliers", "row_anomaly"):
                yield Undefined(name=name, reason=reason)
            return
        yield from _channels(bench, module, x)
        yield from _rows(bench, module, x)

    def _margins(self, bench: Bench, x: np.ndarray | None) -> Iterator[Yielded]:
        """The lead of each class and how unlikely the largest is."""
        import numpy as np
        import torch

        from dlaudit.backdoors.margin import MINIMUM_CLASSES, largest_leads, standing

        bounds = bench.model.bounds
        if x is None or bounds is None or not all(np.isfinite(end).all() for end in bounds):
            reason = (
                NO_BLEND
                if x is None
                else "the model's inputs have no bounds: leads grow without end"
            )
            for name in ("margin", "margin_p"):
                yield Undefined(name=name, reason=reason)
            return
        like = torch.as_tensor(x[0]).to(bench.model.device)
        low, high = (torch.as_tensor(np.asarray(end)).to(like) for end in bounds)
        classes = len(bench.model.logits(x)[0])
        leads = largest_leads(
            bench.model, like, low, high, classes=classes, steps=self.steps,
            generators=[bench.rng(f"start {k}") for k in range(self.starts)],
        )  # fmt: skip
        conditions: dict[str, Scalar] = {
            "method": MARGIN, "starts": self.starts, "steps": self.steps, "classes": classes,
        }  # fmt: skip
        names = names_of(bench, classes)
        for name, lead in zip(names, leads.max(axis=1).tolist(), strict=True):
            yield Measurement(
                name="margin", value=lead, n=self.starts, exact=CLIMBED, unit="logits",
                slice={"class": name}, conditions=conditions,
            )  # fmt: skip
        found = standing(leads.max(axis=1).tolist())
        if found is None:
            reason = (
                f"needs at least {MINIMUM_CLASSES} classes whose largest leads differ: no law can be "
                "fitted to fewer"
            )
            yield Undefined(name="margin_p", reason=reason, conditions=conditions)
        else:
            yield Measurement(
                name="margin_p", value=found.p, n=classes, exact=LAW,
                conditions=conditions | {"class": names[found.place]},
            )  # fmt: skip
        yield bench.keep_table(
            f"{bench.run}.margins", {"id": np.array(names), "lead": leads},
            caption="The largest lead that each start reached, one row per class.",
        )  # fmt: skip


def names_of(bench: Bench, classes: int) -> list[str]:
    """One name per logit; its number where the plan gives none."""
    return [bench.classes[k] if k < len(bench.classes) else str(k) for k in range(classes)]


def _channels(bench: Bench, module: nn.Module, x: np.ndarray) -> Iterator[Yielded]:
    """How many normalised channels stand out, and which."""
    import torch

    from dlaudit.backdoors.channels import DEVIATIONS, normalised, standing_out

    layers = normalised(module, torch.as_tensor(x).to(bench.model.device))
    if not layers:
        reason = (
            "no layer's output goes straight into a batch normalisation with running statistics"
        )
        yield Undefined(name="channel_outliers", reason=reason)
        return
    yield Measurement(
        name="channel_outliers", value=float(sum(standing_out(one.strength).sum() for one in layers)),
        n=sum(len(one.strength) for one in layers), exact=READ_OFF, unit="channels",
        conditions={
            "statistic": "sigma_1(W) |gamma| / sqrt(v) (CLP, Zheng et al. 2022)",
            "deviations": DEVIATIONS, "layers": len(layers),
        },
    )  # fmt: skip
    yield _table(bench, layers)


def _table(bench: Bench, layers: list[Layer]) -> Artifact:
    """One row per normalised channel."""
    import numpy as np

    from dlaudit.backdoors.channels import standing_out

    return bench.keep_table(
        f"{bench.run}.channels",
        {
            "id": np.concatenate([[f"{one.name}.{c}" for c in range(len(one.strength))] for one in layers]),
            "strength": np.concatenate([one.strength for one in layers]),
            "stands_out": np.concatenate([standing_out(one.strength) for one in layers]),
        },
        caption="How much each normalised channel can grow what it is given, an upper bound.",
    )  # fmt: skip


def _rows(bench: Bench, module: nn.Module, x: np.ndarray) -> Iterator[Yielded]:
    """How far the row of each class in the last layer is from the others'."""
    import torch

    from dlaudit.audit.embedding import last_layer
    from dlaudit.backdoors.anomaly import log_anomaly
    from dlaudit.backdoors.channels import row_norms

    rows = torch.as_tensor(x).to(bench.model.device)
    layer = last_layer(module, rows)
    classes = len(bench.model.logits(rows)[0])
    if not isinstance(layer, torch.nn.Linear) or layer.weight.shape[0] != classes:
        reason = "the last layer with weights is no linear one with a row for each class"
        yield Undefined(name="row_anomaly", reason=reason)
        return
    norms = row_norms(layer.weight)
    # log_anomaly speaks of what is too small; of inverse norms these are the large rows.
    anomalies = log_anomaly((1 / norms).tolist()) if (norms > 0).all() else [None] * classes
    for name, anomaly in zip(names_of(bench, classes), anomalies, strict=True):
        if anomaly is None:
            reason = "needs at least 8 classes with rows that are not zero and differ"
            yield Undefined(name="row_anomaly", reason=reason, slice={"class": name})
            continue
        yield Measurement(
            name="row_anomaly", value=anomaly, n=classes, exact=READ_OFF, unit="MADs",
            slice={"class": name},
            conditions={"statistic": "log norm of the class's row, above the median"},
        )  # fmt: skip
