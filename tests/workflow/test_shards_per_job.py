"""Jobs that take ten shards each: the same files as jobs of one shard, by a tenth of the jobs."""

import re

from mpd.store import schema, table
from tests.workflow.project import Project, computed

TEN = {"num_shards": 10}
STAGES = ("sample", "compress", "filter", "logits")


def test_a_job_takes_ten_shards(finished_project: Project) -> None:
    ten = {"rounds": 1, "problems": TEN, "resources": {"shards_per_job": 10}}
    printed = finished_project.run(**ten)
    counts = dict(re.findall(r"^(\w+) +(\d+)$", printed, re.MULTILINE))
    assert {stage: counts[stage] for stage in STAGES} == dict.fromkeys(STAGES, "1")
    assert [computed(printed).count(stage) for stage in STAGES] == [10] * 4
    assert "filter mpd/seed_0/round_1/shard_0 to shard_9: computed filter" in printed
    results = finished_project.folder / "results/small"
    ids = [
        sample_id
        for number in range(10)
        for sample_id in table.read(
            results / f"mpd/seed_0/round_1/filter/shard_{number}.parquet", schema.FILTER
        )["sample_id"]
    ]
    assert len(ids) == len(set(ids)) == 12
    assert "Nothing to be done" in finished_project.run("--dry-run", **ten)

    # The jobs of one shard find all that they would compute in the store.
    one = {"rounds": 1, "problems": TEN, "experiment": "other"}
    target = "results/other/mpd/seed_0/round_1/logits/shard_3.parquet"
    printed = finished_project.run("--", target, **one)
    assert computed(printed) == []
    assert len(re.findall(r"shard_3: reused (?:sample|compress|filter|logits) ", printed)) == 4
