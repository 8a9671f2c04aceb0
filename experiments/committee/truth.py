"""What the cultures of a query would answer: the target that every arm is held against."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from evoprompt.llm import FrozenModel, Respondent
from evoprompt.llm.load.spec import POCKET
from evoprompt.surveys import committee, full_plan, vsm13
from evoprompt.surveys.vsm13 import WEIGHTS
from evoprompt.typing import Doubles
from experiments.pocket_model.simulator import Simulator, option_probabilities


def targets(frozen: FrozenModel) -> Mapping[str, Doubles]:
    """Answer distributions (24, 5) of each culture of the committee, as its published scores imply them.

    Six scores do not tell 24 item means. Assumed are the least-norm ones: those of an average culture, moved by as
    little as gives the culture's differences from it. For the pocket model this is the simulator's own truth. For any
    other model the average culture answers as the model does without a prompt on searched wordings, and its scores are
    the committee's mean. One culture's answers are a discretised Gaussian of fixed spread around an item's mean, as in
    the simulator.
    """
    known = committee()
    if frozen.spec.name == POCKET:
        means = [Simulator().item_means(culture.target) for culture in known]
    else:
        base, centre = unprompted_means(frozen), np.mean([culture.target for culture in known], axis=0)
        moved = [base + (culture.target - centre) @ np.linalg.pinv(WEIGHTS).T for culture in known]
        means = [np.clip(one, 1.2, 4.8) for one in moved]
    return {culture.key: option_probabilities(one) for culture, one in zip(known, means, strict=True)}


def unprompted_means(frozen: FrozenModel) -> Doubles:
    """The model's own mean answers (24,) on searched wordings, every order and label set."""
    respondent, plan = Respondent(frozen), full_plan(vsm13(), "searched")
    sheet = respondent.sheet(plan.texts(), [question.labels for question in plan.questions])
    return plan.item_means(respondent.answer(torch.zeros(1, 0, frozen.hidden), sheet)[0])
