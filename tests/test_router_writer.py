"""The router beside a process that keeps rewriting the routes: nothing torn, nothing older than a tenth of a second."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import slow

from cortex_autolearn.model import layout
from cortex_autolearn.model.choice import Choice
from cortex_autolearn.router import Router

MAX_VERSIONS = 1_000_000
STALE_S = 0.1
LEAST_SEEN = 3

WRITER = """
import json, mmap, os, random, struct, sys, time
path, clock, manner, versions = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
dice = random.Random(manner)
with open(clock, "r+b") as file:
    written = mmap.mmap(file.fileno(), 0)
masters = {f"m{number}-master": None for number in range(20)}
number = 0
while number < versions:
    number += 1
    champion = {"model": f"model-{number}", "version": f"v{number}", "kind": "base"}
    challenger = {"model": f"ft-{number}", "version": f"ft-{number}", "kind": "exemplar"}
    one = {"champion": champion, "challenger": challenger, "experiment": f"e-{number}", "challenger_percentage": 50}
    data = json.dumps({"generated_at": str(number), "masters": dict.fromkeys(masters, one)}).encode()
    how = "replace" if manner == "replace" else dice.choice(["replace", "cut", "half", "append", "away", "rubbish"])
    if how == "cut":  # in place, in several steps
        with open(path, "wb", buffering=0) as file:
            for start in range(0, len(data), 1000):
                file.write(data[start:start + 1000])
    else:
        if how == "half":
            with open(path, "wb") as file:
                file.write(data[: dice.randrange(len(data))])
        elif how == "append":
            with open(path, "ab") as file:
                file.write(data)
        elif how == "away":
            os.unlink(path)
        elif how == "rubbish":
            with open(path, "wb") as file:
                file.write(dice.randbytes(dice.randrange(20_000)))
        if how != "replace":
            time.sleep(dice.random() * 0.02)
        with open(path + ".tmp", "wb") as file:
            file.write(data)
        os.replace(path + ".tmp", path)
    struct.pack_into("d", written, 8 * number, time.monotonic())
    time.sleep(0.008)
    if os.getppid() != int(sys.argv[5]):
        break
"""


@contextmanager
def writer(root: Path, manner: str) -> Iterator[memoryview[float]]:
    """Start a process that writes version 1, 2, …; yield when each was in place, in monotonic seconds (0.0: not yet)."""
    path, clock = root / layout.ROUTES, root / "clock"
    path.parent.mkdir(parents=True)
    clock.touch()
    os.truncate(clock, 8 * (MAX_VERSIONS + 1))
    with clock.open("r+b") as file, mmap.mmap(file.fileno(), 0) as shared, memoryview(shared).cast("d") as times:
        command: list[str | Path] = [sys.executable, "-c", WRITER, path, clock, manner]
        command += [str(MAX_VERSIONS - 1), str(os.getpid())]
        child = subprocess.Popen(command, stderr=subprocess.PIPE)
        try:
            deadline = time.monotonic() + 20
            while not times[1]:
                assert child.poll() is None, child.communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield times
            assert child.poll() is None, child.communicate()[1]
        finally:
            child.kill()
            child.communicate()


def choose_beside(root: Path, manner: str, choices: int) -> tuple[int, float]:
    """Choose so often while the routes are rewritten, and check every choice; return the versions seen, and the oldest.

    On a disk that is busy the writer may stand still for as long as all of that takes: then go on until it moved.
    """
    masters = [f"m{number}" for number in range(20)]
    task_ids = [f"task-{number}" for number in range(97)]
    with writer(root, manner) as times:
        router = Router(root)
        made, seen, current, oldest_s = 0, 0, 0, 0.0
        last = None
        now = time.monotonic
        deadline = now() + 60
        while made < choices or (seen < LEAST_SEEN and now() < deadline):
            for task_id in task_ids:
                asked_at = now()
                choice = router.choose(masters[made % 20], task_id)
                made += 1
                if choice.experiment is not last:
                    last = choice.experiment
                    current, before = check_whole(choice), current
                    assert current >= before, "an older document came back"
                    seen += current != before
                # The next version was in place at this time: so long after, this one must not be chosen any more.
                replaced_at = times[current + 1]
                if replaced_at and asked_at - replaced_at > oldest_s:
                    oldest_s = asked_at - replaced_at
    return seen, oldest_s


def check_whole(choice: Choice) -> int:
    """Check that everything in a choice is of one version, and return its number."""
    assert choice.experiment is not None
    number = int(choice.experiment[2:])
    champion = choice.fallback or choice
    assert (champion.version, champion.model) == (f"v{number}", f"model-{number}")
    if choice.fallback:
        assert (choice.version, champion.experiment) == (f"ft-{number}", choice.experiment)
    return number


@pytest.mark.parametrize("choices", [300_000, pytest.param(10_000_000, marks=[slow, pytest.mark.timeout(600)])])
def test_nothing_torn_and_nothing_stale(tmp_path: Path, choices: int) -> None:
    """Beside 100 replacements a second every choice is of one whole document, replaced no more than 100 ms ago."""
    seen, oldest_s = choose_beside(tmp_path, "replace", choices)
    assert seen >= LEAST_SEEN
    assert oldest_s <= STALE_S
    print(f"{choices:,} choices, {seen} versions seen, the oldest replaced {oldest_s * 1000:.1f} ms before")


@pytest.mark.parametrize("choices", [300_000, pytest.param(3_000_000, marks=[slow, pytest.mark.timeout(600)])])
def test_writer_of_the_worst_manners(tmp_path: Path, choices: int) -> None:
    """Beside files cut, written in place, doubled, removed and filled with rubbish, every choice is of one whole document."""
    seen, _ = choose_beside(tmp_path, "worst", choices)
    assert seen >= LEAST_SEEN
