"""What is odd about a transcript."""

import re
import unicodedata

import xxhash

from merstore.quality import Quality

LANGUAGES = ("zh", "en")  # those whose texts can be told apart by their letters

_TAG = re.compile(r"<\|[^|<>]*\|>")  # a recogniser's token, such as <|zh-CN|>
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_LATIN = "A-Za-z\u00c0-\u024f"
# What a language is written with: Chinese a character, English a word, about as long to say.
_WORD = re.compile(rf"(?P<zh>[{_HAN}])|(?P<en>[{_LATIN}]+)|[^\W\d_{_HAN}{_LATIN}]+")
_LEAST = 3  # of its words, one in so many is of a transcript's own language


def is_failed(text: str) -> bool:
    """Whether a transcript that is not empty says nothing: a bare language tag, marks, blanks."""
    said = _TAG.sub("", text)
    return not any(unicodedata.category(letter)[0] in "LN" for letter in said)


def is_foreign(text: str, language: str | None) -> bool:
    """Whether less than a third of the words are of `language` (``"zh"``, ``"en"``; None: any)."""
    if language not in LANGUAGES:
        return False
    words = list(_WORD.finditer(_TAG.sub("", text)))
    own = sum(word.lastgroup == language for word in words)
    return _LEAST * own < len(words)


def check_text(text: str, language: str | None = None) -> Quality:
    """Flags and facts of a transcript that should be in `language` (``"zh"``, ``"en"``, None: any)."""
    flags = []
    if not text.strip():
        flags.append("empty_text")
    elif is_failed(text):
        flags.append("failed_text")
    elif is_foreign(text, language):
        flags.append("wrong_language")
    content = xxhash.xxh3_128_hexdigest(text.encode(errors="surrogatepass"))
    return Quality(tuple(flags), {"characters": len(text), "content": content})
