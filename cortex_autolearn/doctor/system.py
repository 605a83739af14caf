"""Looks at what the system stands on: folders, clock, watches and disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cortex_autolearn.adapters import mounts
from cortex_autolearn.doctor.check import Check, Patient, Verdict
from cortex_autolearn.model import layout
from cortex_autolearn.status import zone_name

_YEARS: Final = range(2024, 2100)
_FUTURE: Final = timedelta(minutes=5)
_LITTLE_SPACE: Final = 1 << 30
_NO_SPACE: Final = 100 << 20
_FEW_WATCHES: Final = 1_000
_FEW_FILES: Final = 1_000
_WRITTEN: Final = (layout.SILVER, layout.QUARANTINE, layout.ANALYTICS, layout.OUTCOMES, layout.AUTOLEARN)


def _folders(patient: Patient) -> Iterator[Check]:
    unreadable = [
        folder
        for folder in (layout.BRONZE, layout.SILVER)
        if (patient.root / folder).exists() and not os.access(patient.root / folder, os.R_OK | os.X_OK)
    ]
    unwritable, misplaced = [], []
    for folder in _WRITTEN:
        place = patient.root / folder
        while not place.exists():
            place = place.parent
        if not place.is_dir():
            misplaced.append(str(place.relative_to(patient.root)))
        elif not os.access(place, os.W_OK | os.X_OK):
            unwritable.append(folder)
    if misplaced:
        yield Check("folders", "fail", ", ".join(f"{name} is no folder" for name in misplaced), "Move it away")
    if unreadable or unwritable:
        found = "; ".join(
            [f"cannot read {folder}" for folder in unreadable] + [f"cannot write {folder}" for folder in unwritable]
        )
        yield Check("folders", "fail", found, "Give the user this runs under rights on them (chown, chmod)")
    elif not misplaced:
        yield Check("folders", "ok", "all can be read and written")


def _clock(patient: Patient) -> Iterator[Check]:
    zone = zone_name(patient.settings.schedule)
    found = f"{patient.now:%Y-%m-%d %H:%M} UTC, zone of the schedule {zone}"
    entries = patient.tree.entries(layout.BRONZE, ".jsonl")
    newest = datetime.fromtimestamp(max((entry.mtime_ns for entry in entries), default=0) / 1e9, UTC)
    if patient.now.year not in _YEARS:
        yield Check("clock", "fail", found, "Set the clock, and keep it so by NTP")
    elif newest > patient.now + _FUTURE:
        found += f"; a bronze file is from {newest:%Y-%m-%d %H:%M} UTC, which is still to come"
        yield Check("clock", "warn", found, "Set this machine's clock, or that of whoever writes bronze")
    else:
        yield Check("clock", "ok", found)


def _watching(patient: Patient) -> Iterator[Check]:
    kind = mounts.network_filesystem(os.path.realpath(patient.root), mounts.read())
    if kind is not None:
        remedy = "Changes are looked for by the clock instead; keep at least llm-mesh/ on a local disk, for its locks"
        yield Check("watching", "warn", f"ROOT lies on a network file system ({kind})", remedy)
        return
    limits = {
        name: _text(Path("/proc/sys/fs/inotify") / name).strip() for name in ("max_user_watches", "max_user_instances")
    }
    found = ", ".join(f"{name} {value}" for name, value in limits.items() if value) or "no limits known here"
    watches = limits["max_user_watches"]
    if watches.isdecimal() and int(watches) < _FEW_WATCHES:
        yield Check(
            "watching", "warn", found, "Raise fs.inotify.max_user_watches, or changes are looked for by the clock"
        )
    else:
        yield Check("watching", "ok", found)


def _disk(patient: Patient) -> Iterator[Check]:
    place = patient.root / layout.AUTOLEARN
    free = os.statvfs(place if place.is_dir() else patient.root)
    space = free.f_bavail * free.f_frsize
    found = f"{space / 1e9:,.1f} GB free"
    if free.f_files and free.f_favail < _FEW_FILES:
        yield Check("disk", "fail", f"{found}, but only {free.f_favail} files more", "Remove files there")
    elif space < _LITTLE_SPACE:
        verdict: Verdict = "fail" if space < _NO_SPACE else "warn"
        yield Check("disk", verdict, found, "Free space, or set retention.bronze_days and silver_days")
    else:
        yield Check("disk", "ok", found)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # not Linux
        return ""


LOOKS: Final[tuple[Callable[[Patient], Iterator[Check]], ...]] = (_folders, _clock, _watching, _disk)
