"""Conversations as a model reads them, with the soft prompt's place in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from evoprompt.errors import UserError
from evoprompt.llm.load.model import FrozenModel, require_known
from evoprompt.llm.write.chat import converse
from evoprompt.llm.write.sheet import PLACEMENTS, Tokens, Writer

ROLES = ("system", "user", "assistant")
Message = Mapping[str, Any]  # {"role": one of `ROLES`, "content": text}


@dataclass(frozen=True)
class Context:
    """What a model reads before it answers: the tokens on either side of the soft prompt."""

    before: Tokens
    after: Tokens

    def __len__(self) -> int:
        return len(self.before) + len(self.after)

    def embedded(self, frozen: FrozenModel, prompt: torch.Tensor | None = None) -> torch.Tensor:
        """Embeddings (tokens, H) of the context, a soft prompt (T, H) in its place."""
        ids = [torch.tensor(part, dtype=torch.long, device=frozen.device) for part in (self.before, self.after)]
        with torch.no_grad():
            before, after = (frozen.embeddings(part) for part in ids)
        soft = before[:0] if prompt is None else prompt.to(before.device, before.dtype)
        return torch.cat([before, soft, after])


def make_context(frozen: FrozenModel, messages: Sequence[Message], placement: str = "prefix") -> Context:
    """Tokenise a conversation up to where the model's next answer begins.

    Without a chat template it is written as lines of questions and answers, see `evoprompt.llm.write.chat.converse`.

    Raises
    ------
    UserError
        The placement or a role is unknown, a text is empty, the last word is not the user's, the chat template does not
        take the conversation, or the model has no embedding of a token.
    """
    check_messages(messages)
    if placement not in PLACEMENTS:
        raise UserError(f"placement {placement!r} is unknown; use {', '.join(PLACEMENTS)}")
    tokenizer = frozen.tokenizer
    prompt, separator = converse(tokenizer, messages, placement)
    writer = Writer(tokenizer, separator, chat=tokenizer.chat_template is not None)
    ((before, after),) = writer.answered([prompt], [""])
    require_known(tokenizer, before + after, len(frozen.embeddings.weight))
    return Context(before, after)


def check_messages(messages: Sequence[Message]) -> None:
    """Refuse what is no conversation that a model could answer."""
    if not messages:
        raise UserError("the conversation has no messages; give at least one of the user's")
    for message in messages:
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise UserError(f"role {role!r} is unknown; use {', '.join(ROLES)}")
        if not isinstance(content, str) or not content.strip():
            raise UserError(f"a message of the {role} has the content {content!r}; give a text that is not empty")
    if messages[-1]["role"] != "user":
        raise UserError(f"the last message is the {messages[-1]['role']}'s; end with one of the user's")


def answer_stops(frozen: FrozenModel) -> tuple[str, ...]:
    """Texts that end an answer beside the model's own end tokens: a line's end where there is no chat template."""
    return ("\n",) if frozen.tokenizer.chat_template is None else ()
