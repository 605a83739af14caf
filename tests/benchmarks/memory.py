"""Peak memory of a first run over 10,000, 200,000 and 1,000,000 records: it must not grow with the input.

``python tests/benchmarks/memory.py [--records 10000 200000 1000000] [--json]``
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import bronze
import measure

BAR_MB = 100


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="+", default=[10_000, 200_000, 1_000_000])
    parser.add_argument("--days", type=int, default=1, help="over how many days the records spread")
    parser.add_argument("--work", type=Path, help="where to work; 1,000,000 records need about 6 GB there")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    measure.require_ours()
    with measure.workspace(options.work) as folder:
        rows = [_measured(folder, count, options.days) for count in options.records]
    if options.json:
        print(json.dumps({"bar_mb": BAR_MB, "runs": rows}, indent=1))
        return
    print(measure.table(list(rows[0]), [list(row.values()) for row in rows]))
    print(f"bar: {BAR_MB} MB at any size")


def _measured(folder: Path, count: int, days: int) -> dict[str, Any]:
    root = measure.new_root(folder, "root")
    written = bronze.write(root / measure.RAW_TASKS / "tasks-20251127.jsonl", count, days=days)
    refined = measure.timed(measure.ours("medallion", "--root", root))
    collected = measure.timed(measure.ours("collect", "--root", root))
    shutil.rmtree(root)
    return {
        "records": count,
        "input MB": written.bytes / 1e6,
        "medallion peak MB": refined.peak_rss_mb,
        "collect peak MB": collected.peak_rss_mb,
        "medallion CPU s": refined.cpu_s,
        "collect CPU s": collected.cpu_s,
    }


if __name__ == "__main__":
    main()
