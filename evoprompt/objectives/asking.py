"""A survey's questions put to a frozen model: by the probabilities of its options, or in free text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evoprompt.checks import real_number, whole_number
from evoprompt.errors import UserError, unknown_name
from evoprompt.llm import FrozenModel, Respondent, SampledRespondent, Sheet
from evoprompt.surveys import Plan

RESPONDENTS = ("options", "sampled")
SAMPLING = {
    field.name: field.default
    for field in fields(SampledRespondent)
    if field.init and field.default is not MISSING and field.name != "placement"
}
"""How free text is sampled, with the defaults of `SampledRespondent`."""
_LEAST = {"samples": 1, "max_new_tokens": 1, "seed": 0}

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
    if kind == "sampled" and given.get("seed") is None:
        options["seed"] = seed
    for key, value in options.items():
        _check_number(f"{where}.{key}", key, value)
    return options


def _check_number(name: str, key: str, value: Any) -> None:
    """Refuse what a `SampledRespondent` would, before a model is loaded for it."""
    if key in _LEAST:
        whole_number(name, value, _LEAST[key], what="a whole number")
    elif key == "temperature":
        real_number(name, value, 0)
    elif key == "top_p":
        real_number(name, value, 0, 1, above=True)


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
