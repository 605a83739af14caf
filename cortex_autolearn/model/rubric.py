"""By what the judge scores: a text and its version, the package's or one of a master's own.

The package's text has the version its file is named after, and never changes under that name. A text of an operator's
is versioned by its content, so that scores made by another wording are never taken for scores by this one.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

CURRENT: Final = "v1"
"""The version of the package's rubric."""


class Rubric(NamedTuple):
    """A text that tells the judge how to score, and its version."""

    version: str
    text: str


class Rubrics(NamedTuple):
    """The rubric for all masters, and those that some have of their own."""

    common: Rubric
    of_master: Mapping[str, Rubric]

    def of(self, master: str | None) -> Rubric:
        """Return the rubric that a master's tasks are scored by."""
        return self.common if master is None else self.of_master.get(master, self.common)

    def versions(self) -> dict[str | None, str]:
        """Return the version of each master's own rubric, and under None the one of all others."""
        return {None: self.common.version, **{master: own.version for master, own in self.of_master.items()}}


def own_rubric(master: str, text: str) -> Rubric:
    """Return a rubric of an operator's, under a version made of its content."""
    return Rubric(f"{master}@{sha256(text.encode()).hexdigest()[:8]}", text)
