"""A renderer: one line per run and verdict, separated by tabs, for a spreadsheet.

dlaudit report runs/today --format verdict_table.tsv --plugin verdict_table.py
"""

from dlaudit import AuditRecord


def tsv(record: AuditRecord) -> str:
    """Runs and verdicts, one a line: run, how it ended, rule, status, reason."""
    runs_of = {rule.id: rule.run for rule in record.rules}
    lines = ["run\toutcome\trule\tstatus\treason"]
    for run in record.runs:
        kind = type(run.outcome).__name__.lower()
        verdicts = [verdict for verdict in record.verdicts if runs_of[verdict.rule] == run.id]
        lines += [f"{run.id}\t{kind}\t{v.rule}\t{v.status}\t{v.reason}" for v in verdicts]
        if not verdicts:
            lines.append(f"{run.id}\t{kind}\t\tnot judged\tno rule speaks of this run")
    return "\n".join(lines) + "\n"
