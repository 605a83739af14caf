"""Rows of the state about what serves which master, and about the tests that decide it; instants are microseconds."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from msgspec import Struct, field

from cortex_autolearn.model.rollout_policy import RolloutPolicy
from cortex_autolearn.model.routing import Variant
from cortex_autolearn.model.training_jobs import Endpoint

Phase = Literal["steady", "deploying", "testing", "paused", "watching"]
Actor = Literal["daemon", "person"]
Kind = Literal["test", "watch"]


class Held(NamedTuple):
    """What serves a master, since when; see ``rollout.registry.Serving``."""

    master: str
    champion: str
    phase: Phase
    challenger: str | None
    test_id: str | None
    since_us: int


class AliasChange(NamedTuple):
    """An alias came to name another version, or none, by a step; ``event_seq`` is the event that tells of it."""

    master: str
    alias: str
    version: str | None
    at_us: int
    step: str
    by: str
    why: str
    event_seq: int | None


class Pause(Struct, frozen=True):
    """A time in which all tasks went to the champion; it has no end while it lasts."""

    from_us: int
    until_us: int | None = None


class ResultsCursor(Struct, frozen=True):
    """How far a results file was read: ``mark`` is a digest of the bytes before ``position``."""

    identity: str = ""
    position: int = 0
    mark: str = ""
    size: int = 0


class Experiment(Struct, frozen=True, kw_only=True):
    """A test of a challenger, or the watch after a promotion.

    Arguments:
        test_id: its name.
        kind: ``test`` or ``watch``.
        master: whose tasks take part.
        a: the version that serves by default: the champion; in a watch the promoted one.
        b: the other version.
        treated: the variant on trial: ``b`` in a test, ``a`` in a watch.
        percentage_a: how many of 100 tasks go to ``a``.
        number: 1 for the first test of this model for this master, 2 for a re-test, and so on.
        started_by: who had it started.
        baseline: the champion before it, as ``rollout.baseline.Baseline`` holds it.
        policy: the bars, as they were when it began.
        notes: what was said when it began: tasks a day, expected days, warnings.
        ending: the step that ended it.
        winner: the variant that serves after it.
        pauses: when all tasks went to the champion.
        alarms: those that rang.
        metrics: what the test's file shows.
        refused: outcomes that were none, by reason.
        seen: the row id up to which silver went in.
        results: how far its results file was read.
        revision: counts the changes of its trials.
        closing_us: when its next window closes.
        looked_us: when it was last decided about.
    """

    test_id: str
    kind: Kind
    master: str
    a: str
    b: str
    treated: Variant
    percentage_a: int
    number: int
    started_us: int
    started_by: str
    baseline: dict[str, Any]
    policy: RolloutPolicy
    notes: dict[str, Any] = field(default_factory=dict)
    ended_us: int | None = None
    ending: str | None = None
    winner: Variant | None = None
    pauses: tuple[Pause, ...] = ()
    alarms: tuple[str, ...] = ()
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    seen: int = 0
    results: ResultsCursor = ResultsCursor()
    revision: int = 0
    closing_us: int | None = None
    looked_us: int = 0

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self.ended_us is None

    @property
    def is_held(self) -> bool:
        """Whether an alarm keeps it from being decided; a watch goes on all the same."""
        return bool(self.alarms) and self.kind == "test"

    @property
    def model(self) -> str:
        """The version on trial."""
        return self.b if self.treated == "b" else self.a


class TrialRow(NamedTuple):
    """A task of a test, as it is stored; see ``rollout.tasks.Entry``."""

    task_id: str
    treated: bool
    probability: float
    assigned_us: int
    at_us: int | None
    completed: bool | None
    quality: float | None
    own_quality: float | None
    duration_s: float | None
    from_results: bool | None
    cost_usd: float | None
    first_us: int | None
    arrival: int | None
    closed: bool
    unrouted: bool
    void: bool


class LateRow(NamedTuple):
    """An outcome that came when its test had ended."""

    task_id: str
    treated: bool
    at_us: int
    completed: bool
    quality: float | None
    duration_s: float | None
    from_results: bool


class Queued(NamedTuple):
    """A model that waits for its master to be free; ``actor`` asked for it."""

    master: str
    model_id: str
    asked_us: int
    by: str
    why: str
    actor: Actor


class EndpointRow(NamedTuple):
    """What serves a model, or is to: ``seen`` is what its backend last told."""

    number: int
    model_id: str
    token: str
    seen: Endpoint | None
    asked_us: int
    polled_us: int | None


class SeenTask(NamedTuple):
    """A record of a master's that came to stand; ``quality`` is the score that counts, ``own_quality`` its own."""

    id: int
    task_id: str
    origin: int
    final: bool
    status: str | None
    quality: float | None
    own_quality: float | None
    duration_s: float | None
    created_us: int | None
    completed_us: int | None
    day: int
    position: int
    length: int
    path: str


class PastTask(NamedTuple):
    """A task of a master's before a test, its window over; ``final`` is whether it ended."""

    final: bool
    status: str | None
    quality: float | None
    duration_s: float | None
    created_us: int | None
    completed_us: int | None


class Decided(NamedTuple):
    """What a decision rested on; everything as JSON holds it, so that it can be told from here alone."""

    event_seq: int
    test_id: str
    at_us: int
    decision: str
    reasons: list[dict[str, str]]
    numbers: dict[str, Any]
    policy: dict[str, Any]
