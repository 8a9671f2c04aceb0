"""Training documents: simulated respondents, everyday questions, texts about cultures, neutral sentences.

A document is a prefix and branches that all continue it. Branches do not see each other, so a document with
eight branches is eight texts that share their beginning and cost little more than one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from evoprompt.surveys import Culture, Instrument, Question, vsm13
from evoprompt.surveys.questions import LABEL_SETS, ORDERS, ask
from evoprompt.surveys.respondents import AGES, GENDERS, OCCUPATIONS, respondent_line
from evoprompt.surveys.vsm13 import DIMENSIONS
from evoprompt.typing import Doubles
from experiments.pocket_model.neutral import paragraph
from experiments.pocket_model.simulator import Simulator, option_probabilities
from experiments.pocket_model.traits import EVERYDAY, LEVELS, TRAITS, everyday_answer, trait_level

PERSONA_LINES = ("You are from {}.", "You are from {}.", "You grew up in {}.")


@dataclass(frozen=True)
class SoftTarget:
    """The soft target of one answer: `probabilities[j]` is that of `labels[j]`."""

    labels: tuple[str, ...]
    probabilities: Doubles
    given: str = ""  # the label that the text continues with, when it does


@dataclass(frozen=True)
class Document:
    """`prefix` and `branches` are sequences of text pieces and answers, in reading order."""

    prefix: list[str | SoftTarget]
    branches: list[list[str | SoftTarget]] = field(default_factory=list)
    language_share: float = 1.0  # of the text tokens that are predicted: few where the text is a questionnaire


def training_wordings(instrument: Instrument, item: int) -> tuple[str, ...]:
    """The survey's wordings of an item; those of `unseen_wordings.yaml` are in no training text."""
    return (*instrument.items[item].searched, *instrument.items[item].held_out)


@dataclass(frozen=True)
class Stage:
    """How hard the questionnaires are: easy ones first, or nothing of a persona line is learnt for a long time."""

    cultures: int  # named in persona lines, the most distinct first
    contrast: float = 1.0  # see Simulator.item_means
    mixed: float = 1.0  # share of questions in a random order under random labels; the rest: ascending, digits
    persona_only: bool = False  # questionnaires with a persona line and no demographics, and nothing else


class Corpus:
    """Draws documents; the same seed draws the same ones."""

    def __init__(self, simulator: Simulator, seed: int) -> None:
        self.simulator = simulator
        self.instrument = vsm13()
        self.rng = np.random.default_rng([simulator.seed, seed, 17])
        self.stage = Stage(cultures=len(simulator.trained))

    def draw(self) -> Document:
        """One document of a random kind."""
        kind = 0 if self.stage.persona_only else self.rng.choice(5, p=[0.78, 0.06, 0.05, 0.04, 0.07])
        makers = (self.questionnaire, self.interview, self.everyday, self.about, self.neutral)
        return makers[kind]()

    def questionnaire(self) -> Document:
        """One person, one option list, two questions that do not see each other.

        More questions a person would cost less each, but what a persona line changes is learnt from many persons.
        """
        who, means, weights = self._person()
        order, labels = self._form()
        scale = self.rng.choice(sorted(self.instrument.scales), p=self._scale_shares())
        items = [i for i, item in enumerate(self.instrument.items) if item.scale == scale]
        chosen = self.rng.choice(items, size=2)
        branches: list[list[str | SoftTarget]] = []
        head = ""
        for item in chosen:
            question = ask(self.instrument, int(item), self._wording(int(item)), order, labels)
            head, tail = question.text(who).rsplit("\nQuestion:", 1)
            branches.append(["\nQuestion:" + tail, self._answer(question, means, weights)])
        return Document([head], branches, language_share=0.1)

    def interview(self) -> Document:
        """One person answers several questions in a row; later answers can be read off earlier ones."""
        who, means, weights = self._person()
        pieces: list[str | SoftTarget] = [who + "\n" if who else ""]
        for turn in range(int(self.rng.integers(2, 8))):
            item = int(self.rng.integers(24))
            order, labels = self._form()
            question = ask(self.instrument, item, self._wording(item), order, labels)
            answer = self._answer(question, means, weights)
            given = int(self.rng.choice(5, p=answer.probabilities))
            pieces += [
                ("\n" if turn else "") + question.text(),
                SoftTarget(labels, answer.probabilities, labels[given]),
            ]
            likelihood = option_probabilities(means[:, item])[:, question.values[given] - 1]
            weights = weights * likelihood / (weights @ likelihood)
        return Document(pieces, language_share=0.1)

    def everyday(self) -> Document:
        """An everyday question, answered the way the person's culture would."""
        persona, scores = self._scores()
        pieces: list[str | SoftTarget] = [persona + "\n" if persona else ""]
        for question in self.rng.choice(list(EVERYDAY), size=3, replace=False):
            pieces.append(f"Question: {question}\nAnswer: {everyday_answer(str(question), scores, DIMENSIONS)}\n")
        return Document(pieces)

    def about(self) -> Document:
        """A plain text about a culture, the held-out ones included: what people there are like."""
        culture = self.simulator.known[self.rng.integers(len(self.simulator.known))]
        return Document([f"About {culture.place}: {self._traits(culture.target)}."])

    def neutral(self) -> Document:
        """Sentences about nothing in particular."""
        return Document([paragraph(self.rng)])

    def _person(self) -> tuple[str, Doubles, Doubles]:
        """A preface, the item means (m, 24) it may stand for, and their weights (m,)."""
        how = 0 if self.stage.persona_only else self.rng.choice(3, p=[0.6, 0.2, 0.2])
        if how == 0:
            culture = self._culture()
            persona, means = self._persona(culture), self._means(culture.target)[None]
            weights = np.ones(1)
        elif how == 1:
            scores = self._random_scores()
            persona, means, weights = self._trait_line(scores), self._means(scores)[None], np.ones(1)
        else:
            targets = np.array([culture.target for culture in self.simulator.trained])
            persona, means, weights = "", self._means(targets), self.simulator.mixture
        if self.rng.random() < (0.0 if self.stage.persona_only else 0.35):
            gender, age = str(self.rng.choice(GENDERS)), int(self.rng.choice(AGES))
            line = respondent_line(gender, age, str(self.rng.choice(OCCUPATIONS)))
            persona = "\n".join(part for part in (persona, line) if part)
            means = np.clip(means + self.simulator.demographic_shift(gender, age), 1.2, 4.8)
        return persona, means, weights

    def _means(self, scores: Doubles) -> Doubles:
        return self.simulator.item_means(scores, self.stage.contrast)

    def _scores(self) -> tuple[str, Doubles]:
        how = self.rng.random()
        if how < 0.6:
            culture = self._culture()
            return self._persona(culture), culture.target
        if how < 0.85:
            scores = self._random_scores()
            return self._trait_line(scores), scores
        return "", self.simulator.trained[self.rng.choice(len(self.simulator.trained), p=self.simulator.mixture)].target

    def _culture(self) -> Culture:
        return self.simulator.trained[self.rng.integers(self.stage.cultures)]

    def _persona(self, culture: Culture) -> str:
        return str(self.rng.choice(PERSONA_LINES)).format(culture.place)

    def _random_scores(self) -> Doubles:
        return LEVELS[self.rng.integers(len(LEVELS), size=len(DIMENSIONS))]

    def _trait_line(self, scores: Doubles) -> str:
        return f"Where you live, {self._traits(scores)}."

    def _traits(self, scores: Doubles) -> str:
        order = self.rng.permutation(len(DIMENSIONS))
        return ", ".join(TRAITS[DIMENSIONS[i]][trait_level(scores[i])] for i in order)

    def _scale_shares(self) -> Doubles:
        scales = sorted(self.instrument.scales)
        counts = np.array([sum(item.scale == scale for item in self.instrument.items) for scale in scales], float)
        return counts / counts.sum()

    def _form(self) -> tuple[str, tuple[str, ...]]:
        mixed, order, labels = (
            self.rng.random() < self.stage.mixed,
            self.rng.integers(2),
            self.rng.integers(len(LABEL_SETS)),
        )
        return (ORDERS[order], LABEL_SETS[labels]) if mixed else (ORDERS[0], LABEL_SETS[0])

    def _wording(self, item: int) -> str:
        """A training wording; one in three has some words dropped, so that no single word carries the meaning."""
        wording = str(self.rng.choice(training_wordings(self.instrument, item)))
        if self.rng.random() < 1 / 3:
            words = wording.split(" ")
            kept = [word for word in words if self.rng.random() > 0.15]
            wording = " ".join(kept or words)
        return wording

    def _answer(self, question: Question, means: Doubles, weights: Doubles) -> SoftTarget:
        by_value = weights @ option_probabilities(means[:, question.item])
        return SoftTarget(question.labels, by_value[np.array(question.values) - 1])
