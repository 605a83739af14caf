"""One task of a test: what is stored of it, and which of its outcomes counts.

One outcome stands for each task, whatever arrives how often and in which order: of several the latest, at a tie the
failure, then the one from the results file. A task that has none when its window closes is a failure of its variant.
What all of them amount to is ``evidence``'s business.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cortex_autolearn.model.rollout import Outcome, score_or_none, seconds_or_none
from cortex_autolearn.rollout.baseline import Past


class Entry(NamedTuple):
    """All that is stored of one task of a test.

    Arguments:
        task_id: the task.
        treated: whether it was assigned to the model on trial.
        probability: how likely that was.
        assigned_us: when it was first seen.
        outcome: the outcome that stands, if one has come.
        first_us: the time of the earliest of its outcomes: whether it came before the window closed.
        arrival: its place in the order in which tasks came to have an outcome; None while it has none.
        closed: whether its window has closed.
        unrouted: whether it was answered by the other model without a try.
        void: whether it turned out to have no outcome: it was cancelled, or is another test's.
    """

    task_id: str
    treated: bool
    probability: float
    assigned_us: int
    outcome: Outcome | None = None
    first_us: int | None = None
    arrival: int | None = None
    closed: bool = False
    unrouted: bool = False
    void: bool = False


_VANISHED: Final = Past(completed=False, quality=None, duration_s=None, returned=False)


class Task:
    """One task of a test, as far as it is known."""

    __slots__ = (
        "arrival",
        "assigned_us",
        "closed",
        "first_us",
        "outcome",
        "probability",
        "treated",
        "unrouted",
        "void",
    )

    def __init__(self, treated: bool, probability: float, assigned_us: int) -> None:  # noqa: FBT001 - one of a pair
        self.treated = treated
        self.probability = probability
        self.assigned_us = assigned_us
        self.outcome: Outcome | None = None
        self.first_us: int | None = None
        self.arrival: int | None = None
        self.closed = False
        self.unrouted = False
        self.void = False

    @property
    def has_none(self) -> bool:
        """Whether there is no outcome, and none is missing."""
        return self.outcome is None and (self.unrouted or self.void)

    def entry(self, task_id: str) -> Entry:
        """Return what is to be stored of it."""
        return Entry(
            task_id,
            self.treated,
            self.probability,
            self.assigned_us,
            self.outcome,
            self.first_us,
            self.arrival,
            self.closed,
            self.unrouted,
            self.void,
        )

    def take(self, outcome: Outcome) -> None:
        """Let the outcome stand if it beats the one that stands, and note the earliest time."""
        self.first_us = outcome.at_us if self.first_us is None else min(self.first_us, outcome.at_us)
        if self.outcome is None or rank(outcome) > rank(self.outcome):
            self.outcome = outcome

    def is_late(self, window_us: int) -> bool:
        """Tell whether its first outcome came when its window had closed."""
        return self.first_us is not None and self.first_us > self.assigned_us + window_us

    def standing(self, window_us: int) -> Past | None:
        """Return what counts for the task: its outcome, a failure when none came in time, or nothing yet."""
        one = self.outcome
        if one is not None and (window_us == 0 or not self.is_late(window_us)):
            return Past(one.completed, score_or_none(one.quality), seconds_or_none(one.duration_s))
        return _VANISHED if self.closed and not self.has_none else None


def rank(outcome: Outcome) -> tuple[int, bool, bool, float, float]:
    """Order the outcomes of one task: the latest, the failure, the one from the results file.

    Then by what they hold, so that the order in which two of the same instant arrive does not matter.
    """
    quality, duration_s = score_or_none(outcome.quality), seconds_or_none(outcome.duration_s)
    return (
        outcome.at_us,
        not outcome.completed,
        outcome.from_results,
        -1.0 if quality is None else quality,
        -1.0 if duration_s is None else duration_s,
    )
