"""The flags of a command whose runs are trained in the jobs of a cluster."""

import dataclasses
from typing import Any

from absl import flags

from experiments import cli
from experiments.studies.jobs import EXECUTORS, Settings

_OF_SLURM = ("job_cpus", "job_memory", "partition", "account", "sbatch")  # what a process of this machine cannot have


@dataclasses.dataclass(frozen=True)
class JobFlags:
    """The flags that `define` has defined."""

    values: flags.FlagValues
    names: tuple[str, ...]

    def read(self, workers: int) -> Settings | None:
        """Returns what the flags say, for jobs with this many workers each; None if no executor is named.

        Raises:
          UsageError: a flag that has no meaning for this executor.
        """
        given: dict[str, Any] = {name: self.values[name].value for name in ("executor", *self.names)}
        executor = given["executor"]
        useless = self.names if executor is None else _OF_SLURM if executor == "local" else ()
        for name in useless:
            if self.values[name].present:
                needed = "--executor=slurm" if name in _OF_SLURM else "--executor=slurm or --executor=local"
                raise cli.UsageError(f"--{name} needs {needed}.")
        if executor is None:
            return None
        return Settings(
            executor=executor,
            at_once=given["jobs"],
            runs_per_job=given["runs_per_job"],
            workers=workers,
            minutes=given["job_minutes"],
            cpus=given["job_cpus"],
            gpus=given["job_gpus"],
            memory_gb=given["job_memory"],
            partition=given["partition"],
            account=given["account"],
            sbatch=tuple(option.lstrip("-") for option in given["sbatch"]),
        )


def define(values: flags.FlagValues) -> JobFlags:
    """Defines the flags among those of a main."""
    executors = "slurm: jobs of a cluster; local: processes of this machine."
    flags.DEFINE_enum("executor", None, EXECUTORS, f"Train in jobs. {executors}", flag_values=values)
    flags.DEFINE_integer("jobs", 2, "Jobs at once.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("runs_per_job", 1, "Runs that one job trains.", lower_bound=1, flag_values=values)
    flags.DEFINE_float(
        "job_minutes", 60.0, "Minutes for a job; unfinished work continues in it later.", 0.05, flag_values=values
    )
    flags.DEFINE_integer("job_cpus", None, "Cores of a job.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("job_gpus", 0, "GPUs of a job.", lower_bound=0, flag_values=values)
    flags.DEFINE_float("job_memory", None, "Memory of a job in GB.", lower_bound=0.1, flag_values=values)
    flags.DEFINE_string("partition", None, "Partition of the cluster.", flag_values=values)
    flags.DEFINE_string("account", None, "Account to charge.", flag_values=values)
    flags.DEFINE_multi_string("sbatch", [], "name=value: any other option of sbatch, repeatable.", flag_values=values)
    return JobFlags(values, ("jobs", "runs_per_job", "job_minutes", "job_gpus", *_OF_SLURM))
