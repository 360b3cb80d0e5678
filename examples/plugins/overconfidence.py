"""A check: how sure the model is where it is wrong.

dlaudit run audit.toml --plugin overconfidence.py --check overconfidence.overconfidence
"""

from collections.abc import Iterator
from typing import Annotated

from scipy.special import softmax

from dlaudit import Artifact, Bench, Check, Measurement, Meta, Needs, Undefined
from dlaudit.audit.statistics import wilson


class Overconfidence(Check):
    """Share of the wrong answers that are given with a probability of at least ``sure``."""

    needs = Needs(model=("logits",), data=("labels",))
    measures = ("overconfident_errors",)
    sure: Annotated[float, Meta(gt=0, lt=1)] = 0.9

    def measure(self, bench: Bench) -> Iterator[Measurement | Undefined | Artifact]:
        """Measure on the clean answers; a model without errors leaves the share undefined."""
        answers = bench.answers()
        top, wrong = softmax(answers.logits, axis=1).max(axis=1), ~answers.correct
        yield bench.keep_table("answers", {"id": answers.id, "probability": top, "wrong": wrong})
        name, n = "overconfident_errors", int(wrong.sum())
        k = int((wrong & (top >= self.sure)).sum())
        if not n:
            yield Undefined(name=name, reason="the model makes no error on this split")
            return
        stated = {"sure": self.sure}
        yield Measurement(name=name, value=k / n, n=n, interval=wilson(k, n), conditions=stated)
