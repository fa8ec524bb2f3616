"""A method whose scorer sees reference solutions, through the workflow."""

import json

import pytest
import torch

from mpd.store import schema, table
from mpd.store.model_folder import load_model, read_manifest
from mpd.text.vocabulary import Vocabulary
from mpd.tiny.task import concise_trace, problems

CHANGES = {
    "methods": ["copsd"],
    "rounds": 2,
    "chat": {"solution": "{problem}\n{original}\n{solution}"},
    "custom": [{"name": "copsd", "like": "copsd", "distill": {"temperature": 1.1}}],
    "distill": {"budget": "steps", "amount": 2, "batch_size": 12},
}


@pytest.fixture(scope="module")
def results(finished_project):
    """A run on problems whose second language has blanks around signs."""
    rows = []
    for row in problems("train", 24, 5):
        question = row["question"]
        translated = question.replace("+", " + ").replace("-", " - ")
        reasoning, answer = concise_trace(question)
        row = {"translated": translated, "english": question, "answer": row["answer"]}
        rows.append({**row, "steps": f"{reasoning}\n{answer}"})
    path = finished_project.folder / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"question": "translated", "original": "english", "solution": "steps"}
    source = {"source": "file", "path": "train.jsonl", "form": "plain", **columns}
    train = {"train": {**source, "num_problems": None}}
    finished_project.run(problems=train, **CHANGES)
    assert not finished_project.visits(problems=train, **CHANGES) - {"all"}
    return finished_project.folder / "results" / "small"


def round_of(results, number):
    return results / "copsd" / "seed_0" / f"round_{number}"


def test_the_base_student_scores_every_round_and_has_the_head(results):
    base = read_manifest(results / "models" / "student_seed_0" / "manifest.json")["digest"]
    for number in (1, 2):
        path = round_of(results, number) / "logits" / "shard_0.parquet"
        identity = table.check(path, schema.LOGITS)["identity"]
        assert identity["teacher"] == base
        assert identity["cache"] == "hidden"
        assert (identity["student"] == base) == (number == 1)
    heads = sorted(path.parent.name for path in (results / "models").glob("*/head.safetensors"))
    assert heads == ["head_seed_0"]


def test_the_student_sees_the_problem_and_the_scorer_its_reference_too(results):
    references = table.read(results / "problems/train/references.parquet", schema.REFERENCES)
    questions = table.read(results / "problems/train/shard_0.parquet", schema.PROBLEMS)
    seen = questions.join(references, on="problem_id", maintain_order="left").to_dicts()
    assert len(seen) == 12
    rows = table.read(round_of(results, 1) / "logits" / "shard_0.parquet", schema.LOGITS)
    vocabulary = Vocabulary.of_folder(results / "models" / "student_seed_0")
    for row, problem in zip(rows.to_dicts(), seen, strict=True):
        assert problem["question"].replace(" ", "") == problem["original"]
        own, other = (vocabulary.decode(row[f"{who}prompt_ids"]) for who in ("", "teacher_"))
        parts = problem["question"], problem["original"], problem["solution"]
        assert parts[0] in own
        assert parts[1] not in own
        assert "\n".join(parts) in other


def whole_logprobs(model, prompt, completion, temperature=1.0):
    """The log-probabilities of a model at each token of a completion, all of them, in float64."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + completion])).logits
    return (logits[0, len(prompt) - 1 : -1] / temperature).log_softmax(-1)


def clamped_loss(folder, rows, temperature):
    """The loss of copsd in the rows of a cache, for a student that is the scorer too."""
    model, size = load_model(folder, "float32").double(), Vocabulary.of_folder(folder).size
    assert model.get_output_embeddings().weight.shape[0] == size
    sums = []
    for row in rows.to_dicts():
        own, other = (
            whole_logprobs(model, row[key], row["completion_ids"], temperature)
            for key in ("prompt_ids", "teacher_prompt_ids")
        )
        sums.append((other.exp() * (other - own)).clamp(max=0.05).sum(-1))
    return torch.cat(sums).mean().item()


def test_the_loss_of_the_first_step_is_that_of_whole_distributions(results):
    """All rows are in it, before any training; by both models' logits in float64."""
    rows = table.read(round_of(results, 1) / "logits" / "shard_0.parquet", schema.LOGITS)
    metrics = table.read(round_of(results, 1) / "student" / "metrics.parquet", schema.METRICS)
    expected = clamped_loss(results / "models" / "student_seed_0", rows, 1.1)
    assert metrics["loss"][0] == pytest.approx(expected, abs=1e-5)
