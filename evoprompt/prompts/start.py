"""Where a search starts: the soft prompt that z = 0 stands for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from evoprompt.errors import UserError
from evoprompt.llm import FrozenModel
from evoprompt.prompts.vocabulary import drawn_tokens
from evoprompt.typing import Floats

logger = logging.getLogger(__name__)

STARTS = ("auto", "mean", "text", "vocabulary", "expert")
GIVEN_BY = {"text": "init_text", "expert": "init_expert"}  # the option that such a start needs


def resolve_start(options: Mapping[str, Any]) -> str:
    """The start that options ask for; `auto` is by what is given: `init_text`, `init_expert`, else the mean.

    Raises
    ------
    UserError
        What a start needs is not given, or what is given is not used.
    """
    given = [start for start, option in GIVEN_BY.items() if options[option]]
    start = options["init"]
    if start == "auto":
        start = given[0] if given else "mean"
    if start in GIVEN_BY and start not in given:
        raise UserError(f"space.init={start} needs space.{GIVEN_BY[start]}")
    for other in given:
        if other != start:
            raise UserError(f"space.{GIVEN_BY[other]} is given, but space.init={start} does not use it; leave one out")
    return str(start)


def start_prompt(frozen: FrozenModel, options: Mapping[str, Any], seed: int, initial: torch.Tensor | None) -> Floats:
    """The centre (tokens, hidden) of a space with complete options; see `space_for`.

    Where a text or an expert has another number of tokens than `space.tokens`, a warning says what is done.

    Raises
    ------
    UserError
        A text without tokens, or an expert for a model of another width.
    """
    start, tokens, mean = resolve_start(options), options["tokens"], frozen.embedding_statistics[0]
    if start == "text":
        initial = frozen.embed(options["init_text"])
        _say_what_is_used(len(initial), tokens)
    elif start == "vocabulary":
        initial = drawn_tokens(frozen, tokens, seed)
    elif start == "expert":
        if initial is None:
            raise ValueError("space.init=expert needs the expert's soft prompt as `initial`")
        if initial.ndim != 2 or initial.shape[1] != frozen.hidden:
            raise UserError(
                f"the expert {str(options['init_expert'])!r} has soft tokens of width {initial.shape[-1]}, "
                f"model {frozen.spec.name!r} takes {frozen.hidden}; give one that was evolved on this model"
            )
        if len(initial) != tokens:
            logger.warning("the expert's %d soft tokens are all used, not space.tokens=%d", len(initial), tokens)
        tokens = len(initial)
    else:
        initial = None
    return centre_prompt(tokens, mean, initial)


def _say_what_is_used(given: int, tokens: int) -> None:
    """Warn where a text of so many tokens does not fill the soft prompt exactly."""
    length = f"{given} token{'' if given == 1 else 's'}"
    if given > tokens:
        logger.warning("space.init_text has %s, cut to %d; space.tokens=%d takes all of it", length, tokens, given)
    elif 0 < given < tokens:
        logger.warning("space.init_text has %s, repeated to %d; space.tokens=%d takes it once", length, tokens, given)


def centre_prompt(tokens: int, mean: torch.Tensor, initial: torch.Tensor | None = None) -> Floats:
    """The prompt that z = 0 stands for, (tokens, hidden).

    `initial` (m, hidden), soft tokens or the embeddings of real ones, is repeated or cut to `tokens`; without it every
    token is the mean embedding (hidden,).

    Raises
    ------
    UserError
        Fewer than one token, or an empty `initial`.
    """
    if tokens < 1:
        raise UserError(f"space.tokens={tokens} must be at least 1")
    source = mean[None] if initial is None else initial
    if not len(source):
        raise UserError("the text or prompt to start from has no tokens; give some words")
    repeated = source.repeat(-(-tokens // len(source)), 1)[:tokens]
    return np.ascontiguousarray(repeated.float().cpu().numpy())
