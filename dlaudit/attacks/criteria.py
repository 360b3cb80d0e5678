"""The published criteria by which an attack is examined, and what follows where one is not met.

Knows each criterion's statistic, threshold, source and remedy, and when a failed one voids a score;
measures nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from dlaudit.audit.record import Caveat, Measurement, Scalar, Undefined

Level = Literal["quick", "full"]
DIAGNOSTIC = "diagnostic"
TOLERATED = 0.02
"""A robust accuracy is voided if more than this share of all samples owes its place in it to what a
failed diagnostic found: two points, docs/decisions/0014-when-a-diagnostic-voids.md."""
EXACT = "a published criterion, met or not"


class Criterion(NamedTuple):
    """One diagnostic. statistic: what is counted; threshold: when it fails; remedy: what to do then.

    voids: whether a failed one shows that the search, rather than its budget, is at fault.
    """

    name: str
    statistic: str
    threshold: str
    source: str
    remedy: str
    voids: bool = True


CARLINI, INDICATORS = "Carlini et al. 2019", "Pintor et al. 2022"
FLAGS = "AutoAttack, checks (Croce & Hein 2020)"
OWN = "dlaudit, docs/doctor.md"

LIST = (
    Criterion(
        "randomised_model", "largest change of the normalised logits over 5 passes", "> 1e-4", FLAGS,
        "Average gradients over the randomness (expectation over transformations), or freeze it; if "
        "dropout was left on, switch it off.",
    ),
    Criterion(
        "probabilities_as_logits", "share of answers that are non-negative and sum to 1",
        "all of them", FLAGS, "Attack the logits before the softmax.",
    ),
    Criterion(
        "dynamic_defence", "calls into automatic differentiation while the model answers", "> 0",
        FLAGS, "The model adapts as it answers: attack it with a method that models the adaptation.",
    ),
    Criterion(
        "enough_classes", "classes", "2 with a DLR loss, 3 with a targeted one, or fewer than the "
        "targets need", FLAGS, "Use the margin, or fewer targets.", voids=False,
    ),
    Criterion(
        "zero_gradient", "surviving samples with a gradient that is zero in every value", "> 0",
        INDICATORS, "Attack a margin instead of cross-entropy; replace rounding, gates and other "
        "steps without a gradient by a smooth stand-in (BPDA), or attack without gradients.",
    ),
    Criterion(
        "unstable_loss", "mean relative change of the margin at random neighbours, at most 1",
        "> 0.1 (ours: published without)", INDICATORS,
        "The loss is rough around the inputs: average gradients over neighbours, or attack without "
        "gradients.", voids=False,
    ),
    Criterion(
        "silent_success", "samples fooled on the way, but not by what was returned", "> 0", INDICATORS,
        "Return the first example that fools, not the last iterate.",
    ),
    Criterion(
        "incomplete_optimisation", "mean share of the loss's range gained in the last ten steps",
        "> 0.05", INDICATORS, "Spend more steps, or larger ones.", voids=False,
    ),
    Criterion(
        "transfer_to_deployed", "samples that the search saw fooled and the harness did not", "> 0",
        INDICATORS, "Attack what is deployed: the same preprocessing, precision and rounding.",
    ),
    Criterion(
        "unbounded_attack", "share of samples not fooled though any valid input was allowed", "> 0",
        f"{CARLINI}; {INDICATORS}", "Gradients do not lead out of the class: look for rounding, gates, "
        "saturated outputs or a wrong range of inputs.",
    ),
    Criterion(
        "single_step_succeeds", "survivors that one step of the whole budget fools", "> 0", CARLINI,
        "The search is mis-tuned: larger steps, more restarts, another loss.",
    ),
    Criterion(
        "monotone_in_epsilon", "samples fooled at a smaller budget but not at the largest", "> 0",
        CARLINI, "The search fails at the larger budget: more steps, steps that scale with epsilon.",
    ),
    Criterion(
        "high_distortion", "accuracy where every value may move by half its range",
        "above chance, beyond its 95 % interval", CARLINI,
        "Every image can be made grey there: what survives is an artefact of masked gradients.",
    ),
    Criterion(
        "black_box_succeeds", "share of samples that only a search without gradients fooled",
        "> 0.002", f"{FLAGS}; {CARLINI}",
        "Gradients do not lead to where the errors are: report the search without gradients too.",
    ),
    Criterion(
        "converged", "survivors fooled by twice the steps or ten restarts", "> 0", CARLINI,
        "The figure is limited by the budget of the search: spend more.", voids=False,
    ),
    Criterion(
        "random_noise", "survivors that random noise of the same size fools", "> 0 in 10,000 draws",
        CARLINI, "The search is weaker than noise there: another loss, restarts, no gradients.",
    ),
    Criterion(
        "surrogate_transfer", "survivors fooled by examples made for another model",
        "success at least that of the attack", CARLINI,
        "Gradients of another model serve better than its own: its own are masked.",
    ),
    Criterion(
        "worst_case_per_sample", "difference between the figure and the mean of per-sample minima",
        "> 0", CARLINI, "Take the minimum over attacks for each sample, then the mean.",
    ),
    Criterion(
        "hard_label_attack", "survivors that an attack on decisions alone fooled",
        "success above that of the attack", CARLINI,
        "Gradients are masked: report the attack on decisions too.",
    ),
    Criterion(
        "fixed_randomness", "share of samples not fooled with the randomness frozen and any valid "
        "input allowed", "> 0", CARLINI,
        "The randomness is not what resists: look for what masks the gradient.",
    ),
    Criterion(
        "complete_record", "kinds of search that were run: untargeted, targeted", "< 2", CARLINI,
        "Run a targeted search too (attacks.cascade, attacks.autoattack).", voids=False,
    ),
    Criterion(
        "valid_examples", "counted examples outside budget or range, recomputed in double precision",
        "> 0", OWN, "A defect of the search or the harness: report it.",
    ),
    Criterion(
        "loss_consistency", "rank correlation of the attacked loss's steps with the margin's", "<= 0",
        "Tramer et al. 2020", "Raising this loss does not lead to the boundary: attack the margin.",
    ),
    Criterion(
        "abstention", "area under the curve of the detector", "not reported with a joint attack",
        CARLINI, "Attack classifier and detector together.", voids=False,
    ),
    Criterion(
        "positive_control", "share missed of a linear twin's samples that can be fooled", "> 0.25 "
        "(ours: published as 'must break it')", CARLINI,
        "The search misses what is there to find: do not rely on it at all.",
    ),
    Criterion(
        "gradient_foretells", "median rise of the margin over what its gradient foretells, one step",
        "< 0.1 or > 10", OWN, "The gradient is of something finer than the budget (shattered): average "
        "it over neighbours, or attack without gradients.",
    ),
    Criterion(
        "inputs_in_range", "share of clean inputs outside the declared bounds", "> 0", OWN,
        "Declare the range of the inputs as the model gets them, normalised or not.",
    ),
    Criterion(
        "range_fits_inputs", "part of the declared range that the clean inputs span", "< 0.5", OWN,
        "Declare the range that inputs can have; pixels in [0, 1] are not bounded by 255.",
        voids=False,
    ),
    Criterion(
        "epsilon_units", "budget over the range that the clean inputs span",
        "a budget for pixels in [0, 1] on normalised inputs, or below half a step of whole numbers",
        OWN, "Give the budget in the units of the inputs, or move the normalisation into the model.",
    ),
)  # fmt: skip
CRITERIA: Mapping[str, Criterion] = {one.name: one for one in LIST}


class Diagnosis(NamedTuple):
    """What became of one criterion. failed: None if it was not tried, for the reason in told.

    value: the statistic; n: samples behind it; doubtful: share of all samples whose place in the
    robust accuracy rests on what was found; told: particulars.
    """

    name: str
    failed: bool | None
    value: float = 0.0
    n: int = 0
    doubtful: float = 0.0
    told: str = ""

    @property
    def criterion(self) -> Criterion:
        """What it was tried by."""
        return CRITERIA[self.name]

    @property
    def voids(self) -> bool:
        """Whether the robust accuracy cannot stand as it is."""
        return bool(self.failed) and self.criterion.voids and self.doubtful > TOLERATED

    @property
    def words(self) -> str:
        """What was found and what to do about it, where it failed."""
        one = self.criterion
        found = f"{one.statistic}: {self.value:.4g} (fails if {one.threshold}; {one.source})"
        more = f" {self.told}." if self.told else ""
        return f"{self.name}: {found}.{more} {one.remedy}"


def not_run(name: str, reason: str) -> Diagnosis:
    """A criterion that was not tried: never the same as one that was met."""
    return Diagnosis(name, None, told=reason)


def yielded(
    diagnoses: tuple[Diagnosis, ...], *, run: str, level: Level, protocol: Mapping[str, Scalar]
) -> Iterator[Measurement | Undefined]:
    """The diagnoses as a check's measurements, with everything that a report needs beside each.

    protocol: the attack that was examined, alike for all.
    """
    failed = [one for one in diagnoses if one.failed]
    counts = {
        "diagnostics_failed": len(failed),
        "diagnostics_voiding": sum(one.voids for one in failed),
    }
    tried = sum(one.failed is not None for one in diagnoses)
    for name, count in counts.items():
        yield Measurement(
            name=name, value=count, n=tried, exact="a count", direction="lower",
            conditions={**protocol, "level": level},
        )  # fmt: skip
    for one in diagnoses:
        criterion, place = one.criterion, {DIAGNOSTIC: one.name}
        conditions = {
            **protocol, "level": level, "threshold": criterion.threshold, "source": criterion.source,
            "measures": criterion.statistic,
        }  # fmt: skip
        if one.failed is None:
            yield Undefined(name=DIAGNOSTIC, reason=one.told, slice=place, conditions=conditions)
            continue
        conditions |= {"statistic": one.value, "doubtful": one.doubtful, "voids": one.voids}
        caveats = (Caveat(source=run, name=one.name, message=one.words),) if one.failed else ()
        yield Measurement(
            name=DIAGNOSTIC, value=float(one.failed), n=one.n, exact=EXACT, direction="lower",
            slice=place, conditions=conditions, caveats=caveats,
        )  # fmt: skip


def caveats(diagnoses: tuple[Diagnosis, ...], *, run: str) -> tuple[Caveat, ...]:
    """The doubts that an examination leaves about a robust accuracy, and how far it went."""
    doubts = [
        Caveat(source=run, name=f"doctor.{one.name}", message=one.words, voids=True)
        for one in diagnoses
        if one.voids
    ]
    mild = [f"{one.name} ({one.value:.4g})" for one in diagnoses if one.failed and not one.voids]
    left = [one.name for one in diagnoses if one.failed is None]
    passed = len(diagnoses) - len(doubts) - len(mild) - len(left)
    message = (
        f"Of {len(diagnoses)} diagnostics of the attack, {len(doubts)} failed and void this figure, "
        f"{len(mild)} failed without doing so ({', '.join(mild) or 'none'}), {passed} did not fail, "
        f"and {len(left)} were not run ({', '.join(left) or 'none'})."
    )
    return (*doubts, Caveat(source=run, name="doctor", message=message))
