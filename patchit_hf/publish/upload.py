"""Push a run's folder to the Hub: ``patchit push RUN org/name``.

This module knows nothing of training. From a finished run it pushes the export as it is in the
folder. From an unfinished run it pushes the newest checkpoint; ``--resume hub:org/name`` continues
from it.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    DatasetInfo,
    HfApi,
    ModelInfo,
)
from huggingface_hub.errors import (
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from patchit_hf.common.errors import InputError
from patchit_hf.publish.contents import Contents, contents_of
from patchit_hf.publish.failures import FailedError, Failure, RefusedError, Retry, persist, sleep

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 30.0  # limit for the Hub's answer to the first request


@dataclass(frozen=True)
class Target:
    """Where to push to.

    Attributes:
        repo_id: ``org/name``; created if missing.
        private: whether it must be private.
        revision: branch, created if missing; the main one by default.
        include_people: whether images of single people are pushed too.
    """

    repo_id: str
    private: bool = False
    revision: str | None = None
    include_people: bool = False

    def command(self, folder: Path, message: str | None = None) -> str:
        """Return the command that pushes a folder there."""
        words = ["patchit", "push", str(folder), self.repo_id]
        words += ["--private"] if self.private else []
        words += ["--revision", self.revision] if self.revision else []
        words += ["--include-people"] if self.include_people else []
        words += ["--message", message] if message else []
        return shlex.join(words)


class NotPushedError(InputError):
    """A push that failed for good; the message says what to do.

    Attributes:
        failure: the reason.
    """

    def __init__(self, line: str, failure: Failure) -> None:
        super().__init__(line)
        self.failure = failure


def push_folder(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    include_people: bool = False,
    retry: Retry | None = None,
    api: HfApi | None = None,
) -> str:
    """Upload a run's folder in one commit; files that the Hub already has are not sent again.

    The export of a finished run replaces the run's checkpoints, which stay in the repository's
    history. An unfinished run leaves only its newest checkpoint there. Files with other names stay
    unchanged, even those that someone pushes meanwhile.

    Args:
        folder: a run's folder.
        repo_id: ``org/name``; created if missing.
        private: create it as private, and refuse to push to a public one.
        revision: branch, created if missing; the main one by default.
        message: commit message; by default what was trained and the result.
        include_people: also upload the figures that show single people of the user's data.
        retry: how often and how long to try.
        api: the client to use.

    Returns:
        The URL of the commit.

    Raises:
        InputError: if the folder has nothing to push.
        NotPushedError: if the Hub rejects the push or cannot be reached. The message says that the
            folder is safe, and gives the command that pushes it later.
    """
    target = Target(repo_id, private, revision, include_people)
    folder = Path(folder)
    contents = contents_of(folder, include_people)
    return upload(contents, target, folder, message, retry=retry or Retry(), api=api)


def upload(
    contents: Contents,
    target: Target,
    folder: Path,
    message: str | None = None,
    *,
    retry: Retry,
    api: HfApi | None = None,
    pause: Callable[[float], bool] = sleep,
) -> str:
    """Upload the selected files of a folder; see ``push_folder``."""
    client = api or HfApi()
    try:
        url = persist(lambda: _commit(client, target, contents, message), retry, pause)
    except FailedError as error:
        what = "export" if contents.finished else "checkpoint"
        raise NotPushedError(
            f"repository {target.repo_id!r}: not pushed: {error.failure.reason}. The {what} "
            f"is safe in {str(folder)!r}; push it later with: {target.command(folder, message)}",
            error.failure,
        ) from error
    logger.debug("pushed to %s", url)
    return url


def check_repo_id(repo_id: str) -> None:
    """Check the name of a repository, without the network.

    Raises:
        RefusedError: if it is not ``org/name``.

    Example:
        >>> check_repo_id("resnet18")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        patchit_hf.publish.failures.RefusedError: must be org/name, ...
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise RefusedError(f"not a valid repository name: {error}") from error
    if repo_id.count("/") != 1:
        raise RefusedError("must be org/name, with the name of a user or an organisation")


def _commit(api: HfApi, target: Target, contents: Contents, message: str | None) -> str:
    """Make one attempt to bring the repository's branch to the given contents, in one commit."""
    check_repo_id(target.repo_id)
    head = _open(api, target)
    there = [file.rfilename for file in head.siblings or []]
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=file)
        for name, file in contents.files.items()
    ]
    operations += [
        CommitOperationDelete(path_in_repo=name, is_folder=False) for name in contents.stale(there)
    ]
    try:
        commit = api.create_commit(
            target.repo_id,
            operations,
            commit_message=message or contents.title,
            revision=target.revision,
            parent_commit=head.sha,  # the deletions are based on this commit's files
        )
    except RevisionNotFoundError as error:
        raise RefusedError(f"{target.revision!r} is not a branch") from error
    return str(commit.commit_url)


def _open(api: HfApi, target: Target) -> ModelInfo:
    """Return the branch's head and files; create repository and branch if missing."""
    try:
        head = _look(api, target)
    except RepositoryNotFoundError:
        api.create_repo(target.repo_id, private=target.private or None, exist_ok=True)
        if target.revision:
            api.create_branch(target.repo_id, branch=target.revision, exist_ok=True)
        try:
            head = _look(api, target)
        except RepositoryNotFoundError as error:
            raise RefusedError("the name is taken, and the token has no access to it") from error
    except RevisionNotFoundError:
        api.create_branch(target.repo_id, branch=str(target.revision), exist_ok=True)
        head = _look(api, target)
    refuse_public(head, target.private)
    return head


def _look(api: HfApi, target: Target) -> ModelInfo:
    return api.model_info(target.repo_id, revision=target.revision, timeout=ANSWER_SECONDS)


def refuse_public(head: ModelInfo | DatasetInfo, private: bool) -> None:
    """Check that a repository is private if it must be.

    Raises:
        RefusedError: if it is public.
    """
    if private and head.private is False:
        raise RefusedError(
            "it must be private, but the repository exists and is public; make it private in its "
            "settings, or leave out private"
        )
