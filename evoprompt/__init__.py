"""evoprompt: black-box evolutionary optimization, and culturally aligned soft prompts for frozen language models."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evoprompt.optim import DifferentialEvolution, Portfolio, make_optimizer, minimize

__version__ = "0.1.0"

__all__ = ["DifferentialEvolution", "Portfolio", "make_optimizer", "minimize"]


def __getattr__(name: str) -> Any:
    """Load the optimizers when they are first asked for: importing the package stays cheap."""
    if name in __all__:
        return getattr(import_module("evoprompt.optim"), name)
    raise AttributeError(f"module 'evoprompt' has no attribute {name!r}")
