"""Whatever the documentation tells a reader to type works: commands, plans, code, generated pages."""

import contextlib
import importlib.util
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import click
import jsonschema
import numpy as np
import pytest
import yaml
from commandline import Ended, dlaudit_command, shell_environment, written
from documented import REPOSITORY, Block, blocks, name_of, pages

from dlaudit.audit.plan import Source
from dlaudit.audit.plan_reading import read
from dlaudit.audit.record import Measured, Skipped, canonical, read_record
from dlaudit.audit.registry import Registry, import_file
from dlaudit.cli import cli
from dlaudit.testing import sample_record, toy_arrays

STORIES = {"docs/first-audit.md", "docs/newcomers-hour.md"}
"""Pages that make all their files themselves; the others find a small audit in their folder."""

SHELL_WORDS = re.compile(r"[|&;<>$`(){}*]")

NET = """
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
"""

PLAN = """
name = "toy patches"
suites = ["overfitting", "attacks"]

[model]
use = "torch"
args = { file = "net.py:build", weights = "net.safetensors", bounds = [0, 1] }

[data]
use = "npz"
args = { path = "holdout.npz" }
[data.train]
use = "npz"
args = { path = "train.npz" }

[checks."attacks.pgd"]
samples = 40
[checks."attacks.cascade"]
samples = 60
"""


@pytest.fixture(scope="session")
def seeded(tmp_path_factory) -> Path:
    """A folder with a small model, data, a plan, the example plug-ins and a finished run."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("seeded")
    train, holdout = toy_arrays(300, seed=1), toy_arrays(300, seed=2)
    np.savez(folder / "train.npz", **train)
    np.savez(folder / "holdout.npz", **holdout)
    means = torch.stack(
        [torch.as_tensor(train["x"][train["y"] == k]).flatten(1).mean(0) for k in range(4)]
    )
    save_file(
        {"1.weight": 8 * means, "1.bias": -4 * means.square().sum(1)}, folder / "net.safetensors"
    )
    (folder / "net.py").write_text(NET)
    (folder / "audit.toml").write_text(PLAN)
    for plugin in (REPOSITORY / "examples" / "plugins").glob("*.py"):
        shutil.copy(plugin, folder)
    ended = dlaudit_command(
        "run", "audit.toml", "--out", "dlaudit-runs/first", "--executor", "inline", "--quiet",
        folder=folder,
    )  # fmt: skip
    assert ended.code in {0, 1, 4}, ended
    return folder


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_block_of_a_page_does_what_the_page_says(page, seeded, tmp_path):
    """Blocks of one page are one story: what an earlier one writes, a later one finds."""
    folder = tmp_path / "reader"
    if name_of(page) in STORIES:
        folder.mkdir()
    else:
        shutil.copytree(seeded, folder)
    last = Ended(0, "", "")
    for block in blocks(page):
        if block.mark == "skip":
            assert block.said, f"{block.place}: a skipped block says why"
            continue
        if block.title:
            (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            with (folder / block.title).open("a" if block.mark == "append" else "w") as file:
                file.write(block.body)
        match block.language:
            case "bash":
                last = typed(block, folder)
            case "python":
                executed(block, folder)
            case "toml":
                decoded(block, folder)
            case "yaml":
                assert yaml.safe_load(block.body), block.place
            case "text":
                if block.mark == "output":
                    printed(block, last)
            case _:
                pytest.fail(
                    f"{block.place}: no test knows blocks of the language {block.language!r}"
                )


def typed(block: Block, folder: Path) -> Ended:
    """Type each line of a block; all but the last end with 0, the last as the mark says."""
    lines = block.body.replace("\\\n", " ").splitlines()
    commands = [line for line in lines if line.strip() and not line.startswith("#")]
    ended = Ended(0, "", "")
    for position, line in enumerate(commands):
        words = shlex.split(line, comments=True)
        plain = not SHELL_WORDS.search(re.sub(r"'[^']*'", "", line))
        if words[0] == "dlaudit" and plain:
            inline = ["--executor", "inline"] if words[1] == "run" else []
            with warnings.catch_warnings():
                warnings.simplefilter("default")
                ended = dlaudit_command(*words[1:], *inline, folder=folder)
        elif words[0] == "python" and words[1].endswith(".py") and plain:
            with contextlib.chdir(folder), importing_from(folder), written(sys, "argv", words[1:]):
                runpy.run_path(words[1], run_name="__main__")
            ended = Ended(0, "", "")
        else:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", line], cwd=folder, env=shell_environment(),
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            ended = Ended(done.returncode, done.stdout, done.stderr)
        last = position == len(commands) - 1
        expected = int(block.said) if block.mark == "exits" and last else 0
        assert ended.code == expected, f"{block.place}: {line}\n{ended.stdout}\n{ended.stderr}"
    return ended


def executed(block: Block, folder: Path) -> None:
    """Run a block of Python; a file is imported, and its tests are called."""
    with contextlib.chdir(folder), importing_from(folder):
        if not block.title:
            exec(compile(block.body, block.place, "exec"), {"__name__": "__main__"})
            return
        compile(block.body, block.place, "exec")
        if Path(block.title).name.startswith("test_"):
            for name, value in vars(import_file(Path(block.title))).items():
                if name.startswith("test_"):
                    value()


@contextlib.contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """Modules of a folder can be imported for a while, and are forgotten afterwards."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
                del sys.modules[name]


def decoded(block: Block, folder: Path) -> None:
    """Read TOML as a plan; a fragment is laid over the plan that lies there."""
    text = (folder / block.title).read_text() if block.mark == "append" else block.body
    table = tomllib.loads(text)
    if block.title == "pyproject.toml":
        return
    if block.title and "model" not in table:  # rules for `dlaudit gate`, which its command reads
        return
    if "model" not in table:
        base = tomllib.loads((folder / "audit.toml").read_text())
        table = {**base, **table, "checks": {**base.get("checks", {}), **table.get("checks", {})}}
    plugins = tuple(
        str(file) for file in folder.glob("*.py") if f"{file.stem}." in text
        and file.stem not in {"net", "train"}
    )  # fmt: skip
    source = Source(root=str(folder), label=block.place, table=table, plugins=plugins)
    read(source, source.registry())


def printed(block: Block, last: Ended) -> None:
    """Each line was said by the command before, numbers and gaps aside."""
    said = {skeleton(line) for line in (last.stdout + last.stderr).splitlines()}
    for line in block.body.splitlines():
        if line.strip() not in {"", "…"}:
            assert skeleton(line) in said, f"{block.place}: {line}\nwas not said:\n{last.stdout}"


def skeleton(line: str) -> str:
    """A line without its numbers, its hashes and the width of its gaps."""
    return re.sub(r"\s+", " ", re.sub(r"[0-9a-f]{16,}|[-+]?[\d,]*\.?\d+", "#", line)).strip()


def test_skipped_blocks_are_few_and_say_why():
    skipped = [block for page in pages() for block in blocks(page) if block.mark == "skip"]
    total = sum(len(blocks(page)) for page in pages())
    assert len(skipped) <= total / 5, [block.place for block in skipped]


# -- generated pages -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script", sorted((REPOSITORY / "docs").glob("make_*.py")), ids=lambda f: f.stem
)
def test_a_generated_page_is_what_its_script_makes_now(script):
    """If this fails: ``python docs/make_….py``, and look at what has changed."""
    spec = importlib.util.spec_from_file_location(f"docs_{script.stem}", script)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if not hasattr(module, "page"):
        pytest.skip("makes pictures, which are looked at by people")
    assert module.page() == module.PAGE.read_text(encoding="utf-8")


# -- the command line ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_a_command_explains_itself_with_an_example(name):
    command = cli.commands[name]
    assert f"dlaudit {name}" in command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"--{option.name} has no help"


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_a_command_is_used_somewhere_in_the_documentation(name):
    texts = [page.read_text() for page in pages() if page.name != "commands.md"]
    assert any(f"dlaudit {name}" in text for text in texts)


def test_the_examples_in_the_help_use_options_that_exist():
    for name, command in cli.commands.items():
        known = {option for one in command.params for option in one.opts}
        for line in re.findall(rf"dlaudit {name} .*", command.help):
            for word in shlex.split(line.partition("&&")[0]):
                assert not word.startswith("-") or word in known, line


# -- claims of the prose -------------------------------------------------------------------------


def test_the_coverage_figures_quoted_are_those_that_were_measured():
    measured = (REPOSITORY / "docs" / "coverage.md").read_text()
    rows = {cells[0]: cells for cells in map(table_cells, measured.splitlines()) if len(cells) == 6}
    quoted = [
        cells
        for cells in map(
            table_cells, (REPOSITORY / "docs" / "statistics.md").read_text().splitlines()
        )
        if len(cells) == 3 and cells[1].endswith("%")
    ]
    assert len(quoted) >= 5
    for name, mean, lowest in quoted:
        kind, _, grid = name.partition(", ")
        found = [
            table_cells(line)
            for line in measured.splitlines()
            if line.startswith((f"| {name} | all |", f"| {kind} | {grid} |"))
        ]
        assert [mean, lowest] in [cells[3:5] for cells in found], (name, rows.get(name))


def table_cells(line: str) -> list[str]:
    """The cells of a row of a Markdown table."""
    return [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []


def test_the_table_of_what_a_rule_can_decide_is_computed():
    from dlaudit.audit.statistics import decidable

    text = (REPOSITORY / "docs" / "statistics.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (0\.\d+) \| (0\.\d+) \|$", text, re.MULTILINE)
    assert len(rows) >= 5
    for n, passes, fails in rows:
        found = decidable(0.9, int(n), at_least=True)
        assert (f"{found.passes_from:.4g}", f"{found.fails_from:.4g}") == (passes, fails)


def test_the_statuses_and_exit_codes_of_the_contract_are_all_explained():
    from dlaudit.audit.judge import ExitCode
    from dlaudit.audit.record import FindingStatus

    report = (REPOSITORY / "docs" / "reading-the-report.md").read_text()
    for status in FindingStatus.__args__:
        assert status.replace("-", " ") in report, status
    codes = (REPOSITORY / "docs" / "ci.md").read_text()
    for code in ExitCode:
        assert f"| {code.value} |" in codes


def test_the_example_record_in_the_schema_is_valid():
    """A record decodes by the published schema: whoever reads records elsewhere may rely on it."""
    schema = json.loads((REPOSITORY / "docs" / "record.schema.json").read_text())
    jsonschema.validate(json.loads(canonical(sample_record())), schema)


def test_every_decision_is_listed_and_says_what_was_given_up():
    folder = REPOSITORY / "docs" / "decisions"
    listed = (folder / "index.md").read_text()
    for page in folder.glob("0*.md"):
        assert f"({page.name})" in listed
        text = page.read_text()
        for part in ("**The question.**", "**The choice.**", "**What was given up.**"):
            assert part in text, page.name


TABLE_PLAN = """
name = "toy table"
[model]
use = "torch"
args = { file = "net.py:build" }
[data]
use = "csv"
args = { path = "table.csv", target = "hired", positive = 1, groups = ["sex", "race"] }
[data.train]
use = "csv"
args = { path = "table.csv", target = "hired", positive = 1, groups = ["sex", "race"] }
[context]
special_category_basis = "made up for a test"
"""


@pytest.fixture(scope="module", params=["images", "table"])
def audited(request, seeded, tmp_path_factory) -> Path:
    """A run of every check on small images, and on a small table."""
    folder = tmp_path_factory.mktemp("everything") / "reader"
    if request.param == "images":
        shutil.copytree(seeded, folder)
    else:
        folder.mkdir()
        rng = np.random.default_rng(0)
        rows = [
            f"{a:.3f},{b:.3f},{('f', 'm')[sex]},{('b', 'w')[race]},{int(a + 0.3 * sex + noise > 0)}"
            for a, b, noise in rng.normal(size=(400, 3))
            for sex, race in [rng.integers(0, 2, 2)]
        ]
        (folder / "table.csv").write_text("\n".join(["a,b,sex,race,hired", *rows]) + "\n")
        (folder / "net.py").write_text(NET.replace("64, 4", "2, 2"))
        (folder / "audit.toml").write_text(TABLE_PLAN)
    registry = Registry()
    own = [part.name for group in ("checks", "attacks") for part in registry.parts(group)
           if part.origin == "dlaudit" and part.name != "foolbox"]  # fmt: skip
    tables = [word for name in own for word in ("--set", f'checks."{name}" = {{}}')]
    ended = dlaudit_command(
        "run", "audit.toml", "--out", "whole", "--executor", "inline", "--quiet", "--format", "json",
        "--max-samples", "300", "--set", "default_rules = false", *tables, folder=folder,
    )  # fmt: skip
    assert ended.code == 3, ended
    return folder / "whole"


def described_columns() -> dict[str, set[str]]:
    """The columns that docs/evidence.md names, by the pattern of the table's name."""
    found: dict[str, set[str]] = {}
    for section in (REPOSITORY / "docs" / "evidence.md").read_text().split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        columns = set(
            re.findall(r"`([^`]+)`", " ".join(re.findall(r"^\| (`[^|]+) \|", body, re.MULTILINE)))
        )
        for name in heading.replace("&lt;", "<").replace("&gt;", ">").split(", "):
            found[re.sub(r"<\w+>", "*", name)] = columns | {"id"}
    return found


@pytest.mark.slow
def test_every_column_of_every_table_of_evidence_is_described(audited):
    record = read_record((audited / "record.json").read_bytes())
    kept = [one.artifact for one in record.answers]
    for run in record.runs:
        assert isinstance(run.outcome, Measured | Skipped), run
        kept += getattr(run.outcome, "artifacts", ())
    described = described_columns()
    for artifact in (one for one in kept if one.path.endswith(".npz")):
        known = [columns for name, columns in described.items() if fnmatch(artifact.name, name)]
        assert known, f"docs/evidence.md does not describe {artifact.name}"
        with np.load(audited / artifact.path, allow_pickle=False) as table:
            columns = list(table.files)
        patterns = [re.sub(r"<\w+>", "*", column) for columns_ in known for column in columns_]
        for column in columns:
            assert any(fnmatch(column, pattern) for pattern in patterns), (artifact.name, column)


# -- the site ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_asks_no_other_machine(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = re.compile(r"<(?:script|link|img)[^>]+(?:src|href)=\"?(https?://[^\s\">]+)")
    for file in (tmp_path / "site").rglob("*.html"):
        assert not [url for url in loaded.findall(file.read_text()) if "canonical" not in url], file
