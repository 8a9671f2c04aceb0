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
        self.later = self._normalised(later), self._normalised(torch.arange(len(flat)))  # without and with `absolute`
        self.options = int(flat[-1] + 1) // questions
        layer = frozen.model.get_output_embeddings()
        self.weight = layer.weight[self.tokens.to(layer.weight.device)].float().to(device)
        bias = getattr(layer, "bias", None)
        self.bias = None if bias is None else bias[self.tokens.to(bias.device)].float().to(device)

    def __call__(self, states: torch.Tensor, absolute: bool = False) -> torch.Tensor:
        """Log-scores (c, questions, options) from states (c, ends, H), a constant apart unless `absolute`."""
        logits = states.float() @ self.weight.T
        if self.bias is not None:
            logits = logits + self.bias
        scores = finish(self.frozen, logits)[:, self.end, self.column]
        wanted, ends, which = self.later[absolute]
        if len(wanted):
            scores[:, wanted] -= self._normaliser(states[:, ends].float())[:, which]
        total = torch.zeros(len(states), self.questions * self.options, device=scores.device)
        return total.index_add_(1, self.flat, scores).view(len(states), self.questions, self.options)

    def _normalised(self, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Steps, the ends that they are read at, each once, and which of these is a step's."""
        ends, which = torch.unique(self.end[wanted.to(self.end.device)], return_inverse=True)
        return wanted.to(self.end.device), ends, which

    def _normaliser(self, states: torch.Tensor) -> torch.Tensor:
        """Log of the sum of all exponentiated logits, (c, ends)."""
        layer = self.frozen.model.get_output_embeddings()
        bias = getattr(layer, "bias", None)
        total = torch.full(states.shape[:2], -torch.inf, device=states.device)
        for start in range(0, len(layer.weight), CHUNK):
            logits = states @ layer.weight[start : start + CHUNK].to(states.device).float().T
            if bias is not None:
                logits = logits + bias[start : start + CHUNK].to(states.device).float()
            total = torch.logaddexp(total, torch.logsumexp(finish(self.frozen, logits), dim=-1))
        return total


class OwnHead(Head):
    """The same from the logits of the model's own forward, (c, ends, vocabulary), for a head that ours misreads."""

    def __init__(self, frozen: FrozenModel, trie: Trie, sheet: Sheet, questions: int) -> None:
        super().__init__(frozen, trie, sheet, questions)
        self.column = self.tokens[self.column]

    def __call__(self, states: torch.Tensor, absolute: bool = False) -> torch.Tensor:
        """Log-scores (c, questions, options)."""
        scores = torch.log_softmax(states.float(), dim=-1)[:, self.end, self.column]
        total = torch.zeros(len(states), self.questions * self.options, device=scores.device)
        return total.index_add_(1, self.flat, scores).view(len(states), self.questions, self.options)


def finish(frozen: FrozenModel, logits: torch.Tensor) -> torch.Tensor:
    """What architectures do to their logits after the head: scales (Cohere, Granite) and soft-capping (Gemma 2)."""
    config: Any = frozen.model.config.get_text_config()
    scale = getattr(config, "logit_scale", None)
    if isinstance(scale, int | float):
        logits = logits * scale
    logits = logits / (getattr(config, "logits_scaling", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return cap * torch.tanh(logits / cap) if cap else logits
