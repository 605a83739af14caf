"""Our reading of a task record, whoever wrote it.

The fleet names one thing in many ways; ``table`` says which name wins, ``values`` and ``times`` what the values mean,
and :class:`TaskReader` puts a task together. Nothing is decided here about a task: whether it becomes silver is
``medallion.silver``'s business, whether it is good is ``collect.gate``'s.
"""

from __future__ import annotations

from cortex_autolearn.canonical.reader import ScoreScale, TaskReader
from cortex_autolearn.canonical.readers import Readers
from cortex_autolearn.canonical.times import NO_RANK
from cortex_autolearn.canonical.values import OUTPUT_CHARS_CAP
from cortex_autolearn.model.layout import master_name

__all__ = ["NO_RANK", "OUTPUT_CHARS_CAP", "Readers", "ScoreScale", "TaskReader", "master_name"]
