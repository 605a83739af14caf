"""The doctor: finds each thing that is wrong, says what to do, and changes nothing."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_cli import fill, task

from cortex_autolearn.adapters.clock import SystemClock
from cortex_autolearn.adapters.store import Store
from cortex_autolearn.adapters.tree import Tree
from cortex_autolearn.cli import main
from cortex_autolearn.doctor import Check, examine, is_well
from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.runs import Run


def checks(root: Path, **flags: object) -> dict[str, Check]:
    named = {key.replace("__", "."): value for key, value in flags.items()}
    return {check.name: check for check in examine(root, config=None, environ={}, flags=named)}


def run(root: Path, *args: str) -> None:
    result = CliRunner().invoke(main, [*args, "--root", str(root)])
    assert result.exit_code == 0, result.output


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree in which all is well, but that no daemon runs."""
    fill(tmp_path, *(task(f"task-{number}") for number in range(30)))
    run(tmp_path, "medallion")
    run(tmp_path, "collect")
    return tmp_path


HOSTILE = "x\nok    daemon         on\r\x1b[2j\x9b\u202e\U000e0041"


def hold_lock(root: Path) -> int:
    path = root / layout.DAEMON_LOCK
    path.write_text('{"pid": 4242}\n')
    opened = os.open(path, os.O_RDWR)
    fcntl.flock(opened, fcntl.LOCK_EX)
    return opened


class TestWhatOthersWrote:
    """A record says how its task ended, in any word; whoever runs the doctor on a terminal reads that word."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        fill(tmp_path, *(task(f"task-{number}", status=HOSTILE) for number in range(30)), name="a\nok  b.jsonl")
        run(tmp_path, "medallion")
        return tmp_path

    def test_makes_no_line_of_its_own(self, root: Path) -> None:
        """Neither a verdict nor a remedy can be forged, and nothing steers the terminal."""
        result = CliRunner().invoke(main, ["doctor", "--root", str(root)])
        assert "x\\nok" in result.stdout
        assert "a\\nok  b.jsonl" in result.stdout
        lines = result.stdout.splitlines()
        assert all(line.isprintable() for line in lines)
        assert [line.split()[0] for line in lines if "daemon  " in line[:16]] == ["fail"]

    def test_is_escaped_in_json(self, root: Path) -> None:
        """The JSON object holds the very word, and what is printed nothing that steers a terminal."""
        result = CliRunner().invoke(main, ["doctor", "--json", "--root", str(root)])
        assert result.stdout.removesuffix("\n").isprintable()
        found = {check["name"]: check["found"] for check in json.loads(result.stdout)["checks"]}
        assert HOSTILE in found["statuses"]


class TestWell:
    def test_all_is_well_with_a_daemon(self, root: Path) -> None:
        opened = hold_lock(root)
        found = checks(root)
        os.close(opened)
        assert {name: check for name, check in found.items() if check.verdict != "ok"} == {}
        assert found["daemon"].found == "alive, process 4242"
        assert is_well(list(found.values()))

    def test_changes_nothing(self, root: Path) -> None:
        """A doctor may be sent to a broken tree: not a file is written, removed or replaced."""

        def tree() -> dict[str, int]:
            return {str(path): path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}

        before = tree()
        checks(root)
        assert {name: at for name, at in tree().items() if "state.db-" not in name} == before

    def test_prints_a_line_a_check_and_a_remedy_where_one_is_needed(self, root: Path) -> None:
        result = CliRunner().invoke(main, ["doctor", "--root", str(root)])
        assert result.exit_code == 1
        lines = result.stdout.splitlines()
        assert lines[0] == f"ok    root           {root} holds coordination/"
        where = lines.index("fail  daemon         not running")
        assert lines[where + 1] == (
            f"                     -> Start it: cortex-autolearn run --root {root}; better: as a systemd service."
        )
        assert lines[-1] == "1 thing wrong, 0 warnings."

    def test_json(self, root: Path) -> None:
        result = CliRunner().invoke(main, ["doctor", "--json", "--root", str(root)])
        assert result.exit_code == 1
        found = json.loads(result.stdout)
        assert found["ok"] is False
        assert all(set(check) == {"name", "verdict", "found", "remedy"} for check in found["checks"])
        assert all(check["remedy"] for check in found["checks"] if check["verdict"] != "ok")


class TestIll:
    def test_no_root(self, tmp_path: Path) -> None:
        found = checks(tmp_path / "nowhere")
        assert found["root"].verdict == "fail"
        assert "--init" in found["root"].remedy
        assert set(found) == {"root", "configuration"}

    def test_wrong_configuration_is_told_of_and_the_rest_is_looked_at(self, root: Path) -> None:
        (root / layout.CONFIG).write_text("[collect]\nmin_quality = 9\n")
        found = checks(root)
        assert found["configuration"].verdict == "fail"
        assert "collect.min_quality = 9" in found["configuration"].found
        assert found["bronze"].verdict == "ok"

    def test_no_state_yet(self, tmp_path: Path) -> None:
        fill(tmp_path, task("one"))
        found = checks(tmp_path)
        assert found["state"].verdict == "warn"
        assert not (tmp_path / layout.STATE).exists()

    @pytest.mark.parametrize(
        ("name", "kept_out_of"), [("root", layout.COORDINATION), ("state", layout.AUTOLEARN)], ids=lambda one: one
    )
    def test_what_cannot_be_looked_at_is_a_finding(self, root: Path, name: str, kept_out_of: str) -> None:
        """Another user than the service's, who may not look into a folder, is told so, and of all else as far as it goes.

        A folder that is a link to too long a name keeps root out as well.
        """
        (root / kept_out_of).rename(root / "elsewhere")
        (root / kept_out_of).symlink_to("x" * 300)
        found = checks(root)
        assert (found[name].verdict, found[name].remedy) == (
            "fail",
            "Check who owns it and its folders, and under which user this runs",
        )
        assert "cannot be looked at" in found[name].found
        assert found["configuration"].verdict == "ok"
        assert ("bronze" in found) is (name == "state")
        result = CliRunner().invoke(main, ["doctor", "--json", "--root", str(root)])
        assert result.exit_code == 1
        assert json.loads(result.stdout)["ok"] is False

    def test_state_that_is_no_database(self, root: Path) -> None:
        for path in (root / layout.AUTOLEARN).glob("state.db*"):
            path.write_bytes(b"no database" * 1000)
        assert checks(root)["state"].verdict == "fail"

    def test_state_that_is_damaged(self, root: Path) -> None:
        path = root / layout.STATE
        data = bytearray(path.read_bytes())
        for page in range(3, len(data) // 4096):
            data[page * 4096 : page * 4096 + 64] = b"\xff" * 64
        path.write_bytes(data)
        found = checks(root)["state"]
        assert found.verdict == "fail"
        assert "backup" in found.remedy
        assert "Remove its -wal and -shm" in found.remedy, "SQLite would write what they hold over the backup"
        assert "scores, labels, trainings and tests are lost" in found.remedy

    def test_a_state_that_cannot_be_opened_is_not_called_damaged(self, root: Path) -> None:
        """Who may not read the state, an engineer say, is not told to move it away: what it alone knows would be lost.

        A folder in the place of SQLite's log keeps root out as well.
        """
        log = root / f"{layout.STATE}-wal"
        log.unlink(missing_ok=True)
        log.mkdir()
        found = checks(root)["state"]
        assert (found.verdict, found.found) == ("fail", f"{layout.STATE}: unable to open database file")
        assert found.remedy == "Check who owns it and its folder, and under which user this runs"

    def test_nothing_arrives(self, tmp_path: Path) -> None:
        (tmp_path / layout.COORDINATION).mkdir()
        assert checks(tmp_path)["bronze"].verdict == "fail"

    def test_nothing_arrives_any_more(self, root: Path) -> None:
        (path,) = (root / layout.BRONZE).iterdir()
        long_ago = time.time() - 3 * 86_400
        os.utime(path, (long_ago, long_ago))
        found = checks(root)["bronze"]
        assert (found.verdict, found.found.split()[-3:]) == ("warn", ["3", "days", "ago"])

    def test_silver_is_behind(self, root: Path) -> None:
        fill(root, task("late"), name="late.jsonl")
        path = root / layout.BRONZE / "late.jsonl"
        an_hour_ago = time.time() - 3_600
        os.utime(path, (an_hour_ago, an_hour_ago))
        assert checks(root)["silver"].verdict == "ok"  # without a daemon the next night is soon enough
        opened = hold_lock(root)
        found = checks(root)["silver"]
        os.close(opened)
        assert found.verdict == "fail"
        assert "from 60 min ago" in found.found

    def test_much_in_quarantine(self, root: Path) -> None:
        fill(root, *(f'{{"no": "id", "n": {number}}}' for number in range(60)))
        run(root, "medallion")
        found = checks(root)["quarantine"]
        assert found.verdict == "fail"
        assert "no task id" in found.found

    def test_no_scores(self, tmp_path: Path) -> None:
        fill(tmp_path, *(task(f"task-{number}", quality_score=None) for number in range(30)))
        run(tmp_path, "medallion")
        run(tmp_path, "collect")
        found = checks(tmp_path)
        assert found["scores"].verdict == "fail"
        assert "nothing is collected" in found["scores"].remedy
        assert "No quality score" in found["collection"].remedy

    def test_scores_of_others_are_scores(self, tmp_path: Path) -> None:
        """A fleet whose tasks have none of their own is well where people or the judge score them."""
        fill(tmp_path, *(task(f"task-{number}", quality_score=None) for number in range(30)))
        run(tmp_path, "medallion")
        for number in range(29):
            run(tmp_path, "label", f"task-{number}", "4.5")
        found = checks(tmp_path)["scores"]
        assert found.verdict == "ok"
        assert found.found == (
            "0 of 30 completed tasks have a quality score from 1 to 5 of their own; the judge scored 0, people 29"
        )

    def test_few_scores(self, root: Path) -> None:
        fill(root, *(task(f"more-{number}", quality_score=None) for number in range(40)))
        run(root, "medallion")
        found = checks(root)
        assert found["scores"].verdict == "warn"
        assert (found["collection"].verdict, "cortex-autolearn collect" in found["collection"].remedy) == ("warn", True)

    def test_words_that_are_no_final_status(self, root: Path) -> None:
        """Of tasks that tell of their end: they count as under way for ever, and nothing else says so."""
        fill(root, *(task(f"passed-{number}", status="Passed") for number in range(1_200)))
        fill(root, task("silent", status=None), task("long", status="x" * 60), task("at work", status="running"))
        fill(root, task("at last", status="finished"), task("under way", status="running", completed_at=None))
        theirs = root / layout.SILVER / "20251127.jsonl"
        theirs.write_text(json.dumps(task("at last")) + "\n")
        run(root, "medallion")
        run(root, "collect")
        found = checks(root)["statuses"]
        assert found.verdict == "warn"
        assert found.found == (
            "1,203 tasks with a time of completion and no final status: "
            f"passed (1,200), none (1), running (1), {'x' * 40} (1)"
        )
        assert "completed, complete, success, " in found.remedy

    def test_files_that_are_never_read(self, root: Path) -> None:
        os.mkfifo(root / layout.BRONZE / "pipe.jsonl")
        (root / layout.SILVER / "out.jsonl").symlink_to("/etc/hostname")
        found = checks(root)["refused files"]
        assert found.verdict == "warn"
        assert "pipe.jsonl (a FIFO)" in found.found
        assert "out.jsonl (a link that leaves the tree)" in found.found

    def test_what_lies_beside_the_files_that_are_read(self, root: Path) -> None:
        """Somebody put it there to be read; names of temporary files and what is empty say that they need not be."""
        folder = root / layout.BRONZE
        unread = ["x.json", "z.jsonl.gz", "y.ndjson", "Y.JSONL", ".hidden.jsonl", "a.jsonl~"]
        for name in [*unread, "half.jsonl.tmp", ".x.0123456789abcdef.tmp"]:
            (folder / name).write_bytes(b"{}\n")
        (folder / ".gitkeep").touch()
        (folder / "sub").mkdir()
        (folder / "sub" / "s.jsonl").touch()
        (folder / "folder.jsonl").mkdir()  # refused, which is told elsewhere
        (folder / "loop").symlink_to("loop")
        found = checks(root)["other files"]
        assert found.verdict == "warn"
        assert found.found == "8 in raw-tasks/ are not read: .hidden.jsonl, Y.JSONL, a.jsonl~, loop, sub/ (a folder), …"
        assert "Only NAME.jsonl directly in" in found.remedy
        for name in [*unread, "loop"]:
            (folder / name).unlink()
        assert checks(root)["other files"].found == "1 in raw-tasks/ is not read: sub/ (a folder)"

    def test_files_that_were_set_aside(self, root: Path) -> None:
        """Another writer's lines are in one of our folders: its owner hears of them."""
        (path,) = (root / layout.OUTCOMES / "training").iterdir()
        with path.open("ab") as file:
            file.write(b'{"task_id":"theirs"}\n')
        run(root, "medallion")
        found = checks(root)["set aside"]
        assert found.verdict == "warn"
        assert f"{layout.OUTCOMES}/training/{path.name}.orphan-" in found.found
        assert "original collector" in found.remedy

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (lambda path: path.unlink(), "is gone"),
            (
                lambda path: path.write_text(path.read_text().splitlines()[0] + "\n"),
                "ends with event 1, the state with 2",
            ),
            (lambda path: path.write_text("hello\n"), "no event"),
            (lambda path: path.write_text(path.read_text() * 2), "every event once"),
            (lambda path: path.write_text(path.read_text()[:-5]), "in the middle of a line"),
            (lambda path: path.write_text(path.read_text().splitlines()[1] + "\n"), "begins with event 2"),
            (lambda path: path.write_text(path.read_text().replace('"seq":2', '"seq":3')), "every event once"),
        ],
        ids=["gone", "short", "foreign", "doubled", "torn", "headless", "gap"],
    )
    def test_events_file_and_state_disagree(self, root: Path, spoil: Callable[[Path], object], words: str) -> None:
        spoil(root / layout.EVENTS)
        found = checks(root)["events"]
        assert found.verdict == "warn"
        assert words in found.found
        assert "events --json > " in found.remedy
        # The remedy is one.
        text = CliRunner().invoke(main, ["events", "--json", "--root", str(root)]).stdout
        (root / layout.EVENTS).write_text(text)
        assert checks(root)["events"].verdict == "ok"

    @pytest.mark.parametrize("spoil", [Path.unlink, lambda path: os.truncate(path, 100)], ids=["gone", "cut"])
    @pytest.mark.parametrize("folder", [layout.SILVER, f"{layout.OUTCOMES}/training"])
    def test_files_of_ours_that_are_gone_or_cut(self, root: Path, folder: str, spoil: Callable[[Path], object]) -> None:
        assert checks(root)["outputs"].verdict == "ok"
        (path,) = (root / folder).glob("*.jsonl")
        spoil(path)
        found = checks(root)["outputs"]
        assert found.verdict == "fail"
        assert found.found.startswith("1 file that we wrote, gone or cut: ")
        assert path.name in found.found
        run(root, "medallion")
        run(root, "collect")
        assert checks(root)["outputs"].verdict == "ok"

    def test_outcomes_without_a_line(self, root: Path) -> None:
        with closing(sqlite3.connect(root / layout.STATE)) as connection, connection:
            connection.execute("UPDATE outcomes SET length = 0 WHERE task_id IN ('task-1', 'task-2')")
        found = checks(root)["lost outcomes"]
        assert (found.verdict, found.found) == ("warn", "2 collected outcomes have lost their lines for good")

    def test_a_state_of_a_newer_version(self, root: Path) -> None:
        with closing(sqlite3.connect(root / layout.STATE)) as connection:
            connection.execute("PRAGMA user_version = 99")
        found = checks(root)["state"]
        assert found.verdict == "fail"
        assert "its schema is version 99" in found.found
        assert "newer" in found.remedy

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_bronze_file_that_may_not_be_read(self, root: Path) -> None:
        (path,) = (root / layout.BRONZE).iterdir()
        path.chmod(0)
        found = checks(root)["unreadable"]
        path.chmod(0o600)
        assert (found.verdict, path.name in found.found) == ("fail", True)

    def test_a_trigger_that_nobody_here_set(self, root: Path) -> None:
        (root / layout.AUTOLEARN / ".fine_tune_trigger").write_text("{}")
        assert checks(root)["trigger"].verdict == "warn"

    def test_a_clock_that_is_behind_the_files(self, root: Path) -> None:
        (path,) = (root / layout.BRONZE).iterdir()
        tomorrow = time.time() + 86_400
        os.utime(path, (tomorrow, tomorrow))
        assert checks(root)["clock"].verdict == "warn"

    def test_a_job_that_failed(self, root: Path) -> None:
        clock = SystemClock()
        store = Store(Tree(root), clock, print)
        now_us = instants.to_us(clock.now())
        with store.write() as transaction:
            transaction.begin_run(Run("run-1", "medallion", "schedule", "2025-11-27", now_us, None, None, {}))
            transaction.end_run("run-1", "failed", now_us)
        store.close()
        found = checks(root)["runs"]
        assert (found.verdict, found.found) == ("fail", "the last medallion failed, just now")

    @pytest.mark.parametrize(("then", "since"), [("ok", "failed"), ("failed", "ok")])
    def test_runs_of_a_clock_that_was_ahead_are_not_the_last_ones(self, root: Path, then: str, since: str) -> None:
        """What failed since it was set back is told of, and what failed in its future is not, until that has come."""
        clock = SystemClock()
        store = Store(Tree(root), clock, print)
        now_us = instants.to_us(clock.now())
        with store.write() as transaction:
            for job in ("medallion", "readiness", "rollout"):
                for result, at_us in ((then, now_us + 400 * instants.DAY_US), (since, now_us)):
                    transaction.begin_run(Run(f"{job}-{at_us}", job, "schedule", None, at_us, None, None, {}))
                    transaction.end_run(f"{job}-{at_us}", result, at_us)
        store.close()
        found = {one.found for one in examine(root, config=None, environ={}, flags={}) if one.verdict == "fail"}
        told = {f"the last {job} failed, just now" for job in ("medallion", "readiness")}
        told.add("the last run of it failed, just now")
        assert found & told == (told if since == "failed" else set())
        shown = CliRunner().invoke(main, ["status", "--json", "--root", str(root)])
        last = json.loads(shown.stdout)["last_runs"]
        assert {last[job]["result"] for job in ("medallion", "readiness", "rollout")} == {since}

    def test_a_file_in_the_place_of_a_folder(self, root: Path) -> None:
        (root / layout.QUARANTINE).write_text("a file where a folder must be")
        found = checks(root)["folders"]
        assert (found.verdict, found.found) == ("fail", f"{layout.QUARANTINE} is no folder")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_that_may_not_be_written(self, root: Path) -> None:
        (root / layout.AUTOLEARN).chmod(0o500)
        found = checks(root)["folders"]
        (root / layout.AUTOLEARN).chmod(0o700)
        assert (found.verdict, found.found) == ("fail", f"cannot write {layout.AUTOLEARN}")
