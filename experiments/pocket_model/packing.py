"""Documents packed into rows of fixed length, with the mask that keeps texts apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from evoprompt.typing import Bools, Indices
from experiments.pocket_model.corpus import Corpus, Document, SoftTarget


@dataclass
class Row:
    """Token ids, positions, document and branch numbers, and what is to be predicted where."""

    ids: list[int]
    positions: list[int]
    branch: list[int]  # 0 for a prefix
    next_token: list[tuple[int, int]]  # (index, following id)
    answers: list[tuple[int, list[int], list[float]]]  # (index, label ids, probabilities)


@dataclass(frozen=True)
class Batch:
    """Tensors of one training step."""

    ids: torch.Tensor  # (rows, length)
    positions: torch.Tensor  # (rows, length)
    mask: torch.Tensor  # (rows, 1, length, length), True where attention may go
    next_at: torch.Tensor  # (n,) flat indices
    next_id: torch.Tensor  # (n,)
    answer_at: torch.Tensor  # (m,) flat indices
    answer_ids: torch.Tensor  # (m, 5)
    answer_probabilities: torch.Tensor  # (m, 5)


def encode(document: Document, tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator) -> Row:
    """Tokenise one document; an answer is predicted at the token before its label."""
    row = Row([], [], [], [], [])
    _append(row, document.prefix, tokenizer, 0, 0)
    start = len(row.ids)
    for number, branch in enumerate(document.branches, start=1):
        _append(row, branch, tokenizer, number, start)
    if document.language_share < 1:
        row.next_token = [entry for entry in row.next_token if rng.random() < document.language_share]
    return row


_TOKENS: dict[str, list[int]] = {}  # texts repeat a lot


def _tokens(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    if text not in _TOKENS:
        _TOKENS[text] = tokenizer.encode(text)
    return _TOKENS[text]


def _append(
    row: Row, pieces: list[str | SoftTarget], tokenizer: PreTrainedTokenizerFast, branch: int, position: int
) -> None:
    first = len(row.ids)
    for piece in pieces:
        if isinstance(piece, SoftTarget):
            labels = [_tokens(tokenizer, f" {label}")[0] for label in piece.labels]
            row.answers.append((len(row.ids) - 1, labels, piece.probabilities.tolist()))
            ids = _tokens(tokenizer, f" {piece.given}") if piece.given else []
        else:
            ids = _tokens(tokenizer, piece) if piece else []
        for token in ids:
            if len(row.ids) > first and isinstance(piece, str):
                row.next_token.append((len(row.ids) - 1, token))
            row.ids.append(token)
            row.positions.append(position + len(row.ids) - 1 - first)
            row.branch.append(branch)


def batches(corpus: Corpus, tokenizer: PreTrainedTokenizerFast, rows: int, length: int) -> Iterator[Batch]:
    """Endless batches; a document that does not fit into what is left of a row opens the next row."""
    waiting: Row | None = None
    while True:
        packed: list[list[Row]] = []
        for _ in range(rows):
            current: list[Row] = []
            room = length
            while True:
                document = waiting or encode(corpus.draw(), tokenizer, corpus.rng)
                waiting = None
                if len(document.ids) > length:
                    continue
                if len(document.ids) > room:
                    waiting = document
                    break
                current.append(document)
                room -= len(document.ids)
            packed.append(current)
        yield _collate(packed, length)


def _collate(packed: list[list[Row]], length: int) -> Batch:
    shape = (len(packed), length)
    ids, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    document, branch = np.full(shape, -1), np.zeros(shape, np.int64)
    next_token: list[tuple[int, int]] = []
    answers: list[tuple[int, list[int], list[float]]] = []
    for r, current in enumerate(packed):
        at = 0
        for number, row in enumerate(current):
            span = slice(at, at + len(row.ids))
            ids[r, span], positions[r, span], branch[r, span] = row.ids, row.positions, row.branch
            document[r, span] = number
            offset = r * length + at
            next_token += [(offset + i, token) for i, token in row.next_token]
            answers += [(offset + i, labels, probabilities) for i, labels, probabilities in row.answers]
            at += len(row.ids)
    return Batch(
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        mask=torch.from_numpy(tree_mask(document, branch))[:, None],
        next_at=torch.tensor([n[0] for n in next_token]),
        next_id=torch.tensor([n[1] for n in next_token]),
        answer_at=torch.tensor([a[0] for a in answers]),
        answer_ids=torch.tensor([a[1] for a in answers]),
        answer_probabilities=torch.tensor([a[2] for a in answers]),
    )


def tree_mask(document: Indices, branch: Indices) -> Bools:
    """May token i attend to token j? Same document, j not later, and j in the prefix or in i's own branch.

    `document` and `branch` have shape (rows, length); the result (rows, length, length).
    """
    causal = np.tril(np.ones((document.shape[1],) * 2, dtype=bool))
    same = document[:, :, None] == document[:, None, :]
    visible = (branch[:, None, :] == 0) | (branch[:, :, None] == branch[:, None, :])
    return np.asarray(causal & same & visible)
