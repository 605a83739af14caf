"""Says how the packages get here that come with an extra only."""

from __future__ import annotations

import shlex
import sys


def remedy(extra: str) -> str:
    """Return how ``extra`` is added to the installation that runs: another one's ``pip`` would not help it."""
    return f"Install it: {shlex.quote(sys.executable)} -m pip install 'cortex-autolearn[{extra}]'"
