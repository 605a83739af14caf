"""The command line: what it prints, word for word, and how it ends."""

from __future__ import annotations

import fcntl
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from cortex_autolearn import daemon, jobs, wiring
from cortex_autolearn.adapters.clock import SystemClock
from cortex_autolearn.adapters.store import Store
from cortex_autolearn.adapters.tree import Tree
from cortex_autolearn.cli import COMMANDS, main
from cortex_autolearn.cli.call import Call
from cortex_autolearn.cli.look import EVENT_KINDS
from cortex_autolearn.cli.refine import collect_summary, medallion_summary
from cortex_autolearn.model import layout
from cortex_autolearn.rollout import apply
from cortex_autolearn.runner import JOBS

ANSWER = "The certificate of the gateway expires in nine days; renewed and rolled out."

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:click")


def task(task_id: str, **changes: object) -> dict[str, object]:
    good: dict[str, object] = {
        "task_id": task_id,
        "master": "security-master",
        "task_type": "audit",
        "status": "completed",
        "input": "Look at the certificates.",
        "output": ANSWER,
        "quality_score": 4.5,
        "created_at": "2025-11-27T09:58:00Z",
        "completed_at": "2025-11-27T10:00:00Z",
        "duration_seconds": 75,
    }
    return good | changes


def fill(root: Path, *records: dict[str, object] | str, name: str = "tasks-20251127.jsonl") -> None:
    path = root / layout.BRONZE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in records)


def call(root: Path | None, *args: str, env: Mapping[str, str | None] | None = None) -> Result:
    where = [] if root is None else ["--root", str(root)]
    cleared = {name: None for name in os.environ if name.startswith("CORTEX_")}
    return CliRunner().invoke(main, [*args, *where], prog_name="cortex-autolearn", env=cleared | dict(env or {}))


def answer(root: Path, *args: str) -> Any:
    result = call(root, *args, "--json")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fill(
        tmp_path,
        task("good-1"),
        task("good-2", completed_at="2025-11-27T10:05:00Z"),
        task("moving-1", status="running"),
        task("moving-1", status="completed"),
        task("poor", quality_score=2),
        task("poorer", quality_score=1),
        task("quick", duration_seconds=2),
        '{"status": "completed"}',
        "not a record",
    )
    return tmp_path


class TestHelp:
    def test_lists_every_command_with_the_line_it_bears_itself(self) -> None:
        """The list in the help is kept by hand, so that it costs no import; it names all there are."""
        result = call(None, "--help")
        assert result.exit_code == 0
        for name in COMMANDS:
            assert re.search(rf"^  {name} ", result.stdout, re.MULTILINE)

    @pytest.mark.parametrize(
        "command",
        [*([name] for name in COMMANDS), ["config", "show"], ["config", "check"], ["fine-tune", "status"]],
        ids=" ".join,
    )
    def test_teaches(self, command: list[str]) -> None:
        """Every command says what it does, takes the global options, and shows an example."""
        result = call(None, *command, "--help")
        assert result.exit_code == 0
        assert "--root DIR" in result.stdout
        assert "--set SECTION.KEY=VALUE" in result.stdout
        if command not in (["ab"], ["config"], ["fine-tune"], ["rollout"]):
            assert "Example:" in result.stdout

    def test_the_version_is_the_packages(self) -> None:
        result = call(None, "--version")
        assert (result.exit_code, result.stdout) == (0, "cortex-autolearn 0.1.0\n")

    def test_every_command_is_where_the_table_says(self) -> None:
        for name in COMMANDS:
            command = main.get_command(click.Context(main), name)
            assert command is not None
            assert command.name == name

    def test_starts_without_the_heavy_packages(self) -> None:
        """The help imports none of what the commands need, and a refinement nothing of what only the daemon needs."""
        program = "import sys; from cortex_autolearn.cli import main; main({args}, standalone_mode=False)"
        heavy = ("apscheduler", "watchfiles", "structlog", "asyncio", "anthropic", "sqlite3", "cortex_autolearn.daemon")
        for args, allowed in (["--help"], ()), (["medallion", "--root", "/nowhere"], ("sqlite3",)):
            code = f"try:\n {program.format(args=args)}\nexcept BaseException:\n pass\n"
            code += f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
            found = json.loads(done.stderr.splitlines()[-1].replace("'", '"'))
            assert set(found) <= set(allowed)


class TestMedallion:
    def test_prints_numbers_that_add_up(self, root: Path) -> None:
        result = call(root, "medallion")
        assert result.exit_code == 0
        lines = result.stdout.splitlines()
        assert lines[0].startswith("Files read: 1 (")
        assert lines[1:7] == [
            "Records found: 8",
            "  - To silver: 6",
            "  - Superseded by another record of their task: 1",
            "  - Quarantined: 1",
            "Also quarantined: 1 broken stretch",
            "Days changed: 1 (20251127)",
        ]
        assert lines[7] == "Gold written: 1 day"
        assert re.fullmatch(r"Time taken: \d\.\d\d s", lines[8])
        assert len(lines) == 9

    def test_json_holds_the_keys_of_the_format(self, root: Path) -> None:
        counts = answer(root, "medallion")
        assert counts["duration_seconds"] >= 0
        expected = {"files": 1, "objects": 8, "silver": 6, "superseded": 1, "quarantined": 2, "days": ["20251127"]}
        assert {name: counts[name] for name in expected} == expected
        assert counts["objects"] == counts["silver"] + counts["superseded"] + counts["quarantined_objects"]
        assert counts["bytes_read"] == (root / layout.BRONZE / "tasks-20251127.jsonl").stat().st_size

    def test_reads_nothing_twice(self, root: Path) -> None:
        call(root, "medallion")
        assert answer(root, "medallion")["objects"] == 0

    def test_writes_the_gold_of_a_range(self, root: Path) -> None:
        result = call(root, "medallion", "--from", "2025-11-26", "--to", "20251128")
        assert result.exit_code == 0
        assert "\nGold written: 3 days\n" in result.stdout
        assert (root / layout.KPIS / "kpis-20251126-to-20251128.json").is_file()
        assert (root / layout.ANALYTICS / "daily-20251126.json").is_file()
        assert (root / layout.ANALYTICS / "daily-20251127.json").is_file()

    def test_a_day_of_an_early_year_is_a_day(self, root: Path) -> None:
        """A slip of the pen, such as 0202 for 2025, names a day of which there is nothing."""
        assert call(root, "medallion", "--date", "0202-11-01").exit_code == 0
        found = json.loads((root / layout.KPIS / "kpis-02021101-to-02021101.json").read_bytes())
        assert found["kpis"]["total_tasks"] == 0

    def test_compacts_and_rebuilds(self, root: Path) -> None:
        call(root, "medallion")
        silver = root / layout.SILVER / "20251127.autolearn.jsonl"
        fill(root, task("poor", quality_score=3, completed_at="2025-11-27T11:00:00Z"))
        call(root, "medallion")
        assert len(silver.read_bytes().splitlines()) == 7
        result = call(root, "medallion", "--compact")
        assert result.exit_code == 0
        assert "\nSuperseded lines taken out of: 1 day\n" in result.stdout
        assert len(silver.read_bytes().splitlines()) == 6
        assert answer(root, "medallion", "--rebuild")["objects"] == 9

    def test_a_file_that_cannot_be_read_is_named_and_the_others_are_read(self, root: Path) -> None:
        os.mkfifo(root / layout.BRONZE / "pipe.jsonl")
        result = call(root, "medallion")
        assert result.exit_code == 0
        assert "Records found: 8" in result.stdout

    def test_summary_of_nothing(self) -> None:
        nothing = dict.fromkeys(("files", "bytes_read", "objects", "silver", "superseded", "quarantined"), 0)
        text = medallion_summary(nothing | {"quarantined_objects": 0, "days": [], "duration_seconds": 0.004})
        assert text == (
            "Files read: 0 (0 bytes)\n"
            "Records found: 0\n"
            "  - To silver: 0\n"
            "  - Superseded by another record of their task: 0\n"
            "  - Quarantined: 0\n"
            "Days changed: 0\n"
            "Time taken: 0.00 s"
        )


class TestCollect:
    def test_prints_the_summary_that_operators_know(self, root: Path) -> None:
        call(root, "medallion")
        result = call(root, "collect")
        assert result.exit_code == 0
        assert result.stderr == ""
        assert result.stdout == (
            "Total tasks processed: 6\n"
            "High-quality tasks: 3\n"
            "  - Training: 2\n"
            "  - Validation: 1\n"
            "\n"
            "Rejection reasons:\n"
            "  Quality score too low: 2\n"
            "  Too fast (trivial): 1\n"
        )

    def test_a_second_time_finds_nothing_new_and_says_where_new_comes_from(self, root: Path) -> None:
        call(root, "medallion")
        call(root, "collect")
        result = call(root, "collect")
        assert result.stdout.startswith("Total tasks processed: 0\nHigh-quality tasks: 0\n")
        assert "cortex-autolearn medallion" in result.stderr

    def test_json_holds_the_keys_of_the_format(self, root: Path) -> None:
        call(root, "medallion")
        counts = answer(root, "collect", "--date", "2025-11-27")
        counts.pop("duration_seconds")
        assert counts == {
            "processed": 6,
            "high_quality": 3,
            "training": 2,
            "validation": 1,
            "rejected": {"Quality score too low": 2, "Too fast (trivial)": 1},
            "already_collected": 0,
            "withdrawn": 0,
        }

    def test_all_asks_again_and_collects_nothing_twice(self, root: Path) -> None:
        call(root, "medallion")
        call(root, "collect")
        counts = answer(root, "collect", "--all")
        assert (counts["processed"], counts["high_quality"], counts["already_collected"]) == (6, 0, 3)
        assert call(root, "collect", "--all").stdout.endswith("\n\nAlready collected: 3\n")

    def test_tells_of_what_was_withdrawn(self) -> None:
        counts = {"processed": 1, "high_quality": 0, "training": 0, "validation": 0, "already_collected": 0}
        text = collect_summary(counts | {"rejected": {"Has errors": 1}, "withdrawn": 1})
        assert text.endswith("Rejection reasons:\n  Has errors: 1\n\nWithdrawn: 1")

    def test_tells_of_what_is_broken_in_silver_of_cortex(self, root: Path) -> None:
        """With its place in the quarantine, where ``status`` counts it as well."""
        path = root / layout.SILVER / "20251127.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'{"task_id":"broken","output":}\n')
        before = answer(root, "status")["quarantined"]
        assert call(root, "collect").stdout.endswith("\n\nQuarantined of silver that Cortex wrote: 1\n")
        assert sum(answer(root, "status")["quarantined"].values()) == sum(before.values()) + 1


class TestRunOnce:
    @pytest.mark.parametrize("job", ["silver", "medallion", "collection", "readiness", "status"])
    def test_runs_every_job(self, root: Path, job: str) -> None:
        result = answer(root, "run-once", job)
        assert (result["job"], result["result"]) == (job, "ok")
        assert set(result) == {"run_id", "job", "result", "duration_seconds", "counts"}

    def test_the_help_explains_every_job(self) -> None:
        text = call(None, "run-once", "--help").stdout
        assert [job for job in JOBS if not re.search(rf"^  {job}  +\w", text, re.MULTILINE)] == []

    def test_says_what_it_did(self, root: Path) -> None:
        result = call(root, "run-once", "readiness")
        assert result.exit_code == 0
        assert result.stdout.startswith("readiness: ok in 0.0")
        assert "  training_examples: 0\n" in result.stdout
        assert "  ready: no\n" in result.stdout

    @pytest.mark.parametrize("job", ["silver", "medallion", "collection", "readiness", "status"])
    def test_says_it_to_people(self, root: Path, job: str) -> None:
        """No value is printed as the program holds it."""
        call(root, "run-once", "collection")
        text = call(root, "run-once", job).stdout
        assert not re.search(r"[{}\[\]']|True|False|None", text)

    def test_the_nightly_run_keeps_to_the_retention_and_a_plain_one_does_not(self, root: Path) -> None:
        keeps = ("--set", "retention.silver_days=1")
        call(root, "medallion", *keeps)
        call(root, "collect")
        silver = root / layout.SILVER / "20251127.autolearn.jsonl"
        call(root, "medallion", "--compact", *keeps)
        assert silver.exists()
        assert call(root, "run-once", "medallion", *keeps).exit_code == 0
        assert not silver.exists()


class TestEvents:
    def fill(self, root: Path) -> None:
        call(root, "medallion")
        call(root, "collect")

    def test_prints_them_oldest_first_as_the_file_holds_them(self, root: Path) -> None:
        self.fill(root)
        result = call(root, "events", "--json")
        assert result.stdout == (root / layout.EVENTS).read_text()
        assert [json.loads(line)["event"] for line in result.stdout.splitlines()] == ["medallion_run", "hq_collection"]

    def test_filters_by_type_number_and_count(self, root: Path) -> None:
        self.fill(root)
        assert call(root, "events", "--json", "--type", "hq_collection").stdout.count("\n") == 1
        assert json.loads(call(root, "events", "--json", "--limit", "1").stdout)["seq"] == 2
        assert json.loads(call(root, "events", "--json", "--since", "0", "--limit", "1").stdout)["seq"] == 1
        assert call(root, "events", "--since", "2").stdout == ""

    def test_knows_every_type_there_is(self) -> None:
        counts = {"objects": 1, "processed": 1, "scored": 1}
        told = {jobs.event_of(job, counts, is_whole=True) for job in jobs.BODIES} - {None}
        for path in Path(daemon.__file__).parent.rglob("*.py"):
            told |= set(re.findall(r"transaction\.event\(\s*\"(\w+)\"", path.read_text()))
        told |= {*apply._EVENTS.values(), apply.MANUAL}
        assert told == set(EVENT_KINDS)

    def test_reads_well(self, root: Path) -> None:
        self.fill(root)
        first, second = call(root, "events").stdout.splitlines()
        assert re.match(r"20\d\d-\S+Z +1  medallion_run +job=medallion run_id=\S+ trigger=command files=1 ", first)
        assert "processed=6 high_quality=3 training=2 validation=1" in second

    def test_follows(self, root: Path) -> None:
        """What happens later is printed as it happens."""
        self.fill(root)
        command = [sys.executable, "-m", "cortex_autolearn", "events", "--follow", "--json", "--root", str(root)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert [json.loads(process.stdout.readline())["seq"] for _ in range(2)] == [1, 2]
            fill(root, task("later"))
            call(root, "medallion")
            assert json.loads(process.stdout.readline())["seq"] == 3
            process.terminate()

    def test_following_ends_with_its_reader(self, root: Path) -> None:
        """`events --follow --type auto_promotion | head -1` ends with head, not at the event after that."""
        self.fill(root)
        command = [sys.executable, "-m", "cortex_autolearn", "events", "--follow", "--json", "--root", str(root)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            try:
                assert process.wait(timeout=30) == 0
                assert process.stderr.read() == ""
            finally:
                process.kill()


class TestConfig:
    def test_shows_every_value_and_its_origin(self, root: Path) -> None:
        (root / layout.CONFIG).write_text("[collect]\nmin_quality = 3.5\n")
        env = {"CORTEX_AUTOLEARN__TRAINING__MIN_EXAMPLES": "50"}
        result = call(root, "config", "show", "--set", "collect.min_duration_s=5", env=env)
        lines = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}
        assert lines["collect.min_quality"] == ["3.5", "file", str(root / layout.CONFIG)]
        assert lines["training.min_examples"] == ["50", "environment", "CORTEX_AUTOLEARN__TRAINING__MIN_EXAMPLES"]
        assert lines["collect.min_duration_s"] == ["5.0", "--set", "collect.min_duration_s"]
        assert lines["collect.max_duration_s"] == ["600.0", "default"]

    def test_json(self, root: Path) -> None:
        rows = {row["key"]: row for row in answer(root, "config", "show")["settings"]}
        assert rows["collect.min_quality"] == {"key": "collect.min_quality", "value": 4.0, "origin": "default"}
        assert rows["medallion.follow_bronze"]["value"] is True
        assert rows["medallion.score_scale"]["value"] == []
        scale = '[{"low": 0, "high": 100, "files": "a*"}]'
        shown = answer(root, "config", "show", "--set", f"medallion.score_scale={scale}")["settings"]
        (value,) = (row["value"] for row in shown if row["key"] == "medallion.score_scale")
        assert value == [{"files": "a*", "field": "quality_score", "low": 0.0, "high": 100.0}]

    def test_check_of_a_right_one(self, root: Path) -> None:
        result = call(root, "config", "check")
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.startswith("The configuration is right: ")
        assert answer(root, "config", "check") == {"ok": True, "problems": [], "given": 0}

    def test_check_prints_all_that_is_wrong(self, root: Path) -> None:
        (root / layout.CONFIG).write_text("[collect]\nmin_quality = 9\nmin_lenght = 1\n")
        for command in (["config", "check"], ["medallion"], ["status"], ["config", "show"], ["run"]):
            result = call(root, *command, "--set", "training.epochs=none")
            assert result.exit_code == 78
            assert result.stdout == ""
            first, *problems = result.stderr.splitlines()
            assert first == "cortex-autolearn: the configuration is wrong:"
            assert len(problems) == 3
        result = call(root, "config", "check", "--json")
        assert result.exit_code == 78
        assert len(json.loads(result.stdout)["problems"]) == 2


class TestUsage:
    @pytest.mark.parametrize(
        "args",
        [
            ["medallion", "--date", "2025-02-30"],
            ["medallion", "--date", "27.11.2025"],
            ["medallion", "--from", "20251127"],
            ["medallion", "--to", "20251127"],
            ["medallion", "--from", "20251128", "--to", "20251127"],
            ["medallion", "--from", "19700101", "--to", "20251127"],
            ["medallion", "--date", "20251127", "--from", "20251127", "--to", "20251127"],
            ["medallion", "--rebuild", "--compact"],
            ["medallion", "--date", "20251127", "--rebuild"],
            ["collect", "--date", "2025112"],
            ["collect", "--date", "20251127", "--all"],
            ["run-once", "nothing"],
            ["events", "--limit", "0"],
            ["events", "--limit", "99999999999999999999"],
            ["events", "--since", "99999999999999999999"],
            ["events", "--type", "nope"],
            ["label", "t\udcff", "4"],
            ["label", "t", "4", "--note", "\udcff"],
            ["ab", "show", "\udcff"],
            ["deploy", "\udcff", "security"],
            ["rollback", "security", "--to", "\udcff"],
            ["abort", "\udcff"],
            ["fine-tune", "cancel", "\udcff"],
            ["nothing"],
            ["status", "--set", "collect=1"],
            ["status", "--set", "collect.min_quality"],
            ["status", "--root", ""],
            ["demo", "--days", "0"],
            ["demo", "--set", "collect.min_quality=3"],
            ["demo", "--input", "/nowhere.jsonl"],
        ],
        ids=" ".join,
    )
    def test_wrong_usage_exits_2_and_prints_nothing_on_stdout(self, tmp_path: Path, args: list[str]) -> None:
        result = CliRunner().invoke(main, ["--root", str(tmp_path), *args])
        assert (result.exit_code, result.stdout) == (2, "")
        assert "Error: " in result.stderr
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "args",
        [
            ["status", "--root", "\udcff"],
            ["status", "--config", "\udcff.toml"],
            ["dataset", "export", "--to", "\udcff"],
            ["replay", "\udcff", "--champion", "a", "--challenger", "b", "--policy", "\udcff"],
        ],
        ids=lambda args: " ".join(args[:-1]),
    )
    def test_a_path_need_not_be_utf_8(self, root: Path, args: list[str]) -> None:
        """Unlike a name or a remark: what is wrong here is only that nothing lies there."""
        result = CliRunner().invoke(main, ["--root", str(root), *args])
        assert result.exit_code in {1, 78}
        assert "UTF-8" not in result.stderr

    def test_whether_a_daemon_without_http_is_ready_is_not_known(self, root: Path) -> None:
        """HTTP may be off, or its port another one's, as another daemon's on this machine: both are said."""
        (root / layout.AUTOLEARN).mkdir(parents=True)
        with (root / layout.DAEMON_LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert call(root, "health").exit_code == 0
            result = call(root, "health", "--ready")
        assert result.exit_code == 1
        assert "http.enabled is false, or its log says why (http_unavailable)" in result.stdout

    def test_a_root_that_is_none_exits_1_and_says_what_to_do(self, tmp_path: Path) -> None:
        for command in (["medallion"], ["collect"], ["status"], ["schedule"], ["events"], ["run"]):
            result = call(tmp_path, *command)
            assert (result.exit_code, result.stdout) == (1, "")
            assert result.stderr.count("\n") == 1
            assert "--root" in result.stderr
            assert "--init" in result.stderr

    def test_a_root_within_a_tree_is_told_which_one(self, root: Path) -> None:
        """Who stands too deep is told where to stand, and nothing, not even --init, makes a second tree of a part."""
        for part in (layout.COORDINATION, layout.BRONZE, layout.AUTOLEARN):
            for command in (["medallion"], ["run"], ["run", "--init"]):
                result = call(root / part, *command)
                assert (result.exit_code, result.stdout) == (1, "")
                assert f"Give {root}, which holds coordination/, with --root or CORTEX_HOME" in result.stderr
                assert "create one" not in result.stderr
            result = call(root / part, "doctor")
            assert f"-> Name {root} with --root or CORTEX_HOME.\n" in result.stdout
            assert not (root / part / layout.COORDINATION).exists()

    def test_a_root_beside_the_parts_of_a_tree_may_be_a_new_one(self, root: Path) -> None:
        """A folder of somebody's own that lies in a tree is told of it as well, and may become a tree."""
        result = call(root / "trials", "medallion")
        assert result.exit_code == 1
        assert f"Give {root}, which holds coordination/, with --root or CORTEX_HOME, or create one" in result.stderr
        wiring.require_root(root / "trials", init=True)
        assert call(root / "trials", "medallion").exit_code == 0

    def test_options_may_stand_before_or_after_the_command(self, root: Path, tmp_path: Path) -> None:
        other = tmp_path / "other"
        assert CliRunner().invoke(main, ["--root", str(root), "medallion"]).exit_code == 0
        assert CliRunner().invoke(main, ["--root", str(other), "collect", "--root", str(root)]).exit_code == 0

    def test_the_root_comes_from_the_environment_else_is_here(
        self, root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
        assert call(None, "medallion").exit_code == 1
        assert call(None, "medallion", env={"CORTEX_HOME": str(root)}).exit_code == 0
        monkeypatch.chdir(root)
        assert call(None, "collect").exit_code == 0

    def test_a_refusal_is_one_line_and_no_traceback(self, root: Path) -> None:
        (root / layout.AUTOLEARN).parent.mkdir()
        (root / layout.AUTOLEARN).write_text("a file where a folder must be")
        result = call(root, "medallion")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.count("\n") == 1
        assert result.stderr.startswith("cortex-autolearn: cannot ")

    def test_a_bug_is_named_and_shown_only_when_asked_for(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from cortex_autolearn.cli import refine  # noqa: PLC0415 - so that the help's test sees a fresh start

        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("the bottom\x1b[31m dropped out")

        monkeypatch.setattr(refine, "opened", broken)
        result = call(root, "medallion")
        assert result.exit_code == 1
        assert "RuntimeError: the bottom\\x1b[31m dropped out" in result.stderr
        assert "report it" in result.stderr
        assert "Traceback" not in result.stderr
        assert "Traceback" in call(root, "medallion", "--debug").stderr

    @pytest.mark.parametrize(
        ("typed", "meant"), [("stauts", "status"), ("finetune", "fine-tune"), ("runonce", "run-once")]
    )
    def test_a_typo_is_told_what_was_meant(self, typed: str, meant: str) -> None:
        """The topmost commands are imported late, and a slip in their names is told of like one below them."""
        result = call(None, typed)
        assert result.exit_code == 2
        assert result.stderr.endswith(f"Error: No such command '{typed}'. Did you mean '{meant}'?\n")
        assert call(None, "zzz").stderr.endswith("Error: No such command 'zzz'.\n")

    def test_a_shell_that_completes_a_typo_is_told_nothing(self) -> None:
        """Whoever presses the tabulator behind a slip is not shown a traceback."""
        asked = {
            "_CORTEX_AUTOLEARN_COMPLETE": "bash_complete",
            "COMP_WORDS": "cortex-autolearn stauts ",
            "COMP_CWORD": "2",
        }
        command = [sys.executable, "-m", "cortex_autolearn"]
        done = subprocess.run(command, env=os.environ | asked, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")

    def test_a_closed_pipe_is_silent(self, root: Path) -> None:
        call(root, "medallion")
        command = f"{sys.executable} -m cortex_autolearn config show --root {root} | true"
        for _ in range(3):
            done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True)
            assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize(
        "args", [["health"], ["doctor"], ["doctor", "--json"], ["fine-tune", "trigger", "--dry-run"]], ids=" ".join
    )
    def test_an_answer_stands_where_nobody_reads_it(self, root: Path, args: list[str]) -> None:
        """A command whose exit code is its answer gives the same one into a closed pipe: no daemon is not health."""
        reading, writing = os.pipe()
        os.close(reading)
        command = [sys.executable, "-m", "cortex_autolearn", *args, "--root", str(root)]
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
        os.close(writing)
        assert (done.returncode, done.stderr) == (call(root, *args).exit_code, "") == (1, "")

    @pytest.mark.parametrize("args", [["status"], ["--help"], ["status", "--json"]], ids=" ".join)
    def test_output_that_cannot_be_written_is_no_bug(self, root: Path, args: list[str]) -> None:
        with Path("/dev/full").open("w") as full:
            where = [] if args == ["--help"] else ["--root", str(root)]
            command = [sys.executable, "-m", "cortex_autolearn", *args, *where]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
        said = "cortex-autolearn: cannot write the output: No space left on device\n"
        assert (done.returncode, done.stderr) == (1, said)

    def test_a_current_folder_that_is_gone_is_no_bug(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        for command in ("status", "doctor", "medallion"):
            result = call(None, command)
            assert (result.exit_code, result.stdout) == (1, "")
            assert result.stderr == "cortex-autolearn: the current folder was removed: go to another one\n"


class TestLooking:
    LOOKS = (["status"], ["schedule"], ["events"], ["fine-tune", "status"], ["config", "show"], ["config", "check"])

    def test_creates_nothing_where_nothing_ran(self, tmp_path: Path) -> None:
        (tmp_path / layout.COORDINATION).mkdir()
        for command in self.LOOKS:
            assert call(tmp_path, *command).exit_code == 0
        assert [path.name for path in tmp_path.rglob("*")] == [layout.COORDINATION]
        assert call(tmp_path, "events").stdout == ""

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as another user")
    @pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open"])
    def test_needs_no_right_to_write(self, root: Path, tmp_path_factory: pytest.TempPathFactory, is_open: bool) -> None:  # noqa: FBT001
        """Another user than the daemon's sees the same, whether somebody has the state open or not."""
        call(root, "medallion")
        call(root, "collect")
        commands = self.LOOKS[1:]
        expected = [call(root, *command).stdout for command in commands]
        for folder in (root, *root.parents):
            if folder.is_relative_to(tmp_path_factory.getbasetemp()) or folder.name.startswith("pytest-"):
                folder.chmod(0o755)
        store = Store(Tree(root), SystemClock(), print) if is_open else None
        os.seteuid(65534)
        try:
            found = [call(root, *command) for command in commands]
            first = call(root, "status")
        finally:
            os.seteuid(0)
            if store is not None:
                store.close()
        assert [(one.exit_code, one.stdout) for one in found] == [(0, text) for text in expected]
        assert "Tasks seen:          6" in first.stdout

    def test_a_state_of_a_newer_version_is_refused(self, root: Path) -> None:
        call(root, "medallion")
        with closing(sqlite3.connect(root / layout.STATE)) as connection:
            connection.execute("PRAGMA user_version = 99")
        result = call(root, "status")
        assert result.exit_code == 1
        assert "its schema is version 99" in result.stderr


class TestCopying:
    def test_commands_in_texts_are_called_as_this_one_was(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Off the PATH a remedy names the program as it was typed, and the ROOT that was named."""
        monkeypatch.setattr(sys, "argv", [".venv/bin/cortex-autolearn"])
        assert f" .venv/bin/cortex-autolearn run --root {root}\n" in call(root, "schedule").stderr
        assert f"-> Start it: .venv/bin/cortex-autolearn run --root {root}; better" in call(root, "doctor").stdout
        monkeypatch.setattr(sys, "argv", ["/site-packages/cortex_autolearn/__main__.py"])
        assert f" {sys.executable} -m cortex_autolearn run --root {root}\n" in call(root, "schedule").stderr

    def test_what_to_type_next_is_on_the_same_root(self, root: Path) -> None:
        """A command that is copied from a note acts on the tree that the note is about, not on another one."""
        assert call(root, "dataset", "list").stdout.endswith(f": cortex-autolearn dataset build --root {root}\n")
        assert f": cortex-autolearn dataset build --root {root}\n" in call(root, "dataset", "show").stderr
        no_key = call(root, "score").stderr
        assert no_key.endswith(f" let people score: cortex-autolearn label TASK_ID SCORE --root {root}\n")

    def test_a_root_that_was_not_named_is_not_named(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(root)
        assert call(None, "schedule").stderr.endswith(": cortex-autolearn run\n")

    def test_a_text_that_names_the_root_keeps_it(self, tmp_path: Path) -> None:
        told = Call(tmp_path, tmp_path / "a b", None, {})
        assert told.copyable("cortex-autolearn run --root /x") == "cortex-autolearn run --root /x"
        named = "  cortex-autolearn events --type hq_collection --root /x\n  cortex-autolearn run --root /x"
        assert told.copyable(named) == named
        assert told.copyable("call cortex-autolearn medallion --rebuild, then cortex-autolearn collect") == (
            f"call cortex-autolearn medallion --rebuild --root '{tmp_path}/a b', "
            f"then cortex-autolearn collect --root '{tmp_path}/a b'"
        )
        assert told.copyable("/opt/cortex-autolearn runs") == "/opt/cortex-autolearn runs"


class TestPrinting:
    def test_no_color_where_nobody_wants_it(self, root: Path) -> None:
        result = CliRunner().invoke(main, ["doctor", "--root", str(root)], color=True, env={"NO_COLOR": "1"})
        assert "\x1b" not in result.stdout
        assert (
            "\x1b"
            in CliRunner().invoke(main, ["doctor", "--root", str(root)], color=True, env={"NO_COLOR": None}).stdout
        )
        assert "\x1b" not in CliRunner().invoke(main, ["doctor", "--root", str(root)]).stdout
