"""Recording tasks: what a valid record is, and that each is one whole line whoever writes, dies or runs out of disk."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.record import record

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parents[1]
BRONZE = "coordination/medallion/bronze/raw-tasks"
# The package may offer the function under the module's name, hence not by import.
module = sys.modules["cortex_autolearn.record"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "coordination").mkdir()
    return tmp_path


def write(root: Path, **fields: Any) -> Path:
    """Record a task of which only ``fields`` matter."""
    path = record(root, **({"task_id": "t1", "master": "security-master", "status": "completed"} | fields))
    assert isinstance(path, Path)
    return path


def only(root: Path) -> dict[str, Any]:
    (path,) = (root / BRONZE).iterdir()
    (line,) = path.read_bytes().splitlines()
    return json.loads(line)  # type: ignore[no-any-return]


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A real tmpfs at ``folder``."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True)
    if made.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {made.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


# --- what a record holds --------------------------------------------------------------------------------------------


def test_record_is_one_compact_line_of_today(root: Path) -> None:
    """A record is one line in the day's file by UTC, holding what was given, times in UTC, None left out."""
    before = datetime.now(UTC)
    path = write(
        root,
        task_type="scan",
        input="what was asked\nin two lines",
        output={"answer": [1, 2.5, None, True, "ü😀"]},
        created_at=datetime(2026, 1, 31, 8, 30, tzinfo=timezone(timedelta(hours=-6))),
        completed_at="2026-01-31 09:00:00.25-0600",
        duration_seconds=30,
        quality_score=4.5,
        model=None,
        metadata={"worker": "w1", "none": None},
        priority="high",
        dropped=None,
    )
    assert path.name in {f"{moment:%Y%m%d}.jsonl" for moment in (before, datetime.now(UTC))}
    assert path.parent == root / BRONZE
    assert path.read_bytes().count(b"\n") == 1
    assert b": " not in path.read_bytes()
    assert only(root) == {
        "task_id": "t1",
        "master": "security-master",
        "task_type": "scan",
        "status": "completed",
        "input": "what was asked\nin two lines",
        "output": {"answer": [1, 2.5, None, True, "ü😀"]},
        "created_at": "2026-01-31T14:30:00Z",
        "completed_at": "2026-01-31 09:00:00.25-0600",
        "duration_seconds": 30,
        "quality_score": 4.5,
        "retry_count": 0,
        "metadata": {"worker": "w1", "none": None},
        "priority": "high",
    }


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=15,
)


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1).filter(str.strip), JSON_VALUES, st.dictionaries(st.text(), JSON_VALUES))
def test_what_was_recorded_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, task_id: str, output: object, metadata: dict[str, object]
) -> None:
    """Anything that JSON can hold comes back exactly as it was given."""
    root = tmp_path_factory.mktemp("root")
    (root / "coordination").mkdir()
    write(root, task_id=task_id, output=output, metadata=metadata)
    read = only(root)
    assert (read["task_id"], read.get("output"), read["metadata"]) == (task_id, output, metadata)


def _nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("task_id", "", "task_id is empty"),
        ("task_id", " \n", "task_id is empty"),
        ("task_id", 7, "task_id is a int: only text"),
        ("task_id", "a\udc80", "task_id holds half a surrogate pair at position 1"),
        ("master", "../up", "master '../up' cannot be part of a path"),
        ("master", None, "master is a NoneType"),
        ("master", "m" * 122, "is too long: at most 121 characters"),
        ("status", "", "status is empty"),
        ("status", None, "status is a NoneType"),
        ("task_type", 1, "task_type is a int"),
        ("error", ValueError("x"), "error is a ValueError: only text"),
        ("model", ["m"], "model is a list"),
        ("duration_seconds", -0.1, "duration_seconds is -0.1: only 0 or more"),
        ("duration_seconds", float("nan"), "duration_seconds is nan"),
        ("duration_seconds", float("inf"), "duration_seconds is inf"),
        ("duration_seconds", "3", "duration_seconds is a str: only a number, 0 or more"),
        ("duration_seconds", 10**400, "duration_seconds is an integer of more than 64 bits"),
        ("quality_score", -(10**400), "quality_score is an integer of more than 64 bits: only 1 to 5"),
        ("quality_score", 0.99, "quality_score is 0.99: only 1 to 5"),
        ("quality_score", 5.01, "quality_score is 5.01: only 1 to 5"),
        ("quality_score", True, "quality_score is a bool"),
        ("retry_count", -1, "retry_count is -1: only a whole number, 0 or more"),
        ("retry_count", 1.0, "retry_count is 1.0"),
        ("retry_count", None, "retry_count is None"),
        ("cost_usd", -1, "cost_usd is -1"),
        ("created_at", datetime(2026, 1, 1), "created_at is a datetime without a time zone"),  # noqa: DTZ001
        (
            "created_at",
            datetime.min.replace(tzinfo=timezone(timedelta(hours=9))),
            "created_at is 0001.*years 1 to 9999",
        ),
        ("created_at", "yesterday", "created_at is 'yesterday': only a time like"),
        ("created_at", "2026-02-30T00:00:00Z", "created_at is '2026-02-30"),
        ("created_at", "2026-01-01", "created_at is '2026-01-01'"),
        ("created_at", "2026-01-01T24:00:00Z", "created_at is"),
        ("created_at", 1.7e9, "created_at is a float"),
        ("metadata", [1], "metadata is a list: only an object"),
        ("metadata", {1: 2}, "metadata has the key 1, a int"),
        ("metadata", {"a": [{"b": float("nan")}]}, r"metadata\.a\[0\]\.b is nan"),
        ("metadata", {"a\ud800": 1}, "a key of metadata holds half a surrogate pair"),
        ("metadata", {"at": datetime(2026, 1, 1)}, r"metadata\.at is a datetime without a time zone"),  # noqa: DTZ001
        ("output", b"bytes", "output is a bytes: only JSON"),
        ("output", {"s": {1}}, r"output\.s is a set"),
        ("output", 2**64, "output is an integer of more than 64 bits"),
        ("output", _nested(101), "is nested too deep: at most 100 levels"),
        ("input", "half \ud800", "input holds half a surrogate pair"),
        ("input", "x" * (64 << 20), r"the record is 67,1\d\d,\d\d\d bytes as JSON: at most 67,108,864"),
        ("whatever", float("-inf"), "whatever is -inf"),
    ],
)
def test_bad_argument_is_named(root: Path, field: str, value: object, said: str) -> None:
    """An argument that is not allowed raises an error naming it and what is; nothing is written."""
    with pytest.raises(ValueError, match=said):
        write(root, **{field: value})
    assert not (root / "coordination" / "medallion").exists()


def test_good_edges_are_taken(root: Path) -> None:
    """The ends of each allowed range are allowed."""
    write(root, task_id="é" * 10_000, master="a", quality_score=1, duration_seconds=0, output=_nested(100))
    write(root, quality_score=5, cost_usd=0.0, created_at="2026-01-01T00:00:00", output=-(2**63), input=2**64 - 1)
    write(root, metadata={"at": datetime(2026, 1, 1, tzinfo=UTC)}, started_at="2026-12-31T23:59:59.123456+05:30")


def test_root_without_coordination_is_refused(tmp_path: Path) -> None:
    """A wrong ROOT is an error that says what to do, and no folder is made there."""
    with pytest.raises(BoundaryError, match=r"no folder coordination/.*run --init"):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- the file -------------------------------------------------------------------------------------------------------


def day_file(root: Path) -> Path:
    return write(root, task_id="first")


def test_root_that_cannot_be_looked_at_is_explained(tmp_path: Path) -> None:
    """What the system says of ROOT itself is the error that is promised, too."""
    with pytest.raises(BoundaryError, match="cannot record a task: .*name too long"):
        write(tmp_path / ("x" * 300))


def test_torn_line_swallows_nothing(root: Path) -> None:
    """After half a line of a killed writer the record begins on a new line."""
    path = day_file(root)
    with path.open("ab") as torn:
        torn.write(b'{"task_id":"torn')
    write(root, task_id="second")
    lines = path.read_bytes().split(b"\n")
    assert lines[1] == b'{"task_id":"torn'
    assert json.loads(lines[2])["task_id"] == "second"
    assert lines[3] == b""


def test_file_moved_away_while_waiting_is_not_written(root: Path) -> None:
    """A writer that waited for the lock while the file was moved writes to the new one, not to the moved one."""
    path = day_file(root)
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        writer = threading.Thread(target=write, args=(root,), kwargs={"task_id": "second"})
        writer.start()
        time.sleep(0.1)
        path.rename(path.with_suffix(".moved"))
    writer.join(10)
    assert only_ids(path) == ["second"]
    assert only_ids(path.with_suffix(".moved")) == ["first"]


def only_ids(path: Path) -> list[str]:
    return [json.loads(line)["task_id"] for line in path.read_bytes().splitlines()]


def test_lock_held_for_ever_is_reported(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When whoever holds the lock is stopped, the call gives up with a retryable error."""
    path = day_file(root)
    monkeypatch.setattr(module, "LOCK_TIMEOUT_S", 0.2)
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BoundaryError, match="held the lock") as caught:
            write(root)
    assert caught.value.retryable
    write(root)


@pytest.mark.parametrize("kind", ["link", "folder", "FIFO"])
def test_what_is_no_file_is_refused(root: Path, tmp_path: Path, kind: str) -> None:
    """A link, folder or FIFO in the file's place is an error, at once; nothing is written through a link."""
    path = day_file(root)
    path.unlink()
    match kind:
        case "link":
            path.symlink_to(tmp_path / "elsewhere")
        case "folder":
            path.mkdir()
        case _:
            os.mkfifo(path)
    with pytest.raises(BoundaryError, match="cannot record a task"):
        write(root)
    assert not (tmp_path / "elsewhere").exists()


def test_full_disk_is_explained_and_leaves_whole_lines(tmp_path: Path) -> None:
    """On a full disk the call says so and the file ends as it did before; with room again, recording goes on."""
    with mounted(tmp_path / "disk", "size=256k") as disk:
        (disk / "coordination").mkdir()
        ballast = disk / "ballast"
        ballast.write_bytes(b"b" * 100_000)
        written = []
        with pytest.raises(BoundaryError, match="Free space") as caught:
            for number in range(1_000):
                path = write(disk, task_id=f"t{number}", output="o" * 7_001)
                written.append(f"t{number}")
        assert not caught.value.retryable
        assert path.read_bytes().endswith(b"}\n")
        assert only_ids(path) == written
        with pytest.raises(BoundaryError):
            write(disk, output="o" * 50_000)
        assert only_ids(path) == written
        ballast.unlink()
        write(disk, task_id="after", output="o" * 50_000)
        assert only_ids(path) == [*written, "after"]


def test_disk_filling_up_in_the_middle_keeps_a_line_behind(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a write stops half-way and a script without the lock has appended behind it, its line is not cut off."""
    path = day_file(root)
    real_write = os.write
    rounds = iter([10, None])

    def write_some(opened: int, data: bytes) -> int:
        part = next(rounds)
        if part is not None:
            return real_write(opened, data[:part])
        with path.open("ab") as other:
            other.write(b'\n{"task_id":"other"}\n')
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "write", write_some)
    with pytest.raises(BoundaryError, match="Free space"):
        write(root)
    monkeypatch.undo()
    assert path.read_bytes().split(b"\n")[-2] == b'{"task_id":"other"}'


# --- many writers ---------------------------------------------------------------------------------------------------

WRITER = """
import random, sys
from cortex_autolearn.record import record
root, writer, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
dice = random.Random(writer)
number = 0
while number != count:
    size = int(200_000 ** dice.random())
    record(root, task_id=f"{writer}-{number}", master="m", status="completed", output=chr(97 + number % 26) * size)
    print(number, size, flush=True)
    number += 1
"""


def start_writer(root: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, root, name, str(count)], stdout=subprocess.PIPE, text=True, cwd=HERE
    )


def test_many_processes_record_at_once(root: Path) -> None:
    """Eight processes with 500 records each, of up to 200 kB: every record is one whole line."""
    writers = {str(number): start_writer(root, str(number), 500) for number in range(8)}
    expected: dict[str, int] = {}
    for name, writer in writers.items():
        told, _ = writer.communicate(timeout=120)
        assert writer.returncode == 0
        expected |= {f"{name}-{number}": int(size) for number, size in (line.split() for line in told.splitlines())}
    found = {}
    for path in (root / BRONZE).iterdir():
        for line in path.read_bytes().splitlines():
            task = json.loads(line)
            assert task["task_id"] not in found
            assert len(set(task["output"])) == 1
            found[task["task_id"]] = len(task["output"])
    assert len(found) == 4_000
    assert found == expected


def test_killed_writers_harm_no_other(root: Path) -> None:
    """Writers killed at random instants lose no finished record, their own or another's."""
    dice = random.Random(5)
    finished: set[str] = set()
    survivors = [start_writer(root, f"s{number}", 150) for number in range(2)]
    for victim in range(24):
        writer = start_writer(root, f"v{victim}", -1)
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(dice.random() * 0.05)
        writer.send_signal(signal.SIGKILL)
        told = first + writer.stdout.read()
        writer.stdout.close()
        assert writer.wait(30) == -signal.SIGKILL
        # The last line told may be cut, as the writer died telling it.
        finished |= {f"v{victim}-{line.split()[0]}" for line in told.split("\n")[:-1]}
    for number, writer in enumerate(survivors):
        told, _ = writer.communicate(timeout=120)
        assert writer.returncode == 0
        finished |= {f"s{number}-{line.split()[0]}" for line in told.splitlines()}
    found: list[str] = []
    torn = 0
    for path in (root / BRONZE).iterdir():
        for line in path.read_bytes().split(b"\n"):
            try:
                found.append(json.loads(line)["task_id"])
            except ValueError:
                torn += bool(line)
    assert len(found) == len(set(found))
    assert finished <= set(found)
    assert torn <= 24


def test_threads_record_at_once(root: Path) -> None:
    """Threads of one process may record at once as well."""

    def work(thread: int) -> None:
        for number in range(200):
            write(root, task_id=f"{thread}-{number}", output="x" * (number * 50))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [task_id for path in (root / BRONZE).iterdir() for task_id in only_ids(path)]
    assert len(found) == len(set(found)) == 1_200


def test_import_is_light() -> None:
    """Callers pay for no scheduler, log, database or provider."""
    code = (
        "import sys, cortex_autolearn.record; heavy = {'structlog', 'apscheduler', 'anthropic', 'sqlite3', 'asyncio', "
        "'watchfiles', 'click', 'logging', 'msgspec'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=HERE)
