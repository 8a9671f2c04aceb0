"""Reading a free-text answer: which of the options shown does it choose, if any?

The rules, by which the names below go, are in docs/guides/answers.md.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

LONGEST = 2000  # characters that are read
_AGAIN = re.compile(r"\n(?:options|question) ?:|^(?:question|q|user|human) ?\d* ?:", re.IGNORECASE)
_MARKED = re.compile(r"[*`_]+(\w{1,2})[*`_]+")  # as good as brackets
_EMPHASIS = re.compile(r"[*`_]+")
_WRAPPING = " \n.,:;!?\"'“”‘’«»()[]{}<>#|"
_OPENING = r"[ \n\"'“‘«(\[{<]*"
_BEFORE = r"(?<![\w$€£-])(?<!\d[.,:/⁄])(?<!\w[.'’])"
_AFTER = r"(?!\w|[.,:/⁄]\d|\.\w|['’]\w|-\w| ?%)"
_END = re.compile(r" ?(?:$|\n|[])}>(\[.:;,=!?|/]|[-–—](?!\w)|[\"'”’»](?!\w))")
_ARTICLE_END = re.compile(r" ?(?:$|\n|[])}>.:;,=!?|/]|[-–—](?!\w)|[\"'”’»](?!\w))")  # what follows no article
_PRONOUN_END = re.compile(r" ?(?:$|\n|[])}>.:=!]|[\"'”’»](?!\w))")
_BARE_END = re.compile(r"[ .!)\]}>\"'”’»]*")  # behind a label that is all there is of a text cut off
_WEAK_END = re.compile(
    r" ?[,;:|/(\[–—-]+ ?(?:(?:or|and|to|maybe|perhaps|possibly|then|also|even|but)\b ?)*$", re.IGNORECASE
)
_GOES_ON = re.compile(
    r" (?:because|since|as|but|for|is|seems|sounds|with|in|at|on|about|when|if|though|given|i"
    r"|not|rather|instead|over|out)\b",
    re.IGNORECASE,
)
_TEXT_GOES_ON = re.compile(rf"{_GOES_ON.pattern}| (?:to|and)\b", re.IGNORECASE)
_AFTER_ARTICLE = re.compile(r" (?:given|rather(?! than)|not|over|out)\b", re.IGNORECASE)
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
_HEDGE = r"(?:or|and|to|is|means|then|also|but|maybe|perhaps|possibly|probably|even|through|until|versus|vs)"
_BESIDE = re.compile(rf"[\s=:;,.()\[\]\"'/|–—-]*(?:{_HEDGE}\b[\s,.]*){{0,3}}[\"'(\[]*", re.IGNORECASE)
_OR = re.compile(rf"(?:\b(?:or|and|to|through|until|maybe|perhaps|possibly)\b|[/|–—-]){_OPENING}$", re.IGNORECASE)
_RANGE = re.compile(rf"(?:\b(?:to|through|until)\b|[–—-]){_OPENING}$", re.IGNORECASE)
_RANGE_ENDS = re.compile(rf"^[^.!?\n]*\b(?:to|through|until|and){_OPENING}$", re.IGNORECASE)
_SCALE = re.compile(
    r"\b(?:scale (?:is |goes |going |runs |running )?(?:of|with)|from|between|where|ranging|range(?: is| of)?)"
    rf"{_OPENING}$",
    re.IGNORECASE,
)
_LISTED = re.compile(rf"\b(?:options|choices|scale)(?: are| is)? ?:{_OPENING}$", re.IGNORECASE)
_SENTENCE_ENDS = re.compile(r"[.!?\n]")
_COUNTED = re.compile(
    r"(?:\b(?:have|has|had|got|own|there (?:is|are|was|were)|step|question|item|part|all|of the|these|those"
    r"|my|our|his|her|their|(?:the|these|those|my|our|your) (?:first|last|top|other))"
    rf"|^ ?(?:out )?of|['’]ve|\d){_OPENING}$",
    re.IGNORECASE,
)


class _Mention(NamedTuple):
    start: int
    end: int
    option: int
    label: bool  # and not, or not only, the option's text
    exact: bool  # as it was shown, capitals included; option texts always are
    own: bool = False  # a label and its option's text
    equated: bool = False  # with `=` between them


def parse_answer(text: str, labels: Sequence[str], options: Sequence[str] = (), complete: bool = True) -> int | None:
    """The index of the option that a free-text answer chooses, or None where it chooses none or several.

    Parameters
    ----------
    text
        What the model said after the prompt.
    labels
        The labels shown, such as 1..5 or A..E.
    options
        The option texts shown, in the same order; without them only labels are read.
    complete
        Whether the model ended its answer, and not a limit of tokens.

    Examples
    --------
    >>> scale = ("always", "often", "never")
    >>> parse_answer(" I would say 2, often", "123", scale), parse_answer("**(C)**", "ABC", scale)
    (1, 2)
    >>> parse_answer("1 = always; 2 = often", "123", scale), parse_answer("In 2023 I had 12", "123", scale)
    (None, None)
    >>> parse_answer("3, because I think", "123", scale, complete=False), parse_answer("I have 3", "123", scale)
    (2, None)
    >>> parse_answer("On a scale of 1 to", "123", complete=False), parse_answer("A or B", "ABC")
    (None, None)
    """
    cut = not complete or len(text) > LONGEST
    text = _plain(text)
    mentions = _paired(text, _mentions(text, tuple(labels), tuple(options), cut))
    gaps = [text[before.end : after.start] for before, after in pairwise(mentions)]
    gaps = [text[: mentions[0].start], *gaps] if mentions else []
    refused = _refused(mentions, gaps)
    chosen: set[int] = set()
    announced: set[int] = set()
    hanging = met = False  # hanging: on to an announced choice; met: the mention before is a choice
    for at, (mention, gap) in enumerate(zip(mentions, gaps, strict=True)):
        beside = at > 0 and not refused[at - 1] and _BESIDE.fullmatch(gap) is not None
        hanging, before = hanging and beside, met and beside
        met = False
        if refused[at]:
            hanging = False
            continue
        first = _ANNOUNCED.search(text[: mention.start]) is not None
        met = (before and _goes_along(text, mention, gap, cut)) or _is_choice(text, mention, first, cut)
        if not met:
            continue
        found = {mention.option}
        if beside and not (_is_a_word(text, mentions[at - 1]) and not mentions[at - 1].exact):
            found.add(mentions[at - 1].option)
        chosen |= found
        hanging = hanging or first
        announced |= found if hanging else set()
    left = announced or chosen
    return left.pop() if len(left) == 1 else None


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", _EMPHASIS.sub("", _MARKED.sub(r"(\1)", text[:LONGEST])))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return _AGAIN.split("\n".join(line for line in lines if line), maxsplit=1)[0]


def _mentions(text: str, labels: tuple[str, ...], options: tuple[str, ...], cut: bool) -> list[_Mention]:
    pattern, meaning = _vocabulary(labels, options)
    found = []
    for match in pattern.finditer(text):
        said = " ".join(match[0].split())
        if said in labels:
            found.append(_Mention(match.start(), match.end(), labels.index(said), True, True))
        elif said.casefold() in meaning:
            if cut and match.end() == len(text) and any(other.startswith(f"{said.casefold()} ") for other in meaning):
                continue  # perhaps the beginning of a longer one
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


def _paired(text: str, mentions: list[_Mention]) -> list[_Mention]:
    """Mentions with a label and its own option's text, beside each other, made one; after "A" with a mark between."""
    found: list[_Mention] = []
    for mention in mentions:
        last = found[-1] if found else None
        if last and not last.own and last.option == mention.option and last.label != mention.label:
            gap = text[last.end : mention.start]
            if _BESIDE.fullmatch(gap) and (gap.strip() or not _is_a_word(text, last if last.label else mention)):
                found[-1] = _Mention(last.start, mention.end, mention.option, True, True, True, "=" in gap)
                continue
        found.append(mention)
    return found


def _refused(mentions: list[_Mention], gaps: list[str]) -> list[bool]:
    """Which mentions are negated, belong to a scale or count something."""
    kinds: list[str] = []
    for at, (mention, gap) in enumerate(zip(mentions, gaps, strict=True)):
        last = kinds[-1] if kinds else ""
        beside = at > 0 and _BESIDE.fullmatch(gap) is not None
        kind = ""
        if _NEGATED.search(gap):
            kind = "negated"
        elif _LISTED.search(gap):
            kind = "listed"
        elif _SCALE.search(gap):
            kind = "scale"
        elif mention.label and _COUNTED.search(gap):
            kind = "counted"
        elif beside and mentions[at - 1].option != mention.option and _RANGE.search(gap):
            kinds[-1] = kind = "range"
        elif (
            (last and beside and _OR.search(gap))
            or (last == "scale" and _RANGE_ENDS.search(gap))
            or (last == "listed" and not (_SENTENCE_ENDS.search(gap) or _ANNOUNCED.search(gap)))
        ):
            kind = last
        kinds.append(kind)
    return [bool(kind) for kind in kinds]


def _goes_along(text: str, mention: _Mention, gap: str, cut: bool) -> bool:
    """Whether a mention beside a choice is one more: after "or", and, where the text was cut, as the next of a list."""
    after = text[mention.end :]
    word = _is_a_word(text, mention)
    if _OR.search(gap):
        return not word or _PRONOUN_END.match(after) is not None
    return cut and mention.label and mention.exact and (not word or _breaks_off(after))


def _is_choice(text: str, mention: _Mention, announced: bool, cut: bool) -> bool:
    before, after = text[: mention.start], text[mention.end :]
    if mention.own:
        return not (cut and mention.equated) or _ends(after, _END, cut)
    if _OPENED.search(before) and _CLOSED.match(after):
        return True
    if not mention.label:
        listed = cut and _WEAK_END.match(after) is not None
        return not listed and (_END.match(after) is not None or _TEXT_GOES_ON.match(after) is not None)
    word = _is_a_word(text, mention)
    if not before.strip(_WRAPPING) and not after.strip(_WRAPPING) and (not cut or _BARE_END.fullmatch(after)):
        return True
    goes_on = _GOES_ON.match(after) is not None
    if announced or _NAMED.search(before):
        return _ends(after, _END, cut) or (goes_on and (mention.exact or not word))
    if not mention.exact:
        return after.lstrip().startswith(")")
    if not word:
        return goes_on or _ends(after, _END, cut)
    if text[mention.start] == "I":
        return _ends(after, _PRONOUN_END, cut)
    return _ends(after, _ARTICLE_END, cut) or (goes_on and _AFTER_ARTICLE.match(after) is None)


def _ends(after: str, end: re.Pattern[str], cut: bool) -> bool:
    """Whether a clause ends before `after`; of a text cut off not by its mere end, nor by `=`."""
    return not (cut and _breaks_off(after)) and end.match(after) is not None


def _breaks_off(after: str) -> bool:
    return not after.strip() or after.lstrip().startswith("=") or _WEAK_END.match(after) is not None


def _is_a_word(text: str, mention: _Mention) -> bool:
    return not mention.own and text[mention.start : mention.end].casefold() in ("a", "i")
