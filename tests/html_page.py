"""What tests look at in a page."""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise


class Page(HTMLParser):
    """What tags there are, whether they are closed in order, what they refer to, what pictures tell
    those who cannot see them, and the texts of the rows of all tables.
    """

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.alternatives: list[str] = []
        self.rows: list[list[str]] = []
        self.headless: list[
            str
        ] = []  # tables whose columns have no heads, or that cannot be scrolled
        self.policy = ""
        self.scripts: list[str] = []
        self._wide = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        if tag in ("svg", "img"):
            told = given.get("aria-label") if given.get("role") == "img" else given.get("alt")
            self.alternatives.append(told or "")
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "meta" and given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""
        if tag == "script":
            self.scripts.append("")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "table" and not self._wide:
            self.headless.append("a table outside of what scrolls")
        if tag == "th" and given.get("scope") not in ("col", "row"):
            self.headless.append("a head without scope")
        self._wide = tag == "div" and given.get("class") == "wide"
        for name, value in attrs:
            if name in ("href", "xlink:href", "src", "srcset", "action", "data", "poster"):
                self.references.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" in self.open:
            self.scripts[-1] += data
        elif "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def check(self) -> None:
        """All is closed, nothing is fetched, only the script runs that is the page's own, every
        picture has a text and no colour that is not the style's, tables have heads that may be
        sorted by and scroll where they are too wide, headings leave none out.
        """
        assert self.open == []
        assert {reference[:1] for reference in self.references} <= {"#"}
        assert {reference[1:] for reference in self.references} <= set(self.ids)
        assert len(self.ids) == len(set(self.ids))
        assert not re.search(r"@import|url\((?!#)|https?:", self.text)
        assert not {"link", "iframe", "object", "embed", "base"} & set(self.tags)
        assert len(self.scripts) == 1
        digest = b64encode(sha256(self.scripts[0].encode()).digest()).decode()
        assert self.policy.split("; ") == [
            "default-src 'none'", "style-src 'unsafe-inline'", f"script-src 'sha256-{digest}'"
        ]  # fmt: skip
        assert all(self.alternatives)
        assert self.headless == []
        assert not re.search(r"(?:fill|stroke): ?#", self.text.partition("<main>")[2])
        levels = [int(tag[1]) for tag in self.tags if tag in ("h1", "h2", "h3", "h4")]
        assert levels[:1] == [1]
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
