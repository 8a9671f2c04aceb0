"""Every snippet of the README and of the site: Python runs, shells parse, commands take what they are given."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

import httpx
import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from site_pages import ROOT, WRITTEN, blocks, name

from evoprompt.commands.run import CONF, register_cultures
from evoprompt.commands.start import COMMANDS, call
from evoprompt.optim import make_optimizer
from evoprompt.optim.de.mutation import STRATEGIES
from evoprompt.optim.de.papers import VARIANTS
from evoprompt.preflight.workers import coordinates
from evoprompt.study import read_settings

CLIENT = "OpenAI("
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
SHELL = {"export", ".", "eval"}  # words of the shell itself
PLACEHOLDER = re.compile(r"<[^>]*>|\S*\.\.\.\S*")  # <hub name>, outputs/arab/seed0-...


def python_of(page: Path) -> list[str]:
    """Blocks that run here. A client needs a server; included scripts and tutorials are run as such."""
    return [block for block in blocks(page, "python") if CLIENT not in block]


def commands_of(page: Path) -> list[list[str]]:
    """Each command of a page's shell blocks, as its words."""
    found = []
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"\s&&\s|\s\|\s", line):
                words = shlex.split(re.sub(r" > /dev/null", "", part), comments=True)
                if words:
                    found.append(words)
    return found


PYTHON = [page for page in WRITTEN if python_of(page)]
GIVEN = [(page, words) for page in WRITTEN for words in commands_of(page)]


@pytest.fixture
def own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variants and strategies that a page adds are gone afterwards."""
    for registry in (VARIANTS, STRATEGIES):
        for added in ("mine", "best/2", "best/2/bin"):
            monkeypatch.setitem(registry, added, None)
            del registry[added]


@pytest.mark.usefixtures("own_registries")
@pytest.mark.parametrize("page", PYTHON, ids=name)
def test_the_python_of_a_page_runs_from_top_to_bottom(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "a_page"}
    for block in python_of(page):
        exec(compile(block, name(page), "exec"), namespace)


def test_sessions_with_a_prompt_print_what_the_page_shows() -> None:
    tried = 0
    for page in WRITTEN:
        results = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
        assert results.failed == 0, name(page)
        tried += results.attempted
    assert tried >= 2


@pytest.mark.parametrize("page", [page for page in WRITTEN if blocks(page, "bash")], ids=name)
def test_the_shell_blocks_of_a_page_parse(page: Path) -> None:
    for block in blocks(page, "bash"):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("page", "words"), GIVEN, ids=[f"{name(page)}: {' '.join(w)}" for page, w in GIVEN])
def test_a_command_exists_and_takes_what_it_is_given(
    page: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    while re.match(r"\w+=|\w+\(\)|\{", words[0]):  # HF_HUB_OFFLINE=1, or the head of a function, before a command
        words = words[1:]
    if words[:2] == ["python", "-m"]:
        check_module(words[2], words[3:], capsys)
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file()
    elif words[0] == "evoprompt":
        assert words[1] in COMMANDS
        check_evoprompt(words[1], words[2:], capsys)
    elif words[0] == "pip":
        check_module("pip", words[1:], capsys)
    elif words[0] not in SHELL:
        scripts = {script.name for script in entry_points(group="console_scripts")}
        defined = f"{words[0]}()" in page.read_text(encoding="utf-8")
        assert words[0] in scripts or defined or importlib.util.find_spec(words[0]) or shutil.which(words[0])


def check_module(module: str, given: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m module given`: the module is there, and knows each option and key."""
    assert importlib.util.find_spec(module), module
    if module == "pip":
        for word in given:
            for extra in re.findall(r"\[([\w,]+)\]", word):
                assert set(extra.split(",")) <= set(EXTRAS) or "ray" in word, extra
            assert not word.endswith(".txt") or (ROOT / word).is_file(), word
    elif module.startswith("evoprompt."):
        check_evoprompt(module.split(".")[-1], given, capsys)
    elif module.startswith(("benchmarks", "experiments")):
        folder = ROOT / module.split(".")[0]
        code = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))
        for word in given:
            assert not word.startswith("--") or f'"{word}"' in code, word


def check_run(overrides: list[str]) -> None:
    """The first job that the arguments of the main command ask for can be composed, and its settings make sense."""
    overrides = [word.replace("...", "x") for word in overrides if not PLACEHOLDER.fullmatch(word.partition("=")[2])]
    if not any(word.startswith(("+culture", "resume=")) for word in overrides):
        overrides.append("+culture=arab")  # as `evoprompt.check` does
    parsed = OverridesParser.create().parse_overrides(overrides)
    first = BasicSweeper.split_arguments(parsed, max_batch_size=None)[0][0]
    register_cultures()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose("config", first), resolve=False)
    assert isinstance(config, dict)
    if config["resume"] is None:
        if config["survey"]["wording_file"]:
            config["survey"]["wording_file"] = None  # the reader's own
        settings = read_settings({str(key): value for key, value in config.items()})
        options = {**settings.optimizer}
        if ":" not in str(options.get("variant")):  # the reader's own
            make_optimizer(
                options.pop("name"),
                bounds=[(-1, 1)] * coordinates(settings.space, hidden=128),
                budget=settings.budget,
                seed=settings.seed,
                **options,
            )


def test_a_command_with_a_misspelt_variant_would_be_found() -> None:
    check_run(["optimizer=de", "optimizer.variant=best/1/bin"])
    with pytest.raises(ValueError, match=r"variant must be .*, got 'best/1/bim'"):
        check_run(["optimizer=de", "optimizer.variant=best/1/bim"])


def check_evoprompt(command: str, given: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One of the package's commands takes what it is given."""
    assert command in COMMANDS
    if command in ("run", "check"):
        if "-sc" not in given:
            check_run([word for word in given if word not in ("-m", "--help")])
        return
    sub = [given[0]] if given and re.fullmatch(r"[a-z]+", given[0]) else []
    with pytest.raises(SystemExit) as ended:
        call(command, [*sub, "--help"])
    assert ended.value.code in (0, None)
    told = capsys.readouterr().out
    for word in given:
        assert not re.fullmatch(r"--?[a-z][\w-]*", word) or re.search(rf"{word}\b", told), word


@pytest.mark.system
def test_the_client_of_the_routing_guide_asks_a_real_server(capsys: pytest.CaptureFixture[str]) -> None:
    (client,) = [block for page in WRITTEN for block in blocks(page, "python") if CLIENT in block]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [sys.executable, "-m", "evoprompt.serve", "--port", str(port)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert "20 experts over pocket" in server.stdout.readline()
            assert f"API http://127.0.0.1:{port}/v1" in server.stdout.readline()
            with httpx.Client(transport=httpx.HTTPTransport(retries=9)) as waiting:  # with growing pauses
                assert waiting.get(f"http://127.0.0.1:{port}/health", timeout=600).status_code == 200
            exec(client.replace("127.0.0.1:8000", f"127.0.0.1:{port}"), {})
        finally:
            server.terminate()
    printed = capsys.readouterr().out
    assert "Kenya" in printed or "kenya" in printed
