"""Running one job once: its lock, its record, its event and its log lines, whatever happens in between."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from cortex_autolearn.adapters import observe
from cortex_autolearn.adapters.lock import FileLock, holder, is_held
from cortex_autolearn.adapters.tree import Tree
from cortex_autolearn.model import layout
from cortex_autolearn.model.runs import Run
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.retention import remove_old
from cortex_autolearn.runner import Runner, Unrecorded, WaitAbandonedError, _Recorded, lock_file
from cortex_autolearn.testing import Fleet, append
from cortex_autolearn.wiring import App, build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cortex_autolearn.ports import RunHandle

START = datetime(2026, 1, 5, tzinfo=UTC)
PATIENCE_S = 20.0


class Application:
    """An application over a fresh ROOT, and what it logged."""

    def __init__(self, root: Path, **flags: object) -> None:
        self.root = root
        self._memory = io.StringIO()
        logging = observe.configure(level="info", fmt="json", file=None, queue_size=10_000, stream=self._memory)
        self.app: App = build(root, environ={}, flags=flags, logging=logging, init=True)
        self.run = self.app.runner.run

    def logged(self, event: str) -> list[dict[str, Any]]:
        assert self.app.logging.flush(5)
        lines = [json.loads(line) for line in self._memory.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        return [event for event in events_in(self.root) if not kind or event["event"] == kind]


@contextmanager
def application(root: Path, **flags: object) -> Iterator[Application]:
    running = Application(root, **flags)
    try:
        yield running
    finally:
        running.app.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Application]:
    with application(tmp_path) as one:
        yield one


def events_in(root: Path) -> list[dict[str, Any]]:
    path = root / layout.EVENTS
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def feed(root: Path, days: int = 1, tasks_per_day: int = 40, *, seed: int = 1) -> int:
    """Let a simulated fleet write bronze; return how many objects a reader finds in it."""
    fleet = Fleet(seed, start=START, tasks_per_day=tasks_per_day)
    for write in fleet.writes(days):
        append(root, write)
    return days * tasks_per_day


def good_task(task_id: str, **fields: object) -> bytes:
    """A bronze line that passes the gate."""
    task = {
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
    return json.dumps(task | fields).encode() + b"\n"


def write_bronze(root: Path, name: str, *lines: bytes) -> Path:
    path = root / layout.BRONZE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(b"".join(lines))
    return path


def child(root: Path, code: str) -> subprocess.Popen[str]:
    """Another process on the same ROOT, with ``app`` built and its log on stdout."""
    head = (
        "import os, signal, sys; from pathlib import Path\n"
        "from cortex_autolearn.adapters import observe; from cortex_autolearn.wiring import build\n"
        "log = observe.configure(level='info', fmt='json', file=None, queue_size=10_000)\n"
        "app = build(Path(sys.argv[1]), environ={}, logging=log)\n"
    )
    tail = "\napp.close()\n"
    return subprocess.Popen([sys.executable, "-c", head + code + tail, str(root)], stdout=subprocess.PIPE, text=True)


# --- what a run leaves behind ---------------------------------------------------------------------------------------


def test_counts_add_up(running: Application) -> None:
    """What the jobs count adds up, in the result, in the record and in the event alike."""
    feed(running.root, days=3)
    silver = running.run("silver", trigger="command")
    counts = silver.counts
    assert counts["objects"] == counts["silver"] + counts["superseded"] + counts["quarantined_objects"] > 100
    collected = running.run("collection", trigger="command")
    tally = collected.counts
    assert tally["processed"] == tally["high_quality"] + sum(tally["rejected"].values()) + tally["already_collected"]
    assert tally["high_quality"] == tally["training"] + tally["validation"] > 0
    for result, kind in ((silver, "medallion_run"), (collected, "hq_collection")):
        (event,) = running.events(kind)
        assert event.items() >= {**result.counts, "run_id": result.run_id, "trigger": "command"}.items()
        with running.app.store.read() as reading:
            run = reading.last_run(result.job)
        assert run is not None
        assert (run.run_id, run.result, run.counts) == (result.run_id, "ok", result.counts)


def test_log_lines_of_a_run(running: Application) -> None:
    """A run logs its start and its end with what identifies it, what it did and how long it took."""
    result = running.run("collection", trigger="schedule", slot="2026-01-05T10:00:00Z")
    keys = {"job": "collection", "run_id": result.run_id, "trigger": "schedule", "slot": "2026-01-05T10:00:00Z"}
    (started,), (finished,) = running.logged("job_started"), running.logged("job_finished")
    assert started.items() >= keys.items()
    assert finished.items() >= {**keys, "duration_s": result.duration_s, "counts": result.counts}.items()


def test_only_changes_are_events(running: Application) -> None:
    """A run that changed nothing is no event, but the medallion's own always is."""
    for job in ("silver", "collection", "readiness", "status"):
        running.run(job, trigger="command")
    assert running.events() == []
    running.run("medallion", trigger="command")
    assert [event["event"] for event in running.events()] == ["medallion_run"]


def test_days_of_gold_and_kpis_are_options(running: Application) -> None:
    """The command line's days and KPI range are written; without gold there is none."""
    write_bronze(running.root, "tasks.jsonl", good_task("a"))
    assert "gold_days" not in running.run("medallion", trigger="command", gold=False).counts
    options: dict[str, Any] = {"days": [20260105], "kpis": (20260101, 20260107), "compact": True}
    counts = running.run("medallion", trigger="command", **options).counts
    assert (counts["gold_days"], counts["compacted"]) == (["20260105"], [])
    assert (running.root / layout.analytics_file(20260105)).exists()
    assert (running.root / layout.kpis_file(20260101, 20260107)).exists()


def test_days_are_told_with_all_their_digits(running: Application) -> None:
    """A record of the first year has the same day in every list."""
    first_year = {"created_at": "0001-01-01T00:00:00Z", "completed_at": "0001-01-01T00:01:00Z"}
    write_bronze(running.root, "tasks.jsonl", good_task("early", **first_year))
    counts = running.run("medallion", trigger="command").counts
    assert counts["days"] == counts["gold_days"] == ["00010101"]


def test_a_run_that_takes_long_says_how_far_it_is(running: Application) -> None:
    """In the log as well, but not at every step."""
    run = Run("r", "silver", "command", None, 0, None, None, {})
    recorded = _Recorded(run, running.app.log, None, lambda: False)
    recorded.progress(1, 10)
    assert running.logged("job_progress") == []
    recorded._said_at -= 11
    recorded.progress(5, 10)
    recorded.progress(6, 10)
    assert [(one["done"], one["total"]) for one in running.logged("job_progress")] == [(5, 10)]


def test_readiness_counts_the_training_split(tmp_path: Path) -> None:
    """A fine-tuning is due when the training split, not the whole set, holds what is needed."""
    with application(tmp_path, **{"training.min_examples": 20}) as one:
        write_bronze(tmp_path, "tasks.jsonl", *(good_task(f"t-{number}") for number in range(20)))
        one.run("silver", trigger="command")
        training = one.run("collection", trigger="command").counts["training"]
        assert training < 20
        early = one.run("readiness", trigger="command").counts
        assert (early["training_examples"], early["min_required"], early["due"]) == (training, 20, False)
        assert early["progress_percent"] == round(100 * training / 20, 1)
        write_bronze(tmp_path, "tasks.jsonl", *(good_task(f"u-{number}") for number in range(20)))
        one.run("silver", trigger="command")
        one.run("collection", trigger="command")
        late = one.run("readiness", trigger="command").counts
        assert (late["due"], late["progress_percent"]) == (True, 100.0)
        assert len(one.logged("training_not_ready")) == len(one.logged("training_ready")) == 1


def test_status_is_one_line(running: Application) -> None:
    """The status job logs one line with how far the collection is, what waits, the last runs and the disk."""
    write_bronze(running.root, "tasks.jsonl", good_task("a"))
    running.run("silver", trigger="command")
    running.run("status", trigger="schedule")
    (line,) = running.logged("status")
    assert line["waiting"] == 1
    assert line["due"] is False  # as far as a training goes
    assert line["data_collection"]["training_examples"] == 0
    assert line["last_runs"]["silver"]["result"] == "ok"
    assert line["disk"]["bronze_bytes"] == len(good_task("a"))
    assert line["disk"]["state_bytes"] > 0 < line["disk"]["free_bytes"]


def test_unrecorded_run_leaves_no_trace(running: Application) -> None:
    """A room may be called without a run; nothing is recorded then."""
    write_bronze(running.root, "tasks.jsonl", good_task("a"))
    assert running.app.medallion.follow(Unrecorded()).silver == 1
    assert running.app.collect.run(Unrecorded()).high_quality == 1
    with running.app.store.read() as reading:
        assert reading.last_run("silver") is None
    assert running.events() == []


# --- what fails -----------------------------------------------------------------------------------------------------


def block_bronze(root: Path) -> None:
    folder = root / layout.BRONZE
    folder.rmdir()
    folder.write_text("in the way")


def test_failed_job_is_recorded_and_its_slot_done(running: Application) -> None:
    """A job that fails says of what and what helps, is recorded as failed, and is not run again for that slot."""
    block_bronze(running.root)
    result = running.run("medallion", trigger="schedule", slot="2026-01-05")
    assert (result.result, result.counts) == ("failed", {})
    assert isinstance(result.error, BoundaryError)
    (line,) = running.logged("job_failed")
    assert line.items() >= {"level": "error", "job": "medallion", "run_id": result.run_id}.items()
    assert "folder must be" in line["hint"]
    assert layout.BRONZE in line["subject"]
    with running.app.store.read() as reading:
        assert reading.slot_done("medallion", "2026-01-05")
        last = reading.last_run("medallion")
        assert last is not None
        assert last.result == "failed"
        assert reading.unfinished_runs("medallion") == []


def test_error_passes_through_when_asked(running: Application) -> None:
    """With raise_errors the caller gets the error itself, and the log does not repeat it; the record is the same."""
    block_bronze(running.root)
    with pytest.raises(BoundaryError, match=layout.BRONZE):
        running.run("silver", trigger="command", raise_errors=True)
    assert running.logged("job_failed") == []
    with running.app.store.read() as reading:
        last = reading.last_run("silver")
        assert last is not None
        assert last.result == "failed"


class _Bug(Exception):  # noqa: N818 -- it stands for any
    pass


def _fail_after_a_step(_done: int, _total: int) -> None:
    raise _Bug("in the middle")


def test_what_a_failed_run_had_done_is_one_event(running: Application) -> None:
    """A run that fails in the middle tells in its event what it had done; the next run tells the rest."""
    for number in range(3):
        write_bronze(running.root, f"tasks-{number}.jsonl", good_task(f"t-{number}", notes="x" * 5_000_000))
    result = running.run("silver", trigger="command", progress=_fail_after_a_step)
    assert (result.result, result.counts["silver"]) == ("failed", 1)
    assert isinstance(result.error, _Bug)
    running.run("silver", trigger="command")
    first, second = running.events("medallion_run")
    assert (first["failed"], first["error"], first["silver"]) == (True, "_Bug: in the middle", 1)
    assert ("failed" not in second, second["silver"]) == (True, 2)
    (line,) = running.logged("job_failed")
    assert line["error.type"].endswith("_Bug")
    assert line["error.stack"]


def test_a_readiness_check_that_is_broken_off_is_made_again(running: Application) -> None:
    """A restart in the middle of the daily look does not cost a day: its slot is not done, as after a kill."""
    running.app.runner.stop_waiting()  # as the daemon does when it is told to stop
    assert running.run("readiness", trigger="schedule", slot="2026-01-05").counts["decisions"] == []
    with running.app.store.read() as reading:
        assert not reading.slot_done("readiness", "2026-01-05")
    again = Runner(
        running.app.store, running.app.tree, running.app.clock, running.app.log, running.app.rooms
    )  # as in the next process
    assert len(again.run("readiness", trigger="catch_up", slot="2026-01-05").counts["decisions"]) == 1
    with running.app.store.read() as reading:
        assert reading.slot_done("readiness", "2026-01-05")


def test_interrupt_passes_and_is_recorded(running: Application) -> None:
    """Ctrl-C ends the run as interrupted, with an event of what was done, and reaches the caller."""

    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    write_bronze(running.root, "tasks.jsonl", good_task("a"))
    with pytest.raises(KeyboardInterrupt):
        running.run("silver", trigger="command", progress=interrupt)
    (event,) = running.events("medallion_run")
    assert (event["interrupted"], event["silver"]) == (True, 1)
    with running.app.store.read() as reading:
        last = reading.last_run("silver")
        assert last is not None
        assert last.result == "interrupted"
    assert running.run("silver", trigger="command").result == "ok", "the lock was let go of"


def test_unreadable_inputs_are_told_and_capped(running: Application) -> None:
    """What one input refuses is logged and kept with the counts, up to a limit, and fails nothing."""

    class Troubled:
        def follow(self, run: RunHandle) -> Any:
            for number in range(30):
                run.trouble(BoundaryError("read", f"file-{number}", "it is a FIFO", hint="Move it", retryable=False))
            return running.app.medallion.follow(Unrecorded())

    app = running.app
    app.runner.use(app.runner._rooms._replace(medallion=Troubled()))  # type: ignore[arg-type]  # stands in for one
    result = running.run("silver", trigger="command")
    assert result.result == "ok"
    assert result.counts["troubles"] == [f"file-{number}: it is a FIFO" for number in range(20)]
    assert len(running.logged("input_unreadable")) == 30


# --- other processes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("job", ["silver", "medallion", "collection"])
def test_killed_run_is_covered_by_one_event(running: Application, job: str) -> None:
    """What a killed run had committed is told by one event of the next run, and by no other."""
    for number in range(6_000):
        write_bronze(running.root, f"tasks-{number % 3}.jsonl", good_task(f"t-{number}"))
    if job == "collection":
        running.run("silver", trigger="command")
    kill = "lambda done, total: os.kill(os.getpid(), signal.SIGKILL)"
    process = child(running.root, f"app.runner.run({job!r}, trigger='schedule', slot='s', progress={kill})")
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGKILL
    before = len(running.events())
    result = running.run("silver" if job == "medallion" else job, trigger="command")
    assert result.result == "ok"
    key = "high_quality" if job == "collection" else "silver"
    interrupted, *rest = running.events()[before:]
    assert (interrupted["interrupted"], interrupted["job"], interrupted["slot"]) == (True, job, "s")
    assert interrupted[key] > 0
    assert interrupted[key] + sum(event[key] for event in rest) == 6_000
    assert not any("interrupted" in event for event in rest)
    with running.app.store.read() as reading:
        assert not reading.slot_done(job, "s"), "it is run again"
    told = len(running.events())
    assert [event["seq"] for event in running.events()] == list(range(1, told + 1))
    assert running.logged("interrupted_run_found")[0]["of_run_id"] == interrupted["run_id"]
    running.run(job, trigger="command")
    assert [event for event in running.events()[told:] if event.get("interrupted")] == []


def test_waits_for_another_process_at_the_same_job(running: Application) -> None:
    """A job that another process runs is waited for, says so once, and then runs; other jobs do not wait."""
    write_bronze(running.root, "tasks.jsonl", good_task("a"))
    lock = FileLock(running.root / lock_file("medallion"))
    assert lock.acquire()
    process = child(running.root, "print(app.runner.run('silver', trigger='command').result, flush=True)")
    try:
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
        assert (line["event"], line["job"]) == ("waiting_for_other_run", "silver")
        assert process.poll() is None
        assert running.run("collection", trigger="command").result == "ok"
    finally:
        lock.release()
    rest, _ = process.communicate(timeout=PATIENCE_S)
    assert "ok" in rest.splitlines(), rest
    assert "waiting_for_other_run" not in rest


def test_processes_share_the_work(running: Application) -> None:
    """Processes that run the same jobs at once do each task once between them."""
    for number in range(2_000):
        write_bronze(running.root, f"tasks-{number % 4}.jsonl", good_task(f"t-{number}"))
    code = "[app.runner.run(job, trigger='command') for job in ('silver', 'collection')]"
    processes = [child(running.root, code) for _ in range(3)]
    for process in processes:
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
    running.run("silver", trigger="command")
    running.run("collection", trigger="command")
    totals: Counter[str] = Counter()
    for event in running.events():
        totals.update({key: event.get(key, 0) for key in ("silver", "high_quality")})
    assert totals == {"silver": 2_000, "high_quality": 2_000}
    lines = [
        line for file in (running.root / layout.OUTCOMES).rglob("*.jsonl") for line in file.read_bytes().splitlines()
    ]
    assert len({json.loads(line)["task_id"] for line in lines}) == len(lines) == 2_000


def test_waiting_can_be_given_up(running: Application) -> None:
    """A process that is to end does not wait for another's run any longer."""
    with FileLock(running.root / lock_file("silver")) as lock:
        assert lock.acquire()
        running.app.runner.stop_waiting()
        result = running.run("silver", trigger="watcher")
    assert isinstance(result.error, WaitAbandonedError)
    assert running.logged("job_failed") == []


def test_lock_tells_whether_and_by_whom_it_is_held(tmp_path: Path) -> None:
    """A lock is held until it is let go of, by one at a time, and its file tells by whom."""
    path = tmp_path / "deep" / ".lock"
    assert (is_held(path), holder(path)) == (False, {})
    with FileLock(path) as first:
        assert first.acquire()
        first.note({"pid": 17})
        assert not FileLock(path).acquire()
        assert (is_held(path), holder(path)) == (True, {"pid": 17})
    assert not is_held(path)
    with FileLock(path) as second:
        assert second.acquire()


# --- retention ------------------------------------------------------------------------------------------------------


def age(path: Path, days: float) -> None:
    then = time.time() - timedelta(days=days).total_seconds()
    os.utime(path, (then, then))


def files_of(root: Path, folder: str) -> list[str]:
    return sorted(path.name for path in (root / folder).glob("*.jsonl"))


def test_bronze_is_removed_when_old_and_settled(tmp_path: Path) -> None:
    """Only a bronze file that is old, read to its end and unchanged since is removed, and only by the nightly run."""
    with application(tmp_path, **{"retention.bronze_days": 7}) as one:
        settled = write_bronze(tmp_path, "settled.jsonl", good_task("a"))
        unfinished = write_bronze(tmp_path, "unfinished.jsonl", good_task("b"), good_task("c")[:-30])
        young = write_bronze(tmp_path, "young.jsonl", good_task("d"))
        for path, days in ((settled, 8), (unfinished, 8), (young, 6)):
            age(path, days)
        one.run("medallion", trigger="command")
        assert files_of(tmp_path, layout.BRONZE) == ["settled.jsonl", "unfinished.jsonl", "young.jsonl"]
        counts = one.run("medallion", trigger="schedule", slot="2026-01-06").counts
        assert counts["bronze_removed"] == 1
        assert files_of(tmp_path, layout.BRONZE) == ["unfinished.jsonl", "young.jsonl"]
        (line,) = one.logged("retention_removed")
        assert (line["layer"], line["file"]) == ("bronze", f"{layout.BRONZE}/settled.jsonl")
        assert one.run("collection", trigger="command").counts["high_quality"] == 3, "silver does not need it"


class Held(Tree):
    """A tree in which one file may not be removed, not even by a root that tests run as."""

    def remove(self, relative: str) -> None:
        if relative.endswith("/held.jsonl"):
            raise BoundaryError(
                "remove", relative, "Operation not permitted", hint="Look at its flags", retryable=False
            )
        super().remove(relative)


def test_what_cannot_be_removed_keeps_nothing_else(tmp_path: Path) -> None:
    """A bronze file that may not be removed is told of; all others, and old silver, are removed nevertheless."""
    with application(tmp_path, **{"retention.bronze_days": 7, "retention.silver_days": 7}) as one:
        for name in ("held", "other"):
            age(write_bronze(tmp_path, f"{name}.jsonl", good_task(name)), 8)
        one.run("medallion", trigger="command")
        one.run("collection", trigger="command")
        rooms = one.app.rooms
        with pytest.raises(BoundaryError, match="not permitted"):
            remove_old(rooms.store, Held(tmp_path), rooms.clock, rooms.settings.retention, one.app.log)
        assert files_of(tmp_path, layout.BRONZE) == ["held.jsonl"]
        assert files_of(tmp_path, layout.SILVER) == []


def test_silver_is_removed_when_old_and_gated(tmp_path: Path) -> None:
    """An old silver day is removed once its tasks have met the gate, stays removed, and costs no outcome."""
    now = datetime.now(UTC)
    recent = f"{now:%Y-%m-%dT00:00:00Z}"
    with application(tmp_path, **{"retention.silver_days": 7}) as one:
        write_bronze(tmp_path, "tasks.jsonl", good_task("old"), good_task("new", completed_at=recent))
        kept, gone = f"{now:%Y%m%d}.autolearn.jsonl", "20260105.autolearn.jsonl"
        foreign = tmp_path / layout.SILVER / "20260101.jsonl"
        foreign.write_bytes(good_task("foreign"))
        one.run("medallion", trigger="schedule", slot="1")
        assert files_of(tmp_path, layout.SILVER) == sorted([foreign.name, gone, kept]), "the gate has not seen it"
        assert one.run("collection", trigger="command").counts["high_quality"] == 3
        counts = one.run("medallion", trigger="schedule", slot="2").counts
        assert counts["silver_removed"] == 1
        assert files_of(tmp_path, layout.SILVER) == sorted([foreign.name, kept])
        for slot in ("3", "4"):
            again = one.run("medallion", trigger="schedule", slot=slot).counts
            assert (again["silver_removed"], again["silver"]) == (0, 0)
        assert files_of(tmp_path, layout.SILVER) == sorted([foreign.name, kept]), "it is not made anew"
        assert one.run("collection", trigger="command", everything=True).counts["withdrawn"] == 0
        with one.app.store.read() as reading:
            assert sum(count for count, _ in reading.collected_totals().values()) == 3


def test_late_record_of_a_removed_day_is_collected(tmp_path: Path) -> None:
    """A record that arrives for a day whose silver is gone becomes silver and is collected like any other."""
    with application(tmp_path, **{"retention.silver_days": 7}) as one:
        write_bronze(tmp_path, "tasks.jsonl", good_task("first"))
        one.run("silver", trigger="command")
        one.run("collection", trigger="command")
        one.run("medallion", trigger="schedule", slot="1")
        assert files_of(tmp_path, layout.SILVER) == []
        write_bronze(tmp_path, "tasks.jsonl", good_task("late"))
        assert one.run("silver", trigger="command").counts["silver"] == 1
        assert one.run("collection", trigger="command").counts["high_quality"] == 1
