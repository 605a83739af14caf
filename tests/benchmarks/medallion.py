"""Bronze to silver, gold and collected outcomes: the package against Polars and DuckDB, in CPU seconds, in pairs.

``python tests/benchmarks/medallion.py [--input FILE] [--records 200000] [--runs 3] [--json]``

Every contender is whole child processes, timed with what they start; a round runs each once, so that a ratio compares
neighbours in time. What they wrote is read afterwards: counts come from the files, not from what one says of itself.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import bronze
import measure

HERE = Path(__file__).parent
# The bars of the project, on 200,000 records: how many times our CPU seconds the peer must at least take.
BARS = {"polars": 1.0, "duckdb": 1.8, "duckdb faithful": 1.8}
CAVEATS = """\
Polars stops at a broken line: it is given a copy of the input without them, made outside of the time measured.
DuckDB drops them as rows of nulls. Neither keeps state, a quarantine or `canonical`, syncs to disk, writes the
chat examples of gold, or counts what it rejects. Both drop keys outside of their schema. In Polars a score that
is text becomes null. In all but `duckdb faithful` an `output` object becomes text and the order of lines is lost."""
TASK_ID = re.compile(rb'"task_id"\s*:\s*"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Contender:
    """One way to do the job: ``run`` takes the input and a fresh ROOT."""

    name: str
    reads: Path
    run: Callable[[Path, Path], measure.Cost]


@dataclass
class Produced:
    """What stands in a ROOT afterwards: final tasks (from gold), kept ones, and the sums that gold itself gives."""

    silver_lines: int = 0
    tasks: int = 0
    completed: int = 0
    final_ids: set[str] = field(default_factory=set)
    kept_ids: set[str] = field(default_factory=set)
    kept_lines: int = 0


@dataclass
class Broken:
    """Lines of the input that no strict line reader takes, and the task ids readable in them, with the kind."""

    lines: Counter[str] = field(default_factory=Counter)
    ids: dict[str, str] = field(default_factory=dict)


def main() -> None:
    """Measure and print."""
    options = _options()
    with measure.workspace(options.work) as folder:
        source = options.input or _generated(folder, options.records)
        clean = folder / "clean.jsonl"
        broken = _without_broken(source, clean)
        entrants = _contenders(source, clean, options.threads)
        costs: dict[str, list[measure.Cost]] = {entrant.name: [] for entrant in entrants}
        produced: dict[str, Produced] = {}
        for number in range(options.runs):
            for entrant in entrants:
                _say(f"round {number + 1} of {options.runs}: {entrant.name}")
                root = measure.new_root(folder, "root", entrant.reads)
                os.sync()  # What the last contender left to write back is not this one's.
                costs[entrant.name].append(entrant.run(entrant.reads, root))
                if number == options.runs - 1:
                    produced[entrant.name] = _read(root)
                shutil.rmtree(root)
    result = _result(source, options, broken, costs, produced)
    print(json.dumps(result, indent=1) if options.json else _text(result))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, help="bronze records, one a line; default: generated")
    parser.add_argument("--records", type=int, default=200_000, help="how many to generate")
    parser.add_argument("--runs", type=int, default=3, help="rounds; each runs every contender once")
    parser.add_argument("--threads", type=int, default=measure.threads(), help="threads that each peer may use")
    parser.add_argument("--work", type=Path, help="where to work: give a real disk, as fsync is free on tmpfs")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _contenders(source: Path, clean: Path, threads: int) -> list[Contender]:
    python, count = sys.executable, str(threads)
    polars, duckdb = HERE / "peer_polars.py", HERE / "peer_duckdb.py"
    everyone = [
        (measure.ours_exists(), Contender("ours", source, _ours)),
        (
            measure.installed("polars"),
            Contender(
                "polars", clean, lambda i, r: measure.timed([python, polars, i, r], {"POLARS_MAX_THREADS": count})
            ),
        ),
        (
            measure.installed("duckdb"),
            Contender("duckdb", source, lambda i, r: measure.timed([python, duckdb, i, r, count])),
        ),
        (
            measure.installed("duckdb"),
            Contender(
                "duckdb faithful", source, lambda i, r: measure.timed([python, duckdb, i, r, count, "--faithful"])
            ),
        ),
    ]
    for present, entrant in everyone:
        if not present:
            _say(f"left out, as it is not there: {entrant.name}")
    return [entrant for present, entrant in everyone if present]


def _ours(_source: Path, root: Path) -> measure.Cost:
    refined = measure.timed(measure.ours("medallion", "--root", root))
    return refined.plus(measure.timed(measure.ours("collect", "--root", root)))


def _generated(folder: Path, records: int) -> Path:
    path = folder / "generated.jsonl"
    _say(f"generating {records:,} records")
    bronze.write(path, records)
    return path


def _without_broken(source: Path, clean: Path) -> Broken:
    """Copy the lines that are JSON objects in UTF-8, outside of the time measured: Polars stops at any other."""
    broken = Broken()
    with source.open("rb") as lines, clean.open("wb") as out:
        for line in lines:
            kind = _breakage(line)
            if kind is None:
                out.write(line)
                continue
            broken.lines[kind] += 1
            for raw in TASK_ID.findall(line):
                broken.ids[raw.decode("utf-8", "replace")] = kind
    return broken


def _breakage(line: bytes) -> str | None:
    try:
        text = line.decode()
        record = json.loads(text, parse_constant=_refuse)
    except UnicodeDecodeError:
        return "invalid UTF-8"
    except ValueError as error:
        if line.startswith(b"\xef\xbb\xbf"):
            return "byte order mark"
        if line.startswith(b"\0"):
            return "NUL bytes"
        if str(error) == "constant":
            return "NaN"
        return "torn, then whole" if line.count(b'"task_id"') > 1 or _ends_whole(line) else "truncated or not JSON"
    return None if isinstance(record, dict) else "no object"


def _ends_whole(line: bytes) -> bool:
    """Whether a whole object stands at the end of a broken line."""
    start = line.rfind(b'{"task_id"')
    if start <= 0:
        return False
    try:
        json.loads(line[start:])
    except ValueError:
        return False
    return True


def _refuse(_constant: str) -> None:
    raise ValueError("constant")


def _read(root: Path) -> Produced:
    found = Produced()
    for path in (root / measure.PROCESSED_TASKS).glob("*.jsonl"):
        with path.open("rb") as lines:
            found.silver_lines += sum(1 for _ in lines)
    for path in (root / measure.GOLD / "analytics").glob("daily-*.json"):
        summary = json.loads(path.read_bytes())["summary"]
        found.tasks += summary["total_tasks"]
        found.completed += summary["completed_tasks"]
    for path in (root / measure.GOLD / "reports").glob("*.json"):
        found.final_ids.update(task["task_id"] for task in json.loads(path.read_bytes())["task_list"])
    for path in (root / measure.HQ_OUTCOMES).rglob("*.jsonl"):
        with path.open("rb") as lines:
            for line in lines:
                found.kept_ids.add(json.loads(line)["task_id"])
                found.kept_lines += 1
    return found


def _result(
    source: Path,
    options: argparse.Namespace,
    broken: Broken,
    costs: dict[str, list[measure.Cost]],
    produced: dict[str, Produced],
) -> dict[str, Any]:
    first = next(iter(costs))
    contenders = {}
    for name, runs in costs.items():
        found = produced[name]
        contenders[name] = {
            "cpu_s": measure.spread([cost.cpu_s for cost in runs]),
            "user_s": measure.spread([cost.user_s for cost in runs]),
            "system_s": measure.spread([cost.system_s for cost in runs]),
            "wall_s": measure.spread([cost.wall_s for cost in runs]),
            "peak_rss_mb": max(cost.peak_rss_mb for cost in runs),
            "silver_lines": found.silver_lines,
            "tasks": found.tasks,
            "completed": found.completed,
            "kept": found.kept_lines,
            "runs": [{key: value for key, value in asdict(cost).items() if key != "stdout"} for cost in runs],
        }
    return {
        "input": {"path": str(source) if options.input else "generated", "broken_lines": dict(broken.lines)},
        "threads": options.threads,
        "rounds": options.runs,
        "contenders": contenders,
        "against": first,
        "ratios": {
            name: measure.spread([theirs.cpu_s / own.cpu_s for own, theirs in zip(costs[first], runs, strict=True)])
            for name, runs in costs.items()
            if name != first
        },
        "bars": BARS if first == "ours" else {},
        "differences": {
            name: _differences(produced[first], found, broken) for name, found in produced.items() if name != first
        },
    }


def _differences(ours: Produced, theirs: Produced, broken: Broken) -> dict[str, Any]:
    """Which tasks one has and the other has not, and how many of those stand in broken lines, by kind."""

    def side(ids: set[str]) -> dict[str, Any]:
        kinds = Counter(broken.ids.get(task_id, "in a sound line") for task_id in ids)
        return {"count": len(ids), "where": dict(kinds.most_common())}

    return {
        "tasks_only_first": side(ours.final_ids - theirs.final_ids),
        "tasks_only_this": side(theirs.final_ids - ours.final_ids),
        "kept_only_first": side(ours.kept_ids - theirs.kept_ids),
        "kept_only_this": side(theirs.kept_ids - ours.kept_ids),
    }


def _text(result: dict[str, Any]) -> str:
    first = result["against"]
    parts = [
        f"bronze -> silver + gold + collected; {result['rounds']} rounds, {result['threads']} threads",
        measure.table(
            ["contender", "CPU s min", "median", "max", "user", "system", "wall", "peak MB"],
            [
                [name, *row["cpu_s"], row["user_s"][1], row["system_s"][1], row["wall_s"][1], row["peak_rss_mb"]]
                for name, row in result["contenders"].items()
            ],
        ),
        measure.table(
            [f"CPU, as times of {first}", "min", "median", "max", "bar"],
            [[name, *ratio, result["bars"].get(name, "-")] for name, ratio in result["ratios"].items()],
        ),
        measure.table(
            ["wrote", "silver lines", "final tasks", "completed", "kept"],
            [
                [name, row["silver_lines"], row["tasks"], row["completed"], row["kept"]]
                for name, row in result["contenders"].items()
            ],
        ),
        "broken lines in the input: " + (_kinds(result["input"]["broken_lines"]) or "none"),
    ]
    for name, difference in result["differences"].items():
        parts.append(
            "\n".join(
                f"{what} {side['count']:,}" + (f" ({_kinds(side['where'])})" if side["count"] else "")
                for what, side in (
                    (f"tasks of {first} that {name} lacks:", difference["tasks_only_first"]),
                    (f"tasks of {name} that {first} lacks:", difference["tasks_only_this"]),
                    (f"kept by {first} and not by {name}:", difference["kept_only_first"]),
                    (f"kept by {name} and not by {first}:", difference["kept_only_this"]),
                )
            )
        )
    parts.append(CAVEATS)
    return "\n\n".join(parts)


def _kinds(counts: dict[str, int]) -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in counts.items())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
