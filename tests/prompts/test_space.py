"""Search spaces: what every one of them keeps, and what each promises."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from evoprompt.errors import UserError
from evoprompt.prompts import (
    FullSpace,
    LowRank,
    RandomProjection,
    Space,
    VocabPCA,
    load_space,
    make_space,
    save_space,
)

RNG = np.random.default_rng(0)
CENTRE = RNG.normal(size=(3, 8)).astype(np.float32)
BASIS = np.linalg.qr(RNG.normal(size=(8, 8)))[0][:5].astype(np.float32) * np.arange(5, 0, -1, dtype=np.float32)[:, None]
RANGE = np.array([1.0, 2.0, 3.0, 3.5, 4.0], np.float32)
FULL = FullSpace(CENTRE, scale=0.5)
PROJECTION = RandomProjection(CENTRE, scale=0.5, dimensions=6, seed=4)
PROFILED = RandomProjection(CENTRE, scale=0.5, dimensions=6, seed=4, profile=np.linspace(0.5, 1.4, 8, dtype=np.float32))
PCA = VocabPCA(CENTRE, basis=BASIS, low=-RANGE, high=2 * RANGE, scale=0.7)
LOW_RANK = LowRank(CENTRE, scale=0.5, rank=2)
SPACES = [FULL, PROJECTION, PROFILED, PCA, LOW_RANK]
every_space = pytest.mark.parametrize("space", SPACES, ids=["full", "projection", "profiled", "vocab_pca", "low_rank"])


@every_space
def test_zero_is_the_centre(space: Space) -> None:
    np.testing.assert_array_equal(space.decode(np.zeros((1, space.d)))[0].numpy(), CENTRE)


@every_space
def test_prompts_are_float32_of_the_centres_shape_and_bounds_have_a_row_a_coordinate(space: Space) -> None:
    prompts = space.decode(np.ones((2, space.d)))
    assert prompts.shape == (2, *CENTRE.shape)
    assert prompts.dtype == torch.float32
    assert space.bounds.shape == (space.d, 2)
    assert (space.bounds[:, 0] < 0).all()
    assert (space.bounds[:, 1] > 0).all()


@every_space
def test_decoding_does_not_depend_on_how_many_come_together(space: Space) -> None:
    z = np.random.default_rng(1).normal(size=(17, space.d)).astype(np.float32)
    together = space.decode(z)
    for row, expected in zip(z, together, strict=True):
        assert torch.equal(space.decode(row[None])[0], expected)


@every_space
def test_decoding_does_not_depend_on_the_number_of_threads(space: Space) -> None:
    z, threads = np.random.default_rng(1).normal(size=(5, space.d)), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = space.decode(z)
        torch.set_num_threads(2)
        assert torch.equal(space.decode(z), alone)
    finally:
        torch.set_num_threads(threads)


@every_space
def test_a_space_comes_back_from_its_file(space: Space, tmp_path: Path) -> None:
    save_space(tmp_path / "space.safetensors", space)
    z = np.random.default_rng(2).normal(size=(2, space.d))
    loaded = load_space(tmp_path / "space.safetensors")
    assert torch.equal(loaded.decode(z), space.decode(z))
    np.testing.assert_array_equal(loaded.bounds, space.bounds)


@every_space
def test_a_space_travels_to_another_process(space: Space) -> None:
    z = np.random.default_rng(2).normal(size=(2, space.d))
    before = space.decode(z)
    assert torch.equal(pickle.loads(pickle.dumps(space)).decode(z), before)


def test_a_space_made_with_numpys_numbers_comes_back_from_its_file(tmp_path: Path) -> None:
    options = {"dimensions": np.int64(4), "seed": np.int64(4), "limit": np.float32(2)}
    space = make_space("random_projection", CENTRE, scale=np.float32(0.5), **options)
    save_space(tmp_path / "space.safetensors", space)
    loaded = load_space(tmp_path / "space.safetensors")
    z = np.ones((1, 4), np.float32)
    assert torch.equal(loaded.decode(z), space.decode(z))
    np.testing.assert_array_equal(loaded.bounds, space.bounds)


def test_the_file_of_an_earlier_version_is_a_centre_and_its_metadata(tmp_path: Path) -> None:
    description = {"kind": "random_projection", "scale": 0.5, "dimensions": 6, "seed": 4, "limit": 3.0}
    save_file({"centre": CENTRE}, tmp_path / "old", metadata={"space": json.dumps(description)})
    z = np.random.default_rng(2).normal(size=(2, 6))
    assert torch.equal(load_space(tmp_path / "old").decode(z), PROJECTION.decode(z))


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        ({"weights": CENTRE}, {"space": '{"kind": "full", "scale": 1.0}'}),
        ({"centre": CENTRE}, {"space": '{"kind": "vocab_pca"}'}),
        ({"centre": CENTRE}, {"space": "{"}),
        ({"centre": CENTRE}, {"format": "pt"}),
        ({"centre": CENTRE}, None),
    ],
)
def test_another_file_is_refused_by_name(tensors: dict, metadata: dict | None, tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "other", metadata=metadata)
    with pytest.raises(UserError, match="other is not the file of a search space"):
        load_space(tmp_path / "other")
    with pytest.raises(UserError, match="missing is not the file of a search space"):
        load_space(tmp_path / "missing")


def test_a_file_holds_tensors_and_json_only(tmp_path: Path) -> None:
    save_space(tmp_path / "space", PCA)
    assert set(load_file(tmp_path / "space")) == {"centre", "basis", "low", "high"}
    assert PCA.describe() == json.loads(json.dumps(PCA.describe()))


def test_a_projection_says_how_it_spreads() -> None:
    assert PROJECTION.describe()["spread"] == "overall"
    assert PROFILED.describe()["spread"] == "dimension"


def test_a_step_in_vocab_pca_moves_one_token_along_one_direction() -> None:
    z = np.zeros((1, PCA.d))
    z[0, 5 + 2] = 1.0
    moved = PCA.decode(z)[0].numpy() - CENTRE
    np.testing.assert_allclose(moved[1], 0.7 * BASIS[2], atol=1e-6)
    assert not moved[[0, 2]].any()


def test_low_rank_prompts_differ_from_the_centre_by_so_many_independent_rows() -> None:
    space = LowRank(np.zeros((8, 32), np.float32), scale=0.5, rank=2)
    prompts = space.decode(np.random.default_rng(3).normal(size=(300, space.d)))
    assert set(torch.linalg.matrix_rank(prompts, rtol=1e-4).tolist()) == {2}
    assert space.d == 2 * (8 + 32)
    assert float(prompts.std()) == pytest.approx(0.5, rel=0.05)


def test_a_projection_has_the_spread_it_promises() -> None:
    space = RandomProjection(np.zeros((8, 64), np.float32), scale=0.3, dimensions=50)
    prompts = space.decode(np.random.default_rng(3).normal(size=(200, 50)))
    assert float(prompts.std()) == pytest.approx(0.3, rel=0.05)


def test_a_projection_with_a_profile_spreads_as_much_in_each_dimension() -> None:
    profile = np.array([0.1, 0.5, 1.0, 1.6], np.float32)
    space = RandomProjection(np.zeros((200, 4), np.float32), scale=0.3, dimensions=50, profile=profile)
    prompts = space.decode(np.random.default_rng(3).normal(size=(100, 50)))
    np.testing.assert_allclose(prompts.std(dim=(0, 1)), 0.3 * profile, rtol=0.1)


@every_space
def test_z_of_another_size_is_refused(space: Space) -> None:
    with pytest.raises(ValueError, match=rf"z must be \(n, {space.d}\), got \(1, 5\)"):
        space.decode(np.zeros((1, 5)))


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("random_projektion", {}, "did you mean random_projection"),
        ("full", {"scale": -1}, r"space\.scale must be a number > 0 and <= 1e\+09, got -1"),
        ("full", {"scale": 1.0, "limit": float("nan")}, r"space\.limit must be a number .* got nan"),
        (
            "full",
            {"scale": 1.0, "limit": 1e39},
            r"space\.limit must be a number > 0 and <= 1e\+09, got 1e\+39",
        ),
        ("random_projection", {"scale": 1.0, "dimensions": 0}, r"space\.dimensions must be a whole number >= 1, got 0"),
        ("low_rank", {"scale": 1.0, "rank": 4}, r"space\.rank=4 is more than 3 soft tokens can have"),
    ],
)
def test_wrong_settings_are_refused_by_name(kind: str, options: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        make_space(kind, CENTRE, **options)


@pytest.mark.parametrize("kind", ["full", "random_projection", "low_rank"])
def test_the_largest_numbers_allowed_still_make_finite_prompts(kind: str) -> None:
    own = {"random_projection": {"dimensions": 6}, "low_rank": {"rank": 3}}.get(kind, {})
    space = make_space(kind, CENTRE, scale=1e9, limit=1e9, **own)
    assert torch.isfinite(space.decode(space.bounds.T)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_centre_that_is_not_finite_is_refused(value: float) -> None:
    centre = CENTRE.copy()
    centre[1, 2] = value
    with pytest.raises(UserError, match="nan or inf"):
        make_space("full", centre, scale=1.0)
