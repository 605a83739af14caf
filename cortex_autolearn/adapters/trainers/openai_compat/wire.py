"""What the API answers, as far as it is used here; read as strictly as an API that is only like OpenAI's allows.

Keys that are not known are passed over. But for ids, what is missing, null or of another kind than documented counts as
missing: one odd entry of a list, perhaps another's, must not hide all the others.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

_LAST_SECOND: Final = 253_402_300_799
"""The year 9999 ends; what is later is no instant."""

ENDED: Final = frozenset({"succeeded", "failed", "cancelled"})


class JobError(Struct):
    """Why a job failed; all of it is None in the job of some APIs that has not."""

    code: str | Any | None = None
    message: str | Any | None = None
    param: str | Any | None = None

    def __post_init__(self) -> None:
        """Take numbers as texts."""
        self.code, self.message, self.param = (
            None if one is None else str(one) for one in (self.code, self.message, self.param)
        )


class Job(Struct):
    """A fine-tuning job. Instants are seconds since 1970."""

    id: str
    created_at: int | Any = 0
    status: str | Any = ""
    error: JobError | Any | None = None
    fine_tuned_model: str | Any | None = None
    finished_at: int | Any | None = None
    trained_tokens: int | Any | None = None
    training_file: str | Any | None = None
    validation_file: str | Any | None = None
    metadata: dict[str, Any] | Any | None = None
    hyperparameters: dict[str, Any] | Any | None = None
    method: dict[str, Any] | Any | None = None

    def __post_init__(self) -> None:
        """Take what is of another kind as missing."""
        self.created_at = _seconds(self.created_at) or 0
        self.finished_at = _seconds(self.finished_at)
        self.status = self.status if isinstance(self.status, str) else ""
        self.error = _error(self.error)
        if isinstance(self.trained_tokens, bool) or not isinstance(self.trained_tokens, int) or self.trained_tokens < 0:
            self.trained_tokens = None
        for name in ("fine_tuned_model", "training_file", "validation_file"):
            if not isinstance(getattr(self, name), str):
                setattr(self, name, None)
        for name in ("metadata", "hyperparameters", "method"):
            if not isinstance(getattr(self, name), dict):
                setattr(self, name, None)

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
    filename: str | Any = ""
    bytes: int | Any | None = None
    created_at: int | Any = 0
    status: str | Any = "processed"

    def __post_init__(self) -> None:
        """Take what is of another kind as missing."""
        self.filename = self.filename if isinstance(self.filename, str) else ""
        self.bytes = int(self.bytes) if isinstance(self.bytes, int | float) else None
        self.created_at = _seconds(self.created_at) or 0


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

    created_at: int | Any = 0
    message: str | Any = ""
    type: str | Any | None = None
    data: Any = None

    def __post_init__(self) -> None:
        """Take what is of another kind as missing."""
        self.created_at = _seconds(self.created_at) or 0
        self.message = self.message if isinstance(self.message, str) else ""


class Events(Struct):
    """A page of events, the newest first."""

    data: list[Event]


class Checkpoint(Struct):
    """A model that came about on the way."""

    step_number: int | Any = 0
    metrics: dict[str, Any] | Any | None = None

    def __post_init__(self) -> None:
        """Take what is of another kind as missing."""
        self.step_number = self.step_number if isinstance(self.step_number, int) else 0
        self.metrics = self.metrics if isinstance(self.metrics, dict) else None


class Checkpoints(Struct):
    """A page of checkpoints, the newest first."""

    data: list[Checkpoint]


def _seconds(told: Any) -> int | None:  # noqa: ANN401 -- whatever the API says
    """Return an instant in whole seconds since 1970; None where it is none."""
    if isinstance(told, bool) or not isinstance(told, int | float) or not 0 < told <= _LAST_SECOND:
        return None
    return int(told)


def _error(told: Any) -> JobError | None:  # noqa: ANN401 -- whatever the API says
    """Return why a job failed, also where that is a mere text."""
    if isinstance(told, dict):
        return JobError(told.get("code"), told.get("message"), told.get("param"))
    return JobError(message=told) if told else None
