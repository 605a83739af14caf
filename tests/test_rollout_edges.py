"""Rollout where something odd happens around a test: downtime, names, files of others, lines that come twice."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO

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
    Town,
    town,
)

from cortex_autolearn.adapters.tree import Entry, Tree
from cortex_autolearn.assignment import variant
from cortex_autolearn.doctor import examine
from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.judging import Label
from cortex_autolearn.model.rollout import Continue, Outcome, Rollback, Settle
from cortex_autolearn.model.rollout_policy import RolloutPolicy
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.rollout import report
from cortex_autolearn.rollout.baseline import Baseline
from cortex_autolearn.rollout.decide import decide_watch
from cortex_autolearn.rollout.deploy import Deployer
from cortex_autolearn.rollout.evidence import Evidence
from cortex_autolearn.rollout.project import Projector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cortex_autolearn.rollout.needs import RolloutReading, RolloutStore

TEST = f"{MASTER}-{MODEL}"
SECOND = "ft-20251128-001"
ME: dict[str, Any] = {"by": "ada@desk", "why": "because"}


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Town]:
    """A town whose test runs."""
    with town(tmp_path) as made:
        made.until(lambda: made.phase() == "testing", most=3)
        made.run()
        yield made


class Guarded(Tree):
    """A tree in which one file may not be read, not even by a root that tests run as."""

    def open_input(self, relative: str) -> BinaryIO | None:
        if relative.endswith("/theirs.json"):
            raise BoundaryError("read", relative, "Permission denied", hint="Look at its permissions", retryable=False)
        return super().open_input(relative)


class Barred(Tree):
    """A tree whose folder of tests may not be listed."""

    def entries(self, folder: str, suffix: str) -> list[Entry]:
        if folder == layout.AB_TESTS:
            raise BoundaryError("list", folder, "Permission denied", hint="Look at its permissions", retryable=False)
        return super().entries(folder, suffix)


class Meanwhile:
    """The state, in which somebody does something right after the first look."""

    def __init__(self, store: RolloutStore, deed: Callable[[], object]) -> None:
        self._store = store
        self._deeds = [deed]
        self.write = store.write
        self.flush_events = store.flush_events

    @contextmanager
    def read(self) -> Iterator[RolloutReading]:
        with self._store.read() as reading:
            yield reading
        while self._deeds:
            self._deeds.pop()()


def trial(one: Town, task_id: str) -> Any:
    with one.rooms.store.read() as reading:
        return reading.trials_of(TEST, [task_id]).get(task_id)


def of_arm(arm: str, number: int = 0) -> str:
    """Return an id that Cortex's hash gives to a variant of a half and half test."""
    return next(f"x-{number}-{i}" for i in range(100) if variant(f"x-{number}-{i}", 50) == arm)


def told(one: Town, task_id: str, letter: str, **more: Any) -> dict[str, Any]:
    """Return a line of the test's results file, of now."""
    body = {"status": "completed", "duration_seconds": 4, "quality_score": 4.5, **more}
    at = instants.to_text(one.clock.now())
    return {"test_id": TEST, "task_id": task_id, "variant": letter, "timestamp": at} | body


def tell(one: Town, *lines: dict[str, Any], before: bytes = b"") -> None:
    """Replace the test's results file."""
    path = one.root / layout.results_file(TEST)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    beside.write_bytes(before + b"".join(json.dumps(one).encode() + b"\n" for one in lines))
    beside.rename(path)


class TestDowntime:
    def test_no_window_closes_over_records_that_are_unread(self, one: Town) -> None:
        """A task that ended in time while nobody looked is no failure, however late its record is read."""
        task_id, created = of_arm("b"), one.clock.now()
        record = {"task_id": task_id, "master": MASTER, "created_at": instants.to_text(created)}
        one.rooms.put("slow.jsonl", record | {"status": "running"})
        one.run()
        ended = {"status": "completed", "completed_at": instants.to_text(created + timedelta(seconds=900))}
        one.clock.advance(one.policy.maturation_s + 600)
        one.rooms.put("slow.jsonl", record | ended)
        assert not one.rollout.is_waiting()  # a run before the medallion's could do nothing
        one.rollout.run(one.handle)
        assert (trial(one, task_id).closed, trial(one, task_id).at_us) == (False, None)
        one.run()
        assert (trial(one, task_id).closed, trial(one, task_id).completed) == (True, True)

    def test_a_window_closes_when_everything_is_read(self, one: Town) -> None:
        """And then the run is asked for: a task without an end is a failure."""
        task_id = of_arm("b")
        created = instants.to_text(one.clock.now())
        one.rooms.put("slow.jsonl", {"task_id": task_id, "master": MASTER, "created_at": created, "status": "running"})
        one.run()
        one.clock.advance(one.policy.maturation_s + 1)
        assert one.rollout.is_waiting()
        one.rollout.run(one.handle)
        assert (trial(one, task_id).closed, trial(one, task_id).at_us) == (True, None)

    def test_windows_close_as_far_as_the_last_good_run_read(self, one: Town) -> None:
        """A file that grows at every instant, or that nobody may read, holds up no window for good."""
        task_id, created = of_arm("b"), one.clock.now()
        record = {"task_id": task_id, "master": MASTER, "created_at": instants.to_text(created), "status": "running"}
        one.rooms.put("slow.jsonl", record)
        one.run()
        one.clock.advance(one.policy.maturation_s - 10)
        medallion = one.rooms.medallion
        one.rooms.put("more.jsonl", {"task_id": "of-another", "master": OTHER, "status": "running"})
        assert medallion.taken_in_us() == 0
        one.good_run("silver")
        assert medallion.taken_in_us() == one.now_us - 1
        one.clock.advance(20)
        assert medallion.taken_in_us() == one.now_us - 20_000_000 - 1
        one.rollout.run(one.handle)
        assert not trial(one, task_id).closed
        one.good_run("silver")
        one.rollout.run(one.handle)
        assert trial(one, task_id).closed

    def test_windows_do_not_close_by_a_run_of_a_clock_that_was_set_back(self, one: Town) -> None:
        """What ran while the clock was a day ahead has not read what came since it is right again."""
        record = {"task_id": of_arm("b"), "master": MASTER, "created_at": instants.to_text(one.clock.now())}
        one.rooms.put("slow.jsonl", record | {"status": "running"})
        one.run()
        one.good_run("silver")
        known_us = one.now_us - 1
        one.clock.advance(86_400)
        one.good_run("silver")
        one.clock.step(-86_400)
        one.clock.advance(one.policy.maturation_s + 10)
        one.rooms.put("slow.jsonl", record | {"status": "completed"})
        assert one.rooms.medallion.taken_in_us() == known_us
        one.rollout.run(one.handle)
        assert not trial(one, record["task_id"]).closed

    def test_days_end_no_watch_before_what_came_in_them_is_read(self, one: Town) -> None:
        """A promoted model that fails while nobody looks is not settled by the first record that is read."""
        one.rollout.promote(MASTER, **ME)
        one.skills[MODEL] = BROKEN
        days = one.policy.watch_days
        one.work(60, run=False, spread_s=(days + 1) * 86_400)
        one.run()
        assert (one.phase(), one.held().champion) == ("steady", CHAMPION)
        assert one.test(f"{TEST}-watch").ending == "revert"

    def test_days_end_a_watch_of_which_nothing_comes(self, one: Town) -> None:
        """And a test as well, with the first look after them."""
        one.rollout.promote(MASTER, **ME)
        one.clock.advance(one.policy.watch_days * 86_400)
        assert one.rollout.is_waiting()
        one.run()
        assert (one.test(f"{TEST}-watch").ending, one.held().champion) == ("settle", MODEL)

    def test_days_end_a_watch_without_windows(self, tmp_path: Path) -> None:
        """Where tasks come all the time, so that no day passes without a look."""
        with town(tmp_path, maturation_s=0, watch_days=2, watch_tasks=10_000) as one:
            one.until(lambda: one.phase() == "testing", most=3)
            one.run()
            one.rollout.promote(MASTER, **ME)
            one.skills[MODEL] = USUAL
            for _ in range(9):
                one.work(10, spread_s=6 * 3_600)
            assert one.test(f"{TEST}-watch").ending == "settle"

    def test_without_windows_nothing_expires(self, tmp_path: Path) -> None:
        """Nor when the daemon starts anew: tasks that are under way then are no failures."""
        with town(tmp_path, maturation_s=0) as one:
            one.until(lambda: one.phase() == "testing", most=3)
            at = instants.to_text(one.clock.now())
            ids = [of_arm("b", number) for number in range(20)]
            one.rooms.put("slow.jsonl", *({"task_id": name, "master": MASTER, "created_at": at} for name in ids))
            one.clock.advance(60)
            one.run()
            one.restart()
            one.clock.advance(86_400)
            one.run()
            assert one.phase() == "testing"
            assert not any(trial(one, name).closed for name in ids)


class TestWatch:
    def test_a_promoted_model_that_hangs_is_not_settled(self) -> None:
        """Of what hangs nothing arrives: only tasks whose windows have closed settle a watch."""
        policy = RolloutPolicy()
        evidence = Evidence(Baseline(), policy)
        for number in range(5_000):
            task_id, promoted = f"t{number}", number % 5 != 0
            evidence.assigned(task_id, treated=promoted, probability=0.8, at_us=number)
            if not promoted:
                evidence.observe(
                    Outcome(task_id, promoted, 0.8, number, number + 1_000, completed=True, quality=4.0, duration_s=9.0)
                )
        assert isinstance(decide_watch(evidence.numbers(), policy, elapsed_s=3_600), Continue)
        for _ in evidence.closing(policy.maturation_s * 1_000_000 + 5_000):
            pass
        assert not isinstance(decide_watch(evidence.numbers(), policy, elapsed_s=90_000), Settle | Continue)


class TestSaid:
    def test_what_is_said_of_a_test_closes_no_window_over_unread_records(self, one: Town) -> None:
        """`check` says what the daemon will do, which has not read the ends of these tasks either."""
        created = instants.to_text(one.clock.now())
        tasks = [{"task_id": of_arm("b", number), "master": MASTER, "created_at": created} for number in range(20)]
        one.rooms.put("slow.jsonl", *(task | {"status": "running"} for task in tasks))
        one.run()
        one.good_run("silver")
        one.clock.advance(600)
        ended = {"status": "completed", "completed_at": instants.to_text(one.clock.now())}
        one.rooms.put("slow.jsonl", *(task | ended for task in tasks))
        one.clock.advance(one.policy.maturation_s)
        until_us = one.rooms.medallion.taken_in_us()
        assert isinstance(one.look(report.check, TEST, one.now_us), Rollback)
        assert isinstance(one.look(report.check, TEST, until_us), Continue)
        assert isinstance(one.look(report.summary, TEST, one.now_us, until_us).decision, Continue)
        one.run()
        assert one.phase() == "testing"


class TestNamesAndFiles:
    def test_a_large_dataset_tells_its_masters(self, tmp_path: Path) -> None:
        """However many examples its manifest lists."""
        with town(tmp_path) as one:
            manifest = {"by_master": {"train": {OTHER: 9}}, "examples": ["x" * 64] * 30_000}
            self._manifest(one, json.dumps(manifest).encode())
            one.add_model(SECOND, scope="global", dataset_id="abcdefabcdef")
            one.past(OTHER)
            one.run()
            assert one.phase(OTHER) in {"deploying", "testing"}
            assert not one.handle.troubles

    @pytest.mark.parametrize("manifest", [b"{nothing", b'{"by_master": {"train": {"caf\xe9": 9}}}'])
    def test_a_dataset_that_tells_nothing_is_said_once(self, tmp_path: Path, manifest: bytes) -> None:
        """The model is not offered, and its operator knows what to do."""
        with town(tmp_path) as one:
            self._manifest(one, manifest)
            one.add_model(SECOND, scope="global", dataset_id="abcdefabcdef")
            one.run()
            one.run()
            assert [error.hint for error in one.handle.troubles] == ["Deploy the model to its masters by hand"]

    def test_a_master_whose_test_cannot_be_named_hinders_nobody(self, one: Town) -> None:
        """Its model is not offered, and that is said; the broken challenger of another master is rolled back."""
        name = layout.master_name("m" * 112)
        assert name is not None
        one.add_model(SECOND, scope=name)
        one.skills[MODEL] = BROKEN
        one.until(lambda: one.phase() == "steady", most=10)
        assert one.test(TEST).ending == "roll_back"
        assert [str(error) for error in one.handle.troubles] == [
            f"cannot deploy: {SECOND}: its test for {name} could not be named. Shorten the master's name in the records"
        ]

    def test_a_test_of_others_that_cannot_be_read_holds_up_what_it_may_concern(self, one: Town) -> None:
        """A model that waits goes on waiting; the test that runs goes on, and ends."""
        (one.root / layout.AB_TESTS / "theirs.json").write_text("{}")
        one.rooms.tree = Guarded(one.root)
        one.restart()
        one.add_model(SECOND, scope=OTHER)
        one.skills[MODEL] = BROKEN
        one.until(lambda: one.phase() == "steady", most=10)
        assert one.test(TEST).ending == "roll_back"
        assert one.phase(OTHER) is None
        assert one.queue() == [SECOND]
        assert any("theirs.json" in str(error) for error in one.handle.troubles)

    @pytest.mark.parametrize(
        ("tree", "phase"), [(Barred, None), (Tree, "deploying")], ids=["the folder", "the test's own file"]
    )
    def test_what_keeps_a_test_from_beginning_hinders_none_that_runs(
        self, one: Town, tree: type[Tree], phase: str | None
    ) -> None:
        """It waits, which is told; the broken challenger of another master is rolled back."""
        if tree is Tree:
            link = one.root / layout.test_file(f"{OTHER}-{SECOND}")
            link.symlink_to(link.name)  # it leads to itself
        one.rooms.tree = tree(one.root)
        one.restart()
        one.add_model(SECOND, scope=OTHER)
        one.run()
        one.clock.advance(120)  # until what serves it is ready
        one.skills[MODEL] = BROKEN
        one.until(lambda: one.phase() == "steady", most=10)
        assert one.test(TEST).ending == "roll_back"
        assert one.phase(OTHER) == phase
        assert any("ab-tests" in str(error) for error in one.handle.troubles)

    def test_aliases_that_cannot_be_read_are_told_and_not_asked_for_over_and_over(self, tmp_path: Path) -> None:
        """The model waits; no run is due for it, and those that are tell of it."""
        with town(tmp_path) as one:
            (one.root / layout.aliases_file(MASTER)).mkdir(parents=True)
            one.run()
            assert one.queue() == [MODEL]
            assert any("aliases.json" in str(error) for error in one.handle.troubles)
            assert not one.rollout.is_waiting()

    def test_a_look_keeps_nothing_of_what_it_cannot_read(self, one: Town) -> None:
        """Whether files are current is asked at each heartbeat, for months: their trouble is a run's to tell."""
        path = one.root / layout.aliases_file(MASTER)
        path.unlink()
        path.mkdir()
        projector = Projector(one.rooms.tree, one.clock)
        with one.rooms.store.read() as reading:
            assert projector.is_current(reading)
        assert projector.troubles == []

    @pytest.mark.parametrize("half", [b"", b'{"aliases": {"champion": {"vers', b'{"by": "caf\xe9"}'])
    def test_a_champion_is_not_taken_from_half_a_file(self, tmp_path: Path, half: bytes) -> None:
        """While the shell writes the aliases nobody knows the champion: the model waits, and no default replaces it."""
        with town(tmp_path) as one:
            path = one.root / layout.aliases_file(MASTER)
            path.parent.mkdir(parents=True)
            path.write_bytes(half)
            one.run()
            assert (one.queue(), one.held(), path.read_bytes()) == ([MODEL], None, half)
            assert any("aliases.json" in str(error) for error in one.handle.troubles)
            path.write_text(json.dumps({"aliases": {"champion": {"version": "v7"}}}))
            assert one.rollout.is_waiting()
            one.run()
            assert (one.held().champion, one.phase()) == ("v7", "deploying")

    @pytest.mark.parametrize("named", [{"version": "anthropic/claude"}, {"version": 7}, "v7"])
    def test_a_champion_whose_name_is_none_is_not_replaced_by_the_default(self, tmp_path: Path, named: object) -> None:
        """Whom the file names would be lost, and the model tested against another: it waits, and that is told."""
        with town(tmp_path) as one:
            path = one.root / layout.aliases_file(MASTER)
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps({"aliases": {"champion": named}}))
            before = path.read_bytes()
            one.run()
            assert (one.queue(), one.held(), path.read_bytes()) == ([MODEL], None, before)
            (told,) = {str(error) for error in one.handle.troubles}
            assert f"{layout.aliases_file(MASTER)} names " in told
            assert "Write aliases.champion.version with letters" in told
            assert not one.rollout.is_waiting()
            with pytest.raises(BoundaryError, match=r"versions/aliases\.json names "):
                one.rollout.deploy(MODEL, MASTER, by="ann", why="to see")
            found = [check for check in examine(one.root, config=None, environ={}, flags={}) if MODEL in check.found]
            assert [(check.verdict, "waits, as nobody knows the champion" in check.found) for check in found] == [
                ("warn", True)
            ]
            path.write_text(json.dumps({"aliases": {"champion": {"version": "v7"}}}))
            one.run()
            assert (one.held().champion, one.phase()) == ("v7", "deploying")

    def test_silver_of_others_that_cannot_be_read_holds_up_one_test_only(self, one: Town) -> None:
        """Of that one no window closes over what is unread; the broken challenger of another master is rolled back."""
        one.skills[SECOND] = BROKEN
        one.add_model(SECOND, scope=OTHER)
        one.until(lambda: one.phase(OTHER) == "testing", most=3, master=OTHER)
        at = instants.to_text(one.clock.now())
        task = {"master": MASTER, "created_at": at}
        slow, theirs = of_arm("b"), {**task, "task_id": "theirs", "status": "completed", "completed_at": at}
        one.rooms.put("slow.jsonl", {**task, "task_id": slow, "status": "running"})
        one.run()
        path = one.rooms.put("20251127.jsonl", theirs, folder=layout.SILVER)
        one.rooms.adopt()
        path.unlink()
        path.mkdir()
        one.clock.advance(one.policy.maturation_s + 60)
        one.until(lambda: one.phase(OTHER) == "steady", most=10, master=OTHER)
        assert one.test(f"{OTHER}-{SECOND}").ending == "roll_back"
        assert (one.phase(), trial(one, slow).closed) == ("testing", False)
        assert any("20251127.jsonl" in str(error) for error in one.handle.troubles)

    def test_a_master_that_the_settings_leave_out_is_asked_about(self, one: Town) -> None:
        """Also where a model waited for it before: that waits no more, but is tested when a person asks."""
        one.add_model(SECOND)
        one.run()
        assert one.queue() == [SECOND]
        one.policy = msgspec.structs.replace(one.policy, masters=(OTHER,))
        one.restart()
        one.run()
        one.rollout.abort(TEST, **ME)
        one.run()
        assert (one.phase(), one.queue()) == ("steady", [])
        one.rollout.deploy(SECOND, MASTER, **ME)
        one.run()
        assert (one.phase(), one.held().challenger) == ("deploying", SECOND)

    def test_a_model_that_is_taken_out_of_the_queue_meanwhile_is_not_deployed(self, one: Town) -> None:
        """A person's word holds also when it comes between the daemon's look at the queue and what it does about it."""
        one.add_model(SECOND)
        one.run()
        one.rollout.abort(TEST, **ME)
        assert one.queue() == [SECOND]
        store = Meanwhile(one.rooms.store, lambda: one.rollout.abort(f"{MASTER}-{SECOND}", **ME))
        assert not Deployer(store, one.rooms.tree, one.clock, one.policy).begin(Counter())
        assert (one.queue(), one.phase()) == ([], "steady")
        one.run()
        assert (one.queue(), one.phase()) == ([], "steady")

    @staticmethod
    def _manifest(one: Town, content: bytes) -> None:
        path = one.root / layout.dataset_file("abcdefabcdef", "manifest.json")
        path.parent.mkdir(parents=True)
        path.write_bytes(content)


class TestResults:
    def test_lines_told_twice_do_not_bring_back_scores_that_people_overruled(self, tmp_path: Path) -> None:
        """The file was replaced by the same lines: a label still stands, at every look."""
        with town(tmp_path, retire_early=False) as one:
            one.until(lambda: one.phase() == "testing", most=3)
            one.run()
            self._twice(one)

    @staticmethod
    def _twice(one: Town) -> None:
        lines, labels = [], []
        for number in range(120):
            task_id = f"w-{number}"
            letter = variant(task_id, 50)
            one.clock.advance(5)
            lines.append(told(one, task_id, letter, quality_score=4.9 if letter == "b" else 3.5))
            if letter == "b":
                labels.append(Label(task_id, 3.5, "", "ada", one.now_us))
        tell(one, *lines)
        one.run()
        with one.rooms.store.write() as transaction:
            for label in labels:
                transaction.put_label(label)
        one.run()
        one.clock.advance(one.policy.maturation_s + 60)
        one.run()
        assert one.phase() == "testing"
        tell(one, *lines, before=b"\n")
        one.clock.advance(30)
        one.run()
        assert one.phase() == "testing"
        assert {trial(one, label.task_id).quality for label in labels} == {3.5}

    @pytest.mark.parametrize("long", [b'{"note": "%b"}\n', b"%b\n", b'{"note": "%b\n'], ids=["object", "text", "torn"])
    def test_what_is_too_long_for_an_outcome_hides_none(self, one: Town, long: bytes) -> None:
        """However long: it goes to quarantine by its place, what stands behind it counts, and no run is due for it."""
        tell(one, told(one, "w-1", "b"), before=long % (b"x" * (3 << 20)))
        one.run()
        assert trial(one, "w-1").completed
        assert [(entry["offset"], "text" in entry) for entry in one.rooms.quarantine()] == [(0, False)]
        assert not one.rollout.is_waiting()

    def test_an_outcome_of_the_other_variant_is_no_outcome(self, one: Town) -> None:
        """Whoever assigns by another hash fools no test: the first sight stands, and the alarm rings."""
        records, lines = [], []
        for number in range(200):
            task_id = f"w-{number}"
            theirs = (
                "a"
                if int(hashlib.md5(f"{task_id}\n".encode(), usedforsecurity=False).hexdigest()[:8], 16) % 100 < 50
                else "b"
            )
            one.clock.advance(1)
            at = instants.to_text(one.clock.now())
            records.append({"task_id": task_id, "master": MASTER, "created_at": at, "status": "running"})
            lines.append(told(one, task_id, theirs))
        one.rooms.put("pending.jsonl", *records)
        one.run()
        tell(one, *lines)
        one.clock.advance(5)
        one.run()
        same = [entry for entry in lines if entry["variant"] == variant(entry["task_id"], 50)]
        found = [entry for entry in lines if trial(one, entry["task_id"]).at_us is not None]
        assert found == same
        assert 50 < len(same) < 150
        assert "unrouted" in one.test(TEST).alarms

    def test_a_number_of_any_length_stops_nobody(self, one: Town) -> None:
        """JSON knows integers that no machine number holds: such a line goes to quarantine, and the test goes on."""
        tell(one, told(one, "w-1", "b", duration_seconds=10**400), told(one, "w-2", "b"))
        one.run()
        assert (trial(one, "w-1"), trial(one, "w-2").completed) == (None, True)
        assert one.test(TEST).refused == {"duration_seconds is no duration": 1}


class TestPauses:
    def test_what_was_met_during_a_pause_is_decided_when_it_ends(self, one: Town) -> None:
        """Not a day later, nor with the next outcome."""
        one.skills[MODEL] = BETTER
        while sum(one.test(TEST).metrics["tasks_completed"].values()) < 60:
            one.work(20)
            assert one.phase() == "testing"
        one.rollout.pause(TEST, **ME)
        one.clock.advance(2 * one.policy.maturation_s)
        one.run()
        assert one.phase() == "paused"
        one.clock.advance(60)
        one.rollout.resume(TEST, **ME)
        assert one.rollout.is_waiting()
        one.run()
        assert one.phase() == "watching"
        assert not one.rollout.is_waiting()

    def test_an_alarm_that_rings_during_a_pause_is_told_of_once(self, one: Town) -> None:
        """Then, while there is time to mend its cause; when the test goes on it is held, and no second event says so."""

        def never_routes(_: Any, record: dict[str, Any]) -> dict[str, Any]:
            plain = {key: value for key, value in record.items() if key not in {"variant", "experiment"}}
            return plain | {"model": CHAMPION}

        one.skills[MODEL] = USUAL
        one.work(80, record=never_routes, run=False)
        one.rollout.pause(TEST, **ME)
        one.run()
        assert (one.phase(), one.test(TEST).alarms) == ("paused", ("unrouted",))
        (body,) = [body for kind, body in one.events() if kind == "ab_test_held"]
        assert (body["test_id"], body["alarms"]) == (TEST, ["unrouted"])
        assert body["reasons"][0].startswith("the callers do not route: ")
        one.clock.advance(60)
        one.rollout.resume(TEST, **ME)
        one.run()
        one.work(4)
        assert one.phase() == "testing"
        assert one.kinds().count("ab_test_held") == 1
