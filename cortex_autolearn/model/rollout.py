"""What flows through a test of a model: outcomes in, evidence between, a decision out.

``treated`` tells the two variants of a test apart throughout: true for the model on trial (the challenger; in the
watch after a promotion the promoted model), false for the one it is compared with. Rates and probabilities are shares
of 1, times are microseconds since 1970, scores lie on 1 to 5. How evidence is computed is ``rollout.evidence``'s
business, what follows from it ``rollout.decide``'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

SCORES: Final = (1.0, 5.0)
_MAX_DURATION_S: Final = 1e15


class Outcome(NamedTuple):
    """What became of one task of a test, as one source tells it.

    Arguments:
        task_id: the task.
        treated: whether it was assigned to the model on trial; a failed try that the other model rescued included.
        probability: how likely it was, when it was assigned, to go to the model on trial; above 0 and below 1.
        assigned_us: when it was first seen.
        at_us: when this was written down or came to pass: of several outcomes of a task the latest stands.
        completed: whether it completed; a task that was cancelled has no outcome.
        quality: its effective score, None where there is none.
        duration_s: how long it took, None where nobody knows.
        from_results: whether it stands in the results file of the test, rather than in silver.
    """

    task_id: str
    treated: bool
    probability: float
    assigned_us: int
    at_us: int
    completed: bool
    quality: float | None = None
    duration_s: float | None = None
    from_results: bool = False


def score_or_none(value: float | None) -> float | None:
    """Return a score from 1 to 5; None for anything else: 0 means none, and NaN or 1e308 is no score."""
    return value if value is not None and SCORES[0] <= value <= SCORES[1] else None


def seconds_or_none(value: float | None) -> float | None:
    """Return a duration in seconds; None for what cannot be one: negative, NaN, or beyond all measure."""
    return value if value is not None and 0 <= value < _MAX_DURATION_S else None


@dataclass(frozen=True, slots=True)
class Arm:
    """What is known of one variant. Means are None where nothing was measured.

    ``scored`` counts the completed tasks with a score, ``quality`` and ``quality_variance`` are over those (the
    variance is None below two); ``timed`` counts tasks with a known duration, ``duration_s`` is their mean;
    ``returned`` counts tasks with an outcome before their window closed.
    """

    tasks: int = 0
    completed: int = 0
    scored: int = 0
    quality: float | None = None
    quality_variance: float | None = None
    timed: int = 0
    duration_s: float | None = None
    returned: int = 0

    @property
    def completion(self) -> float | None:
        """The share of tasks that completed."""
        return self.completed / self.tasks if self.tasks else None


@dataclass(frozen=True, slots=True)
class Pair:
    """Both variants over the same kind of tasks."""

    control: Arm = Arm()
    treated: Arm = Arm()

    @property
    def quality_gain(self) -> float | None:
        """How much better the model on trial is scored; None while a variant has no score."""
        if self.treated.quality is None or self.control.quality is None:
            return None
        return round(self.treated.quality - self.control.quality, _GAIN_DIGITS)

    @property
    def completion_gain(self) -> float | None:
        """How much more of its tasks the model on trial completes, as a share; None while a variant has no task."""
        if self.treated.completion is None or self.control.completion is None:
            return None
        return round(self.treated.completion - self.control.completion, _GAIN_DIGITS)


_GAIN_DIGITS: Final = 9
"""4.3 is not more than 0.2 above 4.1, though their difference as machine numbers is."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Everything a decision looks at, at one instant.

    ``closed`` counts tasks whose window has closed, ``arrived`` those with an outcome so far. Evidence is given as
    natural logarithms of e-values, which never overflow: ``…_up`` that the model on trial is better, ``…_down`` that
    it is worse; ``ratio_…`` that tasks are not split as they should be.
    """

    closed: Pair
    arrived: Pair
    assigned: tuple[int, int]
    """Tasks seen assigned: to the other model, to the model on trial."""
    unrouted: int
    """Tasks of the model on trial that never reached it."""
    completion_up: float
    completion_down: float
    quality_up: float
    quality_down: float
    duration_down: float
    returned_down: float
    scored_up: float
    scored_down: float
    ratio_assigned: float
    ratio_recorded: float
    failures_in_a_row: int
    """Failures of the model on trial since its last success, in order of arrival."""
    control_since: tuple[int, int]
    """Outcomes of the other model since then, and failures among them."""
    failure_rate: float
    """How often the other model fails, for the breaker: its history, this test, and 20 pseudo-outcomes at 90 %."""
    baseline_completion: float
    """The champion's completion rate before the test (`b`)."""
    alarms: frozenset[str]
    """Alarms that rang, now or before: `split`, `scored`, `unrouted`."""

    @property
    def tasks(self) -> int:
        """Tasks with an outcome, in both variants."""
        return self.arrived.control.tasks + self.arrived.treated.tasks

    @property
    def watched(self) -> int:
        """Tasks whose windows have closed, in both variants: so many settle a watch."""
        return self.closed.control.tasks + self.closed.treated.tasks


class Reason(NamedTuple):
    """Why: ``rule`` for programs, ``text`` for people."""

    rule: str
    text: str


@dataclass(frozen=True, slots=True)
class Promote:
    """The challenger becomes champion."""

    reasons: tuple[Reason, ...]
    numbers: Numbers


@dataclass(frozen=True, slots=True)
class Rollback:
    """The challenger is worse: all traffic goes to the champion. In a watch: the promotion is taken back."""

    reasons: tuple[Reason, ...]
    numbers: Numbers


@dataclass(frozen=True, slots=True)
class Retire:
    """The challenger cannot become better enough any more; it frees its place."""

    reasons: tuple[Reason, ...]
    numbers: Numbers


@dataclass(frozen=True, slots=True)
class Inconclusive:
    """The test took its time and showed nothing; the champion stays."""

    reasons: tuple[Reason, ...]
    numbers: Numbers


@dataclass(frozen=True, slots=True)
class Continue:
    """Nothing is decided yet; the reasons say what is missing."""

    reasons: tuple[Reason, ...]
    numbers: Numbers


@dataclass(frozen=True, slots=True)
class Invalid:
    """An alarm rang: the test goes on, may end in a rollback, and promotes nothing."""

    reasons: tuple[Reason, ...]
    numbers: Numbers


@dataclass(frozen=True, slots=True)
class Settle:
    """Of a watch only: the promoted model stood it."""

    reasons: tuple[Reason, ...]
    numbers: Numbers


Decision = Promote | Rollback | Retire | Inconclusive | Continue | Invalid
WatchDecision = Rollback | Settle | Continue
