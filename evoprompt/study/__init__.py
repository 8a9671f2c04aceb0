"""One run: baselines, a hard budget, checkpoints, history, evaluation and export."""

from evoprompt.study.job import run_job
from evoprompt.study.rundir import RunDirectory
from evoprompt.study.settings import Settings, read_settings
from evoprompt.study.study import Outcome, Study

__all__ = ["Outcome", "RunDirectory", "Settings", "Study", "read_settings", "run_job"]
