"""Push a run's folder to the Hub: ``python -m patchit_hf.publish.hub FOLDER org/name``.

It knows nothing of training. A finished run's export goes up as it lies in its folder; of a run
that is not finished, the newest checkpoint, which ``--resume hub:org/name`` continues from.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
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

from patchit_hf.common.console import guarded
from patchit_hf.common.errors import InputError
from patchit_hf.publish.contents import Contents, contents_of
from patchit_hf.publish.failures import FailedError, Failure, RefusedError, Retry, persist, sleep

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 30.0  # in which the Hub has to answer the first question


@dataclass(frozen=True)
class Target:
    """Where to push to.

    Attributes:
        repo_id: ``org/name``; created if missing.
        private: whether it has to be private.
        revision: branch, created if missing; the main one by default.
        include_people: whether pictures of single people go too.
    """

    repo_id: str
    private: bool = False
    revision: str | None = None
    include_people: bool = False

    def command(self, folder: Path, message: str | None = None) -> str:
        """Return the command that pushes a folder there."""
        words = ["python", "-m", "patchit_hf.publish.hub", str(folder), self.repo_id]
        words += ["--private"] if self.private else []
        words += ["--revision", self.revision] if self.revision else []
        words += ["--include-people"] if self.include_people else []
        words += ["--message", message] if message else []
        return shlex.join(words)


class NotPushedError(InputError):
    """A push that failed for good; the message says what to do.

    Attributes:
        failure: why.
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
    """Upload a run's folder in one commit; files that the Hub has already are not sent again.

    A finished run's export replaces the run's checkpoints, which stay in the repository's history.
    A run that is not finished leaves its newest checkpoint there and no other. Files of other
    names stay as they are, also those that somebody pushes in between.

    Args:
        folder: a run's folder.
        repo_id: ``org/name``; created if missing.
        private: create it as private, and refuse to push to a public one.
        revision: branch, created if missing; the main one by default.
        message: the commit's message; what was trained, and how well, by default.
        include_people: also upload the figures that show single people of the user's data.
        retry: how long the Hub is tried again.
        api: the client to use.

    Returns:
        The commit's URL.

    Raises:
        InputError: if the folder has nothing to push.
        NotPushedError: if the Hub refuses or cannot be reached. Its one line says that the folder
            is safe, and names the command that pushes it later.
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
    """Upload what a folder has for the Hub; see ``push_folder``."""
    client = api or HfApi()
    try:
        url = persist(lambda: _commit(client, target, contents, message), retry, pause)
    except FailedError as error:
        what = "export" if contents.finished else "checkpoint"
        raise NotPushedError(
            f"repository {target.repo_id!r}: not pushed: {error.failure.reason}. The {what} "
            f"lies safe in {str(folder)!r}; push it later with: {target.command(folder, message)}",
            error.failure,
        ) from error
    logger.debug("pushed to %s", url)
    return url


def check_repo_id(repo_id: str) -> None:
    """Check a repository's name without asking anybody.

    Raises:
        RefusedError: if it is no ``org/name``.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise RefusedError(f"is no name of a repository: {error}") from error
    if repo_id.count("/") != 1:
        raise RefusedError("must be org/name, with the name of a user or an organisation")


def _commit(api: HfApi, target: Target, contents: Contents, message: str | None) -> str:
    """Bring the repository's branch to what the contents say: one attempt, one commit."""
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
            parent_commit=head.sha,  # what is taken away was listed there
        )
    except RevisionNotFoundError as error:
        raise RefusedError(f"{target.revision!r} is no branch") from error
    return str(commit.commit_url)


def _open(api: HfApi, target: Target) -> ModelInfo:
    """Return the branch's head and files; repository and branch are made if missing."""
    try:
        head = _look(api, target)
    except RepositoryNotFoundError:
        api.create_repo(target.repo_id, private=target.private or None, exist_ok=True)
        if target.revision:
            api.create_branch(target.repo_id, branch=target.revision, exist_ok=True)
        try:
            head = _look(api, target)
        except RepositoryNotFoundError as error:
            raise RefusedError("the name is taken, and not for this token to see") from error
    except RevisionNotFoundError:
        api.create_branch(target.repo_id, branch=str(target.revision), exist_ok=True)
        head = _look(api, target)
    refuse_public(head, target.private)
    return head


def _look(api: HfApi, target: Target) -> ModelInfo:
    return api.model_info(target.repo_id, revision=target.revision, timeout=ANSWER_SECONDS)


def refuse_public(head: ModelInfo | DatasetInfo, private: bool) -> None:
    """Hold back what has to be private from a repository that is not.

    Raises:
        RefusedError: if the repository is public.
    """
    if private and head.private is False:
        raise RefusedError(
            "it is to be private, and the repository exists and is public; make it private in its "
            "settings, or do not ask for private"
        )


def run(argv: list[str] | None = None) -> int:
    """Push a folder as the words say.

    Returns:
        The exit code.

    Raises:
        InputError: for bad input, or a push that failed.
    """
    parser = argparse.ArgumentParser(
        prog="python -m patchit_hf.publish.hub",
        description="Push a run's folder to the Hub: its export, or else its newest checkpoint.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="the run's folder")
    parser.add_argument("repo_id", metavar="ORG/NAME", help="repository; created if missing")
    parser.add_argument("--private", action="store_true", help="it has to be private")
    parser.add_argument("--revision", help="branch; created if missing")
    parser.add_argument("--message", help="the commit's message")
    parser.add_argument(
        "--include-people",
        action="store_true",
        help="also upload the figures that show single people of your data",
    )
    words = vars(parser.parse_args(argv))
    sys.stdout.write(push_folder(words.pop("folder"), words.pop("repo_id"), **words) + "\n")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; bad input is one line on stderr and exit code 2."""
    return guarded(run, argv, "the same command sends what is missing")


if __name__ == "__main__":
    sys.exit(main())
