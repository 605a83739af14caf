"""Says how the packages get here that come with an extra only."""

from __future__ import annotations

import importlib.util
import shlex
import sys


def remedy(extra: str) -> str:
    """Return how ``extra`` is added to the installation that runs: another one's ``pip`` would not help it.

    A container's image, and what uv makes, have no ``pip``.
    """
    python, what = shlex.quote(sys.executable), f"'cortex-autolearn[{extra}]'"
    if importlib.util.find_spec("pip") is not None:
        return f"Install it: {python} -m pip install {what}"
    return f"Build the image with --build-arg EXTRAS={extra}, or install it: uv pip install --python {python} {what}"
