"""What a training history shows: a turning point, early stopping missed, the wrong checkpoint shipped.

Knows the criteria of the literature and states them; refuses to run without a history, and refuses to
say that a history that is too short shows nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Artifact, Cost, Measurement, Scalar, Undefined
from dlaudit.errors import LoadError, nearest

if TYPE_CHECKING:
    from dlaudit.audit.bench import Bench
    from dlaudit.overfitting.log_reading import Log, Series

EXACT = "read from the record of one training, not sampled"
NO_LOSS = "the history holds no validation loss that is a number"
NO_TRAIN_LOSS = "the history holds no training loss: nothing says whether it still fell"
KNOWN = ("time", "train_loss", "val_loss", "train_accuracy", "val_accuracy")


class History(Check, frozen=True, kw_only=True):
    """What a training history says of over-training: turning point, early stopping, divergence.

    ``validation_loss_trend`` is Kendall's tau of the last third of the validation losses, ten at least;
    ``validation_loss_turned``: 1 where they rise (tau > 0, p < 0.05)
    while the training loss falls; ``loss_above_best``: how far the shipped loss lies above the best, as
    a share of it, and ``early_stopping_missed``: 1 where that is beyond 0.10; ``shipped_not_best``: 1
    where another epoch had the best loss; ``overtraining_signs``: how many of these three are seen.
    Also ``best_epoch``, ``accuracy_below_best``, ``nonfinite_epochs`` and ``diverged_epochs`` (training
    loss above where it began).

    path: a CSV or JSON file, relative to the plan; absent: skipped. columns: role -> name, where a name
    does not say it. shipped_epoch: what was shipped, in the file's own counting; else the last.
    """

    needs: ClassVar[Needs] = Needs()
    measures: ClassVar[tuple[str, ...]] = (
        "overtraining_signs", "validation_loss_trend", "validation_loss_turned", "early_stopping_missed",
        "shipped_not_best", "loss_above_best", "best_epoch", "accuracy_below_best", "nonfinite_epochs",
        "diverged_epochs",
    )  # fmt: skip

    path: str | None = None
    columns: dict[str, str] = {}
    shipped_epoch: float | None = None

    def missing(
        self, *, model: frozenset[str], data: frozenset[str], train_fn: bool
    ) -> tuple[str, ...]:
        """A history, which only a plan can name."""
        lacks = self.needs.missing(model=model, data=data, train_fn=train_fn)
        return (*lacks, "plan: path of a training history") if self.path is None else lacks

    def passes(self, *, n: int, classes: int) -> Cost:
        """The model is never asked."""
        del n, classes
        return Cost(forward=0, backward=0)

    def objections(self, facts: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[str, ...]:
        """Columns of a role that there is not."""
        del facts, context
        return tuple(
            f"columns.{role}: nothing is called so. {nearest(role, KNOWN)}"
            for role in self.columns
            if role not in KNOWN
        )

    def open_files(self, find: Callable[[str], Path]) -> None:
        """The history must be readable, and hold the epoch that was shipped."""
        if self.path is not None:
            self._read(find(self.path))

    def _read(self, path: Path) -> Log:
        from dlaudit.overfitting.log_reading import read_log

        log = read_log(path, {role: name for role, name in self.columns.items() if role in KNOWN})
        losses = log.series.get("val_loss")
        if self.shipped_epoch is not None and losses and self.shipped_epoch not in losses.at:
            message = (
                f"{path.name}: shipped_epoch: expected one with a validation loss, from "
                f"{losses.at[0]:g} to {losses.at[-1]:g}, got {self.shipped_epoch:g}."
            )
            raise LoadError(message)
        return log

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Read the file and say what is in it."""
        path = bench.file(self.path or "")
        log = self._read(path)
        read: dict[str, Scalar] = {"time": log.time}
        if self.shipped_epoch is not None:
            read["shipped_epoch"] = self.shipped_epoch
        trend, turned = self._turned(log, read)
        signs = [turned, *self._stopping(log, read)]
        yield from self._counted(signs, read)
        yield trend
        yield from signs
        yield from self._accuracy(log, read)
        yield from self._faults(log, read)
        yield from _picture(bench, log)
        content = path.read_bytes()
        yield bench.keep(
            f"{bench.run}.log", content, media_type="text/plain",
            caption=f"The training history {path.name}, as it was read.",
        )  # fmt: skip

    def _turned(
        self, log: Log, read: dict[str, Scalar]
    ) -> tuple[Measurement | Undefined, Measurement | Undefined]:
        """The trend of the last validation losses, and whether they rise while the training loss falls."""
        from dlaudit.overfitting import turning

        names = "validation_loss_trend", "validation_loss_turned"
        stated: dict[str, Scalar] = {
            **read, "p": turning.P, "source": "Kendall 1938, tau > 0 with two-sided p < 0.05",
        }  # fmt: skip

        def neither(reason: str) -> tuple[Undefined, Undefined]:
            first, second = (
                Undefined(name=name, reason=reason, conditions=where)
                for name, where in zip(names, (read, stated), strict=True)
            )
            return first, second

        if (val := _finite(log, "val_loss")) is None:
            return neither(NO_LOSS)
        if (train := _finite(log, "train_loss")) is None:
            return neither(NO_TRAIN_LOSS)
        last = turning.window(len(val.at))
        read, stated = {**read, "window": last}, {**stated, "window": last}
        since = val.at[-last:][0]
        of_train = [v for at, v in zip(train.at, train.values, strict=True) if at >= since]
        for what, found in (("validation", val.values[-last:]), ("training", of_train)):
            if len(found) < turning.LEAST:
                return neither(
                    f"{len(found)} {what} losses that are numbers, fewer than {turning.LEAST}"
                )
        up, down = turning.trend(val.values[-last:]), turning.trend(of_train)
        turned = bool(up and up.rises and down and down.falls)
        return (
            _exact(names[0], up.tau if up else 0.0, last, read, direction="lower"),
            _exact(names[1], float(turned), last, stated, direction="lower"),
        )

    def _stopping(
        self, log: Log, read: dict[str, Scalar]
    ) -> tuple[Measurement | Undefined, Measurement | Undefined, Measurement | Undefined]:
        """Whether the shipped epoch is the best one, and how far it lies above it."""
        from dlaudit.overfitting import turning

        names = ("early_stopping_missed", "shipped_not_best", "loss_above_best")
        val = _finite(log, "val_loss")
        if val is None:
            first, second, third = (
                Undefined(name=name, reason=NO_LOSS, conditions=read) for name in names
            )
            return first, second, third
        _, lowest = turning.best(val)
        shipped = self.shipped_epoch
        at = log.series["val_loss"].at[-1] if shipped is None else shipped
        n = len(val.at)
        not_best: Measurement | Undefined
        above: Measurement | Undefined
        missed: Measurement | Undefined
        if shipped is None:
            reason = "no shipped_epoch is declared: the last epoch is taken for shipped elsewhere"
            not_best = Undefined(name=names[1], reason=reason, conditions=read)
        else:
            other = at not in val.at or val.values[val.at.index(at)] > lowest
            not_best = _exact(names[1], float(other), n, read, direction="lower")
        limit: dict[str, Scalar] = {
            **read, "limit": turning.MISSED, "source": "(L_shipped - L_best) / L_best > 0.10, a proposal",
        }  # fmt: skip
        if at not in val.at or lowest <= 0:
            reason = (
                f"the validation loss at {log.time} {at:g} is not finite"
                if at not in val.at
                else f"the best validation loss is {lowest:g}: no share of it can be taken"
            )
            missed = Undefined(name=names[0], reason=reason, conditions=limit)
            above = Undefined(name=names[2], reason=reason, conditions=read)
        else:
            share = (val.values[val.at.index(at)] - lowest) / lowest
            missed = _exact(names[0], float(share > turning.MISSED), n, limit, direction="lower")
            above = _exact(names[2], share, n, read, direction="lower")
        return missed, not_best, above

    def _counted(
        self, signs: list[Measurement | Undefined], read: dict[str, Scalar]
    ) -> Iterator[Yielded]:
        """How many of the three signs are seen; an undeclared checkpoint is no sign."""
        told = [one for one in signs if one.name != "loss_above_best"]
        unknown = [
            one
            for one in told
            if isinstance(one, Undefined)
            and not (one.name == "shipped_not_best" and self.shipped_epoch is None)
        ]
        if unknown:
            reason = f"{unknown[0].name} is undefined: {unknown[0].reason}"
            yield Undefined(name="overtraining_signs", reason=reason, conditions=read)
            return
        seen = [one for one in told if isinstance(one, Measurement)]
        total = sum(one.value for one in seen)
        yield _exact("overtraining_signs", total, seen[0].n, {**read, "asked": len(seen)},
                     direction="lower")  # fmt: skip

    def _accuracy(self, log: Log, read: dict[str, Scalar]) -> Iterator[Yielded]:
        """Where the best loss stands, and how far the shipped accuracy lies below its best."""
        from dlaudit.overfitting import turning

        val = _finite(log, "val_loss")
        if val is None:
            yield Undefined(name="best_epoch", reason=NO_LOSS, conditions=read)
        else:
            yield _exact("best_epoch", turning.best(val)[0], len(val.at), read, unit=log.time)
        name, found = "accuracy_below_best", _finite(log, "val_accuracy")
        if found is None:
            reason = "the history holds no validation accuracy"
            yield Undefined(name=name, reason=reason, conditions=read)
            return
        at = found.at[-1] if self.shipped_epoch is None else self.shipped_epoch
        if at not in found.at:
            reason = f"no validation accuracy at {log.time} {at:g}"
            yield Undefined(name=name, reason=reason, conditions=read)
            return
        drop = max(found.values) - found.values[found.at.index(at)]
        yield _exact(name, drop, len(found.at), read, direction="lower")

    def _faults(self, log: Log, read: dict[str, Scalar]) -> Iterator[Yielded]:
        """Epochs that are no numbers, and epochs that are worse than the beginning."""
        from dlaudit.overfitting import turning

        broken = {at for one in log.series.values() for at in turning.not_finite(one)}
        epochs = {at for one in log.series.values() for at in one.at}
        yield _exact("nonfinite_epochs", len(broken), len(epochs), read, direction="lower")
        name, train = "diverged_epochs", log.series.get("train_loss")
        if train is None or _finite(log, "train_loss") is None:
            yield Undefined(name=name, reason=NO_TRAIN_LOSS, conditions=read)
        else:
            yield _exact(name, len(turning.diverged(train)), len(train.at), read, direction="lower")


def _finite(log: Log, role: str) -> Series | None:
    """A series of finite values, None where there is none."""
    from dlaudit.overfitting import turning

    found = log.series.get(role)
    whole = turning.finite(found) if found else None
    return whole if whole and whole.at else None


def _exact(
    name: str, value: float, n: int, conditions: Mapping[str, Scalar], *,
    direction: Literal["higher", "lower"] | None = None, unit: str | None = None,
) -> Measurement:  # fmt: skip
    return Measurement(
        name=name, value=value, n=n, exact=EXACT, conditions=dict(conditions), direction=direction,
        unit=unit,
    )  # fmt: skip


def _picture(bench: Bench, log: Log) -> Iterator[Artifact]:
    """The losses over time, with the best epoch marked and, where it was declared, the shipped one."""
    from dlaudit.audit.curves import Curve, Upright, curves_svg, thinned
    from dlaudit.overfitting import turning

    curves = [
        Curve(name, thinned(list(zip(one.at, one.values, strict=True))))
        for role, name in (("train_loss", "training loss"), ("val_loss", "validation loss"))
        if (one := _finite(log, role)) is not None
    ]
    if not curves:
        return
    val, uprights, said = _finite(log, "val_loss"), [], ""
    if val is not None:
        where, lowest = turning.best(val)
        uprights.append(Upright(where, f"best, {log.time} {where:g}"))
        said = (
            f"The validation loss is lowest at {log.time} {where:g} ({lowest:.4g}) and ends at "
            f"{val.values[-1]:.4g}."
        )
    yield bench.keep(
        f"{bench.run}.losses", curves_svg(curves, across=log.time, up="loss", uprights=uprights),
        media_type="image/svg+xml",
        caption=f"Losses of the training history. {said} What is not finite is left out.",
        alt=said or "Training loss over time.",
    )  # fmt: skip
