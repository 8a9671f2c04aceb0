"""The report of a run: one HTML page, plots and their numbers, from the files of a run directory alone."""

from __future__ import annotations

from pathlib import Path

from evoprompt.extras import require

__all__ = ["write_report"]


def write_report(folder: Path) -> Path:
    """Write `report.html` and `plots/` into a finished run's directory.

    Parameters
    ----------
    folder
        A run directory with `metrics.json`, `run.json`, `config.yaml` and `history.parquet`.

    Returns
    -------
    Path
        The page. It is self-contained, and written last: where it is new, the plots are.

    Raises
    ------
    UserError
        The folder is not a finished run, a file of it cannot be read, or it cannot be written.
    """
    require("evoprompt.report", "lm")
    from evoprompt.report.answers import answer_plots, has_answers
    from evoprompt.report.dimension_plot import dimensions_plot
    from evoprompt.report.drawing import write_page
    from evoprompt.report.files import arms_csv, read_run, write_bytes
    from evoprompt.report.page import run_page
    from evoprompt.report.search_plots import search_plots

    folder = Path(folder)
    run = read_run(folder)
    plots = [dimensions_plot(run), *search_plots(run), *(answer_plots(run) if has_answers(run) else ())]
    page = run_page(run, plots)
    write_bytes(folder / "plots" / "arms.csv", arms_csv(run))
    return write_page(folder, plots, page)
