"""Writes docs/commands.md: every command of the command line with its example and its options.

    python docs/make_commands.py

Knows click; the words are those of ``--help``, so that the page cannot say anything else.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import click

from dlaudit.cli import EXIT_CODES, cli

PAGE = Path(__file__).parent / "commands.md"
MARK = "\b"
"""click's sign for a paragraph that is not to be wrapped."""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The page's text."""
    codes = inspect.cleandoc(EXIT_CODES.replace(MARK, ""))
    parts = [
        "# The command line\n",
        "Made from `--help` by `python docs/make_commands.py`. stdout is the result, stderr the talk.",
        "Wherever a command takes a RUN, the run's folder or its `record.json` will do.\n",
        f"```text\n{codes}\n```\n",
    ]
    parts += [described(name, command) for name, command in sorted(cli.commands.items())]
    return "\n".join(parts)


def described(name: str, command: click.Command) -> str:
    """One command: what it does, an example, its arguments and options."""
    told, _, example = inspect.cleandoc(command.help or "").partition(f"{MARK}\n")
    lines, _, more = example.partition("\n\n")
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    usage = " ".join(
        f"[{one.name.upper()}]" if not one.required else str(one.name).upper() for one in arguments
    )
    rows = [
        f"| `{'`, `'.join(one.opts)}` | {one.help} |"
        for one in command.params
        if isinstance(one, click.Option)
    ]
    text = f"## dlaudit {name}\n\n{told.strip()}\n\n```text\n"
    text += "\n".join(line.strip() for line in lines.splitlines()) + "\n```\n"
    if more:
        text += f"\n{more.strip()}\n"
    text += f"\nUsage: `dlaudit {name}{' ' + usage if usage else ''} [OPTIONS]`\n"
    if rows:
        text += "\n| option | |\n|---|---|\n" + "\n".join(rows) + "\n"
    return text


if __name__ == "__main__":
    main()
