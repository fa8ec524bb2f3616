import copy
import json
import re
from pathlib import Path

import pytest
import yaml

from mpd.config import Config, parse_config
from mpd.config.files import model_files, problem_files
from mpd.config.methods import METHODS
from mpd.config.models import FolderModel, GgufModel, HubModel, TinyModel, TinySettings
from mpd.config.problems import Source
from mpd.config.stages import as_text, stage_settings

REPOSITORY = Path(__file__).parents[2]
HASH = "0123456789abcdef0123456789abcdef01234567"
RAW = {
    "experiment": "test",
    "models": {"student": {"source": "tiny"}, "teacher": {"source": "tiny"}},
    "problems": {
        "path": "all.jsonl",
        "train": {"source": "file"},
        "num_dev": 10,
        "benchmarks": [
            {"name": "one", "source": "file", "path": "one.jsonl"},
            {"name": "two", "source": "tiny", "num_problems": 5, "temperature": 0},
        ],
    },
    "sample": {},
    "compress": {"prompt": "{problem} {trajectory}"},
    "distill": {"learning_rate": 0.001},
    "evaluate": {},
}
DELETE = object()
# copsd needs columns of the training problems.
COPSD = {
    "methods": ["copsd"],
    "problems__train": {"original": "first", "solution": "steps"},
}
MADE = {"source": "reasoning_gym", "task": "chain_sum", "num_problems": 5}
ANYWHERE = [name for name in METHODS if name != "copsd"]


def changed(**changes):
    """RAW with some keys changed. A place is the path to a key: problems__benchmarks__0__name."""
    raw = copy.deepcopy(RAW)
    for place, value in changes.items():
        *sections, key = (int(step) if step.isdigit() else step for step in place.split("__"))
        section = raw
        for step in sections:
            section = section[step] if isinstance(section, list) else section.setdefault(step, {})
        if value is DELETE:
            del section[key]
        else:
            section[key] = value
    return raw


def row_of(**changes):
    """The change that makes mpd another method, or gives it other settings."""
    return {"custom": [{"name": "mpd", "like": "mpd", **changes}]}


def text_of(config, rule, **wildcards):
    """The settings of a job, as its command line has them."""
    return as_text(stage_settings(config, rule, **wildcards))


def message_of(**changes):
    with pytest.raises(ValueError) as caught:
        parse_config(changed(**changes))
    return str(caught.value)


def test_the_default_config_validates():
    config = parse_config(yaml.safe_load((REPOSITORY / "config.yaml").read_text()))
    assert config.experiment == "tiny"
    assert [benchmark.name for benchmark in config.problems.benchmarks] == ["sampled", "greedy"]


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "recipes").glob("*.yaml")), ids=lambda path: path.stem
)
def test_recipes_validate_on_top_of_it(path):
    from snakemake.utils import update_config

    raw = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    update_config(raw, yaml.safe_load(path.read_text()))
    update_config(raw, {"problems": {"path": "given.jsonl"}})
    config = parse_config(raw)
    assert config.experiment == path.stem.replace(".", "_")
    assert config.problems.path == "given.jsonl"


def test_the_smallest_config_validates():
    config = parse_config(RAW)
    assert config.methods == ("mpd",)
    assert config.seeds == (0,)


def test_a_word_that_yaml_reads_as_false():
    config = parse_config(changed(distill__mixed_precision=yaml.safe_load("no")))
    assert config.distill.mixed_precision == "no"


def test_a_dumped_config_validates_to_the_same():
    config = parse_config(RAW)
    assert parse_config(json.loads(config.model_dump_json())) == config


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("round", "config: round: unknown key; did you mean rounds?"),
        ("xyz", "config: xyz: unknown key"),
        ("sample__temprature", "config: sample.temprature: unknown key; did you mean temperature?"),
        ("chat__promt", "config: chat.promt: unknown key; did you mean prompt?"),
        ("distill__learning_rat", "config: distill.learning_rat: unknown key; did you mean "
         "learning_rate?"),
        ("models__dtyp", "config: models.dtyp: unknown key; did you mean dtype?"),
        ("models__student__num_step", "config: models.student.num_step: unknown key; "
         "did you mean num_steps?"),
        ("models__teacher__revision", "config: models.teacher.revision: unknown key"),
        ("problems__num_shard", "config: problems.num_shard: unknown key; did you mean "
         "num_shards?"),
        ("problems__train__colum", "config: problems.train.colum: unknown key"),
        ("problems__train__anwser", "config: problems.train.anwser: unknown key; did you mean "
         "answer?"),
        ("problems__benchmarks__1__temprature", "config: problems.benchmarks.1.temprature: "
         "unknown key; did you mean temperature?"),
        ("resources__sample__batchsize", "config: resources.sample.batchsize: unknown key; "
         "did you mean batch_size?"),
        ("resources__problems__gpu", "config: resources.problems.gpu: unknown key"),
        ("resources__filter__gpu", "config: resources.filter.gpu: unknown key"),
        ("resources__report__gpu", "config: resources.report.gpu: unknown key"),
        ("resources__report__threads", "config: resources.report.threads: unknown key"),
        ("resources__problems__threads", "config: resources.problems.threads: unknown key"),
        ("sample__engine_argument", "config: sample.engine_argument: unknown key; did you mean "
         "engine_arguments?"),
        ("resources__logits__server", "config: resources.logits.server: unknown key"),
        ("resources__samples", "config: resources.samples: unknown key; did you mean sample?"),
    ],
)  # fmt: skip
def test_unknown_key_is_refused(place, message):
    assert message_of(**{place: 1}) == message


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("experiment", "a/b", "String should match pattern '^[a-z0-9][a-z0-9_-]*$', found 'a/b'"),
        ("experiment", "", "String should match pattern '^[a-z0-9][a-z0-9_-]*$', found ''"),
        ("rounds", 0, "Input should be greater than or equal to 1, found 0"),
        ("rounds", 1.5, "Input should be a valid integer, got a number with a fractional part, "
         "found 1.5"),
        ("store", "fresh", "Input should be 'reuse' or 'refresh', found 'fresh'"),
        ("models__dtype", "float16", "Input should be 'float32' or 'bfloat16', found 'float16'"),
        ("chat__think", "yes", "Input should be 'tags' or 'none', found 'yes'"),
        ("problems__train__revision", "main", "String should match pattern '^[0-9a-f]{40}$', "
         "found 'main'"),
        ("experiment", "store", "results/store is the store; choose another name, found 'store'"),
        ("seeds", [0, 3, 0], "0 is given twice; remove one, found [0, 3, 0]"),
        ("methods", ["mpd", "mpd"], "mpd is given twice; remove one, found ['mpd', 'mpd']"),
        ("sample__trajectories", "own.json", r"String should match pattern '\.(jsonl|parquet)$', "
         "found 'own.json'"),
        ("problems__num_dev", 0, "Input should be greater than or equal to 1, found 0"),
        ("problems__train__form", "box", "Input should be 'auto', 'plain', 'hash' or 'boxed', "
         "found 'box'"),
        ("problems__benchmarks__0__name", "A", "String should match pattern "
         "'^[a-z0-9][a-z0-9_-]*$', found 'A'"),
        ("problems__benchmarks__1__temperature", -1, "Input should be greater than or equal to 0, "
         "found -1"),
        ("sample__temperature", -0.1, "Input should be greater than or equal to 0, found -0.1"),
        ("sample__top_p", 0, "Input should be greater than 0, found 0"),
        ("sample__top_p", 1.01, "Input should be less than or equal to 1, found 1.01"),
        ("sample__top_k", -1, "Input should be greater than or equal to 0, found -1"),
        ("sample__max_new_tokens", 0, "Input should be greater than or equal to 1, found 0"),
        ("compress__num_samples", 0, "Input should be greater than or equal to 1, found 0"),
        ("filter__max_ratio", 0, "Input should be greater than 0, found 0"),
        ("filter__max_overlap", 1.1, "Input should be less than or equal to 1, found 1.1"),
        ("logits__top_k", 0, "Input should be greater than or equal to 1, found 0"),
        ("distill__learning_rate", 0, "Input should be greater than 0, found 0"),
        ("distill__learning_rate", "high", "Input should be a valid number, unable to parse string "
         "as a number, found 'high'"),
        ("distill__round_decay", 1.1, "Input should be less than or equal to 1, found 1.1"),
        ("distill__warmup", -0.1, "Input should be greater than or equal to 0, found -0.1"),
        ("report__max_accuracy_drop", 2, "Input should be less than or equal to 1, found 2"),
        ("resources__distill__num_processes", 0, "Input should be greater than or equal to 1, "
         "found 0"),
        ("resources__sample__gpu", -1, "Input should be greater than or equal to 0, found -1"),
        ("resources__distill__gradient_checkpointing", "none", "Input should be 'auto', True or "
         "False, found 'none'"),
        ("resources__logits__batch_tokens", 0, "Input should be greater than or equal to 1, "
         "found 0"),
        ("resources__logits__kernels", False, "Input should be 'auto' or 'none', found False"),
    ],
)  # fmt: skip
def test_value_out_of_range_is_refused(place, value, message):
    assert message_of(**{place: value}) == f"config: {place.replace('__', '.')}: {message}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"seeds": [0, -1]},
            "config: seeds.1: Input should be greater than or equal to 0, found -1",
        ),
        (
            {"distill__betas": [0.9, 1.0]},
            "config: distill.betas.1: Input should be less than 1, found 1.0",
        ),
        (
            {"distill__betas": [-0.1, 0.95]},
            "config: distill.betas.0: Input should be greater than or equal to 0, found -0.1",
        ),
    ],
)
def test_entry_of_a_list_is_refused(changes, message):
    assert message_of(**changes) == message


@pytest.mark.parametrize("key", ["seeds", "methods"])
def test_no_branch_is_refused(key):
    assert message_of(**{key: []}).startswith(f"config: {key}: Tuple should have at least 1 item")


@pytest.mark.parametrize(
    "place",
    [
        "experiment",
        "models",
        "models__student",
        "problems",
        "problems__train",
        "problems__num_dev",
        "problems__benchmarks__0__name",
        "sample",
        "compress",
        "compress__prompt",
        "distill",
        "distill__learning_rate",
        "evaluate",
    ],
)
def test_required_key(place):
    message = message_of(**{place: DELETE})
    assert message == f"config: {place.replace('__', '.')}: this key is required"


def test_every_mistake_has_its_line():
    assert message_of(round=1, sample__top_p=2, evaluate=DELETE).splitlines() == [
        "config: sample.top_p: Input should be less than or equal to 1, found 2",
        "config: evaluate: this key is required",
        "config: round: unknown key; did you mean rounds?",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problems__benchmarks__1__name": "one"},
         "config: problems: benchmark one is given twice; give it another name"),
        ({"problems__benchmarks__1__name": "dev"},
         "config: problems: benchmark dev: this name is reserved for the development split; "
         "choose another"),
        ({"problems__path": DELETE},
         "config: problems: train has no path; set its path, or problems.path for all"),
        ({"problems__train__path": "a", "problems__path": DELETE,
          "problems__benchmarks__0__path": DELETE},
         "config: problems: one has no path; set its path, or problems.path for all"),
        ({"problems__train__num_problems": 5},
         "config: problems: train.num_problems is for source: tiny and reasoning_gym; set it "
         "to null and use num_train"),
        ({"problems__train": {"source": "tiny"}},
         "config: problems.train: source: tiny needs num_problems"),
        ({"problems__benchmarks__1__num_problems": DELETE},
         "config: problems.benchmarks.1: source: tiny needs num_problems"),
        ({"problems__train": {"source": "hub", "path": "openai/gsm8k"}},
         "config: problems.train: source: hub needs revision, a commit hash"),
        ({"models__student": {"source": "hub", "path": "a/b"}},
         "config: models.student.revision: this key is required"),
        ({"models__student": {"source": "hub", "path": "a/b", "revision": "main"}},
         "config: models.student.revision: String should match pattern '^[0-9a-f]{40}$', "
         "found 'main'"),
        ({"chat__prompt": "Solve it."}, "config: chat: prompt must contain {problem}"),
        ({"chat__date": "31.1.2025"},
         "config: chat.date: String should match pattern '^\\d{4}-\\d\\d-\\d\\d$', found "
         "'31.1.2025'"),
        ({"chat__date": "2025-02-30"},
         "config: chat.date: day is out of range for month, found '2025-02-30'"),
        ({"chat__close": " \n"},
         "config: chat: think: tags needs a close tag; set close, or think: none"),
        ({"chat__thinking": False},
         "config: chat: thinking: false with think: tags: completions then have no close tag, and "
         "no answer would be found; set think: none"),
        ({"filter__min_ratio": 0.6, "filter__max_ratio": 0.5},
         "config: filter: min_ratio 0.6 is above max_ratio 0.5, so that nothing could be kept; "
         "lower min_ratio"),
        ({"compress__prompt": "{problem}"},
         "config: compress: prompt must contain {trajectory}"),
        ({"compress__prompt": "{trajectory}"}, "config: compress: prompt must contain {problem}"),
        *(
            ({f"{stage}__engine_arguments": {"seed": 1}, f"{stage}__engine": engine},
             f"config: {stage}: engine_arguments are for vLLM; set engine: vllm, or remove them")
            for stage, engine in [("sample", "transformers"), ("evaluate", "server")]
        ),
        ({"sample__engine_arguments": {"seed": 2**32}, "sample__engine": "vllm"},
         "config: sample: engine_arguments: seed 4294967296 must be from 0 to 4294967295"),
        ({"sample__engine_arguments": {"hf_token": "hf_secret"}, "sample__engine": "vllm"},
         "config: sample: engine_arguments: hf_token would be written beside every result; set "
         "HF_TOKEN in the environment instead"),
        ({"resources__shards_per_job": 100},
         "config: resources.shards_per_job is 100; set it to 1 or 10"),
        ({"resources__shards_per_job": 10, "problems__num_shards": 25},
         "config: problems.num_shards is 25, no multiple of resources.shards_per_job (10): change "
         "one of them"),
        ({"compress__engine": "server"},
         "config: compress.engine is server: set resources.compress.server to its base URL"),
        ({"compress__engine": "server", "resources__sample__server": "http://node:8000/v1"},
         "config: compress.engine is server: set resources.compress.server to its base URL"),
        ({"sample__engine": "vllm", "resources__sample": {"gpu": 1, "tensor_parallel_size": 2}},
         "config: resources.sample.gpu is 1, but tensor_parallel_size times data_parallel_size is "
         "2; make them equal"),
        ({"evaluate__engine": "vllm", "resources__evaluate": {
            "gpu": 4, "tensor_parallel_size": 2, "data_parallel_size": 4}},
         "config: resources.evaluate.gpu is 4, but tensor_parallel_size times data_parallel_size "
         "is 8; make them equal"),
        *(
            ({"resources__distill": {"gpu": gpu, "num_processes": count}},
             f"config: resources.distill.gpu is {gpu}, but num_processes is {count}, and each "
             "process takes one GPU; make them equal")
            for gpu, count in [(1, 8), (2, 1)]
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(changes, message):
    assert message_of(**changes) == message


@pytest.mark.parametrize(
    "changes",
    [
        {"sample__engine": "vllm", "sample__engine_arguments": {"quantization": "fp8"}},
        {"sample__engine": "vllm", "resources__sample": {
            "gpu": 8, "tensor_parallel_size": 2, "data_parallel_size": 4}},
        # Without a GPU the processor does the work of all of them.
        {"sample__engine": "vllm", "resources__sample": {"gpu": 0, "data_parallel_size": 2}},
        # The sizes are of vLLM alone.
        {"sample__engine": "transformers", "resources__sample": {
            "gpu": 1, "tensor_parallel_size": 2}},
        {"compress__engine": "server", "resources__compress__server": "http://node:8000/v1"},
    ],
)  # fmt: skip
def test_engines_that_can_run(changes):
    parse_config(changed(**changes))


def test_unknown_model_source_is_refused():
    message = message_of(models__student={"source": "ollama", "path": "a"})
    assert message == (
        "config: models.student: Input tag 'ollama' found using 'source' does not match any of "
        "the expected tags: 'tiny', 'folder', 'hub', 'gguf'"
    )


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_numbers_are_finite(value):
    assert "Input should be a finite number" in message_of(sample__temperature=value)


@pytest.mark.parametrize("key", ["seeds", "problems__seed"])
def test_seeds_are_below_32_bits(key):
    """NumPy and PyTorch's helpers take no larger one."""
    for seed in (2**32, 2**63, 10**30):
        value = [seed] if key == "seeds" else seed
        assert "should be less than 4294967296, found" in message_of(**{key: value})
    parse_config(changed(**{key: [2**32 - 1] if key == "seeds" else 2**32 - 1}))


def test_no_mapping_at_all_is_refused():
    with pytest.raises(ValueError, match="config: this is a section with keys of its own"):
        parse_config(None)


def test_problem_files(tmp_path):
    path = tmp_path / "problems.jsonl"
    assert problem_files(Source(source="hub", path="openai/gsm8k", revision=HASH)) == []
    assert problem_files(Source(source="tiny", num_problems=1)) == []
    fix = "fix the path of this problem source in the config"
    for state in ("no such file", "an empty file"):
        with pytest.raises(ValueError) as caught:
            problem_files(Source(path=str(path)))
        assert str(caught.value) == f"{path}: {state}; {fix}"
        path.touch()
    with pytest.raises(ValueError) as caught:
        problem_files(Source(path=str(tmp_path)))
    assert str(caught.value) == f"{tmp_path}: a folder, not a file; {fix}"
    path.write_text("{}")
    assert problem_files(Source(path=str(path))) == [path]


def test_model_files_of_a_folder(tmp_path):
    for name in ("missing", "empty"):
        folder = tmp_path / name
        with pytest.raises(ValueError) as caught:
            model_files(FolderModel(source="folder", path=str(folder)))
        assert str(caught.value) == (
            f"{folder}: not a model folder; give one with safetensors weights"
        )
        (tmp_path / "empty").mkdir(exist_ok=True)
    names = ["config.json", "model.safetensors", "chat_template.jinja", "vocab.txt", "spm.model"]
    for name in [*names, "manifest.json", "README.md"]:
        (tmp_path / "empty" / name).touch()
    files = model_files(FolderModel(source="folder", path=str(tmp_path / "empty")))
    assert {path.name for path in files} == set(names)
    assert {path.parent for path in files} == {tmp_path / "empty"}


def gguf(path):
    return GgufModel(source="gguf", path=str(path))


def test_model_files_of_gguf(tmp_path, monkeypatch):
    path = tmp_path / "model.gguf"
    with pytest.raises(ValueError) as caught:
        model_files(gguf(path))
    assert str(caught.value) == f"{path}: no such GGUF file; fix models.*.path"
    path.touch()
    assert model_files(gguf(path)) == [path]

    with pytest.raises(ValueError) as caught:
        model_files(gguf("package:no_such_package/model.gguf"))
    assert str(caught.value) == (
        "package:no_such_package/model.gguf: no such package; pip install no_such_package"
    )
    package = tmp_path / "packed_model"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('not to be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError) as caught:
        model_files(gguf("package:packed_model/model.gguf"))
    assert str(caught.value) == (f"{package / 'model.gguf'}: no such GGUF file; fix models.*.path")
    (package / "model.gguf").touch()
    files = model_files(gguf("package:packed_model/model.gguf"))
    assert files == [package / "model.gguf"]


def test_models_without_local_files():
    assert model_files(TinyModel(source="tiny")) == []
    assert model_files(HubModel(source="hub", path="a/b", revision=HASH)) == []


BRANCH = {"method": "mpd", "seed": 0}
JOBS = {
    "teacher": ("models", {"role": "teacher"}),
    "student": ("models", {"role": "student_seed_0"}),
    "problems": ("problems", {}),
    "one": ("benchmark_problems", {"benchmark": "one"}),
    "two": ("benchmark_problems", {"benchmark": "two"}),
    "sample 1": ("sample", {**BRANCH, "round": 1}),
    "sample 2": ("sample", {**BRANCH, "round": 2}),
    "compress": ("compress", BRANCH),
    "filter": ("filter", {"method": "mpd"}),
    "logits": ("logits", {"method": "mpd"}),
    "distill 1": ("distill", {**BRANCH, "round": 1}),
    "distill 2": ("distill", {**BRANCH, "round": 2}),
    "answers": ("answers", BRANCH),
    "evaluate": ("evaluate", {}),
    "report": ("report", {}),
}
SAMPLING = {"sample 1", "sample 2"}
READING = {"compress", "filter", "logits", "evaluate"}
DISTILL = {"distill 1", "distill 2"}
BUDGETED = {"answers", "evaluate", "report"}  # a limit of answers decides their budgets too


def settings_of(raw):
    config = parse_config(raw)
    return {name: text_of(config, rule, **wildcards) for name, (rule, wildcards) in JOBS.items()}


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({"experiment": "other"}, set()),
        ({"rounds": 5}, set()),
        ({"store": "refresh"}, set()),
        ({"seeds": [0, 1]}, set()),
        ({"models__student": {"source": "tiny", "num_steps": 9}}, {"student"}),
        ({"models__teacher": {"source": "gguf", "path": "a"}}, {"teacher"}),
        ({"models__dtype": "bfloat16"}, {*SAMPLING, "compress", "logits", "answers"}),
        ({"chat__prompt": "Q: {problem}"}, {*SAMPLING, "answers"}),
        ({"chat__think": "none"}, READING),
        ({"chat__open": "[think]"}, {"compress"}),
        ({"chat__close": "[/think]"}, READING),
        ({"chat__date": "2025-01-31"}, {*SAMPLING, "compress", "answers"}),
        ({"problems__path": "new.jsonl"}, {"problems"}),
        ({"problems__train__path": "new.jsonl"}, {"problems"}),
        ({"problems__train__form": "hash"}, {"problems"}),
        ({"problems__num_train": 5}, {"problems"}),
        ({"problems__num_dev": 5}, {"problems"}),
        ({"problems__num_shards": 2}, {"problems"}),
        ({"problems__seed": 1}, {"problems", "one", "two"}),
        ({"problems__benchmarks__0__path": "new.jsonl"}, {"one"}),
        ({"problems__benchmarks__0__question": "problem"}, {"one"}),
        ({"problems__benchmarks__1__num_problems": 6}, {"two"}),
        ({"problems__benchmarks__0__temperature": 0.1}, {"answers"}),
        ({"problems__benchmarks__0__num_samples": 4}, {"answers"}),
        ({"sample__temperature": 0.9}, SAMPLING),
        ({"sample__num_samples": 3}, SAMPLING),
        ({"sample__engine": "vllm"}, SAMPLING),
        ({"evaluate__engine": "vllm", "evaluate__engine_arguments": {"seed": 1}}, {"answers"}),
        ({"sample__trajectories": "own.parquet"}, {"sample 1", "report"}),
        ({"compress__prompt": "{problem} {trajectory} shorter"}, {"compress"}),
        ({"compress__thinking": True}, {"compress"}),
        ({"custom": [{"name": "mine", "like": "mpd"}]}, set()),
        ({"filter__max_ratio": 0.9}, {"filter"}),
        (row_of(axes={"kept": "all"}), {"filter"}),
        ({"logits__top_k": 5}, {"logits"}),
        (row_of(axes={"context": "rewriting"}), {"logits", "report"}),
        (row_of(axes={"divergence": "mix"}), DISTILL),
        (row_of(axes={"sampler": "teacher"}), {*SAMPLING, "compress", "report"}),
        (row_of(filter={"max_ratio": 0.9}), {"filter"}),
        ({"distill__learning_rate": 0.1}, DISTILL),
        ({"distill__round_decay": 0.5}, {"distill 2"}),
        ({"distill__epochs": 2}, DISTILL),
        ({"distill__min_kept": 2}, DISTILL),  # a gate: it is visited, but nothing trained
        ({"evaluate__temperature": 0.5}, {"answers"}),
        ({"evaluate__max_new_tokens": 9}, BUDGETED),
        ({"problems__benchmarks__0__max_new_tokens": 9}, BUDGETED),
        ({"report__max_accuracy_drop": 0.1}, {"report"}),
        *(
            ({f"resources__{stage}__{key}": 7}, set())
            for stage, key in [
                ("models", "threads"),
                ("problems", "memory_mb"),
                ("sample", "batch_size"),
                ("compress", "rows_per_part"),
                ("compress", "tensor_parallel_size"),
                ("compress", "max_model_len"),
                ("filter", "threads"),
                ("logits", "chunk_size"),
                ("distill", "micro_batch_size"),
                ("distill", "checkpoint_steps"),
                ("evaluate", "gpu"),
                ("grading", "threads"),
                ("report", "memory_mb"),
            ]
        ),
    ],
    # A set prints in another order in each process.
    ids=lambda value: str(value if isinstance(value, dict) else sorted(value)),
)
def test_an_edit_changes_the_settings_of_exactly_the_stages_it_means(changes, stages):
    before, after = settings_of(RAW), settings_of(changed(**changes))
    assert {name for name in JOBS if before[name] != after[name]} == stages


def of_stage(config, stage, method, round=1):
    """The settings of a branch."""
    return json.loads(text_of(config, stage, method=method, round=round, seed=0))


@pytest.mark.parametrize(
    ("stage", "one", "other", "shared"),
    [
        # What is the same has the same settings, so that the store computes it once.
        ("sample", "mpd", "opd", True),
        ("sample", "mpd", "trd", True),
        ("sample", "off_policy", "sft", True),
        ("sample", "mpd", "sft", False),
        ("compress", "mpd", "sft_rewrites", True),
        ("compress", "mpd", "trd", False),
        ("compress", "opd", "opsdc", True),
        ("filter", "mpd", "sft_rewrites", True),
        ("filter", "mpd", "opd", False),
        ("logits", "mpd", "sft_rewrites", True),
        ("logits", "mpd", "opd", True),  # the rows are others
        ("logits", "opd", "opsdc", False),
        ("distill", "mpd", "opd", True),
        ("distill", "mpd", "sft_rewrites", False),
        ("answers", "mpd", "opd", True),
        ("answers", "base", "mpd", True),
        ("answers", "base", "prompt_only", False),
    ],
)
def test_what_methods_share_is_one_artifact(stage, one, other, shared):
    config = parse_config(changed(methods=ANYWHERE))
    job = {"round": 1, "seed": 0}
    first, second = (
        stage_settings(config, stage, method=method, **job).meaning() for method in (one, other)
    )
    assert (first == second) == shared


def test_the_grid():
    """The table of methods.md, axis by axis."""
    rows = {name: tuple(method.model_dump().values()) for name, method in METHODS.items()}
    student, teacher = "student", "teacher"
    assert rows == {
        "mpd": (*(True, student, teacher, "rewrite", "correct", teacher, "problem", "reverse_kl"),),
        "opd": (True, student, "none", "rewrite", "all", teacher, "problem", "reverse_kl"),
        "off_policy": (
            *(True, teacher, "none", "rewrite", "correct", teacher, "problem", "forward_kl"),
        ),
        "sft": (
            *(True, teacher, "none", "rewrite", "correct", teacher, "problem", "cross_entropy"),
        ),
        "sft_rewrites": (
            *(True, student, teacher, "rewrite", "correct", teacher, "problem", "cross_entropy"),
        ),
        "trd": (True, student, teacher, "refine", "all", teacher, "rewriting", "forward_kl"),
        "opsdc": (True, student, "none", "rewrite", "all", student, "concise", "reverse_kl"),
        "copsd": (
            *(True, student, "none", "rewrite", "all", "base", "solution", "clamped_forward_kl"),
        ),
        "semi_opd": (True, "base", "none", "rewrite", "all", teacher, "problem", "policy_gradient"),
        "reopold": (
            *(True, student, "none", "rewrite", "all", teacher, "problem"),
            "relaxed_policy_gradient",
        ),
        "fixed_advantage": (
            *(True, student, "none", "rewrite", "all", teacher, "problem", "fixed_advantage"),
        ),
        "drpc": (
            *(True, student, teacher, "structure", "correct", teacher, "problem", "cross_entropy"),
        ),
        "prompt_only": (
            *(False, student, "none", "rewrite", "correct", teacher, "problem", "reverse_kl"),
        ),
    }


def test_what_copsd_is_made_of_reaches_its_stages():
    config = parse_config(changed(**COPSD, chat__solution="{problem} {original} {solution}"))
    scores = of_stage(config, "logits", "copsd")
    assert (scores["context"], scores["prompt"]) == ("solution", "{problem} {original} {solution}")
    assert of_stage(config, "distill", "copsd")["max_entry"] == 0.05
    assert "max_entry" not in of_stage(parse_config(changed()), "distill", "mpd")
    train = stage_settings(config, "problems").train
    assert train.references == {"original": "first", "solution": "steps"}
    plain = stage_settings(parse_config(changed()), "problems").model_dump(mode="json")["train"]
    assert not {"original", "solution"} & set(plain)


def test_each_axis_reaches_its_stage():
    raw = changed(methods=ANYWHERE, chat__concise="{problem} concise")
    raw["compress"]["refine"] = "{problem} {trajectory} refine"
    config = parse_config(raw)
    assert of_stage(config, "compress", "trd")["prompt"] == "{problem} {trajectory} refine"
    assert "refine" not in of_stage(config, "compress", "trd")
    assert of_stage(config, "logits", "trd")["prompt"] == "{problem} {trajectory} refine"
    assert of_stage(config, "logits", "opsdc")["prompt"] == "{problem} concise"
    assert of_stage(config, "logits", "opsdc")["context"] == "concise"
    assert "prompt" not in of_stage(config, "logits", "mpd")
    assert of_stage(config, "filter", "opsdc")["kept"] == "all"
    assert of_stage(config, "filter", "opsdc")["rewriter"] == "none"
    assert of_stage(config, "distill", "trd")["divergence"] == "forward_kl"
    assert of_stage(config, "answers", "prompt_only")["chat"]["prompt"] == "{problem} concise"
    assert of_stage(config, "sample", "sft", 2)["seed"] == "0.2"
    assert of_stage(config, "sample", "mpd", 2)["seed"] == 0


CUSTOM = {
    "name": "mine",
    "like": "mpd",
    "axes": {"kept": "all", "context": "rewriting", "divergence": "forward_kl"},
    "logits": {"support": "teacher", "top_k": 8},
    "distill": {"tail": "truncated"},
}


def test_a_custom_row_is_a_method_with_changes():
    config = parse_config(changed(methods=["mpd", "mine"], custom=[CUSTOM]))
    settings = of_stage(config, "logits", "mine")
    values = [settings[key] for key in ("support", "top_k", "context")]
    assert values == ["teacher", 8, "rewriting"]
    assert of_stage(config, "filter", "mine")["kept"] == "all"
    assert of_stage(config, "distill", "mine")["divergence"] == "forward_kl"
    assert of_stage(config, "distill", "mine")["tail"] == "truncated"
    plain = parse_config(RAW)
    for stage in ("sample", "compress", "filter", "logits", "distill", "answers"):
        assert of_stage(config, stage, "mpd") == of_stage(plain, stage, "mpd")


def test_a_custom_row_may_take_the_name_of_its_method():
    row = {"name": "opd", "like": "opd", "distill": {"learning_rate": 0.5}}
    config = parse_config(changed(methods=["mpd", "opd"], custom=[row]))
    assert of_stage(config, "distill", "opd")["learning_rate"] == 0.5
    assert of_stage(config, "distill", "mpd")["learning_rate"] == 0.001
    assert config.branches["opd"].method == METHODS["opd"]


def test_methods_that_train_and_those_that_only_evaluate():
    row = {"name": "also", "like": "prompt_only"}
    config = parse_config(changed(methods=["also", "opd", "prompt_only", "mpd"], custom=[row]))
    assert config.trained_methods == ["opd", "mpd"]
    assert config.untrained_methods == ["base", "also", "prompt_only"]
    assert parse_config(RAW).untrained_methods == ["base"]


def test_every_student_answers_the_development_split_and_the_benchmarks():
    assert parse_config(RAW).evaluation_sets == ["dev", "one", "two"]
    assert parse_config(changed(problems__benchmarks=[])).evaluation_sets == ["dev"]


def test_a_bank_is_of_later_rounds_and_of_structural_rationales():
    embedder = {"source": "folder", "path": "a"}
    with_bank = {"compress__bank": {"flush": 5}, "models__embedder": embedder}
    config = parse_config(changed(methods=["mpd", "drpc"], **with_bank))
    assert config.branches["mpd"].bank is None
    keys = {"method": "drpc", "seed": 0}
    assert json.loads(text_of(config, "bank", **keys, round=2)) == {
        "eps": 0.25,
        "dimensions": 5,
        "near_duplicate": 0.9,
        "flush": 5,
    }
    without = parse_config(changed(methods=["mpd", "drpc"]))
    for place in (
        {**keys, "round": 1},
        {"method": "mpd", "seed": 0, "round": 1},
        {"method": "mpd", "seed": 0, "round": 2},
    ):
        assert text_of(config, "compress", **place) == text_of(without, "compress", **place)
    later = json.loads(text_of(config, "compress", **keys, round=2))
    assert later.pop("route").startswith("{problem}\n\nSolve this problem along")
    assert later == json.loads(text_of(without, "compress", **keys, round=2))
    assert json.loads(text_of(config, "models", role="embedder")) == {**embedder, "embeds": True}
    with pytest.raises(ValueError, match=r"models\.embedder: null; set it"):
        without.models.source_of("embedder")


@pytest.mark.parametrize("role", ["student_seed_0", "student_seed_12", "teacher"])
def test_the_source_of_a_role(role):
    config = parse_config(changed(models__teacher={"source": "folder", "path": "a"}))
    expected = "folder" if role == "teacher" else "tiny"
    assert config.models.source_of(role).source == expected


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"methods": ["opq"]}, "methods: opq is not a method; methods are mpd, opd, off_policy"),
        ({"methods": ["prompt_only"]}, "methods: none of these trains a student; add mpd"),
        ({"methods": ["mpd", "mpd"]}, "mpd is given twice"),
        ({"custom": [{**CUSTOM, "name": "base"}]}, "name: base is the untrained student"),
        ({"custom": [{**CUSTOM, "like": "mp"}]}, "like: mp is not a method; methods are mpd"),
        ({"custom": [{**CUSTOM, "name": "opd"}]}, "name: opd is another method than mpd"),
        ({"custom": [{**CUSTOM, "axes": {"keep": "all"}}]}, "axes: keep is not an axis"),
        (
            {"custom": [{**CUSTOM, "axes": {"kept": "some"}}]},
            "config: custom row mine: axes.kept: Input should be 'correct', 'incorrect' or 'all', "
            "found 'some'",
        ),
        (
            {"custom": [{**CUSTOM, "logits": {"top_kk": 1}}]},
            "config: custom row mine: logits.top_kk: unknown key; did you mean top_k?",
        ),
        (
            {"custom": [{**CUSTOM, "filter": {"kept": "all"}}]},
            "config: custom.0: filter.kept is an axis of the method; set it in axes",
        ),
        (
            {"custom": [{**CUSTOM, "compress": {"engine": "vllm"}}]},
            "compress.engine is for all rows; set it in compress",
        ),
        (
            {"custom": [{**CUSTOM, "sample": {"trajectories": "own.jsonl"}}]},
            "sample.trajectories is for all rows; set it in sample",
        ),
        ({"custom": [CUSTOM, {**CUSTOM, "like": "opd"}]}, "two rows have the name mine"),
        (
            {"custom": [{**CUSTOM, "axes": {"rewriter": "none", "context": "rewriting"}}]},
            "context: rewriting needs a rewriter",
        ),
        ({"custom": [{**CUSTOM, "axes": {"scorer": "student"}}]}, "who rewrote has to score"),
        (
            {"filter__kept": "all"},
            "config: filter: kept is an axis of the method; instead of this key, write custom: "
            "[{name: mpd, like: mpd, axes: {kept: all}}]",
        ),
        (
            {"logits__context": "concise"},
            "config: logits: context is an axis of the method; instead of this key, write custom: "
            "[{name: mpd, like: mpd, axes: {context: concise}}]",
        ),
        (
            {"distill__divergence": None},
            "config: distill: divergence: null has no effect, the method sets this axis; "
            "remove this key",
        ),
        (
            {"methods": ["opsdc"], "logits__cache": "hidden"},
            "in opsdc the student scores",
        ),
        (
            {
                **COPSD,
                "custom": [{"name": "copsd", "like": "copsd", "logits": {"cache": "sparse"}}],
            },
            "has sums of them; set logits.cache: hidden",
        ),
        (
            {**COPSD, "logits": {"engine": "vllm", "support": "teacher", "tail_buckets": 1}},
            "copsd needs hidden states, which logits.engine: vllm does not give",
        ),
        (
            {**COPSD, "problems__train": {"solution": "steps"}},
            "chat.solution, which contains {original}: set problems.train.original to the column",
        ),
        (
            {**COPSD, "problems__train": {}, "chat__solution": "{problem} {solution}"},
            "chat.solution, which contains {solution}: set problems.train.solution to the column",
        ),
        ({**COPSD, "problems__train": {"original": "first"}}, "scorer sees a solution; set"),
        (
            {"problems__train": {**MADE, "solution": "steps"}},
            "source: reasoning_gym has no reference solutions; remove solution",
        ),
        ({"chat__solution": "{problem}"}, "solution must contain {solution}"),
        (
            {**row_of(axes={"scorer": "base"})},
            "scorer: base with rewriter: teacher: who rewrote has to score",
        ),
        (
            {"methods": ["sft"], "sample__trajectories": "own.jsonl"},
            "in sft the teacher samples",
        ),
        (
            {"methods": ["sft"], "distill__tail": "truncated"},
            "cross_entropy has neither temperature nor tail",
        ),
        (
            {"methods": ["mpd", "drpc"], "compress__bank": {}},
            "compress.bank: drpc needs a model that embeds questions and intents; set "
            "models.embedder, or bank: null",
        ),
        (
            {
                "models__embedder": {"source": "folder", "path": "a"},
                **row_of(
                    axes={"instruction": "structure", "context": "rewriting"},
                    compress={"bank": {}},
                ),
            },
            "compress.bank: in mpd the scorer sees the rewriting prompt, which differs by route",
        ),
        (
            {
                "models__embedder": {"source": "folder", "path": "a"},
                "custom": [{"name": "other", "like": "drpc", "axes": {"sampler": "base"}}],
                "methods": ["other"],
                "compress__bank": {},
            },
            "compress.bank: in other the base student's trajectories serve every round, but a bank "
            "gives each round other prompts; set sampler: student, or bank: null",
        ),
        ({"compress__bank": True}, "bank: this is a section with keys of its own, found True"),
        ({"models__embedder": {"source": "tiny"}}, "models.embedder"),
        ({"distill__budget": "steps"}, "budget: steps needs an amount"),
        ({"distill__amount": 5}, "budget: epochs has no amount"),
    ],
    ids=str,
)
def test_rows_that_cannot_be_are_refused(changes, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        parse_config(changed(**changes))


def test_every_section_stands_in_that_table():
    table = test_an_edit_changes_the_settings_of_exactly_the_stages_it_means.pytestmark[0]
    edited = {place.split("__")[0] for changes, _ in table.args[1] for place in changes}
    assert edited | {"methods"} == set(Config.model_fields)  # tested above, row by row


def stages_changed(base, **changes):
    before, after = settings_of(changed(**base)), settings_of(changed(**base, **changes))
    return {name for name in JOBS if before[name] != after[name]}


def test_thinking_counts_where_a_prompt_is_rendered():
    plain = {"chat__think": "none"}
    rendering = {*SAMPLING, "answers"}
    assert stages_changed(plain, chat__thinking=False) == rendering
    informed = {**plain, **row_of(axes={"context": "rewriting"})}
    assert stages_changed(informed, chat__thinking=False) == {*rendering, "logits"}


def test_the_date_counts_where_a_prompt_is_rendered():
    day = {"chat__date": "2025-01-31"}
    informed = row_of(axes={"context": "rewriting"})
    assert stages_changed(informed, **day) == {*SAMPLING, "compress", "logits", "answers"}
    given = {"sample__trajectories": "own.jsonl"}
    assert stages_changed(given, **day) == {*SAMPLING, "compress", "answers"}
    config = parse_config(changed(methods=["opd"], **day))
    assert of_stage(config, "sample", "opd")["chat"]["date"] == "2025-01-31"
    assert "date" not in of_stage(config, "compress", "opd")["chat"]  # it asks no teacher


@pytest.mark.parametrize("stage", ["sample", "compress", "logits", "answers"])
def test_without_a_date_the_settings_have_none(stage):
    config = parse_config(changed(chat__date=None, **row_of(axes={"context": "rewriting"})))
    assert "date" not in of_stage(config, stage, "mpd")["chat"]


def test_what_the_answer_stands_behind():
    assert parse_config(changed()).chat.delimiter == "</think>"
    assert parse_config(changed(chat__think="none")).chat.delimiter is None


@pytest.mark.parametrize("text", ["2025-01-31", "'2025-01-31'"])
def test_a_date_in_yaml_needs_no_quotes(text):
    config = parse_config(changed(chat__date=yaml.safe_load(text)))
    assert config.chat.date == "2025-01-31"


def test_of_given_trajectories_the_format_counts_and_no_decoding():
    given = {"sample__trajectories": "own.jsonl"}
    assert stages_changed(given, sample__temperature=0.5) == {"sample 2"}
    assert stages_changed(given, models__dtype="bfloat16") & SAMPLING == {"sample 2"}
    assert stages_changed(given, chat__open="[think]") == {"sample 1", "compress"}
    config = parse_config(changed(**given))
    seeds = {text_of(config, "sample", method="mpd", round=1, seed=seed) for seed in (0, 1)}
    assert len(seeds) == 1


def test_rewriting_prompt_counts_for_the_scorer_only_where_it_sees_it():
    shorter = {"compress__prompt": "{problem} {trajectory} shorter"}
    informed = row_of(axes={"context": "rewriting"})
    assert stages_changed(informed, **shorter) == {"compress", "logits"}


def test_a_new_benchmark_changes_no_training_problems():
    raw = copy.deepcopy(RAW)
    raw["problems"]["benchmarks"].append({"name": "three", "source": "file"})
    before, after = settings_of(RAW), settings_of(raw)
    changed = {name for name in JOBS if before[name] != after[name]}
    assert changed == {"answers", "evaluate", "report"}


def test_settings_are_json_with_sorted_keys():
    for name, text in settings_of(RAW).items():
        assert json.dumps(json.loads(text), sort_keys=True) == text, name


def test_seed_of_models():
    config = parse_config(RAW)
    student = json.loads(text_of(config, "models", role="student_seed_3"))
    teacher = json.loads(text_of(config, "models", role="teacher"))
    assert student == {"source": "tiny", "num_steps": None, "role": "student", "seed": 3}
    second = {"pretraining": 2}  # version of what this role learns, where it is not the first
    assert teacher == {"source": "tiny", "num_steps": None, "role": "teacher", "seed": 0, **second}
    with pytest.raises(ValueError, match="this code pretrains version 2; remove the key"):
        TinySettings(source="tiny", role="teacher", pretraining=1)
    config = parse_config(changed(models__student={"source": "folder", "path": "a"}))
    roles = ("student_seed_0", "student_seed_3")
    settings = {text_of(config, "models", role=role) for role in roles}
    assert settings == {'{"path": "a", "source": "folder"}'}


def test_learning_rate_of_each_round():
    config = parse_config(changed(distill__round_decay=0.5))
    rates = [
        json.loads(text_of(config, "distill", **BRANCH, round=round))["learning_rate"]
        for round in (1, 2, 3)
    ]
    assert rates == [0.001, 0.0005, 0.00025]
    settings = json.loads(text_of(config, "distill", **BRANCH, round=1))
    assert "round_decay" not in settings
    assert settings["divergence"] == "reverse_kl"


def test_decoding_of_each_benchmark():
    config = parse_config(
        changed(evaluate__max_new_tokens=9, problems__benchmarks__0__num_samples=4)
    )
    common = {
        "num_samples": 1,
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 20,
        "max_new_tokens": 9,
    }
    assert json.loads(text_of(config, "answers", **BRANCH))["benchmarks"] == {
        "dev": common,
        "one": {**common, "num_samples": 4},
        "two": {**common, "temperature": 0.0},
    }
    assert json.loads(text_of(config, "evaluate")) == {
        "benchmarks": {name: {"max_new_tokens": 9} for name in ("dev", "one", "two")},
        "chat": {"think": "tags", "close": "\n</think>\n\n"},
    }


def test_problem_sources_take_the_common_path():
    config = parse_config(changed(problems__benchmarks__0__path=DELETE))
    assert json.loads(text_of(config, "benchmark_problems", benchmark="one"))["path"] == "all.jsonl"
    assert json.loads(text_of(config, "problems"))["train"]["path"] == "all.jsonl"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"distill__temperature": 2.0},
            "the tail of a sparse cache is only known at temperature 1",
        ),
        (
            {"logits__cache": "hidden", "distill__tail": "truncated"},
            "with logits.cache: hidden there is no tail",
        ),
        (
            {**row_of(axes={"divergence": "cross_entropy"}), "distill__tail": "truncated"},
            "cross_entropy has neither temperature nor tail",
        ),
        (
            row_of(axes={"divergence": "policy_gradient"}, logits={"cache": "sparse"}),
            "logits.cache is sparse, but rewards of divergence: policy_gradient",
        ),
        (row_of(logits={"cache": "realised"}), "logits.cache: realised has no distribution"),
        (
            {"methods": ["semi_opd"], "distill__temperature": 2.0, "logits__cache": "hidden"},
            "policy_gradient has neither temperature nor tail",
        ),
        (
            {"methods": ["reopold"], "distill__merge_stop_ids": True},
            "relaxed_policy_gradient takes completion ids as they are",
        ),
        (
            {"methods": ["reopold"], "sample__trajectories": "own.jsonl"},
            "distill.relaxed.importance_ratio needs trajectories that the student itself samples",
        ),
        (
            {"methods": ["semi_opd"], "sample__trajectories": "own.jsonl", "rounds": 2},
            "in semi_opd trajectories serve every round; set rounds: 1",
        ),
        (
            row_of(axes={"sampler": "base", "scorer": "student", "rewriter": "none"}),
            "student with sampler",
        ),
    ],
    ids=str,
)
def test_an_objective_that_the_cache_cannot_give_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        parse_config(changed(**changes))


def test_some_methods_have_a_cache_of_their_own():
    """Whatever the other methods have; the floor of the rewards is a setting of the stage."""
    for cache in ("sparse", "hidden"):
        methods = ["mpd", "semi_opd", "reopold", "fixed_advantage", "copsd"]
        changes = {"methods": methods, "rounds": 2, "logits__cache": cache}
        config = parse_config(changed(**{**COPSD, **changes}))
        kinds = [config.branches[name].logits.cache for name in methods]
        assert kinds == [cache, "realised", "realised", cache, "hidden"]
    place = {"method": "reopold", "seed": 0, "round": 1}
    settings = json.loads(text_of(config, "distill", **place))
    assert settings["reward_floor"] == pytest.approx(-0.8473, abs=1e-4)
    changes = {"distill__relaxed": {"floor": "scaled_log", "mixture": 0.1}}
    config = parse_config(changed(methods=["reopold"], **changes))
    settings = json.loads(text_of(config, "distill", **place))
    assert settings["reward_floor"] == pytest.approx(-2.5584, abs=1e-4)
