"""Objectives: what a candidate vector is worth."""

from evoprompt.extras import require

require("evoprompt.objectives", "lm", "torch", "transformers", "safetensors", "yaml")

from evoprompt.objectives.asking import (
    AnyRespondent,
    all_or_none,
    answers,
    make_questions,
    make_respondent,
    respondent_options,
)
from evoprompt.objectives.survey_alignment import SurveyAlignment, SurveyAlignmentFactory

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
