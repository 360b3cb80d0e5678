"""The command line: parse, call one function, print, exit. Imports nothing heavy before it is asked.

stdout is the result, stderr the talk. Exit codes: DESIGN.md §5 and ``dlaudit run --help``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from dlaudit.audit.plan import Source
    from dlaudit.audit.record import AuditRecord

DEFECT, UNUSABLE, INTERRUPTED, UNHEARD = 5, 2, 130, 141
PATH = click.Path(path_type=Path)
ABOVE_ZERO = click.FloatRange(min=0, min_open=True)
Command = TypeVar("Command", bound=Callable[..., Any])

EXIT_CODES = """\b
Exit codes:
  0    every rule passed or is waived, every run ran
  1    a rule failed
  2    the plan, the command, the model or the data is wrong; nothing was written
  3    nothing failed, but something was not assessed
  4    nothing failed and all was assessed, but a rule is inconclusive
  5    a defect of dlaudit itself
  130  interrupted; `dlaudit run --resume` goes on
"""


def main() -> None:
    """Run the command line and exit; every expected mistake is one clear sentence."""
    try:
        code = cli.main(standalone_mode=False, prog_name="dlaudit")
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(UNUSABLE)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except (Exception, SystemExit) as error:  # noqa: BLE001  (a user's mistake or our defect)
        # Whoever read stdout has gone, as `head` does: click then wraps stdout and leaves with 1.
        if type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):
            sys.exit(UNHEARD)
        # SystemExit too: a guest that calls sys.exit(0) must not open the gate.
        sys.exit(explained(error))
    sys.exit(code or 0)


def explained(error: BaseException) -> int:
    """Tell what went wrong on stderr; the exit code for it."""
    from dlaudit.errors import AuditError, PlanError, ReportFailed, RunFolderError

    if isinstance(error, PlanError):
        if len(error.problems) == 1 and (not error.label or isinstance(error, RunFolderError)):
            click.echo(f"Error: {error.problems[0]}", err=True)
        else:
            click.echo(f"Error: {error.label or 'this audit'} cannot be run:", err=True)
            for problem in error.problems:
                click.echo(f"  {problem}", err=True)
        return UNUSABLE
    if isinstance(error, AuditError):
        click.echo(f"Error: {error}", err=True)
        return DEFECT if isinstance(error, ReportFailed) else UNUSABLE
    import traceback

    traceback.print_exception(error)
    click.echo(
        "Error: this is a defect of dlaudit; please report it with the lines above.", err=True
    )
    return DEFECT


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dlaudit", prog_name="dlaudit")
def cli() -> None:
    """Audit deep-learning models before they are let loose on people.

    \b
    dlaudit demo                     two small models, one with planted defects
    dlaudit init --model net.py:build --data holdout.npz
    dlaudit run audit.toml           the audit: record, report, exit code
    """


def plan_options(command: Command) -> Command:
    """The options that say what is audited; shared by ``run`` and ``plan``."""
    options = [
        click.argument("plan", type=PATH, required=False),
        click.option("--model", help="Model file, or file.py:factory (without a plan)."),
        click.option("--weights", type=PATH, help="Weights for --model file.py:factory."),
        click.option("--data", help="Data file or folder (without a plan)."),
        click.option("--suite", "suites", multiple=True, help="Suite to run (without a plan)."),
        click.option("--check", "checks", multiple=True, help="Run only this run or check."),
        click.option("--skip", multiple=True, help="Leave this run out."),
        click.option(
            "--set", "settings", multiple=True, help="'key=value' in TOML, laid over the plan."
        ),
        click.option("--seed", type=int, help="The plan's seed."),
        click.option("--max-samples", type=int, help="Audit a seeded subset of this size."),
        click.option(
            "--budget", type=int, help="Forward passes per robust sample, where a check takes one."
        ),
        click.option(
            "--train-budget", type=int, help="Trainings with the plan's function, in all."
        ),
        click.option(
            "--until-decided", is_flag=True, help="Take samples only until the rules are decided."
        ),
        click.option(
            "--plugin", "plugins", type=PATH, multiple=True, help="Python file with parts."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def source_from(options: dict[str, Any]) -> Source:
    """What ``plan_options`` gave, as a source. Raises PlanError."""
    from dlaudit.audit.plan import Source, source_of
    from dlaudit.errors import PlanError

    given = ("seed", "max_samples", "budget", "train_budget")
    numbers = {key: options.pop(key) for key in given}
    settings = [
        *options.pop("settings"),
        *(f"{key} = {value}" for key, value in numbers.items() if value is not None),
        *(["until_decided = true"] if options.pop("until_decided") else []),
    ]
    plan, model, weights, data, suites = (
        options.pop(key) for key in ("plan", "model", "weights", "data", "suites")
    )
    formats = options.pop("formats", "")
    overrides: dict[str, Any] = {
        "formats": tuple(name.strip() for name in formats.split(",") if name.strip()),
        "settings": tuple(settings), "only": tuple(options.pop("checks")),
        "skip": tuple(options.pop("skip")),
        "plugins": tuple(str(path.resolve()) for path in options.pop("plugins")),
    }  # fmt: skip
    if plan is not None:
        if model or data or weights or suites:
            problem = "--model, --weights, --data and --suite are for runs without a plan file"
            raise PlanError(problem)
        return source_of(plan, **overrides)
    if not (model and data):
        problem = "expected a plan file, or --model and --data. `dlaudit init` writes a plan."
        raise PlanError(problem)
    from dlaudit.starting import table_for

    table = table_for(model, weights, data, suites)
    return Source(root=str(Path.cwd()), label="this command", table=table, **overrides)


@cli.command(epilog=EXIT_CODES)
@plan_options
@click.option("--out", type=PATH, help="Folder of the run [dlaudit-runs/<name>-<time>].")
@click.option("--format", "formats", default="html", help="html,json,junit,sarif,md [html].")
@click.option("--executor", default="process", help="process[:N], inline, or a plug-in's.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--job-timeout", type=ABOVE_ZERO, help="Seconds for one job [3600].")
@click.option("--time-limit", type=ABOVE_ZERO, help="Seconds for the whole run.")
@click.option("--memory-limit", type=ABOVE_ZERO, help="GiB of resident memory for one worker.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def run(**options: Any) -> int:
    """Run an audit: measure, judge, report.

    \b
    dlaudit run audit.toml --out runs/today --format html,junit
    dlaudit run --model net.py:build --weights net.safetensors --data holdout.npz --suite attacks
    """
    from dlaudit.audit.executor import JOB_TIMEOUT, Limits
    from dlaudit.audit.launch import launch
    from dlaudit.errors import PlanError
    from dlaudit.progress import told

    memory = options.pop("memory_limit")
    limits = Limits(
        job=options.pop("job_timeout") or JOB_TIMEOUT,
        total=options.pop("time_limit"),
        memory=int(memory * 2**30) if memory else None,
    )
    how = {key: options.pop(key) for key in ("out", "executor", "resume")}
    quiet = options.pop("quiet")
    source = source_from(options)
    try:
        with told(quiet=quiet) as events:
            record, folder = launch(source, limits=limits, events=events, **how)
    except PlanError as error:
        error.label = source.label
        raise
    return concluded(record, "" if quiet else f"Record and reports: {folder}")


def concluded(record: AuditRecord, last_line: str = "") -> int:
    """Print the verdicts on one screen; the exit code."""
    from dlaudit.audit.judge import exit_code
    from dlaudit.reports.text import screen

    click.echo(screen(record))
    if last_line:
        click.echo(last_line, err=True)
    return int(exit_code(record))


@cli.command()
@click.option("--out", type=PATH, default=Path("dlaudit-demo"), help="Folder [dlaudit-demo].")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def demo(out: Path, *, quiet: bool) -> int:
    """Train two small models, one with planted defects, and audit both.

    \b
    dlaudit demo --out demo && open demo/index.html

    Exits as the audit of the planted one does: 1, because its defects are found.
    """
    from dlaudit.demo.show import demonstrate

    return concluded(demonstrate(out, quiet=quiet), f"Both reports: {out / 'index.html'}")


@cli.command()
@click.option("--model", required=True, help="Model file, or file.py:factory.")
@click.option("--weights", type=PATH, help="Weights for file.py:factory.")
@click.option("--data", required=True, help="Data file or folder.")
@click.option(
    "-o", "--output", type=PATH, default=Path("audit.toml"), help="Plan to write [audit.toml]."
)
def init(model: str, weights: Path | None, data: str, output: Path) -> int:
    """Look at a model and data, and write a commented plan that runs unchanged.

    \b
    dlaudit init --model net.py:build --weights net.safetensors --data holdout.npz -o audit.toml
    """
    from dlaudit.starting import write_plan

    click.echo(write_plan(model, weights, data, output))
    return 0


@cli.command("plan")
@plan_options
@click.option("--executor", default="process", help="Where model and data are opened.")
def plan_(executor: str, **options: Any) -> int:
    """Say what would be measured, at what cost, and what it could decide. Measures nothing.

    \b
    dlaudit plan audit.toml
    """
    from dlaudit.audit.preview import preview
    from dlaudit.errors import PlanError

    source = source_from(options)
    try:
        click.echo(preview(source, executor))
    except PlanError as error:
        error.label = source.label
        raise
    return 0


@cli.command("list")
@click.argument("kind", required=False)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--plugin", "plugins", type=PATH, multiple=True, help="Python file with parts.")
def list_(kind: str | None, plugins: tuple[Path, ...], *, as_json: bool) -> int:
    """List the parts there are: suites, checks, attacks, loaders, renderers, executors.

    \b
    dlaudit list checks
    """
    from dlaudit.audit.listing import listing

    click.echo(listing(kind, plugins, as_json=as_json))
    return 0


@cli.command()
@click.argument("run", type=PATH)
@click.option("--format", "name", default="html", help="html, json, junit, sarif, md.")
@click.option("-o", "--output", type=PATH, help="File [stdout].")
@click.option(
    "--edition", help="auditor [default], or public: no rows, pictures, groups of people."
)
@click.option("--language", help="en [default], de.")
@click.option("--since", type=PATH, help="An earlier run: what changed is a section of the page.")
@click.option("--plugin", "plugins", type=PATH, multiple=True, help="Python file with parts.")
def report(
    run: Path,
    name: str,
    output: Path | None,
    plugins: tuple[Path, ...],
    *,
    edition: str | None,
    language: str | None,
    since: Path | None,
) -> int:
    """Render a stored run again, without the model.

    \b
    dlaudit report runs/today --format md
    """
    from dlaudit.audit.launch import report_text

    asked = {"edition": edition, "language": language}
    options = {key: value for key, value in asked.items() if value is not None}
    text = report_text(run, name, output, plugins, options, since=since)
    if output is None:
        click.echo(text, nl=False)
    return 0


@cli.command(epilog=EXIT_CODES)
@click.argument("run", type=PATH)
@click.option("--rules", type=PATH, help="TOML with [[rules]] that replace the plan's.")
def gate(run: Path, rules: Path | None) -> int:
    """Judge stored measurements again, without the model.

    \b
    dlaudit gate runs/today --rules strict.toml
    """
    from dlaudit.audit.gate import gate as judged_again

    return concluded(judged_again(run, rules))


@cli.command()
@click.argument("first", type=PATH)
@click.argument("second", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--html", "page", type=PATH, help="Write a page there.")
@click.option("--language", default="en", help="Of the page: en, de.")
def diff(first: Path, second: Path, page: Path | None, *, as_json: bool, language: str) -> int:
    """Compare two runs, sample by sample.

    \b
    dlaudit diff runs/yesterday runs/today
    """
    from dlaudit.audit.difference import compare
    from dlaudit.audit.record import canonical
    from dlaudit.reports.difference import text

    difference = compare(first, second)
    if page is not None:
        from dlaudit.audit.launch import difference_page

        difference_page(difference, first, second, page, language)
    click.echo(canonical(difference).decode() if as_json else text(difference))
    return 0


@cli.command()
@click.argument("run", type=PATH)
def verify(run: Path) -> int:
    """Recompute every digest of a run: 0 intact, 1 altered.

    \b
    dlaudit verify runs/today
    """
    from dlaudit.audit.run_folder import alterations

    problems = alterations(run)
    for problem in problems:
        click.echo(problem)
    if not problems:
        click.echo(
            "intact: every file is as the manifest says. This shows no alteration, not who wrote it."
        )
    return 1 if problems else 0


@cli.command()
@click.argument("kind", type=click.Choice(["check", "attack", "suite"]))
@click.argument("name")
@click.option("-o", "--output", type=PATH, help="File [<name>.py].")
def new(kind: str, name: str, output: Path | None) -> int:
    """Write the skeleton of a plug-in that passes the conformance kit.

    \b
    dlaudit new attack my_noise && dlaudit list attacks --plugin my_noise.py
    """
    from dlaudit.skeletons import write_skeleton

    click.echo(write_skeleton(kind, name, output))
    return 0


if __name__ == "__main__":
    main()
