"""The frozen model as a survey respondent: option probabilities by forward passes alone, nothing generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch

from evoprompt.errors import unknown_name
from evoprompt.llm.load.memory import TokenBudget
from evoprompt.llm.load.model import FrozenModel
from evoprompt.llm.score.cascade import Cascade
from evoprompt.llm.score.head import Head, OwnHead
from evoprompt.llm.score.paths import EQUAL, PathSelector
from evoprompt.llm.score.rows import EqualRows, PaddedRows, PlainCalls
from evoprompt.llm.score.tree_attention import TOGETHER
from evoprompt.llm.score.trie import grow, split
from evoprompt.llm.write.sheet import PLACEMENTS, Sheet, make_sheet, require_room
from evoprompt.typing import Floats

LAYOUTS = 8  # kept ready; a search uses one or two over and over

PATHS: dict[str, tuple[type[Cascade | PaddedRows], type[Head]]] = {
    "cascade": (Cascade, Head),
    "padded": (PaddedRows, Head),
    "plain": (PlainCalls, OwnHead),
    EQUAL: (EqualRows, Head),
}
"""What computes the states that a trie is read at, and what reads them; the fastest first."""


@dataclass
class Respondent:
    """Answers question sheets under soft prompts.

    Questions share whatever tokens they begin with (`cascade`; see `evoprompt.llm.score.cascade`). A sheet is served
    by the first of `PATHS` that agrees with the model's own calls, a question a row (see `evoprompt.llm.score.paths`).

    Attributes
    ----------
    frozen, placement
        The model, and where soft prompts stand: `prefix`, `system` or `suffix`.
    path
        Name of the path that served last; None until the first answer.
    budget
        Tokens that one pass may compute.
    """

    frozen: FrozenModel
    placement: str = "prefix"
    path: str | None = field(default=None, init=False)
    budget: TokenBudget = field(init=False, repr=False)
    _select: PathSelector = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.placement not in PLACEMENTS:
            raise unknown_name("placement", self.placement, PLACEMENTS)
        self.budget = TokenBudget(self.frozen)
        self._select = PathSelector(self.frozen, [path for path in PATHS if path != EQUAL], self._forward)
        self._layout = lru_cache(LAYOUTS)(self._cut_into_parts)

    def sheet(self, texts: Sequence[str], labels: Sequence[Sequence[str]]) -> Sheet:
        """Tokenise questions once; the sheet may be answered any number of times."""
        return make_sheet(self.frozen.tokenizer, texts, labels, self.placement, len(self.frozen.embeddings.weight))

    def answer(self, soft_prompts: torch.Tensor, sheet: Sheet) -> Floats:
        """Probabilities of every question's options under each soft prompt.

        Parameters
        ----------
        soft_prompts
            (P, T, H) embeddings; T = 0 asks the bare model. Equal ones are computed once.
        sheet
            Q questions with their option labels.

        Returns
        -------
        ndarray
            (P, Q, options), summing to 1 over the options shown; NaN where the model's output is not finite.

        Raises
        ------
        UserError
            The longest question does not fit into the model's context, or a single one not into memory.
        """
        scores = self._log_scores(soft_prompts, sheet, absolute=False)
        return np.asarray(torch.softmax(scores, dim=-1).numpy())

    def answer_with_mass(self, soft_prompts: torch.Tensor, sheet: Sheet) -> tuple[Floats, Floats]:
        """What `answer` gives, and the probability that the model answers with any of the labels at all, (P, Q)."""
        scores = self._log_scores(soft_prompts, sheet, absolute=True)
        mass = torch.logsumexp(scores, dim=-1).exp()
        return np.asarray(torch.softmax(scores, dim=-1).numpy()), np.asarray(mass.numpy())

    def label_mass(self, soft_prompts: torch.Tensor, sheet: Sheet) -> Floats:
        """Probability that the model answers with any of the labels at all, (P, Q)."""
        return self.answer_with_mass(soft_prompts, sheet)[1]

    def check(self, sheet: Sheet, tokens: int) -> None:
        """Raise the `UserError` that answering `sheet` under soft prompts of so many tokens would raise."""
        parts = zip(sheet.before, sheet.after, sheet.options, strict=True)
        lengths = [len(before) + len(after) + max(map(len, labels)) - 1 for before, after, labels in parts]
        require_room(self.frozen.max_length, sheet, lengths, tokens)

    def computed_tokens(self, sheet: Sheet, tokens: int) -> int:
        """Tokens that one candidate of `tokens` soft tokens costs on this sheet."""
        return sum(part.path.nodes for part in self._served(sheet, tokens, 1))

    def pass_tokens(self, sheet: Sheet, tokens: int, candidates: int) -> int:
        """Tokens of the largest forward pass of answering for so many candidates."""
        return max(part.tokens for part in self._served(sheet, tokens, candidates))

    def _log_scores(self, soft_prompts: torch.Tensor, sheet: Sheet, absolute: bool) -> torch.Tensor:
        if soft_prompts.ndim != 3 or soft_prompts.shape[2] != self.frozen.hidden:
            raise ValueError(f"soft prompts must be (P, T, {self.frozen.hidden}), got {tuple(soft_prompts.shape)}")
        if not len(soft_prompts):
            return torch.empty(0, len(sheet), len(sheet.labels[0]))
        prompts = soft_prompts.to(self.frozen.device, self.frozen.dtype)
        distinct, which = _distinct(prompts)
        path = self._path_for(sheet, int(prompts.shape[1]))
        return self._forward(distinct, sheet, path, absolute, measured=True)[which]

    @torch.inference_mode()
    def _forward(
        self, prompts: torch.Tensor, sheet: Sheet, path: str, absolute: bool = False, measured: bool = False
    ) -> torch.Tensor:
        """Log-scores (P, Q, options) on the CPU; a pass that does not fit into memory makes all following smaller."""
        tokens, width = int(prompts.shape[1]), _rounded(len(prompts))
        whole = len(prompts) * sum(map(len, sheet.before + sheet.after))
        while True:
            with self.budget.halved_when_full(path, min(self.budget.limit(path), whole)) as attempt:
                if measured and (path, tokens) not in self.budget.bytes_per_token:
                    self._learn(sheet, tokens, path)
                parts = self._layout(sheet, tokens, path, width)
                attempt.tokens = max(part.tokens for part in parts)
                scores = torch.empty(len(prompts), len(sheet), len(sheet.labels[0]))
                for part in parts:
                    scores[:, part.questions] = part.scores(prompts, absolute).cpu()
                return scores
            self._layout.cache_clear()

    @torch.inference_mode()
    def _learn(self, sheet: Sheet, tokens: int, path: str) -> None:
        """Measure a pass of the candidates that may share rows, or of fewer."""
        first = self._cut_into_parts(sheet, tokens, path, TOGETHER, only=1)[0]
        blank = torch.zeros(1, tokens, self.frozen.hidden, device=self.frozen.device, dtype=self.frozen.dtype)
        self.budget.learn(path, tokens, first.tokens, lambda: first.scores(blank, False))
        self._layout.cache_clear()  # they were cut before the memory was known

    @torch.inference_mode()
    def _cut_into_parts(self, sheet: Sheet, tokens: int, path: str, width: int, only: int | None = None) -> list[_Part]:
        """A sheet's parts, as large as the budget allows a pass of one candidate to be, or `only` so many of them."""
        most = self.budget.limit(path)
        if path == "cascade":
            cuts = split(sheet, tokens, most)
        else:
            lengths = np.array([len(sheet.before[q]) + len(sheet.after[q]) + tokens for q in range(len(sheet))])
            count = max(1, most // int(lengths.max()))
            order = np.argsort(lengths, kind="stable")
            cuts = [order[start : start + count].tolist() for start in range(0, len(order), count)]
        return [_Part(self.frozen, sheet, questions, tokens, path, width, most) for questions in cuts[:only]]

    def _served(self, sheet: Sheet, tokens: int, candidates: int) -> list[_Part]:
        return self._layout(sheet, tokens, self._path_for(sheet, tokens), _rounded(candidates))

    def _path_for(self, sheet: Sheet, tokens: int) -> str:
        self.check(sheet, tokens)
        self.path = self._select(sheet, tokens)
        return self.path


class _Part:
    """Some questions of a sheet, for soft prompts of one length: their trie, its path and its head."""

    def __init__(
        self, frozen: FrozenModel, sheet: Sheet, questions: list[int], tokens: int, path: str, width: int, most: int
    ) -> None:
        self.questions = questions
        computes, reads = PATHS[path]
        trie = grow(sheet, questions, tokens)
        self.head = reads(frozen, trie, sheet, len(questions))
        passes = -(-width // _in_groups(max(1, most // computes.size(trie)), up=False))
        self.path = computes(frozen, trie, _in_groups(-(-width // passes)))
        self.tokens = self.path.width * self.path.nodes  # of one pass

    def scores(self, prompts: torch.Tensor, absolute: bool) -> torch.Tensor:
        """Log-scores (P, questions of the part, options) of prompts (P, T, H)."""
        return torch.cat([self._pass(some, absolute) for some in prompts.split(self.path.width)])

    def _pass(self, prompts: torch.Tensor, absolute: bool) -> torch.Tensor:
        width, count = self.path.width, len(prompts)
        filled = torch.cat([prompts, prompts[-1:].expand(width - count, -1, -1)])
        scores = self.head(self.path.states(filled), absolute)[:count]
        if count > 1 and not bool(torch.isfinite(scores).all()):  # a NaN must not spoil those beside it
            return torch.cat([self._pass(prompt[None], absolute) for prompt in prompts])
        return scores


def _rounded(candidates: int) -> int:
    """A number of candidates that is not smaller; few of them, so that few layouts are built.

    >>> [_rounded(count) for count in (1, 7, 9, 17, 65)]
    [1, 7, 16, 24, 80]
    """
    step = 1 << max(0, candidates.bit_length() - 3)
    return _in_groups(-(-candidates // step) * step)


def _in_groups(candidates: int, up: bool = True) -> int:
    """A number above a group's, made a multiple of it: who shares a row with whom is the same in every pass."""
    if candidates <= TOGETHER:
        return candidates
    return -(-candidates // TOGETHER) * TOGETHER if up else candidates // TOGETHER * TOGETHER


def _distinct(prompts: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
    """Prompts (P, T, H) without repetitions, in order of appearance, and where each of the P is among them."""
    places: dict[bytes, int] = {}
    which = [places.setdefault(row.float().numpy().tobytes(), len(places)) for row in prompts.cpu()]
    first = [which.index(place) for place in range(len(places))]
    return prompts[first], which
