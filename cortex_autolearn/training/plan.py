"""When to train: from what there is and what was tried, one decision for each scope.

Pure. What gathers the facts and carries a decision out is ``job``; what a dataset holds is ``dataset``'s business,
what a training costs the backend's. A decision carries the numbers it rests on, so that whoever reads the log sees why.

The rules, in the order in which they apply to a scope:

1. a job of it that is under way is polled; one past its deadline is abandoned, unless it waits for a person;
2. without enough new examples since the last training of the scope, it waits;
3. after a failed job it waits 1, 2, then 4 days; after the third failure in a row also until as many examples are new
   since the last one as a training needs, and after the third on one dataset for another one: what fails for a reason
   that lasts is not paid for again and again because a few outcomes came;
4. with enough, a dataset is built; when cleaning leaves too few, and not because it is full, it waits;
5. what stands in the way (``preflight``), a price beyond the budget, or a backend that is away makes it wait;
6. otherwise it starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from cortex_autolearn.model.training_jobs import ENDED, DatasetRef, Estimate, JobState
from cortex_autolearn.model.training_problems import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

DAY_US: Final = 86_400_000_000
FAILURES_ON_SAME_DATA: Final = 3
"""After so many failed jobs on one dataset only another one is tried, and after so many in a row only other data."""
_LONGEST_BACK_OFF_DAYS: Final = 4
_FAILED: Final[frozenset[JobState]] = frozenset({"failed"})
_IN_VAIN: Final[frozenset[JobState]] = frozenset({"failed", "cancelled"})
"""A person who cancels a job does not want the next check to start it again, nor that nothing is ever trained."""

Reason = Literal[
    "too_few_examples",
    "too_few_after_cleaning",
    "backing_off",
    "same_data_failed",
    "no_dataset",
    "budget_exhausted",
    "price_unknown",
    "not_possible",
    "backend_away",
]


class Bars(NamedTuple):
    """What the settings ask for; money in US dollars."""

    min_examples: int
    deadline_s: float
    budget_usd: float
    budget_month_usd: float


class Tried(NamedTuple):
    """A job as the state knows it; ``state`` is None until it was submitted, instants are microseconds since 1970."""

    model_id: str
    dataset_id: str
    state: JobState | None
    submitted_us: int | None = None
    ended_us: int | None = None
    is_waiting_for_person: bool = False

    @property
    def is_active(self) -> bool:
        """Whether it may still make a model."""
        return self.state not in ENDED


class Built(NamedTuple):
    """A dataset as it was built, what its training would cost, and what stands in its way.

    ``estimate`` is None where the backend could not be asked, for the reason in ``away``; ``covers_us`` is the instant
    up to which collected outcomes went into it. ``attempt`` is what a job on it now would be: one more than the backend
    knows of. Where the backend has a job that the state has lost, ``lost_id`` is its model's id. ``left_out`` counts by
    reason what cleaning left out, ``created`` tells that it was not there before, ``is_full`` that more would not fit.
    """

    dataset: DatasetRef
    estimate: Estimate | None
    problems: tuple[Problem, ...] = ()
    covers_us: int = 0
    away: str = ""
    attempt: int = 1
    lost_id: str | None = None
    left_out: tuple[tuple[str, int], ...] = ()
    created: bool = False
    is_full: bool = False


class Facts(NamedTuple):
    """All that is known about a scope.

    Arguments:
        scope: ``global`` or a master.
        examples: training examples collected in it.
        new: those of them that came after the last training of the scope that made a model.
        jobs: its jobs, the oldest first.
        spent_month_usd: what trainings of all scopes cost in this calendar month (UTC).
        built: the dataset made of them; None while none was built for this decision.
        since_failure: examples that came after the data of the last job that failed; None where none did since the last
            that made a model.
    """

    scope: str
    examples: int
    new: int
    jobs: tuple[Tried, ...]
    spent_month_usd: float
    built: Built | None = None
    since_failure: int | None = None


class Progress(NamedTuple):
    """How far a scope is towards its next training."""

    examples: int
    new: int
    needed: int
    train_split: int | None = None
    """Examples of the training split as built; None where none was built."""


class Wait(NamedTuple):
    """Nothing to do yet. ``until_us`` is when to look again at the latest, where that is known."""

    scope: str
    reason: Reason
    text: str
    progress: Progress
    until_us: int | None = None


class Build(NamedTuple):
    """There is enough: build the dataset and decide again."""

    scope: str
    progress: Progress


class Start(NamedTuple):
    """Train on this dataset, as this attempt."""

    scope: str
    dataset: DatasetRef
    attempt: int
    estimate: Estimate
    progress: Progress


class Poll(NamedTuple):
    """A job is under way: submit it, if that was not done, or ask how far it is."""

    scope: str
    model_id: str


class Abandon(NamedTuple):
    """A job takes too long: cancel it and report it as failed."""

    scope: str
    model_id: str
    reason: str


Decision = Wait | Build | Start | Poll | Abandon


def decide(facts: Facts, bars: Bars, now_us: int) -> Decision:
    """Return what is to be done about a scope at an instant, in microseconds since 1970."""
    active = [job for job in facts.jobs if job.is_active]
    if active:
        return _of_active(facts.scope, active[0], bars, now_us)
    return decide_start(facts, bars, now_us)


def decide_start(facts: Facts, bars: Bars, now_us: int, *, is_forced: bool = False) -> Wait | Build | Start:
    """Return whether a scope without a job under way is to be trained.

    ``is_forced`` skips what only says "not yet" (too few examples, backing off), as a person may; never what says
    "not so": the budget, and what the backend cannot do.
    """
    progress = Progress(facts.examples, facts.new, bars.min_examples, facts.built and facts.built.dataset.train)
    if not is_forced:
        if facts.new < bars.min_examples:
            text = f"{facts.new} of {bars.min_examples} new examples"
            return Wait(facts.scope, "too_few_examples", text, progress)
        waiting = _back_off(facts, progress, now_us) or _of_failures(facts, bars, progress)
        if waiting is not None:
            return waiting
    built = facts.built
    if built is None:
        return Build(facts.scope, progress)
    waiting = _of_built(facts, built, bars, progress, is_forced=is_forced)
    if waiting is not None:
        return waiting
    if built.estimate is None:
        return Wait(facts.scope, "backend_away", built.away, progress)
    return _of_budget(facts, built.estimate.training_usd, bars, progress) or Start(
        facts.scope, built.dataset, max(built.attempt, _on(built, facts, ENDED) + 1), built.estimate, progress
    )


def rests_until_us(jobs: Sequence[Tried]) -> int | None:
    """Return until when nothing is started of a scope because its last jobs made no model; None where they did."""
    failures = _failures(jobs)
    if not failures:
        return None
    days: int = min(2 ** (len(failures) - 1), _LONGEST_BACK_OFF_DAYS)
    return (failures[-1].ended_us or 0) + days * DAY_US


def waits_for_dataset(facts: Facts, bars: Bars, cause: str) -> Wait:
    """Return that no dataset could be made, for the reason given."""
    return Wait(facts.scope, "no_dataset", cause, Progress(facts.examples, facts.new, bars.min_examples))


def _of_active(scope: str, job: Tried, bars: Bars, now_us: int) -> Poll | Abandon:
    # The deadline counts from the submission: a backend that cannot be reached costs patience, not attempts.
    if job.submitted_us is not None and not job.is_waiting_for_person:
        taken_s = (now_us - job.submitted_us) / 1e6
        if taken_s > bars.deadline_s:
            reason = f"it has taken {taken_s / 3600:.1f} h and may take {bars.deadline_s / 3600:.1f} h"
            return Abandon(scope, job.model_id, reason)
    return Poll(scope, job.model_id)


def _back_off(facts: Facts, progress: Progress, now_us: int) -> Wait | None:
    until_us = rests_until_us(facts.jobs)
    if until_us is None or now_us >= until_us:
        return None
    failures = _failures(facts.jobs)
    text = f"{_times(len(failures))} in a row made no model, the last one {failures[-1].model_id}"
    return Wait(facts.scope, "backing_off", text, progress, until_us)


def _of_failures(facts: Facts, bars: Bars, progress: Progress) -> Wait | None:
    failures = sum(job.state in _FAILED for job in _failures(facts.jobs))
    since = facts.since_failure
    if failures < FAILURES_ON_SAME_DATA or since is None or since >= bars.min_examples:
        return None
    text = f"{_times(failures)} in a row failed, and {since} of {bars.min_examples} examples are new since the last one"
    return Wait(facts.scope, "same_data_failed", text, progress)


def _of_built(facts: Facts, built: Built, bars: Bars, progress: Progress, *, is_forced: bool) -> Wait | None:
    if built.dataset.train < bars.min_examples and not (built.is_full or is_forced):
        left_out = ", ".join(f"{reason}: {count}" for reason, count in built.left_out)
        text = f"{built.dataset.train} of {bars.min_examples} examples are left after cleaning"
        text += f" (left out: {left_out})" if left_out else ""
        return Wait(facts.scope, "too_few_after_cleaning", text, progress)
    failures = _on(built, facts, _FAILED)
    if failures >= FAILURES_ON_SAME_DATA and not is_forced:
        text = f"{_times(failures)} on dataset {built.dataset.dataset_id} failed"
        return Wait(facts.scope, "same_data_failed", text, progress)
    blocking = [problem for problem in built.problems if problem.blocks]
    if blocking:
        text = "; ".join(f"{problem.text}. {problem.remedy}".rstrip(". ") for problem in blocking)
        return Wait(facts.scope, "not_possible", text, progress)
    return None


def _of_budget(facts: Facts, cost_usd: float | None, bars: Bars, progress: Progress) -> Wait | None:
    found = beyond_budget(cost_usd, facts.spent_month_usd, bars)
    return None if found is None else Wait(facts.scope, *found, progress)


def beyond_budget(cost_usd: float | None, spent_month_usd: float, bars: Bars) -> tuple[Reason, str] | None:
    """Return why a training is not to be paid for, as a reason and in words; None where it may be."""
    if cost_usd is None:
        return "price_unknown", "what the training costs is unknown, and there is a budget to keep"
    if cost_usd > bars.budget_usd:
        return "budget_exhausted", f"the training costs {cost_usd:.2f} USD, and one may cost {bars.budget_usd:.2f} USD"
    if spent_month_usd + cost_usd > bars.budget_month_usd:
        text = (
            f"the training costs {cost_usd:.2f} USD, and {spent_month_usd:.2f} of "
            f"{bars.budget_month_usd:.2f} USD are spent this month"
        )
        return "budget_exhausted", text
    return None


def _failures(jobs: Sequence[Tried]) -> list[Tried]:
    """Return the jobs that made no model since the last one that did, the oldest first."""
    failures: list[Tried] = []
    for job in jobs:
        if job.state == "succeeded":
            failures.clear()
        elif job.state in _IN_VAIN:
            failures.append(job)
    return failures


def _on(data: Built, facts: Facts, states: frozenset[JobState]) -> int:
    """Return how many jobs on this very dataset came to one of these ends."""
    return sum(job.dataset_id == data.dataset.dataset_id and job.state in states for job in facts.jobs)


def _times(count: int) -> str:
    return "1 training" if count == 1 else f"{count} trainings"
