"""What a doctor looks at, and what a look finds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

from cortex_autolearn.adapters.store.database import Reading
from cortex_autolearn.adapters.tree import Tree
from cortex_autolearn.model import instants
from cortex_autolearn.settings import Settings

Verdict = Literal["ok", "warn", "fail"]


class Check(NamedTuple):
    """One thing that was looked at: what was found, and what to do about it where it is not ``ok``."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


class Patient(NamedTuple):
    """A ROOT on the table. ``reading`` is None where there is no state that can be read.

    ``has_key`` tells whether there is a key for the judge in this environment, ``environ``, which need not be the
    daemon's.
    """

    root: Path
    tree: Tree
    settings: Settings
    now: datetime
    reading: Reading | None
    is_alive: bool
    has_key: bool
    environ: Mapping[str, str]

    @property
    def now_us(self) -> int:
        """When this is, in microseconds since 1970."""
        return instants.to_us(self.now)


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return ``1 file`` or ``2 files``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def ago(age: timedelta) -> str:
    """Say how long ago something was."""
    seconds = age.total_seconds()
    if seconds < 90:
        return "just now" if seconds < 10 else f"{seconds:.0f} s ago"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min ago"
    return f"{seconds / 3600:.0f} h ago" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days ago"
