"""The environment of the live tests, kept apart: no other test can reach a provider, whatever is set.

``CORTEX_AUTOLEARN_LIVE=1`` and a key run them. The names are changed in the environment itself, so that the processes that
pytest starts find them too.
"""

from __future__ import annotations

import os

import pytest

_NAMES = ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "CREDENTIALS_DIRECTORY")

_wanted = os.environ.get("CORTEX_AUTOLEARN_LIVE") == "1"
for _name in _NAMES:
    _value = os.environ.pop(_name, None)
    if _wanted and _value is not None:
        os.environ[f"LIVE_{_name}"] = _value

LIVE = {name: os.environ[f"LIVE_{name}"] for name in _NAMES if f"LIVE_{name}" in os.environ}

live = pytest.mark.skipif(not LIVE, reason="live; CORTEX_AUTOLEARN_LIVE=1 and a key run it")
