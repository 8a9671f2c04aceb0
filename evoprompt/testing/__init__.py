"""A conformance suite for optimizers with ask and tell: inherit it, say how yours is made, run pytest.

Needs pytest and hypothesis (the extra ``testing``), and nothing else in evoprompt imports it.

Examples
--------
>>> from evoprompt import DifferentialEvolution
>>> class TestMine(OptimizerConformance):
...     capabilities = Capabilities(noise=False, constraints=False)
...
...     def make(self, *, bounds, budget, seed, popsize, dtype, **options):
...         return DifferentialEvolution(bounds, budget=budget, seed=seed, popsize=popsize, dtype=dtype, **options)
>>> TestMine().test_it_is_an_optimizer()
"""

try:
    import hypothesis  # noqa: F401
    import pytest
except ImportError as error:
    raise ImportError(
        "evoprompt.testing needs pytest and hypothesis; install evoprompt with the extra 'testing'"
    ) from error

pytest.register_assert_rewrite(
    *(f"{__name__}.{name}" for name in ("case", "asking", "telling", "failing", "resuming", "claiming"))
)

from evoprompt.optim.capabilities import Capabilities
from evoprompt.testing.asking import Asking
from evoprompt.testing.claiming import Claiming
from evoprompt.testing.failing import Failing
from evoprompt.testing.resuming import Resuming
from evoprompt.testing.telling import Telling

__all__ = ["Capabilities", "OptimizerConformance"]


class OptimizerConformance(Asking, Telling, Failing, Resuming, Claiming):
    """What an ask/tell optimizer promises, as tests: subclass it as ``Test...`` and write ``make``.

    See :class:`~evoprompt.testing.case.Case` for ``make`` and for the flags that say what is not promised.
    """
