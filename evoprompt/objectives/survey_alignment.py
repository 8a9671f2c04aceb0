"""The main objective: how far a soft prompt's survey scores are from a culture's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evoprompt.llm import ModelSpec, Respondent, Sheet, load_model
from evoprompt.optim import Evaluation
from evoprompt.prompts import Space
from evoprompt.surveys import Plan, l1_loss, raw_scores


@dataclass(frozen=True, eq=False)
class SurveyAlignment:
    """z (n, d) -> mean absolute distance to `target` over the dimensions it has, in points.

    The metric `dimensions` (n, 6) holds the scores. Only searched wordings belong into `plan`.
    """

    respondent: Respondent
    space: Space
    plan: Plan
    target: NDArray[np.float64]  # (6,), NaN where unknown
    constant: NDArray[np.float64]  # (6,)
    sheet: Sheet

    def __call__(self, z: NDArray[np.floating[Any]]) -> Evaluation:
        """Evaluate candidates (n, d)."""
        scores = self.scores(self.space.decode(z))
        return Evaluation(loss=l1_loss(scores, self.target), metrics={"dimensions": scores})

    def scores(self, soft_prompts: torch.Tensor) -> NDArray[np.float64]:
        """Dimension scores (n, 6) of soft prompts (n, tokens, hidden)."""
        probabilities = self.respondent.answer(soft_prompts, self.sheet)
        return raw_scores(self.plan.item_means(probabilities)) + self.constant


@dataclass(frozen=True, eq=False)
class SurveyAlignmentFactory:
    """Builds the objective where it is needed; picklable, and small next to the model that it loads."""

    model: ModelSpec
    space: Space
    plan: Plan
    target: NDArray[np.float64]
    constant: NDArray[np.float64]

    def __call__(self) -> SurveyAlignment:
        """Load the model and build the objective."""
        return self.around(Respondent(load_model(self.model)))

    def around(self, respondent: Respondent) -> SurveyAlignment:
        """Build the objective around a model that is loaded already."""
        sheet = respondent.sheet(self.plan.texts(), [question.labels for question in self.plan.questions])
        return SurveyAlignment(respondent, self.space, self.plan, self.target, self.constant, sheet)
