"""Killed at any instant of its life, a training is one job and makes one model: real processes, killed, then finished.

The first tests kill at every call that changes a file, and in the middle of every write; the others at random instants.
Run as a program it is the server of these tests: it forks processes that lead a training's life and die when told to.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, cast

import pytest
from support import NOW, Rooms, _Deadly, events, good, quick_folder, slow

from cortex_autolearn import wiring
from cortex_autolearn.adapters import files
from cortex_autolearn.adapters.trainers.exemplar import ExemplarTrainer
from cortex_autolearn.cli.quiet import Quiet
from cortex_autolearn.collect.split import split_of
from cortex_autolearn.exemplars import open_model
from cortex_autolearn.model import layout
from cortex_autolearn.model.training_policy import TrainingPolicy
from cortex_autolearn.ports import Trainer
from cortex_autolearn.redact import redact
from cortex_autolearn.testing import FakeClock
from cortex_autolearn.testing.trainer import Script, ScriptedTrainer
from cortex_autolearn.training.job import Trainings

INSTANTS = 40
MANY_INSTANTS = 100
STEP = 3
"""Every so many calls are deadly; each one is with AUTOLEARN_SLOW_TESTS."""
TRAINING, VALIDATION = 6, 3
MODEL = f"ft-{NOW:%Y%m%d}-001"
BACKENDS = ("exemplar", "scripted")
_LONGEST = 30


def outside(root: Path) -> Path:
    """The folder that is the scripted backend's outside world."""
    return root.parent / f"{root.name}-backend"


def live(root: Path, backend: str) -> None:
    """Do what the daemon does from its start until no training is under way: readiness, then look after them."""
    clock = FakeClock(NOW)
    app = wiring.build(root, clock=clock, environ={}, logging=cast("Any", Quiet()))
    # Each step of the work is a look of its own, so that a kill finds as many instants as there can be.
    trainers: dict[str, Trainer] = {"exemplar": ExemplarTrainer(root, clock, work_s=0)}
    if backend == "scripted":
        script = Script(loses_answers=True, queued_s=60, running_s=1_200)
        trainers = {"scripted": ScriptedTrainer(outside(root), clock, script)}
    policy = TrainingPolicy(min_examples=TRAINING, backend=cast("Any", backend))
    training = Trainings(app.store, app.tree, clock, policy, app.datasets, trainers)
    app.runner.use(app.rooms._replace(training=training))
    with closing(app):
        with app.store.write() as transaction:
            transaction.event("daemon_started")
        app.runner.run("readiness", trigger="schedule", raise_errors=True)
        for _ in range(_LONGEST):
            with app.store.read() as reading:
                if not reading.active_trainings():
                    return
            clock.advance(300)
            app.runner.run("training", trigger="heartbeat", raise_errors=True)
    raise AssertionError("it never ends")


class Lives:
    """Forks processes and kills them: at the n-th call that changes a file, or after a time."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def lead(
        self, root: Path, backend: str, *, die_at: int | None = None, after_s: float | None = None, twice: bool = False
    ) -> dict[str, Any]:
        """Let one process, or two at the same time, lead the life; return how the last one ended."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps([str(root), backend, die_at, after_s, twice]) + "\n")
        self._server.stdin.flush()
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        assert not answer["error"], answer["error"]
        return answer

    def close(self) -> None:
        self._server.communicate()


def serve() -> None:
    redact("")  # its patterns are compiled here, once, and not in every child
    for request in sys.stdin:
        root, backend, die_at, after_s, twice = json.loads(request)
        began = time.monotonic()
        children = [_fork(Path(root), backend, die_at) for _ in range(1 + twice)]
        if after_s is not None:
            time.sleep(max(0.0, began + after_s - time.monotonic()))
            with suppress(ProcessLookupError):
                os.kill(children[0][0], signal.SIGKILL)
        answer: dict[str, Any] = {"error": ""}
        for pid, pipe in children:
            with os.fdopen(pipe) as report:
                told = json.loads(report.read() or "{}")
            _, status = os.waitpid(pid, 0)
            answer |= {"died": status != 0, "calls": -1, "seconds": time.monotonic() - began}
            answer |= {key: value for key, value in told.items() if value}
        print(json.dumps(answer), flush=True)


def _fork(root: Path, backend: str, die_at: int | None) -> tuple[int, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    report: dict[str, Any] = {}
    try:
        calls = _Deadly(die_at)
        calls.arm()
        live(root, backend)
        calls.disarm()
        report = {"calls": calls.made}
    except BaseException as error:
        report = {"error": f"{type(error).__name__}: {error}"}
    os.write(writing, json.dumps(report).encode())
    os._exit(0)


@pytest.fixture(scope="module")
def lives() -> Iterator[Lives]:
    server = Lives()
    yield server
    server.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as found:
        yield found


@pytest.fixture
def source(folder: Path) -> Path:
    """A ROOT with outcomes that were really collected, and nothing trained."""
    root = folder / "source"
    names = [f"task-{number}" for number in range(60)]
    chosen = [name for name in names if split_of(name, 80) == "training"][:TRAINING]
    chosen += [name for name in names if split_of(name, 80) == "validation"][:VALIDATION]
    with Rooms(root) as rooms:
        rooms.put(
            "tasks.jsonl", *(good(name, input=f"Look at host {name}: {name}a {name}b {name}c") for name in chosen)
        )
        rooms.everything()
        assert len(rooms.collected()) == TRAINING + VALIDATION
    return root


def copied(source: Path, name: str) -> Path:
    root = source.parent / name
    shutil.copytree(source, root)
    return root


def rows(root: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(root / layout.STATE)) as connection:
        return connection.execute(query).fetchall()


def check(root: Path, backend: str) -> None:
    """There is one job and one model, told of once each; and nothing besides."""
    assert rows(root, "SELECT model_id, state, ending FROM training_jobs") == [(MODEL, "succeeded", None)]
    assert rows(root, "SELECT model_id FROM models") == [(MODEL,)]
    folders = sorted(path.name for path in (root / layout.MODELS).glob("*") if path.is_dir())
    if backend == "exemplar":
        assert folders == [MODEL]
        with open_model(root / layout.MODELS / MODEL) as model:
            assert model.size == TRAINING
    else:
        assert folders == []
        (job,) = ScriptedTrainer(outside(root), FakeClock(NOW)).jobs()
        assert job.model_id == MODEL
    datasets = [path.name for path in (root / layout.DATASETS).iterdir()]
    assert datasets == [row[0] for row in rows(root, "SELECT dataset_id FROM datasets")]
    assert len(datasets) == 1
    told = events(root)
    assert [one["seq"] for one in told] == list(range(1, len(told) + 1))
    names = [one["event"] for one in told]
    assert [names.count(f"fine_tune_{kind}") for kind in ("triggered", "completed", "failed")] == [1, 1, 0]
    assert names.count("dataset_created") == 1
    assert len({one["percent"] for one in told if one["event"] == "fine_tune_progress"}) == names.count(
        "fine_tune_progress"
    )
    assert not (root / layout.FINE_TUNE_TRIGGER).exists()
    check_leftovers(root)


def check_leftovers(root: Path) -> None:
    """Nothing stays but what the daemon removes when it starts: the trigger file's own temporary, of one kill each."""
    left = list(root.rglob(".*.tmp"))
    assert all(path.name.startswith(f".{Path(layout.FINE_TUNE_TRIGGER).name}.") for path in left), left
    files.clean_temporaries(root / layout.AUTOLEARN, 0)
    assert not [path for path in left if path.exists()]


def clear(root: Path) -> None:
    shutil.rmtree(root)
    shutil.rmtree(outside(root), ignore_errors=True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_at_any_call(backend: str, source: Path, lives: Lives) -> None:
    """At each commit, fsync, rename and write a process dies; the next one finishes: one job, one model."""
    root = copied(source, "whole")
    calls = lives.lead(root, backend)["calls"]
    check(root, backend)
    assert calls > 60
    step = 1 if "AUTOLEARN_SLOW_TESTS" in os.environ else STEP
    for die_at in range(random.Random(backend).randrange(step), calls, step):
        root = copied(source, f"at-{die_at}")
        assert lives.lead(root, backend, die_at=die_at)["died"], die_at
        assert not lives.lead(root, backend)["died"]
        check(root, backend)
        clear(root)


@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_at_random_instants(backend: str, source: Path, lives: Lives) -> None:
    """SIGKILL at instants drawn at random, up to three times in a life, and then it is finished."""
    killed_at_instants(backend, source, lives, INSTANTS)


@slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_at_many_random_instants(backend: str, source: Path, lives: Lives) -> None:
    """The same at a hundred instants."""
    killed_at_instants(backend, source, lives, MANY_INSTANTS)


def killed_at_instants(backend: str, source: Path, lives: Lives, instants: int) -> None:
    whole_s = lives.lead(copied(source, "whole"), backend)["seconds"]
    chance = random.Random(instants)
    deaths = 0
    number = 0
    while number < instants:
        root = copied(source, f"instant-{number}")
        for _ in range(chance.randint(1, 3)):
            deaths += lives.lead(root, backend, after_s=chance.uniform(0, whole_s))["died"]
            number += 1
        assert not lives.lead(root, backend)["died"]
        check(root, backend)
        clear(root)
    assert deaths > instants // 4


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_processes_at_once(backend: str, source: Path, lives: Lives) -> None:
    """Two daemons' worth of work at the same time is one job and one model."""
    for number in range(3):
        root = copied(source, f"two-{number}")
        assert not lives.lead(root, backend, twice=True)["died"]
        check(root, backend)
        clear(root)


if __name__ == "__main__":
    serve()
