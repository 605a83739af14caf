"""The daemon towards those who operate it: systemd hears how it is, and HTTP answers who asks.

A side task of the daemon. Every few seconds it looks whether the event loop and the heartbeat live, and only then feeds
systemd's watchdog and freshens the time of the daemon's lock file, which is what the command ``health`` goes by where
HTTP is off. A blocked loop feeds nothing, so systemd kills it and starts it anew. While the daemon drains, systemd is
asked for more time, again and again, as long as the loop turns.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from cortex_autolearn.adapters import files
from cortex_autolearn.adapters.systemd import Notifier
from cortex_autolearn.adapters.threads import in_thread
from cortex_autolearn.model import layout
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.service.tally import RunTally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cortex_autolearn.adapters.http import Server
    from cortex_autolearn.service.answers import Life
    from cortex_autolearn.wiring import App

__all__ = ["Service", "stale_after_s"]

_TICK_S: Final = 5.0
_FEEDS: Final = 3
"""The watchdog is fed this many times within its time."""
_STALE_BEATS: Final = 3
_EXTENSION_S: Final = 30.0
"""Six ticks, and the seconds that the farewell may take after the last of them."""
_RETRY_S: Final = 30.0
_LAG_WINDOW_S: Final = 60.0


class Service:
    """What the daemon shows of itself.

    Arguments:
        app: the application.
        environ: the environment, where systemd says how it wants to hear.
        retry_s: how long to wait before a port that could not be had is asked for again.
    """

    def __init__(self, app: App, environ: Mapping[str, str], *, retry_s: float = _RETRY_S) -> None:
        self.tally = RunTally()
        self._app = app
        self._policy = app.settings.http  # as it is now: a reload changes nothing of it, so that no port opens unawares
        self._retry_s = retry_s
        self._systemd = Notifier(environ)
        self._server: Server | None = None
        self._refused = ""
        self._lags: deque[tuple[float, float]] = deque()
        self._said = ""
        self._touching: asyncio.Task[None] | None = None
        watchdog_s = self._systemd.watchdog_s
        self._tick_s = _TICK_S if watchdog_s is None else min(_TICK_S, watchdog_s / _FEEDS)

    async def run(self, life: Life, note: Callable[[dict[str, Any]], None]) -> None:
        """Serve until cancelled.

        Arguments:
            life: the daemon.
            note: adds to what is noted in the daemon's lock file.
        """
        try:
            await self._serve(life, note)
            self._said = _status_line(life)
            self._systemd.ready(self._said)
            if self._systemd.failed:
                self._app.log.warning("notify_failed", hint="Type=notify needs NotifyAccess=main or all")
            await self._tick(life, note)
        finally:
            if self._server is not None:
                self._server.close()

    def reloading(self) -> None:
        """Say that the configuration is being read again."""
        self._systemd.reloading()

    def reloaded(self) -> None:
        """Say that this is over."""
        self._systemd.ready(self._said)

    def stopping(self, running: list[str]) -> None:
        """Say that the end has begun."""
        self._said = _draining(running)
        self._systemd.stopping(self._said)
        self._systemd.extend(_EXTENSION_S)

    async def _serve(self, life: Life, note: Callable[[dict[str, Any]], None]) -> None:
        policy = self._policy
        noted: dict[str, Any] = {"stale_after_s": stale_after_s(self._app.settings.daemon.heartbeat_s)}
        if policy.enabled:
            # Here, so that whoever does without HTTP does without h11.
            from cortex_autolearn.adapters.http import Server  # noqa: PLC0415
            from cortex_autolearn.service.answers import Answers  # noqa: PLC0415

            answers = Answers(
                self._app,
                life,
                self.tally,
                stale_s=lambda: stale_after_s(life.beat_pause_s),
                loop_lag_s=lambda: self._lag_s(_now()),
                on_error=self._failed,
            )
            server = Server(answers.paths(), allowed_hosts=policy.allowed_hosts, on_error=self._failed)
            try:
                host, port = await server.start(policy.host, policy.port)
            except BoundaryError as error:
                if error.cause != self._refused:  # said once; it is tried again and again
                    self._refused = error.cause
                    self._app.log.warning("http_unavailable", cause=error.cause, subject=error.subject, hint=error.hint)
            else:
                self._server = server
                noted["http"] = [host, port]
                self._app.log.info("http_listening", host=host, port=port)
        with suppress(BoundaryError):  # a note for others: what cannot be written is told by /readyz
            note(noted)

    async def _tick(self, life: Life, note: Callable[[dict[str, Any]], None]) -> None:
        tried_at = _now()
        while True:
            began = _now()
            await asyncio.sleep(self._tick_s)
            self._note_lag(began)
            is_fresh = life.is_stopping or life.beat_age_s() < stale_after_s(life.beat_pause_s)
            if is_fresh:
                self._systemd.alive()
                self._touch()
            if life.is_stopping:
                self._systemd.extend(_EXTENSION_S)
            line = _status_line(life)
            if line != self._said:
                self._said = line
                self._systemd.status(line)
            if self._server is None and self._policy.enabled and _now() - tried_at >= self._retry_s:
                tried_at = _now()
                await self._serve(life, note)

    def _touch(self) -> None:
        """Freshen the lock file's time, in a thread: a dead file system must not hold the loop."""
        if self._touching is not None and not self._touching.done():
            return
        path = self._app.tree.path(layout.DAEMON_LOCK)

        def touch() -> None:
            with suppress(BoundaryError), files.wrap("freshen", path):
                os.utime(path)

        self._touching = asyncio.get_running_loop().create_task(in_thread(touch, "heartbeat-file"))

    def _note_lag(self, began: float) -> None:
        now = _now()
        self._lags.append((now, max(0.0, now - began - self._tick_s)))
        while self._lags[0][0] < now - _LAG_WINDOW_S:
            self._lags.popleft()

    def _lag_s(self, now: float) -> float:
        """Return how late the loop was at most within the last minute."""
        return max((lag for at, lag in self._lags if at >= now - _LAG_WINDOW_S), default=0.0)

    def _failed(self, path: str, error: Exception) -> None:
        if isinstance(error, BoundaryError):
            self._app.log.error("http_failed", path=path, cause=error.cause, subject=error.subject, hint=error.hint)
        else:
            self._app.log.error("http_failed", path=path, exc_info=error)


def stale_after_s(heartbeat_s: float) -> float:
    """Return the age in seconds from which on a heartbeat is not fresh."""
    return _STALE_BEATS * heartbeat_s + _TICK_S


def _status_line(life: Life) -> str:
    if life.is_stopping:
        return _draining(life.running)
    return f"Running: {', '.join(life.running)}" if life.running else "Waiting for work"


def _draining(running: Iterable[str]) -> str:
    return f"Draining: {', '.join(running) or 'nothing runs'}"


def _now() -> float:
    return asyncio.get_running_loop().time()
