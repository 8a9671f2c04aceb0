"""Gumbel noise by which tokens are sampled: a function of its keys alone, whoever is sampled beside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

_GOLDEN, _MIX_1, _MIX_2 = (n - 2**64 for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def gumbel(keys: torch.Tensor, count: int) -> torch.Tensor:
    """Standard Gumbel noise (rows, count) in float32, a function of the keys (rows,) int64 alone.

    A counter-based generator: SplitMix64 (Steele, Lea and Flood 2014), whose state is key + counter * golden ratio.
    """
    counter = torch.arange(1, count + 1, device=keys.device)
    bits = (_mixed(keys[:, None] + counter * _GOLDEN) >> 12) & (2**52 - 1)
    uniform = (bits.double() + 0.5) * 2.0**-52
    return -torch.log(-torch.log(uniform)).float()


def seed_key(*entropy: int) -> int:
    """A key of 64 bits, signed, from numbers that are not negative."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64).view(np.int64)[0])


def step_keys(first: Sequence[int], steps: int) -> list[list[int]]:
    """The keys of so many steps for each of some first keys: the numbers that SplitMix64 gives after them."""
    counter = torch.arange(1, steps + 1)
    found: list[list[int]] = _mixed(torch.tensor(first)[:, None] + counter * _GOLDEN).tolist()
    return found


def _mixed(state: torch.Tensor) -> torch.Tensor:
    """The finaliser of SplitMix64; int64 products wrap, and right shifts are made logical."""
    state = (state ^ ((state >> 30) & (2**34 - 1))) * _MIX_1
    state = (state ^ ((state >> 27) & (2**37 - 1))) * _MIX_2
    return state ^ ((state >> 31) & (2**33 - 1))
