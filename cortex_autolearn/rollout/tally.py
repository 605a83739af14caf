"""Sums over the tasks of one variant, exact, so that a task can be taken out again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cortex_autolearn.model.rollout import Arm, Pair
from cortex_autolearn.rollout.wealth import UNIT

if TYPE_CHECKING:
    from cortex_autolearn.rollout.baseline import Past


class Tally:
    """Sums over the tasks of one variant, in whole multiples of 2^-60."""

    __slots__ = ("completed", "quality", "returned", "scored", "seconds", "squares", "tasks", "timed")

    def __init__(self) -> None:
        self.tasks = self.completed = self.scored = self.timed = self.returned = 0
        self.quality = self.squares = self.seconds = 0

    def put(self, one: Past, sign: int) -> None:
        """Count a task in, or with ``sign`` -1 out again."""
        self.tasks += sign
        self.returned += sign * one.returned
        if one.completed:
            self.completed += sign
            if one.quality is not None:
                quality = round(one.quality * UNIT)
                self.scored += sign
                self.quality += sign * quality
                self.squares += sign * quality * quality
        if one.duration_s is not None:
            self.timed += sign
            self.seconds += sign * round(one.duration_s * UNIT)

    def arm(self) -> Arm:
        """Return the variant's numbers."""
        scored = self.scored
        spread = None
        if scored > 1:
            spread = (self.squares * scored - self.quality**2) / (scored * (scored - 1) * UNIT * UNIT)
        return Arm(
            tasks=self.tasks,
            completed=self.completed,
            scored=scored,
            quality=self.quality / (scored * UNIT) if scored else None,
            quality_variance=spread,
            timed=self.timed,
            duration_s=self.seconds / (self.timed * UNIT) if self.timed else None,
            returned=self.returned,
        )


def pair(tallies: tuple[Tally, Tally]) -> Pair:
    """Return the numbers of both variants: the other model's, and those of the model on trial."""
    return Pair(tallies[0].arm(), tallies[1].arm())
