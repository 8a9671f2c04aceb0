"""Objectives with the shape of the main job: many coordinates, few that matter together, answers that saturate."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evoprompt.surveys import l1_loss, raw_scores

__all__ = ["SyntheticSurvey", "Vectorised", "pocket"]

_LIMIT = 3.0
_ITEMS, _OPTIONS = 24, 5


class Vectorised(Protocol):
    """An objective on points (n, d) in a box."""

    d: int
    limit: float

    def __call__(self, x: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Losses (n,)."""
        ...


class SyntheticSurvey:
    """A made-up respondent whose answers depend on d coordinates through a few directions.

    z -> u = A z, ``effective`` numbers of unit variance for z uniform in the box -> tanh(u) -> logits of five answers
    to 24 items -> mean answers -> the six scores of the VSM 2013 -> mean absolute distance to the scores of a planted
    u, which lies where uniform points do not come. Coordinates differ in weight, log-normally.

    Parameters
    ----------
    d : int
    seed : int
        Which respondent.
    effective : int
        How many directions matter.
    """

    limit = _LIMIT

    def __init__(self, d: int, seed: int, effective: int = 32) -> None:
        self.d = d
        rng = np.random.default_rng([seed, d])
        weights = rng.lognormal(0.0, 1.0, d)
        spread = np.sqrt((weights**2).sum() * _LIMIT**2 / 3)
        directions = rng.standard_normal((effective, d)) * weights / spread
        self._directions = directions.astype(np.float32)
        self._offset = rng.standard_normal((_ITEMS, _OPTIONS))
        self._answers = rng.standard_normal((effective, _ITEMS * _OPTIONS)) * (3.0 / np.sqrt(effective))
        planted = rng.standard_normal(effective)
        self._target = self._scores(3.0 * np.sqrt(effective) * planted[None] / np.linalg.norm(planted))[0]

    def __call__(self, x: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Losses (n,) of z (n, d)."""
        return l1_loss(self._scores(np.asarray(x, dtype=np.float32) @ self._directions.T), self._target)

    def _scores(self, u: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        logits = (np.tanh(u) @ self._answers).reshape(-1, _ITEMS, _OPTIONS) + self._offset
        odds = np.exp(logits - logits.max(axis=2, keepdims=True))
        means = (odds @ np.arange(1.0, _OPTIONS + 1)) / odds.sum(axis=2)
        return raw_scores(means)


class _Pocket:
    """The main job's loss on the pocket model, for one culture."""

    def __init__(self, alignment: Any) -> None:
        self._alignment = alignment
        self.d, self.limit = alignment.space.d, alignment.space.limit

    def __call__(self, x: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Losses (n,) of z (n, d), eight candidates at a time."""
        parts = [self._alignment(x[start : start + 8]).loss for start in range(0, len(x), 8)]
        return np.concatenate(parts)


def pocket(kind: str, dimensions: int, seed: int, culture: str = "arab") -> _Pocket:
    """The survey loss of the shipped defaults, in one of the search spaces.

    Parameters
    ----------
    kind : {"full", "random_projection"}
    dimensions : int
        Of the projection; 0 in the full space.
    seed : int
        Of the projection.
    culture : str
    """
    from evoprompt.objectives import SurveyAlignmentFactory
    from evoprompt.prompts import centre_prompt, make_space
    from evoprompt.surveys import balanced_plan, get_culture, sample_respondents, vsm13

    respondent, constant = _respondent(culture)
    mean, spread = respondent.frozen.embedding_statistics
    options = {"dimensions": dimensions, "seed": seed, "scale": 2.0 * spread} if dimensions else {"scale": spread}
    space = make_space(kind, centre_prompt(4, mean), **options)
    plan = balanced_plan(vsm13(), "searched", sample_respondents(4, 0), True)
    factory = SurveyAlignmentFactory(respondent.frozen.spec, space, plan, get_culture(culture).target, constant)
    return _Pocket(factory.around(respondent))


@lru_cache(maxsize=2)
def _respondent(culture: str) -> tuple[Any, NDArray[np.float64]]:
    """The pocket model on one thread, and the constant fitted to it as a study does."""
    from evoprompt.llm import ModelSpec, Respondent, load_model
    from evoprompt.study.arms import SurveyPanel
    from evoprompt.study.settings import SurveySettings
    from evoprompt.surveys import anchored_constant, choose_anchors, get_culture, sample_respondents, vsm13

    respondent = Respondent(load_model(ModelSpec(threads=1)))
    panel = SurveyPanel(respondent, vsm13(), sample_respondents(8, 0))
    anchors = choose_anchors([get_culture(key) for key in SurveySettings().anchors], get_culture(culture))
    raw = np.stack([panel.raw(anchor.persona()) for anchor in anchors])
    return respondent, anchored_constant(anchors, raw).array
