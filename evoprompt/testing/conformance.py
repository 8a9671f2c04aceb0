"""The whole suite, to inherit from."""

from __future__ import annotations

from evoprompt.testing.asking import Asking
from evoprompt.testing.claiming import Claiming
from evoprompt.testing.failing import Failing
from evoprompt.testing.resuming import Resuming
from evoprompt.testing.telling import Telling

__all__ = ["OptimizerConformance"]


class OptimizerConformance(Asking, Telling, Failing, Resuming, Claiming):
    """What an ask/tell optimizer promises, as tests: subclass it as ``Test...`` and write ``make``.

    See :class:`~evoprompt.testing.case.Case` for ``make`` and for the flags that say what is not promised.
    """
