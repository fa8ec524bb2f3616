"""Several training processes, on this machine or on the nodes of a Slurm allocation.

torchrun starts those of a machine. On several nodes srun starts one torchrun on each, and they find
each other at a port of the first one. Not accelerate launch, which starts a single process where
there are no GPUs.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mpd.config.resources import DistillResources
from mpd.store.supervisor import kill_descendants, supervised

STEP_SECONDS = 30.0  # that srun gets to end its step


def require_gpus(resources: DistillResources) -> None:
    """Raise ValueError where several processes would have to share a GPU of this machine."""
    import torch

    count = torch.cuda.device_count()
    if 0 < count < resources.num_processes:
        raise ValueError(
            f"resources.distill.num_processes is {resources.num_processes}, but this job sees "
            f"{count} GPUs, and each process takes one; set num_processes and gpu to {count}"
        )


def launch(description: Path, resources: DistillResources) -> None:
    """Train as the file of a job describes, in all its processes, and wait for their end.

    Raises ValueError where one of them ends early, or the allocation has too few nodes.
    """
    arguments = launch_command(resources, os.environ)
    code = _run([*arguments, "-m", "mpd.training.loop", str(description)])
    if code:
        raise ValueError(f"a training process ended with code {code}; its own error is above")


def launch_command(resources: DistillResources, environment: Mapping[str, str]) -> list[str]:
    """The command that starts a Python program in all processes; its words follow.

    `environment` has what Slurm says about the allocation. Raises ValueError where it has too few
    nodes.
    """
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    processes = ["--nproc_per_node", str(resources.num_processes)]
    nodes = resources.nodes
    if nodes == 1:
        return [*torchrun, "--standalone", *processes]
    allocated = int(environment.get("SLURM_JOB_NUM_NODES", 1))
    if allocated < nodes:
        raise ValueError(
            f"resources.distill.nodes is {nodes}, but this job has {allocated}; run it in a Slurm "
            f"allocation of {nodes} nodes (SLURM_JOB_NUM_NODES), or lower nodes"
        )
    host = environment.get("SLURMD_NODENAME") or socket.gethostname()
    meeting = ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"{host}:{_free_port()}"]
    meeting += ["--rdzv_id", environment.get("SLURM_JOB_ID", "mpd")]
    # A step of this job may hold its resources already; the step of srun shares them.
    srun = ["srun", "--overlap", "--kill-on-bad-exit=1", "--nodes", str(nodes)]
    srun += ["--ntasks", str(nodes), "--ntasks-per-node", "1"]
    if resources.threads > 1:
        srun += ["--cpus-per-task", str(resources.threads)]
    return [*srun, *torchrun, "--nnodes", str(nodes), *meeting, *processes]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


def _run(command: list[str]) -> int:
    """The exit code of a command. Ctrl-C reaches this process alone, which ends all of them."""
    # A group of its own: torchrun would answer Ctrl-C with a traceback, and wait for its workers.
    environment = {**os.environ, **supervised()}
    with subprocess.Popen(command, process_group=0, env=environment) as processes:
        try:
            # Not wait(): where another thread gets the signal, it would not return.
            while (code := processes.poll()) is None:
                time.sleep(0.2)
            return code
        except BaseException:
            # srun ends its step on all nodes, if it is not killed first.
            if command[0] == "srun":
                processes.terminate()
                with suppress(subprocess.TimeoutExpired):
                    processes.wait(STEP_SECONDS)
            # Workers, each in a session of its own, do not end with it.
            kill_descendants()
            raise
