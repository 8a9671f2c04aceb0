"""Frozen language models: loading, scoring answer options under soft prompts, the cost of a prompt."""

from evoprompt.llm.cost import PromptCost, neutral_texts, prompt_cost
from evoprompt.llm.model import FrozenModel, ModelSpec, load_model
from evoprompt.llm.respondent import Respondent
from evoprompt.llm.sheet import Sheet

__all__ = [
    "FrozenModel",
    "ModelSpec",
    "PromptCost",
    "Respondent",
    "Sheet",
    "load_model",
    "neutral_texts",
    "prompt_cost",
]
