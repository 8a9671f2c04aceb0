"""The main objective: how far a soft prompt's survey scores are from a culture's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evoprompt.llm import ModelSpec, SampledRespondent, Sheet, load_model
from evoprompt.objectives.asking import AnyRespondent, answers, make_questions, make_respondent
from evoprompt.optim import Evaluation
from evoprompt.prompts import Space
from evoprompt.surveys import Plan, l1_loss, raw_scores
from evoprompt.typing import Doubles, Floats


@dataclass(frozen=True, eq=False)
class SurveyAlignment:
    """z (n, d) -> mean absolute distance to `target` over the dimensions it has, in points.

    The metric `dimensions` (n, 6) holds the scores; in free text `invalid` (n,) holds the share of answers that chose
    no option or several. A candidate without any valid answer to an item, or to a form of the questions (option order
    and labels), fails: its loss is NaN. Only searched wordings belong into `plan`.
    """

    respondent: AnyRespondent
    space: Space
    plan: Plan
    target: Doubles  # (6,), NaN where unknown
    constant: Doubles  # (6,)
    sheet: Sheet

    @property
    def numerics(self) -> str:
        """What the model computes in, and where."""
        return self.respondent.frozen.placed

    def __call__(self, z: Floats) -> Evaluation:
        """Evaluate candidates (n, d)."""
        shares = answers(self.respondent, self.space.decode(z), self.sheet)
        scores = raw_scores(self.plan.item_means(shares)) + self.constant
        metrics = {"dimensions": scores}
        if isinstance(self.respondent, SampledRespondent):
            metrics["invalid"] = self.respondent.invalid_rates
        return Evaluation(loss=l1_loss(scores, self.target), metrics=metrics)


@dataclass(frozen=True, eq=False)
class SurveyAlignmentFactory:
    """Builds the objective where it is needed; picklable, and small next to the model that it loads."""

    model: ModelSpec
    space: Space
    plan: Plan
    target: Doubles
    constant: Doubles
    placement: str = "prefix"
    asking: Mapping[str, Any] = field(default_factory=dict)  # as `make_respondent` takes it

    def __call__(self) -> SurveyAlignment:
        """Load the model and build the objective."""
        return self.around(make_respondent(load_model(self.model), self.placement, **self.asking))

    def around(self, respondent: AnyRespondent) -> SurveyAlignment:
        """Build the objective around a model that is loaded already."""
        sheet = make_questions(respondent, self.plan)
        return SurveyAlignment(respondent, self.space, self.plan, self.target, self.constant, sheet)
