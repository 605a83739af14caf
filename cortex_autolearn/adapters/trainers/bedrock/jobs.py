"""Jobs as the service knows them, by their names: looked up, created, stopped, and what they measured.

A job is judged by its ``status`` alone. Its data tells which training it is (``uploads.place_of``), so that a job of
our name whose data is not ours is never taken for one of ours.
"""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cortex_autolearn.adapters.trainers.bedrock import faults, uploads
from cortex_autolearn.adapters.trainers.bedrock.aws import Fault, aware
from cortex_autolearn.model import instants
from cortex_autolearn.model.training_jobs import JobState, Metric, ModelRef, RemoteJob, job_name
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from cortex_autolearn.adapters.trainers.bedrock.aws import Aws
    from cortex_autolearn.adapters.trainers.bedrock.uploads import Place, Sent, Uploads

KIND: Final = "bedrock"

_STATES: Final[Mapping[str, JobState]] = {
    "InProgress": "running",
    "Stopping": "running",
    "Completed": "succeeded",
    "Failed": "failed",
    "Stopped": "cancelled",
}
_FOREIGN_HINT: Final = "Look at it in the AWS console; rename or copy what is yours there, and train with other data"
_METRICS: Final = (
    ("step_wise_training_metrics.csv", "training_loss", "loss"),
    ("validation_metrics.csv", "validation_loss", "validation_loss"),
)
_MOST_BYTES: Final = 16 << 20
_PASSING: Final = ("internal", "try again", "capacity", "temporar")


class Found(NamedTuple):
    """A job of ours: what the service says, and what the place of its data tells."""

    answer: Mapping[str, Any]
    place: Place

    @property
    def name(self) -> str:
        """The job's name, which is also that of its model."""
        return str(self.answer["jobName"])

    @property
    def state(self) -> JobState:
        """Where it stands; a status that nobody knows yet is not an end."""
        return _STATES.get(self.answer.get("status", ""), "running")


class Jobs:
    """The jobs of an account in a region.

    Arguments:
        aws: the account.
        sent: the training data.
    """

    def __init__(self, aws: Aws, sent: Uploads) -> None:
        self._aws = aws
        self._uploads = sent

    def find(self, name: str, token: str | None = None) -> Found | None:
        """Return the job of a name; None when there is none.

        Arguments:
            name: the job's.
            token: the client token that it has to have been submitted under, where that is known.

        Raises:
            BoundaryError: the service does not say, or the job is none of ours.
        """
        try:
            answer = self._aws.call("bedrock", "get_model_customization_job", {"jobIdentifier": name})
        except Fault as fault:
            if fault.kind == "missing":
                return None
            raise faults.error(fault, "find the training job", name) from None
        place = uploads.place_of(answer.get("trainingDataConfig", {}).get("s3Uri", ""), name)
        if place is None or (token is not None and place.token != token):
            cause = "there is one of this name that trains on other data"
            raise BoundaryError("find the training job", name, cause, hint=_FOREIGN_HINT, retryable=False)
        return Found(answer, place)

    def create(self, token: str, *, role_arn: str, base: str, knobs: Mapping[str, str], sent: Sent) -> None:
        """Have the service train; a second time under one token makes no second job.

        Raises:
            Fault: it was refused, or nobody knows.
        """
        name = job_name(token)
        request: dict[str, Any] = {
            "jobName": name,
            "customModelName": name,
            "clientRequestToken": name,
            "roleArn": role_arn,
            "baseModelIdentifier": base,
            "customizationType": "FINE_TUNING",
            "trainingDataConfig": {"s3Uri": sent.train},
            "outputDataConfig": {"s3Uri": sent.output},
            "hyperParameters": dict(knobs),
        }
        if sent.validation is not None:
            request["validationDataConfig"] = {"validators": [{"s3Uri": sent.validation}]}
        self._aws.call("bedrock", "create_model_customization_job", request)

    def stop(self, name: str) -> None:
        """Ask for a job's end; one that has just ended by itself stays as it ended.

        Raises:
            BoundaryError: the service does not do it.
        """
        try:
            self._aws.call("bedrock", "stop_model_customization_job", {"jobIdentifier": name})
        except Fault as fault:
            if fault.kind != "conflict":
                raise faults.error(fault, "stop the training job", name) from None

    def told(self, found: Found) -> RemoteJob:
        """Return a job as the port tells of it; what a job that has ended was given is removed.

        Raises:
            BoundaryError: what it measured cannot be read just now, or its data not be removed.
        """
        answer, place, state = found.answer, found.place, found.state
        ended = state in ("succeeded", "failed", "cancelled")
        reason = answer.get("failureMessage", "") if state == "failed" else ""
        reason = reason or {"failed": "the service gives no reason", "cancelled": "stopped"}.get(state, "")
        if answer.get("status") == "Stopping":
            reason = "it is being stopped"
        model, metrics = None, self._counts(place)
        if state == "succeeded":
            base = str(answer["baseModelArn"]).rpartition("/")[2]
            made = str(answer.get("outputModelArn") or found.name)  # the model is called as its job
            model = ModelRef(model_id=place.model_id, kind=KIND, base=base, artefact=made)
            metrics |= self._measured(answer)
        if ended:
            reason = self._tidy(place, reason)
        return RemoteJob(
            job_id=found.name,
            token=place.token,
            model_id=place.model_id,
            state=state,
            metrics=metrics,
            model=model,
            reason=reason,
            retryable=state == "failed" and any(words in reason.lower() for words in _PASSING),
            created_us=_us(answer.get("creationTime")),
            ended_us=_us(answer.get("endTime") or answer.get("lastModifiedTime")) if ended else None,
        )

    def _tidy(self, place: Place, reason: str) -> str:
        """Remove what was sent for a job that has ended; what cannot be removed is told of and stays."""
        try:
            self._uploads.remove(place.bucket, place.folder)
        except BoundaryError as error:
            if error.retryable and "AccessDenied" not in error.cause:
                raise
            left = f"its training data stays in s3://{place.bucket}/{place.folder}/ ({error.cause})"
            return f"{reason}; {left}" if reason else left
        return reason

    @staticmethod
    def _counts(place: Place) -> dict[str, Metric]:
        counts: dict[str, Metric] = {"train_records": place.records}
        if place.escaped:
            counts["reserved_words_escaped"] = place.escaped
        return counts

    def _measured(self, answer: Mapping[str, Any]) -> dict[str, Metric]:
        """Return the losses: the last of the file that has one for each step, else what the service says itself."""
        losses: dict[str, Metric] = {}
        if "trainingLoss" in answer.get("trainingMetrics", {}):
            losses["loss"] = _told(answer["trainingMetrics"]["trainingLoss"])
        for one in answer.get("validationMetrics", ()):
            if "validationLoss" in one:
                losses["validation_loss"] = _told(one["validationLoss"])
        bucket, _, prefix = answer["outputDataConfig"].get("s3Uri", "").removeprefix("s3://").partition("/")
        try:
            keys = self._uploads.keys(bucket, prefix) if bucket else []
            for file, column, name in _METRICS:
                key = next((key for key in keys if key.endswith(f"/{file}")), None)
                if key is not None:
                    data = self._aws.read({"Bucket": bucket, "Key": key, **self._uploads.owner}, most_bytes=_MOST_BYTES)
                    losses |= _last(data, column, name)
        except Fault as fault:
            if fault.kind in {"away", "busy", "credentials"}:
                raise faults.error(fault, "read what was measured", f"s3://{bucket}/{prefix}") from None
        return losses


def _last(data: bytes, column: str, name: str) -> dict[str, Metric]:
    """Return what the last whole row of a metrics file says."""
    last: dict[str, Metric] = {}
    for row in csv.DictReader(io.StringIO(data.decode("utf-8", "replace"))):
        try:
            last[name] = _told(round(float(row[column]), 6))
            if column == "training_loss":
                last["steps"] = int(row["step_number"]) + 1  # they begin with 0
        except (KeyError, TypeError, ValueError):
            continue
    return last


def _told(loss: float) -> Metric:
    """Return a loss as the state can keep it: one that is no number any more (the training diverged) as its name."""
    return loss if math.isfinite(loss) else str(loss)


def _us(instant: datetime | None) -> int | None:
    return None if instant is None else instants.to_us(aware(instant))
