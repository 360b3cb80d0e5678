"""The attacks beside published truths: what they leave, and that nothing impossible is ever found.

- MNIST TRADES network, linf 0.3: `standard` at most 92.91 %, `thorough` at most 92.81 % on all 10,000
  images (AutoAttack: 92.81 %, published); `attacks.autoattack` on the first 1,000, at most 91.4 %
  there, `standard` within 0.1 point of it on the same images.
- Certified MNIST network, linf 0.1: between 94.18 % and 95.9 %, and not one image of its certified
  list attacked.
- 40 boxes of VNN-COMP 2021: never a counterexample where verifiers exclude one; of 13 boxes with
  one, at least 11 found.

    python benchmarks/robustness.py                    all of it, hours; a killed one goes on
    python benchmarks/robustness.py --images 1000      the first images only
    python benchmarks/robustness.py --only standard    lines whose name holds a word
    python benchmarks/robustness.py --sample           50 images, no ensemble, for CI
    python benchmarks/robustness.py --record           also writes benchmarks/RESULTS.md

Results lie block by block in benchmarks/work/robustness.jsonl; they are of the code that is there
when a block is measured, so begin anew (--anew) after a change of an attack. Needs the truths
(DLAUDIT_TRUTHS, default ../shared/truths) and says so without them.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import subjects
import torch
from ledger import WORK, State, record, stamp
from subjects import Subject

from dlaudit import ArrayDataset, Attack, Bench, Epsilon, TorchModel
from dlaudit.attacks.autoattack import AutoAttack
from dlaudit.attacks.cascade import Cascade
from dlaudit.audit.bench import Subject as Opened
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.statistics import wilson

BLOCK = 250
ATTACKS: dict[str, Callable[[float], Attack]] = {
    "standard": lambda epsilon: Cascade(epsilon=Epsilon(epsilon), setting="standard", doctor="off"),
    "thorough": lambda epsilon: Cascade(epsilon=Epsilon(epsilon), setting="thorough", doctor="off"),
    "autoattack": lambda epsilon: AutoAttack(epsilon=Epsilon(epsilon), doctor="off"),
}
"""Their examination of themselves is off: it changes no figure of this table but the seconds."""
STARTS = 8
"""Seeds with which every box of VNN-COMP is attacked."""


class Line(NamedTuple):
    """One line of the table: a network, an attack, how many images, and what is expected."""

    truth: str
    epsilon: float
    attack: str
    images: int
    expected: str

    @property
    def name(self) -> str:
        """As it stands in the state file."""
        return f"{self.truth} {self.attack}"


LINES = (
    Line("mnist_trades", 0.3, "standard", 10_000, "at most 92.91 % on all 10,000"),
    Line("mnist_trades", 0.3, "thorough", 10_000, "at most 92.81 % on all 10,000"),
    Line("mnist_trades", 0.3, "autoattack", 1_000, "at most 91.4 % on the first 1,000"),
    Line("mnist_certified", 0.1, "standard", 10_000, "94.18 % to 95.9 %, no certified image"),
    Line("mnist_certified", 0.1, "thorough", 10_000, "94.18 % to 95.9 %, no certified image"),
)


def attacked(opened: Opened, attack: Attack, *, run: str, seed: int) -> Any:
    """The evidence of one run of an attack, as columns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench = Bench(
            opened, run=run, plan_seed=seed, store=EvidenceStore(folder), cache=folder / "cache"
        )
        kept = [one for one in attack.measure(bench) if hasattr(one, "path")]
        (table,) = [one for one in kept if one.name == f"{run}.samples"]
        with np.load(folder / table.path) as stored:
            return {column: stored[column] for column in stored.files}


def measured(line: Line, whole: Subject, state: State, *, images: int) -> Iterator[dict[str, Any]]:
    """The blocks of a line, those that are stored already first."""
    made = ATTACKS[line.attack](line.epsilon)
    for start in range(0, images, BLOCK):
        key = f"{line.name} / {start}"
        if key not in state:
            rows = slice(start, min(start + BLOCK, images))
            model = TorchModel(whole.net, bounds=(0, 1), device="cpu")
            begun = time.process_time()
            data = ArrayDataset(whole.x[rows].numpy(), whole.y[rows].numpy())
            run = f"attacks.truth.{start}"
            table = attacked(Opened(model, data), made, run=run, seed=1)
            robust = table["robust"]
            state.keep(key, {
                "n": len(robust), "robust": robust.astype(int).tolist(),
                "fooled": table["fooled"].astype(int).tolist(),
                "forward": float(table["forward"][robust].sum()),
                "backward": float(table["backward"][robust].sum()),
                "seconds": time.process_time() - begun,
            })  # fmt: skip
            print(f"{key}: {int(robust.sum())} of {len(robust)}", flush=True)
        yield state[key]


def told(line: Line, blocks: list[dict[str, Any]]) -> str:
    """A line of the table."""
    robust, n = sum(sum(one["robust"]) for one in blocks), sum(one["n"] for one in blocks)
    interval = wilson(robust, n)
    passes = "none is left"
    if robust:
        forward, backward = (
            sum(one[which] for one in blocks) / robust for which in ("forward", "backward")
        )
        passes = f"{forward:,.1f} + {backward:,.1f}"
    remark = line.expected
    if line.truth == "mnist_certified":
        with np.load(subjects.TRUTHS / line.truth / "certified_images.npz") as stored:
            certified = stored["certified"][:n].astype(bool)
        hit = int(
            (np.concatenate([one["fooled"] for one in blocks]).astype(bool) & certified).sum()
        )
        remark += f": {hit} of {int(certified.sum())} certified ones attacked"
    return (
        f"| {line.truth.replace('_', ' ')}, {line.epsilon:g} | {line.attack} | {robust} of {n:,} = "
        f"{robust / n:.2%} [{interval.low:.2%}, {interval.high:.2%}] | {passes} | "
        f"{sum(one['seconds'] for one in blocks):,.0f} | {remark} |"
    )


def beside(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Standard and thorough beside the ensemble on the images that both have seen."""

    def flat(name: str) -> list[int]:
        return [value for one in found.get(f"mnist_trades {name}", ()) for value in one["robust"]]

    ensemble = flat("autoattack")
    for name in ("standard", "thorough"):
        own = flat(name)
        n = min(len(own), len(ensemble))
        if n:
            pairs = list(zip(own[:n], ensemble[:n], strict=True))
            points = 100 * sum(a - b for a, b in pairs) / n
            only, other = sum(b > a for a, b in pairs), sum(a > b for a, b in pairs)
            yield (
                f"`{name}` minus `attacks.autoattack` on the same {n:,} images: {points:+.2f} points; "
                f"{only} fooled by `{name}` alone, {other} by the ensemble alone."
            )


def boxes(state: State, *, starts: int, most: int) -> str:
    """Counterexamples of thorough in the boxes of VNN-COMP, each attacked with several seeds."""
    folder = subjects.TRUTHS / "vnncomp_mnistfc"
    with (folder / "verdicts.csv").open(newline="", encoding="utf-8") as file:
        verdicts = list(csv.DictReader(file))[:most]
    with np.load(folder / "properties.npz") as stored:
        held = {name: stored[name] for name in stored.files}
    code = subjects.code("vnncomp_mnistfc")
    tally = {verdict: [0, 0] for verdict in ("sat", "unsat", "unknown")}
    for row in verdicts:
        key = f"box {row['network']} {row['property']} {row['epsilon']} / {starts}"
        if key not in state:
            hidden = int(row["network"].partition("256x")[2].partition(".")[0])
            net = code.load(str(folder / f"mnist_256x{hidden}.safetensors"), hidden)
            subjects.frozen(net)
            at = np.flatnonzero(
                (held["property"] == int(row["property"]))
                & np.isclose(held["epsilon"], float(row["epsilon"]))
            )[0]
            state.keep(key, in_box(net, held, int(at), starts=starts))
        found = state[key]
        tally[row["published_verdict"]][0] += found
        tally[row["published_verdict"]][1] += 1
    sat, unsat, unknown = (tally[verdict] for verdict in ("sat", "unsat", "unknown"))
    return (
        f"VNN-COMP 2021 mnistfc, `thorough` with {starts} seeds a box: counterexamples in {sat[0]} of "
        f"{sat[1]} sat boxes (at least 11 of 13 expected), {unsat[0]} of {unsat[1]} unsat ones (never "
        f"one), {unknown[0]} of {unknown[1]} undecided ones."
    )


def in_box(net: torch.nn.Module, held: dict[str, np.ndarray], at: int, *, starts: int) -> bool:
    """Whether any start finds a counterexample inside a box; checked against its float64 bounds."""
    lower, upper = held["lower"][at], held["upper"][at]
    low = lower.astype(np.float32)
    low = np.where(low < lower, np.nextafter(low, np.float32(np.inf)), low)
    high = upper.astype(np.float32)
    high = np.where(high > upper, np.nextafter(high, np.float32(-np.inf)), high)
    middle = ((low + high) / 2)[None]
    model = TorchModel(net, bounds=(low, high), device="cpu")
    epsilon = float((upper - lower).max() / 2) * (1 + 1e-6)
    y = held["label"][at : at + 1].astype(np.int64)
    made, opened = (
        Cascade(epsilon=Epsilon(epsilon), setting="thorough", doctor="off"),
        Opened(model, ArrayDataset(middle, y)),
    )
    return any(
        bool(attacked(opened, made, run="attacks.box", seed=seed)["fooled"][0])
        for seed in range(starts)
    )


def main() -> None:
    """Measure what is missing, print, and write RESULTS.md if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="50 images, for CI")
    parser.add_argument("--record", action="store_true", help="write benchmarks/RESULTS.md")
    parser.add_argument("--images", type=int, default=10_000, help="the first so many, at most")
    parser.add_argument("--only", default="", help="lines whose name holds this word")
    parser.add_argument("--anew", action="store_true", help="forget what is stored")
    options = parser.parse_args()
    if not subjects.present():
        sys.exit("The truths are not here (DLAUDIT_TRUTHS): nothing was measured.")
    torch.set_num_threads(1)
    chosen = [line for line in LINES if options.only in line.name]
    if options.sample:
        chosen = [line for line in chosen if line.attack == "standard"]
    most = 50 if options.sample else options.images
    table = [
        "| network, linf budget | attack | left robust | passes per robust sample | CPU s | expected |",
        "|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = (Path(folder) if options.sample else WORK) / "robustness.jsonl"
        if options.anew:
            path.unlink(missing_ok=True)
        state = State(path, {"block": BLOCK, "most": 50 if options.sample else 10_000})
        found: dict[str, list[dict[str, Any]]] = {}
        for line in chosen:
            whole = subjects.published(line.truth, line.epsilon)
            images = min(line.images, most)
            found[line.name] = list(measured(line, whole, state, images=images))
            table.append(told(line, found[line.name]))
            print(table[-1], flush=True)
        remarks = list(beside(found))
        if options.only in "vnn boxes":
            remarks.append(
                boxes(
                    state, starts=1 if options.sample else STARTS, most=6 if options.sample else 99
                )
            )
    lines = [*table, "", *remarks]
    stamped = stamp("robustness.py")
    print("\n".join([*remarks, stamped]))
    if options.record:
        record("The attacks beside published truths", lines, stamped)


if __name__ == "__main__":
    main()
