"""What is odd about a transcript."""

import re
import unicodedata

import xxhash

from merstore.extract.quality import Quality

_TAG = re.compile(r"<\|[^|<>]*\|>")  # a recogniser's token, such as <|zh-CN|>


def is_failed(text: str) -> bool:
    """Whether a transcript that is not empty says nothing: a bare language tag, marks, blanks."""
    said = _TAG.sub("", text)
    return not any(unicodedata.category(letter)[0] in "LN" for letter in said)


def check_text(text: str, language: str | None = None) -> Quality:
    """Flags and facts of a transcript that should be in `language` (``"zh"``, ``"en"``, None: any).

    It is in another one where less than a third of its letters are of the language's script.
    """
    flags = []
    letters = [letter for letter in _TAG.sub("", text) if unicodedata.category(letter)[0] == "L"]
    han = sum(
        "\u4e00" <= letter <= "\u9fff" or "\u3400" <= letter <= "\u4dbf" for letter in letters
    )
    if not text.strip():
        flags.append("empty_text")
    elif is_failed(text):
        flags.append("failed_text")
    elif letters and language in ("zh", "en"):
        own = han if language == "zh" else len(letters) - han
        if 3 * own < len(letters):
            flags.append("wrong_language")
    content = xxhash.xxh3_128_hexdigest(text.encode(errors="surrogatepass"))
    facts = {"characters": len(text), "letters": len(letters), "han": han, "content": content}
    return Quality(tuple(flags), facts)
