"""The ways of answering a survey that the throughput benchmark compares, and the check that they all give one answer.

An arm is called with (candidate, question) pairs and returns log-probabilities of the options, (pairs, options).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch.nn.utils.rnn import pad_sequence

from evoprompt.errors import UserError
from evoprompt.llm import FrozenModel, Respondent, Sheet

__all__ = ["Arm", "Generate", "Inputs", "Ours", "Padded", "Pairs", "Pure", "require_equal"]

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 2e-2}
"""Most that a log-probability may differ from the literal reference.

Where the model's own output head rounds logits to its dtype, that rounding comes on top: it moves a log-probability by
up to the dtype's epsilon times the largest logit.
"""

Pairs = Sequence[tuple[int, int]]


class Inputs:
    """P soft prompts (P, T, H) and the Q questions of a sheet.

    Raises
    ------
    UserError
        A label takes several tokens: one forward pass of the other arms does not score it.
    """

    def __init__(self, frozen: FrozenModel, sheet: Sheet, prompts: torch.Tensor) -> None:
        if any(len(label) != 1 for labels in sheet.options for label in labels):
            raise UserError("the arms of this benchmark need labels of one token each in this tokenizer")
        self.frozen, self.sheet, self.prompts = frozen, sheet, prompts.to(frozen.device, frozen.dtype)
        self.options = torch.tensor([[label[0] for label in labels] for labels in sheet.options], device=frozen.device)

    def sequence(self, candidate: int, question: int) -> torch.Tensor:
        """One question under one soft prompt as embeddings (1, L, H)."""
        sides = (self.sheet.before[question], self.sheet.after[question])
        before, after = (
            self.frozen.embeddings(torch.tensor(ids, dtype=torch.long, device=self.frozen.device)) for ids in sides
        )
        return torch.cat([before, self.prompts[candidate], after])[None]

    def literal(self, candidate: int, question: int) -> torch.Tensor:
        """The reference, logits (options,): one sequence, no batch, padding or cache; the head's rows in float32."""
        decoder, head = self.frozen.model.get_decoder(), self.frozen.model.get_output_embeddings()
        state = decoder(inputs_embeds=self.sequence(candidate, question), use_cache=False).last_hidden_state[0, -1]
        logits: torch.Tensor = head.weight[self.options[question]].float() @ state.float()
        return logits


class Arm(Protocol):
    """A way of answering; `own_logits`: from logits in the model's dtype."""

    inputs: Inputs
    own_logits: bool

    def __call__(self, pairs: Pairs) -> torch.Tensor: ...


class Generate:
    """(a) A `generate` call a question, of so many new tokens; the answer is read off its first logits."""

    own_logits = True

    def __init__(self, inputs: Inputs, new_tokens: int) -> None:
        self.inputs, self.new_tokens = inputs, new_tokens

    def __call__(self, pairs: Pairs) -> torch.Tensor:
        first = []
        for candidate, question in pairs:
            sequence = self.inputs.sequence(candidate, question)
            done = self.inputs.frozen.model.generate(
                inputs_embeds=sequence,
                attention_mask=torch.ones(sequence.shape[:2], dtype=torch.long, device=sequence.device),
                max_new_tokens=self.new_tokens,
                min_new_tokens=self.new_tokens,
                do_sample=False,
                return_dict_in_generate=True,
                output_logits=True,
            )
            first.append(done.logits[0][0, self.inputs.options[question]])
        return torch.log_softmax(torch.stack(first).float(), dim=-1)


class Padded:
    """(b) Batches of questions, padded on the right; logits of the whole vocabulary everywhere, or at the ends only."""

    own_logits = True

    def __init__(self, inputs: Inputs, batch: int, last_only: bool = False) -> None:
        self.inputs, self.batch, self.last_only = inputs, batch, last_only
        after = [torch.tensor(ids) for ids in inputs.sheet.after]
        self.lengths = torch.tensor([len(ids) for ids in after])
        self.ids = pad_sequence(after, batch_first=True).to(inputs.frozen.device)

    def __call__(self, pairs: Pairs) -> torch.Tensor:
        parts = (pairs[start : start + self.batch] for start in range(0, len(pairs), self.batch))
        return torch.cat([self._answer(part) for part in parts])

    def _answer(self, pairs: Pairs) -> torch.Tensor:
        model, prompts = self.inputs.frozen.model, self.inputs.prompts
        candidates, questions = torch.tensor(pairs).T
        longest = int(self.lengths[questions].max())
        lengths = self.lengths[questions].to(prompts.device)
        soft = prompts[candidates.to(prompts.device)]
        embedded = torch.cat([soft, self.inputs.frozen.embeddings(self.ids[questions, :longest])], dim=1)
        tokens = soft.shape[1]
        mask = torch.arange(embedded.shape[1], device=prompts.device) < lengths[:, None] + tokens
        rows, ends = torch.arange(len(pairs), device=prompts.device), lengths + tokens - 1
        arguments = {"inputs_embeds": embedded, "attention_mask": mask.long(), "use_cache": False}
        if self.last_only:
            states = model.get_decoder()(**arguments).last_hidden_state[rows, ends]
            logits = model.get_output_embeddings()(states)
        else:
            logits = model(**arguments).logits[rows, ends]
        options = self.inputs.options[questions.to(prompts.device)]
        return torch.log_softmax(logits.gather(1, options).float(), dim=-1)


class Ours:
    """(c) `Respondent.answer`: the whole sheet for the candidates that occur."""

    own_logits = False

    def __init__(self, inputs: Inputs, respondent: Respondent) -> None:
        self.inputs, self.respondent = inputs, respondent

    def __call__(self, pairs: Pairs) -> torch.Tensor:
        asked, questions = torch.tensor(pairs).T
        candidates, rows = asked.unique(return_inverse=True)
        found = self.respondent.answer(
            self.inputs.prompts[candidates.to(self.inputs.prompts.device)], self.inputs.sheet
        )
        return torch.from_numpy(found)[rows, questions].log()


class Pure:
    """Plain inference: the decoder on dense causal batches (rows, length), without a head, for so many tokens."""

    own_logits = False

    def __init__(self, inputs: Inputs, length: int, rows: int, tokens: float) -> None:
        self.inputs, self.batches = inputs, math.ceil(tokens / (rows * length))
        self.tokens = self.batches * rows * length
        ids = torch.arange(rows * length, device=inputs.prompts.device).view(rows, length) % 1000
        self.embedded = inputs.frozen.embeddings(ids)

    def __call__(self, pairs: Pairs = ()) -> torch.Tensor:
        for _ in range(self.batches):
            states = self.inputs.frozen.model.get_decoder()(inputs_embeds=self.embedded, use_cache=False)
        return states.last_hidden_state[:, -1]


def require_equal(arms: Mapping[str, Arm], pairs: Pairs) -> dict[str, float]:
    """The largest difference of each arm's log-probabilities from the literal reference of its own placement.

    Raises
    ------
    UserError
        An arm differs by more than the `TOLERANCE` of its dtype, or answers with what is not a number.
    """
    differences, references = {}, {}
    for name, arm in arms.items():
        inputs, dtype = arm.inputs, arm.inputs.frozen.dtype
        if id(inputs) not in references:
            references[id(inputs)] = torch.stack([inputs.literal(*pair) for pair in pairs]).cpu()
        logits = references[id(inputs)]
        difference = float((arm(pairs).cpu() - torch.log_softmax(logits, dim=-1)).abs().max())
        rounding = torch.finfo(dtype).eps * float(logits.abs().max()) if arm.own_logits else 0.0
        if not difference <= TOLERANCE[dtype] + rounding:
            raise UserError(
                f"nothing was timed: {name} differs from the literal reference by {difference:.1e} in log-probability "
                f"on {inputs.frozen.spec.name}, allowed are {TOLERANCE[dtype] + rounding:.1e}"
            )
        differences[name] = difference
    return differences
