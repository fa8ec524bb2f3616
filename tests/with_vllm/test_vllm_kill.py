"""A job that is killed leaves no engine behind, which would keep its memory."""

import subprocess
import sys
import time

import pytest

psutil = pytest.importorskip("psutil", reason="comes with vLLM: make vllm")

WORKER = """
import os, time
from mpd.engines.vllm.worker import WorkerExtension
WorkerExtension().exit_with_job(os.getppid())
print(os.getpid(), flush=True)
time.sleep(600)
"""
JOB = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


def test_a_worker_ends_when_its_job_is_killed():
    command = [sys.executable, "-c", JOB, WORKER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as job:
        worker = psutil.Process(int(job.stdout.readline()))
        time.sleep(3)
        assert worker.is_running()
        job.kill()
        worker.wait(20)
