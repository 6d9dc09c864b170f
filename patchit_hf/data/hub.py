"""A data set of the Hub, or the copy of it in the cache, which is said and recorded."""

from __future__ import annotations

import logging
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RevisionNotFoundError,
)

from patchit_hf.common.errors import InputError, did_you_mean_file, one_line
from patchit_hf.common.hub_access import HubAccess
from patchit_hf.common.online import cached_if_unreachable, offline, unreachable
from patchit_hf.data.folder import load

logger = logging.getLogger(__name__)

NOT_THERE = "the Hub has no data set of this name, or only a private one"
SECONDS = 20.0  # that the Hub may take to say whether it has a data set


def load_from_hub(
    name: str, streaming: bool, access: HubAccess, notes: dict[str, str]
) -> dict[str, Any]:
    """Load a data set of the Hub.

    ``datasets`` falls back on its cache whenever the Hub does not deliver, and then takes any data
    set of this name, also one that was made from a folder of this name elsewhere. That is allowed
    where the name is a repository's (``org/name``), and refused for a word that may have been meant
    as a folder.

    Args:
        name: ``org/name``, or the name of a data set without an owner.
        streaming: whether to read it as a stream.
        access: how the Hub is read.
        notes: gets ``cached_copy``, why the Hub's own data set was not read, where that is so.

    Raises:
        InputError: if it cannot be read, or only a copy could be that may be something else.
    """
    why = not_delivered(name, access)
    if why is not None:
        if "/" not in name:
            hint = did_you_mean_file(name)
            raise InputError(f"--dataset {name!r}: no such folder, and {why}{hint}")
        if access.revision is not None:  # the cache does not know of which it is
            raise InputError(f"--dataset {name!r}, revision {access.revision!r}: {why}")
        logger.warning(
            "--dataset %s: %s; the copy in the cache is used, if there is one", name, why
        )
    with cached_if_unreachable(f"--dataset {name}"):
        splits = load(name, name, streaming, **access.options())
    if why is not None:
        notes["cached_copy"] = why
    if access.revision is not None:
        notes["revision"] = access.revision
    return splits


def not_delivered(name: str, access: HubAccess) -> str | None:
    """Return why the Hub does not deliver a data set; None if it does.

    Args:
        name: of the data set.
        access: how the Hub is read.
    """
    if offline():
        return "the Hub is not asked (HF_HUB_OFFLINE)"
    reason = unreachable()
    if reason is not None:
        return reason
    try:
        HfApi(token=access.token).dataset_info(name, revision=access.revision, timeout=SECONDS)
    except GatedRepoError:
        return "the Hub has not given you access to this data set (gated)"
    except RevisionNotFoundError:
        return f"the Hub has no revision {access.revision!r} of it"
    except HFValidationError:
        return NOT_THERE
    except Exception as error:  # whatever its client raises
        if getattr(getattr(error, "response", None), "status_code", None) in (401, 404):
            return NOT_THERE
        return f"the Hub does not answer: {one_line(error)}"
    return None
