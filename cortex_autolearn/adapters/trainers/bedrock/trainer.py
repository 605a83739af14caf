"""The trainer that has Amazon Bedrock fine-tune a base. Everything it knows of a job, it asks the service."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cortex_autolearn.adapters.trainers.bedrock import faults, terms
from cortex_autolearn.adapters.trainers.bedrock.aws import Aws, Fault
from cortex_autolearn.adapters.trainers.bedrock.bases import BASES, values
from cortex_autolearn.adapters.trainers.bedrock.deployments import Deployments
from cortex_autolearn.adapters.trainers.bedrock.jobs import Found, Jobs
from cortex_autolearn.adapters.trainers.bedrock.uploads import Uploads
from cortex_autolearn.adapters.trainers.dataset import FrozenDataset
from cortex_autolearn.model.bedrock_policy import BedrockPolicy
from cortex_autolearn.model.training_jobs import (
    Endpoint,
    Estimate,
    Limits,
    ModelRef,
    Price,
    RemoteJob,
    Spec,
    is_job_name,
    job_name,
)
from cortex_autolearn.model.training_problems import Problem
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cortex_autolearn.ports import Clock


class BedrockTrainer:
    """Implements :class:`cortex_autolearn.ports.Trainer` over Amazon Bedrock. Making one asks nobody.

    Arguments:
        root: the ROOT.
        clock: tells whether a base has come to its end.
        policy: the ``[bedrock]`` section.
        prices: what bases cost.
        environ: where addresses and the folder of credentials are named; this process's environment by default.
        aws: the account, where several trainers share it; by default one of its own.
    """

    def __init__(  # noqa: PLR0913 -- what it works with, each by its name
        self,
        root: Path,
        clock: Clock,
        *,
        policy: BedrockPolicy | None = None,
        prices: Mapping[str, Price] | None = None,
        environ: Mapping[str, str] | None = None,
        aws: Aws | None = None,
    ) -> None:
        self._root = root
        self._clock = clock
        self._policy = policy or BedrockPolicy()
        self._prices = prices or {}
        self._aws = aws or Aws(self._policy.region, os.environ if environ is None else environ)
        self._uploads = Uploads(root, self._aws, self._policy)
        self._jobs = Jobs(self._aws, self._uploads)
        self._deployments = Deployments(self._aws)

    @property
    def name(self) -> str:
        """What ``training.backend`` calls it."""
        return "bedrock"

    @property
    def trains_here(self) -> bool:
        """Nothing is trained here."""
        return False

    def limits(self, base: str) -> Limits:
        """Return how many examples a base takes, and how long ones; of an unknown base nothing is known."""
        return BASES[base].limits if base in BASES else Limits()

    def preflight(self, spec: Spec) -> list[Problem]:
        """Return what stands in the way of a spec: the data, the base, the settings, the account, the bucket.

        Raises:
            BoundaryError: the dataset cannot be read just now, or AWS does not answer.
        """
        price = self._prices.get(spec.base)
        found = list(terms.of_spec(spec, lambda: FrozenDataset(self._root, spec.dataset), price))
        try:
            found += terms.of_account(spec, self._policy, self._aws, self._clock.now())
        except Fault as fault:
            raise faults.error(fault, "look at the training", f"Bedrock in {self._aws.region}") from None
        return found

    def estimate(self, spec: Spec) -> Estimate:
        """Return what the job will cost; asks nobody.

        Raises:
            BoundaryError: the dataset cannot be read.
        """
        return terms.estimate(spec, FrozenDataset(self._root, spec.dataset), self._prices.get(spec.base))

    def find(self, token: str) -> RemoteJob | None:
        """Return the job of a client token; None when there is none.

        Raises:
            BoundaryError: the service does not say, or a job of the same name is not ours.
        """
        found = self._jobs.find(job_name(token), token)
        return None if found is None else self._jobs.told(found)

    def submit(self, spec: Spec, token: str) -> RemoteJob:
        """Send the data and have the job created, or return the one that was.

        Where the service says that it is there already (another process was faster, or an answer got lost), it is
        taken up if its data is ours. Where the request is refused for good, what was sent is removed.

        Raises:
            BoundaryError: nobody answers, or it was not taken.
        """
        found = self._jobs.find(job_name(token), token)
        return self._jobs.told(self._create(spec, token) if found is None else found)

    def poll(self, job_id: str) -> RemoteJob:
        """Return how far a job is.

        Raises:
            BoundaryError: there is no such job, or the service does not say.
        """
        return self._jobs.told(self._found(job_id))

    def cancel(self, job_id: str) -> None:
        """Ask for the end of a job; of one that has ended it changes nothing.

        Raises:
            BoundaryError: there is no such job, or the service does not do it.
        """
        found = self._found(job_id)
        if found.answer.get("status") == "InProgress":
            self._jobs.stop(job_id)

    def discard(self, token: str) -> None:
        """Remove what was sent for a training that is given up before it became a job.

        Raises:
            BoundaryError: S3 does not do it.
        """
        if self._jobs.find(job_name(token), token) is None:
            self._uploads.remove_of(token)

    def forget(self, model: ModelRef) -> None:
        """Delete the custom model of a challenger that was rejected, unless the settings keep it.

        Raises:
            BoundaryError: the service does not do it.
        """
        if not self._policy.keep_rejected:
            self._deployments.forget(model)

    def deploy(self, model: ModelRef, token: str) -> Endpoint:
        """Have a model served on demand, or return the deployment that was; one that cannot be has failed.

        Raises:
            BoundaryError: the service does not say.
        """
        return self._deployments.deploy(model, token)

    def poll_endpoint(self, endpoint: Endpoint) -> Endpoint:
        """Return how a deployment stands.

        Raises:
            BoundaryError: the service does not say.
        """
        return self._deployments.poll(endpoint)

    def teardown(self, endpoint: Endpoint) -> None:
        """End a deployment; that it is gone already is no error.

        Raises:
            BoundaryError: the service does not do it.
        """
        self._deployments.end(endpoint)

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _create(self, spec: Spec, token: str) -> Found:
        name = job_name(token)
        base = BASES.get(spec.base)
        if base is None:
            hint = f"Set training.base_model to one of: {', '.join(BASES)}"
            cause = f"the base {spec.base!r} is not among those that can be trained"
            raise BoundaryError("submit the training", spec.model_id, cause, hint=hint, retryable=False)
        for setting, value in (("bedrock.role_arn", self._policy.role_arn), ("bedrock.bucket", self._policy.bucket)):
            if not value:
                hint = f"Set {setting}: see Amazon Bedrock in the README"
                raise BoundaryError(
                    "submit the training", spec.model_id, f"{setting} is not set", hint=hint, retryable=True
                )
        try:
            sent = self._uploads.send(spec, token, base)
            knobs = values(base, spec.hyperparameters)
            self._jobs.create(token, role_arn=self._policy.role_arn, base=spec.base, knobs=knobs, sent=sent)
        except Fault as fault:
            found = self._jobs.find(name, token)
            if found is not None:
                return found
            error = faults.error(fault, "submit the training", f"{spec.model_id} ({name})")
            if not error.retryable:
                self._uploads.remove_of(token)
            raise error from None
        except BoundaryError as error:
            if not error.retryable:  # the dataset is damaged: what was sent of it is of no use
                self._uploads.remove_of(token)
            raise
        found = self._jobs.find(name, token)
        if found is None:
            hint = "It is looked for again by itself"
            raise BoundaryError("find the training job", name, "it is not shown yet", hint=hint, retryable=True)
        return found

    def _found(self, job_id: str) -> Found:
        found = self._jobs.find(job_id)
        if found is None:
            # Jobs cannot be deleted there: one of ours that is not shown is looked for in the wrong place.
            is_ours = is_job_name(job_id)
            where = f"Set bedrock.region and the credentials back to where it was submitted (now {self._aws.region})"
            hint = f"{where}, or end it here: fine-tune cancel --give-up" if is_ours else "It was never submitted"
            raise BoundaryError("find the training job", job_id, "there is none", hint=hint, retryable=is_ours)
        return found
