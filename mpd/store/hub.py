"""What the Hugging Face cache holds, for machines that cannot reach the hub."""

from collections.abc import Sequence
from pathlib import Path

NUM_NAMED = 3  # files or revisions that a message names


def is_unreachable(error: Exception) -> bool:
    """Whether an error of a library says that the hub, or something in it, cannot be reached.

    Errors of this machine, such as a full disk, have a number.
    """
    library = type(error).__module__.partition(".")[0]
    return library in ("httpx", "httpx2") or (isinstance(error, OSError) and error.errno is None)


def refusal(kind: str, name: str, revision: str) -> Exception | None:
    """Why the hub does not give a revision of a model or a dataset; None where it does."""
    from huggingface_hub import HfApi

    try:
        HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=30)
    except Exception as error:
        if not is_unreachable(error):
            raise
        return error
    return None


def complete_snapshot(
    kind: str,
    name: str,
    revision: str,
    error: Exception | None,
    used: list[str] | None = None,
    ignored: list[str] | None = None,
) -> Path:
    """The folder in the cache with a revision of a model or a dataset, which `kind` says.

    `error` is that of the hub. Raises ValueError with what to do where the cache lacks the
    revision, or one of its files: of those that match a pattern of `used` and none of `ignored`.
    """
    repository = _repository(kind, name)
    folder = repository / "snapshots" / revision
    others = sorted(path.name for path in folder.parent.glob("*") if path != folder)
    missing = _missing(folder, kind, name, used, ignored)
    if not folder.is_dir() and others:
        state = f"{repository} has other revisions: {_first(others)}"
    elif not folder.is_dir():
        state = f"the cache has no folder {repository}"
    elif missing:
        state = f"its folder {folder} in the cache lacks {_first(missing)}"
    else:
        return folder
    raise ValueError(f"{name}: {_cause(error)}, and {state}; {advice(kind, name, revision)}")


def advice(kind: str, name: str, revision: str) -> str:
    """How to fill the cache with a revision of a model or a dataset."""
    option = "" if kind == "model" else f" --repo-type {kind}"
    return (
        f"download it where there is a network (hf download{option} {name} --revision {revision}), "
        "or set HF_HOME to the folder of a cache that has it"
    )


def _missing(
    folder: Path,
    kind: str,
    name: str,
    used: list[str] | None,
    ignored: list[str] | None,
) -> list[str]:
    """Files that a cached revision lacks: what its links lead to, and what its list names."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError
    from huggingface_hub.utils import filter_repo_objects

    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink()}
    try:
        tree = get_cached_repo_tree(name, repo_type=kind, revision=folder.name)
        names |= {file.path for file in tree}
    except CachedRepoTreeNotFoundError:  # a cache of an earlier version, or filled file by file
        pass
    wanted = filter_repo_objects(sorted(names), allow_patterns=used, ignore_patterns=ignored)
    return [file for file in wanted if not (folder / file).is_file()]


def _cause(error: Exception | None) -> str:
    from huggingface_hub import constants, errors

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE forbids a download"
    if isinstance(error, errors.GatedRepoError):
        return "the hub gives it only to those with access (ask on its page, and set HF_TOKEN)"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the hub has no such revision"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "the hub has no such name, or shows it only with HF_TOKEN set"
    words = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"the hub cannot be reached ({words[:200]})"


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else ""
    return ", ".join(names[:NUM_NAMED]) + more


def _repository(kind: str, name: str) -> Path:
    """The folder of a model or a dataset in the cache."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind)
