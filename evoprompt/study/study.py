"""A study: the constant, the baselines, the search, the final evaluation and the expert of one run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from rich.console import Console

from evoprompt.errors import UserError
from evoprompt.experts import Expert, read_expert, served_by_peft, write_expert
from evoprompt.files import as_json, replacing, write_json
from evoprompt.llm import FrozenModel, Respondent, load_model, prompt_cost
from evoprompt.objectives import AnyRespondent, SurveyAlignment, SurveyAlignmentFactory, make_respondent
from evoprompt.optim import Optimizer
from evoprompt.prompts import Space, load_space, save_space, space_for
from evoprompt.study.arms import AnswerCache, Measurements, SurveyPanel, exported, icl_preface
from evoprompt.study.run_info import optimizer_info, optimizer_words, versions
from evoprompt.study.rundir import SCHEMA_VERSION, RunDirectory, RunResult
from evoprompt.study.search import cluster, optimizer_of, run_search
from evoprompt.study.settings import SEARCH_RESPONDENTS, Settings, sample_people
from evoprompt.study.table import figure, say
from evoprompt.surveys import (
    Constant,
    anchored_constant,
    balanced_plan,
    choose_anchors,
    fixed_constant,
    get_culture,
    load_instrument,
    vsm13,
)
from evoprompt.surveys.quality import LABEL_MASS_LIMIT, percent
from evoprompt.surveys.vsm13 import DIMENSIONS

CONFIRMED = ("loss", "interval", "dimensions", "invalid_rate")
RUN_TO_METRICS = ("placement", "optimizer", "seed", "constant", "start_label_mass")
RUN_TO_EXPERT = ("instrument", "constant", "respondent", "started_from", "seed", "versions")
ASKED = ("respondents", "respondent_seed", "demographics", "counterbalanced", "examples", "confirm")


class Study:
    """Runs one study in one run directory; `run` may be called on a fresh or an interrupted one.

    What the frozen model answers under texts is taken from `cache`, where there is one, and left there.
    """

    def __init__(
        self, settings: Settings, directory: RunDirectory, console: Console, cache: AnswerCache | None = None
    ) -> None:
        self.settings, self.directory, self.console, self.cache = settings, directory, console, cache
        file = settings.survey.wording_file
        self.instrument = load_instrument(file) if file else vsm13()
        self.people = sample_people(settings.survey)

    def run(self) -> RunResult:
        """Do what is left to do and return the metrics."""
        began = time.monotonic()
        settings, directory = self.settings, self.directory
        if directory.metrics.exists():
            metrics = directory.read_metrics()
            directory.remember(status="finished", failure={})
            return RunResult(metrics, directory)
        with cluster(settings):
            return self._run(began)

    def _run(self, began: float) -> RunResult:
        settings, directory = self.settings, self.directory
        frozen = load_model(settings.model)
        self._check_inputs(frozen)
        panel, again = self._panel(frozen, settings.respondent), settings.survey.confirm
        confirming = self._panel(frozen, again) if isinstance(again, Mapping) else None  # bad numbers are refused early
        space = self._space(frozen)
        optimizer = optimizer_of(settings, space.bounds)
        say(
            self.console,
            f"{settings.culture.name}: evolving {space.centre.shape[0]} soft tokens ({space.d} coordinates) of the "
            f"frozen model {settings.model.name} by {optimizer_words(self._searching(optimizer))}, "
            f"{settings.budget} evaluations",
        )
        constant = self._constant(panel)
        self._remember_inputs(frozen, constant, optimizer)
        factory = self._factory(space, constant)
        objective = factory.around(panel.respondent)
        panel.respondent.check(objective.sheet, space.centre.shape[0])
        self._remember_scoring(objective)
        self._check_start(frozen, objective)
        measured = Measurements(panel, settings.culture, constant.array)
        self._baselines(measured)
        before = directory.info.seconds

        def saved(searching: Optimizer) -> None:
            directory.remember(seconds=before + time.monotonic() - began, optimizer=self._searching(searching))

        best, stopped, invalid = run_search(settings, factory, objective, optimizer, directory, self.console, saved)
        prompt = space.decode(best.x[None])[0]
        measured.measure("evolved", prompt=prompt)
        metrics = self._metrics(frozen, space, prompt, measured)
        metrics |= {"evaluations": optimizer.evaluations, "failed": optimizer.failed, "invalid_rate": invalid}
        metrics |= {"stopped": stopped, "search_loss": best.loss}
        if confirming:
            metrics["confirmation"] = self._confirm(confirming, prompt, measured)
        metrics["seconds"] = before + time.monotonic() - began
        measured.save(directory.people, directory.transcript)
        self._remember_scoring(objective)
        self._export(frozen, prompt, metrics)
        write_json(directory.metrics, metrics)
        directory.remember(status="finished", failure={}, seconds=metrics["seconds"])
        return RunResult(metrics, directory)

    def _searching(self, optimizer: Optimizer) -> dict[str, Any]:
        return optimizer_info(optimizer, self.settings.optimizer)

    def _check_inputs(self, frozen: FrozenModel) -> None:
        """A continued run needs the algorithm, the weights, the place and the wordings that it began with."""
        stored = self.directory.info
        if not stored.model:
            return
        if not stored.optimizer:
            raise UserError(
                f"{self.directory.path} was begun by an earlier version of evoprompt, where `de` named the portfolio "
                "that is `auto` today, and cannot be continued; begin it again in another folder"
            )
        for name, old, new in (
            ("model fingerprint", stored.model.get("fingerprint"), frozen.fingerprint),
            ("model placed", stored.model.get("placed"), frozen.placed),
            ("wordings", stored.instrument.get("sha256"), self.instrument.sha256),
        ):
            if old != new:
                raise UserError(f"{self.directory.path} cannot be continued: {name} was {old}, is {new}")

    def _panel(self, frozen: FrozenModel, asking: Mapping[str, Any]) -> SurveyPanel:
        respondent = make_respondent(frozen, self.settings.placement, **asking)
        return SurveyPanel(respondent, self.instrument, self.people[SEARCH_RESPONDENTS:], self.cache)

    def _space(self, frozen: FrozenModel) -> Space:
        """The search space; a continued run takes the one it began with from its file, bit for bit."""
        path, options = self.directory.space, self.settings.space
        if path.exists():
            return load_space(path)
        initial = None
        if options["init_expert"]:
            expert = read_expert(options["init_expert"])
            expert.check_base(frozen)
            initial = expert.prompt
            self._remember_start(expert)
        space = space_for(frozen, options, self.settings.seed, initial)
        with replacing(path) as partial:
            save_space(partial, space)
        return space

    def _remember_start(self, expert: Expert) -> None:
        """Which expert the search starts from, for when its folder is gone."""
        named = {"expert": str(self.settings.space["init_expert"]), "culture": expert.culture}
        known = {key: expert.provenance.get(key) for key in ("placement", "run", "prompt_sha256")}
        self.directory.remember(started_from={**named, **known})
        if expert.placement != self.settings.placement:
            self._note(
                f"the prompt to start from was evolved with {expert.placement} placement, "
                f"this run has {self.settings.placement}"
            )

    def _note(self, text: str) -> None:
        """Say what a reader of the results should know, once a run, and keep it for the report."""
        notes = self.directory.info.notes
        if text not in notes:
            say(self.console, text, "yellow")
            self.directory.remember(notes=(*notes, text))

    def _constant(self, panel: SurveyPanel) -> Constant:
        """C, fitted once with the base model; a continued run keeps the one it began with."""
        stored = self.directory.info.constant
        if stored:
            return Constant(tuple(stored["values"]), stored["treatment"], tuple(stored["anchors"]))
        survey = self.settings.survey
        if survey.constant != "anchors":
            return fixed_constant(survey.constant)
        anchors = choose_anchors([get_culture(key) for key in survey.anchors], self.settings.culture)
        raw = np.stack([panel.raw(anchor.persona()) for anchor in anchors])
        if not np.isfinite(raw).all():
            raise UserError(
                f"model {self.settings.model.name!r} gives no valid answer to some item under an anchor's persona line;"
                " use survey.constant=fixed, or with respondent=sampled more samples or max_new_tokens"
            )
        return anchored_constant(anchors, raw)

    def _remember_inputs(self, frozen: FrozenModel, constant: Constant, optimizer: Optimizer) -> None:
        settings = self.settings
        self.directory.remember(
            status="running",
            seed=settings.seed,
            versions=versions(),
            model={**asdict(settings.model), "fingerprint": frozen.fingerprint, "placed": frozen.placed},
            instrument={"name": self.instrument.name, "sha256": self.instrument.sha256},
            placement=settings.placement,
            respondent=dict(settings.respondent),
            constant=asdict(constant),
            optimizer=self.directory.info.optimizer or self._searching(optimizer),
        )

    def _remember_scoring(self, objective: SurveyAlignment) -> None:
        """How this process computes the search's questions; says so where it is not the fast path."""
        respondent: AnyRespondent = objective.respondent
        if not isinstance(respondent, Respondent):
            return
        found = {
            "tokens_per_candidate": respondent.computed_tokens(objective.sheet, objective.space.centre.shape[0]),
            "path": respondent.path,
            "token_budget": respondent.budget.limit(str(respondent.path)),
            "halved": respondent.budget.halved,
        }
        if respondent.path != "cascade" and not self.directory.info.scoring:
            say(self.console, f"questions are scored by the {respondent.path} path, which is slower than the cascade")
        self.directory.remember(scoring=found)

    def _check_start(self, frozen: FrozenModel, objective: SurveyAlignment) -> None:
        """Note a placement that is none of its own, and a start from which the model hardly says a label."""
        placement, respondent = self.settings.placement, objective.respondent
        if placement != "prefix" and served_by_peft(frozen, placement):
            self._note(
                f"placement={placement} is the same as prefix here: model {self.settings.model.name!r} has neither a "
                "chat template nor a token that begins a text"
            )
        if not isinstance(respondent, Respondent) or self.directory.info.start_label_mass is not None:
            return
        centre = torch.from_numpy(objective.space.centre)[None]
        mass = float(respondent.label_mass(centre, objective.sheet).mean())
        self.directory.remember(start_label_mass=mass)
        if mass < LABEL_MASS_LIMIT:
            self._note(
                f"under the prompt that the search starts from the model puts {percent(mass)} of its words on the "
                f"labels, less than {percent(LABEL_MASS_LIMIT)}: the search sees shares of that only and may win by "
                "destroying the answer; try another placement or space.init_text, and survey.confirm=true"
            )

    def _baselines(self, measured: Measurements) -> None:
        culture, examples = self.settings.culture, self.settings.survey.examples
        if culture.place == "custom":
            self._note(f"the persona line is {culture.persona()!r}, which names no place; give culture.place")
        naive = measured.measure("naive")
        means = np.array(naive["searched"]["answers"]) @ np.arange(1.0, 6.0)
        measured.measure("persona", culture.persona())
        measured.measure("icl", icl_preface(culture, self.instrument, means, measured.constant, examples))
        for arm, found in measured.arms.items():
            searched, held_out = (found[split]["loss"] for split in ("searched", "held_out"))
            say(self.console, f"{arm:8s} loss {figure(searched):>5s} searched, {figure(held_out):>5s} held out")

    def _factory(self, space: Space, constant: Constant) -> SurveyAlignmentFactory:
        settings, people = self.settings, self.people[:SEARCH_RESPONDENTS]
        return SurveyAlignmentFactory(
            settings.model,
            space,
            balanced_plan(self.instrument, "searched", people, settings.survey.counterbalanced),
            settings.culture.target,
            constant.array,
            settings.placement,
            settings.respondent,
        )

    def _confirm(self, panel: SurveyPanel, prompt: torch.Tensor, measured: Measurements) -> dict[str, Any]:
        """Ask naive and evolved again in free text on held-out wordings; what was said joins `measured`."""
        asked = Measurements(panel, measured.culture, measured.constant, ("held_out",))
        asked.measure("naive")
        asked.measure("evolved", prompt=prompt)
        measured.quotes += asked.quotes
        return {arm: {key: found["held_out"][key] for key in CONFIRMED} for arm, found in asked.arms.items()}

    def _metrics(
        self, frozen: FrozenModel, space: Space, prompt: torch.Tensor, measured: Measurements
    ) -> dict[str, Any]:
        settings, culture, info = self.settings, self.settings.culture, self.directory.info
        return {
            **{part: getattr(info, part) for part in RUN_TO_METRICS},
            "schema_version": SCHEMA_VERSION,
            "culture": culture.key,
            "culture_name": culture.name,
            "edition": culture.edition,
            "model": frozen.spec.name,
            "space": settings.space["kind"],
            "space_options": {**settings.space, "tokens": len(space.centre), "coordinates": space.d},
            "served_by_peft": served_by_peft(frozen, settings.placement),
            "respondent": settings.respondent["kind"],
            "budget": settings.budget,
            "target": {name: culture.targets.get(name) for name in DIMENSIONS},
            "arms": measured.arms,
            "cost": asdict(prompt_cost(frozen, prompt, placement=settings.placement)),
        }

    def _export(self, frozen: FrozenModel, prompt: torch.Tensor, metrics: dict[str, Any]) -> None:
        culture, survey, info = self.settings.culture, asdict(self.settings.survey), self.directory.info
        provenance = {
            **{part: getattr(info, part) for part in RUN_TO_EXPERT},
            "culture": asdict(culture),
            "survey": {key: survey[key] for key in ASKED},
            "space": metrics["space_options"],
            "arms": exported(metrics["arms"]),
            "confirmation": metrics.get("confirmation"),
            "cost": metrics["cost"],
            "optimizer": {**self.settings.optimizer, **metrics["optimizer"]},
            "evaluations": metrics["evaluations"],
            "run": self.directory.path.name,
        }
        write_expert(self.directory.expert, prompt, frozen, as_json(provenance), self.settings.placement)
