"""Configurations: what is refused, and what may differ when a run is continued."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evoprompt.errors import UserError
from evoprompt.study import read_settings
from evoprompt.study.settings import require_same

GOOD: dict[str, Any] = {"culture": {"key": "arab"}, "budget": 10, "seed": 0, "optimizer": {"name": "de"}}


def test_defaults_fill_what_is_not_given() -> None:
    settings = read_settings(GOOD)
    assert settings.survey.constant == "anchors"
    assert settings.executor.batch_size == 8
    assert settings.model.name == "pocket"
    assert settings.placement == "prefix"
    assert settings.respondent == {"kind": "options"}
    assert settings.survey.confirm is None
    assert settings.space["kind"] == "vocab_pca"


def test_a_confirmation_takes_the_defaults_of_free_text_where_it_says_nothing() -> None:
    sampled = read_settings({**GOOD, "respondent": {"kind": "sampled"}}).respondent
    assert read_settings({**GOOD, "survey": {"confirm": True}}).survey.confirm == sampled
    assert read_settings({**GOOD, "survey": {"confirm": {"samples": 5}}}).survey.confirm == {**sampled, "samples": 5}
    assert read_settings({**GOOD, "survey": {"confirm": False}}).survey.confirm is None


@pytest.mark.parametrize("given", [{}, {"seed": None}])
def test_free_text_is_sampled_by_the_seed_of_the_run_unless_it_has_its_own(given: dict[str, Any]) -> None:
    for seed in (0, 7):
        sampled = read_settings({**GOOD, "seed": seed, "respondent": {"kind": "sampled", **given}}).respondent
        confirmed = read_settings({**GOOD, "seed": seed, "survey": {"confirm": given or True}}).survey.confirm
        assert sampled == confirmed
        assert sampled["seed"] == seed
    own = {"seed": 3}
    assert read_settings({**GOOD, "seed": 7, "respondent": {"kind": "sampled", **own}}).respondent["seed"] == 3
    confirmed = read_settings({**GOOD, "seed": 7, "survey": {"confirm": own}}).survey.confirm
    assert isinstance(confirmed, dict)
    assert confirmed["seed"] == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"culture": None}, "no culture given"),
        ({"culture": {"key": "arab", "targets": {"pdi": 1}}}, "targets of 'arab' are fixed"),
        ({"budget": 0}, "budget must be a whole number >= 1, got 0"),
        ({"budget": True}, "budget must be a whole number >= 1, got True"),
        ({"seed": -1}, "seed must be a whole number >= 0, got -1"),
        ({"optimizer": {"name": "dee"}}, "did you mean de"),
        ({"survey": {"anchors": ["germny"]}}, "did you mean germany"),
        ({"survey": {"respondents": 1}}, "survey.respondents must be a whole number >= 2, got 1"),
        ({"survey": {"respondent": 3}}, "did you mean respondents"),
        ({"executor": {"batch_size": 0}}, "executor.batch_size must be a whole number >= 1, got 0"),
        ({"executor": {"timeout": 0}}, "executor.timeout must be a number of seconds > 0, got 0"),
        ({"executor": {"hang_timeout": True}}, "executor.hang_timeout must be a number of seconds > 0, got True"),
        ({"executor": {"cpus_per_worker": "some"}}, "executor.cpus_per_worker must be a number >= 0, got 'some'"),
        ({"executor": {"gpus_per_worker": -1}}, "executor.gpus_per_worker must be a number >= 0, got -1"),
        ({"executor": {"max_retries": -1}}, "executor.max_retries must be a whole number >= 0, got -1"),
        ({"executor": {"workers": "many"}}, "executor.workers must be auto or a whole number >= 1, got 'many'"),
        ({"loop": "steadi"}, "unknown loop 'steadi'; did you mean steady"),
        (
            {"loop": "steady", "optimizer": {"name": "scipy"}},
            "loop=steady cannot use it; take loop=generational or one of",
        ),
        ({"placement": "sufix"}, "unknown placement 'sufix'; did you mean suffix"),
        ({"respondent": {"kind": "samples"}}, "unknown respondent 'samples'; did you mean sampled"),
        ({"respondent": {"kind": "options", "samples": 2}}, r"respondent\.samples belongs to respondent=sampled"),
        ({"respondent": {"kind": "options", "sampels": 2}}, r"unknown key respondent\.\* 'sampels'"),
        (
            {"respondent": {"kind": "sampled", "samples": 0}},
            r"^respondent\.samples must be a whole number >= 1, got 0",
        ),
        (
            {"respondent": {"kind": "sampled", "max_new_tokens": 2.5}},
            r"^respondent\.max_new_tokens must be a whole number >= 1, got 2\.5",
        ),
        (
            {"respondent": {"kind": "sampled", "temperature": -1}},
            r"^respondent\.temperature must be a number >= 0, got -1",
        ),
        (
            {"respondent": {"kind": "sampled", "top_p": 1.5}},
            r"^respondent\.top_p must be a number > 0 and <= 1",
        ),
        ({"respondent": {"kind": "sampled", "seed": -1}}, r"^respondent\.seed must be a whole number >= 0, got -1"),
        (
            {"survey": {"confirm": {"samples": True}}},
            r"^survey\.confirm\.samples must be a whole number >= 1",
        ),
        ({"survey": {"confirm": 3}}, "survey.confirm=3 must be true, false or how to sample"),
        ({"survey": {"confirm": {"sample": 2}}}, "did you mean samples"),
        ({"respondent": {"kind": "sampled"}, "survey": {"confirm": True}}, "of no use with respondent=sampled"),
        ({"survey": {"demographics": ["jender"]}}, "did you mean gender"),
        (
            {"survey": {"demographics": "gender"}},
            r"survey.demographics='gender' must be a list of names, like \[gender\]",
        ),
        ({"survey": {"demographics": None}}, r"survey.demographics=None must be a list of names, like \[gender, age\]"),
        (
            {"survey": {"demographics": ["gender"], "respondents": 2}},
            r"survey\.respondents=2 and 4 for the search are 6 people, but survey\.demographics=\[gender\] tells "
            r"only 2 apart; use more demographics \(age, education, occupation\)",
        ),
        ({"survey": {"respondents": 81}}, r"tells only 84 apart; use survey\.respondents=80 or fewer or more"),
        ({"survey": {"anchors": "japan"}}, r"survey.anchors='japan' must be a list of names, like \[japan\]"),
        ({"model": {"token_budget": 0}}, "model.token_budget must be a whole number >= 1, got 0"),
        ({"model": {"token_budget": 1.5}}, r"model.token_budget must be a whole number >= 1, got 1\.5"),
        ({"model": {"quantization": "16bit"}}, "unknown model.quantization '16bit'; did you mean"),
        ({"space": {"kind": "lowrank"}}, "did you mean low_rank"),
        ({"space": {"kind": "full", "rank": 2}}, r"space\.rank belongs to space=low_rank; this is space=full"),
        ({"space": {"init": "expert"}}, "space.init=expert needs space.init_expert"),
    ],
)
def test_bad_values_are_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_settings({**GOOD, **change})


def test_the_executor_may_change_on_resume_but_not_what_shapes_the_result() -> None:
    old = {**GOOD, "executor": {"kind": "local", "batch_size": 8}}
    require_same(old, {**old, "executor": {"kind": "ray", "batch_size": 8}, "report": False}, Path("run"))
    with pytest.raises(UserError, match=r"executor\.batch_size: 8 -> 4"):
        require_same(old, {**old, "executor": {"kind": "local", "batch_size": 4}}, Path("run"))
    with pytest.raises(UserError, match=r"resumed: None -> 1"):
        require_same(old, {**old, "resume": "run", "resumed": 1}, Path("run"))
    with pytest.raises(UserError, match=r"budget: 10 -> 11; seed: 0 -> 1"):
        require_same(old, {**old, "budget": 11, "seed": 1}, Path("run"))
