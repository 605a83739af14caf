"""Rollout with real files and a real state: whole lives on a fast clock."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from rollout_support import (
    BETTER,
    BROKEN,
    CHAMPION,
    MASTER,
    MODEL,
    OTHER,
    USUAL,
    WORSE,
    Skill,
    Town,
    town,
)
from support import NOW, line

from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.experiments import Held, LateRow, TrialRow
from cortex_autolearn.model.judging import Label
from cortex_autolearn.model.rollout import Continue, Promote, Reason
from cortex_autolearn.model.training_jobs import Endpoint, ModelRef
from cortex_autolearn.ports import BackendError, BoundaryError
from cortex_autolearn.rollout import report
from cortex_autolearn.rollout.decide import decide
from cortex_autolearn.rollout.endpoints import Endpoints
from cortex_autolearn.rollout.plan import History, begin_test
from cortex_autolearn.rollout.project import read
from cortex_autolearn.rollout.registry import Refused, Unchanged
from cortex_autolearn.rollout.standing import stand
from cortex_autolearn.rollout.steps import Done
from cortex_autolearn.service.numbers import running_tests
from cortex_autolearn.testing import FakeClock, Script
from cortex_autolearn.testing.trainer import ScriptedTrainer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cortex_autolearn.ports import Files, Trainer

TEST = f"{MASTER}-{MODEL}"
WATCH = f"{TEST}-watch"
SECOND = "ft-20251128-001"
ME: dict[str, Any] = {"by": "ada@desk", "why": "because"}


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Town]:
    with town(tmp_path) as made:
        yield made


class Denying(ScriptedTrainer):
    """A backend that ends nothing, for want of a right."""

    def teardown(self, endpoint: Endpoint) -> None:
        raise BoundaryError("end", endpoint.endpoint_id, "not allowed", hint="Allow it", retryable=False)


class Slow(ScriptedTrainer):
    """A backend that takes a second for each question about what serves, and answers only some of them."""

    def __init__(self, outside: Path, clock: FakeClock, script: Script) -> None:
        super().__init__(outside, clock, script)
        self.asked: list[str] = []
        self.is_away = False
        self._passing = clock

    def deploy(self, model: ModelRef, token: str) -> Endpoint:
        self._ask("deploy")
        return super().deploy(model, token)

    def poll_endpoint(self, endpoint: Endpoint) -> Endpoint:
        self._ask("poll")
        return super().poll_endpoint(endpoint)

    def teardown(self, endpoint: Endpoint) -> None:
        self._ask("teardown")
        super().teardown(endpoint)

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        self._passing.advance(1)
        if self.is_away:
            raise BackendError("ask", what, "no answer", hint="Wait", retryable=True)


def only_routes_to(one: Town, version: str) -> None:
    """Check that every task of the master's goes to one version."""
    route = one.routes()[MASTER]
    assert (route["champion"]["version"], route["challenger"], route["experiment"]) == (version, None, None)


class TestLives:
    def test_a_better_challenger_is_promoted_and_the_watch_settles(self, one: Town) -> None:
        """A model that is better becomes champion; the former one keeps its share until the watch is over."""
        one.skills[MODEL] = BETTER
        one.until(lambda: one.phase() == "watching")
        route = one.routes()[MASTER]
        assert (route["champion"]["version"], route["challenger"]["version"]) == (MODEL, CHAMPION)
        assert (route["experiment"], route["challenger_percentage"]) == (WATCH, 50)
        assert one.file(TEST)["winner"] == "b"
        one.until(lambda: one.phase() == "steady")
        only_routes_to(one, MODEL)
        assert one.aliases()["aliases"]["champion"]["version"] == MODEL
        told = ["challenger_deployed", "ab_test_started", "auto_promotion", "ab_test_started", "promotion_settled"]
        assert one.kinds() == told
        assert [endpoint.model.model_id for endpoint in one.trainer.endpoints()] == [MODEL]
        assert not one.handle.troubles

    def test_a_worse_challenger_is_rolled_back(self, one: Town) -> None:
        """A model that is worse loses its traffic and what serves it; the champion stays."""
        one.skills[MODEL] = WORSE
        one.until(lambda: one.phase() == "testing", most=2)
        one.until(lambda: one.phase() == "steady")
        assert one.kinds()[-1] == "auto_rollback"
        only_routes_to(one, CHAMPION)
        assert (one.file(TEST)["status"], one.file(TEST)["winner"]) == ("completed", "a")
        one.run()
        assert one.trainer.endpoints() == []

    def test_a_broken_challenger_gets_ten_tasks_at_most(self, one: Town) -> None:
        """A model that completes nothing is rolled back within ten of its tasks."""
        one.skills[MODEL] = BROKEN
        one.work(0)
        one.clock.advance(60)
        one.run()
        one.until(lambda: one.phase() == "steady", tasks=2)
        assert one.test(TEST).metrics["tasks_assigned"]["b"] <= 10
        assert one.kinds()[-1] == "auto_rollback"

    def test_an_equal_challenger_is_retired(self, tmp_path: Path) -> None:
        """A model that is no better frees its place."""
        with town(tmp_path, min_tasks=100) as one:
            one.skills[MODEL] = USUAL
            one.until(lambda: one.phase() == "testing", most=2)
            one.until(lambda: one.phase() == "steady", tasks=100)
            assert one.kinds()[-1] == "challenger_retired"

    def test_quality_alone_does_not_promote(self, one: Town) -> None:
        """A model whose scores are better, and that completes no more, never becomes champion."""
        one.skills[MODEL] = Skill(completes=USUAL.completes, quality=4.8)
        one.until(lambda: one.phase() == "testing", most=2)
        one.until(lambda: one.phase() == "steady", tasks=100)
        assert "auto_promotion" not in one.kinds()

    def test_a_challenger_that_hangs_silently_is_not_promoted(self, tmp_path: Path) -> None:
        """Tasks that never end count as failures once their window has closed, though all that ends is splendid."""
        with town(tmp_path) as one:
            one.skills[MODEL] = Skill(completes=1.0, quality=4.9, hangs=0.4)
            one.until(lambda: one.phase() == "testing", most=2)
            one.until(lambda: one.phase() == "steady")
            assert one.kinds()[-1] == "auto_rollback"

    def test_a_model_that_degrades_after_its_promotion_is_reverted(self, one: Town) -> None:
        """The former champion comes back when the promoted model turns out worse."""
        one.skills[MODEL] = BETTER
        one.until(lambda: one.phase() == "watching")
        one.skills[MODEL] = WORSE
        one.until(lambda: one.phase() == "steady")
        assert one.kinds()[-1] == "promotion_reverted"
        only_routes_to(one, CHAMPION)
        assert one.file(WATCH)["winner"] == "b"
        assert one.aliases()["aliases"]["champion"]["version"] == CHAMPION
        assert [row.version for row in one.history() if row.alias == "champion"] == [
            CHAMPION,
            MODEL,
            CHAMPION,
        ]

    def test_two_masters_have_fates_of_their_own(self, tmp_path: Path) -> None:
        """A global model is tested for each master of its dataset, and may be good for one and bad for another."""
        manifest = {"by_master": {"train": {MASTER: 9, OTHER: 5, "null": 2}, "validation": {MASTER: 1}}}
        with Town(tmp_path, clock=FakeClock(NOW)) as one:
            path = tmp_path / layout.dataset_file("abc", "manifest.json")
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(manifest))
            one.past()
            one.past(OTHER)
            one.add_model(scope="global", dataset_id="abc")
            one.skills[MODEL] = BETTER
            bad = {CHAMPION: USUAL, MODEL: WORSE}
            for _ in range(40):
                one.work(30)
                one.work(30, OTHER, bad)
                if (one.phase(), one.phase(OTHER)) == ("watching", "steady"):
                    break
            assert (one.held().champion, one.held(OTHER).champion) == (MODEL, CHAMPION)
            assert one.test(f"{OTHER}-{MODEL}").ending == "roll_back"

    def test_a_restart_in_between_changes_nothing(self, tmp_path: Path) -> None:
        """What a process remembers is what is stored: a life with a restart after every run is the same life."""
        lives = []
        for name, restarts in (("plain", False), ("restarted", True)):
            with town(tmp_path / name) as one:
                one.skills[MODEL] = BETTER

                def is_over(one: Town = one, restarts: bool = restarts) -> bool:
                    if restarts:
                        one.restart()
                    return one.phase() == "steady" and "promotion_settled" in one.kinds()

                one.until(is_over)
                lives.append((one.events(), one.status(), one.file(TEST), one.aliases(), one.routes()))
        assert lives[0] == lives[1]


class TestDeploying:
    def test_a_model_that_cannot_be_served_is_given_up(self, tmp_path: Path) -> None:
        """Without an endpoint there is no test, and the next model has its turn."""
        with town(tmp_path, script=Script(deploy="fails")) as one:
            one.run()
            one.clock.advance(120)
            one.run()
            assert one.kinds() == ["challenger_retired"]
            assert "no capacity" in one.events()[-1][1]["why"]
            assert (one.phase(), one.trainer.endpoints()) == ("steady", [])

    def test_an_answer_that_is_lost_deploys_once(self, tmp_path: Path) -> None:
        """Asked again under the same token, the backend has one endpoint."""
        with town(tmp_path, script=Script(loses_answers=True)) as one:
            one.run()
            assert one.handle.troubles
            one.clock.advance(120)
            one.run()
            one.run()
            assert one.phase() == "testing"
            assert len(one.trainer.endpoints()) == 1

    def test_what_serves_and_is_gone_is_asked_for_again(self, one: Town) -> None:
        """An endpoint that somebody removed is missed within the hour, told of, and replaced; the test goes on."""
        one.until(lambda: one.phase() == "testing", most=2)
        (first,) = one.trainer.endpoints()
        one.trainer.teardown(first)
        one.clock.advance(600)
        one.run()
        assert one.trainer.endpoints() == []
        one.clock.advance(3_600)
        one.run()
        (second,) = one.trainer.endpoints()
        assert (second.model, second.token != first.token) == (first.model, True)
        assert [error.cause for error in one.handle.troubles if "is gone" in error.cause]
        assert one.phase() == "testing"

    def test_what_is_gone_is_missed_within_the_hour_though_the_clock_was_set_back(self, one: Town) -> None:
        """A clock that was a month ahead for a while does not let what serves be unlooked at for that month."""
        one.until(lambda: one.phase() == "testing", most=2)
        one.clock.step(30 * 86_400)
        one.run()
        one.clock.step(-30 * 86_400)
        one.trainer.teardown(one.trainer.endpoints()[0])
        one.clock.advance(3_700)
        assert one.rollout.is_waiting()
        one.run()
        assert len(one.trainer.endpoints()) == 1
        assert one.phase() == "testing"

    def test_who_was_champion_before_stays_served_and_nobody_earlier(self, one: Town) -> None:
        """One word brings the former champion back at once; one that nothing serves any more is refused, with the way."""
        versions = [MODEL, SECOND, "ft-20251129-001"]
        one.skills |= dict.fromkeys(versions, BETTER)
        for version in versions:
            if version != MODEL:
                one.add_model(version)
            one.until(lambda: one.phase() == "testing", most=3)
            assert isinstance(one.rollout.promote(MASTER, **ME), Done)
            one.until(lambda: one.phase() == "steady")
        assert [endpoint.model.model_id for endpoint in one.trainer.endpoints()] == versions[1:]
        refused = one.rollout.rollback(MASTER, to=MODEL, **ME)
        assert isinstance(refused, Refused)
        assert f"deploy {MODEL} {MASTER}" in refused.reason
        assert isinstance(one.rollout.rollback(MASTER, **ME), Done)
        assert one.held().champion == SECOND
        one.run()
        only_routes_to(one, SECOND)

    def test_what_cannot_be_had_for_a_model_that_serves_is_asked_for_every_hour(self, one: Town) -> None:
        """Where the replacement fails too, the champion or challenger is tried again, and not given up."""
        one.until(lambda: one.phase() == "testing", most=2)
        one.trainer.teardown(one.trainer.endpoints()[0])
        one.trainer.script = Script(deploy="fails")
        one.clock.advance(4_000)
        one.run()
        one.clock.advance(120)
        one.run()
        (endpoint,) = one.look(lambda reading: [row.seen for row in reading.endpoints()])
        assert (endpoint.state, "no capacity" in endpoint.reason) == ("failed", True)
        one.trainer.script = Script()
        one.clock.advance(3_700)
        one.run()
        assert [each.state for each in one.trainer.endpoints()] != ["failed"]
        assert len(one.trainer.endpoints()) == 1
        assert one.phase() == "testing"

    def test_the_same_trouble_with_an_endpoint_is_told_once_a_day(self, one: Town) -> None:
        """It is tried again twice a minute all the while, and another trouble is told at once."""
        one.until(lambda: one.phase() == "testing", most=2)
        one.rollout.rollback(MASTER, **ME)
        trainers: dict[str, Trainer] = {}
        endpoints = Endpoints(one.rooms.store, one.clock, trainers)

        def told() -> int:
            one.handle.troubles.clear()
            for _ in range(10):
                one.clock.advance(30)
                endpoints.tend(one.handle)
            assert all(isinstance(error, BackendError) for error in one.handle.troubles)
            return len(one.handle.troubles)

        assert (told(), told()) == (1, 0)
        one.clock.advance(86_400)
        assert (told(), told()) == (1, 0)
        trainers["scripted"] = Denying(one.root / "elsewhere", one.clock)
        assert (told(), told()) == (1, 0)
        trainers["scripted"] = one.trainer
        assert told() == 0
        assert one.trainer.endpoints() == []

    def test_a_backend_is_asked_at_its_pace_however_often_rollout_runs(self, one: Town) -> None:
        """Records of tested masters come many times a second: no decision waits for a provider at each of them."""
        trainer = Slow(one.root / "elsewhere", one.clock, Script(deploy_s=100))
        one.trainer = trainer
        one.restart()

        def asked(seconds: int) -> list[str]:
            until_us = one.now_us + seconds * instants.SECOND_US
            trainer.asked.clear()
            while one.now_us < until_us:
                one.clock.advance(3)
                one.run()
            return trainer.asked

        trainer.is_away = True
        assert asked(70) == ["deploy"] * 3
        trainer.is_away = False
        one.clock.advance(30)
        assert asked(70) == ["deploy", "poll", "poll"]
        one.until(lambda: one.phase() == "testing", most=2)
        trainer.is_away = True
        one.rollout.rollback(MASTER, **ME)
        assert asked(70) == ["teardown"] * 3
        trainer.is_away = False
        one.clock.advance(30)
        assert asked(3) == ["teardown"]
        assert trainer.endpoints() == []

    def test_what_the_routes_name_is_not_torn_down(self, one: Town) -> None:
        """A kill after the decision, before the routes: the model answers until nobody is sent to it any more."""
        one.until(lambda: one.phase() == "testing", most=2)
        routes = one.root / layout.ROUTES
        before = routes.read_bytes()
        one.rollout.rollback(MASTER, **ME)
        routes.write_bytes(before)  # as the killed process left it
        one.restart()
        one.run()
        assert len(one.trainer.endpoints()) == 1
        only_routes_to(one, CHAMPION)
        one.clock.advance(60)
        assert one.rollout.is_waiting()
        one.run()
        assert one.trainer.endpoints() == []

    def test_the_next_model_waits_for_the_test_that_runs(self, one: Town) -> None:
        """One test a master at a time."""
        one.skills |= {MODEL: WORSE, SECOND: WORSE}
        one.until(lambda: one.phase() == "testing", most=2)
        one.add_model(SECOND)
        one.work(5)
        assert one.queue() == [SECOND]
        one.until(lambda: one.held().challenger == SECOND)
        assert one.test(TEST).ending == "roll_back"

    def test_settings_may_narrow_the_masters(self, tmp_path: Path) -> None:
        """A model for a master that is not among rollout.masters is not deployed by itself."""
        with town(tmp_path, masters=(OTHER,)) as one:
            one.work(5)
            assert (one.held(), one.queue()) == (None, [])

    def test_a_test_of_somebody_else_occupies_its_master(self, one: Town) -> None:
        """Beside an active test that is not ours none is started, until that one has ended."""
        path = one.root / layout.test_file("security-master-theirs")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"master": "security-master", "status": "active", "variants": {}}))
        one.work(5)
        assert (one.held(), len(one.queue())) == (None, 1)
        found = one.rollout.deploy(MODEL, MASTER, dry_run=True, **ME)
        assert isinstance(found, Unchanged)
        path.write_text(json.dumps({"master": "security-master", "status": "completed", "winner": "a"}))
        assert one.rollout.is_waiting()
        one.run()
        assert one.phase() == "deploying"

    def test_the_champion_is_taken_from_the_aliases_that_stand_there(self, tmp_path: Path) -> None:
        """A master whose champion has a name keeps it, with what else its file holds."""
        with town(tmp_path) as one:
            path = tmp_path / layout.aliases_file(MASTER)
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps({"note": 1, "aliases": {"champion": {"version": "v7", "owner": "x"}}}))
            one.run()
            assert one.held().champion == "v7"
            assert one.aliases()["note"] == 1
            assert one.aliases()["aliases"]["champion"]["owner"] == "x"

    def test_what_is_to_be_expected_is_said_when_a_test_begins(self, tmp_path: Path) -> None:
        """Expected days, baseline and warnings stand in the event that tells of the start."""
        with town(tmp_path, challenger_percentage=10) as one:
            one.past(skill=Skill(completes=1.0))
            one.run()
            one.clock.advance(120)
            one.run()
            body = dict(one.events())["ab_test_started"]
            assert len(body["expected_days"]) == 2
            assert body["percentage_b"] == 10
            assert body["baseline_tasks"] > 100

    def test_traffic_is_known_by_whatever_time_the_records_carry(self, tmp_path: Path) -> None:
        """A busy master whose records say only when tasks completed gives a challenger a busy master's share."""
        with Town(tmp_path, clock=FakeClock(NOW), challenger_percentage="auto") as one:
            for _ in range(8):
                one.work(50, run=False, spread_s=21_600, record=lambda _, task: task | {"created_at": None})
            one.add_model()
            one.until(lambda: one.phase() == "testing", most=2, tasks=2)
            (begun,) = [body for kind, body in one.events() if kind == "ab_test_started"]
            assert (begun["percentage_b"], begun["tasks_per_day"] > 150) == (10, True)

    def test_a_baseline_is_the_champions_own(self, one: Town) -> None:
        """What a former champion did, and what the other variant of a test did, is no part of it."""
        one.skills |= {MODEL: Skill(completes=1.0, quality=4.9), SECOND: USUAL}
        one.until(lambda: "promotion_settled" in one.kinds())
        one.clock.advance(3_600)
        one.add_model(SECOND)
        one.until(lambda: one.phase() == "testing")
        baseline = one.test(f"{MASTER}-{SECOND}").baseline
        assert baseline["tasks"] == baseline["completed"] > 50
        assert one.test(TEST).baseline["completed"] < one.test(TEST).baseline["tasks"] == 200

    def test_a_baseline_counts_a_rescued_task_as_its_test_did(self, one: Town) -> None:
        """What the champion failed at when it was tested, and the fallback answered, is a failure in its history."""

        def rescued(choice: Any, record: dict[str, Any]) -> dict[str, Any]:
            return record | ({"model": CHAMPION, "fallback_from": MODEL} if choice.variant == "b" else {})

        one.skills |= {MODEL: Skill(completes=1.0), SECOND: USUAL}
        one.until(lambda: one.phase() == "testing", most=2)
        one.work(8, record=rescued)
        failed = one.test(TEST).metrics["tasks_failed"]["b"]
        assert failed > 0
        one.work(20)
        one.rollout.promote(MASTER, **ME)
        one.until(lambda: "promotion_settled" in one.kinds())
        one.clock.advance(3_600)
        one.add_model(SECOND)
        one.until(lambda: one.phase() == "testing")
        baseline = one.test(f"{MASTER}-{SECOND}").baseline
        assert baseline["tasks"] - baseline["completed"] == failed

    @pytest.mark.parametrize(
        ("told", "late", "found"),
        [
            ([], None, {}),
            ([(True, False)], None, {MODEL: "failed"}),
            ([(True, True)], None, {MODEL: "completed"}),
            ([(True, None)], None, {MODEL: "completed"}),
            ([(True, False), (False, True)], None, {CHAMPION: "completed"}),
            ([(False, True), (True, False)], None, {MODEL: "failed"}),
            ([(True, False), (False, None)], None, {MODEL: "failed"}),
            ([], (True, False), {MODEL: "failed"}),
            ([(True, None)], (True, False), {MODEL: "failed"}),
        ],
    )
    def test_a_task_is_what_the_latest_test_made_of_it(
        self,
        tmp_path: Path,
        told: list[tuple[bool, bool | None]],
        late: tuple[bool, bool] | None,
        found: dict[str, str],
    ) -> None:
        """Whose it was, and whether it completed, is by the latest test in which it has an outcome; else by silver."""
        with Town(tmp_path) as one:
            begun = instants.to_text(one.clock.now())
            record = {"task_id": "t-1", "master": MASTER, "status": "completed", "created_at": begun}
            one.rooms.put("tasks.jsonl", record | {"completed_at": begun, "output": "Two weak spots were found"})
            one.rooms.follow()
            made = begin_test(Held(MASTER, CHAMPION, "deploying", MODEL, None, 0), "", 1, one.policy, History([], 0))
            with one.rooms.store.write() as transaction:
                for number, (treated, completed) in enumerate(told or [(True, None)]):
                    # Their names are not in the order of their times.
                    test = msgspec.structs.replace(made, test_id=f"test-{9 - number}", started_us=number, ended_us=9)
                    transaction.put_experiment(test)
                    at_us = None if completed is None else 5
                    row = (
                        treated,
                        0.5,
                        0,
                        at_us,
                        completed,
                        None,
                        None,
                        None,
                        None,
                        None,
                        at_us,
                        None,
                        True,
                        False,
                        False,
                    )
                    transaction.put_trials(test.test_id, [TrialRow("t-1", *row)] if told else [])
                if late is not None:
                    transaction.put_late(
                        "test-9", [LateRow("t-1", late[0], 5, late[1], None, None, from_results=False)]
                    )
            with one.rooms.store.read() as reading:
                past = {
                    version: [task.status for task in reading.past_tasks(MASTER, version, [], one.now_us, 9)]
                    for version in (CHAMPION, MODEL)
                }
            assert {version: statuses[0] for version, statuses in past.items() if statuses} == found


class TestPeople:
    def start(self, one: Town) -> None:
        one.skills.setdefault(MODEL, USUAL)
        one.until(lambda: one.phase() == "testing", most=2)

    def test_a_stop_in_the_file_is_honoured_once(self, one: Town) -> None:
        """Status and winner that a person set in the test's file end the test their way, as a manual decision."""
        self.start(one)
        document = one.file(TEST) | {"status": "completed", "winner": "a", "note": "enough"}
        (one.root / layout.test_file(TEST)).write_text(json.dumps(document))
        assert one.rollout.is_waiting()
        one.run()
        assert one.phase() == "steady"
        assert one.kinds().count("manual_decision") == 1
        assert one.events()[-1][1]["in_file"]
        assert one.file(TEST)["note"] == "enough"
        (one.root / layout.test_file(TEST)).write_text(json.dumps(document | {"status": "active"}))
        one.run()
        assert (one.file(TEST)["status"], one.phase()) == ("completed", "steady")

    def test_a_stop_in_the_file_may_promote(self, one: Town) -> None:
        """With b as the winner the challenger becomes champion, and is watched like any other."""
        self.start(one)
        document = one.file(TEST) | {"status": "completed", "winner": "b"}
        (one.root / layout.test_file(TEST)).write_text(json.dumps(document))
        one.run()
        assert (one.phase(), one.held().champion) == ("watching", MODEL)

    def test_old_content_that_comes_back_changes_nothing(self, one: Town) -> None:
        """In everything but a stop the state wins over the file."""
        self.start(one)
        before = one.file(TEST)
        (one.root / layout.test_file(TEST)).write_text(json.dumps(before | {"variants": {}, "master": "x"}))
        one.run()
        assert one.file(TEST) == before

    def test_a_pause_gives_all_tasks_to_the_champion(self, one: Town) -> None:
        """While a test is paused nobody gets the challenger, and tasks of that time are none of the test's."""
        self.start(one)
        assert isinstance(one.rollout.pause(TEST, **ME), Done)
        assert isinstance(one.rollout.pause(TEST, **ME), Unchanged)
        only_routes_to(one, CHAMPION)
        assert one.file(TEST)["variants"]["a"]["traffic_percentage"] == 100
        before = one.test(TEST).metrics["tasks_assigned"]
        one.work(30)
        assert one.test(TEST).metrics["tasks_assigned"] == before
        assert isinstance(one.rollout.resume(TEST, **ME), Done)
        assert one.routes()[MASTER]["experiment"] == TEST
        one.work(30)
        assert sum(one.test(TEST).metrics["tasks_assigned"].values()) == sum(before.values()) + 30

    def test_of_a_paused_test_nothing_is_decided_whatever_it_shows(self, one: Town) -> None:
        """Until it is resumed, ``check`` and ``ab summary`` say so, as nobody but a person can end it."""
        one.skills[MODEL] = BETTER
        self.start(one)
        one.work(150)
        assert one.phase() == "testing"
        one.rollout.pause(TEST, **ME)
        one.clock.advance(4_000)
        numbers = one.look(report.check, TEST, one.now_us).numbers
        assert isinstance(decide(numbers, one.policy, elapsed_s=0), Promote)
        paused = Continue((Reason("paused", "paused: nothing is decided before it is resumed"),), numbers)
        assert one.look(report.check, TEST, one.now_us) == paused
        assert one.look(report.summary, TEST, one.now_us, one.now_us).decision == paused
        (standing,) = one.look(stand, one.now_us)
        assert (standing.card["decision"], standing.card["reasons"]) == ("continue", [paused.reasons[0].text])
        one.rollout.resume(TEST, **ME)
        assert isinstance(one.look(report.check, TEST, one.now_us), Promote)

    def test_promoting_and_rolling_back_by_hand(self, one: Town) -> None:
        """A person's word goes through at once, once, and is told of with who and why."""
        self.start(one)
        found = one.rollout.promote("security", **ME)
        assert isinstance(found, Done)
        assert (one.phase(), one.held().champion) == ("watching", MODEL)
        assert isinstance(one.rollout.promote(MASTER, **ME), Unchanged)
        assert isinstance(one.rollout.rollback(MASTER, **ME), Done)
        assert (one.phase(), one.held().champion) == ("steady", CHAMPION)
        assert isinstance(one.rollout.rollback(MASTER, **ME), Unchanged)
        assert isinstance(one.rollout.rollback(MASTER, to=MODEL, **ME), Done)
        assert one.held().champion == MODEL
        bodies = [body for kind, body in one.events() if kind == "manual_decision"]
        assert [(body["step"], body["by"], body["why"]) for body in bodies] == [
            ("promote", "ada@desk", "because"),
            ("revert", "ada@desk", "because"),
            ("restore", "ada@desk", "because"),
        ]
        one.run()
        only_routes_to(one, MODEL)
        assert [endpoint.model.model_id for endpoint in one.trainer.endpoints()] == [MODEL]

    @pytest.mark.parametrize(
        ("ending", "said"),
        [
            ("fail", f"{SECOND} could not be served"),
            ("roll_back", f"{SECOND} was rolled back"),
            ("retire", f"{SECOND} was retired"),
            ("conclude", f"the test of {SECOND} showed nothing"),
            ("abort", f"{SECOND} was given up"),
        ],
    )
    def test_a_rollback_that_comes_after_the_challengers_end_changes_nothing(
        self, tmp_path: Path, ending: str, said: str
    ) -> None:
        """It was meant for the challenger: the champion stays, and the answer says how to have the former one instead."""
        limits: dict[str, Any] = {"max_days": 0.1, "retire_early": False} if ending == "conclude" else {}
        with town(tmp_path, watch_tasks=20, **limits) as one:
            one.skills |= {MODEL: USUAL, SECOND: BROKEN if ending == "roll_back" else USUAL}
            self.start(one)
            one.rollout.promote(MASTER, **ME)
            one.until(lambda: one.phase() == "steady")
            one.trainer.script = Script(deploy_s=60, deploy="fails" if ending == "fail" else "succeeds")
            one.add_model(SECOND)
            one.until(lambda: one.phase() == ("deploying" if ending == "fail" else "testing"), most=3)
            if ending == "abort":
                one.rollout.abort(f"{MASTER}-{SECOND}", **ME)
            one.until(lambda: one.phase() == "steady")
            assert one.history()[-1].step == ending
            ended, before = instants.us_to_text(one.history()[-1].at_us), one.events()
            one.clock.advance(30 * 86_400)
            found = one.rollout.rollback(MASTER, **ME)
            assert found == Unchanged(
                f"all tasks of {MASTER} go to {MODEL} already: {said} at {ended}; "
                f"`rollback {MASTER} --to {CHAMPION}` brings the former champion back"
            )
            assert one.events() == before
            only_routes_to(one, MODEL)
            assert isinstance(one.rollout.rollback(MASTER, to=CHAMPION, **ME), Done)
            only_routes_to(one, CHAMPION)

    def test_a_rollback_is_one_step_and_no_more(self, one: Town) -> None:
        """Asked again it changes nothing, also where the first took back a champion that had stood its watch."""
        self.start(one)
        assert isinstance(one.rollout.rollback(MASTER, **ME), Done)
        ended = instants.us_to_text(one.history()[-1].at_us)
        only = Unchanged(f"all tasks of {MASTER} go to {CHAMPION} already: {MODEL} was rolled back at {ended}")
        assert one.rollout.rollback(MASTER, **ME) == only
        one.rollout.deploy(MODEL, MASTER, **ME)
        one.until(lambda: one.phase() == "testing", most=2)
        one.rollout.promote(MASTER, **ME)
        one.until(lambda: one.phase() == "steady")
        assert one.history()[-1].step == "settle"
        assert isinstance(one.rollout.rollback(MASTER, **ME), Done)
        back = instants.us_to_text(one.history()[-1].at_us)
        assert one.rollout.rollback(MASTER, **ME) == Unchanged(
            f"all tasks of {MASTER} go to {CHAMPION} already: it came back at {back}; "
            f"`rollback {MASTER} --to {MODEL}` brings the former champion back"
        )
        only_routes_to(one, CHAMPION)
        with one.rooms.store.write() as transaction:
            for row in transaction.endpoints():
                transaction.drop_endpoint(row.number)
        assert one.rollout.rollback(MASTER, **ME) == Unchanged(
            f"all tasks of {MASTER} go to {CHAMPION} already: it came back at {back}; "
            f"nothing serves the former champion any more: `deploy {MODEL} {MASTER}` tests it anew"
        )

    def test_of_a_test_that_a_person_ended_nothing_stays_in_memory(self, one: Town) -> None:
        """A daemon runs for years, and a command, another process, ends test after test beside it."""
        self.start(one)
        one.work(10)
        daemon = one.rollout
        one.restart()
        assert isinstance(one.rollout.rollback(MASTER, **ME), Done)
        daemon.run(one.handle)
        assert daemon._follower._courses == {}  # noqa: SLF001 - what a process keeps shows nowhere else

    def test_a_step_that_may_not_be_taken_is_refused_with_the_reason(self, one: Town) -> None:
        """Nothing changes, and the answer says why."""
        self.start(one)
        before = one.events()
        for found in (
            one.rollout.deploy("ft-none", MASTER, **ME),
            one.rollout.deploy(MODEL, "../etc", **ME),
            one.rollout.promote("nobody", **ME),
            one.rollout.resume("nothing", **ME),
            one.rollout.rollback(MASTER, to="v0.0.1", **ME),
        ):
            assert isinstance(found, Refused)
            assert found.reason
        assert isinstance(one.rollout.deploy(MODEL, MASTER, **ME), Unchanged)
        assert one.events() == before

    def test_an_aborted_test_may_be_had_again(self, one: Town) -> None:
        """Deployed again by hand, a model is tested again, under a name of its own and counted."""
        self.start(one)
        assert isinstance(one.rollout.abort(TEST, **ME), Done)
        assert isinstance(one.rollout.abort(TEST, **ME), Unchanged)
        assert one.phase() == "steady"
        dry = one.rollout.deploy(MODEL, MASTER, dry_run=True, **ME)
        assert isinstance(dry, Done)
        assert one.queue() == []
        assert isinstance(one.rollout.deploy(MODEL, MASTER, **ME), Done)
        one.until(lambda: one.phase() == "testing", most=3)
        assert (one.held().test_id, one.test(f"{TEST}-2").number) == (f"{TEST}-2", 2)

    def test_a_deployment_may_be_given_up(self, one: Town) -> None:
        """By the name that its test would have; what was prepared is ended, and nothing was tested."""
        one.run()
        assert one.phase() == "deploying"
        assert isinstance(one.rollout.abort(TEST, **ME), Done)
        one.run()
        assert (one.phase(), one.trainer.endpoints()) == ("steady", [])
        assert "ab_test_started" not in one.kinds()

    def test_which_model_was_champion_when_and_why(self, one: Town) -> None:
        """History answers for every instant since rollout knows the master."""
        self.start(one)
        before_us = one.now_us
        one.clock.advance(10)
        one.rollout.promote(MASTER, **ME)
        found = one.look(report.champion, MASTER, one.now_us)
        assert found is not None
        assert (found.version, found.by, found.why, found.step) == (MODEL, "ada@desk", "because", "promote")
        earlier = one.look(report.champion, MASTER, before_us)
        assert earlier is not None
        assert earlier.version == CHAMPION
        assert one.look(report.champion, MASTER, 0) is None
        assert found.event_seq is not None
        with one.rooms.store.read() as reading:
            decided = reading.decided(found.event_seq)
        assert decided is not None
        assert decided.numbers["card"]["variants"]["b"]["name"] == MODEL


class TestOutcomes:
    def start(self, one: Town) -> None:
        one.skills.setdefault(MODEL, USUAL)
        one.until(lambda: one.phase() == "testing", most=2)

    def results(self, one: Town, *lines: dict[str, Any], test: str = TEST) -> Path:
        path = one.root / layout.results_file(test)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.writelines(json.dumps(one, indent=2) + "\n" for one in lines)
        return path

    def result(self, one: Town, task_id: str, variant: str = "b", **changes: Any) -> dict[str, Any]:
        return {
            "test_id": TEST,
            "task_id": task_id,
            "variant": variant,
            "status": "completed",
            "duration_seconds": 30,
            "quality_score": 4.2,
            "timestamp": instants.to_text(one.clock.now()),
            **changes,
        }

    def test_results_of_the_shell_count_once(self, one: Town) -> None:
        """Pretty-printed objects are outcomes; delivered twice, or with the file written anew, they count once."""
        self.start(one)
        before = one.test(TEST).metrics["tasks_completed"]["b"]
        path = self.results(one, self.result(one, "r1"), self.result(one, "r2"), self.result(one, "r1"))
        assert one.rollout.is_waiting()
        one.run()
        assert one.test(TEST).metrics["tasks_completed"]["b"] == before + 2
        again = path.with_suffix(".new")
        again.write_bytes(path.read_bytes())
        again.replace(path)
        one.run()
        assert one.test(TEST).metrics["tasks_completed"]["b"] == before + 2
        assert not one.rollout.is_waiting()

    def test_a_file_that_is_being_written_waits_for_its_end(self, one: Town) -> None:
        """Half an object is left for the next run."""
        self.start(one)
        text = json.dumps(self.result(one, "r1"), indent=2)
        path = self.results(one)
        path.write_text(text[:40])
        one.run()
        before = one.test(TEST).metrics["tasks_completed"]["b"]
        path.write_text(text)
        one.run()
        assert one.test(TEST).metrics["tasks_completed"]["b"] == before + 1
        assert one.rooms.quarantine() == []

    def test_what_is_no_outcome_is_quarantined_once_and_counted(self, one: Town) -> None:
        """Foreign tests, unknown variants, impossible numbers and broken text: kept with the reason, counted."""
        self.start(one)
        good = self.result(one, "r1")
        path = self.results(
            one,
            good | {"test_id": "../../etc/passwd"},
            good | {"variant": "c"},
            good | {"quality_score": 1e308},
            good | {"duration_seconds": -5},
            good | {"task_id": ""},
            good | {"status": "running"},
        )
        with path.open("a") as file:
            file.write('{"test_id": "x", "quality_score": NaN}\n')
        one.run()
        lines = one.rooms.quarantine()
        assert len(lines) == 7
        assert {one["file"] for one in lines} == {layout.results_file(TEST)}
        assert sum(one.test(TEST).refused.values()) == 7
        one.restart()
        path.write_bytes(path.read_bytes())
        one.run()
        assert len(one.rooms.quarantine()) == 7

    def test_a_rebuild_of_silver_changes_nothing(self, one: Town) -> None:
        """Read again from the beginning, silver brings the same outcomes; what results left in quarantine stays."""
        self.start(one)
        one.work(30)
        self.results(one, self.result(one, "r1", "c"))
        one.run()
        before = one.test(TEST)
        one.rooms.medallion.rebuild(one.handle)
        one.run()
        assert one.test(TEST).metrics == before.metrics
        assert (
            one.look(report.check, TEST, one.now_us).numbers.closed.treated.tasks
            <= before.metrics["tasks_assigned"]["b"]
        )
        assert [line["reason"] for line in one.rooms.quarantine()] == ["unknown variant"]

    def test_a_rebuild_brings_no_old_task_into_a_test(self, one: Town) -> None:
        """A task without any time that was there before the test is none of it, though a rebuild reads it anew."""
        undated = [{"task_id": f"old-{number}", "master": MASTER, "status": "completed"} for number in range(60)]
        one.rooms.put("undated.jsonl", *undated)
        one.rooms.follow()
        self.start(one)
        one.rooms.medallion.rebuild(one.handle)
        one.run()
        assert self.tasks(one) == 0
        one.rooms.put("undated.jsonl", {"task_id": "new-1", "master": MASTER, "status": "completed"})
        one.rooms.follow()
        one.run()
        assert self.tasks(one) == 1

    def test_a_running_test_is_measured(self, one: Town) -> None:
        """The metrics hold a test as its file does, by variant, and only while it runs."""
        self.start(one)
        one.work(40)
        with one.rooms.store.read() as reading:
            (found,) = running_tests(reading, one.now_us)
        told = one.test(TEST).metrics
        assert (found.test_id, found.master, [side.variant for side in found.variants]) == (TEST, MASTER, ["a", "b"])
        for side in found.variants:
            assert side.tasks["assigned"] == told["tasks_assigned"][side.variant] > 0
            assert side.tasks["completed"] == told["tasks_completed"][side.variant] > 0
        assert set(found.gains) == {"quality", "completion"}
        one.rollout.abort(TEST, by="ada@desk", why="enough")
        with one.rooms.store.read() as reading:
            assert running_tests(reading, one.now_us) == ()

    @staticmethod
    def tasks(one: Town) -> int:
        return sum(one.test(TEST).metrics["tasks_assigned"].values())

    def test_late_outcomes_are_kept_and_change_nothing(self, one: Town) -> None:
        """What a test is told after its end stands in its report only."""
        self.start(one)
        one.rollout.abort(TEST, **ME)
        before = one.test(TEST).metrics
        self.results(one, self.result(one, "late-1"), self.result(one, "late-2", "a"))
        one.run()
        assert one.test(TEST).metrics == before
        assert one.look(report.summary, TEST, one.now_us, one.now_us).late == 2
        assert one.phase() == "steady"

    def test_a_judges_score_counts_when_it_comes(self, one: Town) -> None:
        """A label that comes after the outcome is the score that counts."""
        self.start(one)
        one.work(10)
        with one.rooms.store.write() as transaction:
            row = next(row for row in transaction.trials(TEST) if row.completed)
            transaction.put_label(Label(row.task_id, 1.5, "", "ada", one.now_us))
        assert one.rollout.is_waiting()
        one.run()
        with one.rooms.store.read() as reading:
            assert reading.trials_of(TEST, [row.task_id])[row.task_id].quality == 1.5
        assert not one.rollout.is_waiting()

    def test_rescued_and_unrouted_tasks(self, one: Town) -> None:
        """A rescued try is the challenger's failure; callers that do not route make the test invalid, which is said."""
        self.start(one)

        def never_routes(_: Any, record: dict[str, Any]) -> dict[str, Any]:
            plain = {key: value for key, value in record.items() if key not in {"variant", "experiment"}}
            return plain | {"model": CHAMPION}

        one.work(80, record=never_routes)
        assert one.test(TEST).alarms == ("unrouted",)
        assert one.kinds()[-1] == "ab_test_held"

        def rescued(choice: Any, record: dict[str, Any]) -> dict[str, Any]:
            return record | ({"model": CHAMPION, "fallback_from": MODEL} if choice.variant == "b" else {})

        before = one.test(TEST).metrics["tasks_failed"]["b"]
        one.work(4, record=rescued)
        assert one.test(TEST).metrics["tasks_failed"]["b"] > before
        one.clock.advance(3_600)
        one.run()
        assert not one.rollout.is_waiting()

    def test_masters_under_test_are_known_to_scoring(self, one: Town) -> None:
        """While a test or watch runs its master is under test, and after it no more."""
        assert one.rollout.masters_under_test() == {}
        self.start(one)
        assert one.rollout.masters_under_test() == {MASTER: one.test(TEST).started_us}
        one.rollout.abort(TEST, **ME)
        assert one.rollout.masters_under_test() == {}

    def test_many_outcomes_in_one_file(self, one: Town) -> None:
        """A file of many outcomes is taken in by portions, and what comes behind the decision is late."""
        self.start(one)
        path = self.results(one)
        with path.open("wb") as file:
            for number in range(20_000):
                file.write(line(self.result(one, f"many-{number}", "b", status="failed", quality_score=0)))
        one.run()
        assert one.kinds()[-1] == "auto_rollback"
        assert one.test(TEST).metrics["tasks_assigned"]["b"] < 100
        assert one.look(report.summary, TEST, one.now_us, one.now_us).late > 19_000


class TestProjections:
    def test_what_is_removed_or_damaged_comes_back(self, one: Town) -> None:
        """Routes, aliases and test files are written again from the state."""
        one.skills[MODEL] = USUAL
        one.until(lambda: one.phase() == "testing", most=2)
        routes, aliases, test = one.routes(), one.aliases(), one.file(TEST)
        (one.root / layout.ROUTES).write_bytes(b"{")
        (one.root / layout.aliases_file(MASTER)).unlink()
        (one.root / layout.test_file(TEST)).write_bytes(b"")
        one.run()
        assert (one.routes(), one.aliases(), one.file(TEST)) == (routes, aliases, test)

    def test_a_file_in_the_way_hinders_nothing_else(self, one: Town) -> None:
        """A folder where an alias file or results should be is told of, and the rest goes on."""
        one.skills[MODEL] = USUAL
        one.until(lambda: one.phase() == "testing", most=2)
        (one.root / layout.aliases_file(MASTER)).unlink()
        (one.root / layout.aliases_file(MASTER)).mkdir()
        (one.root / layout.results_file(TEST)).mkdir(parents=True)
        one.work(10)
        assert {layout.aliases_file(MASTER), layout.results_file(TEST)} <= {
            str(error.subject).removeprefix(f"{one.root}/") for error in one.handle.troubles
        }
        one.rollout.pause(TEST, **ME)
        only_routes_to(one, CHAMPION)

    @pytest.mark.parametrize("note", ["1" * 30, "[" * 300 + "]" * 300], ids=["a long number", "a deep nest"])
    def test_whatever_others_put_beside_our_keys_is_kept(self, one: Town, note: str) -> None:
        """And hinders nothing: the test is followed, and a person's pause reaches the routes."""
        one.skills[MODEL] = USUAL
        one.until(lambda: one.phase() == "testing", most=2)
        for name in (layout.aliases_file(MASTER), layout.test_file(TEST)):
            path = one.root / name
            path.write_text(f'{{"note": {note}, {path.read_text().lstrip()[1:]}')
        one.work(10)
        assert isinstance(one.rollout.pause(TEST, **ME), Done)
        only_routes_to(one, CHAMPION)
        assert one.aliases()["note"] == one.file(TEST)["note"] == json.loads(note)
        assert one.file(TEST)["variants"]["a"]["traffic_percentage"] == 100

    def test_a_run_that_changes_nothing_writes_nothing(self, one: Town) -> None:
        """Nothing is replaced without need, so that nobody is woken by us for nothing."""
        one.skills[MODEL] = USUAL
        one.until(lambda: one.phase() == "testing", most=2)
        one.run()
        assert one.run() == {}
        assert not one.rollout.is_waiting()

    def test_what_comes_for_one_test_has_no_other_ones_files_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While they are, nobody may write, and there are ever more tests; the run's last look is at all of them."""
        with Town(tmp_path, clock=FakeClock(NOW)) as one:
            for master in (MASTER, OTHER):
                one.past(master)
                one.add_model(f"ft-{master}", scope=master)
                one.skills[f"ft-{master}"] = USUAL
            one.until(lambda: one.phase() == one.phase(OTHER) == "testing", most=2)
            files: list[str] = []

            def counted(tree: Files, relative: str) -> dict[str, Any] | None:
                files.append(relative)
                return read(tree, relative)

            monkeypatch.setattr("cortex_autolearn.rollout.project.read", counted)
            one.work(10, run=False)
            one.rooms.follow()
            assert one.rollout.is_waiting()
            assert files == []
            one.run()
            first, *last = files
            mine, others = (layout.test_file(f"{master}-ft-{master}") for master in (MASTER, OTHER))
            assert first == mine
            assert sorted(last) == sorted(
                [mine, others, layout.aliases_file(MASTER), layout.aliases_file(OTHER), layout.ROUTES]
            )

    def test_evidence_is_the_same_from_what_is_stored(self, one: Town) -> None:
        """The running evidence and the one computed from stored trials have the same numbers, to the last bit."""
        one.skills[MODEL] = Skill(completes=0.85, quality=4.0, hangs=0.02)
        one.until(lambda: one.phase() == "testing", most=2)
        for _ in range(4):
            one.work(25)
            with one.rooms.store.read() as reading:
                test = reading.experiment(TEST)
                assert test is not None
                running = one.rollout._follower.course(reading, test)  # noqa: SLF001 - the one that followed
            assert running is one.rollout._follower._courses[TEST]  # noqa: SLF001 - likewise
            assert running.evidence.numbers() == one.look(report.course, TEST).evidence.numbers()
