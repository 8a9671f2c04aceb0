# %% [markdown]
# # Optimise any function
# The function may jump and have many local minima: only its values are used, no gradient. Here it is the median
# distance between a damped oscillation and measurements, some of which are wrong.
#
# [The guide](../docs/guides/optimizers.md) has more.

# %%
import tempfile
from pathlib import Path

import numpy as np
from scipy.optimize import NonlinearConstraint

from evoprompt import DifferentialEvolution, minimize
from evoprompt.optim import load_state, save_state

BOUNDS = [(0.1, 3), (0, 1), (0, 6)]  # amplitude, damping, frequency
TRUTH = np.array([2.0, 0.3, 4.0])
TIMES = np.linspace(0, 6, 80)


def model(x: np.ndarray) -> np.ndarray:
    """Parameters (n, 3) to oscillations (n, 80)."""
    amplitude, damping, frequency = x.T[:, :, None]
    return amplitude * np.exp(-damping * TIMES) * np.cos(frequency * TIMES)


measured = model(TRUTH[None])[0]
measured[::5] = 1.0  # one measurement in five is wrong


def loss(x: np.ndarray) -> np.ndarray:
    """Parameters (n, 3) to losses (n,): a whole batch at once."""
    return np.median(abs(model(x) - measured), axis=1)


# %% [markdown]
# ## One call
# `budget` is the number of evaluations, a hard limit. `vectorized=True`: the function takes a whole batch.

# %%
result = minimize(loss, BOUNDS, budget=3000, vectorized=True)
print(f"minimize: loss {result.fun:.1e} at {result.x.round(3)} after {result.nfev} evaluations")

# %% [markdown]
# ## Ask and tell, with a checkpoint
# You evaluate, wherever and in whatever order you like. The state is plain numbers: stop after ten generations, load it
# in another process, and the search goes on as if nothing had happened.

# %%
folder = Path(tempfile.mkdtemp())  # or one of your own


def new() -> DifferentialEvolution:
    """The same optimizer each time: what it learns is in its state."""
    return DifferentialEvolution(BOUNDS, budget=3000, seed=1, dtype="float64")


def search(optimizer: DifferentialEvolution, generations: int = 10_000) -> DifferentialEvolution:
    """Ask, evaluate, tell."""
    for _ in range(generations):
        if optimizer.should_stop():
            break
        trials = optimizer.ask()
        optimizer.tell(trials, loss(trials.x))  # a NaN here would only lose that candidate
    return optimizer


save_state(folder / "state", search(new(), generations=10).state_dict())
resumed = new()
resumed.load_state_dict(load_state(folder / "state"))
print(f"ask and tell: stopped after {resumed.evaluations} evaluations at loss {resumed.best.loss:.1e}")
same = (search(resumed).best.x == search(new()).best.x).all()
print(f"ask and tell: resumed to loss {resumed.best.loss:.1e}; the same as without a stop: {same}")

# %% [markdown]
# ## Which method?
# Compare the default, `auto`, with others at equal budgets and over several seeds, random search among them: it tells
# whether anything was learnt.

# %%
for method in ("auto", "de", "lshade", "cma", "random"):
    losses = [minimize(loss, BOUNDS, budget=1000, method=method, vectorized=True, seed=s).fun for s in range(5)]
    print(f"{method:7s} median loss {np.median(losses):.1e}, worst {max(losses):.1e} of 5 seeds")

# %% [markdown]
# ## Constraints, whole numbers, noise
# Constraints are scipy's objects. With `noise=` (its standard deviation, or "auto") a lucky loss is not believed:
# `result.fun` is an estimate, and `result.x` a point that the search has reason to trust.

# %%
weak = NonlinearConstraint(lambda x: x[:, :1], -np.inf, 1.5)  # points (n, 3) to rows (n, 1), as `vectorized` asks
result = minimize(loss, BOUNDS, budget=3000, vectorized=True, constraints=weak, integrality=[False, False, True])
print(f"amplitude at most 1.5, whole frequency: {result.x.round(3)}, violation {result.violation:.1e}")

for noise in (None, 0.1):
    rng = np.random.default_rng(0)
    result = minimize(
        lambda x, rng=rng: loss(x) + 0.1 * rng.normal(size=len(x)),
        BOUNDS,
        budget=3000,
        method="shade",
        vectorized=True,
        noise=noise,
    )
    print(f"noise={noise}: said to have loss {result.fun:.2f}, has {loss(result.x[None])[0]:.2f}")
