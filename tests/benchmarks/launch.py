"""A small parent for a measured child, which writes its rusage as JSON: ``python -I -S launch.py REPORT COMMAND…``.

Linux counts the size of the process that forks into the peak of the child: the benchmark itself, which reads large
files, would be measured instead of a lean contender. This process stays below 12 MB. It exits with the child's code.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main(report: str, command: list[str]) -> int:
    """Run ``command``, wait for it and whatever it waited for, and report."""
    began = time.perf_counter()
    child = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    wall_s = time.perf_counter() - began
    with open(report, "w", encoding="utf-8") as out:  # noqa: PTH123 - pathlib would double this process
        json.dump(
            {
                "user_s": usage.ru_utime,
                "system_s": usage.ru_stime,
                "wall_s": wall_s,
                "peak_rss_mb": usage.ru_maxrss / 1024,
            },
            out,
        )
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
