"""What a trainer is asked, and what it answers: jobs, models, endpoints.

What stands in their way is in ``training_problems``. The port itself is ``ports.Trainer``; when to train and what to do
about an answer is decided in ``training``. Instants are microseconds since 1970, money is US dollars, None means
unknown and never nothing. Everything here survives a round through JSON (``msgspec.json``), as the state keeps it.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final, Literal

import msgspec
from msgspec import Struct

GLOBAL: Final = "global"
"""The scope of a model that serves every master; any other scope is a master's name."""

Hyperparameter = int | float | str | bool
Metric = int | float | str
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
EndpointState = Literal["creating", "ready", "failed", "gone"]
ENDED: Final[frozenset[JobState]] = frozenset({"succeeded", "failed", "cancelled"})

_JOB_NAME_DIGITS: Final = 12


class DatasetRef(Struct, frozen=True):
    """A frozen dataset: ``folder`` is its path below ROOT, ``train`` and ``validation`` count its examples."""

    dataset_id: str
    folder: str
    train: int
    validation: int


class Spec(Struct, frozen=True, kw_only=True):
    """One training that is asked for.

    Arguments:
        backend: the trainer's name ("exemplar", "export", …).
        model_id: what the model will be called here, ``ft-YYYYMMDD-NNN``.
        scope: :data:`GLOBAL` or the master it is for.
        base: the base model, by the provider's id.
        dataset: what it learns from.
        hyperparameters: by the names of the settings (``n_epochs``, ``batch_size``, …); a backend takes those it
            knows and says in ``preflight`` what it does about the others.
        attempt: 1 for the first job on this data, 2 after a failed one, and so on: another attempt is another job.
    """

    backend: str
    model_id: str
    scope: str
    base: str
    dataset: DatasetRef
    hyperparameters: dict[str, Hyperparameter] = {}
    attempt: int = 1


def client_token(spec: Spec) -> str:
    """Return the 64 hexadecimal digits that name the job of a spec, on whichever machine and however often it is asked.

    A digest of backend, dataset, base, hyperparameters, scope and attempt. Not of ``model_id`` or the dataset's
    folder: a job that was submitted before a kill keeps the model id under which it was submitted.
    """
    identity = (
        spec.backend,
        spec.dataset.dataset_id,
        spec.base,
        sorted(spec.hyperparameters.items()),
        spec.scope,
        spec.attempt,
    )
    return sha256(msgspec.json.encode(identity)).hexdigest()


def job_name(token: str) -> str:
    """Return the name under which a provider that wants short names knows the job of a client token."""
    return f"cortex-{token[:_JOB_NAME_DIGITS]}"


def is_job_name(name: str) -> bool:
    """Tell whether :func:`job_name` may have made a name."""
    return len(name) == len(job_name("0" * _JOB_NAME_DIGITS)) and name.startswith("cortex-")


class ModelRef(Struct, frozen=True, kw_only=True):
    """A model that a training made.

    Arguments:
        model_id: its id here, ``ft-YYYYMMDD-NNN``.
        kind: who serves it, as in routes.json: "exemplar", "bedrock", "openai", "base".
        base: what it was made from.
        artefact: where it is: a folder below ROOT, or the provider's own id (an ARN, ``ft:…``).
    """

    model_id: str
    kind: str
    base: str
    artefact: str


class RemoteJob(Struct, frozen=True, kw_only=True):
    """A training job as its backend knows it.

    Arguments:
        job_id: what ``poll`` and ``cancel`` take.
        token: the client token under which it was submitted.
        model_id: the model id it was submitted with.
        state: where it stands; a job that is being stopped still runs.
        progress: 0 to 1, None where the backend tells none.
        metrics: numbers and words by name, as far as known: ``loss``, ``trained_tokens``, …
        model: the model, once ``succeeded``.
        reason: one sentence on why it waits, failed or was cancelled; empty where there is nothing to say.
        retryable: of a failed job: whether another attempt on the same data may succeed.
        waiting_for_person: it goes on when a person has done what ``reason`` says; no deadline should end it.
        created_us: when it was submitted, an instant.
        ended_us: when it ended, an instant.
    """

    job_id: str
    token: str
    model_id: str
    state: JobState
    progress: float | None = None
    metrics: dict[str, Metric] = {}
    model: ModelRef | None = None
    reason: str = ""
    retryable: bool = False
    waiting_for_person: bool = False
    created_us: int | None = None
    ended_us: int | None = None

    @property
    def ended(self) -> bool:
        """Whether it will not change any more."""
        return self.state in ENDED


class Endpoint(Struct, frozen=True, kw_only=True):
    """What serves a model.

    Arguments:
        endpoint_id: what ``poll_endpoint`` and ``teardown`` take.
        token: the client token under which it was deployed.
        model: the model served.
        state: ``creating`` until it answers; ``gone`` when it is torn down, or was never there.
        target: what a request names as its model, once ready.
        reason: one sentence, where it failed.
        usd_per_hour: what it costs while it stands, None where unknown.
    """

    endpoint_id: str
    token: str
    model: ModelRef
    state: EndpointState
    target: str = ""
    reason: str = ""
    usd_per_hour: float | None = None


class Price(Struct, frozen=True, kw_only=True):
    """What a base costs, in US dollars per million tokens unless the name says otherwise; None where unknown."""

    base: str
    as_of: str
    training: float | None = None
    input: float | None = None
    cache_write: float | None = None
    cache_read: float | None = None
    output: float | None = None
    storage_per_month: float | None = None
    serving_per_hour: float | None = None


class Estimate(Struct, frozen=True, kw_only=True):
    """What a training will cost and take, before it is submitted.

    Arguments:
        tokens: tokens of the training split, counted once.
        epochs: passes over them that are paid for (0 where training is free of charge).
        training_usd: the price of the training; 0.0 only where it is known to be free.
        storage_usd_per_month: of keeping the model.
        serving_usd_per_hour: of an endpoint that stands and waits; 0.0 where there is none.
        added_input_tokens: input tokens that each served task carries more than with the base alone.
        added_usd_per_task: what these cost, with the prompt cache warm.
        seconds: how long the job will take.
        notes: what the figures rest on, a sentence each.
        adjusted: the hyperparameters that are not used as they were asked for, a sentence without a full stop each.
    """

    tokens: int
    epochs: int
    training_usd: float | None = None
    storage_usd_per_month: float | None = None
    serving_usd_per_hour: float | None = None
    added_input_tokens: int = 0
    added_usd_per_task: float | None = None
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    adjusted: tuple[str, ...] = ()


class Limits(Struct, frozen=True, kw_only=True):
    """What a backend takes for a base: numbers of examples, and the size of one in characters. None: no limit."""

    min_train: int = 1
    max_train: int | None = None
    min_validation: int = 0
    max_validation: int | None = None
    max_example_chars: int | None = None
