"""Task records as a fleet of agents writes them, made from a seed: the same arguments give the same bytes.

A record is about 1.7 KB: a prompt, an output (text, JSON text or an object), times in several notations, a score that
is mostly a number, retries, failures. 2 % of the lines are later records of an earlier task; 0.5 % are broken in one of
eight ways.
Run it to make a file: ``python tests/benchmarks/bronze.py 200000 out.jsonl``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

DAY_ONE = datetime(2025, 11, 27, tzinfo=UTC)
MASTERS = ("coordinator", "development", "security", "inventory", "cicd", "testing")
KINDS = ("implement", "security-scan", "dependency-audit", "release", "catalog", "review", "flaky-test", "runbook")
MODELS = ("claude-sonnet-4-5", "claude-haiku-4-5", "claude-opus-4-5")
ERRORS = (
    "worker timed out after 900s",
    "ImportError: no module named fleet",
    "exit status 137",
    "merge conflict in go.sum",
)
SENTENCES = (
    "Raised the lower bound of the parser after the advisory and ran the whole suite twice.",
    "The lock file pinned a yanked release, so the resolver fell back to an older one.",
    'Replaced the "best effort" retry with a bounded one; see docs\\retry.md.',
    "Three of nine handlers still read the clock directly.",
    "Für den Übergang bleibt die alte Schnittstelle bestehen, bis März.",
    "依存関係を更新し、テストはすべて通りました。",
    "Проверка прошла без ошибок, отчёт приложен.",
    "All green ✅ shipped 🚢 to the canary ring.",
    "def handler(event):\n\treturn {'ok': True, 'n': len(event)}\n",
    "The namespace had no network policy; added a default deny and two explicit allows.",
    "No change was needed here, the finding was a duplicate of one closed last week.",
    "Coverage of the scheduler rose from 71.4 % to 88.0 %.",
)
DUPLICATES = 0.02
BROKEN = 0.005

Record = dict[str, object]


@dataclass
class Written:
    """What stands in a generated file."""

    lines: int = 0
    bytes: int = 0
    later_records: int = 0
    broken: Counter[str] = field(default_factory=Counter)


def write(path: Path, count: int, *, seed: int = 1, first: int = 0, days: int = 1, append: bool = False) -> Written:
    """Write ``count`` lines to ``path``; task numbers start at ``first``, creation spreads over ``days`` in order."""
    written = Written()
    with path.open("ab" if append else "wb", buffering=1 << 20) as out:
        for line in _lines(count, seed, first, days, written):
            written.lines += 1
            written.bytes += out.write(line)
    return written


def kept_task(task_id: str, *, silver: bool) -> bytes:
    """One line that the collector keeps, as bronze or as Cortex's own silver has it."""
    record: Record = {
        "task_id": task_id,
        "master": "security-master",
        "task_type": "security-scan",
        "input": SENTENCES[9],
        "output": " ".join(SENTENCES[:4]),
        "status": "completed",
        "created_at": _rfc3339(DAY_ONE + timedelta(hours=9)),
        "completed_at": _rfc3339(DAY_ONE + timedelta(hours=9, seconds=95)),
        "quality_score": 4.8,
        "retry_count": 0,
        "error": None,
    }
    if silver:
        record |= {
            "layer": "silver",
            "processed_at": _rfc3339(DAY_ONE + timedelta(hours=10)),
            "duration_seconds": 95,
            "is_success": True,
            "is_failure": False,
            "has_error": False,
        }
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _lines(count: int, seed: int, first: int, days: int, written: Written) -> Iterator[bytes]:
    draw = random.Random(f"{seed}/{first}/{days}")
    text = _Text(draw)
    recent: list[Record] = []
    for number in range(count):
        if recent and draw.random() < DUPLICATES:
            record = _later(draw, draw.choice(recent))
            written.later_records += 1
        else:
            record = _record(draw, text, first + number, number * days // count)
            if len(recent) < 4000:
                recent.append(record)
            else:
                recent[draw.randrange(4000)] = record
        line = json.dumps(record, ensure_ascii=draw.random() < 0.25, separators=(",", ":")).encode()
        if draw.random() < BROKEN:
            kind, breaking = draw.choice(_BREAKS)
            written.broken[kind] += 1
            line = breaking(line, draw)
        yield line + b"\n"


class _Text:
    """A pool of prose; a text is a slice of it, which is far cheaper than composing each."""

    def __init__(self, draw: random.Random) -> None:
        self._pool = " ".join(draw.choice(SENTENCES) for _ in range(6000))

    def __call__(self, draw: random.Random, least: int, mean: int, most: int) -> str:
        length = min(most, least + int(draw.expovariate(1 / (mean - least))))
        start = draw.randrange(len(self._pool) - length)
        return self._pool[start : start + length]


def _record(draw: random.Random, text: _Text, number: int, day: int) -> Record:
    status = draw.choices(("completed", "failed", "cancelled"), (86, 10, 4))[0]
    created = DAY_ONE + timedelta(days=day, seconds=draw.randrange(80_000))
    completed = created + timedelta(seconds=min(4000, int(draw.lognormvariate(4.2, 1.1))))
    record: Record = {
        "task_id": f"task-{number:09d}-{hashlib.blake2s(number.to_bytes(8, 'big'), digest_size=3).hexdigest()}",
        "master": draw.choice(MASTERS) + "-master",
        "task_type": draw.choice(KINDS),
        ("description" if draw.random() < 0.7 else "input"): text(draw, 150, 480, 3000),
        "output": _output(draw, text),
        "status": status,
        "created_at": _time(draw, created),
        "started_at": _time(draw, created + timedelta(seconds=draw.randrange(5))),
        "completed_at": None if status == "cancelled" and draw.random() < 0.5 else _time(draw, completed),
        "error": None if status == "completed" and draw.random() < 0.985 else draw.choice(ERRORS),
        "model": draw.choice(MODELS),
        "tokens": {"input": draw.randrange(300, 9000), "output": draw.randrange(20, 4000)},
        "cost": round(draw.random() / 4, 6),
        "priority": draw.choice(("low", "medium", "high")),
        "metadata": {"worker": f"worker-{draw.randrange(150):03d}", "attempt": 1, "tags": draw.sample(KINDS, 3)},
    }
    score = _score(draw)
    if score != "":
        record["quality_score"] = score
    if draw.random() < 0.1:
        record |= {"ingested_at": completed.strftime("%Y-%m-%dT%H:%M:%S+0000"), "layer": "bronze"}
    retries = draw.randrange(1, 4) if draw.random() < 0.1 else 0
    if draw.random() < 0.9:
        record["retries" if draw.random() < 0.65 else "retry_count"] = retries
    return record


def _output(draw: random.Random, text: _Text) -> object:
    which = draw.random()
    if which < 0.04:
        return ""
    if which < 0.10:
        return json.dumps({"patch": text(draw, 30, 400, 2000), "files": draw.randrange(1, 9)}, ensure_ascii=False)
    if which < 0.16:
        found = [{"id": n, "severity": draw.choice(("low", "high"))} for n in range(draw.randrange(1, 8))]
        return {"summary": text(draw, 30, 250, 900), "findings": found}
    return text(draw, 1, 560, 6000)


def _score(draw: random.Random) -> object:
    which = draw.random()
    if which < 0.92:
        return draw.choice((1, 2, 3, 3.5, 4, 4, 4.5, 5, 5))
    if which < 0.95:
        return None
    return str(draw.randrange(1, 6)) if which < 0.97 else "n/a" if which < 0.975 else ""


def _later(draw: random.Random, record: Record) -> Record:
    """Give the same task again: re-delivered as it was, or finished at last."""
    if draw.random() < 0.5:
        return record
    moved = DAY_ONE + timedelta(hours=23, seconds=draw.randrange(3000))
    return {**record, "status": "completed", "error": None, "quality_score": 5, "completed_at": _rfc3339(moved)}


def _time(draw: random.Random, instant: datetime) -> str:
    which = draw.random()
    if which < 0.80:
        return _rfc3339(instant)
    if which < 0.92:
        return instant.strftime("%Y-%m-%dT%H:%M:%S.") + f"{draw.randrange(10**6):06d}Z"
    if which < 0.97:
        return instant.strftime("%Y-%m-%dT%H:%M:%S+00:00")
    return (instant - timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%S-06:00")


def _rfc3339(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")


_BREAKS: tuple[tuple[str, Callable[[bytes, random.Random], bytes]], ...] = (
    ("truncated", lambda line, draw: line[: draw.randrange(2, len(line) - 2)]),
    ("invalid UTF-8", lambda line, _: line[:-1] + b',"note":"\xe9\xff"}'),
    ("byte order mark", lambda line, _: b"\xef\xbb\xbf" + line),
    ("NaN", lambda line, _: line[:-1] + b',"score":NaN}'),
    ("not JSON", lambda _line, _draw: b"panic: runtime error: index out of range"),
    ("torn write, then whole", lambda line, _: line[: len(line) // 3] + line),
    ("NUL bytes", lambda line, _: bytes(32) + line),
    ("no task id", lambda line, _: line.replace(b'"task_id"', b'"task_key"', 1)),
)


def main() -> None:
    """Write a file and print what stands in it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--days", type=int, default=1)
    options = parser.parse_args()
    written = write(options.path, options.count, seed=options.seed, first=options.first, days=options.days)
    print(f"{written.lines:,} lines, {written.bytes:,} bytes, {written.later_records:,} later records")
    print(f"broken: {dict(written.broken)}")


if __name__ == "__main__":
    main()
