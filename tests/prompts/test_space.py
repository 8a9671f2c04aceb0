"""Search spaces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evoprompt.errors import UserError
from evoprompt.prompts import FullSpace, RandomProjection, centre_prompt, load_space, make_space, save_space

CENTRE = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
SPACES = [FullSpace(CENTRE, scale=0.5), RandomProjection(CENTRE, scale=0.5, dimensions=6, seed=4)]


@pytest.mark.parametrize("space", SPACES)
def test_zero_is_the_centre(space: FullSpace | RandomProjection) -> None:
    np.testing.assert_array_equal(space.decode(np.zeros((1, space.d)))[0].numpy(), CENTRE)


@pytest.mark.parametrize("space", SPACES)
def test_decoding_does_not_depend_on_how_many_come_together(space: FullSpace | RandomProjection) -> None:
    z = np.random.default_rng(1).normal(size=(17, space.d)).astype(np.float32)
    together = space.decode(z)
    for row, expected in zip(z, together, strict=True):
        assert torch.equal(space.decode(row[None])[0], expected)


@pytest.mark.parametrize("space", SPACES)
def test_a_space_comes_back_from_its_file(space: FullSpace | RandomProjection, tmp_path: Path) -> None:
    save_space(tmp_path / "space.safetensors", space)
    z = np.random.default_rng(2).normal(size=(2, space.d))
    assert torch.equal(load_space(tmp_path / "space.safetensors").decode(z), space.decode(z))


def test_a_projection_has_the_spread_it_promises() -> None:
    space = RandomProjection(np.zeros((8, 64), np.float32), scale=0.3, dimensions=50)
    prompts = space.decode(np.random.default_rng(3).normal(size=(200, 50)))
    assert float(prompts.std()) == pytest.approx(0.3, rel=0.05)


@given(st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_the_full_space_encodes_what_it_decodes(seed: int) -> None:
    space = SPACES[0]
    assert isinstance(space, FullSpace)
    z = np.random.default_rng(seed).uniform(-3, 3, space.d)
    np.testing.assert_allclose(space.encode(space.decode(z[None])[0]), z, atol=1e-5)


def test_wrong_sizes_and_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"z must be \(n, 24\)"):
        SPACES[0].decode(np.zeros((1, 5)))
    with pytest.raises(UserError, match="did you mean random_projection"):
        make_space("random_projektion", CENTRE)
    with pytest.raises(UserError, match=r"space\.scale=-1"):
        make_space("full", CENTRE, scale=-1)
    with pytest.raises(UserError, match="at least 1"):
        centre_prompt(0, torch.zeros(4))


def test_an_initial_text_is_repeated_to_the_number_of_tokens() -> None:
    initial = torch.arange(6.0).reshape(2, 3)
    assert centre_prompt(5, torch.zeros(3), initial)[:, 0].tolist() == [0, 3, 0, 3, 0]
