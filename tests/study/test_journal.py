"""The journal: what is on disk after every moment that a process may end at, and after a disk that was full."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from evoprompt.errors import UserError
from evoprompt.study.journal import COLUMNS, FRAME, MAGIC, ROW, SKETCH, TELL, Journal, as_history, ask_row
from evoprompt.surveys import DIMENSIONS


def rows(first: int, count: int) -> np.ndarray:
    made = np.zeros(count, ROW)
    made["event"], made["trial"] = TELL, np.arange(first, first + count)
    made["loss"] = np.linspace(0.1, 1 / 3, count)
    made["loss"][0] = np.nan
    made["dimensions"] = np.random.default_rng(first).normal(size=(count, len(DIMENSIONS)))
    made["sketch"] = np.random.default_rng(first).normal(size=(count, len(SKETCH)))
    made["worker"] = "ray-0"
    return made


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The kernel refuses to let a file of this process grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_was_appended_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.bin")
    journal.append(ask_row(5, 0))
    journal.append(rows(0, 3))
    middle = journal.end
    journal.append(rows(3, 2))
    again = Journal(tmp_path / "journal.bin")
    assert again.end == journal.end == (tmp_path / "journal.bin").stat().st_size
    assert [len(frame) for frame in again.rows] == [1, 3, 2]
    assert again.told().tobytes() == np.concatenate([rows(0, 3), rows(3, 2)]).tobytes()
    assert [frame["trial"].tolist() for frame in again.since(middle)] == [[3, 4]]


def test_a_frame_cut_off_anywhere_is_left_out_and_written_over(tmp_path: Path) -> None:
    path = tmp_path / "journal.bin"
    journal = Journal(path)
    journal.append(rows(0, 2))
    whole = journal.end
    journal.append(rows(2, 2))
    data = path.read_bytes()
    for cut in (0, 3, len(MAGIC), whole, whole + 1, whole + FRAME.size, whole + FRAME.size + 9, len(data) - 1):
        path.write_bytes(data[:cut])
        torn = Journal(path)
        kept = torn.told()["trial"].tolist()
        assert kept == ([0, 1] if cut >= whole else [])
        torn.append(rows(7, 1))
        assert Journal(path).told()["trial"].tolist() == [*kept, 7]


def test_a_frame_with_a_wrong_byte_ends_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.bin"
    journal = Journal(path)
    journal.append(rows(0, 2))
    journal.append(rows(2, 2))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert Journal(path).told()["trial"].tolist() == [0, 1]
    with pytest.raises(UserError, match=rf"readable bytes, the run's checkpoint knows of {len(data)}"):
        Journal(path).since(len(data))


def test_zeros_at_the_end_as_a_power_failure_leaves_them_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "journal.bin"
    Journal(path).append(rows(0, 2))
    with path.open("ab") as file:
        file.write(bytes(64))
    again = Journal(path)
    assert [len(frame) for frame in again.rows] == [2]
    again.append(rows(2, 1))
    assert Journal(path).told()["trial"].tolist() == [0, 1, 2]


def test_of_a_trial_that_was_evaluated_again_the_last_row_counts(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.bin")
    journal.append(rows(0, 3))
    journal.append(rows(1, 1))
    assert journal.told()["trial"].tolist() == [0, 2, 1]


def test_another_file_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "journal.bin").write_text("some text that is longer than the first line of a journal")
    with pytest.raises(UserError, match=r"journal\.bin is not a journal"):
        Journal(tmp_path / "journal.bin")


def test_a_journal_of_another_version_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "run" / "journal.bin"
    path.parent.mkdir()
    Journal(path).append(rows(0, 2))
    path.write_bytes(path.read_bytes().replace(MAGIC, b"evoprompt journal 1\n"))
    with pytest.raises(UserError, match="was begun by another version of evoprompt; begin it again") as refused:
        Journal(path)
    assert str(path.parent) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_rows_that_a_full_disk_refuses_are_kept_and_written_later(tmp_path: Path) -> None:
    path = tmp_path / "journal.bin"
    journal = Journal(path)
    journal.append(rows(0, 2))
    with largest_file(journal.end + 50):
        journal.append(rows(2, 2))
        journal.append(rows(4, 1))
        assert journal.trouble is not None
        assert path.stat().st_size == journal.end + 50, "a part was written"
        assert Journal(path).told()["trial"].tolist() == [0, 1]
    assert journal.told()["trial"].tolist() == [0, 1, 2, 3, 4]
    journal.append(rows(5, 1))
    assert journal.trouble is None
    assert Journal(path).told()["trial"].tolist() == [0, 1, 2, 3, 4, 5]


def test_the_history_has_a_row_per_evaluation(tmp_path: Path) -> None:
    frame = as_history(rows(0, 4))
    assert list(frame.columns) == list(COLUMNS)
    assert frame["failed"].tolist() == [True, False, False, False]
    np.testing.assert_array_equal(frame[list(DIMENSIONS)], rows(0, 4)["dimensions"])
    np.testing.assert_array_equal(frame[list(SKETCH)], rows(0, 4)["sketch"])
    assert {str(frame[name].dtype) for name in SKETCH} == {"float32"}
    assert len(as_history(rows(0, 4)[:0])) == 0
