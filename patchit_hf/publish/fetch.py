"""Download a pushed checkpoint: ``--resume hub:org/name@revision``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from patchit_hf.common.errors import InputError
from patchit_hf.common.layout import CHECKPOINT_FILES, CHECKPOINTS, METRICS_FILE, SUMS_FILE
from patchit_hf.common.online import offline
from patchit_hf.publish.contents import CHECKPOINT_PATH, newest_checkpoint
from patchit_hf.publish.failures import FailedError, RefusedError, Retry, persist
from patchit_hf.publish.upload import ANSWER_SECONDS, check_repo_id

PREFIX = "hub:"


def fetch_checkpoint(name: str, *, retry: Retry | None = None, api: HfApi | None = None) -> Path:
    """Download the newest checkpoint of a repository into the Hub's cache.

    Only the files of the checkpoint and the run's metrics are read. Without a network, and in
    offline mode, the cached files of that revision are used.

    Args:
        name: ``hub:org/name``, or ``hub:org/name@revision`` with a branch, tag or commit.
        retry: how often and how long to try.
        api: the client to use.

    Returns:
        The folder ``step-<step>`` for ``read_checkpoint``. The metrics up to that step, if any, are
        in ``folder.parent.parent / "metrics.jsonl"``.

    Raises:
        InputError: if there is no such repository, revision or checkpoint, the token has no access
            to it, or it is neither reachable nor cached.
    """
    client = api or HfApi()
    repo_id, _, revision = name.removeprefix(PREFIX).partition("@")
    flag, where = f"--resume {name!r}:", f"revision {revision!r}" if revision else "main branch"
    try:
        check_repo_id(repo_id)
        if offline():
            return _cached(client, repo_id, revision, "offline mode is on (HF_HUB_OFFLINE)")
        return persist(lambda: _download(client, repo_id, revision), retry or Retry())
    except RefusedError as error:
        raise InputError(f"{flag} {error}") from error
    except FailedError as error:
        cause, reason = error.__cause__, error.failure.reason
        if isinstance(cause, RevisionNotFoundError):
            reason = f"the repository has no {where}"
        elif isinstance(cause, RepositoryNotFoundError):
            reason = "no such repository, or the token has no access to it"
        elif error.failure.kind == "network":
            try:
                return _cached(client, repo_id, revision, reason)
            except RefusedError as refused:
                reason = str(refused)
        raise InputError(f"{flag} {reason}") from error


def _download(client: HfApi, repo_id: str, revision: str) -> Path:
    """Download the newest checkpoint; if another is pushed meanwhile, download that one."""
    for _ in range(3):
        info = client.model_info(repo_id, revision=revision or None, timeout=ANSWER_SECONDS)
        names = {file.rfilename for file in info.siblings or []}
        newest = _newest(names)
        if newest is None:
            raise RefusedError(
                "it has no checkpoint; those of a finished run are deleted and only exist in "
                "earlier commits of the repository"
            )
        wanted = [f"{newest}/{name}" for name in CHECKPOINT_FILES]
        wanted += [name for name in (f"{newest}/{SUMS_FILE}", METRICS_FILE) if name in names]
        folder = Path(
            client.snapshot_download(repo_id, revision=revision or None, allow_patterns=wanted)
        )
        if all((folder / name).is_file() for name in wanted):
            return folder / newest
    raise RefusedError("other checkpoints keep being pushed; name a commit")


def _cached(client: HfApi, repo_id: str, revision: str, why: str) -> Path:
    try:
        folder = client.snapshot_download(
            repo_id,
            revision=revision or None,
            local_files_only=True,
            allow_patterns=[f"{CHECKPOINTS}/*"],
        )
    except LocalEntryNotFoundError:
        folder = None
    found = newest_checkpoint(Path(folder)) if folder else None
    if found is None:
        raise RefusedError(f"{why}, and no checkpoint of it is cached")
    return found


def _newest(names: Iterable[str]) -> str | None:
    """Return the folder of the newest complete checkpoint among a repository's files."""
    names = set(names)
    folders = {name.rpartition("/")[0] for name in names if CHECKPOINT_PATH.fullmatch(name)}
    whole = [f for f in folders if all(f"{f}/{name}" in names for name in CHECKPOINT_FILES)]
    return max(whole, default=None)
