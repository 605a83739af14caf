"""Reads the rubrics: the package's text, and those that an operator has written for single masters."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from cortex_autolearn.adapters.files import wrap
from cortex_autolearn.model.rubric import CURRENT, Rubric, Rubrics, own_rubric

if TYPE_CHECKING:
    from pathlib import Path

    from cortex_autolearn.model.judge_policy import JudgePolicy

_FOLDER = "cortex_autolearn.collect.rubrics"


def load(policy: JudgePolicy, root: Path) -> Rubrics:
    """Read the rubrics as they are now.

    Raises:
        BoundaryError: one of an operator's cannot be read.
    """
    text = (resources.files(_FOLDER) / f"{CURRENT}.md").read_text("utf-8")
    of_master = {}
    for own in policy.rubrics:
        path = root / own.file
        with wrap("read the rubric", path):
            of_master[own.master] = own_rubric(own.master, path.read_bytes().decode("utf-8", "replace"))
    return Rubrics(Rubric(CURRENT, text), of_master)
