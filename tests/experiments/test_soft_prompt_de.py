"""The study's plan makes real multiruns, and its tables say what the runs measured."""

from __future__ import annotations

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
    assert folder_of(request) != folder_of(read_request([], Path("runs")))
    assert not read_request(["preset=quick", "folder=elsewhere"], Path("runs")).changed


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


@pytest.mark.slow
def test_real_runs_become_tables(tmp_path: Path) -> None:
    common = ("model.threads=1", "survey.respondents=4")
    run_block(Block("main", ("arab", "usa"), 2, (), 16), tmp_path, common)
    run_block(Block("others", ("arab", "usa"), 2, ("optimizer=random",), 16), tmp_path, common)
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
    assert set(rivals["optimizer"]) == {"de", "random"}
    ablations = results.ablations(main_runs, others)
    assert ablations["setting"].tolist() == ["default", "optimizer=random"]
    claims = tables.claims(losses, tests, rivals)
    assert "of 2 regions" in claims[0]
    for text in (
        tables.loss_table(losses),
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


def test_a_block_that_cannot_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not complete; the same command goes on with it"):
        run_block(Block("main", ("arab",), 1, ("optimizer=nonsense",), 4), tmp_path, ())
