"""What a daemon with nothing to do takes: memory, and CPU as a share of one core.

``python tests/benchmarks/idle.py [--seconds 60] [--settle 5] [--root DIR] [--json]``

Linux only: memory and CPU are those of the process and its descendants, as ``/proc`` has them.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import measure

BAR_MB, BAR_PERCENT = 45, 0.5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="how long CPU is watched")
    parser.add_argument("--settle", type=float, default=5, help="how long the daemon has to start")
    parser.add_argument("--root", type=Path, help="an existing ROOT; default: a fresh, empty one")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    measure.require_ours()
    with measure.workspace(None) as folder:
        daemon = measure.Daemon(options.root or measure.new_root(folder, "root"), folder / "daemon.log")
        try:
            time.sleep(options.settle)
            daemon.alive()
            before, began = measure.usage(daemon.pid), time.perf_counter()
            time.sleep(options.seconds)
            daemon.alive()
            after, watched_s = measure.usage(daemon.pid), time.perf_counter() - began
        finally:
            exit_code, stop_s = daemon.stop()
    result = {
        "rss_mb": after.rss_mb,
        "rss_at_start_mb": before.rss_mb,
        "pss_mb": after.pss_mb,
        "threads": after.threads,
        "cpu_ms": (after.cpu_s - before.cpu_s) * 1e3,
        "cpu_percent": (after.cpu_s - before.cpu_s) / watched_s * 100,
        "start_cpu_s": before.cpu_s,
        "watched_s": watched_s,
        "exit_code": exit_code,
        "stop_s": stop_s,
        "bar": {"rss_mb": BAR_MB, "cpu_percent": BAR_PERCENT},
    }
    if options.json:
        print(json.dumps(result, indent=1))
        return
    print(f"memory: {after.rss_mb:.1f} MB RSS, {after.pss_mb:.1f} MB PSS, {after.threads} threads (bar {BAR_MB} MB)")
    print(
        f"CPU: {result['cpu_ms']:.0f} ms in {watched_s:.0f} s = {result['cpu_percent']:.3f} % of a core "
        f"(bar {BAR_PERCENT} %)"
    )
    print(f"start: {before.cpu_s:.2f} CPU s; SIGTERM: exit {exit_code} after {stop_s:.2f} s")


if __name__ == "__main__":
    main()
