"""The metrics: which there are, and how they follow from how things stand.

Names follow the conventions of Prometheus: base units (seconds, bytes, ratios from 0 to 1) as suffix, ``_total`` on
what only grows. What counts runs begins at 0 with the process; what is told of the state outlives it. Labels take few
values, none of them free text: no task's id, no error's words, no path.
"""

from __future__ import annotations

import platform
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from cortex_autolearn.adapters.metrics import Family, Sample
from cortex_autolearn.adapters.store import metering
from cortex_autolearn.model import instants
from cortex_autolearn.model.instants import SECOND_US
from cortex_autolearn.model.version import VERSION
from cortex_autolearn.rollout import report
from cortex_autolearn.runner import JOBS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cortex_autolearn.adapters.store.database import Reading
    from cortex_autolearn.model.rollout import Numbers
    from cortex_autolearn.service.tally import RunTally
    from cortex_autolearn.status import Status
    from cortex_autolearn.wiring import App

DECISIONS: Final = (
    "auto_promotion",
    "auto_rollback",
    "promotion_settled",
    "promotion_reverted",
    "challenger_retired",
    "ab_test_held",
    "ab_test_inconclusive",
    "manual_decision",
)
"""Events that tell of a decision about a model."""

BUILD: Final = Family("build", "info", "Which build this is.", ("version", "python"))
RUNS: Final = Family("job_runs", "counter", "Runs of a job that have ended in this process.", ("job", "result"))
DURATION: Final = Family("job_duration_seconds", "histogram", "How long runs of a job took.", ("job",))
RUNNING: Final = Family("jobs_running", "gauge", "Whether a job runs now.", ("job",))
LAST_SUCCESS: Final = Family(
    "job_last_success_timestamp_seconds", "gauge", "When a job last ended well, since 1970.", ("job",)
)
NEXT_RUN: Final = Family("job_next_run_timestamp_seconds", "gauge", "When a job is next due, since 1970.", ("job",))
MISFIRES: Final = Family("schedule_misfires", "counter", "Slots that were due and not taken; each is a fault.")
LAG_SECONDS: Final = Family("silver_lag_seconds", "gauge", "For how long the oldest unread bronze has waited.")
LAG_BYTES: Final = Family("silver_lag_bytes", "gauge", "Bytes of bronze that nobody has looked at.")
TASKS: Final = Family("tasks", "gauge", "Tasks seen, by how far they are.", ("state",))
WAITING: Final = Family("tasks_waiting", "gauge", "Final tasks that the collector's rule has not met yet.")
REJECTED: Final = Family("tasks_rejected", "gauge", "Final tasks that the rule rejects, by first reason.", ("reason",))
QUARANTINED: Final = Family("quarantined", "gauge", "Stretches and objects in quarantine, by reason.", ("reason",))
COLLECTED: Final = Family("collected_examples", "gauge", "High-quality outcomes collected, by split.", ("split",))
EXAMPLES: Final = Family("training_examples", "gauge", "Collected outcomes that can be trained on.")
TARGET: Final = Family("training_examples_target", "gauge", "New training examples that a training takes.")
JUDGED: Final = Family("scored_tasks", "gauge", "Tasks with a score of the judge or of a person.", ("by",))
JUDGE_QUEUE: Final = Family("judge_queue_tasks", "gauge", "Tasks on their way to a score, by state.", ("state",))
COST: Final = Family("judge_cost_usd", "counter", "US dollars spent on the judge, since the state began.")
SPENT: Final = Family("judge_spent_usd", "gauge", "US dollars spent on the judge in this period.", ("period",))
BUDGET: Final = Family("judge_budget_usd", "gauge", "US dollars that the judge may cost in a period.", ("period",))
TOKENS: Final = Family("judge_tokens", "counter", "Tokens that the judge was paid for.", ("kind",))
TRAININGS: Final = Family("training_jobs", "gauge", "Trainings by the state of their job.", ("state",))
MODELS: Final = Family("models", "gauge", "Models that trainings have made.")
TEST_TASKS: Final = Family(
    "ab_test_tasks",
    "gauge",
    "Tasks of a running test, by variant and outcome.",
    ("test", "master", "variant", "outcome"),
)
TEST_QUALITY: Final = Family(
    "ab_test_quality_score", "gauge", "Mean quality score of a variant, 1 to 5.", ("test", "master", "variant")
)
TEST_GAIN: Final = Family(
    "ab_test_gain", "gauge", "How much better the challenger does, by measure.", ("test", "master", "measure")
)
DECIDED: Final = Family("decisions", "counter", "Decisions about models, since the state began.", ("decision",))
EVENTS: Final = Family("events", "counter", "Events told, since the state began.", ("event",))
DISK: Final = Family("disk_bytes", "gauge", "Bytes that a part of the tree takes.", ("part",))
DISK_FREE: Final = Family("disk_free_bytes", "gauge", "Bytes free where the state lies.")
LOG_LOST: Final = Family("log_lines_dropped", "counter", "Log lines that were lost, by cause.", ("cause",))
LOOP_LAG: Final = Family("loop_lag_seconds", "gauge", "How late the event loop was at most, in the last minute.")
BEAT: Final = Family("heartbeat_age_seconds", "gauge", "How long ago the heartbeat was.")
READABLE: Final = Family("state_readable", "gauge", "Whether state and tree could be read; else theirs are missing.")

FAMILIES: Final = (
    BUILD,
    RUNS,
    DURATION,
    RUNNING,
    LAST_SUCCESS,
    NEXT_RUN,
    MISFIRES,
    LAG_SECONDS,
    LAG_BYTES,
    TASKS,
    WAITING,
    REJECTED,
    QUARANTINED,
    COLLECTED,
    EXAMPLES,
    TARGET,
    JUDGED,
    JUDGE_QUEUE,
    COST,
    SPENT,
    BUDGET,
    TOKENS,
    TRAININGS,
    MODELS,
    TEST_TASKS,
    TEST_QUALITY,
    TEST_GAIN,
    DECIDED,
    EVENTS,
    DISK,
    DISK_FREE,
    LOG_LOST,
    LOOP_LAG,
    BEAT,
    READABLE,
)
"""All of them, in the order in which they are told; each is there from the first look on, be it without a sample."""

_RESULTS: Final = ("ok", "failed")
_TRAINING_STATES: Final = ("intended", "queued", "running", "succeeded", "failed", "cancelled")
_DISK_SUFFIX: Final = "_bytes"


class Variant(NamedTuple):
    """One side of a running test: ``a`` is the champion, ``b`` the challenger; tasks by outcome."""

    variant: str
    tasks: Mapping[str, int]
    quality: float | None


class Test(NamedTuple):
    """A running test; ``gains`` are by measure (``quality``, ``completion``), each a ratio."""

    test_id: str
    master: str
    variants: tuple[Variant, ...]
    gains: Mapping[str, float]


class Moment(NamedTuple):
    """What the process itself knows, at one moment."""

    running: list[str]
    misfires: int
    loop_lag_s: float
    beat_age_s: float


class Stored(NamedTuple):
    """What the state tells beyond the status."""

    successes_us: dict[str, int]
    events: dict[str, int]
    trainings: dict[str, int]
    models: int
    tests: tuple[Test, ...]


class Ledger:
    """Reads from the state what the status does not hold; events are counted once, when they are new."""

    def __init__(self) -> None:
        self._events: Counter[str] = Counter()
        self._counted = 0

    def read(self, app: App) -> Stored:
        """Look; from one thread at a time."""
        with app.store.read() as reading:
            successes = metering.last_successes(reading.connection)
            new, self._counted = metering.event_counts(reading.connection, self._counted)
            self._events.update(new)  # now: were what follows to fail, the next look would not meet them again
            trainings: Counter[str] = Counter(training.state or "intended" for training in reading.trainings())
            models = len(reading.models())
            tests = running_tests(reading, instants.to_us(app.clock.now()))
        return Stored(successes, dict(self._events), dict(trainings), models, tests)


def running_tests(reading: Reading, now_us: int) -> tuple[Test, ...]:
    """Return the tests and watches that run; the model on trial is ``b``."""
    tests = []
    for experiment in reading.experiments():
        if experiment.ended_us is None:
            decision = report.check(reading, experiment.test_id, now_us)
            tests.append(_test(experiment.test_id, experiment.master, decision.numbers))
    return tuple(tests)


def _test(test_id: str, master: str, numbers: Numbers) -> Test:
    sides = (("a", numbers.arrived.control), ("b", numbers.arrived.treated))
    variants = []
    for (name, arm), assigned in zip(sides, numbers.assigned, strict=True):
        counts = {"assigned": assigned, "completed": arm.completed, "failed": arm.tasks - arm.completed}
        variants.append(Variant(name, counts, arm.quality))
    gains = {"quality": numbers.arrived.quality_gain, "completion": numbers.arrived.completion_gain}
    return Test(test_id, master, tuple(variants), {name: gain for name, gain in gains.items() if gain is not None})


def of_process(app: App, tally: RunTally, moment: Moment) -> Iterator[Sample]:
    """Yield what the process itself counts."""
    yield Sample(BUILD, (VERSION, platform.python_version()), 1)
    ended = tally.ended()
    for job in JOBS:
        for result in _RESULTS:
            yield Sample(RUNS, (job, result), ended.get((job, result), 0))
        yield Sample(RUNNING, (job,), int(job in moment.running))
    for job, spread in tally.durations().items():
        yield Sample(DURATION, (job,), spread)
    yield Sample(MISFIRES, (), moment.misfires)
    yield Sample(LOG_LOST, ("queue_full",), app.logging.dropped)
    yield Sample(LOG_LOST, ("write_error",), app.logging.write_errors)
    yield Sample(LOOP_LAG, (), moment.loop_lag_s)
    yield Sample(BEAT, (), moment.beat_age_s)


def of_state(status: Status | None, stored: Stored | None) -> Iterator[Sample]:
    """Yield what the state and the tree tell; of what could not be looked at nothing."""
    yield Sample(READABLE, (), int(status is not None and stored is not None))
    if stored is not None:
        for job, ended_us in stored.successes_us.items():
            yield Sample(LAST_SUCCESS, (job,), ended_us / SECOND_US)
        yield from _of_learning(stored)
    if status is not None:
        yield from _of_status(status)


def _of_status(status: Status) -> Iterator[Sample]:
    for planned in status.schedule:
        yield Sample(NEXT_RUN, (planned.job,), planned.next_at.timestamp())
    yield Sample(LAG_SECONDS, (), status.lag.seconds)
    yield Sample(LAG_BYTES, (), status.lag.bytes)
    for state, count in (("seen", status.tasks), ("final", status.final_tasks), ("completed", status.completed_tasks)):
        yield Sample(TASKS, (state,), count)
    yield Sample(WAITING, (), status.waiting)
    for reason, count in status.rejected.items():
        yield Sample(REJECTED, (reason,), count)
    for reason, count in status.quarantined.items():
        yield Sample(QUARANTINED, (reason,), count)
    yield from _of_examples(status)
    yield from _of_judge(status)
    for part, size in status.disk.items():
        if part == "free_bytes":
            yield Sample(DISK_FREE, (), size)
        else:
            yield Sample(DISK, (part.removesuffix(_DISK_SUFFIX),), size)


def _of_examples(status: Status) -> Iterator[Sample]:
    numbers = status.collection
    yield Sample(COLLECTED, ("training",), numbers["training_examples"])
    yield Sample(COLLECTED, ("validation",), numbers["validation_examples"])
    yield Sample(EXAMPLES, (), numbers["training_examples"])
    yield Sample(TARGET, (), numbers["min_required"])


def _of_judge(status: Status) -> Iterator[Sample]:
    judge = status.judge.as_dict()
    yield Sample(JUDGED, ("judge",), judge["scored"])
    yield Sample(JUDGED, ("person",), judge["labelled"])
    yield Sample(JUDGE_QUEUE, ("queued",), judge["queued"])
    yield Sample(JUDGE_QUEUE, ("sent",), judge["sent"])
    yield Sample(JUDGE_QUEUE, ("set_aside",), sum(judge["set_aside"].values()))
    yield Sample(COST, (), judge["spent_usd"]["total"])
    yield Sample(SPENT, ("day",), judge["spent_usd"]["today"])
    yield Sample(SPENT, ("month",), judge["spent_usd"]["month"])
    yield Sample(BUDGET, ("day",), judge["budget_usd"]["daily"])
    yield Sample(BUDGET, ("month",), judge["budget_usd"]["monthly"])
    for kind, count in judge["tokens"].items():
        yield Sample(TOKENS, (kind,), count)


def _of_learning(stored: Stored) -> Iterator[Sample]:
    for state in _TRAINING_STATES:
        yield Sample(TRAININGS, (state,), stored.trainings.get(state, 0))
    yield Sample(MODELS, (), stored.models)
    for test in stored.tests:
        yield from _of_test(test)
    for decision in DECISIONS:
        yield Sample(DECIDED, (decision,), stored.events.get(decision, 0))
    for event, count in stored.events.items():
        yield Sample(EVENTS, (event,), count)


def _of_test(test: Test) -> Iterator[Sample]:
    for side in test.variants:
        for outcome, count in side.tasks.items():
            yield Sample(TEST_TASKS, (test.test_id, test.master, side.variant, outcome), count)
        if side.quality is not None:
            yield Sample(TEST_QUALITY, (test.test_id, test.master, side.variant), side.quality)
    for measure, gain in test.gains.items():
        yield Sample(TEST_GAIN, (test.test_id, test.master, measure), gain)
