"""The state and the files that are committed with it: all of a transaction or nothing, also for whoever comes next."""

from __future__ import annotations

import fcntl
import json
import os
import queue
import re
import shutil
import sqlite3
import threading
import tracemalloc
from array import array
from contextlib import closing, nullcontext, suppress
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import NOW, Rooms, events, good, quick_folder

from cortex_autolearn.adapters.store import Store
from cortex_autolearn.adapters.store.metering import last_successes
from cortex_autolearn.adapters.store.refining import Ascending, any_of_cortex
from cortex_autolearn.adapters.store.running import OUTRANKED
from cortex_autolearn.adapters.tree import Tree
from cortex_autolearn.jobs import state_bytes
from cortex_autolearn.model import layout
from cortex_autolearn.model.judging import Label
from cortex_autolearn.model.runs import Run
from cortex_autolearn.ports import BoundaryError, OutputDamagedError
from cortex_autolearn.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILE = f"{layout.QUARANTINE}/20251127.jsonl"
NOW_TEXT = f"{NOW:%Y-%m-%dT%H:%M:%SZ}"
OTHER = f"{layout.OUTCOMES}/training/20251127.jsonl"


class CutOffError(Exception):
    """What a test raises in the middle of a transaction."""


@pytest.fixture
def root() -> Iterator[Path]:
    with quick_folder() as path:
        yield path


def opened(root: Path, troubles: list[BoundaryError] | None = None) -> Store:
    return Store(Tree(root), FakeClock(NOW), ([] if troubles is None else troubles).append)


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    made = opened(root)
    yield made
    made.close()


def open_and_close(root: Path) -> None:
    """Do what every process does that starts, and nothing else."""
    opened(root).close()


class TestAppending:
    def test_what_is_appended_is_committed_with_the_transaction(self, root: Path, store: Store) -> None:
        """Positions follow each other, within a transaction and between transactions."""
        with store.write() as transaction:
            assert transaction.append(FILE, b"one\n") == 0
            assert transaction.append(FILE, b"two\n") == 4
            assert transaction.output_length(FILE) == 8
        with store.write() as transaction:
            assert transaction.append(FILE, b"three\n") == 8
        assert (root / FILE).read_bytes() == b"one\ntwo\nthree\n"

    def test_what_was_not_committed_is_cut_before_the_next_append(self, root: Path, store: Store) -> None:
        """A transaction that failed leaves nothing that counts."""
        with store.write() as transaction:
            transaction.append(FILE, b"one\n")
        with pytest.raises(CutOffError), store.write() as transaction:
            transaction.append(FILE, b"never\n")
            transaction.append(OTHER, b"never\n")
            transaction.event("medallion_run")
            raise CutOffError
        with store.write() as transaction:
            assert transaction.append(FILE, b"two\n") == 4
            assert transaction.append(OTHER, b"first\n") == 0
        assert (root / FILE).read_bytes() == b"one\ntwo\n"
        assert (root / OTHER).read_bytes() == b"first\n"
        assert events(root) == []

    def test_what_was_not_committed_is_cut_at_once(self, root: Path, store: Store) -> None:
        """A file that nobody appends to any more does not keep the lines of a transaction that failed until a restart."""
        with store.write() as transaction:
            transaction.append(FILE, b"one\n")
        with pytest.raises(CutOffError), store.write() as transaction:
            transaction.append(FILE, b"never\n")
            transaction.append(OTHER, b"never\n")
            raise CutOffError
        assert (root / FILE).read_bytes() == b"one\n"
        assert not (root / OTHER).exists()

    def test_what_cannot_be_taken_back_hides_no_cause(self, root: Path, store: Store) -> None:
        """Whoever fails hears why, though the file that it had written is in nobody's reach any more."""
        with pytest.raises(CutOffError), store.write() as transaction:
            transaction.stage(FILE, [b"never\n"])
            (temporary,) = (root / FILE).parent.glob(".*.tmp")
            temporary.unlink()
            temporary.mkdir()  # which cannot be unlinked
            raise CutOffError

    def test_what_was_not_committed_is_cut_when_the_state_is_opened(self, root: Path, store: Store) -> None:
        """Nobody needs to append to that very file: a reader of it sees no line that was never committed."""
        with store.write() as transaction:
            transaction.append(FILE, b"one\n")
        with (root / FILE).open("ab") as file:
            file.write(b"what a killed process left\n")
        (root / OTHER).parent.mkdir(parents=True)
        with pytest.raises(CutOffError), store.write() as transaction:
            transaction.append(OTHER, b"never\n")
            raise CutOffError
        open_and_close(root)
        assert (root / FILE).read_bytes() == b"one\n"
        assert not (root / OTHER).exists() or (root / OTHER).read_bytes() == b""

    @pytest.mark.parametrize("damage", ["removed", "cut"])
    def test_a_committed_file_that_lost_bytes_is_told(self, root: Path, store: Store, damage: str) -> None:
        """Nothing is appended behind a hole; whoever may mend it is told which file it is."""
        with store.write() as transaction:
            transaction.append(FILE, b"one\ntwo\n")
        if damage == "removed":
            (root / FILE).unlink()
        else:
            os.truncate(root / FILE, 3)
        with pytest.raises(OutputDamagedError, match="0 of 8|3 of 8") as raised, store.write() as transaction:
            transaction.append(FILE, b"three\n")
        assert raised.value.relative == FILE
        assert raised.value.retryable

    def test_more_files_than_may_be_open_at_once(self, root: Path, store: Store) -> None:
        """One transaction may touch any number of days."""
        names = [f"{layout.QUARANTINE}/2025{number:04d}.jsonl" for number in range(500)]
        before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
        with store.write() as transaction:
            for turn in range(2):
                for name in names:
                    assert transaction.append(name, b"x\n") == 2 * turn
        assert {(root / name).read_bytes() for name in names} == {b"x\nx\n"}
        assert not before or len(os.listdir("/proc/self/fd")) <= before + 2

    @pytest.mark.parametrize("where", ["inside", "outside"])
    @pytest.mark.parametrize("begun", [False, True])
    def test_a_link_in_the_place_of_a_file_is_not_followed(
        self, root: Path, store: Store, tmp_path: Path, where: str, begun: bool
    ) -> None:
        """What it leads to is neither written nor cut, by an append or at the start of another process."""
        precious = (root if where == "inside" else tmp_path) / "precious"
        precious.write_bytes(b"precious")
        if begun:
            with store.write() as transaction:
                transaction.append(FILE, b"one\n")
            (root / FILE).unlink()
        (root / FILE).parent.mkdir(parents=True, exist_ok=True)
        (root / FILE).symlink_to(precious)
        for step in (open_and_close, self.append_one, open_and_close):
            with suppress(BoundaryError):
                step(root)
        assert precious.read_bytes() == b"precious"

    @staticmethod
    def append_one(root: Path) -> None:
        store = opened(root)
        try:
            with store.write() as transaction:
                transaction.append(FILE, b"one\n")
        finally:
            store.close()


THEIRS = b'{"task_id":"x","output":"kept by another collector","quality_score":4.5}\n'


class TestOtherWriters:
    """The original collector of Cortex, left running, appends to our files."""

    @pytest.fixture
    def rooms(self, root: Path) -> Iterator[Rooms]:
        made = Rooms(root)
        made.put("a.jsonl", *[good(f"t{number}") for number in range(9)])
        made.everything()
        yield made
        made.close()

    def outcomes(self, rooms: Rooms) -> Path:
        return rooms.outcomes / "training" / "20251126.jsonl"

    def aside(self, rooms: Rooms) -> list[bytes]:
        return [path.read_bytes() for path in rooms.root.rglob("*.orphan-*")]

    @pytest.mark.parametrize(
        "tail",
        [
            THEIRS,
            THEIRS[:-1],
            THEIRS[:30] + b"\n",
            b"no JSON at all",
            b'[{"task_id":"x"}]\n',
            b'{"task_id":"x","result":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
            b'{\n  "task_id": "x"\n}\n',
            b'{"task_id":"caf\xe9"}\n',
            b'{"caf\xe9":1}\n',
            b'{"quality_score":5,"task_id":"x","split":"training","collected_at":"now","source":{"file":"f","offset":0}}\n',
        ],
    )
    @pytest.mark.parametrize("how", ["opened", "appended to", "rewritten"])
    def test_their_lines_are_kept_aside(self, rooms: Rooms, tail: bytes, how: str) -> None:
        """Whoever comes next, a start, an append or a rewriting: our file is ours again, and theirs is beside it."""
        path = self.outcomes(rooms)
        before = path.read_bytes()
        with path.open("ab") as file:
            file.write(tail)
        if how == "opened":
            open_and_close(rooms.root)
            assert path.read_bytes() == before
        elif how == "appended to":
            rooms.put("a.jsonl", *[good(f"more{number}") for number in range(9)])
            rooms.everything()
            assert path.read_bytes().startswith(before)
        else:
            rooms.put(
                "a.jsonl", good(json.loads(before.splitlines()[0])["task_id"], error="late", completed_at=NOW_TEXT)
            )
            rooms.everything()
            assert set(path.read_bytes().splitlines()) < set(before.splitlines())
        assert self.aside(rooms) == [tail]
        open_and_close(rooms.root)
        assert self.aside(rooms) == [tail]

    @pytest.mark.parametrize("folder", ["outcomes", "examples"])
    def test_what_a_killed_process_left_is_not(self, rooms: Rooms, folder: str) -> None:
        """Wherever its last line is torn, also where it begins or lacks nothing but the line feed."""
        path = self.outcomes(rooms)
        if folder == "examples":
            path = rooms.root / layout.training_view_file("training", 20251126)
        before = path.read_bytes()
        own = b"".join(before.splitlines(keepends=True)[:2])
        for cut in (1, 5, 11, 30, len(own) // 2, len(own) - 2, len(own) - 1, len(own)):
            for zeros in (b"", bytes(9)):
                path.write_bytes(before + own[:cut] + zeros)
                if zeros and own[:cut][-1:] != b"\n":
                    continue  # a line with zeros in it is kept: harmless, and nothing tells whose it is
                open_and_close(rooms.root)
                assert path.read_bytes() == before
                assert self.aside(rooms) == []

    def test_lines_of_both_are_kept_together(self, rooms: Rooms) -> None:
        """What a killed process left does not make theirs ours, nor does a torn line that theirs completes."""
        path = self.outcomes(rooms)
        before = path.read_bytes()
        own = before.splitlines(keepends=True)[0]
        for tail in (own + THEIRS, own[:50] + THEIRS):
            path.write_bytes(before + tail)
            open_and_close(rooms.root)
            assert path.read_bytes() == before
            assert tail in self.aside(rooms)

    def test_what_cannot_be_kept_is_not_cut(self, rooms: Rooms) -> None:
        """The state opens nevertheless; only appending there is refused, until there is room."""
        path = self.outcomes(rooms)
        committed = path.stat().st_size
        with path.open("ab") as file:
            file.write(THEIRS)
        whole = path.read_bytes()
        aside = path.with_name(f"{path.name}.orphan-{path.stat().st_mtime_ns}")
        aside.mkdir()  # nothing can be renamed to there
        store = opened(rooms.root)
        assert path.read_bytes() == whole
        relative = layout.outcomes_file("training", 20251126)
        with pytest.raises(BoundaryError, match="keep what another program appended"), store.write() as transaction:
            transaction.append(relative, b"ours\n")
        assert path.read_bytes() == whole
        aside.rmdir()
        with store.write() as transaction:
            assert transaction.append(relative, b"ours\n") == committed
        assert aside.read_bytes() == THEIRS
        store.close()

    def test_a_transaction_that_fails_leaves_theirs(self, rooms: Rooms) -> None:
        """What it appended itself is known to be ours; what came behind it meanwhile is not."""
        path = self.outcomes(rooms)
        before = path.read_bytes()
        with pytest.raises(CutOffError), rooms.store.write() as transaction:
            transaction.append(layout.outcomes_file("training", 20251126), b"ours\n")
            with path.open("ab") as file:
                file.write(THEIRS)
            raise CutOffError
        assert path.read_bytes() == before
        assert self.aside(rooms) == [THEIRS]
        with pytest.raises(CutOffError), rooms.store.write() as transaction:
            transaction.append(layout.outcomes_file("training", 20251126), b"ours\n")
            raise CutOffError
        assert len(self.aside(rooms)) == 1


class TestDurability:
    def test_every_byte_is_on_the_disk_before_the_commit_that_counts_it(
        self, root: Path, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a power cut leaves is never less than what the state says: fsync comes first, for every file."""
        unsynced: set[int] = set()
        at_commit: list[set[int]] = []
        real = {name: getattr(os, name) for name in ("pwrite", "pwritev", "write", "fsync")}

        def watch(name: str) -> Callable[..., Any]:
            def call(opened: int, *rest: Any) -> Any:
                (unsynced.discard if name == "fsync" else unsynced.add)(opened)
                return real[name](opened, *rest)

            return call

        for name in real:
            monkeypatch.setattr(os, name, watch(name))
        store._connection.set_trace_callback(lambda sql: at_commit.append(set(unsynced)) if sql == "COMMIT" else None)
        for turn in range(3):
            with store.write() as transaction:
                transaction.append(FILE, b"one\n")
                transaction.append(OTHER, b"one\n")
                if turn:
                    transaction.stage(f"{layout.SILVER}/20251127.autolearn.jsonl", [b"line\n"])
        store._connection.set_trace_callback(None)
        assert at_commit == [set(), set(), set()]


class TestStaging:
    """What stands between a commit and the rename that follows it."""

    def killed_before_the_rename(self, root: Path) -> Path:
        """A file of four bytes whose successor of eight is committed and not renamed; returns the successor."""
        store = opened(root)
        with store.write() as transaction:
            transaction.append(FILE, b"old\n")
        store.close()
        successor = (root / FILE).with_name(".successor.tmp")
        successor.write_bytes(b"the new\n")
        with closing(sqlite3.connect(root / layout.STATE)) as connection, connection:
            connection.execute("UPDATE outputs SET length = 8, staged = ? WHERE path = ?", (successor.name, FILE))
        return successor

    def test_the_next_start_renames(self, root: Path) -> None:
        """A kill between commit and rename is made up for."""
        self.killed_before_the_rename(root)
        open_and_close(root)
        assert (root / FILE).read_bytes() == b"the new\n"

    def test_a_removed_folder_does_not_lock_the_state_up(self, root: Path) -> None:
        """The state opens; the file is short, which whoever wrote it mends."""
        self.killed_before_the_rename(root)
        shutil.rmtree((root / FILE).parent)
        open_and_close(root)
        assert not (root / FILE).exists()

    def test_a_folder_in_the_way_is_set_aside(self, root: Path) -> None:
        """It is no reason to refuse every transaction."""
        self.killed_before_the_rename(root)
        (root / FILE).unlink()
        (root / FILE).mkdir()
        open_and_close(root)
        assert (root / FILE).read_bytes() == b"the new\n"

    def test_a_lost_successor_is_not_taken_for_renamed(self, root: Path) -> None:
        """Rows point into the successor: the older file must not stand for it."""
        self.killed_before_the_rename(root).unlink()
        open_and_close(root)
        assert not (root / FILE).exists()
        (aside,) = (root / FILE).parent.glob("*.orphan-*")
        assert aside.read_bytes() == b"old\n"


class TestReplacing:
    def test_a_staged_file_takes_its_place_with_the_commit(self, root: Path, store: Store) -> None:
        """Readers see the old content or the new, and no temporary file is left."""
        with store.write() as transaction:
            transaction.append(FILE, b"old old old\n")
        with store.write() as transaction:
            transaction.stage(FILE, [b"new", b"\n"])
            assert (root / FILE).read_bytes() == b"old old old\n"
        assert (root / FILE).read_bytes() == b"new\n"
        with store.write() as transaction:
            assert transaction.append(FILE, b"more\n") == 4
        assert [path.name for path in (root / FILE).parent.iterdir()] == ["20251127.jsonl"]

    def test_a_staged_file_of_a_failed_transaction_is_gone(self, root: Path, store: Store) -> None:
        """The old content stands."""
        with store.write() as transaction:
            transaction.append(FILE, b"old\n")
        with pytest.raises(CutOffError), store.write() as transaction:
            transaction.stage(FILE, [b"new\n"])
            raise CutOffError
        assert (root / FILE).read_bytes() == b"old\n"
        assert [path.name for path in (root / FILE).parent.iterdir()] == ["20251127.jsonl"]

    def test_what_was_staged_may_not_be_made(self, root: Path, store: Store) -> None:
        """When the new content cannot be had, its error passes through and nothing has changed."""

        def breaking() -> Iterator[bytes]:
            yield b"half"
            raise CutOffError

        with pytest.raises(CutOffError), store.write() as transaction:
            transaction.stage(FILE, breaking())
        assert not (root / FILE).exists()
        assert not list((root / FILE).parent.iterdir())

    def test_a_commit_whose_rename_is_missing_is_completed_by_whoever_comes_next(
        self, root: Path, store: Store
    ) -> None:
        """Killed between the two, the new content is committed: the next opening puts it in its place."""
        with store.write() as transaction:
            transaction.append(FILE, b"old\n")
        staged = (root / FILE).with_name(".20251127.jsonl.0123456789abcdef.tmp")
        staged.write_bytes(b"new content\n")
        connection = sqlite3.connect(root / layout.STATE)
        connection.execute("UPDATE outputs SET length = 12, staged = ? WHERE path = ?", (staged.name, FILE))
        connection.commit()
        connection.close()
        for _ in range(2):
            open_and_close(root)
            assert (root / FILE).read_bytes() == b"new content\n"
            assert not staged.exists()


class TestEvents:
    def test_events_are_told_once_and_in_order(self, root: Path, store: Store) -> None:
        """Each is written by the transaction that made it happen, and appended to the file afterwards."""
        for number in range(5):
            with store.write() as transaction:
                transaction.event("hq_collection", number=number, text="é\n\u2028")
                transaction.event("medallion_run", number=number)
        found = events(root)
        assert [one["seq"] for one in found] == list(range(1, 11))
        assert found[0] == {
            "event": "hq_collection",
            "timestamp": "2025-11-27T12:00:00.123456Z",
            "seq": 1,
            "number": 0,
            "text": "é\n\u2028",
        }

    @pytest.mark.parametrize("cut", [1, 40, 100_000])
    def test_a_file_that_was_cut_off_is_completed(self, root: Path, store: Store, cut: int) -> None:
        """Killed in the middle of the copy: the next one writes what is missing, and nothing twice."""
        with store.write() as transaction:
            for number in range(4):
                transaction.event("medallion_run", number=number, long="x" * 100)
        path = root / layout.EVENTS
        whole = path.read_bytes()
        os.truncate(path, max(0, len(whole) - cut))
        connection = sqlite3.connect(root / layout.STATE)
        connection.execute("DELETE FROM meta WHERE key = 'events_flushed'")
        connection.commit()
        connection.close()
        store.flush_events()
        assert path.read_bytes() == whole

    def test_a_new_state_goes_on_writing_events(self, root: Path) -> None:
        """When the state was moved away, its events are kept aside, and the new one's begin a file of their own."""
        store = opened(root)
        with store.write() as transaction:
            for _ in range(3):
                transaction.event("medallion_run")
        store.close()
        for path in (root / layout.AUTOLEARN).glob("state.db*"):
            path.unlink()
        store = opened(root)
        with store.write() as transaction:
            transaction.event("hq_collection")
        assert [one["event"] for one in events(root)] == ["hq_collection"]
        with store.write() as transaction:
            transaction.event("medallion_run")
        assert [one["seq"] for one in events(root)] == [1, 2]
        (aside,) = (root / layout.EVENTS).parent.glob("*.orphan-*")
        assert len(aside.read_bytes().splitlines()) == 3
        store.close()

    def test_a_rotated_file_begins_anew(self, root: Path, store: Store) -> None:
        """What is in the old file is not written again."""
        with store.write() as transaction:
            transaction.event("medallion_run")
        (root / layout.EVENTS).rename(root / f"{layout.EVENTS}.1")
        with store.write() as transaction:
            transaction.event("hq_collection")
        assert [one["event"] for one in events(root)] == ["hq_collection"]

    @pytest.mark.parametrize(
        "line",
        [b'{"seq":9223372036854775808}\n', b'{"seq":1e30}\n', b'{"seq":-1e30}\n', b'{"seq":-1}\n', b"no event\n"],
    )
    def test_a_line_of_others_stops_nothing(self, root: Path, store: Store, line: bytes) -> None:
        """Whatever number it bears: ours follow it, each once."""
        with store.write() as transaction:
            transaction.event("medallion_run")
        with (root / layout.EVENTS).open("ab") as file:
            file.write(line)
        for _ in range(2):
            with store.write() as transaction:
                transaction.event("hq_collection")
        lines = (root / layout.EVENTS).read_bytes().splitlines(keepends=True)
        assert lines.pop(1) == line
        assert [json.loads(one)["seq"] for one in lines] == [1, 2, 3]

    def test_events_that_cannot_be_written_stop_nothing(self, root: Path) -> None:
        """It is told, the transaction stands, and the next one makes up for it."""
        troubles: list[BoundaryError] = []
        store = opened(root, troubles)
        (root / layout.EVENTS).mkdir(parents=True)
        with store.write() as transaction:
            transaction.event("medallion_run")
        assert len(troubles) == 1
        (root / layout.EVENTS).rmdir()
        with store.write() as transaction:
            transaction.event("hq_collection")
        assert [one["seq"] for one in events(root)] == [1, 2]
        store.close()


class TestOpening:
    def test_a_file_that_is_no_database_is_told(self, root: Path) -> None:
        """With what to do about it; and it is left as it is."""
        (root / layout.AUTOLEARN).mkdir(parents=True)
        (root / layout.STATE).write_bytes(b"this is no database, but it may be somebody's" * 100)
        with pytest.raises(BoundaryError) as raised:
            opened(root)
        assert raised.value.hint
        assert (root / layout.STATE).read_bytes().startswith(b"this is no database")

    def test_a_state_of_a_newer_version_is_refused(self, root: Path) -> None:
        """Its tables may mean something else."""
        opened(root).close()
        connection = sqlite3.connect(root / layout.STATE)
        connection.execute("PRAGMA user_version = 999")
        connection.close()
        with pytest.raises(BoundaryError, match="999"):
            opened(root)

    def test_a_state_of_the_first_version_is_brought_up_to_date(self, root: Path) -> None:
        """What it holds stays, and what came since is there."""
        (root / layout.AUTOLEARN).mkdir(parents=True)
        connection = sqlite3.connect(root / layout.STATE)
        first = resources.files("cortex_autolearn.adapters.store.schema") / "0001_daemon.sql"
        connection.executescript(first.read_text())
        connection.execute("INSERT INTO meta (key, value) VALUES ('gated', 7)")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
        connection.close()
        store = opened(root)
        with store.read() as reading:
            assert reading.gated() == 7
            assert reading.score_totals() == (0, 0)
        store.close()

    def test_many_that_open_a_fresh_state_at_once(self, root: Path) -> None:
        """A daemon and command lines may start together on a new ROOT: none is refused."""
        failures: list[BaseException] = []
        barrier = threading.Barrier(8)

        def start(number: int) -> None:
            try:
                barrier.wait()
                store = opened(root)
                with store.write() as transaction:
                    transaction.event("daemon_started", number=number)
                store.close()
            except BaseException as error:  # noqa: BLE001 - shown by the assertion
                failures.append(error)

        threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert sorted(one["number"] for one in events(root)) == list(range(8))

    def test_files_that_are_older_than_the_state_are_kept_aside(self, root: Path) -> None:
        """The state was lost: what was collected stays on the disk, is not read twice, and bronze is read again."""
        rooms = Rooms(root)
        rooms.put("a.jsonl", *[good(f"t{number}") for number in range(5)])
        rooms.everything()
        before = sorted(path.read_bytes() for path in (root / layout.AUTOLEARN).rglob("*.jsonl"))
        rooms.close()
        for path in (root / layout.AUTOLEARN).glob("state.db*"):
            path.unlink()
        for path in [*rooms.silver.iterdir(), *rooms.outcomes.rglob("*.jsonl")]:
            os.utime(path, (1, 1))
        rooms = Rooms(root)
        rooms.everything()
        assert len(rooms.collected()) == 5
        aside = (root / layout.AUTOLEARN).rglob("*orphan*")
        assert sorted(path.read_bytes() for path in aside) == before
        rooms.close()

    def test_a_copy_of_the_state_that_is_restored(self, root: Path) -> None:
        """What the README tells to copy while it is open brings all back, and what came since is taken in once."""
        readme = (Path(__file__).resolve().parents[1] / "README.md").read_text("utf-8")
        (statement,) = re.findall(
            r'^sqlite3 "\$CORTEX_HOME/llm-mesh/auto-learning/state\.db" "(.*)"$', readme, re.MULTILINE
        )
        copy = root / "state-copy.db"
        rooms = Rooms(root)
        rooms.put("a.jsonl", *[good(f"t{number}") for number in range(5)])
        rooms.everything()
        with rooms.store.write() as transaction:
            transaction.put_label(Label("t1", 4.5, "", "ada", 0))
        with closing(sqlite3.connect(root / layout.STATE)) as connection:
            connection.execute(statement.replace("state-copy.db", str(copy)))
        rooms.put("b.jsonl", *[good(f"u{number}") for number in range(5)])
        rooms.everything()
        rooms.close()
        for path in (root / layout.AUTOLEARN).glob("state.db*"):
            path.unlink()
        copy.rename(root / layout.STATE)
        rooms = Rooms(root)
        rooms.everything()
        assert sorted(rooms.collected()) == [f"{letter}{number}" for letter in "tu" for number in range(5)]
        with rooms.store.read() as reading:
            assert reading.labels_of(["t1"]) == {"t1": 4.5}
        rooms.close()

    def test_readers_never_wait_for_a_writer(self, root: Path, store: Store) -> None:
        """And see one consistent state, that of before."""
        with store.write() as transaction:
            transaction.append(FILE, b"one\n")
        with store.write() as transaction:
            transaction.append(FILE, b"two\n")
            with store.read() as reading:
                assert reading.outputs(layout.QUARANTINE) == {FILE: 4}

    def test_what_sqlite_logs_takes_no_more_room_than_it_needs(self, root: Path, store: Store) -> None:
        """A look that lasts keeps what is written beside it in the log; when it is over, the room is given back."""

        def write(lines: int) -> None:
            with store.write() as transaction:
                for _ in range(lines):
                    transaction.event("a", text="x" * 1_000_000)

        with store.read() as reading:
            assert reading.last_event_seq() == 0
            for _ in range(10):
                write(4)
            large = state_bytes(root)
        for _ in range(5):
            write(1)
        log = root / f"{layout.STATE}-wal"
        assert large > 40_000_000
        assert log.stat().st_size < 20_000_000

    def test_one_writer_at_a_time(self, root: Path, store: Store) -> None:
        """Threads and processes take turns, so that files and rows belong together."""
        other = opened(root)
        total = 200

        def work(mine: Store, name: str) -> None:
            for number in range(total):
                with mine.write() as transaction:
                    start = transaction.append(FILE, json.dumps([name, number]).encode() + b"\n")
                    assert start == transaction.output_length(FILE) - len(json.dumps([name, number])) - 1

        threads = [threading.Thread(target=work, args=one) for one in ((store, "a"), (other, "b"), (store, "c"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found: dict[str, list[int]] = {}
        for one in (root / FILE).read_bytes().splitlines():
            name, number = json.loads(one)
            found.setdefault(name, []).append(number)
        assert found == {name: list(range(total)) for name in "abc"}
        other.close()

    def test_whoever_is_kept_waiting_for_long_says_so(self, root: Path) -> None:
        """A process that was stopped in a transaction (Ctrl-Z, a dead disk) holds up all others: silently it must not."""
        told: queue.SimpleQueue[BoundaryError] = queue.SimpleQueue()
        store = Store(Tree(root), FakeClock(NOW), told.put, patience_s=0.05)
        held = os.open(root / layout.WRITER_LOCK, os.O_RDWR)
        fcntl.flock(held, fcntl.LOCK_EX)

        def write() -> None:
            with store.write() as transaction:
                transaction.append(FILE, b"one\n")

        waiting = threading.Thread(target=write)
        waiting.start()
        trouble = told.get(timeout=20)
        assert (trouble.operation, trouble.retryable) == ("lock", True)
        assert layout.WRITER_LOCK in trouble.subject
        assert waiting.is_alive()
        os.close(held)
        waiting.join(20)
        assert (root / FILE).read_bytes() == b"one\n"
        assert told.empty()
        store.close()

    @pytest.mark.parametrize("what", ["database", "lock"])
    def test_a_folder_in_the_place_of_the_state_is_told(self, root: Path, what: str) -> None:
        """No traceback of SQLite's or the system's: operation, subject, hint."""
        (root / (layout.STATE if what == "database" else layout.WRITER_LOCK)).mkdir(parents=True)
        with pytest.raises(BoundaryError) as raised:
            opened(root)
        assert raised.value.hint
        assert raised.value.subject

    def test_a_link_in_the_place_of_the_lock_makes_no_file(self, root: Path) -> None:
        """Where it leads nothing is made, and the hint says what is wrong."""
        lock = root / layout.WRITER_LOCK
        lock.parent.mkdir(parents=True)
        lock.symlink_to(root / "elsewhere")
        with pytest.raises(BoundaryError) as raised:
            opened(root)
        assert "link" in raised.value.hint
        assert not (root / "elsewhere").exists()


class TestAnotherStateInItsPlace:
    """A backup is put back, ROOT moves, or a person moves the state away, while a process has it open."""

    def test_another_ones_files_are_left_alone(self, root: Path) -> None:
        """The rows that are open say nothing of the tree that stands there now: neither is written, nor read."""
        tree, gone = root / "tree", root / "gone"
        store = opened(tree)
        with store.write() as transaction:
            transaction.append(FILE, b"one\n")
        tree.rename(gone)
        restored = opened(tree)
        with restored.write() as transaction:
            transaction.append(FILE, b"restored, and longer\n")
            transaction.event("daemon_started")
        restored.close()
        told = (tree / layout.EVENTS).read_bytes()
        with pytest.raises(BoundaryError, match="another file took its place"), store.write() as transaction:
            transaction.append(FILE, b"two\n")
            transaction.event("hq_collection")
        with pytest.raises(BoundaryError, match="another file took its place"), store.read():
            pass
        with pytest.raises(BoundaryError, match="another file took its place"):
            store.flush_events()
        assert store.is_replaced()
        assert (tree / FILE).read_bytes() == b"restored, and longer\n"
        assert (tree / layout.EVENTS).read_bytes() == told
        assert (gone / FILE).read_bytes() == b"one\n"
        store.close()

    def test_one_that_was_moved_away_is_not_made_anew(self, root: Path, store: Store) -> None:
        """Looking for it leaves no empty file that would be taken for it; it may be put back."""
        aside = root / "aside"
        (root / layout.AUTOLEARN).rename(aside)
        for _ in range(2):
            with pytest.raises(BoundaryError, match="it was moved away"), store.read():
                pass
            with pytest.raises(BoundaryError, match="it was moved away"), store.write():
                pass
        assert not store.is_replaced()
        assert not (root / layout.STATE).exists()
        aside.rename(root / layout.AUTOLEARN)
        with store.write() as transaction:
            transaction.append(FILE, b"one\n")
        with store.read() as reading:
            assert reading.outputs(layout.QUARANTINE) == {FILE: 4}

    @pytest.mark.parametrize("committed", [True, False])
    def test_no_tree_is_made_where_it_moved_away_amid_a_transaction(self, root: Path, committed: bool) -> None:
        """A fleet that is busy has one under way when ROOT moves: neither it nor a file replaced whole brings it back."""
        tree, gone = root / "tree", root / "gone"
        told: list[BoundaryError] = []
        store = Store(Tree(tree), FakeClock(NOW), told.append)
        if committed:  # else its end has a file to make
            with store.write() as transaction:
                transaction.append(FILE, b"one\n")
        refused = nullcontext() if committed else pytest.raises(BoundaryError, match="No such file")
        with refused, store.write() as transaction:
            transaction.event("hq_collection")
            transaction.append(FILE, b"two\n")
            tree.rename(gone)
        with pytest.raises(BoundaryError, match="No such file"):
            Tree(tree).replace(layout.ROUTES, b"{}")
        assert not tree.exists()
        assert len(told) == committed, "the event could not be told"
        gone.rename(tree)
        with store.write() as transaction:
            transaction.append(FILE, b"three\n")
            transaction.event("daemon_stopped")
        assert (tree / FILE).read_bytes() == (b"one\ntwo\nthree\n" if committed else b"three\n")
        assert [json.loads(line)["event"] for line in (tree / layout.EVENTS).read_bytes().splitlines()] == (
            ["hq_collection", "daemon_stopped"] if committed else ["daemon_stopped"]
        )
        store.close()


def test_a_key_of_any_length_and_content_is_bound_whole(root: Path) -> None:
    """Task ids are asked for as they are, in portions of any size."""
    rooms = Rooms(root)
    ids: list[Any] = [f"t{number}" for number in range(1_300)] + ["a\0b", "a\0c", "'; DROP TABLE tasks; --", "\ud7ff"]
    rooms.put("a.jsonl", *[good(one) for one in ids])
    rooms.follow()
    with rooms.store.read() as reading:
        assert set(reading.standing(ids)) == set(ids)
        assert set(reading.standing(["a\0b", "none"])) == {"a\0b"}
        assert reading.standing([]) == {}
    rooms.close()


class TestRuns:
    def test_the_last_that_went_well_is_kept(self, store: Store) -> None:
        """However often a job has failed since: when it last ended well is told for ever, and since when it does not."""
        with store.write() as transaction:
            for number in range(1_100):
                run = Run(f"run-{number:04}", "rollout", "heartbeat", None, number, None, None, {})
                transaction.begin_run(run)
                transaction.end_run(run.run_id, "ok" if number < 2 else "failed", number)
        with store.read() as reading:
            assert last_successes(reading.connection) == {"rollout": 1}
            assert reading.last_success_us(["rollout"], 1_100) == 1
            assert reading.failing_since_us(["rollout"], 1_100) == 2
            assert reading.connection.execute("SELECT count(*) FROM runs").fetchone()[0] < 1_010

    def test_runs_of_a_clock_that_was_ahead_put_none_of_now_out_of_the_way(self, store: Store) -> None:
        """However many they were: what ran since the clock was set back is known, so that windows close by it."""

        def ran(numbers: range, result: str) -> None:
            with store.write() as transaction:
                for number in numbers:
                    run = Run(f"run-{number:05}", "silver", "watcher", None, number, None, None, {})
                    transaction.begin_run(run)
                    transaction.end_run(run.run_id, result, number)

        ran(range(50_000, 51_100), "ok")
        ran(range(10_000, 10_002), "ok")
        ran(range(10_002, 10_004), "failed")
        with store.read() as reading:
            assert reading.last_success_us(["silver"], 10_003) == 10_001
            assert reading.failing_since_us(["silver"], 10_003) == 10_002
            last = reading.last_run("silver", 10_003)
            assert last is not None
            assert last.started_us == 10_003
        ran(range(10_004, 11_100), "failed")
        with store.read() as reading:
            assert reading.last_success_us(["silver"], 11_100) == 10_001
            assert reading.failing_since_us(["silver"], 11_100) == 10_002
            assert reading.connection.execute("SELECT count(*) FROM runs").fetchone()[0] < 2_010

    def test_no_more_of_runs_and_slots_than_are_looked_at(self, store: Store) -> None:
        """A schedule of years leaves as much behind as one of weeks, and the newest slots stay done."""
        with store.write() as transaction:
            for number in range(1_100):
                run = Run(f"run-{number:04}", "collection", "schedule", f"2025-{number:04}", number, None, None, {})
                transaction.begin_run(run)
                transaction.end_run(run.run_id, "ok", number)
        with store.read() as reading:
            for table in ("runs", "slots"):
                assert reading.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 1_001
            assert reading.slot_done("collection", "2025-1099")
            assert not reading.slot_done("collection", "2025-0000")


class TestQuestions:
    def test_a_word_of_its_own_for_every_task_costs_no_memory(self, store: Store) -> None:
        """Whoever asks holds what is shown, however many words the fleet invents, and however long they are."""
        with store.write() as transaction:
            source = transaction.add_source("raw.jsonl", "1:1", 0)
            transaction.add_tasks(
                [
                    (f"t{number}", 0, 0, 0, source.id, 0, 20261122, 0, 1, None, word, None, None, 0, 0, 99, 0, 1)
                    for number in range(20_000)
                    for word in [f"{number:05}" + "x" * 500 if number < 19_990 else "passed"]
                ]
            )
        with store.read() as reading:
            tracemalloc.start()
            try:
                found = reading.unfinal_words(3, 7)
                _, most = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert found == (20_000, [("passed", 10), ("00000xx", 1), ("00001xx", 1)])
        assert most < 100_000

    @given(st.lists(st.floats(0, 1e15) | st.integers(0, 100).map(float) | st.just(86_400.5), max_size=40))
    def test_durations_are_in_ascending_order(self, durations: list[float]) -> None:
        """Whatever their order was; by place, from the end and in slices."""
        found, expected = Ascending(array("d", durations)), sorted(durations)
        assert list(found) == expected
        assert [found[-1 - place] for place in range(len(found))] == expected[::-1]
        assert found[1:5] == expected[1:5]
        with pytest.raises(IndexError):
            found[len(expected)]

    def test_a_task_of_two_origins_counts_once(self, root: Path) -> None:
        """By the record that ranks higher, whichever of the two that is."""
        rooms = Rooms(root)
        early, late = "2025-11-26T09:00:00Z", "2025-11-26T11:00:00Z"
        rooms.put("a.jsonl", good("same"), good("ours"), good("first", status="running", completed_at=...))
        rooms.put("a.jsonl", good("better", quality_score=..., completed_at=early), good("older", completed_at=late))
        rooms.follow()
        rooms.put("20251126.jsonl", good("same"), good("theirs", status="failed"), good("first"), folder=layout.SILVER)
        rooms.put("20251126.jsonl", good("better", completed_at=late), folder=layout.SILVER)
        rooms.put("20251126.jsonl", good("older", status="failed", completed_at=early), folder=layout.SILVER)
        with rooms.store.read() as reading:
            assert reading.task_totals() == (5, 4, 4, 3)
        rooms.adopt()
        with rooms.store.read() as reading:
            assert reading.task_totals() == (6, 6, 5, 5)
        rooms.close()

    def test_counting_them_costs_as_much_as_cortex_wrote(self, store: Store) -> None:
        """A fleet whose tasks are nearly all ours does not pay for each of them."""
        with store.read() as reading:
            plan = reading.connection.execute(f"EXPLAIN QUERY PLAN {OUTRANKED}").fetchall()
        scan, search = (step[-1] for step in plan)
        assert "USING INDEX tasks_of_cortex" in scan
        assert search.startswith("SEARCH b USING INDEX tasks_by_id")

    def test_asking_for_tasks_of_cortex_costs_nothing(self, store: Store) -> None:
        """Every step asks: it must not go through all tasks."""
        asked: list[str] = []
        with store.read() as reading:
            reading.connection.set_trace_callback(asked.append)
            assert not any_of_cortex(reading.connection)
            reading.connection.set_trace_callback(None)
            (query,) = asked
            plan = reading.connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
        assert all("SEARCH tasks USING" in row[-1] and "tasks_of_cortex" in row[-1] for row in plan)

    def test_letting_a_day_go_costs_as_much_as_its_tasks(self, store: Store) -> None:
        """Nobody may write meanwhile, and there may be a year of other days, and as many days to let go."""
        asked: list[str] = []
        with store.write() as transaction:
            transaction.connection.set_trace_callback(asked.append)
            assert transaction.release_silver(20251126, layout.silver_file(20251126))
            transaction.connection.set_trace_callback(None)
            for query in asked:
                plan = transaction.connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
                assert not any(row[-1].startswith("SCAN tasks") for row in plan), query
