"""Reading a free-text answer: which of the options shown does it choose, if any?

The rules, in order:

1. Only the first 2 000 characters are read. Compatibility forms (full-width, circled) become plain, marks of emphasis
   become brackets around a label and go elsewhere, and the text ends where it begins to write the questionnaire on (a
   new line with `Options:` or `Question:`).
2. A mention is a label standing alone, or an option's text in any case; of overlapping texts the longest. A digit
   within another number ("12", "2.5", "-2", "2/5", "1-5", "2%") is no mention, nor a letter within a word ("I'd").
3. A mention is refused where a negation precedes it in its clause ("not C", "I don't think it's 3", "rather than C").
4. A mention is a choice if something shows that it is meant, not used: brackets around it; its own option's text or
   label beside it; the end of the clause after it ("B)", "2.", "2 = ", "definitely 2"), or a word that goes on about
   it ("B because"). A label in the other case needs more: brackets, `)`, "option", an announcement, or nothing else in
   the text. "A" before a comma or a word may be an article and "I" a pronoun, so these need more as well.
5. Choices that are announced ("my answer is", "I would say") outrank others; what hangs on to one ("B or C",
   "1 = always; 2 = often") is announced with it.
6. If all choices left are one option, that is the answer. Several, or none, are no answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

LONGEST = 2000  # characters that are read
_AGAIN = re.compile(r"\n(?:options|question) ?:", re.IGNORECASE)
_MARKED = re.compile(r"[*`_]+(\w{1,2})[*`_]+")  # as good as brackets
_EMPHASIS = re.compile(r"[*`_]+")
_WRAPPING = " \n.,:;!?\"'“”‘’«»()[]{}<>#|"
_OPENING = r"[ \n\"'“‘«(\[{<]*"
_BEFORE = r"(?<![\w$€£-])(?<!\d[.,:/⁄])(?<!\w[.'’])"
_AFTER = r"(?!\w|[.,:/⁄]\d|\.\w|['’]\w|-\w| ?%)"
_END = re.compile(r" ?(?:$|\n|[])}>(\[.:;,=!?|/]|[-–—](?!\w)|[\"'”’»](?!\w))")
_FIRM_END = re.compile(r" ?(?:$|\n|[])}>.:=!]|[\"'”’»](?!\w))")  # what follows neither an article nor a pronoun
_GOES_ON = re.compile(
    r" (?:because|since|as|but|for|is|seems|sounds|to|with|in|at|on|about|when|if|and|or|though|given|i"
    r"|not|rather|instead|over|out)\b",
    re.IGNORECASE,
)
_OPENED = re.compile(r"[(\[{<] ?$")
_CLOSED = re.compile(r" ?[)\]}>]")
_NAMED = re.compile(rf"\b(?:option|choice|letter|label|number) ?[:=]?{_OPENING}$", re.IGNORECASE)
_ANNOUNCED = re.compile(
    r"\b(?:(?:answer|choice|response|rating|selection)(?: (?:is|was|(?:would|will) be))?"
    r"|choose|chose|pick|select|say|go with|opt for)(?: ?[:=])?"
    rf"(?:\s(?:that|it is|it['’]s|an?|option|choice|number|letter|label) ?[:=]?)*{_OPENING}$",
    re.IGNORECASE,
)
_NEGATED = re.compile(
    r"(?:(?:\b(?:not|cannot|never|neither|nor)|n['’]t)(?: (?!but\b)[\w'’]+){0,3}"
    rf"|\b(?:than|over|without|less|more|hardly|instead of|out of)){_OPENING}$",
    re.IGNORECASE,
)
_BESIDE = re.compile(r"[\s=:;,.()\[\]\"'/|–—-]*(?:(?:or|and|to|is|means) )?[\"'(\[]*", re.IGNORECASE)
_OR = re.compile(r"(?:\b(?:or|and|to)\b|[/|–—-]) ?$", re.IGNORECASE)


class _Mention(NamedTuple):
    start: int
    end: int
    option: int
    label: bool
    exact: bool  # as it was shown, capitals included; option texts always are


def parse_answer(text: str, labels: Sequence[str], options: Sequence[str] = ()) -> int | None:
    """The index of the option that a free-text answer chooses, or None where it chooses none or several.

    Parameters
    ----------
    text
        What the model said after the prompt.
    labels
        The labels shown, such as 1..5 or A..E.
    options
        The option texts shown, in the same order; without them only labels are read.

    >>> scale = ("always", "often", "never")
    >>> parse_answer(" I would say 2, often", "123", scale), parse_answer("**(C)**", "ABC", scale)
    (1, 2)
    >>> parse_answer("1 = always; 2 = often", "123", scale), parse_answer("In 2023 I had 12", "123", scale)
    (None, None)
    """
    text = _plain(text)
    mentions = _mentions(text, tuple(labels), tuple(options))
    chosen: set[int] = set()
    announced: set[int] = set()
    refused = hanging = False  # hanging: on to an announced choice
    for at, mention in enumerate(mentions):
        gap = text[mentions[at - 1].end if at else 0 : mention.start]
        beside = at > 0 and _BESIDE.fullmatch(gap) is not None
        either = beside and _OR.search(gap) is not None
        refused = _NEGATED.search(gap) is not None or (refused and either)
        if refused:
            hanging = False
            continue
        first = _ANNOUNCED.search(text[: mention.start]) is not None
        hanging = hanging and beside
        its_own = _beside_its_own(text, mention, mentions[at + 1 : at + 2])
        if its_own or (hanging and either) or _is_choice(text, mention, first):
            chosen.add(mention.option)
            hanging = hanging or first
            announced |= {mention.option} if hanging else set()
    left = announced or chosen
    return left.pop() if len(left) == 1 else None


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", _EMPHASIS.sub("", _MARKED.sub(r"(\1)", text[:LONGEST])))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return _AGAIN.split("\n".join(line for line in lines if line), maxsplit=1)[0]


def _mentions(text: str, labels: tuple[str, ...], options: tuple[str, ...]) -> list[_Mention]:
    pattern, meaning = _vocabulary(labels, options)
    found = []
    for match in pattern.finditer(text):
        said = " ".join(match[0].split())
        if said in labels:
            found.append(_Mention(match.start(), match.end(), labels.index(said), True, True))
        elif said.casefold() in meaning:
            option, label = meaning[said.casefold()]
            found.append(_Mention(match.start(), match.end(), option, label, not label))
    return found


@lru_cache(maxsize=256)
def _vocabulary(
    labels: tuple[str, ...], options: tuple[str, ...]
) -> tuple[re.Pattern[str], dict[str, tuple[int, bool]]]:
    """A pattern that finds labels and option texts, longest first; and, case ignored, (option, is it a label)."""
    texts = [" ".join(option.split()) for option in options]
    folded = [label.casefold() for label in labels]
    meaning = {text.casefold(): (index, False) for index, text in enumerate(texts)}
    meaning |= {label: (index, True) for index, label in enumerate(folded) if folded.count(label) == 1}
    parts = []
    for word in sorted({*texts, *labels} - {""}, key=lambda word: (-len(word), word)):
        escaped = r"\s".join(re.escape(part) for part in word.split())
        parts.append(f"{_BEFORE}{escaped}{_AFTER}" if word in labels else rf"(?<!\w){escaped}(?!\w)")
    return re.compile("|".join(parts) or "(?!)", re.IGNORECASE), meaning


def _is_choice(text: str, mention: _Mention, announced: bool) -> bool:
    before, after = text[: mention.start], text[mention.end :]
    if _OPENED.search(before) and _CLOSED.match(after):
        return True
    ends, goes_on = _END.match(after) is not None, _GOES_ON.match(after) is not None
    if not mention.label:
        return ends or goes_on
    word = _is_a_word(text, mention)
    alone = not before.strip(_WRAPPING) and not after.strip(_WRAPPING)
    if announced or alone or _NAMED.search(before):
        return ends or (goes_on and (mention.exact or not word))
    if not mention.exact:
        return after.lstrip().startswith(")")
    return _FIRM_END.match(after) is not None if word else ends or goes_on


def _beside_its_own(text: str, mention: _Mention, following: list[_Mention]) -> bool:
    """A label with its own option's text behind it, or the text with its label; after "A" with a mark between."""
    for other in following:
        gap = text[mention.end : other.start]
        label = mention if mention.label else other
        if other.option == mention.option and other.label != mention.label and _BESIDE.fullmatch(gap):
            return gap.strip() != "" or not _is_a_word(text, label)
    return False


def _is_a_word(text: str, mention: _Mention) -> bool:
    return text[mention.start : mention.end].casefold() in ("a", "i")
