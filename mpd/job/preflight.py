"""Mistakes of a valid configuration that show before anything runs: in its files and its words.

Read by the Snakefile, so nothing here loads a model or a tokenizer library.
"""

import re
from pathlib import Path

from mpd.config import Config
from mpd.config.base import Section
from mpd.config.branches import Branch
from mpd.config.files import model_files, problem_files
from mpd.config.models import FolderModel, TinyModel
from mpd.store.model_folder import token_map
from mpd.tiny.tokenizer import unknown_piece


def check(config: Config) -> None:
    """Raise ValueError where a run of this configuration is bound to fail.

    A local file is missing, empty or has a path that a tool cannot bear, two model folders have
    different tokens, or a prompt has a word that the embedded world cannot say.
    """
    models = config.models
    own = config.sample.trajectories
    if own and not Path(own).is_file():
        raise ValueError(f"{own}: no such file; mend sample.trajectories in the config")
    paths = [path for source in config.problems.sources() for path in problem_files(source)]
    for model in (models.student, models.teacher):
        paths += model_files(model)
    require_no_braces(*map(str, paths), *([own] if own else []))
    _check_token_maps(models.student, models.teacher)
    _check_words("chat.prompt", config.chat.prompt, models.student)
    for name in config.methods:
        _check_prompts(config, config.branches[name])


def check_folder(workflow: str, started_in: str) -> None:
    """Raise ValueError where Snakemake cannot bear the name of the workflow's folder."""
    require_no_braces(workflow)
    if workflow != started_in and re.search(r"\[.+\]", workflow):  # a pattern to it
        raise ValueError(
            f"{workflow}: with brackets in its path Snakemake finds profiles/default only if it "
            "is started in this folder; do so (the results can be elsewhere: --directory), or "
            "rename it"
        )


def require_no_braces(*paths: str) -> None:
    """Raise ValueError where Snakemake would take a part of a path for a wildcard."""
    for path in paths:
        if "{" in path or "}" in path:
            raise ValueError(
                f"{path}: Snakemake takes braces for wildcards; rename the file or its folder"
            )


def _check_prompts(config: Config, branch: Branch) -> None:
    """The prompts that a branch has beside the plain one."""
    models, method = config.models, branch.method
    if not method.trained or method.context == "concise":
        # Its scorer sees it: the student or the teacher.
        for model in (models.student, models.teacher):
            _check_words("chat.concise", config.chat.concise, model)
    if method.trained and method.rewriter == "teacher":
        key = "refine" if method.instruction == "refine" else "prompt"
        _check_words(f"compress.{key}", getattr(branch.compress, key), models.teacher)


def _check_token_maps(student: Section, teacher: Section) -> None:
    """Of models that are no folders, `compress` compares the tokens once they are resolved."""
    if not (isinstance(student, FolderModel) and isinstance(teacher, FolderModel)):
        return
    folders = [Path(model.path) for model in (student, teacher)]
    if not all((folder / "tokenizer.json").is_file() for folder in folders):
        return  # `models` refuses a folder without one
    if token_map(folders[0]) != token_map(folders[1]):
        raise ValueError(
            f"{student.path} and {teacher.path} have different token maps: the teacher cannot "
            "score the student's ids; take models.student and models.teacher from one family"
        )


def _check_words(key: str, template: str, model: Section) -> None:
    if not isinstance(model, TinyModel):
        return
    for text in re.split(r"\{problem\}|\{trajectory\}", template):
        piece = unknown_piece(text)
        if piece is not None:
            raise ValueError(
                f"config: {key}: the embedded world has no word {piece!r}; its words are in "
                "mpd/tiny/tokenizer.py"
            )
