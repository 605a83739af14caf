"""What 1,000 new records cost a daemon that has 1,000,000 behind it, in CPU milliseconds.

``python tests/benchmarks/increment.py [--before 1000000] [--records 1000] [--steps 10] [--json]``

The records before go through the command line, in children. Then the daemon's own step runs in this process, as it does
when bronze has grown: follow bronze, collect what came of it. The first step (imports, caches, the first reading of the
state) is shown but not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import inspect
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bronze
import measure

BAR_MS = 150


class Step:
    """The daemon's step when bronze has grown; the only place here that knows the package's insides."""

    def __init__(self, root: Path) -> None:
        """Build the application on ``root``, as the daemon does."""
        sys.path.insert(0, str(measure.REPOSITORY))
        # Imported here and by name, so that this loads, and is checked, in a checkout where the package is not whole.
        wiring: Any = importlib.import_module("cortex_autolearn.wiring")
        self._runner = asyncio.Runner()
        runner: Any = importlib.import_module("cortex_autolearn.runner")
        self._app: Any = self._settled(lambda: wiring.build(root))
        self._run: Any = runner.Unrecorded()

    def medallion(self) -> object:
        """Follow bronze: what is new becomes silver."""
        return self._settled(lambda: self._app.medallion.follow(self._run))

    def collect(self) -> object:
        """Collect what the new silver holds."""
        return self._settled(lambda: self._app.collect.run(self._run))

    def close(self) -> None:
        """Let go of the state, when the package has a way to say so."""
        close = getattr(self._app, "close", None)
        if close is not None:
            self._settled(close)
        self._runner.close()

    def _settled(self, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever the package returns
        async def run() -> Any:  # noqa: ANN401 - likewise
            result = call()
            return await result if inspect.isawaitable(result) else result

        return self._runner.run(run())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=int, default=1_000_000)
    parser.add_argument("--records", type=int, default=1_000)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--work", type=Path, help="where to work; 1,000,000 records need about 6 GB there")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    measure.require_ours()
    with measure.workspace(options.work) as folder:
        root = measure.new_root(folder, "root")
        raw = root / measure.RAW_TASKS / "tasks-20251127.jsonl"
        bronze.write(raw, options.before)
        before = measure.timed(measure.ours("medallion", "--root", root))
        before = before.plus(measure.timed(measure.ours("collect", "--root", root)))
        rows = _steps(root, raw, options)
    counted = rows[1:] or rows
    result = {
        "before": {"records": options.before, "cpu_s": before.cpu_s, "peak_rss_mb": before.peak_rss_mb},
        "records": options.records,
        "steps": rows,
        "cpu_ms": measure.spread([row["cpu ms"] for row in counted]),
        "bar_ms": BAR_MS,
    }
    print(json.dumps(result, indent=1) if options.json else _text(result))


def _steps(root: Path, raw: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    step = Step(root)
    rows = []
    try:
        for number in range(options.steps + 1):
            bronze.write(
                raw, options.records, seed=number + 2, first=options.before + number * options.records, append=True
            )
            refined = _timed(step.medallion)
            collected = _timed(step.collect)
            rows.append(
                {
                    "step": "first, not counted" if number == 0 else str(number),
                    "cpu ms": refined[0] + collected[0],
                    "medallion cpu ms": refined[0],
                    "collect cpu ms": collected[0],
                    "wall ms": refined[1] + collected[1],
                }
            )
    finally:
        step.close()
    return rows


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    """CPU of all threads of this process, and wall time, in milliseconds."""
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    call()
    return (time.process_time() - cpu_s) * 1e3, (time.perf_counter() - wall_s) * 1e3


def _text(result: dict[str, Any]) -> str:
    low, middle, high = result["cpu_ms"]
    rows = result["steps"]
    return "\n".join(
        [
            f"before: {result['before']['records']:,} records in {result['before']['cpu_s']:.1f} CPU s",
            measure.table(list(rows[0]), [list(row.values()) for row in rows]),
            f"{result['records']:,} new records: {middle:.0f} ms of CPU (min {low:.0f}, max {high:.0f}; bar {BAR_MS})",
        ]
    )


if __name__ == "__main__":
    main()
