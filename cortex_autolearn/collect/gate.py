"""The quality rule: is this outcome good enough to learn from, and if not, why not.

The reasons are Cortex's own words, in the order in which they apply (FORMATS: "High-quality outcome"): the first one
counts. Where the facts come from is ``canonical``'s business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from cortex_autolearn.model.records import COMPLETED

if TYPE_CHECKING:
    from cortex_autolearn.model.policy import GatePolicy

KEPT: Final = "kept"
"""The verdict of an outcome that passes."""

NOT_SUCCESSFUL: Final = "Not successful"
NO_OUTPUT: Final = "No output"
HAS_ERRORS: Final = "Has errors"
HAS_RETRIES: Final = "Has retries"
NO_QUALITY: Final = "No quality score"
LOW_QUALITY: Final = "Quality score too low"
TOO_FAST: Final = "Too fast (trivial)"
TOO_SLOW: Final = "Too slow (timeout)"
NO_DURATION: Final = "Duration unknown"

REASONS: Final = (
    NOT_SUCCESSFUL,
    NO_OUTPUT,
    HAS_ERRORS,
    HAS_RETRIES,
    NO_QUALITY,
    LOW_QUALITY,
    TOO_FAST,
    TOO_SLOW,
    NO_DURATION,
)


class Facts(Protocol):
    """What the rule looks at; durations in seconds, quality from 1 to 5, ``errored`` as 0 or 1."""

    @property
    def status(self) -> str | None: ...
    @property
    def output_chars(self) -> int: ...
    @property
    def errored(self) -> int: ...
    @property
    def retries(self) -> int: ...
    @property
    def quality(self) -> int | float | None: ...
    @property
    def duration(self) -> int | float | None: ...


def verdict(task: Facts, policy: GatePolicy) -> str:
    """Return :data:`KEPT`, or the first of :data:`REASONS` that speaks against a final task."""
    quality, duration = task.quality, task.duration
    if task.status != COMPLETED:
        return NOT_SUCCESSFUL
    if task.output_chars < policy.min_output_chars:
        return NO_OUTPUT
    if task.errored:
        return HAS_ERRORS
    if task.retries > 0:
        return HAS_RETRIES
    if quality is None:
        return NO_QUALITY
    if quality < policy.min_quality:
        return LOW_QUALITY
    if duration is None:
        return NO_DURATION
    if duration < policy.min_duration_s:
        return TOO_FAST
    if duration > policy.max_duration_s:
        return TOO_SLOW
    return KEPT
