"""What each path of the HTTP server answers.

``/healthz``: is the event loop alive; asks nothing but the loop itself. ``/readyz``: can it do its work. ``/metrics``:
numbers for Prometheus. ``/status``: what ``status --json`` prints. All are looks: nothing of the tree is changed.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import orjson

from cortex_autolearn import status
from cortex_autolearn.adapters import files, metrics
from cortex_autolearn.adapters.http_rules import Answer
from cortex_autolearn.adapters.logline import masked
from cortex_autolearn.model import layout
from cortex_autolearn.service import numbers
from cortex_autolearn.service.shared import Shared

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cortex_autolearn.service.numbers import Moment, Stored
    from cortex_autolearn.service.tally import RunTally
    from cortex_autolearn.status import Status
    from cortex_autolearn.wiring import App

T = TypeVar("T")

_PROBE_BYTES: Final = 4_096
_INDENTED: Final = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


class Life(Protocol):
    """What is asked of the daemon, in its event loop."""

    @property
    def running(self) -> list[str]:
        """The jobs that run now."""

    @property
    def misfires(self) -> int:
        """Slots that were due and not taken."""

    @property
    def is_stopping(self) -> bool:
        """Whether it drains."""

    def beat_age_s(self) -> float:
        """Seconds since the last heartbeat, or since the start where none was yet."""

    @property
    def beat_pause_s(self) -> float:
        """Seconds from the last heartbeat to the next."""

    def troubles(self) -> dict[str, str]:
        """Which of scheduler and watcher do not do their work, and why."""


class Answers:
    """Makes the answers.

    Arguments:
        app: the application.
        life: the daemon.
        tally: the runs of this process.
        stale_s: tells the age from which on the heartbeat is not fresh.
        loop_lag_s: tells how late the event loop was at most, of late.
        on_error: called with the path and what a part of its answer failed of.
    """

    def __init__(  # noqa: PLR0913 - options, by keyword only
        self,
        app: App,
        life: Life,
        tally: RunTally,
        *,
        stale_s: Callable[[], float],
        loop_lag_s: Callable[[], float],
        on_error: Callable[[str, Exception], None],
    ) -> None:
        self._app, self._life, self._tally = app, life, tally
        self._stale_s, self._loop_lag_s, self._on_error = stale_s, loop_lag_s, on_error
        self._ledger = numbers.Ledger()
        self._status = Shared(lambda: status.gather(app), "status")
        self._stored = Shared(lambda: self._ledger.read(app), "metrics")
        self._trouble = Shared(self._state_trouble, "ready")

    def paths(self) -> dict[str, Callable[[], Awaitable[Answer]]]:
        """Return what answers which path."""
        return {"/healthz": self.health, "/readyz": self.ready, "/metrics": self.metrics, "/status": self.status}

    async def health(self) -> Answer:
        """Tell whether the loop's heartbeat is fresh; that this answers at all shows that the loop turns."""
        age_s = self._life.beat_age_s()
        is_fresh = age_s < self._stale_s()
        body = {"status": "ok" if is_fresh else "stale", "heartbeat_age_seconds": round(age_s, 3)}
        return _json(200 if is_fresh else 503, body)

    async def ready(self) -> Answer:
        """Tell whether it can do its work: state readable and writable, scheduler and watcher alive, not stopping."""
        troubles = self._life.troubles()
        if self._life.is_stopping:
            troubles["daemon"] = "it is stopping"
        try:
            trouble = await self._trouble.get()
        except TimeoutError:
            trouble = "the file system does not answer"
        if trouble:
            troubles["state"] = trouble
        checks = {name: troubles.get(name, "ok") for name in ("state", "scheduler", "watcher", "daemon")}
        return _json(503 if troubles else 200, {"status": "not ready" if troubles else "ok", "checks": checks})

    async def metrics(self) -> Answer:
        """Tell all numbers; where the state or the tree cannot be read, those of the process: runs fail there, too."""
        status_seen, stored_seen = self._seen(self._status), self._seen(self._stored)
        found, stored = await asyncio.gather(status_seen, stored_seen)
        life = self._life
        moment = numbers.Moment(life.running, life.misfires, self._loop_lag_s(), life.beat_age_s())
        text, kind = self._rendered(moment, found, stored)
        return Answer(200, text, kind)

    async def status(self) -> Answer:
        """Tell how things stand."""
        found = await self._status.get()
        return Answer(200, masked(orjson.dumps(found.as_dict(), option=_INDENTED).decode()).encode())

    async def _seen(self, look: Shared[T]) -> T | None:
        """Return what a look shows; nothing where it fails, which is told, or takes too long."""
        try:
            return await look.get()
        except TimeoutError:
            return None
        except Exception as error:  # noqa: BLE001 - whatever the state, the disk or a bug of ours raised
            self._on_error("/metrics", error)
            return None

    def _rendered(self, moment: Moment, found: Status | None, stored: Stored | None) -> tuple[bytes, str]:
        samples = [*numbers.of_process(self._app, self._tally, moment), *numbers.of_state(found, stored)]
        return metrics.render(numbers.FAMILIES, samples)

    def _state_trouble(self) -> str:
        """Return what keeps the state from being read or written, or nothing. Takes no lock, so it never waits."""
        folder = self._app.tree.path(layout.AUTOLEARN)
        try:
            with files.wrap("write to", folder), tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(_PROBE_BYTES))
            if not os.access(self._app.tree.path(layout.STATE), os.R_OK | os.W_OK):
                return "it may not be written by this user"
            with self._app.store.read() as reading:
                reading.last_event_seq()
        except Exception as error:  # noqa: BLE001 - whatever it is, it stands in the way
            return masked(str(error)) or type(error).__name__
        return ""


def _json(status_code: int, body: dict[str, Any]) -> Answer:
    return Answer(status_code, orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE))
