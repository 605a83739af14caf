"""Building datasets of 10,000, 50,000 and 100,000 examples: time must grow as they do, memory must not pass 200 MB.

``python tests/benchmarks/dataset.py [--examples 10000 50000 100000] [--json]``

The tasks are those of a fleet: most are made from templates with a few values, some are prose of their own, some are
repeated or nearly so. An example is about 1.9 KB. Beside it, on the largest set, near duplicates alone by several ways
(``peer_near.py``); ``near.py`` measures the search on texts that are hard for it.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measure

BAR_MB = 200
PEERS = {"bands": "rensa", "datasketch": "datasketch", "rensa": "rensa"}
MASTERS = ("coordinator", "development", "security", "inventory", "cicd", "testing")
KINDS = ("implement", "security-scan", "dependency-audit", "release", "review", "flaky-test", "runbook")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, nargs="+", default=[10_000, 50_000, 100_000])
    parser.add_argument("--work", type=Path, help="where to work; 100,000 examples need about 2 GB there")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    measure.require_ours()
    rows: list[dict[str, Any]] = []
    ways: list[dict[str, Any]] = []
    with measure.workspace(options.work) as folder:
        for count in options.examples:
            root = collected(folder, count)
            rows.append(built(root, count))
            if count == max(options.examples):
                ways = near_duplicates(root)
            shutil.rmtree(root)
    for row in rows:
        row["time per example / first"] = row["us an example"] / rows[0]["us an example"]
    if options.json:
        print(json.dumps({"bar_mb": BAR_MB, "builds": rows, "near_duplicates": ways}, indent=1))
        return
    print(measure.table(list(rows[0]), [list(row.values()) for row in rows]))
    print(f"bar: {BAR_MB} MB at 100,000\n\nnear duplicates alone, on the largest:")
    print(measure.table(list(ways[0]), [list(way.values()) for way in ways]))


def collected(folder: Path, count: int) -> Path:
    """Make a root whose tasks are all collected."""
    root = measure.new_root(folder, f"root-{count}")
    with (root / measure.RAW_TASKS / "tasks.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(task, ensure_ascii=False) + "\n" for task in tasks(count))
    for command in ("medallion", "collect"):
        measure.timed(measure.ours(command, "--root", root))
    return root


def built(root: Path, count: int) -> dict[str, Any]:
    """Build a dataset twice: the second finds it there."""
    command = measure.ours("dataset", "build", "--root", root, "--json")
    first, second = measure.timed(command), measure.timed(command)
    made, again = json.loads(first.stdout), json.loads(second.stdout)
    assert (made["created"], again["created"]) == (True, False)
    assert made["dataset_id"] == again["dataset_id"]
    return {
        "outcomes": count,
        "train": made["train"],
        "validation": made["validation"],
        "CPU s": first.cpu_s,
        "wall s": first.wall_s,
        "us an example": first.cpu_s / count * 1e6,
        "peak MB": first.peak_rss_mb,
        "again, CPU s": second.cpu_s,
        "again, peak MB": second.peak_rss_mb,
    }


def near_duplicates(root: Path) -> list[dict[str, Any]]:
    """Measure the ways to find near duplicates that are installed."""
    script = Path(__file__).with_name("peer_near.py")
    ways: list[dict[str, Any]] = []
    right: set[int] = set()
    for way in ("exact", "ours", *(way for way, needs in PEERS.items() if measure.installed(needs))):
        cost = measure.timed([measure.ours()[0], script, way, root])
        found = json.loads(cost.stdout)
        kept = set(found["kept"])
        if not ways:
            right = kept
        first = ways[0] if ways else None
        ways.append(
            {
                "way": way,
                "inputs": found["inputs"],
                "kept": len(kept),
                "kept wrongly": len(kept - right),
                "left out wrongly": len(right - kept),
                "CPU s": cost.cpu_s,
                "peak MB": cost.peak_rss_mb,
                "time / exact": cost.cpu_s / first["CPU s"] if first else 1.0,
            }
        )
    return ways


def tasks(count: int, seed: int = 1) -> Iterator[dict[str, object]]:
    """Yield tasks that all pass the gate."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randrange(2, 10))) for _ in range(8_000)]
    templates = [draw.choices(words, k=draw.randrange(12, 60)) for _ in range(60)]
    values = [draw.choices(words, k=25) for _ in range(5)]
    recent: list[str] = []
    for number in range(count):
        text = _input(draw, words, templates, values, recent)
        if len(recent) < 500:
            recent.append(text)
        else:
            recent[draw.randrange(500)] = text
        day = 1 + number * 28 // count
        yield {
            "task_id": f"task-{number:06d}",
            "master": f"{draw.choice(MASTERS)}-master",
            "task_type": draw.choice(KINDS),
            "input": text,
            "output": " ".join(draw.choices(words, k=180)),
            "status": "completed",
            "quality_score": 4.6,
            "created_at": f"2025-11-{day:02d}T08:00:00Z",
            "completed_at": f"2025-11-{day:02d}T{draw.randrange(9, 23):02d}:{draw.randrange(60):02d}:00Z",
            "duration_seconds": 60,
        }


def _input(
    draw: random.Random, words: list[str], templates: list[list[str]], values: list[list[str]], recent: list[str]
) -> str:
    kind = draw.random()
    if kind < 0.1 and recent:  # again, or nearly
        again = draw.choice(recent).split()
        again[draw.randrange(len(again))] = draw.choice(words)
        return " ".join(again)
    if kind < 0.3:  # prose of its own
        return " ".join(draw.choices(words, k=draw.randrange(30, 120)))
    filled = list(draw.choice(templates))
    for slot in range(3):
        place = (slot * 4 + 2) % len(filled)
        filled[place] = str(draw.randrange(10**6)) if kind < 0.6 else draw.choice(values[slot])
    return " ".join(filled)


if __name__ == "__main__":
    main()
