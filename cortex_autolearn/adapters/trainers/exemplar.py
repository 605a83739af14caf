"""The trainer of exemplar models: a base model and worked examples that are found for each task.

Training happens here, in ``poll``, a step at a time, and each step leaves a file in the job's folder: the examples,
their index, the recipe (how many are shown and in which mix, chosen on the validation split), the manifest. So a
training that was killed goes on where it was, and what it makes follows from the dataset and the spec alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cortex_autolearn.adapters import files
from cortex_autolearn.adapters.lock import FileLock
from cortex_autolearn.adapters.trainers import terms
from cortex_autolearn.adapters.trainers.dataset import DatasetDamagedError, FrozenDataset
from cortex_autolearn.adapters.trainers.recipe import find_recipe, refused_knobs
from cortex_autolearn.adapters.trainers.shelf import MANIFEST, Note, Shelf, manifest_head
from cortex_autolearn.exemplars import index
from cortex_autolearn.exemplars.model import EXAMPLES, FORMAT, INDEX
from cortex_autolearn.model.training_jobs import (
    Endpoint,
    Estimate,
    Limits,
    ModelRef,
    Price,
    RemoteJob,
    Spec,
)
from cortex_autolearn.model.training_problems import Problem
from cortex_autolearn.model.version import VERSION
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from cortex_autolearn.model.judgement import ModelLife
    from cortex_autolearn.ports import Clock

LOCK: Final = ".trainer.lock"
RECIPE: Final = "recipe.json"

_encode: Final = msgspec.json.Encoder().encode
_INDEX_PART: Final = "index.part"
_MAX_TRAIN: Final = 100_000
_MAX_VALIDATION: Final = 100_000


class ExemplarTrainer:
    """Implements :class:`cortex_autolearn.ports.Trainer` on this machine, with nothing but files.

    Arguments:
        root: the ROOT.
        clock: tells when jobs begin and end.
        prices: what bases cost, for the estimate of what the added examples cost a task.
        life: tells how long a base is offered, as ``ports.Judge.life`` does; None where nobody can be asked.
        work_s: a ``poll`` that has worked for so many seconds begins no further step.
    """

    def __init__(
        self,
        root: Path,
        clock: Clock,
        *,
        prices: Mapping[str, Price] | None = None,
        life: Callable[[str], ModelLife] | None = None,
        work_s: float = 60.0,
    ) -> None:
        self._root = root
        self._clock = clock
        self._prices = prices or {}
        self._life = life
        self._work_s = work_s
        self._shelf = Shelf(root, clock)

    @property
    def name(self) -> str:
        """What ``training.backend`` calls it."""
        return "exemplar"

    @property
    def trains_here(self) -> bool:
        """``poll`` does the work."""
        return True

    def limits(self, base: str) -> Limits:  # noqa: ARG002 -- the same for every base
        """Return how many examples it takes; a longer one than fits the token budget is stored and never shown."""
        return Limits(max_train=_MAX_TRAIN, max_validation=_MAX_VALIDATION)

    def preflight(self, spec: Spec) -> list[Problem]:
        """Return what stands in the way of a spec.

        Raises:
            BoundaryError: a file cannot be read just now, or whoever knows about the base does not answer.
        """
        return terms.problems(
            spec,
            lambda: FrozenDataset(self._root, spec.dataset),
            limits=self.limits(spec.base),
            price=self._prices.get(spec.base),
            life=self._life,
            taken_by=self._shelf.model(spec.model_id),
        )

    def estimate(self, spec: Spec) -> Estimate:
        """Return what the examples add to each task; training and keeping the model cost nothing.

        Raises:
            BoundaryError: the dataset cannot be read.
        """
        return terms.estimate(spec, FrozenDataset(self._root, spec.dataset), self._prices.get(spec.base))

    def find(self, token: str) -> RemoteJob | None:
        """Return the job of a client token; None when there is none.

        Raises:
            BoundaryError: its folder cannot be read.
        """
        note = self._shelf.find(token)
        return None if note is None else note.job()

    def submit(self, spec: Spec, token: str) -> RemoteJob:
        """Take down a job, or return the one that was. Nothing is trained yet.

        Raises:
            BoundaryError: the models folder cannot be written.
        """
        note = self._shelf.find(token)
        return (self._shelf.begin(spec, token) if note is None else note).job()

    def poll(self, job_id: str) -> RemoteJob:
        """Train for a while and return how far the job is.

        Raises:
            BoundaryError: there is no such job, or a file operation failed; what was made stays.
        """
        note = self._shelf.require(job_id)
        if note.ended:
            return note.job()
        with FileLock(self._shelf.models / LOCK) as lock:  # one training at a time on this machine
            if not lock.acquire():
                return note.job()
            note = self._shelf.require(job_id)  # another process may have ended it meanwhile
            return note.job() if note.ended else self._work(note).job()

    def cancel(self, job_id: str) -> None:
        """End a job; one that has ended stays as it is.

        Raises:
            BoundaryError: there is no such job, or its files cannot be written or removed.
        """
        note = self._shelf.require(job_id)
        if note.ended:
            if note.state != "succeeded":
                self._shelf.sweep(job_id)
            return
        self._shelf.end(note, "cancelled", "cancelled")

    def deploy(self, model: ModelRef, token: str) -> Endpoint:
        """Check that a model is whole, byte for byte, and note that it serves.

        Raises:
            BoundaryError: its folder cannot be read or written.
        """
        endpoint = Endpoint(
            endpoint_id=f"{model.model_id}/{token}",
            token=token,
            model=model,
            state="ready",
            target=model.base,
            usd_per_hour=0.0,
        )
        damage = _damage(self._shelf.folder(model.model_id))
        if damage:
            return msgspec.structs.replace(endpoint, state="failed", reason=damage)
        self._shelf.serve(endpoint)
        return endpoint

    def poll_endpoint(self, endpoint: Endpoint) -> Endpoint:
        """Return the endpoint as it is: ``ready``, or ``gone`` and what is missing.

        Raises:
            BoundaryError: its folder cannot be looked into.
        """
        missing = self._shelf.missing(endpoint)
        return msgspec.structs.replace(endpoint, state="gone" if missing else "ready", reason=missing)

    def teardown(self, endpoint: Endpoint) -> None:
        """Note that a model serves no more; its folder stays.

        Raises:
            BoundaryError: the folder cannot be written.
        """
        self._shelf.serve_no_more(endpoint)

    # --- the steps ---------------------------------------------------------------------------------------------------

    def _work(self, note: Note) -> Note:
        """Take the steps that are left, as long as there is time; a dataset that cannot be used fails the job."""
        began = self._clock.monotonic()
        unnamed = self._shelf.unnamed(note.token)
        if unnamed is not None:
            return self._shelf.name(unnamed, (EXAMPLES, INDEX))
        refused = refused_knobs(note.spec)
        if refused:
            told = "; ".join(f"{name} must be {allowed}" for name, allowed in refused.items())
            return self._shelf.end(note, "failed", told)
        steps = ((EXAMPLES, self._copy, 0.2), (INDEX, self._index, 0.5), (RECIPE, self._choose, 0.95))
        staged = self._shelf.staged(note.token)
        try:
            for name, step, progress in steps:
                if (staged / name).exists():
                    continue
                step(note, staged)
                note = self._shelf.require(note.token)  # it may have been cancelled
                if note.ended:
                    self._shelf.sweep(note.token)
                    return note
                note = msgspec.structs.replace(note, state="running", progress=progress)
                self._shelf.save(note)
                if self._clock.monotonic() - began >= self._work_s:
                    return note
        except DatasetDamagedError as error:
            return self._shelf.end(note, "failed", str(error))
        return self._finish(note, staged)

    def _copy(self, note: Note, staged: Path) -> None:
        dataset = FrozenDataset(self._root, note.spec.dataset)
        files.replace(staged / EXAMPLES, _lines(dataset))

    def _index(self, _note: Note, staged: Path) -> None:
        part = staged / _INDEX_PART
        with files.wrap("index the examples", staged):
            part.unlink(missing_ok=True)
        with _index_errors(staged):
            count = index.write(part, _rows(staged / EXAMPLES))
        if count == 0:
            raise DatasetDamagedError(str(staged), "no example has both a question and an answer")
        with files.wrap("index the examples", staged):
            opened = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
            os.rename(part, staged / INDEX)
        files.fsync_dir(staged)

    def _choose(self, note: Note, staged: Path) -> None:
        dataset = FrozenDataset(self._root, note.spec.dataset)
        with _index_errors(staged):
            recipe, metrics, tried = find_recipe(staged, note.spec, dataset.examples("validation"))
        content = {"recipe": recipe, "metrics": metrics, "tried": tried}
        files.replace(staged / RECIPE, msgspec.json.encode(content))

    def _finish(self, note: Note, staged: Path) -> Note:
        with files.wrap("read", staged / RECIPE):
            found: dict[str, Any] = json.loads((staged / RECIPE).read_bytes())
        spec = note.spec
        done = msgspec.structs.replace(
            note,
            state="succeeded",
            progress=1.0,
            ended_us=self._shelf.now_us(),
            metrics=found["metrics"],
            model=ModelRef(
                model_id=spec.model_id,
                kind="exemplar",
                base=spec.base,
                artefact=str(self._shelf.folder(spec.model_id).relative_to(self._root)),
            ),
        )
        content = {
            "format": FORMAT,
            "kind": "exemplar",
            **manifest_head(note, version=VERSION),
            **found,
            "files": {name: _facts(staged / name) for name in (EXAMPLES, INDEX)},
        }
        return self._shelf.finish(done, content, (EXAMPLES, INDEX))


def _lines(dataset: FrozenDataset) -> Iterator[bytes]:
    """Yield the lines of ``examples.jsonl``: what can be shown, as blank turns would be refused by the API."""
    for example in dataset.examples("train"):
        if example.input.strip() and example.output.strip():
            yield (
                _encode(
                    {
                        "task_id": example.task_id,
                        "master": example.master,
                        "task_type": example.task_type,
                        "input": example.input,
                        "output": example.output,
                    }
                )
                + b"\n"
            )


def _rows(path: Path) -> Iterator[index.Row]:
    position = 0
    with path.open("rb") as file:
        for line in file:
            found = json.loads(line)
            yield index.Row(position, len(line), found["master"], found["task_type"], found["input"], found["output"])
            position += len(line)


@contextmanager
def _index_errors(folder: Path) -> Iterator[None]:
    """Turn what SQLite refuses into a BoundaryError."""
    try:
        yield
    except sqlite3.Error as error:
        full = "full" in str(error)
        hint = "Free space on this file system" if full else "Check that this Python's SQLite has FTS5"
        raise BoundaryError("index the examples", str(folder), str(error), hint=hint, retryable=full) from error


def _facts(path: Path) -> dict[str, Any]:
    with files.wrap("read", path), path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _damage(folder: Path) -> str:
    """Say what is wrong with a finished model; nothing where it is as its manifest says."""
    with files.wrap("read", folder):
        try:
            manifest = json.loads((folder / MANIFEST).read_bytes())
            for name, facts in manifest["files"].items():
                if not (folder / name).exists():
                    return f"{name} is not there"
                if _facts(folder / name) != facts:
                    return f"{name} is not as the manifest says"
        except FileNotFoundError:
            return f"{MANIFEST} is not there"
        except (KeyError, TypeError, ValueError) as error:
            return f"its manifest cannot be read: {error}"
    return ""
