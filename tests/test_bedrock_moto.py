"""The job operations against moto itself: a second opinion, by others than us, of what the API is.

moto's jobs never leave InProgress but by being stopped, it honours no token (a second create of a name is a conflict),
and it has neither foundation models nor deployments. What that leaves: names, requests and answers as moto reads and
writes them, one job a token by way of conflicts, lookup by name, another account of what ``stop`` does, and uploads to
the same S3. Ends other than stopped, metrics, lifecycles, deployments and idempotency are the loopback service's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from bedrock_api import BUCKET, NOVA, BedrockApi
from bedrock_support import POLICY, Rig, fresh, moto, service

from cortex_autolearn.adapters.trainers.bedrock import Aws
from cortex_autolearn.adapters.trainers.bedrock.aws import Fault
from cortex_autolearn.model.training_jobs import client_token, job_name
from cortex_autolearn.ports import BoundaryError


class MotoRig(Rig):
    """A trainer over moto alone; the loopback service only looks into the bucket."""

    def __init__(self, root: Path, api: BedrockApi, region: str) -> None:
        super().__init__(root, api, policy=msgspec.structs.replace(POLICY, region=region))
        host, port = moto()
        environ = self.environ | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}
        self.aws = Aws(region, environ, tries=1)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[MotoRig]:
    # moto keeps its jobs for as long as the process lives: each test has a dataset, and so tokens, of its own.
    with service() as bedrock, fresh(bedrock) as api:
        yield MotoRig(tmp_path, api, "us-east-1")


def test_a_job_is_taken_found_and_stopped(rig: MotoRig) -> None:
    """Submitted once and again it is one job, found by its token under its name; stopped it is cancelled for good."""
    spec = rig.spec(hyperparameters={"n_epochs": 3}, scope="first-master")
    token = client_token(spec)
    assert rig.trainer().find(token) is None
    job = rig.trainer().submit(spec, token)
    assert (job.job_id, job.state, job.token, job.model_id) == (job_name(token), "running", token, spec.model_id)
    assert rig.trainer().submit(spec, token) == job
    assert rig.trainer().find(token) == job
    asked = rig.aws.call("bedrock", "get_model_customization_job", {"jobIdentifier": job.job_id})
    assert (asked["jobName"], asked["clientRequestToken"]) == (job.job_id, job.job_id)
    assert asked["hyperParameters"] == {"epochCount": "3"}
    assert len(rig.api.uploads()) == 2
    rig.trainer().cancel(job.job_id)
    rig.trainer().cancel(job.job_id)
    ended = rig.trainer().poll(job.job_id)
    assert (ended.state, ended.model) == ("cancelled", None)
    assert rig.trainer().submit(spec, token) == ended
    assert rig.api.uploads() == []


def test_attempts_are_jobs_of_their_own(rig: MotoRig) -> None:
    """Another attempt has another name, and its data another place."""
    first, second = rig.spec(scope="second-master"), rig.spec(scope="second-master", attempt=2)
    jobs = [rig.trainer().submit(one, client_token(one)) for one in (first, second)]
    assert len({job.job_id for job in jobs}) == 2
    assert len(rig.api.uploads()) == 4


def test_a_name_that_is_taken_is_a_conflict_and_the_job_ours(rig: MotoRig) -> None:
    """moto calls a conflict by another name than Bedrock does; both lead to the job that is there."""
    spec = rig.spec(scope="third-master")
    token = client_token(spec)
    job = rig.trainer().submit(spec, token)
    place = {"s3Uri": f"s3://{BUCKET}/elsewhere"}
    request = {
        "jobName": job.job_id,
        "customModelName": "another",
        "roleArn": POLICY.role_arn,
        "baseModelIdentifier": NOVA,
        "trainingDataConfig": place,
        "outputDataConfig": place,
        "hyperParameters": {},
    }
    with pytest.raises(Fault) as caught:
        rig.aws.call("bedrock", "create_model_customization_job", request)
    assert (caught.value.kind, caught.value.code) == ("conflict", "ResourceInUseException")
    assert rig.trainer().find(token) == job


def test_a_foreign_job_of_our_name(rig: MotoRig) -> None:
    """Made by somebody else under our name, it is refused, whoever the provider is."""
    spec = rig.spec(scope="fourth-master")
    token = client_token(spec)
    place = {"s3Uri": f"s3://{BUCKET}/theirs"}
    request = {
        "jobName": job_name(token),
        "customModelName": job_name(token),
        "roleArn": POLICY.role_arn,
        "baseModelIdentifier": NOVA,
        "trainingDataConfig": place,
        "outputDataConfig": place,
        "hyperParameters": {},
    }
    rig.aws.call("bedrock", "create_model_customization_job", request)
    with pytest.raises(BoundaryError, match="trains on other data"):
        rig.trainer().submit(spec, token)


def test_an_unknown_job(rig: MotoRig) -> None:
    """There is none of that name, in moto's words as in Bedrock's."""
    with pytest.raises(BoundaryError, match="there is none") as caught:
        rig.trainer().poll("nobody-submitted-this")
    assert not caught.value.retryable


def test_what_moto_does_not_have_is_no_crash(rig: MotoRig) -> None:
    """Without foundation models there is no way to say where a base is in its life: a problem or an error, in words."""
    try:
        problems = rig.trainer().preflight(rig.spec())
    except BoundaryError as error:
        assert error.hint
    else:
        assert [problem.remedy for problem in problems if problem.blocks]
