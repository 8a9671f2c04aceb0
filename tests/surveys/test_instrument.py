"""The bundled wordings, and wording files of a user's own."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from evoprompt.errors import UserError
from evoprompt.surveys import load_instrument, vsm13

BUNDLED = (resources.files("evoprompt.surveys") / "data" / "vsm13.yaml").read_text(encoding="utf-8")


def written(folder: Path, old: str = "", new: str = "") -> Path:
    assert old in BUNDLED
    path = folder / "own.yaml"
    path.write_text(BUNDLED.replace(old, new, 1), encoding="utf-8")
    return path


def test_every_item_has_at_least_four_wordings_on_both_sides_of_the_split() -> None:
    for item in vsm13().items:
        assert len(item.searched) + len(item.held_out) >= 4
        assert item.searched
        assert item.held_out
    assert [item.number for item in vsm13().items] == list(range(1, 25))


def test_item_20_runs_from_never_to_always_and_item_15_the_other_way() -> None:
    instrument = vsm13()
    assert instrument.scales[instrument.items[19].scale][0] == "never"
    assert instrument.scales[instrument.items[14].scale][0] == "always"


def test_no_wording_occurs_twice() -> None:
    texts = [text for item in vsm13().items for text in (*item.searched, *item.held_out)]
    assert len(set(texts)) == len(texts)


def test_a_users_file_is_read_like_the_bundled_one(tmp_path: Path) -> None:
    assert load_instrument(written(tmp_path)).items == vsm13().items


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("    scale: importance\n", "    scale: importence\n", r"line (\d+): item 1 uses scale 'importence'"),
        (
            "  health: [very good, good, fair,",
            "  health: [good, fair,",
            r"line (\d+): scale 'health' needs 5",
        ),
        ("items:\n", "things:\n", r"line \d+: `items` is missing"),
        ("  24:\n", "  25:\n", r"line (\d+): item '25' is not a number from 1 to 24"),
        ("  24:\n", "  23:\n", r"line (\d+): `items` has '23' twice"),
        ("    held_out:\n", "    held_back:\n", r"line (\d+): item 1 has no `held_out`"),
        ("name: vsm13", "name: [vsm13", r"line (\d+): not valid YAML"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    path = written(tmp_path, old, new)
    with pytest.raises(UserError) as refused:
        load_instrument(path)
    message = str(refused.value)
    found = re.search(complaint, message)
    assert found, message
    assert "\n" not in message
    if found.groups() and new.strip():
        changed = path.read_text(encoding="utf-8")[: path.read_text(encoding="utf-8").rindex(new)].count("\n") + 1
        assert abs(int(found.group(1)) - changed) <= 6


def test_a_wording_may_not_be_searched_and_held_out(tmp_path: Path) -> None:
    first = vsm13().items[0]
    path = written(tmp_path, first.held_out[0], first.searched[0])
    with pytest.raises(UserError, match=r"item 1: a wording is both searched and held out"):
        load_instrument(path)


def test_missing_items_are_named(tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(BUNDLED[: BUNDLED.index("  24:\n")], encoding="utf-8")
    with pytest.raises(UserError, match="items missing: 24"):
        load_instrument(path)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the wording file"):
        load_instrument(tmp_path / "none.yaml")
