"""Days summed up, in Cortex's shapes: numbers worked out here by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Handle, Rooms, good, quick_folder

from cortex_autolearn.medallion import gold
from cortex_autolearn.model import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = 20251126
STAMP = "2025-11-27T12:00:00.123456Z"


@pytest.fixture
def rooms() -> Iterator[Rooms]:
    with quick_folder() as root:
        made = Rooms(root)
        yield made
        made.close()


def content(rooms: Rooms, relative: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((rooms.root / relative).read_bytes())
    return found


def deliver(rooms: Rooms) -> None:
    """Seven final tasks of one day and one that still runs."""
    rooms.put(
        "a.jsonl",
        good("s1", duration_seconds=10),
        good("s2", duration_seconds=20.5),
        good("s3", status="failed", duration_seconds=30),
        good("d1", master="development", duration_seconds=40),
        good(
            "d2", master="development-agent", status="cancelled", started_at=..., created_at=..., duration_seconds=...
        ),
        good("n1", master=None, duration_seconds=50),
        good("n2", master="../etc", status="timeout", duration_seconds=60),
        good("r1", status="running", duration_seconds=999),
    )


class TestFiles:
    def test_the_analytics_of_a_day(self, rooms: Rooms) -> None:
        """Final tasks only; rates in percent, rounded to one decimal; percentiles by nearest rank."""
        deliver(rooms)
        rooms.refine()
        assert rooms.gold() == [DAY]
        assert content(rooms, "coordination/medallion/gold/analytics/daily-20251126.json") == {
            "date": "20251126",
            "layer": "gold",
            "generated_at": STAMP,
            "summary": {
                "total_tasks": 7,
                "completed_tasks": 4,
                "failed_tasks": 2,
                "completion_rate": 57.1,
                "avg_duration_seconds": round((10 + 20.5 + 30 + 40 + 50 + 60) / 6, 3),
            },
            "by_master": [
                {"master": "development-master", "total": 2, "completed": 1, "failed": 0, "completion_rate": 50.0},
                {"master": "security-master", "total": 3, "completed": 2, "failed": 1, "completion_rate": 66.7},
                {"master": None, "total": 2, "completed": 1, "failed": 1, "completion_rate": 50.0},
            ],
            "by_status": [
                {"status": "completed", "count": 4, "percentage": 57.1},
                {"status": "failed", "count": 2, "percentage": 28.6},
                {"status": "cancelled", "count": 1, "percentage": 14.3},
            ],
            "performance": {"p50_duration": 30, "p95_duration": 60, "p99_duration": 60},
        }

    def test_a_masters_report(self, rooms: Rooms) -> None:
        """Its numbers and its tasks; those without a master are under ``null``."""
        deliver(rooms)
        rooms.refine()
        rooms.gold()
        folder = rooms.root / layout.REPORTS
        assert {path.name for path in folder.iterdir()} == {
            "development-master-20251126.json",
            "null-20251126.json",
            "security-master-20251126.json",
        }
        report = content(rooms, f"{layout.REPORTS}/security-master-20251126.json")
        assert report["metrics"] == {
            "total_tasks": 3,
            "completed": 2,
            "failed": 1,
            "completion_rate": 66.7,
            "avg_duration": round(60.5 / 3, 3),
        }
        assert [report[key] for key in ("master", "date", "layer", "generated_at")] == [
            "security-master",
            "20251126",
            "gold",
            STAMP,
        ]
        assert [one["task_id"] for one in report["task_list"]] == ["s1", "s2", "s3"]
        assert report["task_list"][2] == {
            "task_id": "s3",
            "status": "failed",
            "duration_seconds": 30,
            "created_at": "2025-11-26T09:59:00Z",
            "completed_at": "2025-11-26T10:00:00Z",
        }
        nobody = content(rooms, f"{layout.REPORTS}/null-20251126.json")
        assert nobody["master"] is None
        assert [one["task_id"] for one in nobody["task_list"]] == ["n1", "n2"]
        assert content(rooms, f"{layout.REPORTS}/development-master-20251126.json")["metrics"]["avg_duration"] == 40

    def test_the_kpis_of_the_last_seven_days(self, rooms: Rooms) -> None:
        """The nightly run writes them; both ends are included, and what lies outside is not."""
        for day in (20, 21, 27):
            rooms.put("a.jsonl", good(f"t{day}", completed_at=f"2025-11-{day}T23:59:59Z", duration_seconds=day))
        rooms.put("a.jsonl", good("failed", status="failed", completed_at="2025-11-22T00:00:00Z", duration_seconds=300))
        rooms.refine()
        rooms.gold()
        assert [path.name for path in (rooms.root / layout.KPIS).iterdir()] == ["kpis-20251121-to-20251127.json"]
        assert content(rooms, f"{layout.KPIS}/kpis-20251121-to-20251127.json") == {
            "date_range": {"start": "20251121", "end": "20251127"},
            "layer": "gold",
            "generated_at": STAMP,
            "kpis": {"total_tasks": 3, "avg_completion_rate": 66.7, "avg_task_duration": 116},
        }

    def test_days_that_were_asked_for(self, rooms: Rooms) -> None:
        """``--from --to`` writes those days, and the KPIs of that range, whether or not they changed."""
        for day in (20, 21, 22):
            rooms.put("a.jsonl", good(f"t{day}", completed_at=f"2025-11-{day}T10:00:00Z"))
        rooms.refine()
        rooms.gold()
        rooms.clock.advance(60)
        assert rooms.gold([20251120, 20251121]) == [20251120, 20251121]
        assert content(rooms, f"{layout.KPIS}/kpis-20251120-to-20251121.json")["kpis"]["total_tasks"] == 2
        assert rooms.analytics(20251121)["generated_at"] != STAMP
        assert rooms.analytics(20251122)["generated_at"] == STAMP

    def test_a_day_without_tasks_gives_zeros(self, rooms: Rooms) -> None:
        """Nothing is divided by zero tasks."""
        rooms.gold([20250101])
        assert rooms.analytics(20250101)["summary"] == {
            "total_tasks": 0,
            "completed_tasks": 0,
            "failed_tasks": 0,
            "completion_rate": 0,
            "avg_duration_seconds": 0,
        }
        assert rooms.analytics(20250101)["performance"] == {"p50_duration": 0, "p95_duration": 0, "p99_duration": 0}
        assert content(rooms, f"{layout.KPIS}/kpis-20250101-to-20250101.json")["kpis"]["avg_completion_rate"] == 0


class TestWhatIsDue:
    def test_only_days_that_changed_are_written(self, rooms: Rooms) -> None:
        """A second night without news writes no day again."""
        deliver(rooms)
        rooms.refine()
        assert rooms.gold() == [DAY]
        assert rooms.gold() == []
        rooms.put("a.jsonl", good("r1", completed_at="2025-11-25T10:00:00Z"))
        rooms.refine()
        assert rooms.gold() == [20251125, DAY]

    def test_a_task_that_left_a_day_leaves_its_gold(self, rooms: Rooms) -> None:
        """The day it left is summed up anew, and a report without tasks goes."""
        rooms.put("a.jsonl", good("a"), good("b", master="testing"))
        rooms.refine()
        rooms.gold()
        rooms.put("a.jsonl", good("b", master="testing", completed_at="2025-11-27T01:00:00Z"))
        rooms.refine()
        assert rooms.gold() == [DAY, 20251127]
        assert rooms.analytics(DAY)["summary"]["total_tasks"] == 1
        names = sorted(path.name for path in (rooms.root / layout.REPORTS).iterdir())
        assert names == ["security-master-20251126.json", "testing-master-20251127.json"]

    @pytest.mark.parametrize("first", ["ours", "theirs"])
    def test_a_task_that_the_other_origin_takes_leaves_its_day(self, rooms: Rooms, first: str) -> None:
        """Done once more on another day, and told of only in Cortex's silver or only in bronze: it counts there alone."""
        places = [("a.jsonl", layout.BRONZE), ("cortex.jsonl", layout.SILVER)]
        for day, (name, folder) in zip((26, 27), places if first == "ours" else reversed(places), strict=True):
            rooms.put(name, good("t", completed_at=f"2025-11-{day}T10:00:00Z"), folder=folder)
            rooms.everything()
        assert [rooms.analytics(day)["summary"]["total_tasks"] for day in (20251126, 20251127)] == [0, 1]

    def test_reports_of_others_stay(self, rooms: Rooms) -> None:
        """Only what we wrote ourselves is taken away: not Cortex's own, whatever it looks like, nor what is unreadable."""
        rooms.put("a.jsonl", good("a"), good("b", master="testing"), good("n", master=None))
        rooms.refine()
        rooms.gold()
        folder = rooms.root / layout.REPORTS
        ours = (folder / "testing-master-20251126.json").read_bytes()
        theirs = {
            "summary-20251126.json": b'{"layer": "gold"}\n',
            "moved-20251126.json": ours,  # in the place of no report of ours
            "other-master-20251126.json": ours.replace(b"testing-master", b"other-master").replace(b'Z"', b'+0000"'),
            "pretty-master-20251126.json": json.dumps(
                json.loads(ours.replace(b"testing-master", b"pretty-master")), indent=2
            ).encode(),
            "older-master-20251126.json": ours.replace(b"testing-master", b"older-master").replace(
                b"20251126", b"20251125"
            ),
            "odd-master-20251126.json": ours.replace(b'"testing-master"', b'"../odd-master"'),
            "weekly-20251126.json": b"\xff\x00 no JSON",
            "latin-master-20251126.json": ours.replace(b"testing-master", b"latin\xe9-master"),
            "empty-20251126.json": b"",
            "long-20251126.json": b"[" * 100_000,
            "deep-20251126.json": b'{"x":' + b"[" * 100_000,
        }
        for name, written in theirs.items():
            (folder / name).write_bytes(written)
        (folder / "folder-20251126.json").mkdir()
        (folder / "link-20251126.json").symlink_to("/etc/hostname")
        rooms.put("a.jsonl", good("b", master="testing", completed_at="2025-11-27T01:00:00Z"))
        rooms.put("a.jsonl", good("n", master=None, completed_at="2025-11-27T01:00:00Z"))
        rooms.refine()
        assert rooms.gold() == [DAY, 20251127]
        left = {path.name for path in folder.glob("*-20251126.json")}
        assert left == {*theirs, "folder-20251126.json", "link-20251126.json", "security-master-20251126.json"}
        assert {name: (folder / name).read_bytes() for name in theirs} == theirs

    def test_what_changes_while_gold_is_written_is_not_forgotten(self, rooms: Rooms) -> None:
        """A record that another process refines meanwhile is in the next gold at the latest."""
        rooms.put("a.jsonl", good("a"))
        rooms.refine()
        other = Rooms(rooms.root)

        class Racing:
            """A tree that shows another process's record between two looks."""

            raced = False

            def __getattr__(self, name: str) -> Any:
                return getattr(rooms.tree, name)

            def replace(self, relative: str, data: Any) -> None:
                rooms.tree.replace(relative, data)
                if "daily-" in relative and not self.raced:
                    self.raced = True
                    other.put("a.jsonl", good("b"))
                    other.refine()

        racing = Rooms(rooms.root, files=Racing())
        racing.gold()
        assert racing.gold() == [DAY]
        assert racing.analytics(DAY)["summary"]["total_tasks"] == 2
        racing.close()
        other.close()

    @pytest.mark.parametrize("folder", [layout.ANALYTICS, layout.REPORTS, layout.KPIS])
    def test_a_removed_file_comes_back(self, rooms: Rooms, folder: str) -> None:
        """Gold is a projection of the state: deleting it and running again writes it again."""
        deliver(rooms)
        rooms.refine()
        rooms.gold()
        before = {path.name: path.read_bytes() for path in (rooms.root / folder).iterdir()}
        for path in (rooms.root / folder).iterdir():
            path.unlink()
        rooms.gold()
        assert {path.name: path.read_bytes() for path in (rooms.root / folder).iterdir()} == before

    def test_gold_is_the_same_for_any_cutting_into_runs(self) -> None:
        """One file read in one run or in many gives the same gold, order of the lists included."""
        records = [good(f"t{number}", status="running" if number % 3 else "done") for number in range(9)]
        records += [good(f"t{number}", completed_at="2025-11-26T11:00:00Z") for number in (5, 1, 7)]
        found = []
        for every in (1, 4, 99):
            with quick_folder() as root:
                rooms = Rooms(root)
                for number, record in enumerate(records):
                    rooms.put("a.jsonl", record)
                    if number % every == every - 1:
                        rooms.follow()
                rooms.refine()
                rooms.gold()
                found.append({path.name: path.read_bytes() for path in (root / layout.REPORTS).iterdir()})
                rooms.close()
        assert found[0] == found[1] == found[2]


class TestNumbers:
    @pytest.mark.parametrize(
        ("part", "whole", "expected"),
        [(0, 0, 0), (1, 3, 33.3), (2, 3, 66.7), (1, 8, 12.5), (7, 7, 100.0), (1, 1000, 0.1), (1, 2001, 0.0)],
    )
    def test_a_share_in_percent(self, part: int, whole: int, expected: float) -> None:
        """Rounded to one decimal; of nothing it is 0."""
        assert gold.percent(part, whole) == expected

    @given(st.lists(st.integers(0, 10**6), min_size=1, max_size=300), st.sampled_from([50, 95, 99]))
    def test_a_percentile_is_the_nearest_rank(self, values: list[int], rank: int) -> None:
        """The smallest value that at least so many percent do not exceed."""
        values.sort()
        found = gold.percentile(values, rank)
        assert found in values
        assert sum(value <= found for value in values) * 100 >= rank * len(values)
        smaller = [value for value in values if value < found]
        assert len(smaller) * 100 < rank * len(values)

    def test_no_progress_is_lost_on_the_way(self, rooms: Rooms) -> None:
        """Gold of many days tells how far it is, up to the last."""
        for day in range(10, 20):
            rooms.put("a.jsonl", good(f"t{day}", completed_at=f"2025-11-{day}T10:00:00Z"))
        rooms.refine()
        told: list[tuple[int, int]] = []

        class Telling(Handle):
            def progress(self, done: int, total: int) -> None:
                told.append((done, total))

        rooms.medallion.write_gold(Telling())
        assert told[-1] == (10, 10)
        assert told == sorted(told)
