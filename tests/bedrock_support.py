"""What the tests of the backend "bedrock" share: the loopback service with its S3, a trainer over it, a dataset."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from bedrock_api import BUCKET, KEY, NOVA, ROLE, SECRET, BedrockApi
from support import NOW
from test_trainers import freeze, spec_of

from cortex_autolearn.adapters.trainers.bedrock import Aws, BedrockTrainer
from cortex_autolearn.model.bedrock_policy import BedrockPolicy
from cortex_autolearn.model.training_jobs import DatasetRef, Price, RemoteJob, Spec, client_token
from cortex_autolearn.testing import FakeClock

LIVE: dict[str, str] = {}
"""What the SDK would have found, for the live test alone (``CORTEX_AUTOLEARN_LIVE=1``)."""
for _name in [name for name in os.environ if name.startswith("AWS_")]:
    _value = os.environ.pop(_name)
    if os.environ.get("CORTEX_AUTOLEARN_LIVE") == "1" or LIVE:
        LIVE[_name] = _value
os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"

POLICY = BedrockPolicy(bucket=BUCKET, role_arn=ROLE)
PRICE = Price(base=NOVA, as_of="2026-11-22", training=1.0, input=0.035, output=0.14, storage_per_month=1.95)


@cache
def moto() -> tuple[str, int]:
    """Start moto's server, once for a process; its thread ends with it."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - a second, once

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    return server.get_host_and_port()


@contextmanager
def service() -> Iterator[BedrockApi]:
    """The loopback service, for a module of tests: making the SDK's clients takes longer than most of them."""
    with BedrockApi(moto()) as api, tempfile.TemporaryDirectory() as folder:
        _SHARED[api.url] = api.environ | credentials(Path(folder))
        try:
            yield api
        finally:
            aws.cache_clear()


@contextmanager
def fresh(api: BedrockApi) -> Iterator[BedrockApi]:
    """The service as on its first day, with an empty bucket; it has said and heard nothing wrong."""
    api.begin()
    api.make_bucket(BUCKET)
    try:
        yield api
    finally:
        for bucket in tuple(api.owners):
            api.empty(bucket)
    assert api.breaches == []


_SHARED: dict[str, dict[str, str]] = {}


@cache
def aws(url: str, region: str, tries: int) -> Aws:
    """Return the line that the tests of a module share."""
    return Aws(region, _SHARED[url], tries=tries)


def credentials(folder: Path, *, key: str = KEY, secret: str = SECRET, token: str = "") -> dict[str, str]:
    """Write what systemd would hand over; return what names it."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["[default]", f"aws_access_key_id = {key}", f"aws_secret_access_key = {secret}"]
    (folder / "aws_credentials").write_text("\n".join(lines + [f"aws_session_token = {token}"] * bool(token)) + "\n")
    return {"CREDENTIALS_DIRECTORY": str(folder)}


class Rig:
    """A ROOT with a dataset, and a trainer over the loopback service."""

    def __init__(
        self, root: Path, api: BedrockApi, *, base: str = NOVA, policy: BedrockPolicy = POLICY, tries: int = 1
    ) -> None:
        self.root, self.api, self.base, self.policy = root, api, base, policy
        self.clock = FakeClock(NOW)
        self.dataset = freeze(root)
        self.environ = api.environ | credentials(root / "credentials")
        self.prices = {NOVA: PRICE}
        self.aws = aws(api.url, policy.region, tries)

    def alone(self, tries: int = 1) -> Rig:
        """Take a line of its own, with the credentials of its own folder."""
        self.aws = Aws(self.policy.region, self.environ, tries=tries)
        return self

    def trainer(self) -> BedrockTrainer:
        return BedrockTrainer(self.root, self.clock, policy=self.policy, prices=self.prices, aws=self.aws)

    def spec(self, *, attempt: int = 1, **changes: Any) -> Spec:
        asked = spec_of(self.dataset, backend="bedrock", attempt=attempt, base=self.base)
        return msgspec.structs.replace(asked, **changes)

    def doomed(self) -> Spec:
        self.api.script.outcome = "Failed"
        return self.spec()

    def move_on(self, job: RemoteJob) -> None:
        self.api.advance(1_200)

    def jobs(self) -> int:
        return len(self.api.jobs())

    def made(self) -> RemoteJob:
        """Lead a job to its end."""
        spec = self.spec()
        job = self.trainer().submit(spec, client_token(spec))
        while not job.ended:
            self.move_on(job)
            job = self.trainer().poll(job.job_id)
        return job


__all__ = ["POLICY", "PRICE", "DatasetRef", "Rig", "credentials", "fresh", "moto", "service"]
