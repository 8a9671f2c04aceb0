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
from evoprompt.study.settings import SurveySettings
from evoprompt.study.sweepdir import SweepDirectory
from evoprompt.surveys import get_culture

REGIONS = ("arab", "usa", "china", "india")
CONF = Path(__file__).parents[2] / "conf"
POCKET = Path(evoprompt.__file__).parent / "llm" / "pocket"


@dataclass(frozen=True)
class Preset:
    """How much is run.

    Attributes
    ----------
    budget
        Evaluations of every run but those of the ablation of the budget, which tries `multiples` of it.
    seeds
        Of the main runs; the rivals and the ablations take the first few of them.
    ablated
        Regions of the ablations.
    placements, multiples
        What the ablations try beside the defaults.
    overrides
        Of every run.
    launcher
        Where the command line chooses no other.
    """

    regions: tuple[str, ...] = REGIONS
    budget: int = 400
    seeds: int = 3
    rival_seeds: int = 2
    ablation_seeds: int = 2
    ablated: tuple[str, ...] = ("arab",)
    placements: tuple[str, ...] = ("suffix",)
    multiples: tuple[float, ...] = (0.25, 2.5)
    overrides: tuple[str, ...] = ("model.threads=1",)
    launcher: tuple[str, ...] = ("hydra/launcher=evoprompt_ray",)


PRESETS = {
    "quick": Preset(),
    "full": Preset(
        budget=5000,
        seeds=10,
        rival_seeds=10,
        ablation_seeds=5,
        ablated=REGIONS,
        placements=("system", "suffix"),
        multiples=(0.2, 4.0),
        overrides=("model=llama3-8b-instruct", "survey.confirm=true"),
        launcher=("hydra/launcher=evoprompt_ray", "hydra.launcher.gpus_per_job=1"),
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
        "variant": ("optimizer=shade,de",),
    }
    for name, sweep in tried.items():
        found.append(Block(f"ablation_{name}", preset.ablated, preset.ablation_seeds, sweep, preset.budget))
    budgets = ",".join(str(max(1, round(multiple * preset.budget))) for multiple in preset.multiples)
    found.append(Block("ablation_budget", preset.ablated, preset.ablation_seeds, (f"budget={budgets}",)))
    return found


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Attributes
    ----------
    preset, settings
        Its name, and its figures as the command line changes them.
    folder, out
        Where runs and tables go.
    passed
        What goes to every run beside the preset's overrides.
    changed
        Whether anything differs from the preset.
    """

    preset: str
    settings: Preset
    folder: Path
    out: Path | None
    passed: tuple[str, ...]
    changed: bool

    @property
    def overrides(self) -> tuple[str, ...]:
        """What every run is told beside its own."""
        return (*self.settings.overrides, *_common_anchors(self.settings.regions, self.passed), *self.passed)

    @property
    def launcher(self) -> tuple[str, ...]:
        """The launcher and its options, where `passed` chooses none."""
        chosen = any(one.startswith("hydra/launcher=") for one in self.passed)
        return () if chosen else self.settings.launcher


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
        elif key == "respondent":
            raise UserError(
                f"{argument}: the study compares probabilities of options; survey.confirm=true adds free text"
            )
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


def _common_anchors(regions: Sequence[str], passed: Sequence[str]) -> tuple[str, ...]:
    """Anchors of the constant C without the regions, so that all have the same C and their scores can be ranked.

    >>> _common_anchors(["japan", "kenya"], [])
    ('survey.anchors=[germany,brazil,sweden,turkey,indonesia]',)
    """
    usual = SurveySettings().anchors
    left = [anchor for anchor in usual if anchor not in regions]
    own = any(one.startswith(("survey.anchors=", "survey.constant=")) for one in passed)
    return () if own or len(left) == len(usual) else (f"survey.anchors=[{','.join(left)}]",)


def folder_of(request: Request) -> Path:
    """Where the runs of a request go: those of other settings, defaults or pocket weights are never mixed in."""
    digest = hashlib.sha256()
    for path in sorted([*CONF.rglob("*.yaml"), *POCKET.rglob("*.safetensors")]):
        digest.update(path.read_bytes())
    digest.update(repr((evoprompt.__version__, request.settings, request.passed)).encode())
    return request.folder / digest.hexdigest()[:10]


def run_block(block: Block, folder: Path, overrides: Sequence[str], launcher: Sequence[str]) -> None:
    """Run what is not finished of a block; baselines that an earlier block has asked are not asked again.

    Raises
    ------
    UserError
        A job has no result; the command itself has said why.
    """
    sweep = SweepDirectory(folder / block.name)
    if (jobs := sweep.jobs()) and all(job.finished for job in jobs):
        return
    for other in folder.glob(f"*/{sweep.answers.name}"):
        if other != sweep.answers:
            shutil.copytree(other, sweep.answers, dirs_exist_ok=True)
    arguments = block.command(folder, ("report=false", *launcher, *overrides))
    done = subprocess.run([sys.executable, "-m", "evoprompt.run", *arguments])
    if done.returncode:
        raise UserError(f"{folder / block.name} is not complete; the same command goes on with it")
