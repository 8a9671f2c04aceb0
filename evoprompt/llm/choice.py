"""Which path serves a sheet: the fastest that gives what the model's own calls give."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from evoprompt.llm.model import FrozenModel
from evoprompt.llm.sheet import Sheet

logger = logging.getLogger(__name__)

TOLERANCE = {torch.float32: 1e-4}  # of log-probabilities, between a faster path and the plain one
COARSE = 0.1  # the same in half precision, whose rounding depends on the shape of what is computed together
PROBED = 4  # questions of a sheet that paths are compared on, the longest among them
PLAIN = "plain"
WHOLE = "packed"  # what this path gets wrong depends on all that a row holds

Forward = Callable[[torch.Tensor, Sheet, str], torch.Tensor]  # prompts, sheet, path -> log-scores (P, Q, options)


class PathChoice:
    """Compares paths on random prompts and some questions of the sheet in hand, the longest among them.

    A path that is exact serves later sheets too if they are no longer; a packed row is checked on every question of
    every sheet. The choice is the same in every process: prompts and questions are.
    """

    def __init__(self, frozen: FrozenModel, paths: Sequence[str], forward: Forward) -> None:
        self.frozen, self.paths, self.forward = frozen, paths, forward
        self._exact: dict[tuple[str, bool], int] = {}
        self._whole: tuple[Sheet, int] | None = None  # the sheet that a packed row serves, and its soft tokens
        self._said: set[str] = set()

    def __call__(self, sheet: Sheet, tokens: int) -> str:
        """Name of the path for `sheet` under soft prompts of so many tokens."""
        if self._whole is not None and self._whole[0] is sheet and self._whole[1] == tokens:
            return WHOLE
        longest = max(map(len, map(operator.add, sheet.before, sheet.after))) + tokens
        for path in self.paths:
            if self._exact.get((path, tokens > 0), 0) >= longest:
                return path
        few = _excerpt(sheet)
        path = next(path for path in self.paths if self._is_exact(path, sheet if path == WHOLE else few, tokens))
        if path == WHOLE:
            self._whole = sheet, tokens
        else:
            self._exact[path, tokens > 0] = longest
        return path

    def _is_exact(self, path: str, sheet: Sheet, tokens: int) -> bool:
        if path == PLAIN:
            return True
        prompts = _random_prompts(self.frozen, tokens)
        plain = torch.log_softmax(self.forward(prompts, sheet, PLAIN), dim=-1)
        try:
            found = torch.log_softmax(self.forward(prompts, sheet, path), dim=-1)
        except Exception as error:  # whatever a model's code makes of our call: the next path is tried
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        else:
            difference = float((found - plain).abs().max())
            if difference <= TOLERANCE.get(self.frozen.dtype, COARSE):
                return True
            reason = f"log-probabilities differ by {difference:.1e}"
        if path not in self._said:
            logger.warning("model %s: the %s path does not serve it (%s)", self.frozen.spec.name, path, reason)
            self._said.add(path)
        return False


def _excerpt(sheet: Sheet) -> Sheet:
    """A few questions of a sheet, evenly spread, and the longest."""
    spread = np.linspace(0, len(sheet) - 1, min(len(sheet), PROBED - 1)).astype(int).tolist()
    longest = max(range(len(sheet)), key=lambda question: len(sheet.before[question]) + len(sheet.after[question]))
    chosen = sorted({*spread, longest})

    def of(column: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(column[question] for question in chosen)

    before, after, options = of(sheet.before), of(sheet.after), of(sheet.options)
    return replace(sheet, before=before, after=after, options=options, labels=of(sheet.labels), texts=of(sheet.texts))


def _random_prompts(frozen: FrozenModel, tokens: int) -> torch.Tensor:
    """Two soft prompts (2, T, H) of the embeddings' size, always the same."""
    mean, spread = frozen.embedding_statistics
    noise = torch.randn(2, tokens, frozen.hidden, generator=torch.Generator().manual_seed(0))
    return (mean + spread * noise).to(frozen.device, frozen.dtype)
