"""Recorded outcomes put through the evidence and the decision as if they arrived live.

A row is assigned by hash like a task; it counts when its model is the one its task is assigned to. So a file may hold
each task once, as it was routed, or the same tasks done by both models. Reading the files is the command's business.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cortex_autolearn.assignment import id_bytes, variant
from cortex_autolearn.model import instants
from cortex_autolearn.model.records import CANCELLED, COMPLETED, FINAL_STATUSES
from cortex_autolearn.model.rollout import Continue, Decision, Invalid, Outcome, score_or_none, seconds_or_none
from cortex_autolearn.rollout.baseline import Baseline
from cortex_autolearn.rollout.decide import decide
from cortex_autolearn.rollout.evidence import Evidence
from cortex_autolearn.rollout.scorecard import card
from cortex_autolearn.rollout.tasks import rank

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cortex_autolearn.model.records import Canonical
    from cortex_autolearn.model.rollout_policy import RolloutPolicy

DEFAULT_PERCENTAGE: Final = 10
"""Where the policy says ``auto``: a file has no traffic."""


class Question(NamedTuple):
    """What is asked of a recording: two models by name, the challenger's percentage, of one master or of all."""

    champion: str
    challenger: str
    percentage: float
    master: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a replay: the decision, what was left out and why, and the order that was taken."""

    decision: Decision
    rows: dict[str, int]
    order: str

    def as_dict(self, question: Question) -> dict[str, Any]:
        """Return it as it is printed."""
        shown = card(self.decision, (question.champion, question.challenger))
        return shown | {"rows": self.rows, "order": self.order}


class _Row(NamedTuple):
    """What is kept of a row that counts; ``done_us`` is None where it does not say when it completed."""

    treated: bool
    assigned_us: int
    done_us: int | None
    completed: bool
    quality: float | None
    duration_s: float | None


@dataclass(slots=True)
class Recording:
    """Rows of recorded outcomes, as they are read."""

    question: Question
    models: Counter[str] = field(default_factory=Counter)
    """Rows of each model, whatever became of them."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows that do not count, by reason."""
    _kept: dict[bytes, _Row] = field(default_factory=dict)
    _all_dated: bool = True

    def add(self, task: Canonical) -> None:
        """Take in a row."""
        reason = self._add(task)
        if reason:
            self.left_out[reason] += 1

    def replay(self, policy: RolloutPolicy) -> Answer:
        """Return what is decided, and after how many tasks."""
        rows = {"counted": len(self._kept)} | dict(sorted(self.left_out.items()))
        order = "completed_at" if self._all_dated else "sha256"
        return Answer(self._decided(policy), rows, order)

    def _add(self, task: Canonical) -> str:
        asked = self.question
        if task.model is not None:
            self.models[task.model] += 1
        if task.status not in FINAL_STATUSES:
            return "not_final"
        if task.status == CANCELLED:  # it says nothing about the model
            return "cancelled"
        if asked.master is not None and task.master != asked.master:
            return "other_master"
        if task.model not in {asked.champion, asked.challenger}:
            return "other_model"
        treated = task.model == asked.challenger
        # A challenger's try that the champion rescued is the challenger's failure.
        rescued = not treated and _was_tried(task, asked.challenger)
        done_us = None if task.completed_at is None else instants.to_us(task.completed_at)
        self._all_dated = self._all_dated and done_us is not None
        is_assigned = variant(task.task_id, 100 - asked.percentage) == "b"
        if is_assigned != (treated or rescued):
            return "other_variant"
        row = _Row(
            is_assigned,
            _assigned_us(task, done_us or 0),
            done_us,
            task.status == COMPLETED and not rescued,
            score_or_none(task.quality_score),
            seconds_or_none(task.duration_seconds),
        )
        return self._keep(sha256(id_bytes(task.task_id)).digest(), row)

    def _keep(self, digest: bytes, row: _Row) -> str:
        before = self._kept.get(digest)
        if before is None:
            self._kept[digest] = row
            return ""
        if rank(self._outcome(digest, row)) > rank(self._outcome(digest, before)):
            self._kept[digest] = row
        return "repeated"

    def _outcome(self, digest: bytes, row: _Row) -> Outcome:
        return Outcome(
            digest.hex(),
            row.treated,
            self.question.percentage / 100,
            row.assigned_us,
            row.done_us or 0,
            row.completed,
            row.quality,
            row.duration_s,
        )

    def _ordered(self) -> Iterator[Outcome]:
        """Yield the outcomes in their order; without times a microsecond apart."""
        if self._all_dated:
            for digest in sorted(self._kept, key=lambda one: (self._kept[one].done_us or 0, one)):
                yield self._outcome(digest, self._kept[digest])
            return
        for number, digest in enumerate(sorted(self._kept)):
            yield self._outcome(digest, self._kept[digest])._replace(assigned_us=number, at_us=number)

    def _decided(self, policy: RolloutPolicy) -> Decision:
        """Return the first decision that ends the test; else the alarm that rang first; else to continue."""
        evidence = Evidence(Baseline(), policy)
        held: Invalid | None = None
        for elapsed_s in self._looks(evidence):
            decision = decide(evidence.numbers(), policy, elapsed_s=elapsed_s)
            if isinstance(decision, Invalid):
                held = held or decision
            elif not isinstance(decision, Continue):
                return decision
        return held or decide(evidence.numbers(), policy, elapsed_s=0)

    def _looks(self, evidence: Evidence) -> Iterator[float]:
        """Let the outcomes arrive and the windows close; yield the seconds since the first outcome at each look."""
        start_us: int | None = None
        elapsed_s = 0.0
        for outcome in self._ordered():
            start_us = outcome.at_us if start_us is None else start_us
            elapsed_s = (outcome.at_us - start_us) / instants.SECOND_US if self._all_dated else 0.0
            # An outcome of the very instant in which its window ends is in time.
            for end_us in _closings(evidence, outcome.at_us - 1):
                yield (end_us - start_us) / instants.SECOND_US if self._all_dated else 0.0
            evidence.observe(outcome)
            yield elapsed_s
        last_us = evidence.last_closing_us
        if last_us is not None:
            for _ in evidence.closing(last_us):
                yield elapsed_s


def _closings(evidence: Evidence, until_us: int) -> Iterator[int]:
    """Close the windows that end by then, and yield when each did: that is when somebody would have looked."""
    while (end_us := evidence.next_closing_us) is not None and end_us <= until_us:
        for _ in evidence.closing(end_us):
            yield end_us


def _was_tried(task: Canonical, challenger: str) -> bool:
    """Tell whether a record of the champion's shows that the challenger was tried first (FORMATS, "A/B test").

    The letter of another test, in which the champion may itself have been ``b``, shows nothing.
    """
    if challenger in {task.fallback_from, task.variant}:
        return True
    if task.variant is None or task.variant.strip().lower() != "b":
        return False
    return task.experiment is None or re.fullmatch(rf".+-{re.escape(challenger)}(-\d+)?", task.experiment) is not None


def _assigned_us(task: Canonical, done_us: int) -> int:
    """Return when a task was assigned: when it was created, or else when it began; at the latest its end."""
    began = task.created_at or task.started_at
    return done_us if began is None else min(done_us, instants.to_us(began))
