"""What is drawn of groups, and the words beneath it: forest plots, calibration, a trade-off.

Knows what a check has told; refuses to compute a number of its own, so that a picture can show nothing
that the record does not hold. Intersections stand in the tables alone: they are too many for a picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dlaudit.audit.record import Artifact, Measurement
from dlaudit.fairness import pictures
from dlaudit.fairness.pictures import Line, Mark, Panel

if TYPE_CHECKING:
    from dlaudit.audit.bench import Bench
    from dlaudit.audit.parts import Yielded
    from dlaudit.fairness.tally import Partition

SVG = "image/svg+xml"


def forest(
    bench: Bench,
    part: Partition,
    told: Sequence[Yielded],
    lines: Mapping[str, float | None],
    *,
    line: str,
) -> Iterator[Artifact]:
    """Numbers of groups side by side, an axis each, n beside every mark.

    A group of which nothing is told is the reference.

    told: what the check measured of this partition. lines: name of a measurement -> where its dashed
    line stands; line: what that is, in words. Nothing for an intersection, or where nothing was measured.
    """
    numbers = [one for one in told if isinstance(one, Measurement) and one.name in lines]
    if part.is_intersection or not numbers:
        return
    positive = next((one.conditions.get("positive") for one in numbers), None)
    order, left_out = _shown(part, told)
    panels = [
        Panel(name.replace("_", " "), at, [_mark(told, name, part, group) for group in order])
        for name, at in lines.items()
        if any(one.name == name for one in numbers)
    ]
    content = pictures.forest_svg([part.named(group) for group in order], panels, line=line)
    what = ", ".join(panel.title for panel in panels)
    of = "" if positive is None else f" of the class {positive}"
    yield bench.keep(
        _name(bench, part, positive, "groups"), content, media_type=SVG,
        caption=(
            f"{part.attribute}: {what}{of}, with their intervals and "
            f"the samples behind them; dashed: {line}.{left_out}"
        ),
        alt=f"Forest plots of {what}{of} for the groups of {part.attribute}. {_said(numbers)}",
    )  # fmt: skip


def calibration(
    bench: Bench, part: Partition, curves: Mapping[int, Sequence[tuple[float, ...]]], positive: str
) -> Iterator[Artifact]:
    """Share of positives against mean score, a line per group. curves: group -> points of its bins."""
    if part.is_intersection or not curves:
        return
    lines = [Line(part.named(group), points) for group, points in curves.items()]
    content = pictures.lines_svg(
        lines, across="mean score of a bin", up=f"share of {positive}", diagonal=True
    )
    more = len(lines) - pictures.LINES
    left_out = f" {more} further groups are not drawn." if more > 0 else ""
    yield bench.keep(
        _name(bench, part, positive, "calibration"), content, media_type=SVG,
        caption=(
            f"{part.attribute}: calibration of each group for {positive}, bins of equal mass with Wilson "
            f"intervals. On the dashed line a score is the share of {positive}.{left_out}"
        ),
        alt=f"Calibration curves of {', '.join(line.name for line in lines[: pictures.LINES])}.",
    )  # fmt: skip


def trade_off(
    bench: Bench, part: Partition, points: Sequence[tuple[float, float, float, float]], doubt: str
) -> Iterator[Artifact]:
    """Accuracy against the gap. points: (gap, accuracy, its low end, its high end), today's first."""
    if part.is_intersection or not points:
        return
    content = pictures.lines_svg(
        [Line(part.attribute, points)], across="gap of the selection rates", up="accuracy"
    )
    first, last = points[0], points[-1]
    yield bench.keep(
        _name(bench, part, None, "trade-off"), content, media_type=SVG,
        caption=(
            f"{part.attribute}: accuracy against the gap of the selection rates, from today's rates "
            f"to one rate for all, on the half of the samples that fitted no threshold. {doubt}."
        ),
        alt=(
            f"From a gap of {first[0]:.3f} at accuracy {first[1]:.3f} to a gap of {last[0]:.3f} at "
            f"accuracy {last[1]:.3f}."
        ),
    )  # fmt: skip


def _mark(told: Sequence[Yielded], name: str, part: Partition, group: int) -> Mark | str:
    """A group's number, or a word for why it has none."""
    where = part.slices[group]
    for one in told:
        if isinstance(one, Artifact) or one.name != name or one.slice != where:
            continue
        if isinstance(one, Measurement) and one.interval is not None:
            return Mark(one.value, one.interval.low, one.interval.high, one.n)
        return "undefined"
    return "reference"


def _shown(part: Partition, told: Sequence[Yielded]) -> tuple[list[int], str]:
    """The groups that are drawn, the largest first to be kept; and how many are not."""
    size = dict.fromkeys(range(len(part.slices)), 0)
    for one in told:
        if isinstance(one, Measurement) and one.slice in part.slices:
            group = part.slices.index(one.slice)
            size[group] = max(size[group], one.n)
    kept = sorted(sorted(size, key=lambda group: -size[group])[: pictures.GROUPS])
    more = len(size) - len(kept)
    return kept, f" {more} smaller groups stand in the tables alone." if more else ""


def _name(bench: Bench, part: Partition, positive: object, what: str) -> str:
    """The artifact's name: run, attribute, class, kind of picture."""
    words = [bench.run, part.attribute, *([] if positive is None else [str(positive)]), what]
    return ".".join(words)


def _said(numbers: Sequence[Measurement]) -> str:
    """The first numbers in words, for those who cannot see the picture."""
    told = [
        f"{one.name.replace('_', ' ')} of {' & '.join(one.slice.values())} {one.value:.3f}"
        for one in numbers[:6]
    ]
    return f"{'; '.join(told)}."
