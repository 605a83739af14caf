"""The daemon scores by itself: it asks when tasks lack a score, looks at batches, and wakes the collector."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from anthropic_api import KEY, AnthropicApi
from judge_support import unscored
from support import events, line, objects

from cortex_autolearn.model import layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_S = 30.0
QUICK = {
    "CORTEX_AUTOLEARN__DAEMON__HEARTBEAT_S": "1",
    "CORTEX_AUTOLEARN__JUDGE__POLL_S": "1",
    "CORTEX_AUTOLEARN__JUDGE__BATCH_MIN": "2",
}


@pytest.fixture
def api() -> Iterator[AnthropicApi]:
    with AnthropicApi() as one:
        yield one


@contextmanager
def daemon(root: Path, api: AnthropicApi, key: str = KEY, **judge: str) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon in a process of its own, which has to end well when it is told to."""
    own = {f"CORTEX_AUTOLEARN__JUDGE__{name}": value for name, value in judge.items()}
    environ = os.environ | QUICK | own | {"ANTHROPIC_API_KEY": key, "ANTHROPIC_BASE_URL": api.url}
    command = [sys.executable, "-m", "cortex_autolearn", "run", "--init", "--root", str(root)]
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()


def until(there: Callable[[], Any]) -> None:
    ends_at = time.monotonic() + PATIENCE_S
    while not there():
        assert time.monotonic() < ends_at, "it does not come"
        time.sleep(0.05)


def deliver(root: Path, name: str, *records: dict[str, Any]) -> None:
    path = root / layout.BRONZE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.writelines(map(line, records))


def collected(root: Path) -> set[str]:
    return {one["task_id"] for one in objects(root / layout.OUTCOMES)}


def told(root: Path, kind: str) -> list[dict[str, Any]]:
    return [one for one in events(root) if one["event"] == kind]


def test_what_lacks_a_score_is_scored_and_collected(tmp_path: Path, api: AnthropicApi) -> None:
    """In a batch, which is looked at until it has ended, and then one by one; nobody has to call anything."""
    with daemon(tmp_path, api):
        deliver(tmp_path, "a.jsonl", *[unscored(f"t{n}", output=f"[[score 4.5]] Work {n} is done") for n in range(3)])
        until(lambda: collected(tmp_path) == {"t0", "t1", "t2"})
        deliver(tmp_path, "b.jsonl", unscored("late", output="[[score 5]] The last piece of work is done"))
        until(lambda: "late" in collected(tmp_path))
    assert set(api.paid().values()) == {1}
    assert sum(one["scored"] for one in told(tmp_path, "quality_scored")) == 4
    assert len(api.charges) == 4


def test_a_batch_is_looked_at_at_its_pace(tmp_path: Path, api: AnthropicApi) -> None:
    """Though tasks without a score come all the time, and each collection has them scored: its provider has limits."""
    api.hold = True
    with daemon(tmp_path, api, BATCH_MIN="3", POLL_S="2"):
        deliver(tmp_path, "a.jsonl", *[unscored(f"t{n}", output=f"[[score 4.5]] Work {n} is done") for n in range(3)])
        until(lambda: looks(api))
        began, before = time.monotonic(), len(looks(api))
        for number in range(8):
            name = f"one{number}"
            deliver(tmp_path, "b.jsonl", unscored(name, output=f"[[score 5]] One more piece of work is done: {name}"))
            until(lambda name=name: name in collected(tmp_path))  # type: ignore[misc]
        assert len(looks(api)) - before <= 1 + (time.monotonic() - began) / 1.8
        api.hold = False
        until(lambda: {"t0", "t1", "t2"} <= collected(tmp_path))
    assert set(api.paid().values()) == {1}


def looks(api: AnthropicApi) -> list[dict[str, Any]]:
    return [one for one in api.requests if one["method"] == "GET" and "/batches/" in one["path"]]


def test_a_wrong_key_is_tried_at_its_next_time_only(tmp_path: Path, api: AnthropicApi) -> None:
    """Not at every heartbeat: nothing gets better by itself."""
    deliver(tmp_path, "a.jsonl", unscored("t"))
    with daemon(tmp_path, api, key="sk-wrong"):
        log = tmp_path / layout.LOG
        until(lambda: log.exists() and b'"job_failed"' in log.read_bytes())
        asked = len(api.requests)
        time.sleep(2.5)  # two heartbeats
        assert len(api.requests) == asked <= 2
        assert b"401" in log.read_bytes()
        assert b"sk-wrong" not in log.read_bytes()
