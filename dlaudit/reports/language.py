"""The report's own sentences in other languages, from message catalogues in gettext's format.

Knows ``locale/<language>.po``; English is the text itself. What a record says is a quotation and stays
in the language in which it was written. A plain message is told where it stands in a template
(``_("...")``); sentences that are put together from counts and words are told in the finished page, with
``#`` in the place of each number.
"""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files

from dlaudit.errors import UnknownName

LANGUAGES = ("en", "de")


@cache
def translator(language: str) -> Callable[[str], str]:
    """A function from an English sentence to the same in ``language``; unknown ones stay English.

    Raises UnknownName for a language without a catalogue.
    """
    if language not in LANGUAGES:
        raise UnknownName(language, "language of reports", LANGUAGES)
    if language == "en":
        return str
    catalogue = messages(
        (files("dlaudit.reports") / "locale" / f"{language}.po").read_text(encoding="utf-8")
    )
    return lambda text: catalogue.get(str(text)) or str(text)


VOID = frozenset({"meta", "br", "img", "link", "input", "hr", "wbr", "source"})
SILENT = frozenset({"script", "style"})
_TAG = re.compile(r"(<[^>]*>)")
_NUMBER = re.compile(r"\d[\d,.]*\d|\d|#")
_LABEL = re.compile(r'(?<= aria-label=")[^"]*')


def translated(page: str, language: str) -> str:
    """A page whose own text is told in a language; quotations, scripts and styles stay as they are."""
    tell = translator(language)
    if language == "en":
        return page
    told: list[str] = []
    silent: list[str] = []  # open elements inside which nothing is translated, the outermost first
    for part in _TAG.split(page):
        if not part.startswith("<"):
            told.append(part if silent else _told(part, tell))
            continue
        name = re.match(r"</?([a-zA-Z0-9]*)", part)
        tag = name.group(1) if name else ""
        if part.startswith("</"):
            if silent:
                silent.pop()
        elif (silent or "data-quoted" in part or tag in SILENT) and not _alone(part, tag):
            silent.append(tag)
        told.append(_LABEL.sub(lambda found: _label(found.group(), tell), part))
    return "".join(told)


def _alone(part: str, tag: str) -> bool:
    return tag in VOID or part.endswith("/>")


def _told(text: str, tell: Callable[[str], str]) -> str:
    """One text node, its white space at both ends kept, its numbers put back in their order."""
    words = " ".join(html.unescape(text).replace("\N{NO-BREAK SPACE}", " ").split())
    numbers = _NUMBER.findall(words)
    key = _NUMBER.sub("#", words)
    found = tell(key)
    if not words or found == key:
        return text
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    left = iter(numbers)
    return before + html.escape(re.sub("#", lambda _: next(left), found), quote=False) + after


def _label(text: str, tell: Callable[[str], str]) -> str:
    """The name of a region: what it is, then whose."""
    what, colon, whose = text.partition(": ")
    return tell(what + colon.strip()) + (f" {whose}" if whose else "") if colon else tell(text)


def messages(catalogue: str) -> dict[str, str]:
    """msgid -> msgstr of a ``.po`` file; its strings are those of C, which Python reads alike."""
    found: dict[str, str] = {}
    entry = re.compile(r'^msgid ((?:".*"\s*)+)^msgstr ((?:".*"\s*)+)', re.MULTILINE)
    for msgid, msgstr in entry.findall(catalogue):
        original, translated = (
            "".join(ast.literal_eval(line) for line in text.split("\n") if line.strip())
            for text in (msgid, msgstr)
        )
        found[original] = translated
    return {original: translated for original, translated in found.items() if original}
