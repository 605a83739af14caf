"""The demo: the real daemon over a simulated fleet comes to the right numbers, and over given files to all of them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support import slow
from test_cli import task

from cortex_autolearn import demo
from cortex_autolearn.assignment import variant
from cortex_autolearn.cli import main
from cortex_autolearn.demo import account, mission
from cortex_autolearn.demo.leap import LeapingTime
from cortex_autolearn.model import layout
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.schedule import Daily, Every, Job, Scheduler
from cortex_autolearn.testing import Fleet

NOON = datetime(2025, 6, 2, 12, tzinfo=UTC)


def call(*args: str) -> Result:
    env = {name: None for name in os.environ if name.startswith("CORTEX_")}
    return CliRunner().invoke(main, ["demo", *args], env=env)


MASTER = "development-master"
TRAINED = r"ft-\d{8}-001"
MILESTONES = (
    r"Day  1 00:00  the daemon starts; v1\.0\.0 serves every master",
    r"Day .* 1,000 of 1,000 training examples are collected",
    rf"Day .* 03:00  fine-tuning triggered: {TRAINED}, 1,\d{{3}} examples, backend exemplar, base claude",
    rf"Day .* challenger deployed: {TRAINED} gets 10 % of the tasks of development-master",
    r" +simulated, and not told to the daemon: it is better, ",
    rf"Day .* outcomes: 1\d\d of {TRAINED}: ",
    rf"Day .* PROMOTED: {TRAINED} is the champion of development-master",
    rf"Day .* settled: {TRAINED} stays; 1,000 tasks were watched",
    rf"Day .* challenger deployed: {TRAINED} gets 10 % of the tasks of development-master",
    r" +simulated, and not told to the daemon: it is bad, ",
    rf"Day .* ROLLED BACK: {TRAINED} has all tasks again, {TRAINED} none",
)


class Running:
    """A demo in a process of its own, whose output is piped."""

    def __init__(self, root: Path, *args: str) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("CORTEX_")}
        command = [sys.executable, "-m", "cortex_autolearn", "demo", "--root", str(root), *args]
        self.root = root
        self._process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def output(self) -> str:
        """Wait for its end, which must be a good one, and return what it printed."""
        text, _ = self._process.communicate()
        assert self._process.returncode == 0, text
        return text

    def story(self) -> list[str]:
        """Return the lines about the days, without dates: they are those of the last 25 days."""
        text = re.sub(r"ft-\d{8}", "ft-DATE", self.output())
        return [line for line in text.splitlines() if line.startswith(("Day ", " " * 14))]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts demos, each in a folder of its own; none outlives the test."""
    with ExitStack() as stack:
        yield lambda name, *args: stack.enter_context(Running(tmp_path / name, *args))


class TestMission:
    @pytest.mark.timeout(300)
    def test_days_1_to_25(self, start: Callable[..., Running]) -> None:
        """Collected, trained, tested, promoted; a bad one rolled back. The same seed tells the same story."""
        whole, part = start("whole"), start("part", "--days", "15")
        text = whole.output()
        check_milestones(text)
        check_honesty(text)
        check_next_steps(text, whole.root)
        check_tasks(whole.root, text)
        told = re.sub(r"ft-\d{8}", "ft-DATE", text)
        story = part.story()
        assert any("PROMOTED" in line for line in story), story
        assert "\n".join(story) in told

    @slow
    @pytest.mark.timeout(600)
    def test_one_seed_tells_one_story(self, start: Callable[..., Running]) -> None:
        """To the last count and decision, whatever else the machine does; and another seed another one."""
        found = [start(str(number), "--seed", str(seed)) for number, seed in enumerate((2, 2, 3))]
        one, again, other = (running.story() for running in found)
        assert one == again != other

    def test_a_life_too_short_for_a_training_says_no_more_than_happened(self, tmp_path: Path) -> None:
        """Nothing is promoted on the first day; what there is is right, all the same."""
        result = call("--days", "1", "--tasks-per-day", "20", "--seed", "-7", "--root", str(tmp_path / "root"))
        assert result.exit_code == 0, result.output
        text = result.stdout
        assert [line for line in text.splitlines() if line.startswith("Day")] == [
            "Day  1 00:00  the daemon starts; v1.0.0 serves every master"
        ]
        assert f"\n  v1.0.0 is the champion of {MASTER}\n" in text
        assert "\nThe router was asked for all 20 tasks, and named:\n  v1.0.0      20 tasks, " in text
        assert "\nAs expected: " in text
        assert "explain" not in text
        assert run_next_steps(text).keys() == {"status", "route", "ab", "events"}

    def test_says_what_is_not_as_expected(self, tmp_path: Path) -> None:
        """ "As expected" is a finding, not a phrase."""
        fleet = Fleet(1, start=datetime(2025, 6, 2, tzinfo=UTC), tasks_per_day=5)
        nothing = account.Totals(0, 0, 0, 0, 0, 0, 0, 0, {}, {})
        found = account.differences(fleet.expected(1), nothing, tmp_path)
        assert any(line.startswith("objects: expected ") for line in found)
        assert any(line.startswith("tasks in the silver files: 5 missing ") for line in found)

    def test_shows_how_far_it_is_on_a_terminal(self, tmp_path: Path) -> None:
        """On stderr, below the milestones and gone in the end; what stdout gets is plain."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("CORTEX_")}
        command = [sys.executable, "-m", "cortex_autolearn", "demo", "--days", "1", "--tasks-per-day", "5"]
        ours, theirs = os.openpty()
        with subprocess.Popen(
            [*command, "--root", str(tmp_path / "root")], env=env, stdout=subprocess.PIPE, stderr=theirs
        ) as process:
            os.close(theirs)
            shown = b""
            with suppress(OSError):  # that is how a terminal ends
                while piece := os.read(ours, 65_536):
                    shown += piece
            assert process.stdout is not None
            text = process.stdout.read().decode()
        os.close(ours)
        assert process.returncode == 0
        assert b"Day  1 14:00  0 training examples (1,000 needed)" in shown
        assert re.search(rb"\r +\r$", shown)
        assert text.replace("\n", "").isprintable()


def check_milestones(text: str) -> None:
    """Check that all of them are told, in their order."""
    lines = iter(text.splitlines())
    for pattern in MILESTONES:
        assert any(re.match(pattern, line) for line in lines), f"{pattern} does not come in its turn:\n{text}"


def check_honesty(text: str) -> None:
    """Check that what is simulated, and what differs from the defaults, is said before anything else."""
    head = text[: text.index("\nDay  1")]
    for words in (
        "Simulated:  the fleet",
        "no model is called, nothing is sent or paid",
        "the models' quality",
        "the clock",
    ):
        assert words in head
    changed = re.findall(r"[a-z]+\.[a-z_]+(?= = | at a price)|(?<=and )judge\.model", head)
    assert set(changed) == {name for name in mission.SETTINGS if name != "judge.prices"}
    assert "\nAs expected: " in text
    assert text.replace("\n", "").isprintable()


def check_next_steps(text: str, root: Path) -> None:
    """Check that what is named to be typed next works, and that the decisions can be explained by it."""
    told = run_next_steps(text)
    assert [len(told[name]) for name in ("status", "ab", "explain", "route", "events")] == [1, 4, 2, 1, 1]
    promoted, rolled_back = told["explain"]
    assert "auto_promotion" in promoted
    assert "auto_rollback" in rolled_back
    assert f" status --root {root}\n" in text
    champion = re.findall(rf"  ({TRAINED}) is the champion of {MASTER}", text)
    assert re.findall(rf"PROMOTED: ({TRAINED})", text) == champion
    assert champion[0] in told["route"][0]


def run_next_steps(text: str) -> dict[str, list[str]]:
    """Run the commands that are named, each of which must work as it stands; return what they print, by command."""
    told: dict[str, list[str]] = {}
    named = text[text.index("\nNext:\n") :]
    for command in re.findall(
        r"^  [^:\n]+: +.*cortex[-_]autolearn ((?:status|ab|explain|route|events) .+)$", named, re.MULTILINE
    ):
        result = CliRunner().invoke(main, shlex.split(command), env={"CORTEX_HOME": None})
        assert result.exit_code == 0, (command, result.output)
        told.setdefault(command.split()[0], []).append(result.stdout)
    return told


def check_tasks(root: Path, text: str) -> None:
    """Check that each task of a test went where Cortex's hash sends it, and that nobody else got any."""
    tests = {path.stem: json.loads(path.read_bytes()) for path in (root / layout.AB_TESTS).glob("*.json")}
    lines = [json.loads(line) for path in (root / layout.BRONZE).glob("*.jsonl") for line in whole_lines(path)]
    assert {line["model"] for line in lines} == {"v1.0.0", *re.findall(TRAINED, text)}
    routed = [line for line in lines if "experiment" in line]
    assert len(routed) > 2_000
    assert {line["experiment"] for line in routed} <= set(tests)
    for line in routed:
        test = tests[line["experiment"]]
        arm = variant(line["task_id"], test["variants"]["a"]["traffic_percentage"])
        assert (line["master"], line["variant"], line["model"]) == (MASTER, arm, test["variants"][arm]["name"])


def whole_lines(path: Path) -> list[bytes]:
    """Return the lines of a file but for the torn ones."""
    return [line for line in path.read_bytes().splitlines() if line.endswith(b"}")]


class TestClock:
    def test_stands_until_it_leaps(self) -> None:
        """What is to come comes at no real instant that can be named; what has come is now."""
        clock = LeapingTime(NOON)
        assert clock.now() == NOON
        assert clock.to_real(NOON) <= datetime.now(UTC)
        assert clock.to_real(NOON + timedelta(seconds=1)) > datetime.now(UTC) + timedelta(hours=1)
        clock.leap(NOON + timedelta(hours=3))
        assert clock.now() == NOON + timedelta(hours=3)
        with pytest.raises(ValueError, match="forwards only"):
            clock.leap(NOON)

    def test_the_schedule_fires_what_was_leapt_over_once(self) -> None:
        """Each job once a leap, for its latest slot, and none twice."""

        async def live() -> list[tuple[str, str]]:
            clock, fired = LeapingTime(NOON), []
            jobs = [Job("hourly", Every(3_600)), Job("daily", Daily("02:00", "UTC"))]
            scheduler = Scheduler(jobs, clock, lambda job, slot: fired.append((job, slot.key)))
            scheduler.start()
            for hours, expected in ((3, 1), (14, 3), (14, 3), (15, 4)):
                clock.leap(NOON + timedelta(hours=hours))
                scheduler.resync()
                async with asyncio.timeout(5):
                    while len(fired) < expected:
                        await asyncio.sleep(0.01)
            scheduler.shutdown()
            return fired

        first, *night, last = asyncio.run(live())
        assert first == ("hourly", "2025-06-02T15:00:00Z")
        assert sorted(night) == [("daily", "2025-06-03"), ("hourly", "2025-06-03T02:00:00Z")]
        assert last == ("hourly", "2025-06-03T03:00:00Z")


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
