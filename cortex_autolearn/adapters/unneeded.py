"""Keeps packages from importing what they could use and we do not."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


@contextmanager
def without(name: str) -> Iterator[None]:
    """Let imports inside find no package of this name, though it be installed; one that was imported before stays."""
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]  # None stands for "there is none"
    if name in modules:
        yield
        return
    modules[name] = None
    try:
        yield
    finally:
        del modules[name]
