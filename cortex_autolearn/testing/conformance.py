"""The life that every trainer's jobs must lead: one suite for all backends, ours and yours.

Give it a :class:`Rig` and run every check of :data:`CHECKS`, each on a rig of its own::

    @pytest.mark.parametrize("check", conformance.CHECKS)
    def test_it_keeps_the_contract(check, tmp_path):
        check(MyRig(tmp_path))

Every step is taken by a new trainer over the same outside world, as if the process before had been killed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

import msgspec

from cortex_autolearn.model.training_jobs import Endpoint, Estimate, ModelRef, RemoteJob, Spec, client_token
from cortex_autolearn.ports import BoundaryError, Trainer

MOST_POLLS: Final = 200

_T = TypeVar("_T")


class Rig(Protocol):
    """A trainer's outside world, and what a check needs to know about it."""

    def trainer(self) -> Trainer:
        """Return a new trainer over the same outside world."""

    def spec(self, *, attempt: int = 1) -> Spec:
        """Return a spec whose job succeeds; each attempt is another job, with a model id of its own."""

    def doomed(self) -> Spec:
        """Return a spec whose job is taken and fails."""

    def move_on(self, job: RemoteJob) -> None:
        """Let happen what a job waits for: time passes, a person acts."""

    def jobs(self) -> int:
        """Return how many jobs the outside world has, in whichever state."""


def finds_nothing_that_was_not_submitted(rig: Rig) -> None:
    """An unknown token has no job, and looking for it makes none."""
    assert rig.trainer().find(client_token(rig.spec())) is None
    assert rig.jobs() == 0


def refuses_a_job_it_does_not_know(rig: Rig) -> None:
    """Polling or cancelling an unknown job is an error that asking again does not mend."""
    for call in (rig.trainer().poll, rig.trainer().cancel):
        try:
            call("nobody-submitted-this")
        except BoundaryError as error:
            assert not error.retryable  # noqa: PT017 -- no pytest in the package
        else:
            raise AssertionError("an unknown job was taken for one")


def looks_before_it_spends(rig: Rig) -> None:
    """Preflight and estimate leave nothing behind; a spec that succeeds is not blocked; unknown costs stay unknown."""
    trainer, spec = rig.trainer(), rig.spec()
    assert not [problem for problem in trainer.preflight(spec) if problem.blocks]
    estimate = trainer.estimate(spec)
    assert estimate.tokens > 0
    for usd in (estimate.training_usd, estimate.storage_usd_per_month, estimate.added_usd_per_task):
        assert usd is None or usd >= 0
    assert _again(estimate, Estimate) == estimate
    assert rig.jobs() == 0
    assert trainer.find(client_token(spec)) is None


def takes_a_job_and_finds_it(rig: Rig) -> None:
    """What was submitted is found by its token, whoever asks, under the id that submit gave."""
    spec = rig.spec()
    token = client_token(spec)
    job = rig.trainer().submit(spec, token)
    assert (job.token, job.model_id) == (token, spec.model_id)
    assert job.state in {"queued", "running"}
    assert job.created_us is not None
    found = rig.trainer().find(token)
    assert found is not None
    assert (found.job_id, found.token, found.model_id) == (job.job_id, token, spec.model_id)
    assert _again(found, RemoteJob) == found


def takes_a_job_once(rig: Rig) -> None:
    """A token that is submitted again, by whomever and in whichever state the job is, is the same job."""
    spec = rig.spec()
    token = client_token(spec)
    first = rig.trainer().submit(spec, token)
    assert rig.trainer().submit(spec, token).job_id == first.job_id
    renamed = msgspec.structs.replace(spec, model_id="ft-20990101-001")
    assert rig.trainer().submit(renamed, token).model_id == first.model_id
    ended = to_the_end(rig, first)
    assert rig.trainer().submit(spec, token) == ended
    assert rig.jobs() == 1


def keeps_attempts_apart(rig: Rig) -> None:
    """Another attempt on the same data is another job with another model."""
    first, second = rig.spec(), rig.spec(attempt=2)
    one = rig.trainer().submit(first, client_token(first))
    other = rig.trainer().submit(second, client_token(second))
    assert one.job_id != other.job_id
    models = {to_the_end(rig, job).model for job in (one, other)}
    assert {model.model_id for model in models if model is not None} == {first.model_id, second.model_id}
    assert rig.jobs() == 2


def comes_to_an_end(rig: Rig) -> None:
    """A job that succeeds goes forward only, ends with its model, and stays as it ended."""
    spec = rig.spec()
    job = rig.trainer().submit(spec, client_token(spec))
    ended = to_the_end(rig, job)
    assert ended.state == "succeeded", ended.reason
    assert ended.model is not None
    assert (ended.model.model_id, ended.model.base) == (spec.model_id, spec.base)
    assert ended.model.artefact
    assert ended.ended_us is not None
    assert ended.ended_us >= (ended.created_us or 0)
    assert not ended.waiting_for_person
    assert _again(ended, RemoteJob) == ended
    assert rig.trainer().poll(job.job_id) == ended
    assert rig.trainer().find(job.token) == ended


def fails_with_a_reason(rig: Rig) -> None:
    """A job that fails says why, makes no model, and stays failed however often it is submitted."""
    spec = rig.doomed()
    token = client_token(spec)
    ended = to_the_end(rig, rig.trainer().submit(spec, token))
    assert ended.state == "failed"
    assert ended.reason
    assert ended.model is None
    assert ended.ended_us is not None
    assert rig.trainer().submit(spec, token) == ended
    assert rig.jobs() == 1


def cancels_once_and_for_all(rig: Rig) -> None:
    """A cancelled job makes no model and is not brought back; cancelling it again changes nothing."""
    spec = rig.spec()
    token = client_token(spec)
    job = rig.trainer().submit(spec, token)
    rig.trainer().cancel(job.job_id)
    ended = to_the_end(rig, job)
    assert ended.state == "cancelled"
    assert ended.model is None
    rig.trainer().cancel(job.job_id)
    assert rig.trainer().submit(spec, token) == ended
    assert rig.trainer().find(token) == ended


def cancels_nothing_that_has_ended(rig: Rig) -> None:
    """Cancelling a job that succeeded leaves it and its model as they are."""
    spec = rig.spec()
    ended = to_the_end(rig, rig.trainer().submit(spec, client_token(spec)))
    rig.trainer().cancel(ended.job_id)
    assert rig.trainer().poll(ended.job_id) == ended


def deploys_and_tears_down(rig: Rig) -> None:
    """A model is deployed once under a token, becomes ready, and is gone when torn down, once or twice."""
    spec = rig.spec()
    model = to_the_end(rig, rig.trainer().submit(spec, client_token(spec))).model
    assert model is not None
    endpoint = rig.trainer().deploy(model, "deployment")
    assert rig.trainer().deploy(model, "deployment").endpoint_id == endpoint.endpoint_id
    ready = _ready(rig, endpoint, model)
    assert ready.target
    assert _again(ready, Endpoint) == ready
    rig.trainer().teardown(ready)
    rig.trainer().teardown(ready)
    assert rig.trainer().poll_endpoint(ready).state == "gone"


CHECKS: Final[tuple[Callable[[Rig], None], ...]] = (
    finds_nothing_that_was_not_submitted,
    refuses_a_job_it_does_not_know,
    looks_before_it_spends,
    takes_a_job_and_finds_it,
    takes_a_job_once,
    keeps_attempts_apart,
    comes_to_an_end,
    fails_with_a_reason,
    cancels_once_and_for_all,
    cancels_nothing_that_has_ended,
    deploys_and_tears_down,
)
"""All of them; each takes a rig nobody has used."""


def to_the_end(rig: Rig, job: RemoteJob) -> RemoteJob:
    """Poll a job until it ends, each time with a new trainer, and return it as it ended."""
    progress = 0.0
    for _ in range(MOST_POLLS):
        found = rig.trainer().poll(job.job_id)
        assert (found.job_id, found.token, found.model_id) == (job.job_id, job.token, job.model_id)
        assert found.progress is None or progress <= found.progress <= 1
        progress = found.progress or progress
        if found.ended:
            return found
        assert found.model is None
        rig.move_on(found)
    raise AssertionError(f"{job.job_id} has not ended after {MOST_POLLS} polls")


def _ready(rig: Rig, endpoint: Endpoint, model: ModelRef) -> Endpoint:
    job = RemoteJob(job_id="", token=endpoint.token, model_id=model.model_id, state="running")
    for _ in range(MOST_POLLS):
        found = rig.trainer().poll_endpoint(endpoint)
        assert (found.endpoint_id, found.model) == (endpoint.endpoint_id, model)
        if found.state == "ready":
            return found
        assert found.state == "creating", found.reason
        rig.move_on(job)
    raise AssertionError(f"{endpoint.endpoint_id} is not ready after {MOST_POLLS} polls")


def _again(value: _T, kind: type[_T]) -> _T:
    """Return a value as it comes back from the state."""
    return msgspec.json.decode(msgspec.json.encode(value), type=kind)
