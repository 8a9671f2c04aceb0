"""Black-box optimizers with one ask/tell interface, and ``minimize`` for those who have a function.

Needs numpy and scipy only, and loads scipy when something that needs it is used; ``cma`` and ``nevergrad`` are
imported when their adapters are made. The user's guide is ``docs/guides/optimizers.md``.
"""

from evoprompt.optim._minimize import minimize
from evoprompt.optim.de.differential_evolution import DifferentialEvolution
from evoprompt.optim.de.papers import VARIANTS
from evoprompt.optim.de.variant import Variant
from evoprompt.optim.engine.asktell import AskTell, Recommendation
from evoprompt.optim.engine.generations import GenerationRecord
from evoprompt.optim.engine.state import has_state, load_state, save_state
from evoprompt.optim.methods import OPTIMIZERS, capabilities_of, make_optimizer
from evoprompt.optim.portfolio.portfolio import Portfolio
from evoprompt.optim.protocol import Best, Evaluation, Evaluator, Objective, Optimizer, Trials, shares

__all__ = [
    "OPTIMIZERS",
    "VARIANTS",
    "AskTell",
    "Best",
    "DifferentialEvolution",
    "Evaluation",
    "Evaluator",
    "GenerationRecord",
    "Objective",
    "Optimizer",
    "Portfolio",
    "Recommendation",
    "Trials",
    "Variant",
    "capabilities_of",
    "has_state",
    "load_state",
    "make_optimizer",
    "minimize",
    "save_state",
    "shares",
]
