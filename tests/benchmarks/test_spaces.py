"""The comparison of search spaces: its command with a tiny budget, and its tables on rows made by hand."""

import pandas as pd
import pytest

from benchmarks import spaces
from evoprompt.errors import UserError
from evoprompt.llm.write.sheet import PLACEMENTS, make_sheet
from evoprompt.prompts import space_options

DEFAULT = spaces.variant("vocab_pca")
SMALL = ["--spaces", "low_rank,vocab_pca components=3", "--placements", "prefix", "--budgets", "8", "--seeds", "1"]


def rows_of(losses):
    """A row for every (space, placement, budget, seed) and its loss."""
    keys = pd.DataFrame(list(losses), columns=["space", "placement", "budget", "seed"])
    same = {"culture": "mexico", "dim": 8, "status": "ok", "evaluations": 10, "perplexity_ratio": 1.5, "seconds": 0.1}
    return keys.assign(loss=list(losses.values()), **same)


@pytest.mark.system
def test_the_command_writes_rows_and_a_table_and_goes_on_where_it_was(tmp_path, capsys):
    out = tmp_path / "spaces.csv"
    command = [*SMALL, "--cultures", "mexico", "--out", str(out)]
    spaces.main(["screen", *command])
    rows = pd.read_csv(out, comment="#")
    assert rows["space"].tolist() == [spaces.variant("low_rank"), spaces.variant("vocab_pca components=3")]
    assert (rows["status"] == "ok").all()
    assert (rows["evaluations"] == 8).all()
    assert rows["loss"].between(0.1, 60).all()
    assert rows["perplexity_ratio"].between(0.5, 50).all()
    written = out.read_text()
    table = out.with_suffix(".md").read_text()
    assert f"| {rows.loc[rows['loss'].idxmin(), 'space']} | prefix |" in table
    spaces.main(["screen", *command])
    assert out.read_text() == written
    assert table in capsys.readouterr().out


def test_a_variants_name_stands_for_all_its_options():
    name = spaces.variant("vocab_pca components=3 init_text='very often:'")
    options = space_options(spaces.options_of(name))
    assert options == space_options({"kind": "vocab_pca", "components": 3, "init": "text", "init_text": "very often:"})
    assert spaces.variant(name) == name
    with pytest.raises(UserError, match="did you mean components"):
        spaces.variant("vocab_pca component=3")


def test_every_screened_variant_is_a_different_one():
    names = [spaces.variant(text) for text in spaces.SCREENED]
    assert len(set(names)) == len(names)
    assert DEFAULT in names


def test_the_best_of_each_kind_under_a_placement_and_the_default_are_compared():
    better, full = spaces.variant("vocab_pca components=9"), spaces.variant("full")
    prefix = {(DEFAULT, "prefix", 10, 0): 5.0, (better, "prefix", 10, 0): 4.0, (full, "prefix", 10, 0): 3.0}
    suffix = {(DEFAULT, "suffix", 10, 0): 1.0, (better, "suffix", 10, 0): 4.0, (full, "suffix", 10, 0): 3.0}
    rows = rows_of(prefix | suffix)
    assert spaces.best_of_each_kind(rows, "prefix") == [full, better, DEFAULT]
    assert spaces.best_of_each_kind(rows, "suffix") == [DEFAULT, full]


def test_for_the_pocket_model_the_system_turn_is_before_everything(pocket):
    question = (["Options: 1 = a; 2 = b.\nQuestion: Rain?\nAnswer:"], [("1", "2")])
    sheets = {placement: make_sheet(pocket.tokenizer, *question, placement) for placement in PLACEMENTS}
    read = {placement: (sheet.before, sheet.after, sheet.options) for placement, sheet in sheets.items()}
    assert read["system"] == read["prefix"] != read["suffix"]


def test_the_table_ranks_spaces_and_placements_and_says_what_is_missing():
    full = spaces.variant("full")
    losses = {(DEFAULT, place, budget, seed): 5.0 for place in ("prefix", "suffix") for budget in (10, 20)
              for seed in range(3)}  # fmt: skip
    losses |= {(full, "suffix", 10, 0): 1.0, (full, "suffix", 10, 1): 2.0, (full, "suffix", 10, 2): 6.0}
    table = spaces.markdown(rows_of(losses))
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    assert lines[1].startswith(f"| 1 | {full} | suffix | 8 | 1.67 | 2.00 | 3.00 | nan | nan | 1.50 | 1.50 |")
    assert f"{DEFAULT} (default) | prefix | 8 | 1.83 | 5.00 | 5.00 | 5.00 | 5.00 |" in table
    assert f"{full}, suffix: 3 of 6 runs only" in table


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--spaces", "vocab"], "unknown space 'vocab'; did you mean vocab_pca"),
        (["screen", "--placements", "sufix"], "unknown placement 'sufix'; did you mean suffix"),
        (["screen", "--cultures", "mexiko"], "did you mean mexico"),
        (["--screened", "nowhere.csv"], "nowhere.csv is not there: run `python -m benchmarks.spaces screen`"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(arguments, said, tmp_path):
    with pytest.raises(SystemExit, match=said):
        spaces.main([*arguments, "--out", str(tmp_path / "spaces.csv")])
    assert not any(tmp_path.iterdir())
