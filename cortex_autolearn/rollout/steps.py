"""What a person may have done: deploy, promote, roll back, pause, resume, abort. Each once, however often it is asked.

Whether a step may be taken is ``registry``'s business, taking it ``apply``'s. Every one is a single transaction, so
that it may be asked for beside a daemon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.experiments import Held, Pause, Queued
from cortex_autolearn.rollout import registry
from cortex_autolearn.rollout.apply import MANUAL, Order, Taken, serving_of, take
from cortex_autolearn.rollout.orders import new_watch
from cortex_autolearn.rollout.plan import test_id as test_name
from cortex_autolearn.rollout.registry import Refused, Step, Unchanged

if TYPE_CHECKING:
    from collections.abc import Callable

    from cortex_autolearn.model.experiments import AliasChange, Experiment
    from cortex_autolearn.rollout.needs import RolloutReading, RolloutTransaction
    from cortex_autolearn.rollout.registry import Verb
    from cortex_autolearn.rollout.trials import Course


class Done(NamedTuple):
    """A step that was taken: what it did, in words, the event that tells of it, and its particulars."""

    text: str
    event_seq: int | None = None
    details: dict[str, Any] = {}  # noqa: RUF012 - never changed


Result = Done | Unchanged | Refused

_WORDS: Final[dict[Verb, str]] = {
    "promote": "{champion} is champion of {master} now, and is watched as {test_id}",
    "roll_back": "all tasks of {master} go to {champion} again",
    "revert": "the promotion is taken back: {champion} is champion of {master} again",
    "settle": "the watch is over: {champion} stays champion of {master}",
    "restore": "{champion} is champion of {master} again",
    "pause": "{test_id} is paused: all tasks of {master} go to {champion}",
    "resume": "{test_id} goes on",
    "abort": "the test is given up: all tasks of {master} go to {champion}",
}


_FORWARD: Final = frozenset({"promote", "settle"})
"""Steps after which going back means the former champion; after any other it would be one too many, unless named."""

_ENDED: Final[dict[str, str]] = {
    "fail": "{last} could not be served",
    "roll_back": "{last} was rolled back",
    "retire": "{last} was retired",
    "conclude": "the test of {last} showed nothing",
    "abort": "{last} was given up",
    "revert": "the promotion of {earlier} was taken back",
    "restore": "it came back",
}
"""What happened last, where nothing runs and the champion did not just stand its watch."""


class Desk:
    """Takes a person's steps inside a transaction.

    Arguments:
        transaction: the transaction.
        now_us: the instant.
        by: who asks.
        why: their reason.
        course: gives the course of a test.
        is_taken: tells whether a test of this name exists, ours or not.
        told: more for the event.
    """

    def __init__(  # noqa: PLR0913 - what a step takes
        self,
        transaction: RolloutTransaction,
        now_us: int,
        *,
        by: str,
        why: str,
        course: Callable[[RolloutReading, Experiment], Course],
        is_taken: Callable[[RolloutReading, str], bool],
        told: dict[str, Any] | None = None,
    ) -> None:
        self._transaction = transaction
        self._now_us = now_us
        self._by = by
        self._why = why
        self._course = course
        self._is_taken = is_taken
        self._told = told or {}

    def deploy(self, held: Held, model_id: str) -> Result:
        """Let a model wait for its master, whose turn may be at once."""
        transaction, master = self._transaction, held.master
        refusal = self._undeployable(held, model_id)
        if refusal is not None:
            return refusal
        waits = any((one.master, one.model_id) == (master, model_id) for one in transaction.deploy_queue())
        if waits:
            return Unchanged(f"{model_id} waits for {master} already")
        transaction.put_queued(Queued(master, model_id, self._now_us, self._by, self._why, "person"))
        body = {"master": master, "step": "deploy", "model": model_id, "champion": held.champion}
        seq = transaction.event(MANUAL, **body, by=self._by, why=self._why)
        state = "is deployed next" if held.phase == "steady" else f"waits: {master} is {held.phase} ({held.challenger})"
        return Done(f"{model_id} {state}", seq, body)

    def withdraw(self, queued: Queued) -> Result:
        """Let a model wait for its master no longer: it is deployed only when a person asks for it again."""
        model_id, master = queued.model_id, queued.master
        self._transaction.drop_queued(master, model_id)
        body = {"master": master, "step": "withdraw", "model": model_id}
        seq = self._transaction.event(MANUAL, **body, by=self._by, why=self._why)
        return Done(f"{model_id} waits for {master} no longer", seq, body)

    def promote(self, held: Held) -> Result:
        """Let the challenger become champion, and be watched."""
        test = self._running(held)
        if test is None or held.phase not in {"testing", "paused"}:
            # Whoever asks for a promotion again in the watch that it began is not refused.
            return self._asked(held, Step("promote", "person", held.champion if held.phase == "watching" else None))
        watch = new_watch(self._transaction, test, self._is_taken, self._now_us, self._by)
        return self._asked(held, Step("promote", "person", test.b, watch.test_id), begins=watch)

    def roll_back(self, held: Held, to: str | None) -> Result:
        """Give all tasks to the champion; in a watch, to the former one; else let an earlier one come back."""
        if held.phase in {"testing", "paused", "watching"}:
            back = held.challenger if held.phase == "watching" else held.champion
            if to not in {None, back}:
                return Refused(f"cannot roll {held.master} back to {to}: first end what runs, which goes to {back}")
            return self._asked(held, Step("revert" if held.phase == "watching" else "roll_back", "person"))
        history = self._transaction.alias_history(held.master)
        former = registry.champions(history)
        earlier = registry.former_champion(history, held.champion)
        if to is None and held.phase == "steady" and history and history[-1].step not in _FORWARD:
            return Unchanged(self._stands(held, history, earlier))
        version = to or earlier
        if version is None:
            return Refused(f"cannot roll {held.master} back: {held.champion} is its only champion so far")
        if version in former and not self._is_served(version):
            hint = f"test it anew: `deploy {version} {held.master}`"
            return Refused(f"cannot roll {held.master} back to {version}: nothing serves it any more; {hint}")
        return self._asked(held, Step("restore", "person", version), known=frozenset(former))

    def _stands(self, held: Held, history: list[AliasChange], earlier: str | None) -> str:
        """Return what serves a master, why there is nothing to roll back, and how the former champion comes back."""
        challengers = [one.version for one in history if one.alias == "challenger" and one.version is not None]
        ended = _ENDED[history[-1].step].format(last=challengers[-1] if challengers else None, earlier=earlier)
        found = f"all tasks of {held.master} go to {held.champion} already: {ended} at {day_text(history[-1].at_us)}"
        if earlier is None:
            return found
        if self._is_served(earlier):
            return f"{found}; `rollback {held.master} --to {earlier}` brings the former champion back"
        way = f"`deploy {earlier} {held.master}` tests it anew"
        return f"{found}; nothing serves the former champion any more: {way}"

    def _is_served(self, version: str) -> bool:
        if self._transaction.model(version) is None:
            return True  # a provider's own, which nobody has to deploy
        return any(
            one.model_id == version and one.seen is not None and one.seen.state == "ready"
            for one in self._transaction.endpoints()
        )

    def settle(self, held: Held) -> Result:
        """End a watch: the promoted model stays."""
        return self._asked(held, Step("settle", "person"))

    def pause(self, held: Held) -> Result:
        """Give all tasks to the champion for now."""
        return self._asked(held, Step("pause", "person"))

    def resume(self, held: Held) -> Result:
        """Let a test go on."""
        return self._asked(held, Step("resume", "person"))

    def abort(self, held: Held) -> Result:
        """Give a test up, whatever it showed."""
        if held.phase == "watching":
            return Refused(f"{held.champion} was promoted already: `rollback {held.master}` takes the promotion back")
        return self._asked(held, Step("abort", "person"))

    def _asked(
        self,
        held: Held,
        step: Step,
        *,
        begins: Experiment | None = None,
        known: frozenset[str] = frozenset(),
    ) -> Result:
        test = self._running(held)
        decision = None
        if test is not None:
            course = self._course(self._transaction, test)
            decision = course.decision(self._now_us)
            test = _paused(test, step.verb, self._now_us)
        order = Order(step, self._by, self._why, self._now_us, begins, test, decision, known, self._told)
        taken = take(self._transaction, held, order)
        if not isinstance(taken, Taken):
            return taken
        new = taken.held
        words = _WORDS[step.verb].format(master=new.master, champion=new.champion, test_id=new.test_id)
        return Done(words, taken.event_seq, new._asdict())

    def _running(self, held: Held) -> Experiment | None:
        return None if held.test_id is None else self._transaction.experiment(held.test_id)

    def _undeployable(self, held: Held, model_id: str) -> Refused | Unchanged | None:
        if not layout.is_safe_name(test_name(held.master, model_id) + "-watch-99"):
            return Refused(f"cannot deploy {model_id} for {held.master}: the test's name would be too long for a file")
        if self._transaction.model(model_id) is None:
            known = ", ".join(model.ref.model_id for model in self._transaction.models()[-5:]) or "none yet"
            return Refused(f"there is no model {model_id!r}; the latest are: {known}")
        found = registry.follow(serving_of(held), Step("deploy", "person", model_id))
        if isinstance(found, Unchanged):
            return found
        is_steady = held.phase == "steady"
        return found if isinstance(found, Refused) and (is_steady or model_id == held.champion) else None


def _paused(test: Experiment, verb: Verb, now_us: int) -> Experiment:
    """Return a test with the pause that a step begins or ends."""
    pauses = test.pauses
    if verb == "pause":
        pauses = (*pauses, Pause(now_us))
    elif pauses and pauses[-1].until_us is None:
        pauses = (*pauses[:-1], Pause(pauses[-1].from_us, now_us))
    return msgspec.structs.replace(test, pauses=pauses)


def held_for(reading: RolloutReading, name: str) -> Held | None:
    """Return what serves the master of a test that runs; also by the name that a test being deployed will have."""
    for held in reading.servings():
        if held.test_id == name or (held.challenger and held.phase == "deploying" and _plain(held) == name):
            return held
    return None


def queued_for(reading: RolloutReading, name: str) -> Queued | None:
    """Return the model that waits, by the name that its test would have."""
    return next((one for one in reading.deploy_queue() if test_name(one.master, one.model_id) == name), None)


def _plain(held: Held) -> str:
    return test_name(held.master, held.challenger or "")


def day_text(us: int) -> str:
    """Return an instant for people."""
    return instants.us_to_text(us) or ""
