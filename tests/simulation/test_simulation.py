"""Five hundred worlds: whatever goes wrong in them, what must hold holds; and all that may go wrong does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

SEEDS = 500
AT_ONCE = 20
_ROOT = Path(__file__).parents[2]

LEAST: dict[str, int] = {
    # what goes wrong
    "killed": 250,
    "refused": 150,
    "failed of the database": 20,
    "judge outage": 300,
    "trainer outage": 150,
    "training fails": 150,
    "deployment fails": 80,
    "silence": 50,
    "burst": 50,
    "drift": 30,
    "clock forwards": 40,
    "clock back": 40,
    "duplicate": 1_000,
    "late record": 1_000,
    "corrupt record": 1_000,
    "torn record": 300,
    "correction": 1_000,
    "restart": 200,
    "person": 100,
    "removed file": 50,
    # what is reached all the same
    "dataset_created": 500,
    "fine_tune_completed": 250,
    "fine_tune_failed": 30,
    "challenger_deployed": 250,
    "ab_test_started": 250,
    "ab_test_inconclusive": 5,
    "auto_promotion": 40,
    "auto_rollback": 80,
    "challenger_retired": 10,
    "promotion_reverted": 1,
    "promotion_settled": 15,
    "manual_decision": 10,
    "quality_scored": 200,
    "budget_reached": 5,
}
"""How often what must happen in these worlds, at least; less than half of what happens."""


def simulated(*options: str) -> dict[str, Any]:
    """Let a process of its own simulate worlds: it forks, which a process with threads should not."""
    command = [sys.executable, "-m", "tests.simulation", *options, "--json"]
    ran = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=600)
    assert ran.stdout, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    assert not found["broken"], ran.stderr
    assert ran.returncode == 0
    return found


@pytest.fixture(scope="session")
def reached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tests of one run, in however many processes, note what happened."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "simulation"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS // AT_ONCE))
def test_worlds(reached: Path, first: int) -> None:
    """In none of these worlds anything is lost, doubled, trained in vain, promoted without cause or overspent."""
    count = SEEDS // AT_ONCE
    found = simulated("--seeds", f"{first}-{first + count - 1}")
    assert found["worlds"] == count
    assert found["happened"]["dataset_created"] > 0
    (reached / f"{first}.json").write_text(json.dumps(found["happened"]))
    parts = list(reached.glob("*.json"))
    if len(parts) == AT_ONCE:  # whoever is last
        happened: Counter[str] = sum((Counter(json.loads(one.read_text())) for one in parts), Counter())
        rare = {name: (happened[name], least) for name, least in LEAST.items() if happened[name] < least}
        assert not rare, f"too rare to prove anything: {rare}"


def test_a_world_is_the_same_every_time() -> None:
    """A seed that failed fails again: everything that happens follows from it."""
    first, second = simulated("--seed", "7"), simulated("--seed", "7")
    assert first == second
