"""attacks.tabular beside a solver that knows the answer, and on a real table.

Linear models on rows with a sum, two inequalities, whole numbers and a group of indicators: a
mixed-integer solver gives the least margin that any allowed row reaches, so it is known which rows can
be fooled at all. Then the breast cancer table of scikit-learn: a perceptron and boosted trees.

    python benchmarks/tables.py             seeds 1000 to 1019, about three minutes
    python benchmarks/tables.py --sample    two seeds
    python benchmarks/tables.py --record    also appends to benchmarks/RESULTS.md
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.util
import platform
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np
import sklearn
import torch

from dlaudit import Artifact, Bench, Dataset, Epsilon, Measurement, TorchModel
from dlaudit.attacks.tabular import Tabular
from dlaudit.audit.bench import Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.parts import Model
from dlaudit.audit.statistics import wilson
from dlaudit.audit.subject import fitted
from dlaudit.models.sklearn import SklearnModel

HERE = Path(__file__).resolve().parent
ROWS, EPSILON = 60, 0.25
CURVE = [0.02, 0.1, 0.25, 0.5]


def planted() -> ModuleType:
    """The rows, models and solver that the tests use."""
    path = HERE.parent / "tests" / "attacks" / "test_tabular.py"
    spec = importlib.util.spec_from_file_location("planted_tables", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def attacked(
    attack: Tabular, model: Model, data: Dataset
) -> tuple[list[Measurement], dict[str, np.ndarray]]:
    """What one run measures, and its evidence."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        bench = Bench(
            Subject(model, data), run="attacks.tabular", plan_seed=0, store=EvidenceStore(place),
            cache=place / "cache",
        )  # fmt: skip
        yielded = list(attack.measure(bench))
        (kept,) = [one for one in yielded if isinstance(one, Artifact)]
        with np.load(place / kept.path) as columns:
            return [one for one in yielded if isinstance(one, Measurement)], dict(columns)


def beside_the_solver(tables: ModuleType, seeds: range) -> list[str]:
    """Rows that can be fooled and rows that were, over all seeds."""
    lines = []
    for changes in (0, 1):
        least, kinds = [], {"torch": [], "black": []}
        spent = {"torch": [], "black": []}
        for seed in seeds:
            x = tables.accounts(ROWS, seed)
            model, y = tables.scored(x, seed + 10_000)
            reach = EPSILON * np.subtract(*np.percentile(x.astype(np.float64), [75, 25], axis=0))
            least += [
                tables.optimum(model, row, label, reach, changes)
                for row, label in zip(x.astype(np.float64), y.tolist(), strict=True)
            ]
            attack = Tabular(
                epsilon=Epsilon(EPSILON), relations=tables.RELATIONS, categories=changes
            )
            data = tables.rows_of(x, y, tables.NAMES)
            for kind in kinds:
                _, table = attacked(attack, getattr(model, kind)(), data)
                kinds[kind] += table["fooled"].tolist()
                robust = table["robust"]
                spent[kind] += (table["forward"] + table["backward"])[robust].tolist()
        can = np.array(least) < -1e-3
        for kind, found in kinds.items():
            fooled = np.array(found)
            hit = int((can & fooled).sum())
            interval = wilson(hit, int(can.sum()))
            words = {"torch": "with gradients", "black": "without gradients"}[kind]
            wrong = int((fooled & (np.array(least) > 1e-4)).sum())
            lines.append(
                f"- {words}, {changes} categories may change: {hit} of {int(can.sum())} fooled that can "
                f"be [{interval.low:.3f}, {interval.high:.3f}], {wrong} that cannot; "
                f"{np.mean(spent[kind]):.0f} passes per robust row."
            )
    return lines


def on_breast_cancer(tables: ModuleType) -> list[str]:
    """Curves of a perceptron and of trees, both with two declared inequalities."""
    from sklearn.ensemble import GradientBoostingClassifier

    cancer = tables.cancer.__wrapped__()
    net = tables.perceptron.__wrapped__(cancer)
    trees = GradientBoostingClassifier(n_estimators=50, random_state=0)
    trees.fit(cancer.x[:-120], cancer.y[:-120])
    data = cancer.data(120)
    lines = []
    for name, model in (
        ("perceptron", TorchModel(net, device="cpu", classes=("no", "yes"))),
        ("50 boosted trees", SklearnModel(trees, "trees")),
    ):
        subject = fitted(Subject(model, data))
        for relations in ([], tables.CANCER):
            attack = Tabular(epsilon=Epsilon(CURVE), relations=relations)
            measured, table = attacked(attack, subject.model, subject.data)
            clean = next(one.value for one in measured if one.name == "clean_accuracy")
            curve = [one.value for one in measured if one.name == "robust_accuracy"]
            passes = (table["forward"] + table["backward"])[table["attacked"]].mean()
            shown = ", ".join(
                f"{value:.1%} at {epsilon}" for epsilon, value in zip(CURVE, curve, strict=True)
            )
            lines.append(
                f"- breast cancer, {name}, {len(relations)} relations: clean {clean:.1%}; robust {shown}; "
                f"{passes:.0f} passes per attacked row over the curve."
            )
    return lines


def main() -> None:
    """Attack, solve, count and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="two seeds")
    parser.add_argument("--record", action="store_true", help="append to RESULTS.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tables = planted()
    seeds = range(1000, 1002 if options.sample else 1020)
    lines = [
        f"- Linear models, {ROWS} rows each, seeds {seeds[0]} to {seeds[-1]}, defaults but {EPSILON=}.",
        *beside_the_solver(tables, seeds),
        *on_breast_cancer(tables),
    ]
    print("\n".join(lines))
    if options.record:
        told = (
            f"`python benchmarks/tables.py --record, {dt.datetime.now(tz=dt.UTC).date()}, "
            f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, "
            f"scikit-learn {sklearn.__version__}`"
        )
        with (HERE / "RESULTS.md").open("a") as file:
            file.write("\n## Attacks on tables\n\n" + "\n".join(lines) + f"\n\n{told}\n")


if __name__ == "__main__":
    main()
