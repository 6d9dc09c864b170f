"""Push a finished data set of crops to the Hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi

from patchit_hf.common.errors import InputError
from patchit_hf.publish.failures import (
    FailedError,
    Retry,
    persist,
)
from patchit_hf.publish.upload import check_repo_id, refuse_public

# The contact sheet also shows dropped boxes, and the arguments name folders of this machine.
LOCAL = ("contact_sheet.png", "args.yaml", ".*", ".*/**")


def push_crops(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    retry: Retry | None = None,
    api: HfApi | None = None,
) -> str:
    """Upload a finished data set in one commit.

    Files that the Hub already has are not sent again. Parquet files of an earlier data set in the
    same repository are deleted.

    Args:
        folder: the data set's folder.
        repo_id: ``org/name``; created if missing.
        private: create it as private, and refuse to push to a public repository.
        retry: how often and how long to retry.
        api: the Hub client to use.

    Returns:
        The commit's URL.

    Raises:
        InputError: if the data set is not finished, or the Hub refuses it or cannot be reached.
    """
    client = api or HfApi()
    if not (Path(folder) / "report.json").is_file():
        raise InputError(
            f"{str(folder)!r}: no finished data set of crops; first cut them with patchit crops"
        )
    try:
        return persist(lambda: _commit(client, Path(folder), repo_id, private), retry or Retry())
    except FailedError as error:
        raise InputError(
            f"data set {repo_id!r}: not pushed: {error.failure.reason}. The crops are safe in "
            f"{str(folder)!r}; repeat the command to push them"
        ) from error


def _commit(api: HfApi, folder: Path, repo_id: str, private: bool) -> str:
    check_repo_id(repo_id)
    api.create_repo(repo_id, repo_type="dataset", private=private or None, exist_ok=True)
    refuse_public(api.dataset_info(repo_id), private)
    commit = api.upload_folder(
        repo_id=repo_id,
        repo_type="dataset",
        folder_path=folder,
        ignore_patterns=list(LOCAL),
        delete_patterns=["data/*.parquet"],
        commit_message="Person crops",
    )
    return str(commit.commit_url)
