"""The log: what its lines hold, and that no output, value or library can hurt whoever logs."""

from __future__ import annotations

import asyncio
import fcntl
import io
import json
import logging
import os
import pty
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex_autolearn.adapters import observe
from cortex_autolearn.adapters.observe import MAX_LINE_BYTES, Logging, configure

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "sk-ant-0123456789"


@contextmanager
def logging_to(file: Path | None = None, **options: Any) -> Iterator[Logging]:
    """A configured log, closed at the end; without a stream it writes to memory."""
    given_options: dict[str, Any] = {"level": "info", "fmt": "json", "queue_size": 100_000, "stream": io.StringIO()}
    running = configure(file=file, **(given_options | options))
    try:
        yield running
    finally:
        running.close()


def lines_of(text: str | bytes) -> list[dict[str, Any]]:
    encoded = text.encode() if isinstance(text, str) else text
    return [json.loads(line) for line in encoded.splitlines()]


def logged(**keys: Any) -> dict[str, Any]:
    """The one line that logging ``keys`` gives, which must be valid JSON below the limit."""
    memory = io.StringIO()
    with logging_to(stream=memory) as running:
        running.log.info("sample", **keys)
    assert (running.dropped, running.write_errors) == (0, 0)
    (line,) = memory.getvalue().encode().splitlines()
    assert len(line) < MAX_LINE_BYTES
    return json.loads(line)  # type: ignore[no-any-return]


@contextmanager
def tiny_disk(folder: Path, size: str = "64k") -> Iterator[Path]:
    """A real file system that is soon full."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_line_has_the_documented_fields(tmp_path: Path) -> None:
    """A line is one JSON object of timestamp, level, event, bound and given keys, the same on both outputs."""
    memory = io.StringIO()
    with logging_to(tmp_path / "logs" / "daemon.log", stream=memory) as running:
        running.log.bind(job="collect", run_id="r1").warning("job_ended", processed=250)
    (line,) = lines_of(memory.getvalue())
    moment = datetime.fromisoformat(line.pop("timestamp"))
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 60
    assert moment.utcoffset() == datetime.now(UTC).utcoffset()
    assert line == {"level": "warning", "event": "job_ended", "job": "collect", "run_id": "r1", "processed": 250}
    assert (tmp_path / "logs" / "daemon.log").read_text() == memory.getvalue()


def test_timestamp_is_utc_with_milliseconds() -> None:
    """Times are RFC 3339 in UTC, to the millisecond."""
    stamp = logged()["timestamp"]
    assert len(stamp) == len("2026-01-31T08:30:00.000Z")
    assert stamp.endswith("Z")


def test_taken_names_are_kept_beside_ours() -> None:
    """A key named like a field of ours does not replace it and is not lost."""
    line = logged(timestamp="then", logger="me", truncated=3)
    assert (line["timestamp_"], line["logger_"], line["truncated_"]) == ("then", "me", 3)
    assert "truncated" not in line


def test_level_filters_and_can_be_changed() -> None:
    """Lines below the level are not written; the level can be changed while running."""
    memory = io.StringIO()
    with logging_to(stream=memory, level="warning") as running:
        running.log.info("no")
        running.log.warning("yes")
        running.set_level("debug")
        running.log.debug("now")
    assert [line["event"] for line in lines_of(memory.getvalue())] == ["yes", "now"]


@pytest.mark.parametrize("bad", [{"level": "loud"}, {"fmt": "xml"}, {"queue_size": 0}])
def test_bad_settings_are_refused(bad: dict[str, Any]) -> None:
    """A level, format or queue size that does not exist is refused before anything changes."""
    before = logging.getLogger().handlers[:]
    with pytest.raises(ValueError, match="no such log"), logging_to(**bad):
        pass
    assert logging.getLogger().handlers == before


# --- exceptions and secrets -----------------------------------------------------------------------------------------


class _FleetError(Exception):
    pass


def _fail() -> None:
    api_key = SECRET
    try:
        raise _FleetError("disk gone")
    except _FleetError as error:
        raise ValueError("cannot go on") from error
    finally:
        del api_key


def _fail_with_local() -> None:
    api_key = SECRET  # noqa: F841 -- it stands in the frame on purpose
    _fail()


@pytest.mark.parametrize("fmt", ["json", "console"])
@pytest.mark.parametrize("group", [False, True])
def test_secret_in_a_local_never_appears(fmt: str, group: bool) -> None:
    """An exception shows where it came from, never what the local variables held."""
    memory = io.StringIO()
    with logging_to(stream=memory, fmt=fmt) as running:
        token = {"authorization": SECRET}
        try:
            try:
                _fail_with_local()
            except ValueError as error:
                if group:
                    raise ExceptionGroup("several", [error]) from error
                raise
        except Exception as error:
            running.log.error("job_failed", exc_info=error)
        del token
    text = memory.getvalue()
    assert "_fail_with_local" in text
    assert "disk gone" in text
    assert SECRET not in text


def test_exception_becomes_fields() -> None:
    """An exception is logged as type, message and stack, its causes included; without one, exc_info is harmless."""
    try:
        _fail()
    except ValueError as error:
        line = logged(exc_info=error)
    assert (line["error.type"], line["error.message"]) == ("ValueError", "cannot go on")
    assert [part["exc_type"] for part in line["error.stack"]] == ["ValueError", "_FleetError"]
    assert line["error.stack"][0]["frames"][-1]["name"] == "_fail"
    assert "error.type" not in logged(exc_info=True)
    try:
        raise _FleetError("x")
    except _FleetError:
        assert logged(exc_info=True)["error.type"].endswith("test_observe._FleetError")


def test_type_that_hides_a_secret_from_its_repr_keeps_it() -> None:
    """Dataclasses and text types are shown by their own repr, so that what they hide stays hidden."""

    @dataclass
    class Account:
        user: str
        key: str = field(repr=False)

    class Key(str):
        __slots__ = ()

        def __repr__(self) -> str:
            return "***"

    text = json.dumps(logged(account=Account("me", SECRET), key=Key(SECRET), inside=[{"key": Key(SECRET)}]))
    assert SECRET not in text
    assert "***" in text


# --- values ---------------------------------------------------------------------------------------------------------


class _Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def _circle() -> list[Any]:
    circle: list[Any] = [1]
    circle += [circle] * 3
    return circle


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), None),
        (b"\xff\x00", "b'\\xff\\x00'"),
        ({3}, "{3}"),
        ("half \ud800 pair", "half \\ud800 pair"),
        (2**70, str(2**70)),
        ({1: "a", None: {"b": 2**70}}, {"1": "a", "None": {"b": str(2**70)}}),
        (Counter(low=2), {"low": 2}),
        (PurePosixPath("/a/b"), "/a/b"),
        (ValueError("x"), "ValueError('x')"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
        (_Unshowable(), "<_Unshowable: repr raised RuntimeError>"),
        ([_Unshowable(), "\ud800"], ["<_Unshowable: repr raised RuntimeError>", "\\ud800"]),
        (_circle(), [1, "…", "…", "…"]),
        ("a\nb\x1b[31m\x00", "a\nb\x1b[31m\x00"),
    ],
)
def test_any_value_is_logged(value: object, shown: object) -> None:
    """What JSON cannot hold becomes its repr; the line stays valid."""
    assert logged(value=value)["value"] == shown


def test_deep_value_is_logged() -> None:
    """Nesting beyond any encoder's limit costs at most that value."""
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    assert "event" in logged(value=deep, other=1)


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()) | st.integers(), inner) | st.tuples(inner),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(st.characters(), min_size=1), JSON_LIKE, max_size=8), st.integers(0, 60_000))
def test_every_line_is_valid_and_short(keys: dict[str, Any], padding: int) -> None:
    """Whatever is logged, the line is one valid JSON object below 48 KiB that names its event."""
    for taken in ("event", "self", "exc_info", "stack_info"):
        keys.pop(taken, None)
    line = logged(**(keys | {"padding": "\x01é"[padding % 2] * padding}))
    assert line["event"] == "sample"


@pytest.mark.parametrize("filler", ["x", "é", "\x00", '"', "😀"])
def test_long_values_are_cut_longest_first(filler: str) -> None:
    """A value of a megabyte is cut, marked, and costs no other value anything."""
    line = logged(huge=filler * 1_000_000, middle="m" * 9_000, small=7)
    assert line["truncated"] is True
    assert (line["small"], line["middle"]) == (7, "m" * 9_000)
    assert set(line["huge"]) == {filler}
    assert len(json.dumps(line, ensure_ascii=False).encode()) > MAX_LINE_BYTES * 0.9


@pytest.mark.parametrize(
    "keys",
    [
        {f"key{n}": n for n in range(10_000)},
        {"k" * 100_000: 1},
        {"listed": list(range(100_000)), "mapped": {str(n): "x" * 50 for n in range(5_000)}},
        {f"v{n}": "y" * 5_000 for n in range(40)},
        {f"{n}" + "\x00" * 200: "\x00" * 300 for n in range(500)},
        {"odd": ["\ud800" * 200_000, {1: b"x" * 500_000}]},
    ],
)
def test_whatever_is_too_long_is_cut(keys: dict[str, Any]) -> None:
    """Many keys, long keys and nested values are cut as well: the line stays valid and short."""
    line = logged(**keys)
    assert line["truncated"] is True
    assert line["event"] == "sample"


def test_long_exception_keeps_its_frames() -> None:
    """An exception with a message of a megabyte and hundreds of frames still shows where it came from."""

    def dive(depth: int) -> None:
        if not depth:
            raise ValueError("m" * 1_000_000)
        dive(depth - 1)

    try:
        dive(500)
    except ValueError as error:
        line = logged(exc_info=error)
    assert line["truncated"] is True
    assert line["error.stack"][0]["frames"][-1]["name"] == "dive"


def test_value_that_logs_when_shown_does_no_harm() -> None:
    """A repr or destructor that logs in the middle of a log call neither blocks nor loses the outer line."""
    memory = io.StringIO()
    with logging_to(stream=memory) as running:

        class Talkative:
            def __repr__(self) -> str:
                running.log.warning("inner")
                return "talkative"

        running.log.info("outer", value=Talkative())
    assert "outer" in {line["event"] for line in lines_of(memory.getvalue())}


# --- libraries ------------------------------------------------------------------------------------------------------


def test_libraries_use_the_same_pipe_from_warning_on() -> None:
    """Libraries' warnings are lines like ours, with their logger's name; their chatter is not written."""
    memory = io.StringIO()
    with logging_to(stream=memory, level="debug") as running:
        for name in ("apscheduler.scheduler", "watchfiles.main", "httpx", "anywhere"):
            logging.getLogger(name).info("chatter")
            logging.getLogger(name).warning("trouble with %s", name)
        running.log.debug("ours")
    lines = lines_of(memory.getvalue())
    assert [line.get("logger") for line in lines] == [
        "apscheduler.scheduler", "watchfiles.main", "httpx", "anywhere", None,
    ]  # fmt: skip
    assert lines[2]["event"] == "trouble with httpx"


def test_lost_task_exception_is_logged_by_asyncio() -> None:
    """An exception that no one retrieved from a task becomes a line with its stack."""

    async def main() -> None:
        task = asyncio.ensure_future(asyncio.sleep(0))
        await task
        asyncio.get_running_loop().call_exception_handler({"message": "lost", "exception": _FleetError("gone")})

    memory = io.StringIO()
    with logging_to(stream=memory):
        asyncio.run(main())
    (line,) = lines_of(memory.getvalue())
    assert (line["logger"], line["error.message"]) == ("asyncio", "gone")


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_library_line_with_wrong_arguments_is_not_lost(fmt: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A library's line whose arguments do not fit its text is marked as such; nothing goes to stderr."""
    memory = io.StringIO()
    with logging_to(stream=memory, fmt=fmt):
        logging.getLogger("httpx").error("%d of %d", *["one"])
    assert "log_line_unrenderable" in memory.getvalue()
    assert capfd.readouterr().err == ""


# --- outputs --------------------------------------------------------------------------------------------------------


def _log_from_threads(running: Logging, threads: int, count: int, pause_s: float = 0.0) -> None:
    def work(thread: int) -> None:
        for number in range(count):
            running.log.info("step", thread=thread, number=number, text="z" * (number % 700))
            if pause_s:
                time.sleep(pause_s)

    workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    """Lines of many threads are all there, whole, and in order within each thread."""
    with logging_to(tmp_path / "x.log") as running:
        _log_from_threads(running, 8, 1_000)
    lines = lines_of((tmp_path / "x.log").read_bytes())
    for thread in range(8):
        assert [line["number"] for line in lines if line["thread"] == thread] == list(range(1_000))


def test_rotation_while_logging_loses_nothing(tmp_path: Path) -> None:
    """The file may be renamed or its folder moved at any time: every line is in one of the files."""
    file = tmp_path / "logs" / "x.log"
    with logging_to(file) as running:
        worker = threading.Thread(target=_log_from_threads, args=(running, 4, 400, 0.0005))
        worker.start()
        rotations = 0
        while worker.is_alive():
            time.sleep(0.02)
            if file.exists():
                rotations += 1
                file.rename(tmp_path / f"rotated-{rotations}.log")
        worker.join()
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*.log"))
    assert rotations > 3
    assert len({(line["thread"], line["number"]) for line in lines_of(everything)}) == 1_600
    assert running.write_errors == 0


def test_file_survives_deletion_truncation_and_a_lost_folder(tmp_path: Path) -> None:
    """After logrotate's create and copytruncate, a deletion, or the loss of the folder, logging goes on in the file."""
    file = tmp_path / "logs" / "x.log"

    def step(event: str) -> None:
        running.log.info(event)
        assert running.flush(5)

    with logging_to(file) as running:
        step("first")
        os.truncate(file, 0)
        step("truncated")
        assert [line["event"] for line in lines_of(file.read_bytes())] == ["truncated"]
        file.rename(file.with_suffix(".1"))
        file.touch(0o600)
        step("created")
        file.unlink()
        step("deleted")
        (tmp_path / "logs").rename(tmp_path / "old")
        step("moved")
        assert [line["event"] for line in lines_of(file.read_bytes())] == ["moved"]
        running.reopen()
        step("reopened")
        assert [line["event"] for line in lines_of(file.read_bytes())] == ["moved", "reopened"]


@pytest.mark.parametrize("is_open", [False, True], ids=["at the start", "while it runs"])
def test_file_follows_no_link(tmp_path: Path, is_open: bool) -> None:  # noqa: FBT001
    """Whoever may write to the log's folder cannot have the log written elsewhere; a folder that is a link is the
    operator's own."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "logs").symlink_to("disk")
    file, precious = tmp_path / "logs" / "x.log", tmp_path / "precious"
    precious.write_text("precious\n")
    memory = io.StringIO()
    if not is_open:
        file.symlink_to(precious)
    with logging_to(file, stream=memory) as running:
        if is_open:
            running.log.info("first")
            assert running.flush(5)
            file.rename(tmp_path / "kept.log")
            file.symlink_to(precious)
        running.log.info("lost")
        assert running.flush(5)
        file.unlink()
        running.log.info("back")
        assert running.flush(5)
    assert precious.read_text() == "precious\n"
    assert "log_output_failed" in memory.getvalue()
    assert "it is a link, and none is followed" in memory.getvalue()
    assert "back" in [line["event"] for line in lines_of((tmp_path / "disk" / "x.log").read_bytes())]


def test_file_makes_no_tree_where_its_own_is_gone(tmp_path: Path) -> None:
    """ROOT moved, or its disk was unmounted: a folder in its place would pass for it. Its lines are lost and counted."""
    root, gone = tmp_path / "root", tmp_path / "gone"
    file = root / "coordination" / "logs" / "x.log"
    with logging_to(file) as running:
        running.log.info("first")
        assert running.flush(5)
        root.rename(gone)
        running.log.info("lost")
        assert running.flush(5)
        assert not root.exists()
        assert running.write_errors >= 1  # the line that tells of it may be another one
        gone.rename(root)
        running.log.info("back")
        assert running.flush(5)
    told = [line["event"] for line in lines_of(file.read_bytes())]
    assert [event for event in told if not event.startswith("log_")] == ["first", "back"]
    assert "log_lines_lost" in told


def test_half_line_of_a_killed_process_swallows_nothing(tmp_path: Path) -> None:
    """A file that ends in the middle of a line gets a line feed first."""
    file = tmp_path / "x.log"
    file.write_text('{"event":"torn')
    with logging_to(file) as running:
        running.log.info("whole")
    assert lines_of(file.read_text().split("\n", 1)[1])[0]["event"] == "whole"


def test_full_disk_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    """On a full disk nothing raises, losses are counted and told on stdout; when there is room again, lines flow."""
    memory = io.StringIO()
    with tiny_disk(tmp_path / "disk") as disk, logging_to(disk / "x.log", stream=memory) as running:
        ballast = disk / "ballast"
        ballast.write_bytes(b"b" * 32_768)
        for number in range(500):
            running.log.info("filling", number=number, text="t" * 300)
        assert running.flush(5)
        assert running.flush(5)  # the line about the failure
        lost = running.write_errors
        assert 0 < lost < 500
        assert "log_output_failed" in memory.getvalue()
        time.sleep(1.1)
        ballast.unlink()
        for number in range(3):
            running.log.info("after", number=number)
            assert running.flush(5)
        assert running.write_errors == lost
        whole = []
        for line in (disk / "x.log").read_bytes().split(b"\n"):
            try:
                whole.append(json.loads(line))
            except ValueError:
                continue
        assert [line["number"] for line in whole if line["event"] == "after"] == [0, 1, 2]
        assert len([line for line in whole if line["event"] == "filling"]) + lost in (500, 501)
        assert sum(line["lines"] for line in whole if line["event"] == "log_lines_lost") == lost


def test_unwritable_file_is_told_once_on_stdout(tmp_path: Path) -> None:
    """A log file that cannot be opened costs its lines, is reported on stdout once, and stdout has all lines."""
    (tmp_path / "x.log").mkdir()
    memory = io.StringIO()
    with logging_to(tmp_path / "x.log", stream=memory) as running:
        for number in range(100):
            running.log.info("step", number=number)
            running.flush(5)
    events = Counter(line["event"] for line in lines_of(memory.getvalue()))
    assert events == {"step": 100, "log_output_failed": 1}
    assert running.write_errors == 101


def test_stalled_stdout_stops_neither_the_caller_nor_the_file(tmp_path: Path) -> None:
    """A pipe that nobody reads costs stdout's lines only, counted; no call waits, and closing takes bounded time."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream, os.fdopen(reading, "rb") as reader:
        with logging_to(tmp_path / "x.log", stream=stream, queue_size=1_000) as running:
            slowest_s = 0.0
            for number in range(5_000):
                started = time.perf_counter()
                running.log.info("step", number=number, text="t" * 100)
                slowest_s = max(slowest_s, time.perf_counter() - started)
                if number % 500 == 0:
                    running.flush(0.05)
            started = time.perf_counter()
            running.close(timeout_s=0.3)
            assert time.perf_counter() - started < 2
        assert slowest_s < 0.5
        lines = lines_of((tmp_path / "x.log").read_bytes())
        in_file = [line for line in lines if line["event"] == "step"]
        assert len(in_file) == 5_000
        assert 2_000 < running.dropped < 5_000
        reader.read1(1)  # let the abandoned thread go


def test_queue_overflow_is_counted_and_told() -> None:
    """Lines beyond the queue's size are dropped and counted exactly; the log says so when it flows again."""

    class Gate(io.StringIO):
        opened = threading.Event()

        def write(self, text: str) -> int:
            self.opened.wait(10)
            return super().write(text)

    gate = Gate()
    with logging_to(stream=gate, queue_size=50) as running:
        for number in range(1_000):
            running.log.info("step", number=number)
        dropped = running.dropped
        assert dropped >= 800
        gate.opened.set()
        assert running.flush(5)
    lines = lines_of(gate.getvalue())
    assert len([line for line in lines if line["event"] == "step"]) == 1_000 - dropped
    assert [line["lines"] for line in lines if line["event"] == "log_lines_lost"] == [dropped]


def test_queue_is_bounded_in_bytes() -> None:
    """Long lines fill the queue before their number does, so that a stalled output costs little memory."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream, os.fdopen(reading, "rb") as reader:
        with logging_to(stream=stream, queue_size=1_000_000) as running:
            for _ in range(1_000):
                running.log.info("long", text="t" * 40_000)
            kept = 1_000 - running.dropped
            assert kept * 40_000 < observe.MAX_QUEUED_BYTES * 1.1
            running.close(timeout_s=0.1)
        reader.read1(1)


def test_closed_pipe_is_dropped_and_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """When stdout's reader is gone, its lines are counted as failed, the file goes on, and stderr stays clean."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream, logging_to(tmp_path / "x.log", stream=stream) as running:
        os.close(reading)
        for number in range(10):
            running.log.info("step", number=number)
        assert running.flush(5)
    assert running.write_errors >= 10
    assert len([line for line in lines_of((tmp_path / "x.log").read_bytes()) if line["event"] == "step"]) == 10
    assert capfd.readouterr().err == ""


def test_non_blocking_pipe_loses_nothing() -> None:
    """A stdout that another process made non-blocking is waited for by the writing thread."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETFL, fcntl.fcntl(writing, fcntl.F_GETFL) | os.O_NONBLOCK)
    received = bytearray()

    def read() -> None:
        while data := os.read(reading, 4_096):
            received.extend(data)
            time.sleep(0.001)

    reader = threading.Thread(target=read)
    with os.fdopen(writing, "w") as stream:
        reader.start()
        with logging_to(stream=stream) as running:
            for number in range(1_000):
                running.log.info("step", number=number, text="t" * 500)
            running.close(timeout_s=20)
    reader.join()
    os.close(reading)
    assert [line["number"] for line in lines_of(bytes(received))] == list(range(1_000))


def test_no_stdout_at_all_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without a stdout, or with a closed one, logs to its file."""
    monkeypatch.setattr(sys, "stdout", None)
    with logging_to(tmp_path / "x.log", stream=None) as running:
        running.log.info("kept")
    closed = io.StringIO()
    closed.close()
    with logging_to(tmp_path / "x.log", stream=closed) as running:
        running.log.info("kept")
        running.flush(5)
        assert running.write_errors >= 1
    events = [line["event"] for line in lines_of((tmp_path / "x.log").read_bytes())]
    assert [event for event in events if event == "kept"] == ["kept", "kept"]


# --- terminal -------------------------------------------------------------------------------------------------------


def _on_terminal(fmt: str) -> str:
    controller, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as stream:
        with logging_to(stream=stream, fmt=fmt) as running:
            running.log.info("job_ended", job="collect", name="evil \x1b[2J")
            running.log.error("job_failed", exc_info=_FleetError("bad \x1b]0;x\x07 message"))
        output = os.read(controller, 65_536).decode()
    os.close(controller)
    return output


def test_terminal_shows_readable_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal lines are readable and coloured, and logged values cannot drive the terminal."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = _on_terminal("auto")
    assert "job_ended" in shown
    assert "\x1b[" in shown
    assert "\x1b[2J" not in shown
    assert "\x1b]0" not in shown
    assert shown.endswith("\n")
    assert lines_of(_on_terminal("json"))[0]["job"] == "collect"


def test_no_terminal_means_json_and_no_colours() -> None:
    """Away from a terminal the automatic format is JSON, and console lines asked for have no colours."""
    memory = io.StringIO()
    with logging_to(stream=memory, fmt="auto") as running:
        running.log.info("first")
    assert lines_of(memory.getvalue())[0]["event"] == "first"
    memory = io.StringIO()
    with logging_to(stream=memory, fmt="console") as running:
        running.log.info("first", long="x" * 1_000_000)
    assert "\x1b" not in memory.getvalue()
    assert len(memory.getvalue()) < MAX_LINE_BYTES


# --- lifecycle ------------------------------------------------------------------------------------------------------


def test_close_gives_logging_back() -> None:
    """Closing, once or twice, restores levels and handlers, so that the next configuration starts clean."""
    root = logging.getLogger()
    chatty = logging.getLogger("apscheduler")
    chatty.setLevel(logging.DEBUG)
    before = (root.level, root.handlers[:], logging.getLogger("cortex_autolearn").level)
    threads = threading.active_count()
    for _ in range(5):
        with logging_to() as running:
            running.log.info("x")
            running.close()
        running.log.info("after the end")
    assert (root.level, root.handlers[:], logging.getLogger("cortex_autolearn").level) == before
    assert chatty.level == logging.DEBUG
    assert threading.active_count() == threads
    chatty.setLevel(logging.NOTSET)


def test_nothing_happens_at_import() -> None:
    """Importing starts no thread and touches no logger."""
    code = (
        "import logging, threading; import cortex_autolearn.adapters.observe;"
        "assert not logging.getLogger().handlers and logging.getLogger().level == 30;"
        "assert threading.active_count() == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


@pytest.mark.parametrize("stalled", [False, True])
def test_exit_without_close_writes_what_is_queued(tmp_path: Path, stalled: bool) -> None:
    """A process that ends without closing the log still writes its last lines, and ends though stdout is stalled."""
    code = (
        "import sys; from pathlib import Path; from cortex_autolearn.adapters.observe import configure;"
        "log = configure(level='info', fmt='json', file=Path(sys.argv[1]), queue_size=10_000).log;"
        "[log.info('step', number=n, text='t' * 100) for n in range(3_000)]"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "x.log"],
        stdout=subprocess.PIPE if stalled else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    assert process.wait(20) == 0
    assert errors == b""
    if process.stdout:
        process.stdout.close()
    process.stderr.close()
    assert len(lines_of((tmp_path / "x.log").read_bytes())) == 3_000


def test_what_is_not_needed_is_not_imported() -> None:
    """A package that structlog would use for what we never print costs the daemon no memory, though it be installed."""
    code = "import sys; import cortex_autolearn.adapters.observe; print('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
