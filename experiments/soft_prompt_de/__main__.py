"""Does an evolved soft prompt carry to wordings, questions and instruments that were not searched, and at what cost?

`python -m experiments.soft_prompt_de preset=quick` runs the study on the pocket model; the same command goes on with
what an interruption left. `preset=full` is for GPUs. What is neither `preset`, `regions`, `seeds`, `budget`, `folder`
nor `out` goes to every run, such as `model=qwen3-8b` or `hydra/launcher=submitit_slurm`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from evoprompt.errors import UserError
from evoprompt.report.sweep import write_sweep
from experiments.readme import fill, write_table
from experiments.soft_prompt_de import plots, results, tables
from experiments.soft_prompt_de.carried import transfer
from experiments.soft_prompt_de.plan import Preset, Request, blocks, folder_of, read_request, run_block

HERE = Path(__file__).parent
README = HERE.parents[1] / "README.md"
RUNS = Path("outputs/soft_prompt_de")
POCKET = (
    "Made with the pocket model, a simulator with a known truth: these figures check the method and say nothing about "
    "people."
)


def frames_of(folder: Path, request: Request, main: Sequence[results.Finished]) -> dict[str, pd.DataFrame]:
    """The tables of finished blocks, but for those of `transfer`."""
    common = results.overrides_of(main[0].folder)
    others = {block.name: results.read_block(folder / block.name, common) for block in blocks(request.settings)}
    tried = [run for name, runs in others.items() if name.startswith("ablation") for run in runs]
    return {
        "losses": results.losses(main),
        "tests": results.tests(main),
        "tau": results.taus(main),
        "optimizers": results.rivals(main, others["rivals"] + others["rivals_es"]),
        "ablations": results.ablations(main, tried),
        "costs": results.costs(main),
    }


def sentences(found: dict[str, pd.DataFrame]) -> str:
    """What the tables say, as a list."""
    told = tables.claims(found["losses"], found["tests"], found["optimizers"])
    return "\n".join(f"- {claim}" for claim in (*told, *tables.transfer_claims(found["transfer"], found["ability"])))


def summary(found: dict[str, pd.DataFrame]) -> str:
    """What the project's README shows of the study."""
    return f"{tables.summary_table(found['losses'])}\n\n{sentences(found)}"


def report(found: dict[str, pd.DataFrame], model: str, settings: Preset) -> str:
    """Everything as text."""
    parts = [POCKET] if model == "pocket" else [f"Model: {model}."]
    parts.append(
        f"{settings.budget} evaluations a run; {settings.seeds} seeds a region, of which the other optimizers have "
        f"{settings.rival_seeds} and the ablations, in {', '.join(settings.ablated)}, {settings.ablation_seeds}."
    )
    parts.append(sentences(found))
    for title, text in (
        ("Loss by region and arm", tables.loss_table(found["losses"])),
        ("Each dimension's distance to its target, on held-out wordings", tables.dimension_table(found["losses"])),
        ("Paired differences on held-out wordings", tables.difference_table(found["tests"])),
        ("Kendall's tau of scores and targets over the regions", tables.tau_table(found["tau"])),
        ("Optimizers at equal budgets and seeds, held-out loss", tables.rival_table(found["optimizers"])),
        ("What the evolved prompts cost on neutral text", tables.cost_table(found["costs"])),
        ("What each choice does", tables.ablation_table(found["ablations"])),
        ("A second questionnaire: does it move the way the targets ask?", tables.carried_table(found["transfer"])),
        ("Sixty questions with one right answer of four", tables.ability_table(found["ability"])),
    ):
        parts.append(f"**{title}**\n\n{text}")
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, compute, write. Returns the exit code."""
    try:
        request = read_request(sys.argv[1:] if arguments is None else arguments, RUNS)
        folder = folder_of(request)
        for block in blocks(request.settings):
            run_block(block, folder, request.overrides, request.launcher)
        runs = results.read_block(folder / "main")
        out = request.out or (folder / "results" if request.changed or request.preset != "quick" else HERE)
        out.mkdir(parents=True, exist_ok=True)
        found = frames_of(folder, request, runs)
        _save(found, out)
        found |= dict(zip(("transfer", "ability"), transfer(runs), strict=True))
        _save(found, out)
    except UserError as error:
        print(f"evoprompt: {error}", file=sys.stderr)
        return 2
    text = report(found, str(runs[0].metrics["model"]), request.settings)
    write_table(out, text)
    if out == HERE:
        fill(README, summary(found))
    plots.draw_losses(found["losses"], out / "losses.png")
    write_sweep(folder / "main")
    print(text)
    print(f"\nruns in {folder}, tables in {out}")
    return 0


def _save(found: dict[str, pd.DataFrame], out: Path) -> None:
    for name, frame in found.items():
        frame.round(6).to_csv(out / f"{name}.csv", index=False)


if __name__ == "__main__":
    sys.exit(main())
