"""Every optimizer, ours and the adapted ones, inherits the conformance suite that the package ships.

The fast suite has all of it for each class and each algorithm; what differs from one of these in a part or an option
gets one run of everything at once there, and the whole conformance suite in `system`.
"""

from types import FunctionType
from typing import Any, ClassVar

import numpy as np
import pytest

from evoprompt.optim import OPTIMIZERS, Optimizer, load_state, make_optimizer, save_state
from evoprompt.optim.methods import capabilities_of
from evoprompt.testing import OptimizerConformance
from evoprompt.testing.case import sphere

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "reflecting_shade": ("shade", {"repair": "reflect"}),
    "immediate_shade": ("shade", {"updating": "immediate"}),
    "immediate_auto": ("auto", {"updating": "immediate"}),
    "separable_cma": ("cma", {"variant": "separable"}),
    "nevergrad_cma": ("nevergrad", {"optimizer": "CMA"}),
    "immediate_nevergrad": ("nevergrad", {"updating": "immediate"}),
    "scipy_rand1exp": ("scipy", {"strategy": "rand1exp"}),
    "plain_annealing": ("dual_annealing", {"local_search": False}),
}
# A gradient by finite differences does not survive a failed evaluation.
FAILURES_COST_MORE = {"dual_annealing": float("inf")}


class Named(OptimizerConformance):
    """An optimizer by its name and options."""

    name: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}

    def make(self, *, bounds, budget, seed, popsize, dtype, **options) -> Optimizer:
        return make_optimizer(
            self.name, bounds=bounds, budget=budget, seed=seed, popsize=popsize, dtype=dtype,
            **{**self.options, **options},
        )  # fmt: skip


def case(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The attributes of one case."""
    return {
        "name": name, "options": options, "capabilities": capabilities_of(name), "learns": name != "random",
        "generational": options.get("updating") != "immediate", "failure_factor": FAILURES_COST_MORE.get(name, 10.0),
        "__module__": __name__,
    }  # fmt: skip


ALGORITHMS = (
    "auto",
    "de",
    "arrde",
    "lsrtde",
    "cma",
    "nevergrad",
    "scipy",
    "dual_annealing",
    "random",
    "immediate_shade",
)
"""One for each class and each algorithm, and one without generations."""

ELSEWHERE = ("auto", "de", "cma")
"""Whose states are continued in another process in the fast suite too: one for each way of keeping a state."""

for _name in OPTIMIZERS:
    CASES[_name.replace("/", "_").replace("-", "_")] = (_name, {})
for _title, (_name, _options) in CASES.items():
    _class = type(f"Test_{_title}", (Named,), case(_name, _options))
    if _title not in ALGORITHMS:
        _class.pytestmark = pytest.mark.system  # type: ignore[attr-defined]
    elif _title not in ELSEWHERE:
        _test = OptimizerConformance.test_a_state_continues_identically_in_another_process
        _copy = FunctionType(_test.__code__, _test.__globals__, _test.__name__, _test.__defaults__, _test.__closure__)
        setattr(_class, _test.__name__, pytest.mark.system(_copy))
    globals()[f"Test_{_title}"] = _class


@pytest.mark.parametrize("title", [title for title in CASES if title not in ALGORITHMS])
def test_one_that_differs_in_a_part_is_driven_with_failures_resumed_and_spends_its_budget(title, tmp_path):
    each = globals()[f"Test_{title}"]()
    optimizer, copy = each.fresh(), None
    low, high = np.array(each.bounds).T
    while optimizer.should_stop() is None:
        trials = optimizer.ask()
        assert ((trials.x >= low) & (trials.x <= high)).all()
        losses = np.where(trials.ids % 5 == 1, np.nan, sphere(trials.x))
        optimizer.tell(trials[::-1], losses[::-1])
        if copy is not None:
            np.testing.assert_array_equal(copy.ask().x, trials.x)
            copy.tell(trials[::-1], losses[::-1])
        elif optimizer.evaluations > each.budget / 2:
            save_state(tmp_path, optimizer.state_dict())
            copy = each.fresh()
            copy.load_state_dict(load_state(tmp_path))
    assert optimizer.evaluations == copy.evaluations == each.budget
    assert optimizer.failed == len(range(1, each.budget, 5))
    assert optimizer.best.loss == copy.best.loss < np.inf


def test_a_budget_below_the_population_is_refused_with_both_numbers():
    for name in OPTIMIZERS:
        if capabilities_of(name).popsize:
            with pytest.raises(ValueError, match=r"20.*32|32.*20"):
                make_optimizer(name, bounds=[(0, 1)] * 4, budget=20, seed=0, popsize=32)


def test_unknown_names_and_options_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="did you mean cma"):
        make_optimizer("cmaes", bounds=[(0, 1)], budget=10, seed=0)
    with pytest.raises(ValueError, match="no option popsise"):
        make_optimizer("de", bounds=[(0, 1)], budget=10, seed=0, popsise=4)
