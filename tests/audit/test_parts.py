"""What parts look like: budgets as they are written, needs that are not met, counted passes."""

import copy
import math
import pickle
import subprocess
import sys
from fractions import Fraction

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaudit.audit.parts import (
    Batch,
    Check,
    Dataset,
    Decisions,
    Epsilon,
    Model,
    Needs,
    Passes,
    Suite,
    decode_parameter,
    encode_parameter,
)
from dlaudit.audit.record import Card, Cost, Rule, canonical
from dlaudit.errors import NotOffered


class Curve(Check, frozen=True, kw_only=True):
    """A check whose parameter is a budget."""

    epsilon: Epsilon = Epsilon(0.5)
    steps: int = 3


class TestEpsilon:
    @pytest.mark.parametrize(
        ("written", "values"),
        [
            (0, (0.0,)),
            (0.5, (0.5,)),
            (3, (3.0,)),
            ("8/255", (8 / 255,)),
            ("0/1", (0.0,)),
            ("3", (3.0,)),
            ("0.25", (0.25,)),
            (["8/255", 0.5, "1/255"], (1 / 255, 8 / 255, 0.5)),
            ((1, 0.5), (0.5, 1.0)),
            ([0.5, "1/2", 0.5], (0.5,)),
            (np.float64(0.5), (0.5,)),
        ],
    )
    def test_it_is_a_number_a_fraction_or_a_curve_of_these(self, written, values):
        assert Epsilon(written).values == tuple(Epsilon(written)) == values

    @pytest.mark.parametrize(
        ("written", "got"),
        [
            ("8/255S", '"8/255S"'),
            ("", '""'),
            ("1/0", '"1/0"'),
            ("-1/2", '"-1/2"'),
            ("1e999", '"1e999"'),
            ("nan", '"nan"'),
            ("a/b", '"a/b"'),
            (-0.5, "-0.5"),
            (math.nan, "nan"),
            (math.inf, "inf"),
            (-math.inf, "-inf"),
            (2j, '"2j"'),
            (-1, "-1"),
            (True, "true"),
            (None, "null"),
            (10**400, str(10**400)),
            ({"a": 1}, '{"a":1}'),
            ([[0.5]], "[0.5]"),
            ([0.5, "x"], '"x"'),
            ([], "an empty list"),
            ((), "an empty list"),
        ],
    )
    def test_anything_else_is_refused_in_the_words_of_the_plans_error_list(self, written, got):
        with pytest.raises(ValueError, match="expected a number") as caught:
            Epsilon(written)
        assert str(caught.value) == f'expected a number >= 0 or "a/b", got {got}'

    @given(st.lists(st.fractions(0, 10), min_size=1, max_size=5))
    def test_a_curve_is_sorted_without_repeats_and_reads_itself_back(self, fractions):
        curve = Epsilon([f"{one.numerator}/{one.denominator}" for one in fractions])
        assert list(curve) == sorted({float(one) for one in fractions})
        assert Epsilon(curve.plain) == curve == Epsilon(list(reversed(fractions_of(curve))))
        assert eval(repr(curve)) == curve  # noqa: S307  (our own repr)

    def test_equal_budgets_are_one_key_however_written(self):
        assert {Epsilon("1/2"): 1}[Epsilon([0.5])] == 1
        assert Epsilon("1/2") != Epsilon([0.5, 1])
        assert Epsilon(0.5) != 0.5

    def test_one_budget_is_stored_as_a_number_and_a_curve_as_a_list(self):
        assert Epsilon("1/4").plain == 0.25
        assert Epsilon([1, "1/4"]).plain == [0.25, 1.0]

    @pytest.mark.parametrize("written", [0.5, "8/255", [0.25, "1/2"]])
    def test_a_plan_reads_it_into_a_check_and_a_record_stores_it(self, written):
        check = msgspec.convert({"epsilon": written}, Curve, dec_hook=decode_parameter)
        assert check.epsilon == Epsilon(written)
        stored = msgspec.to_builtins(check, enc_hook=encode_parameter)
        assert stored == {"epsilon": Epsilon(written).plain, "steps": 3}
        assert msgspec.convert(stored, Curve, dec_hook=decode_parameter) == check
        assert canonical(stored)

    def test_a_wrong_budget_is_a_plans_problem_with_its_place(self):
        message = r'^expected a number >= 0 or "a/b", got "8/255S" - at `\$\.epsilon`$'
        with pytest.raises(msgspec.ValidationError, match=message):
            msgspec.convert({"epsilon": "8/255S"}, Curve, dec_hook=decode_parameter)

    def test_a_check_can_be_copied_and_sent_to_another_process(self):
        check = Curve(epsilon=Epsilon([1, 2]))
        assert copy.deepcopy(check) == check
        assert pickle.loads(pickle.dumps(check)) == check


def fractions_of(curve):
    return [str(Fraction(value)) for value in curve]


class TestParameters:
    def test_an_epsilon_made_in_python_stays_itself(self):
        made = Epsilon(1)
        assert decode_parameter(Epsilon, made) is made

    def test_types_that_no_plan_can_write_are_refused(self):
        with pytest.raises(
            NotImplementedError, match="parameters of type complex cannot be written"
        ):
            decode_parameter(complex, "1j")
        with pytest.raises(
            NotImplementedError, match="parameters of type complex cannot be stored"
        ):
            encode_parameter(1j)

    def test_an_unknown_parameter_is_an_error(self):
        with pytest.raises(msgspec.ValidationError, match="unknown field `stepz`"):
            msgspec.convert({"stepz": 3}, Curve, dec_hook=decode_parameter)

    def test_a_check_is_its_parameters(self):
        assert Curve(steps=4) == Curve(steps=4) != Curve(steps=5)
        with pytest.raises(AttributeError):
            Curve().steps = 4

    def test_a_check_that_measures_nothing_says_so_by_raising(self):
        with pytest.raises(NotImplementedError):
            Check().measure(None)
        assert Check().passes(n=10, classes=2) is None


class TestNeeds:
    all_ = Needs(model=("logits", "gradients"), data=("labels", "train"), train_fn=True)

    @pytest.mark.parametrize(
        ("model", "data", "train_fn", "missing"),
        [
            ({"logits", "gradients", "module"}, {"labels", "train", "images"}, True, ()),
            ({"logits"}, {"labels", "train"}, True, ("model: gradients",)),
            (
                set(),
                {"labels"},
                False,
                ("model: logits", "model: gradients", "data: train", "plan: [train] factory"),
            ),
            ({"labels", "train"}, {"logits", "gradients"}, True,
             ("model: logits", "model: gradients", "data: labels", "data: train")),
        ],
    )  # fmt: skip
    def test_what_is_missing_is_said_in_order_and_in_plain_words(
        self, model, data, train_fn, missing
    ):
        offered = {"model": frozenset(model), "data": frozenset(data), "train_fn": train_fn}
        assert self.all_.missing(**offered) == missing

    @pytest.mark.parametrize("train_fn", [True, False])
    def test_no_need_is_always_met(self, train_fn):
        assert Needs().missing(model=frozenset(), data=frozenset(), train_fn=train_fn) == ()

    words = st.lists(st.sampled_from(["logits", "gradients", "labels", "train"]), unique=True)

    @given(model=words, data=words, offered_model=words, offered_data=words)
    def test_nothing_is_missing_exactly_when_all_is_offered(
        self, model, data, offered_model, offered_data
    ):
        missing = Needs(model=tuple(model), data=tuple(data)).missing(
            model=frozenset(offered_model), data=frozenset(offered_data), train_fn=False
        )
        met = set(model) <= set(offered_model) and set(data) <= set(offered_data)
        assert (missing == ()) is met


class TestPasses:
    def test_a_cost_is_what_was_spent_since(self):
        passes = Passes()
        assert passes.cost == Cost(forward=0, backward=0)
        passes.forward += 5
        before = passes.cost
        passes.forward += 2
        passes.backward += 3
        assert passes.since(before) == Cost(forward=2, backward=3)
        assert passes.cost == Cost(forward=7, backward=3)
        assert before == Cost(forward=5, backward=0)


class Fixed(Model):
    """Answers with what it was given."""

    def __init__(self, logits):
        self.card = Card(name="fixed", fingerprint="")
        self.classes = ("a", "b", "c")
        self._logits = logits

    def logits(self, x):
        import torch

        return torch.as_tensor(self._logits)


class TestModel:
    def test_ties_go_to_the_lower_class(self):
        decisions = Fixed([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [0.0, 0.0, 1.0]]).decide(
            Batch(np.zeros((3, 1)), np.zeros(3), np.arange(3).astype(str))
        )
        assert decisions.predicted.tolist() == [1, 0, 2]
        assert decisions.logits.dtype == np.float32
        assert decisions.score is None

    def test_each_model_counts_its_own_passes(self):
        first, second = Fixed([[0.0]]), Fixed([[0.0]])
        first.passes.forward += 1
        assert (first.passes.forward, second.passes.forward) == (1, 0)
        assert first.passes is first.passes

    def test_a_model_without_gradients_says_so(self):
        model = Fixed([[0.0]])
        with pytest.raises(NotOffered, match="fixed gives no gradients"):
            model.loss_gradient(None, None)
        with pytest.raises(NotOffered, match="fixed gives no gradients"):
            model.logits_and_gradient(None, None)
        assert model.module is None

    def test_a_model_must_answer(self):
        with pytest.raises(TypeError, match="abstract"):
            Model()
        with pytest.raises(TypeError, match="abstract"):
            Dataset()


def test_the_size_of_a_data_set_is_that_of_its_batches():
    class Two(Dataset):
        def batches(self, split="test"):
            for n in (3, 2) if split == "test" else (4,):
                yield Batch(np.zeros(n), np.zeros(n), np.zeros(n))

    assert (Two().size(), Two().size("train")) == (5, 4)


def test_decisions_need_no_logits():
    assert Decisions(predicted=np.array([1])) == (np.array([1]), None, None)


def test_a_suite_is_plain_data():
    rule = Rule(id="r", run="x.a", measurement="m", at_least=0)
    suite = Suite(name="x", runs={"x.a": {"steps": 3}}, rules=(rule,))
    assert msgspec.json.decode(canonical(suite), type=Suite) == suite


def test_listing_parts_imports_neither_torch_nor_numpy():
    code = (
        "import sys, dlaudit.audit.parts, dlaudit.audit.bench, dlaudit.audit.statistics, "
        "dlaudit.audit.judge, dlaudit.audit.findings, dlaudit.audit.evidence\n"
        "print(sorted({'torch', 'numpy', 'scipy', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
