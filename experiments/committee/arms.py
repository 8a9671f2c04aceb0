"""The arms of the study: who is asked a survey question, and how what they say becomes one distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from evoprompt.errors import UserError
from evoprompt.llm import Respondent
from evoprompt.routing import Committee, Route, Voice
from evoprompt.routing.committee import BASE, LETTERS, culture_of
from evoprompt.routing.lexicon import bundled_lexicon
from evoprompt.surveys import Question, committee, get_culture, vsm13
from evoprompt.surveys.instrument import N_ITEMS, OPTIONS
from evoprompt.typing import Doubles
from experiments.answer_figures import alignment
from experiments.committee.queries import LabelledQuery

COMPOSED = ("mixture", "panel", "synthesis")
ARMS = ("direct", "persona", "fixed expert", "single best", *COMPOSED, "oracle")
LABELS = tuple(LETTERS[:OPTIONS])
ORDERS = (tuple(range(OPTIONS)), tuple(range(OPTIONS))[::-1])


@dataclass(frozen=True)
class Put:
    """A question as it is put: lines before it, its words, its options."""

    question: str
    options: tuple[str, ...]
    preface: str = ""


@dataclass(frozen=True)
class Reply:
    """What an arm answers: shares of the options (5,), the experts asked, and each voice's likeliest option."""

    shares: Doubles
    voices: tuple[Voice, ...]
    positions: tuple[int, ...]

    @property
    def votes(self) -> Doubles:
        """Shares of the options (5,) where each voice's likeliest one is a vote."""
        return np.bincount(self.positions, minlength=OPTIONS) / len(self.positions)

    @property
    def cultures(self) -> tuple[str, ...]:
        """Cultures whose experts were asked; none where the base model alone was."""
        return tuple(voice.culture for voice in self.voices if voice.culture)


class Asker:
    """Puts many questions to one voice at once, each in both orders as `Committee.opinion` does."""

    def __init__(self, committee: Committee) -> None:
        self.frozen = committee.frozen
        self._respondents: dict[str, Respondent] = {}

    def shares(self, voice: Voice, asked: Sequence[Put]) -> Doubles:
        """Distributions (n, 5) over the options: means of those in ascending and in descending order."""
        if not asked:
            return np.zeros((0, OPTIONS))
        texts = [
            Question(0, put.question, tuple(put.options[i] for i in order), LABELS, order).text(put.preface)
            for put in asked
            for order in ORDERS
        ]
        prompt = voice.expert.prompt if voice.expert else torch.zeros(0, self.frozen.hidden)
        placement = voice.expert.placement if voice.expert else "prefix"
        respondent = self._respondents.setdefault(placement, Respondent(self.frozen, placement))
        sheet = respondent.sheet(texts, [LABELS] * len(texts))
        given = respondent.answer(prompt[None], sheet)[0].astype(np.float64).reshape(len(asked), 2, OPTIONS)
        return np.asarray((given[:, 0] + given[:, 1, ::-1]) / 2)


def best_voices(committee_: Committee) -> dict[str, Voice]:
    """Each culture's expert with the lowest loss on searched wordings: the queries are worded as the held-out ones.

    Raises
    ------
    UserError
        A culture of the published committee has no expert.
    """
    found: dict[str, Voice] = {}
    for name, expert in sorted(committee_.registry.experts.items(), key=lambda item: _loss(item[1].provenance)):
        found.setdefault(culture_of(expert), Voice(name, expert))
    missing = sorted(culture.key for culture in committee() if culture.key not in found)
    if missing:
        raise UserError(
            f"{committee_.registry.folder} has no experts of {', '.join(missing)}; the study needs all twenty cultures"
        )
    return {culture.key: found[culture.key] for culture in committee()}


def _loss(provenance: Mapping[str, Any]) -> float:
    loss = provenance.get("arms", {}).get("evolved", {}).get("searched", {}).get("loss")
    return float("inf") if loss is None else float(loss)


def persona_line(query: LabelledQuery) -> str:
    """Where the user is from, by the gazetteer; nothing where no location is known."""
    places = bundled_lexicon().of_place(query.profile.location) if query.profile.location else []
    return get_culture(places[0]).persona() if places else ""


def panel_line(voices: Sequence[Voice], positions: Sequence[int], options: Sequence[str]) -> str:
    """A panel's options in words, as the base model reads them before it answers."""
    said = "\n".join(f"- {voice.label}: {options[at]}" for voice, at in zip(voices, positions, strict=True))
    return f"People of different cultures answered:\n{said}"


def choose_fixed(
    asker: Asker, queries: Sequence[LabelledQuery], truth: Mapping[str, Doubles], voices: Mapping[str, Voice]
) -> str:
    """The culture whose expert agrees best with all queries' targets, asked in their items' searched wordings."""
    items = vsm13().items
    asked = [Put(wording, vsm13().scales[item.scale]) for item in items for wording in item.searched]
    of = np.repeat(np.arange(N_ITEMS), [len(item.searched) for item in items])
    found = {}
    for culture, voice in voices.items():
        shares = asker.shares(voice, asked)
        means = np.stack([shares[of == item].mean(axis=0) for item in range(N_ITEMS)])
        found[culture] = np.mean([agreement(means[query.item], query, truth) for query in queries])
    return max(found, key=lambda culture: found[culture])


def agreement(shares: Doubles, query: LabelledQuery, truth: Mapping[str, Doubles]) -> float:
    """Alignment of a distribution (5,) with the mean of those of the cultures that a query is about, 0..1."""
    return alignment(shares.tolist(), [truth[culture][query.item].tolist() for culture in query.cultures])


class Panelists:
    """What each expert and the base model say to every query, and the replies made of it."""

    def __init__(self, asker: Asker, queries: Sequence[LabelledQuery], voices: Mapping[str, Voice], part: str) -> None:
        self.asker, self.queries, self.voices = asker, queries, voices
        self.asked = [Put(query.read(part), query.options) for query in queries]
        self.own = {voice.name: asker.shares(voice, self.asked) for voice in (BASE, *voices.values())}

    def mixed(self, number: int, voices: Sequence[Voice]) -> Reply:
        """The weighted mean of some voices' distributions."""
        weights = np.array([voice.weight for voice in voices])
        shares = np.stack([self.own[voice.name][number] for voice in voices])
        return Reply(weights @ shares / weights.sum(), tuple(voices), tuple(shares.argmax(axis=1).tolist()))

    def voted(self, number: int, voices: Sequence[Voice]) -> Reply:
        """Each voice's likeliest option is one vote."""
        reply = self.mixed(number, voices)
        return Reply(reply.votes, reply.voices, reply.positions)

    def replies(self, routes: Sequence[Sequence[Voice]], fixed: str) -> dict[str, list[Reply]]:
        """A reply of each of `ARMS` to each query; `routes` are the voices that the router chose."""
        numbers = range(len(self.queries))
        mixtures = [self.mixed(n, routes[n]) for n in numbers]
        labelled = [[self.voices[culture] for culture in query.cultures] for query in self.queries]
        found = {
            "direct": [self.mixed(n, [BASE]) for n in numbers],
            "persona": self._told([persona_line(query) for query in self.queries], [(BASE,)] * len(self.queries)),
            "fixed expert": [self.mixed(n, [self.voices[fixed]]) for n in numbers],
            "single best": [self.mixed(n, routes[n][:1]) for n in numbers],
            "mixture": mixtures,
            "panel": [self.voted(n, routes[n]) for n in numbers],
            "synthesis": self._synthesised(mixtures),
            "oracle": [self.mixed(n, labelled[n]) for n in numbers],
        }
        return {arm: found[arm] for arm in ARMS}

    def unrouted(self) -> dict[str, list[Reply]]:
        """What tells how much routing does: the mean of all experts, and for scale an answer that favours no option."""
        everybody, none = tuple(self.voices.values()), Reply(np.full(OPTIONS, 1 / OPTIONS), (BASE,), (0,))
        numbers = range(len(self.queries))
        return {"all experts": [self.mixed(n, everybody) for n in numbers], "uniform": [none for _ in numbers]}

    def _told(self, prefaces: Sequence[str], voices: Sequence[Sequence[Voice]]) -> list[Reply]:
        """The base model's replies under lines of text."""
        asked = [Put(put.question, put.options, preface) for put, preface in zip(self.asked, prefaces, strict=True)]
        given = self.asker.shares(BASE, asked)
        return [Reply(row, tuple(who), (int(row.argmax()),)) for row, who in zip(given, voices, strict=True)]

    def _synthesised(self, mixtures: Sequence[Reply]) -> list[Reply]:
        """The base model reads the panel's options; a single voice's answer needs no synthesis and stays as it is."""
        read = [
            panel_line(reply.voices, reply.positions, put.options)
            for reply, put in zip(mixtures, self.asked, strict=True)
        ]
        told = self._told(read, [reply.voices for reply in mixtures])
        pairs = zip(mixtures, told, strict=True)
        return [
            reply if len(reply.voices) == 1 else Reply(made.shares, reply.voices, reply.positions)
            for reply, made in pairs
        ]


def routes_of(committee_: Committee, queries: Sequence[LabelledQuery]) -> tuple[list[Route], list[tuple[Voice, ...]]]:
    """Whom the router chooses for each query, by text and profile."""
    found = [committee_.route(query.text, query.profile) for query in queries]
    return [route for route, _ in found], [voices for _, voices in found]
