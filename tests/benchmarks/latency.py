"""From write() to collected: how long a running daemon takes for single lines that land in silver and in bronze.

``python tests/benchmarks/latency.py [--lines 200] [--json]``

Each line is one task that passes the gate, appended 50 to 150 ms after the last one; the outcome files are read every
2 ms. Silver lines go where Cortex's own script writes them; bronze lines go through the medallion, with its debounce.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bronze
import measure

BAR_MS = 500
POLL_S = 0.002
TASK_ID = re.compile(rb'"task_id"\s*:\s*"((?:silver|bronze)-latency-\d+)"')


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--settle", type=float, default=5, help="how long the daemon has to start")
    parser.add_argument("--patience", type=float, default=15, help="how long the last lines are waited for")
    parser.add_argument("--work", type=Path, help="where to work: give a real disk, as fsync is free on tmpfs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    measure.require_ours()
    rows = []
    with measure.workspace(options.work) as folder:
        root = measure.new_root(folder, "root")
        silver, raw = root / measure.PROCESSED_TASKS, root / measure.RAW_TASKS
        silver.mkdir(parents=True)
        daemon = measure.Daemon(root, folder / "daemon.log")
        try:
            time.sleep(options.settle)
            daemon.alive()
            for layer, path in (("silver", silver / "20251127.jsonl"), ("bronze", raw / "tasks-20251127.jsonl")):
                before = measure.usage(daemon.pid).cpu_s
                latencies = _latencies(layer, path, root / measure.HQ_OUTCOMES, options)
                daemon.alive()
                rows.append(_row(layer, options.lines, latencies, measure.usage(daemon.pid).cpu_s - before))
        finally:
            daemon.stop()
    if options.json:
        print(json.dumps({"bar_ms": BAR_MS, "runs": rows}, indent=1))
        return
    print(measure.table(list(rows[0]), [list(row.values()) for row in rows]))
    print(f"bar: p99 of silver {BAR_MS} ms, none missing")


def _row(layer: str, lines: int, latencies: list[float], cpu_s: float) -> dict[str, Any]:
    known = latencies or [float("nan")]
    return {
        "lines into": layer,
        "collected": len(latencies),
        "missing": lines - len(latencies),
        "p50 ms": measure.p(known, 50) * 1e3,
        "p99 ms": measure.p(known, 99) * 1e3,
        "max ms": max(known) * 1e3,
        "daemon CPU ms a line": cpu_s / lines * 1e3,
    }


def _latencies(layer: str, path: Path, outcomes: Path, options: argparse.Namespace) -> list[float]:
    draw = random.Random(layer)
    arrivals = Arrivals(outcomes)
    written: dict[str, float] = {}
    seen: dict[str, float] = {}
    due = time.perf_counter()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        while len(seen) < options.lines:
            now = time.perf_counter()
            if len(written) < options.lines and now >= due:
                task_id = f"{layer}-latency-{len(written)}"
                line = bronze.kept_task(task_id, silver=layer == "silver")
                written[task_id] = time.perf_counter()
                os.write(file, line)
                due = now + draw.uniform(0.05, 0.15)
            elif len(written) == options.lines and now > due + options.patience:
                break
            for task_id in arrivals.new():
                if task_id in written:
                    seen.setdefault(task_id, time.perf_counter())
            time.sleep(POLL_S)
    finally:
        os.close(file)
    return [at - written[task_id] for task_id, at in seen.items()]


class Arrivals:
    """Task ids that appear in the outcome files; reads what was appended, and a replaced file from its start."""

    def __init__(self, outcomes: Path, task_id: re.Pattern[bytes] = TASK_ID) -> None:
        """``outcomes`` is the folder that holds ``training`` and ``validation``; ``task_id`` finds the ids to watch."""
        self._task_id = task_id
        self._folders = [outcomes / "training", outcomes / "validation"]
        self._read: dict[Path, tuple[int, int]] = {}

    def new(self) -> Iterator[str]:
        """Ids in whole lines that were not there at the last call."""
        for folder in self._folders:
            if folder.is_dir():
                for path in folder.glob("*.jsonl"):
                    yield from self._tail(path)

    def _tail(self, path: Path) -> Iterator[str]:
        try:
            with path.open("rb") as file:
                stat = os.fstat(file.fileno())
                inode, offset = self._read.get(path, (stat.st_ino, 0))
                if inode != stat.st_ino or offset > stat.st_size:
                    offset = 0
                if stat.st_size == offset:
                    return
                file.seek(offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data.rfind(b"\n") + 1
        self._read[path] = (stat.st_ino, offset + whole)
        for found in self._task_id.findall(data[:whole]):
            yield found.decode()


if __name__ == "__main__":
    main()
