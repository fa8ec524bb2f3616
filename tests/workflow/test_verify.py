"""What verify sets aside is made again by the next run, and nothing else is computed."""

import subprocess
import sys

from tests.workflow.project import ENVIRONMENT, Project, computed


def test_what_is_set_aside_is_made_again(finished_project: Project) -> None:
    def verify(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*finished_project.rights, sys.executable, "-m", "mpd.verify", "results", *arguments],
            cwd=finished_project.folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )

    assert verify().returncode == 0
    results = finished_project.folder / "results/small"
    shard = results / "mpd/seed_0/round_1/filter/shard_0.parquet"
    weights = results / "models/teacher/model.safetensors"
    whole = [path.read_bytes() for path in (shard, weights)]
    for path in (shard, weights):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        with path.open("r+b") as file:
            file.write(content)
    assert verify().returncode == 1
    assert verify("--repair").returncode == 0
    printed = finished_project.run(rounds=1)
    # The costs and speeds have other times.
    assert computed(printed) == ["costs", "filter", "models", "report", "speed"]
    assert [path.read_bytes() for path in (shard, weights)] == whole
    assert verify().returncode == 0
