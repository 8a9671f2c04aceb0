"""Configuration files make what they are named after, with its own defaults."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from evoprompt.objectives import respondent_options
from evoprompt.objectives.asking import RESPONDENTS
from evoprompt.optim import OPTIMIZERS, make_optimizer
from evoprompt.study.settings import read_settings

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


@pytest.mark.parametrize("kind", RESPONDENTS)
def test_a_respondents_file_holds_all_its_options_with_their_defaults(kind: str) -> None:
    written = yaml.safe_load((CONF / "respondent" / f"{kind}.yaml").read_text(encoding="utf-8"))
    assert written == respondent_options({"kind": kind})


def test_the_main_file_holds_the_defaults_of_what_it_sets() -> None:
    written = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))
    least = {"culture": {"key": "arab"}, "budget": written["budget"]}
    configured = read_settings({**least, "survey": written["survey"], "placement": written["placement"]})
    plain = read_settings(least)
    assert (configured.survey, configured.placement) == (plain.survey, plain.placement)
