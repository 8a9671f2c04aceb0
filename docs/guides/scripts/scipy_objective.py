"""A scipy objective as it is: rosen, Bounds and a callback go in, an OptimizeResult comes out."""

from scipy.optimize import Bounds, OptimizeResult, rosen

from evoprompt import minimize


def show(intermediate_result: OptimizeResult) -> None:
    """Called after every generation; returning True would end the run."""
    if intermediate_result.nit % 50 == 0:
        print(f"{intermediate_result.nfev} evaluations, best loss {intermediate_result.fun:.3g}")


result = minimize(rosen, Bounds([-5] * 6, [5] * 6), budget=5000, target=1e-8, callback=show)
print(result.message)
print(result.x.round(3), result.fun, result.nfev)
