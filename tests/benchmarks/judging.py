"""Memory and time of scoring many waiting tasks in batches, by the real client against the loopback API of the tests.

``python tests/benchmarks/judging.py [--tasks 100000] [--json]``
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measure

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from anthropic_api import api_process  # noqa: E402 - found where the tests are
from anthropic_rules import KEY  # noqa: E402 - as above

from cortex_autolearn.adapters.claude import open_judge  # noqa: E402 - as above
from cortex_autolearn.cli.quiet import Quiet  # noqa: E402 - as above
from cortex_autolearn.wiring import build  # noqa: E402 - as above

BAR_MB = 40
WARM_UP = 100
FLAGS: dict[str, object] = {"judge.daily_usd": 100_000, "judge.monthly_usd": 100_000, "judge.batch_min": 20}
WORDS = "the upload step now retries three times with a growing pause and the tests cover each way it can fail "


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--words", type=int, default=12, help="length of an output, in sentences of 18 words")
    parser.add_argument("--work", type=Path, help="where to work")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(*options.child)))
        return
    measure.require_ours()
    with measure.workspace(options.work) as folder, api_process(folder) as api:
        roots = {name: measure.new_root(folder, name) for name in ("small", "large")}
        for name, count in (("small", WARM_UP), ("large", options.tasks)):
            write(roots[name] / measure.RAW_TASKS / "tasks.jsonl", count, options.words)
            for command in ("medallion", "collect"):
                measure.timed(measure.ours(command, "--root", roots[name]))
        measured = measure.timed([sys.executable, __file__, "--child", api.url, str(folder)])
        found = json.loads(measured.stdout)
        sizes = [entry["asked"] for entry in api.noted("batch")][1:]
        charges = api.paid()
    found |= {"batches": len(sizes), "largest_batch": max(sizes), "paid_twice": sum(n > 1 for n in charges.values())}
    if options.json:
        print(json.dumps(found | {"bar_mb": BAR_MB}))
        return
    print(measure.table(list(found), [list(found.values())]))
    print(f"bar: {BAR_MB} MB over idle, the client's own share aside")


def write(path: Path, count: int, words: int) -> None:
    """Write records of tasks that lack only a score."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            record = {
                "task_id": f"task-{number}",
                "master": "development-master",
                "task_type": "implementation",
                "status": "completed",
                "input": f"Add a retry to upload step {number}.",
                "output": f"Number {number}: " + WORDS * words,
                "created_at": "2025-11-27T09:00:00Z",
                "completed_at": "2025-11-27T09:01:00Z",
                "duration_seconds": 60,
            }
            file.write(json.dumps(record) + "\n")


def child(url: str, folder: str) -> dict[str, Any]:
    """Score a small ROOT, so that all is imported and warm, then the large one, and tell what that took."""
    score(Path(folder, "small"), url)
    Path("/proc/self/clear_refs").write_text("5")
    before_mb = memory_mb("VmRSS")
    begun, cpu = time.monotonic(), time.process_time()
    runs = score(Path(folder, "large"), url)
    return {
        "tasks": sum(run["scored"] for run in runs),
        "runs": len(runs),
        "idle_mb": round(before_mb, 1),
        "grown_mb": round(memory_mb("VmHWM") - before_mb, 1),
        "wall_s": round(time.monotonic() - begun, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
        "cost_usd": round(sum(run["cost_usd"] for run in runs), 2),
    }


def score(root: Path, url: str) -> list[dict[str, Any]]:
    """Run scoring until nothing waits, and return what each run did."""
    return list(_runs(root, {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": url}))


def _runs(root: Path, environ: dict[str, str]) -> Iterator[dict[str, Any]]:
    logging: Any = Quiet()
    app = build(root, environ=environ, flags=FLAGS, logging=logging, judge=lambda: open_judge(environ))
    try:
        while True:
            counts = app.runner.run("scoring", trigger="benchmark", raise_errors=True).counts
            yield counts
            if not counts["waiting"] and not counts["in_batches"]:
                return
    finally:
        app.close()


def memory_mb(name: str) -> float:
    """Return a figure of this process's memory."""
    found = re.search(name + r":\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    main()
