"""Upload a folder to the Hugging Face hub, with the token of the hub's own client."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi

from ...errors import FetchError
from .hub import endpoint, is_offline
from .hub_log import one_line_of_retries


def push_folder(folder: Path, repository: str, *, private: bool = True) -> str:
    """Upload a folder as a model repository; return its address.

    Args:
        folder: Folder to upload.
        repository: "owner/name"; created if absent.
        private: Whether a new repository is private.

    Raises:
        FetchError: The hub cannot be reached, or refuses: there is no token, or it may not write.
    """
    if is_offline():
        message = "HF_HUB_OFFLINE forbids to upload. The folder is written; unset it to upload."
        raise FetchError(message)
    api = HfApi(endpoint=endpoint(), library_name="cryo-hpo")
    try:
        with one_line_of_retries(endpoint()):
            api.create_repo(repository, private=private, exist_ok=True)
            api.upload_folder(repo_id=repository, folder_path=folder)
    except Exception as error:  # the client's own, its transport's, or OSError
        reason = str(error).split("\n", 1)[0].rstrip(" .")
        message = (
            f"'{repository}' cannot be uploaded to {endpoint()}: {type(error).__name__}: {reason}. "
            f"The folder '{folder}' is written. Set HF_TOKEN to a token that may write, or run "
            "`hf auth login`."
        )
        raise FetchError(message) from error
    return f"{endpoint()}/{repository}"
