"""Is a committee of cultural experts nearer to the cultures a question is about than simpler ways to answer it?

`python -m experiments.committee preset=quick` on the pocket model, `preset=full model=... experts=...` on any other.
Writes results.csv, answers.csv, table.md, alignment.png and latency.csv, and shows the table in the README.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from evoprompt.errors import UserError
from evoprompt.experts import Registry
from evoprompt.llm import load_model
from evoprompt.llm.load.spec import POCKET
from evoprompt.routing import Committee, load_router
from experiments.committee.arms import Asker, Panelists, best_voices, choose_fixed, routes_of
from experiments.committee.figures import as_published, comparisons, free_text_figures, results, routing
from experiments.committee.free_text import answers
from experiments.committee.latency import latency
from experiments.committee.plot import plot
from experiments.committee.queries import LabelledQuery, in_two, study_queries
from experiments.committee.settings import Settings, parse
from experiments.committee.table import alignment_table, comparison_table, markdown, routed_or_not, verdict
from experiments.committee.truth import targets

SIMULATED = "The pocket model is a simulator with a known truth: these figures say nothing about people."
CIRCULAR = (
    "**Circular, not comparable with the above**: the formulas of arXiv 2506.00242. Its alignment is the share of "
    "those who answered that the arm itself had chosen, its diversity counts who answered and not what they said."
)
SHOWN = re.compile(r"(?<=<!-- table -->\n).*?(?=<!-- /table -->)", re.DOTALL)


class Study(NamedTuple):
    """What a run found, and in words and tables `text`."""

    results: pd.DataFrame
    answers: pd.DataFrame
    latency: pd.DataFrame
    text: str


def study(settings: Settings, queries: Sequence[LabelledQuery]) -> Study:
    """Ask every arm every query."""
    frozen = load_model(settings.spec())
    committee = Committee(frozen, Registry(Path(settings.experts), frozen), load_router(None, frozen), settings.k)
    voices, truth, asker = best_voices(committee), targets(frozen), Asker(committee)
    survey, everyday = in_two(queries)
    fixed = choose_fixed(asker, survey, truth, voices)
    routes, routed = routes_of(committee, survey)
    panelists = Panelists(asker, survey, voices, settings.asked)
    replies = panelists.replies(routed, fixed)
    frame = results(survey, replies, truth)
    unrouted = results(survey, {"mixture": replies["mixture"], **panelists.unrouted()}, truth)
    said = answers(committee, everyday, routes_of(committee, everyday)[1], voices, fixed, settings.asked)
    text = [SIMULATED] if frozen.spec.name == POCKET else [f"Base model: {frozen.spec.name}."]
    text += ["\n".join(f"- {sentence}" for sentence in (*verdict(frame), routed_or_not(unrouted)))]
    text += [f"Alignment and diversity, means with 95 % intervals; the fixed expert is {fixed}:"]
    text += [markdown(alignment_table(frame)), "Paired differences in alignment:"]
    text += [markdown(comparison_table(comparisons(frame))), "Who is chosen, against the labels:"]
    text += [markdown(routing(survey, routes, fixed)), f"Free text, {len(everyday)} everyday questions:"]
    text += [markdown(free_text_figures(said))]
    if settings.metrics == "as_published":
        text += [CIRCULAR, markdown(as_published(survey, replies, routes))]
    timed = latency(committee, survey, everyday, voices, fixed, settings.asked, settings.rounds)
    return Study(frame, said, timed, "\n\n".join(part.strip() for part in text) + "\n")


def write(found: Study, folder: Path) -> None:
    """All files, when everything has been asked; a README with markers shows the table."""
    folder.mkdir(parents=True, exist_ok=True)
    found.results.round(6).to_csv(folder / "results.csv", index=False)
    found.answers.round(6).to_csv(folder / "answers.csv", index=False)
    (folder / "table.md").write_text(found.text, encoding="utf-8")
    plot(found.results, folder / "alignment.png", found.text.partition("\n")[0])
    if len(found.latency):
        found.latency.round(4).to_csv(folder / "latency.csv", index=False)
    readme = folder / "README.md"
    if readme.exists():
        readme.write_text(
            SHOWN.sub(lambda _: f"\n{found.text}\n", readme.read_text(encoding="utf-8")), encoding="utf-8"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study. Returns the exit code: 0, or 2 for bad input."""
    try:
        settings = parse(sys.argv[1:] if arguments is None else arguments)
        found = study(settings, study_queries(settings.split))
        write(found, settings.folder)
    except (UserError, OSError) as error:
        print(f"experiments.committee: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(found.text)
    print(f"written to {settings.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
