"""The daemon: one process that runs every job when it is due and whenever there is something for it to do.

Side tasks in one event loop (scheduler, watcher, heartbeat, reloading, and a lane of jobs for every lock) run until the
daemon is to stop. A job that fails stops nothing; a side task that ends by itself stops everything, and whoever
supervises the process starts it anew. Who asks for which job is ``demand``'s business, what a job does ``jobs``'
and how it is recorded ``runner``'s.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cortex_autolearn import __version__, leftovers, settings, wiring
from cortex_autolearn.adapters import lock, observe
from cortex_autolearn.adapters.threads import in_thread
from cortex_autolearn.demand import Demand
from cortex_autolearn.lanes import Lanes, Request
from cortex_autolearn.model import instants, layout
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.schedule import ClockWatch, RealTime, Scheduler, TimeMap
from cortex_autolearn.service import Service
from cortex_autolearn.signals import Signals
from cortex_autolearn.status import planned, zone_name
from cortex_autolearn.watch import Watcher

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
    from datetime import timedelta
    from pathlib import Path

    from cortex_autolearn.settings import Loaded
    from cortex_autolearn.wiring import App

EXIT_FAILED, EXIT_OTHER_INSTANCE = 1, os.EX_TEMPFAIL
_LOCK_TRIES, _LOCK_PAUSE_S, _LAG_S = 10, 0.1, 1.0
_FAREWELL_S, _FLUSH_S = 5.0, 0.5
# Read once, when the process starts.
_FIXED: Final = ("http.", "log.file", "log.format", "log.queue_size", "watch.")


class SideTaskDiedError(Exception):
    """A part of the daemon that must never end has ended."""


class Daemon:
    """The running application.

    Arguments:
        app: what it runs; closed by whoever built it, after :meth:`run`.
        time: the time that the schedule lives in; by default the application's own, as real time.
        read_settings: reads the configuration afresh, for SIGHUP; None where it cannot change.
        service: what shows the daemon to those who operate it; None in a process that nobody operates.
        install_signals: listen to SIGTERM, SIGINT and SIGHUP; in a process's main thread only.
    """

    def __init__(
        self,
        app: App,
        *,
        time: TimeMap | None = None,
        read_settings: Callable[[], Loaded] | None = None,
        service: Service | None = None,
        install_signals: bool = True,
    ) -> None:
        self._app = app
        self._service = service
        self._sides: set[str] = set()
        self._beat_at: float | None = None
        self._beat_pause_s = app.settings.daemon.heartbeat_s
        self._note: Callable[[dict[str, Any]], None] = lambda _more: None
        self._log = app.log
        self._time = RealTime(app.clock.now) if time is None else time
        self._read_settings = read_settings
        self._has_signals = install_signals
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._reason = ""
        self._code = 0
        self._clock_watch = ClockWatch()
        self._misfires = 0
        self._lanes = Lanes(app, None if service is None else service.tally.add)
        self._demand = Demand(app, self._lanes, self._time)
        self._scheduler = Scheduler(planned(app.settings.schedule), self._time, self._demand.on_due)
        self._watcher = self._make_watcher() if app.settings.watch.enabled else None
        self._sweep_s = app.settings.watch.sweep_s
        self._begun_with = {row.key: row.value for row in settings.show(app.loaded)}

    @property
    def has_abandoned(self) -> bool:
        """Whether a job still runs after :meth:`run` has returned: the process must then leave by ``os._exit``."""
        return self._lanes.has_threads

    @property
    def is_idle(self) -> bool:
        """Whether no job runs, waits, or is about to be asked for by a change that was noticed."""
        return self._demand.is_idle and self._lanes.is_idle

    @property
    def running(self) -> list[str]:
        """The jobs that run now."""
        return self._lanes.running

    @property
    def misfires(self) -> int:
        """Slots that were due and not taken."""
        return self._scheduler.misfires

    @property
    def is_stopping(self) -> bool:
        """Whether it drains."""
        return self._stop.is_set()

    def beat_age_s(self) -> float:
        """Return the seconds since the last heartbeat, or since the start where none was yet."""
        return 0.0 if self._beat_at is None else asyncio.get_running_loop().time() - self._beat_at

    @property
    def beat_pause_s(self) -> float:
        """The seconds from the last heartbeat to the next: a reload changes those after it."""
        return self._beat_pause_s

    def troubles(self) -> dict[str, str]:
        """Return which of scheduler and watcher do not do their work, and why."""
        found: dict[str, str] = {}
        if "scheduler" not in self._sides or not self._scheduler.alive():
            found["scheduler"] = "it does not run"
        if self._watcher is not None and "watcher" not in self._sides:
            found["watcher"] = "it does not run"
        return found

    async def run(self) -> int:
        """Run until stopped and return the exit code: 0, 1 when a part of it died, 75 when another daemon runs here.

        Raises:
            BoundaryError: the lock file or the state cannot be used.
        """
        with lock.FileLock(self._app.tree.path(layout.DAEMON_LOCK)) as mine:
            if not await _acquired(mine):
                holder = lock.holder(self._app.tree.path(layout.DAEMON_LOCK))
                self._log.error("another_daemon_runs", **{f"holder_{key}": value for key, value in holder.items()})
                return EXIT_OTHER_INSTANCE
            started_at = instants.to_text(self._app.clock.now())
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "started_at": started_at}
            mine.note(holder)
            self._note = lambda more: mine.note({**holder, **more})
            if self._has_signals:
                Signals(on_stop=self.stop, on_leave=self._leave, on_reload=self._reload.set).listen()
            await in_thread(self._record_start, "start")
            try:
                await self._live()
            finally:
                self._reason = self._reason or "cancelled"
                self._scheduler.shutdown()
                await _shielded(self._say_farewell())
        return self._code

    def stop(self, reason: str) -> None:
        """Drain: take no new job, let those that run end, and leave. Must be called in the event loop."""
        if not self._stop.is_set():
            self._reason = reason
            self._stop.set()
            self._scheduler.pause()
            self._lanes.close()
            self._log.info("daemon_stopping", reason=reason, running=self._lanes.running)
            if self._service is not None:
                self._service.stopping(self._lanes.running)

    def ask(self, job: str, trigger: str) -> None:
        """Have a job run as soon as its turn comes. Must be called in the event loop."""
        self._lanes.ask(Request(job, trigger))

    def look_again(self) -> None:
        """Let the schedule notice that whoever drives its clock has set it. Must be called in the event loop."""
        self._scheduler.resync()

    async def _live(self) -> None:
        async with asyncio.TaskGroup() as group:
            lanes = [group.create_task(self._side(lane.name, lane.work())) for lane in self._lanes]
            sides = {"scheduler": self._schedule(), "heartbeat": self._heartbeat(), "reload": self._reloads()}
            if self._watcher is not None:
                sides |= {"watcher": self._watcher.run(self._stop), "sweep": self._sweep(self._watcher, self._sweep_s)}
            if self._service is not None:  # last, so that the others have begun when it says so
                sides["service"] = self._service.run(self, self._note)
            tasks = [group.create_task(self._side(name, side)) for name, side in sides.items()]
            await self._stop.wait()
            await self._drain(lanes)
            for task in (*lanes, *tasks):
                task.cancel()

    async def _side(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Do the work of a side task; when it ends before it should, let the daemon end."""
        error: BaseException | None = None
        self._sides.add(name)
        try:
            await work
        except Exception as raised:  # noqa: BLE001 -- whatever it died of
            error = raised
        finally:
            self._sides.discard(name)
        if self._stop.is_set():
            if error is not None:
                self._log.warning("side_task_failed_late", task=name, exc_info=error)
            return
        self._log.error("side_task_died", task=name, exc_info=error)
        self._code = EXIT_FAILED
        self.stop(f"side task died: {name}")

    async def _drain(self, lanes: Sequence[asyncio.Task[None]]) -> None:
        self._demand.close()
        _, pending = await asyncio.wait(lanes, timeout=self._app.settings.daemon.drain_grace_s)
        if pending:
            self._log.warning("drain_timed_out", running=self._lanes.running)

    # --- what has jobs asked for --------------------------------------------------------------------------------------

    async def _schedule(self) -> None:
        self._scheduler.start()
        await self._demand.catch_up()
        self._demand.at_start()
        await self._stop.wait()

    async def _sweep(self, watcher: Watcher, pause_s: float) -> None:
        while not await self._stops_within(pause_s):
            for job, paths in (await in_thread(watcher.sweep, "sweep")).items():
                self._demand.on_change(job, paths)

    # --- what watches over them ---------------------------------------------------------------------------------------

    async def _heartbeat(self) -> None:
        loop = asyncio.get_running_loop()
        self._clock_step()
        self._beat_at = loop.time()
        while True:
            self._beat_pause_s = pause_s = self._app.settings.daemon.heartbeat_s
            began = loop.time()
            if await self._stops_within(pause_s):
                return
            lag_s = loop.time() - began - pause_s
            if lag_s > _LAG_S:
                self._log.warning("loop_lagged", lag_s=round(lag_s, 3))
            await self._beat()
            self._beat_at = loop.time()

    async def _beat(self) -> None:
        step = self._clock_step()
        if step is not None:
            self._log.warning("clock_stepped", step_s=step.total_seconds())
            self._demand.forget_slots()
            self._scheduler.resync()
        if not self._scheduler.alive():
            raise SideTaskDiedError("the scheduler's timer is dead")
        if self._scheduler.misfires > self._misfires:
            self._log.error("slots_misfired", slots=self._scheduler.misfires - self._misfires)
            self._misfires = self._scheduler.misfires
        if await in_thread(self._app.store.is_replaced, "state"):
            raise SideTaskDiedError("another state stands in the place of the one that was opened")
        await self._demand.catch_up()
        self._demand.beat()

    def _clock_step(self) -> timedelta | None:
        # Real time, also where the schedule's own runs faster.
        return self._clock_watch.observe(self._time.to_real(self._time.now()), asyncio.get_running_loop().time())

    async def _reloads(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            self._app.logging.reopen()
            if self._service is not None:
                self._service.reloading()
            if self._read_settings is not None:
                await self._take_over(self._read_settings)
            if self._service is not None:
                self._service.reloaded()

    async def _take_over(self, read_settings: Callable[[], Loaded]) -> None:
        try:
            loaded = await in_thread(read_settings, "reload")
        except settings.ConfigError as error:
            self._log.error("reload_refused", problems=[str(problem) for problem in error.problems])
            return
        before = {row.key: row.value for row in settings.show(self._app.loaded)}
        now = {row.key: row.value for row in settings.show(loaded)}
        changed = {key: value for key, value in now.items() if value != before[key]}
        self._app.reload(loaded)
        self._app.logging.set_level(loaded.settings.log.level)
        self._scheduler.replace(planned(loaded.settings.schedule))
        needs_restart = [key for key in now if key.startswith(_FIXED) and now[key] != self._begun_with[key]]
        self._log.info("reloaded", changed=changed, needs_restart=needs_restart)
        await self._demand.catch_up()

    async def _stops_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return False
        return True

    # --- beginning and end --------------------------------------------------------------------------------------------

    def _make_watcher(self) -> Watcher:
        policy = self._app.settings.watch
        return Watcher(
            self._demand.watched(),
            on_change=self._demand.on_change,
            polling=policy.polling,
            debounce_ms=policy.debounce_ms,
            log=self._log.info,
        )

    def _record_start(self) -> None:
        leftovers.clear(self._app.tree, self._log)
        digest = hashlib.sha256(msgspec.json.encode(self._app.settings)).hexdigest()[:12]
        started = {"version": __version__, "pid": os.getpid(), "settings": digest}
        with self._app.store.write() as transaction:
            transaction.event("daemon_started", **started)
        zone = zone_name(self._app.settings.schedule)
        self._log.info("daemon_started", root=str(self._app.root), timezone=zone, **started)

    async def _say_farewell(self) -> None:
        try:
            async with asyncio.timeout(_FAREWELL_S):
                await in_thread(self._record_stop, "stop")
        except (BoundaryError, TimeoutError) as error:
            self._log.warning("stop_unrecorded", error=str(error))
        self._log.info("daemon_stopped", reason=self._reason, code=self._code)

    def _record_stop(self) -> None:
        with self._app.store.write() as transaction:
            transaction.event("daemon_stopped", reason=self._reason, pid=os.getpid())

    def _leave(self, signal_name: str) -> None:
        self._log.warning("left_at_once", signal=signal_name, running=self._lanes.running)
        self._app.logging.flush(_FLUSH_S)


def serve(
    root: Path,
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    init: bool = False,
) -> int:
    """Run the daemon on ``root`` until it is told to stop, and return the exit code; see :func:`wiring.build`.

    Raises:
        ConfigError: with all that is wrong with the configuration.
        BoundaryError: ``root`` is none, or the state cannot be used.
    """
    root = root.absolute()
    wiring.require_root(root, init=init)
    environ = os.environ if environ is None else environ
    read_settings = partial(settings.load, root, environ=environ, config=config, flags=flags)
    policy = read_settings().settings.log
    logging = observe.configure(
        level=policy.level,
        fmt=policy.format,
        file=root / policy.file if policy.file else None,
        queue_size=policy.queue_size,
    )
    try:
        app = wiring.build(root, config=config, environ=environ, flags=flags, logging=logging)
        daemon = Daemon(app, read_settings=read_settings, service=Service(app, environ))
        code = asyncio.run(daemon.run())
        if daemon.has_abandoned:
            # A job hangs. It is safe to kill at any line, but not to take the interpreter apart around it.
            logging.close()
            os._exit(code)
        app.close()
    finally:
        logging.close()
    return code


async def _acquired(mine: lock.FileLock) -> bool:
    """Take the lock; False where another daemon has it. Whoever asks whether it is held holds it for a moment."""
    for _ in range(_LOCK_TRIES):
        if mine.acquire():
            return True
        await asyncio.sleep(_LOCK_PAUSE_S)
    return False


async def _shielded(work: Awaitable[None]) -> None:
    """Finish ``work`` though this is cancelled meanwhile; then be cancelled."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
