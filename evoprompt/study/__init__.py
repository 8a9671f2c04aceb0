"""One run: baselines, a hard budget, checkpoints, history, evaluation and export."""

from evoprompt.study.job import run_job
from evoprompt.study.rundir import RunDirectory
from evoprompt.study.settings import Settings, read_settings
from evoprompt.study.study import Outcome, Study
from evoprompt.study.table import closing_table

__all__ = ["Outcome", "RunDirectory", "Settings", "Study", "closing_table", "read_settings", "run_job"]
