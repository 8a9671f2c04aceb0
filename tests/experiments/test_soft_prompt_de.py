"""The study's plan makes real multiruns, and its tables say what the runs measured."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from evoprompt.errors import UserError
from experiments.readme import with_table
from experiments.soft_prompt_de import plots, results, tables
from experiments.soft_prompt_de.__main__ import main
from experiments.soft_prompt_de.carried import transfer
from experiments.soft_prompt_de.plan import CONF, PRESETS, Block, blocks, folder_of, read_request, run_block

SHORT = f"survey.wording_file={Path(__file__).parents[1] / 'short_survey.yaml'}"  # one wording an item and split
README = (Path(__file__).parents[2] / "experiments" / "soft_prompt_de" / "README.md").read_text(encoding="utf-8")
TARGET = np.array([80.0, 38.0, 53.0, 68.0, 23.0, 34.0])


def people(offset: float, count: int = 8) -> np.ndarray:
    """Scores (1, people, 6) that lie `offset` above the target on average, with a spread."""
    return (TARGET + offset + np.linspace(-1, 1, count)[:, None])[None]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_job_of_every_block_has_a_configuration(preset: str) -> None:
    with initialize_config_dir(str(CONF), version_base=None):
        for block in blocks(PRESETS[preset]):
            for one in block.sweep:
                key, _, values = one.partition("=")
                for value in values.split(","):
                    others = [other for other in block.sweep if other != one]
                    config = compose("config", ["+culture=arab", f"{key}={value}", *others])
                    assert config.budget >= 1


def test_a_request_changes_the_preset_and_passes_the_rest_on() -> None:
    request = read_request(["preset=quick", "regions=japan,kenya", "seeds=1", "model=gpt2"], Path("runs"))
    assert request.settings.regions == ("japan", "kenya")
    assert request.settings.ablated == ("japan",)
    assert (request.settings.seeds, request.settings.rival_seeds) == (1, 1)
    assert request.passed == ("model=gpt2",)
    assert request.changed
    folders = [[], ["model=gpt2"], ["budget=100"], ["seeds=2"], ["regions=arab"], ["preset=full"]]
    assert len({folder_of(read_request(given, Path("runs"))) for given in folders}) == len(folders)
    assert not read_request(["preset=quick", "folder=elsewhere"], Path("runs")).changed


def test_the_commands_of_the_readme_have_a_configuration() -> None:
    commands = re.findall(r"^python -m experiments\.soft_prompt_de .*?(?<!\\)$", README, re.M | re.S)
    models = []
    for command in commands:
        words = [word for word in command.split("#")[0].replace("\\\n", " ").split()[3:] if "=" in word]
        request = read_request(words, Path("runs"))
        with initialize_config_dir(str(CONF), version_base=None):
            for block in blocks(request.settings):
                own = [one.split(",")[0] for one in block.sweep]
                asked = ["+culture=arab", *own, *request.launcher, *request.overrides]
                models.append(compose("config", asked, return_hydra_config=True).model.name)
    assert len(models) == sum(len(blocks(PRESETS[preset])) for preset in ("quick", "full", "full"))
    assert {"pocket", "meta-llama/Meta-Llama-3-8B-Instruct"} == set(models)


def test_free_text_is_refused() -> None:
    with pytest.raises(UserError, match=r"survey\.confirm=true adds free text"):
        read_request(["respondent=sampled"], Path("runs"))


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("preset=quik", "unknown preset 'quik'"),
        ("regions=atlantis", "unknown culture 'atlantis'"),
        ("seeds=0", "seeds='0' must be a whole number of at least 1"),
        ("budget=many", "budget='many' must be a whole number of at least 1"),
        ("quick", "'quick' is no key=value"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_line(argument: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([argument]) == 2
    told = capsys.readouterr().err
    assert told.startswith("evoprompt: ")
    assert says in told
    assert told.count("\n") == 1


def test_a_loss_is_that_of_the_mean_person_and_its_interval_holds_it() -> None:
    loss, low, high = results.loss_interval(people(5.0), TARGET)
    assert loss == pytest.approx(5.0)
    assert low < loss < high
    both = np.concatenate([people(5.0), people(9.0)])
    loss, low_of_two, high_of_two = results.loss_interval(both, TARGET)
    assert loss == pytest.approx(7.0)
    assert high_of_two - low_of_two > high - low  # seeds differ, and the interval covers them


def test_arms_that_differ_in_every_person_get_the_least_p_there_is() -> None:
    found = results._compared(people(1.0), people(12.0), TARGET)
    assert found["difference"] == pytest.approx(-11.0)
    assert found["low"] <= found["difference"] <= found["high"] < 0
    assert found["p"] == pytest.approx(2 / 2**8)
    assert results._compared(people(1.0), people(1.0), TARGET)["p"] == 1.0


def test_the_test_is_of_the_difference_that_is_shown() -> None:
    """Two seeds that miss on either side do not cancel: their loss is 5, that of the other arm 4."""
    found = results._compared(np.concatenate([people(5.0), people(-5.0)]), people(4.0), TARGET)
    assert found["difference"] == pytest.approx(1.0)
    same = results._compared(np.concatenate([people(4.0), people(-4.0)]), people(4.0), TARGET)
    assert same["difference"] == pytest.approx(0.0)
    assert same["p"] > 0.5


def test_one_pair_or_a_missing_answer_has_no_p() -> None:
    assert np.isnan(results.paired([1.0], [2.0]).p)
    broken = people(5.0)
    broken[:, 2] = np.nan
    assert np.isnan(results._compared(broken, people(4.0), TARGET)["p"])


def test_tau_is_one_where_scores_keep_the_order_of_the_targets() -> None:
    targets = np.arange(24.0).reshape(4, 6)
    assert results._tau(10 * targets, targets).tolist() == [1.0] * 7
    assert results._tau(-targets, targets)[-1] == -1.0


def test_a_missing_target_leaves_the_other_dimensions() -> None:
    target = TARGET.copy()
    target[3] = np.nan
    assert results.loss_interval(people(5.0), target)[0] == pytest.approx(5.0)


def test_a_readme_gets_its_table_and_nothing_else_changes() -> None:
    text = "# Title\n<!-- table -->\nold\n<!-- /table -->\nend\n"
    assert with_table(text, "| a |") == "# Title\n<!-- table -->\n| a |\n<!-- /table -->\nend\n"
    with pytest.raises(ValueError, match="no place for its table"):
        with_table("# Title", "| a |")


def test_optimizers_are_told_apart_by_their_variants() -> None:
    found = [{"name": "auto"}, {"name": "de", "variant": "jso"}, {"name": "de", "variant": "shade"}]
    named = [results.optimizer_of(results.Finished(Path(), "", {"optimizer": one})) for one in found]
    assert named == ["auto", "de jso", "de shade"]


@pytest.mark.system
def test_real_runs_become_tables(tmp_path: Path) -> None:
    common = ("model.threads=1", "survey.respondents=3", "survey.examples=1", SHORT)
    run_block(Block("main", ("arab", "usa"), 2, (), 16), tmp_path, common, PRESETS["quick"].launcher)
    run_block(Block("others", ("arab", "usa"), 2, ("optimizer=random",), 16), tmp_path, common, ())
    main_runs = results.read_block(tmp_path / "main")
    assert [(run.culture, run.seed) for run in main_runs] == [("arab", 0), ("arab", 1), ("usa", 0), ("usa", 1)]
    others = results.read_block(tmp_path / "others", results.overrides_of(main_runs[0].folder))
    assert {run.setting for run in others} == {"optimizer=random"}
    losses = results.losses(main_runs)
    for run in main_runs:
        for split in ("searched", "held_out"):
            alone = results.loss_interval(run.by_person("evolved", split)[None], run.target)[0]
            assert alone == pytest.approx(run.loss("evolved", split), abs=1e-6)
    tests, taus, rivals = results.tests(main_runs), results.taus(main_runs), results.rivals(main_runs, others)
    assert set(rivals["optimizer"]) == {"auto", "random"}
    ablations = results.ablations(main_runs, others)
    assert ablations["setting"].tolist() == ["default", "optimizer=random"]
    claims = tables.claims(losses, tests, rivals)
    assert "of 2 regions" in claims[0]
    costs = results.costs(main_runs)
    assert (costs["perplexity least"] <= costs["perplexity"]).all()
    for text in (
        tables.loss_table(losses),
        tables.dimension_table(losses),
        tables.cost_table(costs),
        tables.difference_table(tests),
        tables.tau_table(taus),
        tables.rival_table(rivals),
    ):
        assert "nan" not in text
        assert len({line.count("|") for line in text.splitlines()}) == 1
    carried, able = transfer(main_runs)
    assert carried["arm"].tolist() == ["persona", "evolved"]
    assert carried["pairs"].tolist() == [12, 12]
    assert able["accuracy"].between(0, 1).all()
    assert "nan" not in tables.carried_table(carried) + tables.ability_table(able)
    plots.draw_losses(losses, tmp_path / "losses.png")
    assert (tmp_path / "losses.png").stat().st_size > 10_000
    pd.testing.assert_frame_equal(losses, results.losses(results.read_block(tmp_path / "main")))


@pytest.mark.system
def test_the_command_runs_every_block_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "runs"
    small = ["survey.respondents=2", "survey.examples=1", SHORT, "hydra/launcher=basic"]
    asked = ["preset=quick", "regions=arab,japan", "seeds=1", "budget=16", f"folder={folder}", *small]
    assert main(asked) == 0
    printed = capfd.readouterr().out
    (runs,) = folder.iterdir()
    assert {block.name for block in blocks(PRESETS["quick"])} <= {path.name for path in runs.iterdir()}
    out = runs / "results"
    assert (out / "table.md").read_text().strip() in printed
    assert "of 2 regions" in printed
    assert "nan" not in printed.split("say nothing about people")[1]
    losses = pd.read_csv(out / "losses.csv")
    assert set(losses["culture"]) == {"arab", "japan"}
    constants = [run.metrics["constant"] for run in results.read_block(runs / "main")]
    assert constants[0] == constants[1], "a region that is an anchor is none in this study"
    saved = {path.name: path.read_bytes() for path in out.glob("*.csv")}
    began = max(path.stat().st_mtime for path in runs.rglob("metrics.json"))
    assert main(asked) == 0
    assert max(path.stat().st_mtime for path in runs.rglob("metrics.json")) == began, "nothing is run again"
    assert {path.name: path.read_bytes() for path in out.glob("*.csv")} == saved


def test_a_block_that_cannot_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not complete; the same command goes on with it"):
        run_block(Block("main", ("arab",), 1, ("optimizer=nonsense",), 4), tmp_path, (), ())
