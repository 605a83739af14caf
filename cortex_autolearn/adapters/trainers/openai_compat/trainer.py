"""The trainer that fine-tunes at a provider with an API like OpenAI's: the life of a job, from token to teardown."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from cortex_autolearn.adapters.trainers.dataset import DatasetDamagedError, FrozenDataset
from cortex_autolearn.adapters.trainers.openai_compat import faults, terms
from cortex_autolearn.adapters.trainers.openai_compat.line import Fault, Line
from cortex_autolearn.adapters.trainers.openai_compat.sendings import Sending, Sendings, require_home
from cortex_autolearn.adapters.trainers.openai_compat.serving import Serving
from cortex_autolearn.adapters.trainers.openai_compat.told import (
    TOKEN,
    Identity,
    identity_of,
    metadata_of,
    remote_job,
)
from cortex_autolearn.adapters.trainers.openai_compat.uploads import Uploads
from cortex_autolearn.model.instants import SECOND_US, to_us
from cortex_autolearn.model.training_jobs import Endpoint, Estimate, Limits, ModelRef, Price, RemoteJob, Spec
from cortex_autolearn.ports import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cortex_autolearn.adapters.trainers.openai_compat.wire import Job
    from cortex_autolearn.model.openai_policy import OpenaiPolicy
    from cortex_autolearn.model.training_problems import Problem
    from cortex_autolearn.ports import Clock

SETTLED_S: Final = 120
"""A job that was sent and not answered has shown by then, or was never taken: no request lasts that long."""


_T = TypeVar("_T")


class OpenaiTrainer:
    """Implements :class:`cortex_autolearn.ports.Trainer` with any API like OpenAI's; asks nobody when it is made.

    Arguments:
        root: the ROOT.
        clock: tells when jobs are sent.
        policy: the ``[openai]`` section.
        prices: what training a base costs.
        environ: where the key is, and the address where the section names none.
    """

    def __init__(
        self,
        root: Path,
        clock: Clock,
        *,
        policy: OpenaiPolicy,
        prices: Mapping[str, Price],
        environ: Mapping[str, str],
    ) -> None:
        self._root = root
        self._clock = clock
        self._policy = policy
        self._prices = prices
        self._line = Line(policy, environ)
        self._uploads = Uploads(root, self._line)
        self._sendings = Sendings(root)
        self._serving = Serving(root, clock, self._line, self._sendings, self._uploads, prices)

    @property
    def name(self) -> str:
        """What ``training.backend`` calls it."""
        return "openai_compat"

    @property
    def trains_here(self) -> bool:
        """The provider trains."""
        return False

    def limits(self, base: str) -> Limits:  # noqa: ARG002 -- the same for every base
        """Return how few examples are too few."""
        return terms.LIMITS

    def preflight(self, spec: Spec) -> list[Problem]:
        """Return what stands in the way of a spec.

        Raises:
            BoundaryError: the dataset cannot be read just now, or the provider does not answer.
        """
        return terms.problems(
            spec,
            lambda: FrozenDataset(self._root, spec.dataset),
            self._line,
            price=self._prices.get(spec.base),
            today=f"{self._clock.now():%Y-%m-%d}",
        )

    def estimate(self, spec: Spec) -> Estimate:
        """Return what the job will cost, where the price of its base is known.

        Raises:
            BoundaryError: the dataset cannot be read.
        """
        return terms.estimate(spec, FrozenDataset(self._root, spec.dataset), self._prices.get(spec.base))

    def find(self, token: str) -> RemoteJob | None:
        """Return the job of a client token; None when there is none.

        Raises:
            BoundaryError: the provider does not answer, or is not the one to whom the job was sent.
        """
        try:
            job = self._look_for(token)
            return None if job is None else self._looked_after(job)
        except Fault as fault:
            raise faults.error(fault, "look for the job", token) from None

    def submit(self, spec: Spec, token: str) -> RemoteJob:
        """Upload the examples and create the job, or return the one that was.

        Raises:
            BoundaryError: the job may exist or not (retryable), or was refused.
        """
        found = self.find(token)
        if found is not None:
            return found
        self._require_settled(token)
        try:
            uploads = self._provided(spec, token)
            sending = Sending(
                token=token,
                model_id=spec.model_id,
                base=spec.base,
                address=self._line.address,
                sent_us=self._now_us(),
                uploads=tuple(uploads.values()),
            )
            self._sendings.note(sending)
            job = self._create(self._asked(spec, token, uploads), token)
            self._sendings.note(msgspec.structs.replace(sending, job_id=job.id))
            return self._told(job)
        except Fault as fault:
            raise faults.error(fault, "submit the job for", spec.model_id) from None
        except DatasetDamagedError:
            self._swept(token)
            raise

    def poll(self, job_id: str) -> RemoteJob:
        """Return how far a job is; of one that has ended, the files that it learned from are deleted.

        Raises:
            BoundaryError: there is no such job, or the provider does not answer.
        """
        try:
            return self._looked_after(self._job(job_id))
        except Fault as fault:
            raise faults.error(fault, "look after the job", job_id) from None

    def cancel(self, job_id: str) -> None:
        """Ask for the end of a job; one that has ended stays as it is.

        Raises:
            BoundaryError: there is no such job, or the provider does not answer.
        """
        try:
            job = self._job(job_id)
            self._identity(job)
            if not job.is_ended:
                self._end(job)
        except Fault as fault:
            raise faults.error(fault, "cancel the job", job_id) from None

    def discard(self, token: str) -> None:
        """Delete what was uploaded for a job that never came to be, and is not to be any more.

        Raises:
            BoundaryError: it may yet come to be, or the provider does not answer.
        """
        if self.find(token) is None:
            self._require_settled(token)
            self._swept(token)
            self._sendings.forget(token)

    def deploy(self, model: ModelRef, token: str) -> Endpoint:
        """Note that a model serves; the provider serves every model that it has made.

        Raises:
            BoundaryError: the provider does not answer, or the note cannot be written.
        """
        return self._serving.deploy(model, token)

    def poll_endpoint(self, endpoint: Endpoint) -> Endpoint:
        """Return an endpoint as it is.

        Raises:
            BoundaryError: the provider does not answer.
        """
        return self._serving.poll(endpoint)

    def teardown(self, endpoint: Endpoint) -> None:
        """Note that a model serves no more; the model stays.

        Raises:
            BoundaryError: the provider does not answer, or the note cannot be removed.
        """
        self._serving.end(endpoint)

    def forget(self, model: ModelRef) -> None:
        """Delete the model of a challenger that was rejected, unless the settings keep such.

        Raises:
            BoundaryError: the provider does not answer.
        """
        if not self._policy.keep_rejected:
            self._serving.forget(model)

    # --- looking ------------------------------------------------------------------------------------------------------

    def _look_for(self, token: str) -> Job | None:
        """Return the job of a token: by the id that was noted, by our metadata, or by the files it learns from."""
        sending = self._sendings.of(token)
        if sending is not None and sending.job_id is not None:
            return self._job(sending.job_id)
        require_home(sending, self._line, "look for the job", token)
        with_token = self._jobs_of(token)
        if with_token:
            return with_token[0]
        if sending is None:
            return None
        # An API that keeps no metadata: its job is known by its files, whose names are ours.
        ours = frozenset(sending.uploads)
        found = min((job for job in self._line.jobs() if _learns_from(job, ours)), key=_age, default=None)
        if found is not None:
            self._sendings.note(msgspec.structs.replace(sending, job_id=found.id))
        return found

    def _jobs_of(self, token: str, uploads: frozenset[str] = frozenset()) -> list[Job]:
        """Return the jobs with our metadata, or without any and from these files: the best first, then by age."""
        try:
            listed = self._line.jobs({TOKEN: token})
        except Fault as fault:
            if fault.status not in {400, 422}:
                raise
            listed = self._line.jobs()  # an API that does not know the filter
        identities = [(job, identity_of(job)) for job in listed]
        ours = [job for job, identity in identities if identity is not None and identity.token == token]
        ours += [job for job in listed if _learns_from(job, uploads)]
        return sorted(ours, key=lambda job: (job.status in {"failed", "cancelled"}, *_age(job)))

    def _job(self, job_id: str) -> Job:
        sending = self._sendings.of_job(job_id)
        require_home(sending, self._line, "look after the job", job_id)
        try:
            return self._line.job(job_id)
        except Fault as fault:
            if sending is None or not faults.is_missing(fault):
                raise
            # Jobs cannot be deleted there: whoever does not show it asks with other rights, or elsewhere.
            cause = f"{faults.told(fault)}, though it was created there"
            hint = "Use a key of the project that created it, or end it here: fine-tune cancel --give-up"
            raise BackendError("look after the job", job_id, cause, hint=hint, retryable=True) from None

    def _identity(self, job: Job) -> Identity:
        found = identity_of(job)
        if found is not None:
            return found
        sending = self._sendings.of_job(job.id)
        if sending is None:
            hint = "Look at the jobs of the provider: nothing is done to those of others"
            raise BackendError("look after the job", job.id, "it is not one of ours", hint=hint, retryable=False)
        return Identity(sending.token, sending.model_id, sending.base)

    def _looked_after(self, job: Job) -> RemoteJob:
        """End the doubles of a job, and delete what one that has ended leaves; whoever finds it so does that."""
        identity = self._identity(job)
        self._end_doubles(identity.token, job)
        left = self._uploads.tidy(identity.token) if job.is_ended else ""
        told = self._told(job)
        return msgspec.structs.replace(told, reason="; ".join(filter(None, (told.reason, left))))

    def _told(self, job: Job) -> RemoteJob:
        identity = self._identity(job)
        is_begun = job.status not in {"validating_files", "queued"}
        events = _if_any(self._line.events, job.id) if is_begun else []
        checkpoints = _if_any(self._line.checkpoints, job.id) if job.status == "succeeded" else []
        price = self._prices.get(identity.base)
        return remote_job(job, identity, events=events, checkpoints=checkpoints, price=price)

    # --- changing -----------------------------------------------------------------------------------------------------

    def _asked(self, spec: Spec, token: str, uploads: Mapping[Any, str]) -> dict[str, Any]:
        """Return the body of the request that creates a job."""
        asked: dict[str, Any] = {
            "model": spec.base,
            "training_file": uploads["train"],
            "metadata": metadata_of(Identity(token, spec.model_id, spec.base)),
        }
        if "validation" in uploads:
            asked["validation_file"] = uploads["validation"]
        if self._policy.suffix:
            asked["suffix"] = self._policy.suffix
        if "seed" in spec.hyperparameters:
            asked["seed"] = spec.hyperparameters["seed"]
        knobs = terms.hyperparameters(spec)
        if self._policy.method == "supervised":
            asked["method"] = {"type": "supervised", "supervised": {"hyperparameters": knobs}}
        elif knobs:
            asked["hyperparameters"] = knobs
        return asked

    def _provided(self, spec: Spec, token: str) -> Mapping[Any, str]:
        try:
            return self._uploads.provide(spec, token)
        except Fault as fault:
            if faults.is_refusal(fault):  # of one file, and the other may have been taken
                self._uploads.tidy(token)
            raise

    def _create(self, asked: dict[str, Any], token: str) -> Job:
        try:
            return self._line.create(asked)
        except Fault as fault:
            if faults.is_unsure(fault):
                found = self._look_for(token)
                if found is not None:
                    return found
            else:
                # It was refused, and nothing came to be. What was uploaded is needed again only if asking again helps.
                self._sendings.forget(token)
                if faults.is_refusal(fault):
                    self._uploads.tidy(token)
            raise

    def _end_doubles(self, token: str, job: Job) -> None:
        """End what a creation that was believed lost, and came after all, would train and cost besides."""
        for other in self._jobs_of(token, job.files):
            if other.id != job.id and not other.is_ended:
                self._end(other)

    def _end(self, job: Job) -> None:
        try:
            self._line.cancel(job.id)
        except Fault:
            if not self._line.job(job.id).is_ended:
                raise

    def _swept(self, token: str) -> None:
        try:
            self._uploads.tidy(token)
        except Fault as fault:
            raise faults.error(fault, "delete the uploads of", token) from None

    def _require_settled(self, token: str) -> None:
        sending = self._sendings.of(token)
        if sending is None or sending.job_id is not None:
            return
        age_s = (self._now_us() - sending.sent_us) / SECOND_US
        if age_s < 0:  # the clock was set back: waited for from now on
            self._sendings.note(msgspec.structs.replace(sending, sent_us=self._now_us()))
            age_s = 0.0
        if age_s < SETTLED_S:
            cause = f"it was sent {age_s:.0f} seconds ago, and no answer came"
            hint = "It is looked for before it is sent again, by itself"
            raise BackendError("submit the job for", sending.model_id, cause, hint=hint, retryable=True)

    def _now_us(self) -> int:
        return to_us(self._clock.now())


def _learns_from(job: Job, uploads: frozenset[str]) -> bool:
    """Tell whether a job that says nothing of whose it is learns from one of these files."""
    return identity_of(job) is None and job.training_file in uploads


def _if_any(ask: Callable[[str], list[_T]], job_id: str) -> list[_T]:
    """Return what an API tells of a job besides; nothing where it knows no such question, or cannot be understood."""
    try:
        return ask(job_id)
    except Fault as fault:
        if faults.may_pass(fault) and fault.status != HTTPStatus.NOT_IMPLEMENTED:
            raise
        return []


def _age(job: Job) -> tuple[int, str]:
    return job.created_at, job.id
