"""`evoprompt COMMAND ...`: one entry for all commands."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from evoprompt import __version__
from evoprompt.commands.start import COMMANDS, main

ROOT = Path(__file__).parents[2]
ENTRY = "import sys; sys.argv[0] = 'evoprompt'; from evoprompt.commands.start import main; sys.exit(main())"


def completed(line: str) -> set[str]:
    """What the shell offers for a line, once Hydra's completion is installed."""
    environment = {**os.environ, "COMP_LINE": line}
    command = [sys.executable, "-c", ENTRY, "-sc", "query=bash"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_script_of_the_package_is_this_entry() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"evoprompt": f"{main.__module__}:{main.__name__}"}


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in COMMANDS)


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"evoprompt {__version__}\n"


def test_an_unknown_command_is_one_line_with_the_close_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rout", "Hello"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("evoprompt: unknown command 'rout'; did you mean route")


def test_no_command_shows_the_help_and_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "evoprompt run +culture=arab" in capsys.readouterr().out


@pytest.mark.parametrize("entry", [("experts", "blend"), ("blend",)])
def test_a_blend_is_asked_for_by_either_name(entry: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*entry, "japan=much", "usa=1", "--out", "nowhere"]) == 2
    assert capsys.readouterr().err == "evoprompt: 'japan=much' is no expert with a weight; write it like arab=2\n"


def test_the_module_of_the_package_is_the_same_command() -> None:
    command = [sys.executable, "-m", "evoprompt", "experts", "card", "japan"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "# Soft prompt for Japan" in done.stdout


def test_the_shell_completes_commands_groups_and_keys() -> None:
    assert completed("evoprompt ru") == {*COMMANDS}
    assert completed("evoprompt run +culture=ara") == {"+culture=arab"}
    assert completed("evoprompt check model.de") == {"model.device="}
    assert completed("evoprompt route ") == set()  # argparse offers none
