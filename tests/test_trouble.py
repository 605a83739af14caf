"""Full disks, read-only folders and files that vanish: a clear word, nothing corrupt, and the next run recovers."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from support import Handle, Rooms, check_compacted, check_state, good, line, other_lines, quick_folder, silver_bytes

from cortex_autolearn.model import layout
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.testing import Fleet, append

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


@contextmanager
def mounted(folder: Path, *options: str | Path) -> Iterator[Path]:
    """A mount at ``folder``, gone afterwards."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    folder.mkdir(parents=True, exist_ok=True)
    made = run("mount", *options, folder)
    if made.returncode:
        pytest.skip(f"mounting is not allowed here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        run("umount", "-l", folder)


@pytest.fixture
def expected() -> Iterator[Path]:
    """The same fleet's root, undisturbed."""
    with quick_folder() as root:
        deliver(root)
        rooms = Rooms(root)
        rooms.everything()
        rooms.close()
        yield root


def deliver(root: Path) -> None:
    fleet = Fleet(5, start=datetime(2025, 11, 24, tzinfo=UTC), tasks_per_day=80)
    for write in fleet.writes(2):
        append(root, write)


def check_same(root: Path, expected: Path) -> None:
    check_state(root)
    check_compacted(root)
    assert silver_bytes(root) == silver_bytes(expected)
    assert other_lines(root) == other_lines(expected)


class TestDiskFull:
    @pytest.mark.parametrize(
        "free_kib", [0, 16, 48, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 1024]
    )
    def test_a_disk_that_fills_up_anywhere(self, tmp_path: Path, expected: Path, free_kib: int) -> None:
        """Wherever the space ends, the run says so, and once there is some the next run gives what it must."""
        with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=8m", "tmpfs") as root:
            deliver(root)
            ballast = root / "ballast"
            status = os.statvfs(root)
            ballast.write_bytes(b"\0" * max(0, status.f_bavail * status.f_frsize - free_kib * 1024))
            raised = None
            try:
                rooms = Rooms(root)
            except BoundaryError as error:
                raised = error
            else:
                for step in (rooms.follow, rooms.adopt, rooms.collect, rooms.gold):
                    try:
                        step()
                    except BoundaryError as error:
                        raised = error
                rooms.close()
            if free_kib < 256:
                assert raised is not None
            if raised is not None:
                assert "space" in raised.hint.lower(), raised
                assert raised.operation
                assert raised.subject
            ballast.unlink()
            rooms = Rooms(root)
            rooms.everything()
            rooms.close()
            check_same(root, expected)

    def test_the_same_process_goes_on_when_there_is_space_again(self, tmp_path: Path, expected: Path) -> None:
        """A daemon need not be restarted: its next run continues on the same connection."""
        with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=8m", "tmpfs") as root:
            rooms = Rooms(root)
            deliver(root)
            ballast = root / "ballast"
            status = os.statvfs(root)
            ballast.write_bytes(b"\0" * (status.f_bavail * status.f_frsize - 64 * 1024))
            with pytest.raises(BoundaryError):
                rooms.everything()
            with pytest.raises(BoundaryError):
                rooms.everything()
            ballast.unlink()
            rooms.everything()
            rooms.close()
            check_same(root, expected)


class TestReadOnly:
    @pytest.mark.parametrize(
        "folder",
        [
            layout.SILVER,
            layout.QUARANTINE,
            layout.AUTOLEARN,
            layout.OUTCOMES,
            layout.TRAINING_VIEW,
            layout.ANALYTICS,
            layout.REPORTS,
        ],
    )
    def test_a_folder_that_is_read_only(self, tmp_path: Path, expected: Path, folder: str) -> None:
        """The run says which one it is; once it can be written, the next run gives what it must."""
        root = tmp_path / "root"
        deliver(root)
        place = root / folder
        place.mkdir(parents=True)
        with mounted(place, "--bind", place):
            made = run("mount", "-o", "remount,ro,bind", place)
            if made.returncode:
                pytest.skip(f"a read-only mount is not allowed here: {made.stderr.strip()}")
            with pytest.raises(BoundaryError) as raised, Rooms(root) as rooms:
                rooms.everything()
            assert str(place) in raised.value.subject
            assert "read-only" in str(raised.value).lower() or "permission" in raised.value.hint.lower()
            assert raised.value.hint
        rooms = Rooms(root)
        rooms.everything()
        rooms.close()
        check_same(root, expected)

    def test_read_only_bronze_is_enough(self, tmp_path: Path, expected: Path) -> None:
        """Bronze is never changed by us."""
        root = tmp_path / "root"
        deliver(root)
        place = root / layout.BRONZE
        with mounted(place, "--bind", place):
            if run("mount", "-o", "remount,ro,bind", place).returncode:
                pytest.skip("a read-only mount is not allowed here")
            rooms = Rooms(root)
            rooms.everything()
            rooms.close()
        check_same(root, expected)


class TestVanishing:
    """Files that are there when the folder is looked at, and gone when they are opened."""

    @staticmethod
    def racing(rooms: Rooms, method: str, act: Any, when: str) -> Rooms:
        """Rooms over the same root, where ``act`` happens right before the first such call about ``when``."""

        class Racing:
            done = False

            def __getattr__(self, name: str) -> Any:
                real = getattr(rooms.tree, name)
                if name != method:
                    return real

                def call(relative: str, *rest: Any) -> Any:
                    if when in relative and not self.done:
                        self.done = True
                        act()
                    return real(relative, *rest)

                return call

        return Rooms(rooms.root, files=Racing())

    @pytest.fixture
    def rooms(self) -> Iterator[Rooms]:
        with quick_folder() as root:
            made = Rooms(root)
            yield made
            made.close()

    def test_a_bronze_file_that_vanishes_is_read_when_it_is_back(self, rooms: Rooms) -> None:
        """The others are read; it is no error that somebody removed a file."""
        path = rooms.put("b.jsonl", good("b"))
        rooms.put("a.jsonl", good("a"))
        rooms.put("c.jsonl", good("c"))
        racing = self.racing(rooms, "open_input", path.unlink, "b.jsonl")
        racing.follow()
        assert racing.tasks() == ["a", "c"]
        racing.close()
        rooms.put("b.jsonl", good("b"))
        rooms.refine()
        assert rooms.tasks() == ["a", "b", "c"]

    def test_a_bronze_file_that_is_cut_while_it_is_read(self, rooms: Rooms) -> None:
        """What was read is taken, and what is written next is found."""
        path = rooms.put("a.jsonl", *[good(f"t{number}") for number in range(2_000)])
        racing = self.racing(rooms, "open_input", lambda: os.truncate(path, 1_000), "a.jsonl")
        racing.follow()
        racing.close()
        path.write_bytes(b"")
        rooms.refine()
        rooms.put("a.jsonl", good("new"))
        rooms.refine()
        assert "new" in rooms.tasks()
        check_state(rooms.root)

    @pytest.mark.parametrize("way", ["compact", "rewrite"])
    def test_an_output_that_vanishes_in_the_middle_of_a_run_loses_nothing(self, rooms: Rooms, way: str) -> None:
        """Between the look at a file and its opening it is removed: the run fails, and the next one mends."""
        rooms.put("a.jsonl", *[good(f"t{number}") for number in range(10)])
        rooms.everything()
        before = rooms.collected()
        rooms.put("a.jsonl", *[good(f"t{number}", completed_at="2025-11-26T11:00:00Z") for number in range(5)])
        rooms.follow()
        path = rooms.silver / "20251126.autolearn.jsonl"
        if way == "rewrite":
            path = rooms.outcomes / "training" / "20251126.jsonl"
        racing = self.racing(rooms, "open_input", path.unlink, str(path.relative_to(rooms.root)))
        with pytest.raises(BoundaryError) as raised:
            if way == "compact":
                racing.medallion.compact(Handle())
            else:
                racing.collect()
        assert raised.value.retryable
        racing.close()
        rooms.everything()
        assert rooms.collected() == before
        assert sorted(rooms.tasks()) == sorted(f"t{number}" for number in range(10))
        check_state(rooms.root)
        check_compacted(rooms.root)

    def test_the_whole_silver_folder_vanishes(self, rooms: Rooms) -> None:
        """It is made again, with what was in it."""
        rooms.put("a.jsonl", *[good(f"t{number}") for number in range(10)])
        rooms.everything()
        before = silver_bytes(rooms.root)
        for path in rooms.silver.iterdir():
            path.unlink()
        rooms.silver.rmdir()
        rooms.everything()
        assert silver_bytes(rooms.root) == before

    def test_bronze_that_was_never_there(self) -> None:
        """A fleet that has written nothing yet is no trouble."""
        with quick_folder() as root:
            rooms = Rooms(root)
            rooms.bronze.rmdir()
            counts, tally = rooms.everything()
            assert (counts["files"], tally["processed"]) == (0, 0)
            rooms.bronze.mkdir()
            (rooms.bronze / "a.jsonl").write_bytes(line(good("a")))
            assert rooms.everything()[1]["high_quality"] == 1
            rooms.close()
