"""A folder of experts over one frozen base model, kept true to what is on the disk."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from evoprompt.errors import UserError, unknown_name
from evoprompt.experts.artifact import CONFIG, PROVENANCE, WEIGHTS, Expert, read_expert
from evoprompt.files import PARTIAL, replacing

if TYPE_CHECKING:
    from evoprompt.llm import FrozenModel

BUNDLED = "bundled"
"""Stands for the experts that come with the package: the pocket model's, one of each culture of the committee."""
POCKET = Path(__file__).with_name("pocket")
IN_RUN = "expert"  # name of the folder that a run exports to
RESERVED = ("base", "committee")
_FILES = (WEIGHTS, CONFIG, PROVENANCE)
_CULTURE = re.compile(r'"culture"\s*:\s*\{.*?"key"\s*:\s*"([^"\\]+)"', re.DOTALL)  # also in half a file


@dataclass(frozen=True, eq=False)
class _Found:
    """What is in a folder: an expert, or why it cannot be served; and its culture and name in either case."""

    below: str  # the folder's path below the registry's
    stamp: tuple[tuple[int, int, int], ...]
    expert: Expert | str
    culture: str | None  # None: cannot be told
    name: str = ""


@dataclass(frozen=True)
class Changes:
    """What a reload found, by name."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(eq=False)
class Registry:
    """The experts at any depth below a folder, behind links too, by name.

    An expert is called like its folder; one in a run's `expert/` like its culture, and where a culture has several of
    these, like its run; names that would be the same are paths. One that is damaged or was evolved on another base
    model is left out, with the reason, and keeps its name: no other expert gets it. What was handed out stays as it is
    while files change: experts are read whole and never written.

    Parameters
    ----------
    folder
        Where experts are; `bundled` for those of the package.
    frozen
        The base model that they have to fit; None does not look.

    Attributes
    ----------
    experts
        All that are served; a reload makes a new mapping and leaves this one alone.
    left_out
        Folder of what is not served -> why, in a line.

    Raises
    ------
    UserError
        There is no such folder.
    """

    folder: Path
    frozen: FrozenModel | None = None
    experts: Mapping[str, Expert] = field(default_factory=dict, init=False, repr=False)
    left_out: Mapping[Path, str] = field(default_factory=dict, init=False)
    _found: dict[Path, _Found] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.folder = POCKET if str(self.folder) == BUNDLED else Path(self.folder)
        if not self.folder.is_dir():
            raise UserError(
                f"{self.folder} is not a folder; give one that holds experts, or {BUNDLED} for the package's"
            )
        self.reload()

    def __len__(self) -> int:
        return len(self.experts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.experts)

    def __contains__(self, name: object) -> bool:
        return name in self.experts

    def __getitem__(self, name: str) -> Expert:
        """An expert by its name.

        Raises
        ------
        UserError
            There is none, or it is left out; says why.
        """
        if name in self.experts:
            return self.experts[name]
        if reason := self.why_left_out(name):
            raise UserError(f"expert {name!r} is left out: {reason}")
        raise unknown_name("expert", name, self.experts)

    def why_left_out(self, name: str) -> str:
        """Why the expert that has or had this name is not served; nothing if there is none or it is."""
        for path, found in self._found.items():
            if isinstance(found.expert, str) and name in (found.name, path.name, found.below):
                return found.expert
        return ""

    def reload(self) -> Changes:
        """Look at the folder again; only what has changed there is read."""
        stripped = [path for path in self._found if not (path / PROVENANCE).exists() and (path / WEIGHTS).exists()]
        all_found = {}
        for path in sorted({*_folders(self.folder), *stripped}):
            stamp, found = _stamp(path), self._found.get(path)
            if found is None or found.stamp != stamp:
                expert, known = self._verified(path), found and found.culture
                culture = expert.culture if isinstance(expert, Expert) else known or _told_culture(path)
                found = _Found(path.relative_to(self.folder).as_posix(), stamp, expert, culture)
            all_found[path] = found
        all_found = {path: replace(all_found[path], name=name) for path, name in _names(all_found).items()}
        self._found = all_found  # at once: others may be reading it
        sound = {found.name: found.expert for found in all_found.values() if isinstance(found.expert, Expert)}
        before, self.experts = self.experts, MappingProxyType(dict(sorted(sound.items())))
        self.left_out = {path: found.expert for path, found in all_found.items() if isinstance(found.expert, str)}
        return Changes(
            tuple(name for name in self.experts if name not in before),
            tuple(name for name in before if name not in self.experts),
            tuple(name for name in self.experts if name in before and before[name] is not self.experts[name]),
        )

    def add(self, source: str | Path, name: str | None = None) -> str:
        """Copy an expert into the folder, verified first and whole at once; its name.

        Raises
        ------
        UserError
            It is damaged, does not fit the base model, or the name is taken or no name.
        """
        self._require_own()
        found = self._verified(Path(source))
        if isinstance(found, str):
            raise UserError(f"{source} is not added: {found}")
        name = name or found.culture
        if name in (*RESERVED, IN_RUN) or name != Path(name).name or name.startswith(".") or not name.strip():
            others = ", ".join((*RESERVED, IN_RUN))
            raise UserError(f"{name!r} is no name for an expert; give a folder's name other than {others}")
        target = self.folder / name
        if any(found.name == name for found in self._found.values()) or target.exists():
            raise UserError(f"there is an expert {name!r} in {self.folder} already; remove it or give another name")
        with replacing(target) as partial:
            shutil.copytree(source, partial)
        self.reload()
        return name

    def remove(self, name: str) -> None:
        """Delete an expert's folder.

        Raises
        ------
        UserError
            There is no such expert, or more than it would be deleted.
        """
        self._require_own()
        path = self.path(name)
        if path == self.folder:
            raise UserError(f"{path} is the folder of experts itself; give the folder above it, or delete it by hand")
        if path.resolve() != self.folder.resolve() / path.relative_to(self.folder):
            raise UserError(f"{path} is a link to {path.resolve()}; remove the link or the expert by hand")
        inside = [other for other in self._found if path in other.parents]
        if inside:
            raise UserError(f"{path} holds other experts too ({inside[0]}); delete its files by hand")
        shutil.rmtree(path)
        self.reload()

    def path(self, name: str) -> Path:
        """The folder of an expert."""
        expert = self[name]
        return next(path for path, found in self._found.items() if found.expert is expert)

    def _require_own(self) -> None:
        if self.folder.resolve() == POCKET.resolve():
            raise UserError("the experts that come with the package are not to be changed; give a folder of your own")

    def _verified(self, path: Path) -> Expert | str:
        """The expert in a folder, or why it cannot be served."""
        try:
            expert = read_expert(path)
            if self.frozen is not None:
                expert.check_base(self.frozen)
        except UserError as error:
            return str(error)
        except Exception as error:  # whatever files can hold
            return f"{path} cannot be read: {type(error).__name__}: {error}"
        return expert


def _names(all_found: Mapping[Path, _Found]) -> dict[Path, str]:
    """A name for each, so that who is damaged keeps theirs."""
    of_runs = Counter(found.culture for path, found in all_found.items() if path.name == IN_RUN)
    names = {}
    for path, found in all_found.items():
        if path.name != IN_RUN:
            names[path] = path.name
        elif found.culture is None:
            names[path] = found.below
        else:
            names[path] = found.culture if of_runs[found.culture] == 1 else path.parent.name
    taken = Counter([*names.values(), *RESERVED])
    for path, found in all_found.items():
        if taken[names[path]] > 1:
            names[path] = f"{found.below}-expert" if found.below in RESERVED else found.below
    return names


def _folders(root: Path) -> Iterator[Path]:
    """Folders with an expert.json, each once, by its own path rather than by a link."""
    seen: set[str] = set()
    above = {str(path) for path in root.resolve().parents}  # a link to one of these is a loop
    waiting = [str(root)]
    while waiting:
        links = []
        for start in waiting:
            for parent, below, files in os.walk(start):
                real = os.path.realpath(parent)
                shown = [name for name in below if not name.startswith(".") and not name.endswith(PARTIAL)]
                below[:] = () if real in seen | above else sorted(shown)
                links += [path for name in below if os.path.islink(path := os.path.join(parent, name))]
                if PROVENANCE in files and real not in seen | above:
                    yield Path(parent)
                seen.add(real)
        waiting = links


def _told_culture(path: Path) -> str | None:
    """The culture in an expert.json, as far as it can be read."""
    try:
        found = _CULTURE.search((path / PROVENANCE).read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return found and found[1]


def _stamp(path: Path) -> tuple[tuple[int, int, int], ...]:
    """Changes when a file of the expert does."""
    found = []
    for name in _FILES:
        try:
            stat = (path / name).stat()
            found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
        except OSError:
            found.append((0, 0, 0))
    return tuple(found)
