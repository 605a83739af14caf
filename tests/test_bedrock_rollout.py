"""A model that Bedrock made, on its way through rollout: deployed, routed to, and what it used torn down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from bedrock_rules import breaches, service_model
from bedrock_support import Rig, fresh, service
from rollout_support import BETTER, MASTER, MODEL, WORSE, Town
from support import NOW

from cortex_autolearn.model.trainings import Model
from cortex_autolearn.rollout.job import Rollout
from cortex_autolearn.rollout.steps import Done
from cortex_autolearn.router import Router
from cortex_autolearn.testing import FakeClock


class CloudTown(Town):
    """A town whose models Bedrock serves."""

    def __init__(self, root: Path, rig: Rig) -> None:
        self.rig = rig
        super().__init__(root, clock=FakeClock(NOW))

    def restart(self) -> None:
        trainers = {"bedrock": self.rig.trainer()}
        rooms = self.rooms
        self.rollout = Rollout(
            rooms.store, rooms.tree, self.clock, self.policy, rooms.readers, trainers, rooms.medallion.taken_in_us
        )

    def train(self) -> None:
        """Let Bedrock have made a model."""
        spec = self.rig.spec()
        job = self.rig.made()
        assert job.model is not None
        ref = msgspec.structs.replace(job.model, model_id=MODEL)
        with self.rooms.store.write() as transaction:
            transaction.put_model(Model(ref, MASTER, spec.dataset.dataset_id, "bedrock", job.metrics, self.now_us))


@pytest.fixture
def town(tmp_path: Path) -> Iterator[CloudTown]:
    with service() as bedrock, fresh(bedrock) as api:
        made = CloudTown(tmp_path / "town", Rig(tmp_path / "rig", api))
        with made:
            made.past()
            made.train()
            api.tick_s = 30.0
            yield made


def test_a_better_challenger_is_served_by_its_deployment(town: CloudTown) -> None:
    """The route names the deployment, and a choice writes what converse takes; promoted, deployment and model stay."""
    town.skills[MODEL] = BETTER
    town.until(lambda: town.phase() == "watching")
    (deployment,) = town.rig.api.deployments()
    serving = town.routes()[MASTER]["champion"]
    assert (serving["kind"], serving["model"], serving["version"]) == ("bedrock", deployment.arn, MODEL)
    choices = [Router(town.root).choose(MASTER, f"task-{number}") for number in range(20)]
    choice = next(one for one in choices if one.version == MODEL)
    request = choice.request(system="Be brief.", input="Look at host seven")
    assert request["modelId"] == deployment.arn
    assert breaches(service_model("bedrock-runtime").operation_model("Converse").input_shape, request) == []
    town.until(lambda: town.phase() == "steady")
    town.run()
    assert (len(town.rig.api.deployments()), len(town.rig.api.models())) == (1, 1)
    assert not town.handle.troubles


@pytest.mark.parametrize("keeps", [False, True])
def test_what_a_rejected_challenger_used_is_torn_down(town: CloudTown, keeps: bool) -> None:  # noqa: FBT001 -- a case
    """A model that loses its test loses its deployment and is deleted, unless the settings keep it; deployed again by a
    person, the one that is gone says so."""
    town.rig.policy = msgspec.structs.replace(town.rig.policy, keep_rejected=keeps)
    town.restart()
    town.skills[MODEL] = WORSE
    town.until(lambda: town.phase() == "testing", most=2)
    assert len(town.rig.api.deployments()) == 1
    town.until(lambda: town.phase() == "steady")
    town.run()
    assert town.kinds()[-1] == "auto_rollback"
    assert (len(town.rig.api.deployments()), len(town.rig.api.models())) == (0, int(keeps))
    assert not town.handle.troubles
    with town.rooms.store.read() as reading:
        model = reading.model(MODEL)
        assert reading.endpoints() == []
    assert model is not None
    again = town.rig.trainer().deploy(model.ref, "by hand")
    assert again.state == ("creating" if keeps else "failed")


def test_a_test_that_was_given_up_costs_no_model(town: CloudTown) -> None:
    """Aborted by a person it was not found worse: its deployment goes, the model stays to be tested again."""
    town.skills[MODEL] = WORSE
    town.until(lambda: town.phase() == "testing", most=2)
    assert isinstance(town.rollout.abort(f"{MASTER}-{MODEL}", by="me", why="the wrong week"), Done)
    town.run()
    assert (len(town.rig.api.deployments()), len(town.rig.api.models())) == (0, 1)


def test_a_deployment_that_somebody_deleted_is_made_again(town: CloudTown) -> None:
    """The hourly look finds it gone, and the model gets another one under another name."""
    town.skills[MODEL] = BETTER
    town.until(lambda: town.phase() == "testing", most=2)
    (first,) = town.rig.api.deployments()
    town.rig.api.regions["us-east-1"].deployments.clear()
    town.clock.advance(3_700)
    town.until(lambda: len(town.rig.api.deployments()) == 1, most=5)
    (second,) = town.rig.api.deployments()
    assert second.request["modelDeploymentName"] != first.request["modelDeploymentName"]
