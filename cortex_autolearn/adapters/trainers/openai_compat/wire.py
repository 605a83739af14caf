"""What the API answers, as far as it is used here; read as strictly as an API that is only like OpenAI's allows.

Keys that are not known are passed over; what may be missing has a default; anything else cannot be read.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

RUNNING: Final = frozenset({"validating_files", "queued", "running", "paused"})
ENDED: Final = frozenset({"succeeded", "failed", "cancelled"})


class JobError(Struct):
    """Why a job failed; all of it is None in the job of some APIs that has not."""

    code: str | None = None
    message: str | None = None
    param: str | None = None


class Job(Struct):
    """A fine-tuning job. Instants are seconds since 1970."""

    id: str
    created_at: int
    status: str
    model: str = ""
    error: JobError | None = None
    fine_tuned_model: str | None = None
    finished_at: int | None = None
    trained_tokens: int | None = None
    training_file: str | None = None
    validation_file: str | None = None
    metadata: dict[str, Any] | None = None
    hyperparameters: dict[str, Any] | None = None
    method: dict[str, Any] | None = None

    @property
    def is_ended(self) -> bool:
        """Whether it will not change any more."""
        return self.status in ENDED

    @property
    def files(self) -> frozenset[str]:
        """The ids of the files it learns from."""
        return frozenset(one for one in (self.training_file, self.validation_file) if one)


class Jobs(Struct):
    """A page of jobs, the newest first."""

    data: list[Job]
    has_more: bool = False


class Upload(Struct):
    """An uploaded file."""

    id: str
    filename: str = ""
    bytes: int | None = None
    created_at: int = 0
    status: str = "processed"


class Uploads(Struct):
    """A page of uploaded files."""

    data: list[Upload]
    has_more: bool = False


class Model(Struct):
    """A model; ``shutdown_date`` is YYYY-MM-DD, as far as announced."""

    id: str
    shutdown_date: str | None = None


class Models(Struct):
    """The models that a key may use."""

    data: list[Model]


class Event(Struct):
    """Something that happened to a job."""

    created_at: int = 0
    level: str = "info"
    message: str = ""
    type: str | None = None
    data: Any = None


class Events(Struct):
    """A page of events, the newest first."""

    data: list[Event]


class Checkpoint(Struct):
    """A model that came about on the way."""

    step_number: int = 0
    metrics: dict[str, Any] | None = None


class Checkpoints(Struct):
    """A page of checkpoints, the newest first."""

    data: list[Checkpoint]
