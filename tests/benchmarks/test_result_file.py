"""Result files: rows survive, whatever is in them."""

import numpy as np

from benchmarks.result_file import ResultFile, machine, read, remarks

COLUMNS = ("method", "seed", "status", "error", "seconds", "hits")


def row(seed, **changes):
    plain = {"method": "a, b", "seed": seed, "status": "ok", "error": 1.5, "seconds": 0.25, "hits": ""}
    return plain | changes


def test_rows_come_back_with_failures_as_numbers_and_no_hits_as_nothing(tmp_path):
    file = ResultFile(tmp_path / "new" / "runs.csv", COLUMNS, ("method", "seed"))
    file.add(row(0, hits="3 4"))
    file.add(row(1, status="failed: #1, it\nbroke", error=np.inf, seconds=np.nan))
    rows = read([file.path])
    assert rows["error"].tolist() == [1.5, np.inf]
    assert rows["seconds"].sum() == 0.25
    assert rows["hits"].tolist() == ["3 4", ""]
    assert rows["status"].tolist() == ["ok", "failed: 1, it broke"]


def test_a_file_opened_again_knows_its_rows(tmp_path):
    ResultFile(tmp_path / "runs.csv", COLUMNS, ("method", "seed")).add(row(0))
    again = ResultFile(tmp_path / "runs.csv", COLUMNS, ("method", "seed"))
    assert row(0, error=9.0) in again
    assert row(1) not in again
    again.add(row(1))
    assert len(read([again.path])) == 2


def test_a_file_says_once_where_it_was_made(tmp_path):
    for seed in (0, 1):
        ResultFile(tmp_path / "runs.csv", COLUMNS, ("method", "seed")).add(row(seed))
    assert remarks(tmp_path / "runs.csv").splitlines() == [f"- {line}" for line in machine()]
