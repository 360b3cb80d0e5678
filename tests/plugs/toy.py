"""Parts for the tests of the spine: a model, data and a check that fail in every way asked for."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from dlaudit import Check, Dataset, Measurement, Model, Needs, Rule, Suite, Undefined
from dlaudit.audit.parts import Yielded

Fault = Literal[
    "none", "exception", "exit", "sysexit", "sigkill", "segv", "memory", "hang", "nan", "import",
    "build", "silence", "unspeakable",
]  # fmt: skip


class Unspeakable(Exception):
    """An exception that cannot even be printed."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def strike(fault: str) -> None:
    """Do what the fault is called; ``none`` does nothing."""
    match fault:
        case "exception":
            raise RuntimeError("planted")
        case "exit":
            os._exit(0)
        case "sysexit":
            sys.exit(0)
        case "sigkill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segv":
            ctypes.string_at(0)
        case "memory":
            raise MemoryError
        case "hang":
            threading.Event().wait()
        case "import":
            import dlaudit_has_no_such_module  # noqa: F401
        case "unspeakable":
            raise Unspeakable


def model(fault: Fault = "none") -> Model:
    """The toy classifier; ``nan`` poisons its answers."""
    from dlaudit.testing import toy_model

    strike(fault)
    return toy_model(poison=(lambda logits: logits * float("nan")) if fault == "nan" else None)


def data(fault: Fault = "none", n: int = 240) -> Dataset:
    """The toy images with the splits ``test`` and ``train``."""
    from dlaudit.testing import toy_data

    strike(fault)
    return toy_data(n)


class Accuracy(Check, frozen=True, kw_only=True):
    """Accuracy on the test split, unless a fault strikes half way.

    marks: a file to which each run adds its id, so that a test can count how often it ran. gate: a
    file that must exist before the run goes on.
    """

    needs: ClassVar[Needs] = Needs(model=("decisions",), data=("labels",))
    measures: ClassVar[tuple[str, ...]] = ("accuracy", "draw")
    proportions: ClassVar[tuple[str, ...]] = ("accuracy",)

    fault: Fault = "none"
    marks: str = ""
    gate: str = ""

    def __post_init__(self) -> None:
        """Crash while it is built, if that is the fault."""
        if self.fault == "build":
            raise RuntimeError("planted while it was built")

    def measure(self, bench) -> Iterator[Yielded]:
        """Measure, and fail as asked between the first number and the second."""
        from dlaudit.audit.statistics import wilson

        if self.marks:
            with Path(self.marks).open("a", encoding="utf-8") as file:
                file.write(f"{bench.run}\n")
        if self.gate:
            while not Path(self.gate).exists():
                threading.Event().wait(0.01)
        if self.fault == "silence":
            return
        answers = bench.answers()
        right, n = int(answers.correct.sum()), len(answers.y)
        yield Measurement(name="accuracy", value=right / n, n=n, interval=wilson(right, n))
        strike(self.fault)
        draw = float("nan") if self.fault == "nan" else float(bench.rng().random())
        yield Measurement(name="draw", value=draw, n=1, exact="drawn by the run's seed")
        yield Undefined(name="draw", reason="there is no second draw", slice={"region": "second"})
        yield bench.keep_table(
            f"{bench.run}.samples", {"id": answers.id, "correct": answers.correct}
        )


class Deaf(Check, frozen=True, kw_only=True):
    """Asks for what no data set here has to offer."""

    needs: ClassVar[Needs] = Needs(data=("audio",))
    measures: ClassVar[tuple[str, ...]] = ("loudness",)


RULED = Suite(
    name="ruled",
    title="One run with a rule that it passes",
    runs={"toy.accuracy": {}},
    rules=(
        Rule(
            id="", run="toy.accuracy", measurement="accuracy", at_least=0.5,
            rationale="guessing would reach a quarter",
        ),
    ),
)  # fmt: skip
