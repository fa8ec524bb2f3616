"""Uploads a model folder and a data set folder to the Hugging Face hub, or a server like it."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

TYPES = {"model": "model", "data": "dataset"}  # folder to the kind of repository


def push(folders: dict[str, Path], name: str, public: bool) -> list[str]:
    """Upload the folders as repositories of one name; returns their addresses.

    `folders` by the names in TYPES. Repositories that are made are private unless `public`; those
    that are there keep what they are. Token and server are those of huggingface_hub: HF_TOKEN or
    `hf auth login`, and HF_ENDPOINT. Raises ValueError where the server refuses.
    """
    api = HfApi()
    addresses = []
    for kind, folder in folders.items():
        kind = TYPES[kind]
        try:
            address = api.create_repo(name, repo_type=kind, private=not public, exist_ok=True)
            api.upload_folder(
                repo_id=name,
                folder_path=folder,
                repo_type=kind,
                commit_message="Upload from MPD",
            )
        except (HFValidationError, LocalTokenNotFoundError, HfHubHTTPError, OSError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(
                f"--push {name}: the {kind} was not uploaded to {api.endpoint} ({lines[0]}); check "
                "the name and the token (HF_TOKEN, or hf auth login)"
            ) from error
        addresses.append(str(address))
    return addresses
