"""The frozen model as a survey respondent: option probabilities by one forward pass, nothing generated."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from evoprompt.errors import UserError
from evoprompt.llm.model import FrozenModel
from evoprompt.llm.sheet import Row, Sheet, make_sheet

logger = logging.getLogger(__name__)

TOLERANCE = 1e-3  # of probabilities, between the packed and the plain path
PROBE = tuple(
    f"Respondent {who}.\nOptions: 1 = always; 2 = often; 3 = sometimes; 4 = rarely; 5 = never."
    f"\nQuestion: {what}?\nAnswer:"
    for who in ("one", "two")
    for what in ("How often does it rain", "And the wind", "How often, in all those years, did you see the sea")
)
LAYOUTS = 2  # kept ready; a search uses one over and over
ROW_TOKENS = 40_000  # most tokens of one forward pass: bounds memory; part of the fixed layout


@dataclass
class Respondent:
    """Answers question sheets under soft prompts placed before everything else (prefix placement).

    Questions that begin alike share one row under a tree mask. Once, the packed path is compared with
    the plain one (a row a question) on a random prompt; a model on which they differ is served by the plain path.
    """

    frozen: FrozenModel
    _packed: bool | None = field(default=None, init=False)
    _layouts: dict[tuple[int, int, bool], _Layout] = field(default_factory=dict, init=False)

    def sheet(self, texts: Sequence[str], labels: Sequence[Sequence[str]]) -> Sheet:
        """Tokenise questions once; the sheet may be answered any number of times."""
        return make_sheet(self.frozen.tokenizer, texts, labels)

    def answer(self, soft_prompts: torch.Tensor, sheet: Sheet) -> NDArray[np.float32]:
        """Option probabilities.

        Parameters
        ----------
        soft_prompts
            (P, T, H) embeddings; T = 0 asks the bare model.
        sheet
            Q questions with their option labels.

        Returns
        -------
        ndarray
            (P, Q, options), summing to 1 over the options shown; NaN where the model's output is not finite.

        Raises
        ------
        UserError
            The longest question does not fit into the model's context.
        """
        prompts = soft_prompts.to(self.frozen.device, self.frozen.dtype)
        if prompts.ndim != 3 or prompts.shape[2] != self.frozen.hidden:
            raise ValueError(f"soft prompts must be (P, T, {self.frozen.hidden}), got {tuple(prompts.shape)}")
        if self._packed is None:
            self._packed = self._packing_is_exact()
        return self._forward(prompts, sheet, self._packed)

    def check(self, sheet: Sheet, tokens: int) -> None:
        """Raise the `UserError` that answering `sheet` under soft prompts of so many tokens would raise."""
        _require_room(self.frozen, sheet, tokens)

    @torch.inference_mode()
    def _forward(self, prompts: torch.Tensor, sheet: Sheet, packed: bool) -> NDArray[np.float32]:
        layout = self._layout(sheet, int(prompts.shape[1]), packed)
        logits = torch.empty(len(prompts), *sheet.label_ids.shape)
        for block in layout.blocks:
            logits[:, block.questions] = block.logits(self.frozen, prompts).cpu()
        return np.asarray(torch.softmax(logits, dim=-1).numpy())

    def _layout(self, sheet: Sheet, tokens: int, packed: bool) -> _Layout:
        key = (id(sheet), tokens, packed)  # a layout keeps its sheet alive, so the id stays its own
        if key not in self._layouts:
            while len(self._layouts) >= LAYOUTS:
                self._layouts.pop(next(iter(self._layouts)))
            self._layouts[key] = _Layout(self.frozen, sheet, tokens, packed)
        return self._layouts[key]

    def _packing_is_exact(self) -> bool:
        """Compare both paths, and our output head with the model's own, on one random prompt and fixed questions.

        The questions are the same wherever the model is loaded, so every process decides alike.

        Raises
        ------
        UserError
            Our reading of the output head differs from the model's own logits.
        """
        sheet = self.sheet(PROBE, [("1", "2", "3", "4", "5")] * len(PROBE))
        mean, spread = self.frozen.embedding_statistics
        noise = torch.randn(1, 4, self.frozen.hidden, generator=torch.Generator().manual_seed(0))
        prompt = (mean + spread * noise).to(self.frozen.device, self.frozen.dtype)
        tolerance = TOLERANCE if self.frozen.dtype == torch.float32 else 30 * TOLERANCE
        plain = self._forward(prompt, sheet, False)
        difference = np.abs(plain[0, 0] - self._by_the_models_own_logits(prompt[0], sheet)).max()
        if difference > tolerance:
            raise UserError(
                f"model {self.frozen.spec.name!r} changes its output after the head in a way that is not supported "
                f"(probabilities differ by {difference:.1e}); use another model"
            )
        try:
            difference = np.abs(self._forward(prompt, sheet, True) - plain).max()
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            logger.warning("questions are scored one a row: this model does not take a tree mask (%s)", error)
            return False
        if difference > tolerance:
            logger.warning("questions are scored one a row: packed rows differ by %.1e on this model", difference)
            return False
        return True

    @torch.inference_mode()
    def _by_the_models_own_logits(self, prompt: torch.Tensor, sheet: Sheet) -> NDArray[np.float32]:
        """Option probabilities of the first question by an ordinary call of the model."""
        ids = torch.tensor(sheet.ids[0], device=self.frozen.device)
        inputs = torch.cat([prompt, self.frozen.embeddings(ids)])[None]
        logits = self.frozen.model(inputs_embeds=inputs, use_cache=False).logits[0, -1].float().cpu()
        return np.asarray(torch.softmax(logits[torch.from_numpy(sheet.label_ids[0])], dim=-1).numpy())


def _require_room(frozen: FrozenModel, sheet: Sheet, tokens: int) -> None:
    longest = max(len(ids) for ids in sheet.ids) + tokens
    if frozen.max_length and longest > frozen.max_length:
        raise UserError(
            f"the longest question needs {longest} tokens with its {tokens} soft tokens, the model takes "
            f"{frozen.max_length}; use fewer soft tokens or a shorter wording"
        )


class _Layout:
    """The blocks of rows that one sheet needs for soft prompts of one length; fixed, whoever evaluates."""

    def __init__(self, frozen: FrozenModel, sheet: Sheet, tokens: int, packed: bool) -> None:
        self.sheet = sheet  # kept alive: the cache goes by identity
        _require_room(frozen, sheet, tokens)
        window = getattr(frozen.model.config.get_text_config(), "sliding_window", None)
        rows = sheet.packed() if packed else sheet.plain()
        if packed and window and max(len(row.ids) for row in rows) + tokens > window:
            rows = sheet.plain()
        rows.sort(key=lambda row: len(row.ids))
        self.blocks = [_Block(frozen, part, sheet, tokens) for part in _split(rows, tokens)]


def _split(rows: list[Row], tokens: int) -> list[list[Row]]:
    """Cut rows, sorted by length, where a block would pad more than a fifth or grow past `ROW_TOKENS`."""
    blocks: list[list[Row]] = [[]]
    for row in rows:
        current = blocks[-1]
        length = len(row.ids) + tokens
        used = sum(len(other.ids) + tokens for other in current) + length
        padded = (len(current) + 1) * length
        if current and (padded > 1.25 * used or padded > ROW_TOKENS):
            blocks.append([row])
        else:
            current.append(row)
    return blocks


class _Block:
    """Rows of similar length as one batch: ids, positions, mask and where the answers are read."""

    def __init__(self, frozen: FrozenModel, rows: list[Row], sheet: Sheet, tokens: int) -> None:
        self.tokens = tokens
        self.packed = any(len(row.questions) > 1 for row in rows)
        self.questions = [question for row in rows for question in row.questions]
        length = max(len(row.ids) for row in rows)
        ids, positions = np.zeros((len(rows), length), np.int64), np.zeros((len(rows), length), np.int64)
        branch = np.full((len(rows), length), -1)
        for r, row in enumerate(rows):
            ids[r, : len(row.ids)], positions[r, : len(row.ids)] = row.ids, row.positions
            branch[r, : len(row.ids)] = row.branch
        device = frozen.device
        soft = np.broadcast_to(np.arange(tokens), (len(rows), tokens))
        self.positions = torch.from_numpy(np.hstack([soft, positions + tokens])).to(device)
        self.embedded = frozen.embeddings(torch.from_numpy(ids).to(device))
        self.row_at = torch.tensor([r for r, row in enumerate(rows) for _ in row.ends], device=device)
        self.end_at = torch.tensor([end + tokens for row in rows for end in row.ends], device=device)
        self.label_ids = torch.from_numpy(sheet.label_ids[self.questions]).to(device)
        self.mask = _additive_mask(branch, tokens, frozen.dtype).to(device) if self.packed else None

    def logits(self, frozen: FrozenModel, prompts: torch.Tensor) -> torch.Tensor:
        """Logits of the option labels in float32: prompts (P, T, H) -> (P, questions of the block, options)."""
        per_pass = max(1, ROW_TOKENS // self.positions.numel())
        return torch.cat([self._pass(frozen, part) for part in prompts.split(per_pass)])

    def _pass(self, frozen: FrozenModel, prompts: torch.Tensor) -> torch.Tensor:
        count, rows = len(prompts), len(self.embedded)
        inputs = torch.cat(
            [
                prompts[:, None].expand(-1, rows, -1, -1).flatten(0, 1),
                self.embedded[None].expand(count, -1, -1, -1).flatten(0, 1),
            ],
            dim=1,
        )
        mask = None if self.mask is None else self.mask.repeat(count, 1, 1, 1)
        states = frozen.model.get_decoder()(
            inputs_embeds=inputs,
            attention_mask=mask,
            position_ids=self.positions.repeat(count, 1),
            use_cache=False,
        ).last_hidden_state
        states = states.view(count, rows, *states.shape[1:])[:, self.row_at, self.end_at].float()
        head = frozen.model.get_output_embeddings()
        logits = torch.einsum("pqh,qoh->pqo", states, head.weight[self.label_ids].float())
        if getattr(head, "bias", None) is not None:
            logits = logits + head.bias[self.label_ids].float()
        config = frozen.model.config.get_text_config()
        logits = logits * (getattr(config, "logit_scale", None) or 1.0)
        logits = logits / (getattr(config, "logits_scaling", None) or 1.0)
        cap = getattr(config, "final_logit_softcapping", None)
        return cap * torch.tanh(logits / cap) if cap else logits


def _additive_mask(branch: NDArray[np.int64], tokens: int, dtype: torch.dtype) -> torch.Tensor:
    """Tree mask (rows, 1, L, L): 0 where attention may go, the lowest number elsewhere; every token sees itself."""
    with_soft = np.hstack([np.zeros((len(branch), tokens), np.int64), branch])
    length = with_soft.shape[1]
    causal = np.tril(np.ones((length, length), dtype=bool))
    visible = (with_soft[:, None, :] == 0) | (with_soft[:, :, None] == with_soft[:, None, :])
    allowed = torch.from_numpy(causal & visible)
    mask = torch.full(allowed.shape, torch.finfo(dtype).min, dtype=dtype)
    return mask.masked_fill_(allowed, 0.0)[:, None]
