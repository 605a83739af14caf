"""Who asks for which job, and when: the schedule, what was missed, files that changed, and the heartbeat.

Nothing is run here: a request goes to its lane, which takes it in its turn. What is due is ``schedule``'s business,
what changed ``watch``'s; when each of them is asked is the daemon's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from cortex_autolearn.adapters.threads import in_thread
from cortex_autolearn.jobs import WAITS
from cortex_autolearn.lanes import Lanes, Request
from cortex_autolearn.model import layout
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.schedule import Job, Slot, TimeMap, due
from cortex_autolearn.status import planned
from cortex_autolearn.watch import Watched

if TYPE_CHECKING:
    from pathlib import Path

    from cortex_autolearn.wiring import App

_DEBOUNCES: Final = 2
"""Bronze that never stops growing is refined after this many debounce times."""


class Demand:
    """Asks the lanes of one application. All but :meth:`watched` must be called in the event loop.

    Arguments:
        app: whose jobs are asked for.
        lanes: where.
        time: the time that the schedule lives in.
    """

    def __init__(self, app: App, lanes: Lanes, time: TimeMap) -> None:
        self._app = app
        self._lanes = lanes
        self._time = time
        self._log = app.log
        self._asked_slots: dict[str, Slot] = {}
        self._bronze_timer: asyncio.TimerHandle | None = None
        self._bronze_since: float | None = None
        self._bronze_put_off = False

    @property
    def is_idle(self) -> bool:
        """Whether no job is about to be asked for by a change that was noticed."""
        return self._bronze_timer is None

    def close(self) -> None:
        """Ask for nothing more because of a change that was noticed."""
        if self._bronze_timer is not None:
            self._bronze_timer.cancel()

    def forget_slots(self) -> None:
        """The clock was set: slots that were asked for may come again."""
        self._asked_slots.clear()

    def watched(self) -> list[Watched]:
        """Return the folders whose changes :meth:`on_change` wants to hear of."""
        tree = self._app.tree
        return [
            Watched(tree.path(layout.SILVER), ".jsonl", "collection"),
            Watched(tree.path(layout.BRONZE), ".jsonl", "silver"),
            Watched(tree.path(layout.AB_TESTS), ".json", "rollout"),
            Watched(tree.path(layout.AB_RESULTS), ".jsonl", "rollout"),
        ]

    def at_start(self) -> None:
        """Ask for what a daemon does first."""
        for job in ("medallion", "collection"):  # what somebody removed meanwhile comes back
            self._lanes.ask(Request(job, "start"))
        self._lanes.ask(Request("rollout", "start", if_waiting=True))

    def on_due(self, job: str, slot: Slot, trigger: str = "schedule") -> None:
        """A slot of the schedule is due."""
        asked = self._asked_slots.get(job)
        # Asked again where its run left no record: its lock or the state refused, and the slot is not done.
        is_open = asked == slot and not self._lanes.holds(job)
        if asked is None or asked.due_at < slot.due_at or is_open:
            self._asked_slots[job] = slot
            self._lanes.ask(Request(job, trigger, slot.key))

    async def catch_up(self) -> None:
        """Ask for one run of every job whose latest slot has passed without one."""
        jobs, now = planned(self._app.settings.schedule), self._time.now()

        def missed() -> list[tuple[Job, Slot]]:
            with self._app.store.read() as reading:
                return due(jobs, now, reading.slot_done)

        try:
            found = await in_thread(missed, "catch-up")
        except BoundaryError as error:
            self._log.warning("catch_up_failed", error=str(error))
            return
        for job, slot in found:
            self.on_due(job.name, slot, "catch_up")

    def on_change(self, job: str, paths: set[Path]) -> None:
        """Files of a folder changed that wakes a job."""
        if job == "silver":
            self._on_bronze()
            return
        if job == "rollout":  # its own files are among those: it is asked whether they say anything new
            self._lanes.ask_or_put_off(Request(job, "watcher", if_waiting=True))
            return
        ours = all(path.name.endswith(layout.OWN_SILVER_SUFFIX) for path in paths)
        # While our own run writes silver, nobody else's does, and when it ends the lane asks for the collection.
        if not (ours and {"silver", "medallion"} & set(self._lanes.running)):
            self._lanes.ask_or_put_off(Request(job, "watcher", if_waiting=ours))

    def beat(self) -> None:
        """Ask for what waits, and for what failed and has no time of its own."""
        scheduled = {job.name for job in planned(self._app.settings.schedule)}
        for job in WAITS.keys() - {"silver"}:  # bronze that grows is the watcher's business
            if job not in scheduled or not self._lanes.has_failed(job):  # that waits for its next time
                self._lanes.ask(Request(job, "heartbeat", if_waiting=True))
        for request in self._lanes.take_put_off():  # unless something came since
            self._lanes.ask(request._replace(trigger="heartbeat"))
        if self._bronze_put_off or self._lanes.has_failed("silver"):  # no slot of the schedule tries that again
            self._bronze_put_off = False
            self._ask_for_silver("heartbeat")

    def _on_bronze(self) -> None:
        """Ask for a silver run once bronze has been quiet, or has grown for long."""
        if self._lanes.has_failed("silver"):
            # Tried again by the heartbeat, not at each growth: a fleet writes many times a second. Noted, as a run that
            # goes well just now may have passed this growth over.
            self._bronze_put_off = True
            return
        loop, debounce_s = asyncio.get_running_loop(), self._app.settings.medallion.follow_debounce_ms / 1_000
        if self._bronze_since is None:
            self._bronze_since = loop.time()
        if self._bronze_timer is not None:
            self._bronze_timer.cancel()
        at = min(loop.time() + debounce_s, self._bronze_since + _DEBOUNCES * debounce_s)
        self._bronze_timer = loop.call_at(at, self._bronze_is_quiet)

    def _bronze_is_quiet(self) -> None:
        self._bronze_timer = self._bronze_since = None
        self._ask_for_silver("watcher")

    def _ask_for_silver(self, trigger: str) -> None:
        # Without follow_bronze only while a test runs, whose outcomes are wanted as they come.
        self._lanes.ask(Request("silver", trigger, if_waiting=not self._app.settings.medallion.follow_bronze))
