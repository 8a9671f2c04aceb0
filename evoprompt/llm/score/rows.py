"""The plainer paths: a row a token sequence, of any lengths in one batch or of one length each."""

from __future__ import annotations

import numpy as np
import torch

from evoprompt.llm.load.model import FrozenModel
from evoprompt.llm.score.cascade import TokenRow, decoder
from evoprompt.llm.score.trie import Trie
from evoprompt.typing import Indices


class RowsOf:
    """A row a distinct token sequence, for some of a trie's paths, filled up on the right to the longest of them."""

    def __init__(self, frozen: FrozenModel, trie: Trie, paths: list[Indices]) -> None:
        nodes = np.stack([np.pad(path, (0, max(map(len, paths)) - len(path)), mode="edge") for path in paths])
        self.frozen, self.shape = frozen, nodes.shape
        self.row = TokenRow(frozen, trie, nodes.reshape(-1))
        self.ends, place = np.unique(nodes, return_index=True)
        read = np.isin(self.ends, trie.ends)
        self.ends, self.place = self.ends[read], torch.from_numpy(place[read]).to(frozen.device)

    def states(self, prompts: torch.Tensor, own_head: bool) -> torch.Tensor:
        """Last hidden states, or logits, of (width, T, H) prompts at `ends`: (width, ends, H or vocabulary)."""
        inputs = self.row.with_prompts(prompts)
        inputs = inputs.view(len(prompts) * self.shape[0], self.shape[1], -1)
        if own_head:
            found = self.frozen.model(inputs_embeds=inputs, use_cache=False).logits
        else:
            found = decoder(self.frozen)(inputs_embeds=inputs, use_cache=False).last_hidden_state
        return found.to(self.place.device).reshape(len(prompts), -1, found.shape[-1])[:, self.place]


class PaddedRows:
    """Rows of any lengths in one batch: what every causal model serves whose positions do not depend on the longest."""

    own_head = False

    def __init__(self, frozen: FrozenModel, trie: Trie, width: int) -> None:
        self.width, self.nodes = width, self.size(trie)
        self.batches = [RowsOf(frozen, trie, paths) for paths in self.together(trie)]
        found, first = np.unique(np.concatenate([batch.ends for batch in self.batches]), return_index=True)
        assert np.array_equal(found, trie.ends)
        self.order = torch.from_numpy(first).to(frozen.device)

    @classmethod
    def together(cls, trie: Trie) -> list[list[Indices]]:
        """The paths of each batch."""
        return [list(trie.paths)]

    @classmethod
    def size(cls, trie: Trie) -> int:
        """Tokens that it computes for one candidate, padding included."""
        return sum(len(paths) * max(map(len, paths)) for paths in cls.together(trie))

    def states(self, prompts: torch.Tensor) -> torch.Tensor:
        """What (width, T, H) prompts give at the trie's ends: states (width, ends, H), or logits of the own head."""
        return torch.cat([batch.states(prompts, self.own_head) for batch in self.batches], dim=1)[:, self.order]


class EqualRows(PaddedRows):
    """Batches of rows that are equally long: nothing is padded."""

    @classmethod
    def together(cls, trie: Trie) -> list[list[Indices]]:
        """The paths of each length."""
        lengths = sorted({len(path) for path in trie.paths})
        return [[path for path in trie.paths if len(path) == length] for length in lengths]


class PlainCalls(EqualRows):
    """The model's own forward, with its own output head, on rows that are equally long."""

    own_head = True
