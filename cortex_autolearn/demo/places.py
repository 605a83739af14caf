"""The folder of a demo: made or cleared before it, shown after it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cortex_autolearn.adapters import files
from cortex_autolearn.model import layout
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.status import look_for_daemon

if TYPE_CHECKING:
    from collections.abc import Sequence

MARKER: Final = ".cortex-autolearn-demo"
"""Stands in the folder of a demo, which the next one may then clear."""

_OURS: Final = (layout.COORDINATION, "llm-mesh", MARKER)
_PLACES: Final = (
    ("bronze, as written", layout.BRONZE),
    ("silver", layout.SILVER),
    ("quarantine", layout.QUARANTINE),
    ("gold", layout.ANALYTICS.rsplit("/", 1)[0]),
    ("high-quality outcomes", layout.OUTCOMES),
    ("datasets", layout.DATASETS),
    ("models", layout.MODELS),
    ("who serves, by master", layout.ROUTES),
    ("champions and their past", layout.MASTERS),
    ("tests", layout.AB_TESTS),
    ("state", layout.STATE),
    ("log and events", layout.LOG.rsplit("/", 1)[0]),
)


def prepare(root: Path | None) -> Path:
    """Return an empty folder for a demo: a new temporary one, or ``root``, cleared where an earlier demo used it.

    Raises:
        BoundaryError: ``root`` holds anything else, or a daemon runs on it.
    """
    if root is None:
        root = Path(tempfile.mkdtemp(prefix="cortex-demo-"))
    root = root.absolute()
    with files.wrap("prepare", root):
        root.mkdir(parents=True, exist_ok=True)
        if any(root.iterdir()) and not (root / MARKER).is_file():
            hint = "Name an empty or new folder: a demo never runs in a tree that is in use"
            raise BoundaryError("use for a demo", str(root), "it is not empty", hint=hint, retryable=False)
        if look_for_daemon(root).alive:
            hint = "Stop it, or name another folder"
            raise BoundaryError("use for a demo", str(root), "a daemon runs on it", hint=hint, retryable=False)
        for name in _OURS:
            place = root / name
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
        (root / MARKER).write_text("A demo of cortex-autolearn wrote this tree; the next one may clear it.\n")
    return root


def written(root: Path) -> str:
    """Return what was written below ``root``, and where."""
    there = [(what, where) for what, where in _PLACES if (root / where).exists()]
    return "\n".join([f"Files below {root}:", *[f"  {what:24} {where}" for what, where in there]])


def next_steps(commands: Sequence[tuple[str, str]]) -> str:
    """Return commands to type next, each with what it shows."""
    width = max(len(what) for what, _ in commands)
    return "\n".join(
        ["Next:", *[f"  {what + ':':{width + 1}}  cortex-autolearn {command}" for what, command in commands]]
    )
