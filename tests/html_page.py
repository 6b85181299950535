"""What tests look at in a page."""

from html.parser import HTMLParser
from itertools import pairwise


class Page(HTMLParser):
    """What tags there are, whether they are closed in order, what they refer to, and what pictures
    tell those who cannot see them.
    """

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.alternatives: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in ("svg", "img"):
            given = dict(attrs)
            self.alternatives.append(given.get("aria-label") or given.get("alt") or "")
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("href", "xlink:href", "src", "srcset", "action", "data"):
                self.references.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def check(self) -> None:
        """All is closed, nothing is fetched, every picture has a text, headings leave none out."""
        assert self.open == []
        assert {reference[:1] for reference in self.references} <= {"#"}
        assert {reference[1:] for reference in self.references} <= set(self.ids)
        assert all(self.alternatives)
        levels = [int(tag[1]) for tag in self.tags if tag in ("h1", "h2", "h3", "h4")]
        assert levels[:1] == [1]
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
