"""What can go wrong between here and the Hub, and whether it makes sense to try again."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import huggingface_hub.utils
from huggingface_hub.errors import (
    HTTPError,  # that of the HTTP library the client uses
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)

from patchit_hf.common.errors import one_line

logger = logging.getLogger(__name__)
T = TypeVar("T")

PASSING = (408, 409, 412, 425, 429)  # and all from 500: the same request may succeed later
STATUS_IN_TEXT = re.compile(r"HTTP status (?:client|server) error \((\d{3})")  # wording of hf_xet
LOG_IN = "log in with: hf auth login, or set HF_TOKEN"
REASONS = {
    401: f"the Hub does not accept the token (401); {LOG_IN}",
    403: "the token has no right to do that (403)",
    409: "another operation is in progress there (409)",
    412: "someone else keeps pushing at the same time (412)",
    429: "too many requests to the Hub (429)",
}


@dataclass(frozen=True)
class Retry:
    """How often and how long a request to the Hub is repeated.

    Attributes:
        attempts: maximum number of attempts.
        base_seconds: wait before the second attempt; each later wait is twice as long.
        limit_seconds: no attempt starts later than this after the first one.
    """

    attempts: int = 6
    base_seconds: float = 2.0
    limit_seconds: float = 300.0


@dataclass(frozen=True)
class Failure:
    """Why something failed.

    Attributes:
        kind: the HTTP status, or one of ``network``, ``offline``, ``answer``, ``storage``,
            ``disk``, ``refused``.
        reason: the reason for users, without a full stop.
        again: whether it makes sense to try again.
        wait: seconds to wait first, if the Hub asked for that.
    """

    kind: str
    reason: str
    again: bool = False
    wait: float | None = None


class RefusedError(Exception):
    """Something that this package itself refuses to do."""


class FailedError(Exception):
    """An attempt that failed for good.

    Attributes:
        failure: the reason.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


def sleep(seconds: float) -> bool:
    """Wait, and return true: the next attempt may start."""
    time.sleep(seconds)
    return True


def persist(attempt: Callable[[], T], retry: Retry, pause: Callable[[float], bool] = sleep) -> T:
    """Call a function until it succeeds or trying again makes no sense.

    Args:
        attempt: the function; a later call may find that an earlier one did part of the work.
        retry: how often and how long to try.
        pause: waits the given seconds and returns whether to go on.

    Returns:
        What the function returned.

    Raises:
        FailedError: with the last failure. Exceptions that do not come from the network, the Hub or
            the disk pass through.

    Example:
        >>> calls = iter([TimeoutError(), None])
        >>> def attempt():
        ...     if error := next(calls):
        ...         raise error
        ...     return "pushed"
        >>> persist(attempt, Retry(base_seconds=0))
        'pushed'
    """
    began = time.monotonic()
    number = 0
    while True:
        number += 1
        try:
            return attempt()
        except Exception as error:
            failure = diagnose(error)
            if failure is None:
                raise
            wait = failure.wait
            wait = retry.base_seconds * 2 ** (number - 1) if wait is None else wait
            late = time.monotonic() - began + wait > retry.limit_seconds
            if not failure.again or number >= retry.attempts or late:
                raise FailedError(failure) from error
            logger.debug("%s; trying again in %.1f s", failure.reason, wait)
            if not pause(wait):
                raise FailedError(failure) from error


def diagnose(error: BaseException) -> Failure | None:
    """Return the meaning of an exception from the Hub's client; None if it is another exception.

    Example:
        >>> diagnose(TimeoutError("no answer in 30 s")).reason
        'the Hub cannot be reached: no answer in 30 s'
    """
    cause = error
    while isinstance(cause, RuntimeError | LocalEntryNotFoundError) and cause.__cause__:
        cause = cause.__cause__  # these two only wrap another exception
    response = getattr(cause, "response", None)
    if isinstance(cause, RefusedError):
        return Failure("refused", one_line(cause))
    if isinstance(cause, OfflineModeIsEnabled):
        return Failure("offline", "offline mode is on (HF_HUB_OFFLINE)")
    if isinstance(cause, LocalTokenNotFoundError):
        return Failure("401", f"no token; {LOG_IN}")
    if isinstance(cause, HTTPError) and response is not None:
        return _by_status(response, getattr(cause, "server_message", None) or "")
    if isinstance(cause, HTTPError | ConnectionError | TimeoutError):
        return _of_network(cause)
    if isinstance(cause, json.JSONDecodeError):
        return Failure("answer", "the Hub's answer cannot be read", again=True)
    if isinstance(cause, ValueError):
        return Failure("refused", one_line(cause))
    if isinstance(cause, OSError) and cause.errno is None:  # hf_xet's own
        return Failure("storage", f"the Hub's storage: {one_line(cause)}", again=True)
    if isinstance(cause, OSError):
        return Failure("disk", one_line(cause))
    return None


def _by_status(response: Any, message: str) -> Failure:
    status = int(response.status_code)
    stated = f": {one_line(message)}" if message else ""
    if response.request.method == "PUT":  # an upload to the storage; its link may have expired
        reason = f"the Hub's storage rejects the files ({status}{stated})"
        return Failure(str(status), reason, again=True, wait=_asked_wait(response))
    trouble = "has an internal problem" if status >= 500 else "rejects the request"
    reason = REASONS.get(status, f"the Hub {trouble} ({status})")
    if status not in (401, 412, 429):  # for these the Hub's message adds nothing
        reason = reason.replace(f"({status})", f"({status}{stated})")
    wait = _asked_wait(response)
    if wait is not None and wait >= 1:
        reason += f" and asks to wait for {wait:.0f} s"
    return Failure(str(status), reason, again=status in PASSING or status >= 500, wait=wait)


def _of_network(error: BaseException) -> Failure:
    found = STATUS_IN_TEXT.search(str(error))
    status = int(found[1]) if found else 0
    if status in (401, 403):
        return Failure(str(status), REASONS[status])
    reason = f"the Hub cannot be reached: {one_line(error)}"
    if isinstance(error, ConnectionError):  # from hf_xet, which uses other hosts
        reason += " (HF_HUB_DISABLE_XET=1 sends files another way)"
    return Failure("network", reason, again=True)


def _asked_wait(response: Any) -> float | None:
    """Return the seconds in ``Retry-After`` (a number or a date) or in the Hub's own header."""
    headers_of_the_hub = getattr(huggingface_hub.utils, "parse_ratelimit_headers", None)  # since 1
    limit = headers_of_the_hub(response.headers) if headers_of_the_hub else None
    if response.status_code == 429 and limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    text = response.headers.get("retry-after", "").strip()
    if text.isdigit():
        return float(text)
    try:
        until = parsedate_to_datetime(text).astimezone(timezone.utc)
    except ValueError:
        return None
    return max(0.0, (until - datetime.now(timezone.utc)).total_seconds())
