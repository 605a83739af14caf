"""What a decision about a training rests on: examples, how many of them are new, and the trainings there were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cortex_autolearn.model.instants import DAY_US
from cortex_autolearn.model.training_jobs import GLOBAL
from cortex_autolearn.training.plan import Facts, Progress, Tried

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cortex_autolearn.model.training_policy import TrainingPolicy
    from cortex_autolearn.model.trainings import Training
    from cortex_autolearn.training.needs import TrainingReading


class Counts:
    """How many training examples each master has, or got since some instants until now, all found out in one look.

    One from the future, collected while the clock was ahead, is never among the new: it would be so at every look.
    """

    def __init__(self, reading: TrainingReading, now_us: int) -> None:
        self._times = reading.training_times()
        self.now_us = now_us

    def of(self, scope: str, since_us: int = -1) -> int:
        """Return how many a scope got after an instant."""
        chosen = self._times.values() if scope == GLOBAL else [self._times.get(scope, ())]
        if since_us < 0:
            return sum(map(len, chosen))
        return sum(since_us < at_us <= self.now_us for times in chosen for at_us in times)

    def by_master(self) -> Mapping[str | None, int]:
        """Return how many each master has; None stands for tasks without one."""
        return {master: len(times) for master, times in self._times.items()}


def scopes_of(reading: TrainingReading, counts: Counts, policy: TrainingPolicy) -> list[str]:
    """Return what may be trained, and what is under way though the settings have changed."""
    scopes = [GLOBAL]
    if policy.scope == "master":
        scopes = sorted(master for master in counts.by_master() if master is not None)
    active = [training.scope for training in reading.active_trainings()]
    return [*scopes, *(scope for scope in active if scope not in scopes)]


def facts_of(reading: TrainingReading, scope: str, counts: Counts, spent_usd: float) -> Facts:
    """Return what is known of a scope; ``spent_usd`` is what trainings cost in this month."""
    trainings = as_they_count(reading, reading.trainings(scope), counts.now_us)
    made = [_covers_us(training) for training in trainings if training.state == "succeeded"]
    examples = counts.of(scope)
    new = counts.of(scope, max(made)) if made else examples
    ended = [training for training in trainings if training.state in {"succeeded", "failed"}]
    failed = _covers_us(ended[-1]) if ended and ended[-1].state == "failed" else None
    since = None if failed is None else counts.of(scope, failed)
    return Facts(scope, examples, new, tuple(map(tried, trainings)), spent_usd, since_failure=since)


def as_they_count(reading: TrainingReading, trainings: Sequence[Training], now_us: int) -> list[Training]:
    """Return trainings without what happened to them while the clock was ahead by more than a day.

    When that was nobody knows: it would hide new examples, or put the next training off, until its time comes again. So
    one that was asked for and ended then is left out, and one that goes on counts from when the clock was set back, or
    was asked for, if that was later: where nothing was noted meanwhile, an earlier setting back is all that is known.

    A clock that is behind now looks the same, and would have all trained and paid for again, or cancelled as late:
    until the clock has stood for a day where it stands, trainings count as they are noted.
    """
    ahead_us = now_us + DAY_US
    if not any(_times_ahead(one, ahead_us) for one in trainings):
        return list(trainings)
    set_back_us = reading.set_back_us(ahead_us)
    if set_back_us is None or set_back_us > now_us - DAY_US:
        return list(trainings)
    return [
        _clipped(one, ahead_us, set_back_us) for one in trainings if one.ended_us is None or one.asked_us <= ahead_us
    ]


def _clipped(training: Training, ahead_us: int, set_back_us: int) -> Training:
    to_us = set_back_us
    if training.asked_us <= ahead_us:
        to_us = training.asked_us if training.ended_us is not None else max(training.asked_us, set_back_us)
    times: dict[str, Any] = dict.fromkeys(_times_ahead(training, ahead_us), to_us)
    return training._replace(**times)


def _times_ahead(training: Training, ahead_us: int) -> list[str]:
    return [name for name in ("asked_us", "submitted_us", "ended_us") if (getattr(training, name) or 0) > ahead_us]


def _covers_us(training: Training) -> int:
    """Return up to when a training covers what was collected: never what came after it was asked for.

    Rows of former versions cover outcomes that were collected while the clock was ahead, and all that is still to come.
    """
    return min(training.covers_us, training.asked_us)


def tried(training: Training) -> Tried:
    """Return what ``plan`` looks at of a training."""
    return Tried(
        training.model_id,
        training.dataset_id,
        training.state,
        training.submitted_us,
        training.ended_us,
        training.seen is not None and training.seen.waiting_for_person,
    )


def progress_of(reading: TrainingReading, policy: TrainingPolicy, now_us: int) -> dict[str, Progress]:
    """Return how far each scope is towards its next training at an instant."""
    counts = Counts(reading, now_us)
    facts = [facts_of(reading, scope, counts, 0.0) for scope in scopes_of(reading, counts, policy)]
    return {one.scope: Progress(one.examples, one.new, policy.min_examples) for one in facts}
