"""What a check works at: the opened model and data, clean answers, seeds and an evidence store.

Knows how to hand these out; never which check asks, in which process or on which device it runs.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from dlaudit.audit.evidence import EvidenceStore, digest, table_bytes, write_whole
from dlaudit.audit.parts import Batch, Dataset, Model, Passes
from dlaudit.audit.record import AnswersRun, Artifact, Cost, Rule, canonical
from dlaudit.errors import AuditError, NonFinite, NotOffered

if TYPE_CHECKING:
    import numpy as np
    import torch

    from dlaudit.audit.registry import Registry
    from dlaudit.audit.sampling import Sampling

BLOCK = 256


def derive_seed(*parts: object) -> int:
    """63 bits of ``sha256(part/part/…)``: independent of order of execution and of the worker."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class Answers(NamedTuple):
    """The model's clean answers on a whole split, in stored order.

    id: (n,) str; y, predicted: (n,) int64; logits: (n, C) float32 or None; score: (n,) or None;
    groups: attribute -> (n,) str.
    """

    id: np.ndarray
    y: np.ndarray
    predicted: np.ndarray
    logits: np.ndarray | None
    score: np.ndarray | None
    groups: dict[str, np.ndarray]

    @property
    def correct(self) -> np.ndarray:
        """(n,) bool."""
        right: np.ndarray = self.predicted == self.y
        return right

    def at(self, positions: Any) -> Answers:
        """The answers on some of the samples, in the order of ``positions``."""
        return Answers(
            id=self.id[positions], y=self.y[positions], predicted=self.predicted[positions],
            logits=None if self.logits is None else self.logits[positions],
            score=None if self.score is None else self.score[positions],
            groups={name: column[positions] for name, column in self.groups.items()},
        )  # fmt: skip


class Block(NamedTuple):
    """Consecutive samples with randomness of their own: the unit that shards and workers take."""

    number: int
    start: int
    batch: Batch
    seed: int

    def generator(self, purpose: str = "") -> torch.Generator:
        """A CPU torch generator for this block; ``purpose`` keeps independent draws apart."""
        import torch

        return torch.Generator().manual_seed(derive_seed(self.seed, purpose))

    def rng(self, purpose: str = "") -> np.random.Generator:
        """The numpy twin of ``generator``."""
        import numpy as np

        return np.random.default_rng(derive_seed(self.seed, purpose))


class Subject(NamedTuple):
    """What is audited, opened once per worker."""

    model: Model
    data: Dataset
    models: Mapping[str, Model] = {}
    train_fn: Callable[..., Any] | None = None


class Bench:
    """One run's place of work. Checks see only this."""

    def __init__(
        self,
        subject: Subject,
        *,
        run: str,
        plan_seed: int,
        store: EvidenceStore,
        cache: Path,
        block: int = BLOCK,
        keep_samples: int = 0,
        context: Mapping[str, Any] | None = None,
        ending: Sequence[Rule] = (),
        registry: Registry | None = None,
        root: Path | None = None,
    ) -> None:
        """run: the run's id; cache: a folder shared by the workers, for clean answers.

        context: what the plan declares of the system's use, which no measurement can show. ending:
        the run's rules, if it may stop as soon as they are decided. registry: where further parts are
        found; that of the installed packages if None. root: the folder that the plan's paths are
        relative to, by default the current one.
        """
        self.model = subject.model
        self.models = subject.models
        self.data = subject.data
        self.train_fn = subject.train_fn
        self.run = run
        self.seed = derive_seed(plan_seed, run)
        self.block = block
        self.keep_samples = keep_samples
        self.context: Mapping[str, Any] = context or {}
        self.cache = cache
        self.answered: dict[str, AnswersRun] = {}
        self.trainings: int | None = None
        """How many trainings the run may ask for; None where nobody counts."""
        self.counted: list[Passes] = []
        """The passes through the models that were trained for this run."""
        self._trainings: set[str] = set()
        self._plan_seed = plan_seed
        self._store = store
        self._ending = tuple(ending)
        self._registry = registry
        self._root = root or Path()

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, by index."""
        return self.model.classes

    def part(self, group: str, name: str) -> Any:
        """A part that the check's parameters name. Raises UnknownName, with the nearest name."""
        from dlaudit.audit.registry import Registry

        return (self._registry or Registry()).find(group, name).get()

    def file(self, written: str) -> Path:
        """The readable file that a parameter of the plan calls ``written``. Raises LoadError."""
        from dlaudit.audit.files import named_file

        return named_file(self._root, written)

    def rng(self, purpose: str = "") -> np.random.Generator:
        """Randomness of the whole run, for what is not done block by block."""
        import numpy as np

        return np.random.default_rng(derive_seed(self.seed, purpose))

    def blocks(self, split: str = "test", *, samples: int | None = None) -> Iterator[Block]:
        """The split in blocks of ``self.block`` consecutive samples.

        samples: at most so many, drawn by the plan's seed without replacement, in stored order.
        """
        yield from self.blocks_at(split, self._chosen(split, samples))

    def blocks_at(self, split: str, chosen: Any) -> Iterator[Block]:
        """The samples at sorted positions, None for all, in blocks of ``self.block``."""
        start = 0
        for number, batch in enumerate(regrouped(self.data.batches(split), self.block, chosen)):
            yield self.block_of(number, start, batch)
            start += len(batch.y)

    def block_of(self, number: int, start: int, batch: Batch) -> Block:
        """A block with the randomness that belongs to its number in this run."""
        return Block(number, start, batch, derive_seed(self._plan_seed, self.run, number))

    def answers(self, split: str = "test", *, samples: int | None = None) -> Answers:
        """The clean answers on a split: computed once per model, data and split, then shared.

        samples: the same subset as ``blocks`` hands out. Raises NonFinite on NaN logits.
        """
        whole = self._all_answers(split)
        chosen = self._chosen(split, samples, n=len(whole.y))
        return whole if chosen is None else whole.at(chosen)

    def sampling(
        self, split: str = "test", *, samples: int | None = None, among: Any = None
    ) -> Sampling:
        """The samples in the order in which this run takes them, and what says when to stop.

        samples: at most so many, as in ``blocks``; among: sorted positions to take them from. In
        stored order and to the end, unless the plan says ``until_decided``.
        """
        import numpy as np

        from dlaudit.audit.sampling import Sampling

        chosen = self._chosen(split, samples, n=None if among is None else len(among))
        if among is not None:
            chosen = np.asarray(among) if chosen is None else np.asarray(among)[chosen]
        return Sampling(self, split, chosen, self._ending)

    def order(self, split: str, n: int) -> np.ndarray:
        """A random order of n samples of a split, the same for every run of the plan."""
        import numpy as np

        seed = derive_seed(self._plan_seed, "until_decided", split, n)
        return np.random.default_rng(seed).permutation(n)

    def gathered(self, split: str, pieces: Sequence[np.ndarray], read: int) -> Iterator[Batch]:
        """The samples at each piece's sorted positions, piece by piece.

        read: samples gathered in one passage through the split; the first passages gather fewer.
        """
        import numpy as np

        at = 0
        while at < len(pieces):
            held, most = [pieces[at]], min(read, sum(len(piece) for piece in pieces[: at + 1]))
            at += 1
            while at < len(pieces) and sum(map(len, held)) + len(pieces[at]) <= most:
                held.append(pieces[at])
                at += 1
            positions = np.sort(np.concatenate(held))
            (batch,) = regrouped(self.data.batches(split), len(positions), positions)
            for piece in held:
                yield rows(batch, np.searchsorted(positions, piece))

    def whole(self, split: str = "test") -> Batch:
        """All samples of a split at once, for what must hold them in memory: a training."""
        (batch,) = regrouped(self.data.batches(split), max(1, self.data.size(split)))
        return batch

    def trained(self, batch: Batch, *, seed: int = 0) -> Model:
        """The model that the plan's function trains on these samples: trained when it is asked.

        batch: as ``whole("train")`` gives it, or what a check makes of that. seed: a number that tells
        trainings on the same samples apart; the function is given one that is derived from it.
        Equal samples and seeds are one training, whichever run asks; its answers are kept on disk for
        the other runs and for ``--resume``. Raises NotOffered without a function, TooManyTrainings
        beyond what the check's ``trainings`` said; TrainingFailed when it is asked.
        """
        from dlaudit.audit.training import TooManyTrainings, Trained, TrainingSet, train_function

        if self.train_fn is None:
            message = "the plan names no function for training: expected [train] factory"
            raise NotOffered(message)
        model = Trained(
            train_function(self.train_fn), TrainingSet(batch, self.data),
            derive_seed(self._plan_seed, "train_fn", seed) % 2**31,
            like=self.model, data=self.data, cache=self.cache, counted=self.counted,
        )  # fmt: skip
        self._trainings.add(model.key)
        if self.trainings is not None and len(self._trainings) > self.trainings:
            message = (
                f"the check asks for more than the {self.trainings} trainings that it declares"
            )
            raise TooManyTrainings(message)
        return model

    def beside(self, model: Model, train: Batch, *, run: str) -> Bench:
        """A bench with another model and other training rows, for a check that runs a check as ``run``.

        What is measured there is the caller's: evidence that it keeps stays in the cache, out of the
        record, and passes are counted where the model counts them.
        """
        from dlaudit.audit.evidence import EvidenceStore
        from dlaudit.audit.training import WithTraining

        folder = self.cache / "beside"
        return Bench(
            Subject(model, WithTraining(self.data, train)), run=run, plan_seed=self._plan_seed,
            store=EvidenceStore(folder), cache=folder, block=self.block, context=self.context,
            registry=self._registry, root=self._root,
        )  # fmt: skip

    def keep(
        self, name: str, content: bytes, *, media_type: str, caption: str = "", alt: str = ""
    ) -> Artifact:
        """Store a picture or a text as evidence; yield the artifact to show it in the report."""
        return self._store.keep(name, content, media_type=media_type, caption=caption, alt=alt)

    def keep_table(
        self, name: str, columns: Mapping[str, np.ndarray], *, caption: str = ""
    ) -> Artifact:
        """Store per-sample outcomes; ``columns`` holds ``id`` and one row per sample."""
        return self._store.keep_table(name, columns, caption=caption)

    def _chosen(self, split: str, samples: int | None, *, n: int | None = None) -> Any:
        """Sorted positions of a seeded subset, or None for everything."""
        import numpy as np

        n = self.data.size(split) if n is None and samples is not None else n
        if samples is None or n is None or samples >= n:
            return None
        seed = derive_seed(self._plan_seed, "subset", split, samples)
        return np.sort(np.random.default_rng(seed).choice(n, size=samples, replace=False))

    def _all_answers(self, split: str) -> Answers:
        import numpy as np

        key = digest(
            canonical([self.model.card.fingerprint, self.data.card.fingerprint, split, "float32"])
        )
        table, note = self.cache / f"{key}.npz", self.cache / f"{key}.json"
        with only_one(self.cache / f"{key}.lock"):
            if not note.exists():
                before = self.model.passes.cost
                write_whole(table, table_bytes(_ask(self.model, self.data, split)))
                cost = self.model.passes.since(before)
                # Clean answers are a run of their own: hand their passes back.
                self.model.passes.forward -= cost.forward
                self.model.passes.backward -= cost.backward
                write_whole(note, canonical(cost))
        content = table.read_bytes()
        with np.load(table, allow_pickle=False) as stored:
            columns = {name: stored[name] for name in stored.files}
        self.answered[split] = AnswersRun(
            split=split,
            n=len(columns["y"]),
            cost=msgspec.json.decode(note.read_bytes(), type=Cost),
            artifact=self._store.keep(
                f"answers.{split}", content, media_type="application/vnd.numpy.npz",
                caption=f"Clean answers on the {split} split, one row per sample.",
            ),
        )  # fmt: skip
        groups = {
            name.removeprefix("group_"): column
            for name, column in columns.items()
            if name.startswith("group_")
        }
        return Answers(
            columns["id"], columns["y"], columns["predicted"],
            columns.get("logits"), columns.get("score"), groups,
        )  # fmt: skip


def _ask(model: Model, data: Dataset, split: str) -> dict[str, np.ndarray]:
    """Ask the model about every sample of a split; one column per kind of answer."""
    import numpy as np

    pieces: dict[str, list[np.ndarray]] = {}

    def add(name: str, column: object) -> None:
        pieces.setdefault(name, []).append(np.asarray(column))

    for batch in data.batches(split):
        decisions = model.decide(batch)
        add("id", np.asarray(batch.id, dtype=str))
        add("y", class_indices(batch.y, what=f"{data.card.name}: labels of {split}"))
        add(
            "predicted",
            class_indices(decisions.predicted, what=f"{model.card.name}: decisions on {split}"),
        )
        for name, values in (("logits", decisions.logits), ("score", decisions.score)):
            if values is not None:
                if not np.isfinite(values).all():
                    message = f"{model.card.name} gives {name} that are not finite on {split}"
                    raise NonFinite(message)
                add(name, np.asarray(values, dtype=np.float32))
        for name, group in batch.groups.items():
            add(f"group_{name}", np.asarray(group, dtype=str))
    return {name: np.concatenate(column) for name, column in pieces.items()}


def class_indices(column: Any, *, what: str, classes: int | None = None) -> np.ndarray:
    """A column of labels or decisions as (n,) int64: never rounded, never guessed.

    what: whose column it is, for the message; classes: how many there are, None if unknown. Raises
    NonFinite for missing values, AuditError for scores, text and numbers outside 0..classes-1.
    """
    import numpy as np

    values = np.asarray(column)
    if values.dtype == object:  # columns of tables: numpy finds the type of what is inside
        values = np.asarray(values.tolist())
    if values.dtype == object or (values.dtype.kind == "f" and not np.isfinite(values).all()):
        message = f"{what}: expected a class for every sample, got missing or infinite values"
        raise NonFinite(message)
    numbers = values if values.dtype.kind in "iubf" else np.full(values.shape, -1)
    most = 2**53 if classes is None else classes - 1
    wrong = (numbers < 0) | (numbers > most) | (numbers != np.floor(numbers))
    if wrong.any():
        message = (
            f"{what}: expected class indices 0, 1, {'…' if classes is None else f'… {most}'}, got "
            f"{values[wrong].tolist()[0]!r} (scores need a threshold, names a list of classes)"
        )
        raise AuditError(message)
    return numbers.astype(np.int64)


def regrouped(batches: Iterator[Batch], size: int, chosen: Any = None) -> Iterator[Batch]:
    """The same samples in batches of exactly ``size`` (the last may be shorter).

    chosen: sorted positions to keep, or None for all.
    """
    import numpy as np

    held: Batch | None = None
    seen = 0
    for batch in batches:
        n = len(batch.y)
        kept = batch
        if chosen is not None:
            inside = (
                chosen[np.searchsorted(chosen, seen) : np.searchsorted(chosen, seen + n)] - seen
            )
            kept = rows(batch, inside)
        seen += n
        held = kept if held is None else joined(held, kept)
        while len(held.y) >= size:
            yield rows(held, slice(0, size))
            held = rows(held, slice(size, None))
    if held is not None and len(held.y):
        yield held


def rows(batch: Batch, which: Any) -> Batch:
    """Some rows of a batch, every field alike."""
    return Batch(
        batch.x[which], batch.y[which], batch.id[which],
        {name: column[which] for name, column in batch.groups.items()},
        {name: column[which] for name, column in batch.columns.items()},
        None if batch.mask is None else batch.mask[which],
        None if batch.truth is None else batch.truth[which],
    )  # fmt: skip


def joined(first: Batch, second: Batch) -> Batch:
    """Two batches of one split, one after the other."""
    import numpy as np

    def both(a: Any, b: Any) -> np.ndarray:
        return np.concatenate([np.asarray(a), np.asarray(b)])

    return Batch(
        both(first.x, second.x), both(first.y, second.y), both(first.id, second.id),
        {name: both(column, second.groups[name]) for name, column in first.groups.items()},
        {name: both(column, second.columns[name]) for name, column in first.columns.items()},
        None if first.mask is None else both(first.mask, second.mask),
        None if first.truth is None else both(first.truth, second.truth),
    )  # fmt: skip


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold a lock that the system releases if this process dies, however it dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
