"""Rows that docs/methods.md describes, through the workflow: other teachers, and the hard world.

Models that are not pretrained print what a test wants (tests/printing.py).
"""

import copy
import json
import math
import re
import subprocess

import polars as pl
import pytest
import yaml

from mpd.store import schema, table
from mpd.store.model_folder import load_model, read_manifest
from mpd.tiny import pretrain
from mpd.tiny.solutions import problems
from mpd.tiny.tokenizer import build_tokenizer
from mpd.tiny.worlds import WORLDS
from tests.printing import chain, printing
from tests.workflow.project import ENVIRONMENT, REPOSITORY, Project, merged
from tests.workflow.test_references import clamped_loss, whole_logprobs

QUESTIONS = ("1+3", "3+1", "2+2", "5-1", "6-2", "1+1+2", "2+1+1", "3+2-1", "6-1-1", "1+4-1")
BOX = r"\boxed{4}"  # the answer to each of them
SMALL = {
    "rounds": 1,
    "problems": {
        "train": {"source": "file", "path": "train.jsonl", "form": "plain", "num_problems": None},
        "num_train": 8,
        "num_dev": 2,
        "benchmarks": [],
    },
    "sample": {"temperature": 0.7, "max_new_tokens": 64},
    "compress": {"temperature": 0.7},
    "evaluate": {"max_new_tokens": 48},
    # All rows are in the only step.
    "distill": {"learning_rate": 1e-3, "budget": "steps", "amount": 1, "batch_size": 64},
}


def cut(tokenizer, *texts):
    """The ids of texts that follow each other."""
    return [token for text in texts for token in tokenizer(text).input_ids]


@pytest.fixture(scope="module")
def project(tmp_path_factory, write_model, tokenizer):
    """A project with the problems of QUESTIONS and a verbose student, which all runs share."""
    folder = tmp_path_factory.mktemp("documented_rows")
    lines = [json.dumps({"question": question, "answer": "4"}) for question in QUESTIONS]
    (folder / "train.jsonl").write_text("\n".join(lines))
    text = ("<think>", "So the question is 1+3. Wait, verify all", "</think>", BOX, "<|im_end|>")
    successors = chain(cut(tokenizer, "\n", *text), cut(tokenizer, "all", ". ", "Wait"))
    edit = printing(successors, [tokenizer.eos_token_id])
    write_model(folder / "student", 1, edit=edit)
    return Project(folder, SMALL)


def models(folder, teacher):
    """The models of a run: the student, and a teacher of this name."""
    folders = {"student": folder / "student", "teacher": folder / teacher}
    return {role: {"source": "folder", "path": str(path)} for role, path in folders.items()}


class Results:
    """The results of a run that went to its report on one core."""

    def __init__(self, project, experiment, **changes):
        project.run("--cores", "1", experiment=experiment, **changes)
        self.folder = project.folder / "results" / experiment
        assert (self.folder / "report.html").read_text().startswith("<!doctype html>")

    def path(self, method, stage):
        place = self.folder / method / "seed_0" / "round_1" / stage
        return place / ("metrics.parquet" if stage == "student" else "shard_0.parquet")

    def rows(self, method, stage):
        return table.read(self.path(method, stage), getattr(schema, stage.upper()))

    def metrics(self, method):
        """Those of every step."""
        return table.read(self.path(method, "student"), schema.METRICS).to_dicts()

    def scorer(self, method):
        return table.check(self.path(method, "logits"), schema.LOGITS)["identity"]["teacher"]

    def digest(self, role):
        return read_manifest(self.folder / "models" / role / "manifest.json")["digest"]

    def methods(self):
        return set(pl.read_parquet(self.folder / "summary.parquet")["method"])


class TestATeacherWithAnotherTokenizer:
    """Trained ids are those of the student's tokenizer for the teacher's text."""

    @pytest.fixture(scope="class")
    def theirs(self, qwen_tokenizer):
        """The teacher's tokenizer, whose prompts open the thinking or end in a new line."""
        theirs = copy.deepcopy(qwen_tokenizer)
        theirs.chat_template = (
            "{%- for message in messages -%}{{- message.content + '<|im_end|>' -}}{%- endfor -%}"
            "{{- '<think>' if enable_thinking else '<think></think>\\n' -}}"
        )
        return theirs

    @pytest.fixture(scope="class")
    def both(self, project, write_model, theirs):
        """The student has no word `numbers`, and the teacher may write it."""
        end = ("1+3", "</think>", BOX, "<|im_end|>")
        successors = chain(
            cut(theirs, "<think>", "So the answer is ", *end),
            cut(theirs, "\n", *end),
            cut(theirs, "\n", "So the numbers is ", *end),
        )
        edit = printing(successors, [theirs.eos_token_id])
        folder = project.folder / "pieces"
        write_model(folder, 2, vocabulary=theirs, context=1024, edit=edit)
        return models(project.folder, folder.name)

    def loss_of(self, results, rows):
        """The cross-entropy of the trained ids before training, by logits in float64."""
        model = load_model(results.folder / "models" / "student_seed_0", "float32").double()
        losses = []
        for row in rows.iter_rows(named=True):
            logprobs = whole_logprobs(model, row["prompt_ids"], row["completion_ids"])
            losses += [-logprobs[t, token].item() for t, token in enumerate(row["completion_ids"])]
        return sum(losses) / len(losses)

    def require_trained(self, results, method, texts, tokenizer):
        """Check that the student is trained on the ids of its tokenizer for these texts."""
        rows = results.rows(method, "logits")
        expected = [cut(tokenizer, text, "<|im_end|>") for text in texts]
        assert rows["completion_ids"].to_list() == expected
        for row in rows.iter_rows(named=True):
            prompt = tokenizer.decode(row["prompt_ids"])
            assert re.fullmatch(r"<\|im_start\|>user\n[\d+-]+<\|im_end\|>\n.*assistant\n", prompt)
            assert cut(tokenizer, prompt) == row["prompt_ids"]
        # The student scores itself.
        assert results.scorer(method) == results.digest("student_seed_0")
        assert rows["divergence"].explode().abs().max() < 1e-4
        (metrics,) = results.metrics(method)
        assert metrics["num_tokens"] == sum(map(len, expected))
        assert metrics["loss"] == pytest.approx(self.loss_of(results, rows), abs=1e-5)

    @pytest.mark.parametrize("student", ["folder", "tiny"])
    def test_a_method_that_compares_both_is_refused_before_anything_runs(
        self, project, both, student
    ):
        folders = [both[role]["path"] for role in ("student", "teacher")]
        if student == "tiny":
            both, folders[0] = {**both, "student": {"source": "tiny"}}, "the world chains"
        done = subprocess.run(
            project.command(experiment="refused", methods=["mpd"], models=both),
            cwd=project.folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 1
        assert (
            f"{' and '.join(folders)} have different token maps: the teacher cannot score the "
            "student's ids; choose models.student and models.teacher from one family\n"
        ) in printed
        assert "Traceback" not in printed
        assert not (project.folder / "results" / "refused").exists()

    def test_its_own_trajectories(self, project, both, tokenizer):
        results = Results(project, "pieces", methods=["sft"], models=both)
        text = f"<think>So the answer is 1+3</think>{BOX}"
        samples = results.rows("sft", "sample")
        assert len(samples) == 8
        assert set(samples.select("text", "finish_reason").rows()) == {
            (text, "stop"),
            ("", "lossy"),
        }
        identity = table.check(results.path("sft", "sample"), schema.SAMPLE)["identity"]
        assert identity["student"] == results.digest("teacher")
        is_whole = (samples["finish_reason"] == "stop").to_list()
        verdicts = results.rows("sft", "filter")
        assert verdicts["keep"].to_list() == is_whole
        assert verdicts["reason"].to_list() == [
            "kept" if whole else "sample_lossy" for whole in is_whole
        ]
        self.require_trained(results, "sft", [text] * sum(is_whole), tokenizer)
        assert results.methods() == {"base", "sft"}

    def test_its_rewrites(self, project, both, tokenizer, theirs):
        results = Results(project, "pieces", methods=["sft_rewrites"], models=both)
        samples = results.rows("sft_rewrites", "sample")
        assert all("Wait, verify all" in text for text in samples["text"])
        rows = results.rows("sft_rewrites", "compress")
        trained = {
            f"{reasoning}</think>{BOX}": text
            for reasoning, text in (
                ("1+3", f"<think>1+3</think>{BOX}"),
                ("So the answer is 1+3", f"<think>So the answer is 1+3</think>{BOX}"),
                ("So the numbers is 1+3", None),
            )
        }
        assert set(rows["rewrite"]) == set(trained)
        assert rows["rewrite_tokens"].to_list() == [
            len(cut(theirs, text, "<|im_end|>")) for text in rows["rewrite"]
        ]
        assert rows["text"].to_list() == [trained[text] for text in rows["rewrite"]]
        is_ok = rows["text"].is_not_null()
        assert rows["status"].to_list() == ["ok" if ok else "format" for ok in is_ok]
        assert results.rows("sft_rewrites", "filter")["keep"].to_list() == is_ok.to_list()
        texts = rows["text"].drop_nulls().to_list()
        self.require_trained(results, "sft_rewrites", texts, tokenizer)
        assert results.methods() == {"base", "sft_rewrites"}


class TestTheTextAfterTheTeachersThinking:
    """The custom row of docs/methods.md."""

    @pytest.fixture(scope="class")
    def row(self):
        text = (REPOSITORY / "docs/methods.md").read_text()
        (found,) = re.findall(r"is the row `(\{name: mpd-post-think, [^`]*\})`", text)
        return yaml.safe_load(found)

    @pytest.fixture(scope="class")
    def results(self, row, project, write_model, tokenizer):
        """Prompts of the teacher end with its role. It writes a solution, or only the answer."""
        theirs = copy.deepcopy(tokenizer)
        theirs.chat_template = theirs.chat_template.replace(r"assistant\n", "assistant")
        thinking = ("assistant", "<think>", "Let me verify all", "</think>")
        end = (BOX, "<|im_end|>")
        successors = chain(
            cut(theirs, *thinking, "So the answer is 1+3.", "\n", *end),
            cut(theirs, *thinking, *end),
        )
        edit = printing(successors, [theirs.eos_token_id])
        write_model(project.folder / "thinking", 3, vocabulary=theirs, edit=edit)
        both = models(project.folder, "thinking")
        return Results(project, "thinking", methods=[row["name"]], custom=[row], models=both)

    def test_it_is_what_is_trained_on(self, results, row, tokenizer):
        name = row["name"]
        rows = results.rows(name, "compress")
        thinking, solution = "<think>Let me verify all</think>", f"So the answer is 1+3.\n{BOX}"
        assert set(rows["rewrite"]) == {f"{thinking}{solution}", f"{thinking}{BOX}"}
        trained = f"<think>So the answer is 1+3.</think>{BOX}"
        is_solution = rows["rewrite"] == f"{thinking}{solution}"
        assert rows.select("status", "text").rows() == [
            ("ok", trained) if whole else ("format", None) for whole in is_solution
        ]
        assert results.rows(name, "filter")["keep"].to_list() == is_solution.to_list()
        cached = results.rows(name, "logits")
        ids = cut(tokenizer, trained, "<|im_end|>")
        assert cached["completion_ids"].to_list() == [ids] * is_solution.sum()
        assert results.scorer(name) == results.digest("teacher")
        (metrics,) = results.metrics(name)
        assert metrics["num_tokens"] == len(ids) * len(cached)
        divergence = cached["divergence"].explode().mean()
        assert metrics["loss"] == pytest.approx(divergence, rel=0.02)
        assert results.methods() == {"base", name}


class TestTheHardWorldInItsSecondLanguage:
    """recipes/hard-translated.yaml on few problems, with models that learnt little."""

    NAME = "copsd-lowest"

    @pytest.fixture(scope="class")
    def results(self, tmp_path_factory):
        recipe = yaml.safe_load((REPOSITORY / "recipes/hard-translated.yaml").read_text())
        (benchmark,) = recipe["problems"]["benchmarks"]
        few = {
            "methods": [self.NAME],
            "seeds": [0],
            "problems": {
                "train": {"num_problems": 8},
                "num_train": 4,
                "num_dev": 2,
                "benchmarks": [{**benchmark, "num_problems": 2}],
            },
            "sample": {"max_new_tokens": 24},
            "evaluate": {"max_new_tokens": 24},
            "distill": {"budget": "steps", "amount": 2},
        }
        student = recipe["models"]["student"]
        few["models"] = {"teacher": student}  # it has no part in the method
        project = Project(tmp_path_factory.mktemp("hard"), merged(recipe, few))
        pretrain.train_student(project.folder / student["path"], 0, world="stories", num_steps=2)
        return Results(project, recipe["experiment"])

    @pytest.fixture(scope="class")
    def words(self):
        return build_tokenizer(WORLDS["stories"].lexicon)

    def test_copsd(self, results, words):
        def asked(content):
            return f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"

        stories = {row["question_translated"]: row for row in problems("train", 8, 0)}
        questions = table.read(
            results.folder / "problems/train/shard_0.parquet", schema.PROBLEMS
        ).select("problem_id", "question")
        assert len(questions) == 4
        samples = results.rows(self.NAME, "sample").join(questions, on="problem_id")
        cached = results.rows(self.NAME, "logits").join(samples, on="sample_id", suffix="_sampled")
        assert len(samples) == len(cached) == 4
        for row in cached.iter_rows(named=True):
            story = stories[row["question"]]
            assert words.decode(row["prompt_ids_sampled"]) == asked(story["question_translated"])
            assert words.decode(row["teacher_prompt_ids"]) == asked(
                f"{story['question']}\n{story['solution']}\nagain"
            )
            assert row["prompt_ids"] == row["prompt_ids_sampled"]
            assert row["completion_ids"] == row["completion_ids_sampled"]
        assert results.scorer(self.NAME) == results.digest("student_seed_0")
        answers = table.read(
            results.folder / self.NAME / "seed_0/round_1/answers/translated.parquet", schema.ANSWERS
        )
        held_out = [asked(row["question_translated"]) for row in problems("test", 2, 0)]
        assert sorted(map(words.decode, answers["prompt_ids"])) == sorted(held_out)
        first, second = results.metrics(self.NAME)
        expected = clamped_loss(results.folder / "models" / "student_seed_0", cached, 1.1)
        assert first["loss"] == pytest.approx(expected, abs=1e-5)
        numbers = {name for name in first if isinstance(first[name], float)}
        assert all(math.isfinite(step[name]) for step in (first, second) for name in numbers)
        assert first["gradient_norm"] > 0
        assert results.methods() == {"base", self.NAME}
