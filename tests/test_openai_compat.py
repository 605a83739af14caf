"""Fine-tuning at an API like OpenAI's: the life of a job there, over real HTTP, and what may go wrong with it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import openai
import pytest
from openai_api import BASE, BEGAN, Fault, Handler, OpenaiApi, Script
from openai_rules import KEY
from openai_support import PRICE, OpenaiRig, openai_spec, trainer_of
from support import NOW
from test_trainers import freeze, freeze_as

from cortex_autolearn import settings
from cortex_autolearn.adapters.trainers.openai_compat.trainer import SETTLED_S
from cortex_autolearn.model import instants, layout, routing
from cortex_autolearn.model.routing import Route, Served
from cortex_autolearn.model.training_jobs import Price, RemoteJob, Spec, client_token, job_name
from cortex_autolearn.model.training_problems import (
    AccessRefused,
    BaseModelRetired,
    BaseModelRetiring,
    BaseModelUnknown,
    BaseModelUnset,
    DatasetUnreadable,
    HyperparameterIgnored,
    HyperparameterOutOfRange,
    PriceUnknown,
    Problem,
    TooFewRecords,
)
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.testing import conformance

CREATE = "POST /fine_tuning/jobs$"
UPLOAD = "POST /files"


@pytest.fixture
def api() -> Iterator[OpenaiApi]:
    with OpenaiApi().serving() as served:
        yield served


@pytest.fixture
def rig(tmp_path: Path, api: OpenaiApi) -> OpenaiRig:
    return OpenaiRig(tmp_path, api)


def submitted(rig: OpenaiRig, spec: Spec | None = None) -> RemoteJob:
    spec = spec or rig.spec()
    return rig.trainer().submit(spec, client_token(spec))


def refused(call: Callable[[], object]) -> BoundaryError:
    with pytest.raises(BoundaryError) as caught:
        call()
    assert KEY not in str(caught.value)
    assert caught.value.hint
    return caught.value


def like_openai() -> OpenaiApi:
    return OpenaiApi()


def without_metadata() -> OpenaiApi:
    return OpenaiApi(keeps_metadata=False)


@pytest.mark.parametrize("make", [like_openai, without_metadata])
@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_conformance(check: Callable[[conformance.Rig], None], make: Callable[[], OpenaiApi], tmp_path: Path) -> None:
    """The backend passes every check of the shipped suite, also where the API keeps no metadata."""
    with make().serving() as api:
        check(OpenaiRig(tmp_path, api))


def test_the_service_answers_as_the_package_expects(api: OpenaiApi, rig: OpenaiRig) -> None:
    """What the loopback service says fits the types of the openai package, read strictly."""
    job = submitted(rig)
    client = openai.OpenAI(api_key=KEY, base_url=api.url, max_retries=0, _strict_response_validation=True)
    with client:
        for _ in range(5):
            api.tick()
        found = client.fine_tuning.jobs.retrieve(job.job_id)
        assert found.status == "succeeded"
        assert client.fine_tuning.jobs.list(metadata={"cortex_token": job.token}).data[0].id == job.job_id
        assert client.fine_tuning.jobs.list_events(job.job_id).data
        assert len(client.fine_tuning.jobs.checkpoints.list(job.job_id).data) == 2
        assert {one.purpose for one in client.files.list()} == {"fine-tune"}
        assert client.models.retrieve(str(found.fine_tuned_model)).owned_by == "org"
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="sk-wrong").models.list()


@pytest.mark.parametrize(
    "asked",
    [
        {"model": BASE},
        {"model": "gpt-0", "training_file": "file-1"},
        {"model": BASE, "training_file": "file-0"},
        {"model": BASE, "training_file": "file-1", "colour": "red"},
        {"model": BASE, "training_file": "file-1", "suffix": "x" * 65},
        {"model": BASE, "training_file": "file-1", "metadata": {"a": "x" * 513}},
        {"model": BASE, "training_file": "file-1", "metadata": {"a": 1}},
        {"model": BASE, "training_file": "file-1", "seed": -1},
        {"model": BASE, "training_file": "file-1", "hyperparameters": {"n_epochs": 51}},
        {"model": BASE, "training_file": "file-1", "method": {"type": "supervised", "supervised": {"n_epochs": 3}}},
    ],
)
def test_the_service_is_strict(api: OpenaiApi, asked: dict[str, Any]) -> None:
    """What the API's description rules out is refused, so that the tests below say something."""
    api.files["file-1"] = {"id": "file-1"}
    with openai.OpenAI(api_key=KEY, base_url=api.url, max_retries=0) as client:
        with pytest.raises(openai.BadRequestError):
            client.post("/fine_tuning/jobs", body=asked, cast_to=object)
        assert not api.jobs


class TestLife:
    def test_what_is_asked_for(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """Base, files, hyperparameters and suffix are as set; the metadata tells whose the job is."""
        job = submitted(rig)
        found = api.jobs[job.job_id]
        assert found["model"] == BASE
        assert found["user_provided_suffix"] == "cortex"
        assert found["method"]["type"] == "supervised"
        assert (found["hyperparameters"]["n_epochs"], found["hyperparameters"]["batch_size"]) == (3, 32)
        assert found["metadata"] == {
            "cortex_token": job.token,
            "cortex_model_id": "ft-20261122-001",
            "cortex_base": BASE,
        }
        lines = api.contents[found["training_file"]].splitlines()
        assert len(lines) == 60
        assert [one["role"] for one in json.loads(lines[0])["messages"]] == ["system", "user", "assistant"]
        assert len(api.contents[found["validation_file"]].splitlines()) == 30
        names = [one["filename"] for one in api.files.values()]
        assert [name.rsplit("-", 1)[0] for name in names] == [
            f"{job_name(job.token)}-train",
            f"{job_name(job.token)}-validation",
        ]

    def test_older_apis_want_them_elsewhere(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """With ``legacy`` the hyperparameters stand in the job itself; without a suffix none is sent; seeds are."""
        rig.policy = {"method": "legacy", "suffix": ""}
        spec = msgspec.structs.replace(rig.spec(), hyperparameters={"n_epochs": 2, "seed": 5})
        found = api.jobs[submitted(rig, spec).job_id]
        assert (found["hyperparameters"]["n_epochs"], found["seed"]) == (2, 5)
        assert found["user_provided_suffix"] is None

    def test_a_dataset_without_validation_has_one_file(self, tmp_path: Path, api: OpenaiApi) -> None:
        """Where nothing is held out, nothing is uploaded for it."""
        rig = OpenaiRig(tmp_path, api)
        rig.dataset = freeze(tmp_path, validation=0, seed="b")
        assert api.jobs[submitted(rig).job_id]["validation_file"] is None
        assert len(api.files) == 1

    def test_how_far_it_is_and_what_it_cost(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """States, steps and losses come from the events; in the end tokens, what they cost, and the checkpoints'."""
        job = submitted(rig)
        seen = []
        for _ in range(5):
            seen.append(rig.trainer().poll(job.job_id))
            rig.move_on(job)
        assert [one.state for one in seen] == ["queued", "queued", "running", "running", "succeeded"]
        assert [one.progress for one in seen] == [None, None, None, 0.5, 1.0]
        assert seen[3].metrics["train_loss"] == 2.0
        last = seen[-1]
        assert last.metrics == {
            "train_loss": 1.0,
            "valid_loss": 1.5,
            "full_valid_loss": 1.0,
            "full_valid_mean_token_accuracy": 0.75,
            "checkpoints": 2,
            "n_epochs": 3,
            "batch_size": 32,
            "learning_rate_multiplier": 1.8,
            "trained_tokens": 123_456,
            "training_usd": pytest.approx(0.61728),
        }
        assert last.model is not None
        assert last.model.kind == "openai"
        assert last.model.artefact in api.models
        assert (last.created_us, last.ended_us) == (BEGAN * 10**6, (BEGAN + 240) * 10**6)

    def test_a_job_that_fails_says_why(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """Code, message and parameter are told; its uploads are deleted."""
        api.script = Script(
            outcome="failed",
            error={"code": "invalid_training_file", "message": "Line 3 is bad.\n", "param": "training_file"},
        )
        ended = conformance.to_the_end(rig, submitted(rig))
        assert ended.reason == "Line 3 is bad (invalid_training_file, training_file)"
        assert not ended.retryable
        assert not api.files

    def test_too_few_examples_fail_there_too(self, tmp_path: Path, api: OpenaiApi) -> None:
        """A job that was submitted all the same comes back with the provider's own words."""
        rig = OpenaiRig(tmp_path, api)
        rig.dataset = freeze(tmp_path, train=9, validation=1, seed="few")
        ended = conformance.to_the_end(rig, submitted(rig))
        assert ended.state == "failed"
        assert "must have at least 10 examples (invalid_training_file, training_file)" in ended.reason

    def test_a_failure_of_the_provider_may_pass(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """Where the provider itself failed, another attempt may succeed; a job without any reason says so."""
        api.script = Script(outcome="failed")
        assert conformance.to_the_end(rig, submitted(rig)).retryable
        api.script = Script(outcome="failed", error={})
        ended = conformance.to_the_end(rig, submitted(rig, rig.spec(attempt=2)))
        assert ended.reason == "the provider gave no reason"

    def test_cancelled_there_is_cancelled_here(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """A job that somebody cancels at the provider ends as cancelled, and its uploads go."""
        api.script = Script(outcome="cancelled")
        ended = conformance.to_the_end(rig, submitted(rig))
        assert (ended.state, ended.model) == ("cancelled", None)
        assert not api.files

    def test_a_paused_job_waits_for_a_person(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """It is under way, no deadline ends it, and it says who has to do what; a word nobody knows is told."""
        api.script = Script(outcome="paused")
        job = submitted(rig)
        for _ in range(3):
            rig.move_on(job)
        found = rig.trainer().poll(job.job_id)
        assert (found.state, found.waiting_for_person) == ("running", True)
        assert found.reason == f"it is paused at the provider: resume the job {job.job_id} there"
        api.jobs[job.job_id]["status"] = "meditating"
        found = rig.trainer().poll(job.job_id)
        assert (found.state, found.reason) == ("running", "the provider says: meditating")

    def test_success_without_a_model_says_so(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """A job that is said to have succeeded and names no model yet is waited for: it was paid for."""
        job = submitted(rig)
        api.jobs[job.job_id] |= {"status": "succeeded", "finished_at": BEGAN + 1}
        found = rig.trainer().poll(job.job_id)
        assert (found.state, found.model, found.ended_us) == ("running", None, None)
        assert "names no model" in found.reason
        rig.trainer().cancel(job.job_id)
        api.jobs[job.job_id] |= {"fine_tuned_model": "ft:late"}
        found = rig.trainer().poll(job.job_id)
        assert found.model is not None
        assert (found.state, found.model.artefact) == ("succeeded", "ft:late")

    @pytest.mark.parametrize("name", ["ft:x\n", "ft:" + "x" * 3_000, "ft:\u202ex"])
    def test_a_model_is_called_by_what_routes_can_hold(self, rig: OpenaiRig, api: OpenaiApi, name: str) -> None:
        """One name that no caller accepts would make the routes of all masters void: it is waited for another."""
        job = submitted(rig)
        api.jobs[job.job_id] |= {"status": "succeeded", "finished_at": BEGAN + 1, "fine_tuned_model": name}
        found = rig.trainer().poll(job.job_id)
        assert (found.state, found.model) == ("running", None)
        assert found.reason.startswith("the provider calls the model 'ft:")
        assert found.reason.isprintable()
        with pytest.raises(ValueError, match="no name that a provider gives"):
            routing.routes_of(routing.document({"a-master": Route(Served(name, "v1", "openai"))}, generated_at=""))
        api.jobs[job.job_id] |= {"fine_tuned_model": "ft:x"}
        found = rig.trainer().poll(job.job_id)
        assert found.model is not None
        assert (found.state, found.model.artefact) == ("succeeded", "ft:x")

    def test_a_cancellation_that_comes_too_late(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """Where the job ended while it was to be cancelled, that is no error."""
        job = submitted(rig)
        api.faults.append(Fault("POST .*/cancel", "late_refuse", 409, message="it is ending"))
        rig.trainer().cancel(job.job_id)
        assert api.jobs[job.job_id]["status"] == "cancelled"
        other = submitted(rig, rig.spec(attempt=2))
        api.faults.append(Fault("POST .*/cancel", "refuse", 500))
        assert refused(lambda: rig.trainer().cancel(other.job_id)).retryable

    def test_jobs_of_others_are_left_alone(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """A job that is not ours is neither looked after nor cancelled."""
        job = submitted(rig)
        stranger = {**api.jobs[job.job_id], "id": "ftjob-other", "metadata": {}}
        api.jobs["ftjob-other"] = stranger
        for call in (rig.trainer().poll, rig.trainer().cancel):
            assert "not one of ours" in refused(lambda call=call: call("ftjob-other")).cause  # type: ignore[misc]
        assert stranger["status"] == "validating_files"


class TestOnce:
    """The API knows no idempotency, and yet: one token, one job, one upload of each file."""

    @pytest.mark.parametrize("how", ["late_refuse", "late_drop", "late_garbage"])
    def test_a_creation_that_was_accepted_is_adopted(
        self, rig: OpenaiRig, api: OpenaiApi, how: Literal["late_refuse", "late_drop", "late_garbage"]
    ) -> None:
        """500 after accepting, a connection that broke, an answer nobody can read: the job is there, and found."""
        api.faults.append(Fault(CREATE, how))
        job = submitted(rig)
        assert list(api.jobs) == [job.job_id]
        assert submitted(rig) == job

    @pytest.mark.parametrize("keeps_metadata", [True, False])
    def test_one_that_was_not_accepted_is_sent_again_when_it_must_have_shown(
        self, tmp_path: Path, keeps_metadata: bool
    ) -> None:
        """Nobody knows: nothing is sent again until the job would be seen, and then it is sent once."""
        with OpenaiApi(keeps_metadata=keeps_metadata).serving() as api:
            rig = OpenaiRig(tmp_path, api)
            api.faults.append(Fault(CREATE, "drop"))
            assert refused(lambda: submitted(rig)).retryable
            rig.clock.step(-3_600)
            assert "no answer came" in refused(lambda: submitted(rig)).cause
            rig.clock.advance(SETTLED_S - 1)
            assert "no answer came" in refused(lambda: submitted(rig)).cause
            rig.clock.advance(1)
            job = submitted(rig)
            assert list(api.jobs) == [job.job_id]
            assert (api.uploaded, len(api.files)) == (2, 2)

    @pytest.mark.parametrize("keeps_metadata", [True, False])
    def test_one_that_shows_late_is_found(self, tmp_path: Path, keeps_metadata: bool) -> None:
        """A job that the list did not show at first is found by the next look, in whichever way it is known."""
        with OpenaiApi(keeps_metadata=keeps_metadata).serving() as api:
            rig = OpenaiRig(tmp_path, api)
            api.faults += [Fault(CREATE, "late_drop"), Fault("GET /fine_tuning/jobs$", "refuse", 503, times=3)]
            assert refused(lambda: submitted(rig)).retryable
            job = submitted(rig)
            assert list(api.jobs) == [job.job_id]
            assert rig.trainer().find(job.token) == job

    @pytest.mark.parametrize("keeps_metadata", [True, False])
    def test_one_that_came_after_all_is_ended(self, tmp_path: Path, keeps_metadata: bool) -> None:
        """A creation believed lost that makes a second job costs nothing more: the double is cancelled."""
        with OpenaiApi(keeps_metadata=keeps_metadata).serving() as api:
            rig = OpenaiRig(tmp_path, api)
            job, other = submitted(rig), submitted(rig, rig.spec(attempt=2))
            double = {**api.jobs[job.job_id], "id": "ftjob-double"}
            api.jobs["ftjob-double"] = double
            api.told("ftjob-double", "Created")
            assert rig.trainer().poll(job.job_id).state == "queued"
            assert double["status"] == "cancelled"
            assert conformance.to_the_end(rig, job).state == "succeeded"
            assert rig.trainer().poll(other.job_id).state == "succeeded"

    def test_limits_pass(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """429 says that nothing was done: the job is sent again by the next look, without waiting and only then."""
        api.faults.append(Fault(CREATE, "refuse", 429, code="rate_limit_exceeded"))
        assert refused(lambda: submitted(rig)).retryable
        assert not api.jobs
        submitted(rig)
        assert (len(api.jobs), api.uploaded) == (1, 2)

    @pytest.mark.parametrize(
        ("status", "code", "hint"),
        [
            (429, "insufficient_quota", "Raise the limit or the credit"),
            (400, "billing_hard_limit_reached", "Raise the limit or the credit"),
            (403, None, "Give the key's project the right"),
            (400, "invalid_value", "See what the provider says"),
        ],
    )
    def test_a_refusal_leaves_no_upload(
        self, rig: OpenaiRig, api: OpenaiApi, status: int, code: str | None, hint: str
    ) -> None:
        """A job that a person must act for is refused with what to do, and what was uploaded for it is deleted."""
        api.faults.append(Fault(CREATE, "refuse", status, code=code, message="No."))
        error = refused(lambda: submitted(rig))
        assert not error.retryable
        assert error.hint.startswith(hint)
        assert not api.files
        assert rig.trainer().find(client_token(rig.spec())) is None
        assert not list((rig.root / layout.MODELS).iterdir())

    @pytest.mark.parametrize("how", ["late_refuse", "late_drop"])
    def test_an_upload_that_arrived_is_not_repeated(
        self, rig: OpenaiRig, api: OpenaiApi, how: Literal["late_refuse", "late_drop"]
    ) -> None:
        """A file whose answer got lost is found by its name."""
        api.faults.append(Fault(UPLOAD, how))
        job = submitted(rig)
        assert api.uploaded == 2
        assert set(api.files) == {api.jobs[job.job_id]["training_file"], api.jobs[job.job_id]["validation_file"]}

    def test_an_upload_that_did_not_is_sent_by_the_next_look(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """Nothing is created without its files, and what is there already is used."""
        api.faults.append(Fault(f"{UPLOAD}$", "drop", times=1))
        assert refused(lambda: submitted(rig)).retryable
        api.faults.append(Fault(UPLOAD, "refuse", 503))
        assert refused(lambda: submitted(rig)).retryable
        assert not api.jobs
        submitted(rig)
        assert (api.uploaded, len(api.files)) == (2, 2)

    def test_bad_and_doubled_uploads_are_not_used(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """One that the provider found bad, or that is cut, is uploaded again; what the job does not use goes with it."""
        api.faults.append(Fault(CREATE, "refuse", 429))
        refused(lambda: submitted(rig))
        train, validation = api.files.values()
        train["status"] = "error"
        validation["bytes"] -= 1
        api.files["file-double"] = {**train, "id": "file-double", "filename": "other-file.jsonl"}
        job = submitted(rig)
        assert api.uploaded == 4
        conformance.to_the_end(rig, job)
        assert set(api.files) == {"file-double"}

    def test_a_file_that_cannot_be_deleted_is_tried_again(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """The end of a job is told when nothing of it is left behind."""
        api.script = Script(outcome="failed")
        job = submitted(rig)
        for _ in range(3):
            rig.move_on(job)
        api.faults.append(Fault("DELETE /files", "drop", times=9))
        assert refused(lambda: rig.trainer().poll(job.job_id)).retryable
        api.faults.clear()
        assert rig.trainer().poll(job.job_id).state == "failed"
        assert not api.files

    @pytest.mark.parametrize("status", [403, 405])
    @pytest.mark.parametrize("outcome", ["succeeded", "failed"])
    def test_a_provider_that_deletes_no_files_keeps_no_job_from_ending(
        self, rig: OpenaiRig, api: OpenaiApi, outcome: Literal["succeeded", "failed"], status: int
    ) -> None:
        """What was paid for is taken though its files may not be deleted there; that they stay is told."""
        api.script = Script(outcome=outcome)
        job = submitted(rig)
        for _ in range(4):
            rig.move_on(job)
        api.faults.append(Fault("DELETE /files", "refuse", status, message="No.", times=99))
        for told in (rig.trainer().poll(job.job_id), rig.trainer().find(job.token)):
            assert told is not None
            assert told.state == outcome
            assert f"its files stay at the provider: {', '.join(api.files)} (HTTP {status}: No)" in told.reason
        if told is not None and told.model is not None:
            rig.trainer().teardown(rig.trainer().deploy(told.model, "one"))
        assert len(api.files) == 2

    def test_a_refusal_is_told_where_files_cannot_be_deleted(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """Why a job was refused is said, and not that its files stay."""
        api.faults.append(Fault(CREATE, "refuse", 400, message="No such base."))
        api.faults.append(Fault("DELETE /files", "refuse", 405, message="No.", times=99))
        assert "No such base" in refused(lambda: submitted(rig)).cause

    def test_the_list_is_paged_through(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """Where the server does not filter, all its jobs are looked at."""
        api.filters = "ignored"
        job = submitted(rig)
        for number in range(250):
            stranger = {**api.jobs[job.job_id], "id": f"ftjob-x{number}", "metadata": {}}
            api.jobs[stranger["id"]] = stranger
        (rig.root / layout.MODELS / f".{job.token}.openai.json").unlink()
        found = rig.trainer().find(job.token)
        assert found is not None
        assert found.job_id == job.job_id

    def test_a_filter_that_is_refused_is_left_out(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """An API that does not know the filter is asked without it."""
        api.filters = "refused"
        api.faults.append(Fault(CREATE, "late_drop"))
        job = submitted(rig)
        assert list(api.jobs) == [job.job_id]
        assert conformance.to_the_end(rig, job).state == "succeeded"

    def test_a_state_on_another_machine_finds_its_jobs(self, rig: OpenaiRig, api: OpenaiApi, tmp_path: Path) -> None:
        """What the provider keeps is enough: token, model id and base come back without any file here."""
        job = submitted(rig)
        elsewhere = trainer_of(tmp_path / "elsewhere", api)
        assert elsewhere.find(job.token) == job
        assert elsewhere.poll(job.job_id) == job

    def test_what_was_never_created_is_discarded(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """A training that is ended before its job came to be leaves no upload; one that may yet come is waited for."""
        token = client_token(rig.spec())
        api.faults.append(Fault(CREATE, "drop"))
        refused(lambda: submitted(rig))
        assert refused(lambda: rig.trainer().discard(token)).retryable
        rig.clock.advance(SETTLED_S)
        rig.trainer().discard(token)
        rig.trainer().discard(token)
        assert not api.files
        assert not api.jobs

    def test_what_was_never_created_ends_where_files_cannot_be_deleted(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """A person's word to cancel is heard, though the provider keeps what was uploaded."""
        api.faults.append(Fault(CREATE, "drop"))
        refused(lambda: submitted(rig))
        rig.clock.advance(SETTLED_S)
        api.faults.append(Fault("DELETE /files", "refuse", 405, message="No.", times=99))
        rig.trainer().discard(client_token(rig.spec()))
        assert len(api.files) == 2
        assert not api.jobs

    def test_a_job_is_not_discarded(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """What has a job keeps its files."""
        job = submitted(rig)
        rig.trainer().discard(job.token)
        assert len(api.files) == 2

    def test_another_address_is_not_asked(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """With the address changed, a job under way is neither lost nor begun elsewhere: the error says where it is."""
        job = submitted(rig)
        with OpenaiApi().serving() as other:
            trainer = trainer_of(rig.root, other, rig.clock)
            for call in (lambda: trainer.poll(job.job_id), lambda: trainer.find(job.token)):
                error = refused(call)
                assert error.retryable
                assert api.url in error.cause
                assert other.url in error.cause
            assert not other.journal

    def test_one_that_was_not_answered_stays_at_its_address(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """With the address changed before anybody knows whether there is a job, none is begun elsewhere."""
        api.hides_jobs = True
        api.faults.append(Fault(CREATE, "late_drop"))
        assert refused(lambda: submitted(rig)).retryable
        rig.clock.advance(SETTLED_S)
        with OpenaiApi().serving() as other:
            error = refused(lambda: trainer_of(rig.root, other, rig.clock).submit(rig.spec(), client_token(rig.spec())))
            assert error.retryable
            assert api.url in error.cause
            assert not other.journal
        api.hides_jobs = False
        assert [submitted(rig).job_id] == list(api.jobs)

    def test_an_answer_nobody_can_read_refuses_nothing(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """A job that was created, answered with rubbish and does not show yet is not given up: it is found later."""
        api.hides_jobs = True
        api.faults.append(Fault(CREATE, "late_garbage"))
        assert refused(lambda: submitted(rig)).retryable
        api.hides_jobs = False
        assert [submitted(rig).job_id] == list(api.jobs)
        assert len(api.files) == 2

    def test_a_file_that_is_refused_takes_the_other_along(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """Where the second of two files is refused for good, the first is deleted."""
        api.most_files = 1
        assert not refused(lambda: submitted(rig)).retryable
        assert (api.uploaded, api.files, api.jobs) == (1, {}, {})

    def test_one_that_was_found_ended_leaves_nothing(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """A job that failed while nobody looked is found by its token; its files go, and its doubles are ended."""
        api.script = Script(outcome="failed")
        job = submitted(rig)
        for _ in range(3):
            rig.move_on(job)
        double = {**api.jobs[job.job_id], "id": "ftjob-double", "status": "running"}
        api.jobs["ftjob-double"] = double
        found = rig.trainer().find(job.token)
        assert found is not None
        assert found.state == "failed"
        assert not api.files
        assert double["status"] == "cancelled"

    def test_a_key_of_another_project_loses_nothing(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """Jobs cannot be deleted: one that is not shown is not gone, and not begun again."""
        job = submitted(rig)
        hidden, api.jobs = api.jobs, {}
        for call in (lambda: rig.trainer().poll(job.job_id), lambda: submitted(rig)):
            error = refused(call)
            assert error.retryable
            assert "key of the project" in error.hint
        api.jobs = hidden
        assert conformance.to_the_end(rig, job).state == "succeeded"


class TestOddAnswers:
    """APIs that are only like OpenAI's leave out what nobody needs, and say other things otherwise."""

    @pytest.mark.parametrize("what", ["events", "checkpoints"])
    @pytest.mark.parametrize("status", [404, 405, 501])
    def test_no_events_or_checkpoints(self, rig: OpenaiRig, api: OpenaiApi, what: str, status: int) -> None:
        """They tell how far a job is, no more: without them it ends all the same."""
        job = submitted(rig)
        api.faults.append(Fault(f"GET /fine_tuning/jobs/.*/{what}", "refuse", status, times=10**6))
        ended = conformance.to_the_end(rig, job)
        assert ended.model is not None
        assert ended.metrics["trained_tokens"] == 123_456

    @pytest.mark.parametrize(
        "change",
        [
            {"finished_at": 1_795_000_000.5, "created_at": 1_795_000_000.25},
            {"finished_at": None, "created_at": None, "trained_tokens": None},
            {"created_at": 10**17, "finished_at": "2026-11-22T12:00:00Z"},
            {"hyperparameters": "auto", "method": "supervised", "error": ""},
            {"trained_tokens": "many", "validation_file": ["file-1"]},
            {"trained_tokens": -5},
        ],
        ids=str,
    )
    def test_a_job_of_odd_kinds(self, rig: OpenaiRig, api: OpenaiApi, change: dict[str, Any]) -> None:
        """What is of another kind than documented counts as missing; nothing that was made is lost over it."""
        job = submitted(rig)
        conformance.to_the_end(rig, job)
        api.jobs[job.job_id] |= change
        ended = rig.trainer().poll(job.job_id)
        assert (ended.state, ended.model is not None) == ("succeeded", True)
        assert float(ended.metrics.get("training_usd", 0.0)) >= 0
        for instant in (ended.created_us, ended.ended_us):
            assert instant is None or instants.us_to_text(instant)

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            ({"code": 500, "message": "It broke"}, "It broke (500)"),
            ("It broke", "It broke"),
            ({"message": None}, "the provider gave no reason"),
        ],
    )
    def test_an_error_of_odd_kind(self, rig: OpenaiRig, api: OpenaiApi, error: object, reason: str) -> None:
        """Why a job failed is told however the provider writes it."""
        job = submitted(rig)
        api.jobs[job.job_id] |= {"status": "failed", "error": error}
        assert rig.trainer().poll(job.job_id).reason == reason

    def test_what_others_have_hides_nothing(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """Odd files, jobs and events, of others or ours, are passed over."""
        api.filters = "ignored"
        api.files["file-odd"] = {"id": "file-odd", "filename": None, "bytes": 1.0, "created_at": None, "status": None}
        job = submitted(rig)
        odd = {"id": "ftjob-odd", "created_at": None, "status": None, "metadata": None, "training_file": 7}
        api.jobs["ftjob-odd"] = api.jobs[job.job_id] | odd
        api.events[job.job_id].insert(
            0, {"id": "odd", "message": None, "created_at": None, "data": {"train_loss": None}}
        )
        assert rig.trainer().poll(job.job_id).state == "queued"
        del api.jobs["ftjob-odd"]
        assert conformance.to_the_end(rig, job).state == "succeeded"
        assert "file-odd" in api.files

    @pytest.mark.parametrize("status", [200, 500])
    @pytest.mark.parametrize(
        ("headers", "body", "cause"),
        [
            ({"Content-Encoding": "gzip"}, gzip.compress(b" " * (1 << 20)), "packed"),
            ({}, b" " * (17 << 20), "longer than 16,777,216 bytes"),
        ],
    )
    def test_an_answer_is_held_as_far_as_one_may_be_long(
        self,
        rig: OpenaiRig,
        monkeypatch: pytest.MonkeyPatch,
        status: int,
        headers: dict[str, str],
        body: bytes,
        cause: str,
    ) -> None:
        """What is packed, or goes on and on, ends in an error and not in the memory of the daemon, whatever its status.

        The error says so and what to look at, and refuses nothing: the job is asked about again.
        """
        job = submitted(rig)

        def answer(handler: Handler) -> None:
            handler.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body)), "retry-after-ms": "1"}.items():
                handler.send_header(name, value)
            handler.end_headers()
            with suppress(OSError):  # whoever asked has heard enough
                handler.wfile.write(body)

        with monkeypatch.context() as patched:
            patched.setattr(Handler, "do_GET", answer)
            error = refused(lambda: rig.trainer().poll(job.job_id))
        assert cause in error.cause
        assert f"HTTP {status}" in error.cause
        assert "openai.base_url" in error.hint
        assert error.retryable
        assert conformance.to_the_end(rig, job).state == "succeeded"

    def test_a_damaged_note_hides_no_other(self, rig: OpenaiRig) -> None:
        """A note of one job that cannot be read stops no other."""
        job = submitted(rig)
        (rig.root / layout.MODELS / ".0123.openai.json").write_text("{")
        assert conformance.to_the_end(rig, job).state == "succeeded"


class TestServing:
    def test_a_model_is_not_gone_because_the_address_changed(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """What another provider does not know is neither gone nor deleted, and nothing of it is deleted."""
        model = conformance.to_the_end(rig, submitted(rig)).model
        assert model is not None
        endpoint = rig.trainer().deploy(model, "one")
        with OpenaiApi().serving() as other:
            trainer = trainer_of(rig.root, other, rig.clock)
            calls: list[Callable[[], object]] = [
                lambda: trainer.poll_endpoint(endpoint),
                lambda: trainer.teardown(endpoint),
                lambda: trainer.deploy(model, "two"),
                lambda: trainer.forget(model),
            ]
            for call in calls:
                assert refused(call).retryable
            assert not other.journal
        assert rig.trainer().poll_endpoint(endpoint).state == "ready"

    @pytest.mark.parametrize("is_known", [True, False])
    def test_teardown_deletes_the_files(self, rig: OpenaiRig, api: OpenaiApi, is_known: bool) -> None:
        """Files that somebody put back go, on whichever machine; the model stays, and is deployed again under another token."""
        job = submitted(rig)
        kept = dict(api.files)
        job = conformance.to_the_end(rig, job)
        assert not api.files
        api.files.update(kept)
        assert job.model is not None
        endpoint = rig.trainer().deploy(job.model, "one")
        assert (endpoint.state, endpoint.target) == ("ready", job.model.artefact)
        assert len(api.files) == 2
        if not is_known:
            (rig.root / layout.MODELS / f".{job.token}.openai.json").unlink()
        rig.trainer().teardown(endpoint)
        assert not api.files
        assert rig.trainer().poll_endpoint(endpoint).state == "gone"
        assert rig.trainer().deploy(job.model, "two").state == "ready"

    def test_a_rejected_model_is_deleted_unless_it_is_kept(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """What lost its tests is deleted at the provider; that it is gone already is no error, an outage is one."""
        model = conformance.to_the_end(rig, submitted(rig)).model
        assert model is not None
        trainer_of(rig.root, api, keep_rejected=True).forget(model)
        assert model.artefact in api.models
        api.faults.append(Fault("DELETE /models", "drop", times=9))
        assert refused(lambda: rig.trainer().forget(model)).retryable
        api.faults.clear()
        rig.trainer().forget(model)
        rig.trainer().forget(model)
        assert list(api.models) == [BASE]

    def test_a_model_that_is_not_served_yet_is_waited_for(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """A model may need a while until the provider knows its name; an outage is an error, not the end."""
        model = conformance.to_the_end(rig, submitted(rig)).model
        assert model is not None
        hidden = api.models.pop(model.artefact)
        endpoint = rig.trainer().deploy(model, "one")
        assert (endpoint.state, endpoint.reason) == ("creating", "the provider does not know it yet")
        api.models[model.artefact] = hidden
        ready = rig.trainer().poll_endpoint(endpoint)
        assert ready.state == "ready"
        api.faults.append(Fault("GET /models", "refuse", 503, times=9))
        assert refused(lambda: rig.trainer().poll_endpoint(ready)).retryable
        api.faults.clear()
        del api.models[model.artefact]
        assert rig.trainer().poll_endpoint(ready).state == "gone"


class TestTerms:
    def problems(self, rig: OpenaiRig, spec: Spec | None = None, **options: Any) -> list[Problem]:
        found = trainer_of(rig.root, rig.api, rig.clock, **options).preflight(spec or rig.spec())
        for problem in found:
            assert KEY not in problem.text + problem.remedy
        return found

    def test_nothing_is_in_the_way_and_nothing_is_spent(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """A good spec is asked about by four questions, none of which changes anything."""
        assert self.problems(rig) == []
        rig.trainer().estimate(rig.spec())
        assert all(" GET " in f" {line} " for line in api.journal)
        assert (api.jobs, api.files) == ({}, {})

    def test_the_estimate(self, rig: OpenaiRig) -> None:
        """Tokens of all texts, times the epochs, times the price; without a price it is unknown and never nothing."""
        lines = (rig.root / rig.dataset.folder / "train.jsonl").read_bytes().splitlines()
        texts = [
            text
            for line in map(json.loads, lines)
            for text in (line["system"], *(one["content"] for one in line["messages"]))
        ]
        tokens = sum(-(-len(text.encode()) // 3) for text in texts)
        found = rig.trainer().estimate(rig.spec())
        assert (found.tokens, found.epochs) == (tokens, 3)
        assert found.training_usd == pytest.approx(tokens * 3 * 5.0 / 1e6)
        assert trainer_of(rig.root, rig.api, prices={}).estimate(rig.spec()).training_usd is None

    def test_counts_hyperparameters_and_prices(self, tmp_path: Path, api: OpenaiApi) -> None:
        """Fewer than ten examples, values out of range, unknown names and prices: each is told, nothing is changed."""
        rig = OpenaiRig(tmp_path, api)
        rig.dataset = freeze(tmp_path, train=9, validation=0, seed="few")
        knobs = {"n_epochs": 51, "batch_size": True, "learning_rate_multiplier": 0, "k": 3, "seed": 1}
        found = self.problems(rig, openai_spec(rig.dataset, hyperparameters=knobs), prices={})
        assert found == [
            TooFewRecords("train", 9, 10),
            HyperparameterOutOfRange("batch_size", True, "a whole number from 1 to 256"),
            HyperparameterIgnored("k"),
            HyperparameterOutOfRange("learning_rate_multiplier", 0, "a number above 0"),
            HyperparameterOutOfRange("n_epochs", 51, "a whole number from 1 to 50"),
            PriceUnknown(BASE, "training"),
        ]
        assert rig.trainer().limits(BASE).min_train == 10

    def test_no_base_is_said_first(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """This backend has no base of its own: without one it says which setting is missing, and asks about none."""
        spec = msgspec.structs.replace(rig.spec(), base="")
        assert rig.trainer().preflight(spec) == [BaseModelUnset()]
        assert "training.base_model" in BaseModelUnset.remedy
        assert not any("GET /models" in one for one in api.journal)

    def test_the_life_of_the_base(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """An unknown base and one that is shut down block; one whose end is announced is told of."""
        assert self.problems(rig, openai_spec(rig.dataset, base="gpt-0"), prices={"gpt-0": PRICE}) == [
            BaseModelUnknown("gpt-0")
        ]
        api.models[BASE]["shutdown_date"] = "2026-12-24"
        assert self.problems(rig) == [BaseModelRetiring(BASE, "2026-12-24")]
        api.models[BASE]["shutdown_date"] = f"{NOW:%Y-%m-%d}"
        assert self.problems(rig) == [BaseModelRetired(BASE, f"{NOW:%Y-%m-%d}")]

    def test_a_damaged_dataset(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """A dataset that is not as it was frozen blocks; submitted all the same, nothing of it stays uploaded."""
        freeze_as(rig.root / rig.dataset.folder, "validation", ["{}\n"] * 30)
        (problem,) = self.problems(rig)
        assert isinstance(problem, DatasetUnreadable)
        assert not refused(lambda: submitted(rig)).retryable
        assert (api.jobs, api.files, api.uploaded) == ({}, {}, 1)

    @pytest.mark.parametrize(
        ("environ", "policy", "subject", "remedy"),
        [
            ({}, {}, "the key", "Set OPENAI_API_KEY, or the systemd credential openai_api_key"),
            ({"OPENAI_API_KEY": "sk-\x7f"}, {}, "the key", "Set OPENAI_API_KEY"),
            ({"OPENAI_API_KEY": "sk-old"}, {}, "http://127.0.0.1", "Set OPENAI_API_KEY"),
            ({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "http://10.0.0.1/v1"}, {"base_url": ""}, "OPENAI_BASE_URL", "Use https"),
            ({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "https://a:b@c/v1"}, {"base_url": ""}, "OPENAI_BASE_URL", "Set it to one like"),
            ({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "ftp://c"}, {"base_url": ""}, "OPENAI_BASE_URL", "Set it to one like"),
        ],
    )  # fmt: skip
    def test_no_access(
        self, rig: OpenaiRig, environ: dict[str, str], policy: dict[str, Any], subject: str, remedy: str
    ) -> None:
        """No key, one that is wrong or has expired, an address that may not be used: each has its remedy."""
        (problem,) = self.problems(rig, environ=environ, **policy)
        assert isinstance(problem, AccessRefused)
        assert problem.subject.startswith(subject)
        assert problem.remedy.startswith(remedy)
        assert "sk-old" not in problem.text
        assert ("the key is not accepted" in problem.text) is ("sk-old" in environ.values())
        if not policy:
            trainer = trainer_of(rig.root, rig.api, environ=environ)
            assert not refused(lambda: trainer.submit(rig.spec(), client_token(rig.spec()))).retryable

    def test_an_address_without_an_api(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """A wrong path, and an API that does not fine-tune, are problems of the address, not of the base."""
        (problem,) = self.problems(rig, base_url=api.url.removesuffix("/v1") + "/v2")
        assert isinstance(problem, AccessRefused)
        assert problem.remedy.startswith("Check openai.base_url")
        api.faults.append(Fault("GET /fine_tuning/jobs", "refuse", 404, message="Not found"))
        (problem,) = self.problems(rig)
        assert isinstance(problem, AccessRefused)
        assert problem.subject.startswith("fine-tuning at ")

    def test_missing_rights(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """A key that may not do all that a job needs is seen before."""
        said = "You have insufficient permissions for this operation. Missing scopes: api.fine_tuning.jobs.write"
        api.faults.append(Fault("GET /fine_tuning/jobs", "refuse", 403, message=said))
        (problem,) = self.problems(rig)
        assert isinstance(problem, AccessRefused)
        assert "Missing scopes" in problem.text
        assert problem.remedy.startswith("Give the key's project the right")

    def test_an_outage_is_no_answer(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """Nobody answers, or only with errors: that is not known to be in the way, and asked again."""
        api.faults.append(Fault("GET /models", "refuse", 503, times=9))
        assert refused(lambda: rig.trainer().preflight(rig.spec())).retryable
        trainer = trainer_of(rig.root, api, base_url="http://127.0.0.1:9/v1")
        assert "no answer" in refused(lambda: trainer.preflight(rig.spec())).cause

    def test_a_short_fault_is_passed_over(self, rig: OpenaiRig, api: OpenaiApi) -> None:
        """Questions are asked again, twice: a limit on requests does not put a training off for a day."""
        api.faults.append(Fault("GET ", "refuse", 429, times=2))
        assert self.problems(rig) == []

    def test_the_credential_of_a_supervisor(self, rig: OpenaiRig, tmp_path: Path) -> None:
        """The key is read from $CREDENTIALS_DIRECTORY; the variable goes before it."""
        (tmp_path / "openai_api_key").write_text(f"{KEY}\n")
        environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
        assert self.problems(rig, environ=environ) == []
        assert len(self.problems(rig, environ=environ | {"OPENAI_API_KEY": "sk-other"})) == 1

    def test_a_key_that_was_replaced(self, rig: OpenaiRig, tmp_path: Path) -> None:
        """Refused, the key is looked for anew: one that was put in its place counts without a restart."""
        (tmp_path / "openai_api_key").write_text("sk-expired")
        trainer = trainer_of(rig.root, rig.api, rig.clock, environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
        assert [type(one) for one in trainer.preflight(rig.spec())] == [AccessRefused]
        (tmp_path / "openai_api_key").write_text(KEY)
        assert trainer.preflight(rig.spec()) == []


@pytest.mark.parametrize(
    ("url", "is_taken"),
    [
        ("", True),
        ("https://api.example.org/v1", True),
        ("http://127.0.0.1:8000/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://localhost/v1", True),
        ("http://api.example.org/v1", False),
        ("http://127.0.0.1.example.org/v1", False),
        ("http://localhost.example.org/v1", False),
        ("https://user:secret@api.example.org/v1", False),
        ("https://api.example.org/v1?key=secret", False),
        ("api.example.org", False),
    ],
)
def test_the_address_is_https_or_this_machines_own(tmp_path: Path, url: str, is_taken: bool) -> None:
    """What would carry key and examples unencrypted, or holds a secret, is refused where it is set."""
    flags = {"openai.base_url": url}
    if is_taken:
        assert settings.load(tmp_path, environ={}, flags=flags).settings.openai.base_url == url
        return
    with pytest.raises(settings.ConfigError, match="openai.base_url"):
        settings.load(tmp_path, environ={}, flags=flags)
    if url.startswith("http://"):
        assert settings.load(tmp_path, environ={}, flags=flags | {"openai.allow_http": True}).settings.openai.allow_http


@pytest.mark.parametrize("variable", ["OPENAI_ORG_ID", "OPENAI_PROJECT_ID"])
def test_who_pays_is_named_by_an_id(rig: OpenaiRig, api: OpenaiApi, variable: str) -> None:
    """What surrounds it in a file of variables does not count; what can be no id is told, and not taken for an outage."""
    for found in ("org-1\r", " org-1\n", " ", ""):
        trainer = trainer_of(rig.root, api, rig.clock, environ={"OPENAI_API_KEY": api.key, variable: found})
        assert trainer.preflight(rig.spec()) == [], repr(found)
    for found in ("örg", "org 1", "org-1\nx-evil: 1"):
        trainer = trainer_of(rig.root, api, rig.clock, environ={"OPENAI_API_KEY": api.key, variable: found})
        (problem,) = trainer.preflight(rig.spec())
        assert isinstance(problem, AccessRefused)
        assert f"{variable}: it holds characters that no id has" in problem.text
        assert problem.remedy.startswith(f"Set {variable} to the id alone")
        assert found not in problem.text


def test_the_key_goes_nowhere(rig: OpenaiRig, api: OpenaiApi) -> None:
    """No file holds it, no error repeats it, not even one that quotes it."""
    api.faults.append(Fault("GET /models", "refuse", 403, message=f"The key {KEY} may not do this"))
    problems = rig.trainer().preflight(rig.spec())
    assert any("[key]" in problem.text for problem in problems)
    model = conformance.to_the_end(rig, submitted(rig)).model
    assert model is not None
    rig.trainer().deploy(model, "one")
    for path in rig.root.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()
    assert all(KEY not in repr(one) for one in (rig.trainer(), vars(rig.trainer())))


def test_a_key_of_any_form_is_hidden(rig: OpenaiRig, api: OpenaiApi) -> None:
    """Also one that does not look like OpenAI's is not repeated where the provider quotes it."""
    api.key = "of-another-provider-0123"
    api.faults.append(Fault("GET /models", "refuse", 403, message=f"{api.key} may not do this"))
    (problem,) = rig.trainer().preflight(rig.spec())
    assert "[key] may not do this" in problem.text


def test_the_key_is_sent_to_nobody_else(rig: OpenaiRig, api: OpenaiApi) -> None:
    """A redirect is not followed, wherever it leads."""
    with OpenaiApi().serving() as other:
        api.faults.append(Fault("GET /models", "refuse", 307, message=f"{other.url}/models/{BASE}"))
        (problem,) = rig.trainer().preflight(rig.spec())
        assert "HTTP 307" in problem.text
        assert problem.remedy.startswith("Check openai.base_url")
        assert not other.journal


def test_prices_are_of_the_base_that_was_asked_for(rig: OpenaiRig, api: OpenaiApi) -> None:
    """A provider may answer with the name of a snapshot; model, base and price stay those of the spec."""
    api.add_model("gpt-short")
    spec = openai_spec(rig.dataset, base="gpt-short")
    trainer = trainer_of(
        rig.root, api, rig.clock, prices={"gpt-short": Price(base="gpt-short", as_of="2026-11-22", training=1.0)}
    )
    job = trainer.submit(spec, client_token(spec))
    api.jobs[job.job_id]["model"] = "gpt-short-2026-01-01"
    api.script = replace(api.script, trained_tokens=2_000_000)
    for _ in range(5):
        api.tick()
    ended = trainer.poll(job.job_id)
    assert ended.model is not None
    assert ended.model.base == "gpt-short"
    assert ended.metrics["training_usd"] == 2.0
