"""Reads a rendered page as a strict reader would: balanced tags, links, quoted and own text."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "br", "img", "link", "input", "hr", "wbr", "source"}
SELF_CLOSED = {"rect", "line", "circle", "path", "ellipse", "polyline", "polygon", "use"}


class Page(HTMLParser):
    """own: text outside elements marked ``data-quoted``; text: all of it; elements: (tag, attrs)."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements = []
        self.faults = []
        self._own, self._text, self._open = [], [], []
        self.feed(html)
        self.close()
        self.faults += [f"<{tag}> is never closed" for tag, _ in self._open]

    @property
    def own(self):
        return " ".join(self._own)

    @property
    def text(self):
        return " ".join("".join(self._text).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if len(dict(attrs)) != len(attrs):
            self.faults.append(f"<{tag}> repeats an attribute")
        if tag not in VOID:
            self._open.append((tag, any(name == "data-quoted" for name, _ in attrs)))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in SELF_CLOSED | VOID:
            self.faults.append(f"<{tag}/> is no void element")

    def handle_endtag(self, tag):
        if not self._open or self._open[-1][0] != tag:
            self.faults.append(f"</{tag}> closes {self._open[-1:]}")
            return
        self._open.pop()

    def handle_data(self, data):
        if any(tag in {"style", "script"} for tag, _ in self._open):
            return
        self._text.append(data)
        if not any(quoted for _, quoted in self._open):
            self._own.append(data)

    def having(self, attribute):
        return [attrs for _, attrs in self.elements if attribute in attrs]

    @property
    def ids(self):
        return [attrs["id"] for attrs in self.having("id")]

    @property
    def links(self):
        return [attrs[key] for _, attrs in self.elements for key in ("href", "src") if key in attrs]
