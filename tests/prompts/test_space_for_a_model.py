"""Spaces made for a model: where they start, and how they follow from its embeddings."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch

from evoprompt.errors import UserError
from evoprompt.llm import FrozenModel
from evoprompt.prompts import SPACES, RandomProjection, VocabPCA, centre_prompt, space_for, space_options


@pytest.fixture(scope="module")
def vocabulary(pocket: FrozenModel) -> torch.Tensor:
    """Embeddings of the real tokens."""
    return pocket.token_embeddings(pocket.text_tokens)


def vocab_pca(pocket: FrozenModel, **options: Any) -> VocabPCA:
    space = space_for(pocket, {"kind": "vocab_pca", **options}, seed=0)
    assert isinstance(space, VocabPCA)
    return space


def along(space: VocabPCA, tokens: torch.Tensor) -> np.ndarray:
    """Coordinates (n, components) of tokens (n, hidden) along the directions of a space."""
    steps = (tokens.numpy() - space.centre[0]) / space.scale
    return steps @ space.basis.T / (space.basis**2).sum(axis=1)


@pytest.mark.parametrize("kind", SPACES)
def test_every_kind_starts_at_the_mean_embedding_and_is_the_same_for_a_seed(kind: str, pocket: FrozenModel) -> None:
    space, again = (space_for(pocket, {"kind": kind, "tokens": 2}, seed=3) for _ in range(2))
    np.testing.assert_array_equal(space.centre, np.tile(pocket.embedding_statistics[0].numpy(), (2, 1)))
    z = np.random.default_rng(0).normal(size=(2, space.d))
    assert torch.equal(space.decode(z), again.decode(z))


@pytest.mark.parametrize("kind", ["full", "random_projection", "low_rank"])
def test_the_scale_is_in_units_of_the_embeddings_spread(kind: str, pocket: FrozenModel) -> None:
    space = space_for(pocket, {"kind": kind, "tokens": 4, "scale": 1.5}, seed=0)
    prompts = space.decode(np.random.default_rng(0).normal(size=(400, space.d)))
    spread = pocket.embedding_statistics[1]
    assert float((prompts - torch.from_numpy(space.centre)).std()) == pytest.approx(1.5 * spread, rel=0.1)


def test_a_projection_can_spread_as_the_vocabulary_does_in_each_dimension(
    pocket: FrozenModel, vocabulary: torch.Tensor
) -> None:
    options = {"kind": "random_projection", "tokens": 60, "dimensions": 200, "scale": 1.0, "spread": "dimension"}
    space = space_for(pocket, options, seed=0)
    assert isinstance(space, RandomProjection)
    prompts = space.decode(np.random.default_rng(0).normal(size=(50, space.d)))
    np.testing.assert_allclose(prompts.std(dim=(0, 1)), vocabulary.std(dim=0), rtol=0.2)


def test_vocab_pca_takes_the_leading_principal_directions_scaled_by_their_deviations(
    pocket: FrozenModel, vocabulary: torch.Tensor
) -> None:
    space = vocab_pca(pocket, components=12, scale=1.0)
    values, directions = torch.linalg.svd((vocabulary - vocabulary.mean(dim=0)).double(), full_matrices=False)[1:]
    expected = values[:12, None] / len(vocabulary) ** 0.5 * directions[:12]
    same = (torch.from_numpy(space.basis).double() * expected).sum(dim=1).sign()[:, None]
    np.testing.assert_allclose(space.basis, same * expected, atol=1e-4)
    z = along(space, vocabulary)
    np.testing.assert_allclose(z.std(axis=0), 1.0, rtol=1e-3)


@pytest.mark.parametrize("outside", [0.0, 0.01])
def test_the_bounds_of_vocab_pca_hold_the_vocabularys_own_coordinates_but_for_a_share(
    outside: float, pocket: FrozenModel, vocabulary: torch.Tensor
) -> None:
    space = vocab_pca(pocket, tokens=1, components=12, scale=1.0, outside=outside)
    z = along(space, vocabulary)
    low, high = space.bounds.T
    for beyond in (z < low - 1e-3, z > high + 1e-3):
        np.testing.assert_allclose(beyond.mean(axis=0), outside, atol=1 / len(vocabulary))


@pytest.mark.parametrize("outside", [0.3, 0.45, 0.499])
def test_the_bounds_of_vocab_pca_hold_the_start_however_narrow(outside: float, pocket: FrozenModel) -> None:
    low, high = vocab_pca(pocket, components=12, outside=outside).bounds.T
    assert (low <= 0).all()
    assert (high >= 0).all()
    assert (low < high).all()


def test_with_every_component_each_real_token_is_a_point_of_vocab_pca(
    pocket: FrozenModel, vocabulary: torch.Tensor
) -> None:
    space = vocab_pca(pocket, tokens=1, components=pocket.hidden)
    token = vocabulary[500][None]
    np.testing.assert_allclose(space.decode(along(space, token))[0], token, atol=1e-4)


def test_a_text_starts_the_search_and_naming_it_is_enough(pocket: FrozenModel) -> None:
    for options in ({"init_text": "often"}, {"init": "text", "init_text": "often"}):
        space = space_for(pocket, {"tokens": 3, **options}, seed=0)
        np.testing.assert_array_equal(space.centre, centre_prompt(3, torch.zeros(pocket.hidden), pocket.embed("often")))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("often never", "space.init_text has {n} tokens, repeated to {tokens}; space.tokens={n} takes it once"),
        ("often never", "space.init_text has {n} tokens, cut to {tokens}; space.tokens={n} takes all of it"),
        ("often never", None),
    ],
    ids=["too short", "too long", "just right"],
)
def test_a_text_that_is_cut_or_repeated_is_told(
    text: str, said: str | None, pocket: FrozenModel, caplog: pytest.LogCaptureFixture
) -> None:
    n = len(pocket.embed(text))
    tokens = n if said is None else n + 3 if "repeated" in said else n - 1
    with caplog.at_level(logging.WARNING, logger="evoprompt"):
        space = space_for(pocket, {"tokens": tokens, "init_text": text}, seed=0)
    assert len(space.centre) == tokens
    assert caplog.messages == ([] if said is None else [said.format(n=n, tokens=tokens)])


def test_a_start_from_the_vocabulary_is_real_tokens_that_the_seed_draws(
    pocket: FrozenModel, vocabulary: torch.Tensor
) -> None:
    starts = [space_for(pocket, {"init": "vocabulary", "tokens": 6}, seed).centre for seed in (0, 0, 1)]
    real = [(vocabulary == torch.from_numpy(token)).all(dim=1) for token in starts[0]]
    assert all(matches.any() for matches in real)
    assert not torch.equal(real[0], real[1])
    np.testing.assert_array_equal(starts[0], starts[1])
    assert not np.array_equal(starts[0], starts[2])


def test_an_expert_starts_the_search_with_as_many_tokens_as_it_has(
    pocket: FrozenModel, caplog: pytest.LogCaptureFixture
) -> None:
    prompt = torch.randn(7, pocket.hidden, generator=torch.Generator().manual_seed(0))
    for tokens, said in ((4, ["the expert's 7 soft tokens are all used, not space.tokens=4"]), (7, [])):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="evoprompt"):
            space = space_for(pocket, {"tokens": tokens, "init_expert": "runs/1/expert"}, seed=0, initial=prompt)
        np.testing.assert_array_equal(space.centre, prompt.numpy())
        assert caplog.messages == said


def test_an_expert_that_does_not_fit_is_refused_by_name(pocket: FrozenModel) -> None:
    options = {"init_expert": "runs/1/expert"}
    with pytest.raises(UserError, match=r"'runs/1/expert' has soft tokens of width 64, model 'pocket' takes 128"):
        space_for(pocket, options, seed=0, initial=torch.zeros(2, 64))
    with pytest.raises(UserError, match="nan or inf"):
        space_for(pocket, options, seed=0, initial=torch.full((2, pocket.hidden), torch.nan))


def test_an_initial_text_is_repeated_to_the_number_of_tokens() -> None:
    initial = torch.arange(6.0).reshape(2, 3)
    assert centre_prompt(5, torch.zeros(3), initial)[:, 0].tolist() == [0, 3, 0, 3, 0]
    with pytest.raises(UserError, match="at least 1"):
        centre_prompt(0, torch.zeros(4))
    with pytest.raises(UserError, match="has no tokens"):
        centre_prompt(2, torch.zeros(3), torch.zeros(0, 3))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "vocab_pka"}, "unknown space 'vocab_pka'; did you mean vocab_pca"),
        (
            {"kind": "full", "dimensions": 8},
            r"space\.dimensions belongs to space=random_projection; this is space=full",
        ),
        ({"kind": "full", "limit": 1e39}, r"space\.limit must be a number > 0 and <= 1e\+09, got 1e\+39"),
        ({"kind": "low_rank", "rnak": 8}, "did you mean rank"),
        ({"tokens": 0}, r"space\.tokens must be a whole number >= 1, got 0"),
        ({"kind": "random_projection", "dimensions": 6.5}, r"space\.dimensions must be a whole number >= 1, got 6\.5"),
        ({"kind": "random_projection", "dimensions": True}, r"space\.dimensions must be a whole number >= 1, got True"),
        ({"scale": 0}, r"space\.scale must be a number > 0 and <= 1e\+09, got 0"),
        (
            {"kind": "random_projection", "limit": "wide"},
            r"space\.limit must be a number > 0 .*'wide'",
        ),
        ({"kind": "vocab_pca", "outside": 0.5}, r"space\.outside=0\.5 must be a share"),
        ({"kind": "random_projection", "spread": "dimensions"}, "did you mean dimension"),
        ({"init": "vocab"}, "unknown space.init 'vocab'; did you mean vocabulary"),
        ({"init_text": 3}, r"space\.init_text=3 must be text"),
        ({"init": "text"}, r"space\.init=text needs space\.init_text"),
        ({"init": "expert"}, r"space\.init=expert needs space\.init_expert"),
        ({"init": "mean", "init_text": "often"}, r"space\.init_text is given, but space\.init=mean does not use it"),
        ({"init_text": "often", "init_expert": "here"}, r"space\.init_expert is given, but space\.init=text"),
    ],
)
def test_wrong_options_are_refused_by_name(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        space_options(options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "vocab_pca", "components": 129}, r"space\.components=129 must be at most 128"),
        ({"kind": "low_rank", "rank": 5}, r"space\.rank=5 is more than 4 soft tokens can have"),
    ],
)
def test_options_that_the_model_cannot_meet_are_refused_by_name(
    options: dict[str, Any], said: str, pocket: FrozenModel
) -> None:
    with pytest.raises(UserError, match=said):
        space_for(pocket, options, seed=0)
