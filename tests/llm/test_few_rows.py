"""Few rows are multiplied the other way round, with the same result, and nothing of it stays behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from evoprompt.llm import FrozenModel
from evoprompt.llm.speak.batch import LEAST_WEIGHTS, FewRowsLinear, few_rows, layers_for_few_rows


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(0, 1), (1, 1), (3, 1), (1, 5), (2, 4), (8, 1), (9, 1), (4, 40)])
def test_the_product_is_the_same_for_any_number_of_rows(shape: tuple[int, int], bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(320, 512, bias=bias)
    x = torch.randn(*shape, 320, generator=generator)
    with torch.inference_mode():
        plain = layer(x)
        with few_rows([layer]):
            assert type(layer) is FewRowsLinear
            quick = layer(x)
    assert quick.shape == plain.shape
    assert quick.is_contiguous()
    torch.testing.assert_close(quick, plain, atol=1e-5, rtol=1e-5)


def test_layers_are_plain_again_whatever_happened(pocket: FrozenModel) -> None:
    layers = layers_for_few_rows(pocket)
    assert pocket.model.get_output_embeddings() in layers
    assert all(layer.weight.numel() >= LEAST_WEIGHTS for layer in layers)
    with pytest.raises(KeyboardInterrupt), few_rows(layers):
        raise KeyboardInterrupt
    assert {type(layer) for layer in layers} == {nn.Linear}


def test_half_precision_is_left_alone(pocket: FrozenModel) -> None:
    head = pocket.model.get_output_embeddings()
    kept = head.weight.data
    try:
        head.weight.data = kept.to(torch.bfloat16)
        assert head not in layers_for_few_rows(pocket)
    finally:
        head.weight.data = kept
