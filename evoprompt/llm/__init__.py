"""Frozen language models: loading, scoring answer options under soft prompts, free text, the cost of a prompt.

A name is imported from its room when it is first asked for, so that what needs no torch does not load it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from evoprompt.extras import require

require("evoprompt.llm", "lm", "torch", "transformers", "safetensors")

if TYPE_CHECKING:
    from evoprompt.llm.cost import PromptCost, neutral_texts, prompt_cost, prompt_costs
    from evoprompt.llm.load.model import FrozenModel, load_model
    from evoprompt.llm.load.spec import ModelSpec
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

_ROOMS = {
    "cost": ("PromptCost", "neutral_texts", "prompt_cost", "prompt_costs"),
    "load.model": ("FrozenModel", "load_model"),
    "load.spec": ("ModelSpec",),
    "score.respondent": ("Respondent",),
    "speak.parsing": ("parse_answer",),
    "speak.sampled": ("Said", "SampledRespondent"),
    "write.sheet": ("PLACEMENTS", "Sheet", "make_sheet"),
}


def __getattr__(name: str) -> Any:
    for room, names in _ROOMS.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{room}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
