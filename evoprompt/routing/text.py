"""A query's words as the router compares them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

UNSPACED = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]+")  # Thai, kana, Han: words are not set apart
_BREAKS = re.compile(r"[^\w\u0300-\u036f\u0900-\u0dff\u0e00-\u0e7f\u064b-\u065f]+|_+")
_LONGEST = 12  # characters of a term in such a script

SCRIPTS = (
    ("south_korea", "\uac00-\ud7a3"),
    ("japan", "\u3040-\u30ff"),
    ("thailand", "\u0e00-\u0e7f"),
    ("india", "\u0900-\u0d7f"),
    ("russia", "\u0400-\u04ff"),
    ("greece", "\u0370-\u03ff"),
    ("israel", "\u0590-\u05ff"),
    ("egypt", "\u0600-\u06ff"),
    ("china", "\u3400-\u9fff"),
    ("vietnam", "\u1ea0-\u1ef9\u01a1\u01b0\u0111"),
)
"""Scripts that most often mean a culture; the first that occurs in a text counts."""


def folded(text: str) -> str:
    """Lower case, compatible characters unified, accents kept.

    >>> folded("São Paulo’s ＣＡＦÉ")
    "são paulo's café"
    """
    return unicodedata.normalize("NFKC", text.replace("\u2019", "'")).casefold().replace("i\u0307", "i")


def normalised(text: str) -> str:
    """The same with Latin letters without accents.

    >>> normalised("São Paulo’s ＣＡＦÉ")
    "sao paulo's cafe"
    """
    kept: list[str] = []
    for letter in unicodedata.normalize("NFD", folded(text)):
        if unicodedata.combining(letter) and kept and kept[-1].isascii():
            continue
        kept.append(letter)
    return unicodedata.normalize("NFC", "".join(kept)).replace("\u0111", "d").replace("\u0131", "i")


def words(text: str, accents: bool = False) -> list[str]:
    """Words of a text in lower case, without their possessive endings, and unless wanted without accents.

    >>> words("What's my host's name in Shànghǎi?")
    ['what', 'my', 'host', 'name', 'in', 'shanghai']
    """
    plain = re.sub(r"'s\b", "", folded(text) if accents else normalised(text))
    return [word for word in _BREAKS.split(plain) if word]


def phrases(found: list[str], longest: int = 4) -> Iterator[str]:
    """All runs of up to `longest` words, the longer first; and pieces of words in scripts that do not set words apart.

    >>> list(phrases(["tet", "gift"]))
    ['tet gift', 'tet', 'gift']
    """
    for size in range(min(longest, len(found)), 0, -1):
        for start in range(len(found) - size + 1):
            yield " ".join(found[start : start + size])
    for word in found:
        for run in UNSPACED.findall(word):
            for size in range(min(_LONGEST, len(run)), 0, -1):
                yield from (run[start : start + size] for start in range(len(run) - size + 1))


def script_of(text: str) -> str | None:
    """The culture that a text's script speaks for, if it speaks for one.

    >>> script_of("お土産は?"), script_of("a souvenir?")
    ('japan', None)
    """
    lowered = text.casefold()
    return next((culture for culture, letters in SCRIPTS if re.search(f"[{letters}]", lowered)), None)
