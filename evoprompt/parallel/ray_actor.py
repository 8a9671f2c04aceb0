"""The Ray actor: an objective in a process of its own."""

from __future__ import annotations

import os
import pickle
import socket
import traceback

import numpy as np

from evoprompt.errors import UserError
from evoprompt.optim.protocol import Evaluation, Objective, Trials
from evoprompt.parallel.batching import describe_error, evaluate_batch
from evoprompt.typing import Floats, Indices

__all__ = ["RayActor"]


class RayActor:
    """Builds one objective and evaluates micro-batches with it.

    The objective is not built in ``__init__``: an exception there would reach the driver as a dead actor.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.objective: Objective | None = None

    def hello(self) -> tuple[str, int]:
        """Host name and process id."""
        return socket.gethostname(), os.getpid()

    def build(self, pickled_factory: bytes, numerics: str | None) -> tuple[bool, str, str] | None:
        """Call the factory; ``None`` if that went well, else whether it is a ``UserError``, its message and trace.

        An objective whose ``numerics`` begin with another word than those given is refused.
        """
        try:
            self.objective = pickle.loads(pickled_factory)()
        except Exception as error:
            message = str(error) if isinstance(error, UserError) else describe_error(error)
            return isinstance(error, UserError), message, traceback.format_exc()
        own = getattr(self.objective, "numerics", None)
        if numerics and own and own.split()[0] != numerics.split()[0]:
            message = (
                f"worker {self.name} computes in {own}, the driver, which measures the baselines and the result, in "
                f"{numerics}; run the command where it has the same device, or set model.dtype"
            )
            return True, message, ""
        return None

    def evaluate(self, ids: list[Indices], x: Floats) -> list[tuple[Evaluation, str | None]]:
        """Evaluate micro-batches of these ids, whose points x (n, d) holds one after the other."""
        if self.objective is None:
            raise RuntimeError(f"worker {self.name} was given trials before its objective was built")
        ends = np.cumsum([len(part) for part in ids])[:-1]
        parts = [Trials(numbers, points) for numbers, points in zip(ids, np.split(x, ends), strict=True)]
        return [evaluate_batch(self.objective, part, self.name) for part in parts]
