"""Days summed up: analytics, a master's report, KPIs over a range. Shapes are Cortex's (FORMATS: "Gold")."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING, Any

import msgspec

from cortex_autolearn.model.instants import from_us
from cortex_autolearn.model.layout import UnsafeNameError, day_text, report_file
from cortex_autolearn.model.records import COMPLETED, FAILED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cortex_autolearn.model.ledger import DayTask

_encode = msgspec.json.Encoder().encode

_ENTRIES_AT_ONCE = 500
_TASKS = b',"task_list":['
REPORT_HEAD_BYTES = 4_096
"""What stands before a report's ``task_list`` is never longer."""
KPI_DAYS = 7
"""The nightly run writes the KPIs of so many days, the last of them today."""


class Sums:
    """Counts and durations (seconds) of some final tasks."""

    def __init__(self) -> None:
        self.total = 0
        self.by_status: dict[str, int] = {}
        self._seconds = 0.0
        self._timed = 0

    def add(self, status: str, count: int, seconds: float, timed: int) -> None:
        """Count tasks of one status: how many, the sum of their known durations, and how many are known."""
        self.total += count
        self.by_status[status] = self.by_status.get(status, 0) + count
        self._seconds += seconds
        self._timed += timed

    def summary(self) -> dict[str, Any]:
        """Return total, completed, failed and completion rate (percent)."""
        completed = self.by_status.get(COMPLETED, 0)
        return {
            "total": self.total,
            "completed": completed,
            "failed": self.by_status.get(FAILED, 0),
            "completion_rate": percent(completed, self.total),
        }

    def mean_duration(self) -> float:
        """Return the mean of the known durations in seconds; 0 where none is known."""
        return round(self._seconds / self._timed, 3) if self._timed else 0


class ReportEntry(msgspec.Struct, gc=False):
    """One entry of a report's ``task_list``."""

    task_id: str
    status: str
    duration_seconds: int | float | None
    created_at: datetime | None
    completed_at: datetime | None


class _ReportHead(msgspec.Struct):
    """What tells whose a report is."""

    master: str | None
    date: str
    layer: str
    generated_at: str


_decode_head = msgspec.json.Decoder(_ReportHead).decode


class Day:
    """One day's sums, altogether and by master.

    Arguments:
        day: YYYYMMDD.
        totals: per master and status: master, status, count, sum of the known durations (seconds), their number.
    """

    def __init__(self, day: int, totals: Iterable[tuple[str | None, str, int, float, int]]) -> None:
        self.day = day
        self._all = Sums()
        self._by_master: dict[str | None, Sums] = {}
        for master, status, count, seconds, timed in totals:
            self._all.add(status, count, seconds, timed)
            self._by_master.setdefault(master, Sums()).add(status, count, seconds, timed)

    def analytics(self, durations: Sequence[float], generated_at: str) -> dict[str, Any]:
        """Return the content of ``analytics/daily-YYYYMMDD.json``; ``durations`` (seconds) in ascending order."""
        summary = self._all.summary()
        by_status = sorted(self._all.by_status.items(), key=lambda item: (-item[1], item[0]))
        masters = sorted(self._by_master.items(), key=lambda item: (item[0] is None, item[0]))
        return {
            "date": day_text(self.day),
            "layer": "gold",
            "generated_at": generated_at,
            "summary": {
                "total_tasks": summary["total"],
                "completed_tasks": summary["completed"],
                "failed_tasks": summary["failed"],
                "completion_rate": summary["completion_rate"],
                "avg_duration_seconds": self._all.mean_duration(),
            },
            "by_master": [{"master": master, **sums.summary()} for master, sums in masters],
            "by_status": [
                {"status": status, "count": count, "percentage": percent(count, self._all.total)}
                for status, count in by_status
            ],
            "performance": {f"p{rank}_duration": percentile(durations, rank) for rank in (50, 95, 99)},
        }

    def report_head(self, master: str | None, generated_at: str) -> dict[str, Any]:
        """Return the content of ``reports/<master>-YYYYMMDD.json`` but for its ``task_list``."""
        sums = self._by_master[master]
        summary = sums.summary()
        return {
            "master": master,
            "date": day_text(self.day),
            "layer": "gold",
            "generated_at": generated_at,
            "metrics": {
                "total_tasks": summary["total"],
                "completed": summary["completed"],
                "failed": summary["failed"],
                "completion_rate": summary["completion_rate"],
                "avg_duration": sums.mean_duration(),
            },
        }


def report_bytes(head: dict[str, Any], tasks: Iterable[DayTask]) -> Iterator[bytes]:
    """Yield a report as JSON; it may be long, so it is never held whole."""
    yield _encode(head)[:-1] + b',"task_list":['
    tasks = iter(tasks)
    comma = b""
    while entries := [
        ReportEntry(
            task_id,
            status,
            duration,
            None if created_us is None else from_us(created_us),
            None if completed_us is None else from_us(completed_us),
        )
        for _, task_id, status, duration, created_us, completed_us in islice(tasks, _ENTRIES_AT_ONCE)
    ]:
        yield comma + _encode(entries)[1:-1]
        comma = b",\n"
    yield b"]}\n"


def is_report(head: bytes, path: str, day: int) -> bool:
    """Tell whether a file is a report that this module wrote: Cortex writes into the same folder, in the same shape.

    Arguments:
        head: how the file begins, :data:`REPORT_HEAD_BYTES` of it or all.
        path: where it stands, below ROOT.
        day: YYYYMMDD.
    """
    fields, tasks, _ = head.partition(_TASKS)
    try:
        found = _decode_head(fields + b"}")
        stands_there = report_file(found.master, day) == path
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, UnsafeNameError):
        return False
    # Cortex's shell writes its times with `date`'s %z: +0000.
    ours = tasks and found.layer == "gold" and found.date == day_text(day) and found.generated_at.endswith("Z")
    return bool(ours and stands_there)


def percentile(ordered: Sequence[float], rank: int) -> float:
    """Return a percentile by nearest rank of values in ascending order; 0 of none."""
    return round(ordered[ceil(rank / 100 * len(ordered)) - 1], 3) if ordered else 0


def kpis(
    start: int, end: int, totals: Iterable[tuple[int, int, int, int, float, int]], generated_at: str
) -> dict[str, Any]:
    """Return the content of ``kpis/kpis-<from>-to-<to>.json``.

    Arguments:
        start: first day, YYYYMMDD.
        end: last day, YYYYMMDD.
        totals: per day: day, total, completed, failed, sum of the known durations (seconds), their number.
        generated_at: RFC 3339.
    """
    rows = list(totals)
    total = sum(row[1] for row in rows)
    known = sum(row[5] for row in rows)
    return {
        "date_range": {"start": day_text(start), "end": day_text(end)},
        "layer": "gold",
        "generated_at": generated_at,
        "kpis": {
            "total_tasks": total,
            "avg_completion_rate": percent(sum(row[2] for row in rows), total),
            "avg_task_duration": round(sum(row[4] for row in rows) / known, 3) if known else 0,
        },
    }


def percent(part: int, whole: int) -> float:
    """Return a share in percent, rounded to one decimal; 0 of nothing."""
    return round(100 * part / whole, 1) if whole else 0
