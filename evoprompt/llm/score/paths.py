"""Which path serves a sheet: the fastest that gives what the model's own calls give, a question at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from evoprompt.llm.load.model import FrozenModel
from evoprompt.llm.write.sheet import Sheet

logger = logging.getLogger(__name__)

EXACT, COARSE = 1e-4, 0.1  # largest difference of a log-probability: in float32, and in half precision
MEAN = {True: EXACT, False: 1e-2}  # and the mean difference, in float32 and in half precision
HEAD = 0.25  # in half precision models round their logits: to an eighth where these are above 16
PROBED = 4  # questions of a sheet that paths are compared on, the shortest and the longest among them
PLAIN = "plain"
EQUAL = "equal"  # as plain, but with our output head: what the others are compared with, and serves nothing

Forward = Callable[[torch.Tensor, Sheet, str, bool], torch.Tensor]  # prompts, sheet, path, absolute -> scores


class PathSelector:
    """Compares paths with single unpadded rows, under random prompts, on some questions of the sheet in hand.

    A path that is exact serves later sheets too if their questions are neither longer nor shorter. Half precision and
    quantization make plain batches differ from single rows too; a path may differ twice as much. What is selected is
    the same in every process: prompts and questions are.

    `paths` are their names, the fastest first and `PLAIN` last: it serves where no other is exact. `forward` computes
    by one of them.
    """

    def __init__(self, frozen: FrozenModel, paths: Sequence[str], forward: Forward) -> None:
        self.frozen, self.paths, self.forward = frozen, paths, forward
        self._served: list[tuple[str, bool, range]] = []
        self._said: set[str] = set()

    def __call__(self, sheet: Sheet, tokens: int) -> str:
        """Name of the path for `sheet` under soft prompts of so many tokens."""
        lengths = [len(before) + tokens + len(after) for before, after in zip(sheet.before, sheet.after, strict=True)]
        for path, soft, known in self._served:
            if soft == (tokens > 0) and min(lengths) in known and max(lengths) in known:
                return path
        path = self._fastest(sheet, tokens, _spread(lengths))
        self._served.append((path, tokens > 0, range(min(lengths), max(lengths) + 1)))
        return path

    def _fastest(self, sheet: Sheet, tokens: int, probed: list[int]) -> str:
        prompts, few = _random_prompts(self.frozen, tokens), _excerpt(sheet, probed)
        precise = self.frozen.dtype == torch.float32
        own, ours = (self._alone(prompts, few, path) for path in (PLAIN, EQUAL))
        wrong = float((own - ours).abs().max())
        if not wrong <= (EXACT if precise else HEAD):
            self._say("it is served by plain calls: our output head's log-probabilities differ by %.1e", wrong)
            return PLAIN
        alone = torch.log_softmax(own if precise else ours, dim=-1)
        noise = (self._together(prompts, few, EQUAL) - alone).abs()
        if float(noise.max()) > EXACT and precise:
            self._say("what is computed beside an answer changes its log-probabilities by %.1e", float(noise.max()))
        for path in self.paths:
            try:
                difference = (self._together(prompts, few, path) - alone).abs()
            except Exception as error:  # whatever a model's code makes of our call: the next path is tried
                logger.debug("the %s path failed", path, exc_info=True)
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            else:
                most = min(COARSE, max(EXACT if precise else COARSE, 2 * float(noise.max())))
                if difference.max() <= most and difference.mean() <= max(MEAN[precise], 2 * float(noise.mean())):
                    return path
                reason = f"log-probabilities differ by up to {float(difference.max()):.1e}"
            self._say(f"the {path} path does not serve it (%s)", reason)
        return PLAIN

    def _alone(self, prompts: torch.Tensor, sheet: Sheet, path: str) -> torch.Tensor:
        """Scores of every prompt and every question in a call of its own."""
        questions = [_excerpt(sheet, [question]) for question in range(len(sheet))]
        return torch.cat(
            [torch.cat([self.forward(prompt[None], one, path, True) for one in questions], 1) for prompt in prompts]
        )

    def _together(self, prompts: torch.Tensor, sheet: Sheet, path: str) -> torch.Tensor:
        """Log-probabilities among a question's labels, computed side by side."""
        return torch.log_softmax(self.forward(prompts, sheet, path, False), dim=-1)

    def _say(self, text: str, value: object) -> None:
        """Warn once."""
        if text not in self._said:
            logger.warning(f"model %s: {text}", self.frozen.spec.name, value)
            self._said.add(text)


def _spread(lengths: Sequence[int]) -> list[int]:
    """A few questions, evenly spread, the shortest and the longest."""
    some = np.linspace(0, len(lengths) - 1, min(len(lengths), PROBED - 2)).astype(int).tolist()
    return sorted({*some, int(np.argmin(lengths)), int(np.argmax(lengths))})


def _excerpt(sheet: Sheet, chosen: Sequence[int]) -> Sheet:
    """Some questions of a sheet."""
    columns = ("before", "after", "options", "labels", "texts")
    parts: dict[str, Any] = {name: tuple(getattr(sheet, name)[q] for q in chosen) for name in columns}
    return replace(sheet, **parts)


def _random_prompts(frozen: FrozenModel, tokens: int) -> torch.Tensor:
    """Two soft prompts (2, T, H) of the embeddings' size, always the same."""
    mean, spread = frozen.embedding_statistics
    noise = torch.randn(2, tokens, frozen.hidden, generator=torch.Generator().manual_seed(0))
    return (mean + spread * noise).to(frozen.device, frozen.dtype)
