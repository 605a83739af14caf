"""Gives each file the reader its records need."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from cortex_autolearn.canonical.reader import ScoreScale, TaskReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cortex_autolearn.model.policy import MedallionPolicy


class Readers:
    """Readers by file, each kept for as long as the masters of the fleet stay the same.

    Arguments:
        policy: the ``[medallion]`` section: the zone of times without offset, the declared score scales.
        masters: returns the names of the folders in ``coordination/masters``.
    """

    def __init__(self, policy: MedallionPolicy, masters: Callable[[], Iterable[str]]) -> None:
        self._scales = policy.score_scale
        self._zone = ZoneInfo(policy.naive_timezone)
        self._list_masters = masters
        self._masters: frozenset[str] = frozenset()
        self._readers: dict[ScoreScale | None, TaskReader] = {}

    def refresh(self) -> None:
        """Look which masters the fleet has; done once a run."""
        masters = frozenset(name.lower().removesuffix("-master") for name in self._list_masters())
        if masters != self._masters:
            self._masters = masters
            self._readers.clear()

    def of(self, path: str) -> TaskReader:
        """Return the reader of a file's records; the first declared scale whose glob fits its name holds."""
        name = path.rsplit("/", 1)[-1]
        declared = next((one for one in self._scales if fnmatch.fnmatchcase(name, one.files)), None)
        scale = None if declared is None else ScoreScale(declared.field, declared.low, declared.high)
        reader = self._readers.get(scale)
        if reader is None:
            reader = self._readers[scale] = TaskReader(self._masters, self._zone, scale)
        return reader
