"""What a choice costs: ours against a feature-flag SDK that assigns the same tasks in the same shares.

python tests/benchmarks/router.py [--choices N] [--runs N] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import measure

from cortex_autolearn import Router
from cortex_autolearn.assignment import bucket

PERCENTAGE = 10
MASTERS = [f"{name}-master" for name in ("security", "development", "inventory", "cicd", "coordinator")]
ROUTES = Path("llm-mesh/auto-learning/routes.json")

Choose = Callable[[str, str], object]


@dataclass(frozen=True)
class Figures:
    """What one contender took in one round, interpreter's loop included."""

    per_second: float
    mean_us: float
    p50_us: float
    p99_us: float
    challenger_percent: float


def write_routes(root: Path) -> None:
    """Write routes with an experiment for every master."""
    served = {
        master: {
            "champion": {"model": "claude-sonnet-5", "version": "v1.0.0", "kind": "base"},
            "challenger": {"model": "ft-20251127-001", "version": "ft-20251127-001", "kind": "exemplar"},
            "experiment": f"{master}-ft-20251127-001",
            "challenger_percentage": PERCENTAGE,
        }
        for master in MASTERS
    }
    path = root / ROUTES
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"generated_at": "2025-11-27T02:00:00Z", "masters": served}))


def ours(root: Path) -> Choose:
    """Return the router's choice, which looks at its file meanwhile."""
    return Router(root).choose


def bare(_: Path) -> Choose:
    """Return the hash and a comparison alone: what any router over this assignment costs at least."""

    def choose(_master: str, task_id: str) -> str:
        return "v1.0.0" if bucket(task_id) < 100 - PERCENTAGE else "ft-20251127-001"

    return choose


def growthbook_feature(_: Path) -> Choose:
    """Return GrowthBook's value of a feature with an experiment rule, one feature a master."""
    book = _growthbook()

    def choose(master: str, task_id: str) -> object:
        book.set_attributes({"id": task_id})
        return book.get_feature_value(master, "v1.0.0")

    return choose


def growthbook_run(_: Path) -> Choose:
    """Return GrowthBook's result of an experiment made beforehand, without a feature around it."""
    from growthbook import Experiment  # noqa: PLC0415 -- an extra

    book = _growthbook()
    experiments = {
        master: Experiment(key=f"{master}-ft-20251127-001", **_variations(), hashAttribute="id") for master in MASTERS
    }

    def choose(master: str, task_id: str) -> object:
        book.set_attributes({"id": task_id})
        return book.run(experiments[master]).value

    return choose


def _growthbook() -> Any:
    from growthbook import GrowthBook  # noqa: PLC0415 -- an extra

    features = {
        master: {
            "defaultValue": "v1.0.0",
            "rules": [{"key": f"{master}-ft-20251127-001", **_variations(), "hashAttribute": "id", "coverage": 1}],
        }
        for master in MASTERS
    }
    return GrowthBook(attributes={"id": ""}, features=features)


def _variations() -> dict[str, Any]:
    return {"variations": ["v1.0.0", "ft-20251127-001"], "weights": [1 - PERCENTAGE / 100, PERCENTAGE / 100]}


def clocked(choose: Choose, tasks: Sequence[tuple[str, str]]) -> Figures:
    """Clock all choices as a whole by the CPU, then each by itself."""
    challengers = sum(
        getattr(found := choose(master, task_id), "version", found) != "v1.0.0" for master, task_id in tasks
    )
    started = time.process_time()
    for master, task_id in tasks:
        choose(master, task_id)
    cpu_s = time.process_time() - started
    single = []
    now = time.perf_counter_ns
    for master, task_id in tasks[: 1 + len(tasks) // 5]:
        before = now()
        choose(master, task_id)
        single.append(now() - before)
    return Figures(
        per_second=len(tasks) / cpu_s,
        mean_us=cpu_s / len(tasks) * 1e6,
        p50_us=measure.p(single, 50) / 1e3,
        p99_us=measure.p(single, 99) / 1e3,
        challenger_percent=100 * challengers / len(tasks),
    )


def main() -> None:
    """Run the rounds and print what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--choices", type=int, default=200_000, help="choices a contender makes in a round")
    parser.add_argument("--runs", type=int, default=5, help="rounds")
    parser.add_argument("--work", type=Path, help="folder to work in")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core, as callers have it
    contenders: dict[str, Callable[[Path], Choose]] = {"ours": ours, "bare hash": bare}
    if measure.installed("growthbook"):
        contenders |= {"growthbook feature": growthbook_feature, "growthbook run": growthbook_run}
    tasks = [(MASTERS[number % len(MASTERS)], f"task-20251127-{number:06d}") for number in range(options.choices)]
    with measure.workspace(options.work) as root:
        write_routes(root)
        ready = {name: make(root) for name, make in contenders.items()}
        rounds = [{name: clocked(choose, tasks) for name, choose in ready.items()} for _ in range(options.runs)]
    if options.json:
        print(json.dumps([{name: asdict(found) for name, found in one.items()} for one in rounds]))
        return
    print(_table(list(contenders), rounds))
    if "growthbook run" not in contenders:
        print("growthbook is not installed: pip install -e '.[bench]'")


def _table(contenders: Sequence[str], rounds: Sequence[Mapping[str, Figures]]) -> str:
    rows = []
    for name in contenders:
        ratios = measure.spread([one[name].mean_us / one["ours"].mean_us for one in rounds])
        medians = [
            measure.spread([getattr(one[name], field) for one in rounds])[1]
            for field in ("per_second", "mean_us", "p50_us", "p99_us", "challenger_percent")
        ]
        rows.append([name, *medians, " / ".join(f"{ratio:.2f}" for ratio in ratios)])
    head = ["contender", "choices/s", "mean us", "p50 us", "p99 us", "challenger %", "times ours (min / median / max)"]
    return measure.table(head, rows)


if __name__ == "__main__":
    main()
