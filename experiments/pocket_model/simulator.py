"""The known truth behind the pocket model: cultures as latent item means, respondents as draws from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from evoprompt.surveys import Culture, cultures
from evoprompt.surveys.vsm13 import WEIGHTS
from evoprompt.typing import Doubles

HELD_OUT_CULTURES = ("arab", "india", "thailand", "peru", "denmark")  # never in a persona line of the training text
WEB_LEANING = {"usa": 0.30, "great_britain": 0.12, "canada": 0.08, "australia": 0.08, "germany": 0.05}
SPREAD = 0.6  # of one respondent's answers around the location, in answer steps
ANSWERS = np.arange(1, 6)


def option_probabilities(means: Doubles) -> Doubles:
    """Answer distributions with the given means: (...,) within 1.2..4.8 -> (..., 5).

    A discretised Gaussian of fixed spread; its location is solved for on a fine grid.
    """
    location = np.linspace(-6.0, 12.0, 3601)
    logits = -((ANSWERS - location[:, None]) ** 2) / (2 * SPREAD**2)
    table = np.exp(logits - logits.max(axis=1, keepdims=True))
    table /= table.sum(axis=1, keepdims=True)
    wanted = np.interp(means, table @ ANSWERS, location)
    logits = -((ANSWERS - np.asarray(wanted)[..., None]) ** 2) / (2 * SPREAD**2)
    found = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(found / found.sum(axis=-1, keepdims=True))


@dataclass(frozen=True)
class Simulator:
    """Latent item means of every culture, inverted from its six scores, and demographic shifts."""

    seed: int = 0

    @cached_property
    def base(self) -> Doubles:
        """Item means of the average culture, shape (24,)."""
        return np.random.default_rng([self.seed, 1]).uniform(1.9, 3.5, 24)

    @cached_property
    def gender_shift(self) -> Doubles:
        """What being a man adds to each item mean, shape (24,); a woman subtracts it."""
        return np.random.default_rng([self.seed, 2]).normal(0.0, 0.06, 24)

    @cached_property
    def age_shift(self) -> Doubles:
        """What twenty years above 41 add to each item mean, shape (24,)."""
        return np.random.default_rng([self.seed, 3]).normal(0.0, 0.06, 24)

    @cached_property
    def known(self) -> list[Culture]:
        """The cultures of the matrix with six scores."""
        return [culture for culture in cultures().values() if culture.complete and culture.edition == "2015-12"]

    @cached_property
    def trained(self) -> list[Culture]:
        """Those that the training text names in persona lines, the most distinct first."""
        named = [culture for culture in self.known if culture.key not in HELD_OUT_CULTURES]
        return sorted(named, key=lambda culture: -float(np.abs(culture.target - self.centre).sum()))

    @cached_property
    def centre(self) -> Doubles:
        """Mean scores over the known cultures, shape (6,)."""
        return np.mean([culture.target for culture in self.known], axis=0)

    def item_means(self, scores: Doubles, contrast: float = 1.0) -> Doubles:
        """Least-norm item means that score like `scores`, up to a constant: (..., 6) -> (..., 24).

        `contrast` other than 1 exaggerates the differences between cultures: for the first part of the training only.
        """
        return np.clip(self.base + contrast * (scores - self.centre) @ np.linalg.pinv(WEIGHTS).T, 1.2, 4.8)

    def demographic_shift(self, gender: str, age: int) -> Doubles:
        """Shift of the item means for one respondent, shape (24,)."""
        sign = 1.0 if gender == "man" else -1.0
        return sign * self.gender_shift + (age - 41) / 20 * self.age_shift

    @cached_property
    def mixture(self) -> Doubles:
        """Weights of the trained cultures when nobody says where they are from, shape (trained,)."""
        rest = (1 - sum(WEB_LEANING.values())) / (len(self.trained) - len(WEB_LEANING))
        return np.array([WEB_LEANING.get(culture.key, rest) for culture in self.trained])
