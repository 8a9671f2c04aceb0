"""Writes `queries.jsonl`: `python -m experiments.committee.make_queries`.

Survey questions as users ask them, and everyday questions in free text, with the cultures that they are about. Labels
follow from how a query is made: nobody looked at what a router or an expert makes of it. Seeded: always the same file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evoprompt.surveys import committee, vsm13
from experiments.committee.everyday import everyday_queries

FILE = Path(__file__).parent / "queries.jsonl"
SEED = 0


class Place(NamedTuple):
    """What a user may say of a country."""

    country: str
    people: str
    language: str
    cities: tuple[str, ...]


PLACES = {
    "brazil": Place("Brazil", "Brazilian", "pt-BR", ("Recife", "Curitiba", "Salvador")),
    "china": Place("China", "Chinese", "zh-CN", ("Chengdu", "Wuhan", "Shanghai")),
    "egypt": Place("Egypt", "Egyptian", "ar-EG", ("Cairo", "Alexandria", "Luxor")),
    "france": Place("France", "French", "fr-FR", ("Lyon", "Nantes", "Lille")),
    "germany": Place("Germany", "German", "de-DE", ("Leipzig", "Hamburg", "Cologne")),
    "india": Place("India", "Indian", "hi", ("Pune", "Jaipur", "Chennai")),
    "indonesia": Place("Indonesia", "Indonesian", "id", ("Surabaya", "Bandung", "Medan")),
    "italy": Place("Italy", "Italian", "it", ("Bologna", "Palermo", "Turin")),
    "japan": Place("Japan", "Japanese", "ja", ("Osaka", "Sapporo", "Fukuoka")),
    "kenya": Place("Kenya", "Kenyan", "sw-KE", ("Nairobi", "Mombasa", "Kisumu")),
    "mexico": Place("Mexico", "Mexican", "es-MX", ("Puebla", "Monterrey", "Oaxaca")),
    "nigeria": Place("Nigeria", "Nigerian", "yo", ("Lagos", "Ibadan", "Kano")),
    "philippines": Place("the Philippines", "Filipino", "tl", ("Cebu", "Davao", "Manila")),
    "russia": Place("Russia", "Russian", "ru", ("Kazan", "Perm", "Novosibirsk")),
    "south_africa": Place("South Africa", "South African", "en-ZA", ("Durban", "Soweto", "Pretoria")),
    "spain": Place("Spain", "Spanish", "es-ES", ("Seville", "Bilbao", "Valencia")),
    "thailand": Place("Thailand", "Thai", "th", ("Chiang Mai", "Bangkok", "Khon Kaen")),
    "turkey": Place("Turkey", "Turkish", "tr", ("Izmir", "Ankara", "Bursa")),
    "usa": Place("the United States", "American", "en-US", ("Chicago", "Denver", "Houston")),
    "vietnam": Place("Vietnam", "Vietnamese", "vi", ("Hue", "Da Nang", "Can Tho")),
}


class Said:
    """What a template can say of a place: one of its cities among it."""

    def __init__(self, place: Place, city: str) -> None:
        self.country, self.people, self.language, self.city = place.country, place.people, place.language, city


# What users write; {0.city} is a city of the first of the labelled cultures.
OPEN = (
    "{question}",
    "A form at work asks me this. {question}",
    "What would people around me answer? {question}",
    "My friends and I could not agree. {question}",
)
TOLD = (
    "Here in {0.city}, we are filling in a form together. {question}",
    "I have lived in {0.city} all my life. {question}",
    "I come from a {0.people} family. {question}",
    "My neighbours are all {0.people}. What would they say? {question}",
)
TWO = (
    "My wife is from {0.country}, I am from {1.country}. {question}",
    "Our company has one office in {0.city} and one in {1.city}. {question}",
    "My parents are {0.people}, my husband's are {1.people}. {question}",
    "My husband grew up in {1.country} and I grew up here. What should we say together? {question}",
)
THREE = (
    "Our team sits in {0.city}, {1.city} and {2.city}. {question}",
    "We share a flat: one of us is {0.people}, one {1.people}, one {2.people}. {question}",
    "The three of us are from {0.country}, {1.country} and {2.country}. {question}",
)
PROFILES = ("location", "language", "location", "location and language", "language", "location and language", "none")


def make_queries(split: str = "held_out", seed: int = SEED) -> list[dict[str, Any]]:
    """Survey queries in wordings of a split, and the everyday ones, as they are written to the file."""
    rng = np.random.default_rng([seed, 7])
    keys = [culture.key for culture in committee()]
    groups = _groups(rng, keys, 1, 80) + _groups(rng, keys, 2, 30) + _groups(rng, keys, 3, 10)
    items = np.concatenate([rng.permutation(24) for _ in range(-(-len(groups) // 24))])
    found = []
    for number, (cultures, item) in enumerate(zip(groups, items, strict=False)):
        question = str(rng.choice(vsm13().items[item].wordings(split)))
        asked = _asked(rng, number, cultures, question)
        found.append({**asked, "question": question, "cultures": cultures, "item": int(item) + 1})
    named = (("survey", found), ("everyday", everyday_queries()))
    return [{"id": f"{kind}-{n:03d}", **query} for kind, queries in named for n, query in enumerate(queries, 1)]


def _groups(rng: np.random.Generator, keys: Sequence[str], size: int, count: int) -> list[list[str]]:
    """Groups of different cultures, each culture about equally often."""
    found: list[list[str]] = []
    while len(found) < count:
        shuffled = [str(key) for key in rng.permutation(keys)]
        found += [shuffled[i : i + size] for i in range(0, len(keys) - size + 1, size)]
    return found[:count]


def _asked(rng: np.random.Generator, number: int, cultures: Sequence[str], question: str) -> dict[str, str]:
    """A user's text about these cultures, and the user's profile."""
    places = [Said(PLACES[key], str(rng.choice(PLACES[key].cities))) for key in cultures]
    if len(cultures) == 1:
        profile = PROFILES[number % len(PROFILES)]
        templates: Sequence[str] = TOLD if profile == "none" else OPEN
        template = templates[number // len(PROFILES) % len(templates)]
    else:
        templates = TWO if len(cultures) == 2 else THREE
        template = templates[number % len(templates)]
        profile = "none" if number % 8 == 0 else "location"
    first = places[0]
    told = {"query": template.format(*places, question=question)}
    if "location" in profile:
        told["location"] = f"{first.city}, {first.country}" if number % 2 else first.city
    if "language" in profile:
        told["language"] = first.language
    return told


def lines(queries: Sequence[Mapping[str, Any]]) -> str:
    """A JSON object a line."""
    return "".join(json.dumps(query, ensure_ascii=False) + "\n" for query in queries)


if __name__ == "__main__":
    FILE.write_text(lines(make_queries()), encoding="utf-8")
