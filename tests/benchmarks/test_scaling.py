"""The scaling benchmark, on its virtual clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import result_file, scaling


def test_the_command_leaves_rows_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scaling.main(["simulated", "--workers", "4", "--out", str(tmp_path / "scaling.csv")])
    rows = result_file.rows(tmp_path / "scaling.csv")
    assert {(row["case"], row["loop"], row["workers"]) for row in rows} == {
        (case, loop, workers) for case in scaling.CASES for loop in scaling.LOOPS for workers in ("1", "2", "4")
    }
    for row in rows:
        assert 0.8 < float(row["utilisation"]) <= 1
        if row["loop"] == "steady":
            assert float(row["utilisation"]) > 0.95
    table = (tmp_path / "scaling.md").read_text()
    assert table.count("\n|") == 2 + len(rows)
    assert table in capsys.readouterr().out


def test_rows_that_are_there_are_not_made_again(tmp_path: Path) -> None:
    out = tmp_path / "scaling.csv"
    for _ in range(2):
        scaling.main(["simulated", "--workers", "1", "--out", str(out)])
    assert len(result_file.rows(out)) == 6
