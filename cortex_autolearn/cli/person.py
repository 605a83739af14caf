"""Who gives a command, and what they say with it, as the state and its events can hold them."""

from __future__ import annotations

import getpass
import os


def person() -> str:
    """Return the name of whoever runs this command; of a user without one, as in many containers, the number."""
    try:
        return clean(getpass.getuser())
    except (OSError, KeyError, ImportError):
        return f"user {os.getuid()}"


def clean(text: str) -> str:
    """Return a text from the shell without the bytes that are no UTF-8, which neither SQLite nor an event can hold."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
