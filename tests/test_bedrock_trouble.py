"""Trouble with AWS as an operator meets it: what ``fine-tune status`` and ``doctor`` say, and that no job is lost.

Each kind of trouble comes as it does in life: some keep a training from starting, some meet it under way. Once mended,
there is one job and one model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from bedrock_api import ACCOUNT, BUCKET, KEY, NOVA, ROLE, BedrockApi
from bedrock_support import POLICY, PRICE, credentials, fresh, service
from click.testing import CliRunner, Result
from support import Rooms, good

from cortex_autolearn import wiring
from cortex_autolearn.adapters.trainers.bedrock import Aws, BedrockTrainer
from cortex_autolearn.cli import main
from cortex_autolearn.cli.quiet import Quiet
from cortex_autolearn.collect.split import split_of
from cortex_autolearn.model import layout
from cortex_autolearn.model.training_policy import TrainingPolicy
from cortex_autolearn.ports import Trainer
from cortex_autolearn.testing import FakeClock
from cortex_autolearn.training.job import Trainings

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:click")

COUNT = 8
DAY_S = 86_400


@pytest.fixture(scope="module")
def bedrock() -> Iterator[BedrockApi]:
    with service() as found:
        yield found


@pytest.fixture
def api(bedrock: BedrockApi) -> Iterator[BedrockApi]:
    with fresh(bedrock) as found:
        yield found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A ROOT with collected outcomes, and settings that have Bedrock train."""
    names = [f"task-{number}" for number in range(120)]
    chosen = [name for name in names if split_of(name, 80) == "training"][:COUNT]
    chosen += [name for name in names if split_of(name, 80) == "validation"][:COUNT]
    with Rooms(tmp_path) as rooms:
        rooms.put(
            "tasks.jsonl", *(good(name, input=f"Look at host {name}: {name}a {name}b {name}c") for name in chosen)
        )
        rooms.everything()
    configure(tmp_path)
    return tmp_path


def configure(root: Path, **changes: str) -> None:
    """Write the settings; ``changes`` are of the section ``[bedrock]``."""
    bedrock = {"bucket": BUCKET, "role_arn": ROLE} | changes
    lines = [
        "[training]",
        'backend = "bedrock"',
        f'base_model = "{NOVA}"',
        f"min_examples = {COUNT}",
        "[[training.prices]]",
        f'base = "{NOVA}"',
        'as_of = "2026-11-22"',
        "training_usd_per_mtok = 1.0",
        "input_usd_per_mtok = 0.035",
        "storage_usd_per_month = 1.95",
        "[bedrock]",
        *(f'{name} = "{value}"' for name, value in bedrock.items()),
    ]
    (root / "cortex-autolearn.toml").write_text("\n".join(lines) + "\n")


def environ_of(root: Path, api: BedrockApi) -> dict[str, str | None]:
    cleared: dict[str, str | None] = {name: None for name in os.environ if name.startswith("CORTEX_")}
    # The SDK would try three times, as it should; here that only takes time.
    return cleared | api.environ | credentials(root / "credentials")


def call(root: Path, api: BedrockApi, *args: str) -> Result:
    command = [*args, "--root", str(root)]
    return CliRunner().invoke(main, command, prog_name="cortex-autolearn", env=environ_of(root, api))


def status_of(root: Path, api: BedrockApi) -> str:
    result = call(root, api, "fine-tune", "status")
    assert result.exit_code == 0, result.output
    return result.stdout


def doctor_of(root: Path, api: BedrockApi) -> dict[str, dict[str, str]]:
    """The doctor's checks of trainings that are not well, by their names, the first of each."""
    found = json.loads(call(root, api, "doctor", "--json").stdout)["checks"]
    names = ("readiness", "training", "backend")
    return {one["name"]: one for one in reversed(found) if one["name"] in names and one["verdict"] != "ok"}


def jobs_of(root: Path, api: BedrockApi) -> list[tuple[str, str]]:
    found = json.loads(call(root, api, "fine-tune", "jobs", "--json").stdout)["jobs"]
    return [(job["model_id"][-3:], job["state"]) for job in found]


def run(root: Path, api: BedrockApi, job: str) -> None:
    result = call(root, api, "run-once", job)
    assert result.exit_code == 0, result.output


class Trouble(NamedTuple):
    """One kind: how it comes, what is said, what to do, and how it is mended."""

    come: Callable[[BedrockApi, Path], object]
    said: str
    remedy: str
    mend: Callable[[BedrockApi, Path], object]


def _expire(api: BedrockApi, _: Path) -> None:
    api.keys[KEY] = "expired"


def _renew(api: BedrockApi, _: Path) -> None:
    api.keys[KEY] = "good"


BEFORE = {
    "expired credentials": Trouble(_expire, "ExpiredTokenException", "credentials that have not expired", _renew),
    "wrong region": Trouble(
        lambda _, root: configure(root, region="eu-north-1"),
        f"Bedrock in eu-north-1: {NOVA} cannot be trained there",
        "Set bedrock.region to us-east-1",
        lambda _, root: configure(root),
    ),
    "no role": Trouble(
        lambda _, root: configure(root, role_arn=""),
        "bedrock.role_arn: it is not set",
        "Set it to the ARN of a role",
        lambda _, root: configure(root),
    ),
    "another account's bucket": Trouble(
        lambda api, _: api.owners.update({BUCKET: "999999999999"}),
        f"the bucket {BUCKET}: it does not belong to account {ACCOUNT}",
        "Set bedrock.bucket to a bucket of account",
        lambda api, _: api.owners.update({BUCKET: ACCOUNT}),
    ),
}

UNDER_WAY = {
    "a role that nobody can take on": Trouble(
        lambda api, _: api.roles.clear(),
        "Could not assume provided IAM role",
        "trusts bedrock.amazonaws.com",
        lambda api, _: api.roles.add(ROLE),
    ),
    "quota reached": Trouble(
        lambda api, _: setattr(api, "quota", 0),
        "ServiceQuotaExceededException: You have too many scheduled customization jobs",
        "have the quota raised in Service Quotas",
        lambda api, _: setattr(api, "quota", 1),
    ),
}


def finish(root: Path, api: BedrockApi) -> None:
    """Let the training come to its end: one job, one model, nothing left behind."""
    run(root, api, "training")
    assert jobs_of(root, api) == [("001", "running")]
    api.advance(4_000)
    run(root, api, "training")
    assert jobs_of(root, api) == [("001", "succeeded")]
    assert (len(api.jobs()), len(api.models()), api.uploads()) == (1, 1, [])
    assert "training" not in doctor_of(root, api)


@pytest.mark.parametrize("trouble", BEFORE.values(), ids=BEFORE)
def test_trouble_before_a_training(trouble: Trouble, root: Path, api: BedrockApi) -> None:
    """Nothing is begun or sent; status and doctor say what it is and what to do; mended, the next look begins."""
    trouble.come(api, root)
    run(root, api, "readiness")
    assert (api.jobs(), api.asked("s3:PUT"), jobs_of(root, api)) == ([], 0, [])
    status = " ".join(status_of(root, api).split())
    assert trouble.said in status
    assert trouble.remedy in status
    told = doctor_of(root, api)
    assert trouble.said in told["backend"]["found"]
    assert told["backend"]["verdict"] == "fail"
    assert trouble.remedy in told["backend"]["remedy"]
    assert trouble.said in told["readiness"]["found"]
    trouble.mend(api, root)
    assert "backend" not in doctor_of(root, api)
    run(root, api, "readiness")
    finish(root, api)


@pytest.mark.parametrize("trouble", UNDER_WAY.values(), ids=UNDER_WAY)
def test_trouble_as_a_training_begins(trouble: Trouble, root: Path, api: BedrockApi) -> None:
    """The training waits, however often it is asked about, and its data is sent once; mended, it goes on as the same."""
    trouble.come(api, root)
    run(root, api, "readiness")
    run(root, api, "training")
    assert jobs_of(root, api) == [("001", "not submitted")]
    assert (api.jobs(), api.asked("s3:PUT")) == ([], 2)
    status = " ".join(status_of(root, api).split())
    assert trouble.said in status
    assert trouble.remedy in status
    told = doctor_of(root, api)["training"]
    assert (told["verdict"], trouble.said in told["found"], trouble.remedy in told["found"]) == ("warn", True, True)
    trouble.mend(api, root)
    finish(root, api)
    assert api.asked("s3:PUT") == 2


def test_credentials_that_expire_under_way(root: Path, api: BedrockApi) -> None:
    """A training that runs at AWS goes on there; here it is said why nobody knows how far it is, until somebody does."""
    run(root, api, "readiness")
    assert jobs_of(root, api) == [("001", "running")]
    _expire(api, root)
    run(root, api, "training")
    assert jobs_of(root, api) == [("001", "running")]
    status = " ".join(status_of(root, api).split())
    assert "Trouble at the last look" in status
    assert "credentials that have not expired" in status
    told = doctor_of(root, api)["training"]
    assert (told["verdict"], "ExpiredTokenException" in told["found"]) == ("warn", True)
    _renew(api, root)
    finish(root, api)


def test_an_outage_of_two_days(root: Path, api: BedrockApi) -> None:
    """Nobody answers for two days, longer than a training may take: it ended at AWS meanwhile, and is one with its model."""
    clock = FakeClock(datetime.now(UTC) - timedelta(days=3))  # what looks at the result has the real clock
    app = wiring.build(root, clock=clock, environ={}, logging=cast("Any", Quiet()))
    aws = Aws(POLICY.region, api.environ | credentials(root / "credentials"), tries=1)
    trainer = BedrockTrainer(root, clock, policy=POLICY, prices={NOVA: PRICE}, aws=aws)
    trainers: dict[str, Trainer] = {"bedrock": trainer}
    policy = TrainingPolicy(min_examples=COUNT, backend="bedrock", base_model=NOVA)
    training = Trainings(app.store, app.tree, clock, policy, app.datasets, trainers)
    app.runner.use(app.rooms._replace(training=training))
    with closing(app):
        app.runner.run("readiness", trigger="schedule", raise_errors=True)
        api.is_away = True
        for _ in range(16):
            clock.advance(DAY_S / 8)
            api.advance(DAY_S / 8)
            app.runner.run("training", trigger="heartbeat", raise_errors=True)
        assert jobs_of(root, api) == [("001", "running")]
        status = " ".join(status_of(root, api).split())
        assert "Trouble at the last look" in status
        assert "Wait: it is asked again by itself; check the network and the AWS status page if it lasts" in status
        told = doctor_of(root, api)
        assert told["training"]["verdict"] in {"warn", "fail"}
        assert told["backend"]["verdict"] == "fail"
        assert told["backend"]["remedy"].startswith("Wait: it is asked again by itself")
        api.is_away = False
        clock.advance(300)
        app.runner.run("training", trigger="heartbeat", raise_errors=True)
    assert jobs_of(root, api) == [("001", "succeeded")]
    assert (len(api.jobs()), len(api.models()), api.uploads()) == (1, 1, [])


def test_its_own_base_needs_no_setting(root: Path, api: BedrockApi) -> None:
    """Without training.base_model Bedrock trains Nova Micro, and status says so."""
    settings = root / "cortex-autolearn.toml"
    settings.write_text(settings.read_text().replace(f'base_model = "{NOVA}"\n', ""))
    assert f"bedrock on {NOVA}" in status_of(root, api)
    assert "backend" not in doctor_of(root, api)
    run(root, api, "readiness")
    assert [job.request["baseModelIdentifier"] for job in api.jobs()] == [NOVA]
    finish(root, api)


def test_a_value_of_the_base_s_own_is_said(root: Path, api: BedrockApi) -> None:
    """Where the base takes another number than the settings', whoever starts a training is told, and the event says so."""
    shown = call(root, api, "fine-tune", "trigger", "--set", "training.epochs=9").stdout
    said = "n_epochs is 2 instead of 9: this base takes 1 to 5"
    assert f"  adjusted: {said}\n" in shown
    assert api.jobs()[0].request["hyperParameters"] == {"epochCount": "2"}
    events = (root / layout.EVENTS).read_text().splitlines()
    (event,) = [one for one in map(json.loads, events) if one["event"] == "fine_tune_triggered"]
    assert event["adjusted"] == said


def test_a_region_that_is_changed_under_way(root: Path, api: BedrockApi) -> None:
    """The job is not taken for lost, and none is begun elsewhere; status and doctor say what to do."""
    run(root, api, "readiness")
    configure(root, region="us-west-2")
    run(root, api, "training")
    run(root, api, "readiness")
    assert jobs_of(root, api) == [("001", "running")]
    assert "Set bedrock.region and the credentials back" in " ".join(status_of(root, api).split())
    assert "Set bedrock.region" in doctor_of(root, api)["training"]["found"]
    configure(root)
    finish(root, api)


def test_a_backend_that_is_changed_under_way(root: Path, api: BedrockApi) -> None:
    """A training stays with the backend it was begun with, whatever trains next."""
    run(root, api, "readiness")
    settings = root / "cortex-autolearn.toml"
    settings.write_text(settings.read_text().replace('backend = "bedrock"', 'backend = "exemplar"'))
    api.advance(4_000)
    run(root, api, "training")
    assert jobs_of(root, api) == [("001", "succeeded")]
    assert api.uploads() == []


def test_one_that_takes_too_long_leaves_nothing(root: Path, api: BedrockApi) -> None:
    """Past its deadline a job is stopped; that it has stopped is waited for, and its data removed then."""
    clock = FakeClock(datetime.now(UTC) - timedelta(days=3))
    app = wiring.build(root, clock=clock, environ={}, logging=cast("Any", Quiet()))
    aws = Aws(POLICY.region, api.environ | credentials(root / "credentials"), tries=1)
    trainer = BedrockTrainer(root, clock, policy=POLICY, prices={NOVA: PRICE}, aws=aws)
    api.script.training_s = 10 * DAY_S
    policy = TrainingPolicy(min_examples=COUNT, backend="bedrock")
    training = Trainings(app.store, app.tree, clock, policy, app.datasets, {"bedrock": trainer})
    app.runner.use(app.rooms._replace(training=training))
    with closing(app):
        app.runner.run("readiness", trigger="schedule", raise_errors=True)
        clock.advance(DAY_S + 60)
        app.runner.run("training", trigger="heartbeat", raise_errors=True)
        assert jobs_of(root, api) == [("001", "running")]
        api.advance(600)
        clock.advance(600)
        app.runner.run("training", trigger="heartbeat", raise_errors=True)
    assert jobs_of(root, api) == [("001", "failed")]
    assert ([job.status for job in api.jobs()], api.uploads()) == (["Stopped"], [])
