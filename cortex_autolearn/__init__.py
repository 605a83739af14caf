"""Cortex improves itself: task records in, better models out.

The public faces are :func:`record`, for whoever writes task records, :class:`Router`, for whoever asks which model
serves a task, :class:`BoundaryError`, for whoever handles what they raise where a file fails them, and the command line
(``cortex-autolearn``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cortex_autolearn.model.version import VERSION
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.record import record

if TYPE_CHECKING:
    from cortex_autolearn.router import Router

__all__ = ["BoundaryError", "Router", "__version__", "record"]
__version__ = VERSION


def __getattr__(name: str) -> object:
    """Import the router when it is asked for: who only records does without."""
    if name == "Router":
        from cortex_autolearn.router import Router  # noqa: PLC0415 -- as said

        return Router
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
