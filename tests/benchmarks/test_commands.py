"""The commands with tiny budgets, on our own methods and scipy's."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import bbob, overhead, soft_prompt_like
from benchmarks.counting import TARGETS, Counted
from benchmarks.peers import METHODS, select
from benchmarks.soft_prompt_objectives import SyntheticSurvey


def rows_of(path):
    return pd.read_csv(path, comment="#", keep_default_na=False)


@pytest.fixture
def small_bbob(tmp_path):
    out = tmp_path / "small.csv"
    fixed = ["--dims", "5", "--budget", "20", "--instances", "1", "--seeds", "2", "--functions", "1,10", "--out"]

    def run(*more):
        bbob.main([*fixed, str(out), *more])
        return rows_of(out)

    return run


def test_bbob_writes_rows_a_table_and_a_plot(small_bbob, tmp_path, capsys):
    rows = small_bbob("--methods", "evoprompt:auto,evoprompt:jade,scipy DE popsize=2,random")
    assert len(rows) == 4 * 2 * 2
    assert (rows["status"] == "ok").all()
    reached_all = rows["hits"].str.split().str.len() == len(TARGETS)
    assert ((rows["evaluations"] == 100) | reached_all).all()
    assert (rows["evaluations"] <= 100).all()
    assert "| evoprompt:auto |" in capsys.readouterr().out
    assert "scipy DE popsize=2" in (tmp_path / "small.md").read_text()
    assert (tmp_path / "small.png").stat().st_size > 10_000


def test_bbob_goes_on_where_it_was_interrupted_with_the_same_rows(small_bbob, tmp_path):
    whole = small_bbob("--methods", "evoprompt:auto,random")
    out = tmp_path / "small.csv"
    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join(lines[:6]))
    again = small_bbob("--methods", "evoprompt:auto,random")
    key, measured = list(bbob.KEY), [*bbob.KEY, "error", "evaluations", "hits"]
    pd.testing.assert_frame_equal(
        whole[measured].sort_values(key, ignore_index=True), again[measured].sort_values(key, ignore_index=True)
    )


def test_bbob_keeps_the_best_error_of_a_method_that_raises():
    problem = bbob.load("bbob", 1, 1, 5)

    class Raises:
        def start(self, objective, seed):
            objective([0.0] * 5)
            raise ArithmeticError("it broke")

    row = bbob.run_once(Raises(), problem, seed=0, budget=50)
    assert row["status"] == "failed: ArithmeticError: it broke"
    assert row["error"] == pytest.approx(problem.true_error([0.0] * 5))
    assert row["evaluations"] == 1


def test_the_noisy_suite_counts_the_recommended_point_without_noise():
    problem = bbob.load("noisy", 107, 1, 5)

    class Recommends:
        def start(self, objective, seed):
            objective.begin(lambda: [1.0] * 5)
            while True:
                objective([2.0] * 5)

    row = bbob.run_once(Recommends(), problem, seed=0, budget=50)
    assert row["error"] == pytest.approx(problem.true_error([1.0] * 5))


def test_overhead_measures_time_and_memory(tmp_path, capsys):
    out = tmp_path / "overhead.csv"
    methods = "evoprompt:shade,scipy DE vectorised"
    overhead.main(["--dims", "10", "--methods", methods, "--seconds", "0.05", "--repeats", "1", "--out", str(out)])
    rows = rows_of(out)
    assert (rows["status"] == "ok").all()
    assert rows["us"].between(0.1, 1000).all()
    assert "| evoprompt:shade |" in capsys.readouterr().out


def test_soft_prompt_like_runs_every_budget_and_seed(tmp_path, capsys):
    out = tmp_path / "soft.csv"
    soft_prompt_like.main(
        ["--objectives", "synthetic 1280", "--budgets", "60,120", "--seeds", "2", "--methods", "evoprompt:auto,random",
         "--out", str(out)]
    )  # fmt: skip
    rows = rows_of(out)
    assert len(rows) == 2 * 2 * 2
    assert (rows["evaluations"] == rows["budget"]).all()
    assert (rows["loss"] > 0).all()
    assert "| random |" in capsys.readouterr().out
    assert out.with_suffix(".png").exists()


def test_the_synthetic_survey_is_the_same_for_a_seed_and_flat_in_most_directions():
    survey, again = SyntheticSurvey(400, seed=1), SyntheticSurvey(400, seed=1)
    x = np.random.default_rng(0).uniform(-3, 3, (4, 400))
    np.testing.assert_array_equal(survey(x), again(x))
    null = np.linalg.svd(survey._directions.astype(float))[2][-1]
    np.testing.assert_allclose(survey(x + 0.5 * null), survey(x), rtol=1e-4)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if not method.missing and not method.slow])
def test_every_installed_method_spends_its_budget_and_not_more(name):
    objective = Counted(lambda x: float(sum(v * v for v in x)) + 1.0, [-5.0] * 6, [5.0] * 6, 400, f_opt=0.0)
    bbob.spend(METHODS[name], objective, lambda start: 7 + start)
    assert objective.used == 400
    assert objective.left == 0
    assert objective.best_loss < 100


def test_an_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown method 'de'; known: all, ours, peers, evoprompt:auto"):
        select(["de"], "bbob")
