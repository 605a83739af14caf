"""The daemon inside of a demo: built on a tree, run beside whoever writes there, and waited for."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cortex_autolearn import wiring
from cortex_autolearn.adapters import observe
from cortex_autolearn.daemon import Daemon
from cortex_autolearn.model import layout
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.schedule import due
from cortex_autolearn.status import lag_of, planned

if TYPE_CHECKING:
    from cortex_autolearn.schedule import TimeMap
    from cortex_autolearn.wiring import App

_LOOK_S: Final = 0.01
_PATIENCE_S: Final = 120.0
"""So long the daemon may make no progress, in real seconds."""
_LONGEST_WAIT_S: Final = 300.0
_QUEUE: Final = 10_000


class _Left(NamedTuple):
    """What the daemon has before it: bytes not refined, tasks not decided on, slots due; and the last event."""

    unread: int
    waiting: int
    due: list[str]
    seq: int


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

    def __init__(self, app: App, daemon: Daemon, task: asyncio.Task[int], time_map: TimeMap) -> None:
        self._app = app
        self._daemon = daemon
        self._task = task
        self._time = time_map

    async def settled(self) -> None:
        """Wait until all of bronze is refined and decided on, every slot that is due has been run, and nothing runs.

        Raises:
            BoundaryError: the daemon ended, or does not get there.
        """
        began = moved = time.monotonic()
        before: object = None
        while True:
            progress: object = self._daemon.running
            if self._daemon.is_idle:
                progress = found = await asyncio.to_thread(self._look)
                if not (found.unread or found.waiting or found.due) and self._daemon.is_idle:
                    return
            now = time.monotonic()
            if progress != before:
                before, moved = progress, now
            if self._task.done() or now - moved > _PATIENCE_S or now - began > _LONGEST_WAIT_S:
                cause = "it ended" if self._task.done() else f"it came no further: {progress}"
                hint = f"See {self._app.root / layout.LOG}"
                raise BoundaryError("wait for", "the daemon", cause, hint=hint, retryable=True)
            await asyncio.sleep(_LOOK_S)

    def look_again(self) -> None:
        """Let the daemon's schedule notice that its clock was set."""
        self._daemon.look_again()

    def _look(self) -> _Left:
        entries = self._app.tree.entries(layout.BRONZE, ".jsonl")
        jobs, now = planned(self._app.settings.schedule), self._time.now()
        with self._app.store.read() as reading:
            lag = lag_of(entries, reading.sources(layout.BRONZE), self._app.clock.now())
            missed = due(jobs, now, reading.slot_done)
            return _Left(lag.bytes, reading.waiting_tasks(), [job.name for job, _ in missed], reading.last_event_seq())


@asynccontextmanager
async def running(app: App, time_map: TimeMap) -> AsyncIterator[Session]:
    """Run the daemon for as long as this context lasts."""
    daemon = Daemon(app, time=time_map, install_signals=False)
    task = asyncio.create_task(daemon.run())
    try:
        yield Session(app, daemon, task, time_map)
    finally:
        daemon.stop("end of the demo")
        await task
