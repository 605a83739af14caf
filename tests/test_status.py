"""The status: the shape that scripts rely on, and numbers that are right."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cortex_autolearn.adapters.tree import Entry
from cortex_autolearn.cli import look, main
from cortex_autolearn.model import layout
from cortex_autolearn.model.instants import to_us
from cortex_autolearn.model.ledger import Source
from cortex_autolearn.model.policy import SchedulePolicy
from cortex_autolearn.model.runs import Run
from cortex_autolearn.slots import Daily, Every
from cortex_autolearn.status import lag_of, look_for_lag, planned, rule_text, zone_name
from cortex_autolearn.testing import Fleet, append
from cortex_autolearn.wiring import build

START = datetime(2025, 6, 2, tzinfo=UTC)
NOW = datetime(2025, 11, 27, 12, 0, tzinfo=UTC)


def call(root: Path, *args: str) -> str:
    result = CliRunner().invoke(main, [*args, "--root", str(root)], prog_name="cortex-autolearn")
    assert result.exit_code == 0, result.output
    return result.stdout


def status(root: Path, *args: str) -> Any:
    return json.loads(call(root, "status", "--json", *args))


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    for write in Fleet(1, start=START, tasks_per_day=40).writes(2):
        append(tmp_path, write)
    return tmp_path


class TestJson:
    def test_has_the_promised_shape_before_anything_ran(self, tmp_path: Path) -> None:
        """Scripts read these keys; the types hold from the first day on."""
        (tmp_path / layout.COORDINATION).mkdir()
        found = status(tmp_path)
        assert found["data_collection"] == {
            "training_examples": 0,
            "validation_examples": 0,
            "min_required": 1000,
            "ready": False,
            "progress_percent": 0.0,
        }
        assert found["fine_tuning"] == {
            "backend": "exemplar",
            "base": "claude-haiku-5-5",
            "has_triggered": False,
            "models_trained": 0,
            "last_model": None,
            "active": [],
            "troubles": [],
            "decided_at": None,
            "decided": [],
            "scopes": [{"scope": "global", "examples": 0, "new": 0, "needed": 1000, "train_split": None}],
        }
        assert found["cost_estimate"] == {
            "example_count": 0,
            "estimated_tokens": 0,
            "estimated_cost_usd": 0.0,
            "is_measured": False,
        }
        assert found["daemon"] == {"alive": False, "pid": None}
        assert found["last_runs"] == {}
        assert found["rejected"] == {}

    def test_counts_what_was_collected_rejected_and_quarantined(self, fleet: Path) -> None:
        expected = Fleet(1, start=START, tasks_per_day=40).expected(2)
        call(fleet, "medallion")
        assert status(fleet)["tasks"]["waiting_for_collection"] == expected.final_tasks
        call(fleet, "collect")
        found = status(fleet)
        assert found["data_collection"]["training_examples"] == expected.training
        assert found["data_collection"]["validation_examples"] == expected.validation
        assert found["rejected"] == expected.rejected
        assert list(found["rejected"].values()) == sorted(expected.rejected.values(), reverse=True)
        assert sum(found["quarantined"].values()) == expected.quarantined
        assert found["tasks"]["seen"] == expected.tasks
        assert found["tasks"]["final"] == expected.final_tasks
        assert found["tasks"]["waiting_for_collection"] == 0
        assert found["silver_lag"] == {"files": 0, "bytes": 0, "seconds": 0.0, "tail_bytes": 0}
        assert found["last_runs"]["collection"]["counts"]["high_quality"] == expected.high_quality
        assert found["disk"]["bronze_bytes"] == expected.bytes
        assert found["disk"]["gold_bytes"] > 0

    def test_progress_is_capped_and_the_cost_follows_the_price(self, fleet: Path) -> None:
        call(fleet, "medallion")
        call(fleet, "collect")
        price = '[{"base": "b", "as_of": "2026-11-22", "training_usd_per_mtok": 8}]'
        wanted = ["training.min_examples=2", "training.backend=export", "training.base_model=b"]
        wanted = [word for one in (*wanted, f"training.prices={price}") for word in ("--set", one)]
        found = status(fleet, *wanted)
        assert found["data_collection"]["progress_percent"] == 100
        assert found["data_collection"]["ready"] is True
        estimate = found["cost_estimate"]
        assert estimate["example_count"] == found["data_collection"]["training_examples"]
        assert estimate["estimated_cost_usd"] == round(estimate["estimated_tokens"] * 8 / 1e6, 2) > 0
        unknown = status(fleet, "--set", "training.backend=export")["cost_estimate"]
        assert unknown["estimated_cost_usd"] is None
        assert status(fleet)["cost_estimate"]["estimated_cost_usd"] == 0

    def test_lists_the_schedule_in_local_time_and_utc(self, tmp_path: Path) -> None:
        (tmp_path / layout.COORDINATION).mkdir()
        found = status(tmp_path, "--set", "schedule.timezone=America/Chicago")["schedule"]
        assert found["timezone"] == "America/Chicago"
        jobs = {job["job"]: job for job in found["jobs"]}
        assert list(jobs) == ["medallion", "collection", "scoring", "readiness", "status"]
        assert jobs["medallion"]["rule"] == "daily at 02:00 (America/Chicago)"
        assert re.search(r"T02:00:00-0[56]:00$", jobs["medallion"]["next_run_local"])
        local, utc = (datetime.fromisoformat(jobs["medallion"][key]) for key in ("next_run_local", "next_run"))
        assert local == utc

    def test_knows_a_daemon_by_its_lock(self, tmp_path: Path) -> None:
        """A process id that a dead daemon left behind means nothing."""
        (tmp_path / layout.COORDINATION).mkdir()
        path = tmp_path / layout.DAEMON_LOCK
        path.parent.mkdir(parents=True)
        path.write_text('{"pid": 4242, "host": "here"}\n')
        assert status(tmp_path)["daemon"] == {"alive": False, "pid": None}
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            assert status(tmp_path)["daemon"] == {"alive": True, "pid": 4242}


class TestText:
    @pytest.mark.parametrize(
        ("scopes", "told"),
        [
            ([("global", 748)], "4,020 collected; 748 of 1,000 new for the next training"),
            ([("global", 1020)], "4,020 collected; 1,020 of 1,000 new: the next training is due"),
            (
                [("cicd-master", 17), ("security-master", 748)],
                "4,020 collected; 748 of 1,000 new for the next training (security-master)",
            ),
            ([], "4,020 collected"),
        ],
    )
    def test_what_the_next_training_lacks(self, scopes: list[tuple[str, int]], told: str) -> None:
        """Only what was not trained on counts, of the scope that comes first: after a training it begins anew."""
        rows = [{"scope": scope, "new": new, "needed": 1000} for scope, new in scopes]
        assert look.examples_text(4020, rows) == told

    def test_whole(self, fleet: Path) -> None:
        call(fleet, "medallion")
        call(fleet, "collect")
        text = call(fleet, "status", "--set", "schedule.timezone=UTC")
        expected = Fleet(1, start=START, tasks_per_day=40).expected(2)
        blocks = text.split("\n\n")
        assert blocks[0] == f"Root:      {fleet}\nDaemon:    not running"
        assert blocks[1].splitlines()[:2] == [
            f"Training examples:   {expected.training} collected; {expected.training} of 1,000 new for the next training",
            f"Validation examples: {expected.validation}",
        ]
        assert f"Tasks seen:          {expected.tasks} ({expected.final_tasks} final)" in blocks[2]
        assert "Not yet refined:     nothing" in blocks[2]
        reasons = [f"  {reason}: {count}" for reason, count in expected.rejected.items()]
        assert blocks[3] == "Masters:\n  no model was deployed for one yet"
        assert blocks[4].splitlines()[0] == "Rejection reasons:"
        assert sorted(blocks[4].splitlines()[1:]) == sorted(reasons)
        assert re.search(r"^  medallion: ok, 20\S+ \S+ UTC in 0\.\d\d s$", blocks[5], re.MULTILINE)
        assert re.search(r"^  collection: \S+ \S+  every hour$", blocks[6], re.MULTILINE)
        assert blocks[7].startswith("Disk:\n  bronze: ")

    def test_schedule(self, tmp_path: Path) -> None:
        (tmp_path / layout.COORDINATION).mkdir()
        lines = call(tmp_path, "schedule", "--set", "schedule.timezone=Europe/Berlin").splitlines()
        assert re.split(r" {2,}", lines[0]) == [
            "JOB",
            "RULE",
            "LAST RUN (UTC)",
            "RESULT",
            "NEXT RUN (Europe/Berlin)",
            "NEXT RUN (UTC)",
        ]
        assert re.match(r"medallion +daily at 02:00 \(Europe/Berlin\) +never +\S+ 02:00 +\S+ 0[01]:00$", lines[1])
        assert re.match(r"status +every 6 hours +never ", lines[5])
        found = json.loads(call(tmp_path, "schedule", "--json"))
        assert [job["job"] for job in found["jobs"]] == ["medallion", "collection", "scoring", "readiness", "status"]
        assert found["daemon_alive"] is False

    def test_fine_tune(self, fleet: Path) -> None:
        """How far the next training is, and that there was none."""
        assert "Models trained: 0" in call(fleet, "fine-tune", "status")
        found = json.loads(call(fleet, "fine-tune", "status", "--json"))
        assert list(found) == ["data_collection", "fine_tuning", "cost_estimate"]


class TestLag:
    FILE = Entry("bronze/a.jsonl", 1, 2, 1000, int((NOW - timedelta(minutes=5)).timestamp()) * 10**9)
    READ = Source(1, "bronze/a.jsonl", "1:2", b"mark", 900, 1000, FILE.mtime_ns, 0)

    def test_a_file_that_was_read_waits_for_nobody_but_its_writer(self) -> None:
        assert lag_of([self.FILE], [self.READ], NOW) == (0, 0, 0.0, 100)

    def test_a_file_never_seen_waits_whole(self) -> None:
        assert lag_of([self.FILE], [], NOW) == (1, 1000, 300.0, 0)

    def test_a_file_that_grew_waits_from_its_cursor_on(self) -> None:
        assert lag_of([self.FILE], [self.READ._replace(size=950, position=900)], NOW) == (1, 100, 300.0, 0)

    def test_a_file_that_was_replaced_waits_whole(self) -> None:
        assert lag_of([self.FILE], [self.READ._replace(identity="1:3", size=10)], NOW) == (1, 1000, 300.0, 0)

    def test_a_file_that_goes_on_growing_waits_since_nobody_could_read_it(self, fleet: Path) -> None:
        """Bronze whose refinement fails, or hangs, has waited since the first run that did not read it."""
        begun_us = to_us(NOW - timedelta(hours=2))
        grown = Entry("bronze/a.jsonl", 1, 2, 1_100, int((NOW - timedelta(seconds=1)).timestamp()) * 10**9)
        with closing(build(fleet, environ={})) as app:
            app.runner.run("silver", trigger="test", raise_errors=True)
            with app.store.write() as transaction:
                transaction.connection.execute("UPDATE runs SET started_us = ?", (begun_us - 1,))
                transaction.begin_run(Run("failed", "silver", "watcher", None, begun_us, None, None, {}))
                transaction.end_run("failed", "failed", begun_us + 1)
                transaction.begin_run(Run("hanging", "medallion", "watcher", None, begun_us + 2, None, None, {}))
            with app.store.read() as reading:
                assert look_for_lag(reading, [grown], NOW).seconds == 7_200
                assert look_for_lag(reading, [], NOW).seconds == 0
            with app.store.write() as transaction:
                transaction.end_run("hanging", "ok", begun_us + 3)
            with app.store.read() as reading:
                assert look_for_lag(reading, [grown], NOW).seconds < 2

    def test_what_ran_while_the_clock_was_ahead_has_read_nothing_since(self, fleet: Path) -> None:
        """A clock that was set back hides no failure until it has come as far again."""
        grown = Entry("bronze/a.jsonl", 1, 2, 1_100, int((NOW - timedelta(seconds=1)).timestamp()) * 10**9)
        with closing(build(fleet, environ={})) as app:
            app.runner.run("silver", trigger="test", raise_errors=True)
            with app.store.write() as transaction:
                ahead_us, begun_us = to_us(NOW + timedelta(days=1)), to_us(NOW - timedelta(hours=2))
                transaction.connection.execute("UPDATE runs SET started_us = ?", (ahead_us,))
                transaction.begin_run(Run("failed", "silver", "watcher", None, begun_us, None, None, {}))
                transaction.end_run("failed", "failed", begun_us + 1)
            with app.store.read() as reading:
                assert look_for_lag(reading, [grown], NOW).seconds == 7_200

    def test_a_file_from_the_future_has_not_waited_less_than_nothing(self) -> None:
        assert lag_of([self.FILE], [], NOW - timedelta(days=1)).seconds == 0


def test_rules_in_words() -> None:
    assert rule_text(Daily("02:00", "UTC")) == "daily at 02:00 (UTC)"
    assert rule_text(Every(3600)) == "every hour"
    assert rule_text(Every(21_600)) == "every 6 hours"
    assert rule_text(Every(90)) == "every 90 seconds"


def test_the_schedule_lives_in_the_configured_zone_else_the_machines() -> None:
    assert zone_name(SchedulePolicy(timezone="Asia/Tokyo")) == "Asia/Tokyo"
    assert [job.name for job in planned(SchedulePolicy())] == [
        "medallion",
        "collection",
        "scoring",
        "readiness",
        "status",
    ]
    # In a process of its own, because the machine's zone is looked up once.
    program = (
        "from cortex_autolearn.status import zone_name; from cortex_autolearn.model.policy import SchedulePolicy; "
        "print(zone_name(SchedulePolicy()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"TZ": "Europe/Paris"}, capture_output=True, text=True
    )
    assert done.stdout == "Europe/Paris\n"
