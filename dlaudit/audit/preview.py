"""Says before anything runs what an audit will measure, cost and be able to decide."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from dlaudit.audit.catalogues import aged
from dlaudit.audit.catalogues import opened as opened_book
from dlaudit.audit.executor import Limits, executor_of
from dlaudit.audit.parameters import build
from dlaudit.audit.parts import Check
from dlaudit.audit.perform import Opened
from dlaudit.audit.plan import Plan, RunSpec, Source
from dlaudit.audit.record import Cost, Requirement, Rule
from dlaudit.audit.registry import ImportFailed, Registry
from dlaudit.audit.statistics import confidence_sequence, decidable, newcombe, wilson

DIFFERENCES = ("_gap", "_difference", "_spread")


def preview(source: Source, executor: str = "process") -> str:
    """The plan's runs, rules and articles in words. Raises PlanError. Writes nothing."""
    import msgspec

    registry = source.registry()
    running = executor_of(executor, Limits(), lambda name: registry.find("executors", name).get())
    try:
        opened = running.prepare(msgspec.structs.replace(source, calibrate=True))
    finally:
        running.close()
    plan = opened.plan
    books = [(name, opened_book(name, registry)) for name in plan.catalogues]
    requirements = tuple(item for _, book in books for item in book)
    today = datetime.now(UTC).date()
    warnings = [aged(book.card(name), today).warning for name, book in books]
    sizes = ", ".join(f"{split} {n}" for split, n in opened.sizes.items())
    lines = [
        f"{plan.name}: {opened.model.name} on {opened.data.name} ({sizes}; {len(opened.classes)} classes)",
        f"plan {plan.sha256}",
        *(f"asked before anything is measured: {question}" for question in opened.questions),
        "",
        "Runs",
        *runs(opened, registry),
        "",
        "Rules, and the smallest effect each can decide",
        *(f"  {rule.id}: {rule.sentence}; {effect(rule, opened, registry)}" for rule in plan.rules),
        *([] if plan.rules else ["  none: the gate will stay closed (exit code 3)"]),
        "",
        "Requirements",
        *articles(plan, requirements),
        *(f"  {warning}" for warning in warnings if warning),
    ]
    return "\n".join(lines)


def runs(opened: Opened, registry: Registry) -> Iterable[str]:
    """A line per run: what it costs, or why it will not be measured; then the sum."""
    total = Cost(forward=0, backward=0)
    unknown = trainings = 0
    for spec in opened.plan.runs:
        cost, note = expected(spec, opened, registry)
        if cost is not None:
            total = Cost(
                forward=total.forward + cost.forward, backward=total.backward + cost.backward
            )
        elif not note:
            unknown, note = unknown + 1, "cost not known beforehand"
        skipped = note.startswith("WILL BE SKIPPED")
        said = [note or priced(cost, opened)]
        if spec.trainings and not skipped:
            trainings += spec.trainings
            said.append(f"{spec.trainings} trainings, whose own cost is not known beforehand")
        yield f"  {spec.id}: {', and '.join(said)}"
        yield from (f"    {line}" for line in foreseen(spec, opened, registry))
    more = f", and {unknown} runs of unknown cost" if unknown else ""
    if trainings:
        budget = opened.plan.train_budget
        held = "no budget holds them" if budget is None else f"of a budget of {budget}"
        more += f", and {trainings} trainings ({held})"
    yield f"  together: {priced(total, opened)}{more}"


def expected(spec: RunSpec, opened: Opened, registry: Registry) -> tuple[Cost | None, str]:
    """What a run will cost at most, or why it will not run."""
    if spec.broken:
        return None, f"cannot be imported: {spec.broken.message}"
    try:
        check, _ = build(registry.check(spec.check), spec.params)
    except ImportFailed as error:
        return None, str(error)
    if check is None:
        return None, "cannot be built"
    missing = check.missing(
        model=frozenset(opened.offers["model"]), data=frozenset(opened.offers["data"]),
        train_fn=bool(opened.plan.train),
    )  # fmt: skip
    if missing:
        return None, f"WILL BE SKIPPED, which closes the gate: not offered: {', '.join(missing)}"
    if spec.beyond is not None:
        return None, f"WILL BE SKIPPED, which closes the gate: {spec.beyond.reason}"
    size = opened.sizes[check.passes_over]
    n = min(size, spec.params.get("samples") or size)
    cost, more = check.passes(n=n, classes=len(opened.classes)), 1 + check.surcharge
    if cost is not None:
        cost = Cost(forward=int(cost.forward * more), backward=int(cost.backward * more))
    return cost, ""


def foreseen(spec: RunSpec, opened: Opened, registry: Registry) -> tuple[str, ...]:
    """What the check of a run can say beforehand; nothing where it cannot be built."""
    if spec.broken:
        return ()
    try:
        check, _ = build(registry.check(spec.check), spec.params)
    except ImportFailed:
        return ()
    return check.foreseen(opened.data.facts) if check is not None else ()


def priced(cost: Cost | None, opened: Opened) -> str:
    """Passes, and seconds on this machine from a short calibration."""
    if cost is None:
        return "cost not known beforehand"
    text = f"at most {cost.forward:,} forward and {cost.backward:,} backward passes"
    if opened.speed:
        seconds = cost.forward * opened.speed[0] + cost.backward * opened.speed[1]
        text += (
            f", about {seconds:.0f} s of passes on one core"
            if seconds >= 1
            else ", under a second of passes"
        )
    return text


def effect(rule: Rule, opened: Opened, registry: Registry) -> str:
    """From which measured value on a rule is decided, at the number of samples there are."""
    spec = next(spec for spec in opened.plan.runs if spec.id == rule.run)
    n = opened.sizes["test"]
    if isinstance(samples := spec.params.get("samples"), int):
        n = min(n, samples)
    if rule.measurement.endswith(DIFFERENCES):
        other = opened.sizes.get("train", n)
        group = smallest_group(opened)
        if group and "_gap" not in rule.measurement:
            n, other = group
        interval = newcombe(n // 2, n, other // 2, other, rule.level)
        half = (interval.high - interval.low) / 2
        return f"decided if at least {half:.3f} away from it (two proportions near 0.5, n = {n} and {other})"
    if rule.measurement not in proportions(spec, registry) or not 0 <= rule.threshold <= 1:
        return "how wide its interval is shows only the measurement"
    sequential = opened.plan.until_decided and spec_is_sequential(spec, registry)
    found = decidable(
        rule.threshold, n, at_least=rule.at_least is not None, level=rule.level,
        interval=confidence_sequence if sequential else wilson,
    )  # fmt: skip
    passes, fails = found.passes_from, found.fails_from
    low, high = (">=", "<=") if rule.at_least is not None else ("<=", ">=")
    said = (
        f"passes if measured {low} {passes:.4g}" if passes is not None else "cannot pass at this n"
    )
    said += f", fails if {high} {fails:.4g}" if fails is not None else ", cannot fail at this n"
    if sequential:
        return f"{said} (a proportion of all n = {n}; stops before where the rules are decided)"
    return f"{said} (a proportion of n = {n})"


def proportions(spec: RunSpec, registry: Registry) -> tuple[str, ...]:
    """The measurements of a run that are proportions of its samples."""
    if spec.broken:
        return ()
    check: Check = registry.check(spec.check).get()
    return check.proportions


def spec_is_sequential(spec: RunSpec, registry: Registry) -> bool:
    """Whether a run can end as soon as its rules are decided."""
    return not spec.broken and registry.check(spec.check).get().sequential


def smallest_group(opened: Opened) -> tuple[int, int] | None:
    """The sizes of the smallest and the largest declared group of any attribute."""
    groups = opened.data.facts.get("groups")
    sizes = (
        [sorted(counts.values()) for counts in groups.values()] if isinstance(groups, dict) else []
    )
    pairs = [(int(counts[0]), int(counts[-1])) for counts in sizes if len(counts) > 1]
    return min(pairs, default=None)


def articles(plan: Plan, requirements: Iterable[Requirement]) -> Iterable[str]:
    """Which requirements will get evidence from a rule, and how many will get none."""
    spoken = {item for rule in plan.rules for item in rule.requirements}
    declared = {one.requirement for one in plan.declarations}
    silent = 0
    for item in requirements:
        if item.id in spoken:
            rules = [rule.id for rule in plan.rules if item.id in rule.requirements]
            yield f"  {item.cite}: evidence from {', '.join(rules)}"
        elif item.id in declared:
            yield f"  {item.cite}: declared, not tested"
        else:
            silent += 1
    yield f"  {silent} further items get no evidence from this plan"
