"""What the provider tells of a job, in our words: its state, how far it is, what was measured, what it cost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cortex_autolearn.model.instants import SECOND_US
from cortex_autolearn.model.routing import OPENAI, is_provider_name
from cortex_autolearn.model.training_jobs import ENDED, JobState, Metric, ModelRef, Price, RemoteJob

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cortex_autolearn.adapters.trainers.openai_compat.wire import Checkpoint, Event, Job

TOKEN: Final = "cortex_token"  # noqa: S105 -- the name of a key
MODEL_ID: Final = "cortex_model_id"
BASE: Final = "cortex_base"

_STATES: Final[Mapping[str, JobState]] = {
    "validating_files": "queued",
    "queued": "queued",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}
"""Any other word is of a job that is under way, as far as anybody can tell: its deadline ends it."""
_USUAL: Final = frozenset({*_STATES, "running"})
_MEASURED: Final = (
    "train_loss",
    "valid_loss",
    "full_valid_loss",
    "train_mean_token_accuracy",
    "valid_mean_token_accuracy",
    "full_valid_mean_token_accuracy",
)
_STEP: Final = re.compile(r"\bstep (\d{1,9})/(\d{1,9})\b", re.IGNORECASE)
_PASSING: Final = frozenset({"server_error", "internal_error", "internal_server_error"})
_MTOK: Final = 1e6


class Identity(NamedTuple):
    """Whose a job is: what its metadata says, or what was noted when it was sent."""

    token: str
    model_id: str
    base: str


def metadata_of(identity: Identity) -> dict[str, str]:
    """Return what a job is known by again."""
    return {TOKEN: identity.token, MODEL_ID: identity.model_id, BASE: identity.base}


def identity_of(job: Job) -> Identity | None:
    """Return what a job's metadata says; None where it says nothing of ours."""
    found = job.metadata or {}
    values = [found.get(name) for name in (TOKEN, MODEL_ID, BASE)]
    if not all(isinstance(value, str) and value for value in values):
        return None
    return Identity(*map(str, values))


def remote_job(
    job: Job,
    identity: Identity,
    *,
    events: Sequence[Event] = (),
    checkpoints: Sequence[Checkpoint] = (),
    price: Price | None = None,
) -> RemoteJob:
    """Return a job as the port tells of it.

    Arguments:
        job: as the provider tells of it.
        identity: whose it is.
        events: the newest first.
        checkpoints: the newest first.
        price: of its base, for what it cost.
    """
    state: JobState = _STATES.get(job.status, "running")
    model = None
    if state == "succeeded" and not _has_name(job):
        state = "running"  # it was paid for, and its name may come a while after: the deadline ends the waiting
    elif state == "succeeded":
        model = ModelRef(
            model_id=identity.model_id, kind=OPENAI, base=identity.base, artefact=str(job.fine_tuned_model)
        )
    is_paused = job.status == "paused"
    return RemoteJob(
        job_id=job.id,
        token=identity.token,
        model_id=identity.model_id,
        state=state,
        progress=1.0 if state == "succeeded" else _progress(events),
        metrics=_metrics(job, events, checkpoints, price),
        model=model,
        reason=_reason(job, state),
        retryable=state == "failed" and job.error is not None and job.error.code in _PASSING,
        waiting_for_person=is_paused,
        created_us=job.created_at * SECOND_US or None,
        ended_us=_ended_us(job, events) or None if state in ENDED else None,
    )


def _has_name(job: Job) -> bool:
    return bool(job.fine_tuned_model) and is_provider_name(str(job.fine_tuned_model))


def _about_name(job: Job) -> str:
    if job.fine_tuned_model:
        return f"the provider calls the model {job.fine_tuned_model!a:.80}, which cannot be its name"
    return "the provider names no model, though it says that the job succeeded"


def _reason(job: Job, state: JobState) -> str:
    if state == "failed":
        error = job.error
        details = [] if error is None else [one for one in (error.code, error.param) if one]
        said = (error.message if error is not None else None) or "the provider gave no reason"
        said = " ".join(said.split()).rstrip(".")
        return f"{said} ({', '.join(details)})" if details else said
    if state == "cancelled":
        return "cancelled"
    if job.status == "succeeded":
        return "" if _has_name(job) else _about_name(job)
    if job.status == "paused":
        return f"it is paused at the provider: resume the job {job.id} there"
    return "" if job.status in _USUAL else f"the provider says: {job.status[:50] or 'nothing'}"


def _metrics(
    job: Job, events: Sequence[Event], checkpoints: Sequence[Checkpoint], price: Price | None
) -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    measured = [event.data for event in events if event.type == "metrics" and isinstance(event.data, dict)]
    for told in (*measured[:1], *(one.metrics or {} for one in _newest(checkpoints))):
        found |= _numbers(told, _MEASURED)
    if checkpoints:
        found["checkpoints"] = len(checkpoints)
    method = (job.method or {}).get("supervised")
    used = (method.get("hyperparameters") if isinstance(method, dict) else None) or job.hyperparameters
    if isinstance(used, dict):
        found |= _numbers(used, ("n_epochs", "batch_size", "learning_rate_multiplier"))
    if job.trained_tokens is not None:
        found["trained_tokens"] = job.trained_tokens
        if price is not None and price.training is not None:
            found["training_usd"] = round(job.trained_tokens * price.training / _MTOK, 6)
    return found


def _newest(checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    return sorted(checkpoints, key=lambda one: one.step_number)[-1:]


def _numbers(told: Mapping[str, Any], names: Iterable[str]) -> dict[str, Metric]:
    values = {name: told.get(name) for name in names}
    return {
        name: value for name, value in values.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _progress(events: Sequence[Event]) -> float | None:
    """Return the furthest step that an event tells of, of all steps."""
    shares = []
    for event in events:
        data = event.data if isinstance(event.data, dict) else {}
        done, total = data.get("step"), data.get("total_steps")
        found = _STEP.search(event.message)
        if found is not None and not (isinstance(done, int) and isinstance(total, int)):
            done, total = int(found[1]), int(found[2])
        if isinstance(done, int) and isinstance(total, int) and 0 <= done <= total and total:
            shares.append(done / total)
    return max(shares, default=None)


def _ended_us(job: Job, events: Sequence[Event]) -> int:
    """Return when a job ended; one that was cancelled may have no such instant, but its last event has."""
    last = job.finished_at or max((event.created_at for event in events), default=0)
    return max(last, job.created_at) * SECOND_US
