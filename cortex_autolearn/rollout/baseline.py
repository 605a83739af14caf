"""The champion before the test: what its outcomes are compared with, frozen when the test starts.

Any value inside a metric's range would keep the evidence valid; the champion's own mean makes it strong (DECISION,
"Evidence, per metric": `b`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from cortex_autolearn.model.rollout import Arm, score_or_none, seconds_or_none

if TYPE_CHECKING:
    from collections.abc import Iterable

SLOWEST_S: Final = 600.0
"""A task that takes longer counts as this slow, for the evidence."""

PSEUDO_OUTCOMES: Final = 20
PSEUDO_RATE: Final = 0.9
PSEUDO_QUALITY: Final = 4.0
PSEUDO_RETURNED: Final = 0.99


class Past(NamedTuple):
    """An outcome of the champion's before the test; ``returned`` is false where its window closed without one."""

    completed: bool
    quality: float | None
    duration_s: float | None
    returned: bool = True


@dataclass(frozen=True, slots=True)
class Baseline:
    """The champion before the test: `b` of every metric, frozen when the test starts.

    Each is the mean over its last outcomes, with 20 pseudo-outcomes added, so that it lies inside the metric's range
    and exists without a history. ``tasks`` and ``completed`` are the history's own, ``vanished`` never ended.
    """

    completion: float = PSEUDO_RATE
    quality: float = PSEUDO_QUALITY
    speed: float = PSEUDO_RATE
    scored: float = PSEUDO_RATE
    returned: float = PSEUDO_RETURNED
    tasks: int = 0
    completed: int = 0
    vanished: int = 0

    @classmethod
    def of(cls, history: Iterable[Past]) -> Baseline:
        """Return the baseline of a champion's matured outcomes (the policy says how many of the last to hand in)."""
        past = [
            Past(one.completed, score_or_none(one.quality), seconds_or_none(one.duration_s), one.returned)
            for one in history
        ]
        done = [one for one in past if one.completed]
        return cls(
            completion=_mean([float(one.completed) for one in past], PSEUDO_RATE),
            quality=_mean([one.quality for one in done if one.quality is not None], PSEUDO_QUALITY),
            speed=_mean([speed(one.duration_s) for one in past if one.duration_s is not None], PSEUDO_RATE),
            scored=_mean([float(one.quality is not None) for one in done], PSEUDO_RATE),
            returned=_mean([float(one.returned) for one in past], PSEUDO_RETURNED),
            tasks=len(past),
            completed=len(done),
            vanished=sum(not one.returned for one in past),
        )

    def failure_rate(self, control: Arm) -> float:
        """Return how often the champion fails, by its history, the test so far, and the pseudo-outcomes."""
        completed = self.completed + PSEUDO_OUTCOMES * PSEUDO_RATE + control.completed
        return 1 - completed / (self.tasks + PSEUDO_OUTCOMES + control.tasks)


def speed(duration_s: float) -> float:
    """Return a duration on the scale of its metric: 1 for no time at all, 0 for ten minutes and more."""
    return 1 - min(duration_s, SLOWEST_S) / SLOWEST_S


def _mean(values: list[float], pseudo: float) -> float:
    # In the order given, and not with fsum: `b` is stored with the test and never computed again.
    return (sum(values) + PSEUDO_OUTCOMES * pseudo) / (len(values) + PSEUDO_OUTCOMES)
