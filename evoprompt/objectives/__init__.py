"""Objectives: what a candidate vector is worth; and how a survey is put to a frozen model."""

from __future__ import annotations

from evoprompt.extras import require

require("evoprompt.objectives", "lm", "torch", "transformers", "safetensors", "yaml")

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evoprompt.checks import real_number, whole_number
from evoprompt.errors import UserError, unknown_name
from evoprompt.llm import FrozenModel, ModelSpec, Respondent, SampledRespondent, Sheet, load_model
from evoprompt.optim import Evaluation
from evoprompt.prompts import Space
from evoprompt.surveys import Plan, l1_loss, raw_scores
from evoprompt.typing import Doubles, Floats

__all__ = [
    "AnyRespondent",
    "SurveyAlignment",
    "SurveyAlignmentFactory",
    "all_or_none",
    "answers",
    "make_questions",
    "make_respondent",
    "respondent_options",
]

RESPONDENTS = ("options", "sampled")
SAMPLING = {
    field.name: field.default
    for field in fields(SampledRespondent)
    if field.init and field.default is not MISSING and field.name != "placement"
}
"""How free text is sampled, with the defaults of `SampledRespondent`."""

AnyRespondent = Respondent | SampledRespondent
"""Who answers a survey: by the labels' probabilities, or in free text."""


def respondent_options(given: Mapping[str, Any], seed: int = 0, where: str = "respondent") -> dict[str, Any]:
    """Check how the model is to be asked and fill in the defaults of its kind.

    Parameters
    ----------
    given
        `kind`, one of `RESPONDENTS`; with `sampled` also what `SampledRespondent` takes.
    seed
        Of the sampling where none is given: the run's.
    where
        The part of the configuration that it comes from.

    Raises
    ------
    UserError
        An unknown kind or key, or a number that is out of its range.

    >>> respondent_options({"kind": "sampled", "samples": 2})["max_new_tokens"]
    8
    """
    kind = given.get("kind", RESPONDENTS[0])
    if kind not in RESPONDENTS:
        raise unknown_name(where, kind, RESPONDENTS)
    known = {"kind": kind, **(SAMPLING if kind == "sampled" else {})}
    for key in given:
        if key not in known and key in SAMPLING:
            raise UserError(f"{where}.{key} belongs to {where}=sampled; this is {where}={kind}")
        if key not in known:
            raise unknown_name(f"key {where}.*", key, known)
    options = {**known, **given}
    if kind == "options":
        return options
    options["seed"] = seed if given.get("seed") is None else given["seed"]
    for key, least in {"samples": 1, "max_new_tokens": 1, "seed": 0}.items():
        whole_number(f"{where}.{key}", options[key], least, what="a whole number")
    real_number(f"{where}.temperature", options["temperature"], 0)
    real_number(f"{where}.top_p", options["top_p"], 0, 1, above=True)
    return options


def make_respondent(
    frozen: FrozenModel, placement: str = "prefix", kind: str = "options", **sampling: Any
) -> AnyRespondent:
    """The respondent that options from `respondent_options` describe.

    Raises
    ------
    UserError
        A number is out of its range.
    """
    return Respondent(frozen, placement) if kind == "options" else SampledRespondent(frozen, placement, **sampling)


def make_questions(respondent: AnyRespondent, plan: Plan, preface: str = "") -> Sheet:
    """A plan's questions as the respondent reads them, behind a preface (persona or examples)."""
    texts, labels = plan.texts(preface), [question.labels for question in plan.questions]
    if isinstance(respondent, SampledRespondent):
        return respondent.sheet(texts, labels, [question.options for question in plan.questions])
    return respondent.sheet(texts, labels)


def answers(respondent: AnyRespondent, prompts: torch.Tensor, sheet: Sheet) -> NDArray[np.float32]:
    """Answer distributions (P, Q, options) under soft prompts (P, T, H).

    In free text a question without a valid answer is NaN. Where the model's output is not finite for one question, its
    other answers cannot be trusted either: all of that candidate's are NaN.
    """
    shares = respondent.answer(prompts, sheet)
    return shares if isinstance(respondent, SampledRespondent) else all_or_none(shares)


def all_or_none(shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Answers (P, Q, options), but all NaN for a candidate with any NaN.

    >>> all_or_none(np.array([[[0.5, 0.5]], [[np.nan, 1.0]]])).tolist()
    [[[0.5, 0.5]], [[nan, nan]]]
    """
    return np.where(np.isnan(shares).any(axis=(1, 2), keepdims=True), np.nan, shares)


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
