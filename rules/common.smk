# Requires: the config files that Snakemake has read.
# Gives: the validated configuration, and the functions that name inputs and settings of jobs.
#
# A branch is one method with one seed; a student stands at the end of each of its rounds.
# Round 0 has the base student; every later round asks for the student of the round before.

import re

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from mpd.config import parse_config
from mpd.config.files import model_files, problem_files
from mpd.config.stages import as_text, stage_settings
from mpd.config.unique_keys import (
    require_plain_values,
    require_unique_arguments,
    require_unique_keys,
)
from mpd.job import layout
from mpd.job.preflight import (
    check_config,
    check_folder,
    check_gpus,
    require_local_results,
)
from mpd.job.runs import begin, supervise
from mpd.plan.line import estimate
from mpd.store import schema
from mpd.store.rights import open_results, require_working_folder

try:
    require_working_folder()
    require_local_results(workflow.storage_settings.default_storage_provider)
    require_plain_values(workflow.configfiles)
    require_unique_keys(workflow.configfiles)
    require_unique_arguments(workflow.config_settings.config_args)
    CONFIG = parse_config(config)
    check_config(CONFIG)
    check_folder(workflow.basedir, workflow.workdir_init)
    if workflow.is_main_process and "gpu" in workflow.global_resources:
        check_gpus(CONFIG, workflow.global_resources["gpu"].value)
except ValueError as error:
    raise WorkflowError(str(error)) from None

# Jobs end with this process, also where it is killed.
supervise()

RESOURCES = CONFIG.resources
EXPERIMENT = layout.Experiment(layout.RESULTS / CONFIG.experiment)
BENCHMARKS = CONFIG.problems.benchmark_names
EVALUATED = CONFIG.evaluation_sets
HAS_REFERENCES = bool(CONFIG.problems.train.references)
REFERENCES = [EXPERIMENT.train / "references.parquet"] if HAS_REFERENCES else []
UNTRAINED = EXPERIMENT.rounds(CONFIG.untrained_methods, CONFIG.seeds, [0])
TRAINED = EXPERIMENT.rounds(
    CONFIG.trained_methods, CONFIG.seeds, range(1, CONFIG.rounds + 1)
)

# A job of a stage of shards takes one shard, or those whose numbers differ in the last digit alone:
# then the wildcard has the digits before it, none for the first ten.
DIGITS = range(10) if RESOURCES.shards_per_job == 10 else [""]
SHARD = "(?:[1-9][0-9]*)?" if RESOURCES.shards_per_job == 10 else "[0-9]+"
FIRST = f"shard_{{shard}}{DIGITS[0]}"
NAMED = f"shard_{{wildcards.shard}}{'[0-9]' if len(DIGITS) > 1 else ''}"

# Before it replaces an output, Snakemake checks that it may write it.
if workflow.is_main_process:
    for sentence in open_results(EXPERIMENT.folder):
        logger.warning(sentence)


wildcard_constraints:
    experiment=CONFIG.experiment,
    role="teacher|embedder|student_seed_[0-9]+",
    head="head(?:_seed_[0-9]+)?",
    method="|".join(
        map(re.escape, [*CONFIG.untrained_methods, *CONFIG.trained_methods])
    ),
    seed="[0-9]+",
    round="[0-9]+",
    shard=SHARD,
    benchmark="|".join(BENCHMARKS),


def shards_in(folder):
    """The paths of the shards of a job in a folder, with wildcards."""
    return expand(
        f"{folder}/shard_{{shard}}{{digit}}.parquet", digit=DIGITS, allow_missing=True
    )


def shard_file(kind, stage, suffix):
    """The log or benchmark of a job of shards, by the first of them, with wildcards."""
    place = f"{kind}/{{method}}/seed_{{seed}}/round_{{round}}/{stage}/{FIRST}"
    return f"results/{{experiment}}/{place}.{suffix}"


def shard_message(stage):
    """What Snakemake calls a job of shards, with wildcards."""
    return f"{stage} {{wildcards.method}}/seed_{{wildcards.seed}}/round_{{wildcards.round}}/{NAMED}"


def settings_of(rule):
    """A params function: the settings of a job, as JSON. The shell line quotes them."""

    def settings(wildcards):
        return as_text(stage_settings(CONFIG, rule, **dict(wildcards.items())))

    return settings


def resources_of(section):
    """What a job may use, as JSON; it cannot change a result."""
    return getattr(RESOURCES, section).model_dump_json()


def memory_of(section):
    """A resource function: the memory of a job in MB; after a failure it rises."""
    return lambda wildcards, attempt: getattr(RESOURCES, section).memory_mb * attempt


def runtime_of(section):
    """A resource function: the minutes that a job may take; after a failure they rise."""
    return lambda wildcards, attempt: getattr(RESOURCES, section).runtime * attempt


def round_of(wildcards):
    """The round that a job belongs to."""
    return EXPERIMENT.round(wildcards.method, int(wildcards.seed), int(wildcards.round))


def final_student(wildcards):
    """The student at the end of the round."""
    return round_of(wildcards).student


def previous_student(wildcards):
    """The student at the end of the round before."""
    return round_of(wildcards).before.student


def cached_student(wildcards):
    """The student of trajectories and cache: of the round before, or the base student for good."""
    sampler = CONFIG.branches[wildcards.method].method.sampler
    student = round_of(wildcards).base.student
    return student if sampler == "base" else previous_student(wildcards)


def base_student(wildcards):
    """The base student, if its trajectories serve every round."""
    sampler = CONFIG.branches[wildcards.method].method.sampler
    return [round_of(wildcards).base.student] if sampler == "base" else []


def sampling_model(wildcards):
    """The model that samples: the teacher or a student, whichever the method names."""
    sampler = CONFIG.branches[wildcards.method].method.sampler
    return EXPERIMENT.teacher if sampler == "teacher" else cached_student(wildcards)


def trained_model(wildcards):
    """The base student, whose tokens the trajectories get, where the teacher samples."""
    sampler = CONFIG.branches[wildcards.method].method.sampler
    seed = int(wildcards.seed)
    return [EXPERIMENT.base_student(seed)] if sampler == "teacher" else []


def scoring_model(wildcards):
    """The model that scores: the teacher, the base student or the previous one."""
    scorer = CONFIG.branches[wildcards.method].method.scorer
    if scorer == "base":
        return EXPERIMENT.base_student(int(wildcards.seed))
    return EXPERIMENT.teacher if scorer == "teacher" else previous_student(wildcards)


def references_of_scorer(wildcards):
    """The references of the training problems, if the scorer sees them."""
    context = CONFIG.branches[wildcards.method].method.context
    return REFERENCES if context == "solution" else []


def teacher_head(wildcards):
    """The scorer's output head, if the cache holds the inputs of it."""
    branch = CONFIG.branches[wildcards.method]
    if branch.logits.cache != "hidden":
        return []
    is_base = branch.method.scorer == "base"
    return [EXPERIMENT.base_head(int(wildcards.seed)) if is_base else EXPERIMENT.head]


def model_of_head(wildcards):
    """The model with this output head: the teacher, or the base student of a seed."""
    seed = wildcards.head.removeprefix("head").removeprefix("_seed_")
    return EXPERIMENT.base_student(int(seed)) if seed else EXPERIMENT.teacher


def given_trajectories(wildcards):
    """The user's own trajectories, if they take the place of this round's samples."""
    path = CONFIG.sample.given_trajectories(int(wildcards.round))
    return [path] if path else []


def problems_of_given_trajectories(wildcards):
    """The training problems, all shards, if the user's own trajectories answer them."""
    given = given_trajectories(wildcards)
    return EXPERIMENT.train_shards(CONFIG.problems.num_shards) if given else []


def routes_of_problems(wildcards):
    """The routes of the training problems, if the teacher is shown them in this round."""
    has_bank = CONFIG.branches[wildcards.method].bank is not None
    return [round_of(wildcards).routes] if has_bank and int(wildcards.round) > 1 else []


def shards_before(stage):
    """An input function: all shards of a stage in all rounds before, round by round."""
    return lambda wildcards: [
        path
        for number in range(1, int(wildcards.round))
        for path in EXPERIMENT.round(
            wildcards.method, int(wildcards.seed), number
        ).shards(stage, CONFIG.problems.num_shards)
    ]


def local_model_files(wildcards):
    """The local files that a model comes from, so that Snakemake sees them change."""
    return model_files(CONFIG.models.source_of(wildcards.role))


def local_train_files(wildcards):
    """The local files that the training problems and the development split come from, if any."""
    sources = stage_settings(CONFIG, "problems").sources
    return [path for source in sources for path in problem_files(source)]


def local_benchmark_file(wildcards):
    """The local file that a benchmark comes from, if any."""
    return problem_files(CONFIG.problems.benchmark_source(wildcards.benchmark))


def shards_of(stage):
    """An input function: all shards of a stage in the round."""
    return lambda wildcards: round_of(wildcards).shards(
        stage, CONFIG.problems.num_shards
    )


def train_version(wildcards):
    """The version of the training problems."""
    return schema.problems_version(**stage_settings(CONFIG, "problems").kinds)


def benchmark_version(wildcards):
    """The version of a benchmark's problems."""
    source = CONFIG.problems.benchmark_source(wildcards.benchmark)
    return schema.problems_of(source.has_scorer).version


def benchmark_files(wildcards):
    """The problems of every benchmark."""
    return [EXPERIMENT.problems(name) for name in BENCHMARKS]


def benchmark_arguments(wildcards):
    """name=path of the problems of every evaluation set, the development split first."""
    return [f"{name}={EXPERIMENT.problems(name)}" for name in EVALUATED]


def answer_arguments(wildcards):
    """name=path of the answers to every evaluation set, the development split first."""
    answered = round_of(wildcards)
    return [f"{name}={answered.benchmark('answers', name)}" for name in EVALUATED]


def all_benchmarks(stage):
    """An input function: what a stage makes of every evaluation set, for every student."""
    return lambda wildcards: [
        place.benchmark(stage, name)
        for place in UNTRAINED + TRAINED
        for name in EVALUATED
    ]


def all_shards(stage):
    """An input function: all shards of a stage in every round that trains."""
    return lambda wildcards: [
        path
        for place in TRAINED
        for path in place.shards(stage, CONFIG.problems.num_shards)
    ]


def all_metrics(wildcards):
    """The training metrics of every round that trains."""
    return [place.metrics for place in TRAINED]


def round_folders(wildcards):
    """The folders of all rounds, one for each student."""
    return [str(place.folder) for place in UNTRAINED + TRAINED]


def begin_run():
    """Refuse to run jobs beside another run, end what a killed one left, and let Ctrl-C end jobs.

    If jobs ask for GPUs, log what the run is estimated to take.
    """
    try:
        sentence = begin(CONFIG.experiment)
    except ValueError as error:
        logger.error(str(error))
        raise SystemExit(1) from None
    if sentence:
        logger.warning(sentence)
    gpus = workflow.resource_settings.resources.get("gpu")
    line = estimate(CONFIG, gpus.value if gpus else None)
    if line:
        logger.info(line)


def log_report(name):
    """Log the path of the report, if there is one."""
    if EXPERIMENT.report.exists():
        logger.info(f"{name}: {EXPERIMENT.report}")
