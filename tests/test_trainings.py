"""Trainings from the intent to the model, with a real state and a backend that does what it is told."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import pytest

from cortex_autolearn.adapters.store import Store
from cortex_autolearn.adapters.tree import Tree
from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.ledger import Collected
from cortex_autolearn.model.training_jobs import GLOBAL, DatasetRef, Limits, RemoteJob, Spec
from cortex_autolearn.model.training_policy import TrainingPolicy
from cortex_autolearn.model.training_problems import BaseModelRetired
from cortex_autolearn.ports import BackendError, BoundaryError
from cortex_autolearn.testing import FakeClock
from cortex_autolearn.testing.trainer import Script, ScriptedTrainer
from cortex_autolearn.training.build import NothingToBuildError
from cortex_autolearn.training.facts import progress_of
from cortex_autolearn.training.job import Trainings, UnknownScopeError, UnknownTrainingError
from cortex_autolearn.training.plan import Build, Decision, Poll, Start, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cortex_autolearn.ports import RunHandle

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR_S = 3_600.0


@dataclass
class Made:
    ref: DatasetRef
    covers_us: int
    dropped: dict[str, int] = field(default_factory=dict)
    created: bool = True
    is_full: bool = False


class Counted:
    """Datasets as large as what is collected, less what cleaning drops; nothing is written."""

    def __init__(self, store: Store, clock: FakeClock) -> None:
        self._store = store
        self._clock = clock
        self.dropped = 0
        self.is_full = False
        self.built: list[str] = []
        self.spared: list[tuple[str, str]] = []
        self.errors: dict[str, BoundaryError] = {}
        self.then: Callable[[], object] = lambda: None

    def build(self, scope: str, run: RunHandle, limits: Limits | None = None) -> Made:
        if scope in self.errors:
            raise self.errors[scope]
        with self._store.read() as reading:
            counts = reading.training_counts()
        count = (sum(counts.values()) if scope == GLOBAL else counts.get(scope, 0)) - self.dropped
        self.built.append(scope)
        self.then()
        ref = DatasetRef(f"{scope}-{count}", f"datasets/{scope}-{count}", count, count // 4)
        return Made(ref, instants.to_us(self._clock.now()), is_full=self.is_full)

    def spare(self, scope: str, dataset_id: str) -> None:
        self.spared.append((scope, dataset_id))


class Handle:
    run_id = "run"

    def __init__(self) -> None:
        self.troubles: list[BoundaryError] = []
        self.ends = False

    def progress(self, done: int, total: int) -> None:
        assert 0 <= done

    def trouble(self, error: BoundaryError) -> None:
        self.troubles.append(error)

    def is_ending(self) -> bool:
        return self.ends


class KilledError(BaseException):
    """The process ends here, and what comes after it never happens."""


class Trouble(ScriptedTrainer):
    """The scripted trainer, with errors to raise by the name of the call, before it does anything, or after it did."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.errors: dict[str, BaseException] = {}

    def find(self, token: str) -> RemoteJob | None:
        self._raise("find")
        return super().find(token)

    def submit(self, spec: Spec, token: str) -> RemoteJob:
        self._raise("submit")
        job = super().submit(spec, token)
        self._raise("submitted")
        return job

    def poll(self, job_id: str) -> RemoteJob:
        self._raise("poll")
        return super().poll(job_id)

    def cancel(self, job_id: str) -> None:
        self._raise("cancel")
        super().cancel(job_id)

    def _raise(self, call: str) -> None:
        if call in self.errors:
            raise self.errors[call]


def refusal(*, retryable: bool) -> BoundaryError:
    return BoundaryError("ask", "the backend", "no", hint="Ask it nicely", retryable=retryable)


class World:
    """A ROOT with so many outcomes, trainings over it, and the backend's own world beside it."""

    def __init__(self, root: Path, script: Script | None = None, *, trains_here: bool = False, **policy: Any) -> None:
        self.root = root / "root"
        (self.root / layout.COORDINATION).mkdir(parents=True, exist_ok=True)
        self.clock = FakeClock(NOW)
        self.tree = Tree(self.root)
        self.store = Store(self.tree, self.clock, lambda error: pytest.fail(str(error)))
        self.trainer = Trouble(root / "backend", self.clock, script, trains_here=trains_here)
        self.builds = Counted(self.store, self.clock)
        settings: dict[str, Any] = {"min_examples": 1000, "backend": "scripted"} | policy
        self.policy = TrainingPolicy(**settings)
        self.trainings = self.other(self.builds)
        self.told: list[dict[str, Any]] = []
        self.handle = Handle()
        self.collected = 0

    def other(self, builds: Counted | None = None) -> Trainings:
        """Return the same trainings, as another process has them."""
        builds = builds or Counted(self.store, self.clock)
        return Trainings(self.store, self.tree, self.clock, self.policy, builds, {"scripted": self.trainer})

    def allow(self, **policy: Any) -> None:
        """Go on with other settings, as after a restart."""
        settings: dict[str, Any] = {"min_examples": 1000, "backend": "scripted"} | policy
        self.policy = TrainingPolicy(**settings)
        self.trainings = self.other()

    def collect(self, count: int, master: str = "security-master") -> None:
        """Put outcomes into the training set, as the collector does."""
        now_us = instants.to_us(self.clock.now())
        names = [f"{master}-{number}" for number in range(self.collected, self.collected + count)]
        self.collected += count
        with self.store.write() as transaction:
            rows = [
                (name, 0, 1, 0, 1, 0, 20261122, 0, 1, master, "completed", 30, 4.5, 0, 0, 99, 0, 0) for name in names
            ]
            source = transaction.add_source(f"{master}-{self.collected}.jsonl", "1:1", 0)
            transaction.add_tasks([(*row[:4], source.id, *row[5:]) for row in rows])
            transaction.put_collected(
                [Collected(name, "training", 20261122, 0, 1, "x.jsonl", 0, 400, now_us) for name in names]
            )

    def check(self) -> list[Decision]:
        return self.trainings.check(self.handle, self.told.append)

    def ask(self, scope: str = GLOBAL, *, is_forced: bool = False) -> Decision:
        return self.trainings.trigger(scope, self.handle, is_forced=is_forced, by="a person")

    def die_at_submit(self) -> None:
        """Let the process end when the training is written down and its backend was not asked."""
        self.trainer.errors["submit"] = KilledError()
        with pytest.raises(KilledError):
            self.check()
        self.trainer.errors.clear()

    def models(self) -> list[str]:
        with self.store.read() as reading:
            return [model.ref.model_id for model in reading.models()]

    def tend(self) -> dict[str, int]:
        return self.trainings.tender.tend(self.handle)

    def set_clock_back(self, seconds: float, *, stands_s: float = 25 * HOUR_S) -> None:
        """Set the clock back, have the daemon note something, and let the clock stand so for a while."""
        self.clock.step(-seconds)
        with self.store.write() as transaction:
            transaction.event("daemon_started")
        self.pass_time(stands_s)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def events(self, kind: str = "fine_tune_") -> list[dict[str, Any]]:
        lines = (self.root / layout.EVENTS).read_text().splitlines() if (self.root / layout.EVENTS).exists() else []
        return [event for event in map(json.loads, lines) if event["event"].startswith(kind)]

    @property
    def trigger(self) -> dict[str, Any] | None:
        path = self.root / layout.FINE_TUNE_TRIGGER
        return json.loads(path.read_text()) if path.exists() else None


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


def lose_state(world: World) -> None:
    """Take the state away, as a disk does that breaks: what the backend knows stays."""
    world.store.close()
    for path in (world.root / layout.AUTOLEARN).glob("state.db*"):
        path.unlink()


class TestWhen:
    @pytest.mark.parametrize(("count", "starts"), [(999, False), (1000, True), (1001, True)])
    def test_minimum(self, world: World, count: int, starts: bool) -> None:
        """A training starts at the minimum of examples, not before."""
        world.collect(count)
        (decision,) = world.check()
        assert isinstance(decision, Start if starts else Wait)
        assert len(world.trainer.jobs()) == starts

    def test_what_the_operator_sees(self, world: World) -> None:
        """Before a job starts, an event tells what it is made of and what it will cost."""
        world.collect(1000)
        world.check()
        (event,) = world.events()
        assert event["event"] == "fine_tune_triggered"
        assert event["model_id"] == "ft-20261122-001"
        assert (event["train"], event["validation"]) == (1000, 250)
        assert event["hyperparameters"] == {"n_epochs": 3, "batch_size": 32}
        assert (event["estimated_cost_usd"], event["estimated_tokens"]) == (1.0, 500_000)
        assert event["by"] == "daemon"
        (told,) = world.told
        assert told == {key: value for key, value in event.items() if key not in ("event", "timestamp", "seq")}

    def test_cleaning_below_minimum(self, world: World) -> None:
        """A dataset that cleaning makes too small is not trained on."""
        world.collect(1000)
        world.builds.dropped = 1
        (decision,) = world.check()
        assert isinstance(decision, Wait)
        assert decision.reason == "too_few_after_cleaning"
        assert world.trainer.jobs() == []

    def test_a_dataset_that_may_not_be_larger_is_trained_on(self, world: World) -> None:
        """A ``dataset.max_train`` below ``training.min_examples`` makes trainings smaller, and does not end them for good."""
        world.collect(1000)
        world.builds.dropped, world.builds.is_full = 500, True
        (decision,) = world.check()
        assert isinstance(decision, Start)
        assert decision.dataset.train == 500

    def test_datasets_that_nothing_comes_of_do_not_pile_up(self, world: World) -> None:
        """Of what the daily look builds for nothing the latest is kept; what a person had built is let be."""
        world.collect(1000)
        world.builds.dropped = 1
        world.ask()
        assert world.builds.spared == []
        world.check()
        assert world.builds.spared == [(GLOBAL, "global-999")]
        world.builds.dropped = 0
        assert isinstance(world.check()[0], Start)
        assert len(world.builds.spared) == 1

    def test_next_generation(self, world: World) -> None:
        """After a training it takes a thousand new examples; those that came while it ran count as new."""
        world.collect(1000)
        world.check()
        world.pass_time(60)
        world.collect(400)
        world.pass_time(2 * HOUR_S)
        world.tend()
        (decision,) = world.check()
        assert isinstance(decision, Wait)
        assert (decision.progress.new, decision.progress.examples) == (400, 1400)
        world.collect(600)
        (decision,) = world.check()
        assert isinstance(decision, Start)
        assert [job.model_id for job in world.trainer.jobs()] == ["ft-20261122-001", "ft-20261122-002"]

    def test_a_clock_that_was_ahead_hides_nothing_new(self, world: World) -> None:
        """What was collected while the clock was ahead is trained on, is never new, and hides nothing that is."""
        world.clock.step(400 * 24 * HOUR_S)
        world.collect(1100)
        world.clock.step(-400 * 24 * HOUR_S)
        assert isinstance(world.check()[0], Start)
        world.pass_time(2 * HOUR_S)
        world.tend()
        for collected, new in ((0, 0), (999, 999), (1, 1000)):
            world.collect(collected)
            assert world.trainings.progress()[GLOBAL].new == new
        assert isinstance(world.check()[0], Start)

    def test_a_training_of_a_former_version_hides_nothing_new(self, world: World) -> None:
        """One that covers what was collected while the clock was ahead covered all that was still to come."""
        world.collect(1000)
        world.check()
        world.pass_time(2 * HOUR_S)
        world.tend()
        with world.store.write() as transaction:
            (training,) = transaction.trainings()
            transaction.put_training(training._replace(covers_us=training.covers_us + 400 * instants.DAY_US))
        world.collect(1000)
        assert world.trainings.progress()[GLOBAL].new == 1000
        assert isinstance(world.check()[0], Start)

    @pytest.mark.parametrize("outcome", ["succeeds", "fails"])
    def test_a_training_of_a_clock_that_was_ahead_puts_none_off(
        self, tmp_path: Path, outcome: Literal["succeeds", "fails"]
    ) -> None:
        """It hides no new example, makes nobody wait for its time to come again, and is in no month's budget but its."""
        world = World(tmp_path, Script(outcome=outcome, training_usd=30.0), budget_usd=30.0, budget_month_usd=50.0)
        world.collect(1000)
        world.clock.step(400 * 24 * HOUR_S)
        assert isinstance(world.check()[0], Start)
        world.pass_time(2 * HOUR_S)
        world.tend()
        world.set_clock_back(400 * 24 * HOUR_S)
        world.collect(1000)
        world.trainer.script = Script(training_usd=30.0)
        assert isinstance(world.check()[0], Start)
        world.pass_time(2 * HOUR_S)
        world.tend()
        for collected, new in ((0, 0), (999, 999), (1, 1000)):
            world.collect(collected)
            assert world.trainings.progress()[GLOBAL].new == new
        (decision,) = world.check()
        assert isinstance(decision, Wait)
        assert decision.reason == "budget_exhausted"
        world.store.close()

    def test_a_job_that_fails_while_the_clock_is_ahead_puts_the_next_one_off_for_days_and_not_until_then(
        self, tmp_path: Path
    ) -> None:
        """Also where it was asked for before: when it failed nobody knows, but not in a year."""
        world = World(tmp_path, Script(outcome="fails"))
        world.collect(1000)
        world.check()
        world.clock.step(400 * 24 * HOUR_S)
        assert world.tend() == {"failed": 1}
        world.set_clock_back(400 * 24 * HOUR_S)
        world.pass_time(24 * HOUR_S)
        assert isinstance(world.check()[0], Start)
        world.store.close()

    @pytest.mark.parametrize("days", [3, 40, 20_000])
    def test_a_clock_that_is_behind_has_nothing_trained_twice(self, tmp_path: Path, days: int) -> None:
        """It may be so for hours after a start: all that was trained is trained, and paid from the month's budget."""
        world = World(tmp_path, Script(training_usd=30.0), budget_usd=30.0, budget_month_usd=50.0)
        world.collect(1000)
        world.check()
        world.pass_time(2 * HOUR_S)
        assert world.tend() == {"succeeded": 1}
        world.set_clock_back(days * 24 * HOUR_S, stands_s=12 * HOUR_S)
        assert world.trainings.progress()[GLOBAL].new == 0
        (decision,) = world.check()
        assert isinstance(decision, Wait)
        assert decision.reason == "too_few_examples"
        forced = world.ask(is_forced=True)
        assert isinstance(forced, Wait)
        assert forced.reason == "budget_exhausted"
        assert len(world.trainer.jobs()) == 1
        world.store.close()

    def test_a_clock_that_was_a_little_ahead_has_nothing_trained_twice(self, world: World) -> None:
        """A training that ended a few hours from now was not trained so long ago that its examples are new."""
        world.collect(1000)
        world.check()
        world.pass_time(2 * HOUR_S)
        world.tend()
        world.clock.step(-12 * HOUR_S)
        assert world.trainings.progress()[GLOBAL].new == 0
        assert isinstance(world.check()[0], Wait)

    def test_a_model_for_each_master(self, tmp_path: Path) -> None:
        """With the scope "master", each master that has enough gets a training of its own."""
        world = World(tmp_path, scope="master")
        world.collect(1000, "security-master")
        world.collect(1200, "inventory-master")
        world.collect(30, "cicd-master")
        decisions = {decision.scope: type(decision) for decision in world.check()}
        assert decisions == {"security-master": Start, "inventory-master": Start, "cicd-master": Wait}
        assert len(world.trainer.jobs()) == 2
        world.store.close()

    def test_outcomes_are_looked_through_once_however_many_masters(self, tmp_path: Path) -> None:
        """Each master's new examples count from a training of its own, and all of them come from one look."""
        world = World(tmp_path, scope="master")
        for number in range(5):
            world.pass_time(60)
            world.collect(1000, f"{number}-master")
            world.check()
        world.pass_time(2 * HOUR_S)
        world.tend()
        world.collect(7, "3-master")
        asked: list[str] = []
        with world.store.read() as reading:
            reading.connection.set_trace_callback(asked.append)
            found = progress_of(reading, world.policy, instants.to_us(world.clock.now()))
        assert {scope: one.new for scope, one in found.items()} == {
            f"{number}-master": 7 * (number == 3) for number in range(5)
        }
        assert len([query for query in asked if "FROM outcomes" in query]) == 1
        world.store.close()

    def test_budget(self, tmp_path: Path) -> None:
        """A job that would cost more than what is left of the month is not submitted."""
        world = World(tmp_path, budget_month_usd=1.5)
        world.collect(1000)
        world.check()
        world.pass_time(2 * HOUR_S)
        world.tend()
        world.collect(1000)
        (decision,) = world.check()
        assert isinstance(decision, Wait)
        assert decision.reason == "budget_exhausted"
        assert "1.00 of 1.50 USD are spent" in decision.text
        world.pass_time(9 * 24 * HOUR_S)  # December
        assert isinstance(world.check()[0], Start)
        world.store.close()

    def test_what_was_refused_costs_nothing(self, tmp_path: Path) -> None:
        """Trainings that their backend never took use up no budget: once it takes them, there is money for one."""
        world = World(tmp_path, budget_month_usd=1.5)
        world.trainer.errors["submit"] = refusal(retryable=False)
        for _ in range(2):
            world.collect(1000)
            assert isinstance(world.check()[0], Start)
            world.pass_time(2 * 24 * HOUR_S)
        assert len(world.events("fine_tune_failed")) == 2
        world.trainer.errors.clear()
        assert isinstance(world.check()[0], Start)
        assert len(world.trainer.jobs()) == 1
        world.store.close()

    def test_what_was_given_up_unanswered_may_cost(self, tmp_path: Path) -> None:
        """Its submission got no answer, so it may run there: it makes no room in the budget for another."""
        world = World(tmp_path, budget_month_usd=1.5)
        world.collect(1000)
        world.trainer.errors["submitted"] = refusal(retryable=True)
        assert isinstance(world.check()[0], Start)
        world.trainer.errors["find"] = refusal(retryable=True)
        model_id = world.trainings.cancel("ft-20261122-001").model_id
        world.tend()
        world.trainings.tender.give_up(model_id, world.handle)
        world.trainer.errors.clear()
        decision = world.ask(is_forced=True)
        assert isinstance(decision, Wait)
        assert decision.reason == "budget_exhausted"
        assert len(world.trainer.jobs()) == 1
        world.store.close()

    def test_a_budget_that_shrank_holds_what_was_not_submitted(self, tmp_path: Path) -> None:
        """What was written down while there was money waits, and says for what; it goes on when there is some again."""
        world = World(tmp_path)
        world.collect(1000)
        world.trainer.errors["submit"] = refusal(retryable=True)
        assert isinstance(world.check()[0], Start)
        world.trainer.errors.clear()
        for budgets in ({"budget_usd": 0.5}, {"budget_month_usd": 0.5}):
            world.allow(**budgets)
            world.handle.troubles.clear()
            world.pass_time(300)
            assert world.tend() == {"not submitted": 1}
            assert world.trainer.jobs() == []
            (told,) = world.handle.troubles
            assert isinstance(told, BackendError)
            assert told.retryable
            assert "1.00 USD" in told.cause
            assert "fine-tune cancel" in told.hint
        world.allow()
        world.pass_time(300)
        world.tend()
        assert len(world.trainer.jobs()) == 1
        world.store.close()

    def test_a_budget_that_shrank_ends_nothing_that_was_submitted(self, tmp_path: Path) -> None:
        """A job that its backend has, told or found by its token, is looked after whatever the budget says."""
        world = World(tmp_path)
        world.collect(1000)
        world.trainer.errors["submitted"] = refusal(retryable=True)
        world.check()
        world.trainer.errors.clear()
        assert len(world.trainer.jobs()) == 1
        world.allow(budget_usd=0.0, budget_month_usd=0.0)
        world.pass_time(2 * HOUR_S)
        world.tend()
        assert world.models()
        world.store.close()

    @staticmethod
    def two_that_wait(root: Path) -> World:
        """Return a world with two trainings that are written down and that no backend has."""
        world = World(root, scope="master")
        world.collect(1000, "security-master")
        world.collect(1000, "inventory-master")
        world.trainer.errors["submit"] = refusal(retryable=True)
        world.check()
        world.trainer.errors.clear()
        assert not world.trainer.jobs()
        return world

    def test_of_two_that_a_budget_holds_the_first_goes_on(self, tmp_path: Path) -> None:
        """They do not hold each other: one has room, and is submitted."""
        world = self.two_that_wait(tmp_path)
        world.allow(scope="master", budget_month_usd=1.5)
        world.pass_time(300)
        world.tend()
        assert len(world.trainer.jobs()) == 1
        world.store.close()

    def test_one_that_its_own_price_holds_holds_no_other(self, tmp_path: Path) -> None:
        """What one training may cost was lowered: the first waits for that, and the second has all the month's money."""
        world = self.two_that_wait(tmp_path)
        with world.store.write() as transaction:
            first, second = transaction.active_trainings()
            dear = msgspec.structs.replace(first.estimate, training_usd=20.0)
            transaction.put_training(first._replace(estimate=dear))
        world.allow(scope="master", budget_usd=10.0, budget_month_usd=20.5)
        world.pass_time(300)
        world.tend()
        assert [job.model_id for job in world.trainer.jobs()] == [second.model_id]
        world.store.close()

    def test_budget_of_trainings_that_start_together(self, tmp_path: Path) -> None:
        """A training that was begun by the same check counts, though its backend did not take it yet."""
        world = World(tmp_path, scope="master", budget_month_usd=1.5)
        world.collect(1000, "security-master")
        world.collect(1000, "inventory-master")
        first, second = world.check()
        assert isinstance(first, Start)
        assert isinstance(second, Wait)
        assert second.reason == "budget_exhausted"
        world.store.close()

    def test_replaced_outcomes_are_not_new(self, world: World) -> None:
        """A later record of a task that was trained on is no new example."""
        world.collect(1000)
        world.check()
        world.pass_time(2 * HOUR_S)
        world.tend()
        with world.store.write() as transaction:
            now_us = instants.to_us(world.clock.now())
            names = [f"security-master-{number}" for number in range(1000)]
            transaction.put_collected(
                [Collected(name, "training", 20261122, 0, 2, "y.jsonl", 0, 400, now_us) for name in names]
            )
        (decision,) = world.check()
        assert isinstance(decision, Wait)
        assert (decision.progress.new, decision.progress.examples) == (0, 1000)

    def test_dataset_that_cannot_be_built(self, tmp_path: Path) -> None:
        """What stands in the way of one master's dataset is told, and the others are trained."""
        world = World(tmp_path, scope="master")
        world.collect(1000, "cicd-master")
        world.collect(1000, "security-master")
        world.builds.errors["cicd-master"] = refusal(retryable=True)
        first, second = world.check()
        assert isinstance(first, Wait)
        assert (first.reason, first.text) == ("no_dataset", "no. Ask it nicely")
        assert isinstance(second, Start)
        assert len(world.handle.troubles) == 1
        world.store.close()

    def test_nothing_to_build(self, world: World) -> None:
        """That cleaning leaves nothing at all is an answer, and no trouble."""
        world.collect(1000)
        world.builds.errors[GLOBAL] = NothingToBuildError(GLOBAL, "no training example is left", "Collect more")
        for decision in (*world.check(), world.ask(is_forced=True)):
            assert isinstance(decision, Wait)
            assert decision.text == "no training example is left. Collect more"
        assert world.handle.troubles == []

    def test_problems_stop_it_before_it_costs(self, tmp_path: Path) -> None:
        """What the backend cannot do is said, and nothing is submitted."""
        world = World(tmp_path, Script(problems=(BaseModelRetired("old-model", "2026-09-10"),)))
        world.collect(1000)
        (decision,) = world.check()
        assert isinstance(decision, Wait)
        assert "old-model takes no more trainings" in decision.text
        assert (world.trainer.jobs(), world.events()) == ([], [])
        world.store.close()


class TestLife:
    def test_success(self, world: World) -> None:
        """A training is submitted, polled to its end, and its model is known from then on."""
        world.collect(1000)
        world.check()
        assert world.trigger is not None
        assert world.trigger["model"] == "ft-20261122-001"
        world.pass_time(60 + 1_800)
        assert world.tend() == {"running": 1}
        world.pass_time(1_800)
        assert world.tend() == {"succeeded": 1}
        assert [event["event"] for event in world.events()] == [
            "fine_tune_triggered",
            "fine_tune_progress",
            "fine_tune_completed",
        ]
        with world.store.read() as reading:
            (model,) = reading.models()
        assert (model.ref.model_id, model.ref.artefact) == ("ft-20261122-001", "scripted:ft-20261122-001")
        assert model.metrics == {"loss": 1.0}
        assert world.trigger is None
        assert world.tend() == {}

    def test_lost_answer(self, tmp_path: Path) -> None:
        """A job whose submission got no answer is found again, not submitted twice."""
        world = World(tmp_path, Script(loses_answers=True))
        world.collect(1000)
        world.check()
        assert len(world.handle.troubles) == 1
        assert world.tend() == {"queued": 1}
        world.pass_time(2 * HOUR_S)
        assert world.tend() == {"succeeded": 1}
        assert len(world.trainer.jobs()) == 1
        world.store.close()

    def test_backend_away_for_two_days(self, tmp_path: Path) -> None:
        """A backend that cannot be reached for longer than the deadline costs patience, and no finished job."""
        away = (instants.to_us(NOW) + 1, instants.to_us(NOW) + 2 * 86_400 * 1_000_000)
        world = World(tmp_path)
        world.collect(1000)
        world.check()
        world.trainer.script = Script(away=(away,))
        for _ in range(47):
            world.pass_time(HOUR_S)
            world.tend()
        assert len(world.handle.troubles) == 47
        world.pass_time(HOUR_S)
        assert world.tend() == {"succeeded": 1}
        assert [event["event"] for event in world.events("fine_tune_failed")] == []
        world.store.close()

    def test_backend_away_at_the_check(self, tmp_path: Path) -> None:
        """A backend that cannot be asked what it costs makes the training wait, and the next check starts it."""
        world = World(tmp_path, Script(away=((0, instants.to_us(NOW) + 1),)))
        world.collect(1000)
        (decision,) = world.check()
        assert isinstance(decision, Wait)
        assert decision.reason == "backend_away"
        assert "it is away" in decision.text
        world.pass_time(24 * HOUR_S)
        assert isinstance(world.check()[0], Start)
        world.store.close()

    def test_failure_backs_off(self, tmp_path: Path) -> None:
        """A failed job is told of with its reason, and tried again after a day as another job."""
        world = World(tmp_path, Script(outcome="fails"))
        world.collect(1000)
        world.check()
        world.pass_time(2 * HOUR_S)
        world.tend()
        (event,) = world.events("fine_tune_failed")
        assert (event["state"], event["reason"]) == ("failed", "the loss became NaN")
        assert isinstance(world.check()[0], Wait)
        world.pass_time(24 * HOUR_S)
        (decision,) = world.check()
        assert isinstance(decision, Start)
        assert decision.attempt == 2
        assert len({job.token for job in world.trainer.jobs()}) == 2
        world.store.close()

    def test_deadline(self, tmp_path: Path) -> None:
        """A job that hangs is cancelled after its deadline and reported as failed."""
        world = World(tmp_path, Script(outcome="hangs"), deadline_s=7_200)
        world.collect(1000)
        world.check()
        world.pass_time(7_200)
        assert world.tend() == {"running": 1}
        world.pass_time(1)
        assert world.tend() == {"failed": 1}
        (event,) = world.events("fine_tune_failed")
        assert event["reason"].startswith("it took too long")
        assert [job.state for job in world.trainer.jobs()] == ["cancelled"]
        world.store.close()

    def test_deadline_of_a_job_that_was_submitted_while_the_clock_was_ahead(self, tmp_path: Path) -> None:
        """It counts from when the clock was set back: else a job that hangs would occupy its scope until that time."""
        world = World(tmp_path, Script(outcome="hangs"), deadline_s=48 * 3_600)
        world.collect(1000)
        world.clock.step(400 * 24 * HOUR_S)
        world.check()
        world.set_clock_back(400 * 24 * HOUR_S, stands_s=0)
        assert world.tend() == {"queued": 1}
        world.pass_time(48 * HOUR_S)
        assert world.tend() == {"queued": 1}
        world.pass_time(1)
        assert world.tend() == {"failed": 1}
        world.pass_time(24 * HOUR_S)
        assert isinstance(world.check()[0], Start)
        world.store.close()

    @pytest.mark.parametrize("was_ahead_before", [False, True])
    def test_a_clock_that_was_ahead_for_one_look_cancels_no_job(self, tmp_path: Path, was_ahead_before: bool) -> None:
        """One that was submitted while the clock was ahead, with no event since to tell how long ago that was, is not
        as old as the state, nor as the last time that the clock was set back."""
        world = World(tmp_path, Script(outcome="hangs"), deadline_s=7_200)
        if was_ahead_before:
            world.clock.step(400 * 24 * HOUR_S)
            with world.store.write() as transaction:
                transaction.event("daemon_started")
            world.clock.step(-400 * 24 * HOUR_S)
        with world.store.write() as transaction:
            transaction.event("daemon_started")
        world.pass_time(30 * 24 * HOUR_S)
        world.collect(1000)
        world.trainer.errors["submit"] = refusal(retryable=True)
        world.check()
        world.trainer.errors.clear()
        world.clock.step(400 * 24 * HOUR_S)
        assert world.tend() == {"queued": 1}
        world.clock.step(-400 * 24 * HOUR_S)
        world.pass_time(3_600)
        assert world.tend() == {"queued": 1}
        assert not world.events("fine_tune_failed")
        world.pass_time(3_601)
        assert world.tend() == {"failed": 1}
        world.store.close()

    def test_a_clock_that_was_behind_for_a_while_cancels_no_job(self, tmp_path: Path) -> None:
        """One that was looked at meanwhile goes on, as it was submitted when it was."""
        world = World(tmp_path, Script(outcome="hangs"), deadline_s=7_200)
        world.collect(1000)
        world.check()
        world.pass_time(3_600)
        world.set_clock_back(20_000 * 24 * HOUR_S, stands_s=60)
        world.tend()
        world.clock.step(20_000 * 24 * HOUR_S)
        assert world.tend() == {"running": 1}
        assert not world.events("fine_tune_failed")
        world.pass_time(3_600)
        assert world.tend() == {"failed": 1}
        world.store.close()


class TestIds:
    def test_folder_of_that_id(self, world: World) -> None:
        """An id is free when neither the state nor the models folder has it, whoever made the folder."""
        for name in ("ft-20261122-001", "ft-20261122-007", "ft-20261122-x", "ft-20261122-²", "ft-20261121-099"):
            (world.root / layout.MODELS / name).mkdir(parents=True)
        world.collect(1000)
        world.check()
        assert [job.model_id for job in world.trainer.jobs()] == ["ft-20261122-008"]

    def test_next_day(self, world: World) -> None:
        """The numbers begin anew each day, UTC."""
        world.collect(1000)
        world.check()
        world.pass_time(12 * HOUR_S)
        world.tend()
        world.collect(1000)
        world.check()
        assert [job.model_id for job in world.trainer.jobs()] == ["ft-20261122-001", "ft-20261123-001"]

    def test_two_at_once(self, world: World) -> None:
        """Two that decided at the same time start one training; the other shows the one that was started."""
        world.collect(1000)
        world.builds.then = lambda: world.other().check(world.handle)
        (decision,) = world.check()
        assert decision == Poll(GLOBAL, "ft-20261122-001")
        assert len(world.trainer.jobs()) == 1
        assert len(world.events("fine_tune_triggered")) == 1

    @pytest.mark.parametrize("hours", [0.5, 13])
    def test_lost_state(self, tmp_path: Path, hours: float) -> None:
        """A job that the state has forgotten, under way or done, is taken up again under its own model's id."""
        world = World(tmp_path)
        world.collect(1000)
        world.check()
        lose_state(world)
        again = World(tmp_path)
        again.pass_time(hours * HOUR_S)
        again.collect(1000)
        (decision,) = again.check()
        assert isinstance(decision, Start)
        assert len(again.models()) == (hours > 1)
        with again.store.read() as reading:
            assert [training.model_id for training in reading.trainings()] == ["ft-20261122-001"]
        again.pass_time(24 * HOUR_S)
        again.tend()
        assert [job.model_id for job in again.trainer.jobs()] == ["ft-20261122-001"]
        assert again.models() == ["ft-20261122-001"]
        again.store.close()

    def test_lost_failure(self, tmp_path: Path) -> None:
        """A failed job that the state has forgotten is not taken for the answer: the next attempt is made."""
        world = World(tmp_path, Script(outcome="fails"))
        world.collect(1000)
        world.check()
        world.pass_time(2 * HOUR_S)
        lose_state(world)
        again = World(tmp_path)
        again.pass_time(2 * HOUR_S)
        again.collect(1000)
        (decision,) = again.check()
        assert isinstance(decision, Start)
        assert decision.attempt == 2
        assert len({job.token for job in again.trainer.jobs()}) == 2
        again.store.close()

    def test_lost_failure_before_a_refusal(self, tmp_path: Path) -> None:
        """After an attempt that the state has forgotten and one that was never taken, the next is one of its own."""
        world = World(tmp_path, Script(outcome="fails"))
        world.collect(1000)
        world.check()
        world.pass_time(2 * HOUR_S)
        lose_state(world)
        again = World(tmp_path)
        again.pass_time(2 * HOUR_S)
        again.collect(1000)
        again.trainer.errors["submit"] = refusal(retryable=False)
        assert isinstance(again.check()[0], Start)
        again.trainer.errors.clear()
        again.pass_time(25 * HOUR_S)
        (decision,) = again.check()
        assert isinstance(decision, Start)
        assert decision.attempt == 3
        assert len({job.token for job in again.trainer.jobs()}) == 2
        again.store.close()


class TestTrouble:
    """What a backend's errors mean: the answer is not known, until the backend itself has no such job."""

    def test_refused_for_good(self, world: World) -> None:
        """A job that its backend refuses, and does not have, has failed; what is wrong is told."""
        world.collect(1000)
        world.trainer.errors["submit"] = refusal(retryable=False)
        world.check()
        (event,) = world.events("fine_tune_failed")
        assert (event["state"], event["reason"]) == ("failed", "not taken: no. Ask it nicely")

    def test_refused_and_taken(self, world: World) -> None:
        """A job that its backend has is under way, whatever was said when it was submitted."""
        world.collect(1000)
        world.trainer.errors["submitted"] = refusal(retryable=False)
        world.check()
        assert world.events("fine_tune_failed") == []
        world.pass_time(2 * HOUR_S)
        assert world.tend() == {"succeeded": 1}

    def test_what_always_fails_is_not_paid_for_for_ever(self, tmp_path: Path) -> None:
        """While outcomes come every day, a training that fails for a lasting reason is tried as often as one that is due."""
        world = World(tmp_path, Script(outcome="fails"))
        world.collect(1000)
        for _ in range(120):
            world.check()
            world.pass_time(24 * HOUR_S)
            world.tend()
            world.collect(20)
        assert len(world.trainer.jobs()) == 3 + 120 * 20 // 1000
        assert len(world.builds.built) == len(world.trainer.jobs())
        world.store.close()

    def test_no_right_to_look(self, world: World) -> None:
        """A job that may have been submitted is not given up because its backend refuses to say."""
        world.collect(1000)
        world.trainer.script = Script(loses_answers=True)
        world.check()
        world.trainer.errors["find"] = refusal(retryable=False)
        assert world.tend() == {"not submitted": 1}
        assert world.events("fine_tune_failed") == []
        world.trainer.errors.clear()
        world.pass_time(2 * HOUR_S)
        assert world.tend() == {"succeeded": 1}
        assert len(world.trainer.jobs()) == 1

    def test_job_is_gone(self, world: World) -> None:
        """A job that somebody removed at the backend has failed, and does not block its scope for ever."""
        world.collect(1000)
        world.check()
        for path in (world.root.parent / "backend").glob("job-*"):
            path.unlink()
        assert world.tend() == {"failed": 1}
        assert world.events("fine_tune_failed")[0]["reason"] == "it is gone: there is none"
        assert world.trigger is None

    def test_trouble_is_the_backends(self, world: World) -> None:
        """What the run is told is known as a backend's trouble, not as that of a file."""
        world.collect(1000)
        world.check()
        world.trainer.errors["poll"] = refusal(retryable=True)
        world.tend()
        (error,) = world.handle.troubles
        assert isinstance(error, BackendError)
        assert str(error) == "cannot ask: the backend: no. Ask it nicely"

    def test_cancelled_too_late(self, world: World) -> None:
        """A model that was made before the word came to its backend is kept, and told of as made."""
        world.collect(1000)
        world.check()
        world.pass_time(2 * HOUR_S)
        world.trainings.cancel("ft-20261122-001")
        assert world.tend() == {"succeeded": 1}
        assert world.models() == ["ft-20261122-001"]

    def test_give_up(self, world: World) -> None:
        """A person can end a training whose backend never answers; the next one is another job."""
        world.collect(1000)
        world.check()
        world.trainer.errors["poll"] = refusal(retryable=True)
        world.trainings.cancel("ft-20261122-001")
        assert world.tend() == {"queued": 1}
        world.trainings.tender.give_up("ft-20261122-001", world.handle)
        world.trainings.tender.give_up("ft-20261122-001", world.handle)
        (event,) = world.events("fine_tune_failed")
        assert event["reason"] == "cancelled by a person, and its backend did not say that it has ended there"
        assert (world.tend(), world.trigger) == ({}, None)
        world.trainer.errors.clear()
        decision = world.ask(is_forced=True)
        assert isinstance(decision, Start)
        assert decision.attempt == 2

    def test_process_that_is_to_end(self, tmp_path: Path) -> None:
        """A training that works in this process stops between two steps, and the next process goes on at once."""
        world = World(tmp_path, trains_here=True, scope="master")
        world.collect(1000, "cicd-master")
        world.collect(1000, "security-master")
        world.builds.then = lambda: setattr(world.handle, "ends", True)
        assert [decision.scope for decision in world.check()] == ["cicd-master"]
        assert world.trainer.jobs() == []
        now_us = instants.to_us(world.clock.now())
        for state in (None, "queued"):
            with world.store.read() as reading:
                (training,) = reading.active_trainings()
                assert (training.state, training.polled_us) == (state, None)
                assert reading.trainings_to_tend(now_us - 300_000_000, now_us) == 1
            assert world.tend() == {"queued": 1}
        world.store.close()

    def test_clock_that_was_set_back(self, world: World) -> None:
        """A look that seems to lie in the future does not keep a training from being looked at."""
        world.collect(1000)
        world.check()
        now_us = instants.to_us(world.clock.now())
        with world.store.read() as reading:
            assert reading.trainings_to_tend(now_us - 1, now_us) == 0
            assert reading.trainings_to_tend(now_us - 7_200_000_000, now_us - 3_600_000_000) == 1
            assert reading.trainings_to_tend(now_us, now_us + 300_000_000) == 1


class TestByHand:
    def test_never_a_second_of_a_scope(self, world: World) -> None:
        """What is under way is shown instead of starting another, forced or not."""
        world.collect(1000)
        world.check()
        decision = world.ask(is_forced=True)
        assert isinstance(decision, Poll)
        assert len(world.trainer.jobs()) == 1

    def test_forced(self, world: World) -> None:
        """A person may start with few examples; without force the rule's answer is given."""
        world.collect(3)
        assert isinstance(world.ask(), Wait)
        assert isinstance(world.ask(is_forced=True), Start)
        assert world.tend() == {"queued": 1}
        assert world.events()[0]["by"] == "a person"

    def test_preview_does_nothing(self, world: World) -> None:
        """A look at what would happen builds no dataset and starts nothing."""
        world.collect(1000)
        assert isinstance(world.trainings.preview(GLOBAL, is_forced=False), Build)
        assert (world.builds.built, world.trainer.jobs(), world.trigger) == ([], [], None)

    def test_cancel(self, world: World) -> None:
        """A cancelled job is ended at its backend, and told of."""
        world.collect(1000)
        world.check()
        world.pass_time(600)
        world.trainings.cancel("ft-20261122-001")
        assert world.tend() == {"cancelled": 1}
        assert [job.state for job in world.trainer.jobs()] == ["cancelled"]
        assert world.events()[-1]["reason"] == "cancelled by a person"
        with pytest.raises(UnknownTrainingError, match="ended already"):
            world.trainings.cancel("ft-20261122-001")

    def test_cancel_before_it_was_submitted(self, tmp_path: Path) -> None:
        """A training that never reached its backend ends without one."""
        begin = instants.to_us(NOW)
        world = World(tmp_path)
        world.collect(1000)
        world.die_at_submit()
        world.trainer.script = Script(away=((begin, begin + 3_600_000_000),))
        world.trainings.cancel("ft-20261122-001")
        assert world.tend() == {"not submitted": 1}
        world.pass_time(HOUR_S)
        assert world.tend() == {"cancelled": 1}
        assert world.trainer.jobs() == []
        world.store.close()

    def test_by_the_beginning_of_a_token(self, world: World) -> None:
        """A training can be named by what its backend shows of its token."""
        world.collect(1000)
        world.check()
        (job,) = world.trainer.jobs()
        assert world.trainings.cancel(job.token[:12]).model_id == "ft-20261122-001"
        with pytest.raises(UnknownTrainingError):
            world.trainings.cancel(job.token[:4])

    def test_complete_what_its_backend_makes(self, world: World) -> None:
        """A model cannot be handed in where the backend makes it itself."""
        world.collect(1000)
        world.check()
        with pytest.raises(UnknownTrainingError, match='by the backend "scripted", which makes the model itself'):
            world.trainings.complete("ft-20261122-001", "x")

    def test_unknown_master(self, world: World) -> None:
        """A master without examples is refused with those that have some."""
        world.collect(3, "security-master")
        with pytest.raises(UnknownScopeError, match=r"securty-master has no .* some: security-master \(3\)"):
            world.trainings.preview("securty-master", is_forced=False)
        with pytest.raises(UnknownScopeError):
            world.ask("securty-master", is_forced=True)

    def test_unknown(self, world: World) -> None:
        """A name that is no training's is refused, with the names there are."""
        with pytest.raises(UnknownTrainingError, match="there is no training 'ft-1'; the latest are: none yet"):
            world.trainings.cancel("ft-1")


class TestTriggerFile:
    def test_comes_back(self, world: World) -> None:
        """The file is a projection of the state: removed while a training runs, it is written again."""
        world.collect(1000)
        world.check()
        (world.root / layout.FINE_TUNE_TRIGGER).unlink()
        world.tend()
        assert world.trigger is not None

    def test_that_cannot_be_written(self, world: World) -> None:
        """A folder in its place is trouble, and stops no training."""
        (world.root / layout.FINE_TUNE_TRIGGER).mkdir(parents=True)
        world.collect(1000)
        world.check()
        world.pass_time(2 * HOUR_S)
        assert world.tend() == {"succeeded": 1}
        assert world.handle.troubles

    @pytest.mark.parametrize("there", [b"touched by hand", b'{"by": "caf\xe9"}', b"[" * 60_000, b"{}", b""])
    def test_that_of_another_gives_way(self, world: World, there: bytes) -> None:
        """While a training is under way the file tells of it, whatever stood there, and it is cleared after."""
        (world.root / layout.AUTOLEARN).mkdir(parents=True, exist_ok=True)
        (world.root / layout.FINE_TUNE_TRIGGER).write_bytes(there)
        world.collect(1000)
        world.check()
        assert world.trigger is not None
        assert set(world.trigger) == {"job", "model", "time", "by"}
        world.pass_time(2 * HOUR_S)
        world.tend()
        assert world.trigger is None

    def test_that_of_another_is_left_alone(self, world: World) -> None:
        """While nothing is under way, a file that we did not write is not removed."""
        path = world.root / layout.FINE_TUNE_TRIGGER
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"job": "by hand"}')
        world.tend()
        assert world.trigger == {"job": "by hand"}
