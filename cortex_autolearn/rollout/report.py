"""What a test shows: its numbers as people and programs read them, from what is stored.

Nothing is decided or changed here; what a command prints of it is its own business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cortex_autolearn.model import instants
from cortex_autolearn.model.rollout import Continue, Reason
from cortex_autolearn.rollout.apply import names
from cortex_autolearn.rollout.decide import criteria
from cortex_autolearn.rollout.files import is_paused
from cortex_autolearn.rollout.plan import TRAFFIC_DAYS, per_day
from cortex_autolearn.rollout.scorecard import card, gain_of, intervals
from cortex_autolearn.rollout.trials import Course, ends

if TYPE_CHECKING:
    from cortex_autolearn.model.experiments import AliasChange, Experiment
    from cortex_autolearn.model.rollout import Decision, WatchDecision
    from cortex_autolearn.rollout.decide import Criterion
    from cortex_autolearn.rollout.needs import RolloutReading
    from cortex_autolearn.rollout.scorecard import Bounds

PAUSED: Final = Reason("paused", "paused: nothing is decided before it is resumed")


class Summary(NamedTuple):
    """All that a test shows.

    Arguments:
        experiment: the test.
        decision: what would be decided now; of a test that has ended, what its numbers said when it ended.
        card: the same as FORMATS has it printed (the model on trial is ``b`` there, in a watch as well).
        criteria: what a promotion needs, and how far it is.
        cost_usd: mean cost of a task by variant, where known.
        late: outcomes that came when it had ended.
        refused: outcomes that were none, by reason.
        tasks_per_day: the master's traffic.
        closed_gain: the gains over tasks whose windows have closed, named as the card's, which may be over more.
        intervals: of these, at 95 %, valid at all times at once; None while nothing was measured.
    """

    experiment: Experiment
    decision: Decision | WatchDecision
    card: dict[str, Any]
    criteria: tuple[Criterion, ...]
    cost_usd: dict[str, float]
    late: int
    refused: dict[str, int]
    tasks_per_day: float
    closed_gain: dict[str, float | None]
    intervals: dict[str, Bounds]


def course(reading: RolloutReading, test_id: str) -> Course:
    """Return a test with its evidence, from what is stored. Raises LookupError: there is no such test."""
    test = reading.experiment(test_id)
    if test is None:
        raise LookupError(f"there is no test {test_id!r}")
    return Course(test, reading.trials(test_id))


def check(reading: RolloutReading, test_id: str, until_us: int) -> Decision | WatchDecision:
    """Return what would be decided about a test now, or what its numbers said when it ended.

    Arguments:
        reading: the state.
        test_id: the test.
        until_us: up to when the fleet's records are in it: as for the daemon, no window closes after that.
    """
    found = course(reading, test_id)
    return _decision(found, until_us)


def summary(reading: RolloutReading, test_id: str, now_us: int, until_us: int) -> Summary:
    """Return all that a test shows at an instant; ``until_us`` as in :func:`check`."""
    found = course(reading, test_id)
    test = found.test
    decision = _decision(found, until_us)
    costs = {test.treated if treated else _other(test): cost for treated, cost in reading.costs(test_id).items()}
    count, first_us = reading.tasks_created(test.master, now_us - TRAFFIC_DAYS * instants.DAY_US, now_us)
    return Summary(
        test,
        decision,
        card(decision, names(test)),
        criteria(decision.numbers, test.policy),
        costs,
        len(reading.late_outcomes(test_id)),
        test.refused,
        per_day(count, first_us, now_us),
        gain_of(decision.numbers.closed),
        intervals(found.evidence, test.baseline),
    )


def held_back(test: Experiment, decision: Decision | WatchDecision) -> Decision | WatchDecision:
    """Return a decision as it holds: while its test is paused only a person ends it, whatever the numbers say."""
    return Continue((PAUSED,), decision.numbers) if test.is_active and is_paused(test) else decision


def champion(reading: RolloutReading, master: str, at_us: int) -> AliasChange | None:
    """Return how the champion of a master at an instant came to be it; None before rollout knew the master."""
    changes = [one for one in reading.alias_history(master) if one.alias == "champion" and one.at_us <= at_us]
    return changes[-1] if changes else None


def _decision(found: Course, until_us: int) -> Decision | WatchDecision:
    """Return what was decided; of a test that runs, what the daemon's next run decides: it looks after each window."""
    test = found.test
    if test.ended_us is not None:
        return found.decision(test.ended_us)  # later windows are none of the decision's, even if they ended before it
    for _ in found.closing(until_us):
        if not is_paused(test) and ends(decision := found.decision(test.started_us)):  # its days end it at last
            return decision
    return held_back(test, found.decision(until_us))


def _other(test: Experiment) -> str:
    return "a" if test.treated == "b" else "b"
