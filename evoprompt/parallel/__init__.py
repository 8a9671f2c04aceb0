"""Evaluators: the same trials, evaluated in this process or by a pool of Ray actors, with the same result.

Importing this room does not import Ray; a :class:`RayEvaluator` does when it is made.
"""

from evoprompt.parallel.batching import cut, evaluate_batch
from evoprompt.parallel.local import LocalEvaluator
from evoprompt.parallel.loops import Notes, PoolStats, generational, steady_state
from evoprompt.parallel.pool import WorkersLostError
from evoprompt.parallel.ray_cluster import choose_executor
from evoprompt.parallel.ray_evaluator import RayEvaluator

__all__ = [
    "LocalEvaluator",
    "Notes",
    "PoolStats",
    "RayEvaluator",
    "WorkersLostError",
    "choose_executor",
    "cut",
    "evaluate_batch",
    "generational",
    "steady_state",
]
