"""The README's tables, between markers, made anew by the run that measured them."""

from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def put(name: str, text: str) -> None:
    """Replaces what stands between ``<!-- name: begin -->`` and ``<!-- name: end -->``."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = README.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"README.md has no place for {name}")
    README.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}", encoding="utf-8")
