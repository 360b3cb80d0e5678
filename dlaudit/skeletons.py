"""Writes the skeleton of a plug-in: a file that runs and passes the conformance kit as it stands.

Knows what a newcomer has to fill in; imports no part and runs nothing.
"""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from string import Template
from typing import NamedTuple

import dlaudit
from dlaudit.audit.registry import snake_case
from dlaudit.errors import PlanError


class Skeleton(NamedTuple):
    """A kind of plug-in: its file, and the commands that show and use it.

    template: names ``$part`` (as written in Python) and ``$id`` (as written in a plan). group: the
    word after ``dlaudit list``. use: the words that put it to work.
    """

    template: str
    group: str
    use: str


CHECK = '''\
"""$title: a check for dlaudit.

dlaudit run audit.toml --plugin $file --check $id
"""

from collections.abc import Iterator
from typing import Annotated

from dlaudit import Artifact, Bench, Check, Measurement, Meta, Needs, Undefined
from dlaudit.audit.statistics import wilson


class $part(Check):
    """Share of samples that are answered rightly by a margin of logits (say what yours does)."""

    # What it cannot do without. Where the model or the data lack it, the run is skipped and the
    # gate stays closed. Words: logits, gradients, module; labels, groups, mask, train.
    needs = Needs(model=("logits",), data=("labels",))

    # Every name that it can yield, so that a typing error in a rule is found before any compute.
    measures = ("wide_margin",)

    # Its parameters: fields with types, limits and defaults, set in audit.toml.
    least: Annotated[float, Meta(ge=0)] = 0.1

    def measure(self, bench: Bench) -> Iterator[Measurement | Undefined | Artifact]:
        """Measure; judge nothing. A threshold for good or bad belongs into a rule of the plan."""
        answers = bench.answers("test")  # clean answers: computed once, shared by all checks
        order = answers.logits.argsort(axis=1)  # (n, C)
        rows = range(len(answers.y))
        margin = answers.logits[rows, order[:, -1]] - answers.logits[rows, order[:, -2]]  # (n,)
        kept = answers.correct & (margin >= self.least)  # (n,) bool

        # One row per sample, so that `dlaudit diff` and later questions need no second inference.
        yield bench.keep_table("margins", {"id": answers.id, "margin": margin, "kept": kept})

        # A number has an interval, or `exact="why no sampling error applies"`; a number that does
        # not exist is Undefined(name=..., reason=...), never 0. Whatever is raised here makes the
        # run errored, never passed.
        n, k = len(kept), int(kept.sum())
        yield Measurement(
            name="wide_margin",
            value=k / n,
            n=n,
            interval=wilson(k, n),
            conditions={"least": self.least},  # the whole protocol
        )
'''

ATTACK = '''\
"""$title: an attack for dlaudit.

dlaudit run audit.toml --plugin $file --check $id
"""

from typing import Annotated

import torch

from dlaudit import Attack, Batch, Meta, Model, Threat


class $part(Attack):
    """Steps along the sign of the loss's gradient from a random start (say what yours does)."""

    # The norms that it can search in, out of linf, l2, l1, l0, patch.
    norms = ("linf",)

    # Its parameters: fields with types, limits and defaults, set in audit.toml. `norm`, `epsilon`
    # and `samples` are there already.
    steps: Annotated[int, Meta(ge=1)] = 5

    def perturb(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> torch.Tensor:
        """Return perturbed inputs, like batch.x.

        The caller clips to the budget and the valid range, checks the norm and predicts again, so
        nothing that is returned here can make a model look weaker than it is.
        """
        # Randomness only from `generator`: the same plan and seed must give the same result.
        start = torch.rand(batch.x.shape, generator=generator).to(batch.x)
        x = batch.x + threat.epsilon * (2 * start - 1)
        for _ in range(self.steps):
            gradient = model.loss_gradient(x, batch.y)  # like x, one forward and one backward pass
            x = x + 2 * threat.epsilon / self.steps * gradient.sign()
            x = batch.x + (x - batch.x).clamp(-threat.epsilon, threat.epsilon)
            if threat.bounds is not None:
                x = x.clamp(*threat.bounds)
        return x
'''

SUITE = '''\
"""$title: a suite for dlaudit. Plain data: which checks run, and what they must reach.

dlaudit run audit.toml --plugin $file --set 'suites = ["$id"]'
"""

from dlaudit import Rule, Suite

$part = Suite(
    name="$id",
    title="What this house asks of a model before it is released",
    # Run id -> parameters of the check. Where the run is not called like its check, `use` names
    # the check: so one check can run twice.
    runs={
        "overfitting.gap": {},
        "$part.small_changes": {"use": "attacks.fgsm", "epsilon": "2/255"},
    },
    # Used for each run that the plan has no rule for. A rule without a reason is no rule: write
    # down who decided it, and why so much and not less.
    rules=(
        Rule(
            id="$part.learned",
            run="overfitting.gap",
            measurement="test_accuracy",
            at_least=0.8,
            rationale="replace this by the reason for 0.8, and who answers for it",
        ),
        Rule(
            id="$part.steady",
            run="$part.small_changes",
            measurement="robust_accuracy",
            at_least=0.5,
            rationale="replace this by the reason for 0.5, and who answers for it",
        ),
    ),
    # What the report may say of it: what was measured, on what, and what that does not show.
    sentence="Two criteria of the house on the stated data; they speak of nothing beyond it.",
)
'''

SKELETONS = {
    "check": Skeleton(CHECK, "checks", "dlaudit run audit.toml --plugin {file} --check {id}"),
    "attack": Skeleton(ATTACK, "attacks", "dlaudit run audit.toml --plugin {file} --check {id}"),
    "suite": Skeleton(
        SUITE, "suites", "dlaudit run audit.toml --plugin {file} --set 'suites = [\"{id}\"]'"
    ),
}


def write_skeleton(kind: str, name: str, output: Path | None = None) -> str:
    """Write ``<name>.py``, or ``output``, and return the sentence that says what to do next.

    kind: ``check``, ``attack`` or ``suite``. Raises PlanError for a name that cannot be used, a
    file that is there already, and a place where none can be written.
    """
    skeleton = SKELETONS[kind]
    part = part_name(kind, name)
    path = place(name, output)
    names = {
        "part": part,
        "id": f"{path.stem}.{snake_case(part)}",
        "file": path.name,
        "title": name.replace("_", " ").capitalize(),
    }
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(Template(skeleton.template).substitute(names))
    except FileExistsError as error:
        message = f"{path}: is there already and is not overwritten. -o names another file."
        raise PlanError(message) from error
    except OSError as error:
        message = f"{path}: cannot be written: {error.strerror}"
        raise PlanError(message) from error
    use = skeleton.use.format(id=names["id"], file=path)
    return (
        f"{path}: the {kind} {names['id']}. Edit it, then:\n"
        f"  dlaudit list {skeleton.group} --plugin {path}\n"
        f"  {use}\n"
        "In a test, this proves that it keeps to the contract:\n"
        f'  dlaudit.testing.conforms("{kind}", "{names["id"]}", plugins=["{path}"])'
    )


def part_name(kind: str, name: str) -> str:
    """The part's name in Python: a class in capitals, or a suite as it is. Raises PlanError."""
    right = re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name)
    if not right or keyword.iskeyword(name):
        message = f"name: expected snake_case like {near(kind, name)}, got {name!r}"
        raise PlanError(message)
    if kind == "suite":
        return name
    part = "".join(word.capitalize() for word in name.split("_"))
    if part in dlaudit.__all__:
        message = f"name: {part} is a name of dlaudit itself. Did you mean my_{name}?"
        raise PlanError(message)
    return part


def near(kind: str, name: str) -> str:
    """The nearest name in snake_case to what was written."""
    words = re.findall(r"[a-z0-9]+", snake_case(name))
    plain = "_".join(words)
    usable = plain[:1].isalpha() and not keyword.iskeyword(plain)
    return plain if usable else f"my_{plain or kind}"


def place(name: str, output: Path | None) -> Path:
    """The file to write: ``output``, ``<name>.py`` inside it, or here. Raises PlanError."""
    path = output or Path(f"{name}.py")
    if path.is_dir():
        path = path / f"{name}.py"
    if path.suffix != ".py":
        message = f"{path}: expected a Python file. Did you mean {path.with_suffix('.py')}?"
        raise PlanError(message)
    if not path.parent.is_dir():
        message = f"{path}: expected the folder {path.parent} to be there, found none"
        raise PlanError(message)
    return path
