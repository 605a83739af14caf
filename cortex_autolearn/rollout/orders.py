"""What a decision calls for: the step of the registry, and the watch that begins with a promotion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cortex_autolearn.model.rollout import Inconclusive, Promote, Retire, Rollback, Settle
from cortex_autolearn.rollout.apply import DAEMON, Order
from cortex_autolearn.rollout.plan import begin_watch, free_id, watch_id
from cortex_autolearn.rollout.registry import Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from cortex_autolearn.model.experiments import Experiment
    from cortex_autolearn.model.rollout import Decision, WatchDecision
    from cortex_autolearn.rollout.needs import RolloutReading
    from cortex_autolearn.rollout.registry import Verb


def order_of(
    decision: Decision | WatchDecision, test: Experiment, now_us: int, watch: Callable[[], Experiment]
) -> Order:
    """Return the step that a decision calls for; ``watch`` makes the watch that a promotion begins."""
    verb: Verb
    match decision:
        case Promote():
            verb = "promote"
        case Rollback():
            verb = "roll_back" if test.kind == "test" else "revert"
        case Retire():
            verb = "retire"
        case Inconclusive():
            verb = "conclude"
        case Settle():
            verb = "settle"
        case _:
            raise AssertionError(decision)
    begins = watch() if verb == "promote" else None
    step = Step(verb, "daemon", None if begins is None else test.b, None if begins is None else begins.test_id)
    why = "; ".join(one.text for one in decision.reasons)
    return Order(step, DAEMON, why, now_us, begins=begins, test=test, decision=decision)


def new_watch(
    reading: RolloutReading,
    test: Experiment,
    is_taken: Callable[[RolloutReading, str], bool],
    now_us: int,
    by: str,
) -> Experiment:
    """Return the watch that follows the promotion of a test's challenger."""
    name = free_id(watch_id(test.master, test.b), lambda one: is_taken(reading, one))
    return begin_watch(test, name, now_us, by, reading.last_task())
