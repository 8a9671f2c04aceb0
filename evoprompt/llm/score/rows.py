"""The plainer paths: a row a token sequence, of any lengths in one batch or of one length each."""

from __future__ import annotations

import numpy as np
import torch

from evoprompt.llm.load.model import FrozenModel
from evoprompt.llm.score.cascade import TokenRow, decoder
from evoprompt.llm.score.trie import Trie
from evoprompt.typing import Indices


class PaddedRows:
    """Rows of any lengths in one batch: what every causal model serves whose positions do not depend on the longest.

    A row is a path of the trie, filled up on the right to the longest of its batch.
    """

    own_head = False

    def __init__(self, frozen: FrozenModel, trie: Trie, width: int) -> None:
        self.frozen, self.width, self.nodes = frozen, width, self.size(trie)
        self.batches: list[tuple[tuple[int, ...], TokenRow, torch.Tensor]] = []  # shape, tokens, places to read
        found = []
        for paths in self.together(trie):
            longest = max(map(len, paths))
            nodes = np.stack([np.pad(path, (0, longest - len(path)), mode="edge") for path in paths])
            ends, place = np.unique(nodes, return_index=True)
            read = np.isin(ends, trie.ends)
            places = torch.from_numpy(place[read]).to(frozen.device)
            self.batches.append((nodes.shape, TokenRow(frozen, trie, nodes.reshape(-1)), places))
            found.append(ends[read])
        self.order = torch.from_numpy(np.unique(np.concatenate(found), return_index=True)[1]).to(frozen.device)

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
        compute, found = self.frozen.model if self.own_head else decoder(self.frozen), []
        for (rows, tokens), row, places in self.batches:
            inputs = row.with_prompts(prompts).view(len(prompts) * rows, tokens, -1)
            output = compute(inputs_embeds=inputs, use_cache=False)
            given = output.logits if self.own_head else output.last_hidden_state  # [0] may be a loss of a router
            found.append(given.to(places.device).reshape(len(prompts), rows * tokens, -1)[:, places])
        return torch.cat(found, dim=1)[:, self.order]


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
