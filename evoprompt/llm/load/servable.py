"""Whether a soft prompt can stand in a model's context: asked of the model itself, by three calls of a few tokens."""

from __future__ import annotations

from typing import Any

import torch

from evoprompt.errors import UserError

PROBE = 6  # tokens of a row
EXACT, COARSE = 1e-3, 0.05  # differences of logits, relative to their spread; the second for rounded numbers


def require_servable(name: str, model: Any, tokens: torch.Tensor, quantized: bool = False) -> None:
    """Make sure that a model computes from embeddings what it computes from ids, and looks at nothing that follows.

    It is compared on some of `tokens` (n,), ids that stand for text: with fewer than two there is nothing to compare,
    and coarsely where its weights are quantized. `name` is what messages call it.

    Raises
    ------
    UserError
        The model needs token ids beside the embeddings, or its logits at one token depend on the next.
    """
    pad = getattr(model.config.get_text_config(), "pad_token_id", None)
    text = tokens if pad is None else tokens[tokens != pad]  # some models give padding another position
    if len(text) < 2:
        return
    embeddings = model.get_input_embeddings()
    picked = text[torch.linspace(0, len(text) - 1, PROBE + 3).long()[1:-1]].to(embeddings.weight.device)
    ids = picked[:PROBE].repeat(2, 1)
    ids[1, -1] = picked[PROBE]
    tolerance = EXACT if embeddings.weight.dtype == torch.float32 and not quantized else COARSE
    with torch.no_grad():
        by_ids = _logits(model, text, input_ids=ids)
        if _differ(by_ids[0, :-1], by_ids[1, :-1], tolerance):
            raise UserError(
                f"model {name!r} sees what follows a token when it predicts that: it was not made to generate text; "
                "use a causal language model"
            )
        embedded = embeddings(ids)
        try:
            given = _logits(model, text, inputs_embeds=embedded)
            _logits(model, text, inputs_embeds=(embedded[:1] + embedded[:1].flip(1)) / 2)  # no token's
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a model's code makes of a call without ids
            raise _needs_ids(name) from error
    if _differ(given, by_ids, tolerance):
        raise _needs_ids(name)


def _needs_ids(name: str) -> UserError:
    return UserError(
        f"model {name!r} reads token ids beside embeddings, and a soft prompt has none: it cannot be served; "
        "use a model that computes from embeddings alone"
    )


def _logits(model: Any, tokens: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
    """Logits of the tokens that stand for text, in float32: what rows of padding hold may be anything."""
    logits: torch.Tensor = model(**inputs, use_cache=False).logits
    return logits[..., tokens[tokens < logits.shape[-1]].to(logits.device)].float()


def _differ(left: torch.Tensor, right: torch.Tensor, tolerance: float) -> bool:
    """Whether logits (positions, tokens) differ by more than rounding; what is not finite is left out."""
    left = torch.where(torch.isfinite(left - right), left, torch.nan)
    off, own = left - right, left - left.nanmean(dim=-1, keepdim=True)
    return bool(off.square().nanmean().sqrt() > tolerance * own.square().nanmean().sqrt())
