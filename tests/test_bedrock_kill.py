"""Killed at any instant, a training in Bedrock is one job, one model, one deployment, and leaves no upload behind.

Real processes, killed, then finished: between any two calls to AWS, right after one was carried out and before its
answer came, and at random instants. Run as a program it is the server of these tests, which forks the processes.
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
from threading import Event
from typing import Any, cast

import pytest
from bedrock_api import BUCKET, NOVA, BedrockApi
from bedrock_support import POLICY, PRICE, credentials, fresh, service
from support import NOW, Rooms, events, good, quick_folder, slow

from cortex_autolearn import wiring
from cortex_autolearn.adapters.trainers.bedrock import Aws, BedrockTrainer
from cortex_autolearn.cli.quiet import Quiet
from cortex_autolearn.collect.split import split_of
from cortex_autolearn.model import layout
from cortex_autolearn.model.training_policy import TrainingPolicy
from cortex_autolearn.ports import Trainer
from cortex_autolearn.redact import redact
from cortex_autolearn.testing import FakeClock
from cortex_autolearn.training.job import Trainings

INSTANTS = 10
MANY_INSTANTS = 100
STEP = 4
"""Every so many calls are deadly; each one is with AUTOLEARN_SLOW_TESTS."""
TRAINING, VALIDATION = 8, 8
MODEL = f"ft-{NOW:%Y%m%d}-001"
_LONGEST = 40
_TICK_S = 200.0
"""Each request moves the service's clock on, so that a life has an end."""


def live(root: Path, aws: Aws) -> None:
    """Do what the daemon does until no training is under way; then have the model served, and served no more."""
    clock = FakeClock(NOW)
    app = wiring.build(root, clock=clock, environ={}, logging=cast("Any", Quiet()))
    trainer = BedrockTrainer(root, clock, policy=POLICY, prices={NOVA: PRICE}, aws=aws)
    trainers: dict[str, Trainer] = {"bedrock": trainer}
    policy = TrainingPolicy(min_examples=TRAINING, backend="bedrock", base_model=NOVA)
    training = Trainings(app.store, app.tree, clock, policy, app.datasets, trainers)
    app.runner.use(app.rooms._replace(training=training))
    with closing(app):
        app.runner.run("readiness", trigger="schedule", raise_errors=True)
        for _ in range(_LONGEST):
            with app.store.read() as reading:
                if not reading.active_trainings():
                    break
            clock.advance(300)
            app.runner.run("training", trigger="heartbeat", raise_errors=True)
        with app.store.read() as reading:
            model = reading.model(MODEL)
    assert model is not None
    endpoint = trainer.deploy(model.ref, "deployment")
    while endpoint.state == "creating":
        endpoint = trainer.poll_endpoint(endpoint)
    assert endpoint.state == "ready"
    trainer.teardown(endpoint)


class Lives:
    """Forks processes, and tells who they are, so that the service can kill them."""

    def __init__(self, api: BedrockApi) -> None:
        self._started = Event()
        self._pid = 0
        self._server = subprocess.Popen(
            [sys.executable, __file__, api.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def lead(self, root: Path, *, after_s: float | None = None) -> dict[str, Any]:
        """Let a process lead the life; return how it ended."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._started.clear()
        self._server.stdin.write(json.dumps([str(root), after_s]) + "\n")
        self._server.stdin.flush()
        self._pid = int(self._server.stdout.readline())
        self._started.set()
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        assert not answer["error"], answer["error"]
        return answer

    def kill(self) -> None:
        """End the process that lives now; comes from the service's own thread."""
        assert self._started.wait(30)
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def close(self) -> None:
        self._server.communicate()


def serve(url: str) -> None:
    redact("")  # its patterns are compiled here, once, and not in every child
    with quick_folder() as folder:
        aws = Aws(POLICY.region, {"AWS_ENDPOINT_URL": url} | credentials(folder), tries=1)
        aws.open()  # likewise
        for request in sys.stdin:
            root, after_s = json.loads(request)
            began = time.monotonic()
            reading, writing = os.pipe()
            pid = os.fork()
            if pid == 0:
                error = ""
                try:
                    live(Path(root), aws)
                except BaseException as failed:  # a child says what went wrong, and ends
                    error = f"{type(failed).__name__}: {failed}"
                os.write(writing, json.dumps({"error": error}).encode())
                os._exit(0)
            os.close(writing)
            print(pid, flush=True)
            if after_s is not None:
                time.sleep(max(0.0, began + after_s - time.monotonic()))
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with os.fdopen(reading) as pipe:
                text = pipe.read()
            _, status = os.waitpid(pid, 0)
            answer = {"died": status != 0, "seconds": time.monotonic() - began, "error": ""}
            print(json.dumps(answer | (json.loads(text) if text else {})), flush=True)


@pytest.fixture(scope="module")
def bedrock() -> Iterator[BedrockApi]:
    with service() as found:
        yield found


@pytest.fixture(scope="module")
def lives(bedrock: BedrockApi) -> Iterator[Lives]:
    server = Lives(bedrock)
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
    names = [f"task-{number}" for number in range(120)]
    chosen = [name for name in names if split_of(name, 80) == "training"][:TRAINING]
    chosen += [name for name in names if split_of(name, 80) == "validation"][:VALIDATION]
    with Rooms(root) as rooms:
        rooms.put(
            "tasks.jsonl", *(good(name, input=f"Look at host {name}: {name}a {name}b {name}c") for name in chosen)
        )
        rooms.everything()
        assert len(rooms.collected()) == TRAINING + VALIDATION
    return root


def rows(root: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(root / layout.STATE)) as connection:
        return connection.execute(query).fetchall()


def check(root: Path, api: BedrockApi) -> None:
    """There is one job and one model, here and there; nothing is served, and nothing that was sent is left."""
    assert rows(root, "SELECT model_id, state, ending FROM training_jobs") == [(MODEL, "succeeded", None)]
    assert rows(root, "SELECT model_id FROM models") == [(MODEL,)]
    (job,) = api.jobs()
    assert job.status == "Completed"
    assert len(job.data.splitlines()) == TRAINING + VALIDATION
    assert len(api.models()) == 1
    assert api.deployments() == []
    assert api.uploads() == []
    names = [one["event"] for one in events(root)]
    assert [names.count(f"fine_tune_{kind}") for kind in ("triggered", "completed", "failed")] == [1, 1, 0]
    assert not (root / layout.FINE_TUNE_TRIGGER).exists()


class Case:
    """A ROOT of its own over the service as on its first day."""

    def __init__(self, source: Path, bedrock: BedrockApi, lives: Lives) -> None:
        self.source, self.bedrock, self.lives = source, bedrock, lives

    def run(self, deaths: list[tuple[int, bool]] | list[float]) -> int:
        """Die as told, one life after the other, then live to the end; return how many calls the last life took."""
        root = self.source.parent / "root"
        shutil.copytree(self.source, root)
        with fresh(self.bedrock) as api:
            api.tick_s = _TICK_S
            for death in deaths:
                if isinstance(death, tuple):
                    api.count, api.deadly = 0, (*death, self.lives.kill)
                    self.died += self.lives.lead(root)["died"]
                else:
                    self.died += self.lives.lead(root, after_s=death)["died"]
            api.count, api.deadly = 0, None
            answer = self.lives.lead(root)
            assert not answer["died"]
            self.seconds = answer["seconds"]
            check(root, api)
            shutil.rmtree(root)
            return api.count

    died = 0
    seconds = 0.0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
def test_killed_between_any_two_calls(is_before: bool, source: Path, bedrock: BedrockApi, lives: Lives) -> None:  # noqa: FBT001 -- a case
    """At each call to AWS a process dies, before it is heard or after it was carried out; the next one finishes."""
    case = Case(source, bedrock, lives)
    calls = case.run([])
    assert calls > 30
    step = 1 if "AUTOLEARN_SLOW_TESTS" in os.environ else STEP
    chosen = range(random.Random(str(is_before)).randrange(step), calls, step)
    for number in chosen:
        case.run([(number, is_before)])
    assert case.died == len(chosen)


@pytest.mark.timeout(300)
def test_killed_more_than_once(source: Path, bedrock: BedrockApi, lives: Lives) -> None:
    """Killed, taken up, killed again at another call, and again: still one of each."""
    case = Case(source, bedrock, lives)
    calls = case.run([])
    chance = random.Random(2)
    for _ in range(3):
        case.run([(chance.randrange(calls // 2), chance.random() < 0.5) for _ in range(3)])
    assert case.died > 4


def killed_at_instants(case: Case, instants: int) -> None:
    case.run([])
    whole_s = case.seconds
    chance = random.Random(instants)
    for _ in range(instants):
        case.run([chance.uniform(0, whole_s)])
    assert case.died > instants // 4


@pytest.mark.timeout(300)
def test_killed_at_random_instants(source: Path, bedrock: BedrockApi, lives: Lives) -> None:
    """SIGKILL at instants drawn at random, and then it is finished."""
    killed_at_instants(Case(source, bedrock, lives), INSTANTS)


@slow
@pytest.mark.timeout(900)
def test_killed_at_many_random_instants(source: Path, bedrock: BedrockApi, lives: Lives) -> None:
    """The same at a hundred instants."""
    killed_at_instants(Case(source, bedrock, lives), MANY_INSTANTS)


def test_given_up_before_it_was_a_job(source: Path, bedrock: BedrockApi, tmp_path: Path) -> None:
    """A training whose data was sent, and which a person cancels before the job could be made, leaves nothing there."""
    root = tmp_path / "root"
    shutil.copytree(source, root)
    with fresh(bedrock) as api:
        api.quota = 0
        clock = FakeClock(NOW)
        app = wiring.build(root, clock=clock, environ={}, logging=cast("Any", Quiet()))
        aws = Aws(POLICY.region, api.environ | credentials(tmp_path / "credentials"), tries=1)
        trainers: dict[str, Trainer] = {
            "bedrock": BedrockTrainer(root, clock, policy=POLICY, prices={NOVA: PRICE}, aws=aws)
        }
        policy = TrainingPolicy(min_examples=TRAINING, backend="bedrock", base_model=NOVA)
        training = Trainings(app.store, app.tree, clock, policy, app.datasets, trainers)
        app.runner.use(app.rooms._replace(training=training))
        with closing(app):
            app.runner.run("readiness", trigger="schedule", raise_errors=True)
            assert len(api.uploads()) == 2
            training.cancel(MODEL)
            clock.advance(300)
            app.runner.run("training", trigger="heartbeat", raise_errors=True)
        assert rows(root, "SELECT state FROM training_jobs") == [("cancelled",)]
        assert (api.jobs(), api.objects(BUCKET)) == ([], {})


if __name__ == "__main__":
    serve(sys.argv[1])
