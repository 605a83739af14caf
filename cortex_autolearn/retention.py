"""Removes files of bronze and silver that are old and fully processed, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cortex_autolearn.model import instants, layout
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from cortex_autolearn.adapters.observe import Log
    from cortex_autolearn.adapters.store import Store
    from cortex_autolearn.model.ledger import Source
    from cortex_autolearn.model.policy import RetentionPolicy
    from cortex_autolearn.ports import Clock, Entry, Files

_KEEP: Final = 0


def settled(entries: Iterable[Entry], sources: Iterable[Source], untouched_since_us: int) -> list[Entry]:
    """Return the files every byte of which is read and settled, and which nobody has touched for so long."""
    known = {source.path: source for source in sources}
    return [entry for entry in entries if entry.mtime_ns // 1000 < untouched_since_us and _is_settled(entry, known)]


def remove_old(store: Store, files: Files, clock: Clock, policy: RetentionPolicy, log: Log) -> dict[str, int]:
    """Remove what ``policy`` keeps no longer; return how many files of each layer that were.

    Raises:
        BoundaryError: a bronze file, which is Cortex's, cannot be removed; all else was.
    """
    removed: dict[str, int] = {}
    refused: list[BoundaryError] = []
    if policy.bronze_days != _KEEP:
        untouched_since = clock.now() - timedelta(days=policy.bronze_days)
        removed["bronze_removed"] = len(_remove_bronze(store, files, untouched_since, log, refused))
    if policy.silver_days != _KEEP:
        removed["silver_removed"] = len(_remove_silver(store, files, clock, policy.silver_days, log))
    if refused:
        raise refused[0]
    return removed


def _is_settled(entry: Entry, known: dict[str, Source]) -> bool:
    source = known.get(entry.relative)
    return (
        source is not None
        and source.identity == f"{entry.device}:{entry.inode}"
        and source.position == source.size == entry.size
        and source.mtime_ns == entry.mtime_ns
    )


def _remove_bronze(
    store: Store, files: Files, untouched_since: datetime, log: Log, refused: list[BoundaryError]
) -> Sequence[str]:
    with store.read() as reading:
        sources = reading.sources(layout.BRONZE)
    untouched_since_us = instants.to_us(untouched_since)
    old = [entry.relative for entry in settled(files.entries(layout.BRONZE, ".jsonl"), sources, untouched_since_us)]
    known = {source.path: source for source in sources}
    removed = []
    for relative in old:
        # Looked at once more: a listing of many files takes its time, and Cortex may append to any of them.
        try:
            now = files.entry(relative)
            if now is None or now.mtime_ns // 1000 >= untouched_since_us or not _is_settled(now, known):
                continue
            files.remove(relative)
        except BoundaryError as error:
            refused.append(error)
            continue
        log.info("retention_removed", layer="bronze", file=relative)
        removed.append(relative)
    return removed


def _remove_silver(store: Store, files: Files, clock: Clock, days: int, log: Log) -> Sequence[str]:
    first_kept = instants.day_number(clock.now() - timedelta(days=days))
    removed = []
    for entry in files.entries(layout.SILVER, layout.OWN_SILVER_SUFFIX):
        name = entry.relative.rsplit("/", 1)[-1].removesuffix(layout.OWN_SILVER_SUFFIX)
        if len(name) != 8 or not name.isdecimal() or int(name) >= first_kept:
            continue
        # The state lets go of the file first: were it killed in between, the next run would find and remove it.
        with store.write() as transaction:
            if not transaction.release_silver(int(name), entry.relative):
                continue
        files.remove(entry.relative)
        log.info("retention_removed", layer="silver", file=entry.relative)
        removed.append(entry.relative)
    return removed
