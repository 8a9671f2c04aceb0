"""Products of a few rows with a large matrix, as decoding on a CPU has them at every step.

For one to eight rows `x @ w.T` is two to five times slower in PyTorch's CPU builds than the same product the other way
round, `(w @ x.T).T`: one row goes through a matrix-vector product on one thread, two or three through a kernel made
for many.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from evoprompt.llm.load.model import FrozenModel

MOST_ROWS = 8
LEAST_WEIGHTS = 2**17  # of a layer: smaller ones are done before the detour is


class FewRowsLinear(nn.Linear):
    """A linear layer that multiplies a few rows the other way round; the results differ in their last bits."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As `nn.Linear` has it: (..., in) -> (..., out)."""
        count = input.numel() // self.in_features
        if count > MOST_ROWS or count == 0:
            return super().forward(input)
        rows = input.reshape(count, self.in_features)
        if count == 1:
            rows = torch.cat([rows, rows])
        product = (self.weight @ rows.T)[:, :count].T.contiguous()
        if self.bias is not None:
            product += self.bias
        return product.view(*input.shape[:-1], self.out_features)


def layers_for_few_rows(frozen: FrozenModel) -> list[nn.Linear]:
    """The layers of a model that gain by it: large ones in float32 on a CPU."""
    return [
        layer
        for layer in frozen.model.modules()
        if type(layer) in (nn.Linear, FewRowsLinear)
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype == torch.float32
        and layer.weight.numel() >= LEAST_WEIGHTS
    ]


@contextmanager
def few_rows(layers: list[nn.Linear]) -> Iterator[None]:
    """Let layers multiply a few rows the fast way meanwhile."""
    for layer in layers:
        layer.__class__ = FewRowsLinear
    try:
        yield
    finally:
        for layer in layers:
            layer.__class__ = nn.Linear
