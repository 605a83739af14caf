"""The fleet of the soak: asks the router, records its tasks beside Cortex's scripts, and notes what must be collected.

``python tests/benchmarks/soak_fleet.py ROOT JOURNAL --per-second R --seconds S [--seed N]``

A process of its own, as the agents are. Each line of the journal tells when a record that decides about a task was
written (seconds of the machine's monotonic clock) and whether it passes; ``soak`` compares that with what is collected.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import measure

from cortex_autolearn import Router, record
from cortex_autolearn.model.choice import Choice

MASTERS = ("security-master", "development-master", "inventory-master", "cicd-master", "coordinator-master")
MEAN_TASK_S = 2.0
ENDINGS: tuple[tuple[float, dict[str, Any]], ...] = (
    (70, {}),
    (10, {"quality_score": 2.5}),
    (8, {"status": "failed", "error": "the tests did not pass"}),
    (5, {"quality_score": None}),
    (4, {"retry_count": 1}),
    (3, {"output": "OK"}),
)
"""How tasks end, by weight; only the first passes the rule."""
WORDS = (
    "login upload retry ledger cursor cache session queue report filter token invoice search image price order "
    "deploy rollback schema index shard quota alert probe backup restore tunnel mirror parser cart stock audit"
).split()
BROKEN = (
    b'{"task_id": "torn", "status": "comple\n',
    b'{"task_id": "x", "status": "completed", }\n',
    b'{"task_id": "x", "load": NaN}\n',
    b"curl: (28) operation timed out\n",
    b'{"status": "completed", "output": "whose this was is not said"}\n',
)
DUPLICATES, REGRADED, SPOILT, BY_SCRIPTS, BY_CORTEX = 0.03, 0.02, 0.03, 0.10, 0.05
"""Shares of all tasks: delivered twice, scored down later, with a broken line before, written by scripts, or only in
silver of Cortex's own."""


def main() -> None:
    """Work until the time is over and every task has ended; print what was done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("journal", type=Path)
    parser.add_argument("--per-second", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with options.journal.open("a", buffering=1) as journal:
        fleet = Fleet(options.root, random.Random(options.seed), journal.write)
        fleet.work(options.per_second, options.seconds)
    print(json.dumps(fleet.counts | {"choose_max_us": round(fleet.slowest_s * 1e6)}))


@dataclass
class Task:
    """One task on its way."""

    task_id: str
    master: str
    choice: Choice
    ending: dict[str, Any]
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Fleet:
    """Five masters that get tasks at random."""

    def __init__(self, root: Path, draw: random.Random, note: Callable[[str], object]) -> None:
        self.root = root
        self.counts: Counter[str] = Counter()
        self.slowest_s = 0.0
        self._draw = draw
        self._note = note
        self._router = Router(root)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._number = 0
        self._silver: list[str] = []

    def work(self, per_second: float, seconds: float) -> None:
        """Begin tasks for so long, and end them all."""
        until = time.monotonic() + seconds
        begins = time.monotonic()
        while begins < until or self._due:
            now = time.monotonic()
            if begins <= now < until:
                self._begin()
                begins += self._draw.expovariate(per_second)
            elif self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()
            else:
                begins = begins if now < until else until
                wanted = [begins] if begins < until else []
                wanted += [self._due[0][0]] if self._due else []
                time.sleep(max(0.0, min(wanted, default=now) - now))

    def _begin(self) -> None:
        self._number += 1
        task_id, master = f"soak-{self._number:07}", self._draw.choice(MASTERS)
        began = time.perf_counter()
        choice = self._router.choose(master, task_id)
        self.slowest_s = max(self.slowest_s, time.perf_counter() - began)
        self.counts["tasks"] += 1
        self.counts[f"served by {choice.version}"] += 1
        endings, weights = [one for _, one in ENDINGS], [weight for weight, _ in ENDINGS]
        task = Task(task_id, master, choice, self._draw.choices(endings, weights)[0])
        choice.request(system=f"You are the {master}.", input=_question(task))  # what the model would be asked
        if self._draw.random() < BY_CORTEX:
            self._soon(MEAN_TASK_S, lambda: self._by_cortex(task))
            return
        self._record(task, status="running")
        self._soon(MEAN_TASK_S, lambda: self._end(task))

    def _end(self, task: Task) -> None:
        fields = self._outcome(task)
        if self._draw.random() < SPOILT:
            self._append("scripts", self._draw.choice(BROKEN))
            self.counts["broken"] += 1
        if self._draw.random() < BY_SCRIPTS:
            self._by_script(task, fields)
        else:
            self._record(task, **fields)
        passes = not task.ending
        self._tell(task, passes=passes)
        if self._draw.random() < DUPLICATES:
            self._soon(5, lambda: self._again(task, fields))
        elif passes and self._draw.random() < REGRADED:
            self._soon(10, lambda: self._regrade(task, fields))

    def _outcome(self, task: Task) -> dict[str, Any]:
        length = min(6_000, 200 + int(self._draw.expovariate(1 / 1_000)))
        return {
            "status": "completed",
            "output": ("The change is in place and its tests pass. " * (length // 43 + 1))[:length],
            "quality_score": round(self._draw.uniform(4.0, 5.0), 1),
            "duration_seconds": round(self._draw.uniform(15, 400), 1),
            "completed_at": datetime.now(UTC),
        } | task.ending

    def _again(self, task: Task, fields: dict[str, Any]) -> None:
        self._record(task, **fields)
        self.counts["duplicates"] += 1

    def _regrade(self, task: Task, fields: dict[str, Any]) -> None:
        self._record(task, **fields | {"quality_score": 1.5, "completed_at": datetime.now(UTC)})
        self._tell(task, passes=False)
        self.counts["regraded"] += 1

    def _by_script(self, task: Task, fields: dict[str, Any]) -> None:
        """As jq writes it without ``-c``: one record over many lines."""
        self._append("scripts", json.dumps(self._whole(task, fields), indent=2).encode() + b"\n")
        self.counts["by scripts"] += 1

    def _by_cortex(self, task: Task) -> None:
        """As Cortex's own script does: the day's silver is written anew with one line more."""
        self._silver.append(json.dumps(self._whole(task, self._outcome(task))) + "\n")
        folder = self.root / measure.PROCESSED_TASKS
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{datetime.now(UTC):%Y%m%d}.jsonl").write_text("".join(self._silver))
        self._tell(task, passes=not task.ending)
        self.counts["silver of Cortex's"] += 1

    def _whole(self, task: Task, fields: dict[str, Any]) -> dict[str, Any]:
        whole = {"task_id": task.task_id, "master": task.master, "input": _question(task)} | fields
        whole |= {"created_at": task.created_at, "model": task.choice.version, "variant": task.choice.variant}
        return {name: str(one) if isinstance(one, datetime) else one for name, one in whole.items()}

    def _record(self, task: Task, **fields: Any) -> None:
        known: dict[str, Any] = {"input": _question(task), "created_at": task.created_at, "choice": task.choice}
        record(self.root, task_id=task.task_id, master=task.master, **known, **fields)
        self.counts["recorded"] += 1

    def _append(self, name: str, data: bytes) -> None:
        path = self.root / measure.RAW_TASKS / f"{name}-{datetime.now(UTC):%Y%m%d}.jsonl"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(file, data)
        finally:
            os.close(file)

    def _soon(self, mean_s: float, what: Callable[[], None]) -> None:
        due = time.monotonic() + min(5 * mean_s, self._draw.expovariate(1 / mean_s))
        heapq.heappush(self._due, (due, next(self._order), what))

    def _tell(self, task: Task, *, passes: bool) -> None:
        self._note(json.dumps({"task_id": task.task_id, "at": time.monotonic(), "passes": passes}) + "\n")


def _question(task: Task) -> str:
    words = random.Random(task.task_id).sample(WORDS, 12)  # unlike any other's: what is alike is trained on once
    return f"{task.master}: look into {task.task_id}: {' '.join(words)}"


if __name__ == "__main__":
    main()
