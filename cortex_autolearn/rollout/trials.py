"""The course of one test: readings in, stored rows and decisions out; between them the evidence that follows them.

It is the same whether it followed the readings or was made from the rows that were stored of it. What a record means is
``outcomes``' business, what the numbers mean ``decide``'s; what is done about a decision ``job``'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import msgspec

from cortex_autolearn.model.experiments import LateRow, TrialRow
from cortex_autolearn.model.instants import SECOND_US
from cortex_autolearn.model.rollout import Continue, Decision, Invalid, Outcome, Pair, WatchDecision
from cortex_autolearn.rollout.baseline import Baseline
from cortex_autolearn.rollout.decide import decide, decide_watch
from cortex_autolearn.rollout.evidence import Evidence
from cortex_autolearn.rollout.outcomes import Assigned, Finished, Unrouted, Void, probability
from cortex_autolearn.rollout.tasks import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from cortex_autolearn.model.experiments import Experiment
    from cortex_autolearn.model.rollout import Arm
    from cortex_autolearn.rollout.outcomes import Reading


class Course:
    """A test or watch with its evidence.

    Arguments:
        test: the test as it is stored.
        rows: its tasks as they are stored.
    """

    def __init__(self, test: Experiment, rows: Iterable[TrialRow]) -> None:
        self.test = test
        self._brought: dict[str, tuple[float | None, float | None]] = {}
        self._touched: set[str] = set()
        baseline = Baseline(**test.baseline)
        self.evidence = Evidence.of(baseline, test.policy, self._entries(rows), test.alarms)

    def take(self, reading: Reading) -> None:
        """Follow one reading."""
        match reading:
            case Assigned(task_id, treated, at_us):
                self._assign(task_id, treated, at_us)
            case Finished(outcome, own_quality, cost_usd):
                entry = self.evidence.entry(outcome.task_id)
                if entry is not None and entry.treated != outcome.treated:
                    self._other_answered(outcome.task_id, outcome.treated, outcome.assigned_us)
                else:
                    self._finish(outcome, own_quality, cost_usd)
            case Unrouted(task_id, treated, at_us):
                self._other_answered(task_id, treated, at_us)
            case Void(task_id):
                self.evidence.void(task_id)
                self._touched.add(task_id)
            case _:
                assert_never(reading)

    def rescore(self, task_id: str, quality: float | None) -> None:
        """Give a task's outcome the score that counts now."""
        self.evidence.rescore(task_id, quality)
        self._touched.add(task_id)

    def closing(self, now_us: int) -> Iterator[None]:
        """Close the windows that have ended, one by one; look after each."""
        for task_id in self.evidence.closing(now_us):
            self._touched.add(task_id)
            yield

    def decision(self, now_us: int) -> Decision | WatchDecision:
        """Return what follows from the numbers as they stand."""
        look = decide if self.test.kind == "test" else decide_watch
        return look(self.evidence.numbers(), self.test.policy, elapsed_s=self.elapsed_s(now_us))

    def elapsed_s(self, now_us: int) -> float:
        """Return the seconds since the test began, its pauses not counted."""
        paused_us = sum((now_us if one.until_us is None else one.until_us) - one.from_us for one in self.test.pauses)
        return (now_us - self.test.started_us - paused_us) / SECOND_US

    def changed_rows(self) -> list[TrialRow]:
        """Return the rows that are to be stored, of the tasks that changed since the last time."""
        entries = [self.evidence.entry(task_id) for task_id in sorted(self._touched)]
        self._touched.clear()
        return [self._row(entry) for entry in entries if entry is not None]

    def stored(self, now_us: int, **changes: object) -> Experiment:
        """Return the test as it is to be stored, with other changes besides."""
        numbers = self.evidence.numbers()
        self.test = msgspec.structs.replace(
            self.test,
            alarms=tuple(sorted(numbers.alarms)),
            metrics=metrics(self.test, numbers.arrived, numbers.assigned),
            closing_us=self.evidence.next_closing_us,
            revision=self.test.revision + 1,
            looked_us=now_us,
            **changes,
        )
        return self.test

    def _assign(self, task_id: str, treated: bool, at_us: int) -> None:  # noqa: FBT001 - a formula's G
        self.evidence.assigned(task_id, treated=treated, probability=probability(self.test), at_us=at_us)
        self._touched.add(task_id)

    def _other_answered(self, task_id: str, treated: bool, at_us: int) -> None:  # noqa: FBT001 - as above
        """Note that the other model answered a task: what was first seen is the assignment, whatever is told later."""
        self._assign(task_id, treated, at_us)
        self.evidence.unrouted(task_id)
        self.evidence.void(task_id)  # the other model's are no alarm, and no outcome either

    def _finish(self, outcome: Outcome, own_quality: float | None, cost_usd: float | None) -> None:
        self.evidence.observe(outcome)
        entry = self.evidence.entry(outcome.task_id)
        before = self._brought.get(outcome.task_id, (None, None))
        stands = entry is not None and entry.outcome == outcome
        self._brought[outcome.task_id] = (
            own_quality if stands else before[0],
            before[1] if cost_usd is None else cost_usd,
        )
        self._touched.add(outcome.task_id)

    def _entries(self, rows: Iterable[TrialRow]) -> Iterator[Entry]:
        for row in rows:
            if row.own_quality is not None or row.cost_usd is not None:
                self._brought[row.task_id] = (row.own_quality, row.cost_usd)
            yield Entry(
                row.task_id,
                row.treated,
                row.probability,
                row.assigned_us,
                _outcome(row),
                row.first_us,
                row.arrival,
                row.closed,
                row.unrouted,
                row.void,
            )

    def _row(self, entry: Entry) -> TrialRow:
        one = entry.outcome
        own_quality, cost_usd = self._brought.get(entry.task_id, (None, None))
        return TrialRow(
            task_id=entry.task_id,
            treated=entry.treated,
            probability=entry.probability,
            assigned_us=entry.assigned_us,
            at_us=None if one is None else one.at_us,
            completed=None if one is None else one.completed,
            quality=None if one is None else one.quality,
            own_quality=own_quality,
            duration_s=None if one is None else one.duration_s,
            from_results=None if one is None else one.from_results,
            cost_usd=cost_usd,
            first_us=entry.first_us,
            arrival=entry.arrival,
            closed=entry.closed,
            unrouted=entry.unrouted,
            void=entry.void,
        )


def ends(decision: Decision | WatchDecision) -> bool:
    """Tell whether a decision ends its test."""
    return not isinstance(decision, Continue | Invalid)


def metrics(test: Experiment, arrived: Pair, assigned: tuple[int, int]) -> dict[str, dict[str, Any]]:
    """Return what the test's file shows of its variants; 0 where nothing was measured, as the shell writes it."""
    names = ("b", "a") if test.treated == "a" else ("a", "b")
    arms: dict[str, Arm] = dict(sorted(zip(names, (arrived.control, arrived.treated), strict=True)))
    return {
        "tasks_assigned": dict(sorted(zip(names, assigned, strict=True))),
        "tasks_completed": {name: arm.completed for name, arm in arms.items()},
        "tasks_failed": {name: arm.tasks - arm.completed for name, arm in arms.items()},
        "avg_duration": {name: round(arm.duration_s or 0, 3) for name, arm in arms.items()},
        "avg_quality_score": {name: round(arm.quality or 0, 3) for name, arm in arms.items()},
    }


def late_row(outcome: Outcome) -> LateRow:
    """Return how an outcome is kept that came when its test had ended."""
    return LateRow(
        outcome.task_id,
        outcome.treated,
        outcome.at_us,
        outcome.completed,
        outcome.quality,
        outcome.duration_s,
        outcome.from_results,
    )


def _outcome(row: TrialRow) -> Outcome | None:
    if row.at_us is None:
        return None
    return Outcome(
        row.task_id,
        row.treated,
        row.probability,
        row.assigned_us,
        row.at_us,
        bool(row.completed),
        row.quality,
        row.duration_s,
        bool(row.from_results),
    )
