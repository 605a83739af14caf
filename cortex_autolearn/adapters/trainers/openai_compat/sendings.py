"""Remembers on disk which jobs were sent to the provider, for the API itself knows no idempotency.

One small file a client token in ``models/``, written before the job is sent and again when it was answered. Where the
second is missing, nobody knows whether there is a job: it is looked for, and not sent again before it must have shown.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from cortex_autolearn.adapters import files
from cortex_autolearn.adapters.trainers.shelf import NoteDamagedError
from cortex_autolearn.model import layout
from cortex_autolearn.ports import BackendError

if TYPE_CHECKING:
    from pathlib import Path

    from cortex_autolearn.adapters.trainers.openai_compat.line import Line

_SUFFIX: Final = ".openai.json"


class Sending(Struct, frozen=True, kw_only=True):
    """A job that was sent: where to, when (an instant), and its id there, once that is known."""

    token: str
    model_id: str
    base: str
    address: str
    sent_us: int
    job_id: str | None = None
    uploads: tuple[str, ...] = ()


class Sendings:
    """The jobs that were sent from one ROOT."""

    def __init__(self, root: Path) -> None:
        self._folder = root / layout.MODELS

    def of(self, token: str) -> Sending | None:
        """Return what was sent under a client token.

        Raises:
            BoundaryError: it cannot be read, or is damaged.
        """
        return self._read(self._path(token))

    def of_job(self, job_id: str) -> Sending | None:
        """Return what became a job of the provider."""
        return next((one for one in self._all() if one.job_id == job_id), None)

    def of_model(self, model_id: str) -> Sending | None:
        """Return what made a model."""
        return next((one for one in self._all() if one.model_id == model_id), None)

    def note(self, sending: Sending) -> None:
        """Write down what is sent, or what became of it.

        Raises:
            BoundaryError: it cannot be written.
        """
        with files.wrap("create", self._folder):
            files.make_folder(self._folder)
        files.replace(self._path(sending.token), msgspec.json.encode(sending))

    def forget(self, token: str) -> None:
        """Remove what was written: nothing was sent after all.

        Raises:
            BoundaryError: it cannot be removed.
        """
        path = self._path(token)
        with files.wrap("remove", path):
            path.unlink(missing_ok=True)

    def _path(self, token: str) -> Path:
        return self._folder / f".{layout.safe_name('client token', token)}{_SUFFIX}"

    def _all(self) -> list[Sending]:
        with files.wrap("list", self._folder):
            try:
                names = sorted(name for name in os.listdir(self._folder) if name.endswith(_SUFFIX))
            except FileNotFoundError:
                return []
        found = []
        for name in names:
            # One that is damaged is told of where its own job is asked about; it hides no other.
            with suppress(NoteDamagedError):
                found.append(self._read(self._folder / name))
        return [one for one in found if one is not None]

    @staticmethod
    def _read(path: Path) -> Sending | None:
        with files.wrap("read", path):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                return None
        try:
            return msgspec.json.decode(data, type=Sending)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NoteDamagedError(path, str(error)) from error


def require_home(sending: Sending | None, line: Line, operation: str, subject: str) -> None:
    """Refuse to ask one provider about what another one has: it would say that there is no such thing."""
    if sending is not None and sending.address != line.address:
        cause = f"it was sent to {sending.address}, and the address is now {line.address}"
        hint = "Set openai.base_url (or OPENAI_BASE_URL) back until nothing of it is needed"
        raise BackendError(operation, subject, cause, hint=hint, retryable=True)
