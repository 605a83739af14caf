"""The version of this package, for what writes it down; ``cortex_autolearn.__version__`` is the same."""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
