"""The throughput benchmark: right counts, equal arms, nothing but the four packages."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaForCausalLM

from benchmarks import throughput, throughput_table
from benchmarks.throughput_arms import Padded, require_equal
from benchmarks.throughput_models import SHAPES, Shape, build, random_llama
from benchmarks.throughput_work import Work, flops, padded_work, trie_work
from evoprompt.errors import UserError
from evoprompt.llm.score.trie import grow
from evoprompt.llm.write.sheet import PLACEMENTS

ROOT = Path(__file__).parents[2]
TINY = Shape(hidden=96, layers=3, heads=6, kv_heads=2, intermediate=160, vocabulary=500, tied=True)
ARMS = (
    "(a) generate, 1 token", "(a) generate, 8 tokens", "(b) padded, all logits", "(b2) padded, last logits",
    "(c) prefix", "(c) system", "(c) suffix", "pure inference",
)  # fmt: skip


def case(frozen, plan="searched", tokens=3, candidates=2):
    return throughput.Case(frozen, throughput.questions(plan), candidates, tokens, PLACEMENTS)


@pytest.mark.system
def test_a_quick_run_prints_a_table_with_every_arm_and_leaves_it_with_its_rows(tmp_path, capsys):
    throughput.main(["--quick", "--out", str(tmp_path)])
    table = capsys.readouterr().out
    for arm in ARMS:
        assert re.search(rf"\| pocket \| 4 \| {re.escape(arm)}", table)
    assert table.strip() == (tmp_path / "throughput_cpu.md").read_text().strip()
    rows = throughput.result_file.rows(tmp_path / "throughput_cpu.csv")
    assert [row["arm"] for row in rows] == list(ARMS)
    by_arm = {row["arm"]: row for row in rows}
    assert float(by_arm["(a) generate, 1 token"]["times_a"]) == 1.0
    assert float(by_arm["pure inference"]["share_of_pure"]) == 1.0
    for row in rows:
        assert 0 < float(row["candidates_per_second"]) < float(row["questions_per_second"])
        assert float(row["difference"] or 0) < 1e-4


@pytest.mark.system
def test_a_run_goes_by_the_four_packages_alone(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    for name in needed_by("torch", "transformers", "numpy", "safetensors"):
        for file in distribution(name).files or ():
            top, inside = file.parts[0], site / file.parts[0]
            if not top.startswith((".", "__pycache__")) and not inside.exists():
                inside.symlink_to(Path(str(distribution(name).locate_file(top))))
    assert not [name for name in ("pandas", "scipy", "matplotlib", "hydra", "ray") if (site / name).exists()]
    command = [sys.executable, "-S", "-m", "benchmarks.throughput", "--quick", "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "(c) suffix" in done.stdout


def needed_by(*names):
    """Installed distributions that these need, themselves included."""
    found, left = set(), list(names)
    while left:
        name = left.pop()
        if name in found:
            continue
        try:
            requirements = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        found.add(name)
        parsed = [Requirement(text) for text in requirements]
        left += [each.name for each in parsed if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


@pytest.mark.parametrize("tied", [True, False])
def test_operations_counted_from_the_shape_are_those_that_torch_counts(tied):
    config = replace(TINY, tied=tied).config
    config._attn_implementation = "eager"
    model = random_llama(config, torch.device("cpu"), torch.float32)
    rows, length = 3, 40
    with FlopCounterMode(display=False) as counter:
        model(inputs_embeds=torch.randn(rows, length, TINY.hidden), use_cache=False)
    every = rows * length
    square = Work(every, every * length, every, every * length, every * TINY.vocabulary)
    assert flops(config, square) == counter.get_total_flops()


def test_a_last_layer_at_answers_only_saves_all_but_its_keys_and_values():
    config = TINY.config
    head = TINY.hidden // TINY.heads
    rest = 2 * TINY.hidden * TINY.heads * head + 3 * TINY.hidden * TINY.intermediate
    whole, cut = Work(100, 900, 100, 900, 0), Work(100, 900, 7, 60, 0)
    assert flops(config, whole) - flops(config, cut) == 2 * 93 * rest + 4 * TINY.hidden * 840


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("plan", throughput.PLANS)
def test_tokens_of_ours_are_the_distinct_beginnings_of_its_questions(plan, chat):
    frozen = build("pocket", "cpu", chat=chat)
    for inputs in case(frozen, plan).inputs.values():
        work, trie = trie_work(inputs.sheet, 3), grow(inputs.sheet, range(len(inputs.sheet)), 3)
        assert work.tokens == trie.dynamic
        assert work.pairs == int((trie.depth[~trie.static] + 1).sum())
        assert work.ends == len(trie.ends)


def test_padding_is_counted_by_batch(pocket):
    sheet = case(pocket).sheet
    lengths = [3 + len(after) for after in sheet.after]
    assert padded_work(sheet, 3, 1, 10, last_only=True).tokens == sum(lengths)
    whole = padded_work(sheet, 3, 1000, 10, last_only=False)
    assert whole.tokens == len(lengths) * max(lengths)
    assert whole.logits == 10 * whole.tokens


def test_plans_have_the_questions_they_say():
    assert {plan: len(throughput.questions(plan).questions) for plan in throughput.PLANS} == {
        "searched": 24 * 3,
        "four": 24 * 4,
        "balanced": 24 * 4,
        "full": 24 * 3 * 4,
    }


@pytest.mark.system
def test_all_arms_agree_in_a_chat_where_the_three_placements_differ():
    asked = case(build("pocket", "cpu", chat=True))
    sheets = [inputs.sheet for inputs in asked.inputs.values()]
    assert len({(sheet.before, sheet.after) for sheet in sheets}) == 3
    differences, varies = asked.check()
    assert set(differences) == set(ARMS) - {"pure inference"}
    assert max(differences.values()) < 1e-4 < varies


class ReadsThePadding(Padded):
    """A mistake for real: every answer is read at the last column, padding or not."""

    def __init__(self, inputs, batch):
        super().__init__(inputs, batch)
        self.lengths = torch.full_like(self.lengths, int(self.lengths.max()))


def test_nothing_is_timed_when_an_arm_reads_its_answers_at_the_wrong_place(pocket):
    asked = case(pocket)
    arms = {"right": Padded(asked.inputs["prefix"], 8), "wrong": ReadsThePadding(asked.inputs["prefix"], 8)}
    with pytest.raises(UserError, match="nothing was timed: wrong differs from the literal reference by"):
        require_equal(arms, asked.every[:16])


class Elsewhere:
    """A mistake for real: the soft prompt stands elsewhere than in the question that was put."""

    own_logits = False

    def __init__(self, inputs, arm):
        self.inputs, self.arm = inputs, arm

    def __call__(self, pairs):
        return self.arm(pairs)


def test_nothing_is_timed_when_the_soft_prompt_stands_elsewhere_than_in_the_reference(pocket):
    asked = case(pocket)
    ours = asked.arms()["(c) suffix"]
    require_equal({"ours": ours}, asked.every[:16])
    with pytest.raises(UserError, match="nothing was timed: moved differs"):
        require_equal({"moved": Elsewhere(asked.inputs["prefix"], ours)}, asked.every[:16])


def test_an_arm_that_answers_with_no_number_is_not_equal(pocket):
    asked = case(pocket)
    asked.inputs["prefix"].prompts[0] = torch.nan
    with pytest.raises(UserError, match="differs from the literal reference by nan"):
        require_equal({"nan": Padded(asked.inputs["prefix"], 8)}, asked.every[:16])


@pytest.mark.parametrize(("name", "parameters"), [("135m", 134_515_008), ("1b", 1_235_814_400), ("8b", 8_030_261_248)])
def test_shapes_have_as_many_parameters_as_the_models_they_are_named_after(name, parameters):
    with torch.device("meta"):
        model = LlamaForCausalLM(SHAPES[name].config)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_made_in_place_computes_what_one_made_as_usual_computes(tied):
    config = replace(TINY, tied=tied).config
    made = random_llama(config, torch.device("cpu"), torch.float32)
    usual = LlamaForCausalLM(config).eval()
    usual.load_state_dict(made.state_dict())
    ids = torch.arange(30)[None]
    with torch.inference_mode():
        torch.testing.assert_close(made(ids).logits, usual(ids).logits, rtol=0, atol=1e-6)
    assert (made.lm_head.weight is made.model.embed_tokens.weight) == tied


def test_a_shape_too_large_for_a_cpu_is_refused_in_one_line(tmp_path):
    with pytest.raises(SystemExit, match="error: shape '8b' is too large for a CPU; use --device cuda"):
        throughput.main(["--shapes", "8b", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="error: unknown shape '7b'"):
        throughput.main(["--shapes", "7b", "--out", str(tmp_path)])


def test_of_rows_made_twice_the_table_shows_the_last():
    row = dict.fromkeys(throughput_table.COLUMNS, "1") | {"arm": "an arm", "path": ""}
    table = throughput_table.markdown([{**row, "times_a": "7"}, {**row, "times_a": "9"}])
    assert table.count("| an arm |") == 1
    assert "| 9 |" in table
