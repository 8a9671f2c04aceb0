"""Whether a model says in running batches what its plain calls say, and which rows it does not mix up."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch

from evoprompt.errors import UserError
from evoprompt.llm.load.memory import is_out_of_memory
from evoprompt.llm.load.model import FrozenModel
from evoprompt.llm.speak.batch import Batch, Row

logger = logging.getLogger(__name__)

KINDS = ("padded", "equal", "single")  # rows of one batch: of any length, of one length, or one alone
PROBED = (24, 5)  # tokens of the rows by which a model is checked
STEPS = 3  # of each of them: the first reads the prompt, the others the cache
SAME = 1e-4  # largest total variation distance between next-token distributions that count as the same, in float32
COARSE, WRONG = 0.1, 0.5  # in half precision: of rows together from each alone, and of these from plain calls

_known: WeakKeyDictionary[FrozenModel, list[tuple[str, range]]] = WeakKeyDictionary()  # what serves which lengths


def check_generation(frozen: FrozenModel) -> None:
    """Make sure, once for each model, that it says after embeddings, token by token, what its plain calls say.

    Raises
    ------
    UserError
        It does not, or memory runs out.
    """
    if frozen in _known:
        return
    name = frozen.spec.name
    said, rows = _probes(frozen, PROBED)
    try:
        alone = torch.cat([_steps(frozen, [row], said) for row in rows])
        plain = torch.stack([_plain_steps(frozen, row, said) for row in rows])
    except Exception as error:  # whatever a model's code makes of embeddings
        if is_out_of_memory(error):
            raise UserError(
                f"model {name!r} runs out of memory on {max(PROBED)} tokens; use a smaller dtype"
            ) from error
        raise UserError(
            f"model {name!r} cannot write answers after a soft prompt ({_reason(error)}); use respondent=options"
        ) from error
    difference = _distance(alone, plain)
    if difference > (SAME if _is_exact(frozen) else WRONG):
        raise UserError(
            f"model {name!r} does not write after a soft prompt what its plain calls say (distributions differ by "
            f"{difference:.1e}); use respondent=options"
        )
    _known[frozen] = []


def rows_together(frozen: FrozenModel, shortest: int, longest: int) -> str:
    """Which rows of these lengths in tokens, soft ones included, one batch may take: one of `KINDS`.

    Some models do not undo padding on the left, some mix the rows of a batch up. Rows of both lengths together are
    compared with each alone; a difference is said once.
    """
    served = _known.setdefault(frozen, [])
    for kind, lengths in served:
        if shortest in lengths and longest in lengths:
            return kind
    said, rows = _probes(frozen, (longest, shortest, shortest))
    alone = torch.cat([_steps(frozen, [row], said) for row in rows])
    kind, reason = KINDS[0], _why_not(frozen, rows, said, alone)
    if reason and not any(other != KINDS[0] for other, _ in served):
        logger.warning(
            "model %s: free text is slower, since it does not take questions of different lengths together (%s)",
            frozen.spec.name,
            reason,
        )
    if reason:
        kind = KINDS[2] if _why_not(frozen, rows[1:], said, alone[1:]) else KINDS[1]
    served.append((kind, range(shortest, longest + 1)))
    return kind


def _why_not(frozen: FrozenModel, rows: list[torch.Tensor], said: torch.Tensor, alone: torch.Tensor) -> str:
    """Why rows cannot be read together; nothing if they can."""
    try:
        difference = _distance(_steps(frozen, rows, said), alone)
    except Exception as error:  # whatever a model's code makes of a padded batch
        return _reason(error)
    exact = difference <= (SAME if _is_exact(frozen) else COARSE)
    return "" if exact else f"distributions differ by {difference:.1e}"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def _is_exact(frozen: FrozenModel) -> bool:
    return frozen.dtype == torch.float32 and frozen.spec.quantization is None


@torch.inference_mode()
def _probes(frozen: FrozenModel, lengths: Sequence[int]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Ids (STEPS,) to be said and embeddings (tokens, H) of rows: tokens of text, always the same."""
    room = max(1, (frozen.max_length or sys.maxsize) - STEPS)
    parts = [STEPS, *(min(length, room) for length in lengths)]
    known = frozen.text_tokens
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(0))
    chosen = known[order[torch.arange(sum(parts)) % len(known)]].to(frozen.device)
    said, *rows = chosen.split(parts)
    return said, [frozen.embeddings(row) for row in rows]


@torch.inference_mode()
def _plain_steps(frozen: FrozenModel, row: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
    """Next-token probabilities (STEPS, vocabulary) in a single call, before each of the tokens said."""
    inputs = torch.cat([row, frozen.embeddings(said)])[None]
    logits = frozen.model(inputs_embeds=inputs, use_cache=False).logits
    return torch.softmax(logits[0, len(row) - 1 : -1].float(), dim=-1)


@torch.inference_mode()
def _steps(frozen: FrozenModel, contexts: list[torch.Tensor], said: torch.Tensor) -> torch.Tensor:
    """The same of rows in one batch, (rows, STEPS, vocabulary)."""
    rows = [Row(context) for context in contexts]
    seen: list[torch.Tensor] = []
    batch = Batch(frozen, rows)
    for token in said.tolist():
        if seen:
            batch.advance()
        seen.append(torch.softmax(torch.stack([row.logits for row in rows]), dim=-1))
        for row in rows:
            row.said.append(token)
    return torch.stack(seen, dim=1)


def _distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest total variation distance; rows that are not finite, whose answers are no answers, are left out."""
    distances = (found - expected).abs().sum(dim=-1) / 2
    known = torch.isfinite(expected).all(dim=-1)
    return float(torch.where(known, distances.nan_to_num(nan=1.0), 0.0).max())
