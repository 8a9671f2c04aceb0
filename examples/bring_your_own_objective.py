# %% [markdown]
# # Bring your own objective
# Tuning a classifier: the loss is a cross-validated error, other measurements travel along, and some candidates fail.
# The same objective runs in this process or on Ray workers, with the same result.

# %%
from collections.abc import Callable

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_predict
from sklearn.svm import SVC

from evoprompt.optim import DifferentialEvolution, Evaluation
from evoprompt.parallel import LocalEvaluator, RayEvaluator, generational, steady_state

BOUNDS = [(-2, 3), (-6, 0)]  # log10 of C and of gamma


# %% [markdown]
# ## An objective and its factory
# The factory takes nothing and returns the objective. Every worker calls it once, so what is slow to load belongs
# there; only points, losses and metrics travel. An exception, a NaN or an infinity costs its candidate and no other.


# %%
def make_objective() -> Callable[[np.ndarray], Evaluation]:
    """Loads the data once; the objective takes points (n, 2)."""
    images, digits = load_digits(return_X_y=True)
    images, digits = images[:300], digits[:300]

    def evaluate(x: np.ndarray) -> Evaluation:
        errors, worst = np.full(len(x), np.nan), np.full(len(x), np.nan)
        for i, (c, gamma) in enumerate(10.0**x):
            if gamma > 0.1:
                continue  # stands for a simulation that diverges: its loss stays NaN
            predicted = cross_val_predict(SVC(C=c, gamma=gamma), images, digits, cv=3)
            wrong = predicted != digits
            errors[i], worst[i] = wrong.mean(), max(wrong[digits == digit].mean() for digit in range(10))
        return Evaluation(errors, {"worst_digit": worst})

    return evaluate


def new(updating: str = "deferred") -> DifferentialEvolution:
    """The same search for every evaluator."""
    return DifferentialEvolution(BOUNDS, budget=60, seed=0, updating=updating)


# %% [markdown]
# ## In this process
# Ask, evaluate and tell; the metrics come along. Without them `generational(optimizer, evaluator)` is the whole loop.

# %%
optimizer = new()
worst: dict[int, float] = {}  # by trial
with LocalEvaluator(make_objective(), batch_size=1) as evaluator:
    while not optimizer.should_stop():
        evaluator.submit(optimizer.ask())
        for trials, evaluation in evaluator.collect():
            optimizer.tell(trials, evaluation)
            worst |= dict(zip(trials.ids.tolist(), evaluation.metrics["worst_digit"], strict=True))
best = optimizer.best
print(f"in this process: error {best.loss:.3f}, worst digit {worst[best.id]:.3f} at {best.x.round(2)}")
print(f"{optimizer.evaluations} evaluations, {optimizer.failed} failed and did no harm")

# %% [markdown]
# ## On Ray workers
# By generations the result does not depend on who evaluates. In steady state no worker waits for another: each result
# brings a new candidate, and their order then determines the search. `address="auto"` joins a running cluster.

# %%
there, steady = new(), new(updating="immediate")
with RayEvaluator(make_objective, batch_size=1, num_workers=2, cpus_per_worker=0.5) as workers:
    generational(there, workers)
    steady_state(steady, workers)
same = (there.best.x == best.x).all()
print(f"two Ray workers: error {there.best.loss:.3f}; the same as in this process: {same}")
print(f"steady state: error {steady.best.loss:.3f}, {steady.evaluations} evaluations, {steady.failed} failed")
