"""Where each master stands: its champion, what is tested or watched beside it, and what that has shown so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cortex_autolearn.model.instants import us_to_text
from cortex_autolearn.rollout.apply import names
from cortex_autolearn.rollout.plan import warnings_of
from cortex_autolearn.rollout.report import held_back
from cortex_autolearn.rollout.scorecard import card
from cortex_autolearn.rollout.trials import Course

if TYPE_CHECKING:
    from cortex_autolearn.model.experiments import Experiment, Held, Queued
    from cortex_autolearn.rollout.needs import RolloutReading


class Standing(NamedTuple):
    """A master, with the test or watch that runs beside its champion, if any, and its card.

    ``waiting`` are the models whose turn comes when that has ended.
    """

    held: Held
    test: Experiment | None
    card: dict[str, Any] | None
    waiting: tuple[Queued, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        shown: dict[str, Any] = {
            "master": self.held.master,
            "champion": self.held.champion,
            "phase": self.held.phase,
            "since": us_to_text(self.held.since_us),
            "challenger": self.held.challenger,
            "waiting": [one.model_id for one in self.waiting],
            "test": None,
        }
        if self.test is not None and self.card is not None:
            shown["test"] = {
                "test_id": self.test.test_id,
                "kind": self.test.kind,
                "percentage_b": 100 - self.test.percentage_a,
                "on_trial": self.test.model,
                "started_at": us_to_text(self.test.started_us),
                "alarms": list(self.test.alarms),
                "warnings": warnings_of(self.test),
                **{key: self.card[key] for key in ("decision", "reasons", "decided_after", "gain")},
            }
        return shown


def stand(reading: RolloutReading, now_us: int) -> list[Standing]:
    """Return where every master stands that rollout knows, by name.

    Arguments:
        reading: the state.
        now_us: the instant; nothing is decided or stored, and windows that would close now stay open.
    """
    queue = reading.deploy_queue()
    found = []
    for held in reading.servings():
        test = None if held.test_id is None else reading.experiment(held.test_id)
        shown = None
        if test is not None:
            decision = held_back(test, Course(test, reading.trials(test.test_id)).decision(now_us))
            shown = card(decision, names(test))
        waiting = tuple(one for one in queue if one.master == held.master)
        found.append(Standing(held, test, shown, waiting))
    return found
