"""Putting a survey's questions to a frozen model: by the probabilities of its options, or in free text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evoprompt.errors import unknown_name
from evoprompt.llm import FrozenModel, Respondent, SampledRespondent, Sheet
from evoprompt.surveys import Plan

RESPONDENTS = ("options", "sampled")
SAMPLING = {
    field.name: field.default
    for field in fields(SampledRespondent)
    if field.init and field.default is not MISSING and field.name != "placement"
}
"""How free text is sampled, with the defaults of `SampledRespondent`."""

AnyRespondent = Respondent | SampledRespondent


def respondent_options(given: Mapping[str, Any], where: str = "respondent") -> dict[str, Any]:
    """Check how the model is to be asked and fill in the defaults of its kind.

    Parameters
    ----------
    given
        `kind`, one of `RESPONDENTS`; with `sampled` also what `SampledRespondent` takes, which checks the numbers.
    where
        The part of the configuration that it comes from.

    Raises
    ------
    UserError
        An unknown kind or key.

    >>> respondent_options({"kind": "sampled", "samples": 2})["max_new_tokens"]
    8
    """
    kind = given.get("kind", RESPONDENTS[0])
    if kind not in RESPONDENTS:
        raise unknown_name(where, kind, RESPONDENTS)
    known = {"kind": kind, **(SAMPLING if kind == "sampled" else {})}
    for key in given:
        if key not in known:
            raise unknown_name(f"key {where}.*", key, known)
    return {**known, **given}


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
