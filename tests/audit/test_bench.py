"""The bench hands out blocks, clean answers and seeds, whichever worker asks and in what order."""

import json
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlaudit.audit.bench import (
    BLOCK,
    Bench,
    Block,
    Subject,
    class_indices,
    derive_seed,
    joined,
    only_one,
    regrouped,
    rows,
)
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.parts import Batch, Dataset, Decisions, Model
from dlaudit.audit.record import Card, Cost
from dlaudit.datasets.arrays import ArrayDataset, Splits
from dlaudit.errors import AuditError, NonFinite
from dlaudit.models.torch_model import TorchModel

N = 23


def a_batch(n, *, start=0):
    numbers = np.arange(start, start + n)
    return Batch(
        x=numbers[:, None] * np.ones((1, 2), np.float32),
        y=numbers % 3,
        id=np.array([f"s{number}" for number in numbers], dtype=str),
        groups={"sex": np.where(numbers % 2, "f", "m")},
        columns={"age": numbers + 18.0},
        mask=numbers[:, None] % 2 == 0,
    )


def whole(n=N):
    return a_batch(n)


def cut(sizes):
    """Batches of the given sizes, one after the other."""
    start = 0
    for size in sizes:
        yield a_batch(size, start=start)
        start += size


def same(first, second):
    assert (first is None) == (second is None)
    for name, one, other in zip(Batch._fields, first, second, strict=True):
        if isinstance(one, dict):
            assert one.keys() == other.keys()
            for key, column in one.items():
                np.testing.assert_array_equal(column, other[key], err_msg=f"{name}.{key}")
        elif one is None:
            assert other is None
        else:
            np.testing.assert_array_equal(one, other, err_msg=name)


class TestRows:
    @pytest.mark.parametrize(
        "which", [slice(2, 5), np.array([0, 3, 7]), np.arange(N) % 4 == 0, slice(0, 0)]
    )
    def test_every_field_is_taken_alike(self, which):
        part = rows(whole(), which)
        np.testing.assert_array_equal(part.y, whole().y[which])
        np.testing.assert_array_equal(part.x[:, 0] % 3, part.y)
        np.testing.assert_array_equal(part.columns["age"] - 18, part.x[:, 0])
        np.testing.assert_array_equal(part.groups["sex"] == "f", part.x[:, 0] % 2 == 1)
        np.testing.assert_array_equal(part.mask[:, 0], part.x[:, 0] % 2 == 0)
        np.testing.assert_array_equal(part.id, [f"s{int(value)}" for value in part.x[:, 0]])

    def test_what_is_not_there_stays_away(self):
        part = rows(Batch(np.zeros(3), np.zeros(3), np.zeros(3)), slice(0, 1))
        assert (part.groups, part.columns, part.mask) == ({}, {}, None)

    @given(at=st.integers(0, N))
    def test_two_parts_joined_are_the_whole(self, at):
        same(joined(rows(whole(), slice(0, at)), rows(whole(), slice(at, None))), whole())

    def test_joining_takes_tensors_and_lacks_what_the_first_lacks(self):
        first = Batch(torch.zeros(1, 2), np.zeros(1), np.array(["a"]))
        both = joined(first, first)
        assert isinstance(both.x, np.ndarray)
        assert (both.x.shape, both.groups, both.columns, both.mask) == ((2, 2), {}, {}, None)


class TestRegrouped:
    sizes = st.lists(st.integers(0, 9), max_size=6)

    @given(sizes=sizes, size=st.integers(1, 12))
    def test_it_is_slicing_the_whole(self, sizes, size):
        n = sum(sizes)
        found = list(regrouped(cut(sizes), size))
        assert len(found) == -(-n // size)
        for number, batch in enumerate(found):
            same(batch, rows(whole(n), slice(number * size, (number + 1) * size)))

    @given(sizes=sizes, size=st.integers(1, 12), data=st.data())
    def test_a_subset_is_slicing_the_chosen_rows(self, sizes, size, data):
        n = sum(sizes)
        kept = data.draw(st.sets(st.integers(0, n - 1)) if n else st.just(set()))
        chosen = np.array(sorted(kept), dtype=np.int64)
        found = list(regrouped(cut(sizes), size, chosen))
        assert len(found) == -(-len(chosen) // size)
        for number, batch in enumerate(found):
            same(batch, rows(whole(n), chosen[number * size : (number + 1) * size]))

    def test_it_asks_for_no_batch_before_it_needs_one(self):
        asked = []

        def batches():
            for batch in cut([4, 4, 4]):
                asked.append(len(batch.y))
                yield batch

        first = next(regrouped(batches(), 4))
        assert (len(first.y), asked) == (4, [4])


class TestSeeds:
    @pytest.mark.parametrize(
        ("parts", "seed"),
        [
            # sha256("7/attacks.pgd/0"), its first eight bytes, halved
            ((7, "attacks.pgd", 0), 1796162565330362904),
            ((7, "attacks.pgd", 1), 8648494997211796743),
            ((0,), 3456079177858693020),
            (("",), 8203414616412130826),
        ],
    )
    def test_golden_values_that_every_stored_result_relies_on(self, parts, seed):
        assert derive_seed(*parts) == seed

    @given(st.lists(st.one_of(st.integers(), st.text()), max_size=4))
    def test_a_seed_has_63_bits_and_depends_on_its_parts_alone(self, parts):
        assert 0 <= derive_seed(*parts) < 2**63
        assert derive_seed(*parts) == derive_seed(*parts)
        assert derive_seed(*parts, "x") != derive_seed(*parts)

    def test_a_blocks_generators_are_its_own_and_told_apart_by_purpose(self):
        first, second = (Block(i, 0, whole(), derive_seed(7, "run", i)) for i in range(2))
        draws = {
            tuple(torch.rand(3, generator=block.generator(purpose)).tolist())
            for block in (first, second)
            for purpose in ("", "start")
        }
        draws |= {
            tuple(block.rng(purpose).random(3).tolist())
            for block in (first, second)
            for purpose in ("", "start")
        }
        assert len(draws) == 8
        again = first.generator("start")
        assert torch.equal(
            torch.rand(3, generator=again), torch.rand(3, generator=first.generator("start"))
        )
        assert first.rng("a").random() == first.rng("a").random()

    def test_golden_draws(self):
        """The generators behind every stored result; a change here changes results."""
        block = Block(0, 0, whole(), derive_seed(7, "attacks.pgd", 0))
        assert block.seed == 1796162565330362904
        start = derive_seed(block.seed, "start")
        assert start == 1154222566869168589
        assert block.rng("start").random() == np.random.default_rng(start).random()
        same_as = torch.rand(2, generator=torch.Generator().manual_seed(start))
        assert torch.equal(torch.rand(2, generator=block.generator("start")), same_as)


class Counted(Model):
    """Answers from a table by the first column of x; counts as a torch model does."""

    def __init__(self, *, fingerprint="model", shift=0, wrong=None, kind="logits"):
        self.card = Card(name="counted", fingerprint=fingerprint)
        self.classes = ("a", "b", "c")
        self.asked = 0
        self.shift, self.wrong, self.kind = shift, wrong, kind

    def logits(self, x):
        raise AssertionError

    def decide(self, batch):
        n = len(batch.y)
        self.asked += n
        self.passes.forward += n
        self.passes.backward += 1
        predicted = (batch.x[:, 0].astype(int) + self.shift) % 3
        values = np.eye(3, dtype=np.float32)[predicted]
        if self.wrong is not None:
            values[0, 0] = self.wrong
        if self.kind == "decisions":
            return Decisions(predicted)
        if self.kind == "score":
            return Decisions(predicted, score=values[:, 0].astype(np.float64))
        return Decisions(predicted, logits=values)


class Cut(Dataset):
    """The samples of ``whole`` in batches of given sizes, as two splits."""

    def __init__(self, sizes=(10, 13), *, fingerprint="data"):
        self.card = Card(name="cut", fingerprint=fingerprint)
        self.classes = ("a", "b", "c")
        self.sizes = sizes

    def batches(self, split="test"):
        return cut(self.sizes if split == "test" else (4,))


@pytest.fixture
def bench(tmp_path):
    def made(model=None, data=None, **fields):
        settings = {"run": "a.b", "plan_seed": 7, "store": EvidenceStore(tmp_path / "run")}
        subject = Subject(model or Counted(), data or Cut())
        return Bench(subject, cache=tmp_path / "cache", **(settings | fields))

    return made


class TestBlocks:
    def test_they_are_consecutive_slices_with_seeds_of_their_own(self, bench):
        blocks = list(bench(block=5).blocks())
        assert [block.number for block in blocks] == [0, 1, 2, 3, 4]
        assert [block.start for block in blocks] == [0, 5, 10, 15, 20]
        assert [block.seed for block in blocks] == [derive_seed(7, "a.b", i) for i in range(5)]
        for block in blocks:
            same(block.batch, rows(whole(), slice(block.start, block.start + 5)))

    def test_how_the_data_set_is_batched_changes_nothing(self, bench):
        for sizes in ((23,), (1,) * 23, (0, 22, 1)):
            found = list(bench(data=Cut(sizes), block=7).blocks())
            for block, expected in zip(found, bench(block=7).blocks(), strict=True):
                assert (block.number, block.start, block.seed) == (
                    expected.number, expected.start, expected.seed,
                )  # fmt: skip
                same(block.batch, expected.batch)

    def test_the_default_block_is_part_of_every_published_result(self, bench):
        assert BLOCK == bench().block == 256

    def test_another_split_is_another_sequence_of_samples(self, bench):
        assert [len(block.batch.y) for block in bench(block=3).blocks("train")] == [3, 1]

    @pytest.mark.parametrize("samples", [1, 6, 22])
    def test_a_subset_is_drawn_without_replacement_and_keeps_the_stored_order(self, bench, samples):
        blocks = list(bench(block=5).blocks(samples=samples))
        drawn = np.concatenate([block.batch.x[:, 0] for block in blocks])
        assert len(drawn) == samples
        assert np.all(np.diff(drawn) > 0)
        assert [block.start for block in blocks] == list(range(0, samples, 5))

    def test_the_subset_belongs_to_the_plan_not_to_the_run(self, bench):
        """Attacks of one plan are compared on the same samples."""

        def ids(**fields):
            return [
                id_
                for block in bench(**fields).blocks(samples=6)
                for id_ in block.batch.id.tolist()
            ]

        assert ids() == ids(run="c.d") == ids(block=2)
        assert ids() != ids(plan_seed=8)

    @pytest.mark.parametrize("samples", [23, 24, 1000])
    def test_asking_for_as_many_as_there_are_is_asking_for_all(self, bench, samples):
        (block,) = bench().blocks(samples=samples)
        same(block.batch, whole())

    def test_seeds_of_runs_differ(self, bench):
        seeds = {bench(run=run, plan_seed=seed).seed for run in ("a", "b") for seed in (1, 2)}
        assert len(seeds) == 4
        assert bench().seed == derive_seed(7, "a.b")
        assert bench().rng("x").random() == bench().rng("x").random() != bench().rng("y").random()


class TestAnswers:
    def test_they_are_the_models_decisions_in_stored_order(self, bench):
        answers = bench(Counted(fingerprint="shifted", shift=1)).answers()
        same_as = whole()
        np.testing.assert_array_equal(answers.id, same_as.id)
        np.testing.assert_array_equal(answers.y, same_as.y)
        np.testing.assert_array_equal(answers.predicted, (same_as.y + 1) % 3)
        np.testing.assert_array_equal(answers.logits, np.eye(3)[(same_as.y + 1) % 3])
        np.testing.assert_array_equal(answers.groups["sex"], same_as.groups["sex"])
        assert (answers.logits.dtype, answers.predicted.dtype) == (np.float32, np.int64)
        assert answers.score is None
        assert not answers.correct.any()
        assert bench().answers().correct.all()

    @pytest.mark.parametrize(
        ("kind", "logits", "score"),
        [("decisions", False, False), ("score", False, True), ("logits", True, False)],
    )
    def test_a_model_gives_what_it_has(self, bench, kind, logits, score):
        answers = bench(Counted(kind=kind)).answers()
        assert ((answers.logits is not None), (answers.score is not None)) == (logits, score)
        assert answers.correct.all()

    @pytest.mark.parametrize("samples", [1, 6, 23, 99])
    @pytest.mark.parametrize("kind", ["logits", "score", "decisions"])
    def test_a_subset_of_answers_is_the_subset_of_the_blocks(self, bench, samples, kind):
        one = bench(Counted(kind=kind), block=5)
        answers, everything = one.answers(samples=samples), one.answers()
        blocks = list(one.blocks(samples=samples))
        assert answers.id.tolist() == [i for block in blocks for i in block.batch.id.tolist()]
        place = np.isin(everything.id, answers.id)
        for name, column, all_ in zip(answers._fields, answers, everything, strict=True):
            if name == "groups":
                np.testing.assert_array_equal(column["sex"], all_["sex"][place])
            elif all_ is None:
                assert column is None
            else:
                np.testing.assert_array_equal(column, all_[place])

    def test_the_model_is_asked_once_for_all_runs_and_workers(self, bench):
        first, second = Counted(), Counted()
        one, other = bench(first), bench(second, run="c.d", plan_seed=8)
        for _ in range(2):
            np.testing.assert_array_equal(one.answers().logits, other.answers().logits)
        assert (first.asked, second.asked) == (N, 0)

    def test_other_weights_other_data_and_other_splits_are_asked_again(self, bench):
        model = Counted()
        bench(model).answers()
        bench(model).answers("train")
        bench(model, Cut(fingerprint="other")).answers()
        assert model.asked == N + 4 + N
        shifted = Counted(fingerprint="other weights", shift=1)
        assert not bench(shifted).answers().correct.any()
        assert bench(model).answers().correct.all()

    def test_their_cost_is_a_run_of_its_own_and_handed_back(self, bench):
        model = Counted()
        model.passes.forward, model.passes.backward = 100, 50
        one = bench(model)
        one.answers()
        assert model.passes.cost == Cost(forward=100, backward=50)
        again = bench(Counted(), run="c.d")
        again.answers()
        for answered in (one.answered["test"], again.answered["test"]):
            assert answered.cost == Cost(forward=N, backward=2)
            assert (answered.split, answered.n) == ("test", N)

    def test_they_are_kept_as_evidence(self, bench, tmp_path):
        one = bench()
        one.answers()
        one.answers("train")
        assert list(one.answered) == ["test", "train"]
        artifact = one.answered["test"].artifact
        assert artifact.name == "answers.test"
        with np.load(tmp_path / "run" / artifact.path) as stored:
            assert sorted(stored.files) == ["group_sex", "id", "logits", "predicted", "y"]
            assert stored["id"].tolist() == whole().id.tolist()

    @pytest.mark.parametrize("kind", ["logits", "score"])
    @pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
    def test_numbers_that_are_not_finite_end_the_run(self, bench, kind, wrong):
        message = f"counted gives {kind} that are not finite on test"
        with pytest.raises(NonFinite, match=message):
            bench(Counted(kind=kind, wrong=wrong)).answers()

    def test_a_crash_leaves_nothing_that_a_later_run_would_take_for_answers(self, bench):
        with pytest.raises(NonFinite):
            bench(Counted(wrong=np.nan)).answers()
        sound = Counted()
        assert bench(sound).answers().correct.all()
        assert sound.asked == N

    def test_answers_without_their_note_are_asked_for_again(self, bench, tmp_path):
        """The note is written last: without it the table may be of a run that was killed."""
        bench().answers()
        (note,) = (tmp_path / "cache").glob("*.json")
        assert json.loads(note.read_text()) == {"forward": N, "backward": 2}
        note.unlink()
        model = Counted()
        bench(model).answers()
        assert model.asked == N

    def test_two_workers_that_ask_at_once_get_one_answer(self, bench):
        model = Counted()
        threads = [threading.Thread(target=bench(model).answers) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert model.asked == N


class TestTorch:
    """The same with a net of six weights."""

    @pytest.fixture
    def made(self):
        def model(weight):
            net = torch.nn.Linear(2, 3, bias=False)
            with torch.no_grad():
                net.weight.copy_(torch.tensor(weight))
            return TorchModel(net, classes=("a", "b", "c"))

        return model

    data = ArrayDataset(
        np.array([[1, 0], [0, 1], [-1, -1]], np.float32), np.array([0, 1, 2]), name="corners"
    )
    weight = ([1.0, 0.0], [0.0, 1.0], [-1.0, -1.0])

    def test_by_hand(self, bench, made):
        """Logits are W x."""
        model = made(self.weight)
        one = bench(model, self.data)
        assert one.answers().logits.tolist() == [[1, 0, -1], [0, 1, -1], [-1, -1, 2]]
        assert one.answered["test"].cost == Cost(forward=3, backward=0)
        assert model.passes.cost == Cost(forward=0, backward=0)
        assert one.classes == ("a", "b", "c")

    def test_the_live_model_is_never_cached(self, bench, made):
        model = made(self.weight)
        one = bench(model, self.data)
        one.answers()
        with torch.no_grad():
            model.module.net.weight.zero_()
        (block,) = one.blocks()
        assert one.answers().correct.all()
        assert not model.logits(block.batch.x).any()
        assert model.passes.forward == 3

    def test_other_weights_are_another_model(self, bench, made):
        first, second = made(self.weight), made(([0.0, 0.0],) * 3)
        assert bench(first, self.data).answers().correct.all()
        assert bench(second, self.data).answers().predicted.tolist() == [0, 0, 0]

    def test_nan_weights_end_the_run_before_anything_is_stored(self, bench, made, tmp_path):
        broken = made(([float("nan"), 0.0], [0.0, 1.0], [1.0, 1.0]))
        with pytest.raises(NonFinite):
            bench(broken, self.data).answers()
        assert not (tmp_path / "run").exists()

    def test_splits_of_one_data_set_are_answered_apart(self, bench, made):
        other = ArrayDataset(
            np.zeros((2, 2), np.float32), np.array([0, 2]), classes=("0", "1", "2")
        )
        both = Splits({"test": self.data, "train": other})
        one = bench(made(self.weight), both)
        assert (len(one.answers().y), len(one.answers("train").y)) == (3, 2)


class TestClassIndices:
    @pytest.mark.parametrize(
        ("column", "found"),
        [
            ([0, 1, 2], [0, 1, 2]),
            ([0.0, 2.0], [0, 2]),
            ([True, False], [1, 0]),
            (np.array([1, 0], dtype=object), [1, 0]),
            (np.array([3], np.uint8), [3]),
            ([], []),
        ],
    )
    def test_whole_numbers_are_taken(self, column, found):
        taken = class_indices(column, what="labels")
        assert taken.tolist() == found
        assert taken.dtype == np.int64

    @pytest.mark.parametrize("column", [[0, np.nan], [np.inf], np.array([1, None], dtype=object)])
    def test_missing_ones_are_not_guessed(self, column):
        message = "^labels: expected a class for every sample, got missing or infinite values$"
        with pytest.raises(NonFinite, match=message):
            class_indices(column, what="labels")

    @pytest.mark.parametrize(
        ("column", "classes", "message"),
        [
            ([0, 0.7], None, r"labels: expected class indices 0, 1, …, got 0.7 \(scores need"),
            (["cat"], None, r"labels: expected class indices 0, 1, …, got 'cat'"),
            ([1, -1], None, r"labels: expected class indices 0, 1, …, got -1"),
            ([0, 3], 3, r"labels: expected class indices 0, 1, … 2, got 3"),
            ([2.0**60], None, r"labels: expected class indices"),
        ],
    )
    def test_scores_names_and_numbers_outside_are_refused(self, column, classes, message):
        with pytest.raises(AuditError, match=message):
            class_indices(column, what="labels", classes=classes)
        assert class_indices([0, 2], what="labels", classes=3).tolist() == [0, 2]


class TestOnlyOne:
    def test_the_second_waits_for_the_first(self, tmp_path):
        events = []

        def second():
            with only_one(tmp_path / "folder" / "lock"):
                events.append("second")

        thread = threading.Thread(target=second)
        with only_one(tmp_path / "folder" / "lock"):
            thread.start()
            thread.join(timeout=0.05)
            events.append("first")
        thread.join()
        assert events == ["first", "second"]

    def test_an_exception_releases_it(self, tmp_path):
        with pytest.raises(KeyError), only_one(tmp_path / "lock"):
            raise KeyError
        with only_one(tmp_path / "lock"):
            pass


def test_a_bench_keeps_texts_and_tables(bench, tmp_path):
    one = bench()
    note = one.keep("note", b"x", media_type="text/plain", caption="c", alt="a")
    table = one.keep_table("samples", {"id": whole().id}, caption="One row per sample.")
    assert (note.caption, note.alt, table.caption) == ("c", "a", "One row per sample.")
    assert (tmp_path / "run" / note.path).read_bytes() == b"x"
    assert (tmp_path / "run" / table.path).exists()


def test_a_bench_knows_its_subject_and_nothing_of_the_process(bench):
    model, data = Counted(), Cut()
    one = bench(model, data, keep_samples=3)
    assert (one.model, one.data, one.models, one.train_fn) == (model, data, {}, None)
    assert (one.keep_samples, bench().keep_samples, one.run) == (3, 0, "a.b")
