"""Shared by the tests of the rooms: a ROOT with rooms over it, records to put in, and what must hold of the result.

Run as a program it is the server of the kill tests: it forks processes that work on a ROOT and die when told to.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cortex_autolearn import wiring
from cortex_autolearn.adapters.store import Store
from cortex_autolearn.adapters.tree import Tree
from cortex_autolearn.canonical import Readers
from cortex_autolearn.collect.job import Collector
from cortex_autolearn.medallion.job import Medallion
from cortex_autolearn.model import layout
from cortex_autolearn.model.policy import GatePolicy, MedallionPolicy
from cortex_autolearn.redact import redact
from cortex_autolearn.settings import Settings
from cortex_autolearn.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cortex_autolearn.ports import BoundaryError

slow = pytest.mark.skipif("AUTOLEARN_SLOW_TESTS" not in os.environ, reason="slow; AUTOLEARN_SLOW_TESTS=1 runs it")
NOW = datetime(2025, 11, 27, 12, 0, 0, 123456, tzinfo=UTC)
PROMPT = "You are the {master} of the fleet."
_STAMPS = re.compile(rb'"(processed_at|collected_at|generated_at|timestamp)": ?"[^"]*"')


@dataclass
class Handle:
    """The run that a room is part of; keeps the troubles it is told."""

    run_id: str = "run"
    troubles: list[BoundaryError] = field(default_factory=list)

    def progress(self, done: int, total: int) -> None:
        assert 0 <= done

    def trouble(self, error: BoundaryError) -> None:
        self.troubles.append(error)

    def is_ending(self) -> bool:
        return False


class Rooms:
    """Medallion and collector over one ROOT, as the daemon has them.

    Arguments:
        root: the ROOT; made if it is not there.
        gate: the collector's policy.
        clock: tells the time; stands at ``NOW`` unless given.
        files: stands between the rooms and the tree, to make trouble.
        policy: fields of the ``[medallion]`` section.
    """

    def __init__(
        self,
        root: Path,
        *,
        gate: GatePolicy | None = None,
        clock: FakeClock | None = None,
        files: Any = None,
        **policy: Any,
    ) -> None:
        self.root = root
        self.bronze = root / layout.BRONZE
        self.silver = root / layout.SILVER
        self.outcomes = root / layout.OUTCOMES
        self.bronze.mkdir(parents=True, exist_ok=True)
        self.clock = FakeClock(NOW) if clock is None else clock
        self.troubles: list[BoundaryError] = []
        self.tree = Tree(root)
        self.store = Store(self.tree, self.clock, self.troubles.append)
        medallion_policy = MedallionPolicy(**policy)
        self.readers = Readers(medallion_policy, lambda: self.tree.folders(layout.MASTERS))
        files = self.tree if files is None else files
        self.medallion = Medallion(self.store, files, self.clock, medallion_policy, self.readers)
        self.collector = Collector(self.store, files, self.clock, gate or GatePolicy(), PROMPT, self.readers)

    def __enter__(self) -> Rooms:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def put(self, name: str, *records: dict[str, Any] | bytes, folder: str = layout.BRONZE) -> Path:
        """Append records, a compact line each, or bytes as they are."""
        path = self.root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.writelines(one if isinstance(one, bytes) else line(one) for one in records)
        return path

    def follow(self) -> dict[str, Any]:
        """Refine what is new, and check that the numbers add up."""
        handle = Handle()
        counts = self.medallion.follow(handle).as_dict()
        self.troubles += handle.troubles
        assert counts["objects"] == counts["silver"] + counts["superseded"] + counts["quarantined_objects"]
        assert counts["quarantined"] >= 0
        return counts

    def adopt(self) -> dict[str, Any]:
        """Take note of the silver that Cortex wrote."""
        return self.medallion.adopt(Handle()).as_dict()

    def refine(self) -> dict[str, Any]:
        """Follow, adopt and compact."""
        counts = self.follow()
        self.adopt()
        self.medallion.compact(Handle())
        return counts

    def collect(self, *, day: int | None = None, everything: bool = False) -> dict[str, Any]:
        """Let the rule decide, and check that the numbers add up."""
        tally = self.collector.run(Handle(), day=day, everything=everything).as_dict()
        kept = tally["high_quality"] + tally["already_collected"]
        assert tally["processed"] == kept + sum(tally["rejected"].values())
        assert tally["high_quality"] == tally["training"] + tally["validation"]
        return tally

    def gold(self, days: Sequence[int] | None = None) -> list[int]:
        """Write the gold of the days that changed."""
        return self.medallion.write_gold(Handle(), days)

    def everything(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Do what a night does: refine, write gold, collect."""
        counts = self.refine()
        self.gold()
        return counts, self.collect()

    def tasks(self, day: str | None = None) -> list[str]:
        """Return the ids of the tasks in our silver, in their order, of one day or of all."""
        return [one["canonical"]["task_id"] for one in self.silver_objects(day)]

    def silver_objects(self, day: str | None = None) -> list[dict[str, Any]]:
        """Return our silver lines as objects."""
        return [json.loads(one) for one in self.silver_lines(day)]

    def silver_lines(self, day: str | None = None) -> list[bytes]:
        """Return our silver lines."""
        files = sorted(self.silver.glob(f"{day or '*'}{layout.OWN_SILVER_SUFFIX}"))
        return [one for path in files for one in path.read_bytes().splitlines()]

    def quarantine(self) -> list[dict[str, Any]]:
        """Return the quarantine's lines as objects."""
        return objects(self.root / layout.QUARANTINE)

    def collected(self) -> dict[str, str]:
        """Return each collected task's split, from the files; no task may stand twice."""
        found: dict[str, str] = {}
        for one in objects(self.outcomes):
            assert one["task_id"] not in found, f"{one['task_id']} stands twice"
            found[one["task_id"]] = one["split"]
        return found

    def analytics(self, day: int) -> dict[str, Any]:
        """Return gold's analytics of a day."""
        content: dict[str, Any] = json.loads((self.root / layout.analytics_file(day)).read_bytes())
        return content

    def close(self) -> None:
        """Close the state."""
        self.store.close()


def line(record: dict[str, Any]) -> bytes:
    """Return a record as one compact line."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def good(task_id: Any = "t1", **changes: Any) -> dict[str, Any]:
    """Return a record that the collector keeps, with some fields changed; a field changed to ``...`` is left out."""
    record = {
        "task_id": task_id,
        "master": "security-master",
        "task_type": "scan",
        "input": "Look through the login code for weak spots",
        "output": "Two weak spots were found in the session handling, both mended",
        "status": "completed",
        "quality_score": 4.5,
        "created_at": "2025-11-26T09:59:00Z",
        "started_at": "2025-11-26T09:59:30Z",
        "completed_at": "2025-11-26T10:00:00Z",
        "duration_seconds": 30,
        **changes,
    }
    return {key: value for key, value in record.items() if value is not ...}


def objects(folder: Path) -> list[dict[str, Any]]:
    """Return every line of the ``.jsonl`` files below a folder as an object."""
    return [json.loads(one) for path in sorted(folder.rglob("*.jsonl")) for one in path.read_bytes().splitlines()]


def plain(data: bytes) -> bytes:
    """Return lines without the instants at which we wrote them."""
    return _STAMPS.sub(rb'"\1":""', data)


def silver_bytes(root: Path) -> dict[str, bytes]:
    """Return our silver files' bytes but for ``processed_at``; files without a line are as good as none."""
    files = sorted((root / layout.SILVER).glob(f"*{layout.OWN_SILVER_SUFFIX}"))
    found = {path.name: plain(path.read_bytes()) for path in files}
    return {name: data for name, data in found.items() if data}


def other_lines(root: Path) -> dict[str, list[bytes]]:
    """Return the sorted lines of every other file we write, but for timestamps."""
    found = {}
    for folder in (
        layout.QUARANTINE,
        layout.OUTCOMES,
        layout.TRAINING_VIEW,
        layout.ANALYTICS,
        layout.REPORTS,
        layout.KPIS,
    ):
        for path in sorted((root / folder).rglob("*.json*")):
            lines = sorted(_entries(path) if path.suffix == ".json" else plain(path.read_bytes()).splitlines())
            if lines and not path.name.startswith("."):
                found[str(path.relative_to(root))] = lines
    return found


def _entries(path: Path) -> list[bytes]:
    """Return a report's head and its tasks, or the whole of another file of gold, but for when it was written."""
    content = json.loads(path.read_bytes())
    del content["generated_at"]
    return [json.dumps(one).encode() for one in (*content.pop("task_list", ()), content)]


def events(root: Path) -> list[dict[str, Any]]:
    """Return the events file's lines as objects."""
    path = root / layout.EVENTS
    return [json.loads(one) for one in path.read_bytes().splitlines()] if path.exists() else []


def check_state(root: Path) -> None:
    """Check that files and state agree: every row points at its own line, and the files hold nothing else."""
    connection = sqlite3.connect(root / layout.STATE)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        living: dict[str, int] = {}
        for task_id, day, position, length in connection.execute(
            "SELECT task_id, day, position, length FROM tasks WHERE origin = 0 ORDER BY day"
        ):
            path = root / layout.silver_file(day)
            if length == 0:
                continue  # both its silver and its bronze are gone
            text = _at(path, position, length)
            assert text.endswith(b"\n"), (path.name, task_id, position, length, text[-80:])
            assert _read(text)["canonical"]["task_id"] == task_id
            living[path.name] = living.get(path.name, 0) + 1
        rows = connection.execute("SELECT task_id, split, day, position, length FROM outcomes").fetchall()
        for task_id, split, day, position, length in rows:
            text = _at(root / layout.outcomes_file(split, day), position, length)
            assert text.endswith(b"\n"), (split, day, task_id)
            assert json.loads(text)["task_id"] == task_id
        assert len(objects(root / layout.OUTCOMES)) == len(rows)
        for relative, length, staged in connection.execute("SELECT path, length, staged FROM outputs"):
            path = root / relative
            assert staged is None
            assert (path.stat().st_size if path.exists() else 0) == length, relative
        known = {row[0] for row in connection.execute("SELECT path FROM outputs")}
        for folder in (layout.QUARANTINE, layout.OUTCOMES, layout.TRAINING_VIEW):
            for path in (root / folder).rglob("*.jsonl"):
                assert str(path.relative_to(root)) in known or path.stat().st_size == 0, path
    finally:
        connection.close()


def check_compacted(root: Path) -> None:
    """Check that our silver holds one line a task and nothing else."""
    connection = sqlite3.connect(root / layout.STATE)
    try:
        known = sorted(
            row[0] for row in connection.execute("SELECT task_id FROM tasks WHERE origin = 0 AND length > 0")
        )
    finally:
        connection.close()
    files = sorted((root / layout.SILVER).glob(f"*{layout.OWN_SILVER_SUFFIX}"))
    held = [_read(one)["canonical"]["task_id"] for path in files for one in path.read_bytes().splitlines()]
    assert sorted(held) == known


def _read(text: bytes) -> dict[str, Any]:
    """Decode an object; whole numbers as text, which Python limits less than integers."""
    found: dict[str, Any] = json.loads(text, parse_int=str)
    return found


def _at(path: Path, position: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(position)
        return file.read(length)


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder in memory where there is one: fsync costs nothing there, and a kill leaves the same behind."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=shared if os.access(shared, os.W_OK) else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- processes that are killed ---------------------------------------------------------------------------------------

DEADLY = ("fsync", "rename", "pwrite", "pwritev", "write", "ftruncate", "unlink", "rmdir")
"""Calls of ``os`` before each of which a process may die, and in the middle of those that write."""


class Killer:
    """Forks processes that work on a ROOT and kills them: at the n-th call that changes a file, or after a time."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )

    def work(
        self,
        root: Path,
        *,
        task: str = "night",
        die_at: int | None = None,
        after_s: float | None = None,
        day: int = 0,
        **options: Any,
    ) -> dict[str, Any]:
        """Let a process work on ``root``.

        Arguments:
            task: ``night``, ``rebuild``, ``dataset``, ``score`` or ``rollout``.
            die_at: the number of the call at which it dies (the first is 0).
            after_s: seconds after which it is killed.
            day: how many days after ``NOW`` it works.
            options: the task's own.

        Returns:
            ``died``, ``calls`` (how many deadly calls it made; -1 when it died), ``seconds``, and ``error``.
        """
        work = {"root": str(root), "task": task, "die_at": die_at, "after_s": after_s, "day": day, "options": options}
        return self._ask([work])[0]

    def work_together(self, works: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Let several processes work at once; each as the arguments of :meth:`work`."""
        base: dict[str, Any] = {"task": "night", "die_at": None, "after_s": None, "day": 0, "options": {}}
        return self._ask([{**base, **one, "root": str(one["root"])} for one in works])

    def _ask(self, works: list[dict[str, Any]]) -> list[dict[str, Any]]:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(works) + "\n")
        self._server.stdin.flush()
        answers: list[dict[str, Any]] = json.loads(self._server.stdout.readline())
        for answer in answers:
            assert not answer["error"], answer["error"]
        return answers

    def close(self) -> None:
        self._server.communicate()


def _serve() -> None:
    redact("")  # its patterns are compiled here, once, and not in every child
    for request in sys.stdin:
        works = json.loads(request)
        if any(work["task"] == "score" for work in works):
            # Imported once, before the forks: a child would take a second for it.
            import anthropic  # noqa: F401, PLC0415 - as said
            import judge_support  # noqa: F401, PLC0415 - as said
        if any(work["task"] == "rollout" for work in works):
            import rollout_support  # noqa: F401, PLC0415 - likewise
        begun = time.monotonic()
        children = [_fork(work) for work in works]
        answers: dict[int, dict[str, Any]] = {}
        deadlines = sorted(
            (work["after_s"], pid) for work, (pid, _) in zip(works, children, strict=True) if work["after_s"]
        )
        for after_s, pid in deadlines:
            time.sleep(max(0.0, begun + after_s - time.monotonic()))
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid, pipe in children:
            with os.fdopen(pipe) as report:
                text = report.read()
            _, status = os.waitpid(pid, 0)
            answer = {"died": status != 0, "calls": -1, "seconds": time.monotonic() - begun, "error": ""}
            answers[pid] = answer | (json.loads(text) if text else {})
        print(json.dumps([answers[pid] for pid, _ in children]), flush=True)


def _fork(work: dict[str, Any]) -> tuple[int, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    report: dict[str, Any] = {}
    try:
        calls = _Deadly(work["die_at"])
        calls.arm()
        _work(Path(work["root"]), work["task"], work["day"], work["options"])
        calls.disarm()
        report = {"calls": calls.made}
    except BaseException as error:
        report = {"error": f"{type(error).__name__}: {error}"}
    os.write(writing, json.dumps(report).encode())
    os._exit(0)


def _work(root: Path, task: str, day: int, options: dict[str, Any]) -> None:
    clock = FakeClock(NOW)
    clock.advance(day * 86_400)
    if task == "score":
        from judge_support import work  # noqa: PLC0415 - other workers do without

        work(root, clock, **options)
        return
    if task == "rollout":
        from rollout_support import work as roll  # noqa: PLC0415 - likewise

        roll(root, clock, **options)
        return
    rooms = Rooms(root, clock=clock)
    if task == "dataset":
        wiring.datasets(Settings(), rooms.store, rooms.tree, rooms.clock).build("global", Handle())
        rooms.close()
        return
    if task == "rebuild":
        rooms.medallion.rebuild(Handle())
    with rooms.store.write() as transaction:
        transaction.event("medallion_run", task=task)
    rooms.everything()
    rooms.close()


class _Deadly:
    """Counts the calls that change something, and ends the process at the one it was told."""

    def __init__(self, die_at: int | None) -> None:
        self.made = 0
        self._die_at = die_at
        self._armed = False

    def arm(self) -> None:
        self._armed = True
        for name in DEADLY:
            setattr(os, name, self._around(name, getattr(os, name)))
        deadly = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
                if sql != "COMMIT":
                    return super().execute(sql, parameters)
                deadly.step()
                cursor = super().execute(sql, parameters)
                deadly.step()
                return cursor

        connect = sqlite3.connect
        sqlite3.connect = lambda *args, **kwargs: connect(*args, factory=Connection, **kwargs)  # type: ignore[assignment]

    def disarm(self) -> None:
        self._armed = False

    def step(self) -> None:
        if self._armed:
            if self.made == self._die_at:
                os._exit(9)
            self.made += 1

    def _around(self, name: str, call: Any) -> Any:
        def called(*args: Any, **kwargs: Any) -> Any:
            self.step()
            if self._armed and name in ("write", "pwrite", "pwritev"):
                if self.made == self._die_at:
                    call(args[0], _half(args[1]), *args[2:])
                self.step()
            return call(*args, **kwargs)

        return called


def _half(data: Any) -> Any:
    """Return the first half of what is to be written: bytes, or a list of them."""
    if isinstance(data, list):
        return [_half(b"".join(data))]
    return bytes(data)[: len(data) // 2]


def lengths(data: Iterable[bytes]) -> int:
    """Return how many bytes there are altogether."""
    return sum(map(len, data))


if __name__ == "__main__":
    _serve()
