"""One run of a job, as it is recorded."""

from __future__ import annotations

from typing import Any, NamedTuple


class Run(NamedTuple):
    """One run of a job.

    ``trigger`` says what started it (``schedule``, ``watcher``, ``command``, …), ``slot`` which slot of the schedule
    it stands for, ``result`` is ``ok``, ``failed`` or ``interrupted``, and ``counts`` what it did.
    """

    run_id: str
    job: str
    trigger: str
    slot: str | None
    started_us: int
    ended_us: int | None
    result: str | None
    counts: dict[str, Any]
