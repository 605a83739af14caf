"""Reads secrets that a supervisor hands over as files: systemd's ``$CREDENTIALS_DIRECTORY``, a container's secrets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from cortex_autolearn.adapters import files
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Mapping

NONE: Final = "none"
"""What stands in a credential where there is none: systemd knows no empty one (``SetCredential=``)."""

_MOST_BYTES: Final = 65_536
"""More than any key; a file of profiles, or of one with a session token, takes some thousands."""


def credential(environ: Mapping[str, str], name: str) -> str | None:
    """Return the text of a credential, None where there is none.

    Raises:
        BoundaryError: there is one, and it cannot be read, or is longer than one can be.
    """
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder:
        return None
    path = Path(folder, name)
    with files.wrap("read the credential", path):
        try:
            with path.open("rb") as file:
                found = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            return None
    if len(found) > _MOST_BYTES:  # cut, it would be another one, or one whose end is missing
        cause = f"it holds more than {_MOST_BYTES} bytes"
        hint = "Let it hold the key alone, or only the profile that is used"
        raise BoundaryError("read the credential", str(path), cause, hint=hint, retryable=False)
    # What is no text cannot be a key; whoever uses it says so without showing it.
    text = found.decode("utf-8", "replace").strip()
    return None if text in {"", NONE} else text
