"""The backend "bedrock" against Amazon Bedrock on the loopback interface."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import bedrock_world
import msgspec
import pytest
from bedrock_api import ACCOUNT, BUCKET, HAIKU, LLAMA, NOVA, BedrockApi, Deployment, Job, Script
from bedrock_support import POLICY, Rig, fresh, service
from support import NOW
from test_trainers import freeze_as

from cortex_autolearn.model.training_jobs import ModelRef, RemoteJob, client_token, job_name
from cortex_autolearn.model.training_problems import (
    BaseModelRetired,
    BaseModelRetiring,
    BaseModelUnknown,
    DatasetUnreadable,
    HyperparameterAdjusted,
    HyperparameterIgnored,
    PriceUnknown,
    ServingUnsupported,
    TooFewRecords,
)
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.testing import conformance


@pytest.fixture(scope="module")
def bedrock() -> Iterator[BedrockApi]:
    with service() as found:
        yield found


@pytest.fixture
def api(bedrock: BedrockApi) -> Iterator[BedrockApi]:
    with fresh(bedrock) as found:
        yield found


@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_conformance(check: Callable[[conformance.Rig], None], api: BedrockApi, tmp_path: Path) -> None:
    """It passes every check of the suite that all backends pass."""
    check(Rig(tmp_path, api))


# --- before ----------------------------------------------------------------------------------------------------------


def test_nothing_stands_in_the_way(api: BedrockApi, tmp_path: Path) -> None:
    """With everything set up nothing is found, and nothing was sent or changed to find that out."""
    rig = Rig(tmp_path, api)
    assert rig.trainer().preflight(rig.spec()) == []
    rig.trainer().estimate(rig.spec())
    assert {name for name, _ in api.journal} == {"GetFoundationModel", "s3:HEAD"}
    assert api.objects() == {}


def test_what_the_base_does_not_take_is_its_own(api: BedrockApi, tmp_path: Path) -> None:
    """What is out of a base's range is said with what is used instead, and that is what the service gets, as texts."""
    rig = Rig(tmp_path, api)
    spec = rig.spec(hyperparameters={"n_epochs": 9, "batch_size": 32})
    assert rig.trainer().preflight(spec) == [
        HyperparameterIgnored("batch_size"),
        HyperparameterAdjusted("n_epochs", 9, 2, "1 to 5"),
    ]
    rig.trainer().submit(spec, client_token(spec))
    assert api.jobs()[0].request["hyperParameters"] == {"epochCount": "2"}
    assert rig.trainer().estimate(spec).epochs == 2


def test_the_name_the_token_and_the_model_are_one(api: BedrockApi, tmp_path: Path) -> None:
    """Job, model and token are called by the digest of the client token; the data is named by its own."""
    rig = Rig(tmp_path, api)
    spec = rig.spec(hyperparameters={"n_epochs": 3})
    token = client_token(spec)
    rig.trainer().submit(spec, token)
    asked = api.jobs()[0].request
    assert asked["jobName"] == asked["customModelName"] == asked["clientRequestToken"] == job_name(token)
    assert (asked["baseModelIdentifier"], asked["customizationType"]) == (NOVA, "FINE_TUNING")
    assert asked["hyperParameters"] == {"epochCount": "3"}
    place = f"s3://{BUCKET}/cortex-autolearn/{job_name(token)}/{token}/{spec.model_id}/"
    key = asked["trainingDataConfig"]["s3Uri"].removeprefix(f"s3://{BUCKET}/")
    digest = sha256(api.objects()[key]).hexdigest()[:16]
    assert asked["trainingDataConfig"]["s3Uri"] == f"{place}train-{digest}-60-0.jsonl"
    assert asked["outputDataConfig"]["s3Uri"] == f"s3://{BUCKET}/cortex-autolearn/output/{job_name(token)}/"


def test_only_what_the_dataset_holds_is_sent(api: BedrockApi, tmp_path: Path) -> None:
    """Each example is a line in the base's format; nothing else lies in the bucket."""
    rig = Rig(tmp_path, api)
    spec = rig.spec()
    rig.trainer().submit(spec, client_token(spec))
    train, validation = (api.objects()[key].splitlines() for key in api.uploads())
    assert (len(train), len(validation)) == (60, 30)
    frozen = [json.loads(line) for line in (tmp_path / rig.dataset.folder / "train.jsonl").read_bytes().splitlines()]
    assert [json.loads(line)["system"][0]["text"] for line in train] == [one["system"] for one in frozen]
    assert [json.loads(line)["messages"][1]["content"][0]["text"] for line in train] == [
        one["messages"][1]["content"] for one in frozen
    ]


def test_a_base_that_ends(api: BedrockApi, tmp_path: Path) -> None:
    """The service says where a base is in its life: announced to end, at its end, legacy; nothing takes its place."""
    rig = Rig(tmp_path, api)
    life = api.regions["us-east-1"].models[NOVA]["modelLifecycle"]
    life["endOfLifeTime"] = NOW + timedelta(days=30)
    assert rig.trainer().preflight(rig.spec()) == [BaseModelRetiring(NOVA, "2025-12-27")]
    life["endOfLifeTime"] = NOW - timedelta(days=1)
    (found,) = rig.trainer().preflight(rig.spec())
    assert isinstance(found, BaseModelRetired)
    assert (found.base, found.since) == (NOVA, "2025-11-26")
    assert "amazon.nova-lite-v1:0:300k" in found.instead


def test_claude_3_haiku_is_known_and_legacy(api: BedrockApi, tmp_path: Path) -> None:
    """Its format is kept; the service says that it is legacy, and so it is not trained."""
    policy = msgspec.structs.replace(POLICY, region="us-west-2")
    rig = Rig(tmp_path, api, base=HAIKU, policy=policy)
    found = rig.trainer().preflight(rig.spec())
    assert [one for one in found if isinstance(one, BaseModelRetired)] == [
        BaseModelRetired(HAIKU, "2025-03-01", (NOVA, "amazon.nova-lite-v1:0:300k", "amazon.nova-pro-v1:0:300k"))
    ]
    rig.trainer().submit(rig.spec(), client_token(rig.spec()))
    (line, *_) = api.objects()[api.uploads()[0]].splitlines()
    assert list(json.loads(line)) == ["system", "messages"]


def test_llama_needs_provisioned_throughput(api: BedrockApi, tmp_path: Path) -> None:
    """A base that is not served on demand can be trained; before that, and when it is to serve, it says what it needs."""
    rig = Rig(tmp_path, api, base=LLAMA, policy=msgspec.structs.replace(POLICY, region="us-west-2"))
    spec = rig.spec(hyperparameters={"n_epochs": 3, "batch_size": 32})
    found = rig.trainer().preflight(spec)
    assert ServingUnsupported(LLAMA, "Provisioned Throughput") in found
    assert HyperparameterAdjusted("batch_size", 32, 1, "1") in found
    token = client_token(spec)
    rig.trainer().submit(spec, token)
    assert api.jobs()[0].request["hyperParameters"] == {"epochCount": "3", "batchSize": "1"}
    api.advance(4_000)
    ended = rig.trainer().find(token)
    assert ended is not None
    assert ended.model is not None
    assert ended.state == "succeeded", ended.reason
    endpoint = rig.trainer().deploy(ended.model, "d")
    assert endpoint.state == "failed"
    assert "needs Provisioned Throughput" in endpoint.reason
    assert api.asked("CreateCustomModelDeployment") == 0
    rig.trainer().teardown(endpoint)


def test_an_unknown_base_is_named_with_those_there_are(api: BedrockApi, tmp_path: Path) -> None:
    """A base of another backend is not sent anywhere, and the remedy names Nova Micro first."""
    rig = Rig(tmp_path, api, base="claude-haiku-5-5")
    problems = rig.trainer().preflight(rig.spec())
    assert isinstance(problems[0], BaseModelUnknown)
    assert problems[0].remedy.startswith(f"Set training.base_model to one of: {NOVA}, ")
    with pytest.raises(BoundaryError) as caught:
        rig.trainer().submit(rig.spec(), client_token(rig.spec()))
    assert not caught.value.retryable
    assert api.objects() == {}


def test_data_that_does_not_fit(api: BedrockApi, tmp_path: Path) -> None:
    """Too few examples, an example that is too long, and a dataset that is gone are found before anything is sent."""
    rig = Rig(tmp_path, api)
    line = (tmp_path / rig.dataset.folder / "train.jsonl").read_text().splitlines(keepends=True)[0]
    long = json.loads(line)
    long["messages"][0]["content"] = "word " * 20_000
    dataset = msgspec.structs.replace(rig.dataset, train=2)
    manifest = tmp_path / dataset.folder / "manifest.json"
    listed = json.loads(manifest.read_text())
    listed["examples"]["train"] = listed["examples"]["train"][:2]
    manifest.write_text(json.dumps(listed))
    freeze_as(tmp_path / dataset.folder, "train", [line, json.dumps(long) + "\n"])
    found = rig.trainer().preflight(rig.spec(dataset=dataset))
    assert TooFewRecords("train", 2, 8) in found
    size = len(long["system"]) + 100_000 + len(long["messages"][1]["content"])
    told = [one.text for one in found if "characters" in one.text]
    assert told == [f"example 2 of the train split has {size} characters and may have 96000"]
    gone = rig.spec(dataset=msgspec.structs.replace(dataset, folder="gone"))
    assert isinstance(rig.trainer().preflight(gone)[0], DatasetUnreadable)
    with pytest.raises(BoundaryError):
        rig.trainer().submit(gone, client_token(gone))
    assert (api.jobs(), api.objects()) == ([], {})


def test_a_price_that_is_not_known_stays_unknown(api: BedrockApi, tmp_path: Path) -> None:
    """Without prices the costs are unknown, and said to be; with them they follow from tokens and epochs."""
    rig = Rig(tmp_path, api)
    known = rig.trainer().estimate(rig.spec())
    assert known.training_usd == pytest.approx(known.tokens * 2 * 1.0 / 1e6)
    assert (known.epochs, known.storage_usd_per_month, known.serving_usd_per_hour) == (2, 1.95, 0.0)
    rig.prices = {}
    assert rig.trainer().estimate(rig.spec()).training_usd is None
    found = rig.trainer().preflight(rig.spec())
    assert found == [PriceUnknown(NOVA, what) for what in ("training", "storage", "serving")]


# --- while it runs ---------------------------------------------------------------------------------------------------


def test_what_was_measured_comes_from_the_files(api: BedrockApi, tmp_path: Path) -> None:
    """The last step's loss counts, not the service's mean; where there is no file, that is better than nothing."""
    rig = Rig(tmp_path, api)
    assert rig.made().metrics == {"train_records": 60, "loss": 1.25, "steps": 3, "validation_loss": 1.5}
    for key in api.objects():
        api.remove(key)
    ended = rig.trainer().find(client_token(rig.spec()))
    assert ended is not None
    assert ended.metrics == {"train_records": 60, "loss": 1.3}


@pytest.mark.parametrize("outcome", ["Completed", "Failed", "Stopped"])
def test_what_was_sent_is_removed_when_the_job_has_ended(outcome: str, api: BedrockApi, tmp_path: Path) -> None:
    """However a job ends, its data goes from the bucket; what was measured stays."""
    rig = Rig(tmp_path, api)
    if outcome == "Failed":
        api.script.outcome = "Failed"
    spec = rig.spec()
    job = rig.trainer().submit(spec, client_token(spec))
    assert len(api.uploads()) == 2
    if outcome == "Stopped":
        rig.trainer().cancel(job.job_id)
        assert rig.trainer().poll(job.job_id).reason == "it is being stopped"
    api.advance(4_000)
    assert rig.trainer().poll(job.job_id).ended
    assert api.uploads() == []
    assert len(api.objects()) == (2 if outcome == "Completed" else 0)


def test_data_that_may_not_be_removed_is_told_of(api: BedrockApi, tmp_path: Path) -> None:
    """Without the right to delete, the model counts all the same, and it is said where data was left."""
    rig = Rig(tmp_path, api)
    spec = rig.spec()
    job = rig.trainer().submit(spec, client_token(spec))
    api.advance(4_000)
    api.order("s3:DELETE", status=403, code="AccessDenied", text="Access Denied")
    ended = rig.trainer().poll(job.job_id)
    assert ended.state == "succeeded"
    assert "its training data stays in s3://" in ended.reason
    assert len(api.uploads()) == 2
    assert rig.trainer().poll(job.job_id).reason == ""
    assert api.uploads() == []


def test_a_job_of_our_name_with_other_data_is_not_ours(api: BedrockApi, tmp_path: Path) -> None:
    """A job that somebody else called so is neither taken for ours nor touched."""
    rig = Rig(tmp_path, api)
    spec = rig.spec()
    token = client_token(spec)
    name = job_name(token)
    foreign = {
        "jobName": name,
        "customModelName": "theirs",
        "clientRequestToken": "theirs",
        "roleArn": POLICY.role_arn,
        "baseModelIdentifier": NOVA,
        "trainingDataConfig": {"s3Uri": f"s3://{BUCKET}/theirs/train.jsonl"},
        "outputDataConfig": {"s3Uri": f"s3://{BUCKET}/theirs/"},
    }
    arn = f"arn:aws:bedrock:us-east-1:{ACCOUNT}:model-customization-job/{NOVA}/0123456789ab"
    api.regions["us-east-1"].jobs[name] = Job(foreign, arn, NOW, Script())
    calls: list[Callable[[], object]] = [
        lambda: rig.trainer().find(token),
        lambda: rig.trainer().submit(spec, token),
        lambda: rig.trainer().cancel(name),
        lambda: rig.trainer().discard(token),
    ]
    for call in calls:
        with pytest.raises(BoundaryError, match="trains on other data") as caught:
            call()
        assert not caught.value.retryable
    assert api.jobs()[0].status == "InProgress"


def test_a_conflict_is_the_job_that_was(api: BedrockApi, tmp_path: Path) -> None:
    """A job that another process created between the look and the wish is taken up; none is made beside it."""
    rig = Rig(tmp_path, api)
    spec = rig.spec()
    token = client_token(spec)
    api.order("GetModelCustomizationJob", status=404, code="ResourceNotFoundException", text="not yet", times=1)
    first = rig.trainer().submit(spec, token)
    api.order("GetModelCustomizationJob", status=404, code="ResourceNotFoundException", text="not yet", times=1)
    api.order("CreateModelCustomizationJob", status=400, code="ConflictException", text="already in use")
    assert rig.trainer().submit(spec, token) == first
    assert len(api.jobs()) == 1


def test_a_name_that_is_taken_without_a_job_waits(api: BedrockApi, tmp_path: Path) -> None:
    """A conflict over something that is no job is told of and asked again: what was sent stays, nothing is given up."""
    rig = Rig(tmp_path, api)
    spec = rig.spec()
    api.order("CreateModelCustomizationJob", status=400, code="ConflictException", text="The model name is in use")
    with pytest.raises(BoundaryError, match="model name is in use") as caught:
        rig.trainer().submit(spec, client_token(spec))
    assert caught.value.retryable
    assert "AWS console" in caught.value.hint
    assert len(api.uploads()) == 2
    assert rig.trainer().submit(spec, client_token(spec)).state == "running"


@pytest.mark.parametrize("fault", ["500", "lost"])
def test_an_answer_that_got_lost(fault: str, api: BedrockApi, tmp_path: Path) -> None:
    """A create that was done and answered with an error, or with nothing, made one job; it is taken up."""
    rig = Rig(tmp_path, api)
    spec = rig.spec()
    token = client_token(spec)
    api.order("CreateModelCustomizationJob", is_done=True, hangs_up=fault == "lost")
    assert rig.trainer().submit(spec, token).state == "running"
    assert rig.trainer().submit(spec, token).state == "running"
    assert (len(api.jobs()), api.asked("CreateModelCustomizationJob")) == (1, 1)


def test_the_sdk_tries_again_under_the_same_token(api: BedrockApi, tmp_path: Path) -> None:
    """Throttled and failed calls are repeated by the SDK; the token keeps a create that was done from a second job."""
    rig = Rig(tmp_path, api, tries=3)
    spec = rig.spec()
    api.order("CreateModelCustomizationJob", is_done=True)
    api.order("CreateModelCustomizationJob", status=429, code="ThrottlingException", text="Rate exceeded")
    assert rig.trainer().submit(spec, client_token(spec)).state == "running"
    assert (len(api.jobs()), api.asked("CreateModelCustomizationJob")) == (1, 3)


def test_what_was_sent_is_not_sent_again(api: BedrockApi, tmp_path: Path) -> None:
    """A job that cannot be created yet costs one upload, however often it is tried; given up, nothing stays."""
    rig = Rig(tmp_path, api)
    api.quota = 0
    spec = rig.spec()
    token = client_token(spec)
    for _ in range(3):
        with pytest.raises(BoundaryError, match="too many") as caught:
            rig.trainer().submit(spec, token)
        assert caught.value.retryable
        assert rig.trainer().find(token) is None
    assert api.asked("s3:PUT") == 2
    rig.trainer().discard(token)
    rig.trainer().discard(token)
    assert (api.jobs(), api.objects()) == ([], {})


def test_a_request_that_is_wrong_leaves_nothing(api: BedrockApi, tmp_path: Path) -> None:
    """What is refused for good is not asked again, and its data is removed."""
    rig = Rig(tmp_path, api)
    spec = rig.spec()
    api.order("CreateModelCustomizationJob", status=400, code="ValidationException", text="The dataset is malformed")
    with pytest.raises(BoundaryError, match="malformed") as caught:
        rig.trainer().submit(spec, client_token(spec))
    assert not caught.value.retryable
    assert (api.jobs(), api.objects()) == ([], {})


def test_data_that_arrives_as_something_else_is_refused(api: BedrockApi, tmp_path: Path) -> None:
    """What S3 holds is compared with what was sent; where it is something else, no job is created."""
    rig = Rig(tmp_path, api)
    spec = rig.spec()
    api.spoils = True
    with pytest.raises(BoundaryError, match="digest|SHA256|not what was sent"):
        rig.trainer().submit(spec, client_token(spec))
    assert api.jobs() == []


def test_a_training_that_diverged_is_told_and_kept(
    api: BedrockApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss that is no number any more is a word, as the state keeps none but numbers and words."""
    trained = "step_number,epoch_number,training_loss,perplexity\n0,0,2.5,12.1\n1,0,NaN,NaN\n"
    monkeypatch.setattr(bedrock_world, "TRAINED", trained)
    job = Rig(tmp_path, api).made()
    assert job.metrics["loss"] == "nan"
    assert msgspec.json.decode(msgspec.json.encode(job), type=RemoteJob) == job


def test_half_an_answer_is_none(api: BedrockApi, tmp_path: Path) -> None:
    """What the service has to say and did not is no end of anything: it is asked again."""
    rig = Rig(tmp_path, api)
    spec = rig.spec()
    job = rig.trainer().submit(spec, client_token(spec))
    api.order("GetModelCustomizationJob", answer={"status": "Failed"})
    with pytest.raises(
        BoundaryError, match="lacks baseModelArn, jobName, outputDataConfig, trainingDataConfig"
    ) as caught:
        rig.trainer().poll(job.job_id)
    assert caught.value.retryable
    assert len(api.uploads()) == 2


def test_a_job_is_not_gone_because_the_region_changed(api: BedrockApi, tmp_path: Path) -> None:
    """Jobs cannot be deleted: one of ours that is not shown is elsewhere, and is neither lost nor begun again."""
    rig = Rig(tmp_path, api)
    spec = rig.spec()
    job = rig.trainer().submit(spec, client_token(spec))
    moved = Rig(tmp_path / "moved", api, policy=msgspec.structs.replace(POLICY, region="us-west-2"))
    for call in (moved.trainer().poll, moved.trainer().cancel):
        with pytest.raises(BoundaryError, match="there is none") as caught:
            call(job.job_id)
        assert caught.value.retryable
        assert "Set bedrock.region" in caught.value.hint
    assert api.jobs()[0].status == "InProgress"


def test_data_that_will_never_be_removed_keeps_no_model_back(api: BedrockApi, tmp_path: Path) -> None:
    """What S3 refuses for good, such as a bucket of another kind, is told of, and the model counts."""
    rig = Rig(tmp_path, api)
    spec = rig.spec()
    job = rig.trainer().submit(spec, client_token(spec))
    api.advance(4_000)
    api.order("s3:DELETE", status=405, code="MethodNotAllowed", text="Not against this resource")
    ended = rig.trainer().poll(job.job_id)
    assert (ended.state, "its training data stays in s3://" in ended.reason) == ("succeeded", True)


# --- what serves -----------------------------------------------------------------------------------------------------


def model_of(rig: Rig) -> ModelRef:
    model = rig.made().model
    assert model is not None
    return model


def test_a_deployment_is_served_by_its_arn(api: BedrockApi, tmp_path: Path) -> None:
    """What a request names is the deployment; it costs nothing while nobody asks."""
    rig = Rig(tmp_path, api)
    endpoint = rig.trainer().deploy(model_of(rig), "d")
    assert (endpoint.state, endpoint.usd_per_hour) == ("creating", 0.0)
    api.advance(100)
    ready = rig.trainer().poll_endpoint(endpoint)
    assert (ready.state, ready.target) == ("ready", api.deployments()[0].arn)
    rig.trainer().teardown(ready)
    assert api.deployments() == []
    assert len(api.models()) == 1


@pytest.mark.parametrize("fault", ["500", "lost"])
def test_a_deployment_whose_answer_got_lost(fault: str, api: BedrockApi, tmp_path: Path) -> None:
    """It is one deployment, and found."""
    rig = Rig(tmp_path, api)
    model = model_of(rig)
    api.order("CreateCustomModelDeployment", is_done=True, hangs_up=fault == "lost")
    assert rig.trainer().deploy(model, "d").state == "creating"
    assert rig.trainer().deploy(model, "d").state == "creating"
    assert len(api.deployments()) == 1


def test_a_deployment_that_is_another_model_s_is_not_touched(api: BedrockApi, tmp_path: Path) -> None:
    """Neither taken for ours, nor ended."""
    rig = Rig(tmp_path, api)
    model = model_of(rig)
    endpoint = rig.trainer().deploy(model, "d")
    (name,) = api.regions["us-east-1"].deployments
    other = f"{model.artefact[:-12]}ffffffffffff"
    request = {"modelDeploymentName": name, "modelArn": other}
    api.regions["us-east-1"].deployments[name] = Deployment(request, endpoint.target, NOW)
    for call in (lambda: rig.trainer().deploy(model, "d"), lambda: rig.trainer().teardown(endpoint)):
        with pytest.raises(BoundaryError, match="serves another model"):
            call()
    assert len(api.deployments()) == 1


def test_only_the_service_says_that_a_deployment_is_gone(api: BedrockApi, tmp_path: Path) -> None:
    """Throttled, refused or unreachable is no word about it: it is an error, and the deployment stands."""
    rig = Rig(tmp_path, api)
    endpoint = rig.trainer().deploy(model_of(rig), "d")
    for fault in (
        {"status": 429, "code": "ThrottlingException"},
        {"status": 403, "code": "AccessDeniedException"},
        {"status": 500},
        {"hangs_up": True},
        {"status": 404, "code": "SomethingElse"},
        {"status": 404, "code": "404"},  # as the SDK calls one without a code: a proxy's, say
    ):
        api.order("GetCustomModelDeployment", **fault)
        with pytest.raises(BoundaryError):
            rig.trainer().poll_endpoint(endpoint)
    api.regions["us-east-1"].deployments.clear()
    assert rig.trainer().poll_endpoint(endpoint).state == "gone"


def test_a_model_that_is_gone_cannot_be_deployed(api: BedrockApi, tmp_path: Path) -> None:
    """That is a failed endpoint with the service's reason; forgetting a model twice is no error."""
    rig = Rig(tmp_path, api)
    model = model_of(rig)
    rig.trainer().forget(model)
    rig.trainer().forget(model)
    assert api.models() == []
    endpoint = rig.trainer().deploy(model, "d")
    assert endpoint.state == "failed"
    assert "no such custom model" in endpoint.reason


def test_what_two_roots_deploy_has_two_names(api: BedrockApi, tmp_path: Path) -> None:
    """Two ROOTs in one account may give one token, for their first model of a day: each has its own deployment."""
    rig = Rig(tmp_path, api)
    one = model_of(rig)
    spec = rig.spec(attempt=2)
    rig.trainer().submit(spec, client_token(spec))
    api.advance(4_000)
    ended = rig.trainer().find(client_token(spec))
    assert ended is not None
    assert ended.model is not None
    theirs = rig.trainer().deploy(ended.model, "token")
    ours = rig.trainer().deploy(one, "token")
    assert (ours.state, theirs.state) == ("creating", "creating")
    rig.trainer().teardown(ours)
    assert [found.arn for found in api.deployments()] == [theirs.target]


def test_a_model_is_not_gone_because_the_region_changed(api: BedrockApi, tmp_path: Path) -> None:
    """What is served in another region is neither called gone, nor deployed again, nor taken for deleted."""
    rig = Rig(tmp_path, api)
    model = model_of(rig)
    endpoint = rig.trainer().deploy(model, "d")
    moved = Rig(tmp_path / "moved", api, policy=msgspec.structs.replace(POLICY, region="us-west-2")).trainer()
    calls: list[Callable[[], object]] = [
        lambda: moved.poll_endpoint(endpoint),
        lambda: moved.teardown(endpoint),
        lambda: moved.deploy(model, "e"),
        lambda: moved.forget(model),
    ]
    for call in calls:
        with pytest.raises(BoundaryError, match="it is in us-east-1, and bedrock.region is us-west-2") as caught:
            call()
        assert caught.value.retryable
    assert (len(api.deployments()), len(api.models())) == (1, 1)
