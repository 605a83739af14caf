"""The daemon at many times a real fleet's pace, with the fleet in another process: does it hold its size and its pace?

``python tests/benchmarks/soak.py [--minutes 10] [--rate 50] [--tasks-per-day 2500] [--json]``

Prints a table with a bar beside each figure, and PASS or FAIL; exits with 1 for FAIL. Linux only: memory, descriptors and
threads are read from ``/proc``; tasks of the event loop are counted by a probe that is put into the daemon's interpreter
from outside (``sitecustomize``), which answers to a signal. The daemon itself is the one that ships.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import latency
import measure

from cortex_autolearn.adapters import lock
from cortex_autolearn.model import layout

DAY_S = 86_400
SAMPLE_S, PROBE_S, SCRAPE_S, LOOK_S = 1.0, 5.0, 5.0, 0.02
SETTLED = 0.5
"""The share of the run, its last, in which nothing may grow: by then the night's jobs and a training are behind it."""
PATIENCE_S = 60.0
TASK_ID = re.compile(rb'"task_id"\s*:\s*"(soak-\d+)"')

RSS_MB_A_MINUTE, FDS, THREADS, TASKS = 0.5, 2, 2, 2
LAG_P99_S, LAG_MAX_S = 2.0, 15.0
"""Bars: growth of the memory's line over the settled part, growth of medians from its first to its last third, and the
time from the write of a record to the outcome that follows from it."""

PROBE = """
import asyncio, os, signal

def answer(number, frame):
    try:
        tasks = len(asyncio.all_tasks())
    except RuntimeError:
        return
    path = os.environ["SOAK_PROBE"]
    with open(path + ".new", "w") as file:
        file.write(str(tasks))
    os.replace(path + ".new", path)

signal.signal(signal.SIGUSR2, answer)
"""


@dataclass
class Seen:
    """What was seen of the daemon while it ran; instants in seconds since the fleet began."""

    rss_mb: list[tuple[float, float]] = field(default_factory=list)
    fds: list[tuple[float, float]] = field(default_factory=list)
    threads: list[tuple[float, float]] = field(default_factory=list)
    tasks: list[tuple[float, float]] = field(default_factory=list)
    scrape_s: list[float] = field(default_factory=list)
    worst: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    arrived: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One figure, and what it may be; without a bar it is only shown."""

    name: str
    value: float | int | str
    bar: str = ""
    ok: bool = True


def main() -> None:
    """Run, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=float, default=50, help="how many times a real fleet's pace")
    parser.add_argument("--tasks-per-day", type=float, default=2_500, help="what a real fleet does, over all masters")
    parser.add_argument("--backlog", type=int, default=60_000, help="tasks that are there before the fleet begins")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, help="where to work: give a real disk, as fsync is free on tmpfs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    measure.require_ours()
    with measure.workspace(options.work) as folder:
        rows = Soak(folder, options).run()
    passed = all(row.ok for row in rows)
    if options.json:
        print(json.dumps({"passed": passed, "rows": [vars(row) for row in rows]}, indent=1))
    else:
        shown = [(row.name, row.value, row.bar, ("ok" if row.ok else "FAIL") if row.bar else "") for row in rows]
        print(measure.table(("", "measured", "bar", ""), shown))
        print("PASS" if passed else "FAIL")
    sys.exit(0 if passed else 1)


class Soak:
    """One run in a folder of its own."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._options = options
        self._folder = folder
        self._root = measure.new_root(folder, "root")
        self._probe = folder / "tasks"
        self._journal = folder / "journal.jsonl"
        self._seconds = options.minutes * 60
        self._per_second = options.tasks_per_day * options.rate / DAY_S
        self._arrivals = latency.Arrivals(self._root / measure.HQ_OUTCOMES, TASK_ID)
        self._seen = Seen()
        self._began = 0.0

    def run(self) -> list[Row]:
        """Start the daemon, let the fleet work, stop both, and return what was measured."""
        (self._folder / "sitecustomize.py").write_text(PROBE)
        self._journal.touch()
        self._write_backlog()
        environment = {"PYTHONPATH": str(self._folder), "SOAK_PROBE": str(self._probe), "ANTHROPIC_API_KEY": ""}
        options = [word for one in self._settings() for word in ("--set", one)]
        daemon = measure.Daemon(self._root, self._folder / "daemon.log", options, environment)
        try:
            port = self._port(daemon)
            self._take_backlog(daemon, port)
            before_s, fleet = measure.usage(daemon.pid).cpu_s, self._fleet()
            try:
                self._watch(daemon, port, fleet)
            finally:
                fleet.kill()
                done, _ = fleet.communicate()
            cpu_s, watched_s = measure.usage(daemon.pid).cpu_s - before_s, time.monotonic() - self._began
        finally:
            exit_code, stop_s = daemon.stop()
        return [
            *self._of_fleet(json.loads(done or "{}")),
            *self._of_size(),
            *self._of_pace(),
            *self._of_outcomes(),
            Row("daemon: share of a core, percent", 100 * cpu_s / watched_s),
            Row("daemon: exit code after SIGTERM", exit_code, "0", exit_code == 0),
            Row("daemon: seconds to stop", stop_s, "< 20", stop_s < 20),
        ]

    def _settings(self) -> list[str]:
        """Return the settings: the schedule at the fleet's pace where it may be, and a night in the first half."""
        rate, night = self._options.rate, datetime.now(UTC) + timedelta(seconds=max(60, 0.2 * self._seconds))
        every = {"collection": 3_600, "scoring": 3_600, "status": 21_600}
        return [
            "http.port=0",
            "schedule.timezone=UTC",
            f"schedule.medallion_at={night:%H:%M}",
            f"schedule.readiness_at={night + timedelta(minutes=1):%H:%M}",
            *(f"schedule.{name}_every_s={max(60, round(usual / rate))}" for name, usual in every.items()),
            f"training.poll_s={max(1, round(300 / rate))}",
            f"training.min_examples={max(10, round(self._per_second * self._seconds * 0.05))}",
        ]

    def _write_backlog(self) -> None:
        """Write tasks of a month ago that the rule rejects: they fill the state's caches, which take 8 MiB, and no more."""
        day = datetime.now(UTC) - timedelta(days=40)
        with (self._root / measure.RAW_TASKS / "backlog.jsonl").open("w") as file:
            for number in range(self._options.backlog):
                at = day + timedelta(days=30 * number / self._options.backlog)
                record = {"task_id": f"old-{number:07}", "master": "security-master", "status": "completed"}
                record |= {"input": f"Look into case {number}", "output": "Looked into it, and found nothing. " * 5}
                times = {"created_at": at.isoformat(), "completed_at": at.isoformat()}
                file.write(json.dumps(record | times | {"quality_score": 3.5, "duration_seconds": 20}) + "\n")

    def _take_backlog(self, daemon: measure.Daemon, port: int) -> None:
        """Wait until everything that was there is refined and decided about."""
        deadline = time.monotonic() + 5 * PATIENCE_S
        while self._seen.last.get("tasks_waiting", 1) or self._seen.last['tasks{state="seen"}'] < self._options.backlog:
            daemon.alive()
            if time.monotonic() > deadline:
                raise measure.ChildError("the backlog was never done with")
            time.sleep(1)
            self._scrape(port)
        self._seen = Seen()

    def _port(self, daemon: measure.Daemon) -> int:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            daemon.alive()
            noted = lock.holder(self._root / layout.DAEMON_LOCK).get("http")
            if noted:
                return int(noted[1])
            time.sleep(0.1)
        raise measure.ChildError("the daemon never said where it answers")

    def _fleet(self) -> subprocess.Popen[str]:
        self._began = time.monotonic()
        command = [sys.executable, Path(__file__).with_name("soak_fleet.py"), self._root, self._journal]
        command += ["--per-second", str(self._per_second), "--seconds", str(self._seconds)]
        return subprocess.Popen(
            [str(part) for part in [*command, "--seed", self._options.seed]],
            stdout=subprocess.PIPE,
            text=True,
            env=measure.child_environment(),
        )

    # --- while it runs ----------------------------------------------------------------------------------------------

    def _watch(self, daemon: measure.Daemon, port: int, fleet: subprocess.Popen[str]) -> None:
        """Look at everything in its turn until the fleet is done and all that must come has come, or never will."""
        due = dict.fromkeys(("sample", "probe", "scrape"), 0.0)
        ended_s: float | None = None
        while True:
            now_s = time.monotonic() - self._began
            for task_id in self._arrivals.new():
                self._seen.arrived.setdefault(task_id, time.monotonic())
            if now_s >= due["sample"]:
                daemon.alive()
                self._sample(daemon.pid, now_s)
                due["sample"] = now_s + SAMPLE_S
            if now_s >= due["probe"]:
                os.kill(daemon.pid, signal.SIGUSR2)
                due["probe"] = now_s + PROBE_S
            if now_s >= due["scrape"]:
                self._scrape(port)
                due["scrape"] = now_s + SCRAPE_S
            if ended_s is None and fleet.poll() is not None:
                ended_s = now_s
            if ended_s is not None and (now_s > ended_s + PATIENCE_S or self._is_settled()):
                return
            time.sleep(LOOK_S)

    def _sample(self, pid: int, now_s: float) -> None:
        folder = Path(f"/proc/{pid}")
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        self._seen.rss_mb.append((now_s, int(status["VmRSS"].split()[0]) / 1_024))
        self._seen.threads.append((now_s, int(status["Threads"])))
        self._seen.fds.append((now_s, len(list((folder / "fd").iterdir()))))
        with suppress(FileNotFoundError, ValueError):
            self._seen.tasks.append((now_s, int(self._probe.read_text())))

    def _scrape(self, port: int) -> None:
        began = time.perf_counter()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        self._seen.scrape_s.append(time.perf_counter() - began)
        worst, last = self._seen.worst, self._seen.last
        for line in text.splitlines():
            if line.startswith("cortex_autolearn_"):
                name, _, value = line.removeprefix("cortex_autolearn_").rpartition(" ")
                last[name] = float(value)
                worst[name] = max(worst.get(name, 0.0), float(value))

    def _is_settled(self) -> bool:
        return self._expected() == set(self._collected())

    # --- afterwards -------------------------------------------------------------------------------------------------

    def _told(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._journal.read_text().splitlines()]

    def _expected(self) -> set[str]:
        """Return the tasks whose last record passes."""
        last = {one["task_id"]: one["passes"] for one in self._told()}
        return {task_id for task_id, passes in last.items() if passes}

    def _collected(self) -> Counter[str]:
        files = sorted((self._root / measure.HQ_OUTCOMES).glob("*/*.jsonl"))
        return Counter(found.decode() for path in files for found in TASK_ID.findall(path.read_bytes()))

    def _of_fleet(self, done: dict[str, int]) -> list[Row]:
        pace = f"{self._options.tasks_per_day:g} tasks a day, {self._options.rate:g} times as fast"
        rows = [Row("fleet", pace), Row("fleet: worked for, s", self._seconds)]
        rows += [Row(f"fleet: {name}", count) for name, count in sorted(done.items())]
        return [*rows, Row("fleet: ended well", "yes" if done else "no", "yes", bool(done))]

    def _of_size(self) -> list[Row]:
        rows = []
        settled = [one for one in self._seen.rss_mb if one[0] >= (1 - SETTLED) * self._seconds]
        slope = _slope(settled) * 60
        quick = [value for _, value in self._seen.rss_mb]
        rows.append(Row("memory: RSS at the start, MB", quick[0]))
        rows.append(Row("memory: RSS at the end, MB", quick[-1]))
        rows.append(Row("memory: most, MB", max(quick)))
        rows.append(Row("memory: growth, MB a minute", slope, f"≤ {RSS_MB_A_MINUTE}", slope <= RSS_MB_A_MINUTE))
        for name, series, bar in (
            ("descriptors", self._seen.fds, FDS),
            ("threads", self._seen.threads, THREADS),
            ("tasks of the loop", self._seen.tasks, TASKS),
        ):
            first, last = _thirds([one for one in series if one[0] >= (1 - SETTLED) * self._seconds])
            most = max(value for _, value in series)
            rows.append(Row(f"{name}: first, last median, most", f"{first:g}, {last:g}, {most:g}"))
            rows.append(Row(f"{name}: growth", last - first, f"≤ {bar}", last - first <= bar))
        return rows

    def _of_pace(self) -> list[Row]:
        written: dict[str, float] = {}
        for one in self._told():
            if one["passes"]:
                written.setdefault(one["task_id"], one["at"])
        lags = [at - written[task_id] for task_id, at in self._seen.arrived.items() if task_id in written]
        lags = lags or [math.inf]
        last, worst = self._seen.last, self._seen.worst
        failed = sum(
            int(value) for name, value in last.items() if name.startswith("job_runs_total") and "failed" in name
        )
        lost = sum(int(value) for name, value in last.items() if name.startswith("log_lines_dropped_total"))
        return [
            Row("record → outcome: median, s", statistics.median(lags)),
            Row("record → outcome: p99, s", measure.p(lags, 99), f"≤ {LAG_P99_S:g}", measure.p(lags, 99) <= LAG_P99_S),
            Row("record → outcome: most, s", max(lags), f"≤ {LAG_MAX_S:g}", max(lags) <= LAG_MAX_S),
            Row("unread bronze, longest, s", worst["silver_lag_seconds"], f"≤ {LAG_MAX_S:g}",
                worst["silver_lag_seconds"] <= LAG_MAX_S),
            Row("event loop: latest, s", worst["loop_lag_seconds"]),
            Row("/metrics: median, p99, ms", f"{1e3 * statistics.median(self._seen.scrape_s):.1f}, "
                f"{1e3 * measure.p(self._seen.scrape_s, 99):.1f}"),
            Row("runs that failed", failed, "0", failed == 0),
            Row("slots missed", int(last["schedule_misfires_total"]), "0", not last["schedule_misfires_total"]),
            Row("log lines lost", lost, "0", lost == 0),
        ]  # fmt: skip

    def _of_outcomes(self) -> list[Row]:
        collected, expected = self._collected(), self._expected()
        doubled = sum(count - 1 for count in collected.values())
        lost, left = len(expected - set(collected)), len(set(collected) - expected)
        last = self._seen.last
        learned = [int(last.get(f'events_total{{event="{name}"}}', 0)) for name in _LEARNING]
        return [
            Row("outcomes collected", len(collected)),
            Row("outcomes lost", lost, "0", lost == 0),
            Row("outcomes doubled", doubled, "0", doubled == 0),
            Row("outcomes not withdrawn", left, "0", left == 0),
            Row("trainings ended, tests begun", f"{learned[0]}, {learned[1]}", "each ≥ 1", min(learned) >= 1),
        ]


_LEARNING = ("fine_tune_completed", "ab_test_started")


def _slope(series: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the line that fits best; nothing grows where nothing was seen."""
    if len(series) < 3:
        return 0.0
    times, values = zip(*series, strict=True)
    return statistics.linear_regression(times, values).slope


def _thirds(series: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the medians of a series' first and last third."""
    values = [value for _, value in series] or [0.0]
    size = max(1, len(values) // 3)
    return statistics.median(values[:size]), statistics.median(values[-size:])


if __name__ == "__main__":
    main()
