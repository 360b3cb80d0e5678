"""Membership inference from the audited model alone: can its losses tell what it was trained on?

Knows the clean answers on both splits; refuses other models (see ``reference_attacks``), and refuses a
rate at a low false positive rate from a few non-members.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Artifact, Caveat, Cost, Measurement, Undefined
from dlaudit.audit.statistics import LEVEL, auc, clopper_pearson
from dlaudit.overfitting.gap import TEST, TRAIN, doubts

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Answers, Bench

FEW = 10
"""Samples a side below which an AUC is not told."""
AUC, TPR = "membership_auc", "membership_tpr"


class Membership(Check, frozen=True, kw_only=True):
    """Whether the model's losses tell training samples from others (membership inference).

    The attack of Yeom et al. 2018: the smaller the loss, the likelier a member. ``membership_auc``: the
    chance that a training sample has a smaller loss than a test sample; 0.5 is guessing (interval:
    DeLong, logit scale). ``class_membership_auc`` among the samples of one class, at Bonferroni's level;
    ``wrong_membership_auc`` among those that the model decides wrongly, where accuracy explains nothing.
    ``membership_tpr``: the share of training samples above the lowest threshold that at most one in a
    thousand test samples passes; Clopper and Pearson's interval, for that threshold. Undefined below
    1,000 test samples; 10,000 are preferred.

    Where a model only decides, being right is the score: the AUC is 0.5 plus half the accuracy gap.
    This is the weakest attack: a model that withstands it may still remember single samples
    (``overfitting.reference_attacks``).
    """

    needs: ClassVar[Needs] = Needs(model=("decisions",), data=("labels", "train"))
    measures: ClassVar[tuple[str, ...]] = (AUC, "class_membership_auc", "wrong_membership_auc", TPR)

    def passes(self, *, n: int, classes: int) -> Cost:
        """Nothing beyond the clean answers."""
        del n, classes
        return Cost(forward=0, backward=0)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Score both splits and compare them."""
        train, test = bench.answers(TRAIN), bench.answers(TEST)
        caveats = tuple(doubts(bench))
        members, others = scores(train), scores(test)
        stated: dict[str, Any] = {"score": "correct" if train.logits is None else "loss"}
        yield area(AUC, members, others, caveats, conditions=stated)
        shown = [
            index for index in range(len(bench.classes))
            if min((train.y == index).sum(), (test.y == index).sum()) >= FEW
        ]  # fmt: skip
        for index, name in enumerate(bench.classes):
            yield area(
                f"class_{AUC}", members[train.y == index], others[test.y == index], caveats,
                conditions=stated, where={"class": name},
                level=1 - (1 - LEVEL) / max(1, len(shown)),
            )  # fmt: skip
        if train.logits is None:
            reason = "the model gives decisions only: among wrong ones nothing tells members apart"
            yield Undefined(name=f"wrong_{AUC}", reason=reason, conditions=stated)
            reason = (
                "the model gives decisions only: they allow one threshold, not one in a thousand"
            )
            yield Undefined(name=TPR, reason=reason, conditions=stated)
        else:
            yield area(
                f"wrong_{AUC}", members[~train.correct], others[~test.correct], caveats,
                conditions=stated,
            )  # fmt: skip
            yield tail(bench, members, others, caveats, conditions=stated)
        yield picture(bench, {"loss": (members, others)})
        yield samples(bench, {"score": (members, others)}, train, test)


def scores(answers: Answers) -> np.ndarray:
    """(n,): higher for what was likelier trained on: the log-odds of the label, or being right."""
    from dlaudit.overfitting.membership_scores import confidence

    if answers.logits is None:
        return answers.correct.astype(float)
    return confidence(answers.logits, answers.y)


def area(
    name: str,
    members: np.ndarray,
    others: np.ndarray,
    caveats: tuple[Caveat, ...],
    *,
    conditions: dict[str, Any],
    where: dict[str, str] | None = None,
    level: float = LEVEL,
) -> Yielded:
    """The AUC of members against others, or why there is none."""
    if min(len(members), len(others)) < FEW:
        reason = (
            f"{len(members)} training and {len(others)} test samples: an AUC is told from {FEW} "
            "of each on"
        )
        return Undefined(name=name, reason=reason, slice=where or {}, conditions=conditions)
    value, interval = auc(members, others, level)
    return Measurement(
        name=name, value=value, n=len(members) + len(others), interval=interval, direction="lower",
        slice=where or {}, conditions=conditions, caveats=caveats,
    )  # fmt: skip


def tail(
    bench: Bench,
    members: np.ndarray,
    others: np.ndarray,
    caveats: tuple[Caveat, ...],
    *,
    conditions: dict[str, Any],
    where: dict[str, str] | None = None,
) -> Yielded:
    """The true positive rate at a low false positive rate, or why it cannot be measured."""
    from dlaudit.overfitting.membership_scores import LOW_FPR, NON_MEMBERS, PREFERRED, reach

    stated = {**conditions, "fpr": LOW_FPR}
    if len(others) < NON_MEMBERS:
        reason = (
            f"not measurable: {len(others)} non-members, a false positive rate of {LOW_FPR:g} needs "
            f"{NON_MEMBERS:,} ({PREFERRED:,} are preferred)"
        )
        return Undefined(name=TPR, reason=reason, slice=where or {}, conditions=stated)
    found = reach(members, others)
    if len(others) < PREFERRED:
        message = (
            f"the threshold is set by {found.false_positives} of {len(others):,} non-members: another "
            f"sample would set it elsewhere; {PREFERRED:,} are preferred"
        )
        caveats = (
            *caveats,
            Caveat(source=bench.run, name="few-non-members", message=message, voids=False),
        )
    return Measurement(
        name=TPR, value=found.hits / found.members, n=found.members,
        interval=clopper_pearson(found.hits, found.members), direction="lower",
        slice=where or {}, conditions=stated, caveats=caveats,
    )  # fmt: skip


def picture(bench: Bench, attacks: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Artifact:
    """The ROC of every attack. attacks: name -> scores of members and of others."""
    from dlaudit.overfitting.membership_scores import roc
    from dlaudit.overfitting.roc_picture import log_roc_svg

    n = min(len(others) for _, others in attacks.values())
    content = log_roc_svg(
        {name.replace("_", " "): roc(*pair) for name, pair in attacks.items()}, least=1 / max(n, 10)
    )
    said = ", ".join(
        f"{name.replace('_', ' ')} {auc(*pair)[0]:.3f}" for name, pair in attacks.items()
    )
    return bench.keep(
        f"{bench.run}.roc", content, media_type="image/svg+xml",
        caption=(
            f"Membership inference, both axes logarithmic, {n:,} non-members: how many training samples "
            "are recognised (up) at which share of false alarms (across). Dashed: guessing."
        ),
        alt=f"ROC curves on log axes. Areas below the curves: {said}.",
    )  # fmt: skip


def samples(
    bench: Bench,
    columns: Mapping[str, tuple[np.ndarray, np.ndarray]],
    train: Answers,
    test: Answers,
) -> Artifact:
    """The scores of every sample. columns: name -> scores of the training and of the test samples."""
    import numpy as np

    table = {
        "id": np.concatenate([train.id, test.id]),
        "split": np.r_[np.full(len(train.y), TRAIN), np.full(len(test.y), TEST)],
        "label": np.concatenate([train.y, test.y]),
        "predicted": np.concatenate([train.predicted, test.predicted]),
        **{name: np.concatenate(pair) for name, pair in columns.items()},
    }
    return bench.keep_table(
        f"{bench.run}.samples",
        table,
        caption="How likely each sample looks to have been trained on.",
    )
