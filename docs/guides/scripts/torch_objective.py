"""A batched torch objective: the weights of a small network, a whole generation in one forward pass."""

import numpy as np
import torch

from evoprompt import minimize

INPUTS = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
XOR = torch.tensor([0.0, 1.0, 1.0, 0.0])


@torch.no_grad()
def loss(x: np.ndarray) -> np.ndarray:
    """Mean squared error of n networks of 2, 4 and 1 units: float32 (n, 17) to (n,)."""
    weights = torch.from_numpy(x)  # .to("cuda") where there is one
    first, bias, second, last = weights.split([8, 4, 4, 1], dim=1)
    hidden = torch.tanh(INPUTS @ first.view(-1, 2, 4) + bias[:, None])  # (n, 4 inputs, 4 units)
    outputs = torch.einsum("nku,nu->nk", hidden, second) + last  # (n, 4 inputs)
    return (outputs - XOR).square().mean(dim=1).cpu().numpy()


result = minimize(loss, [(-5, 5)] * 17, budget=20_000, target=1e-4, vectorized=True, dtype="float32", popsize=32)
print(result.message)
print(result.x.dtype, result.fun, f"{result.nfev} evaluations in {result.nit} generations")
