"""The search spaces by name: their options, how each is made for a model, and their files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from evoprompt.checks import is_number, real_number, whole_number
from evoprompt.errors import UserError, unknown_name
from evoprompt.llm import FrozenModel
from evoprompt.prompts.space import FullSpace, LowRank, RandomProjection, Space, VocabPCA
from evoprompt.prompts.start import STARTS, resolve_start, start_prompt
from evoprompt.prompts.vocabulary import principal_directions, spread_profile
from evoprompt.typing import Floats

_KINDS: dict[str, type[Space]] = {space.kind: space for space in (FullSpace, RandomProjection, VocabPCA, LowRank)}
SPACES = tuple(_KINDS)
"""Kinds of search spaces."""
DEFAULT_SPACE = "vocab_pca"
"""The kind of space that is taken if none is named."""

OWN_OPTIONS: dict[str, dict[str, Any]] = {
    "full": {"scale": 1.0, "limit": 3.0},
    "random_projection": {"dimensions": 64, "scale": 2.0, "limit": 3.0, "spread": "overall"},
    "vocab_pca": {"components": 16, "scale": 2.0, "outside": 0.001},
    "low_rank": {"rank": 1, "scale": 1.0, "limit": 3.0},
}
"""The options of each kind with their defaults; `scale` is in units of the embeddings' spread."""
COMMON_OPTIONS = {"tokens": 4, "init": "auto", "init_text": None, "init_expert": None}
"""The options of every kind with their defaults."""

_CHOICES = {"init": STARTS, "spread": ("overall", "dimension")}
_WHOLE = ("tokens", "dimensions", "components", "rank")
_POSITIVE = ("scale", "limit")
_LARGEST = 1e9  # of those: products of them must not overflow float32
TEXTS = ("init_text", "init_expert")


def space_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check the options of a space and fill in the defaults of its kind.

    Raises
    ------
    UserError
        The first thing that is wrong: an unknown kind, key or choice, a number out of range, a start without what it
        needs.

    >>> space_options({"kind": "low_rank", "rank": 2})["scale"]
    1.0
    """
    kind = given.get("kind", DEFAULT_SPACE)
    if kind not in SPACES:
        raise unknown_name("space", kind, SPACES)
    defaults = {"kind": kind, **COMMON_OPTIONS, **OWN_OPTIONS[kind]}
    for key, value in given.items():
        owners = [other for other, own in OWN_OPTIONS.items() if key in own]
        if key not in defaults and owners:
            raise UserError(f"space.{key} belongs to space={' or '.join(owners)}; this is space={kind}")
        if key not in defaults:
            raise unknown_name(f"option of space {kind}", key, defaults)
        _check_value(key, value)
    options = {**defaults, **given}
    resolve_start(options)
    return options


def space_for(frozen: FrozenModel, options: Mapping[str, Any], seed: int, initial: torch.Tensor | None = None) -> Space:
    """Make the search space of a run.

    Parameters
    ----------
    frozen
        Its embeddings set the centre, the scale and the bounds.
    options
        As in `conf/space`; what is left out is the default of its kind.
    seed
        Of the projection and of tokens drawn from the vocabulary.
    initial
        The soft prompt (m, hidden) of the expert that `init_expert` names.

    Raises
    ------
    UserError
        Wrong options, more components or a higher rank than there can be, or an initial prompt that does not fit.
    """
    wanted = space_options(options)
    kind, scale = wanted["kind"], float(wanted["scale"])
    centre = start_prompt(frozen, wanted, seed, initial)
    if kind == "vocab_pca":
        return make_space(
            kind, centre, scale=scale, **principal_directions(frozen, wanted["components"], wanted["outside"])
        )
    made = {"limit": wanted["limit"], "scale": scale * frozen.embedding_statistics[1]}
    if kind == "random_projection":
        made |= {"dimensions": wanted["dimensions"], "seed": seed}
        if wanted["spread"] == "dimension":
            made["profile"] = spread_profile(frozen)
    elif kind == "low_rank":
        made["rank"] = wanted["rank"]
    return make_space(kind, centre, **made)


def make_space(kind: str, centre: Floats, **options: Any) -> Space:
    """Build a space by its name.

    Parameters
    ----------
    kind
        One of `SPACES`.
    centre
        The soft prompt of z = 0, shape (tokens, hidden).
    **options
        The other fields of its class, `scale` in units of the prompt's entries (of `basis` for `vocab_pca`).

    Raises
    ------
    UserError
        Unknown kind, a number out of range, a rank higher than there are soft tokens, or a centre that is not finite.
    """
    if kind not in SPACES:
        raise unknown_name("space", kind, SPACES)
    for name, value in options.items():
        _check_value(name, value)
    if not np.isfinite(centre).all():
        raise UserError("the soft prompt to start from holds nan or inf; start from a finite one")
    if options.get("rank", 1) > min(centre.shape):
        raise UserError(f"space.rank={options['rank']} is more than {len(centre)} soft tokens can have")
    return _KINDS[kind](centre, **options)


def save_space(path: Path, space: Space) -> None:
    """Write a space as safetensors: its arrays as tensors, the rest as metadata."""
    arrays = {name: np.ascontiguousarray(array) for name, array in space.tensors().items()}
    save_file(arrays, path, metadata={"space": json.dumps(space.describe())})


def load_space(path: Path) -> Space:
    """Read what `save_space` wrote; nothing is unpickled.

    Raises
    ------
    UserError
        It is not the file of a space.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            description = json.loads(file.metadata()["space"])
            description.pop("spread", None)  # whether there is a profile says it
            return make_space(**description, **{name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not the file of a search space: {error}") from None


def _check_value(key: str, value: Any) -> None:
    name = f"space.{key}"
    if key in _WHOLE:
        whole_number(name, value, 1, what="a whole number")
    if key in _POSITIVE:
        real_number(name, value, 0, _LARGEST, above=True)
    if key == "outside" and not (is_number(value) and 0 <= value < 0.5):
        raise UserError(f"{name}={value!r} must be a share from 0 to less than 0.5")
    if key in _CHOICES and value not in _CHOICES[key]:
        raise unknown_name(name, value, _CHOICES[key])
    if key in TEXTS and not (value is None or isinstance(value, str)):
        raise UserError(f"{name}={value!r} must be text, or null for none")
