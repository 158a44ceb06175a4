"""Stand-ins for the commands of Slurm, as far as submitit uses them: jobs are processes of this machine.

A job is warned when a file named `warn` lies in the folder of the commands, once, in place of a time limit.
"""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

COMMANDS = ("sbatch", "srun", "scontrol", "sacct")


def install(folder: pathlib.Path) -> None:
    """Writes the commands into a folder, which is to stand first in PATH."""
    folder.mkdir()
    for name in COMMANDS:
        program = f"#!{sys.executable}\n{pathlib.Path(__file__).read_text()}\n{name}(sys.argv[1:])\n"
        (folder / name).write_text(program)
        (folder / name).chmod(0o755)


def sbatch(arguments: list[str]) -> None:
    """Starts a process that sees to the jobs of an array, so many at once, and prints their number."""
    here, script = pathlib.Path(sys.argv[0]).parent, pathlib.Path(arguments[0]).read_text()
    number = len(list(here.glob("array-*"))) + 1
    (here / f"array-{number}").touch()
    found = re.search(r"--array=0-(\d+)%(\d+)", script)
    last, at_once = map(int, found.groups()) if found else (0, 1)
    print(f"Submitted batch job {number}", flush=True)
    if os.fork():
        return
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    waiting = [f"{number}_{index}" if found else str(number) for index in range(last + 1)]
    for name in waiting:
        (here / f"state-{name}").write_text("PENDING")
    running: dict[str, subprocess.Popen] = {}
    while waiting or running:
        while waiting and len(running) < at_once:
            name = waiting.pop(0)
            running[name] = _start(here, name, arguments[0])
        time.sleep(0.05)
        if (here / "warn").exists():
            (here / "warn").unlink()
            _signal(here, signal.SIGUSR1)
        for name in [name for name, process in running.items() if process.poll() is not None]:
            del running[name]
            if (here / f"requeue-{name}").exists():
                (here / f"requeue-{name}").unlink()
                waiting.append(name)
            (here / f"state-{name}").write_text("REQUEUED" if name in waiting else "COMPLETED")


def _start(here: pathlib.Path, name: str, script: str) -> subprocess.Popen:
    (here / f"state-{name}").write_text("RUNNING")
    array, _, index = name.partition("_")
    environment = os.environ | {"SLURM_JOB_ID": array, "SLURM_NTASKS": "1"}
    if index:
        environment |= {"SLURM_ARRAY_JOB_ID": array, "SLURM_ARRAY_TASK_ID": index}
    return subprocess.Popen(["bash", script], env=environment)


def _signal(here: pathlib.Path, number: signal.Signals) -> None:
    """Signals the processes of every step, as Slurm does: what srun has become, and its children."""
    for path in here.glob("step-*"):
        leader = int(path.read_text())
        for task in pathlib.Path(f"/proc/{leader}/task").glob("*"):
            for pid in (leader, *map(int, (task / "children").read_text().split())):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)


def srun(arguments: list[str]) -> None:
    """Becomes the command, with its output in the files that are named."""
    rest = [argument for argument in arguments if argument != "--unbuffered"]
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID", ""), os.environ.get("SLURM_ARRAY_TASK_ID", "")
    while rest[0].startswith("--"):
        stream, name = rest.pop(0), rest.pop(0)
        for mark, value in (("%A", array), ("%a", index), ("%j", os.environ["SLURM_JOB_ID"]), ("%t", "0")):
            name = name.replace(mark, value)
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), 1 if stream == "--output" else 2)
    name = f"step-{array}_{index}" if array else f"step-{os.environ['SLURM_JOB_ID']}"
    (pathlib.Path(sys.argv[0]).parent / name).write_text(str(os.getpid()))
    os.execvp(rest[0], rest)


def scontrol(arguments: list[str]) -> None:
    """Starts a job again when it has ended."""
    (pathlib.Path(sys.argv[0]).parent / f"requeue-{arguments[1]}").touch()


def sacct(arguments: list[str]) -> None:
    """Prints the states of all jobs."""
    print("JobID|State|NodeList")
    for path in pathlib.Path(sys.argv[0]).parent.glob("state-*"):
        print(f"{path.name.removeprefix('state-')}|{path.read_text()}|here")
