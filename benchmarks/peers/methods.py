"""Methods by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from benchmarks.counting import Counted
from evoprompt.optim.de.papers import VARIANTS

__all__ = ["METHODS", "Method", "select"]

_EVERYWHERE = frozenset({"bbob", "noisy", "largescale", "soft_prompt"})
_PLAIN = "rand/1/bin"


@dataclass(frozen=True)
class Method:
    """One optimizer of one library.

    Attributes
    ----------
    name : str
    package : str
        What has to be installed.
    place : str
        Module and function: ``start(objective, seed, argument)`` runs until the optimizer stops by itself or the
        budget ends.
    argument : str
        Which of the library's optimizers.
    suites : frozenset of str
        Where it takes part when all methods do.
    largest : int
        The dimension beyond which a run takes hours or does not fit in memory.
    slow : bool
        Takes milliseconds for an evaluation; may be given fewer seeds.
    """

    name: str
    package: str
    place: str
    argument: str
    suites: frozenset[str] = _EVERYWHERE
    largest: int = 100_000
    slow: bool = False

    @property
    def missing(self) -> bool:
        """Whether its package is not installed."""
        return find_spec(self.package) is None

    def start(self, objective: Counted, seed: int) -> None:
        """Run once, until it stops by itself or ``BudgetSpent`` ends it."""
        module, name = self.place.split(":")
        start: Callable[[Counted, int, str], None] = getattr(import_module(f"benchmarks.peers.{module}"), name)
        start(objective, seed, self.argument)


def _methods() -> list[Method]:
    ours = [Method("evoprompt:auto", "evoprompt", "ours:start", "auto")]
    for name in VARIANTS:
        suites = _EVERYWHERE if "/" not in name or name == _PLAIN else frozenset[str]()
        ours.append(Method(f"evoprompt:{name}", "evoprompt", "ours:start", name, suites))
    scipy = [
        Method("scipy DE", "scipy", "scipy_optimize:evolve", "", largest=640),
        Method("scipy DE popsize=2", "scipy", "scipy_optimize:evolve", "2", largest=4096),
        Method("scipy DE popsize=1", "scipy", "scipy_optimize:evolve", "1", largest=4096),
        Method("scipy DE 40 members", "scipy", "scipy_optimize:evolve_members", "40", frozenset({"soft_prompt"})),
        Method("scipy DE + L-BFGS-B", "scipy", "scipy_optimize:evolve_then_polish", "", largest=640),
        Method("scipy dual_annealing", "scipy", "scipy_optimize:anneal", ""),
    ]
    nevergrad = [
        Method("nevergrad DE", "nevergrad", "from_nevergrad:start", "DE", largest=1280, slow=True),
        Method("nevergrad TwoPointsDE", "nevergrad", "from_nevergrad:start", "TwoPointsDE", slow=True),
        Method("nevergrad NGOpt", "nevergrad", "from_nevergrad:start", "NGOpt", largest=1280, slow=True),
        Method("nevergrad NoisyDE", "nevergrad", "from_nevergrad:start", "NoisyDE", frozenset({"noisy"}), slow=True),
    ]
    cma = [
        Method("pycma", "cma", "cma_es:pycma", "full", largest=1280),
        Method("pycma lq-CMA-ES", "cma", "cma_es:pycma_lq", "", largest=160, slow=True),
        Method("pycma diagonal", "cma", "cma_es:pycma", "diagonal"),
        Method("cmaes", "cmaes", "cma_es:cmaes", "CMA", largest=320),
        Method("cmaes sep", "cmaes", "cma_es:cmaes", "SepCMA"),
    ]
    minion = [
        Method(f"minion {name}", "minionpy", "from_minion:start", name)
        for name in ("ARRDE", "JADE", "LSHADE", "LSHADE_cnEpSin", "NLSHADE_RSP", "jSO", "j2020", "LSRTDE", "RDEX", "DE")
    ]
    minion += [
        Method("minion BIPOP_aCMAES", "minionpy", "from_minion:start", "BIPOP_aCMAES", largest=320),
        Method("minion RCMAES", "minionpy", "from_minion:start", "RCMAES", largest=320),
    ]
    others = [
        Method("pymoo DE", "pymoo", "from_pymoo:start", "DE"),
        Method("pygmo sade", "pygmo", "from_pygmo:start", "sade"),
        Method("pygmo de1220", "pygmo", "from_pygmo:start", "de1220"),
        Method("evosax DE", "evosax", "from_evosax:start", "DifferentialEvolution"),
        Method("random", "numpy", "uniform:start", ""),
    ]
    return [*ours, *scipy, *nevergrad, *cma, *minion, *others]


METHODS: dict[str, Method] = {method.name: method for method in _methods()}
"""Every method, ours first."""


def select(names: Sequence[str], suite: str, largest_d: int = 0) -> list[Method]:
    """Methods to run.

    Parameters
    ----------
    names : sequence of str
        "all" is every method installed that takes part in the suite and can run in ``largest_d`` dimensions; "ours"
        and "peers" are parts of it. A name asks for that one whatever the suite.
    suite : str
    largest_d : int

    Raises
    ------
    ValueError
        If a name is unknown, or was asked for and is not installed.
    """
    chosen: dict[str, Method] = {}
    for name in names:
        if name in ("all", "ours", "peers"):
            for method in METHODS.values():
                here = suite in method.suites and largest_d <= method.largest and not method.missing
                if here and (name == "all" or (name == "ours") == (method.package == "evoprompt")):
                    chosen[method.name] = method
        elif name not in METHODS:
            raise ValueError(f"unknown method {name!r}; known: all, ours, peers, {', '.join(METHODS)}")
        elif METHODS[name].missing:
            raise ValueError(f"{name!r} needs the package {METHODS[name].package}, which is not installed")
        else:
            chosen[name] = METHODS[name]
    return list(chosen.values())
