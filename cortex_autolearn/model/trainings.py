"""Rows of the state about trainings and the models that came of them."""

from __future__ import annotations

from typing import Literal, NamedTuple

from cortex_autolearn.model.training_jobs import Estimate, JobState, Metric, ModelRef, RemoteJob, Spec

Ending = Literal["cancel", "deadline"]
"""Why a job is to be ended: a person asked for it, or it took too long."""


class Training(NamedTuple):
    """A training, from the intent to its end; instants in microseconds since 1970.

    ``state`` is None until the backend took the job, ``seen`` the job as the backend last told, ``covers_us`` the
    instant up to which collected outcomes went into its dataset, ``told_percent`` the progress last told in an event.
    """

    model_id: str
    scope: str
    dataset_id: str
    token: str
    spec: Spec
    estimate: Estimate
    asked_by: str
    asked_us: int
    covers_us: int
    state: JobState | None = None
    seen: RemoteJob | None = None
    submitted_us: int | None = None
    polled_us: int | None = None
    ended_us: int | None = None
    told_percent: int = 0
    ending: Ending | None = None


class Model(NamedTuple):
    """A model that a training made: where it is, for whom, and the numbers its backend measured."""

    ref: ModelRef
    scope: str
    dataset_id: str | None
    backend: str
    metrics: dict[str, Metric]
    made_us: int
