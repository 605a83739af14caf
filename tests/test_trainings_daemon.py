"""Trainings in a running daemon: they start by themselves, go on after a kill, and outlive a run that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from test_daemon import Process, events_of, until
from test_fine_tune_cli import EXPORT, answer, call, model_of, root

from cortex_autolearn.exemplars import open_model
from cortex_autolearn.model import layout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["root"]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:click")


@pytest.fixture
def lock(root: Path) -> Path:
    """The lock of trainings, which a folder in its place keeps from being taken."""
    return root / layout.AUTOLEARN / ".training.lock"


@pytest.fixture
def daemon(root: Path) -> Iterator[Process]:
    config = "[training]\nmin_examples = 8\npoll_s = 1\n"
    process = Process(root, config)
    yield process
    process.stop()


def looks(daemon: Process) -> list[dict[str, Any]]:
    """The log lines of the looks at trainings that ended well."""
    return daemon.logged("job_finished", job="training")


def test_enough_examples(root: Path, daemon: Process) -> None:
    """With enough examples the look at the start trains a model, and nothing waits for another look."""
    (done,) = until(lambda: events_of(root, "fine_tune_completed"), "a model")
    with open_model(root / layout.MODELS / done["model_id"]) as model:
        assert model.size == 8
    (told,) = daemon.logged("fine_tune_triggered")
    assert (
        told.items() >= {"model_id": done["model_id"], "train": 8, "validation": 3, "base": "claude-haiku-5-5"}.items()
    )
    (decided,) = daemon.wait_for("training_decided")
    assert decided["decision"] == "start"


def test_run_that_failed(root: Path, lock: Path) -> None:
    """A look at a training that failed is repeated, though the schedule has no time for it."""
    call(root, "trigger", "--force", *EXPORT)
    lock.unlink(missing_ok=True)
    lock.mkdir()
    daemon = Process(root, "[training]\npoll_s = 1\n")
    try:
        daemon.wait_for("job_failed", job="training")
        lock.rmdir()
        daemon.wait_for("job_finished", job="training")
    finally:
        daemon.stop()


def test_backend_that_does_not_answer(root: Path) -> None:
    """What a backend does not answer is logged under a name of its own, and asked again."""
    call(root, "trigger", "--force", *EXPORT)
    manifest = root / layout.MODELS / model_of(root) / "manifest.json"
    whole = manifest.read_bytes()
    manifest.unlink()
    manifest.mkdir()  # what cannot be read gives no answer
    daemon = Process(root, "[training]\npoll_s = 1\n")
    try:
        found = daemon.wait_for("provider_trouble")[0]
        assert found["subject"] == str(manifest)
        assert found["hint"]
        assert daemon.logged("input_unreadable") == []
        manifest.rmdir()
        manifest.write_bytes(whole)
        until(lambda: [run for run in looks(daemon) if "troubles" not in run["counts"]], "an answer")
    finally:
        daemon.stop()


def test_beside_a_command(root: Path, daemon: Process) -> None:
    """What a person cancels while the daemon looks after it ends once."""
    until(lambda: events_of(root, "fine_tune_completed"), "a model")
    call(root, "trigger", "--force", *EXPORT)
    daemon.wait_for("job_finished", job="training")
    assert answer(root, "cancel", model_of(root, 2))["state"] == "cancelled"
    looked = len(daemon.logged("job_finished", job="training"))
    until(lambda: answer(root, "status")["fine_tuning"]["active"] == [], "its end")
    assert len(events_of(root, "fine_tune_failed")) == 1
    assert looked >= 1
