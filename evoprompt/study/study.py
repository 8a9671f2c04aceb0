"""One run: constant, baselines, search, final evaluation, expert."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from evoprompt.errors import UserError
from evoprompt.experts import write_expert
from evoprompt.llm import FrozenModel, Respondent, load_model, prompt_cost
from evoprompt.objectives import SurveyAlignmentFactory
from evoprompt.optim import Optimizer, make_optimizer
from evoprompt.prompts import FullSpace, RandomProjection, centre_prompt, make_space, save_space
from evoprompt.study.arms import SurveyPanel, icl_preface
from evoprompt.study.rundir import SCHEMA_VERSION, RunDirectory, versions, write_text
from evoprompt.study.search import run_search
from evoprompt.study.settings import Settings
from evoprompt.surveys import (
    Constant,
    Instrument,
    anchored_constant,
    balanced_plan,
    choose_anchors,
    fixed_constant,
    get_culture,
    load_instrument,
    sample_respondents,
    vsm13,
)
from evoprompt.surveys.vsm13 import DIMENSIONS

SEARCH_RESPONDENTS = 4  # other people than those of the final evaluation
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a finished run leaves: its metrics, as in metrics.json, and its folder."""

    metrics: Mapping[str, Any]
    directory: RunDirectory


class Study:
    """Runs one study in one run directory; `run` may be called on a fresh or an interrupted one."""

    def __init__(self, settings: Settings, directory: RunDirectory, console: Console) -> None:
        self.settings, self.directory, self.console = settings, directory, console
        self.instrument = _instrument(settings)

    def run(self) -> Outcome:
        """Do what is left to do and return the metrics."""
        began = time.monotonic()
        settings, directory = self.settings, self.directory
        if directory.metrics.exists():
            directory.remember(status="finished")
            return Outcome(json.loads(directory.metrics.read_text(encoding="utf-8")), directory)
        frozen = load_model(settings.model)
        self._check_inputs(frozen)
        space = _space(settings, frozen)
        optimizer = _optimizer(settings, space)
        self.console.print(
            f"[bold]{settings.culture.name}[/bold]: evolving {space.centre.shape[0]} soft tokens "
            f"({space.d} coordinates) of the frozen model {settings.model.name}, {settings.budget} evaluations"
        )
        panel = self._panel(frozen)
        constant = self._constant(panel)
        directory.remember(
            status="running",
            seed=settings.seed,
            versions=versions(),
            model={
                **asdict(settings.model),
                "fingerprint": frozen.fingerprint,
                "placed": f"{frozen.dtype} on {frozen.device.type}",
            },
            instrument={"name": self.instrument.name, "sha256": self.instrument.sha256},
            constant=asdict(constant),
        )
        save_space(directory.space, space)
        factory = self._factory(space, constant)
        panel.respondent.check(factory.around(panel.respondent).sheet, space.centre.shape[0])
        arms = self._baselines(panel, constant)
        before = directory.recall().get("seconds", 0.0)
        directory.remember(seconds=before)

        def clock() -> None:
            directory.remember(seconds=before + time.monotonic() - began)

        result = run_search(settings, factory, panel.respondent, optimizer, directory, self.console, clock)
        prompt = space.decode(result.best.x[None])[0]
        arms["evolved"] = panel.measure(settings.culture, constant.array, prompt=prompt)
        metrics = self._metrics(frozen, prompt, arms, constant)
        seconds = before + time.monotonic() - began
        metrics |= {
            "evaluations": result.evaluations,
            "failed": result.failed,
            "stopped": result.reason,
            "search_loss": result.best.loss,
            "seconds": seconds,
        }
        self._export(frozen, prompt, metrics, constant)
        write_text(directory.metrics, json.dumps(metrics, indent=2) + "\n")
        directory.remember(status="finished", seconds=seconds)
        return Outcome(metrics, directory)

    def _check_inputs(self, frozen: FrozenModel) -> None:
        """A continued run needs the weights, the place and the wordings that it began with.

        Raises
        ------
        UserError
            One of them changed; says which, from what to what.
        """
        stored = self.directory.recall()
        if "model" not in stored:
            return
        now = {"fingerprint": frozen.fingerprint, "placed": f"{frozen.dtype} on {frozen.device.type}"}
        pairs = [(f"model {key}", stored["model"][key], value) for key, value in now.items()]
        pairs.append(("wordings", stored["instrument"]["sha256"], self.instrument.sha256))
        for name, old, new in pairs:
            if old != new:
                raise UserError(f"{self.directory.path} cannot be continued: {name} was {old}, is {new}")

    def _panel(self, frozen: FrozenModel) -> SurveyPanel:
        return SurveyPanel(Respondent(frozen), self.instrument, self._people()[SEARCH_RESPONDENTS:])

    def _people(self) -> list[str]:
        """Respondents of the search, then those of the final evaluation; no two alike."""
        survey = self.settings.survey
        return sample_respondents(SEARCH_RESPONDENTS + survey.respondents, survey.respondent_seed)

    def _constant(self, panel: SurveyPanel) -> Constant:
        """C, fitted once with the base model; a continued run keeps the one it began with."""
        stored = self.directory.recall().get("constant")
        if stored:
            return Constant(tuple(stored["values"]), stored["treatment"], tuple(stored["anchors"]))
        survey = self.settings.survey
        if survey.constant != "anchors":
            return fixed_constant(survey.constant)
        anchors = choose_anchors([get_culture(key) for key in survey.anchors], self.settings.culture)
        return anchored_constant(anchors, np.stack([panel.raw(anchor.persona()) for anchor in anchors]))

    def _baselines(self, panel: SurveyPanel, constant: Constant) -> dict[str, Any]:
        culture, survey = self.settings.culture, self.settings.survey
        plan = panel.plan("searched")
        means = plan.item_means(panel.probabilities("searched"))
        icl = icl_preface(culture, self.instrument, means, constant.array, survey.examples)
        prefaces = {"naive": "", "persona": culture.persona(), "icl": icl}
        arms = {}
        for arm, preface in prefaces.items():
            arms[arm] = panel.measure(culture, constant.array, preface)
            searched, held_out = (arms[arm][split]["loss"] for split in ("searched", "held_out"))
            self.console.print(f"{arm:8s} loss {searched:5.1f} searched, {held_out:5.1f} held out")
        return arms

    def _factory(self, space: FullSpace | RandomProjection, constant: Constant) -> SurveyAlignmentFactory:
        settings = self.settings
        people = self._people()[:SEARCH_RESPONDENTS]
        plan = balanced_plan(self.instrument, "searched", people, settings.survey.counterbalanced)
        return SurveyAlignmentFactory(settings.model, space, plan, settings.culture.target, constant.array)

    def _metrics(
        self, frozen: FrozenModel, prompt: torch.Tensor, arms: dict[str, Any], constant: Constant
    ) -> dict[str, Any]:
        culture = self.settings.culture
        return {
            "schema_version": SCHEMA_VERSION,
            "culture": culture.key,
            "culture_name": culture.name,
            "edition": culture.edition,
            "model": frozen.spec.name,
            "optimizer": self.settings.optimizer["name"],
            "seed": self.settings.seed,
            "budget": self.settings.budget,
            "target": {name: culture.targets.get(name) for name in DIMENSIONS},
            "constant": asdict(constant),
            "arms": arms,
            "cost": asdict(prompt_cost(frozen, prompt)),
        }

    def _export(self, frozen: FrozenModel, prompt: torch.Tensor, metrics: dict[str, Any], constant: Constant) -> None:
        culture = self.settings.culture
        arms = {
            arm: {
                split: {key: found[key] for key in ("loss", "interval", "dimensions")}
                for split, found in splits.items()
            }
            for arm, splits in metrics["arms"].items()
        }
        provenance = {
            "culture": {**asdict(culture), "targets": dict(culture.targets)},
            "instrument": {"name": self.instrument.name, "sha256": self.instrument.sha256},
            "constant": asdict(constant),
            "arms": arms,
            "cost": metrics["cost"],
            "optimizer": dict(self.settings.optimizer),
            "seed": self.settings.seed,
            "evaluations": metrics["evaluations"],
            "run": self.directory.path.name,
            "versions": versions(),
        }
        write_expert(self.directory.expert, prompt, frozen, provenance)


def _instrument(settings: Settings) -> Instrument:
    file = settings.survey.wording_file
    return load_instrument(file) if file else vsm13()


def _space(settings: Settings, frozen: FrozenModel) -> FullSpace | RandomProjection:
    options = dict(settings.space)
    kind, tokens, text = (
        options.pop("kind", "random_projection"),
        options.pop("tokens", 4),
        options.pop("init_text", None),
    )
    mean, spread = frozen.embedding_statistics
    options["scale"] = float(options.get("scale", 1.0)) * spread
    if kind == "random_projection":
        options["seed"] = settings.seed
    initial = frozen.embed(text) if text else None
    return make_space(kind, centre_prompt(tokens, mean, initial), **options)


def _optimizer(settings: Settings, space: FullSpace | RandomProjection) -> Optimizer:
    options = dict(settings.optimizer)
    name = options.pop("name")
    try:
        return make_optimizer(name, bounds=space.bounds, budget=settings.budget, seed=settings.seed, **options)
    except UserError:
        raise
    except (ValueError, TypeError) as error:
        raise UserError(f"optimizer {name!r}: {error}") from None
