"""What the commands about experts print, whatever is in them or typed."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import forkserver
import pytest
import torch

from evoprompt.commands.start import call
from evoprompt.experts import write_expert
from evoprompt.llm import FrozenModel

experts, route, serve = (partial(call, name) for name in ("experts", "route", "serve"))
GREETING = "How should I greet my neighbours?"


@pytest.fixture
def folder(pocket: FrozenModel, tmp_path: Path) -> Path:
    """Two experts, one of a culture whose name looks like markup."""
    for key, name in (("japan", "Ja[/pan]"), ("kenya", "[bold]Kenya")):
        about = {"culture": {"key": key, "name": name, "edition": "test", "targets": {"pdi": 50.0}}}
        write_expert(tmp_path / "all" / key, torch.randn(2, pocket.hidden), pocket, about)
    return tmp_path / "all"


def test_text_in_brackets_is_shown_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--experts", str(folder)]
    assert experts(["list", *where]) == 0
    assert {"Ja[/pan]", "[bold]Kenya"} <= set(capsys.readouterr().out.split())
    assert experts(["diff", *where, "japan", "kenya"]) == 0
    assert "Ja[/pan]" in capsys.readouterr().out
    asked = [GREETING, *where, "--location", "Nairobi [/x]", "--options", "yes [/b]|[red]no"]
    assert route(asked) == 0
    said = capsys.readouterr().out
    assert all(text in said for text in ("[bold]Kenya", "the user is in Nairobi [/x]", "yes [/b]", "[red]no")), said
    assert route([GREETING, *where, "--expert", "japan", "--max-tokens", "1"]) == 0
    assert "Ja[/pan]" in capsys.readouterr().out


def test_an_expert_without_a_revision_is_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in folder.glob("*/expert.json"):
        about = json.loads(file.read_text())
        del about["base_model"]["revision"]
        file.write_text(json.dumps(about))
    assert route([GREETING, "--experts", str(folder), "--max-tokens", "1"]) == 0
    assert experts(["verify", "--experts", str(folder), "--model", "pocket"]) == 0


def test_a_missing_or_unreadable_card_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "japan" / "README.md").unlink()
    (folder / "kenya" / "README.md").write_bytes(b"\xff")
    for name in ("japan", "kenya"):
        assert experts(["card", "--experts", str(folder), name]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "README.md cannot be read: " in line


@pytest.mark.parametrize("name", ["query", "location", "language", "options"])
def test_bytes_that_are_no_text_are_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    odd = "\udcff hello"
    assert route([odd] if name == "query" else [GREETING, f"--{name}", odd]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"evoprompt: {name} '\\udcff hello' is not UTF-8 text"


@pytest.mark.parametrize("port", ["99999", "0", "-1"])
def test_a_port_that_is_none_is_one_line(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve(["--port", port]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"evoprompt: --port must be an integer from 1 to 65535, got {port}"


@pytest.mark.parametrize("command", [("route", GREETING, "--json", "--max-tokens=1"), ("experts", "card", "japan")])
def test_a_reader_that_goes_away_ends_the_command_quietly(command: tuple[str, ...]) -> None:
    module, *arguments = command
    whole = [sys.executable, "-m", f"evoprompt.{module}", *arguments]
    with forkserver.Python(whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asking:
        assert asking.stdout is not None
        asking.stdout.close()
        assert asking.communicate(timeout=600)[1] == b""
        assert asking.returncode == 1
