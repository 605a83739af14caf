"""When a training starts: the rule, case by case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex_autolearn.model.training_jobs import DatasetRef, Estimate, JobState
from cortex_autolearn.model.training_problems import BaseModelRetired, PriceUnknown
from cortex_autolearn.training.plan import (
    DAY_US,
    Abandon,
    Bars,
    Build,
    Built,
    Facts,
    Poll,
    Start,
    Tried,
    Wait,
    decide,
    decide_start,
)

NOW = 1_800_000_000_000_000
BARS = Bars(min_examples=1000, deadline_s=86_400, budget_usd=5.0, budget_month_usd=8.0)


def built(
    train: int = 1000, *, dataset: str = "d1", usd: float | None = 0.0, problems: tuple[object, ...] = ()
) -> Built:
    ref = DatasetRef(dataset, f"datasets/{dataset}", train, 250)
    return Built(ref, Estimate(tokens=1, epochs=1, training_usd=usd), problems)  # type: ignore[arg-type]


def facts(new: int = 1000, *jobs: Tried, made: Built | None = None, spent: float = 0.0) -> Facts:
    return Facts("global", new, new, jobs, spent, made)


def ended(state: JobState, days_ago: float, *, dataset: str = "d0", name: str = "ft-20261101-001") -> Tried:
    at = NOW - int(days_ago * DAY_US)
    return Tried(name, dataset, state, at - DAY_US, at)


@pytest.mark.parametrize("new", [0, 1, 999])
def test_too_few(new: int) -> None:
    """Below the minimum it waits, and says how far it is."""
    found = decide(facts(new), BARS, NOW)
    assert isinstance(found, Wait)
    assert found.reason == "too_few_examples"
    assert found.progress.new == new
    assert found.text == f"{new} of 1000 new examples"


@pytest.mark.parametrize("new", [1000, 1001])
def test_enough(new: int) -> None:
    """From the minimum on a dataset is built, and a training of it starts."""
    assert isinstance(decide(facts(new), BARS, NOW), Build)
    started = decide(facts(new, made=built(new)), BARS, NOW)
    assert isinstance(started, Start)
    assert (started.attempt, started.dataset.dataset_id) == (1, "d1")
    assert started.progress.train_split == new


def test_cleaning_leaves_too_few() -> None:
    """What counts is the training split as it was built, not as it was collected."""
    found = decide(facts(1200, made=built(999)), BARS, NOW)
    assert isinstance(found, Wait)
    assert (found.reason, found.progress.train_split) == ("too_few_after_cleaning", 999)


def test_a_dataset_that_is_full_is_large_enough() -> None:
    """Where settings or backend let fewer examples into a dataset than a training waits for, it starts with those."""
    started = decide(facts(1200, made=built(500)._replace(is_full=True)), BARS, NOW)
    assert isinstance(started, Start)
    assert started.progress.train_split == 500


def test_new_since_last_training() -> None:
    """After a training it takes as many new examples again, however many there are in all."""
    done = ended("succeeded", 1)
    assert isinstance(decide(Facts("global", 1999, 999, (done,), 0.0), BARS, NOW), Wait)
    assert isinstance(decide(Facts("global", 2000, 1000, (done,), 0.0), BARS, NOW), Build)


@pytest.mark.parametrize(
    ("failures", "days_ago", "waits"),
    [(1, 0.9, True), (1, 1, False), (2, 1.9, True), (2, 2, False), (3, 3.9, True), (3, 4, False), (6, 4, False)],
)
def test_back_off(failures: int, days_ago: float, waits: bool) -> None:
    """After failures it waits 1, 2, then 4 days after the last one."""
    jobs = [ended("failed", days_ago + failures - number, dataset=f"x{number}") for number in range(1, failures + 1)]
    found = decide(facts(1000, *jobs), BARS, NOW)
    assert isinstance(found, Wait) is waits
    if isinstance(found, Wait):
        assert found.reason == "backing_off"
        assert found.until_us == jobs[-1].ended_us + {1: 1, 2: 2}.get(failures, 4) * 86_400_000_000  # type: ignore[operator]


def test_success_ends_back_off() -> None:
    """A training that made a model lets the failures before it be forgotten."""
    jobs = (ended("failed", 0.9), ended("failed", 0.8), ended("succeeded", 0.1))
    assert isinstance(decide(facts(1000, *jobs), BARS, NOW), Build)


def test_third_failure_on_same_data() -> None:
    """The third failure on one dataset ends the tries on it; other data is tried."""
    jobs = tuple(ended("failed", 30 - number, dataset="d1") for number in range(3))
    found = decide(facts(1000, *jobs, made=built(dataset="d1")), BARS, NOW)
    assert isinstance(found, Wait)
    assert found.reason == "same_data_failed"
    assert decide(facts(1000, *jobs, jobs[0], made=built(dataset="d1")), BARS, NOW).reason == "same_data_failed"  # type: ignore[union-attr]
    for name in ("d0", "d2"):
        other = decide(facts(1000, *jobs, made=built(dataset=name)), BARS, NOW)
        assert isinstance(other, Start)
        assert other.attempt == 1


@pytest.mark.parametrize(
    ("failures", "since", "waits"),
    [(2, 0, False), (3, 0, True), (3, 999, True), (3, 1000, False), (3, 1001, False), (4, 0, True)],
)
def test_failures_in_a_row(failures: int, since: int, waits: bool) -> None:
    """A few more outcomes are no other data: after three failures it takes as many as a training; a person need not wait."""
    jobs = tuple(ended("failed", 30 - number, dataset=f"x{number}") for number in range(failures))
    known = facts(1000 + since, *jobs)._replace(since_failure=since)
    found = decide(known, BARS, NOW)
    assert isinstance(found, Wait) is waits
    if isinstance(found, Wait):
        assert found.reason == "same_data_failed"
        assert (
            found.text
            == f"{failures} trainings in a row failed, and {since} of 1000 examples are new since the last one"
        )
    assert isinstance(decide_start(known, BARS, NOW, is_forced=True), Build)
    cancelled = tuple(job._replace(state="cancelled") for job in jobs)
    assert isinstance(decide(known._replace(jobs=cancelled), BARS, NOW), Build)


def test_next_attempt_is_counted() -> None:
    """Another try on the same data is another attempt, so that it is another job."""
    found = decide(facts(1000, ended("failed", 9, dataset="d1"), made=built()), BARS, NOW)
    assert isinstance(found, Start)
    assert found.attempt == 2


def test_two_failures_on_same_data_are_not_the_end() -> None:
    """The third attempt on it is made, whoever read the dataset's name from where."""
    again = built(dataset="".join(["d", "1"]))
    found = decide(facts(1000, *(ended("failed", days, dataset="d1") for days in (9, 5)), made=again), BARS, NOW)
    assert isinstance(found, Start)
    assert found.attempt == 3


def test_nothing_known_of_attempts() -> None:
    """A dataset that nothing more is known of would be trained for the first time, and covers no outcome."""
    plain = built()
    assert (plain.attempt, plain.covers_us, plain.lost_id, plain.left_out) == (1, 0, None, ())


def test_attempts_that_the_state_forgot_count() -> None:
    """What the backend knows of attempts and the state does not is not repeated."""
    found = decide(facts(1000, ended("failed", 9, dataset="d1"), made=built()._replace(attempt=4)), BARS, NOW)
    assert isinstance(found, Start)
    assert found.attempt == 4


def test_cancelled_by_a_person() -> None:
    """What a person cancelled is not started again by the next check."""
    assert isinstance(decide(facts(1000, ended("cancelled", 0.5)), BARS, NOW), Wait)


@pytest.mark.parametrize("state", [None, "queued", "running"])
def test_active_job_is_polled(state: JobState | None) -> None:
    """While a job of the scope is under way nothing else of it starts, however many examples there are."""
    job = Tried("ft-20261101-001", "d0", state, None if state is None else NOW)
    assert decide(facts(5000, job, made=built()), BARS, NOW) == Poll("global", "ft-20261101-001")


def test_deadline() -> None:
    """A job past its deadline is abandoned; one that waits for a person, or was never submitted, is not."""
    late = Tried("ft-1", "d0", "running", NOW - 86_401_000_000)
    found = decide(facts(0, late), BARS, NOW)
    assert isinstance(found, Abandon)
    assert found.model_id == "ft-1"
    assert isinstance(decide(facts(0, late._replace(is_waiting_for_person=True)), BARS, NOW), Poll)
    assert isinstance(decide(facts(0, late._replace(submitted_us=NOW - 86_400_000_000)), BARS, NOW), Poll)
    assert isinstance(decide(facts(0, Tried("ft-1", "d0", None)), BARS, NOW), Poll)
    assert isinstance(decide(facts(0, late._replace(submitted_us=NOW - 86_400_000_001)), BARS, NOW), Abandon)


def test_a_clock_that_was_set_back_abandons_nothing() -> None:
    """A job that was submitted later than now has taken no time."""
    assert isinstance(decide(facts(0, Tried("ft-1", "d0", "running", NOW + DAY_US)), BARS, NOW), Poll)


def test_the_oldest_job_comes_first() -> None:
    """Of two jobs under way, as two machines may have left them, the older one is seen to its end first."""
    old, young = Tried("ft-1", "d0", "running", NOW - 2), Tried("ft-2", "d0", "running", NOW - 1)
    assert decide(facts(0, old, young), BARS, NOW) == Poll("global", "ft-1")


WAITS: list[tuple[str, Facts]] = [
    (
        "1 training in a row made no model, the last one ft-1",
        facts(1000, ended("failed", 0.5, name="ft-1")),
    ),
    (
        "2 trainings in a row made no model, the last one ft-2",
        facts(1000, ended("failed", 1.5, name="ft-1"), ended("cancelled", 0.5, name="ft-2")),
    ),
    ("999 of 1000 examples are left after cleaning", facts(made=built(999))),
    (
        "997 of 1000 examples are left after cleaning (left out: exact_duplicate: 2, too_long: 1)",
        facts(made=built(997)._replace(left_out=(("exact_duplicate", 2), ("too_long", 1)))),
    ),
    (
        "3 trainings on dataset d1 failed",
        facts(1000, *(ended("failed", days, dataset="d1") for days in (9, 8, 7)), made=built()),
    ),
    (
        "the backend cannot be reached",
        facts(made=built()._replace(estimate=None, away="the backend cannot be reached")),
    ),
    ("what the training costs is unknown, and there is a budget to keep", facts(made=built(usd=None))),
    ("the training costs 5.01 USD, and one may cost 5.00 USD", facts(made=built(usd=5.01))),
    (
        "the training costs 4.50 USD, and 4.25 of 8.00 USD are spent this month",
        facts(made=built(usd=4.5), spent=4.25),
    ),
]


@pytest.mark.parametrize(("text", "known"), WAITS)
def test_why_it_waits(text: str, known: Facts) -> None:
    """In words and with the numbers it rests on, as the log, the status and the doctor show them."""
    found = decide(known, BARS, NOW)
    assert isinstance(found, Wait)
    assert found.text == text


def test_why_it_is_abandoned() -> None:
    """How long it has taken, and how long it might have, in hours."""
    bars = BARS._replace(deadline_s=10_000.5 * 3600)
    job = Tried("ft-1", "d0", "running", NOW - 20_000 * 3_600_000_000 - 1_800_000_000)
    assert decide(facts(0, job), bars, NOW) == Abandon(
        "global", "ft-1", "it has taken 20000.5 h and may take 10000.5 h"
    )


@pytest.mark.parametrize(
    ("usd", "spent", "reason"),
    [
        (5.0, 0.0, None),
        (5.01, 0.0, "budget_exhausted"),
        (4.0, 4.0, None),
        (4.0, 4.01, "budget_exhausted"),
        (None, 0.0, "price_unknown"),
        (0.0, 8.0, None),
    ],
)
def test_budget(usd: float | None, spent: float, reason: str | None) -> None:
    """A job stays within what a job and a month may cost; with a budget, an unknown price is no price of 0."""
    found = decide(facts(1000, made=built(usd=usd), spent=spent), BARS, NOW)
    assert (found.reason if isinstance(found, Wait) else None) == reason


def test_problems() -> None:
    """What stands in the way is said with its remedy; what is only worth saying stops nothing."""
    found = decide(facts(1000, made=built(problems=(BaseModelRetired("old", "2026-09-10"),))), BARS, NOW)
    assert isinstance(found, Wait)
    assert found.reason == "not_possible"
    assert "old takes no more trainings since 2026-09-10" in found.text
    assert isinstance(decide(facts(1000, made=built(problems=(PriceUnknown("b", "training"),))), BARS, NOW), Start)


def test_forced() -> None:
    """A person may start early and after failures; never beyond the budget, and never what cannot be done."""
    small = facts(3, ended("failed", 0.1), made=built(3))
    assert isinstance(decide_start(small, BARS, NOW, is_forced=True), Start)
    assert isinstance(decide_start(small._replace(built=None), BARS, NOW, is_forced=True), Build)
    dear = decide_start(small._replace(built=built(3, usd=6.0)), BARS, NOW, is_forced=True)
    assert isinstance(dear, Wait)
    retired = built(3, problems=(BaseModelRetired("old"),))
    assert isinstance(decide_start(small._replace(built=retired), BARS, NOW, is_forced=True), Wait)


states = st.sampled_from(["queued", "running", "succeeded", "failed", "cancelled", None])
tried = st.builds(
    Tried,
    st.just("ft"),
    st.sampled_from(["d0", "d1"]),
    states,
    st.integers(NOW - 9 * DAY_US, NOW),
    st.integers(NOW - 9 * DAY_US, NOW),
    st.booleans(),
)


@given(st.lists(tried, max_size=6), st.integers(0, 2000), st.integers(0, 2000))
def test_one_job_a_scope(jobs: list[Tried], new: int, train: int) -> None:
    """Nothing starts while a job may still make a model, and nothing starts on fewer examples than the minimum."""
    found = decide(facts(new, *jobs, made=built(train)), BARS, NOW)
    if any(job.is_active for job in jobs):
        assert isinstance(found, Poll | Abandon)
    if isinstance(found, Start):
        assert new >= 1000
        assert train >= 1000
