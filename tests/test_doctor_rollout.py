"""``doctor`` about tests of new models: each reason why a promotion does not happen is named, with what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ab_support import MASTER, MODEL, TEST, Past, call
from msgspec.structs import replace

from cortex_autolearn.model import instants, layout
from cortex_autolearn.rollout.apply import Order, take
from cortex_autolearn.rollout.registry import Step

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:click")


def lived(
    root: Path, *, before: int = 300, count: int = 60, days: float = 6, backend: str = "export", **options: Any
) -> Past:
    """Return a fleet with a test that goes on; still open."""
    settings = {key: options.pop(key) for key in list(options) if "__" in key}
    past = Past(root, days=days, **settings)
    past.add_model(backend=backend)
    if before:
        past.tasks(before, **{key: value for key, value in options.items() if key in {"fails", "per_day", "quality"}})
    past.deploy()
    if count:
        past.tasks(count, percent_a=90, test_id=TEST, **options)
    return past


def checks(past: Past) -> list[tuple[str, str, str]]:
    """Return what the doctor finds about rollout: verdict, finding and remedy; it is asked by the program."""
    past.close()
    result = call(past.root, "doctor", "--json")
    return [
        (one["verdict"], one["found"], one["remedy"].replace(f" --root {past.root}", ""))
        for one in json.loads(result.stdout)["checks"]
        if one["name"] == "rollout"
    ]


def test_a_test_that_goes_well(tmp_path: Path) -> None:
    """Nothing to complain of: it says since when, and how many tasks it has seen."""
    ((verdict, found, remedy),) = checks(lived(tmp_path / "root"))
    assert (verdict, remedy) == ("ok", "")
    assert found.startswith(f"{TEST} began ")
    assert found.endswith(" ago, 60 tasks so far")


def test_routes_that_are_gone(tmp_path: Path) -> None:
    """While no daemon runs, callers without routes are told of, with what brings them back."""
    past = lived(tmp_path / "root")
    (past.root / layout.ROUTES).unlink()
    _, (verdict, found, remedy) = checks(past)
    assert (verdict, found.startswith("routes.json, ")) == ("fail", True)
    assert "run-once rollout" in remedy


def test_nothing_to_promote(tmp_path: Path) -> None:
    """Without a model there is nothing to promote, and that is said."""
    past = Past(tmp_path / "root")
    assert checks(past) == [("ok", "no model was trained yet, so there is none to promote", "")]


def test_a_model_that_nobody_tests(tmp_path: Path) -> None:
    """One that the daemon was never there to deploy, and one that was offered to no master."""
    past = Past(tmp_path / "root")
    past.add_model()
    past.add_model("ft-20251128-001", is_offered=False)
    waits, never, idle = checks(past)
    assert waits[:2] == ("warn", "ft-20251128-001 waits to be deployed by the daemon")
    assert "run-once rollout" in waits[2]
    assert never[:2] == ("warn", f"{MODEL} was never tested: no master of its dataset is known")
    assert f"deploy {MODEL} MASTER" in never[2]
    assert idle == ("ok", "no test runs, and no model waits for one", "")


def test_a_model_that_a_person_gave_up(tmp_path: Path) -> None:
    """While it waited, or was being deployed: whoever did that is not told for ever that it was never tested."""
    past = lived(tmp_path / "root", count=0)
    rollout, now_us = past.app.rooms.rollout, instants.to_us(past.clock.now())
    for model_id in ("ft-20251128-001", "ft-20251128-002"):
        past.add_model(model_id)
        rollout.abort(TEST, by="ann", why="")
        if model_id == "ft-20251128-001":
            rollout.deploy(model_id, MASTER, by="ann", why="")
        else:
            with past.app.store.write() as transaction:
                held = transaction.serving(MASTER)
                assert held is not None
                take(transaction, held, Order(Step("deploy", "daemon", model_id), "daemon", "", now_us))
        given_up = rollout.abort(f"{MASTER}-{model_id}", by="ann", why="trained on the wrong month")
        assert getattr(given_up, "event_seq", None), given_up
    assert checks(past) == [("ok", "no test runs, and no model waits for one", "")]


def test_a_test_that_has_ended(tmp_path: Path) -> None:
    """A model that was rolled back was tested: there is nothing to do about it."""
    past = lived(tmp_path / "root", fails=(13, 1))
    assert checks(past) == [("ok", "no test runs, and no model waits for one", "")]


def test_a_quality_bar_that_cannot_be_met(tmp_path: Path) -> None:
    """A champion whose tasks are scored as high as agents may score themselves leaves no room for a gain."""
    past = lived(tmp_path / "root", before=1000, quality=(4.7, 4.7), rollout__min_quality_gain=0.4)
    ((verdict, found, remedy),) = checks(past)
    assert verdict == "warn"
    assert f"{TEST} promotion is practically impossible: the champion's tasks are scored 4.69 of 5, and a gain" in found
    assert "rollout.min_quality_gain" in remedy


def test_a_bar_that_cannot_be_met(tmp_path: Path) -> None:
    """A champion that completes 95 % and more leaves no room for five points: the gate can be scaled."""
    past = lived(tmp_path / "root", before=1000, fails=(1000, 1000))
    ((verdict, found, remedy),) = checks(past)
    assert verdict == "warn"
    assert f"{TEST} promotion is practically impossible: the champion completes 99.7 % of its tasks" in found
    assert 'Set rollout.completion_gate to "scaled"' in remedy
    assert f"abort {TEST}" in remedy


def test_with_the_gate_scaled_it_can_be_met(tmp_path: Path) -> None:
    past = lived(tmp_path / "root", before=1000, fails=(1000, 1000), rollout__completion_gate="scaled")
    assert [one[0] for one in checks(past)] == ["ok"]


def test_a_test_that_takes_too_long(tmp_path: Path) -> None:
    """A quiet master's test takes months at 10 %; `auto` is recommended, and where it is set nothing is said."""
    ((verdict, found, remedy),) = checks(lived(tmp_path / "slow", per_day=20, count=20, days=17))
    assert verdict == "warn"
    assert "days until a good model is promoted, at 10 % of the tasks" in found
    assert 'Set rollout.challenger_percentage to "auto"' in remedy
    auto = lived(tmp_path / "auto", per_day=20, count=20, days=17, rollout__challenger_percentage="auto")
    assert [one[0] for one in checks(auto)] == ["ok"]


def test_callers_that_do_not_route(tmp_path: Path) -> None:
    """The test is held; the reason is told once, though the split shows it as well."""
    ((verdict, found, remedy),) = checks(lived(tmp_path / "root", count=300, by_champion=True))
    assert verdict == "warn"
    assert f"{TEST} is held: its callers do not route" in found
    assert "record a task that the champion rescued with fallback_from" in remedy
    assert f"check {TEST}" in remedy


def test_scores_that_are_missing_in_one_variant(tmp_path: Path) -> None:
    ((verdict, found, remedy),) = checks(lived(tmp_path / "root", count=400, quality=(4.1, None)))
    assert (verdict, "scores are missing more often in one variant" in found) == ("warn", True)
    assert "let the judge do it" in remedy


def test_an_alarm_in_a_watch(tmp_path: Path) -> None:
    """It holds nothing: the watch goes on, and is settled by itself. No remedy is named that is refused."""
    past = lived(tmp_path / "root", count=0, days=10)
    past.app.rooms.rollout.promote(MASTER, by="ann", why="")
    watch = f"{TEST}-watch"
    past.tasks(300, percent_a=80, test_id=watch, quality=(None, 4.1), champion=MODEL, challenger="v1.0.0")
    ((verdict, found, remedy),) = checks(past)
    assert verdict == "warn"
    assert found.startswith(f"{watch} goes on, and shows less than it should: scores are missing more often in one")
    assert (f"rollback {MASTER}; " in remedy, "abort" in remedy) == (True, False)
    (_, listed) = json.loads(call(past.root, "ab", "list", "--json").stdout)["tests"]
    assert (listed["test_id"], listed["state"], listed["alarms"]) == (watch, "active", ["scored"])
    assert "\n    ft-20251127-001 is watched: " in call(past.root, "status").stdout
    assert ": held\n" not in call(past.root, "status").stdout
    assert "Note: an alarm rang (scored): the watch goes on" in call(past.root, "ab", "summary", watch).stdout


def test_no_scores_at_all(tmp_path: Path) -> None:
    """Without scores no quality can be better: nothing is ever promoted."""
    ((verdict, found, remedy),) = checks(lived(tmp_path / "root", quality=(None, None)))
    assert verdict == "warn"
    assert found.endswith(" of its tasks completed, and none has a score")
    assert "let the judge score" in remedy


def test_no_tasks(tmp_path: Path) -> None:
    """A test that has seen no task for a day tests nothing."""
    ((verdict, found, _),) = checks(lived(tmp_path / "root", count=0))
    assert (verdict, "has seen no task since it began" in found) == ("warn", True)


def test_a_pause_that_was_forgotten(tmp_path: Path) -> None:
    past = lived(tmp_path / "root")
    past.app.rooms.rollout.pause(TEST, by="ann", why="lunch")
    ((verdict, found, remedy),) = checks(past)
    assert verdict == "warn"
    assert f"{TEST} is paused since " in found
    assert f"resume {TEST}" in remedy


def test_an_alarm_is_told_of_during_a_pause_as_well(tmp_path: Path) -> None:
    """It keeps the test from being decided when it goes on, and its cause may be mended meanwhile."""
    past = lived(tmp_path / "root", count=300, by_champion=True)
    past.app.rooms.rollout.pause(TEST, by="ann", why="")
    ((verdict, found, remedy),) = [one for one in checks(past) if "is held" in one[1]]
    assert (verdict, "its callers do not route" in found) == ("warn", True)
    assert f"abort {TEST}" in remedy


def test_a_pause_of_today_is_no_trouble(tmp_path: Path) -> None:
    past = lived(tmp_path / "root", before=0, count=0, days=0.2)
    past.app.rooms.rollout.pause(TEST, by="ann", why="lunch")
    ((verdict, found, _),) = checks(past)
    assert (verdict, "is paused; it began" in found) == ("ok", True)


def test_a_master_that_a_foreign_test_occupies(tmp_path: Path) -> None:
    """The model waits; who holds its place, and how that is ended, is said. A test that is over holds nothing."""
    root = tmp_path / "root"
    for name, status in (("security-master-v9", "active"), ("security-master-v8", "completed")):
        path = root / layout.AB_TESTS / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"test_id": name, "master": MASTER, "status": status}))
    (root / layout.AB_TESTS / "torn.json").write_text('{"test_id": ')
    ((verdict, found, remedy),) = checks(lived(root, count=0))
    assert verdict == "warn"
    assert found == f"security-master-v9, a test that is not ours, occupies {MASTER}; 1 model waits for it"
    assert remedy == f'End it where it was begun: status "completed" in {layout.AB_TESTS}/security-master-v9.json'


def test_a_model_that_waits_its_turn(tmp_path: Path) -> None:
    past = lived(tmp_path / "root")
    past.add_model("ft-20251128-001")
    past.deploy("ft-20251128-001")
    assert ("ok", f"ft-20251128-001 waits until {TEST} has ended", "") in checks(past)


def test_a_model_whose_turn_has_come(tmp_path: Path) -> None:
    """Nothing runs that it could wait for: while there is no daemon, who deploys it?"""
    past = lived(tmp_path / "root", count=0)
    past.app.rooms.rollout.abort(TEST, by="ann", why="")
    past.add_model("ft-20251128-001")
    past.app.rooms.rollout.deploy("ft-20251128-001", MASTER, by="ann", why="")
    ((verdict, found, remedy),) = checks(past)
    assert (verdict, found) == ("warn", "ft-20251128-001 waits to be deployed by the daemon")
    assert "run-once rollout" in remedy
    assert call(past.root, "run-once", "rollout").exit_code == 0
    assert "ft-20251128-001 waits" not in call(past.root, "doctor").stdout


def test_a_model_that_waits_for_one_that_is_being_deployed(tmp_path: Path) -> None:
    """A provider may take hours for that, and no test has a name yet."""
    past = lived(tmp_path / "root", count=0)
    past.app.rooms.rollout.abort(TEST, by="ann", why="")
    for model_id in ("ft-20251128-001", "ft-20251128-002"):
        past.add_model(model_id)
    with past.app.store.write() as transaction:
        held = transaction.serving(MASTER)
        assert held is not None
        order = Order(Step("deploy", "daemon", "ft-20251128-001"), "daemon", "", instants.to_us(past.clock.now()))
        take(transaction, held, order)
    past.app.rooms.rollout.deploy("ft-20251128-002", MASTER, by="ann", why="")
    text = f"ft-20251128-002 waits until ft-20251128-001 is deployed for {MASTER}, and tested"
    assert checks(past) == [("ok", text, "")]


def test_a_model_that_cannot_be_served(tmp_path: Path) -> None:
    """Its files are damaged, so its test never began: that is told with the reason."""
    found = checks(lived(tmp_path / "root", count=0, backend="exemplar"))
    (failed,) = [one for one in found if one[0] == "warn"]
    assert failed[1].startswith(f"{MODEL} could not be served for {MASTER}, ")
    assert f"deploy {MODEL} {MASTER}" in failed[2]


def test_a_model_that_serves_and_cannot_be_served(tmp_path: Path) -> None:
    """What a master's tasks go to and cannot be had is the first thing to know."""
    past = lived(tmp_path / "root")
    with past.app.store.write() as transaction:
        (row,) = transaction.endpoints()
        assert row.seen is not None
        transaction.put_endpoint(row.number, replace(row.seen, state="failed", reason="no capacity"), row.asked_us)
    (*_, (verdict, found, remedy)) = checks(past)
    assert (verdict, found) == ("fail", f"{MODEL} is to serve {MASTER} and cannot be served: no capacity")
    assert "every hour" in remedy
