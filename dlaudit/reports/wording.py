"""How this tool speaks: numbers, intervals, statuses and the sentences around them.

Knows words and digits; refuses to judge, and refuses the words that no test can earn
(``overclaims``). Every renderer says a value, a status or an exit code through this module, so that
no two formats can say it differently.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from dlaudit.audit.judge import ExitCode
from dlaudit.audit.record import FindingStatus, Interval, Measurement, Rule, Scalar, Status, Waiver

MOST_DECIMALS = 9
"""Beyond this many decimals two numbers are shown alike; the record holds them in full."""


class Words(NamedTuple):
    """A status in words: a short label, its one-sentence meaning, and the shape that stands for it."""

    label: str
    meaning: str
    shape: str


VERDICTS: dict[Status, Words] = {
    "fail": Words(
        "failed", "The whole interval lies beyond the threshold.", "a square with a cross"
    ),
    "not_assessed": Words(
        "not assessed",
        "There is no number to judge: the run crashed or was skipped, the number is undefined, or "
        "nothing matches the rule. Silence is never a pass.",
        "a dashed ring with a question mark",
    ),
    "inconclusive": Words(
        "inconclusive",
        "The interval crosses the threshold, or a caveat voids the measurement: more samples or a "
        "sounder measurement would decide it.",
        "a diamond, half of it filled",
    ),
    "pass": Words(
        "passed",
        "The whole interval lies on the good side of the threshold, under the conditions stated.",
        "a disc with a tick",
    ),
}

OUTCOMES: dict[str, Words] = {
    "measured": Words("measured", "The check ran to its end.", "a small ring"),
    "errored": Words(
        "errored",
        "The check did not come to its end. It says nothing about the model, and the gate stays closed.",
        "a triangle with an exclamation mark",
    ),
    "skipped": Words(
        "skipped",
        "The model or the data does not offer what the check needs. The gate stays closed.",
        "a ring with a bar",
    ),
    "undefined": Words(
        "undefined",
        "A number that does not exist (an empty group, 0/0, too few samples). It is never shown as 0.",
        "a struck-through zero",
    ),
    "waived": Words(
        "waived",
        "Somebody answers, until a date, for what this run does not show. The finding stays in the "
        "report; only the exit code leaves it out.",
        "a bracket around the status",
    ),
}

FINDINGS: dict[FindingStatus, Words] = {
    "contradicted": Words("contradicted", "A rule that speaks of this item failed.", "fail"),
    "inconclusive": Words(
        "inconclusive", "A rule that speaks of this item could not be decided.", "inconclusive"
    ),
    "stale": Words(
        "stale", "The evidence belongs to another version or has expired.", "not_assessed"
    ),
    "no-evidence": Words(
        "no evidence", "Nothing in this audit shows anything about this item.", "not_assessed"
    ),
    "human-process-needed": Words(
        "human process needed",
        "A process that people must run and document; no test can show it.",
        "open",
    ),
    "declared": Words("declared", "A named person states it; nothing was tested.", "declared"),
    "attested": Words(
        "attested", "A document with a recorded digest states it; nothing was tested.", "declared"
    ),
    "supported-in-scope": Words(
        "supported in scope",
        "Every rule that speaks of this item passed, at least one of them on an interval, in the scope "
        "that was tested and no further.",
        "pass",
    ),
    "not-applicable": Words(
        "not applicable", "Declared not to apply, by whom and why stands beside it.", "open"
    ),
}
"""Worst first: the order in which findings are listed."""

APPLICABLE = {
    "now": "applies now",
    "not-yet": "does not apply yet",
    "contested": "date of application contested",
}

KINDS = {"T": "a test can feed it", "D": "a declared fact", "P": "a human process"}

EXITS: dict[int, str] = {
    ExitCode.PASSED: "every rule passed or is waived, and every run came to its end or is waived",
    ExitCode.FAILED: "a rule failed",
    ExitCode.UNUSABLE: "the plan, the command, the model file or the data is wrong",
    ExitCode.NOT_SHOWN: "nothing failed, but something was not assessed",
    ExitCode.INCONCLUSIVE: "nothing failed and all was assessed, but a rule is inconclusive",
    ExitCode.DEFECT: "a defect of dlaudit itself",
    ExitCode.INTERRUPTED: "interrupted",
}


class SuiteWords(NamedTuple):
    """What a suite asks, and the limit that stands beside whatever it measures."""

    title: str
    question: str
    limit: str


SUITES: dict[str, SuiteWords] = {
    "overfitting": SuiteWords(
        "Overfitting",
        "How does the model do on data it was not fitted to?",
        "A gap between two splits of the data named above; nothing is said about other data.",
    ),
    "data_quality": SuiteWords(
        "Data quality",
        "Are the data what they are taken for?",
        "What these searches found in the data named above; a search that finds nothing shows only "
        "what it can find.",
    ),
    "attacks": SuiteWords(
        "Adversarial attacks",
        "How much accuracy is left when inputs are chosen by an adversary?",
        "Accuracy under attack is an upper bound: a stronger attack can only lower it, and other "
        "threat models are not covered.",
    ),
    "backdoors": SuiteWords(
        "Backdoors and poisoning",
        "Is there a trigger that overrides the input?",
        "A scan that flags nothing has not shown that nothing is there; it speaks only of the "
        "triggers that it can find.",
    ),
    "fairness": SuiteWords(
        "Differences between groups",
        "How do decisions and errors differ between groups of people?",
        "Metrics, groups and thresholds are those of the plan; which difference matters is for "
        "people to decide.",
    ),
    "explain": SuiteWords(
        "Explanations",
        "Do attribution maps depend on what the model has learned?",
        "Tests of the attribution methods on this model; a map is not the reason for a decision.",
    ),
    "operations": SuiteWords(
        "Operations",
        "Does the model answer alike wherever and however it is run?",
        "What was repeated on the machine and the software named under Environment.",
    ),
    "performance": SuiteWords(
        "Performance at the task",
        "How well does the model do what it is for?",
        "The level on the data named above; which level is enough, and what other data would give, is "
        "not said.",
    ),
}
"""The house's own suites; a guest's suite is shown by its name."""

BOUNDS = {"robust_accuracy": "an upper bound under the stated attacks"}
"""Measurements that are no estimate of what they are named after, and what they are instead."""

_FORBIDDEN = re.compile(
    r"\b(non-?)?complian(t|ce)\b|\bcompl(y|ies|ied)\b|\bconform(s|ing|ity|ant|ance)?\b|"
    r"\bcertif(y|ied|ies|icate|ication)\b|\bfair\b|\bunbiased\b|\bbias-free\b|"
    r"\bnon-?discriminatory\b|\bresilient\b|\btrustworthy\b|\bgenerali[sz]es\b|"
    r"\bfree (of|from) backdoors\b|\bexplains the decision\b|\bis (safe|secure|robust|lawful)\b|"
    r"\bguarantee[ds]?\b|\btraffic light\b|\bpasses (the )?article\b",
    re.IGNORECASE,
)
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff0-\uffff\ud800-\udfff\U000e0000-\U000e0fff]"
)
_ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth",
)  # fmt: skip
_ALLOWED = re.compile(r"\bcertified accuracy\b", re.IGNORECASE)


def overclaims(text: str) -> list[str]:
    """The words in a text that no test can earn (DESIGN.md §10); "certified accuracy" is a metric."""
    return [match.group() for match in _FORBIDDEN.finditer(_ALLOWED.sub("", text))]


def number(value: float, *, width: float | None = None, landmarks: Iterable[float] = ()) -> str:
    """A value with two significant digits of its interval's ``width``, at least two decimals.

    landmarks: values that it must not be rounded onto, unless it is one: a bound of 0.5996 beside a
    threshold of 0.6 is written 0.5996, not 0.60. An integer is written without decimals if no width
    is given.
    """
    marks = tuple(landmarks)
    width = None if width is None or not math.isfinite(width) else width
    if width is None and value == int(value) and abs(value) < 1e15:
        return f"{int(value)}"
    if value and (abs(value) >= 1e6 or (abs(value) < 1e-4 and not width)):
        return f"{value:.4g}"
    decimals = _decimals(value, width)
    while decimals < MOST_DECIMALS and any(
        mark != value and round(value, decimals) == round(mark, decimals) for mark in marks
    ):
        decimals += 1
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if width is None else text


def _decimals(value: float, width: float | None) -> int:
    if width is None:  # four significant digits
        return min(MOST_DECIMALS, max(2, 3 - math.floor(math.log10(abs(value)))))
    if width <= 0:
        return 4
    return min(MOST_DECIMALS, max(2 if abs(value) < 100 else 0, 1 - math.floor(math.log10(width))))


def _landmarks(one: Measurement, threshold: float | None) -> tuple[float, ...]:
    """Where a rounded value would lie: the threshold, and the ends that a rate cannot cross."""
    marks = [] if threshold is None else [threshold]
    if 0 <= one.value <= 1:
        marks += [0.0, 1.0]
    return tuple(marks)


class Shown(NamedTuple):
    """A measurement in words: its value, and its interval (``[low, high] 95 %``) or ``exact``."""

    value: str
    interval: str


def shown(one: Measurement, *, threshold: float | None = None) -> Shown:
    """A measurement with consistent digits; ``threshold`` is kept apart from the bounds."""
    marks = _landmarks(one, threshold)
    if one.interval is None:
        return Shown(number(one.value, landmarks=marks), "exact")
    width = one.interval.high - one.interval.low
    low, high = (
        number(end, width=width, landmarks=marks) for end in (one.interval.low, one.interval.high)
    )
    return Shown(
        number(one.value, width=width, landmarks=marks),
        f"[{low}, {high}] {level(one.interval.level)}",
    )


def measured(one: Measurement, *, threshold: float | None = None) -> str:
    """``0.940 [0.918, 0.956] 95 %, n = 600``, or ``3 (exact), n = 600``."""
    value, interval = shown(one, threshold=threshold)
    unit = f" {one.unit}" if one.unit else ""
    interval = f"({interval})" if one.interval is None else interval
    return f"{value}{unit} {interval}, n = {count(one.n)}"


def bound(name: str) -> str:
    """What a measurement is if it is no estimate: ``an upper bound under the stated attacks``."""
    return BOUNDS.get(name, "")


def told_as_bound(text: str, name: str) -> str:
    """A sentence about a measurement, with what it is instead of an estimate, once."""
    what = bound(name)
    return text if not what or what in text else f"{text} ({what})"


def passes(spent: tuple[float, float] | None) -> str:
    """Mean passes, forward + backward: ``41.2 + 40.2``; ``none`` where nobody is left to count."""
    return "none" if spent is None else " + ".join(f"{value:,.1f}" for value in spent)


def result(one: Measurement, *, threshold: float | None = None) -> str:
    """``measured``, and what the number is if it is no estimate; a void one says so first."""
    text = told_as_bound(measured(one, threshold=threshold), one.name)
    return f"void: {text}" if any(caveat.voids for caveat in one.caveats) else text


def level(value: float) -> str:
    """A confidence level: ``95 %``; a corrected one keeps its digits, ``99.67 %``."""
    return f"{100 * value:.6g}\N{NO-BREAK SPACE}%"


def method(interval: Interval) -> str:
    """How an interval was made: ``wilson, 95 %``."""
    return f"{interval.method}, {level(interval.level)}"


def count(n: int) -> str:
    """A count with thousands marked: ``10,000``."""
    return f"{n:,}"


def counted(n: int, noun: str, plural: str = "") -> str:
    """``1 rule``, ``2 rules``, ``no rules``."""
    many = plural or f"{noun}s"
    return f"{count(n) if n else 'no'} {noun if n == 1 else many}"


def criterion(rule: Rule) -> str:
    """``robust_accuracy \N{GREATER-THAN OR EQUAL TO} 0.6``."""
    sign = "\N{LESS-THAN OR EQUAL TO}" if rule.at_least is None else "\N{GREATER-THAN OR EQUAL TO}"
    return f"{rule.measurement} {sign} {threshold(rule)}"


def threshold(rule: Rule) -> str:
    """A rule's threshold as somebody would write it."""
    return f"{rule.threshold:.12g}"


def condition(name: str, value: Scalar) -> str:
    """``epsilon = 0.0314 (8/255)``: budgets on the grid of 8-bit images are named by it too."""
    return f"{name} = {scalar(value, budget=name == 'epsilon')}"


def scalar(value: Scalar, *, budget: bool = False) -> str:
    """A condition's value. budget: also as a fraction of 255 where it is a whole one."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        steps = on_grid(value) if budget else None
        return f"{value:.4g} ({steps})" if steps else f"{value:.6g}"
    return str(value)


def on_grid(value: float) -> str | None:
    """``8/255`` for a budget that is a whole number of steps of an 8-bit image, else None.

    A number that is short as it stands (0.2, which is 51/255 too) stays as it was written.
    """
    if not 0 < value < 1 or math.isclose(value, float(f"{value:.4g}"), rel_tol=1e-12):
        return None
    whole = round(value * 255)
    return f"{whole}/255" if 0 < whole < 255 and abs(value * 255 - whole) < 1e-6 else None


def budget(value: float) -> str:
    """A budget as short as it can be said: ``8/255``, ``0.3``."""
    return on_grid(value) or f"{value:.6g}"


def parameter(name: str, value: Any) -> str:
    """A check's parameter; budgets are written as in conditions."""
    if name == "epsilon":
        written = value if isinstance(value, list | tuple) else [value]
        if all(isinstance(one, int | float) and not isinstance(one, bool) for one in written):
            return ", ".join(budget(one) for one in written)
    return plain(value)


def conditions(values: Mapping[str, Scalar]) -> str:
    """All conditions on one line, the threat model's norm and budget first."""
    first = {"norm": 0, "epsilon": 1}
    ordered = sorted(values.items(), key=lambda item: (first.get(item[0], 2), item[0]))
    return ", ".join(condition(name, value) for name, value in ordered)


def place(slice_: Mapping[str, str]) -> str:
    """A slice: ``race = Caucasian, sex = Male``; the empty one is everybody."""
    return ", ".join(f"{key} = {value}" for key, value in slice_.items())


def where(one_slice: Mapping[str, str], one_conditions: Mapping[str, Scalar]) -> str:
    """Slice and conditions together; empty for everybody without conditions."""
    return ", ".join(text for text in (place(one_slice), conditions(one_conditions)) if text)


def plain(value: Any) -> str:
    """A parameter or a fact as text: strings as they are, everything else as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def cite(text: str) -> str:
    """A citation for people: ``Article 15(5)#3-data-poisoning`` names a subparagraph and a threat."""
    match = re.fullmatch(r"(.+)#([1-9])(?:-([\w-]+))?", text)
    if match is None:
        return text
    place, number_, threat = match.groups()
    told = f"{place}, {_ORDINALS[int(number_) - 1]} subparagraph"
    return f"{told}: {threat.replace('-', ' ')}" if threat else told


def applies(text: str) -> str:
    """From when an item applies: ``annex_iii:2027-12-02;annex_i:2028-08-02`` in words."""
    plain_ = text.replace("annex_iii:", "Annex III ").replace("annex_i:", "Annex I ")
    return "; ".join(part.strip() for part in plain_.split(";"))


def moment(text: str) -> str:
    """A time of the record, ``2026-11-22T10:14:03Z``, as people read it; anything else as it is."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)Z", text)
    return f"{match[1]} {match[2]} UTC" if match else text


def roles(value: Any) -> str:
    """``weights: safetensors, read as data; code: …``: a word for each file of a model."""
    if isinstance(value, Mapping):
        return "; ".join(f"{role}: {plain(told)}" for role, told in value.items())
    return plain(value)


def seconds(value: float) -> str:
    """A duration: ``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 4 min``."""
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count_of_bytes: int) -> str:
    """``512 B``, ``24 kB``, ``1.4 MB``."""
    if count_of_bytes < 1000:
        return f"{count_of_bytes} B"
    if count_of_bytes < 1_000_000:
        return f"{count_of_bytes / 1000:.0f} kB"
    return f"{count_of_bytes / 1_000_000:.1f} MB"


def waiver(one: Waiver) -> str:
    """``waived until 2027-01-31 by A. Name: reason``, or that it has expired."""
    state = "waiver expired on" if one.expired else "waived until"
    return f"{state} {one.until.isoformat()} by {one.owner}: {one.reason}"


def gate(code: ExitCode) -> str:
    """The gate's answer in two words."""
    return "The gate opens" if code is ExitCode.PASSED else "The gate stays closed"


def exit_words(code: ExitCode) -> str:
    """``Exit code 1: a rule failed``."""
    return f"Exit code {int(code)}: {EXITS[code]}"


def clipped(text: str, most: int) -> str:
    """At most so many characters, the cut marked."""
    return text if len(text) <= most else f"{text[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def printable(text: object) -> str:
    """Text that any document and terminal can hold; line breaks and tabs stay.

    Escape sequences move a terminal's cursor, XML refuses control characters, and invisible marks
    of direction make a name read as another: all go.
    """
    return _UNPRINTABLE.sub("", str(text))


def one_line(text: object) -> str:
    """The same on one line: white space of any kind becomes single blanks."""
    return " ".join(printable(text).split())
