"""A real API like OpenAI's: opt-in, and only asked questions, which cost nothing.

``CORTEX_AUTOLEARN_LIVE=1`` and ``OPENAI_API_KEY`` run it, at ``OPENAI_BASE_URL`` or OpenAI's own address, about the
base ``CORTEX_AUTOLEARN_LIVE_BASE``.
"""

from __future__ import annotations

import os
from pathlib import Path

from live import LIVE_OPENAI, live_openai
from openai_api import BASE
from openai_support import PRICE, openai_spec
from support import NOW
from test_trainers import freeze

from cortex_autolearn.adapters.trainers.openai_compat import OpenaiTrainer
from cortex_autolearn.model.openai_policy import OpenaiPolicy
from cortex_autolearn.model.training_jobs import client_token
from cortex_autolearn.testing import FakeClock


@live_openai
def test_the_api_is_asked_what_stands_in_the_way(tmp_path: Path) -> None:
    """Nothing stands in the way of a training, its cost is known before, and no job of it exists after."""
    base = os.environ.get("CORTEX_AUTOLEARN_LIVE_BASE", BASE)
    spec = openai_spec(freeze(tmp_path), base=base)
    trainer = OpenaiTrainer(tmp_path, FakeClock(NOW), policy=OpenaiPolicy(), prices={base: PRICE}, environ=LIVE_OPENAI)
    problems = trainer.preflight(spec)
    print(*(f"{problem.text}. {problem.remedy}" for problem in problems), sep="\n")
    assert not [problem for problem in problems if problem.blocks]
    estimate = trainer.estimate(spec)
    print(estimate)
    assert estimate.training_usd is not None
    assert trainer.find(client_token(spec)) is None
