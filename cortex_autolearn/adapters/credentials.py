"""Reads secrets that a supervisor hands over as files: systemd's ``$CREDENTIALS_DIRECTORY``, a container's secrets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from cortex_autolearn.adapters import files

if TYPE_CHECKING:
    from collections.abc import Mapping

NONE: Final = "none"
"""What stands in a credential where there is none: systemd knows no empty one (``SetCredential=``)."""

_MOST_BYTES: Final = 4_096


def credential(environ: Mapping[str, str], name: str) -> str | None:
    """Return the text of a credential, None where there is none.

    Raises:
        BoundaryError: there is one, and it cannot be read.
    """
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder:
        return None
    path = Path(folder, name)
    with files.wrap("read the credential", path):
        try:
            with path.open("rb") as file:
                found = file.read(_MOST_BYTES)
        except FileNotFoundError:
            return None
    # What is no text cannot be a key; whoever uses it says so without showing it.
    text = found.decode("utf-8", "replace").strip()
    return None if text in {"", NONE} else text
