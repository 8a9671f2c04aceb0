"""A folder of experts, kept true to the disk, whatever becomes of its files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import save_file

from evoprompt.commands.start import call
from evoprompt.errors import UserError
from evoprompt.experts import BUNDLED, Registry, blend, read_expert, write_expert
from evoprompt.llm import FrozenModel, ModelSpec, load_model
from evoprompt.routing import Committee, load_router
from evoprompt.surveys import committee

main = partial(call, "experts")


def make(folder: Path, pocket: FrozenModel, culture: str, seed: int, tokens: int = 3) -> Path:
    prompt = torch.randn(tokens, pocket.hidden, generator=torch.Generator().manual_seed(seed))
    about = {"key": culture, "name": culture.title(), "edition": "test", "targets": {"pdi": 10.0 * seed}}
    write_expert(folder, prompt, pocket, {"culture": about})
    return folder


@pytest.fixture
def folder(pocket: FrozenModel, tmp_path: Path) -> Path:
    for seed, culture in enumerate(("arab", "usa", "china"), 1):
        make(tmp_path / "all" / culture, pocket, culture, seed)
    return tmp_path / "all"


def test_experts_are_found_at_any_depth_and_named_by_folder_culture_or_run(pocket: FrozenModel, tmp_path: Path) -> None:
    make(tmp_path / "mine", pocket, "arab", 1)
    make(tmp_path / "sweep" / "usa-seed0" / "expert", pocket, "usa", 2)
    make(tmp_path / "sweep" / "china-seed0" / "expert", pocket, "china", 3)
    make(tmp_path / "sweep" / "china-seed1" / "expert", pocket, "china", 4)
    registry = Registry(tmp_path, pocket)
    assert list(registry) == ["china-seed0", "china-seed1", "mine", "usa"]
    assert registry.left_out == {}
    make(tmp_path / "other" / "mine", pocket, "arab", 5)
    registry.reload()
    assert {"mine", "other/mine"} == {name for name in registry if name.endswith("mine")}
    make(tmp_path / "base", pocket, "arab", 6)
    assert registry.reload().added == ("base-expert",)


def damage_weights(path: Path) -> None:
    file = path / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")


def damage_shape(path: Path) -> None:
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps({**config, "num_virtual_tokens": 9}))


def damage_base(path: Path) -> None:
    about = json.loads((path / "expert.json").read_text())
    about["base_model"] |= {"fingerprint": "0" * 16, "name": "some/other-model"}
    (path / "expert.json").write_text(json.dumps(about))


def told(path: Path, **changed: object) -> None:
    about = json.loads((path / "expert.json").read_text())
    (path / "expert.json").write_text(json.dumps(about | changed))


def held_out(path: Path, measured: object) -> None:
    told(path, arms={"evolved": {"held_out": measured}})


def about_culture(path: Path, targets: object) -> None:
    told(path, culture={"key": "arab", "name": "Arab", "targets": targets})


def about_base(path: Path, **changed: object) -> None:
    told(path, base_model=json.loads((path / "expert.json").read_text())["base_model"] | changed)


def rewrite(path: Path, dtype: torch.dtype, width: int = 128) -> None:
    """A prompt of another dtype or width, with a config and a hash that fit it."""
    prompt = torch.ones(3, width, dtype=dtype)
    save_file({"prompt_embeddings": prompt}, path / "adapter_model.safetensors")
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps({**config, "token_dim": width}))
    told(path, prompt_sha256=hashlib.sha256(prompt.float().numpy().tobytes()).hexdigest())


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_weights, "is not the prompt that expert.json describes"),
        (damage_shape, "holds (3, 128) under 'prompt_embeddings', its config says (9, 128)"),
        (damage_base, "was evolved on 'some/other-model'"),
        (lambda path: rewrite(path, torch.bfloat16), "holds BF16, a prompt is in F32"),
        (lambda path: rewrite(path, torch.float32, width=7), "soft tokens have width 7, model 'pocket' takes 128"),
        (lambda path: told(path, arms=None), "has None under arms, not a mapping"),
        (lambda path: told(path, arms=[]), "has [] under arms, not a mapping"),
        (lambda path: told(path, arms={"evolved": None}), "has None under arms.evolved, not a mapping"),
        (lambda path: told(path, arms={"naive": None}), "has None under arms.naive, not a mapping"),
        (lambda path: held_out(path, None), "has None under arms.evolved.held_out, not a mapping"),
        (lambda path: held_out(path, {"loss": "3.7 points"}), "has '3.7 points' under arms.evolved.held_out.loss"),
        (lambda path: held_out(path, {"loss": [1]}), "has [1] under arms.evolved.held_out.loss, not a number"),
        (lambda path: held_out(path, {"loss": True}), "has True under arms.evolved.held_out.loss, not a number"),
        (lambda path: held_out(path, {"dimensions": None}), "under arms.evolved.held_out.dimensions, not a mapping"),
        (lambda path: held_out(path, {"dimensions": {"pdi": "high"}}), "held_out.dimensions.pdi, not a number"),
        (lambda path: about_culture(path, {"pdi": "high"}), "has 'high' under culture.targets.pdi, not a number"),
        (lambda path: about_culture(path, None), "has None under culture.targets, not a mapping"),
        (lambda path: about_base(path, revision=7), "has 7 under base_model.revision, not a text or null"),
        (lambda path: told(path, note="\ud800"), "surrogates not allowed"),
        (lambda path: told(path, seconds=float("nan")), "NaN is no number in JSON"),
        (lambda path: (path / "adapter_config.json").unlink(), "is not a complete expert folder"),
        (lambda path: (path / "expert.json").write_text("{"), "is not a complete expert folder"),
        (lambda path: (path / "expert.json").write_text("[]"), "has no text under culture.key"),
        (lambda path: (path / "expert.json").write_text('{"culture": {"key": "x"}}'), "has no text under culture.name"),
    ],
)
def test_a_damaged_expert_is_left_out_by_name_and_the_others_stay(
    damage: object, said: str, folder: Path, pocket: FrozenModel
) -> None:
    registry = Registry(folder, pocket)
    before = registry["arab"]
    damage(folder / "arab")  # type: ignore[operator]
    assert registry.reload().removed == ("arab",)
    assert list(registry) == ["china", "usa"]
    with pytest.raises(UserError, match="expert 'arab' is left out: ") as told:
        registry["arab"]
    assert said in str(told.value)
    assert torch.isfinite(before.prompt).all(), "what was handed out stays"
    make(folder / "arab", pocket, "arab", 7)
    assert registry.reload().added == ("arab",)


def test_what_an_expert_need_not_tell_does_not_stop_a_committee(folder: Path, pocket: FrozenModel) -> None:
    about = json.loads((folder / "arab" / "expert.json").read_text())
    del about["base_model"]["revision"]
    about["arms"] = {"evolved": {"held_out": {"loss": None}}}
    (folder / "arab" / "expert.json").write_text(json.dumps(about))
    registry = Registry(folder, pocket)
    assert registry["arab"].provenance["base_model"]["revision"] is None
    assert registry.left_out == {}
    assert Committee(pocket, registry, load_router()).route("Who pays in Beijing?")[1][0].name == "china"


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: os.truncate(path / "adapter_model.safetensors", 9), "is not a complete expert folder"),
        (lambda path: os.truncate(path / "expert.json", 99), "is not a complete expert folder"),
    ],
)
def test_a_damaged_experts_name_passes_to_no_other(
    damage: object, said: str, again: bool, pocket: FrozenModel, tmp_path: Path
) -> None:
    folders = {
        "arab": make(tmp_path / "arab", pocket, "japan", 1),
        "runB/arab": make(tmp_path / "runB" / "arab", pocket, "usa", 2),
        "run1": make(tmp_path / "run1" / "expert", pocket, "china", 3),
        "run2": make(tmp_path / "run2" / "expert", pocket, "china", 4),
        "kenya": make(tmp_path / "run3" / "expert", pocket, "kenya", 5),
    }
    registry = Registry(tmp_path, pocket)
    before = dict(registry.experts)
    assert set(before) == set(folders)
    for name in ("arab", "run1", "kenya"):
        damage(folders[name])  # type: ignore[operator]
    registry = Registry(tmp_path, pocket) if again else registry
    registry.reload()
    assert list(registry) == ["run2", "runB/arab"]
    for name in registry:
        assert torch.equal(registry[name].prompt, before[name].prompt)
    for name in ("arab", "run1", "kenya"):
        assert said in registry.why_left_out(name)
    with pytest.raises(UserError, match="there is an expert 'kenya'"):
        registry.add(folders["run2"], "kenya")


def test_an_expert_that_loses_its_provenance_keeps_its_name_while_the_registry_lives(
    pocket: FrozenModel, tmp_path: Path
) -> None:
    make(tmp_path / "arab", pocket, "japan", 1)
    make(tmp_path / "runB" / "arab", pocket, "usa", 2)
    registry = Registry(tmp_path, pocket)
    (tmp_path / "arab" / "expert.json").unlink()
    assert registry.reload().removed == ("arab",)
    assert list(registry) == ["runB/arab"]
    assert "is not a complete expert folder" in registry.why_left_out("arab")
    shutil.rmtree(tmp_path / "arab")
    registry.reload()
    assert (list(registry), registry.left_out) == (["arab"], {})


def test_experts_behind_links_are_found_once_and_loops_end(pocket: FrozenModel, tmp_path: Path) -> None:
    far = make(tmp_path / "far" / "kenya", pocket, "kenya", 1)
    near = tmp_path / "near"
    make(near / "usa", pocket, "usa", 2)
    (near / "alias").symlink_to(near / "usa")
    (near / "runs").symlink_to(tmp_path / "far")
    (near / "usa" / "loop").symlink_to(near)
    (near / "usa" / "up").symlink_to(tmp_path)
    (far / "back").symlink_to(near / "usa")
    registry = Registry(near, pocket)
    assert list(registry) == ["kenya", "usa"]
    assert registry.path("usa") == near / "usa"
    with pytest.raises(UserError, match="is a link to"):
        registry.remove("kenya")
    assert far.is_dir()


def test_the_folder_of_experts_itself_is_not_removed(folder: Path, pocket: FrozenModel) -> None:
    with pytest.raises(UserError, match="is the folder of experts itself"):
        Registry(folder / "usa", pocket).remove("usa")
    assert (folder / "usa" / "expert.json").is_file()


def test_a_swap_of_files_is_noticed_and_only_it_is_read(folder: Path, pocket: FrozenModel, tmp_path: Path) -> None:
    registry = Registry(folder, pocket)
    before, experts = dict(registry.experts), registry.experts
    new = make(tmp_path / "new", pocket, "usa", 9)
    for file in new.iterdir():
        os.replace(file, folder / "usa" / file.name)
    changes = registry.reload()
    assert (changes.added, changes.removed, changes.changed) == ((), (), ("usa",))
    assert registry["arab"] is before["arab"]
    assert experts["usa"] is before["usa"], "a mapping that was handed out does not change"
    assert not torch.equal(registry["usa"].prompt, before["usa"].prompt)
    assert not registry.reload()


def test_experts_are_added_and_removed_without_a_restart(folder: Path, pocket: FrozenModel, tmp_path: Path) -> None:
    registry, new = Registry(folder, pocket), make(tmp_path / "new", pocket, "india", 4)
    assert registry.add(new) == "india"
    assert registry["india"].culture == "india"
    with pytest.raises(UserError, match="there is an expert 'india'"):
        registry.add(new)
    assert registry.add(new, "twin") == "twin"
    for name in ("../out", "base", "expert", ".hidden", ""):
        with pytest.raises(UserError, match=r"is no name for an expert|there is an expert"):
            registry.add(new, name or " ")
    damage_weights(new)
    with pytest.raises(UserError, match="is not added: "):
        registry.add(new, "third")
    make(folder / "india" / "inner", pocket, "kenya", 5)
    registry.reload()
    with pytest.raises(UserError, match="holds other experts too"):
        registry.remove("india")
    shutil.rmtree(folder / "india" / "inner")
    registry.reload()
    registry.remove("india")
    assert "india" not in registry
    assert not (folder / "india").exists()
    with pytest.raises(UserError, match="unknown expert 'inda'"):
        registry["inda"]


def test_the_packages_experts_are_the_committees_and_stay_as_they_are(pocket: FrozenModel) -> None:
    registry = Registry(BUNDLED, pocket)
    assert sorted(registry) == sorted(culture.key for culture in committee())
    assert registry.left_out == {}
    for expert in registry.experts.values():
        losses = {arm: expert.provenance["arms"][arm]["held_out"]["loss"] for arm in ("naive", "evolved")}
        assert losses["evolved"] < losses["naive"] / 2
    with pytest.raises(UserError, match="are not to be changed"):
        registry.remove("usa")


def test_what_vllm_and_sglang_take_is_what_peft_reads(folder: Path, pocket: FrozenModel) -> None:
    expert = read_expert(folder / "arab")
    text = "How do I greet my host?"
    embedded = expert.prompt_embeds(text, pocket)
    tuned = PeftModel.from_pretrained(load_model(ModelSpec(device="cpu")).model, folder / "arab").eval()
    ids = pocket.tokenizer(f"Question: {text}\nAnswer:", return_tensors="pt").input_ids
    with torch.inference_mode():
        theirs = tuned(input_ids=ids).logits[0, -1]
        ours = pocket.model(inputs_embeds=embedded[None]).logits[0, -1]
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert torch.equal(expert.prompt_embeds(text), embedded), "without a model it loads its own"


def test_a_blend_is_the_weighted_mean_of_alike_experts(folder: Path, pocket: FrozenModel, tmp_path: Path) -> None:
    one, other = (read_expert(folder / name) for name in ("arab", "usa"))
    torch.testing.assert_close(blend([one, other], [3, 1]), 0.75 * one.prompt + 0.25 * other.prompt)
    longer = read_expert(make(tmp_path / "longer", pocket, "india", 5, tokens=4))
    with pytest.raises(UserError, match=r"different numbers of tokens \(3, 4\)"):
        blend([one, longer], [1, 1])
    with pytest.raises(UserError, match="give two or more, each a weight > 0"):
        blend([one, other], [1, -1])
    torch.testing.assert_close(blend([one, other], [1e39, 1e39]), 0.5 * one.prompt + 0.5 * other.prompt)
    with pytest.raises(UserError, match="give two or more, each a weight > 0"):
        blend([one, other], [1e308, 1e308])


def test_the_command_lists_verifies_compares_and_shows(
    folder: Path, capsys: pytest.CaptureFixture[str], pocket: FrozenModel
) -> None:
    where = ["--experts", str(folder)]
    assert main(["list", *where]) == 0
    assert "3 experts" in capsys.readouterr().out
    assert main(["verify", *where, "--model", "pocket"]) == 0
    assert main(["card", *where, "usa"]) == 0
    assert "# Soft prompt for Usa" in capsys.readouterr().out
    assert main(["diff", *where, "usa", "arab"]) == 0
    said = capsys.readouterr().out
    assert "culture.name" in said
    assert "cosine" in said
    damage_weights(folder / "usa")
    assert main(["verify", *where]) == 1
    assert "bad: " in capsys.readouterr().out
    assert main(["card", *where, "usa"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["list", "--experts", str(folder / "nowhere")]) == 2
    shutil.rmtree(folder / "usa")


@pytest.mark.system
def test_a_blend_is_measured_and_written_as_an_expert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "between"
    assert main(["blend", "japan=2", "brazil", "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert "mean of the experts" in told.out
    made = read_expert(out)
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "prompts of japan (67%), brazil (33%); nothing was evolved for it" in card
    assert "| this blend |" in card
    losses = {arm: made.provenance["arms"][arm]["held_out"]["loss"] for arm in ("evolved", "naive")}
    assert ("no prompt is nearer to the target" in told.err) == (losses["evolved"] >= losses["naive"])
    assert [part["weight"] for part in made.provenance["blended_from"]] == [pytest.approx(2 / 3), pytest.approx(1 / 3)]
    assert made.provenance["arms"]["evolved"]["held_out"]["loss"] >= 0
    assert main(["blend", "japan", "brazil", "--out", str(out)]) == 2
