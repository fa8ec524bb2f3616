# Validation of the config, and the functions by which rules find their inputs and settings.
#
# A branch is one method with one seed; a student stands at the end of each of its rounds.
# Round 0 is the base student. Nothing here iterates over rounds: every round asks for the
# one before it.

import re

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from mpd.config import parse_config
from mpd.config.files import model_files, problem_files
from mpd.config.stages import as_text, stage_settings
from mpd.config.unique_keys import require_unique_arguments, require_unique_keys
from mpd.job import layout
from mpd.job.preflight import check, check_folder
from mpd.store import schema
from mpd.store.rights import open_results, require_working_folder

try:
    require_working_folder()
    require_unique_keys(workflow.configfiles)
    require_unique_arguments(workflow.config_settings.config_args)
    CONFIG = parse_config(config)
    check(CONFIG)
    check_folder(workflow.basedir, workflow.workdir_init)
except ValueError as error:
    raise WorkflowError(str(error)) from None

EXPERIMENT = layout.Experiment(layout.RESULTS / CONFIG.experiment)
RESOURCES = CONFIG.resources

# Snakemake asks of every output that it would replace whether it may write it.
if workflow.is_main_process:
    for sentence in open_results(EXPERIMENT.folder):
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


def round_of(wildcards):
    """The round of the wildcards of a rule."""
    return EXPERIMENT.round(wildcards.method, int(wildcards.seed), int(wildcards.round))


def student(wildcards):
    """The student at the end of the round of the wildcards."""
    return round_of(wildcards).student


def previous(wildcards):
    """The student that samples in a round: that at the end of the round before."""
    return round_of(wildcards).before.student


def sampler(wildcards):
    """The model that samples: as the method says, the teacher or the student."""
    of_teacher = CONFIG.branches[wildcards.method].method.sampler == "teacher"
    return EXPERIMENT.teacher if of_teacher else previous(wildcards)


def scorer(wildcards):
    """The model that scores: as the method says, the teacher or the student of the round before."""
    of_student = CONFIG.branches[wildcards.method].method.scorer == "student"
    return previous(wildcards) if of_student else EXPERIMENT.teacher


def given_trajectories(wildcards):
    """The user's own trajectories, which take the place of the first round's samples."""
    own = CONFIG.sample.trajectories
    return [own] if own and int(wildcards.round) == 1 else []


def teacher_head(wildcards):
    """The teacher's output head, where the cache holds its inputs."""
    hidden = CONFIG.branches[wildcards.method].logits.cache == "hidden"
    return [EXPERIMENT.head] if hidden else []


def problems_of_given(wildcards):
    """The training problems, of which the user's own trajectories have to be."""
    given = given_trajectories(wildcards)
    return EXPERIMENT.train_shards(CONFIG.problems.num_shards) if given else []


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
    return [EXPERIMENT.problems(name) for name in EVALUATED[1:]]


def shards_of(stage):
    """An input function: the shards of a stage in the round of the wildcards."""
    return lambda wildcards: round_of(wildcards).shards(
        stage, CONFIG.problems.num_shards
    )


def benchmark_arguments(wildcards):
    """name=path of every evaluation set, the development split first."""
    return [f"{name}={EXPERIMENT.problems(name)}" for name in EVALUATED]


def answer_arguments(wildcards):
    """name=path of the answers to every evaluation set, the development split first."""
    answered = round_of(wildcards)
    return [f"{name}={answered.benchmark('answers', name)}" for name in EVALUATED]


def untrained_rounds():
    """Round 0 of the students that are evaluated as they are."""
    untrained = [
        name for name in CONFIG.methods if not CONFIG.branches[name].method.trained
    ]
    methods = [layout.BASE, *untrained]
    return [
        EXPERIMENT.round(method, seed, 0) for method in methods for seed in CONFIG.seeds
    ]


def trained_rounds():
    """Every round that trains a student."""
    return [
        EXPERIMENT.round(method, seed, number)
        for method in CONFIG.methods
        if CONFIG.branches[method].method.trained
        for seed in CONFIG.seeds
        for number in range(1, CONFIG.rounds + 1)
    ]


def all_rounds(wildcards):
    """The folders of all students."""
    return [str(place.folder) for place in untrained_rounds() + trained_rounds()]


def all_benchmarks(stage):
    """An input function: the benchmarks of a stage for every student.

    These are the base student of each seed, and that of every round.
    """
    return lambda wildcards: [
        place.benchmark(stage, name)
        for place in untrained_rounds() + trained_rounds()
        for name in EVALUATED
    ]


def all_shards(stage):
    """An input function: the shards of a stage in every round of every branch."""
    return lambda wildcards: [
        path
        for place in trained_rounds()
        for path in place.shards(stage, CONFIG.problems.num_shards)
    ]


def all_metrics(wildcards):
    """The training metrics of every round of every branch."""
    return [place.metrics for place in trained_rounds()]


def say_where_the_report_is(name):
    """Log the path of the report, if there is one."""
    if EXPERIMENT.report.exists():
        logger.info(f"{name}: {EXPERIMENT.report}")


EVALUATED = [layout.DEV, *(benchmark.name for benchmark in CONFIG.problems.benchmarks)]
