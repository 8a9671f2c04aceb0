"""The frozen model as a survey respondent: option probabilities by forward passes alone, nothing generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from evoprompt.errors import UserError, unknown_name
from evoprompt.llm.load.memory import TokenBudget
from evoprompt.llm.load.model import FrozenModel
from evoprompt.llm.score.cascade import Cascade
from evoprompt.llm.score.head import Head, OwnHead
from evoprompt.llm.score.paths import EQUAL, PathSelector
from evoprompt.llm.score.rows import EqualRows, PaddedRows, PlainCalls
from evoprompt.llm.score.tree_attention import TOGETHER
from evoprompt.llm.score.trie import grow, split
from evoprompt.llm.write.sheet import PLACEMENTS, Sheet, make_sheet
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
    _layouts: dict[tuple[int, int, str, int], list[_Part]] = field(default_factory=dict, init=False, repr=False)
    _select: PathSelector = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.placement not in PLACEMENTS:
            raise unknown_name("placement", self.placement, PLACEMENTS)
        self.budget = TokenBudget(self.frozen)
        self._select = PathSelector(self.frozen, [path for path in PATHS if path != EQUAL], self._forward)

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
        _require_room(self.frozen, sheet, tokens)

    def computed_tokens(self, sheet: Sheet, tokens: int) -> int:
        """Tokens that one candidate of `tokens` soft tokens costs on this sheet."""
        return sum(part.path.nodes for part in self._served(sheet, tokens, 1))

    def pass_tokens(self, sheet: Sheet, tokens: int, candidates: int) -> int:
        """Tokens of the largest forward pass of answering for so many candidates."""
        return max(part.tokens for part in self._served(sheet, tokens, candidates))

    def predicted_peak_bytes(self, sheet: Sheet, tokens: int, candidates: int) -> int:
        """Memory above the weights that answering for so many candidates is expected to take at its peak."""
        path = self._path_for(sheet, tokens)
        if (path, tokens) not in self.budget.bytes_per_token:
            self.answer(torch.zeros(1, tokens, self.frozen.hidden), sheet)
        return round(self.pass_tokens(sheet, tokens, candidates) * self.budget.bytes_per_token[path, tokens])

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
        tokens = int(prompts.shape[1])
        whole = len(prompts) * sum(map(len, sheet.before + sheet.after))
        while True:
            with self.budget.halved_when_full(path, min(self.budget.limit(path), whole)) as attempt:
                if measured and (path, tokens) not in self.budget.bytes_per_token:
                    self._learn(sheet, tokens, path)
                parts = self._parts(sheet, tokens, path, len(prompts))
                attempt.tokens = max(part.tokens for part in parts)
                scores = torch.empty(len(prompts), len(sheet), len(sheet.labels[0]))
                for part in parts:
                    scores[:, part.questions] = part.scores(prompts, absolute).cpu()
                return scores
            self._layouts.clear()

    def _parts(self, sheet: Sheet, tokens: int, path: str, candidates: int) -> list[_Part]:
        width = _rounded(candidates)
        key = (id(sheet), tokens, path, width)  # a part keeps its sheet alive, so the id stays its own
        layout = self._layouts.pop(key, None) or self._build(sheet, tokens, path, width)
        self._layouts[key] = layout  # the last one used is the last to go
        while len(self._layouts) > LAYOUTS:
            self._layouts.pop(next(iter(self._layouts)))
        return layout

    @torch.inference_mode()
    def _learn(self, sheet: Sheet, tokens: int, path: str) -> None:
        """Measure a pass of the candidates that may share rows, or of fewer."""
        part, most = self._cut(sheet, tokens, path)[0], self.budget.limit(path)
        first = _Part(self.frozen, sheet, part, tokens, path, TOGETHER, most)
        blank = torch.zeros(1, tokens, self.frozen.hidden, device=self.frozen.device, dtype=self.frozen.dtype)
        self.budget.learn(path, tokens, first.tokens, lambda: first.scores(blank, False))
        self._layouts.clear()  # they were cut before the memory was known

    @torch.inference_mode()
    def _build(self, sheet: Sheet, tokens: int, path: str, width: int) -> list[_Part]:
        """Cut a sheet into parts, as large as the budget allows."""
        cuts, most = self._cut(sheet, tokens, path), self.budget.limit(path)
        return [_Part(self.frozen, sheet, questions, tokens, path, width, most) for questions in cuts]

    def _cut(self, sheet: Sheet, tokens: int, path: str) -> list[list[int]]:
        """Parts of a sheet that one pass of one candidate may compute."""
        most = self.budget.limit(path)
        if path == "cascade":
            return split(sheet, tokens, most)
        lengths = np.array([len(sheet.before[q]) + len(sheet.after[q]) + tokens for q in range(len(sheet))])
        count = max(1, most // int(lengths.max()))
        order = np.argsort(lengths, kind="stable")
        return [order[start : start + count].tolist() for start in range(0, len(order), count)]

    def _served(self, sheet: Sheet, tokens: int, candidates: int) -> list[_Part]:
        return self._parts(sheet, tokens, self._path_for(sheet, tokens), candidates)

    def _path_for(self, sheet: Sheet, tokens: int) -> str:
        _require_room(self.frozen, sheet, tokens)
        self.path = self._select(sheet, tokens)
        return self.path


class _Part:
    """Some questions of a sheet, for soft prompts of one length: their trie, its path and its head."""

    def __init__(
        self, frozen: FrozenModel, sheet: Sheet, questions: list[int], tokens: int, path: str, width: int, most: int
    ) -> None:
        self.sheet, self.questions = sheet, questions  # the sheet is kept alive: layouts go by its identity
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


def _require_room(frozen: FrozenModel, sheet: Sheet, tokens: int) -> None:
    def length(question: int) -> int:
        longest = max(len(label) for label in sheet.options[question]) - 1
        return len(sheet.before[question]) + tokens + len(sheet.after[question]) + longest

    worst = max(range(len(sheet)), key=length)
    if frozen.max_length and length(worst) > frozen.max_length:
        text = " ".join(sheet.texts[worst].split())
        raise UserError(
            f"the longest question needs {length(worst)} tokens with its {tokens} soft tokens, the model takes "
            f"{frozen.max_length}; use fewer soft tokens or a shorter wording than {text[-120:]!r}"
        )
