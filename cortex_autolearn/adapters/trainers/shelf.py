"""The models folder, and the jobs of trainers that work in files there.

A job is a folder. While it is under way it is called ``models/.<token>.tmp`` and holds ``job.json``; when the model is
whole, its ``manifest.json`` is written and the folder takes the name ``models/<model_id>``. A job that failed or was
cancelled leaves its ``job.json`` behind and nothing else. So a client token leads to one job, whatever was killed when:
the manifest holds the token as well.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from msgspec import Struct

from cortex_autolearn.adapters import files
from cortex_autolearn.model import layout
from cortex_autolearn.model.instants import to_us, us_to_text
from cortex_autolearn.model.training_jobs import ENDED, Endpoint, JobState, Metric, ModelRef, RemoteJob, Spec
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from cortex_autolearn.ports import Clock

JOB: Final = "job.json"
MANIFEST: Final = "manifest.json"

_NAME_DIGITS: Final = 16
_DAMAGED_HINT: Final = "Restore it from a backup, or remove its folder and train again"


class Note(Struct, frozen=True, kw_only=True):
    """A job as its folder holds it; the fields are those of ``RemoteJob``."""

    spec: Spec
    token: str
    created_us: int
    state: JobState = "queued"
    ended_us: int | None = None
    progress: float | None = 0.0
    reason: str = ""
    retryable: bool = False
    waiting_for_person: bool = False
    metrics: dict[str, Metric] = {}
    model: ModelRef | None = None

    @property
    def ended(self) -> bool:
        """Whether the job will not change any more."""
        return self.state in ENDED

    def job(self) -> RemoteJob:
        """Return the job as the port tells of it."""
        return RemoteJob(
            job_id=self.token,
            token=self.token,
            model_id=self.spec.model_id,
            state=self.state,
            progress=self.progress,
            metrics=self.metrics,
            model=self.model,
            reason=self.reason,
            retryable=self.retryable,
            waiting_for_person=self.waiting_for_person,
            created_us=self.created_us,
            ended_us=self.ended_us,
        )


class _Manifest(Struct):
    job: Note | None = None


class NoteDamagedError(BoundaryError):
    """What is written about a job or a model cannot be understood."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__("read", str(path), cause, hint=_DAMAGED_HINT, retryable=False)


_Found = TypeVar("_Found")

_decode_note: Final = msgspec.json.Decoder(Note).decode
_decode_manifest: Final = msgspec.json.Decoder(_Manifest).decode
_order: Final = msgspec.json.Encoder(order="deterministic").encode


class Shelf:
    """The jobs and models below ``models/``.

    Arguments:
        root: the ROOT.
        clock: tells when a job begins and ends.
    """

    def __init__(self, root: Path, clock: Clock) -> None:
        self.root = root
        self.models = root / layout.MODELS
        self._clock = clock

    def now_us(self) -> int:
        """Return the current instant."""
        return to_us(self._clock.now())

    def staged(self, token: str) -> Path:
        """Return the folder of a job that is under way."""
        return self.models / f".{layout.safe_name('client token', token)}.tmp"

    def folder(self, model_id: str) -> Path:
        """Return the folder of a finished model."""
        return self.models / layout.safe_name("model", model_id)

    def find(self, token: str) -> Note | None:
        """Return the job of a client token; None when there is none.

        A model whose manifest is damaged, or was never ours, is passed over: it may not keep every training from
        beginning.

        Raises:
            BoundaryError: a file cannot be read, or the job's own is damaged.
        """
        staged = self.staged(token)
        # In this order, once again: a finished job moves from the first place to the third while one looks.
        for _ in range(2):
            note = _read(staged / JOB, _decode_note)
            if note is not None:
                return note
            manifest = _read(staged / MANIFEST, _decode_manifest)
            if manifest is not None and manifest.job is not None:
                return _unfinished(manifest.job)
            for name in self._model_ids():
                with suppress(NoteDamagedError):
                    note = self.model(name)
                    if note is not None and note.token == token:
                        return note
        return None

    def require(self, token: str) -> Note:
        """Return the job of a client token.

        Raises:
            BoundaryError: there is none, or as :meth:`find`.
        """
        note = self.find(token)
        if note is None:
            hint = "Its folder below models/ was removed: submit it again"
            raise BoundaryError("find the training job", token, "there is none", hint=hint, retryable=False)
        return note

    def model(self, model_id: str) -> Note | None:
        """Return the job that made a model; None when there is no such model, or nobody's job made it.

        Raises:
            BoundaryError: its manifest cannot be read, or is damaged.
        """
        manifest = _read(self.folder(model_id) / MANIFEST, _decode_manifest)
        return None if manifest is None else manifest.job

    def begin(self, spec: Spec, token: str) -> Note:
        """Take down a new job. Of two that begin under one token the later finds what the earlier took down.

        Raises:
            BoundaryError: it cannot be written.
        """
        self.folder(spec.model_id)  # refused before anything is written
        note = Note(spec=spec, token=token, created_us=self.now_us())
        staged = self.staged(token)
        with files.wrap("create", staged):
            files.make_folder(staged)
        self.save(note)
        return note

    def save(self, note: Note) -> None:
        """Write down how far a job under way is.

        Raises:
            BoundaryError: it cannot be written.
        """
        files.replace(self.staged(note.token) / JOB, _order(note))

    def end(self, note: Note, state: JobState, reason: str, *, retryable: bool = False) -> Note:
        """End a job without a model, and remove what it made.

        Raises:
            BoundaryError: it cannot be written or removed; asking again goes on with it.
        """
        ended = msgspec.structs.replace(
            note,
            state=state,
            reason=reason,
            retryable=retryable,
            ended_us=self.now_us(),
            waiting_for_person=False,
            model=None,
        )
        self.save(ended)
        self.sweep(note.token)
        return ended

    def sweep(self, token: str) -> None:
        """Remove all that a job made, but for what is known about the job.

        Raises:
            BoundaryError: something cannot be removed.
        """
        self._clear(self.staged(token), {JOB})

    def finish(self, note: Note, content: Mapping[str, Any], keep: Collection[str]) -> Note:
        """Make the staged folder the model's: write its manifest, remove all but it and ``keep``, and rename.

        Arguments:
            note: the job as it ends.
            content: of the manifest; ``job`` is added.
            keep: the names of the model's files.

        Returns:
            the job, ended: failed where another job's model has the id.

        Raises:
            BoundaryError: a file operation failed; asking again goes on with it.
        """
        staged = self.staged(note.token)
        files.replace(staged / MANIFEST, pretty({**content, "job": note}))
        return self.name(note, keep)

    def name(self, note: Note, keep: Collection[str]) -> Note:
        """Give a folder whose manifest is written the model's name; the arguments are those of :meth:`finish`.

        Returns:
            the job, ended.

        Raises:
            BoundaryError: a file operation failed; asking again goes on with it.
        """
        staged, folder = self.staged(note.token), self.folder(note.spec.model_id)
        other = self.model(note.spec.model_id)
        if other is not None and other.token != note.token:
            return self.end(note, "failed", f"a model {note.spec.model_id} of another job is there already")
        if other is not None:  # two submitted at the same instant: one of the two folders is the model
            with files.wrap("clear", staged):
                shutil.rmtree(staged)
            return other
        self._clear(staged, {MANIFEST, *keep})
        with files.wrap("name the model", folder):
            os.rename(staged, folder)
        files.fsync_dir(self.models)
        return note

    def unnamed(self, token: str) -> Note | None:
        """Return the job that needs nothing any more but its folder's name, as it ends; None for any other.

        Raises:
            BoundaryError: its manifest cannot be read, or is damaged.
        """
        staged = self.staged(token)
        if (staged / JOB).exists():
            return None
        manifest = _read(staged / MANIFEST, _decode_manifest)
        return None if manifest is None else manifest.job

    def serve(self, endpoint: Endpoint) -> None:
        """Note beside a model that it serves; whether there is a model, :meth:`missing` tells.

        Raises:
            BoundaryError: the note cannot be written.
        """
        files.replace(self._served(endpoint), _order(endpoint))

    def missing(self, endpoint: Endpoint) -> str:
        """Say what a model lacks that is there and serves under an endpoint's token; nothing where it does.

        Raises:
            BoundaryError: nobody can tell, for its folder cannot be looked into.
        """
        return self._absent(endpoint, MANIFEST) or self._absent(endpoint, self._served(endpoint).name)

    def unmade(self, endpoint: Endpoint) -> str:
        """Say what a model lacks that is there, whether it serves or not; nothing where it is.

        Raises:
            BoundaryError: as :meth:`missing`.
        """
        return self._absent(endpoint, MANIFEST)

    def _absent(self, endpoint: Endpoint, name: str) -> str:
        path = self.folder(endpoint.model.model_id) / name
        with files.wrap("look at", path):
            try:
                path.stat()
            except (FileNotFoundError, NotADirectoryError):
                return f"{path.relative_to(self.root)} is not there"
        return ""

    def serve_no_more(self, endpoint: Endpoint) -> None:
        """Take the note back. The model's folder stays: it costs nothing, and tells what was tried.

        Raises:
            BoundaryError: the folder cannot be written.
        """
        path = self._served(endpoint)
        with files.wrap("remove", path):
            path.unlink(missing_ok=True)

    def _served(self, endpoint: Endpoint) -> Path:
        digest = sha256(endpoint.token.encode()).hexdigest()
        return self.folder(endpoint.model.model_id) / f"serving-{digest[:_NAME_DIGITS]}.json"

    def _model_ids(self) -> list[str]:
        with files.wrap("list", self.models):
            try:
                return sorted(name for name in os.listdir(self.models) if layout.is_safe_name(name))
            except FileNotFoundError:
                return []

    @staticmethod
    def _clear(folder: Path, keep: Collection[str]) -> None:
        with files.wrap("clear", folder):
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                if entry.name in keep:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    with suppress(FileNotFoundError):
                        os.unlink(entry.path)
        files.fsync_dir(folder)


def manifest_head(note: Note, *, version: str) -> dict[str, Any]:
    """Return what the manifest of every model begins with."""
    spec = note.spec
    return {
        "model_id": spec.model_id,
        "base": spec.base,
        "scope": spec.scope,
        "client_token": note.token,
        "dataset": spec.dataset,
        "hyperparameters": spec.hyperparameters,
        "attempt": spec.attempt,
        "created_at": us_to_text(note.created_us),
        "package_version": version,
    }


def pretty(content: Mapping[str, Any]) -> bytes:
    """Return a manifest as its file holds it: indented, for people to read."""
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def _unfinished(note: Note) -> Note:
    """Return a job as its manifest tells of it, but for what holds only when its folder has got its name."""
    return msgspec.structs.replace(
        note, state="running", ended_us=None, model=None, progress=1.0, waiting_for_person=False, reason=""
    )


def _read(path: Path, decode: Callable[[bytes], _Found]) -> _Found | None:
    with files.wrap("read", path):
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
    try:
        return decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NoteDamagedError(path, str(error)) from error
