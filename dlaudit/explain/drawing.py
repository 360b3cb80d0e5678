"""The pictures of an attribution: what is drawn, and the words beneath it with the maps' verdicts.

Knows measured rows; never how they were measured. Single inputs are drawn only where the plan keeps
samples; means over inputs show no single one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dlaudit.audit.bench import Bench
from dlaudit.audit.record import Artifact
from dlaudit.explain.pictures import bars_png, curves_svg, maps_png, text_svg, waterfall_svg

if TYPE_CHECKING:
    from dlaudit.explain.rows import Row
    from dlaudit.explain.subject import Subject

MOST_CLASSES = 10
SCALE = "Orange speaks for the decision, purple against it; white is zero."


def mean_maps(bench: Bench, subject: Subject, rows: list[Row]) -> Iterator[Artifact]:
    """One picture per row of the table: mean maps per decided class, or mean bars per feature."""
    decided = subject.target.cpu().numpy()
    for row in rows:
        if subject.pixels:
            classes = np.unique(decided)[:MOST_CLASSES]
            maps = [_flat(row.maps[decided == k].mean(axis=0)) for k in classes]
            content = maps_png([_label(bench, int(k)) for k in classes], maps)
            what = "mean attribution per decided class"
        else:
            size = np.abs(row.maps.reshape(len(row.maps), -1)).mean(axis=0, dtype=np.float64)
            names = [f"feature {k}" for k in range(len(size))]
            content = bars_png(names, size)
            what = "mean absolute attribution per feature, in units of the logit"
        scale = f" {SCALE}" if subject.pixels else ""
        yield bench.keep(
            f"{bench.run}.{row.method}.{row.baseline}", content, media_type="image/png",
            caption=f"{row.title}: {what}, over {len(row.maps)} inputs.{scale} {said(row)}",
            alt=f"{what.capitalize()} of {row.title}, over {len(row.maps)} inputs. {said(row)}",
        )  # fmt: skip


def single_maps(bench: Bench, subject: Subject, rows: list[Row], count: int) -> Iterator[Artifact]:
    """The first inputs, each with its maps by every row of the table."""
    decided = subject.target.cpu().numpy()
    verdicts = " ".join(f"{row.title}: {said(row)}" for row in rows)
    for at in range(min(count, len(decided))):
        sample = str(subject.batch.id[at])
        label, truth = _label(bench, int(decided[at])), _label(bench, int(subject.batch.y[at]))
        content = maps_png(
            [_stamped(row) for row in rows],
            [_flat(row.maps[at]) for row in rows],
            np.asarray(subject.batch.x[at]),
        )
        decision = f"Sample {sample}, decided as {label} (labelled {truth})"
        yield bench.keep(
            f"{bench.run}.sample.{sample}", content, media_type="image/png",
            caption=f"{decision}: where the logit of {label} comes from. {SCALE} {verdicts}",
            alt=f"{decision}: the picture and {len(rows)} attribution maps of it. {verdicts}",
        )  # fmt: skip


def single_texts(bench: Bench, subject: Subject, rows: list[Row], count: int) -> Iterator[Artifact]:
    """The first texts by every row of the table, each token on the colour of what it adds."""
    decided = subject.target.cpu().numpy()
    for at in range(min(count, len(decided))):
        sample, label = str(subject.batch.id[at]), _label(bench, int(decided[at]))
        tokens = [str(one) for one in np.asarray(subject.batch.x[at])]
        for row in rows:
            # (D, L, 1) -> (L,): what the channels of an embedding add is added.
            values = row.maps[at].sum(axis=0, dtype=np.float64)[:, 0]
            first = ", ".join(
                f"token {tokens[k]} at {k + 1} ({values[k]:+.2g})"
                for k in np.argsort(-np.abs(values), kind="stable")[:3]
            )
            what = f"Text {sample}, decided as {label}, by {row.title}"
            yield bench.keep(
                f"{bench.run}.text.{sample}.{row.method}.{row.baseline}", text_svg(tokens, values),
                media_type="image/svg+xml",
                caption=f"{what}: what each token adds to the logit of {label}. {SCALE} Tokens are "
                f"shown by their ids. {said(row)}",
                alt=f"{what}; the three largest: {first}. {said(row)}",
            )  # fmt: skip


def curves(bench: Bench, rows: list[Row]) -> Iterator[Artifact]:
    """Per baseline, how the decision's probability falls and rises by every method and control."""
    for baseline in dict.fromkeys(row.baseline for row in rows):
        some = [row for row in rows if row.baseline == baseline]
        panels = {
            way: {
                **{row.method.replace("_", " "): getattr(row.curves, way) for row in some},
                **{
                    f"control: {name}": getattr(one, way)
                    for name, one in some[0].control_curves.items()
                },
            }
            for way in ("deletion", "insertion")
        }
        verdicts = " ".join(f"{row.title}: {said(row)}" for row in some)
        what = f"Mean probability of the original decision while positions show the baseline {baseline}"
        yield bench.keep(
            f"{bench.run}.curves.{baseline}", curves_svg(panels, methods=len(some)),
            media_type="image/svg+xml",
            caption=f"{what} (deletion) or stop showing it (insertion), in each map's order, over "
            f"{len(some[0].maps)} inputs; dashed: controls that know the input only. {verdicts}",
            alt=f"{what}: {len(some)} methods against {len(some[0].control_curves)} controls. {verdicts}",
        )  # fmt: skip


def waterfalls(
    bench: Bench, subject: Subject, names: Sequence[str], *, values: np.ndarray,
    stable: np.ndarray, count: int,
) -> Iterator[Artifact]:  # fmt: skip
    """The first rows of a table, each with what its columns add to the logit of its decision."""
    decided = subject.target.cpu().numpy()
    for at in range(min(count, len(values))):
        sample, label = str(subject.batch.id[at]), _label(bench, int(decided[at]))
        end = float(subject.logits[at, decided[at]])
        stays = "unknown" if np.isnan(stable[at]) else f"{stable[at]:.0%}"
        first = ", ".join(f"{names[k]} {values[at, k]:+.3g}" for k in np.argsort(-values[at])[:3])
        what = f"Row {sample}, decided as {label}: what each column adds to its logit"
        yield bench.keep(
            f"{bench.run}.row.{sample}", waterfall_svg(names, values[at], end),
            media_type="image/svg+xml",
            caption=f"{what}, from the baseline's value to {end:.3g} (Shapley values). Share of the "
            f"first reasons that stay under small moves: {stays}.",
            alt=f"{what}. The first three: {first}.",
        )  # fmt: skip


def _stamped(row: Row) -> str:
    """What stands beneath a map: method, baseline and verdict."""
    sanity = "untested" if row.verdict is None else row.verdict.status
    return f"{row.method.replace('_', ' ')}\n{row.baseline}\nsanity: {sanity}"


def said(row: Row) -> str:
    """The row's verdicts in words: they stand beside every map."""
    sanity = "untested" if row.verdict is None else {
        "pass": "passed", "fail": "FAILED", "inconclusive": "inconclusive",
    }[row.verdict.status]  # fmt: skip
    gain = float(row.deletion.paired.mean())
    return f"Sanity {sanity}; deletion gain over {row.deletion.control} {gain:+.3f}."


def _label(bench: Bench, k: int) -> str:
    return bench.classes[k] if k < len(bench.classes) else str(k)


def _flat(picture: np.ndarray) -> np.ndarray:
    """(*channels, H, W) -> (H, W): the channels' attributions are added."""
    return np.asarray(picture.reshape(-1, *picture.shape[-2:]).sum(axis=0))
