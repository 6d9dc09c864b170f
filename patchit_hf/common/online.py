"""Whether the Hub can be reached, asked once and quickly: its client tries for 40 seconds."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies

logger = logging.getLogger(__name__)

SECONDS = 5.0  # limit for the Hub to take up a connection


def offline() -> bool:
    """Return whether the Hub's client is in offline mode, now: tests and callers change it."""
    from huggingface_hub import constants  # its is_offline_mode() is of version 1

    return bool(constants.HF_HUB_OFFLINE)


def unreachable() -> str | None:
    """Return why the Hub cannot be reached; None if it can, or if only a proxy knows."""
    from huggingface_hub import constants

    place = urlsplit(constants.ENDPOINT)
    port = place.port or (80 if place.scheme == "http" else 443)
    if getproxies().get(place.scheme) or not place.hostname:
        return None
    try:
        socket.create_connection((place.hostname, port), SECONDS).close()
    except OSError as error:
        return f"{place.hostname} cannot be reached ({error.strerror or error})"
    return None


@contextmanager
def cached_if_unreachable(what: str) -> Iterator[None]:
    """Use what is in the Hub's cache where the Hub cannot be reached, instead of trying for long.

    Args:
        what: what is read, for a warning.
    """
    import datasets
    from huggingface_hub import constants

    reason = None if offline() else unreachable()
    if reason is None:
        yield
        return
    logger.warning("%s: %s; only what is in the cache can be used", what, reason)
    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before
