"""Paths that changed, and the job they wake: the only door to watchfiles.

Events are a hint that a folder should be looked at; what changed is told by looking, by device, inode, size and time of
every file in it. So an event that is lost, doubled or out of order costs at most a look: whatever happened before the
look is in it. Folders are watched, not files (a replaced file goes deaf), together with their parents, so that a folder
that appears or is made anew is heard. Where events cannot be had (network file systems, the inotify limit) the same
look is taken by the clock. What the changes mean is left to the job that is woken; no file is ever opened here.
"""

from __future__ import annotations

import asyncio
import os
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec
from watchfiles import awatch

from cortex_autolearn.adapters import mounts
from cortex_autolearn.adapters.threads import in_thread
from cortex_autolearn.ports import BoundaryError

MAX_PATHS: Final = 1000
"""More changed paths than this are reported as their folder: look at everything in it."""

_STEP_MS: Final = 25
"""How often watchfiles wakes to look for events. It has no blocking wait: 25 ms costs 0.25 % of a core when idle."""
_QUIET_S: Final = (2 * _STEP_MS + 20) / 1000
"""Events of one storm come at most two steps apart; a pause longer than that ends the storm."""
_CALM_S: Final = 0.15
"""A change this long after the last report is no storm, and is reported at once."""
_STORM_S: Final = 0.25
"""In a storm reports come further and further apart, up to this."""
_REST: Final = 4
"""And a report that took long (a look at 10,000 files) is rested from for this many times as long."""
_POLL_SHARE: Final = 50
"""Polling rests for this many times as long as a look took, so that a huge folder never costs more than 2 %."""
_RETRY_EVENTS_S: Final = 300.0
_RACY_NS: Final = 20_000_000
"""A file written this shortly before a look may be written again without its time changing (a kernel tick)."""

_NOT_OURS: Final = (".tmp", ".temp", ".part", ".lock", ".swp", "~")

_Signature: TypeAlias = tuple[int, int, int, int]
Events: TypeAlias = Callable[[Sequence[Path], asyncio.Event], AsyncIterator[set[str]]]
"""Yields the paths that events named, until the event is set. Must listen from its first step on."""


class Watched(msgspec.Struct, frozen=True):
    """Files directly in a folder, and the job that their changes wake.

    Arguments:
        folder: need not exist yet; may be a link.
        suffix: how the names end, such as ``.jsonl``. Hidden and temporary files and locks never count.
        wakes: a job's name.
    """

    folder: Path
    suffix: str
    wakes: str


class _EventsFailedError(Exception):
    """Events cannot be had: the limit, the file system, or a name that watchfiles cannot decode."""


class Watcher:
    """Calls ``on_change(job name, changed paths)`` in the event loop. What is there at the start counts as changed.

    Arguments:
        watched: the folders.
        debounce_ms: how long the changes of a storm are gathered at first; the time doubles while the storm lasts.
        polling: ``auto`` polls where events cannot be had; ``never`` raises instead.
        on_change: must not block. More than :data:`MAX_PATHS` paths of a folder are reported as the folder itself.
        log: called with an event name and keys.
        poll_s: time between two looks when polling.
        events: where the hints come from.
    """

    mode: Literal["events", "polling"]

    def __init__(  # noqa: PLR0913 - options, by keyword only
        self,
        watched: Sequence[Watched],
        *,
        on_change: Callable[[str, set[Path]], None],
        polling: Literal["auto", "always", "never"] = "auto",
        debounce_ms: int = 50,
        poll_s: float = 0.5,
        log: Callable[..., None] | None = None,
        events: Events | None = None,
    ) -> None:
        self._watched = [msgspec.structs.replace(one, folder=one.folder.absolute()) for one in watched]
        self._on_change, self._log = on_change, log or _say_nothing
        self._polling, self._poll_s, self._debounce_s = polling, poll_s, max(debounce_ms / 1000, _QUIET_S)
        self._events = events or _watchfiles_events
        self._seen: list[dict[str, _Signature | None]] = [{} for _ in watched]
        self._looking = threading.Lock()
        self._unreadable: set[Path] = set()
        self._armed: dict[Path, tuple[int, int] | None] = {}
        self._hints, self._rearm = _Hints(), False
        self._news: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.mode = "polling" if self._reason_to_poll() else "events"
        self._logged = ("", "")

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until ``stop`` is set; raise :class:`BoundaryError` when watching is no longer possible."""
        self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._tell())
        try:
            while not stop.is_set():
                reason = await in_thread(self._reason_to_poll, "mounts") or await self._listen(stop)
                if reason is not None:
                    await self._poll(stop, reason)
        finally:
            stopping.cancel()
            self._loop = self._news = None

    def sweep(self) -> dict[str, set[Path]]:
        """Look at every folder, and return by job what changed since anything last looked, be it this or an event.

        For the heartbeat: it finds what no event told of, and has a watch renewed whose folder was swapped unheard.
        Safe from any thread; call it in one where the folders may be slow. Baseline before :meth:`run`, if the files
        that are there already should not count as changed.
        """
        changed = self._look(range(len(self._watched)))
        if self._loop is not None and any(_identity(path) != known for path, known in self._armed.items()):
            self._rearm = True
            self._loop.call_soon_threadsafe(self._tell)
        return changed

    async def _listen(self, stop: asyncio.Event) -> str | None:
        """Listen until folders must be found again or ``stop`` is set; return why to poll where that is impossible."""
        try:
            await self._follow(stop)
        except _EventsFailedError as error:
            if isinstance(error.__cause__, FileNotFoundError):  # a folder vanished between finding and watching it
                await asyncio.sleep(_QUIET_S)
                return None
            if self._polling == "never":
                raise self._impossible(error) from error
            return str(error)
        return None

    async def _follow(self, stop: asyncio.Event) -> None:
        """Listen with one set of watches, until they must be renewed or ``stop`` is set."""
        assert self._news is not None
        targets = self._targets()
        self._armed, self._rearm, self._hints = {path: _identity(path) for path in targets}, False, _Hints()
        quit_pump = asyncio.Event()
        pump = asyncio.create_task(self._pump(targets, quit_pump))
        pump.add_done_callback(lambda _: self._tell())
        try:
            await asyncio.sleep(0)  # its first step, which sets the watches: a look taken after that misses nothing
            if not pump.done():
                self._enter("events")
                await self._report(range(len(self._watched)))
            window_s, quiet_s, reported_at = self._debounce_s, _QUIET_S, time.monotonic()
            while not (pump.done() or stop.is_set() or self._rearm):
                await self._news.wait()
                if time.monotonic() - reported_at < _CALM_S + quiet_s:
                    calm = await self._settle(max(window_s, quiet_s), quiet_s)
                    window_s = self._debounce_s if calm else min(2 * window_s, _STORM_S)
                self._news.clear()
                hints, self._hints = self._hints, _Hints()
                self._rearm |= hints.structure
                began = time.monotonic()
                await self._report(hints.folders)
                reported_at = time.monotonic()
                quiet_s = min(max(_QUIET_S, _REST * (reported_at - began)), _STORM_S)
            if pump.done():
                await pump
                raise self._impossible(RuntimeError("watchfiles stopped by itself"))
        finally:
            quit_pump.set()
            with suppress(_EventsFailedError):
                await pump

    async def _pump(self, targets: Sequence[Path], quit_pump: asyncio.Event) -> None:
        """Turn events into hints. All that is kept of them is which folders to look at."""
        structure, folders = self._places()
        try:
            async for paths in self._events(targets, quit_pump):
                for path in paths:
                    if path in structure:
                        self._hints.structure = True
                    for index in folders.get(os.path.dirname(path), ()):  # noqa: PTH120 - ten times faster than Path
                        if _counts(os.path.basename(path), self._watched[index].suffix):  # noqa: PTH119
                            self._hints.folders.add(index)
                if self._hints:
                    self._tell()
        except (OSError, RuntimeError) as error:
            raise _EventsFailedError(str(error)) from error

    async def _settle(self, window_s: float, quiet_s: float) -> bool:
        """Wait until nothing came for ``quiet_s``, and return True, or until ``window_s`` is over: False."""
        assert self._news is not None
        ends_at = time.monotonic() + window_s
        while (left_s := ends_at - time.monotonic()) > 0:
            self._news.clear()
            try:
                async with asyncio.timeout(min(quiet_s, left_s)):
                    await self._news.wait()
            except TimeoutError:
                return left_s >= quiet_s
        return False

    async def _poll(self, stop: asyncio.Event, reason: str) -> None:
        """Look by the clock; return after a while, so that events are tried again."""
        assert self._news is not None
        self._armed = {}
        self._enter("polling", reason)
        ends_at = time.monotonic() + _RETRY_EVENTS_S
        while not stop.is_set() and time.monotonic() < ends_at:
            began = time.monotonic()
            await self._report(range(len(self._watched)))
            pause_s = max(self._poll_s, _POLL_SHARE * (time.monotonic() - began))
            self._news.clear()
            if not stop.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._news.wait()

    async def _report(self, indexes: Collection[int]) -> None:
        changed = await in_thread(partial(self._look, indexes), "look") if indexes else {}
        for wakes, paths in changed.items():
            self._on_change(wakes, paths)

    def _look(self, indexes: Collection[int]) -> dict[str, set[Path]]:
        """Compare folders with what was seen in them; return what differs, by job."""
        changed: dict[str, set[Path]] = {}
        with self._looking:
            for index in indexes:
                watched, before = self._watched[index], self._seen[index]
                racy_from = time.time_ns() - _RACY_NS
                try:
                    now = _files(watched)
                except OSError as error:
                    if watched.folder not in self._unreadable:
                        self._unreadable.add(watched.folder)
                        self._log("watch_folder_unreadable", folder=str(watched.folder), error=str(error))
                    continue
                self._unreadable.discard(watched.folder)
                names = {name for name, signature in now.items() if before.get(name) != signature}
                names |= before.keys() - now.keys()
                racy_to = time.time_ns() + _RACY_NS  # a time further ahead is somebody's wrong clock
                self._seen[index] = {
                    name: None if racy_from < signature[3] < racy_to else signature for name, signature in now.items()
                }
                if names:
                    paths = {watched.folder / name for name in names} if len(names) <= MAX_PATHS else {watched.folder}
                    changed.setdefault(watched.wakes, set()).update(paths)
        return changed

    def _targets(self) -> list[Path]:
        """Every folder and its parent, as named and as links resolve, or the nearest above them that exists."""
        wanted = [place for one in self._watched for place in (one.folder, Path(os.path.realpath(one.folder)))]
        return list(dict.fromkeys(_nearest(path) for place in wanted for path in (place, place.parent)))

    def _places(self) -> tuple[set[str], dict[str, list[int]]]:
        """Return the paths whose coming and going moves a folder, and the folders by the paths events give them."""
        structure: set[str] = set()
        folders: dict[str, list[int]] = {}
        real = [Path(os.path.realpath(one.folder)) for one in self._watched]
        for mine, one in zip(real, self._watched, strict=True):
            for place in {one.folder, mine}:
                structure.update(str(path) for path in (place, *place.parents))
                # Two names of one folder share one watch, and its events bear either name.
                folders[str(place)] = [index for index, other in enumerate(real) if other == mine]
        return structure, folders

    def _reason_to_poll(self) -> str | None:
        if self._polling != "auto":
            return "configured" if self._polling == "always" else None
        if os.environ.get("WATCHFILES_FORCE_POLLING", "false").lower() not in {"", "false", "disable", "disabled"}:
            return "WATCHFILES_FORCE_POLLING"
        table = mounts.read()
        for one in self._watched:
            kind = mounts.network_filesystem(os.path.realpath(_nearest(one.folder)), table)
            if kind is not None:
                return f"{one.folder} is on {kind}"
        return None

    def _enter(self, mode: Literal["events", "polling"], reason: str = "") -> None:
        self.mode = mode
        if self._logged != (mode, reason):
            self._logged = (mode, reason)
            self._log("watch_mode", mode=mode, reason=reason)

    def _impossible(self, error: Exception) -> BoundaryError:
        return BoundaryError(
            "watch for changes",
            ", ".join(str(one.folder) for one in self._watched),
            str(error),
            hint="Raise fs.inotify.max_user_instances and max_user_watches, or let it poll",
            retryable=True,
        )

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()


class _Hints:
    """What events pointed at since the last report: folders by index, and whether the folders themselves moved."""

    def __init__(self) -> None:
        self.folders: set[int] = set()
        self.structure = False

    def __bool__(self) -> bool:
        return bool(self.folders) or self.structure


async def _watchfiles_events(targets: Sequence[Path], stop: asyncio.Event) -> AsyncIterator[set[str]]:
    changed = awatch(
        *targets,
        watch_filter=None,
        debounce=1,  # a batch ends with its second step; gathering more is done here, where the last report is known
        step=_STEP_MS,
        stop_event=stop,
        rust_timeout=0,  # none: on a time-out watchfiles clears what came in the meantime
        force_polling=False,  # its poller compares times only; ours is the look
        recursive=False,
    )
    try:
        async for changes in changed:
            yield {path for _, path in changes}
    except ExceptionGroup as group:  # what went wrong in its thread comes wrapped by its task group
        raise RuntimeError("; ".join(str(error) for error in group.exceptions)) from group


def _files(watched: Watched) -> dict[str, _Signature]:
    """Return what tells a change of each file of a folder; nothing where the folder is not there."""
    files = {}
    try:
        with os.scandir(watched.folder) as entries:
            for entry in entries:
                if _counts(entry.name, watched.suffix):
                    with suppress(OSError):  # gone meanwhile, or a link to nowhere
                        status = entry.stat()
                        # A pipe, socket or folder of such a name is nothing to read.
                        if stat.S_ISREG(status.st_mode):
                            files[entry.name] = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return files


def _counts(name: str, suffix: str) -> bool:
    return name.endswith(suffix) and not name.startswith(".") and not name.endswith(_NOT_OURS)


def _nearest(path: Path) -> Path:
    return next((place for place in (path, *path.parents) if place.is_dir()), Path(path.anchor))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _say_nothing(_event: str, **_keys: object) -> None:
    """Log to nowhere."""
