"""The plainer paths: a whole trie as one row under a tree mask, and a row a question."""

from __future__ import annotations

import numpy as np
import torch

from evoprompt.llm.cascade import TokenRow
from evoprompt.llm.model import FrozenModel
from evoprompt.llm.trie import Trie


class PackedRow:
    """One row a candidate: the whole trie, through the model's own attention under a 4-D mask.

    Exact where the model takes such a mask and no context is longer than its sliding window.
    """

    def __init__(self, frozen: FrozenModel, trie: Trie, width: int) -> None:
        self.frozen, self.width = frozen, width
        self.nodes = self.size(trie)
        self.row = TokenRow(frozen, trie, np.arange(len(trie)))
        self.ends = torch.from_numpy(trie.ends).to(frozen.device)
        seen = np.eye(len(trie), dtype=bool)
        for path in trie.paths:
            seen[np.ix_(path, path)] |= np.tri(len(path), dtype=bool)
        mask = torch.full(seen.shape, torch.finfo(frozen.dtype).min, dtype=frozen.dtype)
        self.mask = mask.masked_fill_(torch.from_numpy(seen), 0.0)[None, None].to(frozen.device)

    @staticmethod
    def size(trie: Trie) -> int:
        """Tokens that it computes for one candidate."""
        return len(trie)

    def states(self, prompts: torch.Tensor) -> torch.Tensor:
        """Last hidden states of (width, T, H) prompts at the trie's ends: (width, ends, H)."""
        found = self.frozen.model.get_decoder()(
            inputs_embeds=self.row.with_prompts(prompts),
            attention_mask=self.mask.expand(len(prompts), -1, -1, -1),
            position_ids=self.row.positions.expand(len(prompts), -1),
            use_cache=False,
        )
        return found.last_hidden_state[:, self.ends]


class PaddedRows:
    """A row a distinct token sequence, padded on the right: what every causal model serves.

    `own_head` returns the logits of the model's own forward, (width, ends, vocabulary), instead of states.
    """

    own_head = False

    def __init__(self, frozen: FrozenModel, trie: Trie, width: int) -> None:
        self.frozen, self.width = frozen, width
        nodes = np.full((len(trie.paths), max(len(path) for path in trie.paths)), -1)
        for row, path in zip(nodes, trie.paths, strict=True):
            row[: len(path)] = path
        self.nodes = self.size(trie)
        flat = nodes.reshape(-1)
        self.row = TokenRow(frozen, trie, np.maximum(flat, 0))
        self.shape = nodes.shape
        _, first = np.unique(flat, return_index=True)
        place = dict(zip(flat[first].tolist(), first.tolist(), strict=True))
        self.ends = torch.tensor([place[end] for end in trie.ends.tolist()], device=frozen.device)

    @staticmethod
    def size(trie: Trie) -> int:
        """Tokens that it computes for one candidate, padding included."""
        return len(trie.paths) * max(len(path) for path in trie.paths)

    def states(self, prompts: torch.Tensor) -> torch.Tensor:
        """Last hidden states of (width, T, H) prompts at the trie's ends: (width, ends, H)."""
        inputs = self.row.with_prompts(prompts)
        inputs = inputs.view(len(prompts) * self.shape[0], self.shape[1], -1)
        if self.own_head:
            found = self.frozen.model(inputs_embeds=inputs, use_cache=False).logits
        else:
            found = self.frozen.model.get_decoder()(inputs_embeds=inputs, use_cache=False).last_hidden_state
        return found.reshape(len(prompts), -1, found.shape[-1])[:, self.ends]


class PlainCalls(PaddedRows):
    """A row a sequence and the model's own output head."""

    own_head = True
