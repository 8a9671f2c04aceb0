"""What speaks for each culture in a query and its profile, as numbers that a linear model can weigh."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from evoprompt.routing.lexicon import Lexicon
from evoprompt.typing import Doubles

FEATURES = (
    "examples",  # log-odds by the example queries
    "unseen",  # 1 for a culture without examples
    "name",
    "term",
    "ambiguous",
    "spelling",
    "script",
    "location",
    "language",
    "rival name",  # another culture is named and this one is not
    "rival term",  # what terms tell of another culture beyond what they tell of this one
    "need",  # log-odds that the query is about culture at all
    "location of a cultural question",
    "language of a cultural question",
    "name in a cultural question",
)
LIMIT = 8.0  # of log-odds


@dataclass(frozen=True)
class Profile:
    """What is known of the user: a place in words, and a language as ISO code (`sw`, `pt-BR`) or name."""

    location: str | None = None
    language: str | None = None


UNKNOWN = Profile()


@dataclass(frozen=True)
class Evidence:
    """Features (cultures, FEATURES) of one query, and the words behind them: culture -> kind -> words."""

    features: Doubles
    words: Mapping[str, Mapping[str, Sequence[str]]]
    named_elsewhere: str | None  # a culture that is named and has no expert


def find_evidence(
    query: str,
    profile: Profile,
    cultures: Sequence[str],
    lexicon: Lexicon,
    examples: Doubles,
    need: float,
    common: Collection[str] = (),
    hidden: Collection[str] = (),
) -> Evidence:
    """What speaks for each of the cultures (c,) in a query and its profile.

    Parameters
    ----------
    query, profile
        What is asked, and by whom.
    cultures
        Those that have an expert.
    lexicon
        Names and terms.
    examples
        (c,) log-odds by example queries; NaN for a culture without any.
    need
        Log-odds that the query is about culture.
    common, hidden
        See `Lexicon.hits`.
    """
    places = {culture: row for row, culture in enumerate(cultures)}
    found = np.zeros((len(cultures), len(FEATURES)))
    spoken: dict[str, dict[str, list[str]]] = {}
    elsewhere: str | None = None
    rivals = {"name": 0.0, "term": 0.0}  # by cultures without an expert

    hits = lexicon.hits(query, common, hidden)
    sharing: dict[tuple[str, str], set[str]] = {}
    for hit in hits:
        if hit.culture in places:
            sharing.setdefault((hit.kind, hit.words), set()).add(hit.culture)
    for hit in hits:
        spoken.setdefault(hit.culture, {}).setdefault(hit.kind, []).append(hit.words)
        shared = sharing.get((hit.kind, hit.words), set())
        if hit.culture in places:
            cell = places[hit.culture], FEATURES.index(hit.kind)
            found[cell] = min(2.0, found[cell] + 1 / len(shared))
        elif not shared and hit.kind in rivals:
            rivals[hit.kind] = 1.0
            elsewhere = hit.culture if hit.kind == "name" or elsewhere is None else elsewhere

    for kind, told in (("location", profile.location), ("language", profile.language)):
        if told:
            of = lexicon.of_place(told) if kind == "location" else lexicon.of_language(told)
            mine = [culture for culture in of if culture in places]
            for culture in mine:
                found[places[culture], FEATURES.index(kind)] = 1 / len(mine)
                spoken.setdefault(culture, {}).setdefault(kind, []).append(told)

    column = FEATURES.index
    found[:, column("unseen")] = np.isnan(examples)
    found[:, column("examples")] = np.clip(np.nan_to_num(examples), -LIMIT, LIMIT)
    names, terms = found[:, column("name")], found[:, column("term")]
    named = max(names.max(initial=0.0), rivals["name"])
    found[:, column("rival name")] = np.where(names > 0, 0.0, named)
    found[:, column("rival term")] = np.maximum(max(terms.max(initial=0.0), rivals["term"]) - terms, 0.0)
    found[:, column("need")] = np.clip(need, -LIMIT, LIMIT)
    likely = expit(np.clip(need, -LIMIT, LIMIT))
    silent = likely * (named == 0)
    for kind in ("location", "language"):
        found[:, column(f"{kind} of a cultural question")] = found[:, column(kind)] * silent
    found[:, column("name in a cultural question")] = names * likely
    return Evidence(found, spoken, elsewhere)
