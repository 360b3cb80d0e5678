"""Probes that cost as much as an attack: the published criteria that compare a search with others.

Knows other searches and the survivors of the one under examination; spends what they take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from msgspec import structs
from torch import Tensor, nn

from dlaudit.attacks.criteria import Diagnosis, not_run
from dlaudit.attacks.decision import Decision
from dlaudit.attacks.losses import margin
from dlaudit.attacks.probes import CHUNK, NOTHING_LEFT, Probing, noise, stretch
from dlaudit.attacks.square import Square
from dlaudit.attacks.surrogate import Surrogate, imitated
from dlaudit.attacks.ward import Patients
from dlaudit.audit.parts import Batch, Epsilon, Model

RESTARTS = 10
"""Starts that Carlini et al. 2019 recommend."""
DROP = 0.002
"""Of the accuracy, by a search without gradients (AutoAttack's checks)."""
STEPS, UPDATES = 40, 600
"""Of the search against a surrogate; of the surrogate's training."""
RIDGE, CONTROLS, MISSED = 1e-3, 256, 0.25
"""Of the linear twin: its fit, the samples attacked, the share of what can be fooled that may be missed
(one start of 20 steps misses some 4 to 15 %)."""


class Spending(NamedTuple):
    """How much the long probes may try. draws: of noise; queries: of Square and on decisions."""

    draws: int
    queries: int


class Known(NamedTuple):
    """What is known beyond the survivors. x: (n, *input); decisions: (n,), out of so many classes."""

    x: np.ndarray
    decisions: np.ndarray
    classes: int
    surrogate: Model | None


def long_probes(at: Probing, known: Known, spending: Spending) -> Iterator[Diagnosis]:
    """Every criterion that the cheap probes leave open."""
    if len(at.patients):
        yield black_box(at, spending.queries)
        yield converged(at)
        yield noise(at, spending.draws, share=1)
        yield transferred(at, known)
        yield hard_label(at, spending.queries)
        yield fixed_randomness(at)
        if at.case.budgets < 2:
            yield half_budget(at)
    yield positive_control(at, known)


def as_batch(patients: Patients) -> Batch:
    """Samples as a search is given them."""
    ids = np.array([str(i) for i in range(len(patients))])
    return Batch(x=patients.x.clone(), y=patients.y.clone(), id=ids)


def beaten(at: Probing, search: Callable[[Patients], Tensor], patients: Patients) -> int:
    """How many samples a search fools, judged as the harness judges. search: returns like x."""
    found = patients.ball().project(search(patients).detach().to(patients.x))
    return int(patients.fooled(at.case.model.logits(found), found).sum())


def black_box(at: Probing, queries: int) -> Diagnosis:
    """Square on the survivors (AutoAttack's check)."""
    name = "black_box_succeeds"
    if at.case.attack.norm not in Square.norms:
        return not_run(name, f"Square does not search in {at.case.attack.norm}")
    other = Square(norm="linf", queries=queries, doctor="off")

    def search(patients: Patients) -> Tensor:
        return other.search(at.case.model, as_batch(patients), patients.threat, at.generator).x

    n = len(at.patients)
    hits = beaten(at, search, at.patients)
    drop = at.case.share(hits, n)
    return Diagnosis(name, drop > DROP, drop, n, strength(at, drop), f"Square, {queries} queries")


def strength(at: Probing, doubtful: float) -> float:
    """The share in doubt where another search did better; a single step claims no strength."""
    return 0.0 if at.case.single_step else doubtful


def converged(at: Probing) -> Diagnosis:
    """The attack again with twice the steps, and with ten restarts."""
    name, attack = "converged", at.case.attack
    fields = attack.__struct_fields__
    more: list[Any] = []
    if "steps" in fields and isinstance(attack.steps, int):  # type: ignore[attr-defined]
        more.append(structs.replace(attack, steps=2 * attack.steps))  # type: ignore[attr-defined]
    if "restarts" in fields:
        more.append(structs.replace(attack, restarts=RESTARTS))
    if not more:
        return not_run(name, "the attack has neither steps nor restarts to raise")
    hit = torch.zeros(len(at.patients), dtype=torch.bool)
    for one in more:
        found = one.search(at.case.model, as_batch(at.patients), at.patients.threat, at.generator).x
        x = at.patients.ball().project(found.detach().to(at.patients.x))
        hit |= at.patients.fooled(at.case.model.logits(x), x).cpu()
    hits, n = int(hit.sum()), len(hit)
    return Diagnosis(name, hits > 0, hits, n, strength(at, at.case.share(hits, n)))


def rate(at: Probing, search: Callable[[Patients], Tensor]) -> tuple[float, int]:
    """A search's success on all attacked samples, estimated; how many survivors it fooled."""
    hits, n = beaten(at, search, at.patients), len(at.patients)
    caught, m = 0, 0
    for clean, _, threat in at.case.ward.examples:
        labels = at.case.model.logits(clean).argmax(dim=1)
        part = Patients(clean, labels, np.zeros(len(labels)), threat)
        caught += beaten(at, search, part)
        m += len(labels)
    robust, attacked = int(at.case.robust.sum()), int(at.case.correct.sum())
    total = robust * hits / n + (attacked - robust) * (caught / m if m else 0.0)
    return total / attacked, hits


def compared(
    at: Probing, name: str, search: Callable[[Patients], Tensor], words: str, *, ties: bool
) -> Diagnosis:
    """A criterion on rates of success. ties: whether an equal rate fails too."""
    success, hits = rate(at, search)
    attacked = int(at.case.correct.sum())
    own = 1 - int(at.case.robust.sum()) / attacked
    failed = hits > 0 and (success >= own if ties else success > own)
    n = len(at.patients)
    told = f"{words}: success on {success:.3f} of attacked samples, the attack's own {own:.3f}"
    return Diagnosis(name, failed, hits, n, strength(at, at.case.share(hits, n)), told)


def transferred(at: Probing, known: Known) -> Diagnosis:
    """Examples made for another model: one of the plan, else a net trained on this one's decisions."""
    name = "surrogate_transfer"
    if at.case.attack.norm not in {"linf", "l2"}:
        return not_run(
            name, f"the search against the surrogate does not know {at.case.attack.norm}"
        )
    model, words = known.surrogate, "Another model of the plan"
    if model is None:
        seed = int(torch.randint(2**31, (1,), generator=at.generator))
        model = imitated(
            known.x, known.decisions, classes=known.classes, updates=UPDATES, seed=seed,
            device=at.case.model.device,
        )  # fmt: skip
        words = "A net trained on this one's decisions"

    def search(patients: Patients) -> Tensor:
        sizes = [2 * patients.threat.epsilon * (1 - i / STEPS) for i in range(STEPS)]
        return climb(model, patients, sizes)

    return compared(at, name, search, words, ties=True)


def climb(model: Model, patients: Patients, sizes: list[float]) -> Tensor:
    """The margin of a surrogate raised as far as the steps go, past its own boundary."""
    ball, x = patients.ball(), patients.x
    for size in sizes:
        _, gradient = model.logits_and_gradient(x, patients.y, margin)
        x = ball.step(x, gradient, size)
    return x


def hard_label(at: Probing, queries: int) -> Diagnosis:
    """A search that is told decisions alone."""
    name, norm = "hard_label_attack", at.case.attack.norm
    if norm not in Decision.norms:
        return not_run(name, f"the search by decisions does not know {norm}")
    asked = max(queries // 5, Decision().probes)
    other = Decision(norm=norm, epsilon=Epsilon(at.case.epsilon), queries=asked, doctor="off")

    def search(patients: Patients) -> Tensor:
        return other.search(at.case.model, as_batch(patients), patients.threat, at.generator).x

    words = f"HopSkipJump, {asked} questions"
    return compared(at, name, search, words, ties=False)


class Frozen(Model):
    """A model whose randomness is the same in every call."""

    def __init__(self, model: Model, seed: int) -> None:
        """seed: of torch's generators during each call."""
        self.inner, self.seed = model, seed
        self.card, self.device, self.bounds = model.card, model.device, model.bounds
        self.offers = model.offers

    def seeded(self, function: Callable[..., Any], *given: Any) -> Any:
        """Call with the generators seeded, and put them back."""
        devices = [] if self.device == "cpu" else [self.device]
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.seed)
            return function(*given)

    def logits(self, x: Any) -> Tensor:
        """See ``Model.logits``."""
        answers: Tensor = self.seeded(self.inner.logits, x)
        return answers

    def logits_and_gradient(
        self, x: Any, y: Any, loss: Any = "cross_entropy"
    ) -> tuple[Tensor, Tensor]:
        """See ``Model.logits_and_gradient``."""
        both: tuple[Tensor, Tensor] = self.seeded(self.inner.logits_and_gradient, x, y, loss)
        return both


def fixed_randomness(at: Probing) -> Diagnosis:
    """Any valid input allowed, with the randomness frozen; one sample at a time, for equal draws."""
    name = "fixed_randomness"
    some = at.patients.rows(slice(CHUNK))
    answers = torch.stack([at.case.model.logits(some.x) for _ in range(2)])
    if bool((answers[0] == answers[1]).all()):
        return not_run(
            name, "the model gives the same answers every time: there is nothing to freeze"
        )
    if some.threat.rules is not None:
        return not_run(name, "the threat model forbids some changes at any budget")
    case = at.case._replace(model=Frozen(at.case.model, seed=0))
    left = sum(
        int((~stretch(case, some.rows(slice(i, i + 1)), at.loss).any_).sum())
        for i in range(len(some))
    )
    n = len(some)
    return Diagnosis(name, left > 0, left / n, n, at.case.share(left, n))


def half_budget(at: Probing) -> Diagnosis:
    """The attack at half its budget on whom it did not fool at the whole."""
    attack, patients = at.case.attack, at.patients
    threat = structs.replace(patients.threat, epsilon=patients.threat.epsilon / 2)

    def search(some: Patients) -> Tensor:
        return attack.search(at.case.model, as_batch(some), threat, at.generator).x

    hits, n = beaten(at, search, patients), len(patients)
    return Diagnosis("monotone_in_epsilon", hits > 0, hits, n, strength(at, at.case.share(hits, n)))


def positive_control(at: Probing, known: Known) -> Diagnosis:
    """The same attack on a linear twin, where the best example towards each class is known."""
    name, attack = "positive_control", at.case.attack
    if attack.norm not in {"linf", "l2"}:
        return not_run(name, f"the best example on a linear model is not known in {attack.norm}")
    if "module" in attack.needs.model:
        return not_run(name, "the attack works on torch modules alone")
    twin, weights = linear_twin(at, known)
    threat = at.patients.threat if len(at.patients) else None
    if threat is None:
        return not_run(name, NOTHING_LEFT)
    if threat.rules is not None or threat.scale is not None:
        return not_run(name, "the best example is not known with budgets per feature or rules")
    x = torch.as_tensor(known.x[:CONTROLS]).to(twin.device)
    y = twin.logits(x).argmax(dim=1)
    some = Patients(x, y, np.zeros(len(y)), threat)
    ball = some.ball()
    can = torch.zeros(len(y), dtype=torch.bool, device=y.device)
    for rival in range(len(weights)):
        towards = (weights[rival] - weights[y]).view_as(x)
        can |= some.fooled(twin.logits(best := ball.step(x, towards, ball.epsilon)), best)
    found = ball.project(attack.search(twin, as_batch(some), threat, at.generator).x.detach())
    did = some.fooled(twin.logits(found), found)
    possible, missed = int(can.sum()), int((can & ~did).sum())
    if not possible:
        return not_run(name, "no sample of the linear twin can be fooled at this budget")
    told = f"{possible} of {len(y)} samples of the twin can be fooled, {possible - missed} of them were"
    failed = missed > MISSED * possible
    doubtful = strength(at, at.case.surviving) if failed else 0.0
    return Diagnosis(name, failed, missed / possible, possible, doubtful, told)


def linear_twin(at: Probing, known: Known) -> tuple[Surrogate, Tensor]:
    """A linear model fitted to the decisions by ridge regression; its weights (C, d).

    Solved in the smaller of both spaces, samples or values.
    """
    x = torch.as_tensor(known.x).double().flatten(1)
    wanted = nn.functional.one_hot(torch.as_tensor(known.decisions), known.classes).double()
    centre, level = x.mean(dim=0), wanted.mean(dim=0)
    a, b = x - centre, wanted - level
    n, d = a.shape
    if d <= n:
        gram = a.T @ a
        w = torch.linalg.solve(gram + RIDGE * gram.trace() / d * torch.eye(d).double(), a.T @ b)
    else:
        gram = a @ a.T
        w = a.T @ torch.linalg.solve(gram + RIDGE * gram.trace() / n * torch.eye(n).double(), b)
    layer = nn.Linear(d, known.classes)
    with torch.no_grad():
        layer.weight.copy_(w.T)
        layer.bias.copy_(level - centre @ w)
    net = nn.Sequential(nn.Flatten(), layer).to(torch.as_tensor(known.x).dtype).eval()
    twin = Surrogate(net, device=at.case.model.device)
    return twin, layer.weight.detach()
