"""Checks before a run for mistakes that a valid configuration can have, in its files and prompts.

The Snakefile imports this module, so nothing here loads a model or a tokenizer library.
"""

import os
import re
from pathlib import Path

from mpd.config import Config
from mpd.config.branches import Branch
from mpd.config.files import model_files, problem_files
from mpd.config.gym import gym_version
from mpd.config.models import FolderModel, ModelSource, TinyModel
from mpd.config.resources import DistillResources
from mpd.store.tokenizer_files import TOKENIZER, token_map
from mpd.tiny.tokenizer import token_ids, unknown_piece
from mpd.tiny.worlds import WORLDS


def check_config(config: Config) -> None:
    """Raise ValueError where a run of this configuration is bound to fail.

    A package is missing, a local file is missing, empty or has a path that a tool cannot handle,
    two models that are folders or of the embedded world have different tokens, a training has nodes
    or processes that it cannot use, or a prompt has a word that the embedded world's tokenizer
    lacks.
    """
    models, trajectories = config.models, config.sample.trajectories
    if trajectories and not Path(trajectories).is_file():
        raise ValueError(f"{trajectories}: no such file; fix sample.trajectories in the config")
    paths = [path for source in config.problems.sources() for path in problem_files(source)]
    embedders = [models.embedder] if models.embedder else []
    for model in (models.student, models.teacher, *embedders):
        paths += model_files(model)
    if any(source.has_scorer for source in config.problems.sources()):
        gym_version()
    require_no_braces(*map(str, paths), *([trajectories] if trajectories else []))
    _check_processes(config.resources.distill)
    if any(config.branches[name].method.needs_scores for name in config.methods):
        _check_token_maps(models.student, models.teacher)
    _check_words("chat.prompt", config.chat.prompt, models.student)
    for name in config.methods:
        _check_prompts(config, config.branches[name])


def check_gpus(config: Config, provided: int) -> None:
    """Raise ValueError where a job asks for more GPUs than a run has; Snakemake would lower it."""
    for stage in ("models", "sample", "compress", "logits", "distill", "evaluate"):
        asked = getattr(config.resources, stage).gpu
        if asked > provided:
            raise ValueError(
                f"config: resources.{stage}.gpu is {asked}, but this run has {provided}: lower it, "
                f"give the run more by --resources gpu={asked} (profiles/default counts the GPUs "
                "of this machine), or run on a cluster by --workflow-profile slurm"
            )


def check_folder(workflow: str, started_in: str) -> None:
    """Raise ValueError where Snakemake cannot handle the path of the workflow's folder."""
    require_no_braces(workflow)
    if workflow != started_in and re.search(r"\[.+\]", workflow):  # Snakemake globs for profiles
        raise ValueError(
            f"{workflow}: with brackets in its path, Snakemake finds profiles/default only if it "
            "is started in this folder; start it there (the results can be elsewhere: "
            "--directory), or rename the folder"
        )


def require_local_results(provider: str | None) -> None:
    """Raise ValueError where Snakemake keeps outputs at a storage provider.

    It would keep those that rules name, without notes, stored files and the weights of models.
    """
    if provider is not None:
        raise ValueError(
            f"results cannot be kept by the storage provider {provider}, which would not get "
            "notes, weights and stored files; run without --default-storage-provider, and copy "
            "results to a bucket and back with python -m mpd.sync"
        )


def require_no_braces(*paths: str) -> None:
    """Raise ValueError where Snakemake would take a part of a path for a wildcard."""
    for path in paths:
        if "{" in path or "}" in path:
            raise ValueError(
                f"{path}: Snakemake takes braces for wildcards; rename the file or its folder"
            )


def _check_processes(resources: DistillResources) -> None:
    """Raise ValueError where processes or nodes of a training cannot be had as they are set."""
    nodes = int(os.environ.get("SLURM_JOB_NUM_NODES", 1))
    if resources.nodes > nodes:
        raise ValueError(
            f"config: resources.distill.nodes is {resources.nodes}, and a run can use {nodes} "
            "here: run it in a Slurm allocation of as many nodes (salloc or sbatch), or lower nodes"
        )
    if resources.sharding == "full" and resources.num_processes * resources.nodes == 1:
        raise ValueError(
            "config: resources.distill.sharding is full, but there is one process to share the "
            "weights: raise num_processes and gpu, or set none"
        )


def _check_prompts(config: Config, branch: Branch) -> None:
    """Raise ValueError where a prompt of a branch, beside the plain one, has an unknown word."""
    models, method = config.models, branch.method
    if not method.trained or method.context == "concise":
        # The student answers this prompt, or one of the two models scores under it.
        for model in (models.student, models.teacher):
            _check_words("chat.concise", config.chat.concise, model)
    if method.trained and method.context == "solution":
        for model in (models.student, models.teacher)[method.scorer == "teacher" :][:1]:
            _check_words("chat.solution", config.chat.solution, model)
    if method.trained and method.rewriter == "teacher":
        key = "prompt" if method.instruction == "rewrite" else method.instruction
        _check_words(f"compress.{key}", branch.compress.asking(method.instruction), models.teacher)
    if branch.bank:
        _check_words("compress.route", branch.compress.route, models.teacher)


def _check_token_maps(student: ModelSource, teacher: ModelSource) -> None:
    """Raise ValueError where the tokens of two models differ, if both are known before a run.

    For other models, `compress` compares the tokens once the models are resolved.
    """
    tokens = [_known_tokens(model) for model in (student, teacher)]
    if None not in tokens and tokens[0] != tokens[1]:
        names = " and ".join(map(_name, (student, teacher)))
        raise ValueError(
            f"{names} have different token maps: the teacher cannot score the student's ids; "
            "choose models.student and models.teacher from one family"
        )


def _known_tokens(model: ModelSource) -> dict[str, int] | None:
    """The ids of all tokens of a model; None where they are not known before it is resolved."""
    if isinstance(model, TinyModel):
        return token_ids(WORLDS[model.world].lexicon)
    if isinstance(model, FolderModel) and (Path(model.path) / TOKENIZER).is_file():
        return token_map(Path(model.path))
    return None  # `models` refuses a folder without a tokenizer


def _name(model: ModelSource) -> str:
    """What the user calls a model."""
    return f"the world {model.world}" if isinstance(model, TinyModel) else model.path


def _check_words(key: str, template: str, model: ModelSource) -> None:
    """Raise ValueError where a template has a word that a model of the embedded world lacks."""
    if not isinstance(model, TinyModel):
        return
    for text in re.split(r"\{(?:problem|trajectory|route|original|solution)\}", template):
        piece = unknown_piece(text, WORLDS[model.world].lexicon)
        if piece is not None:
            raise ValueError(
                f"config: {key}: the embedded world has no word {piece!r}; its words are in "
                "mpd/tiny/tokenizer.py"
            )
