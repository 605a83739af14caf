"""``deploy``, ``promote``, ``rollback``, ``pause``, ``resume``, ``abort``: a person's word, each time it is given."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Any

import pytest
from ab_support import MASTER, MODEL, TEST, Past, answer, call

from cortex_autolearn.model import layout

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:click")

COMMANDS = ("deploy", "promote", "rollback", "pause", "resume", "abort")


@pytest.fixture
def idle(tmp_path: Path) -> Path:
    """A master whose champion did 100 tasks in the last hours, and two models that nobody deployed."""
    past = Past(tmp_path / "root", days=0.6)
    past.add_model()
    past.add_model("ft-20251128-001")
    past.tasks(100)
    past.close()
    return past.root


@pytest.fixture
def testing(idle: Path) -> Path:
    """The same, with the first model under test."""
    assert call(idle, "deploy", MODEL, "security").exit_code == 0
    return idle


def champion(root: Path) -> str:
    """Return the champion by all files that say who it is; they agree."""
    routes = json.loads((root / layout.ROUTES).read_bytes())["masters"][MASTER]["champion"]["version"]
    aliases = json.loads((root / layout.MASTERS / "security/versions/aliases.json").read_bytes())["aliases"]
    (status,) = answer(root, "status")["masters"]
    assert {routes, aliases["champion"]["version"], status["champion"]} == {routes}
    return str(routes)


def challenger(root: Path) -> str | None:
    """Return which model the callers send tasks to beside the champion."""
    entry = json.loads((root / layout.ROUTES).read_bytes())["masters"][MASTER]
    return entry["challenger"] and str(entry["challenger"]["version"])


def last_event(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call(root, "events", "--limit", "1", "--json").stdout)
    return found


def step(root: Path, *args: str, result: str = "done", code: int = 0) -> dict[str, Any]:
    """Take a step, as JSON tells of it."""
    shown: dict[str, Any] = answer(root, *args, code=code)
    assert shown["result"] == result, shown
    assert shown["text"]
    return shown


class TestDeploy:
    def test_dry_run_says_what_would_happen_and_does_nothing(self, idle: Path) -> None:
        events = call(idle, "events", "--json").stdout
        result = call(idle, "deploy", MODEL, "security", "--dry-run")
        assert result.exit_code == 0
        assert result.stdout.splitlines() == [
            f"Dry run, nothing is done: {MODEL} is deployed next",
            "Share of the tasks: 10 % of about 100 a day",
            "A clearly better model is promoted in about 18.8 days, nine of ten in 38.8",
            'Note: it may take more than 30 days; with challenger_percentage = "auto" it would take less',
        ]
        assert step(idle, "deploy", MODEL, "security", "--dry-run", result="would do")["details"]["percentage"] == 10
        assert call(idle, "events", "--json").stdout == events
        assert answer(idle, "status")["masters"] == []

    def test_begins_a_test_at_once(self, idle: Path) -> None:
        """The model serves its share when the command has ended; who asked and why stands in the event."""
        result = call(idle, "deploy", MODEL, "security", "--why", "retrained  on\tthis month")
        assert result.stdout.splitlines()[:2] == [f"{MODEL} is deployed next", f"Its test has begun: {TEST}"]
        assert (champion(idle), challenger(idle)) == ("v1.0.0", MODEL)
        event = json.loads(call(idle, "events", "--type", "manual_decision", "--json").stdout)
        assert (event["step"], event["by"], event["why"]) == ("deploy", getpass.getuser(), "retrained on this month")

    def test_again_changes_nothing(self, testing: Path) -> None:
        seq = last_event(testing)["seq"]
        shown = step(testing, "deploy", MODEL, "security-master", result="unchanged")
        assert shown["text"] == f"{MASTER} is served by v1.0.0, and a test runs ({MODEL})"
        assert last_event(testing)["seq"] == seq

    def test_a_second_model_waits(self, testing: Path) -> None:
        """Until the first one's test has ended; then it is its turn at once."""
        shown = step(testing, "deploy", "ft-20251128-001", "security")
        assert shown["text"].startswith("ft-20251128-001 waits")
        assert (shown["serving"]["phase"], challenger(testing)) == ("testing", MODEL)
        step(testing, "deploy", "ft-20251128-001", "security", result="unchanged")
        step(testing, "abort", TEST)
        assert challenger(testing) == "ft-20251128-001"

    def test_the_champion_cannot_challenge_itself(self, testing: Path) -> None:
        """Neither while it is watched after its promotion, nor later."""
        step(testing, "promote", "security")
        assert "is being watched" in step(testing, "deploy", MODEL, "security", result="refused", code=1)["text"]
        step(testing, "rollback", "security")
        step(testing, "rollback", "security", "--to", MODEL)
        assert (
            "it is the champion already" in step(testing, "deploy", MODEL, "security", result="refused", code=1)["text"]
        )

    def test_a_foreign_test_is_waited_for(self, idle: Path) -> None:
        """A test that Cortex runs of this master occupies it, and the command says so."""
        path = idle / layout.AB_TESTS / "security-master-v9.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"test_id": "security-master-v9", "master": MASTER, "status": "active"}))
        result = call(idle, "deploy", MODEL, "security")
        assert result.exit_code == 0
        assert "It waits: security-master-v9, a test that is not ours, runs for this master" in result.stdout
        assert [one["model_id"] for one in answer(idle, "ab", "list")["queue"]] == [MODEL]

    def test_unknown_names_are_refused_with_those_there_are(self, idle: Path) -> None:
        """A model nobody trained; a master nobody has heard of, which would be a test without a task."""
        result = call(idle, "deploy", "ft-1", "security")
        assert (result.exit_code, "There is no model ft-1. There are: ft-20251128-001, " in result.stderr) == (2, True)
        (idle / layout.MASTERS / "cicd").mkdir(parents=True)
        result = call(idle, "deploy", MODEL, "securty")
        assert result.exit_code == 2
        assert "There is no master securty-master. There are: cicd-master." in result.stderr
        assert call(idle, "deploy", MODEL, "cicd", "--dry-run").exit_code == 0


class TestPromote:
    def test_makes_the_challenger_champion(self, testing: Path) -> None:
        """Whatever the test has shown; the former champion keeps a share for the watch."""
        shown = step(testing, "promote", "security", "--why", "checked by hand")
        assert shown["serving"]["phase"] == "watching"
        assert (champion(testing), challenger(testing)) == (MODEL, "v1.0.0")
        event = json.loads(call(testing, "events", "--type", "manual_decision", "--json").stdout.splitlines()[-1])
        assert (event["step"], event["why"]) == ("promote", "checked by hand")
        assert call(testing, "check", TEST).exit_code == 0

    def test_again_changes_nothing(self, testing: Path) -> None:
        step(testing, "promote", "security")
        seq = last_event(testing)["seq"]
        step(testing, "promote", "security", result="unchanged")
        assert last_event(testing)["seq"] == seq

    def test_without_a_challenger_is_refused(self, idle: Path, testing: Path) -> None:
        step(testing, "abort", TEST)
        result = call(testing, "promote", "security")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("cortex-autolearn: refused: cannot promote for security-master: ")


class TestRollback:
    def test_ends_a_test(self, testing: Path) -> None:
        step(testing, "rollback", "security", "--why", "answers are cut off")
        assert (champion(testing), challenger(testing)) == ("v1.0.0", None)
        assert call(testing, "check", TEST).exit_code == 4

    def test_takes_a_promotion_back(self, testing: Path) -> None:
        """And asked again, it does not roll back further."""
        step(testing, "promote", "security")
        step(testing, "rollback", "security")
        assert (champion(testing), challenger(testing)) == ("v1.0.0", None)
        step(testing, "rollback", "security", result="unchanged")
        assert champion(testing) == "v1.0.0"

    def test_after_the_challengers_end_changes_nothing(self, testing: Path) -> None:
        """Whoever ended it: the answer says what serves, and nobody is told of anything."""
        step(testing, "abort", TEST)
        seq = last_event(testing)["seq"]
        text = step(testing, "rollback", "security", result="unchanged")["text"]
        assert text.startswith(f"all tasks of {MASTER} go to v1.0.0 already: {MODEL} was given up at ")
        assert last_event(testing)["seq"] == seq

    def test_returns_to_a_former_champion_by_name(self, testing: Path) -> None:
        step(testing, "promote", "security")
        step(testing, "rollback", "security")
        step(testing, "rollback", "security", "--to", MODEL)
        assert champion(testing) == MODEL
        shown = step(testing, "rollback", "security", "--to", "v0.9", result="refused", code=1)
        assert "its former champions are" in shown["text"]

    def test_without_a_former_champion_is_refused(self, idle: Path) -> None:
        result = call(idle, "rollback", "security")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "refused" in result.stderr


class TestPauseAndResume:
    def test_gives_all_tasks_to_the_champion_for_a_while(self, testing: Path) -> None:
        """Nothing goes to the challenger while it is paused; afterwards the test goes on under its name."""
        result = call(testing, "pause", TEST, "--why", "the provider has trouble")
        assert result.stdout == f"{TEST} is paused: all tasks of {MASTER} go to v1.0.0\n"
        assert challenger(testing) is None
        assert answer(testing, "ab", "list")["tests"][0]["state"] == "paused"
        assert "Nothing is decided while it is paused" in call(testing, "ab", "summary", TEST).stdout
        assert answer(testing, "check", TEST, code=3)["reasons"] == ["paused: nothing is decided before it is resumed"]
        step(testing, "pause", TEST, result="unchanged")
        result = call(testing, "resume", TEST)
        assert result.stdout == f"{TEST} goes on\n"
        assert challenger(testing) == MODEL
        step(testing, "resume", TEST, result="unchanged")
        assert [line for line in call(testing, "ab", "show", TEST).stdout.splitlines() if line.startswith("Paused:")]

    def test_of_a_test_that_has_ended_is_refused(self, testing: Path) -> None:
        step(testing, "abort", TEST)
        for command in ("pause", "resume"):
            assert f"{TEST} has ended" in step(testing, command, TEST, result="refused", code=1)["text"]


class TestAbort:
    def test_gives_a_test_up(self, testing: Path) -> None:
        """The champion stays; asked again, nothing changes."""
        step(testing, "abort", TEST, "--why", "wrong dataset")
        assert (champion(testing), challenger(testing)) == ("v1.0.0", None)
        assert answer(testing, "ab", "list")["tests"][0]["state"] == "aborted"
        assert answer(testing, "check", TEST, code=5)["decision"] == "inconclusive"
        step(testing, "abort", TEST, result="unchanged")

    def test_takes_a_model_that_waits_out_of_the_queue(self, testing: Path) -> None:
        """Its turn never comes unless a person deploys it again; the test that runs goes on. Who and why is kept."""
        waiting = "ft-20251128-001"
        step(testing, "deploy", waiting, "security")
        shown = step(testing, "abort", f"{MASTER}-{waiting}", "--why", "trained on the wrong month")
        assert shown["text"] == f"{waiting} waits for {MASTER} no longer"
        assert answer(testing, "ab", "list")["queue"] == []
        assert (shown["serving"]["phase"], shown["serving"]["test_id"]) == ("testing", TEST)
        event = last_event(testing)
        assert (event["event"], event["seq"]) == ("manual_decision", shown["event_seq"])
        told = {key: event[key] for key in ("master", "step", "model", "by", "why")}
        why = "trained on the wrong month"
        assert told == {"master": MASTER, "step": "withdraw", "model": waiting, "by": getpass.getuser(), "why": why}
        explained = call(testing, "explain", str(event["seq"])).stdout
        assert f"Model:   {waiting}\nStep:    withdraw\n" in explained
        step(testing, "abort", TEST)
        assert challenger(testing) is None
        step(testing, "deploy", waiting, "security")
        assert challenger(testing) == waiting

    def test_of_a_model_that_waits_to_be_tested_again_takes_it_out(self, testing: Path) -> None:
        """The test of that name has ended long ago: what is meant is the one that waits."""
        step(testing, "abort", TEST)
        step(testing, "deploy", "ft-20251128-001", "security")
        step(testing, "deploy", MODEL, "security")
        step(testing, "abort", TEST)
        assert (answer(testing, "ab", "list")["queue"], challenger(testing)) == ([], "ft-20251128-001")
        step(testing, "abort", TEST, result="unchanged")

    def test_of_a_watch_names_what_does_that(self, testing: Path) -> None:
        watch = step(testing, "promote", "security")["serving"]["test_id"]
        shown = step(testing, "abort", watch, result="refused", code=1)
        assert "rollback security-master" in shown["text"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches(command: str) -> None:
    """The help says what happens to the traffic, how to give a reason, and shows an example."""
    result = call(None, command, "--help")
    assert result.exit_code == 0
    for word in ("Example:", "--why TEXT", "--json"):
        assert word in result.stdout


def test_a_reason_may_be_any_bytes(testing: Path) -> None:
    """What is no UTF-8 cannot stand in an event, and does not keep the test from being paused."""
    step(testing, "pause", TEST, "--why", "odd \udcff\x1b[31m byte")
    assert last_event(testing)["why"] == "odd \ufffd\x1b[31m byte"
    shown = call(testing, "explain", str(last_event(testing)["seq"])).stdout
    assert "Why:     odd \ufffd\\x1b[31m byte" in shown


def test_a_reason_has_a_limit(testing: Path) -> None:
    result = call(testing, "pause", TEST, "--why", "x" * 501)
    assert (result.exit_code, "at most 500 are kept" in result.stderr) == (2, True)


def test_a_master_that_cannot_be_one_is_wrong_usage(idle: Path) -> None:
    for command in (["deploy", MODEL], ["promote"], ["rollback"]):
        assert call(idle, *command, "../etc").exit_code == 2
