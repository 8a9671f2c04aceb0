"""Configuration files make what they are named after, with its own defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from evoprompt.objectives import RESPONDENTS, respondent_options
from evoprompt.optim import OPTIMIZERS, make_optimizer
from evoprompt.prompts import SPACES, space_options
from evoprompt.study.settings import EXECUTORS, ExecutorSettings, read_settings

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted((CONF / "optimizer").glob("*.yaml"))


def test_every_name_that_a_file_can_have_has_a_file() -> None:
    assert {path.stem for path in FILES} == {name for name in OPTIMIZERS if "/" not in name}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_configuration_makes_the_optimizer_with_its_own_defaults(path: Path) -> None:
    options = yaml.safe_load(path.read_text(encoding="utf-8"))
    name = options.pop("name")
    assert name == path.stem
    settings = {"bounds": [(0, 1)] * 3, "budget": 40, "seed": 0}
    configured, plain = make_optimizer(name, **settings, **options), make_optimizer(name, **settings)
    assert (configured.ask().x == plain.ask().x).all()


def composed(*overrides: str) -> dict[str, Any]:
    """The configuration that the main command makes of overrides."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        content = OmegaConf.to_container(compose("config", list(overrides)))
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


@pytest.mark.parametrize("kind", RESPONDENTS)
def test_a_respondents_file_holds_all_its_options_with_their_defaults(kind: str) -> None:
    written, defaults = composed(f"respondent={kind}")["respondent"], respondent_options({"kind": kind})
    assert respondent_options(written) == defaults
    assert set(written) == set(defaults)


@pytest.mark.parametrize("kind", SPACES)
def test_a_spaces_file_holds_all_its_options_with_their_defaults(kind: str) -> None:
    assert composed(f"space={kind}")["space"] == space_options({"kind": kind})
    assert {path.stem for path in (CONF / "space").glob("*.yaml")} == set(SPACES)


@pytest.mark.parametrize("kind", EXECUTORS)
def test_an_executors_file_holds_all_its_options_with_their_defaults(kind: str) -> None:
    assert ExecutorSettings(**composed(f"executor={kind}")["executor"]) == ExecutorSettings(kind)
    assert {path.stem for path in (CONF / "executor").glob("*.yaml")} == set(EXECUTORS)


@pytest.mark.parametrize("group", ["space", "executor", "model"])
def test_what_all_files_of_a_group_say_stands_in_its_defaults_alone(group: str) -> None:
    common = yaml.safe_load((CONF / f"{group}_defaults.yaml").read_text(encoding="utf-8"))
    for path in (CONF / group).glob("*.yaml"):
        own = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert not {key for key, value in own.items() if common.get(key) == value}, path


def test_the_main_file_holds_the_defaults_of_what_it_sets() -> None:
    written = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))
    least = {"culture": {"key": "arab"}, "budget": written["budget"]}
    configured = read_settings({**least, "survey": written["survey"], "placement": written["placement"]})
    plain = read_settings(least)
    assert (configured.survey, configured.placement) == (plain.survey, plain.placement)
    assert composed()["space"] == space_options({})
