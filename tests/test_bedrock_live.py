"""Amazon Bedrock itself: opt-in, up to preflight and estimate, which spend nothing and change nothing.

``CORTEX_AUTOLEARN_LIVE=1``, credentials that the SDK finds, and ``LIVE_BEDROCK_ROLE`` and ``LIVE_BEDROCK_BUCKET`` run
it, for the base in ``LIVE_BEDROCK_BASE`` (Nova Micro) in ``LIVE_BEDROCK_REGION`` (us-east-1).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from bedrock_support import LIVE
from test_trainers import freeze, spec_of

from cortex_autolearn.adapters.clock import SystemClock
from cortex_autolearn.adapters.trainers.bedrock import DEFAULT, BedrockTrainer
from cortex_autolearn.model.bedrock_policy import BedrockPolicy
from cortex_autolearn.model.training_jobs import client_token

_WANTED = os.environ.get("CORTEX_AUTOLEARN_LIVE") == "1" and "LIVE_BEDROCK_ROLE" in os.environ


@pytest.mark.skipif(not _WANTED, reason="live; CORTEX_AUTOLEARN_LIVE=1, credentials and LIVE_BEDROCK_ROLE run it")
def test_preflight_and_estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account is let in, the base is there and not retired, the bucket is the role's; nothing was submitted."""
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name)
    for name, value in LIVE.items():
        monkeypatch.setenv(name, value)
    policy = BedrockPolicy(
        region=os.environ.get("LIVE_BEDROCK_REGION", "us-east-1"),
        bucket=os.environ["LIVE_BEDROCK_BUCKET"],
        role_arn=os.environ["LIVE_BEDROCK_ROLE"],
    )
    base = os.environ.get("LIVE_BEDROCK_BASE", DEFAULT)
    spec = spec_of(freeze(tmp_path), backend="bedrock", base=base)
    trainer = BedrockTrainer(tmp_path, SystemClock(), policy=policy)
    problems = trainer.preflight(spec)
    estimate = trainer.estimate(spec)
    print(*(problem.text for problem in problems), estimate, sep="\n")
    assert [problem.text for problem in problems if problem.blocks] == []
    assert estimate.tokens > 0
    assert trainer.find(client_token(spec)) is None
