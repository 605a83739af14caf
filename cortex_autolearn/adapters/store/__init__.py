"""The state: one SQLite file, the files that are committed with it, and one writer at a time.

``database`` opens it and runs transactions, ``outputs`` appends to and replaces the files a transaction commits with
itself, and every room has a module with its own questions.
"""

from __future__ import annotations

from cortex_autolearn.adapters.store.database import Store, Transaction

__all__ = ["Store", "Transaction"]
