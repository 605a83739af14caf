"""Where log lines go: a queue and a thread for every output, so that none of them keeps whoever logs waiting.

What a line holds is ``logline``'s business; which outputs there are is decided by ``observe``.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import stat
import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Protocol, TextIO, TypeAlias

from cortex_autolearn.adapters.logline import own_record, render

if TYPE_CHECKING:
    from pathlib import Path

MAX_QUEUED_BYTES: Final = 8 << 20
"""What one output's queue may hold, whatever ``queue_size`` says."""

_BATCH_BYTES: Final = 64 * 1024
_REPORT_PAUSE_S: Final = 1.0
_LINE_FEED: Final = 10
_EXIT_DRAIN_S: Final = 1.0

_Notice: TypeAlias = Callable[[str, dict[str, str]], None]
_Item: TypeAlias = bytes | Callable[[], None] | None


class Output(Protocol):
    """Where lines go. Used by one thread only, but for ``is_stopping``."""

    name: str
    is_stopping: bool

    def write(self, data: bytes) -> int:
        """Write some of ``data``, return how many bytes."""

    def reopen(self) -> None:
        """Let the next write open it anew, if that is possible."""

    def close(self) -> None:
        """Let go for good."""


class Spool(logging.Handler):  # a logging.Handler by inheritance, as logging asks for one
    """Renders a record at once and hands the line to every sink; never waits, never raises."""

    def __init__(self, sinks: list[Sink]) -> None:
        super().__init__()
        self._sinks = sinks
        self.unrendered = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a record on to every sink that has room for it."""
        rendered: dict[int, bytes] = {}
        for sink in self._sinks:
            try:
                if sink.is_full():
                    sink.dropped += 1
                    continue
                key = id(sink.formatter)
                if key not in rendered:
                    rendered[key] = render(sink.formatter, record)
                sink.put(rendered[key])
            except Exception:  # noqa: BLE001 -- whatever a value's repr raises is not the job's fault
                self.unrendered += 1

    def flush(self) -> None:
        """Write what is queued: logging calls this when the interpreter exits without :meth:`Logging.close`."""
        markers = [sink.marker() for sink in self._sinks if sink.is_alive()]
        deadline = time.monotonic() + _EXIT_DRAIN_S
        for marker in markers:
            marker.wait(max(0.0, deadline - time.monotonic()))


class Sink:
    """One output's queue and the thread that empties it. ``is_full`` and ``put`` are called under the spool's lock."""

    def __init__(self, output: Output, formatter: logging.Formatter, queue_size: int, notice: _Notice) -> None:
        self.dropped = 0
        self.failed = 0
        self.formatter = formatter
        self._output = output
        self._notice = notice
        self._queue_size = queue_size
        # A SimpleQueue, whose put may be interrupted by another put: garbage collection can run a destructor that
        # logs in the middle of one, and a Queue would wait for itself there.
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._put_bytes = 0
        self._taken_bytes = 0
        self._is_torn = False
        self._is_failing = False
        self._cause = ""
        self._reported = 0
        self._reported_at = -_REPORT_PAUSE_S
        self._thread = threading.Thread(target=self._run, name=f"log-{output.name}", daemon=True)
        self._thread.start()

    def is_full(self) -> bool:
        """Whether another line would be one too many."""
        return self._queue.qsize() >= self._queue_size or self._put_bytes - self._taken_bytes >= MAX_QUEUED_BYTES

    def put(self, line: bytes) -> None:
        """Queue a line."""
        self._put_bytes += len(line)
        self._queue.put(line)

    def marker(self) -> threading.Event:
        """Return what is set when all that was put before has been dealt with."""
        reached = threading.Event()
        self._queue.put(reached.set)
        return reached

    def reopen(self) -> None:
        """Have the output opened anew by the next line."""
        self._queue.put(self._output.reopen)

    def stop(self) -> None:
        """Let the thread end once it has written what is queued."""
        self._queue.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait for the thread to end; what it has not written by then counts as dropped."""
        self._thread.join(timeout_s)
        if self._thread.is_alive():  # stuck in a write; a daemon thread, so it does not keep the process
            self._output.is_stopping = True
            self.dropped += max(0, self._queue.qsize() - 1)

    def is_alive(self) -> bool:
        """Whether lines are still written."""
        return self._thread.is_alive() and not self._output.is_stopping

    def _run(self) -> None:
        while True:
            lines, control = self._take()
            if lines:
                self._write(lines)
            if control is None:
                break
            with suppress(Exception):
                control()
        self._report_losses(is_last=True)
        self._output.close()

    def _take(self) -> tuple[list[bytes], Callable[[], None] | None]:
        """Wait for a line, take those behind it up to a batch, and what is to be done after them."""
        lines: list[bytes] = []
        size = 0
        while True:
            try:
                item = self._queue.get(block=not lines)
            except queue.Empty:
                return lines, _nothing
            if not isinstance(item, bytes):
                return lines, item
            lines.append(item)
            size += len(item)
            if size >= _BATCH_BYTES:
                return lines, _nothing

    def _write(self, lines: list[bytes]) -> None:
        written, error = self._write_through(b"".join(lines))
        if error is None:
            self._is_failing = False
            self._report_losses()
        else:
            self.failed += len(lines) - bisect_right(list(accumulate(map(len, lines))), written)
            self._cause = f"{type(error).__name__}: {error}"
            if not self._is_failing:
                self._is_failing = True
                with suppress(Exception):
                    self._notice("log_output_failed", {"output": self._output.name, "cause": self._cause})
        self._taken_bytes += sum(map(len, lines))

    def _write_through(self, data: bytes) -> tuple[int, Exception | None]:
        """Write all of ``data``, on a line of its own; return how much of it was written, and what went wrong."""
        start = b"\n" if self._is_torn else b""
        data = start + data
        written = 0
        try:
            while written < len(data):
                written += self._output.write(data[written:])
        except Exception as error:  # noqa: BLE001 -- this thread must outlive every error
            if written:
                self._is_torn = data[written - 1] != _LINE_FEED
            return max(0, written - len(start)), error
        self._is_torn = False
        return len(data) - len(start), None

    def _report_losses(self, *, is_last: bool = False) -> None:
        """Tell where lines are missing, past the queue, at most once a second."""
        lost = self.dropped + self.failed
        now = time.monotonic()
        if lost > self._reported and (is_last or now - self._reported_at >= _REPORT_PAUSE_S):
            keys: dict[str, object] = {"output": self._output.name, "lines": lost - self._reported}
            keys["cause"] = self._cause or "the queue was full"
            _, error = self._write_through(render(self.formatter, own_record("log_lines_lost", keys)))
            if error is None:
                self._reported, self._reported_at, self._cause = lost, now, ""


class FileOutput:
    """A file that others may rename, remove or cut to nothing at any time.

    A link in its place is not followed: whoever may write to its folder could have lines, with words of theirs in them,
    appended to any file of ours. A link to the folder is.
    """

    name = "file"

    def __init__(self, path: Path) -> None:
        self.is_stopping = False
        self._path = path.absolute()
        self._opened = -1
        self._was_open = False

    def write(self, data: bytes) -> int:
        """Append some of ``data``, to whatever file bears the name now."""
        if self._opened >= 0 and not self._is_current():
            self.close()
        if self._opened < 0:
            # Its own folder comes back. Those above it were there: ROOT moved, or its disk is gone, and what is made in
            # its place would pass for it.
            self._path.parent.mkdir(parents=not self._was_open, exist_ok=True)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
            try:
                self._opened = os.open(self._path, flags, 0o644)
            except OSError as error:
                if self._path.is_symlink():  # the system would tell of too many of them
                    raise OSError(error.errno, "it is a link, and none is followed", str(self._path)) from None
                raise
            self._was_open = True
            self._end_torn_line()
        return os.write(self._opened, data)

    def reopen(self) -> None:
        """Let the next write open it anew."""
        self.close()

    def close(self) -> None:
        """Close it."""
        opened, self._opened = self._opened, -1
        if opened >= 0:
            os.close(opened)

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.lstat(self._path), os.fstat(self._opened))
        except FileNotFoundError:
            return False

    def _end_torn_line(self) -> None:
        status = os.fstat(self._opened)
        is_written = stat.S_ISREG(status.st_mode) and status.st_size > 0
        if is_written and os.pread(self._opened, 1, status.st_size - 1) != b"\n":
            os.write(self._opened, b"\n")


class StreamOutput:
    """Stdout, or any other text stream, past its buffer when it has a descriptor."""

    name = "stdout"

    def __init__(self, stream: TextIO) -> None:
        self.is_stopping = False
        self._stream = stream
        try:
            # Our own descriptor: were 1 closed and given to the next file opened, the log would be written into that.
            self._opened = os.dup(stream.fileno())
        except (OSError, ValueError):  # a stream in memory, or closed
            self._opened = -1

    def write(self, data: bytes) -> int:
        """Write some of ``data``, waiting as long as nobody reads."""
        if self._opened < 0:
            self._stream.write(data.decode())
            self._stream.flush()
            return len(data)
        while True:
            try:
                return os.write(self._opened, data)
            except BlockingIOError:  # whoever shares the pipe has made it non-blocking
                if self.is_stopping:
                    raise
                poll = select.poll()
                poll.register(self._opened, select.POLLOUT)
                poll.poll(100)

    def reopen(self) -> None:
        """Do nothing: a stream has no name to be opened by."""

    def close(self) -> None:
        """Close our own descriptor of it."""
        if self._opened >= 0:
            os.close(self._opened)


def _nothing() -> None:
    pass
