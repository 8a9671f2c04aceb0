"""The main command from end to end."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import BloomConfig, BloomForCausalLM

from evoprompt.experts import read_expert
from evoprompt.llm import FrozenModel, ModelSpec, load_model
from evoprompt.prompts import load_space
from evoprompt.study import journal
from evoprompt.study.journal import Journal
from evoprompt.surveys import DIMENSIONS

from .conftest import SMALL, Command, begin

RESULT = list(journal.RESULT)


def same_result(one: Path, other: Path) -> None:
    """Both runs have the same history, losses and expert, bit for bit."""
    left, right = (pd.read_parquet(folder / "history.parquet")[RESULT] for folder in (one, other))
    pd.testing.assert_frame_equal(left, right, check_exact=True)
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (one, other)]
    assert metrics[0]["arms"] == metrics[1]["arms"]
    assert metrics[0]["cost"] == metrics[1]["cost"]
    weights = [(folder / "expert" / "adapter_model.safetensors").read_bytes() for folder in (one, other)]
    assert weights[0] == weights[1]


def test_the_run_directory_holds_what_the_design_promises(finished: tuple[Path, str]) -> None:
    directory, _ = finished
    for name in ("config.yaml", "run.json", "history.parquet", "metrics.json", "space.safetensors", "report.html"):
        assert (directory / name).is_file(), name
    assert (directory / "expert" / "adapter_config.json").is_file()
    assert json.loads((directory / "run.json").read_text())["status"] == "finished"
    metrics = json.loads((directory / "metrics.json").read_text())
    assert metrics["target"] == dict(zip(DIMENSIONS, [80, 38, 53, 68, 23, 34], strict=True))
    for arm in ("naive", "persona", "icl", "evolved"):
        for split in ("searched", "held_out"):
            found = metrics["arms"][arm][split]
            low, high = found["interval"]
            assert low <= found["loss"] + 1e-6
            assert found["loss"] <= high + 1e-6
            assert set(found["dimensions"]) == set(DIMENSIONS)
    assert {"perplexity_ratio", "kl"} <= set(metrics["cost"])


def test_the_budget_is_spent_and_never_exceeded(finished: tuple[Path, str]) -> None:
    directory, _ = finished
    history = pd.read_parquet(directory / "history.parquet")
    assert len(history) == 40
    assert history["trial"].is_unique
    assert json.loads((directory / "metrics.json").read_text())["evaluations"] == 40


def test_piped_output_is_plain_lines_with_a_closing_table(finished: tuple[Path, str]) -> None:
    _, output = finished
    assert "\x1b" not in output
    assert "\r" not in output
    for word in ("target", "naive", "persona", "icl", "evolved", "held-out wordings", "perplexity", "expert"):
        assert word in output


def test_peft_loads_the_exported_expert(finished: tuple[Path, str], pocket: FrozenModel) -> None:
    directory, _ = finished
    expert = read_expert(directory / "expert")
    expert.check_base(pocket)
    tuned = PeftModel.from_pretrained(load_model(ModelSpec(device="cpu")).model, directory / "expert").eval()
    ids = pocket.tokenizer("Question: What do people do after work?\nAnswer:", return_tensors="pt").input_ids
    with torch.inference_mode():
        theirs = tuned(input_ids=ids).logits[0, -1]
        inputs = torch.cat([expert.prompt, pocket.embeddings(ids[0])])[None]
        ours = pocket.model(inputs_embeds=inputs).logits[0, -1]
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=0)


def test_the_expert_is_the_best_candidate_decoded(finished: tuple[Path, str]) -> None:
    directory, _ = finished
    prompt = load_file(directory / "expert" / "adapter_model.safetensors")["prompt_embeddings"]
    centre = torch.from_numpy(load_space(directory / "space.safetensors").centre)
    assert prompt.shape == centre.shape
    history = pd.read_parquet(directory / "history.parquet")
    searched = json.loads((directory / "metrics.json").read_text())["search_loss"]
    assert history["loss"].min() == pytest.approx(searched)


@pytest.mark.system
def test_ray_workers_give_the_same_history_bit_for_bit(
    finished: tuple[Path, str], command: Command, tmp_path: Path
) -> None:
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        done = command(folder, "+culture=arab", *SMALL, "executor=ray", f"executor.workers={workers}", "report=false")
        assert done.returncode == 0, done.stderr
        (directory,) = (folder / "outputs" / "arab").iterdir()
        same_result(finished[0], directory)
        assert set(pd.read_parquet(directory / "history.parquet")["worker"]) <= {"ray-0", "ray-1"}


def kill_in_its_search(folder: Path, arguments: list[str], written: int) -> None:
    """Begin or continue a run and kill it once so many results are written; again where the kill came too late."""
    before = folder.with_name("before")
    if folder.exists():
        shutil.copytree(folder, before)
    for _ in range(10):
        process = begin(folder.parent, *arguments)
        while process.poll() is None and len(Journal(folder / "journal.bin").told()) < written:
            time.sleep(0.005)
        process.kill()
        process.communicate(timeout=600)
        assert len(Journal(folder / "journal.bin").told()) >= written
        if not (folder / "metrics.json").exists():
            return
        shutil.rmtree(folder)
        if before.exists():
            shutil.copytree(before, folder)
    pytest.fail("no kill came before the end")


@pytest.mark.system
def test_a_run_killed_at_several_moments_ends_like_one_that_was_not(
    finished: tuple[Path, str], command: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    arguments = ["+culture=arab", *SMALL, f"hydra.run.dir={folder}", "report=false"]
    for written in (8, 24):
        kill_in_its_search(folder, arguments, written)
        arguments = [f"resume={folder}"]
    done = command(tmp_path, f"resume={folder}")
    assert done.returncode == 0, done.stderr
    same_result(finished[0], folder)


def test_an_interrupted_run_says_how_to_continue_and_does(
    finished: tuple[Path, str], command: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "interrupted"
    process = begin(tmp_path, "+culture=arab", *SMALL, "report=false", f"hydra.run.dir={folder}")
    while len(Journal(folder / "journal.bin").told()) < 8:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert f"continue with: python -m evoprompt.run resume={folder}" in said
    assert command(tmp_path, f"resume={folder}").returncode == 0
    same_result(finished[0], folder)


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    finished: tuple[Path, str], command: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(finished[0], folder)
    for name in ("metrics.json", "report.html"):
        (folder / name).unlink()
    newest = max(path for path in (folder / "checkpoint").iterdir())
    (newest / "state.npz").write_bytes(b"torn")
    done = command(tmp_path, f"resume={folder}")
    assert done.returncode == 0, done.stderr
    same_result(finished[0], folder)


@pytest.mark.system
def test_a_culture_with_missing_dimensions_is_scored_on_those_it_has(command: Command, tmp_path: Path) -> None:
    done = command(tmp_path, "+culture=israel", *SMALL, "report=false")
    assert done.returncode == 0, done.stderr
    (directory,) = (tmp_path / "outputs" / "israel").iterdir()
    found = json.loads((directory / "metrics.json").read_text())
    assert found["target"]["ivr"] is None
    distances = [abs(found["arms"]["naive"]["searched"]["dimensions"][d] - found["target"][d]) for d in DIMENSIONS[:5]]
    assert found["arms"]["naive"]["searched"]["loss"] == pytest.approx(sum(distances) / 5)


@pytest.mark.system
def test_a_sweep_runs_a_job_per_culture_and_seed(command: Command, tmp_path: Path) -> None:
    done = command(tmp_path, "-m", "+culture=usa,china", "seed=0,1", *SMALL, "budget=16", "report=false")
    assert done.returncode == 0, done.stderr
    runs = [json.loads(path.read_text()) for path in tmp_path.glob("multirun/*/*/metrics.json")]
    assert sorted((run["culture"], run["seed"]) for run in runs) == [("china", 0), ("china", 1), ("usa", 0), ("usa", 1)]


@pytest.mark.system
@pytest.mark.parametrize("optimizer", ["cma", "nevergrad", "scipy", "random"])
def test_other_optimizers_run_the_same_job(optimizer: str, command: Command, tmp_path: Path) -> None:
    done = command(tmp_path, "+culture=china", f"optimizer={optimizer}", *SMALL, "report=false")
    assert done.returncode == 0, done.stderr
    (directory,) = (tmp_path / "outputs" / "china").iterdir()
    assert len(pd.read_parquet(directory / "history.parquet")) == 40


@pytest.mark.system
def test_the_full_space_runs_too(command: Command, tmp_path: Path) -> None:
    arguments = [argument for argument in SMALL if not argument.startswith("space.")]
    done = command(tmp_path, "+culture=china", "space=full", *arguments, "report=false")
    assert done.returncode == 0, done.stderr


def test_a_refused_job_of_a_sweep_is_listed_and_leaves_the_others_alone(command: Command, tmp_path: Path) -> None:
    done = command(tmp_path, "-m", "+culture=usa", "budget=40,5", *SMALL[1:], "report=false")
    assert done.returncode == 2
    assert len(list(tmp_path.glob("multirun/*/*/metrics.json"))) == 1
    (line,) = done.stderr.strip().splitlines()
    assert "job 1" in line
    assert "budget" in line


@pytest.mark.system
def test_a_continued_run_may_change_its_executor(finished: tuple[Path, str], command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(finished[0], folder)
    (folder / "metrics.json").unlink()
    shutil.rmtree(max((folder / "checkpoint").iterdir()))
    done = command(tmp_path, f"resume={folder}", "executor=ray")
    assert done.returncode == 0, done.stderr
    same_result(finished[0], folder)


def test_a_run_whose_model_changed_is_not_continued(
    finished: tuple[Path, str], command: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(finished[0], folder)
    (folder / "metrics.json").unlink()
    run = json.loads((folder / "run.json").read_text())
    run["model"]["fingerprint"] = "0" * 32
    (folder / "run.json").write_text(json.dumps(run))
    done = command(tmp_path, f"resume={folder}")
    assert done.returncode == 2
    assert "model fingerprint was 000" in done.stderr


def test_what_the_model_has_to_say_reaches_the_user_once(command: Command, pocket: FrozenModel, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = BloomConfig(vocab_size=len(pocket.embeddings.weight), hidden_size=32, n_layer=2, n_head=4)
    BloomForCausalLM(config).save_pretrained(tmp_path / "alibi")
    pocket.tokenizer.save_pretrained(tmp_path / "alibi")
    survey = ["survey.constant=none", "survey.confirm=true", "placement=suffix"]
    done = command(
        tmp_path, "+culture=arab", "budget=16", *SMALL[1:], *survey, "model.name=./alibi", "hydra.run.dir=run"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(set(lines))
    assert all(line.startswith("evoprompt: ") for line in lines)
    assert sum("no chat template" in line for line in lines) == 1
    assert sum("the cascade path does not serve it" in line for line in lines) == 1
    scoring = json.loads((tmp_path / "run" / "run.json").read_text())["scoring"]
    assert scoring["path"] != "cascade"
    assert f"scored by the {scoring['path']} path" in done.stdout
    assert "asked again in free text" in done.stdout
    assert "of its words on the labels" in done.stdout
    assert "The model seldom answers with a label" in (tmp_path / "run" / "report.html").read_text()
    assert read_expert(tmp_path / "run" / "expert").placement == "suffix"
