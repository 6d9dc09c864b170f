"""Upload an exported folder to the Hub. It knows nothing of training."""

from __future__ import annotations

import logging
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    HFValidationError,
    HTTPError,  # of whichever HTTP library the client uses
    OfflineModeIsEnabled,
)

from patchit_hf.errors import InputError
from patchit_hf.runs import DONE_FILE

logger = logging.getLogger(__name__)

PUSHED = ("*.safetensors", "*.json", "*.md", "*.jsonl", "figures/*.png")
LEFT = ("checkpoints/*", "run.json", ".*")


def push_folder(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    api: HfApi | None = None,
) -> str:
    """Upload an export in one commit; files that the Hub has already are not sent again.

    Args:
        folder: an exported folder.
        repo_id: ``org/name``; created if missing.
        private: whether a new repository is private.
        revision: branch, created if missing; the main one by default.
        message: the commit's message.
        api: the client to use.

    Returns:
        The commit's URL.

    Raises:
        InputError: if the folder is no export, or the Hub refuses or cannot be reached; the line
            names the command that pushes the folder later.
    """
    folder = Path(folder)
    if not (folder / DONE_FILE).is_file():
        raise InputError(f"{str(folder)!r} is no export: it has no {DONE_FILE}")
    api = api or HfApi()
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            revision=revision,
            commit_message=message or "Upload a PatchTask-pretrained backbone",
            allow_patterns=list(PUSHED),
            ignore_patterns=list(LEFT),
        )
    except (
        HFValidationError,
        OfflineModeIsEnabled,
        HTTPError,
        OSError,
    ) as error:
        reason = " ".join(str(error).split())
        branch = f" --revision {revision}" if revision else ""
        raise InputError(
            f"--hub-model-id {repo_id!r}: not pushed: {reason}. The export is safe in "
            f"{str(folder)!r}; push it later with: hf upload {repo_id} {folder} . "
            f"--exclude 'checkpoints/*'{branch}"
        ) from error
    logger.info("pushed to %s", commit.commit_url)
    return str(commit.commit_url)
