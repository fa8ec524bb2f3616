"""Jobs that take several shards."""

from argparse import Namespace

import pytest

from mpd.job.shards import for_each_shard, opened


def test_each_shard_of_a_job_is_made_of_its_own_inputs_by_one_model():
    models = []

    @for_each_shard
    def outputs(arguments):
        model = opened(arguments, lambda: models.append("model") or len(models))
        path = yield (arguments.problems, arguments.output, model, arguments.threads)
        assert path == f"{arguments.output} is there"

    arguments = Namespace(
        sharded=["problems", "output"], problems=["a", "b"], output=["c", "d"], threads=2
    )
    stage = outputs(arguments)
    assert next(stage) == ("a", "c", 1, 2)
    assert stage.send("c is there") == ("b", "d", 1, 2)
    with pytest.raises(StopIteration):
        stage.send("d is there")
    assert models == ["model"]


def test_inputs_of_another_number_of_shards_are_refused():
    arguments = Namespace(sharded=["problems", "output"], problems=["a"], output=["c", "d"])
    with pytest.raises(ValueError, match=r"found 1 of problems, 2 of output$"):
        next(for_each_shard(iter)(arguments))
