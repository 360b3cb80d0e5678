"""A look tells classes and rows, or why it could not look; a doubt that voids is no look."""

import numpy as np
import planted_digits
import pytest

from dlaudit.audit.record import Caveat, Measurement, Undefined
from dlaudit.backdoors.looks import Look, look
from dlaudit.backdoors.scan import Scan

COUNT = "suspected_classes"


@pytest.fixture
def looked(bench_of, monkeypatch):
    """What a scan that yields this is taken to say; train: the digits' own test rows."""

    def ask(yielded, offers=None):
        def measure(check, bench):
            for one in yielded:
                yield one(bench) if callable(one) else one

        monkeypatch.setattr(Scan, "measure", measure)
        bench = bench_of(planted_digits.perceptron(), planted_digits.halves(0)[1])
        bench.data.offers |= {"train"}
        if offers is not None:
            bench.model.offers = frozenset(offers)
        return look("scan", bench, bench.model, bench.whole("test"))

    return ask


def number(name, value, *, caveats=(), **place):
    return Measurement(
        name=name, value=value, n=1, exact="made up", slice=place, caveats=caveats
    )  # fmt: skip


def rows(bench):
    return bench.keep_table(
        "backdoors.scan.samples",
        {"nominated": np.array([True, True, False]), "confirmed": np.array([True, False, False])},
    )


def test_a_look_tells_suspected_classes_and_each_row(looked):
    found = looked([
        number("suspected", 1.0, **{"class": "3"}), number("suspected", 0.0, **{"class": "4"}),
        number(COUNT, 1.0), rows,
    ])  # fmt: skip
    assert found.suspected == {"3"}
    assert found.nominated.tolist() == [True, True, False]
    assert found.confirmed.tolist() == [True, False, False]
    assert looked([number(COUNT, 0.0)]) == Look(frozenset())


def test_what_could_not_look_says_why(looked):
    assert looked([Undefined(name=COUNT, reason="too few")]) == "scan: too few"
    void = Caveat(source="scan", name="left-out", message="2 classes left out", voids=True)
    assert looked([number(COUNT, 0.0, caveats=(void,))]) == "scan: 2 classes left out"
    mild = Caveat(source="scan", name="mild", message="worth a look")
    assert looked([number(COUNT, 0.0, caveats=(mild,))]) == Look(frozenset())
    assert "no number" in looked([number("suspected", 0.0, **{"class": "3"})])
    assert looked([], offers={"decisions"}) == "scan needs model: logits"
