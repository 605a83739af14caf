"""The watcher on real folders and real inotify: nothing missed, nothing blocked, few calls."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cortex_autolearn.adapters.mounts import network_filesystem
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.watch import MAX_PATHS, Watched, Watcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

PATIENCE_S = 15.0


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHFILES_FORCE_POLLING", raising=False)


class Calls:
    """Collects what the watcher reports, with the size and the first bytes each file had at that moment."""

    def __init__(self) -> None:
        self.made: list[tuple[str, set[Path]]] = []
        self.sizes: dict[Path, int] = {}
        self.begins: dict[Path, bytes] = {}
        self.logged: list[tuple[str, dict[str, Any]]] = []
        self._news = asyncio.Event()

    def __call__(self, wakes: str, paths: set[Path]) -> None:
        self.made.append((wakes, paths))
        for path in paths:
            self.sizes[path] = -1
            if path.is_file():
                self.sizes[path] = path.stat().st_size
                with path.open("rb") as file:
                    self.begins[path] = file.read(16)
        self._news.set()

    def log(self, event: str, **keys: Any) -> None:  # noqa: ANN401 - a log line's keys
        self.logged.append((event, keys))

    def paths(self, since: int = 0) -> set[Path]:
        return {path for _, paths in self.made[since:] for path in paths}

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await self._news.wait()


@contextlib.asynccontextmanager
async def watching(*folders: Path | Watched, **options: Any) -> AsyncIterator[tuple[Watcher, Calls]]:  # noqa: ANN401 - passed on
    """Run a watcher, and see it up before the test goes on and stopped promptly after it."""
    calls, stop = Calls(), asyncio.Event()
    watched = [one if isinstance(one, Watched) else Watched(one, ".jsonl", "collect") for one in folders]
    watcher = Watcher(watched, on_change=calls, log=calls.log, **options)
    running = asyncio.create_task(watcher.run(stop))
    try:
        await calls.until(lambda: running.done() or any(event == "watch_mode" for event, _ in calls.logged))
        if not running.done():
            await quiet(calls)
        yield watcher, calls
    finally:
        stop.set()
        began = time.monotonic()
        await running
        assert time.monotonic() - began < 1


async def quiet(calls: Calls, for_s: float = 0.3) -> None:
    """Wait until no call came for a while."""
    count = -1
    while count != len(calls.made):
        count = len(calls.made)
        await asyncio.sleep(for_s)


def append(path: Path, text: str = "x\n") -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def test_files_that_are_there_at_the_start_count_as_changed(tmp_path: Path) -> None:
    """What landed while nobody listened wakes the job at once."""
    append(tmp_path / "a.jsonl")

    async def main() -> None:
        async with watching(tmp_path) as (watcher, calls):
            assert calls.made == [("collect", {tmp_path / "a.jsonl"})]
            assert watcher.mode == "events"

    asyncio.run(main())


def test_append_replace_and_delete_are_heard(tmp_path: Path) -> None:
    """A created, appended, atomically replaced (more than once) or deleted file wakes its job, and only its job."""

    async def main() -> None:
        file = tmp_path / "a.jsonl"
        async with watching(Watched(tmp_path, ".jsonl", "collect"), Watched(tmp_path, ".json", "other")) as (_, calls):
            append(file)
            await calls.until(lambda: calls.sizes.get(file) == 2)
            append(file)
            await calls.until(lambda: calls.sizes[file] == 4)
            for size in (10, 20, 30):
                append(tmp_path / ".a.tmp", "y" * size)
                (tmp_path / ".a.tmp").rename(file)
                await calls.until(lambda size=size: calls.sizes[file] == size)  # type: ignore[misc]
                append(file)
                await calls.until(lambda size=size: calls.sizes[file] == size + 2)  # type: ignore[misc]
            file.unlink()
            await calls.until(lambda: calls.sizes[file] == -1)
            assert {wakes for wakes, _ in calls.made} == {"collect"}
            assert calls.paths() == {file}

    asyncio.run(main())


def test_what_is_not_ours_is_ignored(tmp_path: Path) -> None:
    """Another suffix, hidden and temporary files, locks, sub-folders and their files wake nothing."""

    async def main() -> None:
        async with watching(tmp_path) as (watcher, calls):
            for name in ("a.json", ".a.jsonl", "a.jsonl.tmp", "a.jsonl~", ".lock", "a.jsonl.lock", "jsonl"):
                append(tmp_path / name)
            (tmp_path / "sub.jsonl").mkdir()
            append(tmp_path / "sub.jsonl" / "b.jsonl")
            await quiet(calls)
            assert calls.made == []
            assert watcher.sweep() == {}

    asyncio.run(main())


def test_pipes_sockets_and_dangling_links_are_harmless(tmp_path: Path) -> None:
    """Nothing is opened: a FIFO named like a silver file blocks nobody and wakes nothing."""
    # Relative, for the name of a socket is at most 107 bytes long.
    socket_name = os.path.relpath(tmp_path / "s.jsonl")

    async def main() -> None:
        async with watching(tmp_path) as (watcher, calls):
            os.mkfifo(tmp_path / "pipe.jsonl")
            (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
            (tmp_path / "none.jsonl").symlink_to(tmp_path / "nowhere")
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(socket_name)
                append(tmp_path / "real.jsonl")
                await calls.until(lambda: bool(calls.made))
                await quiet(calls)
            assert calls.paths() == {tmp_path / "real.jsonl"}
            assert watcher.sweep() == {}

    asyncio.run(main())


def test_a_folder_that_appears_is_heard_with_what_is_in_it(tmp_path: Path) -> None:
    """A folder, and the folders above it, may come later; files that came with it count as changed."""

    async def main() -> None:
        folder = tmp_path / "coordination" / "silver" / "tasks"
        async with watching(folder) as (_, calls):
            assert calls.made == []
            folder.mkdir(parents=True)
            append(folder / "first.jsonl")
            await calls.until(lambda: folder / "first.jsonl" in calls.paths())
            append(folder / "second.jsonl")
            await calls.until(lambda: folder / "second.jsonl" in calls.paths())
            append(folder / "first.jsonl")
            await calls.until(lambda: calls.sizes[folder / "first.jsonl"] == 4)

    asyncio.run(main())


def test_a_folder_moved_in_is_heard(tmp_path: Path) -> None:
    """A full folder that is renamed into place counts as changed, file by file."""

    async def main() -> None:
        folder, staged = tmp_path / "tasks", tmp_path / "staged"
        staged.mkdir()
        for i in range(5):
            append(staged / f"{i}.jsonl")
        async with watching(folder) as (_, calls):
            staged.rename(folder)
            await calls.until(lambda: len(calls.paths()) == 5)

    asyncio.run(main())


@pytest.mark.parametrize("depth", [0, 1, 2], ids=["folder", "parent", "grandparent"])
def test_a_folder_made_anew_is_heard_again(tmp_path: Path, depth: int) -> None:
    """Deleting and re-creating the folder, or a folder above it, five times over, leaves the watcher hearing."""

    async def main() -> None:
        folder = tmp_path / "a" / "b" / "c"
        top = [folder, *folder.parents][depth]
        folder.mkdir(parents=True)
        async with watching(folder) as (_, calls):
            for i in range(5):
                shutil.rmtree(top)
                if i % 2:  # now and then let it notice that the folder is gone
                    await quiet(calls, 0.1)
                folder.mkdir(parents=True)
                append(folder / f"{i}.jsonl")
                await calls.until(lambda i=i: folder / f"{i}.jsonl" in calls.paths())  # type: ignore[misc]
                append(folder / f"{i}.jsonl")
                await calls.until(lambda i=i: calls.sizes[folder / f"{i}.jsonl"] == 4)  # type: ignore[misc]

    asyncio.run(main())


def test_a_linked_folder_is_heard_and_renewed_when_swapped(tmp_path: Path) -> None:
    """A folder that is a link is heard under its own name; where the link is turned unheard, a sweep repairs it."""

    async def main() -> None:
        one, two, link = tmp_path / "x" / "one", tmp_path / "x" / "two", tmp_path / "y" / "link"
        for folder in (one, two, link.parent):
            folder.mkdir(parents=True)
        link.symlink_to(one)
        async with watching(link / "tasks") as (watcher, calls):
            (one / "tasks").mkdir()
            append(one / "tasks" / "a.jsonl")
            await calls.until(lambda: link / "tasks" / "a.jsonl" in calls.paths())
            (two / "tasks").mkdir()
            append(two / "tasks" / "b.jsonl")
            (tmp_path / "y" / "new").symlink_to(two)
            (tmp_path / "y" / "new").rename(link)
            await calls.until(lambda: any(link / "tasks" / "b.jsonl" in s for s in watcher.sweep().values()))
            await quiet(calls)
            append(two / "tasks" / "c.jsonl")
            await calls.until(lambda: link / "tasks" / "c.jsonl" in calls.paths())

    asyncio.run(main())


def test_a_moved_tree_is_repaired_by_the_sweep(tmp_path: Path) -> None:
    """When a folder far above is swapped for a new one, no event tells; the next sweep finds the files and mends it."""

    async def main() -> None:
        folder = tmp_path / "a" / "b" / "c" / "d"
        folder.mkdir(parents=True)
        async with watching(folder) as (watcher, calls):
            (tmp_path / "a").rename(tmp_path / "old")
            folder.mkdir(parents=True)
            append(folder / "new.jsonl")
            await quiet(calls)
            assert calls.made or watcher.sweep() == {"collect": {folder / "new.jsonl"}}
            await quiet(calls)
            append(folder / "later.jsonl")
            await calls.until(lambda: folder / "later.jsonl" in calls.paths())

    asyncio.run(main())


@pytest.mark.parametrize("files", [1, 100, 10_000])
def test_a_storm_is_few_calls_and_its_last_state_is_seen(tmp_path: Path, files: int) -> None:
    """10,000 appends, to one file or to as many, make a handful of calls with a bounded set; none is overlooked."""

    async def main() -> None:
        paths = [tmp_path / f"{i}.jsonl" for i in range(files)]

        def storm() -> None:
            for i in range(10_000):
                append(paths[i % files])

        async with watching(tmp_path) as (watcher, calls):
            began = time.monotonic()
            await asyncio.to_thread(storm)
            took_s = time.monotonic() - began
            await quiet(calls, 2.0)  # a loaded machine tells of the last changes late
            assert len(calls.made) <= 6 + took_s / 0.2
            assert max(len(paths) for _, paths in calls.made) <= MAX_PATHS
            if files <= MAX_PATHS:
                assert calls.sizes == dict.fromkeys(paths, 2 * 10_000 // files)
            else:
                assert tmp_path in calls.sizes
            assert watcher.sweep() == {}

    asyncio.run(main())


def test_nothing_is_overlooked_when_files_are_rewritten_in_place(tmp_path: Path) -> None:
    """Same size, same file, again and again within one tick of the clock: the last content is seen."""

    async def main() -> None:
        file = tmp_path / "a.jsonl"
        file.write_bytes(b"000000")
        async with watching(tmp_path) as (_, calls):
            for i in range(1, 300):
                with file.open("r+b") as handle:
                    handle.write(f"{i:06d}".encode())
                if i % 7 == 0:
                    await asyncio.sleep(0.005 * (i % 11))
            await calls.until(lambda: calls.begins.get(file) == b"000299")

    asyncio.run(main())


def test_a_lost_event_is_found_by_the_sweep(tmp_path: Path) -> None:
    """With events that never come, a sweep tells what changed: once, by job, whatever the change was."""

    async def deaf(_targets: Sequence[Path], stop: asyncio.Event) -> AsyncIterator[set[str]]:
        await stop.wait()
        if not stop.is_set():
            yield set()

    async def main() -> None:
        one, two = tmp_path / "one", tmp_path / "two"
        one.mkdir()
        watched = [Watched(one, ".jsonl", "collect"), Watched(two, ".jsonl", "medallion")]
        async with watching(*watched, events=deaf) as (watcher, calls):
            append(one / "a.jsonl")
            two.mkdir()
            append(two / "b.jsonl")
            await asyncio.sleep(0.05)  # older than a tick, so that the sweep may trust what it sees
            assert watcher.sweep() == {"collect": {one / "a.jsonl"}, "medallion": {two / "b.jsonl"}}
            assert watcher.sweep() == {}
            shutil.move(one / "a.jsonl", one / "c.jsonl")
            assert watcher.sweep() == {"collect": {one / "a.jsonl", one / "c.jsonl"}}
            assert calls.made == []

    asyncio.run(main())


def test_what_an_event_reported_the_sweep_does_not_repeat(tmp_path: Path) -> None:
    """Events and sweeps share one memory, so a heartbeat after a quiet minute wakes nobody."""

    async def main() -> None:
        async with watching(tmp_path) as (watcher, calls):
            append(tmp_path / "a.jsonl")
            await calls.until(lambda: bool(calls.made))
            await quiet(calls)
            assert watcher.sweep() == {}

    asyncio.run(main())


@pytest.mark.parametrize("how", ["always", "environment"])
def test_polling_sees_the_same(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without events, new, grown, replaced and deleted files and a folder that appears are seen all the same."""
    if how == "environment":
        monkeypatch.setenv("WATCHFILES_FORCE_POLLING", "1")

    async def main() -> None:
        folder = tmp_path / "later"
        file = folder / "a.jsonl"
        options = {"poll_s": 0.05, "polling": "always" if how == "always" else "auto"}
        async with watching(folder, **options) as (watcher, calls):
            assert watcher.mode == "polling"
            folder.mkdir()
            append(file)
            await calls.until(lambda: calls.sizes.get(file) == 2)
            append(file)
            await calls.until(lambda: calls.sizes[file] == 4)
            append(tmp_path / "t", "123456")
            (tmp_path / "t").rename(file)
            await calls.until(lambda: calls.sizes[file] == 6)
            file.unlink()
            await calls.until(lambda: calls.sizes[file] == -1)

    asyncio.run(main())


def refusing(error: Exception) -> Callable[..., AsyncIterator[set[str]]]:
    async def events(_targets: Sequence[Path], _stop: asyncio.Event) -> AsyncIterator[set[str]]:
        raise error
        yield set()

    return events


@pytest.mark.parametrize(
    "error",
    [OSError("OS file watch limit reached. about [...] (MaxFilesWatch)"), RuntimeError("Too many open files")],
    ids=["watches", "instances"],
)
def test_a_limit_falls_back_to_polling(tmp_path: Path, error: Exception) -> None:
    """Where the kernel gives no more watches it polls, and says so once with the reason."""

    async def main() -> None:
        async with watching(tmp_path, events=refusing(error), poll_s=0.05) as (watcher, calls):
            assert watcher.mode == "polling"
            append(tmp_path / "a.jsonl")
            await calls.until(lambda: bool(calls.made))
            assert calls.logged == [("watch_mode", {"mode": "polling", "reason": str(error)})]

    asyncio.run(main())


def test_where_polling_is_forbidden_a_limit_is_an_error(tmp_path: Path) -> None:
    """A watcher that may not poll and cannot listen raises, and names the folder, the cause and the remedy."""

    async def main() -> None:
        watched = [Watched(tmp_path, ".jsonl", "collect")]
        events = refusing(OSError("OS file watch limit reached."))
        watcher = Watcher(watched, on_change=Calls(), polling="never", events=events)
        with pytest.raises(BoundaryError, match=r"limit reached.*max_user_watches") as caught:
            await watcher.run(asyncio.Event())
        assert str(tmp_path) in caught.value.subject

    asyncio.run(main())


def test_a_watcher_that_ends_by_itself_raises(tmp_path: Path) -> None:
    """Dead is never silent: the daemon must end, and be started again."""

    async def ends(_targets: Sequence[Path], _stop: asyncio.Event) -> AsyncIterator[set[str]]:
        yield set()

    async def main() -> None:
        watcher = Watcher([Watched(tmp_path, ".jsonl", "collect")], on_change=Calls(), events=ends)
        with pytest.raises(BoundaryError, match="stopped by itself"):
            await watcher.run(asyncio.Event())

    asyncio.run(main())


def test_a_callback_that_raises_ends_the_watcher_and_is_not_taken_for_a_limit(tmp_path: Path) -> None:
    """An error of the daemon's own comes out as it is."""
    append(tmp_path / "a.jsonl")

    async def main() -> None:
        def on_change(_wakes: str, _paths: set[Path]) -> None:
            raise OSError("ours")

        with pytest.raises(OSError, match="ours"):
            await Watcher([Watched(tmp_path, ".jsonl", "collect")], on_change=on_change).run(asyncio.Event())

    asyncio.run(main())


def test_a_name_that_is_not_utf_8_does_not_deafen(tmp_path: Path) -> None:
    """The library gives up on such a name for good; the watcher polls on, and reads the name as Python does."""

    async def main() -> None:
        async with watching(tmp_path, poll_s=0.05) as (watcher, calls):
            strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jsonl"))
            append(strange)
            await calls.until(lambda: strange in calls.paths())
            append(tmp_path / "a.jsonl")
            await calls.until(lambda: tmp_path / "a.jsonl" in calls.paths())
            assert watcher.mode == "polling"

    asyncio.run(main())


@pytest.mark.skipif(os.geteuid() != 0, reason="uses up the inotify instances of a user of its own, as root may")
def test_the_real_limit_of_instances_falls_back_to_polling(tmp_path: Path) -> None:
    """With every inotify instance of the user taken, the real watchfiles refuses, and files are seen all the same."""
    program = textwrap.dedent(
        """
        # All imports now: Python may lie where the other user cannot read.
        import asyncio, concurrent.futures.thread, ctypes, os, sys
        from pathlib import Path
        from cortex_autolearn.watch import Watched, Watcher

        folder = Path(sys.argv[1])
        os.setgid(54321), os.setuid(54321)
        libc = ctypes.CDLL(None)
        while libc.inotify_init() >= 0:
            pass

        async def main():
            stop = asyncio.Event()
            def seen(wakes, paths):
                print(watcher.mode, wakes, sorted(path.name for path in paths), flush=True)
                stop.set()
            watcher = Watcher([Watched(folder, ".jsonl", "collect")], on_change=seen, poll_s=0.05)
            asyncio.get_running_loop().call_later(0.3, (folder / "a.jsonl").write_text, "x")
            async with asyncio.timeout(10):
                await watcher.run(stop)

        asyncio.run(main())
        """
    )
    # Not below tmp_path: its parents are closed to other users.
    folder = Path("/tmp") / f"cortex-autolearn-watch-{os.getpid()}"  # noqa: S108 - owned and removed here
    folder.mkdir(mode=0o700)
    os.chown(folder, 54321, 54321)
    try:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-c", program, str(folder)],
            env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    finally:
        shutil.rmtree(folder)
    assert done.stdout == "polling collect ['a.jsonl']\n", done.stderr


def test_an_unreadable_folder_is_logged_once_and_not_taken_for_empty(tmp_path: Path) -> None:
    """A folder that cannot be listed for a while loses nothing: its files are not reported as deleted."""

    async def main() -> None:
        folder = tmp_path / "tasks"
        folder.mkdir()
        append(folder / "a.jsonl")
        calls = Calls()
        watcher = Watcher([Watched(folder, ".jsonl", "collect")], on_change=calls, log=calls.log)
        await asyncio.sleep(0.05)
        assert watcher.sweep()
        folder.rename(tmp_path / "aside")
        folder.symlink_to("tasks")  # a link to itself: listing it fails for root too
        assert watcher.sweep() == {}
        assert watcher.sweep() == {}
        assert [event for event, _ in calls.logged] == ["watch_folder_unreadable"]
        folder.unlink()
        (tmp_path / "aside").rename(folder)
        assert watcher.sweep() == {}

    asyncio.run(main())


def test_a_look_that_hangs_keeps_no_process(tmp_path: Path) -> None:
    """A folder that does not answer, as in a dead file system, leaves its thread behind, and the process ends."""
    (tmp_path / "loop").symlink_to("loop")  # cannot be listed; to tell so is what hangs here
    code = """
import asyncio, sys, threading
from pathlib import Path
from cortex_autolearn.watch import Watched, Watcher

hangs = threading.Event()

def log(event, **keys):
    if event == "watch_folder_unreadable":
        hangs.set()
        threading.Event().wait()

async def main():
    watcher = Watcher([Watched(Path(sys.argv[1]), ".jsonl", "collect")], on_change=print, polling="always", log=log)
    running = asyncio.create_task(watcher.run(asyncio.Event()))
    while not hangs.is_set():
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])

asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "loop")], check=True, timeout=PATIENCE_S)


def test_sweeps_and_events_from_many_threads_report_each_change_once(tmp_path: Path) -> None:
    """A sweep in another thread and the watcher never both report, or both miss, one change."""

    async def main() -> None:
        async with watching(tmp_path) as (watcher, calls):
            swept: list[set[Path]] = []
            done = threading.Event()

            def sweep() -> None:
                while not done.is_set():
                    swept.extend(watcher.sweep().values())

            sweeper = asyncio.create_task(asyncio.to_thread(sweep))
            wanted = {tmp_path / f"{i}.jsonl" for i in range(200)}
            for path in wanted:
                append(path)
                await asyncio.sleep(0.001)
            await calls.until(lambda: calls.paths() | {path for paths in swept for path in paths} == wanted)
            done.set()
            await sweeper

    asyncio.run(main())


def test_latency_from_write_to_call(tmp_path: Path) -> None:
    """Half of the writes are reported well within 100 ms, and none waits for a sweep."""

    async def main() -> None:
        file, latencies = tmp_path / "a.jsonl", []
        async with watching(tmp_path) as (_, calls):
            for i in range(1, 13):
                await asyncio.sleep(0.05 + 0.021 * i)
                began = time.monotonic()
                append(file)
                await calls.until(lambda i=i: calls.sizes.get(file) == 2 * i)  # type: ignore[misc]
                latencies.append(time.monotonic() - began)
        assert statistics.median(latencies) < 0.1
        assert max(latencies) < 2

    asyncio.run(main())


def test_it_stops_while_a_storm_lasts(tmp_path: Path) -> None:
    """Stopping takes less than a second, whatever goes on; `watching` asserts it."""

    async def main() -> None:
        done = threading.Event()

        def storm() -> None:
            while not done.is_set():
                append(tmp_path / "a.jsonl")

        async with watching(tmp_path) as (_, calls):
            storming = asyncio.create_task(asyncio.to_thread(storm))
            await calls.until(lambda: len(calls.made) > 2)
        done.set()
        await storming

    asyncio.run(main())


def test_cancelling_it_leaves_nothing_running(tmp_path: Path) -> None:
    """A cancelled watcher ends its thread and raises the cancellation on."""

    async def main() -> None:
        running = asyncio.create_task(
            Watcher([Watched(tmp_path, ".jsonl", "collect")], on_change=Calls()).run(asyncio.Event())
        )
        await asyncio.sleep(0.1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(1):
                await running
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
server:/export /mnt/share nfs4 rw 0 0
/dev/vdb /mnt/share/local ext4 rw 0 0
me@host: /home/me/with\\040space fuse.sshfs rw 0 0
C:\\134 /mnt/c 9p rw 0 0
/dev/vdc /mnt/over ext4 rw 0 0
//box/share /mnt/over cifs rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/tree", None),
        ("/mnt/share", "nfs4"),
        ("/mnt/share/a/b", "nfs4"),
        ("/mnt/shared", None),
        ("/mnt/share/local/x", None),
        ("/home/me/with space/x", "fuse.sshfs"),
        ("/mnt/c/Users", "9p"),
        ("/mnt/over/x", "cifs"),
    ],
)
def test_network_file_systems_are_known(path: str, kind: str | None) -> None:
    """The innermost mount decides, the last of two on one point, and spaces in it are read."""
    assert network_filesystem(path, MOUNTS) == kind
