"""The settings of a run: plain, checked values from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from evoprompt.checks import real_number, whole_number
from evoprompt.errors import UserError, unknown_name
from evoprompt.llm import PLACEMENTS, ModelSpec
from evoprompt.llm.load.spec import QUANTIZATIONS
from evoprompt.objectives import respondent_options
from evoprompt.optim import OPTIMIZERS, capabilities_of
from evoprompt.prompts import space_options
from evoprompt.study.rundir import TakenError
from evoprompt.surveys import Culture, cultures, custom_culture, get_culture, sample_respondents
from evoprompt.surveys.anchoring import TREATMENTS
from evoprompt.surveys.respondents import ATTRIBUTES, DEFAULT_ATTRIBUTES, count_respondents

SEARCH_RESPONDENTS = 4  # other people than those of the final evaluation
EXECUTORS = ("auto", "local", "ray")
LOOPS = ("generational", "steady")
RESUMABLE_CHANGES = ("executor", "resume", "report")  # what does not shape the result, but for the batch size


@dataclass(frozen=True)
class SurveySettings:
    """How the survey is asked and scored."""

    wording_file: str | None = None
    constant: str = "anchors"
    anchors: tuple[str, ...] = ("germany", "japan", "brazil", "sweden", "turkey", "indonesia")
    counterbalanced: bool = True
    respondents: int = 8
    respondent_seed: int = 0
    demographics: tuple[str, ...] = DEFAULT_ATTRIBUTES
    examples: int = 6
    confirm: Mapping[str, Any] | bool | None = None  # as `make_respondent` takes it, once read


@dataclass(frozen=True)
class ExecutorSettings:
    """Who evaluates."""

    kind: str = "auto"
    address: str | None = None
    workers: int | str | None = None  # "auto": as many as there is room for; None: that if there are GPUs, else one
    cpus_per_worker: float | None = None  # None: as many as `model.threads`
    gpus_per_worker: float | None = None
    batch_size: int = 8
    timeout: float = 600
    hang_timeout: float | None = None
    max_retries: int = 2


@dataclass(frozen=True)
class Settings:
    """A whole run."""

    culture: Culture
    model: ModelSpec
    optimizer: Mapping[str, Any]
    space: Mapping[str, Any]
    placement: str
    respondent: Mapping[str, Any]  # as `make_respondent` takes it
    survey: SurveySettings
    executor: ExecutorSettings
    budget: int
    loop: str
    seed: int


def _known(name: str, value: Any, known: Collection[str]) -> None:
    if value not in known:
        raise unknown_name(name, value, known)


def _workers(name: str, value: Any) -> None:
    if value != "auto":
        whole_number(name, value, 1, what="auto or a whole number")


_whole = partial(whole_number, what="a whole number")
_seconds = partial(real_number, least=0, above=True, what="a number of seconds")
CHECKS: Mapping[str, Callable[[str, Any], object]] = {
    "model.threads": partial(_whole, least=1),
    "model.token_budget": partial(_whole, least=1),
    "model.quantization": partial(_known, known=QUANTIZATIONS),
    "survey.constant": partial(_known, known=TREATMENTS),
    "survey.respondents": partial(_whole, least=2),
    "survey.examples": partial(_whole, least=1),
    "survey.respondent_seed": partial(_whole, least=0),
    "executor.kind": partial(_known, known=EXECUTORS),
    "executor.batch_size": partial(_whole, least=1),
    "executor.max_retries": partial(_whole, least=0),
    "executor.timeout": _seconds,
    "executor.hang_timeout": _seconds,
    "executor.cpus_per_worker": partial(real_number, least=0),
    "executor.gpus_per_worker": partial(real_number, least=0),
    "executor.workers": _workers,
}
"""What a value must be, unless it is None and may be."""


def read_settings(config: Mapping[str, Any]) -> Settings:
    """Check a configuration and turn it into settings.

    Raises
    ------
    UserError
        The first thing that is wrong, with its value and what would be right.
    """
    loop, placement = config.get("loop", LOOPS[0]), config.get("placement", PLACEMENTS[0])
    _known("loop", loop, LOOPS)
    optimizer = _optimizer(config, loop)
    _known("placement", placement, PLACEMENTS)
    seed = _whole("seed", config.get("seed", 0), 0)
    respondent = respondent_options(config.get("respondent") or {}, seed)
    return Settings(
        culture=_culture(config.get("culture")),
        model=_section(ModelSpec, config, "model"),
        optimizer=optimizer,
        space=space_options(config.get("space") or {}),
        placement=placement,
        respondent=respondent,
        survey=_survey(config, respondent["kind"], seed),
        executor=_section(ExecutorSettings, config, "executor"),
        budget=_whole("budget", config.get("budget"), 1),
        loop=loop,
        seed=seed,
    )


def _optimizer(config: Mapping[str, Any], loop: str) -> dict[str, Any]:
    """The optimizer's name and options; in a steady-state loop it learns from each result as it comes, if it can."""
    optimizer = dict(config.get("optimizer") or {"name": "auto"})
    _known("optimizer", optimizer.get("name"), OPTIMIZERS)
    can = capabilities_of(optimizer["name"])
    if loop == "steady" and not can.asks_ahead:
        able = [name for name in OPTIMIZERS if capabilities_of(name).asks_ahead]
        raise UserError(
            f"optimizer={optimizer['name']} gives no candidate while others are being evaluated, so that loop=steady "
            f"cannot use it; take loop=generational or one of {', '.join(able)}"
        )
    return {"updating": "immediate", **optimizer} if loop == "steady" and can.steady_state else optimizer


def _survey(config: Mapping[str, Any], respondent: str, seed: int) -> SurveySettings:
    survey: SurveySettings = _section(SurveySettings, config, "survey")
    for name, example in (("anchors", "japan, brazil"), ("demographics", "gender, age")):
        given = getattr(survey, name)
        if not isinstance(given, tuple):
            like = given if isinstance(given, str) else example
            raise UserError(f"survey.{name}={given!r} must be a list of names, like [{like}]")
    for key in survey.anchors:
        get_culture(key)
    sample_people(survey)
    return replace(survey, confirm=_confirm(survey.confirm, respondent, seed))


def sample_people(survey: SurveySettings) -> list[str]:
    """Respondents of the search, then those of the final evaluation; no two alike.

    Raises
    ------
    UserError
        There are not so many people that differ in `survey.demographics`.
    """
    needed, known = SEARCH_RESPONDENTS + survey.respondents, count_respondents(survey.demographics)
    if needed > known:
        left, others = known - SEARCH_RESPONDENTS, [name for name in ATTRIBUTES if name not in survey.demographics]
        ways = [f"survey.respondents={left} or fewer"] if left >= 2 else []
        ways += [f"more demographics ({', '.join(others)})"] if others else []
        raise UserError(
            f"survey.respondents={survey.respondents} and {SEARCH_RESPONDENTS} for the search are {needed} people, but "
            f"survey.demographics=[{', '.join(survey.demographics)}] tells only {known} apart; use {' or '.join(ways)}"
        )
    return sample_respondents(SEARCH_RESPONDENTS + survey.respondents, survey.respondent_seed, survey.demographics)


def _confirm(given: Any, respondent: str, seed: int) -> dict[str, Any] | None:
    """How free text is sampled in a confirmation; None for no confirmation."""
    if given is None or given is False:
        return None
    if given is not True and not isinstance(given, Mapping):
        raise UserError(f"survey.confirm={given!r} must be true, false or how to sample, like {{samples: 5}}")
    if respondent == "sampled":
        raise UserError("survey.confirm is of no use with respondent=sampled, which asks in free text anyway")
    return respondent_options({**({} if given is True else given), "kind": "sampled"}, seed, "survey.confirm")


def _section(kind: type, config: Mapping[str, Any], name: str) -> Any:
    """A part of the configuration as a dataclass, each value as `CHECKS` wants it."""
    values = dict(config.get(name) or {})
    known = {field.name: str(field.type) for field in fields(kind)}
    for key, value in values.items():
        if key not in known:
            raise unknown_name(f"key {name}.*", key, known)
        check = CHECKS.get(f"{name}.{key}")
        if check and not (value is None and known[key].endswith("None")):
            check(f"{name}.{key}", value)
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def _culture(entry: Any) -> Culture:
    if not entry:
        raise UserError(f"no culture given; add +culture=<name>, one of: {', '.join(sorted(cultures()))}, custom")
    if entry.get("key") == "custom":
        name = str(entry.get("name") or "custom")
        return custom_culture(name, entry.get("place"), entry.get("targets") or {})
    known = get_culture(str(entry.get("key")))
    targets = entry.get("targets")
    if targets is not None and dict(targets) != dict(known.targets):
        raise UserError(
            f"the targets of {known.key!r} are fixed; use +culture=custom culture.targets={{...}} for your own"
        )
    return known


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs between two configurations, as `key: old -> new`, leaving out what may differ."""
    found = []
    for key in sorted({*old, *new}):
        name, left, right = f"{prefix}{key}", old.get(key), new.get(key)
        if isinstance(left, Mapping | None) and isinstance(right, Mapping | None):
            found += differences(left or {}, right or {}, f"{name}.")
        elif left != right and (name == "executor.batch_size" or name.split(".")[0] not in RESUMABLE_CHANGES):
            found.append(f"{name}: {left!r} -> {right!r}")
    return found


def require_same(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    """Refuse to continue a run under another configuration.

    Raises
    ------
    TakenError
        Lists what differs.
    """
    if found := differences(old, new):
        raise TakenError(f"{folder} was run with another configuration; what differs: {'; '.join(found)}")
