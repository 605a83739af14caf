"""The demo: the real daemon over a simulated fleet comes to the right numbers, and over given files to all of them."""

from __future__ import annotations

import json
import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support import objects
from test_cli import task

from cortex_autolearn import demo
from cortex_autolearn.cli import main
from cortex_autolearn.demo import account
from cortex_autolearn.model import layout
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.testing import Fleet


def call(*args: str) -> Result:
    env = {name: None for name in os.environ if name.startswith("CORTEX_")}
    return CliRunner().invoke(main, ["demo", *args], env=env)


class TestSimulated:
    def test_comes_to_what_the_fleet_expects_and_says_what_is_simulated(self, tmp_path: Path) -> None:
        """The README's first command, three days of it: within a minute, and right."""
        root = tmp_path / "fleet"
        began = time.monotonic()
        result = call("--days", "3", "--tasks-per-day", "60", "--seed", "7", "--root", str(root))
        assert result.exit_code == 0, result.output
        assert time.monotonic() - began < 60
        expected = Fleet(7, start=datetime(2025, 6, 2, tzinfo=UTC), tasks_per_day=60).expected(3)
        text = result.stdout
        assert text.startswith("Simulated: a fleet with 60 tasks a day, for 3 days from 2025-06-02 on (seed 7),\n")
        assert "Real:      the daemon with its schedule, watcher, state and jobs" in text
        assert [line[:14] for line in text.splitlines() if "02:00 run done" in line] == [
            "Mon 2025-06-02",
            "Tue 2025-06-03",
            "Wed 2025-06-04",
        ]
        assert f"Objects found: {expected.objects:,}\n" in text
        assert f"  - High-quality: {expected.high_quality} (training {expected.training}, " in text
        assert "\nAs expected: " in text
        found = re.search(
            r"\nScored: (\d+) tasks that lacked only a score, by a SCRIPTED judge: no model was called", text
        )
        assert found is not None
        judged = [one for one in objects(root / layout.OUTCOMES) if one.get("quality_source") == "judge"]
        assert 0 < len(judged) <= int(found[1])
        assert f"        {len(judged)} of them were good enough, so that {expected.high_quality + len(judged)} " in text
        assert f"  cortex-autolearn status --root {root}\n" in text

    def test_says_what_is_not_as_expected(self, tmp_path: Path) -> None:
        """ "As expected" is a finding, not a phrase."""
        fleet = Fleet(1, start=datetime(2025, 6, 2, tzinfo=UTC), tasks_per_day=5)
        nothing = account.Totals(0, 0, 0, 0, 0, 0, 0, 0, {}, {})
        found = account.differences(fleet.expected(1), nothing, tmp_path)
        assert any(line.startswith("objects: expected ") for line in found)
        assert any(line.startswith("tasks in the silver files: 5 missing ") for line in found)


class TestRoot:
    def test_a_folder_in_use_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "coordination").mkdir()
        result = call("--root", str(tmp_path))
        assert result.exit_code == 1
        assert "it is not empty" in result.stderr
        assert os.listdir(tmp_path) == ["coordination"]

    def test_an_earlier_demo_is_cleared_and_what_else_lies_there_stays(self, tmp_path: Path) -> None:
        demo.prepare(tmp_path)
        for name in ("coordination/old", "llm-mesh/old", "mine"):
            (tmp_path / name).mkdir(parents=True)
        assert demo.prepare(tmp_path) == tmp_path
        assert sorted(os.listdir(tmp_path)) == [demo.MARKER, "mine"]

    def test_a_new_folder_is_made(self, tmp_path: Path) -> None:
        assert demo.prepare(tmp_path / "a" / "b").is_dir()

    def test_the_environments_root_is_never_used(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        used: list[Path | None] = []

        def refuse(root: Path | None) -> Path:
            used.append(root)
            raise BoundaryError("use", "it", "no", hint="No", retryable=False)

        monkeypatch.setattr(demo, "prepare", refuse)
        result = CliRunner().invoke(main, ["demo"], env={"CORTEX_HOME": str(tmp_path)})
        assert (result.exit_code, used) == (1, [None])


class TestInput:
    def test_accounts_for_every_object_of_given_files(self, tmp_path: Path) -> None:
        lines = tmp_path / "tasks 2025.jsonl"
        records: list[str] = [json.dumps(task(f"task-{number}")) for number in range(6)]
        records += [
            json.dumps(task("poor", quality_score=1)),
            '{"no": "id"}',
            "not a record",
            '{"task_id": "torn", "sta',
        ]
        lines.write_text("\n".join(records))
        pretty = tmp_path / "one.json"
        pretty.write_text(json.dumps(task("pretty"), indent=2))
        again = tmp_path / "more" / "one.json"
        again.parent.mkdir()
        again.write_text(json.dumps(task("again"), indent=2))
        root = tmp_path / "root"
        result = call("--root", str(root), "--input", str(lines), str(pretty), str(again))
        assert result.exit_code == 0, result.output
        text = result.stdout
        assert text.startswith("Nothing is simulated: ")
        assert sorted(os.listdir(root / layout.BRONZE)) == ["one-2.jsonl", "one.jsonl", "tasks-2025.jsonl"]
        assert (
            "Objects found: 10\n"
            "  - In silver, one for each task: 9\n"
            "  - Superseded by another record of their task: 0\n"
            "  - Quarantined: 1\n"
            "Broken stretches, which are no objects, quarantined: 2\n"
        ) in text
        assert "Final tasks: 9 of 9\n  - High-quality: 8 (" in text
        assert "      Quality score too low: 1\n" in text
        assert "\nEvery object is accounted for.\n" in text

    def test_settings_hold(self, tmp_path: Path) -> None:
        path = tmp_path / "tasks.jsonl"
        path.write_text(json.dumps(task("one", quality_score=2)) + "\n")
        result = call("--input", str(path), "--root", str(tmp_path / "root"), "--set", "collect.min_quality=2")
        assert result.exit_code == 0, result.output
        assert "  - High-quality: 1 (" in result.stdout

    @pytest.mark.parametrize("content", ["", "[]", "null", "\ufeff \r\n", '{"task_id": "x"', "\x00"])
    def test_whatever_the_file_holds(self, tmp_path: Path, content: str) -> None:
        """Nothing is lost, even where nothing is right."""
        path = tmp_path / "odd"
        path.write_text(content)
        result = call("--input", str(path), "--root", str(tmp_path / "root"))
        assert result.exit_code == 0, result.output
        assert "\nEvery object is accounted for.\n" in result.stdout

    def test_only_regular_files(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.jsonl")
        result = call("--input", str(tmp_path / "pipe.jsonl"))
        assert (result.exit_code, "not a regular file" in result.stderr) == (2, True)
