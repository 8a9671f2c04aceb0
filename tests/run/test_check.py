"""`python -m evoprompt.check` tells beforehand what would stop a run."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from evoprompt.commands.check import main
from evoprompt.errors import UserError
from evoprompt.llm import ModelSpec
from evoprompt.llm.load.footprint import Footprint
from evoprompt.preflight.cluster import ask
from evoprompt.preflight.findings import Findings
from evoprompt.preflight.model import Model, check_model
from evoprompt.preflight.surroundings import Gpu, Machine
from evoprompt.preflight.workers import check_executor, check_optimizer
from evoprompt.study.settings import read_settings

from .conftest import Command, environment

GIB = 2**30
LARGE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}
SWEEP = ["-m", "+culture=usa,china", "hydra/launcher=evoprompt_ray"]
PROBLEMS = {
    "more workers than CPUs": (["executor.workers=999"], "999 Ray workers of 1 CPU and 0 GPU each do not fit"),
    "the keys that ask for less": (
        ["executor.workers=999"],
        "(executor.workers), or for less by executor.cpus_per_worker and executor.gpus_per_worker",
    ),
    "an address where nothing answers": (["executor.address=127.0.0.1:1"], "nothing answers at the Ray address"),
    "a folder that is not there": (["model.name=./nowhere"], "cannot load model './nowhere'"),
    "a folder that is no model": (["model.name=./empty"], "folder './empty' has no config.json"),
    "a model in part": (["model.name=./part"], "folder 'part' lacks model-2.safetensors"),
    "a device that is not there": (["model.device=cuda:77"], "device 'cuda:77' is not there"),
    "workers that see their own GPU alone": (
        ["model.device=cuda:1", "executor=ray", "executor.gpus_per_worker=1"],
        "model.device=cuda:1 is not there for Ray workers",
    ),
    "an attention that is not installed": (["model.attention=flash_attention_3"], "is not installed here"),
    "a budget below the population": (["budget=5", "optimizer.popsize=8"], "budget"),
    "an option that no optimizer has": (["+optimizer.no_such=1"], "optimizer 'auto'"),
    "a launcher's cluster where nothing answers": (
        [*SWEEP, "hydra.launcher.address=127.0.0.1:1"],
        "nothing answers at the Ray address",
    ),
    "jobs that no node can hold": ([*SWEEP, "hydra.launcher.cpus_per_job=4096"], "no node can hold a job of 4096 CPU"),
    "a launcher's option that makes no sense": (
        [*SWEEP, "hydra.launcher.gpus_per_job=1.5"],
        "gpus_per_job=1.5 must be",
    ),
    "jobs that would join another cluster": (
        [*SWEEP, "executor.address=127.0.0.1:1"],
        "add hydra.launcher.address=127.0.0.1:1",
    ),
    "an output that cannot be written": (["hydra.run.dir=a-file/run"], "a-file"),
    "an output that holds a run": (["hydra.run.dir=a-run"], "a-run holds a run already"),
}
BAD = {
    "unknown culture": (["+culture=arabb"], "did you mean arab"),
    "unknown model": (["model=poket"], "did you mean pocket"),
    "unknown model of a later job": (["-m", "+culture=usa", "model=pocket,poket"], "did you mean pocket"),
    "unknown key": (["bugdet=5"], "did you mean budget"),
    "a bad value": (["executor.batch_size=0"], "executor.batch_size must be a whole number >= 1, got 0"),
    "a wording file that is not there": (["survey.wording_file=nowhere.yaml"], "nowhere.yaml"),
    "an expert that is not there": (["space.init_expert=nowhere"], "space.init_expert: nowhere"),
    "a resume of nothing": (["resume=nowhere"], "nowhere is not a run directory"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands are given: an empty folder, one with a part of a model, and one with a run."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "a-file").write_text("")
    (tmp_path / "a-run").mkdir()
    (tmp_path / "a-run" / "config.yaml").write_text("budget: 5\n")
    part = tmp_path / "part"
    part.mkdir()
    (part / "config.json").write_text(json.dumps(LARGE))
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (part / "model.safetensors.index.json").write_text(json.dumps(index))
    (part / "model-1.safetensors").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found_by(findings: Findings) -> str:
    return findings.console.export_text()


@pytest.fixture
def findings() -> Findings:
    return Findings(Console(record=True, file=io.StringIO()))


def test_the_bundled_model_is_ready_and_nothing_is_left_behind(command: Command, tmp_path: Path) -> None:
    done = command(tmp_path, module="check")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "ready: pocket on cpu, evaluated by this process" or torch.cuda.is_available()
    assert [line for line in lines if not line.startswith(" ")][:-1] == [
        "machine",
        "model",
        "executor",
        "search",
        "packages",
        "output",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("arguments", "said"), PROBLEMS.values(), ids=PROBLEMS)
def test_a_problem_is_one_line_that_says_what_to_do(
    arguments: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    lines = capsys.readouterr().out.splitlines()
    problems = lines[lines.index("problems") + 1 : -1]
    assert any(said in problem for problem in problems), problems
    assert lines[-1] == f"not ready: {len(problems)} problem{'s' if len(problems) > 1 else ''}"


@pytest.mark.parametrize(("arguments", "said"), BAD.values(), ids=BAD)
def test_what_no_run_would_take_is_refused_in_one_line(
    arguments: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert len(shown.err.splitlines()) == 1


def test_a_finished_run_can_be_continued(finished: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"resume={finished[0]}", "executor=local"]) == 0
    assert "ready: pocket" in capsys.readouterr().out


def test_a_run_is_not_continued_in_another_dtype(
    finished: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(finished[0] / "config.yaml", tmp_path)
    known = json.loads((finished[0] / "run.json").read_text())
    known["model"]["placed"] = "torch.float16 on cuda"
    (tmp_path / "run.json").write_text(json.dumps(known))
    assert main([f"resume={tmp_path}"]) == 1
    assert "was begun with torch.float16 on cuda and would go on with torch." in capsys.readouterr().out


def test_of_a_sweep_the_first_job_is_looked_at(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", "+culture=arab,usa", "seed=0,1,2", "model.name=./nowhere,pocket"]) == 1
    shown = capsys.readouterr().out
    assert "12; what follows is about the first one" in shown
    assert "cannot load model './nowhere'" in shown


def test_a_server_that_says_nothing_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(UserError, match=r"let this process join within 5 s; a driver has to run on one of its"):
            ask(f"127.0.0.1:{silent.getsockname()[1]}", limit_s=5)
        assert time.monotonic() - began < 15


def test_a_model_too_large_for_this_machine_is_told_what_would_fit(folder: Path, findings: Findings) -> None:
    (folder / "part" / "model-2.safetensors").write_bytes(b"")
    model = check_model(ModelSpec("part", device="cpu"), Machine(8, 20 * GIB, ()), findings)
    assert model is not None
    shown = found_by(findings)
    assert "8.03 billion parameters" in shown
    assert "about 29.9 GiB of weights (float32)" in shown
    (problem,) = findings.problems
    assert problem.startswith(
        "model 'part' takes about 29.9 GiB, and the CPU has 20.0 GiB free; use model.dtype=bfloat16"
    )
    assert "model.quantization=8bit" in problem


@pytest.mark.system
def test_the_hub_is_asked_and_no_weights_are_fetched(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "llm"))
    from hub_server import GATED, Hub

    (folder / "part" / "model-2.safetensors").write_bytes(bytes(3 * 2**20))
    hub = Hub({"org/large": {"main": folder / "part"}})
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setenv("HF_HOME", str(folder / "hub"))
    try:
        there = command(folder, "model.name=org/large", "model.quantization=4bit", module="check")
        gated = command(folder, f"model.name={GATED}", module="check")
    finally:
        hub.stop()
    assert "3.0 MiB to fetch" in there.stdout
    assert "8.03 billion parameters" in there.stdout
    assert not [line for line in hub.asked if line.startswith("GET") and line.endswith(".safetensors")]
    assert gated.returncode == 1
    assert "model 'org/gated' is gated: accept its licence" in gated.stdout


def on_cuda(**spec: object) -> Model:
    """A model of 8 billion parameters, as a process with a GPU would see it."""
    shape = Footprint(8_030_261_248, 6_979_321_856, 4096, 14336)
    return Model(ModelSpec("part", **spec), torch.device("cuda"), True, shape)  # type: ignore[arg-type]


def with_gpus(count: int, free: int) -> Machine:
    return Machine(16, 200 * GIB, (Gpu("a GPU", free, free),) * count)


def settings(**sections: object) -> object:
    return read_settings({"culture": {"key": "arab"}, **{"budget": 100, **sections}})


def test_the_driver_and_a_worker_share_the_first_gpu(findings: Findings) -> None:
    wanted = settings(executor={"kind": "ray"})
    assert check_executor(wanted, with_gpus(2, 24 * GIB), on_cuda(), findings) == 2  # type: ignore[arg-type]
    (problem,) = findings.problems
    assert problem.startswith(
        "cuda:0 has 24.0 GiB free; the models of 1 worker take 15.0 GiB there and that of the driver"
    )


def test_two_models_of_a_spread_one_take_their_parts_of_each_gpu(findings: Findings) -> None:
    wanted = settings(executor={"kind": "ray", "gpus_per_worker": 2}, model={"device": "sharded"})
    model = on_cuda(device="sharded")
    check_executor(wanted, with_gpus(2, 16 * GIB), model, findings)  # type: ignore[arg-type]
    assert findings.problems == []
    check_executor(wanted, with_gpus(2, 14 * GIB), model, findings)  # type: ignore[arg-type]
    assert len(findings.problems) == 2


def test_workers_that_cpus_would_allow_and_memory_does_not(findings: Findings) -> None:
    model = replace(on_cuda(), device=torch.device("cpu"))
    wanted = settings(executor={"kind": "ray", "workers": "auto"})
    check_executor(wanted, Machine(16, 100 * GIB, ()), model, findings)  # type: ignore[arg-type]
    (problem,) = findings.problems
    assert problem.startswith("8 workers of 29.9 GiB each do not fit into the memory of this machine beside the driver")
    assert "use executor.workers=2" in problem


@pytest.mark.parametrize(
    ("sections", "noted"),
    [({}, True), ({"optimizer": {"name": "de", "popsize": 48}}, False), ({"loop": "steady"}, False)],
)
def test_workers_that_a_generation_has_no_work_for_are_noted(
    sections: dict[str, object], noted: bool, findings: Findings
) -> None:
    check_optimizer(settings(budget=1000, **sections), 128, 6, findings)  # type: ignore[arg-type]
    assert ("that is work for 2 of 6 workers" in found_by(findings)) == noted


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with a Ray token; its path is short, as Ray has sockets below it."""
    home = Path(tempfile.mkdtemp(prefix="check-"))
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("a" * 64)
    monkeypatch.setenv("HOME", str(home))
    yield home
    shutil.rmtree(home)


@contextmanager
def ray_node(folder: Path, *arguments: str) -> Iterator[None]:
    """A Ray node of its own on this machine, as `ray start` makes it."""
    command = ["ray", "start", "--num-cpus=1", "--num-gpus=1", "--object-store-memory=100000000", "--block", *arguments]
    ray = [str(Path(sys.executable).parent / command[0]), *command[1:]]
    ours = {**environment(), "RAY_AUTH_MODE": "token", "HOME": str(folder), "RAY_TMPDIR": str(folder)}
    process = subprocess.Popen(ray, env=ours, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(120)


@pytest.mark.system
def test_a_cluster_is_described_and_its_token_asked_for(
    command: Command, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = 30_000 + os.getpid() % 10_000
    asked = [f"executor.address=127.0.0.1:{port}"]
    with (
        ray_node(home, "--head", f"--port={port}", "--include-dashboard=false"),
        ray_node(home, f"--address=127.0.0.1:{port}"),
    ):
        deadline = time.monotonic() + 300
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # the driver has none
        while "2 nodes alive" not in (done := command(tmp_path, *asked, "model.dtype=float32", module="check")).stdout:
            assert time.monotonic() < deadline, done.stdout + done.stderr
        assert "2 nodes alive, 2 CPU and 2 GPU, of which 2 CPU and 2 GPU are free now" in done.stdout
        assert "2 x 1 CPU, 1 GPU" in done.stdout or "1 x 1 CPU, 1 GPU" in done.stdout
        assert "this process, on cpu in float32; the workers on cuda in float32" in done.stdout
        assert done.stdout.endswith("ready: pocket on cpu, evaluated by 2 Ray workers\n")
        other = command(tmp_path, *asked, module="check")
        assert other.returncode == 1
        assert "the workers would compute on cuda in bfloat16, this process, which measures the" in other.stdout
        monkeypatch.delenv("RAY_AUTH_MODE")
        refused = command(tmp_path, *asked, module="check")
        assert refused.returncode == 1
        assert "wants its token: set RAY_AUTH_MODE=token here too" in refused.stdout
