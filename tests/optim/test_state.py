"""States come back exactly, or not at all."""

import json
import os
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evoprompt.optim import minimize
from evoprompt.optim.engine.state import Stateful, has_state, load_state, save_state

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ARRAYS = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.int64, np.bool_]), hnp.array_shapes(max_dims=2, max_side=3)
)
TREES = st.recursive(
    LEAVES | ARRAYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=4), inner, max_size=3),
    max_leaves=10,
)


def assert_same(left, right):
    assert type(left) is type(right)
    if isinstance(left, np.ndarray):
        assert left.dtype == right.dtype
        assert left.shape == right.shape
        assert left.tobytes() == right.tobytes()
    elif isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list):
        assert len(left) == len(right)
        for mine, theirs in zip(left, right, strict=True):
            assert_same(mine, theirs)
    elif isinstance(left, float):
        assert left == right or (np.isnan(left) and np.isnan(right))
    else:
        assert left == right


@given(tree=st.dictionaries(st.text("xyz", max_size=3), TREES, max_size=4))
def test_whatever_is_saved_comes_back_exactly(tmp_path_factory, tree):
    folder = tmp_path_factory.mktemp("state")
    save_state(folder, tree)
    assert_same(load_state(folder), tree)
    assert sorted(os.listdir(folder)) == ["state.npz"]


def test_dying_while_saving_loses_nothing(tmp_path, monkeypatch):
    save_state(tmp_path, {"n": 1, "x": np.zeros(3)})
    replace = os.replace

    def mortal(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", mortal)
    with pytest.raises(KeyboardInterrupt):
        save_state(tmp_path, {"n": 2, "x": np.ones(3)})
    monkeypatch.setattr(os, "replace", replace)
    loaded = load_state(tmp_path)
    assert (loaded["n"], loaded["x"].tolist()) == (1, [0.0] * 3)
    save_state(tmp_path, {"n": 3})
    assert load_state(tmp_path) == {"n": 3}


def test_a_saved_state_and_its_name_are_on_disk_before_saving_returns(tmp_path, monkeypatch):
    flushed, fsync = [], os.fsync

    def noting(descriptor):
        flushed.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    save_state(tmp_path, {"x": np.zeros(3)})
    assert flushed == [path.stat().st_ino for path in (tmp_path / "state.npz", tmp_path)]


def test_damage_is_noticed_wherever_it_is(tmp_path):
    state = {"x": np.arange(5), "note": "a"}
    save_state(tmp_path, state)
    whole = (tmp_path / "state.npz").read_bytes()
    flipped = [whole[:k] + bytes([whole[k] ^ 1]) + whole[k + 1 :] for k in range(len(whole))]
    for content in [whole[:k] for k in range(0, len(whole), 7)] + flipped:
        (tmp_path / "state.npz").write_bytes(content)
        try:
            loaded = load_state(tmp_path)
        except ValueError as error:
            said = str(error)
        else:
            said = ""
            assert_same(loaded, state)  # a date in the archive says nothing
        assert "damaged" in said or len(content) == len(whole)


def test_an_absent_state_and_another_schema_are_told_apart(tmp_path):
    assert not has_state(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"state\.npz"):
        load_state(tmp_path)
    save_state(tmp_path, {})
    header = json.dumps({"schema_version": 99, "state": {}}).encode()
    np.savez(tmp_path / "state.npz", header=np.frombuffer(header, np.uint8))
    with pytest.raises(ValueError, match="schema version 99"):
        load_state(tmp_path)


def test_a_state_of_the_former_form_is_seen_and_refused(tmp_path):
    (tmp_path / "state.json").write_text('{"schema_version": 1, "state": {}}')
    (tmp_path / "arrays.npz").write_bytes(b"")
    assert has_state(tmp_path)
    with pytest.raises(ValueError, match="has schema version 1, this reads 2"):
        load_state(tmp_path)


@pytest.mark.parametrize("content", ['{"schema_version": 2}', '{"mine": true}'])
def test_another_programs_state_json_is_no_state_and_is_left_alone(tmp_path, content):
    (tmp_path / "state.json").write_text(content)
    assert not has_state(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_state(tmp_path)
    result = minimize(lambda x: float(x @ x), [(-1, 1)] * 2, budget=20, checkpoint=tmp_path)
    assert result.nfev == 20
    assert has_state(tmp_path)
    assert (tmp_path / "state.json").read_text() == content


@pytest.mark.parametrize("error", [PermissionError("no entry"), MemoryError("no room")])
def test_what_keeps_a_state_from_being_read_is_not_called_damage(tmp_path, monkeypatch, error):
    def refusing(*args, **options):
        raise error

    save_state(tmp_path, {"x": np.arange(3)})
    monkeypatch.setattr(np, "load", refusing)  # as root every file can be read
    with pytest.raises(type(error), match=str(error)):
        load_state(tmp_path)
    monkeypatch.undo()
    assert load_state(tmp_path)["x"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("value", [object(), {1: 2}, np.array([object()]), {"$array": "a0"}, {3, 4}])
def test_what_cannot_be_saved_is_refused_saying_where(tmp_path, value):
    with pytest.raises(ValueError, match=r"state\['deep'\]\[0\]"):
        save_state(tmp_path, {"deep": [value]})


class Point(NamedTuple):
    x: np.ndarray
    note: str


@dataclass
class Line(Stateful):
    slope: float
    steps: list[float]
    points: list[Point]
    best: Point | None
    _tried: dict[int, Point]


class Sheet(Stateful):
    lines: list[Line]
    pairs: list[tuple[int, float]]


class Spot(NamedTuple):
    row: int
    name: str


class Board(Stateful):
    spots: set[Spot]
    corners: tuple[Spot, ...]
    ends: tuple[Spot, Spot]
    mixed: tuple[int, Spot]


def test_records_in_sets_and_tuples_come_back_as_those_in_lists_do(tmp_path):
    board, copy = Board(), Board()
    board.spots, board.corners = {Spot(2, "b"), Spot(1, "a")}, (Spot(0, "c"), Spot(5, "d"), Spot(3, "e"))
    board.ends, board.mixed = (Spot(7, "f"), Spot(8, "g")), (4, Spot(9, "h"))
    save_state(tmp_path, board.state_dict())
    copy.load_state_dict(load_state(tmp_path))
    assert vars(copy) == vars(board)
    assert {type(spot) for spot in (*copy.spots, *copy.corners, *copy.ends, copy.mixed[1])} == {Spot}


POINTS = st.builds(Point, hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=2, max_side=3)), st.text("ab"))
LINES = st.builds(
    Line,
    st.floats(),
    st.lists(st.floats(), max_size=3),
    st.lists(POINTS, max_size=3),
    st.none() | POINTS,
    st.dictionaries(st.integers(0, 9), POINTS, max_size=2),
)


@given(lines=st.lists(LINES, max_size=3), pairs=st.lists(st.tuples(st.integers(0, 9), st.floats()), max_size=2))
def test_records_within_records_come_back_as_they_were(tmp_path_factory, lines, pairs):
    sheet, copy = Sheet(), Sheet()
    sheet.lines, sheet.pairs = lines, pairs
    folder = tmp_path_factory.mktemp("records")
    save_state(folder, sheet.state_dict())
    copy.load_state_dict(load_state(folder))
    assert repr(copy.pairs) == repr(pairs)
    assert [type(line) for line in copy.lines] == [Line] * len(lines)
    for mine, theirs in zip(copy.lines, lines, strict=True):
        for one, other in zip(vars(mine).items(), vars(theirs).items(), strict=True):
            assert repr(one) == repr(other)  # of floats and small arrays, NaN and dtypes included


def test_many_records_are_few_arrays_and_share_nothing_with_the_state():
    sheet = Sheet()
    sheet.lines = [Line(0.5, [1.0] * k, [Point(np.ones((k, 2)), "a")], None, {}) for k in range(100)]
    sheet.pairs = []
    state = sheet.state_dict()["lines"]
    assert state["slope"].shape == (100,)
    assert state["steps"]["joined"].shape == (4950,)
    sheet.lines[3].points[0].x[:] = 7
    copy = Sheet()
    copy.load_state_dict({"lines": state, "pairs": []})
    assert copy.lines[3].points[0].x.tolist() == [[1.0, 1.0]] * 3
