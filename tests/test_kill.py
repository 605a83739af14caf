"""Killed at any instant, nothing is lost and nothing doubled: real processes, killed, then finished and compared.

The first tests kill at every call that changes a file, and in the middle of every write; the others at random instants.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import (
    Killer,
    check_compacted,
    check_state,
    events,
    good,
    line,
    objects,
    other_lines,
    quick_folder,
    silver_bytes,
    slow,
)

from cortex_autolearn.model import layout
from cortex_autolearn.testing import Fleet, append

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
INSTANTS = 40
MANY_INSTANTS = 200

Part = list[tuple[str, str, list[dict[str, Any] | bytes]]]
"""What is appended: folder, file, records."""

FIRST: Part = [
    (
        layout.BRONZE,
        "tasks-a.jsonl",
        [
            good("plain"),
            good("moves"),
            good("falls"),
            good("grows", status="running", completed_at=...),
            good("weak", quality_score=2),
            b"not JSON at all\n",
            line({"title": "no id"}),
            json.dumps(good("pretty", completed_at="2025-11-25T08:00:00Z"), indent=2).encode() + b"\n",
            good("undated", created_at=..., completed_at=...),
            b'{"task_id":"unfinished","st',
        ],
    ),
    (
        layout.BRONZE,
        "tasks-b.jsonl",
        [good("other", completed_at="2025-11-25T09:00:00Z"), good("plain"), good("better", quality_score=4.1)],
    ),
    (layout.SILVER, "20251126.jsonl", [good("theirs"), good("shared", quality_score=1)]),
]
SECOND: Part = [
    (
        layout.BRONZE,
        "tasks-a.jsonl",
        [b'atus":"done"}\n', good("moves", completed_at="2025-11-24T07:00:00Z", output="x" * 50)],
    ),
    (
        layout.BRONZE,
        "tasks-c.jsonl",
        [
            good("moves", completed_at="2025-11-27T07:00:00Z"),
            good("falls", completed_at="2025-11-26T11:00:00Z", error="found out later"),
            good("grows"),
            good("better", completed_at="2025-11-26T12:00:00Z", quality_score=5),
            good("shared"),
            b'{"task_id":"torn","a":1,}\n',
            good("late", completed_at="2025-11-20T07:00:00Z"),
        ],
    ),
    (layout.SILVER, "20251126.jsonl", [good("theirs", completed_at="2025-11-26T13:00:00Z", retry_count=1)]),
]


def deliver(root: Path, part: Part) -> None:
    for folder, name, records in part:
        path = root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.writelines(one if isinstance(one, bytes) else line(one) for one in records)


Picture = tuple[dict[str, bytes], dict[str, list[bytes]]]


def picture(root: Path, *, kpis: bool = True) -> Picture:
    """What a root holds in the end: silver to the byte, the rest as lines; the quarantine's days put together."""
    lines = other_lines(root)
    quarantined = sorted(one for path, found in lines.items() if layout.QUARANTINE in path for one in found)
    rest = {path: found for path, found in lines.items() if layout.QUARANTINE not in path}
    if not kpis:
        rest = {path: found for path, found in rest.items() if layout.KPIS not in path}
    return silver_bytes(root), rest | {"quarantine": quarantined}


def kept(root: Path) -> set[str]:
    """The tasks in the high-quality set."""
    return {one["task_id"] for one in objects(root / layout.OUTCOMES)}


def check(root: Path, expected: Picture, *, kpis: bool = True) -> None:
    """Check that a root which was finished after a kill is as good as one that was never disturbed."""
    check_state(root)
    check_compacted(root)
    silver, others = picture(root, kpis=kpis)
    assert silver == expected[0]
    assert others == expected[1]
    numbers = [one["seq"] for one in events(root)]
    assert numbers == list(range(1, len(numbers) + 1))
    left = [path for folder in (layout.SILVER, layout.OUTCOMES) for path in (root / folder).rglob("*orphan*")]
    assert not left


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    server = Killer()
    yield server
    server.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as path:
        yield path


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return Fleet(11, start=datetime(2025, 11, 24, tzinfo=UTC), tasks_per_day=60)


@pytest.mark.timeout(600)
class TestAtEveryCall:
    """The strongest promise: whatever call a process dies before, or in the middle of."""

    def test_a_first_run_killed_anywhere_and_repeated(self, killer: Killer, folder: Path) -> None:
        """Killed on an empty state, then repeated: as if it had never been disturbed."""
        undisturbed = folder / "undisturbed"
        deliver(undisturbed, FIRST)
        calls = killer.work(undisturbed)["calls"]
        expected = picture(undisturbed)
        assert {"plain", "other", "pretty", "theirs"} <= kept(undisturbed)
        for number in range(calls):
            root = folder / str(number)
            deliver(root, FIRST)
            assert killer.work(root, die_at=number)["died"], number
            killer.work(root)
            check(root, expected)
            shutil.rmtree(root)
        assert calls > 50

    def test_a_run_killed_anywhere_and_continued_on_the_next_day_with_more(self, killer: Killer, folder: Path) -> None:
        """What was not committed is nowhere left behind, also when the next run writes to other files."""
        undisturbed = folder / "undisturbed"
        deliver(undisturbed, FIRST)
        calls = killer.work(undisturbed)["calls"]
        deliver(undisturbed, SECOND)
        killer.work(undisturbed, day=1)
        expected = picture(undisturbed, kpis=False)
        for number in range(calls):
            root = folder / str(number)
            deliver(root, FIRST)
            assert killer.work(root, die_at=number)["died"], number
            deliver(root, SECOND)
            killer.work(root, day=1)
            # A record without a date stands on the day it was first read, which a kill may put off.
            if number > calls // 2:
                check(root, expected, kpis=False)
            else:
                check_state(root)
                check_compacted(root)
                assert sorted(picture(root)[1]["quarantine"]) == expected[1]["quarantine"]
            shutil.rmtree(root)

    def test_an_incremental_run_killed_anywhere(self, killer: Killer, folder: Path) -> None:
        """Records that supersede, move, fall and are withdrawn: each of these is done once, and whole."""
        undisturbed = folder / "undisturbed"
        deliver(undisturbed, FIRST)
        killer.work(undisturbed)
        deliver(undisturbed, SECOND)
        calls = killer.work(undisturbed)["calls"]
        expected = picture(undisturbed)
        found = kept(undisturbed)
        assert not {"falls", "theirs"} & found
        assert {"moves", "grows", "better", "shared", "late"} <= found
        for number in range(calls):
            root = folder / str(number)
            deliver(root, FIRST)
            killer.work(root)
            deliver(root, SECOND)
            assert killer.work(root, die_at=number)["died"], number
            killer.work(root)
            check(root, expected)
            shutil.rmtree(root)

    def test_what_another_program_appended_is_kept_once_wherever_a_run_is_killed(
        self, killer: Killer, folder: Path
    ) -> None:
        """The original collector's lines are set aside whole, then our file is cut: never the other way, never twice."""
        deliver(folder / "before", FIRST)
        killer.work(folder / "before")
        silver, others = picture(folder / "before")
        theirs = b'{"task_id":"from another collector","quality_score":5}\n' * 3
        number = 0
        died = True
        while died:
            root = folder / str(number)
            shutil.copytree(folder / "before", root)
            path = next((root / layout.OUTCOMES / "training").glob("*.jsonl"))
            with path.open("ab") as file:
                file.write(theirs)
            died = killer.work(root, die_at=number)["died"]
            killer.work(root)
            (aside,) = root.rglob("[!.]*.orphan-*")  # a half-written copy is hidden, and removed as any leftover
            assert aside.read_bytes() == theirs, number
            for path in root.rglob("*.orphan-*"):
                path.unlink()
            check(root, (silver, others))
            shutil.rmtree(root)
            number += 1
        assert number > 5

    def test_a_rebuild_killed_anywhere(self, killer: Killer, folder: Path) -> None:
        """A rebuild that was cut off is finished by the next run, whatever that run is called."""
        undisturbed = folder / "undisturbed"
        deliver(undisturbed, FIRST)
        killer.work(undisturbed)
        deliver(undisturbed, SECOND)
        killer.work(undisturbed)
        expected = picture(undisturbed)
        calls = killer.work(undisturbed, task="rebuild")["calls"]
        check(undisturbed, expected)
        for number in range(calls):
            root = folder / str(number)
            deliver(root, FIRST)
            deliver(root, SECOND)
            killer.work(root)
            assert killer.work(root, task="rebuild", die_at=number)["died"], number
            killer.work(root)
            check(root, expected)
            shutil.rmtree(root)

    @pytest.mark.parametrize("every", [9, pytest.param(1, marks=slow)])
    def test_a_file_of_several_steps_killed_anywhere(self, killer: Killer, folder: Path, every: int) -> None:
        """A large file is committed in steps; it goes on where the last one ended, whatever that step superseded."""
        long = "x" * 200_000
        large: Part = [
            (
                layout.BRONZE,
                "large.jsonl",
                [
                    good(f"t{number % 20}", note=number, output=long, completed_at=f"2025-11-2{number % 3}T10:00:00Z")
                    for number in range(27)
                ],
            )
        ]
        undisturbed = folder / "undisturbed"
        deliver(undisturbed, large)
        calls = killer.work(undisturbed)["calls"]
        expected = picture(undisturbed)
        for number in range(0, calls, every):
            root = folder / str(number)
            deliver(root, large)
            assert killer.work(root, die_at=number)["died"], number
            killer.work(root)
            check(root, expected)
            shutil.rmtree(root)

    def test_killed_twice_and_more(self, killer: Killer, folder: Path) -> None:
        """A run that puts right what a kill left may be killed as well."""
        undisturbed = folder / "undisturbed"
        deliver(undisturbed, FIRST)
        calls = killer.work(undisturbed)["calls"]
        expected = picture(undisturbed)
        dice = random.Random(7)
        for number in range(INSTANTS):
            root = folder / str(number)
            deliver(root, FIRST)
            for _ in range(4):
                killer.work(root, die_at=dice.randrange(calls))
            killer.work(root)
            check(root, expected)
            shutil.rmtree(root)


class TestAtRandomInstants:
    """SIGKILL, at instants that nobody chose."""

    def disturb(self, killer: Killer, folder: Path, fleet: Fleet, instants: int, seed: int) -> tuple[int, int]:
        """Return how many processes were killed at work, and how many ended before."""
        undisturbed = folder / "undisturbed"
        halves = [list(fleet.writes(2)), fleet.day(2)]
        for half in halves:
            for write in half:
                append(undisturbed, write)
            took_s = killer.work(undisturbed)["seconds"]
        expected = picture(undisturbed)
        dice = random.Random(seed)
        killed = ended = 0
        for number in range(instants):
            root = folder / str(number)
            for half in halves:
                for write in half:
                    append(root, write)
                # Two at once, as the daemon and a command line are; then the same alone.
                for several in (2, 1):
                    works = [{"root": root, "after_s": dice.uniform(0, took_s * several)} for _ in range(several)]
                    for answer in killer.work_together(works):
                        killed += answer["died"]
                        ended += not answer["died"]
            killer.work(root)
            check(root, expected)
            shutil.rmtree(root)
        return killed, ended

    def test_processes_killed_at_random_instants(self, killer: Killer, folder: Path, fleet: Fleet) -> None:
        """Two processes at once over one root, killed at any instant: as one that was never disturbed."""
        killed, _ = self.disturb(killer, folder, fleet, INSTANTS // 4, seed=1)
        assert killed > INSTANTS // 4

    @slow
    @pytest.mark.timeout(600)
    def test_processes_killed_at_many_random_instants(self, killer: Killer, folder: Path, fleet: Fleet) -> None:
        """The same, often enough to meet what is rare."""
        killed, _ = self.disturb(killer, folder, fleet, MANY_INSTANTS, seed=2)
        assert killed > MANY_INSTANTS

    def test_two_processes_at_once(self, killer: Killer, folder: Path, fleet: Fleet) -> None:
        """Four at once, none killed: each record is refined and collected once."""
        expected_root, root = folder / "one", folder / "four"
        for write in fleet.writes(3):
            append(expected_root, write)
            append(root, write)
        killer.work(expected_root)
        killer.work_together([{"root": root} for _ in range(4)])
        killer.work(root)
        check(root, picture(expected_root))


class TestDaemonAndCommandLine:
    """The program as it is installed: a daemon on the root, a command line beside it, both killed."""

    def start(self, root: Path, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "cortex_autolearn", *words, "--root", str(root)]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def command(self, root: Path, *words: str) -> None:
        ended = subprocess.run(
            [sys.executable, "-m", "cortex_autolearn", *words, "--root", str(root)], cwd=ROOT, capture_output=True
        )
        assert ended.returncode == 0, ended.stderr

    def finish(self, root: Path) -> None:
        self.command(root, "medallion", "--compact")
        self.command(root, "collect")

    def disturb(self, folder: Path, fleet: Fleet, instants: int, seed: int) -> int:
        """Return how many processes were killed at work."""
        undisturbed = folder / "undisturbed"
        first, second = list(fleet.writes(2)), fleet.day(2)
        for write in (*first, *second):
            append(undisturbed, write)
        self.finish(undisturbed)
        expected = picture(undisturbed, kpis=False)
        dice = random.Random(seed)
        killed = number = 0
        while killed < instants:
            root = folder / str(number)
            number += 1
            for write in first:
                append(root, write)
            daemon = self.start(root, "run")
            beside = self.start(root, *dice.choice([("medallion",), ("medallion", "--compact"), ("collect",)]))
            for begun in (0.0, dice.uniform(0, 0.9)):
                time.sleep(begun)
                for write in second if begun else ():
                    append(root, write)
            for process in dice.sample([daemon, beside], 2):
                time.sleep(dice.uniform(0, 0.25))
                killed += process.poll() is None
                process.kill()
                process.wait()
            self.finish(root)
            check(root, expected, kpis=False)
            shutil.rmtree(root)
        return killed

    def test_a_daemon_and_a_command_line_killed_at_random_instants(self, folder: Path, fleet: Fleet) -> None:
        """What they leave is finished by the next command: as if neither had been disturbed."""
        assert self.disturb(folder, fleet, 6, seed=3) >= 6

    @slow
    @pytest.mark.timeout(1_800)
    def test_a_daemon_and_a_command_line_killed_at_many_random_instants(self, folder: Path, fleet: Fleet) -> None:
        """The same, 200 times."""
        assert self.disturb(folder, fleet, MANY_INSTANTS, seed=4) >= MANY_INSTANTS
