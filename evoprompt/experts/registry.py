"""A folder of experts over one frozen base model, kept true to what is on the disk."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
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
IN_RUN = "expert"  # name of the folder that a run exports to
RESERVED = ("base", "committee")
_FILES = (WEIGHTS, CONFIG, PROVENANCE)
_CULTURE = re.compile(r'"culture"\s*:\s*\{.*?"key"\s*:\s*"([^"\\]+)"', re.DOTALL)  # also in half a file

Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Changes:
    """What a reload found, by name."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def experts_folder(folder: str | Path) -> Path:
    """The folder that is meant: `bundled` is the one that comes with the package."""
    return Path(str(resources.files("evoprompt.experts") / "pocket")) if str(folder) == BUNDLED else Path(folder)


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
    left_out
        Folder of what is not served -> why, in a line.

    Raises
    ------
    UserError
        There is no such folder.
    """

    folder: Path
    frozen: FrozenModel | None = None
    left_out: Mapping[Path, str] = field(default_factory=dict, init=False)
    _experts: Mapping[str, Expert] = field(default_factory=dict, init=False, repr=False)
    _stamps: dict[Path, Stamp] = field(default_factory=dict, init=False, repr=False)
    _read: dict[Path, Expert | str] = field(default_factory=dict, init=False, repr=False)
    _names: dict[Path, str] = field(default_factory=dict, init=False, repr=False)  # of all, left out or not
    _cultures: dict[Path, str | None] = field(default_factory=dict, init=False, repr=False)  # None: cannot be told

    def __post_init__(self) -> None:
        self.folder = experts_folder(self.folder)
        if not self.folder.is_dir():
            raise UserError(
                f"{self.folder} is not a folder; give one that holds experts, or {BUNDLED} for the package's"
            )
        self.reload()

    def __len__(self) -> int:
        return len(self._experts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._experts)

    def __contains__(self, name: object) -> bool:
        return name in self._experts

    def __getitem__(self, name: str) -> Expert:
        """An expert by its name.

        Raises
        ------
        UserError
            There is none, or it is left out; says why.
        """
        if name in self._experts:
            return self._experts[name]
        if reason := self.why_left_out(name):
            raise UserError(f"expert {name!r} is left out: {reason}")
        raise unknown_name("expert", name, self._experts)

    def why_left_out(self, name: str) -> str:
        """Why the expert that has or had this name is not served; nothing if there is none or it is."""
        for path, reason in self.left_out.items():
            if name in (self._names.get(path), path.name, path.relative_to(self.folder).as_posix()):
                return reason
        return ""

    @property
    def experts(self) -> Mapping[str, Expert]:
        """All of them as they are now; a reload makes a new mapping and leaves this one alone."""
        return self._experts

    def reload(self) -> Changes:
        """Look at the folder again; only what has changed there is read."""
        stripped = [path for path in self._read if not (path / PROVENANCE).exists() and (path / WEIGHTS).exists()]
        stamps = {path: _stamp(path) for path in sorted({*_folders(self.folder), *stripped})}
        for path in [known for known in self._read if known not in stamps]:
            del self._read[path], self._cultures[path]
        for path, stamp in stamps.items():
            if self._stamps.get(path) != stamp or path not in self._read:
                found = self._read[path] = self._verified(path)
                known = self._cultures.get(path) or _told_culture(path)
                self._cultures[path] = known if isinstance(found, str) else found.culture
        self._stamps = stamps
        self._names = self._named()
        sound = {self._names[path]: found for path, found in self._read.items() if isinstance(found, Expert)}
        before, self._experts = self._experts, MappingProxyType(dict(sorted(sound.items())))
        self.left_out = {path: found for path, found in self._read.items() if isinstance(found, str)}
        return Changes(
            tuple(name for name in self._experts if name not in before),
            tuple(name for name in before if name not in self._experts),
            tuple(name for name in self._experts if name in before and before[name] is not self._experts[name]),
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
        check_name(name)
        target = self.folder / name
        if name in self._names.values() or target.exists():
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
        inside = [other for other in self._read if path in other.parents]
        if inside:
            raise UserError(f"{path} holds other experts too ({inside[0]}); delete its files by hand")
        shutil.rmtree(path)
        self.reload()

    def path(self, name: str) -> Path:
        """The folder of an expert."""
        expert = self[name]
        return next(path for path, found in self._read.items() if found is expert)

    def _require_own(self) -> None:
        if self.folder.resolve() == experts_folder(BUNDLED).resolve():
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

    def _named(self) -> dict[Path, str]:
        """Names of all, so that who is damaged keeps theirs."""
        of_runs = Counter(self._cultures[path] for path in self._read if path.name == IN_RUN)
        own = {path: path.relative_to(self.folder).as_posix() for path in self._read}
        wanted = dict(own)
        for path in self._read:
            culture = self._cultures[path]
            if path.name != IN_RUN:
                wanted[path] = path.name
            elif culture is not None:
                wanted[path] = culture if of_runs[culture] == 1 else path.parent.name
        taken = Counter([*wanted.values(), *RESERVED])
        return {
            path: name if taken[name] == 1 else f"{own[path]}-expert" if own[path] in RESERVED else own[path]
            for path, name in wanted.items()
        }


def check_name(name: str) -> None:
    """Refuse a name that cannot be a folder's or that means something else."""
    if name in (*RESERVED, IN_RUN) or name != Path(name).name or name.startswith(".") or not name.strip():
        others = ", ".join((*RESERVED, IN_RUN))
        raise UserError(f"{name!r} is no name for an expert; give a folder's name other than {others}")


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
                below[:] = () if real in seen | above else sorted(filter(_is_shown, below))
                links += [path for name in below if os.path.islink(path := os.path.join(parent, name))]
                if PROVENANCE in files and real not in seen | above:
                    yield Path(parent)
                seen.add(real)
        waiting = links


def _is_shown(name: str) -> bool:
    """Whether a folder of this name is one that is searched: none that is hidden or still being written."""
    return not name.startswith(".") and not name.endswith(PARTIAL)


def _told_culture(path: Path) -> str | None:
    """The culture in an expert.json, as far as it can be read."""
    try:
        found = _CULTURE.search((path / PROVENANCE).read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return found and found[1]


def _stamp(path: Path) -> Stamp:
    """Changes when a file of the expert does."""
    found = []
    for name in _FILES:
        try:
            stat = (path / name).stat()
            found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
        except OSError:
            found.append((0, 0, 0))
    return tuple(found)
