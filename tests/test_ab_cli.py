"""``ab``, ``check`` and ``explain``: what they say of tests that were decided one way or another, word for word."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ab_support import MASTER, MODEL, TEST, Past, answer, call

from cortex_autolearn.model import instants, layout

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:click")

CARD = {"decision", "reasons", "decided_after", "variants", "gain", "evidence"}
MINUTE = "%Y-%m-%d %H:%M"


def lived(root: Path, count: int, *, share: int = 10, days: float = 20, **options: Any) -> Past:
    """Return a fleet whose champion did 500 tasks, and then as many more beside a challenger; it is closed."""
    settings = {key: options.pop(key) for key in list(options) if "__" in key}
    past = Past(root, days=days, rollout__challenger_percentage=share, **settings)
    past.add_model()
    past.tasks(500)
    past.deploy()
    past.tasks(count, percent_a=100 - share, test_id=TEST, **options)
    past.close()
    return past


def module_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ab") / "root"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Past:
    """A test of 700 tasks that goes on; the last of them was done within the last hour."""
    return lived(module_root(tmp_path_factory), 700, days=6 + 1 / 24, fails=(13, 40), quality=(4.1, 4.3))


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Past:
    """A test whose challenger was promoted; its watch goes on."""
    return lived(module_root(tmp_path_factory), 1000, fails=(8, 10**6), quality=(4.1, 4.6))


@pytest.fixture(scope="module")
def rolled_back(tmp_path_factory: pytest.TempPathFactory) -> Past:
    """A test whose challenger failed every task."""
    return lived(module_root(tmp_path_factory), 100, fails=(13, 1))


@pytest.fixture(scope="module")
def retired(tmp_path_factory: pytest.TempPathFactory) -> Past:
    """A test whose challenger was as good as the champion."""
    return lived(module_root(tmp_path_factory), 400, share=50)


@pytest.fixture(scope="module")
def undecided(tmp_path_factory: pytest.TempPathFactory) -> Past:
    """A test that took its time and showed nothing."""
    return lived(module_root(tmp_path_factory), 100, share=50, rollout__max_days=0.25)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Past:
    """A test whose callers do not route: the champion answers everything."""
    return lived(module_root(tmp_path_factory), 300, by_champion=True)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A ROOT in which nothing was ever tested."""
    past = Past(tmp_path / "root")
    past.close()
    return past.root


def lines(root: Path, *args: str, code: int = 0) -> list[str]:
    """Return what a command prints for people: in 100 columns."""
    result = call(root, *args)
    assert result.exit_code == code, result.output
    found = result.stdout.rstrip("\n").split("\n")
    assert [line for line in found if len(line) > 100] == []
    return found


class TestList:
    def test_shows_every_test_and_watch(self, promoted: Past) -> None:
        """The oldest first, each with its state, shares and tasks."""
        day, ended = promoted.began + timedelta(days=2.5), promoted.clock.now()
        assert lines(promoted.root, "ab", "list") == [
            "TEST                                   STATE     A                SHARE  TASKS A/B  STARTED",
            f"{TEST}        promoted  v1.0.0           90/10  817/100    {day:%Y-%m-%d}",
            f"{TEST}-watch  active    {MODEL}  80/20  0/0        {ended:%Y-%m-%d}",
        ]
        assert len(lines(promoted.root, "ab", "list", "--active")) == 2

    @pytest.mark.parametrize(
        ("name", "state"),
        [("rolled_back", "rolled back"), ("retired", "retired"), ("undecided", "inconclusive"), ("held", "held")],
    )
    def test_says_how_a_test_ended(self, request: pytest.FixtureRequest, name: str, state: str) -> None:
        past = request.getfixturevalue(name)
        assert f"{TEST}  {state} " in lines(past.root, "ab", "list")[1]
        assert [one["state"] for one in answer(past.root, "ab", "list")["tests"]] == [state]

    def test_without_any_says_how_one_begins(self, empty: Path) -> None:
        result = call(empty, "ab", "list")
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr.startswith("No test yet. A trained model is tested by itself")
        assert answer(empty, "ab", "list") == {"tests": [], "queue": []}

    def test_shows_the_models_that_wait(self, tmp_path: Path) -> None:
        """A second model waits until the first one's test has ended."""
        past = Past(tmp_path / "root")
        for model in (MODEL, "ft-20251128-001"):
            past.add_model(model)
            past.deploy(model)
        past.close()
        waits = f"Waits for {MASTER} to be free: ft-20251128-001, since {past.began:{MINUTE}} (ann)"
        assert lines(past.root, "ab", "list")[-1] == waits
        queue = answer(past.root, "ab", "list")["queue"]
        assert [(one["model_id"], one["by"], one["why"]) for one in queue] == [("ft-20251128-001", "ann", "a trial")]


class TestShow:
    def test_tells_how_it_was_set_up(self, running: Past) -> None:
        """Variants, shares, the champion before it, and the bars, which do not move while it runs."""
        begun = running.began + timedelta(days=2.5)
        assert lines(running.root, "ab", "show", TEST) == [
            TEST,
            "Kind:      test, number 1 of this model",
            f"Master:    {MASTER}",
            "State:     active",
            "a:         v1.0.0, 90 % of the tasks",
            f"b:         {MODEL}, 10 % of the tasks (on trial)",
            f"Started:   {begun:{MINUTE}} UTC, by daemon",
            "Baseline:  500 outcomes of the champion's: completes 92.3 %, quality 4.1 (20 typical ones are mixed",
            "  in)",
            "Bars:      100 tasks each, quality +0.2, completion +5 points (gain), evidence 100 (anytime)",
            "Window:    none, a task counts when it ends",
            "Ends:      after 2,000 tasks of b, or 90 days, in any case",
            "Expected:  200 tasks a day, a good model promoted in 8.9 to 18.9 days (when it began)",
            f"File:      coordination/ab-tests/{TEST}.json",
        ]

    def test_as_json_holds_the_policy_and_instants(self, promoted: Past) -> None:
        shown = answer(promoted.root, "ab", "show", TEST)
        assert shown["policy"]["min_tasks"] == 100
        assert shown["started_at"] == instants.to_text(promoted.began + timedelta(days=2.5))
        assert (shown["ending"], shown["winner"], shown["baseline"]["tasks"]) == ("promote", "b", 500)
        assert not [key for key in shown if key.endswith("_us")]

    def test_an_unknown_test_names_those_there_are(self, promoted: Past, empty: Path) -> None:
        for command in (["ab", "show"], ["ab", "summary"], ["check"], ["pause"], ["abort"]):
            result = call(promoted.root, *command, "no-such-test")
            assert result.exit_code == 2
            assert f"There is no test no-such-test. There are: {TEST}-watch, {TEST}." in result.stderr
        assert "There is no test x. None yet." in call(empty, "ab", "show", "x").stderr


class TestSummary:
    def test_tells_all_of_a_running_test(self, running: Past) -> None:
        """Decision and reasons, the variants, the gains with intervals, every criterion, and when to expect what."""
        found = lines(running.root, "ab", "summary", TEST)
        begun = running.began + timedelta(days=2.5)
        assert found[0] == TEST
        assert re.fullmatch(rf"A test of {MASTER}: active; since {begun:{MINUTE}} UTC \(3\.[56] days\)", found[1])
        assert found[2:33] == [
            "",
            "Decision: continue: nothing is decided yet",
            "  after 700 tasks, 78 of them of the model on trial",
            "  - 78 of 100 tasks of the challenger's",
            "  - quality evidence 27.6 of 100",
            "  - completion evidence 9.32 of 100",
            "",
            "             a: v1.0.0         b: ft-20251127-001",
            "             champion          challenger, on trial",
            "Traffic      90 %              10 %",
            "Tasks        622               78",
            "Completed    92.4 % (575)      98.7 % (77)",
            "Quality      4.1 (575 scored)  4.3 (77 scored)",
            "Duration     40 s              36 s",
            "Cost a task  0.02 USD          0.01 USD",
            "",
            "Gains of the model on trial (95 % interval, valid whenever one looks):",
            "  quality    +0.204   [-0.0206, +0.413]",
            "  completion +6.27 points   [-2.62, +12.4]",
            "",
            "A PROMOTION NEEDS          VALUE  BAR            MET",
            "tasks of the champion's    622    at least 100   yes",
            "tasks of the challenger's  78     at least 100   no",
            "quality gain               0.204  more than 0.2  yes",
            "completion gain, points    6.27   more than 5    yes",
            "evidence for quality       27.6   at least 100   no",
            "evidence for completion    9.32   at least 100   no",
            "",
            "EVIDENCE THAT IT  VALUE   BAR  AT THE BAR",
            "is scored higher  27.6    100  needed for a promotion",
            "completes more    9.32    100  needed for a promotion",
        ]
        assert re.fullmatch(r"Expected, at (19\d|200) tasks a day:", found[-5])
        assert [line[20:] for line in found[-4:]] == [
            "no promotion before: until then there are too few tasks",
            "half of the clearly better models are promoted (+0.3, +5.7 points)",
            "nine of ten of them are",
            "it ends by then, whatever it shows",
        ]
        whens = [line[2:18] for line in found[-4:]]
        assert whens == sorted(whens)

    def test_json_is_the_card_with_more(self, running: Past) -> None:
        """What `check --json` prints stands in it under the same names."""
        shown = answer(running.root, "ab", "summary", TEST)
        assert shown.keys() >= CARD
        assert shown["traffic"] == {"a": 90, "b": 10}
        assert shown["cost_usd"] == pytest.approx({"a": 0.02, "b": 0.01})
        assert [(one["name"], one["met"]) for one in shown["criteria"]] == [
            ("tasks_control", True),
            ("tasks_treated", False),
            ("quality_gain", True),
            ("completion_gain", True),
            ("quality_evidence", False),
            ("completion_evidence", False),
        ]
        assert [one["bar"] for one in shown["criteria"]] == [100, 100, 0.2, 5, 100, 100]
        low, high = shown["intervals"]["completion_points"]
        assert low < shown["gain"]["completion_points"] < high
        assert shown["expected"]["earliest_at"] < shown["expected"]["half_at"] < shown["expected"]["latest_at"]

    def test_an_interval_stands_beside_the_gain_that_it_is_around(self, tmp_path: Path) -> None:
        """That of the tasks whose windows have closed: all outcomes so far may show another, which says so."""
        past = Past(tmp_path / "root", days=3.9, rollout__challenger_percentage=50, rollout__maturation_s=86_400)
        past.add_model()
        past.tasks(500)
        past.deploy()
        past.tasks(60, percent_a=50, test_id=TEST, quality=(4.1, 3.9))
        past.clock.advance(0.15 * 86_400)
        past.tasks(40, percent_a=50, test_id=TEST, quality=(4.1, 4.7))
        past.close()
        shown = answer(past.root, "ab", "summary", TEST)
        needs = {one["name"]: one["value"] for one in shown["criteria"]}
        assert (needs["quality_gain"], needs["tasks_control"] + needs["tasks_treated"]) == (
            pytest.approx(-0.200766284),
            60,
        )
        assert (shown["gain"]["quality"], shown["decided_after"]["tasks"]) == (pytest.approx(0.095652174), 100)
        assert shown["closed_gain"] == {
            "quality": needs["quality_gain"],
            "completion_points": pytest.approx(needs["completion_gain"]),
        }
        for name, (low, high) in shown["intervals"].items():
            assert low < shown["closed_gain"][name] < high
        gains = [
            "Gains of the model on trial, by all outcomes so far:",
            "  quality    +0.0957",
            "  completion -0.24 points",
            "By the tasks whose windows have closed (95 % interval, valid whenever one looks):",
            "  quality    -0.201   [-0.748, +0.369]",
            "  completion +0.445 points   [-25.1, +26]",
            "",
        ]
        found = lines(past.root, "ab", "summary", TEST)
        assert found[found.index(gains[0]) :][:7] == gains
        gains[3:6] = ["By the tasks whose windows have closed:", "  quality    -0.201", "  completion +0.445 points"]
        found = lines(past.root, "check", TEST, code=3)
        assert found[found.index(gains[0]) :][:7] == gains

    def test_of_a_watch_letters_are_those_of_its_file(self, promoted: Past) -> None:
        """In a watch the promoted model is `a`, as in the file that the shell reads."""
        document = json.loads((promoted.root / layout.AB_TESTS / f"{TEST}-watch.json").read_bytes())
        shown = answer(promoted.root, "ab", "summary", f"{TEST}-watch")
        assert {letter: one["name"] for letter, one in shown["variants"].items()} == {
            letter: one["name"] for letter, one in document["variants"].items()
        }
        assert (shown["on_trial"], shown["kind"]) == ("a", "watch")
        found = lines(promoted.root, "ab", "summary", f"{TEST}-watch")
        assert "             promoted, on trial  former champion" in found
        assert not [line for line in found if line.startswith("A PROMOTION NEEDS")]

    def test_of_an_ended_test_says_how_and_what_came_late(self, promoted: Past) -> None:
        found = lines(promoted.root, "ab", "summary", TEST)
        assert found[3] == "Decided: promote: the challenger becomes champion"
        assert found[-1] == "Came after its end, and count for nothing: 83 outcomes"
        assert not [line for line in found if line.startswith("Expected")]

    def test_of_a_held_test_says_why(self, held: Past) -> None:
        found = lines(held.root, "ab", "summary", TEST)
        assert found[3] == "Decision: held: an alarm rang, so nothing is promoted or retired"
        assert "  - the callers do not route: 35 tasks of the challenger's never reached it" in found
        assert found[-1].startswith("It ends by ")

    def test_says_where_a_bar_does_not_hold(self, tmp_path: Path) -> None:
        """Evidence rolls nothing back while scores are missing in one variant, or where thresholds alone decide."""
        unscored = lived(tmp_path / "unscored", 400, quality=(4.1, None))
        found = lines(unscored.root, "ab", "summary", TEST)
        assert next(line for line in found if line.startswith("is scored lower")).endswith("as scores are missing")
        plain = lived(tmp_path / "plain", 40, rollout__evidence="thresholds")
        found = lines(plain.root, "ab", "summary", TEST)
        assert next(line for line in found if line.startswith("completes less")).endswith("none")
        assert not [line for line in found if line.startswith("evidence for")]


class TestCheck:
    @pytest.mark.parametrize(
        ("name", "decision", "code"),
        [
            ("running", "continue", 3),
            ("held", "invalid", 3),
            ("promoted", "promote", 0),
            ("rolled_back", "rollback", 4),
            ("retired", "retire", 5),
            ("undecided", "inconclusive", 5),
        ],
    )
    def test_ends_with_the_decision(self, request: pytest.FixtureRequest, name: str, decision: str, code: int) -> None:
        """The exit code is the decision, of a test that runs as of one that has ended; JSON has the agreed keys."""
        root = request.getfixturevalue(name).root
        shown = answer(root, "check", TEST, code=code)
        assert shown.keys() >= CARD
        assert shown["decision"] == decision
        assert shown["reasons"]
        assert shown["evidence"].keys() >= {"quality_up", "quality_down", "completion_up", "completion_down"}
        assert set(shown["variants"]["b"]) >= {"name", "tasks", "completed", "completion_rate", "avg_quality"}
        assert lines(root, "check", TEST, code=code)[0].startswith("Dec")

    def test_changes_nothing(self, running: Past) -> None:
        before = {path: path.read_bytes() for path in running.root.rglob("*.json*") if path.is_file()}
        events = call(running.root, "events", "--json").stdout
        answer(running.root, "check", TEST, code=3)
        assert {path: path.read_bytes() for path in running.root.rglob("*.json*") if path.is_file()} == before
        assert call(running.root, "events", "--json").stdout == events

    def test_takes_the_master_in_any_form_but_only_its_own(self, running: Past) -> None:
        assert call(running.root, "check", TEST, "security").exit_code == 3
        assert call(running.root, "check", TEST, MASTER).exit_code == 3
        result = call(running.root, "check", TEST, "cicd")
        assert result.exit_code == 2
        assert f"{TEST} is a test of {MASTER}, not of cicd-master." in result.stderr

    def test_never_says_promote_for_want_of_a_reader(self, running: Past) -> None:
        """Exit code 0 means promote: whoever closes the pipe before the answer is written still gets 3."""
        reading, writing = os.pipe()
        os.close(reading)
        command = [sys.executable, "-m", "cortex_autolearn", "check", TEST, "--root", str(running.root)]
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
        os.close(writing)
        assert (done.returncode, done.stderr) == (3, "")

    def test_of_a_watch_says_continue(self, promoted: Past) -> None:
        assert answer(promoted.root, "check", f"{TEST}-watch", code=3)["decision"] == "continue"

    def test_counts_windows_that_closed_since_the_last_run(self, tmp_path: Path) -> None:
        """It says what would be decided now, before any run of the daemon's; which then decides just that."""
        better: dict[str, Any] = {"fails": (8, 10**6), "quality": (4.1, 4.6), "per_day": 5000}
        past = lived(tmp_path / "root", 1100, rollout__maturation_s=86_400, **better)
        assert answer(past.root, "ab", "list")["tests"][0]["state"] == "active"
        shown = answer(past.root, "check", TEST)
        assert shown["decision"] == "promote"
        assert call(past.root, "run-once", "rollout").exit_code == 0
        assert answer(past.root, "ab", "list")["tests"][0]["state"] == "promoted"
        decided = answer(past.root, "explain", str(event_of(past.root, "auto_promotion")))
        assert decided["decided_after"]["challenger_tasks"] >= 100
        for told in (shown, answer(past.root, "check", TEST), answer(past.root, "ab", "summary", TEST)):
            assert {name: told[name] for name in CARD} == {name: decided[name] for name in CARD}


class TestExplain:
    def test_tells_a_past_decision_from_what_was_kept(self, rolled_back: Past) -> None:
        """Why, on which tasks, with which evidence against which bars; a later change of the settings changes nothing."""
        seq = event_of(rolled_back.root, "auto_rollback")
        found = lines(rolled_back.root, "explain", str(seq))
        assert found[:9] == [
            f"Event {seq}: auto_rollback, {instants.to_text(rolled_back.clock.now())}",
            f"Test:    {TEST}",
            f"Master:  {MASTER}",
            "Step:    roll back",
            "By:      daemon",
            "Why:     completes less by 100 points; evidence 399",
            "",
            "Decision: roll back: all tasks to the other model",
            "  after 12 tasks, 3 of them of the model on trial",
        ]
        assert "completes less    399    50   rolled back" in found
        assert (
            call(rolled_back.root, "explain", str(seq), rollout__rollback_evidence=1e6).stdout
            == call(rolled_back.root, "explain", str(seq)).stdout
        )

    @pytest.mark.parametrize(
        ("name", "event", "decision"),
        [
            ("promoted", "auto_promotion", "promote"),
            ("retired", "challenger_retired", "retire"),
            ("undecided", "ab_test_inconclusive", "inconclusive"),
            ("held", "ab_test_held", "invalid"),
        ],
    )
    def test_as_json(self, request: pytest.FixtureRequest, name: str, event: str, decision: str) -> None:
        """The event, the card under the names of `check`, the rules, and all numbers and bars."""
        root = request.getfixturevalue(name).root
        seq = event_of(root, event)
        shown = answer(root, "explain", str(seq))
        assert shown.keys() >= CARD | {"event", "timestamp", "seq", "test_id", "rules", "numbers", "policy", "criteria"}
        assert (shown["event"], shown["seq"], shown["decision"]) == (event, seq, decision)
        assert shown["policy"]["promotion_evidence"] == 100

    def test_of_a_step_without_numbers_says_who_and_why(self, running: Past) -> None:
        seq = event_of(running.root, "manual_decision")
        assert lines(running.root, "explain", str(seq))[1:] == [
            f"Master:  {MASTER}",
            f"Model:   {MODEL}",
            "Step:    deploy",
            "By:      ann",
            "Why:     a trial",
            "No numbers were kept with it: it does not rest on outcomes",
        ]
        assert answer(running.root, "explain", str(seq))["decision"] is None

    def test_of_another_event_names_the_decisions(self, running: Past, empty: Path) -> None:
        """The events of other jobs, and numbers that no event has, are refused with the last that can be explained."""
        for seq in (1, 999):
            result = call(running.root, "explain", str(seq))
            assert result.exit_code == 2
            assert f"There is no decision with the event {seq}. There are: 4 (ab_test_started), " in result.stderr
        assert "None yet." in call(empty, "explain", "1").stderr
        assert call(running.root, "explain", str(1 << 63)).exit_code == 2


class TestHistory:
    def test_lists_every_change(self, promoted: Past) -> None:
        begun, ended = promoted.began + timedelta(days=2.5), promoted.clock.now()
        seq = event_of(promoted.root, "auto_promotion")
        why = "scored higher by 0.457; evidence 1e+0…"
        assert lines(promoted.root, "ab", "history", "security") == [
            "SINCE (UTC)       ALIAS       VERSION          BY      EVENT  WHY",
            f"{begun:{MINUTE}}  champion    v1.0.0           daemon         it served when rollout began",
            f"{begun:{MINUTE}}  challenger  {MODEL}  ann            a trial",
            f"{ended:{MINUTE}}  champion    {MODEL}  daemon  {seq:<5}  {why}",
            f"{ended:{MINUTE}}  challenger  v1.0.0           daemon  {seq:<5}  {why}",
        ]

    def test_says_who_was_champion_then_and_why(self, promoted: Past) -> None:
        """At an instant, or at the end of a day, in UTC."""
        before = promoted.began + timedelta(days=3)
        line = " ".join(lines(promoted.root, "ab", "history", MASTER, "--at", instants.to_text(before)))
        begun = f"{promoted.began + timedelta(days=2.5):{MINUTE}} UTC"
        assert line.startswith(f"{before:{MINUTE}} UTC: v1.0.0, champion of {MASTER} since {begun}, by daemon")
        day = f"{promoted.clock.now():%Y%m%d}"
        shown = answer(promoted.root, "ab", "history", MASTER, "--at", day)
        assert (shown["champion"]["version"], shown["champion"]["by"]) == (MODEL, "daemon")
        assert shown["champion"]["event_seq"] == event_of(promoted.root, "auto_promotion")
        early = lines(promoted.root, "ab", "history", MASTER, "--at", "2020-01-01")
        assert early == [f"2020-01-01 23:59 UTC: nothing is known of {MASTER} so early"]

    def test_times_to_the_minute_are_times(self, promoted: Past) -> None:
        """A time is taken as the table of changes shows it, and without its seconds as RFC 3339 has it."""
        began = f"{promoted.began + timedelta(days=3):{MINUTE}}"
        for time in (began, began.replace(" ", "T"), began.replace(" ", "T") + "Z", began + "+00:00"):
            (line, *_) = lines(promoted.root, "ab", "history", MASTER, "--at", time)
            assert line.startswith(f"{began} UTC: v1.0.0, champion of {MASTER} since ")

    def test_a_time_that_is_none_is_not_called_a_day(self, promoted: Past) -> None:
        """What is said of it is how to write a time."""
        result = call(promoted.root, "ab", "history", MASTER, "--at", "2025-11-27 25:00")
        assert result.exit_code == 2
        assert "'2025-11-27 25:00' is no time: write one such as 2025-11-27T12:00:00Z, or a day." in result.stderr

    def test_wrong_names_and_times(self, promoted: Past) -> None:
        result = call(promoted.root, "ab", "history", "cicd")
        assert (result.exit_code, f"There are: {MASTER}." in result.stderr) == (2, True)
        for time in ("yesterday", "2026-13-45", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"):
            assert call(promoted.root, "ab", "history", MASTER, "--at", time).exit_code == 2


class TestStatus:
    def test_shows_every_master(self, running: Past, promoted: Past, held: Past, empty: Path) -> None:
        """Champion, what is tested or watched beside it, and how that goes."""
        assert masters(running.root) == [
            f"  {MASTER}: champion v1.0.0",
            f"    {MODEL} is tested: 78 of 700 tasks, quality +0.204, completion +6.27 points: continue",
        ]
        assert masters(promoted.root)[0] == f"  {MASTER}: champion {MODEL}"
        assert f"{MODEL} is watched: 0 of 0 tasks" in masters(promoted.root)[1]
        assert masters(held.root)[1].endswith(": held")
        assert masters(empty) == ["  no model was deployed for one yet"]

    def test_says_what_was_said_when_the_test_began(self, tmp_path: Path) -> None:
        """A champion that leaves no room to gain what is asked for is told of here, too."""
        past = Past(tmp_path / "root", days=3)
        past.add_model()
        past.tasks(500, fails=(1000, 1000))
        past.deploy()
        past.close()
        assert masters(past.root)[2] == (
            "    Note: the champion completes so much that no challenger can gain what a promotion needs"
        )
        assert lines(past.root, "ab", "summary", TEST)[-1] == masters(past.root)[2].strip()

    @pytest.mark.parametrize(
        ("fleet", "note"),
        [
            ({"fails": (1000, 1000)}, "the champion completes so much"),
            ({"quality": (4.7, 4.7)}, "the champion is scored so high"),
        ],
    )
    def test_no_promotion_is_expected_that_cannot_come(self, tmp_path: Path, fleet: dict[str, Any], note: str) -> None:
        """Where no challenger can win, nothing says when it will, before its test begins or in it; its end is told.

        ``deploy``, ``ab``, ``status`` and ``doctor`` agree about it, whichever of the two gains is out of reach.
        """
        past = Past(tmp_path / "root", days=3)
        (past.root / "cortex-autolearn.toml").write_text("[rollout]\nmin_quality_gain = 0.4\n")
        past.add_model()
        past.tasks(500, **fleet)
        past.close()
        before = call(past.root, "deploy", MODEL, MASTER, "--dry-run").stdout
        assert "No promotion is to be expected: see the note" in before.splitlines()
        assert f"Note: {note}" in before
        assert answer(past.root, "deploy", MODEL, MASTER, "--dry-run")["details"]["expected_days"] == [None, None]
        assert call(past.root, "deploy", MODEL, MASTER).exit_code == 0
        expected = answer(past.root, "ab", "summary", TEST)["expected"]
        assert (expected["half_at"], expected["most_at"]) == (None, None)
        ends = expected["latest_at"][:16].replace("T", " ")
        told = lines(past.root, "ab", "summary", TEST)
        assert told[-4].startswith("Expected, at ")
        assert told[-3:-1] == [
            "  no promotion is to be expected: see the note",
            f"  {ends}  it ends by then, whatever it shows",
        ]
        assert answer(past.root, "ab", "show", TEST)["notes"]["expected_days"] == [None, None]
        (noted,) = [line for line in lines(past.root, "ab", "show", TEST) if line.startswith("Expected:")]
        assert noted.endswith(" tasks a day, no promotion is to be expected (when it began)")
        assert [line for line in lines(past.root, "status") if line.startswith(f"    Note: {note}")]
        found = json.loads(call(past.root, "doctor", "--json").stdout)["checks"]
        said = [one["found"] for one in found if one["name"] == "rollout"]
        assert [one.split(": ")[0] for one in said] == [f"{TEST} promotion is practically impossible"]

    def test_as_json(self, running: Past, rolled_back: Past) -> None:
        (one,) = answer(running.root, "status")["masters"]
        assert (one["champion"], one["phase"], one["challenger"]) == ("v1.0.0", "testing", MODEL)
        assert one["test"]["decided_after"] == {"tasks": 700, "challenger_tasks": 78}
        (one,) = answer(rolled_back.root, "status")["masters"]
        assert (one["champion"], one["phase"], one["challenger"], one["test"]) == ("v1.0.0", "steady", None, None)


def masters(root: Path) -> list[str]:
    found = lines(root, "status")
    begin = found.index("Masters:") + 1
    return found[begin : found.index("", begin)]


def event_of(root: Path, kind: str) -> int:
    """Return the number of the last event of a kind."""
    return int(json.loads(call(root, "events", "--type", kind, "--json").stdout.splitlines()[-1])["seq"])
