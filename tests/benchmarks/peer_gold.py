"""The gold documents of the peers: their numbers, put into the shape the package's own have.

The engines do the counting; this only names the fields, which takes neither of them measurable time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

FINAL_STATUSES = ("completed", "failed", "cancelled")


def percent(part: int, whole: int) -> float:
    """Return a rate in percent, to one decimal; none of none is zero."""
    return round(100 * part / whole, 1) if whole else 0.0


def write_daily(
    gold: Path,
    day: str,
    now: str,
    by_master: Iterable[tuple[str | None, int, int, int]],
    by_status: Iterable[tuple[str, int]],
    durations: Sequence[float],
) -> None:
    """Write the analytics of a day.

    ``by_master``: master, total, completed, failed; ``by_status``: status, count; ``durations``: seconds, ascending.
    """
    masters = sorted(by_master, key=lambda row: str(row[0]))
    total = sum(row[1] for row in masters)
    completed, failed = sum(row[2] for row in masters), sum(row[3] for row in masters)
    document = {
        "date": day,
        "layer": "gold",
        "generated_at": now,
        "summary": {
            "total_tasks": total,
            "completed_tasks": completed,
            "failed_tasks": failed,
            "completion_rate": percent(completed, total),
            "avg_duration_seconds": round(sum(durations) / len(durations), 1) if durations else 0,
        },
        "by_master": [
            {"master": name, "total": n, "completed": done, "failed": lost, "completion_rate": percent(done, n)}
            for name, n, done, lost in masters
        ],
        "by_status": [{"status": name, "count": n, "percentage": percent(n, total)} for name, n in sorted(by_status)],
        "performance": {f"p{rank}_duration": _rank(durations, rank) for rank in (50, 95, 99)},
    }
    folder = gold / "analytics"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"daily-{day}.json").write_text(json.dumps(document, indent=2))


def write_report(
    gold: Path, day: str, now: str, row: tuple[str | None, int, int, int], avg_duration: float | None, task_list: str
) -> None:
    """Write a report; ``task_list``: the list of tasks as JSON text, which the engine has written already."""
    master, total, completed, failed = row
    head = {"master": master, "date": day, "layer": "gold", "generated_at": now}
    metrics = {
        "total_tasks": total,
        "completed": completed,
        "failed": failed,
        "completion_rate": percent(completed, total),
        "avg_duration": round(avg_duration or 0, 1),
    }
    folder = gold / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{master or 'null'}-{day}.json").open("w") as out:
        out.write(f'{json.dumps(head)[:-1]}, "metrics": {json.dumps(metrics)}, "task_list": ')
        out.write(task_list)
        out.write("}\n")


def _rank(ordered: Sequence[float], rank: int) -> float:
    return ordered[max(0, math.ceil(rank / 100 * len(ordered)) - 1)] if ordered else 0
