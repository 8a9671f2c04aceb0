"""A folder of experts over one frozen base model, kept true to what is on the disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from evoprompt.errors import UserError, unknown_name
from evoprompt.experts.artifact import CONFIG, PROVENANCE, WEIGHTS, Expert, read_expert
from evoprompt.llm import FrozenModel

BUNDLED = "bundled"
"""Stands for the experts that come with the package: the pocket model's, one of each culture of the committee."""
IN_RUN = "expert"  # name of the folder that a run exports to
RESERVED = ("base", "committee")
_FILES = (WEIGHTS, CONFIG, PROVENANCE)

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
    """The experts at any depth below a folder, by name.

    An expert is called like its folder; one in a run's `expert/` like its culture, and where a culture has several of
    these, like its run; names that would be the same are paths. One that is damaged or was evolved on another base
    model is left out, with the reason. What was handed out stays as it is while files change: experts are read whole
    and never written.

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
    _names: dict[Path, str] = field(default_factory=dict, init=False, repr=False)  # the last ones, damaged since or not

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
        found = (path.parent for path in self.folder.rglob(PROVENANCE))
        stamps = {path: _stamp(path) for path in found if not _is_hidden(path.relative_to(self.folder))}
        for path in [known for known in self._read if known not in stamps]:
            del self._read[path]
        for path, stamp in stamps.items():
            if self._stamps.get(path) != stamp or path not in self._read:
                self._read[path] = self._verified(path)
        self._stamps = stamps
        before, self._experts = self._experts, MappingProxyType(self._named())
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
        if name in self._experts or target.exists():
            raise UserError(f"there is an expert {name!r} in {self.folder} already; remove it or give another name")
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".adding-") as partial:
            copy = shutil.copytree(source, Path(partial) / name)
            os.replace(copy, target)
        self.reload()
        return name

    def remove(self, name: str) -> None:
        """Delete an expert's folder.

        Raises
        ------
        UserError
            There is no such expert.
        """
        self._require_own()
        expert = self[name]
        (path,) = (path for path, found in self._read.items() if found is expert)
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
        if self.folder == experts_folder(BUNDLED):
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

    def _named(self) -> dict[str, Expert]:
        """Names of what can be served."""
        sound = {path: found for path, found in sorted(self._read.items()) if isinstance(found, Expert)}
        of_runs = [found.culture for path, found in sound.items() if path.name == IN_RUN]
        wanted = {
            path: path.name
            if path.name != IN_RUN
            else found.culture
            if of_runs.count(found.culture) == 1
            else path.parent.name
            for path, found in sound.items()
        }
        taken = [*wanted.values(), *RESERVED]
        for path, name in wanted.items():
            own = path.relative_to(self.folder).as_posix()
            self._names[path] = name if taken.count(name) == 1 else f"{own}-expert" if own in RESERVED else own
        return dict(sorted((self._names[path], found) for path, found in sound.items()))


def check_name(name: str) -> None:
    """Refuse a name that cannot be a folder's or that means something else."""
    if name in RESERVED or name != Path(name).name or name.startswith(".") or not name.strip():
        raise UserError(f"{name!r} is no name for an expert; give a folder's name other than {', '.join(RESERVED)}")


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


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
