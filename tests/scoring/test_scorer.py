"""Scorers: batches by tokens, and models that run ahead of encoding and writing."""

import random
import threading
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch

from mpd.config.logits import RewritingScores
from mpd.config.resources import ScoringResources
from mpd.scoring import scorer as scorers
from mpd.scoring import transformers_scorer
from mpd.scoring.scorer import Scorer
from mpd.scoring.transfer import Transfer
from mpd.scoring.transformers_scorer import TransformersScorer, batch_counts
from tests.changes import with_changes

PER_PART = 7
# Columns that no rounding can change.
EXACT = ("sample_id", "candidate", "prompt_ids", "completion_ids", "ids_digest", "support_ids")


@pytest.fixture(scope="module")
def rows(vocabulary):
    """Rows of random ids, among them some of equal length and one that is much longer."""
    rng = random.Random(0)

    def ids(count):
        return [rng.randrange(vocabulary.size) for _ in range(count)]

    lengths = [(3, 5), (3, 5), (9, 2), (1, 1), (4, 200)]
    lengths += [(rng.randint(1, 9), rng.randint(1, 30)) for _ in range(20)]
    integers = pl.List(pl.Int32)
    return pl.DataFrame(
        {
            "sample_id": [f"s{number}" for number in range(len(lengths))],
            "candidate": pl.Series([0] * len(lengths), dtype=pl.Int32),
            "prompt_ids": pl.Series([ids(prompt) for prompt, _ in lengths], dtype=integers),
            "completion_ids": pl.Series([ids(length) for _, length in lengths], dtype=integers),
            "num_tokens": pl.Series([length for _, length in lengths], dtype=pl.Int32),
            "question": ["1+2"] * len(lengths),
            "sample_text": ["3"] * len(lengths),
        }
    )


@pytest.fixture
def make_scorer(student, teacher, logits_settings):
    def make(settings=logits_settings, **resources):
        resources = ScoringResources(**{"chunk_size": 40, **resources})
        return TransformersScorer(student, teacher, settings, resources, 25)

    return make


def assert_same(one, other):
    """Equal but for the last bit of a float32, which may round the other way."""
    assert one.columns == other.columns
    for name in one.columns:
        a, b = one[name], other[name]
        if name in EXACT or a.dtype.is_integer():
            assert a.equals(b, null_equal=True), name
        elif a.dtype in (pl.List(pl.Float32), pl.Float64):
            a, b = (values.explode().to_numpy() for values in (a, b))
            np.testing.assert_allclose(a, b, rtol=2**-4, atol=1e-5, err_msg=name)
            assert np.mean(a == b) > 0.9 or name == "teacher_hidden" or a.dtype == np.float64, name


@pytest.mark.parametrize("cache", ["sparse", "hidden"])
def test_overlapped_scoring_gives_what_serial_scoring_gives(
    rows, make_scorer, logits_settings, monkeypatch, cache
):
    settings = with_changes(logits_settings, cache=cache)
    overlapped = [*make_scorer(settings, batch_tokens=60)(rows.iter_slices(PER_PART))]
    monkeypatch.setattr(scorers, "ahead", lambda items, depth: (item for item in items))
    serial = [*make_scorer(settings, batch_tokens=60)(rows.iter_slices(PER_PART))]
    assert [len(part) for part in overlapped] == [7, 7, 7, 4]
    assert all(one.equals(other) for one, other in zip(overlapped, serial, strict=True))
    assert pl.concat(overlapped)["sample_id"].equals(rows["sample_id"])


@pytest.mark.parametrize("batch_tokens", [1, 50, 100_000])
def test_batches_by_tokens_do_not_change_scores(rows, make_scorer, batch_tokens):
    (alone,) = make_scorer(batch_tokens=1)([rows])
    (found,) = make_scorer(batch_tokens=batch_tokens)([rows])
    assert_same(found, alone)


@pytest.mark.parametrize("batch_tokens", [1, 50, 204, 300, 100_000])
def test_a_batch_has_rows_of_similar_length_up_to_its_tokens(rows, make_scorer, batch_tokens):
    scorer, batches = make_scorer(batch_tokens=batch_tokens), []

    def scores(trajectories):
        pairs = zip(trajectories.prompts, trajectories.completions, strict=True)
        batches.append([len(prompt) + len(completion) for prompt, completion in pairs])
        return TransformersScorer.scores(scorer, trajectories)

    scorer.scores = scores
    assert len([*scorer([rows])]) == 1
    lengths = [length for batch in batches for length in batch]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == 204 and len(lengths) == len(rows)
    assert all(sum(batch) <= batch_tokens or len(batch) == 1 for batch in batches)
    for batch, following in pairwise(batches):
        assert sum(batch) + following[0] > batch_tokens


def test_a_batch_counts_the_prompt_of_the_model_that_has_the_longer_one(rows, make_scorer, chat):
    prompt = "{problem}\n{trajectory}\nrewrite"
    shown = chat.model_dump(include={"think", "close", "thinking"})
    settings = RewritingScores(
        context="rewriting", prompt=prompt, chat=shown, top_k=8, student_top_k=8, tail_buckets=4
    )
    texts = ["+".join("1" * count) for count in range(1, len(rows) + 1)]
    rows = rows.with_columns(sample_text=pl.Series(texts))
    scorer, batches = make_scorer(settings, batch_tokens=90), []

    def scores(trajectories):
        ids = zip(trajectories.teacher_prompts, trajectories.completions, strict=True)
        batches.append([len(prompt) + len(completion) for prompt, completion in ids])
        return TransformersScorer.scores(scorer, trajectories)

    scorer.scores = scores
    (found,) = scorer([rows])
    assert found["sample_id"].equals(rows["sample_id"])
    assert found["teacher_prompt_ids"].list.len().is_sorted()
    assert any(len(batch) > 1 for batch in batches)
    assert all(sum(batch) <= 90 or len(batch) == 1 for batch in batches)


def test_a_full_gpu_is_one_sentence(rows, make_scorer, monkeypatch):
    def no_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(transformers_scorer, "score", no_memory)
    with pytest.raises(ValueError, match="1 trajectories and 204 tokens; lower") as error:
        next(make_scorer(batch_tokens=204)([rows]))
    assert "resources.logits.batch_tokens" in str(error.value)
    assert not ahead_threads()


def test_counts_of_batches():
    assert [*batch_counts([5, 4, 3, 3, 1], 7)] == [1, 2, 2]
    assert [*batch_counts([9, 9, 2, 2, 2], 4)] == [1, 1, 2, 1]
    assert [*batch_counts([3, 3], 6)] == [2]
    assert [*batch_counts([], 6)] == []


class Watched(Scorer):
    """Scores without a model; notes which batches are computed, and can fail or wait at one."""

    control_ids = (1,)

    def __init__(self, student, settings):
        super().__init__(student, settings, ScoringResources(), 25)
        self.computed, self.stop_at = [], None
        self.threads = set()

    def batches(self, rows):
        return rows.iter_slices(2)

    def scores(self, trajectories):
        self.threads.add(threading.current_thread().name)
        if len(self.computed) == self.stop_at:
            raise MemoryError("no memory on the device")
        self.computed.append(len(trajectories.prompts))
        count = sum(map(len, trajectories.completions))
        column = torch.full((count,), -1.0)
        return {
            **dict.fromkeys(("realised_logprob", "student_logprob", "overlap"), column),
            **dict.fromkeys(("divergence", "teacher_entropy"), -column),
            **dict.fromkeys(("teacher_mass", "student_mass"), -column),
            "control_logprobs": column[:, None],
            "candidates": torch.zeros(count, 2, dtype=torch.int32),
            "logprobs": column[:, None].expand(-1, 2),
            "kept": torch.ones(count, 2, dtype=torch.bool),
            "tail_logprobs": column[:, None],
        }


@pytest.fixture
def watched(student, logits_settings):
    return Watched(student, logits_settings)


def ahead_threads():
    return [thread for thread in threading.enumerate() if thread.name == "ahead"]


def test_models_run_ahead_across_parts_but_not_far(rows, watched):
    results = watched(rows.iter_slices(4))
    assert not watched.computed  # nothing before it is asked for
    next(results)
    # While the caller writes the first part, of two batches, those that follow are computed.
    for _ in range(1000):
        if len(watched.computed) == 2 + scorers.LEAD + 1:
            break
        threading.Event().wait(0.005)
    threading.Event().wait(0.02)
    assert len(watched.computed) == 2 + scorers.LEAD + 1
    results.close()
    assert len(watched.computed) == 2 + scorers.LEAD + 1
    assert not ahead_threads()
    assert watched.threads == {"ahead"}


def test_what_fails_in_a_model_fails_in_the_job(rows, watched):
    watched.stop_at = 5
    results = watched(rows.iter_slices(4))
    assert [len(next(results)) for _ in range(2)] == [4, 4]
    with pytest.raises(MemoryError, match="no memory on the device"):
        next(results)
    assert not ahead_threads()


def test_what_fails_in_encoding_stops_the_models(rows, watched):
    wrong = rows.with_columns(num_tokens=pl.col("num_tokens") + 1)
    with pytest.raises((ValueError, IndexError, pl.exceptions.PolarsError)):
        next(watched(wrong.iter_slices(4)))
    assert not ahead_threads()
    assert len(watched.computed) <= scorers.LEAD + 2


def test_the_progress_counts_operations_of_both_models(rows, make_scorer):
    scorer = make_scorer()
    assert len([*scorer([rows])]) == 1
    assert (scorer.progress.sequences, scorer.progress.tokens) == (25, rows["num_tokens"].sum())
    parameters = sum(
        parameter.numel()
        for model in scorer.models
        for name, parameter in model.named_parameters()
        if "layers" in name
    )
    tokens = rows["prompt_ids"].list.len().sum() + rows["num_tokens"].sum()
    assert scorer.progress.flops > 2 * 0.9 * parameters * tokens


def test_a_transfer_on_the_cpu_takes_tensors_as_they_are():
    tensors = {"one": torch.arange(3), "none": torch.empty(0)}
    result = Transfer(tensors).result()
    assert [*result] == ["one", "none"]
    assert all(result[name] is values for name, values in tensors.items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_transfer_from_a_gpu_waits_for_what_is_computed():
    square = torch.rand(2048, 2048, device="cuda")
    for _ in range(20):
        square = torch.nn.functional.normalize(square @ square)
    result = Transfer({"square": square, "kept": square > 0.01}).result()
    assert all(values.is_pinned() for values in result.values())
    assert torch.equal(result["square"], square.cpu())
    assert torch.equal(result["kept"], (square > 0.01).cpu())
