"""The environment of the live tests, kept apart: no other test can reach a provider, whatever is set.

``CORTEX_AUTOLEARN_LIVE=1`` and a key run them. The names are changed in the environment itself, so that the processes that
pytest starts find them too.
"""

from __future__ import annotations

import os

import pytest

_CLAUDE = ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "CREDENTIALS_DIRECTORY")
_OPENAI = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")

_wanted = os.environ.get("CORTEX_AUTOLEARN_LIVE") == "1"
for _name in (*_CLAUDE, *_OPENAI):
    _value = os.environ.pop(_name, None)
    if _wanted and _value is not None:
        os.environ[f"LIVE_{_name}"] = _value

LIVE = {name: os.environ[f"LIVE_{name}"] for name in _CLAUDE if f"LIVE_{name}" in os.environ}
LIVE_OPENAI = {name: os.environ[f"LIVE_{name}"] for name in _OPENAI if f"LIVE_{name}" in os.environ}

live = pytest.mark.skipif(not LIVE, reason="live; CORTEX_AUTOLEARN_LIVE=1 and a key run it")
live_openai = pytest.mark.skipif(
    "OPENAI_API_KEY" not in LIVE_OPENAI, reason="live; CORTEX_AUTOLEARN_LIVE=1 and OPENAI_API_KEY run it"
)
