"""What the benchmarks share: children timed whole, medians, tables, a process watched from outside.

It generates no input (``bronze`` does) and knows no contender (``medallion`` does). Linux only: it reads ``/proc``.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LAUNCHER = Path(__file__).resolve().with_name("launch.py")
RAW_TASKS = Path("coordination/medallion/bronze/raw-tasks")
PROCESSED_TASKS = Path("coordination/medallion/silver/processed-tasks")
GOLD = Path("coordination/medallion/gold")
HQ_OUTCOMES = Path("llm-mesh/auto-learning/hq-outcomes")


@dataclass(frozen=True)
class Cost:
    """What one child took, with every process that it started and waited for."""

    cpu_s: float
    user_s: float
    system_s: float
    wall_s: float
    peak_rss_mb: float
    stdout: str

    def plus(self, other: Cost) -> Cost:
        """Two children run one after the other: times add up, the higher peak stands."""
        return Cost(
            self.cpu_s + other.cpu_s,
            self.user_s + other.user_s,
            self.system_s + other.system_s,
            self.wall_s + other.wall_s,
            max(self.peak_rss_mb, other.peak_rss_mb),
            self.stdout + other.stdout,
        )


class ChildError(Exception):
    """A measured child did not exit with 0, so that its numbers mean nothing."""


def timed(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Cost:
    """Run ``command`` and return its cost; raises ``ChildError`` with the end of its standard error."""
    with tempfile.TemporaryDirectory() as folder:
        report, out, err = (Path(folder, name) for name in ("report", "out", "err"))
        with out.open("wb") as stdout, err.open("wb") as stderr:
            launcher = subprocess.Popen(
                [sys.executable, "-I", "-S", LAUNCHER, report, *command],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env={**child_environment(), **(environment or {})},
                start_new_session=True,
            )
            try:
                code = launcher.wait()
            except BaseException:
                os.killpg(launcher.pid, signal.SIGKILL)
                launcher.wait()
                raise
        if code != 0:
            tail = err.read_bytes()[-2000:].decode("utf-8", "replace")
            raise ChildError(f"{' '.join(str(part) for part in command)}: exit {code}\n{tail}")
        usage = json.loads(report.read_bytes())
        return Cost(cpu_s=usage["user_s"] + usage["system_s"], stdout=out.read_text("utf-8", "replace"), **usage)


def child_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a child's environment: ours, with this checkout importable and no configuration of the user's, and more.

    Bytecode is kept, as that of an installed package is: else every start would compile this checkout anew.
    """
    left_out = ("CORTEX_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    more = more or {}
    path = [str(REPOSITORY), *filter(None, [more.get("PYTHONPATH"), kept.get("PYTHONPATH")])]
    return {**kept, **more, "PYTHONPATH": os.pathsep.join(path)}


def ours(*arguments: str | Path) -> list[str | Path]:
    """Return the command line of the package under test."""
    return [sys.executable, "-m", "cortex_autolearn", *arguments]


def ours_exists() -> bool:
    """Whether this checkout has a command line to measure."""
    return (REPOSITORY / "cortex_autolearn" / "__main__.py").is_file()


def require_ours() -> None:
    """Leave with a sentence when there is no command line to measure."""
    if not ours_exists():
        raise SystemExit("cortex_autolearn has no __main__.py in this checkout: nothing to measure")


def installed(module: str) -> bool:
    """Whether an optional package can be imported here, without importing it."""
    return importlib.util.find_spec(module) is not None


def threads() -> int:
    """How many threads this process may run at once."""
    return len(os.sched_getaffinity(0))


def p(values: Sequence[float], percent: float) -> float:
    """Percentile by nearest rank, as the gold layer has it."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Smallest, median, largest."""
    return min(values), statistics.median(values), max(values)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lay out a plain table: first column to the left, the others to the right."""
    cells = [[_cell(value) for value in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = []
    for row in cells:
        first, *rest = (text.ljust(width) if i == 0 else text.rjust(width)
                        for i, (text, width) in enumerate(zip(row, widths, strict=True)))  # fmt: skip
        lines.append("  ".join([first, *rest]).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)


@contextmanager
def workspace(where: Path | None) -> Iterator[Path]:
    """Make a folder of our own below ``where`` (default: the system's temporary one), removed at the end."""
    if where is not None:
        where.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="cortex-autolearn-bench-", dir=where))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_root(folder: Path, name: str, source: Path | None = None, day: str = "20251127") -> Path:
    """Make a fresh ROOT; ``source`` stands in it as one bronze file, hard-linked where the file system allows it."""
    root = folder / name
    bronze = root / RAW_TASKS
    bronze.mkdir(parents=True)
    if source is not None:
        target = bronze / f"tasks-{day}.jsonl"
        try:
            target.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, target)
    return root


@dataclass(frozen=True)
class Usage:
    """A running process, with its descendants, at one instant."""

    cpu_s: float
    rss_mb: float
    pss_mb: float
    threads: int


def usage(pid: int) -> Usage:
    """Read a running process tree: its CPU clocks, threads that have ended included, and sizes from ``/proc``."""
    cpu_ns, rss_kb, pss_kb, count = 0, 0, 0, 0
    for member in _tree(pid):
        folder = Path(f"/proc/{member}")
        cpu_ns += time.clock_gettime_ns((~member << 3) | 2)  # what clock_getcpuclockid(3) makes of a process's number
        count += len(list((folder / "task").iterdir()))
        rss_kb += _kilobytes(folder / "status", "VmRSS:")
        pss_kb += _kilobytes(folder / "smaps_rollup", "Pss:")
    return Usage(cpu_ns / 1e9, rss_kb / 1024, pss_kb / 1024, count)


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has ended meanwhile
            for child in (task / "children").read_text().split():
                yield from _tree(int(child))


def _kilobytes(file: Path, key: str) -> int:
    for line in file.read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    return 0


class Daemon:
    """The daemon as a child: started on a root, stopped with SIGTERM."""

    def __init__(
        self, root: Path, output: Path, options: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it on ``root``; what it prints goes to ``output``; ``environment`` is added to ours."""
        self._output = output.open("wb")
        self._child = subprocess.Popen(
            [str(part) for part in ours("run", "--root", root, "--init", *options)],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env=child_environment(environment),
        )
        self.pid = self._child.pid
        self._log = output

    def alive(self) -> None:
        """Raise ``ChildError`` with the end of the log when the daemon has ended by itself."""
        code = self._child.poll()
        if code is not None:
            tail = self._log.read_bytes()[-2000:].decode("utf-8", "replace")
            raise ChildError(f"the daemon ended with {code}\n{tail}")

    def stop(self, patience_s: float = 30.0) -> tuple[int, float]:
        """SIGTERM, then SIGKILL after ``patience_s``; returns the exit code and the seconds it took."""
        began = time.perf_counter()
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
        try:
            code = self._child.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._child.kill()
            code = self._child.wait()
        finally:
            self._output.close()
        return code, time.perf_counter() - began
