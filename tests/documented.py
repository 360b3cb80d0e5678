"""The pages of the documentation as tests see them: their fenced blocks, in order, with their marks.

A block is run, written or decoded by its language and title. Marks stand on the line above it:
``<!-- skip: reason -->`` (impossible in a test), ``<!-- exits: 3 -->`` (what its last command
returns), ``<!-- output -->`` (a text block: what the command before it prints, numbers aside),
``<!-- append -->`` (goes to the end of the file of its title).
"""

import re
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[1]
FENCE = re.compile(
    r"(?:^<!-- (?P<mark>skip|exits|output|append)(?:: (?P<said>[^\n]*))? -->\n)?"
    r"^(?P<fence>`{3,})(?P<language>\w*)(?P<rest>[^\n]*)\n(?P<body>.*?)^(?P=fence)\s*$",
    re.DOTALL | re.MULTILINE,
)
SNIPPET = re.compile(r'^--8<-- "(?P<path>[^"]+)"$', re.MULTILINE)


class Block(NamedTuple):
    """A fenced block. line: of its first fence, for the reader of a failure."""

    page: str
    line: int
    language: str
    title: str
    body: str
    mark: str
    said: str

    @property
    def place(self) -> str:
        """Where it stands."""
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page that people read."""
    names = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
    return [REPOSITORY / name for name in names] + sorted((REPOSITORY / "docs").rglob("*.md"))


def name_of(page: Path) -> str:
    """A page's path inside the repository."""
    return page.relative_to(REPOSITORY).as_posix()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order; snippets of files are put in."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        title = re.search(r'title="([^"]+)"', match["rest"])
        body = SNIPPET.sub(
            lambda snippet: (REPOSITORY / snippet["path"]).read_text().rstrip("\n"), match["body"]
        )
        line = text.count("\n", 0, match.start("fence")) + 1
        found.append(
            Block(
                name_of(page), line, match["language"], title[1] if title else "", body,
                match["mark"] or "", match["said"] or "",
            )
        )  # fmt: skip
    return found
