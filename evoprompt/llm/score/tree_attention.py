"""Attention over a trie: for every path of it, the queries of its own nodes and the keys of the whole path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from evoprompt.llm.score.trie import Trie
from evoprompt.typing import Indices

LANES = 16  # sizes are multiples of it, so that sums are rounded alike whatever they are computed beside
TOGETHER = 8  # candidates that share a row at most, where most of its keys are the same for all
PADDING = 1.3  # rows of one bucket may together be so much longer than what they hold
Row = tuple[Indices, Indices, Indices]  # queries, keys, distances


@dataclass(eq=False)
class Bucket:
    """One bucket: R rows of up to Lq queries and Lk keys.

    `queries` (R, Lq) index the pass's tokens, `keys` (R, Lk) static nodes and then the pass's tokens; `distance`
    (R, Lq, Lk) is how many tokens a key lies before a query, negative where it must not be seen.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    distance: torch.Tensor
    masks: dict[tuple[int | None, int, torch.dtype], torch.Tensor] = field(default_factory=dict, init=False)

    def mask(self, window: int | None, groups: int, dtype: torch.dtype) -> torch.Tensor:
        """Additive mask (R, 1, Lq * groups, Lk)."""
        key = (window, groups, dtype)
        if key not in self.masks:
            seen = self.distance >= 0
            if window is not None:
                seen &= self.distance < window
            mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
            mask.masked_fill_(~seen, torch.finfo(dtype).min)
            self.masks[key] = mask.repeat_interleave(groups, dim=1)[:, None]
        return self.masks[key]


class Kind(NamedTuple):
    """What one layer's attention does to its scores: scale, sliding window, soft cap, sinks (heads,) beside them."""

    scaling: float
    window: int | None
    cap: float | None
    sinks: torch.Tensor | None


@dataclass(eq=False)
class TrieAttention:
    """Attention of some tokens of a pass: buckets of rows, and where each token's result is found in them."""

    buckets: list[Bucket]
    order: torch.Tensor
    elsewhere: dict[torch.device, TrieAttention] = field(default_factory=dict, init=False)

    def on(self, device: torch.device) -> TrieAttention:
        """The same on a device: a large model's layers may be on several."""
        if device == self.order.device:
            return self
        if device not in self.elsewhere:
            parts = [(bucket.queries, bucket.keys, bucket.distance) for bucket in self.buckets]
            moved = [Bucket(*(tensor.to(device) for tensor in part)) for part in parts]
            self.elsewhere[device] = TrieAttention(moved, self.order.to(device))
        return self.elsewhere[device]

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, kind: Kind) -> torch.Tensor:
        """q (A, heads, D), k and v (S + M, key heads, D) -> (1, A, heads, D)."""
        parts = [_attend(bucket, q, k, v, kind).flatten(0, 1) for bucket in self.buckets]
        together = torch.cat(parts) if len(parts) > 1 else parts[0]
        return together.index_select(0, self.order)[None]


def _attend(bucket: Bucket, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, kind: Kind) -> torch.Tensor:
    """Results (R, Lq, heads, D). Queries that share a key head lie beside each other: keys are never repeated."""
    count, length = bucket.queries.shape
    heads, shared = q.shape[1], k.shape[1]
    groups = heads // shared
    query = q.index_select(0, bucket.queries.flatten()).view(count, length, shared, groups, -1)
    query = query.transpose(1, 2).reshape(count, shared, length * groups, -1)
    key = k.index_select(0, bucket.keys.flatten()).view(count, -1, *k.shape[1:]).transpose(1, 2)
    value = v.index_select(0, bucket.keys.flatten()).view(count, -1, *v.shape[1:]).transpose(1, 2)
    mask = bucket.mask(kind.window, groups, q.dtype)
    if kind.cap is None and kind.sinks is None:
        out = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=kind.scaling)
    else:
        out = _weights(query @ key.transpose(2, 3) * kind.scaling, mask, kind).to(value.dtype) @ value
    return out.view(count, shared, length, groups, -1).transpose(1, 2).reshape(count, length, heads, -1)


def _weights(scores: torch.Tensor, mask: torch.Tensor, kind: Kind) -> torch.Tensor:
    """What SDPA has no room for: soft-capped scores (R, key heads, Lq * groups, Lk), and sinks that take a share."""
    if kind.cap is not None:
        scores = torch.tanh(scores / kind.cap) * kind.cap
    scores = scores + mask
    if kind.sinks is None:
        return torch.softmax(scores, dim=-1, dtype=torch.float32)
    rows, shared, queries, _ = scores.shape
    sinks = kind.sinks.view(1, shared, 1, -1).expand(rows, -1, queries * shared // len(kind.sinks), -1)
    beside = torch.cat([scores, sinks.reshape(rows, shared, queries, 1)], dim=-1)
    return torch.softmax(beside, dim=-1, dtype=torch.float32)[..., :-1]


class Rows:
    """Cuts a trie's paths into rows and rows into buckets."""

    def __init__(self, trie: Trie, width: int, static: bool = False) -> None:
        """For a pass of `width` candidates, or for the one that computes the static nodes."""
        self.trie, self.width = trie, width
        before = int(trie.static.sum())
        self.number = np.where(trie.static, np.cumsum(trie.static), np.cumsum(~trie.static)) - 1
        self.count = 0 if static else before  # of nodes whose keys come before those of the pass
        self.nodes = before if static else padded(trie.dynamic)

    def of_all(self, tokens: Indices) -> Indices:
        """A candidate's tokens as those of all candidates of the pass, one after the other."""
        return (np.arange(self.width)[:, None] * self.nodes + tokens).reshape(-1)

    def attention(self, nodes: Indices, device: torch.device) -> TrieAttention:
        """Rows that compute attention once for each of `nodes`; results come in their order, a candidate at a time."""
        todo = np.zeros(len(self.trie), bool)
        todo[nodes] = True
        outputs = self.of_all(self.number[nodes])
        rows: list[Row] = []
        for path in self.trie.paths:
            own = np.flatnonzero(todo[path])
            if len(own):
                todo[path] = False
                rows += self._rows(path[: own[-1] + 1], path[own])
        tokens, rank = np.unique(outputs, return_index=True)
        buckets, places = [], []
        for part in _alike(rows):
            queries, keys, distance = (_stack([row[i] for row in part]) for i in range(3))
            keys = np.where(keys < 0, keys[:, :1], keys)  # never a neighbour's, which may hold NaN
            distance[..., 0] = np.where((distance < 0).all(axis=-1), 0, distance[..., 0])  # padding sees something
            places_of = np.where(queries < 0, 0, rank[np.searchsorted(tokens, queries)])
            on_device = [torch.from_numpy(array).to(device) for array in (places_of, keys, distance)]
            buckets.append(Bucket(*on_device))
            places.append(queries.reshape(-1))
        flat = np.concatenate(places)
        filled = np.flatnonzero(flat >= 0)
        place = filled[np.argsort(flat[filled], kind="stable")]  # of each of `tokens`
        return TrieAttention(buckets, torch.from_numpy(place[np.searchsorted(tokens, outputs)]).to(device))

    def _rows(self, path: Indices, own: Indices) -> list[Row]:
        """Rows of one branch: candidates share one while their own keys are few beside the static ones."""
        depth, number = self.trie.depth, self.number
        fixed = self.trie.static[path] if self.count else np.zeros(len(path), bool)
        away = depth[own][:, None] - depth[path][None]
        together = 1
        while 2 * together <= min(self.width, TOGETHER) and 2 * together * (~fixed).sum() <= fixed.sum():
            together *= 2
        rows: list[Row] = []
        for first in range(0, self.width, together):
            shift = np.arange(first, min(first + together, self.width))[:, None] * self.nodes
            same = np.eye(len(shift), dtype=bool)[:, None, :, None]
            near = np.where(same, away[:, ~fixed][None, :, None, :], -1).reshape(len(shift) * len(own), -1)
            distance = np.concatenate([np.tile(away[:, fixed], (len(shift), 1)), near], axis=1)
            keys = np.concatenate([number[path[fixed]], (self.count + number[path[~fixed]] + shift).reshape(-1)])
            rows.append(((number[own] + shift).reshape(-1), keys, distance))
        return rows


def padded(size: int) -> int:
    """The next multiple of `LANES`."""
    return -(-size // LANES) * LANES


def filled(nodes: Indices) -> Indices:
    """Nodes, the last one repeated up to a multiple of `LANES`."""
    return np.pad(nodes, (0, -len(nodes) % LANES), mode="edge")


def _alike(rows: list[Row]) -> list[list[Row]]:
    """Sort rows by size and cut them where a bucket would be padded too much."""
    buckets: list[list[Row]] = [[]]
    used = 0
    for row in sorted(rows, key=lambda row: (len(row[0]), len(row[1]))):
        area = row[2].size
        longest = max([len(other[1]) for other in buckets[-1]] + [len(row[1])])
        if buckets[-1] and (len(buckets[-1]) + 1) * len(row[0]) * longest > PADDING * (used + area):
            buckets.append([])
            used = 0
        buckets[-1].append(row)
        used += area
    return buckets


def _stack(arrays: Sequence[Indices]) -> Indices:
    """Stack arrays of one number of axes, padded with -1 at their ends to the largest."""
    shape = [padded(size) for size in np.max([array.shape for array in arrays], axis=0)]
    out = np.full((len(arrays), *shape), -1)
    for row, array in zip(out, arrays, strict=True):
        row[tuple(slice(size) for size in array.shape)] = array
    return out
