"""The launcher as Hydra knows it. Hydra imports this at each start, so Ray waits until there are jobs to launch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class EvopromptRayConf:
    """Options of the launcher, `hydra.launcher.<option>` on the command line.

    The folder of the sweep must be one that all machines of the cluster see.
    """

    _target_: str = "hydra_plugins.evoprompt_ray_launcher.launcher.EvopromptRayLauncher"

    # null starts a cluster on this machine; auto, host:port and ray://host:port join one that runs
    address: str | None = None
    # CPUs that Ray reserves for a job; null: as many as its model computes with (model.threads). A job with
    # executor=ray reserves none, so that its workers can have them
    cpus_per_job: float | None = None
    # GPUs that Ray reserves for a job, a fraction shares one; a job without sees none. A job with executor=ray has its
    # own model there; its workers take more
    gpus_per_job: float = 0
    # null: as many as the cluster has room for, but a job with executor=ray alone
    jobs_at_once: int | None = None
    # how often a job is begun again, from its checkpoint, after its process died
    max_retries: int = 2
    # seconds to wait for a cluster with a node that can hold a job
    timeout: float = 60


ConfigStore.instance().store(
    group="hydra/launcher", name="evoprompt_ray", node=EvopromptRayConf, provider="evoprompt_ray_launcher"
)


class EvopromptRayLauncher(Launcher):
    """Runs each job as a Ray task."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra hands over."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs and return what they returned; a job that failed returns NaN and says why in its folder."""
        from hydra_plugins.evoprompt_ray_launcher import _tasks

        options = _tasks.Options(**self.options)
        numbered = enumerate(job_overrides, initial_job_idx)
        loader = self.hydra_context.config_loader
        jobs = [_tasks.compose(loader, self.config, number, overrides, options) for number, overrides in numbered]
        with _tasks.cluster(options, jobs):
            return _tasks.run(jobs, self.task_function, options)
