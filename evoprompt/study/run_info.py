"""What `run.json` says of a run: what it was begun with, what searches, how it stands."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from evoprompt.checks import is_whole
from evoprompt.errors import UserError
from evoprompt.files import read_json, write_json
from evoprompt.optim.protocol import shares

if TYPE_CHECKING:
    from evoprompt.optim import Optimizer

__all__ = ["RunInfo", "optimizer_info", "optimizer_words", "require_optimizer", "versions"]

PACKAGES = ("evoprompt", "numpy", "scipy", "torch", "transformers", "ray", "hydra-core", "nevergrad", "cma")


@dataclass(frozen=True)
class RunInfo:
    """The account that a run gives of itself; a part is None or empty until it is known.

    `model` holds the model's specification, its fingerprint and where it is placed; `optimizer` is what
    `optimizer_info` says; `started_from` tells the expert that the search started from; `notes` are what a reader of
    the results should know; `job` tells a job of a sweep, `failure` why it has no result.
    """

    status: str | None = None
    seed: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    instrument: Mapping[str, str] = field(default_factory=dict)
    placement: str | None = None
    respondent: Mapping[str, Any] = field(default_factory=dict)
    constant: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    scoring: Mapping[str, Any] = field(default_factory=dict)
    start_label_mass: float | None = None
    started_from: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    job: Mapping[str, Any] = field(default_factory=dict)
    failure: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Self:
        """What a file says; nothing where there is none.

        Raises
        ------
        UserError
            It cannot be read, or a part is of another kind than it should be; says which.
        """
        found = read_json(path) if path.exists() else {}
        declared = {one.name: str(one.type) for one in fields(cls)}
        known = {name: found[name] for name in declared if found.get(name) is not None}
        for name, value in known.items():
            kinds, words = next(kind for begins, kind in _KINDS.items() if declared[name].startswith(begins))
            texts = not isinstance(value, list) or all(isinstance(one, str) for one in value)
            if not isinstance(value, kinds) or isinstance(value, bool) or not texts:
                raise UserError(f"{path} is damaged: `{name}` must be {words}, is {value!r:.80}")
        require_optimizer(path, known.get("optimizer", {}))
        return cls(**known | {"notes": tuple(known.get("notes", ()))})

    def save(self, path: Path) -> None:
        """Write what is known."""
        known = {one.name: getattr(self, one.name) for one in fields(self)}
        write_json(path, {name: value for name, value in known.items() if value not in (None, (), {})})


_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "a text"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "Mapping": ((dict,), "an object"),
    "tuple": ((list,), "a list of texts"),
}
"""In JSON, by how the declaration of a part begins."""


def require_optimizer(path: Path, info: Mapping[str, Any]) -> None:
    """Check what a file says of an optimizer.

    Raises
    ------
    UserError
        Its name or variant is no text, or its stages are no numbers of evaluations by name.
    """
    for part in ("name", "variant"):
        if not isinstance(info.get(part), str | None):
            raise UserError(f"{path} is damaged: `optimizer.{part}` must be a text, is {info[part]!r:.80}")
    stages = info.get("stages", {})
    if not isinstance(stages, dict) or not all(is_whole(count) and count >= 0 for count in stages.values()):
        raise UserError(
            f"{path} is damaged: `optimizer.stages` must be numbers of evaluations by stage, is {stages!r:.80}"
        )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape a result."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def optimizer_info(optimizer: Optimizer, options: Mapping[str, Any]) -> dict[str, Any]:
    """Which algorithm searches, its variant where it has any, and how many evaluations each of its stages took.

    A variant of one's own has a `variant_place` too, from where it was imported.
    """
    asked = options.get("variant")
    variant = getattr(getattr(optimizer, "variant", None), "name", asked)
    named = {"name": optimizer.name, **({"variant": str(variant)} if variant else {})}
    placed = {"variant_place": asked} if isinstance(asked, str) and ":" in asked else {}
    return {**named, **placed, "stages": dict(optimizer.stages)}


def optimizer_words(info: Mapping[str, Any]) -> str:
    """An optimizer in words, with the share of the evaluations of each of its stages where it has several.

    >>> optimizer_words({"name": "auto", "stages": {"opening": 20, "lines": 60, "de": 120}})
    'auto (opening 10%, lines 30%, de 60%)'
    >>> optimizer_words({"name": "de", "variant": "jde", "stages": {}}), optimizer_words({"name": "cma"})
    ('de jde', 'cma')
    """
    stages = info.get("stages") or {}
    several = sum(count > 0 for count in stages.values()) > 1
    named = " ".join(filter(None, (str(info.get("name") or "–"), info.get("variant"))))
    return f"{named} ({shares(stages)})" if several else named
