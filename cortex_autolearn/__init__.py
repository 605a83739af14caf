"""Cortex improves itself: task records in, better models out.

The public faces are :func:`record`, for whoever writes task records, and the command line (``cortex-autolearn``).
"""

from __future__ import annotations

from cortex_autolearn.record import record

__all__ = ["__version__", "record"]
__version__ = "0.1.0"
