"""The README's pages for operators and engineers, run as they stand: each command and program, over a real small tree.

What they print is compared with what stands there; dates, places and the user's name are the reader's own.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from rollout_support import BETTER, MASTER, MODEL, Town
from support import objects

from cortex_autolearn.model import layout
from cortex_autolearn.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator

README = (Path(__file__).resolve().parents[1] / "README.md").read_text("utf-8")
DAYS = 9
LEFT_OUT = "…"
DEFAULTS: dict[str, Any] = {
    "min_tasks": 100,
    "maturation_s": 86_400,
    "challenger_percentage": 10,
    "watch_percentage": 20,
    "watch_tasks": 1_000,
}
"""Of the settings that the towns of other tests make quicker, what ships."""


class Block(NamedTuple):
    """A fenced block: what it is written in, and what it holds."""

    language: str
    text: str


def blocks(heading: str) -> list[Block]:
    """Return the fenced blocks of a section."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [Block(*found) for found in re.findall(r"^```(\w+)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)]


def session(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each command of a block, after its ``$``, and the lines that it prints."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *lines = part.splitlines()
        yield command, lines


def masked(line: str, root: Path) -> str:
    """Return a line without what is the reader's own: dates, the place, who they are, and how wide that makes columns."""
    line = line.replace(str(root), "/srv/cortex").replace(getpass.getuser(), "ada")
    line = re.sub(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d+)?Z)?)?", "DATE", line)
    line = re.sub(r"(?<!\d)20\d{6}(?=\.)", "DATE", line)
    return " ".join(line.split())


def is_shown(wanted: list[str], found: list[str]) -> bool:
    """Tell whether lines are the wanted ones, where ``…`` stands for any number of others."""
    if not wanted:
        return not found
    if wanted[0] == LEFT_OUT:
        return any(is_shown(wanted[1:], found[skipped:]) for skipped in range(len(found) + 1))
    return bool(found) and wanted[0] == found[0] and is_shown(wanted[1:], found[1:])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree of nine days up to now: a champion with a history, and a better model six days in its test."""
    clock = FakeClock(datetime.now(UTC) - timedelta(days=DAYS))
    with Town(tmp_path, clock=clock, **DEFAULTS) as town:
        town.past()
        town.skills[MODEL] = BETTER
        town.add_model()
        town.run()
        clock.advance(120)
        town.run()
        for _ in range(10):
            town.work(60, spread_s=43_000)
        town.rooms.everything()
    return tmp_path


def run(root: Path, *words: str) -> str:
    """Run a program of the README where ``CORTEX_HOME`` is set, and return what it prints."""
    result = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "CORTEX_HOME": str(root), "COLUMNS": "100"},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def cortex_autolearn(root: Path, *words: str) -> str:
    """Run the command line."""
    return run(root, "-m", "cortex_autolearn", *words)


def test_the_engineers_page(root: Path) -> None:
    """Both parts, of ten lines at most, run as they stand and print what is said; the task is collected, and counts for the test."""
    before = json.loads(cortex_autolearn(root, "ab", "summary", f"{MASTER}-{MODEL}", "--json"))
    page = blocks("The engineer's page")
    assert [block.language for block in page] == ["python", "text"] * 2
    programs, printed = page[::2], page[1::2]
    assert all(program.text.count("\n") <= 10 for program in programs)
    # The second goes on where the first one ends.
    found = run(root, "-c", "".join(program.text for program in programs)).splitlines()
    wanted = [line for block in printed for line in block.text.splitlines()]
    assert [masked(line, root) for line in found] == [masked(line, root) for line in wanted]
    for job in ("medallion", "collection", "rollout"):
        cortex_autolearn(root, "run-once", job)
    (task_id,) = set(re.findall(r'"(task-\d+-\d+)"', programs[0].text))
    assert [one["task_id"] for one in objects(root / layout.OUTCOMES)].count(task_id) == 1
    after = json.loads(cortex_autolearn(root, "ab", "summary", f"{MASTER}-{MODEL}", "--json"))
    assert after["variants"]["a"]["tasks"] == before["variants"]["a"]["tasks"] + 1


def test_the_operators_day(root: Path) -> None:
    """Every command does what is said, in its order, and prints what is shown."""
    steps = [step for block in blocks("The operator's day") for step in session(block.text)]
    assert len(steps) >= 6
    for command, lines in steps:
        program, *words = shlex.split(command)
        assert program == "cortex-autolearn"
        found = [masked(line, root) for line in cortex_autolearn(root, *words).splitlines()]
        assert is_shown([masked(line, root) for line in lines], found), (command, found)
