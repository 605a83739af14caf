"""Killed at any instant of its life, a job is one job and makes one model: real processes, killed, then finished.

Run as a program it is the server of these tests: it forks processes that lead a job's life and die when told to.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support import NOW, _Deadly, quick_folder, slow
from test_trainers import BASE, PRICE, freeze, spec_of

from cortex_autolearn.adapters.trainers.exemplar import ExemplarTrainer
from cortex_autolearn.adapters.trainers.export import ExportTrainer
from cortex_autolearn.exemplars import open_model
from cortex_autolearn.model import layout
from cortex_autolearn.model.training_jobs import DatasetRef, client_token
from cortex_autolearn.testing import FakeClock

INSTANTS = 20
MANY_INSTANTS = 100
BACKENDS = ("exemplar", "export")


def live(root: Path, backend: str, dataset: DatasetRef) -> None:
    """Lead a job's life from wherever it is: look, submit, poll to the end, deploy."""
    clock = FakeClock(NOW)
    trainer: Any = ExemplarTrainer(root, clock, prices={BASE: PRICE}, work_s=0)
    if backend == "export":
        trainer = ExportTrainer(root, clock)
    spec = spec_of(dataset, backend=backend)
    token = client_token(spec)
    job = trainer.find(token) or trainer.submit(spec, token)
    while not job.ended:
        job = trainer.complete(job.job_id, "x") if job.waiting_for_person else trainer.poll(job.job_id)
    assert job.state == "succeeded", job
    assert trainer.deploy(job.model, "d").state == "ready"


class Lives:
    """Forks processes and kills them: at the n-th call that changes a file, or after a time."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def lead(
        self, root: Path, backend: str, dataset: DatasetRef, *, die_at: int | None = None, after_s: float | None = None
    ) -> dict[str, Any]:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        counts = [dataset.dataset_id, dataset.folder, dataset.train, dataset.validation]
        self._server.stdin.write(json.dumps([str(root), backend, counts, die_at, after_s]) + "\n")
        self._server.stdin.flush()
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        assert not answer["error"], answer["error"]
        return answer

    def close(self) -> None:
        self._server.communicate()


def serve() -> None:
    for request in sys.stdin:
        root, backend, counts, die_at, after_s = json.loads(request)
        began = time.monotonic()
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            report: dict[str, Any] = {}
            try:
                calls = _Deadly(die_at)
                calls.arm()
                live(Path(root), backend, DatasetRef(*counts))
                calls.disarm()
                report = {"calls": calls.made}
            except BaseException as error:
                report = {"error": f"{type(error).__name__}: {error}"}
            os.write(writing, json.dumps(report).encode())
            os._exit(0)
        os.close(writing)
        if after_s is not None:
            time.sleep(max(0.0, began + after_s - time.monotonic()))
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with os.fdopen(reading) as pipe:
            text = pipe.read()
        _, status = os.waitpid(pid, 0)
        answer = {"died": status != 0, "calls": -1, "seconds": time.monotonic() - began, "error": ""}
        print(json.dumps(answer | (json.loads(text) if text else {})), flush=True)


def picture(root: Path) -> dict[str, bytes]:
    """All that stands below models/, but for the lock: it means nothing."""
    models = root / layout.MODELS
    return {
        str(path.relative_to(models)): path.read_bytes()
        for path in sorted(models.rglob("*"))
        if path.is_file() and path.name != ".trainer.lock"
    }


@pytest.fixture(scope="module")
def lives() -> Iterator[Lives]:
    server = Lives()
    yield server
    server.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as found:
        yield found


def check(root: Path, expected: dict[str, bytes]) -> None:
    """There is one model, as it would have been undisturbed, and nothing besides."""
    assert [path.name for path in (root / layout.MODELS).iterdir() if path.is_dir()] == ["ft-20261122-001"]
    assert picture(root) == expected


def rooted(folder: Path, name: str, source: Path) -> Path:
    root = folder / name
    shutil.copytree(source, root)
    return root


def undisturbed(folder: Path, backend: str, lives: Lives) -> tuple[Path, DatasetRef, dict[str, bytes], dict[str, Any]]:
    """A folder with a dataset, what comes of it when nobody is killed, and what that took."""
    source = folder / "source"
    dataset = freeze(source, train=6, validation=3)
    root = rooted(folder, "whole", source)
    answer = lives.lead(root, backend, dataset)
    assert not answer["died"]
    return source, dataset, picture(root), answer


@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_between_any_two_steps_there_is_one_model(backend: str, folder: Path, lives: Lives) -> None:
    """At each call that changes a file a process dies; the next one finishes, and all is as if nobody had died."""
    source, dataset, expected, answer = undisturbed(folder, backend, lives)
    assert answer["calls"] > 30
    for die_at in range(answer["calls"]):
        root = rooted(folder, f"at-{die_at}", source)
        assert lives.lead(root, backend, dataset, die_at=die_at)["died"]
        assert not lives.lead(root, backend, dataset)["died"]
        check(root, _but_for_leftovers(root, expected))
        shutil.rmtree(root)


def _but_for_leftovers(root: Path, expected: dict[str, bytes]) -> dict[str, bytes]:
    """Temporary files of replaced files may stay in a finished model; whoever looks after the folder removes them."""
    left = {name: data for name, data in picture(root).items() if name.endswith(".tmp")}
    assert len(left) <= 1
    return expected | left


@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_twice_at_any_two_steps(backend: str, folder: Path, lives: Lives) -> None:
    """Killed, taken up, killed again at another step, and taken up again: still one model."""
    source, dataset, expected, answer = undisturbed(folder, backend, lives)
    chance = random.Random(backend)
    for number in range(INSTANTS):
        root = rooted(folder, f"twice-{number}", source)
        for _ in range(2):
            lives.lead(root, backend, dataset, die_at=chance.randrange(answer["calls"]))
        assert not lives.lead(root, backend, dataset)["died"]
        found = {name: data for name, data in picture(root).items() if not name.endswith(".tmp")}
        assert found == expected
        shutil.rmtree(root)


def killed_at_instants(folder: Path, lives: Lives, instants: int) -> None:
    source, dataset, expected, answer = undisturbed(folder, "exemplar", lives)
    chance = random.Random(instants)
    deaths = 0
    for number in range(instants):
        root = rooted(folder, f"instant-{number}", source)
        deaths += lives.lead(root, "exemplar", dataset, after_s=chance.uniform(0, answer["seconds"]))["died"]
        assert not lives.lead(root, "exemplar", dataset)["died"]
        found = {name: data for name, data in picture(root).items() if not name.endswith(".tmp")}
        assert found == expected
        with open_model(root / layout.MODELS / "ft-20261122-001") as model:
            assert model.size == 6
        shutil.rmtree(root)
    assert deaths > instants // 4


def test_killed_at_random_instants(folder: Path, lives: Lives) -> None:
    """SIGKILL at twenty instants drawn at random: one job, one model, nothing orphaned."""
    killed_at_instants(folder, lives, INSTANTS)


@slow
def test_killed_at_many_random_instants(folder: Path, lives: Lives) -> None:
    """The same at a hundred instants."""
    killed_at_instants(folder, lives, MANY_INSTANTS)


def test_two_processes_on_one_job_make_one_model(folder: Path, lives: Lives) -> None:
    """Two that lead the same life at the same time, because a lock was lost, end with one model."""
    source, dataset, expected, _ = undisturbed(folder, "exemplar", lives)
    other = Lives()
    try:
        for number in range(5):
            root = rooted(folder, f"two-{number}", source)
            command = [str(root), "exemplar", [dataset.dataset_id, dataset.folder, 6, 3], None, None]
            assert other._server.stdin is not None
            assert other._server.stdout is not None
            other._server.stdin.write(json.dumps(command) + "\n")
            other._server.stdin.flush()
            lives.lead(root, "exemplar", dataset)
            answer = json.loads(other._server.stdout.readline())
            assert not answer["error"], answer["error"]
            check(root, expected)
    finally:
        other.close()


if __name__ == "__main__":
    serve()
