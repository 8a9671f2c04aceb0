"""The forty faults of `tests/mutations.py` are faults of the code as it is."""

from __future__ import annotations

from collections import Counter

import mutations
import pytest
from mutations import FAULTS, ROOT


@pytest.mark.parametrize("fault", FAULTS, ids=[str(number) for number in range(1, len(FAULTS) + 1)])
def test_a_fault_has_its_one_place_and_is_still_python(fault: mutations.Fault) -> None:
    right = (ROOT / fault.path).read_text(encoding="utf-8")
    compile(fault.applied(right), str(fault.path), "exec")
    assert all((ROOT / path).exists() for path in fault.near.split())


def test_there_are_forty_over_all_rooms() -> None:
    counts = Counter(fault.room for fault in FAULTS)
    assert counts == {"optim": 12, "llm": 10, "surveys": 5, "parallel": 5, "routing": 4, "serving": 4}
