"""What the embeddings of a model's vocabulary look like: the measure for prompts that stand among them."""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import eigh

from evoprompt.errors import UserError
from evoprompt.llm import FrozenModel
from evoprompt.typing import Floats

MOST = 16_384  # tokens that statistics are taken from; of a larger vocabulary every so-manieth
PART = 4096  # tokens at a time
DRAW = 29  # tells the draw of tokens from other uses of a run's seed


def drawn_tokens(frozen: FrozenModel, tokens: int, seed: int) -> torch.Tensor:
    """Embeddings (tokens, hidden) of randomly drawn tokens of the vocabulary."""
    ids = frozen.text_tokens
    drawn = np.random.default_rng([seed, DRAW]).integers(len(ids), size=tokens)
    return frozen.token_embeddings(ids[torch.from_numpy(drawn)])


def spread_profile(frozen: FrozenModel) -> Floats:
    """How much each dimension of the vocabulary's embeddings spreads, (hidden,), with a mean square of 1."""
    spread = _sample(frozen).std(dim=0)
    profile: Floats = (spread / spread.pow(2).mean().sqrt()).numpy()
    return profile


def principal_directions(frozen: FrozenModel, components: int, outside: float) -> dict[str, Floats]:
    """The directions in which the vocabulary's embeddings vary most, and its range along each, from the mean.

    The range always holds the mean itself, which a search starts from, however much of the vocabulary is left out.

    Parameters
    ----------
    frozen
        The model.
    components
        How many.
    outside
        The share of the vocabulary that lies beyond the range, on either side.

    Returns
    -------
    dict
        As `VocabPCA` takes them: `basis` (components, hidden), each as long as the standard deviation along it, and the
        range in standard deviations, `low` and `high` (components,).

    Raises
    ------
    UserError
        More directions than the embeddings are wide.
    """
    sample = _sample(frozen)
    most = min(frozen.hidden, len(sample) - 1)
    if components > most:
        raise UserError(
            f"space.components={components} must be at most {most}: the embeddings vary in no more directions"
        )
    mean = sample.mean(dim=0, dtype=torch.float64)
    covariance = torch.zeros(frozen.hidden, frozen.hidden, dtype=torch.float64)
    for part in sample.split(PART):
        away = part.double() - mean
        covariance += away.T @ away
    top = [frozen.hidden - components, frozen.hidden - 1]
    variances, vectors = eigh((covariance / len(sample)).numpy(), subset_by_index=top)
    deviations, directions = np.sqrt(variances[::-1, None]), vectors.T[::-1]
    largest = np.abs(directions).argmax(axis=1)
    directions = directions * np.sign(directions[np.arange(components), largest])[:, None]  # an eigenvector has no sign
    measure = torch.from_numpy((directions / deviations).astype(np.float32))
    along = (sample @ measure.T - frozen.embedding_statistics[0] @ measure.T).numpy()
    low, high = np.quantile(along, [outside, 1 - outside], axis=0).astype(np.float32)
    basis = (deviations * directions).astype(np.float32)
    return {"basis": basis, "low": np.minimum(low, 0), "high": np.maximum(high, 0)}


def _sample(frozen: FrozenModel) -> torch.Tensor:
    ids = frozen.text_tokens
    return frozen.token_embeddings(ids[:: -(-len(ids) // MOST)])
