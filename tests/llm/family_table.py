"""The table of docs/guides/models.md: `python tests/llm/family_table.py`."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import numpy as np
from families import FAMILIES, build
from test_paths import PRECISION, asked, literal, load, soft

from evoprompt.llm import Respondent
from evoprompt.llm.write.sheet import PLACEMENTS


def largest(folder: Path, placement: str, dtype: str) -> tuple[str, float]:
    """The path that serves a model, and its largest difference from a literal pass."""
    frozen = load(folder, dtype)
    respondent = Respondent(frozen, placement)
    sheet, prompts = asked(respondent), soft(frozen, 3)
    found = np.log(respondent.answer(prompts, sheet))
    differences = [
        np.abs(found[p, q] - literal(frozen, prompts[p], sheet, q)).max() for p in range(3) for q in range(len(sheet))
    ]
    return respondent.path or "", float(max(differences))


def main() -> None:
    """Print a row per family."""
    logging.disable()
    print("| family | path | " + " | ".join(f"{dtype}, {place}" for dtype in PRECISION for place in PLACEMENTS) + " |")
    print("|---" * (2 + len(PRECISION) * len(PLACEMENTS)) + "|")
    for name in FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            build(name, Path(folder))
            found = [largest(Path(folder), place, dtype) for dtype in PRECISION for place in PLACEMENTS]
        paths = sorted({path for path, _ in found})
        print(f"| {name} | {', '.join(paths)} | " + " | ".join(f"{difference:.1e}" for _, difference in found) + " |")


if __name__ == "__main__":
    main()
