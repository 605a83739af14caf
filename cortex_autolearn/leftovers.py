"""Temporary files that a process which was killed has left in our folders: removed when the next daemon begins.

What it had begun in files that the state knows is the store's to mend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cortex_autolearn.adapters import files
from cortex_autolearn.model import layout
from cortex_autolearn.model.records import SPLITS
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from cortex_autolearn.adapters.observe import Log
    from cortex_autolearn.adapters.tree import Tree

_OLD_S: Final = 3_600.0
_OUTPUT_FOLDERS: Final = (
    layout.SILVER,
    layout.QUARANTINE,
    layout.ANALYTICS,
    layout.REPORTS,
    layout.KPIS,
    layout.AUTOLEARN,
    layout.AB_TESTS,
    *(f"{folder}/{split}" for folder in (layout.TRAINING_VIEW, layout.OUTCOMES) for split in SPLITS),
)


def clear(tree: Tree, log: Log) -> None:
    """Remove those that are older than any process writes at one; what cannot be removed is told of and left."""
    for folder in _OUTPUT_FOLDERS:
        try:
            removed = files.clean_temporaries(tree.path(folder), _OLD_S)
        except BoundaryError as error:
            log.warning("leftovers_kept", error=str(error))
        else:
            if removed:
                log.info("leftovers_removed", folder=folder, files=removed)
