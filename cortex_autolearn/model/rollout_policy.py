"""``[rollout]``: when a challenger replaces the champion, and every bar of that decision.

The defaults are those whose error rates are known (``rollout simulate`` shows them, and those of any other choice).
What the bars are held against is ``rollout.evidence``'s business, in which order they are asked ``rollout.decide``'s.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from cortex_autolearn.model.layout import MASTER_FORM

_NAME = r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z"
_MASTER = rf"\A{MASTER_FORM}\Z"
_NAME_ALLOWED = "a name of letters, digits, dots, dashes and underscores"
_MASTER_ALLOWED = 'the name of a master, such as "security-master"'

_MasterName = Annotated[str, Meta(pattern=_MASTER, description="a master", extra={"allowed": _MASTER_ALLOWED})]


class RolloutPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[rollout]``: tests of new models, their promotion and their end. Rates are in percent, gains in points."""

    masters: Annotated[
        tuple[_MasterName, ...],
        Meta(max_length=1000, description="masters whose models are tested without being asked; empty for all"),
    ] = ()
    default_champion: Annotated[
        str,
        Meta(
            pattern=_NAME,
            description="champion of a master that has none yet",
            extra={"allowed": _NAME_ALLOWED},
        ),
    ] = "v1.0.0"
    challenger_percentage: Annotated[
        Annotated[int, Meta(ge=1, le=50)] | Literal["auto"],
        Meta(
            description="share of the tasks that goes to a challenger; auto: by the master's traffic, 50 to 10",
            extra={"allowed": 'an integer from 1 to 50, or "auto"'},
        ),
    ] = 10
    maturation_s: Annotated[
        int,
        Meta(
            ge=0,
            le=31_536_000,
            description="seconds after which an assigned task without an outcome has failed; 0: never",
            extra={"days_below": "max_days"},  # a promotion counts tasks whose window has closed
        ),
    ] = 86_400

    evidence: Annotated[
        Literal["anytime", "thresholds"],
        Meta(description="anytime: thresholds and evidence that may be looked at for ever; or the thresholds alone"),
    ] = "anytime"
    completion_gate: Annotated[
        Literal["gain", "scaled"],
        Meta(description="gain: by min_completion_gain; scaled: by that or two thirds of the champion's failures"),
    ] = "gain"
    min_tasks: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="tasks needed in each variant before promotion or retirement",
            extra={"at_most": "max_challenger_tasks"},
        ),
    ] = 100
    min_quality_gain: Annotated[
        float, Meta(ge=0, le=4, description="gain of mean quality that a promotion must exceed")
    ] = 0.2
    min_completion_gain: Annotated[
        float, Meta(ge=0, le=100, description="gain of the completion rate, in points, that a promotion must exceed")
    ] = 5.0
    promotion_evidence: Annotated[
        float, Meta(ge=1, le=10**12, description="evidence of a gain, quality's and completion's each, for a promotion")
    ] = 100.0

    rollback_evidence: Annotated[
        float, Meta(ge=1, le=10**12, description="evidence of a loss of quality or completion for a rollback")
    ] = 50.0
    vanishing_evidence: Annotated[
        float,
        Meta(ge=1, le=10**12, description="evidence that more of the challenger's tasks never end, for a rollback"),
    ] = 100.0
    max_slowdown_percent: Annotated[
        float, Meta(ge=0, le=10_000, description="slowdown of the mean duration that a rollback must exceed")
    ] = 25.0
    slowdown_evidence: Annotated[float, Meta(ge=1, le=10**12, description="evidence of a slowdown for a rollback")] = (
        100.0
    )
    slowdown_min_tasks: Annotated[
        int, Meta(ge=1, le=1_000_000, description="timed tasks needed in each variant for a rollback by duration")
    ] = 30
    breaker_failures: Annotated[
        int, Meta(ge=1, le=10_000, description="fewest failures of the challenger in a row for a rollback at once")
    ] = 5
    breaker_chance: Annotated[
        float,
        Meta(ge=0, le=1, description="greatest chance that as many come in a row in 2,000 tasks of the champion's"),
    ] = 0.005
    patient_above_percent: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            description="share of the champion's tasks that never ended, above which completion waits for maturation_s",
        ),
    ] = 1.0

    retire_early: Annotated[
        bool, Meta(description="retire a challenger as soon as it cannot become better enough any more")
    ] = True
    retirement_risk: Annotated[
        float, Meta(ge=0.0001, le=0.5, description="chance of retiring a challenger that is just better enough")
    ] = 0.05
    max_challenger_tasks: Annotated[
        int, Meta(ge=1, le=10_000_000, description="tasks of the challenger's after which a test ends undecided")
    ] = 2000
    max_days: Annotated[float, Meta(ge=0.01, le=3650, description="days after which a test ends undecided")] = 90.0

    ratio_evidence: Annotated[
        float, Meta(ge=1, le=10**12, description="evidence that tasks are not split as they should be, for an alarm")
    ] = 1000.0
    scoring_evidence: Annotated[
        float, Meta(ge=1, le=10**12, description="evidence that one variant is scored more often, for an alarm")
    ] = 50.0
    max_unrouted_percent: Annotated[
        float, Meta(ge=0, le=100, description="share of the challenger's tasks that never reach it, above which: alarm")
    ] = 20.0
    unrouted_min_tasks: Annotated[
        int, Meta(ge=1, le=1_000_000, description="tasks of the challenger's needed for that alarm")
    ] = 20

    history_tasks: Annotated[
        int, Meta(ge=0, le=1_000_000, description="outcomes of the champion's before a test that its rates come from")
    ] = 2000
    watch_percentage: Annotated[
        int, Meta(ge=1, le=50, description="share of the tasks that the former champion keeps after a promotion")
    ] = 20
    watch_tasks: Annotated[
        int,
        Meta(ge=1, le=10_000_000, description="tasks of both models, their windows closed, that settle a promotion"),
    ] = 1000
    watch_days: Annotated[float, Meta(ge=0.01, le=3650, description="days after which a promotion is settled")] = 60.0
    watch_evidence: Annotated[
        float, Meta(ge=1, le=10**12, description="evidence of a loss for taking a promotion back")
    ] = 20.0
