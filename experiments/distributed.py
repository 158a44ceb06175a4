"""Flags that let several devices, or several processes on one or more hosts, share every batch of a command's runs.

`--devices=4` uses devices of this process. With `--distributed`, the same command is started once per process, and all
devices of all processes are used. The processes find each other by `jax.distributed`: from flags, or from what the
cluster (Slurm, Open MPI, Kubernetes ...) says in the environment. They trust each other and their network: nothing is
encrypted or authenticated.
"""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from typing import NoReturn

import jax
from absl import flags
from jax.experimental import multihost_utils

from experiments import cli, plain_errors, runtime
from experiments.training import parallel
from experiments.training.parallel import Devices

# Seconds without a sign of life after which a process counts as dead, and JAX ends all others. The sockets of a process
# that has died close at once; only one that was stopped, or a host that has vanished, takes so long.
SILENT_AFTER = 60
_WAITS_FOR_OTHERS = 300  # seconds, for all processes to start
_PATIENCE = 20.0  # seconds, before it is said that others are waited for
_PARTS_WITHIN = 30  # seconds, for all processes to end
_PLACES = ("--coordinator_address", "--num_processes", "--process_id")  # in which processes of one run differ


def without_places(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments of a command that all of its processes share: what a manifest may say, with no host."""
    kept, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, _ = argument.partition("=")
        if f"--{name.lstrip('-')}" not in _PLACES:
            kept.append(argument)
        elif not equals:
            del rest[:1]  # the value
    return kept


class Sharing:
    """The flags of a main that say which devices share its batches."""

    def __init__(self, values: flags.FlagValues) -> None:
        """Defines the flags."""
        self._values = values
        self._devices = flags.DEFINE_integer(
            "devices", 1, "Devices of this process that share every batch.", 1, 4096, flag_values=values
        )
        self._distributed = flags.DEFINE_bool(
            "distributed",
            False,
            "This is one of several processes, each started with this command, whose devices share every batch.",
            flag_values=values,
        )
        self._address = flags.DEFINE_string(
            "coordinator_address", None, "host:port of process 0; by default as the cluster says.", flag_values=values
        )
        self._number = flags.DEFINE_integer(
            "num_processes", None, "Processes of --distributed; by default as the cluster says.", 1, flag_values=values
        )
        self._place = flags.DEFINE_integer(
            "process_id", None, "Number of this process, from 0; by default as the cluster says.", 0, flag_values=values
        )

    @property
    def shared(self) -> bool:
        """Whether several devices share a batch."""
        return self._distributed.value or self._devices.value > 1

    def check(self, workers: int, *, in_jobs: bool = False, together: bool = False) -> None:
        """Raises UsageError for flags that contradict each other.

        Args:
          workers: the number of `--workers`.
          in_jobs: whether the runs are trained in jobs, by `--executor`.
          together: whether several runs are trained as one, by `--vmap_seeds`.
        """
        if together and self.shared:
            flag = "--distributed" if self._distributed.value else f"--devices={self._devices.value}"
            raise cli.UsageError(
                f"{flag} lets devices share every batch of one run, and --vmap_seeds trains several runs on one; "
                "leave one of them out."
            )
        if in_jobs and self.shared:
            flag = "--distributed" if self._distributed.value else f"--devices={self._devices.value}"
            raise cli.UsageError(
                f"{flag} shares batches of this command, and --executor trains in jobs; leave one out."
            )
        address, number, place = self._address.value, self._number.value, self._place.value
        given = dict(zip(_PLACES, (address, number, place), strict=True))
        named = [name for name, value in given.items() if value is not None]
        if named and not self._distributed.value:
            raise cli.UsageError(f"{named[0]} needs --distributed.")
        if named and len(named) < len(given):
            raise cli.UsageError(f"{', '.join(given)} must be given together, or none of them; got {', '.join(named)}.")
        if address is not None and not (
            re.fullmatch(r"(\[[^\]]+\]|[^:\s]+):\d{1,5}", address) and 0 < int(address.rpartition(":")[2]) < 2**16
        ):
            raise cli.UsageError(f"--coordinator_address must be host:port; got {address!r}.")
        if place is not None and number is not None and place >= number:
            raise cli.UsageError(f"--process_id must be below --num_processes={number}; got {place}.")
        if self._distributed.value and self._devices.value > 1:
            raise cli.UsageError("--devices is for one process; --distributed takes all devices of every process.")
        if workers > 1 and self.shared:
            flag = "--distributed" if self._distributed.value else f"--devices={self._devices.value}"
            raise cli.UsageError(
                f"{flag} lets all devices share one run, and --workers={workers} gives each run to one; "
                "leave one of them out."
            )

    @contextlib.contextmanager
    def started(self) -> Iterator[None]:
        """Lets the devices share every batch inside; joins the other processes, if there are any.

        With --distributed an exception ends this process at once, with one line: to leave in good order, all would have
        to leave together.

        Raises:
          ValueError: there are no devices, or not so many; one line.
        """
        if not self._distributed.value:
            runtime.check_device()
            with parallel.shared_by(Devices.first(self._devices.value)):
                yield
            return
        if not self._values["traceback"].value:
            _speak_plainly()
        try:
            self._join()
            runtime.check_device()
            with parallel.shared_by(Devices.everywhere()):
                _meet()
                yield
        except Exception as error:
            self._end(error)

    def _join(self) -> None:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM away from `interrupts`
        address, bound = self._address.value, os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", self._address.value)
        if bound and self._place.value == 0:
            _check_free(bound)
        waiting = threading.Timer(_PATIENCE, lambda: print("Waiting for all processes to start.", file=sys.stderr))
        waiting.daemon = True
        waiting.start()
        try:
            jax.distributed.initialize(
                address,
                self._number.value,
                self._place.value,
                cluster_detection_method="deactivate" if address else None,
                initialization_timeout=_WAITS_FOR_OTHERS,
                heartbeat_timeout_seconds=SILENT_AFTER,
                shutdown_timeout_seconds=_PARTS_WITHIN,
                coordinator_bind_address=bound,
            )
        except ValueError as error:
            raise cli.UsageError(
                "--distributed finds no cluster in the environment; give --coordinator_address=host:port, "
                f"--num_processes and --process_id. JAX says: {cli.one_line(error)}"
            ) from error
        finally:
            waiting.cancel()

    def _end(self, error: Exception) -> NoReturn:
        plain = (*cli.USAGE_ERRORS, parallel.LostProcessError)
        if self._values["traceback"].value or not isinstance(error, plain):
            traceback.print_exception(error)
        print(f"error: {cli.one_line(error)}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2 if isinstance(error, cli.USAGE_ERRORS) else 1)


def _check_free(address: str) -> None:
    """Raises UsageError unless process 0 can listen there; where it cannot, jaxlib crashes now and then."""
    host, _, port = address.rpartition(":")
    try:
        family, kind, _, _, place = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as listener:
            listener.bind(place)
    except OSError as error:
        raise cli.UsageError(
            f"--coordinator_address={address} must be a free port of the host of process 0: {cli.one_line(error)}."
        ) from error


def _speak_plainly() -> None:
    """Lets standard error go through `plain_errors.py`, which ends with this process."""
    command = [sys.executable, "-E", "-S", plain_errors.__file__]
    with open(os.dup(2), "wb") as screen:
        filtered = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=screen, start_new_session=True)
    assert filtered.stdin is not None
    with filtered.stdin as pipe:
        os.dup2(pipe.fileno(), 2)
    filtered.returncode = 0  # it outlives this process, and nobody is to wait for it


def _meet() -> None:
    """Waits for the other processes; Gloo connects them, and says so on standard output, which is not its own."""
    sys.stdout.flush()
    screen, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        with parallel.in_step():
            multihost_utils.sync_global_devices("joined")
    finally:
        os.dup2(screen, 1)
        os.close(screen)
        os.close(nowhere)
