"""What cannot be audited as asked is refused before anything is measured, with field and reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dlaudit import ArrayDataset, Batch, Card, Dataset, Decisions, Model, TorchModel
from dlaudit.audit.bench import Subject
from dlaudit.audit.plan import Loader, Plan
from dlaudit.audit.registry import Part, Registry
from dlaudit.audit.subject import Subset, expanded, fitted, function_of, load, open_subject
from dlaudit.datasets.arrays import Splits
from dlaudit.errors import LoadError, NotOffered, PlanError
from dlaudit.testing import toy_data, toy_model


def registry_with(**loaders: Callable[..., object]) -> Registry:
    registry = Registry()
    for name, loader in loaders.items():
        for group in ("models", "datasets"):
            registry._parts[group, name] = Part(group, name, "this test", lambda made=loader: made)
    return registry


def plan_with(model: str = "net", data: str = "rows", **more: Any) -> Plan:
    return Plan(name="t", model=Loader(use=model), data={"test": Loader(use=data)}, **more)


def raising(error: BaseException) -> Callable[[], object]:
    def loader() -> object:
        raise error

    return loader


# -- loaders -----------------------------------------------------------------------------------------


def test_everything_that_cannot_be_opened_is_told_together(tmp_path: Path) -> None:
    registry = registry_with(
        gone=raising(LoadError("net.pt: expected a file", "and weights")),
        broken=raising(ZeroDivisionError("planted")),
        leaving=raising(SystemExit(0)),
        shy=raising(NotOffered("no rows today")),
    )
    plan = Plan(
        name="t", model=Loader(use="gone"), models={"surrogate": Loader(use="broken")},
        data={"test": Loader(use="leaving"), "train": Loader(use="gone"), "late": Loader(use="shy")},
        train={"factory": "missing.py:fit"},
    )  # fmt: skip
    with pytest.raises(PlanError) as caught:
        open_subject(plan, tmp_path, registry)
    assert caught.value.problems == (
        "model: net.pt: expected a file",
        "model: and weights",
        "data: the loader 'leaving' failed: SystemExit: 0",
        "data.train: net.pt: expected a file",
        "data.train: and weights",
        "data.late: no rows today",
        "models.surrogate: the loader 'broken' failed: ZeroDivisionError: planted",
        f"train.factory: {tmp_path}/missing.py: expected a Python file, found nothing",
    )


def test_a_loader_gets_its_arguments_the_root_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def loader(path: str, sizes: list[str], deep: dict[str, Any], *, root: Path) -> Dataset:
        seen.update(path=path, sizes=sizes, deep=deep, root=root)
        return toy_data(40)

    monkeypatch.setenv("DLAUDIT_TEST_PLACE", "here")
    args = {"path": "${DLAUDIT_TEST_PLACE}/x", "sizes": ["${DLAUDIT_TEST_PLACE}"], "deep": {"n": 3}}
    made = load(
        "datasets", Loader(use="mine", args=args), tmp_path, registry_with(mine=loader), Dataset
    )
    assert isinstance(made, Dataset)
    assert seen == {"path": "here/x", "sizes": ["here"], "deep": {"n": 3}, "root": tmp_path}


def test_a_variable_that_is_not_set_is_told() -> None:
    with pytest.raises(LoadError, match=r"\$\{DLAUDIT_NO_SUCH\}: the environment has no variable"):
        expanded({"path": ["${DLAUDIT_NO_SUCH}"]})


def test_a_loader_that_returns_something_else_is_told() -> None:
    with pytest.raises(LoadError, match="the loader 'net' returned a int, expected a Model"):
        load("models", Loader(use="net"), Path(), registry_with(net=lambda: 3), Model)


def test_a_function_is_found_in_its_file_or_the_nearest_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("def train_fn(data, seed): return seed\nnot_one = 3")
    assert function_of("train.py:train_fn", tmp_path)(None, 4) == 4
    with pytest.raises(
        LoadError, match=r"train.py holds no function 'trainfn'. Did you mean train_fn"
    ):
        function_of("train.py:trainfn", tmp_path)
    with pytest.raises(LoadError, match="holds no function 'not_one'"):
        function_of("train.py:not_one", tmp_path)


def test_the_function_for_training_reaches_the_bench(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("def train_fn(data, seed): return seed")
    registry = registry_with(net=toy_model, rows=lambda: toy_data(40))
    subject = open_subject(plan_with(train={"factory": "train.py:train_fn"}), tmp_path, registry)
    assert subject.train_fn is not None
    assert subject.train_fn(None, 4) == 4


# -- model and data together -------------------------------------------------------------------------


class Flat(nn.Module):
    """Logits of a given width for (n, 4) inputs."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(4, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


class Answering(nn.Module):
    """Whatever the test wants to be answered."""

    def __init__(self, answer: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: torch.Tensor) -> Any:
        return self.answer(x)


class Foreign(Model):
    """A model of somebody else, which looks at nothing but the width of its inputs."""

    card = Card(name="foreign", fingerprint="f")
    classes = ()

    def __init__(self, width: int, answers: int | None = None) -> None:
        self.width, self.answers = width, answers

    def logits(self, x: Any) -> torch.Tensor:
        assert x.shape[1] == self.width, f"{x.shape[1]} is not {self.width}"
        return torch.zeros(self.answers or len(x), 3)


def rows(n: int = 12, width: int = 4, classes: int = 3, **more: Any) -> ArrayDataset:
    rng = np.random.default_rng(0)
    x = more.pop("x", rng.random((n, width), dtype=np.float32))
    return ArrayDataset(x, np.arange(len(x)) % classes, name="rows.npz", **more)


def nan_in_row_7() -> np.ndarray:
    x = np.random.default_rng(0).random((12, 4), dtype=np.float32)
    x[7, 2] = np.nan
    return x


REFUSED = [
    ("another width of input", lambda: TorchModel(Flat()), lambda: rows(width=5),
     ("shape (12, 5) and type float32", "RuntimeError")),
    ("another width for a foreign model", lambda: Foreign(4), lambda: rows(width=5),
     ("the model cannot answer data of shape (5,) and type float32: AssertionError: 5 is not 4",)),
    ("a foreign model's strange answer", lambda: Foreign(4, answers=7), rows,
     ("expected logits of shape (12, classes), got (7, 3)",)),
    ("another type of input", lambda: TorchModel(Flat()), lambda: rows(x=np.ones((12, 4), dtype=np.int64)),
     ("shape (12, 4) and type int64",)),
    ("fewer outputs than classes", lambda: TorchModel(Flat(2)), rows,
     ("expected one output per class of the data (3: 0, 1, 2), got 2",)),
    ("names that do not fit", lambda: TorchModel(Flat(3), classes=("a", "b")), rows,
     ("classes: expected 3 names, one per output, got 2",)),
    ("one answer for all", lambda: TorchModel(Answering(lambda x: x[:1, :3])), rows,
     ("one row per input, got (1, 3)",)),
    ("pictures for answers", lambda: TorchModel(Answering(lambda x: torch.zeros(len(x), 3, 2, 2))), rows,
     ("expected output of shape (B, C) or (B,)", "got (12, 3, 2, 2)")),
    ("no tensor", lambda: TorchModel(Answering(lambda x: "cat")), rows,
     ("expected a tensor", "got str")),
    ("a crash", lambda: TorchModel(Answering(lambda x: 1 / 0)), rows, ("ZeroDivisionError",)),
    ("NaN answers", lambda: TorchModel(Answering(lambda x: x[:, :3] * float("nan"))), rows,
     ("NaN or infinite logits",)),
    ("NaN inputs", lambda: TorchModel(Flat()), lambda: rows(x=nan_in_row_7()),
     ("rows.npz: field 'x': expected finite numbers, got NaN or infinity in row 7 (id 7)",)),
    ("inputs beyond the bounds", lambda: TorchModel(Flat(), bounds=(0, 1)),
     lambda: rows(x=np.full((12, 4), 255, dtype=np.float32)),
     ("rows.npz: field 'x': expected values within bounds = [0, 1], got [255, 255]", "scaled")),
    ("bounds per feature of another shape",
     lambda: TorchModel(Flat(), bounds=(np.zeros(5), np.ones(5))), rows,
     ("bounds of shape (5,) do not fit inputs of shape (4,)",)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "data", "said"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_a_model_that_does_not_fit_its_data_is_refused(
    model: Callable[[], Model], data: Callable[[], Dataset], said: tuple[str, ...]
) -> None:
    with pytest.raises(PlanError) as caught:
        fitted(Subject(model=model(), data=data()))
    (problem,) = caught.value.problems
    assert problem.startswith("model: ")
    for part in said:
        assert part in problem


def test_a_further_model_that_does_not_fit_is_told_by_its_name() -> None:
    with pytest.raises(PlanError, match=r"^models.surrogate: "):
        fitted(
            Subject(
                model=TorchModel(Flat()), data=rows(), models={"surrogate": TorchModel(Flat(2))}
            )
        )


def test_inputs_that_leave_the_bounds_by_rounding_alone_are_accepted() -> None:
    x = np.full((12, 4), 1 + 1e-7, dtype=np.float32)
    fitted(Subject(model=TorchModel(Flat(), bounds=(0, 1)), data=rows(x=x)))


@pytest.mark.parametrize(
    ("model", "data", "classes"),
    [
        ((), ("cat", "dog", "owl"), ("cat", "dog", "owl")),
        (("a", "b", "c"), ("cat", "dog", "owl"), ("a", "b", "c")),
        ((), ("cat", "dog"), ("cat", "dog", "2")),
    ],
)
def test_a_model_without_names_adopts_those_of_the_data(
    model: tuple[str, ...], data: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    x, y = np.zeros((6, 4), dtype=np.float32), np.arange(6) % len(data)
    named = TorchModel(Flat(), classes=model)
    subject = fitted(Subject(model=named, data=ArrayDataset(x, y, classes=data)))
    assert subject.model.classes == classes
    assert subject.model.card.facts["classes"] == 3
    assert subject.model.card.facts["output"] == "logits"
    assert (subject.model.passes.forward, subject.model.passes.backward) == (0, 0)


class Recorded(Model):
    """Decisions and nothing else."""

    card = Card(name="recorded", fingerprint="r")
    offers = frozenset({"decisions"})
    classes = ()

    def logits(self, x: Any) -> torch.Tensor:
        raise AssertionError("never asked")

    def decide(self, batch: Batch) -> Decisions:
        return Decisions(predicted=np.zeros(len(batch.y), dtype=np.int64))


def test_recorded_decisions_are_looked_at_without_logits() -> None:
    subject = fitted(Subject(model=Recorded(), data=rows(classes=2)))
    assert subject.model.classes == ("0", "1")


# -- subsets -----------------------------------------------------------------------------------------


def split_data() -> Splits:
    """Three splits whose rows know where they belong."""
    return Splits({
        split: rows(40, id=np.array([f"{split}{i}" for i in range(40)]))
        for split in ("test", "train", "calibration")
    })  # fmt: skip


def ids(data: Dataset, split: str) -> list[str]:
    return [str(one) for batch in data.batches(split) for one in batch.id]


def test_a_subset_is_drawn_by_seed_without_replacement_in_stored_order() -> None:
    subset, again, other = (Subset(split_data(), 7, seed) for seed in (1, 1, 2))
    whole = split_data()
    for split in ("test", "train", "calibration"):
        kept = ids(subset, split)
        assert len(set(kept)) == len(kept) == subset.size(split) == 7
        assert kept == [one for one in ids(whole, split) if one in kept]
        assert kept == ids(again, split) != ids(other, split)
    assert subset.card == again.card
    assert len({subset.card.fingerprint, other.card.fingerprint, whole.card.fingerprint}) == 3
    assert subset.classes == whole.classes
    assert subset.offers == whole.offers


def test_a_subset_that_is_larger_than_the_data_is_the_data() -> None:
    whole = split_data()
    subset = Subset(whole, 40, 1)
    assert subset.card == whole.card
    assert ids(subset, "train") == ids(whole, "train")
    assert subset.size("train") == 40


def test_the_fingerprint_of_a_subset_does_not_hang_on_the_order_of_a_set() -> None:
    """Names of splits come out of a set, whose order differs from process to process."""
    import subprocess
    import sys

    program = (
        "import numpy as np; from dlaudit import ArrayDataset; "
        "from dlaudit.audit.subject import Subset; from dlaudit.datasets.arrays import Splits; "
        "x = np.zeros((9, 2), dtype=np.float32); "
        "parts = {s: ArrayDataset(x, np.arange(9) % 2) for s in ('test', 'a', 'b', 'c', 'd')}; "
        "print(Subset(Splits(parts), 3, 0).card.fingerprint)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(found) == 1


def test_a_bounded_plan_is_opened_as_a_subset(tmp_path: Path) -> None:
    registry = registry_with(net=toy_model, rows=lambda: toy_data(40))
    subject = open_subject(plan_with(max_samples=10), tmp_path, registry)
    assert subject.data.size("test") == 10


def test_data_without_a_row_is_refused() -> None:
    class Empty(Dataset):
        card = Card(name="empty.csv", fingerprint="e")
        classes = ("a",)

        def batches(self, split: str = "test") -> Iterator[Batch]:
            return iter(())

    with pytest.raises(PlanError, match=r"empty.csv: expected at least one row, got none"):
        fitted(Subject(model=TorchModel(Flat()), data=Empty()))
