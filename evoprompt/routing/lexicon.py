"""What names and words tell of a culture: a gazetteer with places, peoples, languages and native terms."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from rapidfuzz import process
from rapidfuzz.distance import DamerauLevenshtein

from evoprompt.errors import UserError
from evoprompt.routing.text import normalised, phrases, script_of, words

DATA = Path(__file__).with_name("data")
TOLD_AS = {"places": "name", "peoples": "name", "languages": "name", "terms": "term", "ambiguous": "ambiguous"}
KINDS = (*TOLD_AS, "codes")
SHORTEST_MISSPELT = 5  # letters
SHORTEST_PLAIN = 4  # letters of a term that may be written without its accents
LOOKED_UP = 200  # words of a query that may be misspelt names
CLOSE = 0.8  # similarity from which a word counts as misspelt


class Hit(NamedTuple):
    """Words of a query that tell a culture: `kind` is name, term, ambiguous, spelling or script."""

    culture: str
    kind: str
    words: str


@dataclass(eq=False)
class Lexicon:
    """Names and terms of cultures; `entries` has for each culture lists of the `KINDS`.

    A word that is also common English is `ambiguous`; `codes` are those of languages (lower case) and countries.
    """

    entries: Mapping[str, Mapping[str, Collection[str]]]
    _index: dict[str, dict[str, set[str]]] = field(init=False, repr=False)  # phrase -> culture -> kinds
    _beginning: dict[str, list[str]] = field(init=False, repr=False)  # words by first letter: few misspell that

    def __post_init__(self) -> None:
        self._index, self._beginning = {}, {}
        for culture, lists in self.entries.items():
            for kind, told_as in TOLD_AS.items():
                for text in lists.get(kind, ()):
                    for key in _forms(str(text)):
                        self._index.setdefault(key, {}).setdefault(culture, set()).add(told_as)
        for phrase, told in self._index.items():
            one_word = " " not in phrase and len(phrase) >= SHORTEST_MISSPELT and phrase == normalised(phrase)
            if one_word and not any("ambiguous" in kinds for kinds in told.values()):
                self._beginning.setdefault(phrase[0], []).append(phrase)

    def hits(self, text: str, common: Collection[str] = (), hidden: Collection[str] = ()) -> list[Hit]:
        """What a query's words tell.

        Parameters
        ----------
        text
            The query.
        common
            Words that are never misspelt names.
        hidden
            Phrases that are to be taken for unknown.
        """
        found: list[Hit] = []
        told: set[str] = set()  # words that a longer phrase has used
        proper = _proper(text)
        spoken = words(text)
        for said in dict.fromkeys((tuple(words(text, accents=True)), tuple(spoken))):
            for phrase in dict.fromkeys(phrases(list(said))):
                singular = phrase.removesuffix("s") if len(phrase) > 4 else phrase
                for form in dict.fromkeys((phrase, singular)):
                    known = self._index.get(form)
                    if known is None or form in hidden or told.issuperset(form.split()):
                        continue
                    told.update(phrase.split(), normalised(phrase).split())
                    found += [Hit(culture, _kind(kinds, phrase in proper), phrase) for culture, kinds in known.items()]
                    break
        for word in dict.fromkeys(spoken[:LOOKED_UP]):
            if len(word) >= SHORTEST_MISSPELT and word not in told and word not in common and word not in hidden:
                found += self._misspelt(word, hidden)
        script = script_of(text)
        return found + ([Hit(script, "script", script)] if script else [])

    def _misspelt(self, word: str, hidden: Collection[str]) -> list[Hit]:
        known = self._beginning.get(word[0], ())
        match = process.extractOne(word, known, scorer=DamerauLevenshtein.normalized_similarity, score_cutoff=CLOSE)
        if match is None or match[0] in hidden:
            return []
        return [Hit(culture, "spelling", f"{word} ({match[0]})") for culture in sorted(self._index[match[0]])]

    def of_place(self, place: str) -> list[str]:
        """Cultures that a location in words names.

        >>> bundled_lexicon().of_place("Izmir, Turkey"), bundled_lexicon().of_place("Cologne, Germany")
        (['turkey'], ['germany'])
        """
        hits = self.hits(place)
        for kind in ("name", "ambiguous", "spelling"):  # the surest that there is
            if found := [hit.culture for hit in hits if hit.kind == kind]:
                return list(dict.fromkeys(found))
        return []

    def of_language(self, language: str) -> list[str]:
        """Cultures that a language tells: an ISO code, with a region or without, or a name.

        >>> bundled_lexicon().of_language("pt-BR")
        ['brazil']
        """
        code, _, region = language.strip().replace("_", "-").partition("-")
        for wanted in (region.upper(), code.lower()):
            found = [culture for culture, lists in self.entries.items() if wanted and wanted in lists.get("codes", ())]
            if found:
                return found
        return self.of_place(language)


def _forms(text: str) -> set[str]:
    """How a name or term may be written: with its accents, and if it is not too short without them."""
    plain = " ".join(words(text))
    return {" ".join(words(text, accents=True))} | ({plain} if len(plain) >= SHORTEST_PLAIN else set()) - {""}


def _kind(kinds: Collection[str], proper: bool) -> str:
    """What a phrase counts as: a name that is also a common word counts as a name where it is written like one."""
    if "name" in kinds and ("ambiguous" not in kinds or proper):
        return "name"
    return "term" if "term" in kinds else "ambiguous"


def _proper(text: str) -> frozenset[str]:
    """Words of a text, normalised, that are written with a capital though no sentence begins with them."""
    if text.isupper():
        return frozenset()
    inner = re.findall(r"(?<=[^\s.!?:])\s+([A-Z\u00c0-\u00de]\w+)", text)
    return frozenset(word for found in inner for word in words(found))


@cache
def bundled_lexicon() -> Lexicon:
    """The gazetteer that comes with the package."""
    return load_lexicon(DATA / "lexicon.yaml")


def load_lexicon(path: Path) -> Lexicon:
    """A lexicon of the user's own: culture -> lists of places, peoples, languages, terms, ambiguous.

    Raises
    ------
    UserError
        It cannot be read, or is something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        entries: Any = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"lexicon {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(entries, dict) or not all(isinstance(lists, dict) for lists in entries.values()):
        raise UserError(f"{path} must have a mapping of lists ({', '.join(KINDS)}) for each culture")
    for culture, lists in entries.items():
        for kind, values in lists.items():
            if kind not in KINDS or not isinstance(values, list):
                raise UserError(f"{path}: {culture}.{kind} must be a list under one of {', '.join(KINDS)}")
    return Lexicon(entries)
