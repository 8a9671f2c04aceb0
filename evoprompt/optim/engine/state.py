"""Exact, pickle-free persistence of nested state: one file ``state.npz`` in a folder, replaced as a whole.

It holds the state's arrays and, as one more array, the bytes of a JSON text with everything else.
"""

from __future__ import annotations

import dataclasses
import json
import os
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from evoprompt.errors import UserError
from evoprompt.files import PARTIAL, replacing

__all__ = [
    "SCHEMA_VERSION",
    "STATE_VERSION",
    "Stateful",
    "has_state",
    "load_state",
    "require_own_state",
    "require_same_config",
    "require_saveable",
    "save_state",
]

SCHEMA_VERSION = 2
"""Of the file."""
STATE_VERSION = 5
"""Of what an optimizer puts into it."""

_FILE, _FORMER = "state.npz", ("state.json", "arrays.npz")  # both, of schema version 1
_HEADER, _ARRAY, _FLOAT = "header", "$array", "$float"


class Stateful:
    """An object whose annotated attributes are its state; what is not annotated in the class is no part of it.

    The annotations say how a value becomes plain and is read again: arrays, numbers, strings, None, NamedTuples,
    dataclasses, other Stateful objects, and lists, tuples, sets and dicts of these.

    Examples
    --------
    >>> Walk = type("Walk", (Stateful,), {"__annotations__": {"x": np.ndarray, "_steps": list[tuple[int, float]]}})
    >>> walk, copy = Walk(), Walk()
    >>> walk.x, walk._steps = np.zeros(2), [(1, 0.5)]
    >>> walk.x += 3
    >>> state = walk.state_dict()
    >>> walk.x += 1
    >>> copy.load_state_dict(state)
    >>> copy.x.tolist(), copy._steps, state["steps"]
    ([3.0, 3.0], [(1, 0.5)], [[1, 0.5]])
    """

    def state_dict(self) -> dict[str, Any]:
        """The annotated attributes as nested dicts, lists, scalars and arrays, copied."""
        return {name.lstrip("_"): plain(getattr(self, name)) for name in _declared(type(self))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what ``state`` describes."""
        for name, kind in _declared(type(self)).items():
            setattr(self, name, restored(kind, state[name.lstrip("_")], getattr(self, name, None)))
        self._was_restored()

    def _was_restored(self) -> None:
        """Make anew what follows from the state."""


_DECLARED: dict[type, dict[str, Any]] = {}  # reading annotations is slow


def _declared(kind: type) -> dict[str, Any]:
    if kind not in _DECLARED:
        hints = get_type_hints(kind).items()
        ours = {name: hint for name, hint in hints if hint is not ClassVar and get_origin(hint) is not ClassVar}
        _DECLARED[kind] = ours
    return _DECLARED[kind]


def plain(value: Any) -> Any:
    """A value as nested dicts, lists, scalars and arrays, copied; records in a list are written as columns."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if (fields := _fields(value)) is not None:
        return {name: plain(item) for name, item in fields.items()}
    if hasattr(value, "state_dict"):
        return value.state_dict()
    if isinstance(value, list | tuple):
        return _columns(value) or [plain(item) for item in value]
    if isinstance(value, set):
        return plain(sorted(value))
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: plain(item) for key, item in value.items()}
        return [plain(list(value)), plain(list(value.values()))]
    return value.item() if isinstance(value, np.generic) else value


def _fields(value: Any) -> dict[str, Any] | None:
    """What a record consists of, by the names in a state; None for anything else."""
    if getattr(type(value), "state_dict", Stateful.state_dict) is not Stateful.state_dict:
        return None
    if isinstance(value, Stateful):
        return {name.lstrip("_"): getattr(value, name) for name in _declared(type(value))}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return dict(value._asdict())
    if dataclasses.is_dataclass(value):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value) if one.init}
    return None


def _columns(values: Sequence[Any]) -> dict[str, Any] | None:
    """Records of one kind as a few arrays, since hundreds of small ones are slow to save; None for anything else."""
    if len({type(value) for value in values}) != 1 or _fields(values[0]) is None:
        return None
    rows: list[Any] = [_fields(value) for value in values]
    return {name: _column([row[name] for row in rows]) for name in rows[0]}


def _column(values: list[Any]) -> Any:
    if (columns := _columns(values)) is not None:
        return columns
    if all(isinstance(value, int | float) for value in values):
        return np.array(values)
    if all(isinstance(value, np.ndarray) and value.ndim for value in values):
        alike = len({(value.dtype, value.shape[1:]) for value in values}) == 1
    else:
        alike = all(isinstance(value, list) and all(isinstance(x, int | float) for x in value) for value in values)
    if alike:
        return {"joined": np.concatenate(values), "lengths": np.array([len(value) for value in values])}
    return [plain(value) for value in values]


def _rows(column: Any) -> list[Any]:
    """The inverse of :func:`_column`, each value as :func:`plain` gives it."""
    if isinstance(column, np.ndarray):
        values: list[Any] = column.tolist()
        return values
    if not isinstance(column, Mapping):
        return list(column)
    if column.keys() == {"joined", "lengths"}:
        return np.split(column["joined"], np.cumsum(column["lengths"])[:-1])
    return [dict(zip(column, row, strict=True)) for row in zip(*map(_rows, column.values()), strict=True)]


def restored(kind: Any, value: Any, current: Any = None) -> Any:
    """The inverse of :func:`plain` for a value of this kind; a Stateful ``current`` is filled in place."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return restored(next(part for part in parts if part is not type(None)), value, current)
    if origin is np.ndarray or kind is np.ndarray:
        return np.array(value)
    if origin in (list, set, tuple):
        items = _rows(value) if isinstance(value, Mapping) else value
        kinds = parts if origin is tuple and parts[-1] is not ... else (parts[0],) * len(items)
        return origin(restored(one, item) for one, item in zip(kinds, items, strict=True))
    if origin is dict:
        both = (value.keys(), value.values()) if isinstance(value, Mapping) else value
        lists = (restored(types.GenericAlias(list, part), side) for part, side in zip(parts, both, strict=True))
        return dict(zip(*lists, strict=True))
    if hasattr(current, "load_state_dict") or (isinstance(kind, type) and issubclass(kind, Stateful)):
        found = current if current is not None else kind.__new__(kind)
        found.load_state_dict(value)
        return found
    if isinstance(value, Mapping) and kind is not Any:
        hints = _declared(kind)
        return kind(**{name: restored(hints[name], item) for name, item in value.items()})
    return kind(value) if kind in (int, float, bool, str) else value


def save_state(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write ``state`` into the folder ``path``, replacing the state that is there.

    Parameters
    ----------
    path : path-like
        A folder; made if missing. Other files in it are left alone.
    state : mapping
        Nested dict, list, str, int, float, bool, None and numpy arrays. Tuples come back as lists, numpy
        scalars as Python ones; every float comes back exactly, NaN and infinities included.

    Raises
    ------
    ValueError
        If the state holds anything else; the message says where.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_state(folder, {"loss": float("inf"), "x": np.arange(3)})
    ...     load_state(folder)
    {'loss': inf, 'x': array([0, 1, 2])}
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{_FILE}.*{PARTIAL}"):  # of a save that was killed
        left.unlink(missing_ok=True)
    arrays: dict[str, np.ndarray] = {}
    header = {"schema_version": SCHEMA_VERSION, "state": _encode(state, "state", arrays)}
    arrays[_HEADER] = np.frombuffer(json.dumps(header, allow_nan=False).encode(), np.uint8)
    with replacing(folder / _FILE, durable=True) as partial, partial.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def load_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the state in the folder ``path``.

    Parameters
    ----------
    path : path-like
        A folder that :func:`save_state` wrote to.

    Returns
    -------
    dict
        The state as it was saved.

    Raises
    ------
    FileNotFoundError
        If the folder holds no state.
    ValueError
        If the file is damaged or of another schema version.
    """
    file = Path(path) / _FILE
    if not has_state(path):
        raise FileNotFoundError(f"no saved state in {path}: {_FILE} is needed")
    version, arrays, header = 1, {}, {}
    try:
        if file.is_file():
            with np.load(file, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive.files}
            header = json.loads(arrays[_HEADER].tobytes())
            version = header["schema_version"]
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # whatever reading damaged bytes leads to
        raise ValueError(f"the state in {path} is damaged: {error}") from error
    if version != SCHEMA_VERSION:
        raise ValueError(f"state in {path} has schema version {version}, this reads {SCHEMA_VERSION}")
    state: dict[str, Any] = _decode(header["state"], arrays)
    return state


def has_state(path: str | os.PathLike[str]) -> bool:
    """Whether the folder ``path`` holds a saved state, complete, damaged or of an earlier schema."""
    folder = Path(path)
    return (folder / _FILE).is_file() or all((folder / name).is_file() for name in _FORMER)


def require_same_config(saved: Mapping[str, Any], own: Mapping[str, Any], *, but: Sequence[str] = ()) -> None:
    """Refuse a state that was made with another configuration, names to plain values, ``but`` for some of them.

    Raises
    ------
    ValueError
        Naming every entry that differs, with both values.
    """
    missing = object()
    names = [name for name in (*own, *(name for name in saved if name not in own)) if name not in but]
    differing = [name for name in names if not _same(saved.get(name, missing), own.get(name, missing))]
    if differing:
        told = "; ".join(
            f"{name} is {_shown(saved.get(name))} in the state and {_shown(own.get(name))} here" for name in differing
        )
        raise ValueError(f"the saved state belongs to another configuration: {told}")


def require_saveable(optimizer: Any) -> None:
    """Refuse an optimizer that no checkpoint could hold, before anything is evaluated.

    Raises
    ------
    UserError
        In one line: what of it cannot be saved, and where it lies.
    """
    try:
        _encode(optimizer.state_dict(), "state", {})
    except UserError:
        raise
    except (ValueError, TypeError, NameError, AttributeError) as error:
        raise UserError(f"{optimizer.name!r} cannot be saved: {' '.join(str(error).split())}") from error


def require_own_state(state: Mapping[str, Any], name: str) -> None:
    """Refuse an optimizer's state of another form, or of another optimizer.

    Raises
    ------
    ValueError
        Naming what made it and what is needed.
    """
    maker = state.get("optimizer")
    if state.get("version") != STATE_VERSION:
        former = maker
        if maker is None and (config := state.get("config")):
            # Before version 3 a state told its maker in other words, and the portfolio was a variant of "de".
            former = config.get("name", "auto" if config.get("variant") == "auto" else "de")
        made_by = "" if former is None else f" and was made by {former!r}"
        raise ValueError(
            f"this state has version {state.get('version')!r}{made_by}; {name!r} needs version {STATE_VERSION}"
        )
    if maker != name:
        raise ValueError(f"this state was made by {maker!r} and does not continue {name!r}")


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        left, right = np.asarray(left), np.asarray(right)
        return left.shape == right.shape and left.dtype.kind == right.dtype.kind and left.tobytes() == right.tobytes()
    return bool(left == right)


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size > 8:
        return f"an array {value.shape} beginning {value.ravel()[:4].tolist()}"
    return repr(value.tolist() if isinstance(value, np.ndarray) else value)


def _encode(value: Any, where: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise ValueError(f"{where} is an array of Python objects; only plain dtypes can be saved")
        name = f"a{len(arrays)}"
        arrays[name] = value
        return {_ARRAY: name}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return {_FLOAT: repr(value)}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key in (_ARRAY, _FLOAT):
                raise ValueError(f"{where} has the key {key!r}; keys must be strings other than {_ARRAY!r}, {_FLOAT!r}")
        return {key: _encode(item, f"{where}[{key!r}]", arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item, f"{where}[{i}]", arrays) for i, item in enumerate(value)]
    raise ValueError(
        f"{where} is a {type(value).__name__}; a state holds dict, list, str, int, float, bool, None and numpy arrays"
    )


def _decode(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if _ARRAY in value:
            return arrays[value[_ARRAY]]
        if _FLOAT in value:
            return float(value[_FLOAT])
        return {key: _decode(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_decode(item, arrays) for item in value]
    return value
