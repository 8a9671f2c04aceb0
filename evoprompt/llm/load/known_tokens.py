"""Tokens that a model knows: those it has an embedding of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from evoprompt.errors import UserError

__all__ = ["require_known"]


def require_known(tokenizer: Any, ids: Iterable[int], vocabulary: int) -> None:
    """Make sure that the model has an embedding of every token.

    Raises
    ------
    UserError
        It does not; the first such token is named.
    """
    beyond = min((id for id in ids if id >= vocabulary), default=None)
    if beyond is not None:
        raise UserError(
            f"the tokenizer writes {tokenizer.convert_ids_to_tokens(beyond)!r} as token {beyond}, the model has "
            f"{vocabulary} embeddings; leave this text out, or use the model's own tokenizer"
        )
