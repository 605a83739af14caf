"""What the outcomes of a test amount to: evidence that follows them one by one, and nothing but them.

Every number here is a sum over tasks that is kept exactly, so that a task can be counted out and in again, and so that
evidence computed from stored entries is equal, to the last bit, to evidence that followed the outcomes. Only two things
remember the order: an alarm that rang stays rung, and failures in a row are counted in the order of arrival.

Which outcome stands for a task is ``tasks``' business, the formulas are ``wealth``'s; what follows from the numbers is
``decide``'s.
"""

from __future__ import annotations

from collections import Counter
from heapq import heapify, heappop, heappush
from math import log
from typing import TYPE_CHECKING, Final

from cortex_autolearn.model.instants import SECOND_US
from cortex_autolearn.model.rollout import SCORES, Numbers, Outcome
from cortex_autolearn.rollout.baseline import Baseline, Past, speed
from cortex_autolearn.rollout.tally import Tally, pair
from cortex_autolearn.rollout.tasks import Entry, Task
from cortex_autolearn.rollout.wealth import Range, Split, Wealth

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cortex_autolearn.model.rollout_policy import RolloutPolicy

SPLIT: Final = "split"
SCORED: Final = "scored"
UNROUTED: Final = "unrouted"


class Evidence:
    """The evidence of one test or watch, as it stands.

    Arguments:
        baseline: the champion before the test.
        policy: the window of a task, and the bars of the alarms. A window of 0 closes with the outcome.
    """

    def __init__(self, baseline: Baseline, policy: RolloutPolicy) -> None:
        self._baseline = baseline
        self._policy = policy
        self._window_us = policy.maturation_s * SECOND_US
        hangs = 100 * baseline.vanished > policy.patient_above_percent * baseline.tasks
        self._patient = hangs and self._window_us > 0
        self._tasks: dict[str, Task] = {}
        self._open: list[tuple[int, str]] = []
        self._arrivals: list[str] = []
        self._unrouted = 0
        self._alarms: set[str] = set()
        self._in_a_row = 0
        self._control_since = [0, 0]
        self._assigned = Split()
        self._recorded = Split()
        self._closed = (Tally(), Tally())
        self._arrived = (Tally(), Tally())
        share = {
            name: Range(0.0, 1.0, getattr(baseline, name)) for name in ("completion", "speed", "scored", "returned")
        }
        scores = Range(*SCORES, baseline.quality)
        self._completion_up = Wealth(share["completion"], up=True)
        self._completion_down = Wealth(share["completion"], up=False)
        self._quality_up = Wealth(scores, up=True)
        self._quality_down = Wealth(scores, up=False)
        self._duration_down = Wealth(share["speed"], up=False)
        self._returned_down = Wealth(share["returned"], up=False)
        self._scored_up = Wealth(share["scored"], up=True)
        self._scored_down = Wealth(share["scored"], up=False)

    @classmethod
    def of(
        cls, baseline: Baseline, policy: RolloutPolicy, entries: Iterable[Entry], alarms: Iterable[str] = ()
    ) -> Evidence:
        """Compute the evidence anew from what is stored: the same numbers as those of the one that was followed."""
        evidence = cls(baseline, policy)
        evidence._take(entries)
        evidence._alarms |= set(alarms)
        evidence._ring()
        return evidence

    def entries(self) -> Iterator[Entry]:
        """Yield what is to be stored, task by task."""
        return (task.entry(task_id) for task_id, task in self._tasks.items())

    def entry(self, task_id: str) -> Entry | None:
        """Return what is to be stored of one task; None for one that was never seen."""
        task = self._tasks.get(task_id)
        return None if task is None else task.entry(task_id)

    def assigned(self, task_id: str, *, treated: bool, probability: float, at_us: int) -> None:
        """Note that a task was seen assigned. What was noted first stands, but for an earlier time."""
        self._task(task_id, treated, probability, at_us)
        self._ring()

    def observe(self, outcome: Outcome) -> None:
        """Take in an outcome; one that does not stand, or stands already, changes nothing."""
        task = self._task(outcome.task_id, outcome.treated, outcome.probability, outcome.assigned_us)
        if outcome == task.outcome:
            return
        if task.outcome is None:
            self._recorded.put(task.treated, task.probability)
            self._unrouted -= task.unrouted
            if task.has_none and self._window_us > 0:  # its window may have been passed over
                heappush(self._open, (task.assigned_us + self._window_us, outcome.task_id))
        self._count(task, -1)
        before = task.standing(self._window_us)
        task.take(outcome)
        task.closed = task.closed or self._window_us == 0 or task.is_late(self._window_us)
        self._count(task, 1)
        self._arrive(outcome.task_id, task, before)
        self._ring()

    def rescore(self, task_id: str, quality: float | None) -> None:
        """Give the outcome that stands another score: a judge's that came later, or a person's that overrules it."""
        task = self._tasks.get(task_id)
        if task is None or task.outcome is None:
            return
        self._count(task, -1)
        task.outcome = task.outcome._replace(quality=quality)
        self._count(task, 1)
        self._ring()

    def unrouted(self, task_id: str) -> None:
        """Note that a task of the model on trial was answered by the other one without a try: it is no outcome."""
        task = self._tasks.get(task_id)
        if task is None or task.unrouted or task.closed or not task.treated:
            return
        task.unrouted = True
        self._unrouted += task.outcome is None
        self._ring()

    def void(self, task_id: str) -> None:
        """Note that a task turned out to have no outcome, so that none is missing when its window closes."""
        task = self._tasks.get(task_id)
        if task is not None and not task.closed:
            task.void = True

    def closing(self, now_us: int) -> Iterator[str]:
        """Close the windows that have ended, one by one in their order, and yield each task: look after each."""
        while self._open and self._open[0][0] <= now_us:
            _, task_id = heappop(self._open)
            task = self._tasks[task_id]
            if task.closed or task.has_none:
                continue
            self._count(task, -1)
            before = task.standing(self._window_us)
            task.closed = True
            self._count(task, 1)
            self._arrive(task_id, task, before)
            self._ring()
            yield task_id

    @property
    def next_closing_us(self) -> int | None:
        """When the next window closes; None while none is open."""
        while self._open and self._tasks[self._open[0][1]].closed:
            heappop(self._open)
        return self._open[0][0] if self._open else None

    @property
    def last_closing_us(self) -> int | None:
        """When the last open window closes; None while none is open."""
        ends = [at_us for at_us, task_id in self._open if not self._tasks[task_id].closed]
        return max(ends, default=None)

    def numbers(self) -> Numbers:
        """Return everything a decision looks at."""
        arrived = pair(self._arrived)
        return Numbers(
            closed=pair(self._closed),
            arrived=arrived,
            assigned=self._assigned.counts,
            unrouted=self._unrouted,
            completion_up=self._completion_up.log,
            completion_down=self._completion_down.log,
            quality_up=self._quality_up.log,
            quality_down=self._quality_down.log,
            duration_down=self._duration_down.log,
            returned_down=self._returned_down.log,
            scored_up=self._scored_up.log,
            scored_down=self._scored_down.log,
            ratio_assigned=self._assigned.log,
            ratio_recorded=self._recorded.log,
            failures_in_a_row=self._in_a_row,
            control_since=(self._control_since[0], self._control_since[1]),
            failure_rate=self._baseline.failure_rate(arrived.control),
            baseline_completion=self._baseline.completion,
            alarms=frozenset(self._alarms),
        )

    def values(self, metric: str) -> Counter[tuple[float, bool, float]]:
        """Count the tasks with closed windows by (value, treated, probability); ``completion`` or ``quality``."""
        found: Counter[tuple[float, bool, float]] = Counter()
        for task in self._tasks.values():
            standing = task.standing(self._window_us) if task.closed else None
            if standing is None:
                continue
            value = float(standing.completed) if metric == "completion" else standing.quality
            if value is not None and (metric == "completion" or standing.completed):
                found[value, task.treated, task.probability] += 1
        return found

    def _take(self, entries: Iterable[Entry]) -> None:
        arrived: list[tuple[int, str]] = []
        for entry in entries:
            task = self._tasks[entry.task_id] = Task(entry.treated, entry.probability, entry.assigned_us)
            task.outcome, task.first_us = entry.outcome, entry.first_us
            task.arrival, task.closed, task.unrouted = entry.arrival, entry.closed, entry.unrouted
            task.void = entry.void
            self._assigned.put(task.treated, task.probability)
            if task.outcome is not None:
                self._recorded.put(task.treated, task.probability)
            else:
                self._unrouted += task.unrouted
            if not task.closed and self._window_us > 0:
                self._open.append((task.assigned_us + self._window_us, entry.task_id))
            if task.arrival is not None:
                arrived.append((task.arrival, entry.task_id))
            self._count(task, 1)
        heapify(self._open)
        self._arrivals = [task_id for _, task_id in sorted(arrived)]
        self._recount()

    def _task(self, task_id: str, treated: bool, probability: float, at_us: int) -> Task:  # noqa: FBT001 - hot
        task = self._tasks.get(task_id)
        if task is None:
            assert 0 < probability < 1
            task = self._tasks[task_id] = Task(treated, probability, at_us)
            self._assigned.put(treated, probability)
        elif at_us < task.assigned_us:
            self._count(task, -1)
            before = task.standing(self._window_us)
            task.assigned_us = at_us
            task.closed = task.closed or task.is_late(self._window_us)
            self._count(task, 1)
            self._arrive(task_id, task, before)
        else:
            return task
        if self._window_us > 0:
            heappush(self._open, (at_us + self._window_us, task_id))
        return task

    def _count(self, task: Task, sign: int) -> None:
        """Count a task's part of every sum in, or out again."""
        standing = task.standing(self._window_us)
        if standing is None:
            return
        treated, probability = task.treated, task.probability
        completed, quality, duration_s, _ = standing
        value = 1.0 if completed else 0.0
        self._arrived[treated].put(standing, sign)
        if task.closed or not self._patient:
            self._completion_down.put(value, treated, probability, sign)
        if completed and quality is not None:
            self._quality_down.put(quality, treated, probability, sign)
        if duration_s is not None:
            self._duration_down.put(speed(duration_s), treated, probability, sign)
        if task.closed:
            self._closed[treated].put(standing, sign)
            self._completion_up.put(value, treated, probability, sign)
            self._returned_down.put(1.0 if standing.returned else 0.0, treated, probability, sign)
            if completed:
                # Until then a score may come: one that a judge has not given yet is not missing.
                scored = 0.0 if quality is None else 1.0
                self._scored_up.put(scored, treated, probability, sign)
                self._scored_down.put(scored, treated, probability, sign)
            if completed and quality is not None:
                self._quality_up.put(quality, treated, probability, sign)

    def _arrive(self, task_id: str, task: Task, before: Past | None) -> None:
        """Follow the failures in a row after a task's outcome has changed."""
        now = task.standing(self._window_us)
        if now is None:
            return
        if task.arrival is None:
            task.arrival = len(self._arrivals)
            self._arrivals.append(task_id)
            if not task.treated:
                self._control_since[0] += 1
                self._control_since[1] += not now.completed
            elif now.completed:
                self._in_a_row, self._control_since = 0, [0, 0]
            else:
                self._in_a_row += 1
        elif before is None or before.completed != now.completed:
            self._recount()

    def _recount(self) -> None:
        self._in_a_row, self._control_since = 0, [0, 0]
        for task_id in reversed(self._arrivals):
            task = self._tasks[task_id]
            standing = task.standing(self._window_us)
            assert standing is not None
            if not task.treated:
                self._control_since[0] += 1
                self._control_since[1] += not standing.completed
            elif standing.completed:
                return
            else:
                self._in_a_row += 1

    def _ring(self) -> None:
        """Let the alarms ring that have a reason to; what rang stays rung."""
        policy = self._policy
        # Scores are missing more often in one variant only where some are missing, and both have completed something:
        # else the evidence is the assignment's chance (`b` is 0.9 without a history).
        both = all(one.completed for one in self._closed)
        some = any(one.scored < one.completed for one in self._closed)
        if (
            both
            and some
            and SCORED not in self._alarms
            and max(self._scored_up.log, self._scored_down.log) >= log(policy.scoring_evidence)
        ):
            self._alarms.add(SCORED)
        if SPLIT not in self._alarms and max(self._assigned.log, self._recorded.log) >= log(policy.ratio_evidence):
            self._alarms.add(SPLIT)
        if UNROUTED not in self._alarms:
            seen = self._unrouted + self._recorded.counts[1]
            if seen >= policy.unrouted_min_tasks and 100 * self._unrouted > policy.max_unrouted_percent * seen:
                self._alarms.add(UNROUTED)
