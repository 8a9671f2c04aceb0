"""From last hidden states to label scores: only the rows of the output head that are asked for, in float32."""

from __future__ import annotations

from typing import Any

import torch

from evoprompt.llm.load.model import FrozenModel
from evoprompt.llm.score.trie import Trie
from evoprompt.llm.write.sheet import Sheet

CHUNK = 16_384  # rows of the output head at once, where a normaliser needs all of them


class Head:
    """Scores of the labels of one trie.

    A label of one token is scored by its logit: the normaliser is common to a question's labels. The further tokens
    of a longer label are scored by log-probability, and so is every token when `absolute`.
    """

    def __init__(self, frozen: FrozenModel, trie: Trie, sheet: Sheet, questions: int) -> None:
        self.frozen, self.questions = frozen, questions
        device = frozen.device
        flat, node, token = (torch.from_numpy(column) for column in trie.steps.T.copy())
        used = {token for labels in set(sheet.options) for label in labels for token in label}
        tokens = torch.tensor(sorted(used))  # of the whole sheet: a part of it is rounded as the whole is
        self.flat, self.tokens = flat.to(device), tokens.to(device)
        self.column = torch.searchsorted(tokens, token).to(device)
        self.end = torch.searchsorted(torch.from_numpy(trie.ends), node).to(device)
        first = torch.ones(len(flat), dtype=torch.bool)
        first[1:] = flat[1:] != flat[:-1]
        later = torch.nonzero(~first)[:, 0]
        self.normalised = self._ends_of(later), self._ends_of(torch.arange(len(flat)))  # without and with `absolute`
        self.options = int(flat[-1] + 1) // questions
        self.weight, self.bias = self._part(self.tokens)

    def __call__(self, states: torch.Tensor, absolute: bool = False) -> torch.Tensor:
        """Log-scores (c, questions, options) from states (c, ends, H), a constant apart unless `absolute`."""
        scores = self._steps(states.float(), absolute)
        total = torch.zeros(len(states), self.questions * self.options, device=scores.device)
        return total.index_add_(1, self.flat, scores).view(len(states), self.questions, self.options)

    def _steps(self, states: torch.Tensor, absolute: bool) -> torch.Tensor:
        """What each of the trie's steps adds, (c, steps)."""
        scores = self._logits(states, self.weight, self.bias)[:, self.end, self.column]
        wanted, ends, which = self.normalised[absolute]
        if len(wanted):
            scores[:, wanted] -= self._normaliser(states[:, ends])[:, which]
        return scores

    def _ends_of(self, steps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Steps, the ends that they are read at, each once, and which of these is a step's."""
        steps = steps.to(self.end.device)
        return steps, *torch.unique(self.end[steps], return_inverse=True)

    def _part(self, rows: torch.Tensor | slice) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Rows of the output head and of its bias, if there is one, in float32."""
        layer, device = self.frozen.model.get_output_embeddings(), self.frozen.device
        bias = getattr(layer, "bias", None)
        if isinstance(rows, torch.Tensor):
            rows = rows.to(layer.weight.device)
        return layer.weight[rows].float().to(device), None if bias is None else bias[rows].float().to(device)

    def _logits(self, states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        logits = states @ weight.T
        return finish(self.frozen, logits if bias is None else logits + bias)

    def _normaliser(self, states: torch.Tensor) -> torch.Tensor:
        """Log of the sum of all exponentiated logits, (c, ends)."""
        total = torch.full(states.shape[:2], -torch.inf, device=states.device)
        for start in range(0, len(self.frozen.model.get_output_embeddings().weight), CHUNK):
            logits = self._logits(states, *self._part(slice(start, start + CHUNK)))
            total = torch.logaddexp(total, torch.logsumexp(logits, dim=-1))
        return total


class OwnHead(Head):
    """The same from the logits of the model's own forward, (c, ends, vocabulary), for a head that ours misreads."""

    def _steps(self, states: torch.Tensor, absolute: bool) -> torch.Tensor:
        return torch.log_softmax(states, dim=-1)[:, self.end, self.tokens[self.column]]


def finish(frozen: FrozenModel, logits: torch.Tensor) -> torch.Tensor:
    """What architectures do to their logits after the head: scales (Cohere, Granite) and soft-capping (Gemma 2)."""
    config: Any = frozen.model.config.get_text_config()
    scale = getattr(config, "logit_scale", None)
    if isinstance(scale, int | float):
        logits = logits * scale
    logits = logits / (getattr(config, "logits_scaling", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return cap * torch.tanh(logits / cap) if cap else logits
