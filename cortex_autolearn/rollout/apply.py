"""One step of the registry, applied: what serves, alias history, tests, the event and what it rests on, all at once.

Everything here happens in the transaction that is handed in, so that state, event and decision are never apart. Which
step is called for is not decided here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from cortex_autolearn.model.experiments import AliasChange, Decided, Held
from cortex_autolearn.rollout import registry
from cortex_autolearn.rollout.registry import Refused, Serving, Step, Unchanged
from cortex_autolearn.rollout.scorecard import card, name_of

if TYPE_CHECKING:
    from cortex_autolearn.model.experiments import Experiment
    from cortex_autolearn.model.rollout import Decision, WatchDecision
    from cortex_autolearn.model.routing import Variant
    from cortex_autolearn.rollout.needs import RolloutTransaction

DAEMON: Final = "daemon"
MANUAL: Final = "manual_decision"
FOUND: Final = "it served when rollout began"

_EVENTS: Final[dict[registry.Verb, str]] = {
    "start": "challenger_deployed",
    "fail": "challenger_retired",
    "promote": "auto_promotion",
    "roll_back": "auto_rollback",
    "retire": "challenger_retired",
    "conclude": "ab_test_inconclusive",
    "revert": "promotion_reverted",
    "settle": "promotion_settled",
}
"""What tells of a step of the daemon's; a person's are manual decisions, and a deployment is told of when it stands."""
_WINNERS: Final[dict[registry.Verb, Variant]] = {"promote": "b", "settle": "a", "revert": "b"}
"""The variant that serves after a test; after every other step it is ``a``."""
_GOES_ON: Final[frozenset[registry.Verb]] = frozenset({"start", "deploy", "pause", "resume"})


class Order(NamedTuple):
    """A step with all that goes with it.

    Arguments:
        step: the step.
        by: who takes it, for people to read.
        why: their reason.
        now_us: the instant.
        begins: the test or watch that begins with it.
        test: the test that runs, with its last numbers.
        decision: what it rests on, where that is known.
        known: versions that may be restored.
        told: more for the event.
    """

    step: Step
    by: str
    why: str
    now_us: int
    begins: Experiment | None = None
    test: Experiment | None = None
    decision: Decision | WatchDecision | None = None
    known: frozenset[str] = frozenset()
    told: dict[str, Any] = {}  # noqa: RUF012 - never changed


class Taken(NamedTuple):
    """A step that was taken, and the event that tells of it, where one does."""

    held: Held
    event_seq: int | None


def serving_of(held: Held) -> Serving:
    """Return what the registry knows of what serves a master."""
    return Serving(held.master, held.champion, held.phase, held.challenger, held.test_id)


def take(transaction: RolloutTransaction, held: Held, order: Order) -> Taken | Refused | Unchanged:
    """Take a step for a master, or say why not."""
    after = registry.follow(serving_of(held), order.step, known=order.known)
    if not isinstance(after, Serving):
        return after
    verb, now_us = order.step.verb, order.now_us
    new = Held(after.master, after.champion, after.phase, after.challenger, after.test_id, now_us)
    if order.test is not None and verb not in _GOES_ON:
        ended = msgspec.structs.replace(
            order.test, ended_us=now_us, ending=verb, winner=_WINNERS.get(verb, "a"), closing_us=None
        )
        transaction.put_experiment(ended)
    elif order.test is not None:
        transaction.put_experiment(order.test)
    seq = _tell(transaction, held, new, order)
    if order.begins is not None:
        transaction.put_experiment(order.begins)
        transaction.note_undated(order.begins.test_id, order.begins.master)
        transaction.event("ab_test_started", **started(order.begins), by=order.by)
    transaction.put_serving(new)
    _note_aliases(transaction, held, new, order, seq)
    if order.decision is not None and order.test is not None and seq is not None:
        keep(transaction, seq, order.test, order.decision, now_us)
    return Taken(new, seq)


def keep(
    transaction: RolloutTransaction, seq: int, test: Experiment, decision: Decision | WatchDecision, now_us: int
) -> None:
    """Keep what a decision rested on, by its event."""
    numbers = {
        "numbers": msgspec.to_builtins(decision.numbers),
        "card": card(decision, names(test)),
        "challenger_tasks": decision.numbers.assigned[1],
        "retest": test.number,
    }
    reasons = [{"rule": one.rule, "text": one.text} for one in decision.reasons]
    policy = msgspec.to_builtins(test.policy)
    transaction.put_decided(Decided(seq, test.test_id, now_us, name_of(decision), reasons, numbers, policy))


def names(test: Experiment) -> tuple[str, str]:
    """Return the versions of a test, the one on trial last."""
    return (test.a, test.b) if test.treated == "b" else (test.b, test.a)


def started(test: Experiment) -> dict[str, Any]:
    """Return what an event tells of a test that begins."""
    return {
        "test_id": test.test_id,
        "kind": test.kind,
        "master": test.master,
        "a": test.a,
        "b": test.b,
        "percentage_b": 100 - test.percentage_a,
        "retest": test.number,
        "baseline_completion": round(test.baseline["completion"], 4),
        "baseline_quality": round(test.baseline["quality"], 4),
        "baseline_tasks": test.baseline["tasks"],
        **test.notes,
    }


def _tell(transaction: RolloutTransaction, held: Held, new: Held, order: Order) -> int | None:
    step, test = order.step, order.test or order.begins
    event = MANUAL if step.by == "person" else _EVENTS.get(step.verb)
    if event is None:
        return None
    body: dict[str, Any] = {
        "master": held.master,
        "step": step.verb,
        "test_id": test.test_id if test is not None else held.test_id,
        "champion": new.champion,
        "challenger": new.challenger,
        "former_champion": held.champion,
        "former_challenger": held.challenger,
        "by": order.by,
        "why": order.why,
    }
    if order.decision is not None and test is not None:
        body |= {key: value for key, value in card(order.decision, names(test)).items() if key != "decision"}
    return transaction.event(event, **body | order.told)


def _note_aliases(transaction: RolloutTransaction, held: Held, new: Held, order: Order, seq: int | None) -> None:
    if not any(one.alias == "champion" for one in transaction.alias_history(held.master)):
        found = AliasChange(held.master, "champion", held.champion, order.now_us, "found", DAEMON, FOUND, None)
        transaction.add_alias(found)
    for alias in ("champion", "challenger"):
        version = getattr(new, alias)
        if version != getattr(held, alias):
            told = (order.step.verb, order.by, order.why, seq)
            transaction.add_alias(AliasChange(held.master, alias, version, order.now_us, *told))
