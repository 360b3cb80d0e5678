"""What the attacks show together: curves, who became what, costs, the doctor, and what is void."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from attack_tables import attack, fell, table
from hypothesis import given, settings
from hypothesis import strategies as st
from page_reader import Page
from planted_story import png
from record_corpus import rate, record_of, run_of

from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.record import (
    Card,
    Caveat,
    Measured,
    Measurement,
    Rule,
    Undefined,
    canonical,
)
from dlaudit.audit.statistics import wilson
from dlaudit.reports import columns, html, junit, markdown, notebook, robustness, sarif, text
from dlaudit.reports.doctor import doctors
from dlaudit.reports.outline import Outline
from dlaudit.reports.robustness import TOGETHER, Robustness, nearest
from dlaudit.reports.transfer import transfers

MASKED = Caveat(
    source="attacks.doctor",
    name="unavailable_gradient",
    message="every gradient is zero",
    voids=True,
)
BOUND = "an upper bound under the stated attacks"


def shown(folder, *runs, rules=()):
    names = Card(name="d", fingerprint="0" * 64, facts={"classes": ["cat", "dog", "owl"], "n": 8})
    record = record_of(runs, rules, data=names)
    return record, Robustness(Outline(record), folder)


# -- curves -----------------------------------------------------------------------------------------


def test_all_attacks_of_a_norm_share_a_figure_with_their_worst_case_sample_by_sample(tmp_path):
    """By hand: a fools samples 0 and 1 at 0.1, b fools 1 and 2 at 0.2: three of six are left."""
    a = attack(tmp_path, "attacks.a", fell(s0=(0.1, 0.1, 1), s1=(0.1, 0.1, 2)))
    b = attack(tmp_path, "attacks.b", fell(s1=(0.2, 0.2, 2), s2=(0.2, 0.2, 0)))
    c = attack(tmp_path, "attacks.c", fell(s5=(0.2, 0.2, 0)), norm="l2")
    _, page = shown(tmp_path, a, b, c)
    linf, l2 = page.curves
    assert (linf.across, l2.across) == ("epsilon, linf", "epsilon, l2")
    assert [one.label for one in linf.series] == [TOGETHER, "attacks.a", "attacks.b"]
    assert [one.label for one in l2.series] == ["attacks.c"], "one attack is its own worst case"
    worst = [(p.at, p.measurement.value) for p in linf.series[0].points]
    assert worst == [(0.0, 6 / 8), (0.1, 4 / 8), (0.2, 3 / 8)]
    for series in linf.series[1:]:
        assert series.points[0].at == 0, "every curve starts at the clean accuracy"
        assert series.points[0].measurement.name == "clean_accuracy"


def test_attacks_on_other_samples_are_not_put_together(tmp_path):
    a = attack(tmp_path, "attacks.a", fell(s0=(0.1, 0.1, 1)))
    other = {**fell(s1=(0.1, 0.1, 2)), "id": np.array([f"x{k}" for k in range(8)])}
    b = attack(tmp_path, "attacks.b", other)
    _, page = shown(tmp_path, a, b)
    assert [one.label for one in page.curves[0].series] == ["attacks.a", "attacks.b"]


def test_budgets_of_different_threat_models_do_not_share_an_axis(tmp_path):
    a = attack(tmp_path, "attacks.a", fell(), bounds="[0, 1]")
    b = attack(
        tmp_path, "attacks.b", fell(), bounds="[0, 1]", epsilon_per_feature="per feature, 0..2"
    )
    _, page = shown(tmp_path, a, b)
    assert [one.across for one in page.curves] == [
        "epsilon, linf", "epsilon, linf, epsilon_per_feature = per feature, 0..2",
    ]  # fmt: skip


def test_of_many_attacks_the_strongest_are_drawn(tmp_path):
    falls = {f"attacks.a{k}": {f"s{j}": (0.1, 0.1, 1) for j in range(k % 6)} for k in range(9)}
    runs = [attack(tmp_path, id_, fell(**made)) for id_, made in falls.items()]
    _, page = shown(tmp_path, *runs)
    (figure,) = page.curves
    assert [one.label for one in figure.series] == [
        TOGETHER, "attacks.a2", "attacks.a3", "attacks.a4", "attacks.a5", "attacks.a8",
    ]  # fmt: skip
    assert figure.left_out == 4


@given(st.integers(0, 400), st.integers(1, 400))
def test_the_interval_of_the_worst_case_is_wilson_s(successes, extra):
    n = successes + extra
    own = robustness.proportion("robust_accuracy", successes, n, ()).interval
    reference = wilson(successes, n)
    assert (own.low, own.high) == pytest.approx((reference.low, reference.high), abs=1e-12)
    assert (own.level, own.method) == (reference.level, reference.method)


def test_an_attack_that_looks_for_the_nearest_has_a_curve_between_its_budgets(tmp_path):
    """By hand: six of eight start right; distances 0.02, 0.05 and 0.15 take one each."""
    made = fell(s0=(0.1, 0.02, 1), s1=(0.1, 0.05, 2), s2=(0.2, 0.15, 0))
    _, page = shown(tmp_path, attack(tmp_path, "attacks.a", made))
    (one,) = page.attacks
    corners = nearest(one)
    assert corners == [
        (0.0, 6 / 8), (0.02, 6 / 8), (0.02, 5 / 8), (0.05, 5 / 8), (0.05, 4 / 8), (0.15, 4 / 8),
        (0.15, 3 / 8), (0.2, 3 / 8),
    ]  # fmt: skip
    assert page.curves[0].series[0].fine.count(",") == len(corners)
    at_budget = {m.conditions["epsilon"]: m.value for m in one.bounds}
    assert at_budget == {0.1: 4 / 8, 0.2: 3 / 8}, "both curves agree where both are defined"


def test_an_attack_that_fills_its_budget_has_no_finer_curve(tmp_path):
    made = fell(s0=(0.1, 0.1, 1), s1=(0.2, 0.1999999, 2))
    _, page = shown(tmp_path, attack(tmp_path, "attacks.a", made))
    assert nearest(page.attacks[0]) == []


def test_a_long_list_of_distances_is_drawn_with_few_corners_never_below_the_true_curve(tmp_path):
    n = 3000
    made = table(n, attacked=np.ones(n, dtype=bool), fooled=np.ones(n, dtype=bool))
    made["distance"] = np.random.default_rng(0).random(n)
    made["epsilon_fooled"] = np.full(n, 1.0)
    _, page = shown(tmp_path, attack(tmp_path, "attacks.a", made, budgets=(1.0,)))
    corners = nearest(page.attacks[0])
    assert len(corners) < 400
    for x, left in corners:
        assert left >= (made["distance"] > x).mean() - 1e-12


# -- who became what --------------------------------------------------------------------------------


def test_the_matrix_by_hand(tmp_path):
    """Labels 0 1 2 0 1 2: both cats become dogs, one dog an owl; nobody else falls."""
    made = fell(s0=(0.1, 0.1, 1), s3=(0.1, 0.1, 1), s4=(0.2, 0.2, 2))
    _, page = shown(tmp_path, attack(tmp_path, "attacks.a", made))
    (matrix,) = page.matrices
    assert matrix.names == ("dog", "owl")
    assert [(r.name, r.attacked, r.kept, [c.samples for c in r.cells]) for r in matrix.rows] == [
        ("cat", 2, 0, [2, 0]), ("dog", 2, 1, [0, 1]), ("owl", 2, 2, [0, 0]),
    ]  # fmt: skip
    assert [c.level for r in matrix.rows for c in r.cells] == [5, 0, 0, 3, 0, 0]
    assert "a “cat” was called “dog”: 2 of 3 fooled samples" in matrix.told


def test_of_many_classes_the_most_fooled_are_shown_and_the_rest_counted(tmp_path):
    n = 400
    made = table(n, label=np.arange(n) % 40, attacked=np.ones(n, dtype=bool))
    made["fooled"] = np.arange(n) < 200
    made["adversarial"] = np.where(made["fooled"], (np.arange(n) % 40 + 1) % 40, made["label"])
    made["epsilon_fooled"] = np.where(made["fooled"], 0.1, -1.0)
    made["distance"] = made["epsilon_fooled"].copy()
    _, page = shown(tmp_path, attack(tmp_path, "attacks.a", made))
    (matrix,) = page.matrices
    assert len(matrix.rows) == robustness.CLASSES
    assert matrix.left_out == 24
    assert matrix.others
    for row in matrix.rows:
        assert row.attacked - row.kept == sum(cell.samples for cell in row.cells)


def test_each_norm_shows_its_strongest_attack_that_fooled_somebody(tmp_path):
    weak = attack(tmp_path, "attacks.weak", fell(s0=(0.1, 0.1, 1)))
    strong = attack(tmp_path, "attacks.strong", fell(s0=(0.1, 0.1, 1), s1=(0.1, 0.1, 2)))
    none = attack(tmp_path, "attacks.none", fell(), norm="l2")
    _, page = shown(tmp_path, weak, strong, none)
    assert [one.run for one in page.matrices] == ["attacks.strong"]


# -- cost -------------------------------------------------------------------------------------------


def test_cost_per_robust_sample_is_the_mean_over_who_stayed_robust(tmp_path):
    made = fell(s0=(0.1, 0.1, 1), s1=(0.1, 0.1, 2))
    made["forward"] = np.array([1.0, 3, 20, 20, 20, 24, 0, 0])
    made["backward"] = np.array([1.0, 2, 10, 10, 10, 10, 0, 0])
    made["stage"] = np.array([0, 2, -1, -1, -1, -1, -1, -1])
    run = attack(tmp_path, "attacks.a", made, stages="fgsm, margin, targeted")
    _, page = shown(tmp_path, run)
    (price,) = page.prices
    assert (price.attacked, price.robust, price.cost) == (6, 4, (80, 32))
    assert price.per_sample == pytest.approx((88 / 6, 43 / 6))
    assert price.per_robust == (21, 10)
    assert price.stages == (
        robustness.Stage("fgsm", 1, 1, 1), robustness.Stage("targeted", 1, 3, 2),
    )  # fmt: skip


def test_late_stages_share_a_line(tmp_path):
    made = fell(n=14, **{f"s{k}": (0.1, 0.1, 1) for k in range(12)})
    made["attacked"] = np.arange(14) < 13
    made["stage"] = np.array([*range(12), -1, -1])
    _, page = shown(tmp_path, attack(tmp_path, "attacks.a", made, stages=31))
    stages = page.prices[0].stages
    assert [one.name for one in stages] == [
        *(f"stage {k}" for k in range(1, 8)), "stage 8 and after",
    ]  # fmt: skip
    assert [one.fooled for one in stages] == [*[1] * 7, 5]


def test_where_nobody_is_left_there_is_no_cost_per_robust_sample(tmp_path):
    made = fell(**{f"s{k}": (0.1, 0.1, 1) for k in range(6)})
    record, page = shown(tmp_path, attack(tmp_path, "attacks.a", made))
    assert page.prices[0].per_robust is None
    assert "none" in Page(html.render(record, tmp_path)).text


# -- what is void ------------------------------------------------------------------------------------


def voided(folder):
    good = attack(folder, "attacks.sound", fell(s0=(0.1, 0.1, 1)))
    bad = attack(folder, "attacks.masked", fell(), caveats=(MASKED,), budgets=(0.1, 0.2, 0.3))
    rule = Rule(id="r", run="attacks.masked", measurement="robust_accuracy", at_least=0.5)
    return shown(folder, good, bad, rules=(rule,))


def test_a_voided_figure_never_looks_like_a_sound_one(tmp_path):
    record, page = voided(tmp_path)
    text_ = html.render(record, tmp_path)
    (note,) = page.voids
    assert note.run == "attacks.masked"
    assert len(note.figures) == 3
    figure = re.search(r"<figure class=\"curve.*?</figure>", text_, re.DOTALL).group()
    assert figure.count('class="mark-void') == 3 + 1, "three points and the legend"
    assert "is-void" in figure
    cells = [
        re.findall(rf"<{tag} class=\"void\".*?</{tag}>", text_, re.DOTALL) for tag in ("tr", "td")
    ]
    assert all(cells)
    assert all("void</b>" in one for found in cells for one in found)
    shown_ = Page(text_).text
    assert "Void: no result. attacks.masked" in shown_
    assert "every gradient is zero (attacks.doctor, unavailable_gradient)" in shown_


def test_the_worst_case_ends_where_no_sound_attack_was_run(tmp_path):
    """At 0.3 only the voided attack was run: its silence is not what all of them together left."""
    _, page = voided(tmp_path)
    joint = page.curves[0].series[0]
    assert [(p.at, p.void) for p in joint.points] == [(0.0, False), (0.1, False), (0.2, False)]


def test_the_worst_case_of_voided_attacks_is_void(tmp_path):
    runs = [attack(tmp_path, f"attacks.{k}", fell(), caveats=(MASKED,)) for k in "ab"]
    _, page = shown(tmp_path, *runs)
    joint = page.curves[0].series[0]
    assert joint.label == TOGETHER
    assert [p.void for p in joint.points] == [False, True, True]
    assert joint.void


def test_a_void_figure_is_called_void_before_its_value_in_every_text(tmp_path):
    record, _ = voided(tmp_path)
    line = next(one for one in text.screen(record).splitlines() if "INCONCLUSIVE" in one)
    assert line.index("void") < line.index("every gradient is zero")
    assert "0.75" not in line[: line.index("void")]
    case = junit.render(record)
    assert case.index("void: 0.75") > 0
    assert (
        "voids it" in json.loads(sarif.render(record))["runs"][0]["results"][0]["message"]["text"]
    )
    assert "voids it" in markdown.render(record)


# -- an upper bound, everywhere ------------------------------------------------------------------------


@pytest.mark.parametrize("at_least", [0.1, 0.7, 0.99], ids=["pass", "inconclusive", "fail"])
def test_every_format_calls_robust_accuracy_an_upper_bound(tmp_path, at_least):
    run = attack(tmp_path, "attacks.a", fell(s0=(0.1, 0.1, 1)), budgets=(0.1,))
    rule = Rule(id="r", run="attacks.a", measurement="robust_accuracy", at_least=at_least)
    record, _ = shown(tmp_path, run, rules=(rule,))
    for said in (
        text.screen(record), junit.render(record), markdown.render(record), sarif.render(record),
        notebook.summary(record), Page(html.render(record, tmp_path)).text,
    ):  # fmt: skip
        assert BOUND in said
    page = Page(html.render(record))
    assert page.text.count(BOUND) >= 4, "at the rule, the tables and the figure"


def test_other_measurements_are_not_called_bounds():
    run = run_of("a.b", Measured(measurements=(rate("accuracy", 5, 9),)))
    record = record_of((run,), (Rule(id="r", run="a.b", measurement="accuracy", at_least=0.1),))
    for said in (text.screen(record), junit.render(record), html.render(record)):
        assert BOUND not in said


# -- the doctor ---------------------------------------------------------------------------------------


def diagnostic(name, value, **conditions):
    return Measurement(
        name="diagnostic", value=value, n=64, exact="a published criterion",
        slice={"diagnostic": name}, conditions=conditions,
    )  # fmt: skip


def doctor_run(counted=1):
    rows = (
        Measurement(name="diagnostics_failed", value=counted, n=2, exact="a count"),
        diagnostic(
            "monotone", 0, statistic=0, threshold=0, source="Carlini et al. 2019", level="quick"
        ),
        diagnostic("incomplete", 1, statistic=0.12, threshold=0.05, source="Pintor", level="quick"),
    )
    missing = Undefined(
        name="diagnostic", reason="not run: belongs to the level full",
        slice={"diagnostic": "random_noise"}, conditions={"level": "full"},
    )  # fmt: skip
    return run_of("attacks.doctor", Measured(measurements=rows, undefined=(missing,)))


def test_failed_diagnostics_come_first_and_what_was_not_run_is_never_passed(tmp_path):
    record, _ = shown(tmp_path, attack(tmp_path, "attacks.a", fell()), doctor_run())
    (one,) = doctors(Outline(record))
    assert [(d.name, d.state) for d in one.diagnostics] == [
        ("incomplete", "failed"), ("random_noise", "not run"), ("monotone", "passed"),
    ]  # fmt: skip
    page = Page(html.render(record, tmp_path))
    states = {a["data-diagnostic"]: a["data-state"] for a in page.having("data-diagnostic")}
    assert states == {"incomplete": "failed", "random_noise": "not run", "monotone": "passed"}
    for words in (
        "3 diagnostics: 1 failed, 1 passed, 1 not run",
        "0.12",
        "0.05",
        "belongs to the level",
    ):
        assert words in page.text, words
    assert one.doubt == ""


def test_a_count_that_its_own_diagnostics_do_not_bear_out_is_doubted(tmp_path):
    record, _ = shown(tmp_path, attack(tmp_path, "attacks.a", fell()), doctor_run(counted=0))
    assert "do not belong together" in Page(html.render(record)).text


def test_a_diagnostic_that_voids_says_so_and_what_to_do(tmp_path):
    """The columns say what was measured; of the caveat only the rest is repeated."""
    protocol = {"attack": "attacks.pgd", "level": "quick"}
    words = (
        "zero_gradient: samples without one 9 (fails: > 0; Pintor et al. 2022). Attack a margin."
    )
    failed = Measurement(
        name="diagnostic", value=1, n=64, exact="a published criterion", direction="lower",
        slice={"diagnostic": "zero_gradient"},
        conditions={**protocol, "threshold": "> 0", "source": "Pintor et al. 2022", "statistic": 9.0,
                    "measures": "samples without one", "doubtful": 0.4, "voids": True},
        caveats=(Caveat(source="attacks.doctor", name="zero_gradient", message=words),),
    )  # fmt: skip
    (one,) = doctors(
        Outline(record_of((run_of("attacks.doctor", Measured(measurements=(failed,))),)))
    )
    (item,) = one.diagnostics
    assert (item.voids, item.told, item.measures, item.statistic) == (
        True, "Attack a margin.", "samples without one", "9",
    )  # fmt: skip
    assert one.common == {"attack": "attacks.pgd", "level": "quick"}
    record = record_of((run_of("attacks.doctor", Measured(measurements=(failed,))),))
    page = Page(html.render(record))
    assert "1 of them voids the robust accuracy" in page.text
    assert "voids the score" in page.text


def test_a_doctor_without_any_attack_is_shown_too():
    page = Page(html.render(record_of((doctor_run(),))))
    assert len(page.having("data-diagnostic")) == 3


# -- transfer -----------------------------------------------------------------------------------------


def test_the_transfer_matrix_shows_every_pair_and_no_number_where_there_is_none(tmp_path):
    shared = {"norm": "linf", "epsilon": 0.1}
    numbers = (
        rate("source_success", 97, 100, conditions={**shared, "source": "net"}),
        rate("transfer_rate", 41, 100, conditions={**shared, "source": "net", "judged": "other"}),
        rate("source_success", 88, 100, conditions={**shared, "source": "other"}),
    )
    gap = Undefined(
        name="transfer_rate", reason="nothing was fooled",
        conditions={"source": "other", "judged": "net", "norm": "linf", "epsilon": 0.1},
    )  # fmt: skip
    run = run_of("attacks.transfer_matrix", Measured(measurements=numbers, undefined=(gap,)))
    record = record_of((run,))
    (matrix,) = transfers(Outline(record))
    assert matrix.judged == ("net", "other")
    (_, first), (_, second) = matrix.rows
    assert [pair.measurement.value for pair in first] == [0.97, 0.41]
    assert second[0].measurement is None
    assert [pair.level for pair in (*first, *second)] == [5, 3, 0, 5]
    page = Page(html.render(record))
    for words in ("made on", "shown to other", "0.41", "nothing was fooled"):
        assert words in page.text, words


@pytest.mark.parametrize(
    "conditions", [{}, {"source": "a"}, {"judged": "b"}], ids=["none", "source", "judged"]
)
def test_rates_without_their_models_have_no_place_in_a_matrix(conditions):
    run = run_of(
        "a.b", Measured(measurements=(rate("transfer_rate", 1, 2, conditions=conditions),))
    )
    assert transfers(Outline(record_of((run,)))) == ()
    alone = run_of(
        "a.b", Measured(measurements=(rate("source_success", 1, 2, conditions={"source": "a"}),))
    )
    assert transfers(Outline(record_of((alone,)))) == ()


# -- whatever a record holds -------------------------------------------------------------------------


SCALARS = st.one_of(
    st.booleans(), st.integers(-3, 300), st.floats(-1, 1e9, allow_nan=False), st.text(max_size=9)
)
CONDITIONS = st.dictionaries(
    st.sampled_from(["epsilon", "norm", "source", "judged", "statistic", "threshold", "bounds", "stages"]),
    SCALARS, max_size=6,
)  # fmt: skip
NAMES = st.sampled_from(["robust_accuracy", "clean_accuracy", "transfer_rate", "diagnostic",
                         "diagnostics_failed", "source_success"])  # fmt: skip


@st.composite
def odd_runs(draw):
    """Runs whose measurements have the names of these panels and anything for conditions."""
    runs = []
    for k in range(draw(st.integers(1, 4))):
        numbers = tuple(
            rate(
                draw(NAMES), draw(st.integers(0, 9)), 9, conditions=draw(CONDITIONS),
                caveats=draw(st.sampled_from([(), (MASKED,)])),
                slice=draw(st.sampled_from([{}, {"diagnostic": "d"}, {"class": "1"}])),
            )
            for _ in range(draw(st.integers(0, 6)))
        )  # fmt: skip
        gaps = tuple(
            Undefined(name=draw(NAMES), reason="why", conditions=draw(CONDITIONS))
            for _ in range(draw(st.integers(0, 2)))
        )
        runs.append(run_of(f"attacks.r{k}", Measured(measurements=numbers, undefined=gaps)))
    return tuple(runs)


@given(odd_runs())
@settings(max_examples=60)
def test_whatever_stands_in_a_record_gives_a_page_and_no_void_figure_without_its_word(runs):
    record = record_of(runs)
    page = Page(html.render(record))
    assert page.faults == []
    assert len(page.ids) == len(set(page.ids))
    voids = {
        run.id
        for run in runs
        for one in run.outcome.measurements
        if one.name == "robust_accuracy" and one.caveats
    }
    assert {attrs["data-void"] for attrs in page.having("data-void")} == voids


# -- failures as pictures -----------------------------------------------------------------------------


def test_a_failure_stands_with_its_labels_confidences_and_factor(tmp_path):
    store = EvidenceStore(tmp_path)
    shot = store.keep("attacks.a.failure.3", png(), media_type="image/png", alt="A cat.")
    told = [{
        "picture": shot.sha256, "sample": "3", "norm": "linf", "epsilon": 8 / 255, "magnified": 15.9,
        "label": "cat", "confidence": 0.577, "adversarial": "owl", "adversarial_confidence": 0.993,
    }]  # fmt: skip
    listed = store.keep(
        "attacks.a.failures", json.dumps(told).encode(), media_type="application/json"
    )
    run = attack(tmp_path, "attacks.a", fell(s3=(0.1, 0.1, 2)), artifacts=(shot, listed))
    record, page = shown(tmp_path, run)
    assert [one.sample for one in page.convincing] == ["3"]
    seen = Page(html.render(record, tmp_path))
    for words in (
        "“cat” 57.7\xa0%clean",
        "\u00d7 15.9difference, magnified",
        "“owl” 99.3\xa0%adversarial",
    ):
        assert " ".join(words.split()) in seen.text, words
    assert "linf ε = 8/255" in seen.text
    assert sum(tag == "img" for tag, _ in seen.elements) == 1, "shown once, at the top"
    place = f"picture-{shot.sha256[:12]}"
    assert seen.ids.count(place) == 1
    table = re.search(
        r'<table class="samples">.*?</table>', html.render(record, tmp_path), re.DOTALL
    )
    first = re.search(r"<tbody>\s*<tr.*?</tr>", table.group(), re.DOTALL).group()
    assert f'<a href="#{place}">3</a>' in first, "its row comes first and leads to it"


@pytest.mark.parametrize(
    "told", [b"[", b"{}", b'[{"picture": 3}]', b'[1, {"picture": "x", "epsilon": 1, "magnified": 1}]',
             b'[{"picture": "SHA", "epsilon": true, "magnified": NaN}]'],
)  # fmt: skip
def test_a_list_that_is_none_leaves_the_pictures_with_their_captions(tmp_path, told):
    store = EvidenceStore(tmp_path)
    shot = store.keep("attacks.a.failure.3", png(), media_type="image/png", caption="A cat.")
    listed = store.keep(
        "attacks.a.failures",
        told.replace(b"SHA", shot.sha256.encode()),
        media_type="application/json",
    )
    run = attack(tmp_path, "attacks.a", fell(), artifacts=(shot, listed))
    record, page = shown(tmp_path, run)
    assert page.failures == {}
    assert "A cat." in Page(html.render(record, tmp_path)).text


# -- evidence that cannot be read -----------------------------------------------------------------------


NEEDED = {"id": "U", "fooled": "b", "distance": "f"}


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (b"no table", "cannot be read"),
        ({"id": np.array(["a"])}, "cannot be read"),
        ({"id": np.array([1]), "fooled": np.array([True]), "distance": np.array([0.1])}, "'id' holds"),
        ({"id": np.array(["a"]), "fooled": np.array([True]), "distance": np.array([np.nan])}, "'distance'"),
        ({"id": np.array(["a"]), "fooled": np.array([True]), "distance": np.array([[0.1]])}, "shape (1, 1)"),
        ({"id": np.array(["a"]), "fooled": np.array([True, False]), "distance": np.array([0.1])}, "lengths"),
    ],
)  # fmt: skip
def test_a_table_that_is_none_is_told_and_never_guessed(tmp_path, stored, reason):
    store = EvidenceStore(tmp_path)
    kept = (
        store.keep("a.b.samples", stored, media_type=columns.TABLE)
        if isinstance(stored, bytes)
        else store.keep_table("a.b.samples", stored)
    )
    run = run_of("a.b", Measured(artifacts=(kept,)))
    found = columns.of_run(run, "samples", tmp_path, needed=NEEDED)
    assert reason in found.reason
    assert not found.by_name


def test_an_optional_column_of_a_wrong_kind_is_left_out(tmp_path):
    made = {"id": np.array(["a"]), "fooled": np.array([True]), "distance": np.array([0.1]),
            "stage": np.array(["x"])}  # fmt: skip
    kept = EvidenceStore(tmp_path).keep_table("a.b.samples", made)
    run = run_of("a.b", Measured(artifacts=(kept,)))
    found = columns.of_run(run, "samples", tmp_path, needed=NEEDED, optional="stage other")
    assert sorted(found.by_name) == ["distance", "fooled", "id"]
    assert found.n == 1


def test_without_evidence_the_figures_of_the_measurements_stay(tmp_path):
    """A report made without the folder, or with altered evidence, says why the rest is missing."""
    record, _ = shown(tmp_path, attack(tmp_path, "attacks.a", fell(s0=(0.1, 0.05, 1))))
    bare = Page(html.render(record))
    assert (
        "robust_accuracy, an upper bound under the stated attacks, against epsilon, linf"
        in bare.text
    )
    assert "rendered without the run's folder" in bare.text
    next((tmp_path / "evidence").glob("*.npz")).write_bytes(b"altered")
    assert "was altered" in Page(html.render(record, tmp_path)).text


def test_the_page_is_well_formed_and_claims_nothing(tmp_path):
    record, _ = voided(tmp_path)
    page = Page(html.render(record, tmp_path))
    assert page.faults == []
    assert len(page.ids) == len(set(page.ids))
    from dlaudit.reports import wording

    assert wording.overclaims(page.own) == []


def test_reading_evidence_loads_numpy_and_nothing_heavier(tmp_path):
    record, _ = voided(tmp_path)
    (tmp_path / "record.json").write_bytes(canonical(record))
    program = (
        "import sys, pathlib\n"
        "from dlaudit.audit.record import read_record\n"
        "from dlaudit.reports import html\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "html.render(read_record((folder / 'record.json').read_bytes()), folder)\n"
        "print(sorted({'torch', 'numpy', 'scipy', 'pandas', 'matplotlib', 'PIL'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "['numpy']"
