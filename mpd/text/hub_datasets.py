"""Datasets of the Hugging Face hub at one revision: from the hub, or from what the cache has.

Where the library datasets cannot reach the hub, it takes the newest revision that it has prepared,
whichever was asked for, and does not look at a snapshot that was downloaded as a whole.
"""

import logging
import re
from pathlib import Path
from typing import Any

from mpd.config.problems import Source
from mpd.store import hub
from mpd.store.files import read_json

log = logging.getLogger("mpd")

_PART = re.compile(r"(.*-)(\d{5})(-of-)(\d{5})(\..*)")  # a file of several with the same rows


def hub_dataset(source: Source) -> Any:
    """The rows of a split of a dataset, at the revision of the source.

    Raises ValueError where neither the hub nor the cache has them, or the library cannot read them.
    """
    import datasets
    from yaml import YAMLError

    datasets.disable_progress_bars()
    try:
        return _dataset(source)
    except datasets.exceptions.DatasetsError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno is not None:  # such as a full disk
            raise cause from None
        words = str(cause or error).strip().replace("\n", " ")
        raise ValueError(f"{source.path}: {words}; fix config, split or revision") from error
    except (RuntimeError, YAMLError) as error:  # of a loading script, and of tags in its card
        words = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{source.path}: {words}; take a dataset of plain data files, such as Parquet"
        ) from error
    except ValueError as error:  # of a configuration or a split that is not there
        message = str(error).strip().replace("\n", " ")
        named = message.startswith(f"{source.path}:")
        raise ValueError(message if named else f"{source.path}: {message}") from error


def _dataset(source: Source) -> Any:
    import datasets

    name, revision = str(source.path), str(source.revision)
    refusal = hub.refusal("dataset", name, revision)
    if refusal is None:
        try:
            builder = datasets.load_dataset_builder(name, source.config, revision=revision)
            if builder.hash == revision:  # else the connection broke, and it is what was prepared
                builder.download_and_prepare()
                return builder.as_dataset(source.split)
        except Exception as error:
            if not hub.is_unreachable(error):
                raise
            refusal = error
    prepared = _prepared(name, revision)
    folder = prepared.get(source.config or "default")
    if folder is not None:
        log.info("%s is taken from the cache, %s", name, folder)
        return _builder_of(name, folder).as_dataset(source.split)
    try:
        return _snapshot(source, refusal)
    except ValueError as error:
        if not prepared:
            raise
        configs = ", ".join(prepared)
        raise ValueError(f"{error}; or set config to what the cache has: {configs}") from error


def _snapshot(source: Source, refusal: Exception | None) -> Any:
    """The rows of a split in the snapshot of a dataset in the cache."""
    import datasets

    name, revision = str(source.path), str(source.revision)
    folder = hub.complete_snapshot("dataset", name, revision, refusal)
    log.info("%s is taken from the cache, %s", name, folder)
    try:
        lost = _lost_part(folder)
        if lost:
            raise FileNotFoundError(f"no {lost}")
        return datasets.load_dataset(str(folder), source.config, split=source.split)
    except FileNotFoundError as error:
        if error.errno is not None:
            raise
        words, advice = str(error).splitlines()[0], hub.advice("dataset", name, revision)
        raise ValueError(f"{name}: {folder} is incomplete ({words}); {advice}") from None
    except ValueError as error:
        raise ValueError(f"{error} (in {folder})") from error


def _prepared(name: str, revision: str) -> dict[str, Path]:
    """The folders in which the library keeps what it prepared of a revision, by configuration."""
    import datasets
    from datasets.naming import camelcase_to_snakecase

    *owner, short = name.split("/")
    parts = [*owner, camelcase_to_snakecase(short)]
    cache = Path(datasets.config.HF_DATASETS_CACHE) / "___".join(parts)
    folders = sorted(cache.glob(f"*/*/{revision}"))
    configs = [read_json(folder / "dataset_info.json").get("config_name") for folder in folders]
    return {
        config: folder
        for config, folder in zip(configs, folders, strict=True)
        if isinstance(config, str) and config == folder.parts[-3]  # all of its files
    }


def _builder_of(name: str, folder: Path) -> Any:
    """The builder of what the library prepared in a folder of its cache."""
    from datasets.packaged_modules.cache.cache import Cache

    config, version, revision = folder.parts[-3:]
    short = name.rpartition("/")[-1]
    return Cache(
        dataset_name=short, repo_id=name, config_name=config, version=version, hash=revision
    )


def _lost_part(folder: Path) -> str | None:
    """The first file that is not there of those that are parts of one split."""
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    for part in filter(None, map(_PART.fullmatch, sorted(names))):
        before, _, between, count, after = part.groups()
        for number in range(int(count)):
            name = f"{before}{number:05d}{between}{count}{after}"
            if name not in names:
                return name
    return None
