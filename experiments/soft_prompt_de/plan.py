"""What is run: blocks of jobs, each a Hydra multirun of the main command, by preset."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import evoprompt
from evoprompt.errors import UserError, unknown_name
from evoprompt.study.sweepdir import SweepDirectory
from evoprompt.surveys import get_culture

REGIONS = ("arab", "usa", "china", "india")
LAUNCHER = "hydra/launcher=evoprompt_ray"
CONF = Path(__file__).parents[2] / "conf"
POCKET = Path(evoprompt.__file__).parent / "llm" / "pocket"


@dataclass(frozen=True)
class Preset:
    """How much is run.

    Attributes
    ----------
    budget
        Evaluations of every run but those of the ablation of the budget.
    seeds
        Of the main runs; the rivals and the ablations take the first few of them.
    ablated
        Regions of the ablations.
    placements, budgets, constants
        What the ablations try beside the defaults.
    overrides
        Of every run.
    """

    regions: tuple[str, ...] = REGIONS
    budget: int = 400
    seeds: int = 3
    rival_seeds: int = 2
    ablation_seeds: int = 2
    ablated: tuple[str, ...] = ("arab",)
    placements: tuple[str, ...] = ("suffix",)
    budgets: tuple[int, ...] = (100, 1000)
    overrides: tuple[str, ...] = ("model.threads=1",)


PRESETS = {
    "quick": Preset(),
    "full": Preset(
        budget=5000,
        seeds=10,
        rival_seeds=10,
        ablation_seeds=5,
        ablated=REGIONS,
        placements=("system", "suffix"),
        budgets=(1000, 20000),
        overrides=("model=llama3-8b-instruct", "survey.confirm=true", "hydra.launcher.gpus_per_job=1"),
    ),
}


@dataclass(frozen=True)
class Block:
    """Jobs of one multirun; `sweep` holds what they differ in beside culture and seed."""

    name: str
    regions: tuple[str, ...]
    seeds: int
    sweep: tuple[str, ...] = ()
    budget: int | None = None  # None: the sweep says

    def command(self, folder: Path, common: Sequence[str]) -> list[str]:
        """Arguments of the main command."""
        budget = () if self.budget is None else (f"budget={self.budget}",)
        return [
            "-m",
            f"+culture={','.join(self.regions)}",
            f"seed=range({self.seeds})",
            *self.sweep,
            *budget,
            f"hydra.sweep.dir={folder / self.name}",
            *common,
        ]


def blocks(preset: Preset) -> list[Block]:
    """Every block of a preset, in the order in which they are run."""
    rivals = replace(
        Block("rivals", preset.regions, preset.rival_seeds, ("optimizer=cma,nevergrad,random",)), budget=preset.budget
    )
    found = [
        Block("main", preset.regions, preset.seeds, (), preset.budget),
        rivals,
        replace(rivals, name="rivals_es", sweep=("optimizer=nevergrad", "optimizer.optimizer=RecMixES")),
    ]
    tried = {
        "tokens": ("space.tokens=1,2,8",),
        "space": ("space=random_projection,low_rank,full",),
        "placement": (f"placement={','.join(preset.placements)}",),
        "counterbalancing": ("survey.counterbalanced=false",),
        "constant": ("survey.constant=none,fixed",),
        "variant": ("optimizer.variant=shade,rand/1/bin",),
    }
    for name, sweep in tried.items():
        found.append(Block(f"ablation_{name}", preset.ablated, preset.ablation_seeds, sweep, preset.budget))
    budgets = ",".join(map(str, preset.budgets))
    found.append(Block("ablation_budget", preset.ablated, preset.ablation_seeds, (f"budget={budgets}",)))
    return found


@dataclass(frozen=True)
class Request:
    """What the command line asks for; `own` are the preset's figures that it changes, `passed` goes to every run."""

    preset: str
    settings: Preset
    folder: Path
    out: Path | None
    passed: tuple[str, ...]
    changed: bool


def read_request(arguments: Sequence[str], folder: Path) -> Request:
    """Arguments like `preset=quick regions=arab,usa seeds=2`; what is none of ours goes on to every run.

    Raises
    ------
    UserError
        The preset, a region or a number is not one.
    """
    given, passed = {}, []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key in ("preset", "regions", "seeds", "budget", "folder", "out") and equals:
            given[key] = value
        elif not equals:
            raise UserError(f"{argument!r} is no key=value; try preset=quick")
        else:
            passed.append(argument)
    name = given.pop("preset", "quick")
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    settings, changed = PRESETS[name], bool(passed or {"regions", "seeds", "budget"} & set(given))
    if "regions" in given:
        regions = tuple(given["regions"].split(","))
        for region in regions:
            get_culture(region)
        kept = tuple(region for region in settings.ablated if region in regions) or regions[:1]
        settings = replace(settings, regions=regions, ablated=kept)
    if "seeds" in given:
        seeds = _whole("seeds", given["seeds"])
        settings = replace(
            settings,
            seeds=seeds,
            rival_seeds=min(seeds, settings.rival_seeds),
            ablation_seeds=min(seeds, settings.ablation_seeds),
        )
    if "budget" in given:
        settings = replace(settings, budget=_whole("budget", given["budget"]))
    out = Path(given["out"]) if "out" in given else None
    return Request(name, settings, Path(given.get("folder", folder)), out, tuple(passed), changed)


def _whole(name: str, value: str) -> int:
    if not value.isdigit() or int(value) < 1:
        raise UserError(f"{name}={value!r} must be a whole number of at least 1")
    return int(value)


def folder_of(request: Request) -> Path:
    """Where the runs of a request go: those of other defaults, pocket weights or overrides are never mixed in."""
    digest = hashlib.sha256()
    for path in sorted([*CONF.rglob("*.yaml"), *POCKET.rglob("*.safetensors")]):
        digest.update(path.read_bytes())
    digest.update(" ".join((*request.settings.overrides, *request.passed)).encode())
    return request.folder / digest.hexdigest()[:10]


def run_block(block: Block, folder: Path, overrides: Sequence[str]) -> None:
    """Run what is not finished of a block; baselines that an earlier block has asked are not asked again.

    Raises
    ------
    UserError
        A job has no result; the command itself has said why.
    """
    sweep = SweepDirectory(folder / block.name)
    if (jobs := sweep.jobs()) and all(job.finished for job in jobs):
        return
    for other in folder.glob(f"*/{sweep.kept.name}"):
        if other != sweep.kept:
            shutil.copytree(other, sweep.kept, dirs_exist_ok=True)
    launcher = () if any(one.startswith("hydra/launcher=") for one in overrides) else (LAUNCHER,)
    arguments = block.command(folder, ("report=false", *launcher, *overrides))
    done = subprocess.run([sys.executable, "-m", "evoprompt.run", *arguments])
    if done.returncode:
        raise UserError(f"{folder / block.name} is not complete; the same command goes on with it")
