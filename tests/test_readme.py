"""What the README shows is true. That its snippets run and its links lead somewhere is tested in `tests/docs`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd

from experiments.soft_prompt_de.__main__ import summary

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_it_is_two_pages_long() -> None:
    assert len(README.splitlines()) <= 150


def test_the_table_follows_from_the_committed_runs() -> None:
    study = ROOT / "experiments" / "soft_prompt_de"
    found = {
        name: pd.read_csv(study / f"{name}.csv") for name in ("losses", "tests", "optimizers", "transfer", "ability")
    }
    assert f"<!-- table -->\n{summary(found)}\n<!-- /table -->" in README


def test_the_sample_run_is_the_committed_one() -> None:
    """The README shows some lines of what the command printed, in their order."""
    printed = (ROOT / "experiments" / "sample" / "printed.txt").read_text(encoding="utf-8").splitlines()
    (shown,) = [block.splitlines() for block in blocks("text") if block.startswith("Arab countries: evolving")]
    last = -1
    for line in shown:
        if line != "...":
            last = printed.index(line, last + 1)
    metrics = json.loads((ROOT / "experiments" / "sample" / "metrics.json").read_text(encoding="utf-8"))
    assert f"│ evolved │ {metrics['arms']['evolved']['held_out']['loss']:4.1f} │" in README


def test_it_has_the_two_commands_where_the_continuous_integration_looks() -> None:
    for mark in ("main command", "test command"):
        found = re.findall(rf"(?m)^<!-- {mark} -->\n```bash\n(.*)\n```$", README)
        assert len(found) == 1
        assert found[0].startswith("python -m pip install -c constraints.txt -e ")


def test_it_says_what_is_not_proven() -> None:
    assert "never evidence about people" in README
    assert "On a real model** there is no such result yet" in README
