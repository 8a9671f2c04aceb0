"""Surveys: instruments, scoring formulas, culture targets and losses."""

from evoprompt.extras import require

require("evoprompt.surveys", "lm", "yaml")

from evoprompt.surveys.anchoring import Constant, anchored_constant, choose_anchors, fixed_constant
from evoprompt.surveys.cultures import Culture, committee, cultures, custom_culture, get_culture
from evoprompt.surveys.instrument import Instrument, Item, load_instrument, vsm13
from evoprompt.surveys.questions import Plan, Question, balanced_plan, full_plan
from evoprompt.surveys.respondents import sample_respondents
from evoprompt.surveys.vsm13 import DIMENSION_NAMES, DIMENSIONS, l1_loss, raw_scores

__all__ = [
    "DIMENSIONS",
    "DIMENSION_NAMES",
    "Constant",
    "Culture",
    "Instrument",
    "Item",
    "Plan",
    "Question",
    "anchored_constant",
    "balanced_plan",
    "choose_anchors",
    "committee",
    "cultures",
    "custom_culture",
    "fixed_constant",
    "full_plan",
    "get_culture",
    "l1_loss",
    "load_instrument",
    "raw_scores",
    "sample_respondents",
    "vsm13",
]
