"""Killed at any instant of its life, a job at an API that knows no idempotency is one job, and makes one model.

Real processes lead the life against the loopback service, and are killed before, within and after every call that
changes a file or speaks to the service, and at random instants. Run as a program it is the server of these tests.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai  # noqa: F401 -- imported once, and not in every child
import pytest
from openai_api import BASE, Fault, OpenaiApi
from openai_support import openai_spec
from support import NOW, _Deadly, quick_folder, slow
from test_trainers import freeze

from cortex_autolearn.adapters.trainers.openai_compat import OpenaiTrainer
from cortex_autolearn.model import layout
from cortex_autolearn.model.openai_policy import OpenaiPolicy
from cortex_autolearn.model.training_jobs import DatasetRef, client_token
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.testing import FakeClock

INSTANTS = 12
MANY_INSTANTS = 100
STEP = 8
"""Every so many calls are deadly; each one is with AUTOLEARN_SLOW_TESTS."""
_MOST_LOOKS = 200


def live(root: Path, url: str, key: str, dataset: DatasetRef) -> None:
    """Lead a job's life from wherever it is: look, submit, poll to the end, deploy."""
    clock = FakeClock(NOW)
    environ = {"OPENAI_API_KEY": key}
    spec = openai_spec(dataset)
    token = client_token(spec)
    for _ in range(_MOST_LOOKS):
        trainer = OpenaiTrainer(root, clock, policy=OpenaiPolicy(base_url=url), prices={}, environ=environ)
        try:
            job = trainer.find(token) or trainer.submit(spec, token)
            job = trainer.poll(job.job_id)
            if job.model is not None:
                assert trainer.deploy(job.model, "d").state == "ready"
                return
        except BoundaryError as error:
            assert error.retryable, error
            # What the killed one has sent is on its way for as long as it takes here, and for two minutes by this clock.
            time.sleep(0.05)
            urllib.request.urlopen(url.replace("/v1", "/at-rest")).close()  # noqa: S310 -- the loopback service
            clock.advance(10)
    raise AssertionError("it never ends")


class _Deaths(_Deadly):
    """Speaking to the service counts as well: before it, in the middle of it, and after it."""

    def arm(self) -> None:
        super().arm()
        send, receive = socket.socket.send, socket.socket.recv

        def sent(connection: Any, data: Any, *args: Any) -> int:
            self.step()
            if self._armed and self.made == self._die_at:
                send(connection, bytes(data)[: len(data) // 2], *args)
            self.step()
            count = send(connection, data, *args)
            self.step()
            return count

        def sent_whole(connection: Any, data: Any, *args: Any) -> None:
            left = memoryview(data)
            while left:
                left = left[sent(connection, left, *args) :]

        def received(connection: Any, *args: Any) -> bytes:
            data = receive(connection, *args)
            self.step()
            return data

        socket.socket.send = sent  # type: ignore[method-assign]
        socket.socket.sendall = sent_whole  # type: ignore[method-assign]
        socket.socket.recv = received  # type: ignore[method-assign]


class Lives:
    """Forks processes and kills them: at the n-th call, or after a time."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def lead(
        self,
        root: Path,
        api: OpenaiApi,
        dataset: DatasetRef,
        *,
        die_at: int | None = None,
        after_s: float | None = None,
    ) -> dict[str, Any]:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        counts = [dataset.dataset_id, dataset.folder, dataset.train, dataset.validation]
        self._server.stdin.write(json.dumps([str(root), api.url, api.key, counts, die_at, after_s]) + "\n")
        self._server.stdin.flush()
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        assert not answer["error"], answer["error"]
        return answer

    def close(self) -> None:
        self._server.communicate()


def serve() -> None:
    for request in sys.stdin:
        root, url, key, counts, die_at, after_s = json.loads(request)
        began = time.monotonic()
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            report: dict[str, Any] = {}
            try:
                calls = _Deaths(die_at)
                calls.arm()
                live(Path(root), url, key, DatasetRef(*counts))
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


@pytest.fixture(scope="module")
def lives() -> Iterator[Lives]:
    server = Lives()
    yield server
    server.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as found:
        yield found


class World:
    """A ROOT with a dataset and a service of its own, for each life one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._source = folder / "source"
        self.dataset = freeze(self._source, train=12, validation=3)

    def root(self) -> Path:
        root = self._folder / "root"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self._source, root)
        return root


def services(number: int) -> OpenaiApi:
    """A service that moves a job on at each look; each other keeps no metadata, and is slow to take what it is sent."""
    api = OpenaiApi(keeps_metadata=number % 2 == 0)
    api.moves_when_asked = True
    if number % 3 == 0:
        api.faults.append(Fault("POST /", "slow", times=1_000, wait_s=0.02))
    return api


def check(api: OpenaiApi, root: Path) -> None:
    """There is one job, one model, no upload; nothing is staged here."""
    api.at_rest()
    (job,) = api.jobs.values()
    assert job["status"] == "succeeded"
    assert sorted(api.models) == sorted([BASE, job["fine_tuned_model"]])
    assert not api.files
    models = root / layout.MODELS
    names = sorted(path.name for path in models.iterdir() if not path.name.endswith(".tmp"))
    assert [name.endswith(".openai.json") for name in names] == [True, False]
    assert names[1] == "ft-20261122-001"


@pytest.mark.timeout(900)
def test_killed_between_any_two_steps(folder: Path, lives: Lives) -> None:
    """Before, in the middle of and after each call a process dies; the next one finishes: one job, one model."""
    world = World(folder)
    with services(0).serving() as api:
        root = world.root()
        calls = lives.lead(root, api, world.dataset)["calls"]
        check(api, root)
    assert calls > 60
    step = 1 if "AUTOLEARN_SLOW_TESTS" in os.environ else STEP
    for die_at in range(random.Random("openai").randrange(step), calls, step):
        with services(die_at).serving() as api:
            root = world.root()
            lives.lead(root, api, world.dataset, die_at=die_at)
            assert not lives.lead(root, api, world.dataset)["died"]
            check(api, root)


def killed_at_instants(folder: Path, lives: Lives, instants: int) -> None:
    world = World(folder)
    chance = random.Random(instants)
    whole_s = 0.0
    deaths = 0
    for number in range(10 * instants):
        if deaths >= instants:
            return
        with services(number).serving() as api:
            root = world.root()
            for _ in range(chance.randint(1, 3) if number else 0):  # the first is measured
                deaths += lives.lead(root, api, world.dataset, after_s=chance.uniform(0, whole_s))["died"]
            answer = lives.lead(root, api, world.dataset)
            assert not answer["died"]
            whole_s = whole_s or answer["seconds"]
            check(api, root)
    raise AssertionError(f"only {deaths} of {instants} were killed")


@pytest.mark.timeout(300)
def test_killed_at_random_instants(folder: Path, lives: Lives) -> None:
    """SIGKILL at instants drawn at random, up to three times in a life, with no pause before the next."""
    killed_at_instants(folder, lives, INSTANTS)


@slow
@pytest.mark.timeout(600)
def test_killed_at_many_random_instants(folder: Path, lives: Lives) -> None:
    """The same at a hundred instants."""
    killed_at_instants(folder, lives, MANY_INSTANTS)


if __name__ == "__main__":
    serve()
