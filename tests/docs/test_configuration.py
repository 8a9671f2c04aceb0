"""Every optimizer's configuration makes that optimizer."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from evoprompt.optim import OPTIMIZERS, make_optimizer

FILES = sorted((Path(__file__).parents[2] / "conf" / "optimizer").glob("*.yaml"))


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
