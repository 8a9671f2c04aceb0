"""Rows that a model reads together, a token of each at a time, with one key-value cache."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from evoprompt.llm.load.model import FrozenModel

MOST_ROWS = 8  # for so many at most `(w @ x.T).T` is two to five times faster in PyTorch's CPU builds than `x @ w.T`
LEAST_WEIGHTS = 2**17  # of a layer: smaller ones are done before the detour is


@dataclass(eq=False)
class Row:
    """Embeddings (tokens, H) that a row begins with, the ids said after them, and the logits of the next (vocabulary,).

    `done` says that nobody waits for what it says any more.
    """

    context: torch.Tensor
    said: list[int] = field(default_factory=list)
    logits: torch.Tensor = field(default_factory=lambda: torch.empty(0), init=False)
    done: bool = field(default=False, init=False)

    @property
    def length(self) -> int:
        """Tokens so far."""
        return len(self.context) + len(self.said)

    def whole(self, frozen: FrozenModel) -> torch.Tensor:
        """Embeddings (length, H) of all of them."""
        said = torch.tensor(self.said, dtype=torch.long, device=frozen.device)
        return torch.cat([self.context, frozen.embeddings(said)])


class Batch:
    """Rows with one key-value cache, padded on the left with explicit positions; once read, each has its logits."""

    def __init__(self, frozen: FrozenModel, rows: Sequence[Row]) -> None:
        self.frozen, self.rows, self._layers = frozen, list(rows), layers_for_few_rows(frozen)
        known = inspect.signature(frozen.model.forward).parameters
        self._positions = "position_ids" in known
        self._keeps = "past_key_values" in known  # others, such as Mamba, read everything again at each step
        self._last = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
        self.cache: Any = None
        self.mask = torch.empty(0)  # which tokens are not padding, (rows, tokens)
        self._read()

    @property
    def joinable(self) -> bool:
        """Whether rows can be put in and taken out: all layers keep plain keys and values."""
        from transformers.cache_utils import DynamicCache, DynamicLayer

        return type(self.cache) is DynamicCache and all(type(layer) is DynamicLayer for layer in self.cache.layers)

    def merge(self, other: Batch) -> None:
        """Take the rows of another batch in; both are joinable."""
        width = max(self.mask.shape[1], other.mask.shape[1])
        for own, new in zip(self.cache.layers, other.cache.layers, strict=True):
            own.keys = torch.cat([_widened(own.keys, width, -2), _widened(new.keys, width, -2)])
            own.values = torch.cat([_widened(own.values, width, -2), _widened(new.values, width, -2)])
        self.mask = torch.cat([_widened(self.mask, width, -1), _widened(other.mask, width, -1)])
        self.rows = self.rows + other.rows
        self._select([*range(len(self.rows))])

    def drop_done(self) -> None:
        """Go on without the rows that are done; a cache that cannot give any up keeps all until none is wanted."""
        places = [place for place, row in enumerate(self.rows) if not row.done]
        if len(places) == len(self.rows) or (places and not self.joinable):
            return
        self.rows = [self.rows[place] for place in places]
        if self.rows:
            self._select(places)

    def _select(self, places: list[int]) -> None:
        """Let these places of mask and cache be the batch's rows."""
        mask = self.mask[places]
        unused = int((mask.cumsum(dim=1) == 0).all(dim=0).sum())  # columns on the left that nobody reads
        self.mask = mask[:, unused:]
        for layer in self.cache.layers:
            layer.keys, layer.values = (part[places][:, :, unused:] for part in (layer.keys, layer.values))

    def advance(self) -> None:
        """Read the last token that was said in each row."""
        if not self._keeps:
            self._read()
            return
        ids = [row.said[-1] if row.said else 0 for row in self.rows]
        tokens = torch.tensor(ids, device=self.frozen.device)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(ids), 1)], dim=1)
        self._forward(self.frozen.embeddings(tokens)[:, None], self.mask.sum(dim=1, keepdim=True) - 1)

    def _read(self) -> None:
        """Read whole rows."""
        rows = [row.whole(self.frozen) for row in self.rows]
        ones = [torch.ones(len(row), dtype=torch.long, device=row.device) for row in rows]
        self.mask = pad_sequence(ones, batch_first=True, padding_side="left")
        padded = pad_sequence(rows, batch_first=True, padding_side="left")
        self._forward(padded, (self.mask.cumsum(dim=1) - 1).clamp(min=0))

    def _forward(self, embedded: torch.Tensor, positions: torch.Tensor) -> None:
        placed = {"position_ids": positions} if self._positions else {}
        kept = {"past_key_values": self.cache} if self._keeps else {}
        with few_rows(self._layers):
            found = self.frozen.model(
                inputs_embeds=embedded,
                attention_mask=self.mask,
                use_cache=self._keeps,
                **kept,
                **placed,
                **self._last,
            )
        self.cache = getattr(found, "past_key_values", None) if self._keeps else None
        self._keeps = self.cache is not None
        for row, logits in zip(self.rows, found.logits[:, -1].float(), strict=True):
            row.logits = logits


def _widened(part: torch.Tensor, width: int, dim: int) -> torch.Tensor:
    """The same with zeros on the left of a dimension, the last or the one before."""
    missing = width - part.shape[dim]
    return pad(part, (0, 0, missing, 0) if dim == -2 else (missing, 0)) if missing else part


class FewRowsLinear(nn.Linear):
    """A linear layer that multiplies a few rows the other way round; the results differ in their last bits."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As `nn.Linear` has it: (..., in) -> (..., out)."""
        count = input.numel() // self.in_features
        if count > MOST_ROWS or count == 0:
            return super().forward(input)
        rows = input.reshape(count, self.in_features)
        if count == 1:
            rows = torch.cat([rows, rows])
        product = (self.weight @ rows.T)[:, :count].T.contiguous()
        if self.bias is not None:
            product += self.bias
        return product.view(*input.shape[:-1], self.out_features)


def layers_for_few_rows(frozen: FrozenModel) -> list[nn.Linear]:
    """The layers of a model that gain by it: large ones in float32 on a CPU."""
    return [
        layer
        for layer in frozen.model.modules()
        if type(layer) in (nn.Linear, FewRowsLinear)
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype == torch.float32
        and layer.weight.numel() >= LEAST_WEIGHTS
    ]


@contextmanager
def few_rows(layers: list[nn.Linear]) -> Iterator[None]:
    """Let layers multiply a few rows the fast way meanwhile."""
    for layer in layers:
        layer.__class__ = FewRowsLinear
    try:
        yield
    finally:
        for layer in layers:
            layer.__class__ = nn.Linear
