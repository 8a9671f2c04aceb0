"""Which optimizer for which job: `python -m experiments.optimizers`.

Gathers the committed tables of `benchmarks/results` and runs nothing; `preset=quick` and `preset=full` are the same.
Writes `page.html`, `overview.png`, `table.md` and `recommendations.csv`, and the table into the README beside them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from evoprompt.errors import UserError, unknown_name
from experiments.optimizers import beside, words
from experiments.optimizers.document import document
from experiments.optimizers.jobs import JOBS
from experiments.optimizers.plots import overview
from experiments.optimizers.standing import judge_all
from experiments.readme import write_table

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "benchmarks" / "results"
PRESETS = ("quick", "full")


def write_all(results: Path, out: Path) -> str:
    """Write everything into `out` and return the table."""
    verdicts, p = judge_all(results)
    grids = [beside.loops(results), beside.own_cost(results), beside.spaces(results)]
    missing = beside.coverage(results, dict.fromkeys(name for job in JOBS for name in job.tables))
    bullets = [words.lead(verdicts, p), *words.not_best(verdicts)]
    parts = [f"**{words.headline(verdicts)}.**", "\n".join(f"- {line}" for line in bullets)]
    parts += [words.markdown(verdicts), words.RULE]
    for grid in grids:
        parts += [f"### {grid.title}", grid.markdown()]
    parts += [f"### {missing.title}", missing.says]
    text = "\n\n".join(parts)
    out.mkdir(parents=True, exist_ok=True)
    wide, narrow, picture = overview(verdicts)
    (out / "overview.png").write_bytes(picture)
    (out / "page.html").write_text(document(verdicts, p, (wide, narrow), grids, missing), encoding="utf-8")
    write_table(out, text)
    words.frame(verdicts, p).to_csv(out / "recommendations.csv", index=False, lineterminator="\n")
    return text


def options(arguments: Sequence[str]) -> dict[str, str]:
    """The key=value arguments over the defaults.

    Raises
    ------
    UserError
        A key or a preset is unknown.
    """
    found = {"preset": "quick", "results": str(RESULTS), "out": str(HERE)}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in found or not value:
            raise unknown_name("argument", argument, [f"{name}=..." for name in found])
        found[key] = value
    if found["preset"] not in PRESETS:
        raise unknown_name("preset", found["preset"], PRESETS)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Gather, print the table; 2 where an argument is wrong."""
    try:
        chosen = options(sys.argv[1:] if arguments is None else arguments)
        print(write_all(Path(chosen["results"]), Path(chosen["out"])))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
