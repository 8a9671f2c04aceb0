"""What `python -m experiments.committee preset=... key=value ...` understands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from evoprompt.errors import UserError, unknown_name
from evoprompt.experts import BUNDLED
from evoprompt.llm import ModelSpec
from evoprompt.llm.load.spec import POCKET

HERE = Path(__file__).parent
MODELS = HERE.parents[1] / "conf" / "model"
ELSEWHERE = Path("outputs") / "committee"


@dataclass(frozen=True)
class Settings:
    """A run of the study.

    Attributes
    ----------
    preset, model, experts, device, threads
        `threads` are CPU threads, fixed so that rounding does not depend on the machine.
    k
        Most experts of an answer.
    asked
        What every arm reads: the `question`, or the whole `query` of the user. The router always reads the query.
    split
        `held_out` wordings are reported; on `searched` ones, with other queries, choices are made.
    metrics
        `as_published` adds the published figures, which are circular, to `ours`.
    rounds
        Of timing.
    out
        Where tables go; by default here for the quick preset as it is, and `outputs/committee` for anything else.
    """

    preset: str = "quick"
    model: str = POCKET
    experts: str = BUNDLED
    device: str = "cpu"
    threads: int = 1
    k: int = 3
    asked: str = "question"
    split: str = "held_out"
    metrics: str = "as_published"
    rounds: int = 5
    out: str = ""

    @property
    def folder(self) -> Path:
        """Where tables go."""
        return Path(self.out) if self.out else HERE if self == PRESETS["quick"] else ELSEWHERE

    def spec(self) -> ModelSpec:
        """The base model: a name of `conf/model/`, else a folder or a name on the hub."""
        file = MODELS / f"{self.model}.yaml"
        chosen = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {"name": self.model}
        known = {field.name for field in fields(ModelSpec)}
        own: dict[str, Any] = {key: value for key, value in chosen.items() if key in known}
        return ModelSpec(**own | {"device": self.device, "threads": self.threads})


PRESETS: Mapping[str, Settings] = {
    "quick": Settings(),
    "full": Settings("full", model="", experts="", device="auto", threads=2, asked="query"),
}
CHOICES = {
    "asked": ("question", "query"),
    "split": ("held_out", "searched"),
    "metrics": ("as_published", "ours"),
}
LEAST = {"k": 1, "threads": 1, "rounds": 0}


def parse(arguments: Sequence[str]) -> Settings:
    """Settings of `key=value` arguments.

    Raises
    ------
    UserError
        A key, preset or value is unknown, or the full preset lacks a model or experts.
    """
    given: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or not value:
            raise UserError(f"{argument!r} is not understood; write key=value, such as preset=quick")
        if key not in Settings.__dataclass_fields__:
            raise unknown_name("key", key, Settings.__dataclass_fields__)
        if key in given:
            raise UserError(f"{key} is given twice, as {given[key]!r} and {value!r}; give it once")
        given[key] = value
    preset = given.pop("preset", "quick")
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    settings = PRESETS[preset]
    for key, value in given.items():
        if key in CHOICES and value not in CHOICES[key]:
            raise unknown_name(key, value, CHOICES[key])
        own: dict[str, Any] = {key: _number(key, value) if key in LEAST else value}
        settings = replace(settings, **own)
    if not settings.model or not settings.experts:
        raise UserError(f"preset={preset} needs model=<name or folder> and experts=<folder of a sweep>; see the README")
    return settings


def _number(key: str, value: str) -> int:
    if not value.isdecimal() or int(value) < LEAST[key]:
        raise UserError(f"{key}={value!r} must be a whole number from {LEAST[key]}")
    return int(value)
