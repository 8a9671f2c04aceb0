"""What the loops tell an optimizer, whatever comes when."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from evoprompt.optim import DifferentialEvolution, Evaluation, Trials
from evoprompt.parallel import LocalEvaluator, generational


class LastFirst(LocalEvaluator):
    """Gives what it has evaluated from the end."""

    def collect(self, timeout: float | None = None) -> Iterator[tuple[Trials, Evaluation]]:
        yield from reversed(list(super().collect(timeout)))


def test_a_search_by_generations_does_not_depend_on_the_order_in_which_results_come() -> None:
    ends = []
    for kind in (LocalEvaluator, LastFirst):
        optimizer = DifferentialEvolution([(-5, 5)] * 3, budget=64, seed=0, popsize=8)
        generational(optimizer, kind(lambda x: ((x - 1) ** 2).sum(axis=1), batch_size=3))
        assert optimizer.best is not None
        assert optimizer.best.loss == ((optimizer.best.x - 1) ** 2).sum()
        ends.append(optimizer.best)
    assert (ends[0].id, ends[0].loss) == (ends[1].id, ends[1].loss)
    np.testing.assert_array_equal(ends[0].x, ends[1].x)
