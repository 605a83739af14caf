"""Thousands of tasks that wait lie in memory neither before they are sent nor when their scores come."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import slow

SCRIPT = Path(__file__).parent / "benchmarks" / "judging.py"
BAR_MB = 40


def measure(count: int) -> dict[str, float]:
    command = [sys.executable, str(SCRIPT), "--tasks", str(count), "--json"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, float] = json.loads(ended.stdout)
    assert found["tasks"] == count
    assert found["paid_twice"] == 0
    return found


def test_thousands_of_tasks() -> None:
    """Several batches, each held only while it is sent."""
    found = measure(4_000)
    assert found["batches"] >= 2
    assert found["grown_mb"] <= BAR_MB


@slow
@pytest.mark.timeout(900)
def test_a_hundred_thousand_tasks() -> None:
    """The same, as flat."""
    found = measure(100_000)
    assert found["largest_batch"] <= 2_000
    assert found["grown_mb"] <= BAR_MB
