"""The committee: chosen experts answer in one batch over the shared base model, and their answers are composed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial

import numpy as np
import torch
from scipy.special import softmax

from evoprompt.errors import UserError, unknown_name
from evoprompt.experts import Expert, Registry
from evoprompt.llm import FrozenModel, Respondent
from evoprompt.llm.speak.decoding import GREEDY, Decoder, Sampling, Stream, decode
from evoprompt.llm.write.conversation import Message, answer_stops, make_context
from evoprompt.routing.lexicon import Lexicon
from evoprompt.routing.router import Route, Router
from evoprompt.routing.signals import UNKNOWN, Profile
from evoprompt.surveys import DIMENSIONS, Question
from evoprompt.typing import Doubles

OWN = "custom"  # the key of every culture that is none of ours
COMPOSITIONS = ("mixture", "panel", "synthesis")
"""How several experts' answers become one."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Voice:
    """Who speaks: an expert, or the base model alone where `expert` is None; `weight` is its share in a mixture."""

    name: str
    expert: Expert | None
    weight: float = 1.0

    @property
    def label(self) -> str:
        """What it is called in an answer."""
        return str(self.expert.provenance["culture"]["name"]) if self.expert else "base model"

    @property
    def culture(self) -> str | None:
        """The key by which it is routed to; of an expert of the user's own culture, which has none, its name."""
        return culture_of(self.expert) if self.expert else None


BASE = Voice("base", None)


@dataclass(frozen=True)
class CommitteeAnswer:
    """What a committee said: `text`, and by whom; `panel` has each voice's own answer where there are such."""

    text: str
    voices: tuple[Voice, ...]
    composition: str
    panel: Mapping[str, str] = field(default_factory=dict)
    route: Route | None = None


@dataclass(frozen=True)
class Opinion:
    """A distribution over the options of a question.

    Attributes
    ----------
    options
        Their texts.
    shares
        (options,) the weighted mean of the voices'.
    by_voice
        Each voice's own, the mean over both orders of the options.
    log_probabilities
        Each voice's, (2, options), of the labels as the options are shown in ascending and descending order: an order's
        probabilities sum to the voice's `label_mass` in it.
    label_mass
        Each voice's mean probability of answering with any of the labels.
    """

    options: tuple[str, ...]
    shares: Doubles
    by_voice: Mapping[str, Doubles]
    log_probabilities: Mapping[str, Doubles]
    label_mass: Mapping[str, float]
    voices: tuple[Voice, ...]
    route: Route | None = None


class Committee:
    """Experts over one frozen model, and the router that chooses among them.

    Parameters
    ----------
    frozen
        The base model.
    registry
        The experts; may be reloaded at any time.
    router
        Who chooses; None: only experts that are named can be asked.
    k
        Most experts of one answer.
    """

    def __init__(self, frozen: FrozenModel, registry: Registry, router: Router | None = None, k: int = 3) -> None:
        self.frozen, self.registry, self.router, self.k = frozen, registry, router, k
        self.stops = answer_stops(frozen)
        self._respondent = cache(partial(Respondent, frozen))
        self._informed = lru_cache(1)(_informed)

    def route(self, query: str, profile: Profile = UNKNOWN, k: int | None = None) -> tuple[Route, tuple[Voice, ...]]:
        """Who should answer a query, and why; the base model where nobody is chosen.

        Of several experts of one culture the one with the lowest held-out loss is asked.

        Raises
        ------
        UserError
            There is no router, or the query is empty.
        """
        if self.router is None:
            raise UserError("this committee has no router; name an expert")
        by_culture: dict[str, tuple[str, Expert]] = {}
        for name, expert in sorted(self.registry.experts.items(), key=lambda item: _held_out_loss(item[1])):
            by_culture.setdefault(culture_of(expert), (name, expert))
        known = self.router.lexicon.entries
        own = [(key, expert.provenance["culture"]) for key, (_, expert) in by_culture.items() if key not in known]
        names = tuple((key, str(about["name"]), str(about.get("place") or about["name"])) for key, about in own)
        contrast = {culture: profile_of(expert) for culture, (_, expert) in by_culture.items()}
        route = self._informed(self.router, names).route(query, profile, tuple(by_culture), k or self.k, contrast)
        voices = tuple(
            Voice(*by_culture[claim.culture], weight) for claim, weight in zip(route.chosen, route.weights, strict=True)
        )
        return route, voices or (BASE,)

    def voice(self, name: str) -> Voice:
        """A single expert, or `base`.

        Raises
        ------
        UserError
            There is none of this name, or it is left out.
        """
        return BASE if name == BASE.name else Voice(name, self.registry[name])

    def streams(
        self, messages: Sequence[Message], voices: Sequence[Voice], composition: str, sampling: Sampling = GREEDY
    ) -> list[Stream]:
        """What has to be decoded: one stream for a mixture, else one for each voice.

        Raises
        ------
        UserError
            The composition is unknown, or the model does not take the conversation.
        """
        if composition not in COMPOSITIONS:
            raise unknown_name("composition", composition, COMPOSITIONS)
        rows = [self._row(messages, voice) for voice in voices]
        if composition == "mixture" or len(voices) == 1:
            return [Stream(rows, [voice.weight for voice in voices], sampling)]
        return [Stream([row], (1.0,), sampling) for row in rows]

    def synthesis(
        self, messages: Sequence[Message], voices: Sequence[Voice], answers: Sequence[str], sampling: Sampling
    ) -> Stream:
        """The call that merges a panel's answers: the base model reads them behind the question.

        Answers that are together too long for the model's context are cut to equal lengths.

        Raises
        ------
        UserError
            Not even a word of each would fit.
        """
        tokens, limit = self.frozen.tokenizer, self.frozen.max_length
        whole = [tokens.encode(answer, add_special_tokens=False) for answer in answers]
        level, room = max(map(len, whole), default=0), sum(map(len, whole))
        while True:
            said = "\n".join(f"- {voice.label}: {answer}" for voice, answer in zip(voices, answers, strict=True))
            asked = (
                f"{messages[-1]['content']}\n\nPeople of different cultures answered:\n{said}\n\n"
                "Write one short answer that tells what they agree on and names who sees it differently."
            )
            row = self._row([*messages[:-1], {"role": "user", "content": asked}], BASE)
            if not limit or (excess := len(row) + sampling.max_tokens - limit) <= 0:
                return Stream([row], (1.0,), sampling)
            room -= excess  # again and again: cut texts may have more tokens than they were cut to
            while sum(min(len(ids), level) for ids in whole) > room and level:
                level -= 1
            if not level:
                raise UserError(
                    f"the conversation leaves no room in the {limit} tokens that the model takes for {len(voices)} "
                    f"answers and {sampling.max_tokens} tokens of synthesis; shorten either, or take a panel"
                )
            answers = [str(tokens.decode(ids[:level])) for ids in whole]

    def answer(
        self,
        query: str | Sequence[Message],
        composition: str = "mixture",
        profile: Profile = UNKNOWN,
        voices: Sequence[Voice] | None = None,
        sampling: Sampling = GREEDY,
        tell: Callable[[str], object] | None = None,
    ) -> CommitteeAnswer:
        """Route a query or a conversation's last question, unless voices are given, and answer it.

        Parameters
        ----------
        tell
            Called with pieces of the answer as they come; before those of a synthesis, with the panel's answers.

        Raises
        ------
        UserError
            What `route` and `streams` refuse, or the model's output is not finite.
        """
        messages = [{"role": "user", "content": query}] if isinstance(query, str) else list(query)
        route = None
        if voices is None:
            route, voices = self.route(str(messages[-1]["content"]), profile)
        streams = self.streams(messages, voices, composition, sampling)
        said = self._decoded(streams, tell if len(streams) == 1 else None)
        if len(streams) == 1:
            return CommitteeAnswer(said[0], tuple(voices), composition, {}, route)
        panel = {voice.name: text for voice, text in zip(voices, said, strict=True)}
        text = panel_text(voices, said)
        if tell:
            tell(text)
        if composition == "synthesis":
            if tell:
                tell("\n\n")
            (text,) = self._decoded([self.synthesis(messages, voices, said, sampling)], tell)
        return CommitteeAnswer(text, tuple(voices), composition, panel, route)

    def _decoded(self, streams: Sequence[Stream], tell: Callable[[str], object] | None) -> list[str]:
        texts = decode(Decoder(self.frozen), streams, self.stops, tell)
        if any(stream.finish == "error" for stream in streams):
            raise UserError("the model's output is not finite; try another dtype or device")
        return texts

    def opinion(
        self, question: str, options: Sequence[str], profile: Profile = UNKNOWN, voices: Sequence[Voice] | None = None
    ) -> Opinion:
        """The distribution over a survey question's options, weighted over the voices.

        Asked with the options in ascending and in descending order; the mean of both is what counts, as in the surveys.

        Raises
        ------
        UserError
            There are fewer than two options, more than letters, or two alike.
        """
        shown = tuple(" ".join(option.split()) for option in options)
        if not 2 <= len(shown) <= len(LETTERS) or len(set(shown)) < len(shown) or not all(shown):
            raise UserError(f"options {list(options)!r} must be 2 to {len(LETTERS)} different texts")
        route = None
        if voices is None:
            route, voices = self.route(question, profile)
        labels = tuple(LETTERS[: len(shown)])
        orders = (tuple(range(len(shown))), tuple(range(len(shown)))[::-1])
        texts = [Question(0, question, tuple(shown[i] for i in order), labels, order).text() for order in orders]
        found: dict[str, Doubles] = {}
        for voice in voices:
            prompt = torch.zeros(0, self.frozen.hidden) if voice.expert is None else voice.expert.prompt
            respondent = self._respondent("prefix" if voice.expert is None else voice.expert.placement)
            given, said = respondent.answer_with_mass(prompt[None], respondent.sheet(texts, [labels] * 2))
            asked = np.log(given[0].astype(np.float64) * said[0][:, None])
            found[voice.name] = np.stack([row[np.argsort(order)] for row, order in zip(asked, orders, strict=True)])
        own = {name: softmax(scores, axis=1).mean(axis=0) for name, scores in found.items()}
        weights = np.array([voice.weight for voice in voices]) / sum(voice.weight for voice in voices)
        shares = np.array(weights @ np.stack([own[voice.name] for voice in voices]))
        mass = {name: float(np.exp(scores).sum(axis=1).mean()) for name, scores in found.items()}
        return Opinion(shown, shares, own, found, mass, tuple(voices), route)

    def _row(self, messages: Sequence[Message], voice: Voice) -> torch.Tensor:
        if voice.expert is None:
            return make_context(self.frozen, messages).embedded(self.frozen)
        return make_context(self.frozen, messages, voice.expert.placement).embedded(self.frozen, voice.expert.prompt)


def panel_text(voices: Sequence[Voice], answers: Sequence[str]) -> str:
    """A panel's answers, each attributed.

    >>> panel_text([BASE], ["Bow."])
    'base model: Bow.'
    """
    return "\n".join(f"{voice.label}: {answer}" for voice, answer in zip(voices, answers, strict=True))


def culture_of(expert: Expert) -> str:
    """The key by which an expert's culture is routed to: for one of the user's own, which have no key, its name."""
    return expert.culture if expert.culture != OWN else str(expert.provenance["culture"]["name"])


def _held_out_loss(expert: Expert) -> float:
    """An expert's measured loss on held-out wordings; infinite where it was not measured."""
    loss = expert.measured().get("loss")
    return float("inf") if loss is None else float(loss)


def profile_of(expert: Expert) -> list[float]:
    """The dimension scores (6,) that an expert was measured to have, or its culture's targets; NaN where unknown."""
    scores = expert.measured().get("dimensions") or expert.provenance["culture"].get("targets", {})
    return [float("nan") if scores.get(d) is None else float(scores[d]) for d in DIMENSIONS]


def _informed(router: Router, names: tuple[tuple[str, str, str], ...]) -> Router:
    """A router with names and places of the users' own cultures in its lexicon."""
    entries = {key: {"places": places} for key, *places in names}
    return replace(router, lexicon=Lexicon({**router.lexicon.entries, **entries})) if entries else router
