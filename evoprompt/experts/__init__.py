"""Experts: evolved soft prompts as folders that PEFT loads, and registries of them."""

from evoprompt.extras import require

require("evoprompt.experts", "lm")

from evoprompt.experts.artifact import Expert, read_expert, served_by_peft, write_expert
from evoprompt.experts.blend import blend
from evoprompt.experts.registry import BUNDLED, Changes, Registry

__all__ = ["BUNDLED", "Changes", "Expert", "Registry", "blend", "read_expert", "served_by_peft", "write_expert"]
