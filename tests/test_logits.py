"""Scoring: alignment, padding and chunks, and the cache against independent float64 sums."""

import math

import numpy as np
import polars as pl
import pytest
import torch

from mpd import schema, table
from mpd.cache import decode
from mpd.chat import ids_digest
from mpd.divergence import reverse_kl
from mpd.forward import completion_states, output_logits, pad, require_plain_head
from mpd.generate import Request, TransformersEngine
from mpd.logits import Scorer, kept_rows, score_positions
from mpd.model_folder import load_model, read_manifest

LISTS = ("realised_logprob", "student_logprob", "divergence", "teacher_entropy", "tail_logprob")


def tables_of(shard):
    return [table.read(path, getattr(schema, name.upper())) for name, path in shard.items()]


@pytest.fixture(scope="module")
def rows(shard):
    return kept_rows(*tables_of(shard))


@pytest.fixture(scope="module")
def cache(cached):
    return table.read(cached, schema.LOGITS)


@pytest.fixture(scope="module")
def self_shard(shard, student, tmp_path_factory):
    """The shard as if the student itself had rewritten."""
    path = tmp_path_factory.mktemp("self") / "compress.parquet"
    manifest = read_manifest(student)
    identity = table.check(shard["compress"], schema.COMPRESS)["identity"]
    identity = {**identity, "teacher": manifest["digest"]}
    table.write(path, table.read(shard["compress"], schema.COMPRESS), schema.COMPRESS, identity)
    return {**shard, "compress": path}


def log_softmax(logits):
    """Of one position, in float64, by its definition."""
    values = [float(value) for value in logits]
    top = max(values)
    total = top + math.log(sum(math.exp(value - top) for value in values))
    return [value - total for value in values]


def test_score_positions_against_a_slow_computation():
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(6, 20, generator=generator) * 3
    teacher = torch.randn(6, 20, generator=generator) * 3
    realised = torch.tensor([3, 18, 0, int(teacher[3].argmax()), 19, 7])
    control = torch.tensor([18, 19])
    scores = score_positions(student, teacher, realised, control, top_k=4)
    assert scores["taken"].any()
    for place in range(6):
        p, q = log_softmax(student[place]), log_softmax(teacher[place])
        best = np.argsort(-np.array(q))[:4].tolist()
        fixed = [int(realised[place]), 18, 19]
        assert scores["top_ids"][place].tolist() == best
        assert scores["top_logprobs"][place].tolist() == pytest.approx([q[id] for id in best])
        assert scores["taken"][place].tolist() == [id in fixed for id in best]
        assert scores["realised_logprob"][place].item() == pytest.approx(q[fixed[0]])
        assert scores["student_logprob"][place].item() == pytest.approx(p[fixed[0]])
        assert scores["control_logprobs"][place].tolist() == pytest.approx([q[18], q[19]])
        off = math.log(sum(math.exp(q[id]) for id in range(20) if id not in {*best, *fixed}))
        assert scores["tail_logprob"][place].item() == pytest.approx(off, abs=1e-5)
        kl = sum(math.exp(a) * (a - b) for a, b in zip(p, q, strict=True))
        assert scores["divergence"][place].item() == pytest.approx(kl, abs=1e-5)
        entropy = -sum(math.exp(b) * b for b in q)
        assert scores["teacher_entropy"][place].item() == pytest.approx(entropy, abs=1e-5)


def test_top_k_may_exceed_the_vocabulary():
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    scores = score_positions(logits, logits, torch.tensor([0]), torch.tensor([1]), top_k=10)
    assert scores["top_ids"].tolist() == [[2, 1, 0]]
    assert scores["taken"].tolist() == [[False, True, True]]
    assert scores["tail_logprob"].item() == -100.0


def test_pad_marks_the_positions_before_the_completion_ids():
    ids, mask, predicts = pad([[5, 6], [7]], [[8, 9], [1, 2, 3, 4]])
    assert ids.tolist() == [[5, 6, 8, 9, 0], [7, 1, 2, 3, 4]]
    assert mask.tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert predicts.tolist() == [
        [False, True, True, False, False],
        [True, True, True, True, False],
    ]


@torch.inference_mode()
def test_states_predict_exactly_the_completion_ids(student, chat):
    engine = TransformersEngine(student, chat, "float32", batch_size=4, threads=1)
    prompts = [engine.chat.problem_ids(question) for question in ("1+2", "3-1+2-2+1", "4")]
    greedy = {"temperature": 0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 9}
    found = engine.generate([Request(prompt, 0) for prompt in prompts], greedy)
    completions = [done.token_ids for done in found]
    completions[1] = completions[1][:4]  # different lengths
    hidden = completion_states(engine.model, *pad(prompts, completions))
    logits = output_logits(engine.model, hidden, engine.chat.vocabulary_size)
    # A greedy completion is the argmax everywhere: one position off, and it is not.
    assert logits.argmax(-1).tolist() == [id for ids in completions for id in ids]
    start = 0
    for prompt, completion in zip(prompts, completions, strict=True):
        alone = engine.model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        stop = start + len(completion)
        torch.testing.assert_close(logits[start:stop], alone, rtol=0, atol=1e-5)
        start = stop


@torch.inference_mode()
def test_padded_rows_are_cut_from_the_logits(teacher, tokenizer):
    model = load_model(teacher.parent, "float32")
    hidden = torch.ones(2, 32)
    assert output_logits(model, hidden, len(tokenizer)).shape == (2, len(tokenizer))
    assert model.get_output_embeddings()(hidden).shape == (2, len(tokenizer) + 19)


def test_a_model_that_caps_its_logits_is_refused(student):
    from transformers.models.qwen3 import Qwen3ForCausalLM

    class Capped(Qwen3ForCausalLM):
        def forward(self, *arguments, **named):
            output = super().forward(*arguments, **named)
            output.logits = 2 * torch.tanh(output.logits / 2)
            return output

    model = Qwen3ForCausalLM.from_pretrained(student.parent, dtype=torch.float32)
    require_plain_head(model.eval())
    with pytest.raises(ValueError, match="Capped: its logits are not its output head"):
        require_plain_head(Capped.from_pretrained(student.parent, dtype=torch.float32).eval())


def score(rows, student, teacher, settings, batch_size, chunk_size):
    return Scorer(student.parent, teacher.parent, settings, batch_size, chunk_size, 1, len(rows))(
        rows
    )


def assert_same_scores(one, other, atol):
    exact = ("sample_id", "candidate", "ids_digest", "support_size", "support_ids")
    assert one.select(exact).equals(other.select(exact))
    for name in (*LISTS, "support_logprobs", "control_logprobs"):
        a, b = (frame[name].explode().to_numpy() for frame in (one, other))
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=atol)


def test_padding_does_not_change_scores(rows, cache, student, teacher, logits_settings):
    # The cache was made with all rows in one batch.
    alone = score(rows, student, teacher, logits_settings, 1, 1000)
    assert_same_scores(alone, cache, 1e-5)
    backwards = score(rows.reverse(), student, teacher, logits_settings, 3, 1000)
    assert_same_scores(backwards.reverse(), cache, 1e-5)


@pytest.mark.parametrize("chunk_size", [1, 3])
def test_chunks_do_not_change_scores(rows, cache, student, teacher, logits_settings, chunk_size):
    found = score(rows, student, teacher, logits_settings, 32, chunk_size)
    assert_same_scores(found, cache, 1e-6)


def test_kept_rows_are_the_kept_candidates(shard, rows):
    problems, samples, candidates, verdicts = tables_of(shard)
    assert rows.columns == [
        *("sample_id", "candidate", "problem_id", "completion_ids", "num_tokens"),
        *("prompt_ids", "sample_text", "question"),
    ]
    assert rows["completion_ids"].to_list() == candidates["completion_ids"].to_list()
    assert rows["sample_text"].to_list() == samples["text"].to_list()
    assert rows["question"].to_list() == problems["question"].to_list()
    dropped = verdicts["sample_id"][2]
    fewer = verdicts.with_columns(keep=pl.col("sample_id") != dropped)
    expected = rows.filter(pl.col("sample_id") != dropped)
    assert kept_rows(problems, samples, candidates, fewer).equals(expected)


@pytest.mark.parametrize("short", range(3))
def test_shards_that_do_not_belong_together_are_refused(shard, short):
    tables = tables_of(shard)
    tables[short] = tables[short][1:]
    with pytest.raises(ValueError, match="filter keeps rows that compress, sample or problems"):
        kept_rows(*tables)


def test_the_cache_holds_what_the_models_say(cache, rows, student, teacher, tiny_format):
    size = tiny_format.vocabulary_size
    assert cache.columns == schema.LOGITS.names
    assert cache["sample_id"].to_list() == rows["sample_id"].to_list()
    models = [load_model(manifest.parent, "float32") for manifest in (student, teacher)]
    for row, source in zip(cache.to_dicts(), rows.to_dicts(), strict=True):
        prompt, ids = row["prompt_ids"], row["completion_ids"]
        assert (prompt, ids) == (source["prompt_ids"], source["completion_ids"])
        assert row["ids_digest"] == ids_digest(prompt, ids)
        assert row["control_ids"] == tiny_format.control_ids
        p, q = (float64_logprobs(model, prompt, ids, size) for model in models)
        places = np.arange(len(ids))
        expected = {
            "realised_logprob": q[places, ids],
            "student_logprob": p[places, ids],
            "divergence": (np.exp(p) * (p - q)).sum(-1),
            "teacher_entropy": -(np.exp(q) * q).sum(-1),
            "control_logprobs": q[:, row["control_ids"]].flatten(),
        }
        for name, values in expected.items():
            np.testing.assert_allclose(row[name], values, rtol=0, atol=1e-4)
        supports = np.split(np.array(row["support_ids"]), np.cumsum(row["support_size"])[:-1])
        for place, own in enumerate(supports):
            best = np.argsort(-q[place])[:8]
            fixed = {ids[place], *row["control_ids"]}
            assert own.tolist() == [id for id in best if id not in fixed]
            outside = [id for id in range(size) if id not in {*best, *fixed}]
            tail = np.log(np.exp(q[place, outside]).sum())
            assert row["tail_logprob"][place] == pytest.approx(tail, abs=1e-4)
        end = ids.index(tiny_format.close_ids[0])
        assert row["think_close_logprob"] == pytest.approx(q[end, ids[end]], abs=1e-4)
        assert row["stop_logprob"] == pytest.approx(q[-1, ids[-1]], abs=1e-4)
        assert row["mean_teacher_logprob"] == pytest.approx(q[places, ids].mean(), abs=1e-4)


@torch.inference_mode()
def float64_logprobs(model, prompt, completion, size):
    logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1, :size]
    return torch.log_softmax(logits.double(), -1).numpy()


def test_the_cached_support_gives_a_divergence_below_the_dense_one(cache, student, tiny_format):
    """Decoded and compared with the student's own logits, as distill does it."""
    from mpd.divergence import on_support

    model = load_model(student.parent, "float32")
    for row in cache.head(3).to_dicts():
        support = decode(row)
        with torch.inference_mode():
            states = completion_states(model, *pad([row["prompt_ids"]], [row["completion_ids"]]))
            logits = output_logits(model, states, tiny_format.vocabulary_size)
            own = on_support(logits, support.ids, support.distinct)
        found, dense = reverse_kl(own, support.logprobs), torch.tensor(row["divergence"])
        assert (found > 0.05).all()
        assert (found < dense).all()


def test_the_footer_names_the_models(cached, student, teacher):
    one, other = read_manifest(student), read_manifest(teacher)
    assert table.check(cached, schema.LOGITS)["identity"] == {
        "token_map": one["token_map"],
        "teacher": other["digest"],
        "student": one["digest"],
    }


def test_a_model_against_itself(self_shard, student, run_logits, logits_settings, tmp_path):
    plain = run_logits(tmp_path / "plain", self_shard, student, student, logits_settings)
    divergence = table.read(plain, schema.LOGITS)["divergence"].explode()
    assert divergence.abs().max() < 1e-6
    settings = {
        **logits_settings,
        "context": "rewriting",
        "rewriting_prompt": "{problem}\n{trajectory}\nrewrite",
    }
    output = run_logits(tmp_path / "rewriting", self_shard, student, student, settings)
    informed = table.read(output, schema.LOGITS)
    assert informed["divergence"].explode().mean() > 0.1
    # The student's side does not change with the teacher's context.
    one = table.read(plain, schema.LOGITS)["student_logprob"].explode()
    other = informed["student_logprob"].explode()
    np.testing.assert_allclose(one.to_numpy(), other.to_numpy(), rtol=0, atol=1e-5)


def test_another_teacher_than_the_rewriter_is_refused(
    shard, student, run_logits, logits_settings, tmp_path
):
    with pytest.raises(ValueError, match=r"compress\.parquet: its teacher is .* is wanted"):
        run_logits(tmp_path, shard, student, student, logits_settings)
    assert not (tmp_path / "logits").exists()


@pytest.mark.parametrize(
    ("name", "source"), [("compress", "sample"), ("filter", "sample"), ("filter", "compress")]
)
def test_shards_of_another_round_are_refused(
    shard, student, teacher, run_logits, logits_settings, tmp_path, name, source
):
    artifact = getattr(schema, name.upper())
    identity = table.check(shard[name], artifact)["identity"]
    path = tmp_path / f"{name}.parquet"
    rows = table.read(shard[name], artifact)
    table.write(path, rows, artifact, {**identity, source: "of another round"})
    with pytest.raises(ValueError, match=f"{name}.parquet: it was made from another {source}"):
        run_logits(tmp_path, {**shard, name: path}, student, teacher, logits_settings)


def test_samples_of_another_student_are_refused(
    shard, student, teacher, run_logits, logits_settings, tmp_path
):
    path = tmp_path / "sample.parquet"
    identity = {**table.check(shard["sample"], schema.SAMPLE)["identity"], "student": "another"}
    table.write(path, table.read(shard["sample"], schema.SAMPLE), schema.SAMPLE, identity)
    with pytest.raises(ValueError, match=r"sample\.parquet: its student is another, but"):
        run_logits(tmp_path, {**shard, "sample": path}, student, teacher, logits_settings)


def test_a_shard_without_kept_rows_is_an_empty_cache(
    shard, student, teacher, run_logits, logits_settings, empty_verdicts, tmp_path, caplog
):
    path = tmp_path / "filter.parquet"
    identity = table.check(shard["filter"], schema.FILTER)["identity"]
    table.write(path, empty_verdicts, schema.FILTER, identity)
    none = {**shard, "filter": path}
    output = run_logits(tmp_path, none, student, teacher, logits_settings)
    found = table.read(output, schema.LOGITS)
    assert (len(found), found.columns) == (0, schema.LOGITS.names)
    assert "no row of this shard was kept" in caplog.text
