"""All questions of a sheet as one trie of tokens, so that whatever they share is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

import numpy as np

from evoprompt.llm.write.sheet import Sheet
from evoprompt.typing import Bools, Indices


@dataclass(frozen=True, eq=False)
class Trie:
    """N nodes, one a token; a node's position in its context is its depth.

    `tokens` (N,) holds token ids, and -1 - t for the t-th soft token. `static` (N,) marks nodes whose context has no
    soft token yet: they are the same for every candidate. `paths` are the nodes of each distinct sequence, from its
    first token to its last. `steps` (K, 3) says how a label's score is put together:
    flat index question * options + label, node that the token is read at, token id.
    """

    tokens: Indices
    depth: Indices
    static: Bools
    paths: tuple[Indices, ...]
    steps: Indices

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def ends(self) -> Indices:
        """Nodes that something is read at, in ascending order."""
        return np.unique(self.steps[:, 1])

    @cached_property
    def dynamic(self) -> int:
        """Nodes that are computed for every candidate anew."""
        return int((~self.static).sum())


def grow(sheet: Sheet, questions: Sequence[int], tokens: int) -> Trie:
    """Put some of a sheet's questions, with their labels, into one trie.

    Parameters
    ----------
    sheet
        Tokenised questions.
    questions
        Indices into it.
    tokens
        Number of soft tokens; with none every node counts as one to compute.
    """
    soft = tuple(range(-1, -1 - tokens, -1))
    children: dict[tuple[int, int], int] = {}
    found: list[int] = []
    depth: list[int] = []
    static: list[bool] = []
    paths: list[Indices] = []
    steps: list[tuple[int, int, int]] = []

    def insert(sequence: tuple[int, ...]) -> list[int]:
        path: list[int] = []
        node, before = -1, len(found)
        for token in sequence:
            child = children.get((node, token))
            if child is None:
                child = len(found)
                children[node, token] = child
                static.append(bool(tokens) and token >= 0 and (node < 0 or static[node]))
                found.append(token)
                depth.append(len(path))
            path.append(child)
            node = child
        if len(found) > before:
            paths.append(np.array(path))
        return path

    for row, question in enumerate(questions):
        context = sheet.before[question] + soft + sheet.after[question]
        labels = sheet.options[question]
        trunk = insert(context)
        for number, label in enumerate(labels):
            path = insert(context + label[:-1]) if len(label) > 1 else trunk
            at = range(len(context) - 1, len(path))
            steps += [(row * len(labels) + number, path[i], token) for i, token in zip(at, label, strict=True)]
    return Trie(np.array(found), np.array(depth), np.array(static, bool), tuple(paths), np.array(steps))


def split(sheet: Sheet, tokens: int, most: int) -> list[list[int]]:
    """Cut a sheet's questions into parts whose tries have at most `most` nodes that a candidate computes.

    Questions that begin alike stay together; a question longer than `most` is a part of its own.
    """
    sequences = [sheet.before[q] + sheet.after[q] for q in range(len(sheet))]
    parts: list[list[int]] = [[]]
    previous: tuple[int, ...] = ()
    size = tokens
    for question in sorted(range(len(sheet)), key=sequences.__getitem__):
        sequence, start = sequences[question], len(sheet.before[question]) if tokens else 0
        length = len(sequence) + sum(len(label) - 1 for label in sheet.options[question])
        alike = takewhile(lambda pair: pair[0] == pair[1], zip(sequence, previous, strict=False))
        shared = sum(1 for _ in alike)
        own = length - max(shared, start) + (tokens if shared < start else 0)
        if parts[-1] and size + own > most:
            parts.append([])
            size, own = tokens, length - start
        parts[-1].append(question)
        size, previous = size + own, sequence
    return [sorted(part) for part in parts]
