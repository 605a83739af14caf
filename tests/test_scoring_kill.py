"""Scoring killed at any instant: no task is scored or paid for twice, and the books hold at least what was charged.

Real processes with the real client, killed before every call that changes a file, around every commit, and by the
server, once it has a request and once it has done it, before its answer leaves.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from anthropic_api import KEY, AnthropicApi
from judge_support import unscored
from support import Killer, check_state, events, line, objects, quick_folder

from cortex_autolearn.model import layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

TASKS = 5
PRICES = {"claude-haiku-5-5": (0.1, 0.125, 0.2, 0.01, 0.5)}


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    one = Killer()
    yield one
    one.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as path:
        yield path


class Hits:
    """Kills whoever makes the n-th step of a request: it has come in, or it is done and not answered."""

    def __init__(self, die_at: int | None = None) -> None:
        self.made = 0
        self._die_at = die_at

    def __call__(self, step: str, command: str, path: str, headers: Mapping[str, str]) -> None:
        if self.made == self._die_at:
            found = re.search(rf"{re.escape(KEY)}-(\d+)", " ".join(headers.values()))
            assert found is not None
            os.kill(int(found[1]), signal.SIGKILL)
        self.made += 1


def prepare(root: Path) -> None:
    path = root / layout.BRONZE / "a.jsonl"
    path.parent.mkdir(parents=True)
    records = [
        unscored(f"t{number}", output=f"[[score 4.5]] Work {number} was done as asked") for number in range(TASKS)
    ]
    path.write_bytes(b"".join(map(line, records)))


def state(root: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(root / layout.STATE)) as connection:
        return connection.execute(query).fetchall()


def charged(api: AnthropicApi) -> float:
    """Return what the server charged, in millionths of a dollar."""
    total = 0.0
    for charge in api.charges:
        plain, five, hour, read, out = PRICES[charge["model"]]
        usage, kept = charge["usage"], charge["usage"]["cache_creation"]
        amount = usage["input_tokens"] * plain + usage["cache_read_input_tokens"] * read + usage["output_tokens"] * out
        amount += kept["ephemeral_5m_input_tokens"] * five + kept["ephemeral_1h_input_tokens"] * hour
        total += amount / 2 if charge["batch"] else amount
    return total


def check(root: Path, api: AnthropicApi, *, at_most_twice: int) -> None:
    """Check that every task was scored once, and paid for once but for so many that were under way."""
    check_state(root)
    assert state(root, "SELECT count(*), count(DISTINCT task_id), min(overall) FROM scores") == [(TASKS, TASKS, 4.5)]
    assert state(root, "SELECT * FROM judge_queue") == []
    assert len(objects(root / layout.OUTCOMES)) == TASKS
    again = len(api.charges) - TASKS
    assert 0 <= again <= at_most_twice
    # In batches each key stands for one task of the queue.
    batched = Counter(charge["custom_id"].rpartition("-")[2] for charge in api.charges if charge["custom_id"])
    assert set(batched.values()) <= {1}
    ((booked, lost),) = state(root, "SELECT sum(cost), sum(lost) FROM judge_spend")
    assert booked >= charged(api)
    assert lost <= at_most_twice or not at_most_twice
    told = [one for one in events(root) if one["event"] == "budget_reached"]
    assert told == []


BATCHED = {"rounds": 3, "batch_min": 2, "batch_max": 3}
SINGLE = {"rounds": 2, "batch_min": 100, "concurrency": 2}


@pytest.mark.parametrize(("policy", "at_most_twice"), [(BATCHED, 0), (SINGLE, 2)], ids=["in batches", "one by one"])
class TestKilled:
    def test_at_every_call_that_changes_a_file(
        self, killer: Killer, folder: Path, policy: dict[str, Any], at_most_twice: int
    ) -> None:
        """And around every commit: the next run finds what was taken, and asks for nothing that was answered."""
        with AnthropicApi() as api:
            prepare(folder / "undisturbed")
            calls = killer.work(folder / "undisturbed", task="score", url=api.url, **policy)["calls"]
            check(folder / "undisturbed", api, at_most_twice=0)
        assert calls > 30
        for number in range(0, calls, 1 if "AUTOLEARN_SLOW_TESTS" in os.environ else 3):
            root = folder / str(number)
            prepare(root)
            with AnthropicApi() as api:
                assert killer.work(root, task="score", die_at=number, url=api.url, **policy)["died"], number
                killer.work(root, task="score", day=1, url=api.url, **policy)
                check(root, api, at_most_twice=at_most_twice)
            shutil.rmtree(root)

    def test_by_the_server_at_every_step_of_every_request(
        self, killer: Killer, folder: Path, policy: dict[str, Any], at_most_twice: int
    ) -> None:
        """A request that has come in, and one that is done and paid for, but whose answer never left."""
        with AnthropicApi() as api:
            hits = Hits()
            api.hook = hits
            prepare(folder / "undisturbed")
            killer.work(folder / "undisturbed", task="score", url=api.url, **policy)
        assert hits.made >= 8
        for number in range(hits.made):
            root = folder / str(number)
            prepare(root)
            with AnthropicApi() as api:
                api.hook = Hits(number)
                assert killer.work(root, task="score", url=api.url, **policy)["died"], number
                api.hook = Hits()
                # At once, and again a day later: what was never taken may still appear at first.
                killer.work(root, task="score", url=api.url, **policy)
                killer.work(root, task="score", day=1, url=api.url, **policy)
                check(root, api, at_most_twice=at_most_twice)
            shutil.rmtree(root)
