"""The profiles: what a run may use on one machine, and what it asks Slurm for."""

import pytest
from snakemake.profiles import ProfileConfigFileParser

from tests.workflow.project import REPOSITORY


def options(profile: str) -> dict:
    """The options of a profile, as Snakemake reads them."""
    with (REPOSITORY / "profiles" / profile / "config.yaml").open(encoding="utf-8") as stream:
        return dict(ProfileConfigFileParser().parse(stream))


@pytest.mark.parametrize(("devices", "count"), [("", 1), ("0", 1), ("0,1,2", 3)])
def test_a_run_has_the_gpus_of_its_machine_or_one_slot_on_the_cpu(monkeypatch, devices, count):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("MPD_DEVICES", devices)
    assert options("default")["resources"] == [f"gpu={count}"]


def test_the_profile_for_slurm_has_the_options_of_the_default_but_no_cap():
    default, slurm = options("default"), options("slurm")
    assert default.pop("resources") and "resources" not in slurm
    assert default.items() <= slurm.items()


def test_a_job_is_one_task_on_one_node_with_the_account_and_partition_of_sbatch(monkeypatch):
    for name in ("SBATCH_ACCOUNT", "SBATCH_PARTITION"):
        monkeypatch.delenv(name, raising=False)
    assert options("slurm")["default-resources"] == ["nodes=1", "tasks_per_gpu=0"]
    monkeypatch.setenv("SBATCH_ACCOUNT", "group")
    monkeypatch.setenv("SBATCH_PARTITION", "fast")
    assert options("slurm")["default-resources"][2:] == [
        "slurm_account=group",
        "slurm_partition=fast",
    ]


@pytest.mark.parametrize(
    ("storage", "command"),
    [
        ("accounting_storage/none", "squeue"),
        ("accounting_storage/slurmdbd", "sacct"),
    ],
)
def test_states_come_from_squeue_without_an_accounting_database(
    monkeypatch, tmp_path, storage, command
):
    program = tmp_path / "scontrol"
    program.write_text(f"#!/bin/sh\necho 'AccountingStorageType   = {storage}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert options("slurm")["slurm-status-command"] == command
