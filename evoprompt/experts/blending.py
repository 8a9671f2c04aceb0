"""Experts between experts: weighted means of soft prompts."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING

from evoprompt.errors import UserError
from evoprompt.experts.artifact import Expert

if TYPE_CHECKING:
    import torch


def blend(experts: Sequence[Expert], weights: Sequence[float]) -> torch.Tensor:
    """The weighted mean (tokens, hidden) of the experts' soft prompts; weights are made to sum to 1.

    What it answers lies nowhere by right: measure it before believing in it (`python -m evoprompt.experts blend`).

    Raises
    ------
    UserError
        They differ in base model, placement or number of tokens, or the weights are not one each, or not positive.
    """
    sound = all(weight > 0 for weight in weights) and isfinite(sum(weights))
    if len(experts) < 2 or len(weights) != len(experts) or not sound:
        raise UserError(f"{len(experts)} experts with the weights {list(weights)}; give two or more, each a weight > 0")
    for what, values in (
        ("base models", [expert.provenance["base_model"]["fingerprint"] for expert in experts]),
        ("placements", [expert.placement for expert in experts]),
        ("numbers of tokens", [expert.tokens for expert in experts]),
    ):
        if len(set(values)) > 1:
            raise UserError(f"these experts have different {what} ({', '.join(map(str, values))}); blend alike ones")
    import torch

    share = torch.tensor(weights, dtype=torch.float64)
    stacked = torch.stack([expert.prompt for expert in experts])
    return torch.einsum("e,eth->th", (share / share.sum()).float(), stacked)
