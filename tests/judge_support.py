"""Shared by the tests of scoring: a ROOT whose tasks lack scores, and whoever judges them."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from anthropic_rules import KEY
from support import Handle, Rooms, good

from cortex_autolearn.adapters import rubrics
from cortex_autolearn.adapters.claude.judge import ClaudeJudge
from cortex_autolearn.adapters.claude.patience import Patience
from cortex_autolearn.collect.score import NOT_TESTED
from cortex_autolearn.collect.scoring import Scorer
from cortex_autolearn.model.judge_policy import JudgePolicy
from cortex_autolearn.model.judging import Score
from cortex_autolearn.model.policy import GatePolicy
from cortex_autolearn.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cortex_autolearn.ports import Judge

PRICES = tuple(msgspec.structs.replace(row, since="2025-01-01") for row in JudgePolicy().prices)
"""The prices of the settings, also for the days on which tests play."""
SOON = Patience(tries=4, total_s=5.0, first_s=0.01, most_s=0.02)


@dataclass
class Run(Handle):
    """The run that scoring is part of."""

    ending: Callable[[], bool] = lambda: False

    def is_ending(self) -> bool:
        return self.ending()


class Desk(Rooms):
    """Rooms over one ROOT with scoring.

    Arguments:
        root: the ROOT.
        judge: makes who judges; None where there is no key.
        under_test: the masters under test, and since when.
        policy: fields of the ``[judge]`` section.
    """

    def __init__(
        self,
        root: Path,
        judge: Callable[[], Judge] | None = None,
        *,
        gate: GatePolicy | None = None,
        clock: FakeClock | None = None,
        under_test: Mapping[str, int] = NOT_TESTED,
        **policy: Any,
    ) -> None:
        super().__init__(root, gate=gate, clock=clock)
        self.gate = gate or GatePolicy()
        self.judge = judge
        self.under_test = under_test
        self.judge_policy = JudgePolicy(**{"daily_usd": 100, "monthly_usd": 100, "prices": PRICES, **policy})

    def __enter__(self) -> Desk:
        return self

    def score(self, run: Run | None = None, **options: Any) -> dict[str, Any]:
        """Run scoring once; returns its counts."""
        return self.scorer.run(run or Run(), **options).as_dict()

    @property
    def scorer(self) -> Scorer:
        return Scorer(
            self.store,
            self.tree,
            self.clock,
            self.gate,
            self.judge_policy,
            partial(rubrics.load, self.judge_policy, self.root),
            self.readers,
            self.judge,
            lambda: self.under_test,
        )

    def settle(self) -> dict[str, Any]:
        """Refine and collect what is new."""
        self.follow()
        return self.collect()

    def scores(self) -> dict[str, Score]:
        """Return what was scored."""
        with self.store.read() as reading:
            rows = reading.connection.execute("SELECT * FROM scores").fetchall()
        return {row[0]: Score._make(row) for row in rows}

    def queue(self) -> dict[str, tuple[str, int, str]]:
        """Return each task of the queue with its state, attempts and reason."""
        with self.store.read() as reading:
            rows = reading.connection.execute("SELECT task_id, state, attempts, reason FROM judge_queue").fetchall()
        return {row[0]: row[1:] for row in rows}

    def spent(self) -> Counter[str]:
        """Return the sums of what was spent."""
        with self.store.read() as reading:
            return Counter(reading.spend_total()._asdict())


def unscored(task_id: Any = "t1", **changes: Any) -> dict[str, Any]:
    """Return a record that lacks only a score."""
    return good(task_id, **{"quality_score": ..., **changes})


def work(root: Path, clock: FakeClock, url: str, rounds: int, **policy: Any) -> None:
    """Refine, collect and score on a ROOT, as a daemon does; the key tells the server who asks."""
    with Desk(root, claude_at(url, f"{KEY}-{os.getpid()}"), clock=clock, **policy) as desk:
        desk.settle()
        for _ in range(rounds):
            desk.score()
            desk.collect()


def claude_at(url: str, key: str = KEY) -> Callable[[], Judge]:
    """Return what makes Claude the judge, at a loopback address."""
    return lambda: ClaudeJudge(key, url, patience=SOON)
