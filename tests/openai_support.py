"""Trainers against the loopback service of ``openai_api``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from openai_api import BASE, OpenaiApi, Script
from support import NOW
from test_trainers import freeze, spec_of

from cortex_autolearn.adapters.trainers.openai_compat import OpenaiTrainer
from cortex_autolearn.model.openai_policy import OpenaiPolicy
from cortex_autolearn.model.training_jobs import Price, RemoteJob, Spec
from cortex_autolearn.testing import FakeClock

if TYPE_CHECKING:
    from cortex_autolearn.model.training_jobs import DatasetRef

PRICE = Price(base=BASE, as_of="2026-11-22", training=5.0)


def trainer_of(
    root: Path,
    api: OpenaiApi,
    clock: FakeClock | None = None,
    *,
    environ: dict[str, str] | None = None,
    prices: dict[str, Price] | None = None,
    **policy: Any,
) -> OpenaiTrainer:
    return OpenaiTrainer(
        root,
        clock or FakeClock(NOW),
        policy=OpenaiPolicy(**({"base_url": api.url} | policy)),
        prices={BASE: PRICE} if prices is None else prices,
        environ={"OPENAI_API_KEY": api.key} if environ is None else environ,
    )


def openai_spec(dataset: DatasetRef, *, attempt: int = 1, **changes: Any) -> Spec:
    knobs: dict[str, Any] = {"n_epochs": 3, "batch_size": 32}
    changes = {"backend": "openai_compat", "base": BASE, "hyperparameters": knobs} | changes
    return spec_of(dataset, attempt=attempt, **changes)


class OpenaiRig:
    """The outside world of the conformance suite."""

    policy: dict[str, Any] = {}

    def __init__(self, root: Path, api: OpenaiApi) -> None:
        self.root, self.api, self.clock = root, api, FakeClock(NOW)
        self.dataset = freeze(root)

    def trainer(self) -> OpenaiTrainer:
        return trainer_of(self.root, self.api, self.clock, **self.policy)

    def spec(self, *, attempt: int = 1) -> Spec:
        return openai_spec(self.dataset, attempt=attempt)

    def doomed(self) -> Spec:
        self.api.script = Script(outcome="failed")
        return self.spec()

    def move_on(self, job: RemoteJob) -> None:
        self.clock.advance(60)
        self.api.tick()

    def jobs(self) -> int:
        return len(self.api.jobs)
