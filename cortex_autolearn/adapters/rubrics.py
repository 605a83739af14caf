"""Reads the rubrics: the package's text, and those that an operator has written for single masters."""

from __future__ import annotations

import os
import stat
from importlib import resources
from typing import TYPE_CHECKING, Final

from cortex_autolearn.adapters.files import kind_of, wrap
from cortex_autolearn.model.rubric import CURRENT, Rubric, Rubrics, own_rubric
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from pathlib import Path

    from cortex_autolearn.model.judge_policy import JudgePolicy

_FOLDER = "cortex_autolearn.collect.rubrics"
_MOST_BYTES: Final = 256 << 10
"""More than any rubric: all of it goes along with every single task."""


def load(policy: JudgePolicy, root: Path) -> Rubrics:
    """Read the rubrics as they are now.

    Raises:
        BoundaryError: one of an operator's cannot be read, or is none.
    """
    text = (resources.files(_FOLDER) / f"{CURRENT}.md").read_text("utf-8")
    of_master = {}
    for number, own in enumerate(policy.rubrics):
        own_text = _read(root / own.file, f"judge.rubrics[{number}].file").decode("utf-8", "replace")
        of_master[own.master] = own_rubric(own.master, own_text)
    return Rubrics(Rubric(CURRENT, text), of_master)


def _read(path: Path, setting: str) -> bytes:
    operation = f"read the rubric that {setting} names"
    with wrap(operation, path):
        try:
            mode = path.stat().st_mode  # before opening: opening a device may already do something
            if stat.S_ISREG(mode):
                with open(path, "rb", opener=_open_without_waiting) as file:
                    data = file.read(_MOST_BYTES + 1)
                cause = "" if data.strip() else "it is empty"
                cause = f"it holds more than {_MOST_BYTES:,} bytes" if len(data) > _MOST_BYTES else cause
            else:
                cause = f"it is {kind_of(mode)}"
        except FileNotFoundError:
            cause = "there is no such file"
        except ValueError as error:
            cause = str(error)  # a path with a NUL
    if cause:
        hint = f"Let {setting} name a text of at most {_MOST_BYTES:,} bytes, or leave its entry out"
        raise BoundaryError(operation, ascii(str(path)), cause, hint=hint, retryable=False)
    return data


def _open_without_waiting(path: str, flags: int) -> int:
    """Open at once what may have become a FIFO meanwhile: a plain open waits for its writer, for ever."""
    return os.open(path, flags | os.O_NONBLOCK)
