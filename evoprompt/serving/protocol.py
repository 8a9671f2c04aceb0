"""Requests and answers in OpenAI's form, with what a committee has to tell beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from evoprompt.llm import FrozenModel
from evoprompt.llm.speak.decoding import Token
from evoprompt.routing import Opinion, Route, Voice


def _encodable(text: str) -> str:
    """Refuse half of a surrogate pair: no tokenizer takes it."""
    text.encode("utf-8")
    return text


Words = Annotated[str, AfterValidator(_encodable)]


class TextPart(BaseModel):
    """A part of a message; only text is understood."""

    type: Literal["text"]
    text: Words


class ChatMessage(BaseModel):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Words | list[TextPart]

    @property
    def turn(self) -> dict[str, str]:
        """The message as chat templates take it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class UserProfile(BaseModel):
    """The profile of the user, as far as it is known."""

    model_config = ConfigDict(extra="forbid")
    location: Words | None = Field(default=None, max_length=200)
    language: Words | None = Field(default=None, max_length=60)


class StreamOptions(BaseModel):
    """Options of a stream."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """A request for an answer. `profile`, `options`, `k` are evoprompt's own; what else OpenAI knows is ignored."""

    model: Words
    messages: list[ChatMessage] = Field(min_length=1, max_length=256)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int = Field(default=0, ge=-(2**63), lt=2**63)
    n: Literal[1] = 1
    stop: Words | list[Words] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=20)
    profile: UserProfile | None = None
    options: list[Words] | None = Field(default=None, min_length=2, max_length=26)
    k: int | None = Field(default=None, ge=1, le=20)

    @field_validator("temperature", "top_p", "seed", "n", "stream", "logprobs", "top_logprobs", mode="before")
    @classmethod
    def _default_for_null(cls, value: Any, info: Any) -> Any:
        """OpenAI's clients may send null where they mean the default."""
        return cls.model_fields[info.field_name].default if value is None else value

    @field_validator("stop")
    @classmethod
    def _few_stops(cls, value: str | list[str] | None) -> str | list[str] | None:
        stops = [value] if isinstance(value, str) else value or []
        if len(stops) > 4 or not all(0 < len(stop) <= 100 for stop in stops):
            raise ValueError("stop must be up to 4 texts of 1 to 100 characters")
        return value

    @property
    def tokens(self) -> int | None:
        """Longest answer asked for."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end an answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


def shown_tokens(frozen: FrozenModel, tokens: Sequence[Token]) -> list[dict[str, Any]]:
    """Log probabilities of tokens as OpenAI gives them."""

    def entry(id: int, score: float) -> dict[str, Any]:
        text = frozen.tokenizer.decode([id])
        return {"token": text, "logprob": max(score, -9999.0), "bytes": list(text.encode())}

    return [
        entry(token.id, token.log_probability) | {"top_logprobs": [entry(*one) for one in token.top]}
        for token in tokens
    ]


def shown_committee(route: Route | None, voices: Sequence[Voice], composition: str) -> dict[str, Any]:
    """Who answers, how they were chosen, and why."""
    claims = {} if route is None else {claim.culture: claim for claim in route.ranked}
    about: dict[str, Any] = {"composition": composition, "voices": []}
    for voice in voices:
        entry: dict[str, Any] = {"name": voice.name, "label": voice.label, "weight": voice.weight}
        if voice.culture is not None:
            entry |= {"culture": voice.culture}
        if claim := claims.get(voice.culture or ""):
            entry |= {"probability": claim.probability, "reasons": list(claim.reasons)}
        about["voices"].append(entry)
    if route is not None:
        about |= {"reason": route.reason, "needs_experts": route.needs_experts, "spread": route.spread}
    return about


def shown_opinion(opinion: Opinion) -> dict[str, Any]:
    """A distribution over options; log probabilities of the labels by voice and order (ascending, descending)."""

    def finite(rows: list[list[float]]) -> list[list[float | None]]:
        return [[value if math.isfinite(value) else None for value in row] for row in rows]

    return {
        "options": list(opinion.options),
        "shares": opinion.shares.tolist(),
        "by_voice": {name: found.tolist() for name, found in opinion.by_voice.items()},
        "log_probabilities": {name: finite(found.tolist()) for name, found in opinion.log_probabilities.items()},
        "label_mass": dict(opinion.label_mass),
    }


def problem(message: str, kind: str, code: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's form."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


class RefusedError(Exception):
    """A request that is not served; `response` says why in OpenAI's form."""

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = "invalid_request_error",
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.response = JSONResponse(problem(message, kind, code), status, headers)
