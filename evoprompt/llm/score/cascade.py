"""The fast path: the model's layers compute every node of a trie once, with our own attention on gathered rows.

What no soft token precedes is computed once and kept; in the last layer only the nodes that are read go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from evoprompt.llm.load.model import FrozenModel
from evoprompt.llm.score.tree_attention import Kind, Rows, TrieAttention, filled, padded
from evoprompt.llm.score.trie import Trie
from evoprompt.typing import Indices

NAME = "evoprompt_cascade"


class _KeysTaken(Exception):  # noqa: N818 (not an error: it ends a layer's call once its keys are there)
    """Raised inside the last layer's attention when all that was wanted are its keys and values."""


class Cascade:
    """Computes the states that one trie is read at, for `width` candidates a pass.

    A pass has one row of M = candidates x nodes tokens. Its attention, registered with transformers'
    `AttentionInterface`, gathers for every branch of the trie the queries of its own nodes and the keys of its path.

    Parameters
    ----------
    frozen
        The model; its attention must go through transformers' `AttentionInterface`.
    trie
        What to compute.
    width
        Candidates of one pass; fewer are filled up, so that rounding never depends on how many came together.
    """

    def __init__(self, frozen: FrozenModel, trie: Trie, width: int) -> None:
        _register()
        self.frozen, self.width = frozen, width
        self.last = last_layer(frozen)
        self.nodes = self.size(trie)
        nodes, ends = filled(np.flatnonzero(~trie.static)), filled(trie.ends)
        self.row = TokenRow(frozen, trie, nodes)
        self.positions = self.row.positions.repeat(1, width)
        if trie.static[trie.ends].any():
            raise ValueError("a trie is read only at nodes that soft tokens precede")
        self.read = len(trie.ends)
        rows = Rows(trie, width)
        self.whole = rows.attention(nodes, frozen.device)
        self.reading = rows.attention(ends, frozen.device)
        self.ends = torch.from_numpy(rows.of_all(rows.number[ends])).to(frozen.device)
        self.static: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        if trie.static.any():
            self._fill_static(trie)

    @staticmethod
    def size(trie: Trie) -> int:
        """Tokens that it computes for one candidate."""
        return padded(trie.dynamic)

    def _fill_static(self, trie: Trie) -> None:
        """Run the static nodes once and keep their keys and values."""
        nodes = np.flatnonzero(trie.static)
        row = TokenRow(self.frozen, trie, nodes)
        recorder = _Pass(Rows(trie, 1, static=True).attention(nodes, self.frozen.device), keep=self.static)
        with recorder.running(self.frozen):
            decoder(self.frozen)(inputs_embeds=row.embedded[None], position_ids=row.positions, use_cache=False)

    def states(self, prompts: torch.Tensor) -> torch.Tensor:
        """Last hidden states of (width, T, H) prompts at the trie's ends: (width, ends, H)."""
        inputs = self.row.with_prompts(prompts).flatten(0, 1)[None]
        run = _Pass(self.whole, self.static)
        with run.running(self.frozen), self._only_ends_through_the_last_layer(run):
            decoded = decoder(self.frozen)(inputs_embeds=inputs, position_ids=self.positions, use_cache=False)
        if run.layers != self.frozen.model.config.get_text_config().num_hidden_layers:
            raise NotImplementedError("not every layer's attention goes through transformers' AttentionInterface")
        states = decoded.last_hidden_state
        found = states.index_select(1, self.ends.to(states.device)).to(self.ends.device)
        return found.view(self.width, -1, found.shape[-1])[:, : self.read]

    @contextmanager
    def _only_ends_through_the_last_layer(self, run: _Pass) -> Iterator[None]:
        if self.last is None:
            yield
            return

        def before(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
            run.take_keys = True
            try:
                layer.forward(*args, **kwargs)
            except _KeysTaken:
                run.attention = self.reading
            return tuple(self._at_ends(value) for value in args), {k: self._at_ends(v) for k, v in kwargs.items()}

        def after(layer: nn.Module, args: tuple[Any, ...], out: Any) -> Any:
            states = out[0] if isinstance(out, tuple) else out
            whole = states.new_zeros(1, self.positions.shape[1], states.shape[-1])
            whole[:, self.ends.to(states.device)] = states  # what follows finds as many tokens as it gave
            return (whole, *out[1:]) if isinstance(out, tuple) else whole

        hooked = self.last.register_forward_pre_hook(before, with_kwargs=True)
        with hooked, self.last.register_forward_hook(after):
            yield

    def _at_ends(self, value: Any) -> Any:
        """A layer's argument, with the pass's tokens cut down to the ends wherever it has a row of them."""
        if isinstance(value, tuple):
            return tuple(self._at_ends(part) for part in value)
        if isinstance(value, torch.Tensor) and value.ndim > 1 and value.shape[:2] == self.positions.shape:
            return value.index_select(1, self.ends.to(value.device))
        return value


class TokenRow:
    """Embeddings and positions of chosen nodes of a trie, with places for soft tokens."""

    def __init__(self, frozen: FrozenModel, trie: Trie, chosen: Indices) -> None:
        tokens, device = trie.tokens[chosen], frozen.device
        self.positions = torch.from_numpy(trie.depth[chosen])[None].to(device)
        self.embedded = frozen.embeddings(torch.from_numpy(np.maximum(tokens, 0)).to(device))
        self.places = torch.from_numpy(np.flatnonzero(tokens < 0)).to(device)
        self.which = torch.from_numpy(-1 - tokens[tokens < 0]).to(device)

    def with_prompts(self, prompts: torch.Tensor) -> torch.Tensor:
        """Embeddings (width, nodes, H) under prompts (width, T, H)."""
        inputs = self.embedded.repeat(len(prompts), 1, 1)
        inputs[:, self.places] = prompts[:, self.which]
        return inputs


@dataclass(eq=False)
class _Pass:
    """What the attention function needs to know during one pass."""

    attention: TrieAttention
    static: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    keep: dict[int, tuple[torch.Tensor, torch.Tensor]] | None = None
    take_keys: bool = False
    taken: tuple[torch.Tensor, torch.Tensor] | None = None
    layers: int = 0  # that came through

    @contextmanager
    def running(self, frozen: FrozenModel) -> Iterator[None]:
        """Let the model's attention go through this pass."""
        config = decoder(frozen).config
        before, token = config._attn_implementation, _running.set(self)
        config._attn_implementation = NAME
        try:
            yield
        finally:
            config._attn_implementation = before
            _running.reset(token)

    def attend(
        self,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        sliding_window: int | None = None,
        softcap: float | None = None,
        s_aux: torch.Tensor | None = None,
        **_: Any,
    ) -> torch.Tensor:
        """Attention of one layer, as transformers calls it; (1, heads, M, D) in, (1, M, heads, D) out."""
        kind = Kind(query.shape[-1] ** -0.5 if scaling is None else scaling, sliding_window, softcap, s_aux)
        k, v = key[0].transpose(0, 1), value[0].transpose(0, 1)
        if self.taken is not None:
            k, v = self.taken
        elif id(module) in self.static:
            k, v = (torch.cat(pair) for pair in zip(self.static[id(module)], (k, v), strict=True))
        if self.keep is not None:
            self.keep[id(module)] = (k.contiguous(), v.contiguous())
        if self.take_keys:
            self.take_keys, self.taken = False, (k, v)
            raise _KeysTaken
        self.layers += 1
        return self.attention.on(query.device).attend(query[0].transpose(0, 1), k, v, kind)


_running: ContextVar[_Pass] = ContextVar("running")


def _attention(*inputs: Any, **options: Any) -> tuple[torch.Tensor, None]:
    return _running.get().attend(*inputs, **options), None


@cache
def _register() -> None:
    """Tell transformers of the attention, once: importing its interface takes two seconds."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attention)


def decoder(frozen: FrozenModel) -> Any:
    """The part of the model below its output head."""
    found = frozen.model.get_decoder()
    return found if found is not frozen.model else frozen.model.model


def last_layer(frozen: FrozenModel) -> nn.Module | None:
    """The last of the decoder's layers, where they can be told from its other parts."""
    layers = decoder(frozen)
    count = layers.config.get_text_config().num_hidden_layers
    stacks = [child for child in layers.children() if isinstance(child, nn.ModuleList) and len(child) == count]
    return stacks[0][-1] if len(stacks) == 1 else None
