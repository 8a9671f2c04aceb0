"""What docs/guides/cluster.md names exists."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from evoprompt.optim import OPTIMIZERS, capabilities_of
from evoprompt.study.journal import COLUMNS
from evoprompt.study.settings import ExecutorSettings
from evoprompt.surveys import DIMENSIONS

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guides" / "cluster.md").read_text(encoding="utf-8")


def test_the_table_of_options_holds_each_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `executor\.(\w+)` \| (\S+) \|", GUIDE, flags=re.MULTILINE))
    known = {field.name: field.default for field in fields(ExecutorSettings) if field.name != "kind"}
    assert rows == {name: "null" if default is None else f"{default:g}" for name, default in known.items()}


def test_every_column_of_the_history_is_told() -> None:
    told = GUIDE.split("`history.parquet` has a row per evaluation")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", told)) == set(COLUMNS) - set(DIMENSIONS)


def test_the_optimizers_that_need_whole_generations_are_named() -> None:
    unable = [name for name in OPTIMIZERS if not capabilities_of(name).asks_ahead]
    assert f"all but {' and '.join(f'`{name}`' for name in unable)}" in GUIDE


def test_every_recipe_is_listed() -> None:
    listed = set(re.findall(r"^\| `([\w.]+)` \|", GUIDE.split("## A cluster")[1], flags=re.MULTILINE))
    assert listed == {path.name for path in (ROOT / "experiments" / "cluster").iterdir()}
