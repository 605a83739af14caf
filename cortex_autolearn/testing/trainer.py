"""A trainer that does what it is told: succeeds, fails, hangs, is away, or takes a job and loses the answer.

Its outside world is a folder, so that it outlives whoever is killed, and several processes meet the same one; time is
whatever clock it is given. Nothing is trained.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import msgspec
from msgspec import Struct

from cortex_autolearn.model.instants import SECOND_US, to_us
from cortex_autolearn.model.training_jobs import (
    Endpoint,
    EndpointState,
    Estimate,
    JobState,
    Limits,
    ModelRef,
    RemoteJob,
    Spec,
)
from cortex_autolearn.model.training_problems import Problem
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from pathlib import Path

    from cortex_autolearn.ports import Clock

_Read = TypeVar("_Read")
_LOSS_AT_START: Final = 2.0


class Script(Struct, frozen=True, kw_only=True):
    """What becomes of a job; the script that is in force when it is submitted is its own for good.

    Arguments:
        outcome: how it ends; one that hangs runs for ever.
        reason: why it fails.
        retryable: whether it says, when it fails, that another attempt may succeed.
        queued_s: how long it waits before it runs.
        running_s: how long it runs.
        deploy: how a deployment ends.
        deploy_s: how long a deployment takes.
        kind: who serves the model, as in routes.json.
        loses_answers: the first ``submit`` and the first ``deploy`` under a token are done, and no answer comes.
        away: pairs of instants (microseconds since 1970) between which every call fails, to be tried again.
        problems: what ``preflight`` finds.
        training_usd: what ``estimate`` says; None for unknown.
    """

    outcome: Literal["succeeds", "fails", "hangs"] = "succeeds"
    reason: str = "the loss became NaN"
    retryable: bool = True
    queued_s: float = 60.0
    running_s: float = 3_600.0
    deploy: Literal["succeeds", "fails"] = "succeeds"
    deploy_s: float = 60.0
    kind: str = "base"
    loses_answers: bool = False
    away: tuple[tuple[int, int], ...] = ()
    problems: tuple[Problem, ...] = ()
    training_usd: float | None = 1.0


class _Job(Struct, frozen=True):
    token: str
    spec: Spec
    created_us: int
    script: Script
    cancelled_us: int | None = None


class _Serving(Struct, frozen=True):
    token: str
    model: ModelRef
    created_us: int
    script: Script


class ScriptedTrainer:
    """Implements :class:`cortex_autolearn.ports.Trainer` by a script.

    Arguments:
        folder: its outside world; made if it is not there.
        clock: moves jobs and deployments on.
        script: what becomes of what is submitted from now on; may be changed at any time.
        trains_here: what the property of this name answers.
    """

    def __init__(self, folder: Path, clock: Clock, script: Script | None = None, *, trains_here: bool = False) -> None:
        self.script = script or Script()
        self._folder = folder
        self._clock = clock
        self._trains_here = trains_here
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def name(self) -> str:
        """What ``training.backend`` calls it."""
        return "scripted"

    @property
    def trains_here(self) -> bool:
        """As it was told."""
        return self._trains_here

    def limits(self, base: str) -> Limits:  # noqa: ARG002 -- of any base
        """Return that there are none."""
        return Limits()

    def preflight(self, spec: Spec) -> Sequence[Problem]:  # noqa: ARG002 -- of any spec
        """Return the script's problems. Raises BoundaryError while it is away."""
        self._be_there("look at the training")
        return self.script.problems

    def estimate(self, spec: Spec) -> Estimate:
        """Return the script's price for 500 tokens an example. Raises BoundaryError while it is away."""
        self._be_there("estimate the training")
        usd = self.script.training_usd
        return Estimate(tokens=spec.dataset.train * 500, epochs=1, training_usd=usd, seconds=self.script.running_s)

    def find(self, token: str) -> RemoteJob | None:
        """Return the job of a client token; None when there is none. Raises BoundaryError while it is away."""
        self._be_there("find the training job")
        job = self._read(self._job_file(token), _Job)
        return None if job is None else self._told(job)

    def submit(self, spec: Spec, token: str) -> RemoteJob:
        """Take a job, or return the one that was. Raises BoundaryError while it is away, or as the script says."""
        self._be_there("submit the training")
        new = self._create(self._job_file(token), _Job(token, spec, self._now_us(), self.script))
        if new and self.script.loses_answers:
            raise _lost("submit the training")
        job = self._read(self._job_file(token), _Job)
        assert job is not None
        return self._told(job)

    def poll(self, job_id: str) -> RemoteJob:
        """Return how far a job is. Raises BoundaryError while it is away, and for a job that is not there."""
        self._be_there("poll the training job")
        return self._told(self._job(job_id))

    def cancel(self, job_id: str) -> None:
        """End a job. Raises BoundaryError while it is away, and for a job that is not there."""
        self._be_there("cancel the training job")
        job = self._job(job_id)
        if not self._told(job).ended:
            self._write(self._job_file(job.token), msgspec.structs.replace(job, cancelled_us=self._now_us()))

    def deploy(self, model: ModelRef, token: str) -> Endpoint:
        """Have a model served. Raises BoundaryError while it is away, or as the script says."""
        self._be_there("deploy the model")
        new = self._create(self._serving_file(token), _Serving(token, model, self._now_us(), self.script))
        if new and self.script.loses_answers:
            raise _lost("deploy the model")
        serving = self._read(self._serving_file(token), _Serving)
        assert serving is not None
        return self._served(serving)

    def poll_endpoint(self, endpoint: Endpoint) -> Endpoint:
        """Return how an endpoint stands. Raises BoundaryError while it is away."""
        self._be_there("poll the deployment")
        serving = self._read(self._serving_file(endpoint.token), _Serving)
        return msgspec.structs.replace(endpoint, state="gone") if serving is None else self._served(serving)

    def teardown(self, endpoint: Endpoint) -> None:
        """End an endpoint. Raises BoundaryError while it is away."""
        self._be_there("tear the deployment down")
        self._serving_file(endpoint.token).unlink(missing_ok=True)

    # --- what tests ask ----------------------------------------------------------------------------------------------

    def jobs(self) -> list[RemoteJob]:
        """Return all jobs there ever were, in the order of their instants; away or not."""
        found = (self._read(path, _Job) for path in self._folder.glob("job-*.json"))
        jobs = [self._told(job) for job in found if job is not None]
        return sorted(jobs, key=lambda job: (job.created_us or 0, job.token))

    def endpoints(self) -> list[Endpoint]:
        """Return what serves now; away or not."""
        found = (self._read(path, _Serving) for path in sorted(self._folder.glob("serving-*.json")))
        return [self._served(serving) for serving in found if serving is not None]

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _told(self, job: _Job) -> RemoteJob:
        state, progress, ended_us = self._state(job)
        made = state == "succeeded"
        spec = job.spec
        model = ModelRef(
            model_id=spec.model_id, kind=job.script.kind, base=spec.base, artefact=f"scripted:{spec.model_id}"
        )
        return RemoteJob(
            job_id=f"job-{_name(job.token)}",
            token=job.token,
            model_id=spec.model_id,
            state=state,
            progress=progress,
            metrics={"loss": round(_LOSS_AT_START - progress, 3)} if progress else {},
            model=model if made else None,
            reason={"failed": job.script.reason, "cancelled": "cancelled"}.get(state, ""),
            retryable=state == "failed" and job.script.retryable,
            created_us=job.created_us,
            ended_us=ended_us,
        )

    def _state(self, job: _Job) -> tuple[JobState, float, int | None]:
        """Return a job's state, progress and end."""
        script = job.script
        until_us = self._now_us() if job.cancelled_us is None else job.cancelled_us
        ran_s = (until_us - job.created_us) / SECOND_US - script.queued_s
        progress = min(max(ran_s, 0.0) / script.running_s, 1.0) if script.running_s else float(ran_s >= 0)
        if job.cancelled_us is not None:
            return "cancelled", progress, job.cancelled_us
        if ran_s < 0:
            return "queued", 0.0, None
        if ran_s < script.running_s or script.outcome == "hangs":
            return "running", progress, None
        ended_us = job.created_us + round((script.queued_s + script.running_s) * SECOND_US)
        return ("succeeded" if script.outcome == "succeeds" else "failed"), 1.0, ended_us

    def _served(self, serving: _Serving) -> Endpoint:
        script = serving.script
        state: EndpointState = "creating"
        if self._now_us() >= serving.created_us + round(script.deploy_s * SECOND_US):
            state = "ready" if script.deploy == "succeeds" else "failed"
        return Endpoint(
            endpoint_id=f"serving-{_name(serving.token)}",
            token=serving.token,
            model=serving.model,
            state=state,
            target=serving.model.artefact,
            reason="no capacity is left" if state == "failed" else "",
            usd_per_hour=0.0,
        )

    def _job(self, job_id: str) -> _Job:
        job = self._read(self._folder / f"{job_id}.json", _Job)
        if job is None:
            hint = "It was submitted elsewhere, or never"
            raise BoundaryError("find the training job", job_id, "there is none", hint=hint, retryable=False)
        return job

    def _be_there(self, operation: str) -> None:
        now_us = self._now_us()
        if any(begin <= now_us < end for begin, end in self.script.away):
            raise BoundaryError(operation, "the scripted trainer", "it is away", hint="Wait", retryable=True)

    def _now_us(self) -> int:
        return to_us(self._clock.now())

    def _job_file(self, token: str) -> Path:
        return self._folder / f"job-{_name(token)}.json"

    def _serving_file(self, token: str) -> Path:
        return self._folder / f"serving-{_name(token)}.json"

    def _create(self, path: Path, content: Struct) -> bool:
        """Write a file that is not there yet; tells whether it was not."""
        with self._temporary(content) as temporary:
            try:
                path.hardlink_to(temporary)
            except FileExistsError:
                return False
        return True

    def _write(self, path: Path, content: Struct) -> None:
        with self._temporary(content) as temporary:
            temporary.replace(path)

    @contextmanager
    def _temporary(self, content: Struct) -> Iterator[Path]:
        path = self._folder / f".{os.getpid()}-{secrets.token_hex(8)}.tmp"
        path.write_bytes(msgspec.json.encode(content))
        try:
            yield path
        finally:
            with suppress(FileNotFoundError):
                path.unlink()

    @staticmethod
    def _read(path: Path, kind: type[_Read]) -> _Read | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except FileNotFoundError:
            return None


def _name(token: str) -> str:
    return sha256(token.encode()).hexdigest()[:16]


def _lost(operation: str) -> BoundaryError:
    cause = "the connection broke before the answer came"
    return BoundaryError(operation, "the scripted trainer", cause, hint="Ask again", retryable=True)
