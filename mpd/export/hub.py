"""Uploads a model folder and a data set folder to the Hugging Face hub, or a server like it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

from mpd.store.hub import is_unreachable

TYPES = {"model": "model", "data": "dataset"}  # folder to the kind of repository
REFUSALS = (HFValidationError, LocalTokenNotFoundError, HfHubHTTPError, OSError)


def create(name: str, public: bool) -> list[str]:
    """Make both repositories of one name unless they are there; returns their addresses.

    They are private unless `public`. Token and server are those of huggingface_hub: HF_TOKEN or
    `hf auth login`, and HF_ENDPOINT. Raises ValueError where the server refuses, and where one of
    them is there, everybody sees it, and that was not asked for.
    """
    api, addresses = HfApi(), []
    for kind in TYPES.values():
        with _in_a_sentence(api, name, kind):
            address = api.create_repo(name, repo_type=kind, private=not public, exist_ok=True)
            is_private = api.repo_info(name, repo_type=kind).private
        if not (public or is_private):
            raise ValueError(
                f"--push {name}: the {kind} is at {api.endpoint} already, and everybody sees it; "
                "give --public, or another name"
            )
        addresses.append(str(address))
    return addresses


def upload(folders: Mapping[str, Path], name: str) -> None:
    """Upload the folders, by the names in TYPES. Raises ValueError where the server refuses."""
    api = HfApi()
    for key, folder in folders.items():
        kind = TYPES[key]
        with _in_a_sentence(api, name, kind):
            api.upload_folder(
                repo_id=name,
                folder_path=folder,
                repo_type=kind,
                commit_message="Upload from MPD",
            )


@contextmanager
def _in_a_sentence(api: HfApi, name: str, kind: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not (isinstance(error, REFUSALS) or is_unreachable(error)):
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"--push {name}: the {kind} was not uploaded to {api.endpoint} ({lines[0]}); check "
            "the network, the name and the token (HF_TOKEN, or hf auth login)"
        ) from error
