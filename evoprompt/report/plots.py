"""All plots of a run's report, in its order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from evoprompt.report.answer_plots import (
    answers_alt,
    answers_csv,
    carry_alt,
    carry_csv,
    distributions_alt,
    distributions_csv,
    draw_answers,
    draw_carry,
    draw_distributions,
)
from evoprompt.report.answers import has_answers
from evoprompt.report.dimension_plot import dimensions_alt, dimensions_csv, draw_dimensions
from evoprompt.report.diversity import diversity
from evoprompt.report.drawing import Plot, finished
from evoprompt.report.files import Run
from evoprompt.report.search_plots import (
    convergence_alt,
    convergence_csv,
    diversity_alt,
    diversity_csv,
    draw_convergence,
    draw_diversity,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Parts = tuple[Callable[[Run], str], Callable[[Run], bytes], Callable[[Run, bool], "Figure"]]
ALWAYS: dict[str, Parts] = {
    "dimensions": (dimensions_alt, dimensions_csv, draw_dimensions),
    "convergence": (convergence_alt, convergence_csv, draw_convergence),
}
OF_SKETCHES: dict[str, Parts] = {"diversity": (diversity_alt, diversity_csv, draw_diversity)}
OF_ANSWERS: dict[str, Parts] = {
    "answers": (answers_alt, answers_csv, draw_answers),
    "distributions": (distributions_alt, distributions_csv, draw_distributions),
    "carry": (carry_alt, carry_csv, draw_carry),
}


def all_plots(run: Run) -> list[Plot]:
    """Draw everything that the run holds the numbers of; one of an older release holds fewer."""
    parts = dict(ALWAYS)
    if diversity(run) is not None:
        parts |= OF_SKETCHES
    if has_answers(run):
        parts |= OF_ANSWERS

    def drawing(draw: Callable[[Run, bool], Figure]) -> Callable[[bool], Figure]:
        return lambda narrow: draw(run, narrow)

    return [finished(name, alt(run), csv(run), drawing(draw)) for name, (alt, csv, draw) in parts.items()]
