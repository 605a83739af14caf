"""A promise that is held to, by its name."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class BrokenError(AssertionError):
    """A promise that did not hold."""

    def __init__(self, promise: str, text: str) -> None:
        super().__init__(f"{promise}: {text}")
        self.promise = promise


def require(promise: str, holds: object, text: str | Callable[[], str]) -> None:
    """Raise BrokenError unless something holds."""
    if not holds:
        raise BrokenError(promise, text if isinstance(text, str) else text())


def require_same(promise: str, what: str, told: Counter[Any], expected: Iterable[Any]) -> None:
    """Raise BrokenError unless every one of these was told, as often as it is there."""
    wanted = Counter(expected)
    require(promise, told == wanted, lambda: f"{what}: told {told - wanted}, not told {wanted - told}")


def split_of(task_id: str) -> str:
    """Return the split that an id decides, by the rule as it is specified."""
    return "training" if int(sha256(task_id.encode()).hexdigest()[:8], 16) % 100 < 80 else "validation"
