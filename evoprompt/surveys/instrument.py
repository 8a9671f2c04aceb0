"""A survey instrument: scales, items and several wordings per item, read from a YAML file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

import yaml

from evoprompt.errors import UserError

OPTIONS = 5  # answers 1..5
SPLITS = ("searched", "held_out")
N_ITEMS = 24


@dataclass(frozen=True)
class Item:
    """One survey item: its number (1-based), its scale's name and its wordings by split."""

    number: int
    scale: str
    searched: tuple[str, ...]
    held_out: tuple[str, ...]

    def wordings(self, split: str) -> tuple[str, ...]:
        """Wordings of one split, `searched` or `held_out`."""
        return self.searched if split == "searched" else self.held_out


@dataclass(frozen=True)
class Instrument:
    """The items of the VSM 2013 in some wording; `scales[name]` lists the texts of answers 1..5."""

    name: str
    scales: Mapping[str, tuple[str, ...]]
    items: tuple[Item, ...]
    sha256: str


class _At:
    """A YAML node with the file's name, so that every complaint can say the line."""

    def __init__(self, path: str, node: yaml.Node) -> None:
        self.path, self.node = path, node

    def error(self, message: str) -> UserError:
        return UserError(f"{self.path}, line {self.node.start_mark.line + 1}: {message}")

    def mapping(self, what: str) -> dict[str, _At]:
        if not isinstance(self.node, yaml.MappingNode):
            raise self.error(f"{what} must be a mapping")
        found: dict[str, _At] = {}
        for key, value in self.node.value:
            name = str(key.value)
            if name in found:
                raise _At(self.path, key).error(f"{what} has {name!r} twice")
            found[name] = _At(self.path, value)
        return found

    def texts(self, what: str, least: int, most: int | None = None) -> tuple[str, ...]:
        entries = self.node.value if isinstance(self.node, yaml.SequenceNode) else None
        if entries is None:
            raise self.error(f"{what} must be a list of texts")
        for entry in entries:
            if not isinstance(entry, yaml.ScalarNode) or not entry.value.strip():
                raise _At(self.path, entry).error(f"{what} has an entry that is not a text")
        if len(entries) < least or (most is not None and len(entries) > most):
            wanted = str(least) if least == most else f"at least {least}"
            raise self.error(f"{what} needs {wanted} texts, has {len(entries)}")
        found = tuple(entry.value.strip() for entry in entries)
        if len(set(found)) < len(found):
            raise self.error(f"{what} has the same text twice")
        return found


def load_instrument(path: str | Path) -> Instrument:
    """Read and check a wording file.

    The file is YAML with `scales` (name -> 5 option texts, from answer 1 to answer 5) and `items`
    (number 1..24 -> `scale`, `searched` and `held_out` wordings, at least one text each, none in both).

    Raises
    ------
    UserError
        Says file, line, what was wrong and what would be right.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the wording file {path}: {error}") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}, line {line}: not valid YAML: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise UserError(f"{path}, line {line}: a character that YAML does not allow: {error.character!r}") from None
    if node is None:
        raise UserError(f"{path}, line 1: the file is empty; it needs `scales` and `items`")
    root = _At(str(path), node)
    top = root.mapping("the file")
    for name in ("scales", "items"):
        if name not in top:
            raise root.error(f"`{name}` is missing")
    scales = {
        name: at.texts(f"scale {name!r}", OPTIONS, OPTIONS) for name, at in top["scales"].mapping("`scales`").items()
    }
    items = [_item(number, at, scales) for number, at in top["items"].mapping("`items`").items()]
    missing = sorted(set(range(1, N_ITEMS + 1)) - {item.number for item in items})
    if missing:
        raise top["items"].error(f"items missing: {', '.join(map(str, missing))}; all of 1..{N_ITEMS} are needed")
    name = str(top["name"].node.value) if "name" in top else Path(path).stem
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Instrument(name, scales, tuple(sorted(items, key=lambda item: item.number)), digest)


def _item(number: str, at: _At, scales: Mapping[str, tuple[str, ...]]) -> Item:
    if number not in map(str, range(1, N_ITEMS + 1)):
        raise at.error(f"item {number!r} is not a number from 1 to {N_ITEMS}")
    fields = at.mapping(f"item {number}")
    for name in ("scale", *SPLITS):
        if name not in fields:
            raise at.error(f"item {number} has no `{name}`")
    scale = str(fields["scale"].node.value)
    if scale not in scales:
        raise fields["scale"].error(f"item {number} uses scale {scale!r}; known scales: {', '.join(sorted(scales))}")
    searched, held_out = (fields[split].texts(f"item {number}, `{split}`", 1) for split in SPLITS)
    both = set(searched) & set(held_out)
    if both:
        raise fields["held_out"].error(f"item {number}: a wording is both searched and held out: {both.pop()!r}")
    return Item(int(number), scale, searched, held_out)


@lru_cache(maxsize=1)
def vsm13() -> Instrument:
    """The bundled paraphrases of the 24 content items of the VSM 2013, five wordings each."""
    return load_instrument(str(resources.files("evoprompt.surveys") / "data" / "vsm13.yaml"))
