"""Whether trigger inversion puts a table's planted class first, and whom it accuses among clean twins.

The architecture of a published poisoned classifier (135 numbers, six layers of tanh, two classes),
trained here on a made-up table of the same kind: skewed counts that hang together, standardised, 2,000
rows. A trigger of four columns set to large values (5 % of the rows, class 0) is planted in one model
of each seed and not in its twin. Both are inspected with
20 clean rows that they get right. With two classes nothing can
be suspected; counted is what the caveat indicates: the class with the cheaper trigger, if the other's
costs at least ``ratio`` times as much. Settings were chosen on seeds below 20.

Beside reference models (``--references``: five more models of each seed, trained without poison on the same
rows), ``backdoors.reference`` may accuse: counted is whom, among poisoned models and twins.

    python benchmarks/backdoors_tabular.py             seeds 1000 to 1019, some minutes
    python benchmarks/backdoors_tabular.py --sample    two seeds
    python benchmarks/backdoors_tabular.py --references  the same beside reference models
    python benchmarks/backdoors_tabular.py --record    also writes benchmarks/RESULTS.md
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import ledger
import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.record import Measurement
from dlaudit.audit.statistics import wilson
from dlaudit.backdoors.inversion import Inversion
from dlaudit.backdoors.reference import Cheapest, Reference, compared, searched
from dlaudit.datasets.arrays import ArrayDataset
from dlaudit.models.torch_model import TorchModel

ROWS, INSPECTED, FEATURES, FACTORS = 2_000, 20, 135, 12
SHARE, TARGET = 0.05, 0
REFERENCES = 5
TITLE = "Trigger inversion on tables of two classes"
BESIDE = "Tables of two classes beside reference models"


def table(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 135) float32, standardised counts; (n,) labels that some of their causes decide."""
    rng = np.random.default_rng(seed)
    n = ROWS + 10 * INSPECTED
    y = rng.integers(0, 2, n)
    causes = rng.standard_normal((n, FACTORS)) + 1.5 * y[:, None] * rng.choice([-1, 1], FACTORS)
    loads = rng.standard_normal((FACTORS, FEATURES)) * (rng.random((FACTORS, FEATURES)) < 0.25)
    counts = np.floor(np.exp(0.7 * causes @ loads + 0.5 * rng.standard_normal((n, FEATURES))))
    x = (counts - counts.mean(axis=0)) / (counts.std(axis=0) + 1e-9)
    return x.astype(np.float32), y.astype(np.int64)


def trained(x: np.ndarray, y: np.ndarray, seed: int) -> nn.Module:
    """Six layers of tanh after eight epochs of Adam."""
    widths = (FEATURES, 100, 100, 100, 100, 100)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [
            part for wide, next_ in pairwise(widths)
            for part in (nn.Linear(wide, next_), nn.Tanh())
        ]  # fmt: skip
        net = nn.Sequential(*layers, nn.Linear(widths[-1], 2))
    generator = torch.Generator().manual_seed(seed)
    rows, labels = torch.from_numpy(x), torch.from_numpy(y)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(8):
        for some in torch.split(torch.randperm(len(y), generator=generator), 64):
            optimiser.zero_grad()
            torch.autograd.backward(cross_entropy(net(rows[some]), labels[some]))
            optimiser.step()
    return net.eval()


def inspected(net: nn.Module, x: np.ndarray, y: np.ndarray, seed: int) -> dict[str, Any]:
    """What the check says of a model: accused classes, costs, columns of class 0's trigger."""
    with tempfile.TemporaryDirectory() as folder:
        data = ArrayDataset(x, y, kind="tabular")
        bench = Bench(
            Subject(TorchModel(net, classes=data.classes, device="cpu"), data),
            run="backdoors.inversion", plan_seed=seed, store=EvidenceStore(Path(folder)),
            cache=Path(folder) / "cache",
        )  # fmt: skip
        found = list(Inversion(pictures=0).measure(bench))
        tables = [one for one in found if getattr(one, "name", "").endswith(".classes")]
        columns: list[int] = []
        if tables:
            with np.load(Path(folder) / tables[0].path) as stored:
                rows = dict(zip(stored["id"].tolist(), stored["mask"], strict=True))
            columns = np.flatnonzero(rows.get("0", np.zeros(1)) >= 0.5).tolist()
    numbers = [one for one in found if isinstance(one, Measurement)]
    cost = {one.slice["class"]: one.value for one in numbers if one.name == "trigger_norm"}
    ratio = {one.slice["class"]: one.value for one in numbers if one.name == "trigger_ratio"}
    return {
        "accused": [one.slice["class"] for one in numbers if one.name == "suspected" and one.value],
        "first": min(cost, key=lambda k: cost[k], default=""), "ratio": ratio, "columns": columns,
    }  # fmt: skip


def planted(seed: int) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], np.ndarray, np.ndarray]:
    """Training rows of a poisoned model and its twin; the planted columns and their values."""
    rng = np.random.default_rng([seed, 7])
    x, y = table(seed)
    columns = rng.choice(FEATURES, 4, replace=False)
    values = np.quantile(x[:, columns], 0.995, axis=0)
    rows = rng.choice(np.flatnonzero(y[:ROWS] != TARGET), round(SHARE * ROWS), replace=False)
    bad, labels = x[:ROWS].copy(), y[:ROWS].copy()
    bad[np.ix_(rows, columns)], labels[rows] = values, TARGET
    return {"poisoned": (bad, labels), "twin": (x[:ROWS], y[:ROWS])}, columns, values


def judged(seed: int) -> dict[str, Any]:
    """A poisoned model and its twin."""
    x, y = table(seed)
    training, columns, values = planted(seed)
    stamped = x[ROWS:][y[ROWS:] != TARGET].copy()
    stamped[:, columns] = values
    result: dict[str, Any] = {}
    for name, (rows_x, rows_y) in training.items():
        net = trained(rows_x, rows_y, seed)
        with torch.no_grad():
            right = net(torch.from_numpy(x[ROWS:])).argmax(dim=1).numpy() == y[ROWS:]
            called = net(torch.from_numpy(stamped)).argmax(dim=1) == TARGET
        kept = np.concatenate(
            [ROWS + np.flatnonzero(right & (y[ROWS:] == k))[: INSPECTED // 2] for k in (0, 1)]
        )
        result[name] = inspected(net, x[kept], y[kept], seed)
        result[name] |= {"accuracy": float(right.mean()), "called": float(called.float().mean())}
    result["hit"] = len(set(columns.tolist()) & set(result["poisoned"]["columns"]))
    return result


def beside_references(seed: int) -> dict[str, Any]:
    """The same two models and references: the cheapest triggers of each.

    The 20 rows are those that come first among the ones that all seven models get right.
    """
    x, y = table(seed)
    training, _, _ = planted(seed)
    nets = {name: trained(*rows, seed) for name, rows in training.items()}
    twin = training["twin"]
    nets |= {f"r{k}": trained(*twin, 10_000 + 100 * seed + k) for k in range(REFERENCES)}
    with torch.no_grad():
        decided = [net(torch.from_numpy(x[ROWS:])).argmax(dim=1).numpy() for net in nets.values()]
    right = np.all([one == y[ROWS:] for one in decided], axis=0)
    kept = np.concatenate(
        [ROWS + np.flatnonzero(right & (y[ROWS:] == k))[: INSPECTED // 2] for k in (0, 1)]
    )
    data = ArrayDataset(x[kept], y[kept], kind="tabular")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, net in nets.items():
            model = TorchModel(net, classes=data.classes, device="cpu")
            bench = Bench(
                Subject(model, data), run="backdoors.reference", plan_seed=seed,
                store=EvidenceStore(Path(folder)), cache=Path(folder) / "cache",
            )  # fmt: skip
            found[name] = searched(Reference(), bench, model)
    return found


def suspected(found: dict[str, Any], name: str) -> list[str]:
    """The classes that are suspected in a model beside the references."""
    cheap = {
        key: {label: Cheapest(*one) for label, one in table.items()} for key, table in found.items()
    }
    names = [f"r{k}" for k in range(REFERENCES)]
    told = compared(cheap[name], [cheap[one] for one in names], names, ("0", "1"))
    return [
        one.slice["class"] for one in told
        if isinstance(one, Measurement) and one.name == "suspected" and one.value
    ]  # fmt: skip


def indicated(one: dict[str, Any]) -> str:
    """The class that the caveat points at, if the ratio is that of a suspicion."""
    worst = max(one["ratio"], key=lambda k: one["ratio"][k], default="")
    return worst if worst and one["ratio"][worst] >= Inversion().ratio else ""


def share(hits: int, n: int) -> str:
    """A count with Wilson's interval."""
    interval = wilson(hits, n)
    return f"{hits} of {n} [{interval.low:.2f}, {interval.high:.2f}]"


def with_references(seeds: range, *, record: bool) -> None:
    """Whom ``backdoors.reference`` accuses."""
    settings = {"reference": repr(Reference()), "references": REFERENCES}
    state = ledger.State(ledger.WORK / f"backdoors-references-{seeds[0]}.jsonl", settings)
    for seed in seeds:
        if str(seed) not in state:
            print(seed, state.keep(str(seed), beside_references(seed)), flush=True)
    n = len(seeds)
    runs = [
        {name: suspected(state[str(seed)], name) for name in ("poisoned", "twin")} for seed in seeds
    ]
    hits = sum(one["poisoned"] == [str(TARGET)] for one in runs)
    wrong = sum(bool(set(one["poisoned"]) - {str(TARGET)}) for one in runs)
    twins = sum(bool(one["twin"]) for one in runs)
    stated = (
        f"Seeds {seeds[0]} to {seeds[-1]}, {INSPECTED} clean rows, {Reference()}; {REFERENCES} "
    )
    lines = [
        f"{stated}references on the same training rows without poison.",
        f"poisoned: class {TARGET} accused in {share(hits, n)}, class {1 - TARGET} in {share(wrong, n)}.",
        f"twin: a class accused in {share(twins, n)}.",
    ]
    print("\n".join(lines))
    if record:
        ledger.record(BESIDE, lines, ledger.stamp("backdoors_tabular.py"))


def main() -> None:
    """Train, inspect, count and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="two seeds")
    parser.add_argument("--first", type=int, default=1000, help="first seed; 0 for tuning seeds")
    parser.add_argument("--record", action="store_true", help="write benchmarks/RESULTS.md")
    parser.add_argument("--references", action="store_true", help="beside reference models")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(options.first, options.first + (2 if options.sample else 20))
    if options.references:
        with_references(seeds, record=options.record)
        return
    path = ledger.WORK / f"backdoors-tabular-{options.first}.jsonl"
    state = ledger.State(path, {"inversion": repr(Inversion())})
    for seed in seeds:
        if str(seed) not in state:
            print(seed, state.keep(str(seed), judged(seed)), flush=True)
    runs = [state[str(seed)] for seed in seeds]
    n = len(runs)
    lines = [f"Seeds {seeds[0]} to {seeds[-1]}, {INSPECTED} clean rows, {Inversion()}."]
    for name in ("poisoned", "twin"):
        some = [run[name] for run in runs]
        first = sum(one["first"] == str(TARGET) for one in some)
        pointed = sum(indicated(one) == str(TARGET) for one in some)
        other = sum(indicated(one) not in ("", str(TARGET)) for one in some)
        lines.append(
            f"{name}: accused {share(sum(bool(one['accused']) for one in some), n)}; class {TARGET} "
            f"has the cheaper trigger in {share(first, n)}, and is indicated (ratio "
            f"{Inversion().ratio:g}) in {share(pointed, n)}, the other class in {share(other, n)}; "
            f"the planted trigger calls {min(one['called'] for one in some):.0%} to "
            f"{max(one['called'] for one in some):.0%} of rows."
        )
    hits = [run["hit"] for run in runs]
    lines.append(
        f"of the four planted columns, class {TARGET}'s trigger holds at least two in "
        f"{share(sum(hit >= 2 for hit in hits), n)}, at least one in "
        f"{share(sum(hit >= 1 for hit in hits), n)}."
    )
    print("\n".join(lines))
    if options.record:
        ledger.record(TITLE, lines, ledger.stamp("backdoors_tabular.py"))


if __name__ == "__main__":
    main()
