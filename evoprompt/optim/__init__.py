"""Black-box optimizers with one ask/tell interface, and ``minimize`` for those who have a function.

Needs numpy and scipy only; ``cma`` and ``nevergrad`` are imported when their adapters are made.
"""

from evoprompt.optim._minimize import minimize
from evoprompt.optim.de import DifferentialEvolution
from evoprompt.optim.protocol import Best, Evaluation, Evaluator, Objective, Optimizer, Trials
from evoprompt.optim.registry import OPTIMIZERS, make_optimizer

__all__ = [
    "OPTIMIZERS",
    "Best",
    "DifferentialEvolution",
    "Evaluation",
    "Evaluator",
    "Objective",
    "Optimizer",
    "Trials",
    "make_optimizer",
    "minimize",
]
