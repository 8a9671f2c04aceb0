"""Experts: evolved soft prompts as folders that PEFT loads, and registries of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from evoprompt.extras import require

if TYPE_CHECKING:
    from evoprompt.experts.artifact import Expert, blend, read_expert, served_by_peft, write_expert
    from evoprompt.experts.registry import BUNDLED, Changes, Registry

__all__ = ["BUNDLED", "Changes", "Expert", "Registry", "blend", "read_expert", "served_by_peft", "write_expert"]

_MODULES = {"BUNDLED": "registry", "Changes": "registry", "Registry": "registry"}


def __getattr__(name: str) -> Any:
    """Load a part when it is first asked for: `python -m evoprompt.experts` can then say what is not installed."""
    if name in __all__:
        require("evoprompt.experts", "lm")
        return getattr(import_module(f"evoprompt.experts.{_MODULES.get(name, 'artifact')}"), name)
    raise AttributeError(f"module 'evoprompt.experts' has no attribute {name!r}")
