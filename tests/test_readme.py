"""What the README shows is true."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from evoprompt.optim import OPTIMIZERS
from experiments.soft_prompt_de.__main__ import summary

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_optimizer_snippets_run() -> None:
    namespace: dict[str, object] = {}
    snippets = [block for block in blocks("python") if "evoprompt import" in block]
    assert len(snippets) == 3
    for snippet in snippets:
        exec(snippet, namespace)


def test_nothing_is_left_to_fill_in() -> None:
    assert "@@" not in README


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


@pytest.mark.parametrize("link", [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link])
def test_local_links_lead_somewhere(link: str) -> None:
    path, _, anchor = link.partition("#")
    assert (ROOT / path).exists()
    if anchor:
        headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert anchor in [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_every_optimizer_that_the_readme_names_is_one() -> None:
    section = README.split("## Optimizers")[1].split("## ")[0]
    for name in re.findall(r"optimizer=([a-z_]+)", section):
        assert (ROOT / "conf" / "optimizer" / f"{name}.yaml").exists(), name
    listed = re.findall(r"`([a-z0-9/_-]+)`", section.split("The main job")[0])
    assert set(listed) - {"/exp"} == {name for name in OPTIMIZERS if not name.endswith("/exp")}


def test_every_override_in_the_readme_is_a_known_key() -> None:
    config = (ROOT / "conf" / "config.yaml").read_text(encoding="utf-8")
    groups = {path.parent.name for path in (ROOT / "conf").glob("*/*.yaml")}
    commands = [line for block in blocks("bash") for line in block.splitlines() if "evoprompt.run" in line]
    assert commands
    for command in commands:
        for key in re.findall(r"\s\+?'?([a-z_.]+)=", command.split("#")[0]):
            top = key.split(".")[0]
            assert top in groups or top == "culture" or re.search(rf"^{top}:", config, flags=re.MULTILINE), key
