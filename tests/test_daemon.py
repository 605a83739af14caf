"""The daemon as a process of its own: what wakes it, what stops it, and what it survives."""

from __future__ import annotations

import asyncio
import fcntl
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cortex_autolearn import settings
from cortex_autolearn.adapters import lock, observe
from cortex_autolearn.daemon import Daemon
from cortex_autolearn.demo.leap import LeapingTime
from cortex_autolearn.lanes import Lane, Request
from cortex_autolearn.model import layout
from cortex_autolearn.schedule import FastTime, RealTime, TimeMap, due
from cortex_autolearn.slots import next_due
from cortex_autolearn.status import planned
from cortex_autolearn.wiring import App, build

PATIENCE_S = 20.0
POLL_S = 0.01
SERVE = (
    "import sys; from pathlib import Path; from cortex_autolearn.daemon import serve\n"
    "sys.exit(serve(Path(sys.argv[1])))"
)
QUICK = {
    "CORTEX_AUTOLEARN__DAEMON__HEARTBEAT_S": "1",
    "CORTEX_AUTOLEARN__WATCH__SWEEP_S": "1",
    "CORTEX_AUTOLEARN__SCHEDULE__TIMEZONE": "UTC",
}


def until(condition: Callable[[], Any], what: object, patience_s: float = PATIENCE_S) -> Any:
    """Wait until ``condition`` is true, and return what it is."""
    deadline = time.monotonic() + patience_s
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {patience_s} s for {what}"
        time.sleep(POLL_S)
    return result


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a JSON file that may be growing."""
    try:
        return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    except FileNotFoundError:
        return []


def events_of(root: Path, kind: str = "") -> list[dict[str, Any]]:
    return [event for event in lines_of(root / layout.EVENTS) if not kind or event["event"] == kind]


def collected(root: Path) -> set[str]:
    files = (root / layout.OUTCOMES).glob("*/*.jsonl")
    return {line["task_id"] for file in files for line in lines_of(file)}


def task(task_id: str, **fields: object) -> bytes:
    """A line that passes the gate, in bronze as in silver."""
    good = {
        "task_id": task_id,
        "master": "security-master",
        "status": "completed",
        "quality_score": 4.5,
        "created_at": "2026-01-05T10:00:00Z",
        "completed_at": "2026-01-05T10:01:00Z",
        "duration_seconds": 60,
        "input": "Look through the access log of the gateway.",
        "output": "Three addresses tried passwords; all of them are blocked now.",
    }
    return json.dumps(good | fields).encode() + b"\n"


class Process:
    """A daemon in a process of its own, on a ROOT that may hold something already."""

    def __init__(self, root: Path, config: str = "") -> None:
        self.root = root
        self.log = root / layout.LOG
        (root / layout.BRONZE).mkdir(parents=True, exist_ok=True)
        (root / layout.SILVER).mkdir(parents=True, exist_ok=True)
        if config:
            (root / layout.CONFIG).write_text(config)
        self._before = len(lines_of(self.log))
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(root)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ | QUICK,
        )

    def logged(self, event: str, **keys: object) -> list[dict[str, Any]]:
        """Return the lines of this process with that event and these keys."""
        lines = lines_of(self.log)[self._before :]
        return [line for line in lines if line["event"] == event and keys.items() <= line.items()]

    def wait_for(self, event: str, count: int = 1, **keys: object) -> list[dict[str, Any]]:
        def there() -> list[dict[str, Any]] | None:
            found = self.logged(event, **keys)
            assert len(found) >= count or self.process.poll() is None, self._died()
            return found if len(found) >= count else None

        found: list[dict[str, Any]] = until(there, (event, keys))
        return found

    def ready(self) -> Process:
        """Wait until it watches."""
        self.wait_for("watch_mode")
        return self

    def settled(self) -> Process:
        """Wait until it watches and the jobs of its first start are over."""
        self.ready()
        for job in ("medallion", "collection", "scoring", "readiness", "status"):
            self.wait_for("job_finished", job=job)
        return self

    def at_rest(self) -> Process:
        """Wait until no run is under way, and nothing was logged for a while."""

        def is_quiet() -> bool:
            ended = len(self.logged("job_finished")) + len(self.logged("job_failed"))
            return len(self.logged("job_started")) == ended and time.time() - self.log.stat().st_mtime > 0.5

        until(is_quiet, "a rest")
        return self

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        code = self.process.wait(PATIENCE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def _died(self) -> str:
        assert self.process.stderr is not None
        return f"the daemon died: {self.process.stderr.read().decode()}"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts daemons on one ROOT, and leaves none behind."""
    started: list[Process] = []

    def begin(config: str = "") -> Process:
        started.append(Process(tmp_path / "root", config))
        return started[-1]

    yield begin
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        if one.process.stderr is not None:
            one.process.stderr.close()


@contextmanager
def writer_locked(root: Path) -> Iterator[None]:
    """Keep every transaction of every process waiting, as one that hangs in its disk does."""
    opened = os.open(root / layout.WRITER_LOCK, os.O_RDWR)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def append(root: Path, folder: str, name: str, *lines: bytes) -> Path:
    path = root / folder / name
    with path.open("ab") as file:
        file.write(b"".join(lines))
    return path


def edit_state(root: Path, statement: str, *values: str) -> None:
    connection = sqlite3.connect(root / layout.STATE)
    with connection:
        connection.execute(statement, values)
    connection.close()


# --- what wakes it --------------------------------------------------------------------------------------------------


def test_silver_of_cortex_is_collected_as_it_lands(start: Callable[..., Process]) -> None:
    """A task that Cortex writes to silver, in a new file or an old one, is collected within half a second, mostly."""
    daemon = start().settled()
    latencies: list[float] = []
    for number in range(20):
        written = time.monotonic()
        append(daemon.root, layout.SILVER, f"2026010{5 + number % 3}.jsonl", task(f"t-{number}"))
        until(lambda: len(collected(daemon.root)) == len(latencies) + 1, f"t-{number}")
        latencies.append(time.monotonic() - written)
    assert sorted(latencies)[len(latencies) // 2] < 0.5
    assert daemon.stop() == 0
    assert sum(event["high_quality"] for event in events_of(daemon.root, "hq_collection")) == 20


def test_bronze_becomes_silver_and_is_collected(start: Callable[..., Process]) -> None:
    """Bronze that grows is refined and collected at once, by one run of each."""
    daemon = start().settled()
    append(daemon.root, layout.BRONZE, "tasks.jsonl", *(task(f"t-{number}") for number in range(50)))
    until(lambda: len(collected(daemon.root)) == 50, "50 outcomes")
    assert daemon.stop() == 0
    assert sum(line["counts"]["silver"] for line in daemon.logged("job_finished", job="silver")) == 50
    assert [event["high_quality"] for event in events_of(daemon.root, "hq_collection")] == [50]


def test_bronze_need_not_be_followed(start: Callable[..., Process]) -> None:
    """With medallion.follow_bronze off, bronze waits for the nightly run."""
    daemon = start("[medallion]\nfollow_bronze = false\n").settled()
    append(daemon.root, layout.BRONZE, "tasks.jsonl", task("a"))
    append(daemon.root, layout.SILVER, "20260105.jsonl", task("b"))
    until(lambda: collected(daemon.root) == {"b"}, "what Cortex wrote")
    assert daemon.stop() == 0
    assert daemon.logged("job_started", job="silver") == []


def test_silver_of_another_process_is_collected(start: Callable[..., Process]) -> None:
    """What a command line refines beside a daemon is collected by the daemon."""
    daemon = start("[medallion]\nfollow_bronze = false\n").settled()
    append(daemon.root, layout.BRONZE, "tasks.jsonl", *(task(f"t-{number}") for number in range(30)))
    app = build(daemon.root, environ={})
    assert app.runner.run("silver", trigger="command").counts["silver"] == 30
    app.close()
    until(lambda: len(collected(daemon.root)) == 30, "30 outcomes")
    assert daemon.stop() == 0


def test_start_catches_up_on_what_landed_meanwhile(start: Callable[..., Process]) -> None:
    """What was written while no daemon ran is refined and collected at the start."""
    first = start().settled()
    assert first.stop() == 0
    append(first.root, layout.BRONZE, "tasks.jsonl", task("a"))
    append(first.root, layout.SILVER, "20260105.jsonl", task("b"))
    start()
    until(lambda: collected(first.root) == {"a", "b"}, "both")


def test_restart_brings_back_what_was_removed(start: Callable[..., Process]) -> None:
    """Projections of the state that somebody removed are written again by the next start."""
    first = start().settled()
    append(first.root, layout.BRONZE, "tasks.jsonl", task("a"))
    until(lambda: collected(first.root) == {"a"}, "the outcome")
    assert first.stop() == 0
    silver, outcomes = first.root / layout.silver_file(20260105), first.root / layout.OUTCOMES
    silver.unlink()
    for path in outcomes.glob("*/*.jsonl"):
        path.unlink()
    again = start()
    until(lambda: collected(first.root) == {"a"} and silver.exists(), "both files")
    until((first.root / layout.analytics_file(20260105)).exists, "the gold of the day")
    assert again.stop() == 0


# --- what stops it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_drains(start: Callable[..., Process], number: signal.Signals) -> None:
    """A running job is let end, nothing new begins, and the daemon leaves with 0 and says why."""
    daemon = start().settled()
    with writer_locked(daemon.root):
        append(daemon.root, layout.BRONZE, "tasks.jsonl", task("a"))
        # The run waits for the writer's lock, which it needs for its first line already: look for its own lock.
        until(lambda: lock.is_held(daemon.root / layout.AUTOLEARN / ".medallion.lock"), "the silver run")
        daemon.signal(number)
        (stopping,) = daemon.wait_for("daemon_stopping")
    assert daemon.wait() == 0
    assert "silver" in stopping["running"]
    assert daemon.logged("job_finished", job="silver")[-1]["counts"]["silver"] == 1
    assert collected(daemon.root) == set(), "the collection would have been a new job"
    (event,) = events_of(daemon.root, "daemon_stopped")
    assert event["reason"] == number.name


def test_second_signal_leaves_at_once(start: Callable[..., Process]) -> None:
    """A second signal does not wait for a job that hangs."""
    daemon = start().settled()
    with writer_locked(daemon.root):
        append(daemon.root, layout.BRONZE, "tasks.jsonl", task("a"))
        until(lambda: lock.is_held(daemon.root / layout.AUTOLEARN / ".medallion.lock"), "the silver run")
        daemon.signal(signal.SIGTERM)
        daemon.wait_for("daemon_stopping")
        began = time.monotonic()
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 128 + signal.SIGTERM
        assert time.monotonic() - began < 2
    assert "silver" in daemon.logged("left_at_once")[0]["running"]
    daemon = start()
    until(lambda: collected(daemon.root) == {"a"}, "what it had left")


def test_hanging_job_does_not_keep_it_for_ever(start: Callable[..., Process]) -> None:
    """After the grace the daemon leaves a job behind that hangs, and says so."""
    daemon = start("[daemon]\ndrain_grace_s = 0.2\n").settled()
    with writer_locked(daemon.root):
        append(daemon.root, layout.BRONZE, "tasks.jsonl", task("a"))
        until(lambda: lock.is_held(daemon.root / layout.AUTOLEARN / ".medallion.lock"), "the silver run")
        assert daemon.stop() == 0
    assert "silver" in daemon.logged("drain_timed_out")[0]["running"]
    assert daemon.logged("stop_unrecorded")


def test_second_instance_is_kept_out(start: Callable[..., Process]) -> None:
    """A second daemon on one ROOT exits 75 and says who holds it; after a kill the next one starts."""
    first = start().settled()
    second = start()
    assert second.wait() == 75
    (line,) = second.logged("another_daemon_runs")
    assert line["holder_pid"] == first.process.pid
    assert line.keys() >= {"holder_host", "holder_started_at"}
    first.process.kill()
    first.wait()
    assert start().ready().stop() == 0


# --- what it survives -----------------------------------------------------------------------------------------------


def test_bad_configuration_is_refused_and_good_one_taken(start: Callable[..., Process]) -> None:
    """SIGHUP takes over a good configuration, and keeps the old one when the new one is bad."""
    daemon = start().settled()
    config = daemon.root / layout.CONFIG
    config.write_text("[collect]\nmin_quality = 7\nmax_duration_s = 'long'\n")
    daemon.signal(signal.SIGHUP)
    (refused,) = daemon.wait_for("reload_refused")
    assert len(refused["problems"]) == 2
    config.write_text("[collect]\nmin_quality = 3.0\n[log]\nqueue_size = 500\n")
    daemon.signal(signal.SIGHUP)
    (reloaded,) = daemon.wait_for("reloaded")
    assert reloaded["changed"] == {"collect.min_quality": "3.0", "log.queue_size": "500"}
    assert reloaded["needs_restart"] == ["log.queue_size"]
    daemon.signal(signal.SIGHUP)
    again = daemon.wait_for("reloaded", 2)[1]
    assert (again["changed"], again["needs_restart"]) == ({}, ["log.queue_size"]), "it still waits for a restart"
    config.write_text("[collect]\nmin_quality = 3.0\n")
    daemon.signal(signal.SIGHUP)
    back = daemon.wait_for("reloaded", 3)[2]
    assert (list(back["changed"]), back["needs_restart"]) == (["log.queue_size"], []), "it is as at the start again"
    mediocre, bad = task("mediocre", quality_score=3.2), task("bad", quality_score=2.9)
    append(daemon.root, layout.BRONZE, "tasks.jsonl", mediocre, bad)
    until(lambda: collected(daemon.root) == {"mediocre"}, "what the new rule lets pass")
    assert daemon.stop() == 0


def test_killed_daemon_continues(start: Callable[..., Process]) -> None:
    """After a kill -9 nothing is lost or doubled, slots that were missed run once, and events are whole, in order."""
    daemon = start().settled()
    lines = [task(f"t-{number}") for number in range(8_000)]
    for part in range(8):
        append(daemon.root, layout.BRONZE, f"tasks-{part}.jsonl", *lines[part::8])
    daemon.wait_for("job_started", job="silver")
    daemon.process.kill()
    daemon.wait()
    edit_state(daemon.root, "DELETE FROM slots")
    daemon = start().settled()
    until(lambda: len(collected(daemon.root)) == 8_000, "all outcomes")
    assert daemon.stop() == 0
    for job in ("medallion", "collection", "scoring", "readiness", "status"):
        assert len(daemon.logged("job_started", job=job, trigger="catch_up")) == 1
    events = events_of(daemon.root)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    totals: Counter[str] = Counter()
    for event in events:
        totals.update({key: event.get(key, 0) for key in ("silver", "high_quality")})
    assert totals == {"silver": 8_000, "high_quality": 8_000}


def test_three_days_of_downtime_are_one_run_a_job(start: Callable[..., Process]) -> None:
    """However many slots were missed, each job runs once for all of them."""
    first = start().settled()
    assert first.stop() == 0
    then = datetime.now(UTC) - timedelta(days=3)
    edit_state(first.root, "UPDATE slots SET slot = ? WHERE job IN ('medallion', 'readiness')", f"{then:%Y-%m-%d}")
    hour = f"{then:%Y-%m-%dT%H:00:00Z}"
    edit_state(first.root, "UPDATE slots SET slot = ? WHERE job IN ('collection', 'scoring', 'status')", hour)
    daemon = start().settled()
    time.sleep(2.5)  # two heartbeats, each of which looks for slots
    assert daemon.stop() == 0
    started = Counter(line["job"] for line in daemon.logged("job_started") if "slot" in line)
    assert started == dict.fromkeys(("medallion", "collection", "scoring", "readiness", "status"), 1)
    restarted = start().ready()
    time.sleep(1.5)
    assert restarted.stop() == 0
    assert [line for line in restarted.logged("job_started") if "slot" in line] == [], "all slots are done"


def test_failing_job_is_logged_and_survived(start: Callable[..., Process]) -> None:
    """A job that cannot do its work says why and what helps; when the cause is gone, it works again."""
    daemon = start().settled()
    folder, aside = daemon.root / layout.BRONZE, daemon.root / "aside"
    append(daemon.root, layout.BRONZE, "tasks.jsonl", task("a"))
    until(lambda: collected(daemon.root) == {"a"}, "the first outcome")
    folder.rename(aside)
    folder.write_text("in the way")
    (failed, *_) = daemon.wait_for("job_failed", job="silver")
    assert layout.BRONZE in failed["subject"]
    assert failed["hint"]
    append(daemon.root, layout.SILVER, "20260105.jsonl", task("b"))
    until(lambda: collected(daemon.root) == {"a", "b"}, "the other job's work")
    folder.unlink()
    aside.rename(folder)
    append(daemon.root, layout.BRONZE, "tasks.jsonl", task("c"))
    until(lambda: collected(daemon.root) == {"a", "b", "c"}, "the first job's work")
    assert daemon.stop() == 0


def test_failing_job_waits_for_its_next_time(start: Callable[..., Process]) -> None:
    """What fails is not tried over and over because there is something to do, but when it is woken or due again."""
    daemon = start().settled()
    in_the_way = daemon.root / layout.OUTCOMES
    in_the_way.write_text("in the way")
    append(daemon.root, layout.SILVER, "20260105.jsonl", task("a"))
    daemon.wait_for("job_failed", job="collection")
    time.sleep(2.5)  # two heartbeats
    assert len(daemon.logged("job_failed", job="collection")) <= 2
    in_the_way.unlink()
    append(daemon.root, layout.SILVER, "20260105.jsonl", task("b"))
    until(lambda: collected(daemon.root) == {"a", "b"}, "both")
    assert daemon.stop() == 0


def test_slot_whose_run_could_not_begin_is_run_once_it_can(start: Callable[..., Process]) -> None:
    """A run that left no record, its lock or the state refusing, is none: its slot waits for no restart."""
    first = start().settled()
    assert first.stop() == 0
    edit_state(first.root, "DELETE FROM slots WHERE job = ?", "readiness")
    in_the_way = first.root / layout.AUTOLEARN / ".training.lock"
    in_the_way.unlink()
    in_the_way.mkdir()
    daemon = start().ready()
    (failed, *_) = daemon.wait_for("job_failed", job="readiness", trigger="catch_up")
    in_the_way.rmdir()
    daemon.wait_for("job_finished", job="readiness", slot=failed["slot"])
    began = len(daemon.logged("job_started", job="readiness"))
    time.sleep(2.5)  # two heartbeats
    assert len(daemon.logged("job_started", job="readiness")) == began, "the slot is done"
    assert daemon.stop() == 0


def test_refining_that_failed_is_tried_again_by_the_heartbeat(start: Callable[..., Process]) -> None:
    """Not at each growth, many times a second; and when the cause is gone, also if bronze grows no more."""
    daemon = start().settled()
    folder, aside = daemon.root / layout.BRONZE, daemon.root / "aside"
    append(daemon.root, layout.BRONZE, "tasks.jsonl", task("a"))
    until(lambda: collected(daemon.root) == {"a"}, "the first outcome")
    daemon.signal(signal.SIGSTOP)  # what was not read when the folder went is what it finds when it is back
    append(daemon.root, layout.BRONZE, "tasks.jsonl", task("b"))
    folder.rename(aside)
    folder.write_text("in the way")
    daemon.signal(signal.SIGCONT)
    daemon.wait_for("job_failed", 2, job="silver", trigger="heartbeat")
    began, failed = time.monotonic(), len(daemon.logged("job_failed", job="silver"))
    while time.monotonic() < began + 2:
        append(aside.parent, aside.name, "tasks.jsonl", b"\n")
        os.utime(folder)
        time.sleep(0.02)
    assert len(daemon.logged("job_failed", job="silver")) - failed <= 4
    folder.unlink()
    aside.rename(folder)
    until(lambda: collected(daemon.root) == {"a", "b"}, "what was not read")
    assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("layer", "name", "slack"), [(layout.BRONZE, "tasks.jsonl", 2), (layout.SILVER, "20260105.jsonl", 3)]
)
def test_what_failed_is_not_tried_again_at_each_growth(
    start: Callable[..., Process], layer: str, name: str, slack: int
) -> None:
    """A fleet that writes many times a second has it not fail, and told of, as often: the heartbeat tries it again.

    Also where Cortex refines and writes silver itself, of which only a run of the collection finds out what is new.
    """
    daemon = start().settled()
    in_the_way = daemon.root / layout.OUTCOMES
    in_the_way.write_text("in the way")
    tasks = {"first"}
    append(daemon.root, layer, name, task("first"))
    daemon.wait_for("job_failed", job="collection")
    began, refined = time.monotonic(), len(daemon.logged("job_finished", job="silver"))
    least = refined + 6 if layer == layout.BRONZE else refined
    while time.monotonic() < began + 3 or len(daemon.logged("job_finished", job="silver")) < least:
        tasks.add(f"t{len(tasks)}")
        append(daemon.root, layer, name, task(f"t{len(tasks) - 1}"))
        time.sleep(0.02)
    assert len(daemon.logged("job_failed", job="collection")) <= slack + (time.monotonic() - began)
    in_the_way.unlink()
    until(lambda: collected(daemon.root) == tasks, "all, though nothing grows any more")
    assert daemon.stop() == 0


def test_storm_costs_a_few_runs(start: Callable[..., Process]) -> None:
    """Thousands of changes within seconds are worked off by a few runs."""
    daemon = start().settled()
    for number in range(3_000):
        append(daemon.root, layout.BRONZE, f"tasks-{number % 10}.jsonl", task(f"t-{number}"))
    until(lambda: len(collected(daemon.root)) == 3_000, "3,000 outcomes")
    assert daemon.stop() == 0
    assert len(daemon.logged("job_started")) <= 4 + 2 * 12


def test_log_file_may_be_rotated(start: Callable[..., Process]) -> None:
    """When the log is renamed away, the daemon goes on in a new file, and no line is lost."""
    daemon = start().settled()
    daemon.log.rename(daemon.log.with_suffix(".1"))
    append(daemon.root, layout.SILVER, "20260105.jsonl", task("a"))
    until(lambda: collected(daemon.root) == {"a"}, "the outcome")
    daemon._before = 0
    daemon.wait_for("job_finished", job="collection")
    assert daemon.stop() == 0
    assert lines_of(daemon.log.with_suffix(".1"))[0]["event"] == "daemon_started"


def test_another_tree_in_its_place_ends_it(start: Callable[..., Process]) -> None:
    """A backup put back under the running daemon is left alone; the next start goes on from what the backup holds."""
    daemon = start().settled()
    root, gone, backup = daemon.root, daemon.root.with_name("gone"), daemon.root.with_name("backup")
    append(root, layout.BRONZE, "tasks.jsonl", task("a"))
    until(lambda: collected(root) == {"a"}, "the first outcome")
    assert daemon.stop() == 0
    shutil.copytree(root, backup)
    daemon = start().ready()
    append(root, layout.BRONZE, "tasks.jsonl", task("b"))
    until(lambda: collected(root) == {"a", "b"}, "what the backup lacks")
    daemon.at_rest()
    root.rename(gone)
    backup.rename(root)
    before = {path: path.read_bytes() for path in root.rglob("*.autolearn.jsonl")}
    append(root, layout.BRONZE, "tasks.jsonl", task("c"))
    assert daemon.wait() == 1
    assert before == {path: path.read_bytes() for path in root.rglob("*.autolearn.jsonl")}
    daemon = start().ready()
    until(lambda: collected(root) == {"a", "c"}, "what came since")
    assert daemon.stop() == 0
    assert [event["seq"] for event in events_of(root)] == list(range(1, len(events_of(root)) + 1))


def test_no_tree_is_made_where_its_own_is_gone(start: Callable[..., Process]) -> None:
    """ROOT moved, or its disk is gone: what the daemon made in its place would pass for it, with writers and itself."""
    daemon = start().settled().at_rest()
    root, gone = daemon.root, daemon.root.with_name("gone")
    root.rename(gone)
    began = time.monotonic()
    while time.monotonic() < began + 2.5:  # two heartbeats, each of which finds something to do
        time.sleep(POLL_S)
        assert not root.exists()
    gone.rename(root)
    append(root, layout.BRONZE, "tasks.jsonl", task("a"))
    until(lambda: collected(root) == {"a"}, "the work of the tree that is back")
    daemon.at_rest()
    root.rename(gone)
    assert daemon.stop() == 0
    assert not root.exists()


def test_leftovers_of_killed_runs_are_removed(start: Callable[..., Process]) -> None:
    """Temporary files of killed runs are removed at the start, once they are old; others are left alone."""
    daemon = start().settled()
    assert daemon.stop() == 0
    old = daemon.root / layout.SILVER / ".20260105.autolearn.jsonl.0123456789abcdef.tmp"
    new, other = old.with_name(old.name.replace("0123", "3210")), old.with_name("notes.tmp")
    for path in (old, new, other):
        path.write_text("half a file")
    for path in (old, other):
        os.utime(path, (time.time() - 7_200, time.time() - 7_200))
    assert start().ready().stop() == 0
    assert (old.exists(), new.exists(), other.exists()) == (False, True, True)


# --- in this process: clocks, and parts that die --------------------------------------------------------------------


class MappedClock:
    """The application's clock, built on the schedule's."""

    def __init__(self, time_map: TimeMap) -> None:
        self._map = time_map

    def now(self) -> datetime:
        return self._map.now()

    def monotonic(self) -> float:
        return time.monotonic()


class Inside:
    """A daemon in this process, and what it logged."""

    def __init__(self, root: Path, time_map: TimeMap, **flags: object) -> None:
        self.root = root
        self._memory = io.StringIO()
        logging = observe.configure(level="info", fmt="json", file=None, queue_size=10_000, stream=self._memory)
        given = {"daemon.heartbeat_s": 1, "schedule.timezone": "UTC", "watch.sweep_s": 1} | flags
        self.app: App = build(root, environ={}, flags=given, clock=MappedClock(time_map), logging=logging, init=True)
        self.daemon = Daemon(self.app, time=time_map, install_signals=False)

    def logged(self, event: str, **keys: object) -> list[dict[str, Any]]:
        assert self.app.logging.flush(5)
        lines = [json.loads(line) for line in self._memory.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event and keys.items() <= line.items()]

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
            await asyncio.sleep(POLL_S)

    def live(self, *steps: Callable[[], Any]) -> int:
        """Run the daemon, take the steps (which may wait), stop it, and return its exit code."""

        async def main() -> int:
            running = asyncio.create_task(self.daemon.run())
            for step in steps:
                result = step()
                if result is not None:
                    await result
            self.daemon.stop("end of the test")
            async with asyncio.timeout(PATIENCE_S):
                return await running

        return asyncio.run(main())


@contextmanager
def inside(root: Path, time_map: TimeMap | None = None, **flags: object) -> Iterator[Inside]:
    one = Inside(root, RealTime() if time_map is None else time_map, **flags)
    try:
        yield one
    finally:
        one.app.close()


def slots_run(one: Inside, job: str) -> list[str]:
    return [line["slot"] for line in one.logged("job_finished", job=job) if "slot" in line]


def test_sweeps_come_as_often_as_at_the_start(tmp_path: Path) -> None:
    """A reload changes nothing of ``watch``: the log line says that it needs a restart, and so does the page."""
    root, away = tmp_path / "root", tmp_path / "away"
    (away / "first").mkdir(parents=True)
    (away / "link").symlink_to("first")
    (root / layout.BRONZE).parent.mkdir(parents=True)
    (root / layout.BRONZE).symlink_to(away / "link")
    with inside(root) as one:

        def is_found(name: str) -> bool:
            return one.daemon.is_idle and name in collected(root)

        async def steps() -> None:
            await one.until(lambda: one.logged("watch_mode") and one.daemon.is_idle, "the watcher")
            flags = {"daemon.heartbeat_s": 1, "schedule.timezone": "UTC", "watch.sweep_s": 86_400}
            one.app.reload(settings.load(root, environ={}, flags=flags))
            for name in ("a", "b", "c"):  # the pause that is under way may see one of them
                (away / name).mkdir()
                append(away, name, "tasks.jsonl", task(name))
                (away / "new").symlink_to(name)
                (away / "new").rename(away / "link")  # no event tells of that
                await one.until(partial(is_found, name), f"the sweep that finds {name}")

        assert one.live(steps) == 0


def test_days_pass_on_a_simulated_clock(tmp_path: Path) -> None:
    """On a simulated clock every slot of three days runs, each once, and in order.

    Its time stands still while jobs run, so that slots come one by one however busy the machine is; and no heartbeat
    stands in for the timer.
    """
    begins = datetime(2026, 3, 7, 12, 30, tzinfo=UTC)
    clock, ends = LeapingTime(begins), begins + timedelta(days=3)
    flags = {"schedule.collection_every_s": 14_400, "watch.enabled": False, "daemon.heartbeat_s": 3_600}
    with inside(tmp_path, clock, **flags) as one:
        jobs = planned(one.app.settings.schedule)

        def is_settled() -> bool:
            if not one.daemon.is_idle:
                return False
            with one.app.store.read() as reading:
                return not due(jobs, clock.now(), reading.slot_done)

        async def days() -> None:
            while True:
                await one.until(is_settled, f"the slots until {clock.now()}")
                upcoming = min(next_due(job.rule, clock.now()).due_at for job in jobs)
                if upcoming > ends:
                    return
                clock.leap(upcoming)
                one.daemon.look_again()

        assert one.live(days) == 0
        nights = ["2026-03-07", "2026-03-08", "2026-03-09", "2026-03-10"]
        assert slots_run(one, "medallion") == nights
        assert slots_run(one, "readiness") == nights
        collections = [datetime(2026, 3, 7, 12, tzinfo=UTC) + timedelta(hours=4 * step) for step in range(19)]
        assert slots_run(one, "collection") == [f"{at:%Y-%m-%dT%H:00:00Z}" for at in collections]
        hours = [datetime(2026, 3, 7, 12, tzinfo=UTC) + timedelta(hours=step) for step in range(73)]
        assert slots_run(one, "scoring") == [f"{at:%Y-%m-%dT%H:00:00Z}" for at in hours]
        begun = Counter(line["trigger"] for line in one.logged("job_started") if "slot" in line)
        assert begun["catch_up"] == len(jobs), "those of the start: all others are the timer's"
        assert events_of(tmp_path, "daemon_stopped")[0]["reason"] == "end of the test"


def test_blocked_loop_costs_no_slot_but_those_it_slept_through(tmp_path: Path) -> None:
    """When the loop was blocked for 5 s, the latest slot still runs, and those after it; the lag is logged."""
    begins = datetime(2026, 3, 7, 12, 0, 30, tzinfo=UTC)
    fast = FastTime(begins, speed=60)

    def block() -> None:
        time.sleep(5)

    with inside(tmp_path, fast, **{"schedule.collection_every_s": 60, "watch.enabled": False}) as one:
        code = one.live(
            lambda: one.until(lambda: slots_run(one, "collection"), "the first"),
            block,
            lambda: one.until(lambda: "2026-03-07T12:08:00Z" in slots_run(one, "collection"), "later ones"),
        )
        assert code == 0
        slots = slots_run(one, "collection")
        assert len(set(slots)) == len(slots)
        assert {"2026-03-07T12:05:00Z", "2026-03-07T12:06:00Z"} & set(slots), "the latest one missed"
        assert one.logged("loop_lagged")[0]["lag_s"] > 1


def test_stepped_clock_is_noticed(tmp_path: Path) -> None:
    """A clock that is set ahead makes the slots due that it passed, once; set back, it repeats none."""
    offset = timedelta()

    def wall() -> datetime:
        return datetime.now(UTC) + offset

    def step(by: timedelta) -> Callable[[], None]:
        def set_clock() -> None:
            nonlocal offset
            offset += by

        return set_clock

    day = timedelta(days=1)
    with inside(tmp_path, RealTime(wall), **{"schedule.collection_every_s": 86_400, "watch.enabled": False}) as one:
        today = f"{wall():%Y-%m-%d}T00:00:00Z"
        code = one.live(
            lambda: one.until(lambda: slots_run(one, "collection"), "the first slot"),
            step(day),
            lambda: one.until(lambda: len(slots_run(one, "collection")) == 2, "the slot after the step"),
            lambda: one.until(lambda: len(slots_run(one, "medallion")) == 2, "the other job's"),
            step(-day),
            lambda: one.until(lambda: len(one.logged("clock_stepped")) == 2, "the step back"),
            lambda: asyncio.sleep(1.2),
        )
        assert code == 0
        assert slots_run(one, "collection") == [today, f"{wall() + day:%Y-%m-%d}T00:00:00Z"]
        assert len(slots_run(one, "medallion")) == 2
        assert [round(line["step_s"] / 3600) for line in one.logged("clock_stepped")] == [24, -24]


async def _broken_events(_targets: Sequence[Path], _stop: asyncio.Event) -> AsyncIterator[set[str]]:
    await asyncio.sleep(0.1)
    raise RuntimeError("no inotify left")
    yield set()


def test_dead_watcher_stops_the_daemon(tmp_path: Path) -> None:
    """A watcher that can watch no longer ends the process with 1, after its jobs, so that it is started anew."""
    with inside(tmp_path, None, **{"watch.polling": "never"}) as one:
        assert one.daemon._watcher is not None
        one.daemon._watcher._events = _broken_events
        code = one.live(lambda: one.until(lambda: events_of(tmp_path, "daemon_stopped"), "its end"))
        assert code == 1
        (line,) = one.logged("side_task_died")
        assert (line["task"], "no inotify left" in line["error.message"]) == ("watcher", True)
        assert events_of(tmp_path, "daemon_stopped")[0]["reason"] == "side task died: watcher"


def test_dead_scheduler_stops_the_daemon(tmp_path: Path) -> None:
    """A scheduler whose timer is dead is found by the heartbeat and ends the process with 1."""
    with inside(tmp_path, None, **{"watch.enabled": False}) as one:
        code = one.live(
            lambda: one.until(lambda: one.logged("job_finished", job="status"), "the start"),
            lambda: one.daemon._scheduler._aps.shutdown(wait=False),
            lambda: one.until(lambda: events_of(tmp_path, "daemon_stopped"), "its end"),
        )
        assert code == 1
        assert one.logged("side_task_died", task="heartbeat")


def test_cancelled_daemon_says_farewell(tmp_path: Path) -> None:
    """A daemon that is cancelled from outside still records that it stopped, and stays cancelled."""

    async def main(one: Inside) -> None:
        running = asyncio.create_task(one.daemon.run())
        await one.until(lambda: one.logged("job_finished", job="status"), "the start")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    with inside(tmp_path) as one:
        asyncio.run(main(one))
        assert events_of(tmp_path, "daemon_stopped")[0]["reason"] == "cancelled"


# --- lanes ----------------------------------------------------------------------------------------------------------


def lane_runs(*asked: Sequence[Request]) -> list[Request]:
    """Let a lane run, ask for the first group before it starts and for each next one during a run; return its runs."""
    groups, runs = list(asked), []

    async def run(request: Request) -> None:
        runs.append(request)
        if groups:
            for one in groups.pop(0):
                lane.ask(one)

    lane = Lane("medallion", run)

    async def main() -> None:
        for one in groups.pop(0):
            lane.ask(one)
        working = asyncio.create_task(lane.work())
        while not lane.is_idle:  # noqa: ASYNC110 -- the lane has nobody to tell
            await asyncio.sleep(0)
        lane.close()
        await working

    asyncio.run(main())
    return runs


def test_lane_coalesces() -> None:
    """However often a job is asked for while it runs, it runs once more."""
    again = [Request("silver", "watcher")] * 50
    assert lane_runs(again, again) == [Request("silver", "watcher", is_certain=True)] * 2


def test_lane_serves_slot_and_wish_by_one_run() -> None:
    """One run serves a slot and a wish; it happens when either asks for it."""
    slot = Request("collection", "schedule", "2026-01-05T10:00:00Z")
    hint = Request("collection", "watcher", if_waiting=True)
    wish = Request("collection", "command")
    assert lane_runs([hint, slot]) == [slot._replace(if_waiting=True)]
    (served,) = lane_runs([slot, wish])
    assert (served.slot, served.is_unconditional) == (slot.slot, True)
    assert not lane_runs([slot, hint])[0].is_unconditional


def test_lane_lets_the_whole_medallion_cover_its_part() -> None:
    """A medallion run that waits does what a waiting silver run would."""
    assert lane_runs([Request("silver", "watcher"), Request("medallion", "schedule", "2026-01-05")]) == [
        Request("medallion", "schedule", "2026-01-05")
    ]
