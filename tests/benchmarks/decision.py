"""The whole table of what the decision must show: target, reference and ours, by simulation.

``python tests/benchmarks/decision.py [--runs 2000] [--seed 7] [--workers 2] [--json]``

Each run is a whole test with a look after every outcome. Two worlds of equal models without retirement go on for 20,000
tasks a run, which takes most of the time. It also shows how long good challengers take at other shares of the traffic,
which the expected time in ``decide`` is made from, and what the other worlds that nobody set a target for come to.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import measure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from decision_targets import TARGETS  # noqa: E402 - it stands beside the tests

from cortex_autolearn.model.rollout_policy import RolloutPolicy  # noqa: E402
from cortex_autolearn.rollout import simulate  # noqa: E402

SHARES = (10, 20, 30, 50)
BY_NAME = {one.name: one for one in simulate.WORLDS}


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    jobs = [(name, 10, options.runs, options.seed) for name in BY_NAME]
    jobs += [("better-5.7-0.3", share, options.runs, options.seed) for share in SHARES[1:]]
    with ProcessPoolExecutor(options.workers) as pool:
        found = dict(zip([job[:2] for job in jobs], pool.map(_run, jobs), strict=True))
    endings = {name: ended for (name, share), (ended, _) in found.items() if share == 10}
    rows = [_row(target, endings) for target in TARGETS]
    worlds = [
        simulate.report(BY_NAME[name], endings[name]).as_dict() | {"seconds": found[name, 10][1]} for name in BY_NAME
    ]
    shares = [_needed(share, found["better-5.7-0.3", share][0]) for share in SHARES]
    if options.json:
        print(json.dumps({"runs": options.runs, "targets": rows, "worlds": worlds, "shares": shares}, indent=1))
        return
    for table in (rows, worlds, shares):
        print(measure.table(list(table[0]), [list(row.values()) for row in table]), end="\n\n")


def _run(job: tuple[str, int, int, int]) -> tuple[list[simulate.Ending], float]:
    name, share, runs, seed = job
    started = time.perf_counter()
    policy = RolloutPolicy(challenger_percentage=share)
    return simulate.simulate(BY_NAME[name], policy, runs=runs, seed=seed), time.perf_counter() - started


def _row(target: Any, endings: dict[str, list[simulate.Ending]]) -> dict[str, Any]:
    value = target.worst([target.measure(endings[name]) for name in target.worlds])
    met = "yes" if target.is_met(value) else "NO"
    return {
        "measure": target.what,
        "target": target.bar,
        "reference": target.reference,
        "ours": f"{value:.4g}",
        "met": met,
    }


def _needed(share: int, endings: list[simulate.Ending]) -> dict[str, Any]:
    """Return how many challenger tasks a good challenger needs, and the same times the champion's share."""
    tasks = sorted(one.challenger_tasks if one.decision == "promote" else 10**6 for one in endings)
    median, p90 = simulate.percentile(tasks, 50), simulate.percentile(tasks, 90)
    part = 1 - share / 100
    return {"share": share, "p50": median, "p90": p90, "p50 effective": median * part, "p90 effective": p90 * part}


if __name__ == "__main__":
    main()
