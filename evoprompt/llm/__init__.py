"""Frozen language models: loading, scoring answer options under soft prompts, free text, the cost of a prompt."""

from evoprompt.llm.cost import PromptCost, neutral_texts, prompt_cost, prompt_costs
from evoprompt.llm.load.model import FrozenModel, ModelSpec, load_model
from evoprompt.llm.score.respondent import Respondent
from evoprompt.llm.speak.parsing import parse_answer
from evoprompt.llm.speak.sampled import Said, SampledRespondent
from evoprompt.llm.write.sheet import PLACEMENTS, Sheet, make_sheet

__all__ = [
    "PLACEMENTS",
    "FrozenModel",
    "ModelSpec",
    "PromptCost",
    "Respondent",
    "Said",
    "SampledRespondent",
    "Sheet",
    "load_model",
    "make_sheet",
    "neutral_texts",
    "parse_answer",
    "prompt_cost",
    "prompt_costs",
]
