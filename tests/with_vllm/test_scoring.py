"""logits with `engine: vllm`, against the transformers scorer and exact dense log-probabilities."""

import pytest

from tests.changes import with_changes

pytest.importorskip("vllm")

import torch

from mpd.scoring.cache import DecodedRows
from mpd.scoring.forward import completion_states, pack
from mpd.scoring.output_head import head_of
from mpd.scoring.vllm_scorer import TAIL_PRECISION
from mpd.store import schema, table
from mpd.store.model_folder import load_model, read_manifest

OWN = {"support": "teacher", "tail_buckets": 1, "top_k": 8, "min_contribution": 0.01}
SMALL = {"kv_cache_memory_bytes": 1 << 27}  # several engines live in this process


def settings_of(engine, logits_settings):
    arguments = SMALL if engine == "vllm" else {}
    changes = {**OWN, "engine": engine, "engine_arguments": arguments}
    return with_changes(logits_settings, **changes)


@pytest.fixture(scope="module")
def caches(tmp_path_factory, run_logits, shard, student, teacher, logits_settings):
    """The cache of one shard by either engine."""
    found = {}
    for engine in ("transformers", "vllm"):
        folder = tmp_path_factory.mktemp(engine)
        settings = settings_of(engine, logits_settings)
        more = "--resources", '{"chunk_size": 64, "batch_size": 4}'
        path = run_logits(folder, shard, student, teacher, settings, *more)
        found[engine] = table.read(path, schema.LOGITS)
    return found


def test_the_same_rows_with_the_same_log_probabilities_of_their_ids(caches):
    own, other = caches["vllm"], caches["transformers"]
    keys = ["sample_id", "candidate", "prompt_ids", "completion_ids", "ids_digest", "think_end"]
    assert own.select(keys).equals(other.select(keys))
    assert len(own) > 3
    # Both are rounded to eight significant bits: a difference in the last one is 2^-8.
    for name in ("realised_logprob", "stop_logprob", "mean_teacher_logprob"):
        pairs = zip(own[name].explode(), other[name].explode(), strict=True)
        assert all(one == pytest.approx(two, rel=2**-7, abs=1e-5) for one, two in pairs)


def test_what_needs_a_student_or_every_logit_is_null(caches):
    missing = ["student_logprob", "divergence", "teacher_entropy", "overlap", "student_mass"]
    assert caches["vllm"].select(missing).null_count().row(0) == (len(caches["vllm"]),) * 5
    assert caches["transformers"].select(missing).null_count().row(0) == (0,) * 5
    assert caches["vllm"]["control_ids"].list.len().to_list() == [0] * len(caches["vllm"])


def test_a_decoded_support_is_the_dense_distribution(caches, teacher, vocabulary):
    frame = caches["vllm"]
    rows, model = DecodedRows(frame), load_model(teacher.parent, "float32")
    head = head_of(model, vocabulary.size)
    for number, row in enumerate(frame.iter_rows(named=True)):
        packed = pack([row["prompt_ids"]], [row["completion_ids"]])
        with torch.no_grad():
            dense = head.logits(completion_states(model, packed)).log_softmax(-1).double()
        support = rows.support(number)
        assert support.ids[:, 0].tolist() == row["completion_ids"]
        entries, width = support.distinct, support.ids.shape[1]
        exact = dense.gather(1, support.ids.long())
        stored = support.logprobs[:, :width].double()
        # Entries have seven significant bits, and one factor makes a position sum to one.
        assert torch.allclose(stored[entries], exact[entries], rtol=2**-6, atol=0.02)
        tail = 1 - (exact.exp() * entries).sum(1)
        assert torch.allclose(support.logprobs[:, -1].double().exp(), tail, atol=0.02)
        assert (tail + TAIL_PRECISION > 0).all()
        probable = dense.topk(OWN["top_k"], -1)
        kept = [
            {token for token, value in zip(*position, strict=True) if value > 0.01}
            for position in zip(
                probable.indices.tolist(), probable.values.exp().tolist(), strict=True
            )
        ]
        for ids, distinct, realised, expected in zip(
            support.ids.tolist(), entries.tolist(), row["completion_ids"], kept, strict=True
        ):
            found = {token for token, flag in zip(ids, distinct, strict=True) if flag}
            assert found == expected | {realised}


def test_realised_scores_are_exact_and_those_of_transformers(
    tmp_path, run_logits, shard, student, teacher, logits_settings
):
    """Neither rounded nor with a support."""
    found = {}
    for engine in ("transformers", "vllm"):
        arguments = SMALL if engine == "vllm" else {}
        changes = {"cache": "realised", "engine": engine, "engine_arguments": arguments}
        settings = with_changes(logits_settings, **changes)
        path = run_logits(tmp_path / engine, shard, student, teacher, settings)
        found[engine] = table.read(path, schema.LOGITS)
    own, other = found["vllm"], found["transformers"]
    keys = ["sample_id", "candidate", "prompt_ids", "completion_ids", "ids_digest", "think_end"]
    assert own.select(keys).equals(other.select(keys))
    names = ["realised_logprob", "mean_teacher_logprob", "stop_logprob", "think_close_logprob"]
    for name in names:
        one, two = (torch.tensor(frame[name].explode().to_list()) for frame in (own, other))
        assert len(one) > 3
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
    values = torch.tensor(own["realised_logprob"].explode().to_list())
    assert (values != values.bfloat16()).any()
    empty = ["support_ids", "support_logprobs", "tail_logprobs", "divergence", "overlap"]
    assert own.select(empty).null_count().row(0) == (len(own),) * len(empty)


def test_a_teacher_with_padded_rows_gives_them_no_mass(
    tmp_path, run_logits, shard, student, write_model, logits_settings, vocabulary
):
    """The store's shard was rewritten by this teacher as far as its footer says."""
    padded = write_model(tmp_path / "padded", 1, padding=40, head_dim=32)
    identity = table.check(shard["compress"], schema.COMPRESS)["identity"]
    paths = dict(shard)
    paths["compress"] = tmp_path / "compress.parquet"
    digest = read_manifest(padded)["digest"]
    frame = table.read(shard["compress"], schema.COMPRESS)
    content = table.write(
        paths["compress"], frame, schema.COMPRESS, {**identity, "teacher": digest}
    )
    verdicts = table.check(shard["filter"], schema.FILTER)["identity"]
    paths["filter"] = tmp_path / "filter.parquet"
    table.write(
        paths["filter"],
        table.read(shard["filter"], schema.FILTER),
        schema.FILTER,
        {**verdicts, "compress": content},
    )
    found = {}
    for engine in ("transformers", "vllm"):
        settings = settings_of(engine, logits_settings)
        path = run_logits(tmp_path / engine, paths, student, padded, settings)
        found[engine] = table.read(path, schema.LOGITS)
    own, other = (found[name]["realised_logprob"].explode() for name in ("vllm", "transformers"))
    assert (own - other).abs().max() <= 2**-7 * other.abs().max()
    assert found["vllm"]["support_ids"].explode().max() < vocabulary.size
