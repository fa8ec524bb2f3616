"""Resources change no result: each stage runs with each of its keys changed, to the same rows."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from safetensors.torch import load_file

from mpd import answers, bank, compress, distill, evaluate, filter, models, problems, sample
from mpd.config.compress import TeacherRewrite
from mpd.config.distill import DistillSettings
from mpd.config.filter import FilterSettings
from mpd.config.resources import AllResources
from mpd.store import schema, table
from mpd.store.model_folder import read_manifest, write_manifest
from tests.bank import write_embedder
from tests.test_bank import ROUND, WORDS, write_round
from tests.test_distill import assert_same_training
from tests.test_evaluate import CHAT, TEXTS, answers_of
from tests.test_logits import assert_same_scores
from tests.test_sample import DECODING, ENGINE

# Of each key, a value that is not its default and that makes the jobs below work differently.
CHANGES = {
    "memory_mb": 123,
    "threads": 2,
    "batch_size": 3,
    "rows_per_part": 3,
    "batch_tokens": 70,  # two trajectories
    "chunk_size": 3,
    "kernels": "none",
    "micro_batch_size": 1,
    "micro_batch_tokens": 70,
    "num_processes": 2,
    "gradient_checkpointing": True,
    "checkpoint_steps": 1,
    "tracker": "tensorboard",
}
COMPLETIONS = "vLLM's; tests/with_vllm/test_vllm_completions.py compares completions"
REFUSALS = "vLLM's; too little is refused: tests/with_vllm/test_vllm_refusals.py"
NOT_VARIED = {
    "gpu": "reserves GPUs for a scheduler; tests/test_on_gpu.py compares a GPU with a CPU",
    "runtime": "ends jobs of Slurm; tests/slurm/test_slurm.py has one that takes longer",
    "tensor_parallel_size": COMPLETIONS,
    "data_parallel_size": COMPLETIONS,
    "prefix_caching": COMPLETIONS,
    "gpu_memory_utilization": REFUSALS,
    "max_model_len": REFUSALS,
    "server": "says where the server is; tests/with_vllm/test_vllm_server.py has one",
    "server_timeout": "bounds waits; tests/with_vllm/test_server_answers.py has silent servers",
    "nodes": "needs an allocation; tests/training/test_launch.py has a stand-in for srun",
    "sharding": "needs several processes; tests/training/test_sharding.py has two",
    "logits.batch_size": "vLLM's; tests/with_vllm/test_scoring.py compares scores",
    "report.memory_mb": "reserves memory for a scheduler; the command gets no resources",
}
# shards_per_job is no section: tests/workflow/test_shards_per_job.py has it.
SECTIONS = {
    name: field.annotation
    for name, field in AllResources.model_fields.items()
    if name != "shards_per_job"
}
KEYS = [(section, key) for section, model in SECTIONS.items() for key in model.model_fields]
VARIED = [pair for pair in KEYS if not NOT_VARIED.keys() & {pair[1], ".".join(pair)}]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Torch goes back to the number of threads that it had."""
    import torch

    number = torch.get_num_threads()
    yield
    torch.set_num_threads(number)


class Stages:
    """Runs the stage of a section of resources; a method returns what it wrote."""

    def __init__(self, folder, inputs, run_logits):
        self.folder, self.inputs, self.run_logits = folder, inputs, run_logits
        self.baselines: dict[str, Path] = {}

    def baseline(self, section: str) -> Path:
        """What the stage writes with the resources that are the default."""
        if section not in self.baselines:
            self.baselines[section] = self.run(section)
        return self.baselines[section]

    def run(self, section: str, **resources) -> Path:
        """What the stage writes with these resources: the file of a table, or a folder."""
        name = "-".join([section, *resources, *map(str, resources.values())])
        more = ["--resources", json.dumps(resources), "--store", str(self.folder / f"{name}.store")]
        return getattr(self, section)(self.folder / name, more)

    def main(self, main: Callable, settings: dict, output: Path, more: list[str], **paths) -> Path:
        """Run the command of a stage; returns the path that it writes."""
        arguments = ["--settings", json.dumps(settings), "--output", str(output), *more]
        for name, path in paths.items():
            arguments += [f"--{name}", str(path)]
        main(arguments)
        return output

    def of_shard(self, *names: str) -> dict[str, Path]:
        """The inputs of these names."""
        return {name: self.inputs[name] for name in names}

    def models(self, output: Path, more: list[str]) -> Path:
        """The folder of a model that was trained for a few steps."""
        settings = {"source": "tiny", "role": "student", "seed": 1, "num_steps": 3}
        return self.main(models.main, settings, output / "manifest.json", more).parent

    def problems(self, output: Path, more: list[str]) -> Path:
        source = {"source": "file", "path": str(self.inputs["source"]), "split": "train"}
        return self.main(problems.main, {**source, "seed": 3}, output, more)

    def sample(self, output: Path, more: list[str]) -> Path:
        chat = {"prompt": "{problem}", "thinking": True}
        settings = {**DECODING, "trajectories": None, "chat": chat, "seed": 7, **ENGINE}
        return self.main(
            sample.main, settings, output, more, **self.of_shard("problems", "student")
        )

    def bank(self, output: Path, more: list[str]) -> Path:
        folder = self.folder / "bank.inputs"
        write_embedder(folder / "embedder", WORDS)
        write_manifest(folder / "embedder", is_chat_model=False)
        paths = {
            name: one for name, (one,) in write_round(folder, {0: ROUND[0] | ROUND[1]}).items()
        }
        embedder = folder / "embedder" / "manifest.json"
        return self.main(bank.main, {}, output / "bank.parquet", more, embedder=embedder, **paths)

    def compress(self, output: Path, more: list[str]) -> Path:
        settings = TeacherRewrite(
            max_new_tokens=8,
            num_samples=2,
            prompt="{problem}\n{trajectory}\nrewrite",
            rewriter="teacher",
            chat={"think": "tags", "open": "<think>", "close": "</think>"},
        ).model_dump()
        paths = self.of_shard("problems", "sample", "student", "teacher")
        return self.main(compress.main, settings, output, more, **paths)

    def filter(self, output: Path, more: list[str]) -> Path:
        settings = FilterSettings(chat=CHAT).model_dump()
        paths = {name: self.inputs[f"hard_{name}"] for name in ("sample", "compress")}
        return self.main(filter.main, settings, output, more, problems=self.inputs["hard"], **paths)

    def logits(self, output: Path, more: list[str]) -> Path:
        names = ("problems", "sample", "compress", "filter")
        models = (self.inputs[name] for name in ("student", "teacher", "logits_settings"))
        return self.run_logits(output, self.of_shard(*names), *models, *more)

    def distill(self, output: Path, more: list[str]) -> Path:
        return self.trained(self.inputs["cached"], output, more)

    def trained(self, cache: Path, output: Path, more: list[str]) -> Path:
        """The folder of a student that was trained on a cache in six steps."""
        settings = DistillSettings(learning_rate=1e-3, epochs=3, batch_size=4, min_kept=8)
        paths = self.of_shard("student", "filter")
        path = output / "manifest.json"
        settings = settings.model_dump()
        return self.main(distill.main, settings, path, more, logits=cache, **paths).parent

    def evaluate(self, output: Path, more: list[str]) -> Path:
        """The answers of a student to a benchmark."""
        chat = {"prompt": "{problem}", "thinking": True}
        settings = {"benchmarks": {"dev": DECODING}, "chat": chat, "seed": 4, **ENGINE}
        more = [*more, "--benchmarks", f"dev={self.inputs['problems']}"]
        self.main(answers.main, settings, output, more, **self.of_shard("student"))
        return output / "dev.parquet"

    def grading(self, output: Path, more: list[str]) -> Path:
        """The grades of answers to a benchmark."""
        settings = {"benchmarks": {"dev": {"max_new_tokens": 20}}, "chat": CHAT}
        more = [*more, "--benchmarks", f"dev={self.inputs['hard']}"]
        more += ["--answers", f"dev={self.inputs['answers']}"]
        self.main(evaluate.main, settings, output, more, **self.of_shard("student"))
        return output / "dev.parquet"


@pytest.fixture(scope="module")
def stages(
    tmp_path_factory, shard, student, teacher, cached, run_logits, logits_settings, tiny_format
):
    """The stages, on the shard of the tests; `hard` are its problems with golds as closed forms."""
    folder = tmp_path_factory.mktemp("resources")
    rows = table.read(shard["problems"], schema.PROBLEMS)
    source = folder / "source.jsonl"
    source.write_text(
        "".join(json.dumps({"question": f"{n}+1", "answer": str(n + 1)}) + "\n" for n in range(9))
    )
    hard = folder / "hard.parquet"  # a worker has to grade against such golds
    golds = pl.Series("gold", [f"\\sqrt{{{int(gold) ** 2}}}" for gold in rows["gold"]])
    contents = {"problems": table.write(hard, rows.with_columns(golds), schema.PROBLEMS, {})}
    paths = {name: folder / f"hard_{name}.parquet" for name in ("sample", "compress")}
    for name, path in paths.items():  # as if they were made from these problems
        artifact = getattr(schema, name.upper())
        frame = table.read(shard[name], artifact)
        contents[name] = table.write(path, frame, artifact, dict(contents))
    answered = folder / "answers.parquet"
    frame = answers_of(tiny_format, rows["problem_id"], TEXTS)
    asked = table.column_digest(hard, schema.PROBLEMS, schema.ASKED)
    identity = {"student": read_manifest(student)["digest"], "questions": asked}
    table.write(answered, frame, schema.ANSWERS, identity)
    inputs = {**shard, "student": student, "teacher": teacher, "cached": cached}
    inputs |= {"hard": hard, "answers": answered, "source": source}
    inputs |= {f"hard_{name}": path for name, path in paths.items()}
    return Stages(folder, {**inputs, "logits_settings": logits_settings}, run_logits)


def assert_same_table(one: Path, other: Path, artifact: schema.Artifact) -> None:
    """The same rows, but for rounding."""
    frames = [table.read(path, artifact) for path in (one, other)]
    assert len(frames[0]) > 1
    assert_frame_equal(*frames, abs_tol=1e-5, rel_tol=1e-4)


def assert_same_models(one: Path, other: Path) -> None:
    """The same files, with weights that differ in rounding alone."""
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    for name, values in first.items():
        assert (values - second[name]).abs().max() < 1e-5
    manifests = [read_manifest(folder / "manifest.json") for folder in (one, other)]
    for key in ("token_map", "tokenizer", "chat_template", "context_length"):
        assert manifests[0][key] == manifests[1][key]


ARTIFACTS = {
    "problems": schema.PROBLEMS,
    "bank": schema.BANK,
    "sample": schema.SAMPLE,
    "compress": schema.COMPRESS,
    "filter": schema.FILTER,
    "evaluate": schema.ANSWERS,
    "grading": schema.EVALUATE,
}


def assert_alike(section: str, one: Path, other: Path) -> None:
    """The stage wrote the same twice, but for rounding."""
    if section == "models":
        assert_same_models(one, other)
    elif section == "logits":
        assert_same_scores(*(table.read(path, schema.LOGITS) for path in (one, other)))
    elif section == "distill":
        assert_same_training(one, other)
    else:
        assert_same_table(one, other, ARTIFACTS[section])


def test_every_key_is_varied_or_has_a_reason():
    keys = {key for _, key in KEYS} | {".".join(pair) for pair in KEYS}
    assert keys >= CHANGES.keys() | NOT_VARIED.keys()
    assert {key for _, key in VARIED} == CHANGES.keys()
    for section, key in VARIED:
        assert getattr(SECTIONS[section](), key) != CHANGES[key]


@pytest.mark.parametrize(("section", "key"), VARIED, ids=[".".join(pair) for pair in VARIED])
def test_a_resource_changes_no_result(stages, section, key):
    changed = stages.run(section, **{key: CHANGES[key]})
    assert_alike(section, changed, stages.baseline(section))


def test_a_student_does_not_depend_on_the_parts_of_its_cache(stages):
    """Parts end row groups: here one of eight rows, and eight of one."""
    cache = stages.run("logits", rows_per_part=1)
    more = ["--store", str(stages.folder / "of_parts.store")]
    student = stages.trained(cache, stages.folder / "of_parts", more)
    assert_same_training(student, stages.baseline("distill"))
