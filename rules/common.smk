# Validation of the config, and the functions by which rules find their inputs and settings.
#
# A branch is one method with one seed; a student stands at the end of each of its rounds.
# Round 0 is the base student. Nothing here iterates over rounds: every round asks for the
# one before it.

import re
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from mpd import schema
from mpd.config import parse_config
from mpd.preflight import check, check_folder
from mpd.rights import open_results, require_working_folder
from mpd.config.files import model_files, problem_files
from mpd.config.stages import as_text, stage_settings
from mpd.unique_keys import require_unique_arguments, require_unique_keys

try:
    require_working_folder()
    require_unique_keys(workflow.configfiles)
    require_unique_arguments(workflow.config_settings.config_args)
    CONFIG = parse_config(config)
    check(CONFIG)
    check_folder(workflow.basedir, workflow.workdir_init)
except ValueError as error:
    raise WorkflowError(str(error)) from None

RESOURCES = CONFIG.resources

# Snakemake asks of every output that it would replace whether it may write it.
if workflow.is_main_process:
    for sentence in open_results(Path(f"results/{CONFIG.experiment}")):
        logger.warning(sentence)


wildcard_constraints:
    experiment=CONFIG.experiment,
    role="teacher|student_seed_[0-9]+",
    method="|".join(["base", *map(re.escape, CONFIG.methods)]),
    seed="[0-9]+",
    round="[0-9]+",
    shard="[0-9]+",
    benchmark="[a-z0-9][a-z0-9_-]*",


def settings_of(rule):
    """A params function: the validated settings of a job as JSON; the shell line quotes them."""

    def settings(wildcards):
        return as_text(stage_settings(CONFIG, rule, **dict(wildcards.items())))

    return settings


def resources_of(section):
    """What the stage of a job may use, as JSON; it cannot change a result."""
    return getattr(RESOURCES, section).model_dump_json()


def round_folder(experiment, method, seed, round):
    """The folder of one round of a branch."""
    return f"results/{experiment}/{method}/seed_{seed}/round_{round}"


def manifest_of(experiment, method, seed, round):
    """The manifest of the student at the end of a round; that of the base student for round 0."""
    if round == 0:
        return f"results/{experiment}/models/student_seed_{seed}/manifest.json"
    return f"{round_folder(experiment, method, seed, round)}/student/manifest.json"


def student(wildcards):
    """The student at the end of the round of the wildcards."""
    return manifest_of(
        wildcards.experiment, wildcards.method, wildcards.seed, int(wildcards.round)
    )


def previous(wildcards):
    """The student that samples in a round: that at the end of the round before."""
    return manifest_of(
        wildcards.experiment, wildcards.method, wildcards.seed, int(wildcards.round) - 1
    )


def teacher_of(wildcards):
    return f"results/{wildcards.experiment}/models/teacher/manifest.json"


def sampler(wildcards):
    """The model that samples: as the method says, the teacher or the student."""
    of_teacher = CONFIG.branches[wildcards.method].method.sampler == "teacher"
    return teacher_of(wildcards) if of_teacher else previous(wildcards)


def scorer(wildcards):
    """The model that scores: as the method says, the teacher or the student of the round before."""
    of_student = CONFIG.branches[wildcards.method].method.scorer == "student"
    return previous(wildcards) if of_student else teacher_of(wildcards)


def given_trajectories(wildcards):
    """The user's own trajectories, which take the place of the first round's samples."""
    own = CONFIG.sample.trajectories
    return [own] if own and int(wildcards.round) == 1 else []


def teacher_head(wildcards):
    """The teacher's output head, where the cache holds its inputs."""
    hidden = CONFIG.branches[wildcards.method].logits.cache == "hidden"
    return (
        [f"results/{wildcards.experiment}/models/head/head.safetensors"]
        if hidden
        else []
    )


def problems_of_given(wildcards):
    """The training problems, of which the user's own trajectories have to be."""
    folder = f"results/{wildcards.experiment}/problems/train"
    shards = range(CONFIG.problems.num_shards) if given_trajectories(wildcards) else []
    return [f"{folder}/shard_{shard}.parquet" for shard in shards]


def local_model_files(wildcards):
    """The local files that a model comes from, so that a change of them is seen."""
    own = (
        CONFIG.models.teacher if wildcards.role == "teacher" else CONFIG.models.student
    )
    return model_files(own)


def local_train_file(wildcards):
    """The local file of the training problems, if they come from one."""
    return problem_files(CONFIG.problems.train_source)


def local_benchmark_file(wildcards):
    """The local file of a benchmark, if it comes from one."""
    names = [benchmark.name for benchmark in CONFIG.problems.benchmarks]
    if wildcards.benchmark not in names:
        return []
    return problem_files(CONFIG.problems.benchmark_source(wildcards.benchmark))


def benchmark_problems(wildcards):
    """The problem files of all benchmarks."""
    return [
        f"results/{wildcards.experiment}/problems/eval/{benchmark.name}.parquet"
        for benchmark in CONFIG.problems.benchmarks
    ]


def shards_of(stage):
    """An input function: the shards of a stage in the round of the wildcards."""

    def shards(wildcards):
        return [
            f"{round_folder(**dict(wildcards.items()))}/{stage}/shard_{shard}.parquet"
            for shard in range(CONFIG.problems.num_shards)
        ]

    return shards


def benchmark_arguments(wildcards):
    """name=path of every evaluation set, the development split first."""
    train = f"results/{wildcards.experiment}/problems/train/dev.parquet"
    named = zip(EVALUATED, [train, *benchmark_problems(wildcards)], strict=True)
    return [f"{name}={path}" for name, path in named]


def answer_arguments(wildcards):
    """name=path of the answers to every evaluation set, the development split first."""
    folder = round_folder(**dict(wildcards.items()))
    return [f"{name}={folder}/answers/{name}.parquet" for name in EVALUATED]


def untrained_students():
    """Method, seed and round of the students that are evaluated as they are."""
    untrained = [
        name for name in CONFIG.methods if not CONFIG.branches[name].method.trained
    ]
    return [
        (method, seed, 0) for method in ["base", *untrained] for seed in CONFIG.seeds
    ]


def trained_students():
    """Method, seed and round of every student that is trained."""
    return [
        (method, seed, round)
        for method in CONFIG.methods
        if CONFIG.branches[method].method.trained
        for seed in CONFIG.seeds
        for round in range(1, CONFIG.rounds + 1)
    ]


def all_rounds(wildcards):
    """The folders of all students."""
    students = untrained_students() + trained_students()
    return [round_folder(wildcards.experiment, *student) for student in students]


def all_benchmarks(stage):
    """An input function: the benchmarks of a stage for every student.

    These are the base student of each seed, and that of every round.
    """

    def benchmarks(wildcards):
        return [
            f"{folder}/{stage}/{benchmark}.parquet"
            for folder in all_rounds(wildcards)
            for benchmark in EVALUATED
        ]

    return benchmarks


def all_shards(stage):
    """An input function: the shards of a stage in every round of every branch."""

    def shards(wildcards):
        return [
            f"{round_folder(wildcards.experiment, *student)}/{stage}/shard_{shard}.parquet"
            for student in trained_students()
            for shard in range(CONFIG.problems.num_shards)
        ]

    return shards


def all_metrics(wildcards):
    """The training metrics of every round of every branch."""
    return [
        f"{round_folder(wildcards.experiment, *student)}/student/metrics.parquet"
        for student in trained_students()
    ]


def say_where_the_report_is(name):
    """Log the path of the report, if there is one."""
    path = Path(f"results/{CONFIG.experiment}/report.html")
    if path.exists():
        logger.info(f"{name}: {path}")


EVALUATED = ["dev", *(benchmark.name for benchmark in CONFIG.problems.benchmarks)]
