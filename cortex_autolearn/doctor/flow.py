"""Looks at the way of the records: do they arrive, are they refined and decided on, does somebody do it all."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

import orjson

from cortex_autolearn.adapters.files import wrap
from cortex_autolearn.adapters.store.database import Reading
from cortex_autolearn.adapters.store.look import damaged_outputs, lost_outcomes
from cortex_autolearn.canonical.values import FINAL_WORDS
from cortex_autolearn.doctor.check import Check, Patient, Verdict, ago, counted
from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.records import SPLITS
from cortex_autolearn.slots import Every
from cortex_autolearn.status import look_for_daemon, look_for_lag, planned, rejections

_STALE_BRONZE: Final = timedelta(hours=24)
_LAG_S: Final = {True: 120.0, False: 26 * 3600.0}
"""How long bronze may wait, in seconds: with a daemon that follows it, and until the next night without one."""
_FEW_TASKS: Final = 20
_MANY_QUARANTINED: Final = 0.05
_MOST_QUARANTINED: Final = 0.25
_FEW_SCORES: Final = 0.5
_HEAD_BYTES: Final = 1 << 20
_TAIL_BYTES: Final = 16 << 20
_ASKED: Final = 10_000
_FLUSH_S: Final = 0.3
_SHOWN: Final = 5
_WORD_CHARS: Final = 40
_ORPHAN: Final = ".orphan-"


def _bronze(patient: Patient) -> Iterator[Check]:
    entries = patient.tree.entries(layout.BRONZE, ".jsonl")
    remedy = f"Let the fleet append its task records to {layout.BRONZE}/*.jsonl, or call cortex_autolearn.record()"
    if not entries:
        yield Check("bronze", "fail", "no file: nothing arrives", remedy)
        return
    newest = max(entries, key=lambda entry: entry.mtime_ns)
    age = patient.now - datetime.fromtimestamp(newest.mtime_ns / 1e9, UTC)
    found = f"{counted(len(entries), 'file')}, {newest.relative.rsplit('/', 1)[-1]} grew {ago(age)}"
    yield Check("bronze", "warn", found, remedy) if age > _STALE_BRONZE else Check("bronze", "ok", found)
    unreadable = [
        entry.relative for entry in entries[-_ASKED:] if not os.access(patient.tree.path(entry.relative), os.R_OK)
    ]
    if unreadable:
        found = f"{counted(len(unreadable), 'bronze file')} may not be read: " + _some(unreadable)
        remedy = "Give the user this runs under the right to read them (chown, chmod); they are read then"
        yield Check("unreadable", "fail", found, remedy)


def _refused(patient: Patient) -> Iterator[Check]:
    refused = [
        f"{one.relative} ({one.reason})"
        for folder in (layout.BRONZE, layout.SILVER)
        for one in patient.tree.scan(folder, ".jsonl").refused
    ]
    if refused:
        found = f"{len(refused)} never read: " + _some(refused)
        yield Check("refused files", "warn", found, "Put regular files there, or move these away")
    else:
        yield Check("refused files", "ok", "none")


def _others(patient: Patient) -> Iterator[Check]:
    folder = patient.tree.path(layout.BRONZE)
    with wrap("list", folder):
        try:
            with os.scandir(folder) as listing:
                unread = sorted(filter(None, map(_unread, listing)))
        except FileNotFoundError:
            return
    if unread:
        found = f"{len(unread):,} in raw-tasks/ {'is' if len(unread) == 1 else 'are'} not read: " + _some(unread)
        remedy = (
            f"Only NAME.jsonl directly in {layout.BRONZE}/ is read: rename, unpack or move these. The records of an "
            "array are appended to such a file by: jq -c '.[]' FILE.json >> NAME.jsonl"
        )
        yield Check("other files", "warn", found, remedy)


def _unread(entry: os.DirEntry[str]) -> str:
    """Return how to call an entry of bronze that nobody reads and that may hold records; nothing for any other."""
    name = entry.name.encode("utf-8", "backslashreplace").decode()
    is_read = name.endswith(".jsonl") and not name.startswith(".")  # or refused, which is told elsewhere
    if not is_read and Path(entry.path).is_dir():
        return f"{name}/ (a folder)"
    is_empty = entry.is_file(follow_symlinks=False) and not entry.stat(follow_symlinks=False).st_size
    return "" if is_read or is_empty or name.endswith(".tmp") else name


def _aside(patient: Patient) -> Iterator[Check]:
    folders = [layout.SILVER, layout.QUARANTINE]
    folders += [f"{kind}/{split}" for kind in (layout.OUTCOMES, layout.TRAINING_VIEW) for split in SPLITS]
    found = [
        entry.relative for folder in folders for entry in patient.tree.entries(folder, "") if _ORPHAN in entry.relative
    ]
    if found:
        remedy = (
            "They stood where files of ours belong, or were appended to such, and are not read: stop what wrote them "
            "(Cortex's original collector and daemon), then move them away"
        )
        yield Check("set aside", "warn", f"{counted(len(found), 'file')}: " + _some(found), remedy)


def _silver(patient: Patient) -> Iterator[Check]:
    if patient.reading is None:
        return
    entries = patient.tree.entries(layout.BRONZE, ".jsonl")
    lag = look_for_lag(patient.reading, entries, patient.now)
    follows = patient.is_alive and patient.settings.medallion.follow_bronze
    since = ago(timedelta(seconds=lag.seconds))
    found = f"{lag.bytes:,} bytes in {counted(lag.files, 'bronze file')} are not refined, the oldest from {since}"
    if not lag.files:
        found = "all of bronze is refined"
        found += f"; {lag.tail_bytes:,} bytes at the ends of files are unfinished records" if lag.tail_bytes else ""
    if lag.seconds > _LAG_S[follows]:
        remedy = "Refine it: cortex-autolearn medallion; if a daemon runs, see its log for why it does not"
        yield Check("silver", "fail", found, remedy)
    else:
        yield Check("silver", "ok", found)


def _quarantine(patient: Patient) -> Iterator[Check]:
    if patient.reading is None:
        return
    reasons = patient.reading.quarantine_counts()
    bad, tasks = sum(reasons.values()), patient.reading.task_totals()[0]
    share = bad / max(1, bad + tasks)
    found = f"{bad:,} beside {tasks:,} tasks ({share:.1%})"
    found += f"; mostly: {', '.join(list(reasons)[:3])}" if reasons else ""
    if share > _MANY_QUARANTINED and bad + tasks >= _FEW_TASKS:
        verdict: Verdict = "fail" if share > _MOST_QUARANTINED else "warn"
        yield Check("quarantine", verdict, found, f"See {layout.QUARANTINE}/*.jsonl and mend what writes these")
    else:
        yield Check("quarantine", "ok", found)


def _scores(patient: Patient) -> Iterator[Check]:
    if patient.reading is None:
        return
    _, _, completed, own = patient.reading.task_totals()
    judged, labelled = patient.reading.score_totals()
    found = f"{own:,} of {completed:,} completed tasks have a quality score from 1 to 5 of their own"
    found += f"; the judge scored {judged:,}, people {labelled:,}" if judged or labelled else ""
    remedy = (
        "Without a score nothing is collected: let the fleet write quality_score, or the judge score them (see "
        "judge), or people (cortex-autolearn label TASK_ID SCORE). Scores on another scale: "
        "declare it with [[medallion.score_scale]], restart a running daemon or send it SIGHUP, then call "
        "cortex-autolearn medallion --rebuild, then cortex-autolearn collect"
    )
    scored = own + judged + labelled
    if completed and scored < _FEW_SCORES * completed:
        yield Check("scores", "warn" if scored else "fail", found, remedy)
    else:
        yield Check("scores", "ok", found)


def _statuses(patient: Patient) -> Iterator[Check]:
    if patient.reading is None:
        return
    tasks, words = patient.reading.unfinal_words(_SHOWN + 1, _WORD_CHARS)
    if tasks:
        shown = [f"{word or 'none'} ({count:,})" for word, count in words]
        found = f"{counted(tasks, 'task')} with a time of completion and no final status: {_some(shown)}"
        remedy = (
            "They count as still under way: they are never collected, and fail their A/B test when its window closes. "
            f"Let the fleet record them once more with a status that is final: {', '.join(FINAL_WORDS)}"
        )
        yield Check("statuses", "warn", found, remedy)


def _collection(patient: Patient) -> Iterator[Check]:
    if patient.reading is None:
        return
    kept = sum(count for count, _ in patient.reading.collected_totals().values())
    rejected = rejections(patient.reading, patient.settings.collect)
    total, waiting = sum(rejected.values()), patient.reading.waiting_tasks()
    found = f"{kept:,} high-quality tasks; the rule rejects {total:,}, and {waiting:,} wait for it"
    if not kept and total >= _FEW_TASKS:
        reason = next(iter(rejected))
        yield Check("collection", "warn", found, f"Most are rejected for: {reason} ({rejected[reason]:,}); see status")
    elif waiting and not patient.is_alive:
        yield Check("collection", "warn", found, "Let it decide: cortex-autolearn collect; or start the daemon")
    else:
        yield Check("collection", "ok", found)


def _outputs(patient: Patient) -> Iterator[Check]:
    if patient.reading is None:
        return
    damaged = damaged_outputs(patient.reading, patient.tree)
    if damaged:
        time.sleep(_FLUSH_S)  # a running daemon may be replacing one just now
        damaged = damaged_outputs(patient.reading, patient.tree)
    if damaged:
        found = f"{counted(len(damaged), 'file')} that we wrote, gone or cut: " + _some(
            [f"{one.path} ({one.size:,} of {one.length:,} bytes)" for one in damaged]
        )
        remedy = (
            "They are written again from what they follow from: start or restart the daemon, or call "
            "cortex-autolearn medallion, then cortex-autolearn collect"
        )
        if any(one.path.startswith(f"{layout.QUARANTINE}/") for one in damaged):
            remedy += ". Quarantine files come back only by cortex-autolearn medallion --rebuild"
        yield Check("outputs", "fail", found, remedy)
    else:
        yield Check("outputs", "ok", "every file that we wrote is there and whole")
    lost = lost_outcomes(patient.reading)
    if lost:
        found = f"{counted(lost, 'collected outcome has', 'collected outcomes have')} lost its line for good"
        remedy = (
            "Their texts are in neither silver nor bronze any more, so they still count, but are in no file. "
            "Restore the files of hq-outcomes from a backup if you have one"
        )
        yield Check("lost outcomes", "warn", found.replace("have lost its line", "have lost their lines"), remedy)


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if names[_SHOWN:] else "")


def _runs(patient: Patient) -> Iterator[Check]:
    if patient.reading is None:
        return
    for job in planned(patient.settings.schedule):
        last = patient.reading.last_run(job.name, patient.now_us)
        if last is None or last.ended_us is None:
            continue
        age = patient.now - instants.from_us(last.ended_us)
        if last.result == "failed":
            remedy = f"See the log for its cause, or run it by hand: cortex-autolearn run-once {job.name}"
            yield Check("runs", "fail", f"the last {job.name} failed, {ago(age)}", remedy)
        due_s = job.rule.period_s if isinstance(job.rule, Every) else 86_400
        if patient.is_alive and age.total_seconds() > 2 * due_s + 600:
            found = f"the daemon is alive, but the last {job.name} ended {ago(age)}"
            yield Check("runs", "fail", found, "It hangs: see its log, then restart it")


def _daemon(patient: Patient) -> Iterator[Check]:
    daemon = look_for_daemon(patient.root)
    if not daemon.alive:
        yield Check("daemon", "fail", "not running", "Start it: cortex-autolearn run; better: as a systemd service")
        return
    yield Check("daemon", "ok", f"alive, process {daemon.noted.get('pid', 'unknown')}")


def _events(patient: Patient) -> Iterator[Check]:
    if patient.reading is None:
        return
    fault, last = _events_fault(patient, patient.reading)
    if fault:
        # A running daemon may be between its commit and the file.
        time.sleep(_FLUSH_S)
        fault, last = _events_fault(patient, patient.reading)
    if fault:
        remedy = (
            "Nothing is lost: the state holds every event. Free space if the disk is full, and keep other programs "
            "from that file. To write it anew, stop the daemon, then: cortex-autolearn events --json "
            f"> {shlex.quote(str(patient.tree.path(layout.EVENTS)))}"
        )
        yield Check("events", "warn", fault, remedy)
    else:
        yield Check("events", "ok", f"{last:,} events, and the file agrees")


def _events_fault(patient: Patient, reading: Reading) -> tuple[str, int]:
    """Return what is wrong with the end of the events file, or nothing, and the state's last event."""
    last = reading.last_event_seq()
    handle = patient.tree.open_input(layout.EVENTS)
    if handle is None:
        return f"{layout.EVENTS} is gone" if last else "", last
    with handle:
        size = os.fstat(handle.fileno()).st_size
        head = os.pread(handle.fileno(), _HEAD_BYTES, 0)
        start = max(0, size - _TAIL_BYTES)
        lines = os.pread(handle.fileno(), size - start, start).split(b"\n")
    try:
        first = int(orjson.loads(head.split(b"\n", 1)[0])["seq"]) if b"\n" in head else 1
        numbers = [int(orjson.loads(line)["seq"]) for line in lines[bool(start) : -1]]
    except (ValueError, KeyError, TypeError):
        return "the file holds a line that is no event", last
    if lines[-1]:
        return "the file ends in the middle of a line", last
    if any(later != earlier + 1 for earlier, later in pairwise(numbers)):
        return "the file does not hold every event once, in order", last
    if first != 1:
        return f"the file begins with event {first}: those before were cut off", last
    end = numbers[-1] if numbers else 0
    return f"the file ends with event {end}, the state with {last}" if end < last else "", last


LOOKS: Final[tuple[Callable[[Patient], Iterator[Check]], ...]] = (
    _daemon,
    _runs,
    _bronze,
    _refused,
    _others,
    _silver,
    _quarantine,
    _scores,
    _statuses,
    _collection,
    _outputs,
    _aside,
    _events,
)
