"""Check before the work that its result may be pushed; hours later it is too late."""

from __future__ import annotations

import logging
import threading
from typing import Any, Literal

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import RepositoryNotFoundError

from patchit_hf.common.errors import InputError
from patchit_hf.common.online import offline
from patchit_hf.publish.failures import LOG_IN, RefusedError, diagnose
from patchit_hf.publish.upload import ANSWER_SECONDS, check_repo_id, refuse_public

logger = logging.getLogger(__name__)

RepoType = Literal["model", "dataset"]
FLAGS = {
    "model": "--hub-model-id",
    "dataset": "--push-to-hub",
}  # the flags that name the repository
GOES_ON = {
    "model": "the run starts, and pushes when it can",
    "dataset": "the crops are cut, and pushed when they are finished",
}
LATER = {
    "model": "leave out --push-to-hub and push the run's folder later with: "
    "patchit push FOLDER {repo_id}",
    "dataset": "give --output instead, and run the same command with --push-to-hub later",
}


def check_push(
    repo_id: str,
    *,
    repo_type: RepoType = "model",
    private: bool = False,
    api: HfApi | None = None,
    seconds: float = ANSWER_SECONDS,
) -> None:
    """Check that this token may push to a repository; nothing is created.

    This takes one request if the repository exists, two if not. A Hub that cannot be reached only
    causes a warning, because it may be back when the work is done.

    Args:
        repo_id: ``org/name``.
        repo_type: ``model``, or ``dataset`` for crops.
        private: whether the repository must be private.
        api: the client to use.
        seconds: how long to wait for an answer.

    Raises:
        InputError: if the name is not valid, the token is missing, wrong or may not write there,
            the repository is public but must be private, or offline mode is on.
    """
    client = api or HfApi()
    flag = f"{FLAGS[repo_type]} {repo_id!r}:"
    try:
        check_repo_id(repo_id)
        if offline():
            raise RefusedError(
                "cannot push in offline mode (HF_HUB_OFFLINE); "
                + LATER[repo_type].format(repo_id=repo_id)
            )
        if not (client.token or get_token()):
            raise RefusedError(f"pushing needs a token; {LOG_IN}")
        _within(seconds, client, repo_id, repo_type, private)
    except RefusedError as error:
        raise InputError(f"{flag} {error}") from error
    except Exception as error:
        failure = diagnose(error)
        if failure is None:
            raise
        if not failure.again:
            raise InputError(f"{flag} {failure.reason}") from error
        logger.warning("%s %s; %s", flag, failure.reason, GOES_ON[repo_type])


def _within(
    seconds: float, client: HfApi, repo_id: str, repo_type: RepoType, private: bool
) -> None:
    """Ask in a thread, because some of the client's requests have no time limit."""
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            _ask(client, repo_id, repo_type, private)
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=ask, name="hub-check", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer in {seconds:.0f} s")
    if raised:
        raise raised[0]


def _ask(client: HfApi, repo_id: str, repo_type: RepoType, private: bool) -> None:
    try:
        client.auth_check(repo_id, repo_type=repo_type, write=True)
        if private:
            look = client.dataset_info if repo_type == "dataset" else client.model_info
            refuse_public(look(repo_id), private)
    except RepositoryNotFoundError:
        _may_create(client.whoami(), repo_id.split("/")[0])


def _may_create(user: dict[str, Any], owner: str) -> None:
    """Check that a user may create a repository.

    Raises:
        RefusedError: if the token is read-only, or the owner is someone else.
    """
    orgs = {org.get("name"): org.get("roleInOrg") for org in user.get("orgs", [])}
    if user.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise RefusedError("the token is read-only; create one with write access")
    if owner != user.get("name") and orgs.get(owner, "read") == "read":
        names = [str(user.get("name"))]
        names += [str(name) for name, role in orgs.items() if role != "read"]
        raise RefusedError(f"the token may not write to {owner!r}, only to: {', '.join(names)}")
