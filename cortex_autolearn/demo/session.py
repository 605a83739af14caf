"""The daemon inside of a demo: built on a tree, run beside whoever writes there, and waited for."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cortex_autolearn import wiring
from cortex_autolearn.adapters import observe
from cortex_autolearn.daemon import Daemon
from cortex_autolearn.model import instants, layout
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.status import lag_of

if TYPE_CHECKING:
    from cortex_autolearn.schedule import FastTime, TimeMap
    from cortex_autolearn.wiring import App

_LOOK_S: Final = 0.05
_PATIENCE_S: Final = 30.0
"""So long the daemon may make no progress, in real seconds."""
_LONGEST_WAIT_S: Final = 300.0
_QUEUE: Final = 10_000


class FastClock:
    """The clock of the simulated days; implements ``ports.Clock``. What a run takes is still measured in real time."""

    def __init__(self, time_map: FastTime) -> None:
        self.time = time_map

    def now(self) -> datetime:
        """Return the simulated instant."""
        return self.time.now()

    def monotonic(self) -> float:
        """Return real seconds."""
        return time.monotonic()


@contextmanager
def application(root: Path, **options: Any) -> Iterator[App]:  # noqa: ANN401 - those of wiring.build
    """Build the application, with its log in the tree's log file only."""
    wiring.require_root(root, init=True)
    with Path(os.devnull).open("w") as nowhere:
        logging = observe.configure(level="info", fmt="json", file=root / layout.LOG, queue_size=_QUEUE, stream=nowhere)
        try:
            app = wiring.build(root, logging=logging, **options)
            try:
                yield app
            finally:
                app.close()
        finally:
            logging.close()


class Session:
    """The running daemon, as whoever waits for it sees it."""

    def __init__(self, app: App, daemon: Daemon, task: asyncio.Task[int]) -> None:
        self._app = app
        self._daemon = daemon
        self._task = task

    async def settled(self, *, night_since: datetime | None = None) -> None:
        """Wait until all of bronze is refined and decided on, and a nightly run began after ``night_since``.

        Raises:
            BoundaryError: the daemon ended, or does not get there.
        """
        began = moved = time.monotonic()
        before: object = None
        while True:
            unread, waiting, night, seq = await asyncio.to_thread(self._look, night_since)
            if night and not unread and not waiting and self._daemon.is_idle:
                return
            now = time.monotonic()
            progress = (unread, waiting, night) if unread else (waiting, night, seq)
            if progress != before:
                before, moved = progress, now
            if self._task.done() or now - moved > _PATIENCE_S or now - began > _LONGEST_WAIT_S:
                cause = "it ended" if self._task.done() else f"{unread} bytes are not refined, {waiting} tasks wait"
                hint = f"See {self._app.root / layout.LOG}"
                raise BoundaryError("wait for", "the daemon", cause, hint=hint, retryable=True)
            await asyncio.sleep(_LOOK_S)

    def _look(self, night_since: datetime | None) -> tuple[int, int, bool, int]:
        """Return the bytes not refined, the tasks not decided on, whether that night is over, and the last event."""
        entries = self._app.tree.entries(layout.BRONZE, ".jsonl")
        with self._app.store.read() as reading:
            lag = lag_of(entries, reading.sources(layout.BRONZE), self._app.clock.now())
            night = reading.last_run("medallion")
            is_over = night_since is None or (night is not None and night.started_us > instants.to_us(night_since))
            return lag.bytes, reading.waiting_tasks(), is_over, reading.last_event_seq()


@asynccontextmanager
async def running(app: App, time_map: TimeMap) -> AsyncIterator[Session]:
    """Run the daemon for as long as this context lasts."""
    daemon = Daemon(app, time=time_map, install_signals=False)
    task = asyncio.create_task(daemon.run())
    try:
        yield Session(app, daemon, task)
    finally:
        daemon.stop("end of the demo")
        await task
