"""The report's fixed sentences in other languages, from message catalogues in gettext's format.

Knows ``locale/<language>.po``; English is the text itself. What a record says is a quotation and stays
in the language in which it was written.
"""

from __future__ import annotations

import ast
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
