"""Scoring: alignment, packing and chunks, and the cache against independent float64 sums."""

import math
from itertools import chain

import numpy as np
import polars as pl
import pytest
import torch

from mpd.config.generation import Decoding
from mpd.config.logits import RewritingScores, SolutionScores
from mpd.config.resources import GenerationResources, ScoringResources
from mpd.engines.base import Request
from mpd.engines.transformers import TransformersEngine
from mpd.logits import kept_rows
from mpd.scoring.cache import DecodedRows
from mpd.scoring.cache_layout import ENTRY_BITS, POSITION_BITS, TAIL_BITS
from mpd.scoring.divergence import reverse_kl
from mpd.scoring.forward import completion_states, pack
from mpd.scoring.outcomes import outcomes_of
from mpd.scoring.output_head import head_of
from mpd.scoring.transformers_scorer import TransformersScorer
from mpd.store import schema, table
from mpd.store.model_folder import load_model, read_manifest
from mpd.text.completions import ids_digest
from mpd.text.prompts import Prompts
from tests.changes import with_changes

# Columns of lists of floats, and to what share of a value they are rounded.
ROUNDED = {
    **dict.fromkeys(("realised_logprob", "control_logprobs", "student_logprob"), POSITION_BITS),
    **dict.fromkeys(("divergence", "teacher_entropy"), POSITION_BITS),
    "support_logprobs": ENTRY_BITS,
    "tail_logprobs": TAIL_BITS,
}
ROUNDED = {name: 2.0 ** -(bits + 1) for name, bits in ROUNDED.items()}
SUPPORT = ("support_size", "support_ids", "support_logprobs", "tail_logprobs")


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


@torch.inference_mode()
def test_states_predict_exactly_the_completion_ids(student, tiny_prompts):
    engine = TransformersEngine(student, "float32", GenerationResources(batch_size=4))
    prompts = [tiny_prompts.problem_ids(question) for question in ("1+2", "3-1+2-2+1", "4")]
    greedy = Decoding(temperature=0, max_new_tokens=9)
    found = engine.generate([Request(prompt, 0) for prompt in prompts], greedy)
    completions = [done.token_ids for done in found]
    completions[1] = completions[1][:4]  # different lengths
    hidden = completion_states(engine.model, pack(prompts, completions))
    logits = head_of(engine.model, engine.vocabulary.size).logits(hidden)
    # A greedy completion is the argmax everywhere: one position off, and it is not.
    assert logits.argmax(-1).tolist() == [token for ids in completions for token in ids]
    start = 0
    for prompt, completion in zip(prompts, completions, strict=True):
        alone = engine.model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        stop = start + len(completion)
        torch.testing.assert_close(logits[start:stop], alone, rtol=0, atol=1e-5)
        start = stop


def scorer(student, teacher, settings, **resources):
    resources = ScoringResources(**{"chunk_size": 1000, **resources})
    scorer = TransformersScorer(student, teacher, settings, resources, 8)
    return lambda *parts: pl.concat(scorer(parts))


def assert_same_scores(one, other):
    """But for what the last bit of a float32 may round the other way."""
    exact = ("sample_id", "candidate", "ids_digest", "support_size", "support_ids")
    assert one.select(exact).equals(other.select(exact))
    for name, share in ROUNDED.items():
        a, b = (frame[name].explode().to_numpy() for frame in (one, other))
        np.testing.assert_allclose(a, b, rtol=2 * share, atol=1e-6)
        assert np.mean(a == b) > 0.98


def test_batches_do_not_change_scores(rows, cache, student, teacher, logits_settings):
    # The cache was made with all rows in one batch.
    alone = scorer(student, teacher, logits_settings, batch_tokens=1)
    assert_same_scores(alone(rows), cache)
    backwards = scorer(student, teacher, logits_settings, batch_tokens=100)
    assert_same_scores(backwards(rows.reverse()).reverse(), cache)


@pytest.mark.parametrize("chunk_size", [1, 3])
def test_chunks_do_not_change_scores(rows, cache, student, teacher, logits_settings, chunk_size):
    found = scorer(student, teacher, logits_settings, chunk_size=chunk_size)
    assert_same_scores(found(rows), cache)


@pytest.mark.parametrize("of", ["student", "teacher"])
def test_a_model_with_another_head_is_refused(variant, student, teacher, logits_settings, of):
    # Its configuration says that it caps its logits, which Qwen3 does not.
    odd = variant("config.json", final_logit_softcapping=1.0)
    models = (odd, teacher) if of == "student" else (student, odd)
    with pytest.raises(ValueError, match="Qwen3ForCausalLM: its logits are not its output head"):
        scorer(*models, logits_settings)


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
    with pytest.raises(
        ValueError, match="filter keeps rows that compress, sample, problems or references lack"
    ):
        kept_rows(*tables)


@torch.inference_mode()
def float64_logprobs(model, prompt, completion, size):
    """Of one sequence alone, in a plain forward pass."""
    logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1, :size]
    return torch.log_softmax(logits.double(), -1).numpy()


@pytest.fixture(scope="module")
def models(student, teacher):
    return [load_model(manifest.parent, "float32") for manifest in (student, teacher)]


def both_logprobs(models, row, size):
    """Of student and teacher at the positions of a cached row."""
    of_teacher = row["teacher_prompt_ids"] or row["prompt_ids"]
    return (
        float64_logprobs(model, prompt, row["completion_ids"], size)
        for model, prompt in zip(models, (row["prompt_ids"], of_teacher), strict=True)
    )


def assert_rounded(found, expected, name):
    np.testing.assert_allclose(found, expected, rtol=ROUNDED[name], atol=1e-4, err_msg=name)


def assert_positions(row, p, q):
    """The columns of floats by position are what the log-probabilities say."""
    ids, places = row["completion_ids"], np.arange(len(row["completion_ids"]))
    expected = {
        "realised_logprob": q[places, ids],
        "student_logprob": p[places, ids],
        "divergence": (np.exp(p) * (p - q)).sum(-1),
        "teacher_entropy": -(np.exp(q) * q).sum(-1),
        "control_logprobs": q[:, row["control_ids"]].flatten(),
    }
    for name, values in expected.items():
        assert_rounded(row[name], values, name)


def test_the_cache_holds_what_the_models_say(cache, rows, models, vocabulary, tiny_format):
    size = vocabulary.size
    width = math.ceil(size / 4)
    assert cache.columns == schema.LOGITS.names
    assert cache["sample_id"].to_list() == rows["sample_id"].to_list()
    for row, source in zip(cache.to_dicts(), rows.to_dicts(), strict=True):
        prompt, ids = row["prompt_ids"], row["completion_ids"]
        assert (prompt, ids) == (source["prompt_ids"], source["completion_ids"])
        assert row["teacher_prompt_ids"] is row["teacher_hidden"] is None
        assert row["ids_digest"] == ids_digest(prompt, ids)
        assert row["control_ids"] == tiny_format.control_ids
        p, q = both_logprobs(models, row, size)
        assert_positions(row, p, q)
        supports = np.split(np.array(row["support_ids"]), np.cumsum(row["support_size"])[:-1])
        logprobs, tails, overlap, masses = [], [], [], []
        for place, own in enumerate(supports):
            best = [np.argsort(-values[place])[:8].tolist() for values in (q, p)]
            fixed = {ids[place], *row["control_ids"]}
            candidates = [token for token in dict.fromkeys(chain(*best)) if token not in fixed]
            assert own.tolist() == [token for token in candidates if token in own]
            probable = np.exp(np.maximum(p[place], q[place])) > 0.0101
            assert {token for token in candidates if probable[token]} <= {*own}
            logprobs += q[place, own].tolist()
            support = sorted(fixed | {*own})
            for bucket in range(4):
                inside = range(bucket * width, min((bucket + 1) * width, size))
                outside = [token for token in inside if token not in support]
                tails.append(np.log(np.exp(q[place, outside]).sum()))
            overlap.append(len({*best[0]} & {*best[1]}) / 8)
            masses.append([np.exp(values[place, support]).sum() for values in (q, p)])
        assert_rounded(row["support_logprobs"], logprobs, "support_logprobs")
        assert_rounded(row["tail_logprobs"], tails, "tail_logprobs")
        assert row["overlap"] == pytest.approx(np.mean(overlap))
        found = [row["teacher_mass"], row["student_mass"]]
        assert found == pytest.approx(np.mean(masses, axis=0), abs=1e-5)
        end = ids.index(tiny_format.close_ids[0])
        assert row["think_end"] == end
        for name, expected in (
            ("think_close_logprob", q[end, ids[end]]),
            ("stop_logprob", q[-1, ids[-1]]),
            ("mean_teacher_logprob", q[np.arange(len(ids)), ids].mean()),
        ):
            assert row[name] == pytest.approx(expected, rel=ROUNDED["realised_logprob"], abs=1e-4)


def test_a_trajectory_without_an_end_of_thinking(rows, cache, student, teacher, logits_settings):
    cut = rows.head(1).with_columns(pl.col("completion_ids").list.head(2), num_tokens=pl.lit(2))
    (found,) = scorer(student, teacher, logits_settings)(cut).to_dicts()
    whole = cache.row(0, named=True)
    assert found["think_end"] is found["think_close_logprob"] is None
    assert found["realised_logprob"] == pytest.approx(whole["realised_logprob"][:2], rel=0.01)
    assert found["stop_logprob"] == found["realised_logprob"][1]


def test_supports_are_trimmed(cache):
    """Peaked positions cost few entries, flat ones up to all candidates."""
    sizes = cache["support_size"].explode()
    assert sizes.max() > sizes.min()
    assert sizes.max() <= 16
    flat = cache["teacher_entropy"].explode() > 2
    assert sizes.filter(flat).mean() > sizes.filter(~flat).mean()


@torch.inference_mode()
def test_the_cached_support_gives_a_divergence_below_the_dense_one(cache, models, vocabulary):
    """Decoded and compared with the student's own logits, as distill does it."""
    decoded = DecodedRows(cache)
    for number, row in enumerate(cache.to_dicts()):
        support = decoded.support(number)
        entries = support.ids.shape[1]
        states = completion_states(models[0], pack([row["prompt_ids"]], [row["completion_ids"]]))
        logits = head_of(models[0], vocabulary.size).logits(states)
        own, _ = outcomes_of(logits, support.ids.long(), support.distinct, 4)
        assert own.shape == (len(states), entries + 4)
        found, dense = reverse_kl(own, support.logprobs), torch.tensor(row["divergence"])
        assert (found > 0.3 * dense).all()
        assert (found < dense * (1 + ROUNDED["divergence"]) + 1e-3).all()


def test_a_cache_of_hidden_states(
    cache, shard, models, student, teacher, run_logits, logits_settings, vocabulary, tmp_path
):
    settings = with_changes(logits_settings, cache="hidden")
    output = run_logits(tmp_path, shard, student, teacher, settings)
    found, decoded = (
        table.read(output, schema.LOGITS),
        DecodedRows(table.read(output, schema.LOGITS)),
    )
    of_support = (*SUPPORT, "overlap", "teacher_mass", "student_mass")
    for name in of_support:
        assert found[name].null_count() == len(found)
    rest = [name for name in found.columns if name not in (*of_support, "teacher_hidden")]
    assert found.select(rest).equals(cache.select(rest))
    size = vocabulary.size
    with torch.no_grad():
        head = head_of(models[1], size)
    for number, row in enumerate(found.to_dicts()):
        _, q = both_logprobs(models, row, size)
        logits = head.logits(decoded.hidden(number))
        torch.testing.assert_close(
            logits.double().log_softmax(-1), torch.from_numpy(q), rtol=0, atol=1e-4
        )


def test_the_footer_names_the_models_and_the_shards(cached, shard, student, teacher):
    one, other = read_manifest(student), read_manifest(teacher)
    contents = {
        name: table.content_digest(path, getattr(schema, name.upper()))
        for name, path in shard.items()
    }
    assert table.check(cached, schema.LOGITS)["identity"] == {
        **contents,
        "token_map": one["token_map"],
        "teacher": other["digest"],
        "student": one["digest"],
        "cache": "sparse",
    }


def test_a_model_against_itself(
    self_shard, student, models, run_logits, logits_settings, chat, vocabulary, tmp_path
):
    plain = run_logits(tmp_path / "plain", self_shard, student, student, logits_settings)
    divergence = table.read(plain, schema.LOGITS)["divergence"].explode()
    assert divergence.abs().max() < 1e-6
    settings = RewritingScores(
        context="rewriting",
        prompt="{problem}\n{trajectory}\nrewrite",
        top_k=8,
        student_top_k=8,
        tail_buckets=4,
        chat=chat.model_dump(include={"think", "close", "thinking"}),
    )
    prompts = Prompts(vocabulary, settings.prompt, "compress.prompt", True, None)
    output = run_logits(tmp_path / "rewriting", self_shard, student, student, settings)
    informed = table.read(output, schema.LOGITS)
    assert informed["divergence"].explode().mean() > 0.1
    # The student's side does not change with the teacher's context.
    one = table.read(plain, schema.LOGITS)["student_logprob"].explode()
    other = informed["student_logprob"].explode()
    share = 2 * ROUNDED["student_logprob"]
    np.testing.assert_allclose(one.to_numpy(), other.to_numpy(), rtol=share, atol=1e-5)
    samples = table.read(self_shard["sample"], schema.SAMPLE)
    questions = table.read(self_shard["problems"], schema.PROBLEMS)["question"]
    for row, text, question in zip(informed.to_dicts(), samples["text"], questions, strict=True):
        expected = prompts.ids(problem=question, trajectory=text)
        assert row["teacher_prompt_ids"] == expected
        assert_positions(row, *both_logprobs([models[0]] * 2, row, vocabulary.size))


@pytest.fixture
def references(shard, tmp_path):
    """The references of the shard's problems: the question with a mark, and its sum."""
    path = tmp_path / "references.parquet"
    questions = table.read(shard["problems"], schema.PROBLEMS)
    frame = questions.select(
        "problem_id",
        original=pl.col("question") + "?",
        solution=pl.format("{}={}", "question", "gold"),
    )
    table.write(path, frame, schema.REFERENCES, {})
    return path


@pytest.fixture(scope="module")
def verbatim_shard(shard, tmp_path_factory):
    """The shard as if nobody had rewritten."""
    path = tmp_path_factory.mktemp("verbatim") / "compress.parquet"
    identity = table.check(shard["compress"], schema.COMPRESS)["identity"]
    identity = {name: value for name, value in identity.items() if name != "teacher"}
    table.write(path, table.read(shard["compress"], schema.COMPRESS), schema.COMPRESS, identity)
    return {**shard, "compress": path}


def test_the_scorer_may_see_a_reference_solution(
    verbatim_shard, references, student, models, run_logits, chat, vocabulary, tmp_path
):
    """The student itself scores, behind problem, original and solution."""
    settings = SolutionScores(
        context="solution",
        prompt="{problem}\n{original}\n{solution}",
        cache="hidden",
        chat=chat.model_dump(include={"think", "close", "thinking"}),
    )
    pair = student, student
    given = "--references", str(references)
    output = run_logits(tmp_path, verbatim_shard, *pair, settings, *given)
    rows = table.read(output, schema.LOGITS)
    prompts = Prompts(vocabulary, settings.prompt, "chat.solution", True, None)
    problems = table.read(verbatim_shard["problems"], schema.PROBLEMS)
    for row, problem in zip(rows.to_dicts(), problems.to_dicts(), strict=True):
        question = problem["question"]
        seen = {"original": f"{question}?", "solution": f"{question}={problem['gold']}"}
        assert row["teacher_prompt_ids"] == prompts.ids(problem=question, **seen)
        assert_positions(row, *both_logprobs([models[0]] * 2, row, vocabulary.size))
    with pytest.raises(ValueError, match="needs the references of problems; give --references"):
        run_logits(tmp_path / "none", verbatim_shard, *pair, settings)


def test_problems_without_a_reference_are_refused(
    verbatim_shard, references, student, run_logits, chat, tmp_path
):
    frame = table.read(references, schema.REFERENCES)[1:]
    table.write(references, frame, schema.REFERENCES, {})
    settings = SolutionScores(context="solution", prompt="{problem}\n{solution}")
    given = "--references", str(references)
    with pytest.raises(ValueError, match="that compress, sample, problems or references lack"):
        run_logits(tmp_path, verbatim_shard, student, student, settings, *given)


def test_another_teacher_than_the_rewriter_is_refused(
    shard, student, run_logits, logits_settings, tmp_path
):
    with pytest.raises(ValueError, match=r"compress\.parquet: its teacher is .* is wanted"):
        run_logits(tmp_path, shard, student, student, logits_settings)
    assert not (tmp_path / "logits").exists()


@pytest.mark.parametrize(
    ("name", "source"),
    [
        *(("sample", "problems"), ("compress", "problems"), ("compress", "sample")),
        *(("filter", "problems"), ("filter", "sample"), ("filter", "compress")),
    ],
)
def test_shards_of_another_round_are_refused(
    shard, student, teacher, run_logits, logits_settings, tmp_path, name, source
):
    artifact = getattr(schema, name.upper())
    identity = table.check(shard[name], artifact)["identity"]
    path = tmp_path / f"{name}.parquet"
    rows = table.read(shard[name], artifact)
    table.write(path, rows, artifact, {**identity, source: "of another round"})
    with pytest.raises(ValueError, match=f"{name}.parquet: it was made from {source} of another "):
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
