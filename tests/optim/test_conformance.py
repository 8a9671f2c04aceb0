"""Every optimizer, ours and the adapted ones, inherits the conformance suite that the package ships."""

from typing import Any, ClassVar

import pytest

from evoprompt.optim import OPTIMIZERS, Optimizer, make_optimizer
from evoprompt.optim.methods import capabilities_of
from evoprompt.testing import OptimizerConformance

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


for _name in OPTIMIZERS:
    CASES[_name.replace("/", "_").replace("-", "_")] = (_name, {})
for _title, (_name, _options) in CASES.items():
    globals()[f"Test_{_title}"] = type(f"Test_{_title}", (Named,), case(_name, _options))


def test_a_budget_below_the_population_is_refused_with_both_numbers():
    for name in OPTIMIZERS:
        if capabilities_of(name).popsize:
            with pytest.raises(ValueError, match=r"20.*32|32.*20"):
                make_optimizer(name, bounds=[(0, 1)] * 4, budget=20, seed=0, popsize=32)


def test_unknown_names_and_options_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="closest: cma"):
        make_optimizer("cmaes", bounds=[(0, 1)], budget=10, seed=0)
    with pytest.raises(ValueError, match="no option popsise"):
        make_optimizer("de", bounds=[(0, 1)], budget=10, seed=0, popsise=4)
