"""How files of the Hub are read: the three arguments that every loader has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchit_hf.common.errors import InputError


@dataclass(frozen=True)
class HubAccess:
    """Which revision of a repository is read, where its files are kept, and with which token.

    Attributes:
        revision: branch, tag or commit; None for the one in the name, or else the main branch.
        cache_dir: where files of the Hub are kept; None for the usual place.
        token: for the Hub; None for that of the login, False for none.

    Example:
        >>> HubAccess(revision="v1").options()
        {'revision': 'v1'}
    """

    revision: str | None = None
    cache_dir: str | Path | None = None
    token: str | bool | None = None

    def options(self) -> dict[str, Any]:
        """Return those that are given, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def refuse_revision(self, name: str) -> None:
        """Check that no revision is asked of what has none, such as a local folder.

        Raises:
            InputError: if one is.
        """
        if self.revision is not None:
            raise InputError(
                f"{name!r}: is not on the Hub, so it has no revision {self.revision!r}"
            )


USUAL = HubAccess()
