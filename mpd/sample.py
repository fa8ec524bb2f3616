"""sample: the student's trajectories, several for each problem.

Every sample has its own seed, from the branch's seed, the problem and its index: rows do not
depend on the order or the shard. In a curriculum, only the problems of the round are sampled. The
user's own trajectories can take the place of samples.

    python -m mpd.sample --settings JSON --problems .../problems/train/shard_0.parquet \\
        --student .../student/manifest.json --output .../sample/shard_0.parquet
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from mpd.config.chat import PromptChat
from mpd.config.resources import GenerationResources
from mpd.config.sample import DrawnSample, GivenSample, SampleSettings
from mpd.engines.base import Completion, Engine, seed_of
from mpd.engines.opening import open_engine
from mpd.engines.question_tasks import (
    QuestionPrompts,
    completion_frame,
    question_prompts,
    question_task,
    with_sample_index,
)
from mpd.engines.reencoding import Reencoder
from mpd.engines.tasks import Task, complete, require_room
from mpd.job import command
from mpd.job.shards import for_each_shard, opened
from mpd.store import schema, table
from mpd.store.digests import digest_of, file_digest
from mpd.store.model_folder import read_manifest, require_same_tokens
from mpd.store.outputs import Outputs, TableOutput
from mpd.store.parts import Parts
from mpd.store.row_ranges import ranges_of
from mpd.text.completions import CompletionWriter
from mpd.text.given import read_given
from mpd.text.given_encoding import GivenEncoder
from mpd.text.prompts import prompt_inputs
from mpd.text.rounds import problems_of_round
from mpd.text.vocabulary import Vocabulary

# Raise it where given trajectories are refused that were taken before: the store has their rows.
GIVEN_CHECKS = "1"


def with_samples(problems: pl.DataFrame, num_samples: int) -> pl.DataFrame:
    """One row per sample: the problem's columns, sample_index and sample_id."""
    return with_sample_index(problems, num_samples).with_columns(
        sample_id=pl.format("{}-{}", "problem_id", "sample_index")
    )


def sampler(
    engine: Engine,
    prompts: QuestionPrompts,
    settings: DrawnSample,
    total: int,
    reencoder: Reencoder | None = None,
) -> Task:
    """The task of a shard: sample the trajectory of each of `total` rows."""
    from mpd.job.progress import Progress

    def seed(row: Mapping[str, Any]) -> int:
        return seed_of("sample", settings.seed, row["sample_id"])

    progress = Progress("sampled", total)
    return question_task(engine, prompts, settings, seed, schema.SAMPLE, progress, reencoder)


def given_work(
    encoder: GivenEncoder, chat: PromptChat, rows_per_part: int, total: int
) -> Callable[[int, int], pl.DataFrame]:
    """The work of a part of given trajectories, of which `total` are to be encoded.

    Raises ValueError where one cannot be used: it names those of all parts.
    """
    from mpd.job.progress import Progress

    progress = Progress("encoded", total)
    rows, vocabulary = encoder.given.rows, encoder.writer.vocabulary

    def encode(start: int, stop: int) -> pl.DataFrame:
        part = rows[start:stop]
        prompts = question_prompts(vocabulary, chat, part["question"])
        encoded = encoder.encode(part, prompts)
        completions = [
            Completion(ids, [], reason)
            for ids, reason in zip(encoded["ids"].to_list(), encoded["finish_reason"], strict=True)
        ]
        progress.advance(len(part), sum(len(done.token_ids) for done in completions))
        return completion_frame(encoded, prompts, completions, vocabulary, schema.SAMPLE)

    def work(start: int, stop: int) -> pl.DataFrame:
        frame = encode(start, stop)
        if encoder.faults.count:
            for begin in range(stop, len(rows), rows_per_part):
                encode(begin, begin + rows_per_part)
            encoder.require_no_faults()
        return frame

    return work


def has_other_tokens(arguments: Namespace) -> bool:
    """Whether the trajectories are for a student with another tokenizer than the sampler's."""
    if arguments.learner is None:
        return False
    maps = (read_manifest(path)["token_map"] for path in (arguments.learner, arguments.student))
    return len(set(maps)) > 1


def reencoder_of(learner: Path, settings: DrawnSample, questions: Iterable[str]) -> Reencoder:
    """What writes completions as those of the student with this manifest.

    Raises ValueError where a question has a word without a token.
    """
    assert settings.format is not None, "it is there where the teacher samples"
    vocabulary = Vocabulary.of_folder(learner.parent)
    prompts = question_prompts(vocabulary, settings.chat, questions)
    context_length = read_manifest(learner)["context_length"]
    return Reencoder(CompletionWriter(vocabulary, settings.format), prompts, context_length)


def reencoding_inputs(learner: Mapping[str, Any], settings: DrawnSample) -> dict[str, str]:
    """What the rows of a student with another tokenizer depend on beside the sampler."""
    keys = ("tokenizer", "chat_template", "context_length")
    written = None if settings.format is None else settings.format.model_dump(mode="json")
    return {**{key: str(learner[key]) for key in keys}, "format": digest_of(written)}


def draw_samples(arguments: Namespace, parts: Parts) -> None:
    """Sample the trajectories of a shard.

    Raises ValueError where a question has a word without a token, or no prompt leaves room for a
    sample.
    """
    settings: DrawnSample = arguments.settings
    resources: GenerationResources = command.resources_of(arguments)
    problems = problems_of_round(arguments.problems, settings.round)
    rows = with_samples(problems, settings.num_samples)

    def prepare() -> Task:
        engine = opened(arguments, lambda: open_engine(arguments.student, settings, resources))
        prompts = question_prompts(engine.vocabulary, settings.chat, problems["question"])
        require_room(engine, prompts.values(), settings, "sample.max_new_tokens")
        reencoder = None
        if has_other_tokens(arguments):
            reencoder = reencoder_of(arguments.learner, settings, problems["question"])
        return sampler(engine, prompts, settings, parts.remaining, reencoder)

    complete(parts, rows, resources.rows_per_part, settings.engine, prepare)


def take_given(arguments: Namespace, parts: Parts) -> None:
    """Take the user's trajectories of a shard, encoded with the student's tokenizer.

    Raises ValueError where one cannot be used.
    """
    settings: GivenSample = arguments.settings
    problems = table.read(arguments.problems, schema.PROBLEMS)
    shards = [table.read_columns(shard, ["problem_id"]) for shard in arguments.training]
    training = pl.concat([problems.select("problem_id"), *shards])["problem_id"]
    given = read_given(Path(settings.trajectories), problems, training)
    rows_per_part = command.resources_of(arguments).rows_per_part

    def prepare() -> Callable[[int, int], pl.DataFrame]:
        vocabulary = Vocabulary.of_folder(arguments.student.parent)
        context_length = read_manifest(arguments.student)["context_length"]
        writer = CompletionWriter(vocabulary, settings.chat)
        encoder = GivenEncoder(given, writer, context_length)
        return given_work(encoder, settings.chat, rows_per_part, parts.remaining)

    parts.map_ranges(ranges_of(len(given.rows), rows_per_part), prepare)


def command_line() -> ArgumentParser:
    """The command line of the stage."""
    shards = {"problems": "problems"}
    parser = command.parser(__doc__, "sample", SampleSettings, GenerationResources, shards)
    parser.add_argument(
        "--student", type=Path, required=True, help="manifest of the model that samples"
    )
    parser.add_argument(
        "--learner",
        type=Path,
        nargs="?",
        help="manifest of the student that is trained, where the teacher samples",
    )
    parser.add_argument(
        "--training",
        type=Path,
        nargs="*",
        default=[],
        help="problems of all shards, some of which given trajectories must answer",
    )
    return parser


@for_each_shard
def outputs(arguments: Namespace) -> Outputs:
    """The samples of one shard."""
    settings: SampleSettings = arguments.settings
    student = read_manifest(arguments.student)
    inputs = {"problems": table.content_digest(arguments.problems, schema.PROBLEMS)}
    identity = {"token_map": student["token_map"], **inputs}
    compute = draw_samples
    if isinstance(settings, GivenSample):
        compute = take_given
        # They depend on the student's tokenizer and chat template, not on its weights.
        path = Path(settings.trajectories)
        if not path.is_file():
            raise ValueError(f"{path}: no such file; fix sample.trajectories")
        inputs["trajectories"] = file_digest(path)
        inputs["checks"] = GIVEN_CHECKS
        inputs |= {key: student[key] for key in ("tokenizer", "chat_template")}
    else:
        inputs["student"] = identity["student"] = student["digest"]
        identity["seed"] = str(settings.seed)
        questions = problems_of_round(arguments.problems, settings.round)["question"]
        inputs |= prompt_inputs(arguments.student.parent, [settings.chat.prompt, *questions])
        if has_other_tokens(arguments):
            learner = read_manifest(arguments.learner)
            if settings.needs_scores:
                require_same_tokens(learner, student)
            identity["token_map"] = learner["token_map"]
            inputs |= reencoding_inputs(learner, settings)

    yield TableOutput(
        schema.SAMPLE,
        arguments.output,
        settings.meaning(),
        inputs,
        partial(compute, arguments),
        identity=identity,
    )


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the arguments of a command line."""
    command.publish(command_line(), outputs, argv)


if __name__ == "__main__":
    command.run(main, "sample")
