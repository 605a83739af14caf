"""What Amazon Bedrock knows and does, for the loopback service: models, jobs, deployments, on a clock of its own.

Jobs and deployments move through their states as the clock is moved. A job reads its data from S3 as it begins, so that
data that was removed too early, or that the base cannot learn from, fails it.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import RLock
from typing import Any
from urllib.parse import unquote, urlsplit

from support import NOW

ACCOUNT = "123456789012"
REGION = "us-east-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/cortex-bedrock"
BUCKET = "cortex-training"
KEY = "AKIALOOPBACK00000001"
SECRET = "loopback/Secret+0123456789abcdefghijklmn"
NOVA = "amazon.nova-micro-v1:0:128k"
LLAMA = "meta.llama3-1-8b-instruct-v1:0:128k"
HAIKU = "anthropic.claude-3-haiku-20240307-v1:0:200k"

TRAINED = "step_number,epoch_number,training_loss,perplexity\n0,0,2.5,12.1\n1,0,1.75,5.7\n2,1,1.25,3.4\n"
VALIDATED = "step_number,epoch_number,validation_loss,perplexity\n2,1,1.5,4.4\n"

_RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "amazon.": {"epochCount": (1, 5), "learningRate": (1e-6, 1e-4), "learningRateWarmupSteps": (0, 100)},
    "meta.": {"epochCount": (1, 10), "batchSize": (1, 1), "learningRate": (5e-6, 0.1)},
    "anthropic.": {"epochCount": (1, 10), "batchSize": (4, 256), "learningRateMultiplier": (0.1, 2)},
}
_FORBIDDEN = ("User:", "USER:", "Bot:", "Assistant:", "System:", "<image>", "<video>", "[EOS]")


class Refusal(Exception):  # noqa: N818 - an answer, not an error
    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.status, self.code, self.text = status, code, text


@dataclass
class Script:
    """What becomes of a job that is created now."""

    outcome: str = "Completed"
    reason: str = "The training diverged"
    training_s: float = 3_600.0
    stopping_s: float = 60.0


@dataclass
class Job:
    request: dict[str, Any]
    arn: str
    created: datetime
    script: Script
    stopped: datetime | None = None
    ended: datetime | None = None
    status: str = "InProgress"
    reason: str = ""
    is_read: bool = False
    data: bytes = b""


@dataclass
class Deployment:
    request: dict[str, Any]
    arn: str
    created: datetime


@dataclass
class Region:
    name: str
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)  # custom models: ARN to name
    deployments: dict[str, Deployment] = field(default_factory=dict)


def offered(model_id: str, **lifecycle: Any) -> dict[str, Any]:
    return {
        "modelArn": f"arn:aws:bedrock:{REGION}::foundation-model/{model_id}",
        "modelId": model_id,
        "customizationsSupported": ["FINE_TUNING"],
        "inferenceTypesSupported": ["PROVISIONED"],
        "modelLifecycle": {"status": "ACTIVE"} | lifecycle,
    }


class World:
    """An account. ``s3`` is where moto's server is, as (host, port)."""

    def __init__(self, s3: tuple[str, int]) -> None:
        self._s3 = s3
        self._lock = RLock()
        self.begin()

    def begin(self) -> None:
        """Be as on the first day: nothing was ever made."""
        self.now = NOW
        self.script = Script()
        self.roles = {ROLE}
        self.quota = 10
        self.owners = {BUCKET: ACCOUNT}
        self.regions = {name: Region(name) for name in (REGION, "us-west-2", "eu-north-1")}
        self.regions[REGION].models[NOVA] = offered(NOVA)
        self.regions["us-west-2"].models |= {
            LLAMA: offered(LLAMA),
            HAIKU: offered(HAIKU, status="LEGACY", legacyTime=datetime(2025, 3, 1, tzinfo=UTC)),
        }

    # --- what tests ask and tell -------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        with self._lock:
            self.now += timedelta(seconds=seconds)
            self._move()

    def jobs(self) -> list[Job]:
        return [job for region in self.regions.values() for job in region.jobs.values()]

    def models(self) -> list[str]:
        return [arn for region in self.regions.values() for arn in region.made]

    def deployments(self) -> list[Deployment]:
        return [one for region in self.regions.values() for one in region.deployments.values()]

    def remove(self, key: str) -> None:
        self._moto("DELETE", f"/{BUCKET}/{key}")

    def objects(self, bucket: str = BUCKET) -> dict[str, bytes]:
        """What lies in a bucket."""
        status, body, _ = self._moto("GET", f"/{bucket}?list-type=2")
        if status != 200:
            return {}
        keys = [unquote(key) for key in re.findall(r"<Key>([^<]+)</Key>", body.decode())]
        return {key: self._moto("GET", f"/{bucket}/{key}")[1] for key in keys}

    def uploads(self) -> list[str]:
        """What was sent to train on and is still there."""
        return sorted(key for key in self.objects() if "/output/" not in key)

    def make_bucket(self, name: str, *, region: str = REGION, owner: str = ACCOUNT) -> None:
        body = b""
        if region != "us-east-1":
            place = f"<LocationConstraint>{region}</LocationConstraint>"
            body = f"<CreateBucketConfiguration>{place}</CreateBucketConfiguration>".encode()
        assert self._moto("PUT", f"/{name}", body, region)[0] == 200
        self.owners[name] = owner

    def empty(self, name: str = BUCKET) -> None:
        for key in self.objects(name):
            self._moto("DELETE", f"/{name}/{key}")
        self._moto("DELETE", f"/{name}")

    # --- Bedrock -----------------------------------------------------------------------------------------------------

    def _get_foundation_model(self, region: Region, asked: dict[str, Any]) -> dict[str, Any]:
        found = region.models.get(asked["modelIdentifier"])
        if found is None:
            raise Refusal(
                404, "ResourceNotFoundException", "Could not resolve the foundation model from the identifier"
            )
        return {"modelDetails": found}

    def _create_model_customization_job(self, region: Region, asked: dict[str, Any]) -> dict[str, Any]:
        for job in region.jobs.values():
            if job.request.get("clientRequestToken") == asked.get("clientRequestToken"):
                if job.request == asked:
                    return {"jobArn": job.arn}
                raise Refusal(400, "ConflictException", "The token was used with other parameters")
        if asked["jobName"] in region.jobs or asked["customModelName"] in region.made.values():
            raise Refusal(400, "ConflictException", f"The name {asked['jobName']} is already in use")
        base = asked["baseModelIdentifier"]
        if base not in region.models:
            raise Refusal(400, "ValidationException", "The provided model identifier is invalid")
        if asked["roleArn"] not in self.roles:
            raise Refusal(400, "ValidationException", "Could not assume provided IAM role. Check its trust policy")
        self._check_knobs(base, asked.get("hyperParameters", {}))
        if sum(job.status in {"InProgress", "Stopping"} for job in region.jobs.values()) >= self.quota:
            raise Refusal(400, "ServiceQuotaExceededException", "You have too many scheduled customization jobs")
        arn = f"arn:aws:bedrock:{REGION}:{ACCOUNT}:model-customization-job/{base}/{_id(asked['jobName'])}"
        region.jobs[asked["jobName"]] = Job(asked, arn, self.now, Script(**vars(self.script)))
        return {"jobArn": arn}

    @staticmethod
    def _check_knobs(base: str, knobs: dict[str, str]) -> None:
        ranges = next(ranges for begin, ranges in _RANGES.items() if base.startswith(begin))
        for name, value in knobs.items():
            if name not in ranges:
                raise Refusal(400, "ValidationException", f"The hyperparameter {name} is not supported")
            low, high = ranges[name]
            if re.fullmatch(r"\d+(\.\d+)?", value) is None or not low <= float(value) <= high:
                raise Refusal(
                    400, "ValidationException", f"The hyperparameter {name} has to be within {low} and {high}"
                )

    def _get_model_customization_job(self, region: Region, asked: dict[str, Any]) -> dict[str, Any]:
        job = self._job(region, asked)
        request = job.request
        answer: dict[str, Any] = {
            "jobArn": job.arn,
            "jobName": request["jobName"],
            "outputModelName": request["customModelName"],
            "clientRequestToken": request["clientRequestToken"],
            "roleArn": request["roleArn"],
            "status": job.status,
            # What the parts of a job are at tells nothing about the job: whoever looks here is led astray.
            "statusDetails": {"trainingDetails": {"status": "Failed" if job.status != "Failed" else "Completed"}},
            "creationTime": job.created,
            "lastModifiedTime": job.ended or job.created,
            "baseModelArn": f"arn:aws:bedrock:{REGION}::foundation-model/{request['baseModelIdentifier']}",
            "hyperParameters": request.get("hyperParameters", {}),
            "trainingDataConfig": request["trainingDataConfig"],
            "validationDataConfig": request.get("validationDataConfig", {"validators": []}),
            "outputDataConfig": request["outputDataConfig"],
            "customizationType": "FINE_TUNING",
        }
        if job.ended is not None:
            answer["endTime"] = job.ended
        if job.status == "Failed":
            answer["failureMessage"] = job.reason
        if job.status == "Completed":
            answer |= {"outputModelArn": self._made(region, job), "trainingMetrics": {"trainingLoss": 1.3}}
        return answer

    def _stop_model_customization_job(self, region: Region, asked: dict[str, Any]) -> dict[str, Any]:
        job = self._job(region, asked)
        if job.status != "InProgress":
            raise Refusal(400, "ConflictException", f"A job that is {job.status} cannot be stopped")
        job.stopped, job.status = self.now, "Stopping"
        return {}

    def _get_custom_model(self, region: Region, asked: dict[str, Any]) -> dict[str, Any]:
        for arn, name in region.made.items():
            if asked["modelIdentifier"] in {arn, name}:
                return {"modelArn": arn, "modelName": name, "creationTime": self.now, "modelStatus": "Active"}
        raise Refusal(404, "ResourceNotFoundException", "There is no such custom model")

    def _delete_custom_model(self, region: Region, asked: dict[str, Any]) -> dict[str, Any]:
        arn = self._get_custom_model(region, asked)["modelArn"]
        if any(one.request["modelArn"] == arn for one in region.deployments.values()):
            raise Refusal(400, "ConflictException", "The model is deployed")
        del region.made[arn]
        return {}

    def _create_custom_model_deployment(self, region: Region, asked: dict[str, Any]) -> dict[str, Any]:
        for one in region.deployments.values():
            if one.request == asked:
                return {"customModelDeploymentArn": one.arn}
        if asked["modelDeploymentName"] in region.deployments:
            raise Refusal(400, "ValidationException", "The deployment name is already in use")
        if asked["modelArn"] not in region.made:
            raise Refusal(404, "ResourceNotFoundException", "There is no such custom model")
        if len(region.deployments) >= self.quota:
            raise Refusal(400, "ServiceQuotaExceededException", "You have too many custom model deployments")
        arn = f"arn:aws:bedrock:{REGION}:{ACCOUNT}:custom-model-deployment/{_id(asked['modelDeploymentName'])}"
        region.deployments[asked["modelDeploymentName"]] = Deployment(asked, arn, self.now)
        return {"customModelDeploymentArn": arn}

    def _get_custom_model_deployment(self, region: Region, asked: dict[str, Any]) -> dict[str, Any]:
        one = self._deployment(region, asked)
        return {
            "customModelDeploymentArn": one.arn,
            "modelDeploymentName": one.request["modelDeploymentName"],
            "modelArn": one.request["modelArn"],
            "createdAt": one.created,
            "status": "Active" if self.now >= one.created + timedelta(seconds=60) else "Creating",
        }

    def _delete_custom_model_deployment(self, region: Region, asked: dict[str, Any]) -> dict[str, Any]:
        del region.deployments[self._deployment(region, asked).request["modelDeploymentName"]]
        return {}

    def _job(self, region: Region, asked: dict[str, Any]) -> Job:
        for name, job in region.jobs.items():
            if asked["jobIdentifier"] in {name, job.arn}:
                return job
        raise Refusal(404, "ResourceNotFoundException", "The job could not be found")

    def _deployment(self, region: Region, asked: dict[str, Any]) -> Deployment:
        for name, one in region.deployments.items():
            if asked["customModelDeploymentIdentifier"] in {name, one.arn}:
                return one
        raise Refusal(404, "ResourceNotFoundException", "The deployment could not be found")

    # --- time --------------------------------------------------------------------------------------------------------

    def _move(self) -> None:
        """Bring every job as far as the clock is."""
        for region in self.regions.values():
            for job in region.jobs.values():
                self._move_job(region, job)

    def _move_job(self, region: Region, job: Job) -> None:
        is_stopped = job.stopped is not None and self.now >= job.stopped + timedelta(seconds=job.script.stopping_s)
        if job.status == "Stopping" and is_stopped:
            job.status, job.ended = "Stopped", self.now
        if job.status != "InProgress":
            return
        if not job.is_read and self.now > job.created:
            job.is_read = True
            trouble = self._read_data(job)
            if trouble:
                job.status, job.reason, job.ended = "Failed", trouble, self.now
                return
        if self.now >= job.created + timedelta(seconds=job.script.training_s):
            job.status, job.reason, job.ended = job.script.outcome, job.script.reason, self.now
            if job.status == "Completed":
                region.made[self._made(region, job)] = job.request["customModelName"]
                self._write_metrics(job)

    def _read_data(self, job: Job) -> str:
        """Read what a job learns from; return what is wrong with it."""
        request = job.request
        uris = [one["s3Uri"] for one in request.get("validationDataConfig", {}).get("validators", ())]
        for uri in [request["trainingDataConfig"]["s3Uri"], *uris]:
            status, body, _ = self._moto("GET", f"/{urlsplit(uri).netloc}{urlsplit(uri).path}")
            if status != 200:
                return f"Could not read the data: {uri}"
            job.data += body
            for line in body.splitlines():
                trouble = _trouble_with(json.loads(line), request["baseModelIdentifier"])
                if trouble:
                    return trouble
        return ""

    def _write_metrics(self, job: Job) -> None:
        place = urlsplit(job.request["outputDataConfig"]["s3Uri"])
        folder = f"/{place.netloc}{place.path}model-customization-job-{_id(job.request['jobName'])}"
        self._moto("PUT", f"{folder}/training_artifacts/step_wise_training_metrics.csv", TRAINED.encode())
        if job.request.get("validationDataConfig", {}).get("validators"):
            path = "validation_artifacts/post_fine_tuning_validation/validation_metrics.csv"
            self._moto("PUT", f"{folder}/{path}", VALIDATED.encode())

    @staticmethod
    def _made(region: Region, job: Job) -> str:
        base = job.request["baseModelIdentifier"]
        return f"arn:aws:bedrock:{region.name}:{ACCOUNT}:custom-model/{base}/{_id(job.request['customModelName'])}"

    def _moto(
        self, method: str, path: str, body: bytes = b"", region: str = REGION, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        scope = f"AWS4-HMAC-SHA256 Credential={KEY}/20261122/{region}/s3/aws4_request, SignedHeaders=host, Signature=0"
        connection = http.client.HTTPConnection(*self._s3, timeout=30)
        try:
            connection.request(method, path, body or None, headers or {"authorization": scope})
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())
        finally:
            connection.close()


def _trouble_with(record: dict[str, Any], base: str) -> str:
    """Return why a base cannot learn from a record."""
    keys = set(record) - {"system"}
    if base.startswith("meta."):
        is_well = set(record) == {"prompt", "completion"} and all(record.values())
        return "" if is_well else f"The record has the keys {sorted(record)}"
    if base.startswith("anthropic."):
        return "" if keys == {"messages"} else f"The record has the keys {sorted(record)}"
    if keys != {"schemaVersion", "messages"} or record["schemaVersion"] != "bedrock-conversation-2024":
        return f"The record has the keys {sorted(record)}, or another schemaVersion"
    if [one["role"] for one in record["messages"]] != ["user", "assistant"]:
        return "The record has other roles than user and assistant"
    texts = [one["text"] for message in record["messages"] for one in message["content"]]
    texts += [one["text"] for one in record.get("system", ())]
    if not all(text.strip() for text in texts):
        return "The record has an empty text"
    found = [word for word in _FORBIDDEN for text in texts if word in text]
    return f"The record holds the reserved keyword {found[0]}" if found else ""


def _id(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:12]
