"""export: the student of a finished run as folders that other programs load, and on a hub."""

import subprocess
import sys

import datasets
import polars as pl
import pytest
import torch
from huggingface_hub import DatasetCard, ModelCard
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from mpd.store import schema, table
from tests.hub_server import TOKEN, hub
from tests.workflow.project import ENVIRONMENT, Project

ROUND = "results/small/mpd/seed_0/round_1"


def export(project: Project, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mpd.export", *words],
        cwd=project.folder,
        env={**ENVIRONMENT, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def exported(finished_project: Project):
    """The folder with an exported model and data set, and the results of the round."""
    words = ("--anyway", "--output", "handed over", "--license", "apache-2.0")
    done = export(finished_project, ROUND, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "model: handed over/model\ndata set: handed over/data\n"
    return finished_project.folder / "handed over", finished_project.folder / ROUND


def test_the_model_loads_and_has_the_weights_of_the_student(exported):
    folder, results = exported
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    expected = load_file(results / "student/model.safetensors")
    weights = model.state_dict()
    assert expected
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    messages = [{"role": "user", "content": "1+2"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    shard = results / "sample/shard_0.parquet"
    known = table.read(shard, schema.SAMPLE)["prompt_ids"][0].to_list()
    assert prompt[0] == known[0] and prompt[-1] == known[-1]
    names = {path.name for path in (folder / "model").iterdir()}
    assert not names & {"metrics.parquet", "provenance.json", "manifest.json"}


def test_the_model_card_has_measures_with_intervals(exported):
    folder, results = exported
    summary = table.read(results.parents[2] / "summary.parquet", schema.SUMMARY)
    card = ModelCard.load(folder / "model/README.md")
    assert (card.data.license, card.data.library_name) == ("apache-2.0", "transformers")
    measured = {
        (each.dataset_name, each.metric_type): each.metric_value for each in card.data.eval_results
    }
    rows = summary.filter(method="mpd", round=1).to_dicts()
    assert len(rows) == 3
    assert measured == {
        (row["benchmark"], name): row[name] for row in rows for name in ("accuracy", "mean_tokens")
    }
    for row in rows:
        assert f"| {row['accuracy']:.3f} ± {row['accuracy_se']:.3f} |" in card.text
    compared = table.read(results.parents[2] / "comparison.parquet", schema.COMPARISON)
    for row in compared.filter(against="base").to_dicts():
        ends = f"[{row['tokens_low']:+,.1f}, {row['tokens_high']:+,.1f}]"
        assert f"| {row['tokens']:+,.1f} {ends} |" in card.text
    assert '"learning_rate": 1e-05' in card.text


def test_the_data_set_loads_with_every_row_and_verdict(exported, tmp_path):
    folder, results = exported
    loaded = datasets.load_dataset(str(folder / "data"), cache_dir=str(tmp_path))
    assert list(loaded) == ["round_1"]
    rows = pl.DataFrame(loaded["round_1"].to_list())
    samples = table.read(results / "sample/shard_0.parquet", schema.SAMPLE)
    rewrites = table.read(results / "compress/shard_0.parquet", schema.COMPRESS)
    verdicts = table.read(results / "filter/shard_0.parquet", schema.FILTER)
    assert len(samples) == 12
    assert rows["trajectory"].equals(samples["text"], check_names=False)
    assert rows["rewrite"].to_list() == rewrites["text"].to_list()
    for name in ("keep", "reason", "gold", "answer", "sample_id"):
        assert rows[name].to_list() == verdicts[name].to_list()
    assert DatasetCard.load(folder / "data/README.md").data.license == "apache-2.0"


def test_weights_are_stored_in_another_type_when_asked(finished_project):
    words = ("--anyway", "--output", "half", "--dtype", "bfloat16")
    assert export(finished_project, ROUND, *words).returncode == 0
    weights = load_file(finished_project.folder / "half/model/model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((ROUND,), "the report would ship none, stay with the base student"),
        ((ROUND, "--anyway", "--output", "results"), "results: is there already"),
        (("results/small/base/seed_0/round_0",), "no student was trained there"),
        (("results/small/mpd/seed_0/round_7",), "no student was trained there"),
        (("results",), "not a round"),
        ((ROUND, "--public"), "give --push owner/name"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(finished_project, words, message):
    done = export(finished_project, *words)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert message in line


def test_a_damaged_student_is_not_exported(finished_project):
    weights = finished_project.folder / ROUND / "student/model.safetensors"
    whole = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        done = export(finished_project, ROUND, "--anyway", "--output", "damaged")
    finally:
        weights.write_bytes(whole)
    assert done.returncode == 1
    assert str(weights.relative_to(finished_project.folder)) in done.stderr
    assert not (finished_project.folder / "damaged").exists()


def test_both_are_uploaded_as_private(finished_project):
    with hub() as server:
        variables = {"HF_ENDPOINT": server.address, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
        words = (ROUND, "--anyway", "--push", "lab/short", "--output")
        done = export(finished_project, *words, "pushed", **variables)
        assert done.returncode == 0, done.stderr
        assert len([line for line in done.stdout.splitlines() if "uploaded: " in line]) == 2
        assert server.private == {("model", "lab/short"): True, ("dataset", "lab/short"): True}
        for kind, part in (("model", "model"), ("dataset", "data")):
            folder = finished_project.folder / "pushed" / part
            files = {
                path.relative_to(folder).as_posix(): path.read_bytes()
                for path in folder.rglob("*")
                if path.is_file()
            }
            assert server.files[kind, "lab/short"] == files
        refused = export(finished_project, *words, "again", **{**variables, "HF_TOKEN": "hf_other"})
        assert not (finished_project.folder / "again").exists()
        server.private["dataset", "lab/short"] = False
        shown = export(finished_project, *words, "shown", **variables)
        assert not (finished_project.folder / "shown").exists()
        files = len(server.files)
        assert export(finished_project, *words, "shown", "--public", **variables).returncode == 0
        assert len(server.files) == files
    assert (refused.returncode, shown.returncode) == (1, 1)
    (line,) = refused.stderr.splitlines()
    assert "--push lab/short: the model was not uploaded" in line
    assert "token" in line
    (line,) = shown.stderr.splitlines()
    assert "the dataset is at http" in line and "give --public" in line


def test_a_hub_out_of_reach_is_one_sentence(finished_project):
    words = (ROUND, "--anyway", "--output", "unreachable", "--push", "lab/short")
    variables = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
    done = export(finished_project, *words, **variables)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "not uploaded to http://127.0.0.1:9" in line
    assert TOKEN not in line
