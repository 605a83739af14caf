"""Rollout in a daemon of its own process: what it hears of, and what it does about it at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rollout_support import CHAMPION, MASTER, MODEL, USUAL, Town
from support import events

from cortex_autolearn.model import instants, layout
from cortex_autolearn.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TEST = f"{MASTER}-{MODEL}"
SERVE = (
    "import sys; from pathlib import Path; from cortex_autolearn.daemon import serve\n"
    "sys.exit(serve(Path(sys.argv[1])))"
)


@contextmanager
def daemon(root: Path, **settings: str) -> Iterator[None]:
    """Run a daemon over a ROOT."""
    names = {f"CORTEX_AUTOLEARN__{key.upper()}": value for key, value in settings.items()}
    command = [sys.executable, "-c", SERVE, str(root)]
    with (root / "stderr").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **names}, stderr=log, stdout=log)
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(30) == 0, (root / "stderr").read_text()[-2_000:]


def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def under_test(root: Path) -> None:
    """Leave a ROOT in which a test has begun just now."""
    with Town(root, clock=FakeClock(datetime.now(UTC))) as one:
        one.clock.step(-4 * 86_400)
        one.past(tasks=40)
        one.add_model()
        one.skills[MODEL] = USUAL
        one.run()
        one.clock.step((datetime.now(UTC) - one.clock.now()).total_seconds())
        one.run()
        assert one.phase() == "testing"


def test_a_daemon_hears_of_tasks_results_and_a_stop_by_hand(tmp_path: Path) -> None:
    """During a test bronze is refined as it grows, whatever is configured; results and stops are heard of at once."""
    under_test(tmp_path)
    path = tmp_path / layout.test_file(TEST)

    def completed() -> int:
        return sum(json.loads(path.read_bytes())["metrics"]["tasks_completed"].values())

    with daemon(tmp_path, medallion__follow_bronze="false", daemon__heartbeat_s="60"):
        until((tmp_path / layout.EVENTS).exists, "the events")
        until(lambda: any(one["event"] == "daemon_started" for one in events(tmp_path)), "the daemon")
        at = instants.to_text(datetime.now(UTC))
        task = {"task_id": "t-1", "master": MASTER, "status": "completed", "created_at": at, "completed_at": at}
        with (tmp_path / layout.BRONZE / "new.jsonl").open("a") as file:
            file.write(json.dumps(task) + "\n")
        until(lambda: completed() == 1, "the task")
        results = tmp_path / layout.results_file(TEST)
        results.parent.mkdir(parents=True, exist_ok=True)
        result = {"test_id": TEST, "task_id": "r-1", "variant": "b", "status": "completed", "timestamp": at}
        results.write_text(json.dumps(result, indent=2) + "\n")
        until(lambda: completed() == 2, "the result")
        document = json.loads(path.read_bytes()) | {"status": "completed", "winner": "a"}
        path.write_text(json.dumps(document))
        until(lambda: any(one["event"] == "manual_decision" for one in events(tmp_path)), "the stop")
        routes = tmp_path / layout.ROUTES

        def serves() -> tuple[Any, Any]:
            route = json.loads(routes.read_bytes())["masters"][MASTER]
            return route["champion"]["version"], route["challenger"]

        until(lambda: serves() == (CHAMPION, None), "the champion to have all tasks")
