"""What a record claims of the items of its catalogues, as CycloneDX declarations.

Knows findings, the verdicts that speak of them and what people state; refuses to write how far an item
is met, for which CycloneDX has a score. What contradicts a claim stands beside it as counter-evidence.
"""

from __future__ import annotations

from typing import Any

from dlaudit.audit.record import Statement
from dlaudit.reports import wording
from dlaudit.reports.outline import Judged, Outline, Shown


def declarations(outline: Outline, target: str) -> dict[str, Any]:
    """Claims about the component ``target``, with evidence and counter-evidence; empty without any.

    An item of which neither a rule nor a person speaks is no claim. References are numbers in the
    record's order, because ids of rules may hold anything.
    """
    rules = {one.id: f"rule-{k}" for k, one in enumerate(outline.judged)}
    statements = outline.record.statements
    stated = [(f"statement-{k}", one) for k, one in enumerate(statements)]
    claims = [
        _claim(f"claim-{k}", one, target, outline, rules=rules, stated=stated)
        for k, one in enumerate(outline.findings)
        if one.finding.verdicts or any(said.what == one.requirement.id for _, said in stated)
    ]
    if not claims:
        return {}
    named = {
        ref
        for one in claims
        for kind in ("evidence", "counterEvidence")
        for ref in one.get(kind, ())
    }
    found = [_measured(ref, outline.judged[k]) for k, ref in enumerate(rules.values())]
    found += [_said(ref, one) for ref, one in stated]
    return {"claims": claims, "evidence": [one for one in found if one["bom-ref"] in named]}


def _claim(
    ref: str,
    shown: Shown,
    target: str,
    outline: Outline,
    *,
    rules: dict[str, str],
    stated: list[tuple[str, Statement]],
) -> dict[str, Any]:
    status = {one.id: one.status for one in outline.judged}
    spoken = [rule for rule in shown.finding.verdicts if rule in rules]
    item, label = shown.requirement, wording.FINDINGS[shown.status].label
    said = [ref_ for ref_, one in stated if one.what == item.id]
    lists = {
        "evidence": [rules[rule] for rule in spoken if status[rule] == "pass"] + said,
        "counterEvidence": [rules[rule] for rule in spoken if status[rule] != "pass"],
    }
    return {
        "bom-ref": ref,
        "target": target,
        "predicate": wording.one_line(f"{item.id}, {wording.cite(item.cite)}: {label}"),
        "reasoning": wording.one_line(f"{shown.doubt} {shown.finding.limits}"),
        **{kind: refs for kind, refs in lists.items() if refs},
    }


def _measured(ref: str, one: Judged) -> dict[str, Any]:
    label = wording.VERDICTS[one.status].label
    return {
        "bom-ref": ref,
        "propertyName": wording.one_line(one.id),
        "description": wording.one_line(f"{label}: {one.reason}"),
    }


def _said(ref: str, one: Statement) -> dict[str, Any]:
    document = f"; document sha256 {one.document_sha256}" if one.document_sha256 else ""
    return {
        "bom-ref": ref,
        "propertyName": wording.one_line(one.what),
        "description": wording.one_line(f"stated, not tested: {one.statement}{document}"),
        "author": {"name": wording.one_line(one.who) or "nobody named"},
    }
