"""The log: one JSON object a line to stdout and to a file, readable lines on a terminal. The only door to structlog.

A line is rendered where it is logged, so that it shows its values as they were, and is written by its output's own
thread from a bounded queue. A full disk or a stalled pipe therefore costs lines, which are counted, and nothing else:
no log call waits, and none raises for what its values are. What is worth a line is decided by whoever logs it.

Fields: ``timestamp`` (RFC 3339, UTC, milliseconds), ``level``, ``logger`` (lines of libraries only), ``event``, what is
bound and given; ``error.type``, ``error.message`` and ``error.stack`` for ``exc_info``; ``truncated`` where values were
cut. A given key of a name that is taken gets a ``_`` behind it.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Final, Literal, Protocol, TextIO, cast

from cortex_autolearn.adapters.logline import (
    MAX_LINE_BYTES,
    MAX_MESSAGE_CHARS,
    OWN_LOGGER,
    ExcInfo,
    Fields,
    arrange,
    masked,
    printable,
    text,
    to_json,
)
from cortex_autolearn.adapters.logsink import MAX_QUEUED_BYTES, FileOutput, Output, Sink, Spool, StreamOutput
from cortex_autolearn.adapters.unneeded import without

with without("rich"):  # for tracebacks with local variables, which are never logged: 5 MB
    import structlog
    from structlog.dev import ConsoleRenderer, plain_traceback
    from structlog.stdlib import ProcessorFormatter, filter_by_level
    from structlog.tracebacks import ExceptionDictTransformer

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MAX_LINE_BYTES", "MAX_QUEUED_BYTES", "Log", "Logging", "configure"]

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
# Below WARNING these two would bury our lines; watchfiles even logs the change that its own log line makes.
_CHATTY: Final = ("apscheduler", "watchfiles")
# The default shows local variables, keys and tokens among them.
_STACK: Final = ExceptionDictTransformer(show_locals=False, use_rich=False, max_frames=40)


class Log(Protocol):
    """A logger with keys bound to it. ``event`` is a name, never a sentence with values; the values are keys."""

    def debug(self, event: str, **keys: object) -> None:
        """Log for whoever looks for a fault."""

    def info(self, event: str, **keys: object) -> None:
        """Log what happened as it should."""

    def warning(self, event: str, **keys: object) -> None:
        """Log what may need a look."""

    def error(self, event: str, **keys: object) -> None:
        """Log what failed; ``exc_info=error`` adds the exception and where it came from."""

    def bind(self, **keys: object) -> Log:
        """Return a logger that adds ``keys`` (``job``, ``run_id``, …) to every line."""


class Logging:
    """The log while it is configured. ``log`` is the root logger; bind keys to it and hand it on."""

    log: Log

    def __init__(self, outputs: list[tuple[logging.Formatter, Output]], level: str, queue_size: int) -> None:
        root = logging.getLogger()
        self._levels = {name: logging.getLogger(name).level for name in ("", OWN_LOGGER, *_CHATTY)}
        self._handlers = root.handlers[:]
        self._is_closed = False
        self._sinks = [Sink(output, formatter, queue_size, self._notice) for formatter, output in outputs]
        self._spool = Spool(self._sinks)
        self.set_level(level)
        root.handlers[:] = [self._spool]
        bound = structlog.wrap_logger(
            logging.getLogger(OWN_LOGGER),
            processors=[filter_by_level, ProcessorFormatter.wrap_for_formatter],
            wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
            context_class=dict,
        ).bind()
        self.log = cast("structlog.typing.FilteringBoundLogger", bound)

    @property
    def dropped(self) -> int:
        """Lines lost because an output's queue was full; a line lost to two outputs counts twice."""
        return sum(sink.dropped for sink in self._sinks)

    @property
    def write_errors(self) -> int:
        """Lines lost because they could not be written (a full disk, a closed pipe) or rendered."""
        return self._spool.unrendered + sum(sink.failed for sink in self._sinks)

    def set_level(self, level: str) -> None:
        """Log from ``level`` upwards, libraries from WARNING or ``level``, whichever is higher."""
        own = _LEVELS[level]
        logging.getLogger(OWN_LOGGER).setLevel(own)
        for name in ("", *_CHATTY):
            logging.getLogger(name).setLevel(max(own, logging.WARNING))

    def reopen(self) -> None:
        """Close the file; the next line opens it anew. Not needed after a rotation by renaming, which is noticed."""
        for sink in self._sinks:
            sink.reopen()

    def flush(self, timeout_s: float) -> bool:
        """Wait until all lines logged so far are written or lost; False when that took more than ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        written = [sink.marker() for sink in self._sinks]
        return all(marker.wait(max(0.0, deadline - time.monotonic())) for marker in written)

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is queued for at most ``timeout_s``, count the rest as dropped, give logging back as it was."""
        if self._is_closed:
            return
        self._is_closed = True
        root = logging.getLogger()
        if self._spool in root.handlers:
            root.handlers[:] = self._handlers
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
        deadline = time.monotonic() + timeout_s
        for sink in self._sinks:
            sink.stop()
        for sink in self._sinks:
            sink.join(max(0.0, deadline - time.monotonic()))
        self._spool.close()

    def _notice(self, event: str, keys: dict[str, str]) -> None:
        if not self._is_closed:
            self.log.warning(event, **keys)


def configure(
    *,
    level: str,
    fmt: Literal["auto", "json", "console"],
    file: Path | None,
    queue_size: int,
    stream: TextIO | None = None,
) -> Logging:
    """Send this process's log, and its libraries' from WARNING on, to ``stream`` and ``file``.

    Never fails for the state of the outputs: a file that cannot be opened is reported on the other output and counted.

    Arguments:
        level: ``debug``, ``info``, ``warning``, ``error`` or ``critical``.
        fmt: how ``stream`` is written; ``auto`` is ``console`` on a terminal. The file always holds JSON.
        file: where else to write; its folder is created. None for nowhere.
        queue_size: lines that may wait for each output.
        stream: by default stdout; none at all when the process has none.

    Returns:
        what is to be closed in the end; until then there should be no second one.

    Raises:
        ValueError: ``level``, ``fmt`` or ``queue_size`` is not as said above.
    """
    if level not in _LEVELS or fmt not in ("auto", "json", "console") or queue_size < 1:
        raise ValueError(f"no such log: level {level!r}, format {fmt!r}, queue size {queue_size!r}")
    stream = sys.stdout if stream is None else stream
    as_json: logging.Formatter = ProcessorFormatter(processors=[arrange, _structure, to_json])
    outputs: list[tuple[logging.Formatter, Output]] = []
    if stream is not None:
        is_terminal = _is_terminal(stream)
        has_console = fmt == "console" or (fmt == "auto" and is_terminal)
        outputs.append((_console(is_terminal=is_terminal) if has_console else as_json, StreamOutput(stream)))
    if file is not None:
        outputs.append((as_json, FileOutput(file)))
    return Logging(outputs, level, queue_size)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def _console(*, is_terminal: bool) -> logging.Formatter:
    renderer = ConsoleRenderer(colors=is_terminal and "NO_COLOR" not in os.environ, exception_formatter=plain_traceback)
    return ProcessorFormatter(processors=[arrange, printable, renderer])


def _structure(_logger: object, _method: str, fields: Fields) -> Fields:
    """Turn an exception into fields."""
    exc_info: ExcInfo | None = fields.pop("exc_info", None)
    if exc_info is not None:
        stack = _STACK(exc_info)
        for part in stack:  # the message stands on its own as well; a long one must not cost the frames
            part["exc_value"] = masked(part["exc_value"])[:MAX_MESSAGE_CHARS]
        stack = [{key: value for key, value in part.items() if value} for part in stack]
        kind = exc_info[0]
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        fields.update({"error.type": name, "error.message": text(exc_info[1], str), "error.stack": stack})
    return fields
