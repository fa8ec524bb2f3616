"""Processes on several nodes: Slurm's srun is replaced by a script that starts all on this host."""

import os
import sys

import pytest
import torch

from mpd import distill
from mpd.config.distill import DistillSettings
from mpd.config.resources import DistillResources
from mpd.training.launch import launch_command, require_gpus
from tests.test_distill import assert_same_training

SRUN = f"""#!{sys.executable}
import os, subprocess, sys
words = sys.argv[1:]
count = int(words[words.index("--ntasks") + 1])
program = words[words.index({sys.executable!r}):]
tasks = [
    subprocess.Popen(program, env=os.environ | {{"SLURM_PROCID": str(number)}})
    for number in range(count)
]
open(os.environ["STARTED"], "a").write(f"{{count}}\\n")
sys.exit(max(task.wait() for task in tasks))
"""
ALLOCATION = {"SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "17", "SLURMD_NODENAME": "127.0.0.1"}


@pytest.mark.parametrize("sharding", ["none", "full"])
def test_two_nodes_make_the_same_update(tmp_path, monkeypatch, student, cached, shard, sharding):
    """Two launchers on one host, of one process each, meet at 127.0.0.1."""
    srun = tmp_path / "srun"
    srun.write_text(SRUN)
    srun.chmod(0o755)
    started = tmp_path / "started"
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STARTED", str(started))
    for name, value in ALLOCATION.items():
        monkeypatch.setenv(name, value)
    settings = DistillSettings(learning_rate=1e-3, epochs=2, batch_size=8, min_kept=8)
    for name, nodes in (("one", 1), ("two", 2)):
        resources = DistillResources(nodes=nodes, sharding=sharding, micro_batch_size=2)
        arguments = ["--settings", settings.model_dump_json(), "--student", str(student)]
        arguments += ["--logits", str(cached), "--filter", str(shard["filter"])]
        arguments += ["--output", str(tmp_path / name / "manifest.json")]
        arguments += ["--store", str(tmp_path / f"store-{name}")]
        distill.main([*arguments, "--resources", resources.model_dump_json()])
    assert started.read_text() == "2\n"
    assert_same_training(tmp_path / "two", tmp_path / "one")


def test_the_command_of_two_nodes():
    resources = DistillResources(nodes=2, num_processes=4, threads=8)
    command = launch_command(resources, ALLOCATION)
    words = " ".join(command)
    assert words.startswith("srun --overlap --kill-on-bad-exit=1 --nodes 2 --ntasks 2 ")
    assert "--cpus-per-task 8" in words
    assert "--nnodes 2 --rdzv_backend c10d --rdzv_endpoint 127.0.0.1:" in words
    assert words.endswith("--rdzv_id 17 --nproc_per_node 4")


@pytest.mark.parametrize("environment", [{}, {"SLURM_JOB_NUM_NODES": "1"}])
def test_more_nodes_than_the_allocation_has_are_refused(environment):
    with pytest.raises(ValueError, match=r"nodes is 2, but this job has 1; run it in a Slurm all"):
        launch_command(DistillResources(nodes=2), environment)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    require_gpus(DistillResources(num_processes=2))
    with pytest.raises(ValueError, match="but this job sees 2 GPUs, and each process takes one"):
        require_gpus(DistillResources(num_processes=8))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    require_gpus(DistillResources(num_processes=8))
