"""Black-box optimizers with one ask/tell interface, and ``minimize`` for those who have a function.

Needs numpy and scipy only, and loads scipy when something that needs it is used; ``cma`` and ``nevergrad`` are
imported when their adapters are made. The user's guide is ``docs/guides/optimizers.md``.
"""

from evoprompt.optim._minimize import minimize
from evoprompt.optim.de.variant import VARIANTS, Variant
from evoprompt.optim.engine.asktell import DifferentialEvolution, Recommendation
from evoprompt.optim.engine.record import GenerationRecord
from evoprompt.optim.engine.state import has_state, load_state, save_state
from evoprompt.optim.engine.telllog import TellLog, replay
from evoprompt.optim.protocol import Best, Evaluation, Evaluator, Objective, Optimizer, Trials
from evoprompt.optim.methods import OPTIMIZERS, capabilities_of, make_optimizer

__all__ = [
    "OPTIMIZERS",
    "VARIANTS",
    "Best",
    "DifferentialEvolution",
    "Evaluation",
    "Evaluator",
    "GenerationRecord",
    "Objective",
    "Optimizer",
    "Recommendation",
    "TellLog",
    "Trials",
    "Variant",
    "capabilities_of",
    "has_state",
    "load_state",
    "make_optimizer",
    "minimize",
    "replay",
    "save_state",
]
