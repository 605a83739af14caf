"""One look for all who ask: what takes long to find out is found out once, and is good for a while."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from cortex_autolearn.adapters.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_PATIENCE_S: Final = 8.0  # who scrapes waits for 10 s, mostly: numbers of the process come before that
_LEAST_S: Final = 1.0
_REST: Final = 20
"""A look rests for this many times as long as it took, so that asking again and again costs at most 5 % of a core."""


class Shared(Generic[T]):
    """A value that a thread finds out.

    Arguments:
        make: finds it out; blocks.
        name: of the thread.
    """

    def __init__(self, make: Callable[[], T], name: str) -> None:
        self._make, self._name = make, name
        self._look: asyncio.Task[T] | None = None
        self._good_until = 0.0

    async def get(self) -> T:
        """Return it, at most as old as said above.

        Raises:
            TimeoutError: it takes too long. Whoever asks next waits for the same look.
        """
        if self._look is None or (self._look.done() and self._is_old(self._look)):
            self._look = asyncio.get_running_loop().create_task(self._find_out())
            self._look.add_done_callback(_seen)
        async with asyncio.timeout(_PATIENCE_S):
            return await asyncio.shield(self._look)

    def _is_old(self, look: asyncio.Task[T]) -> bool:
        return look.cancelled() or time.monotonic() >= self._good_until

    async def _find_out(self) -> T:
        began = time.monotonic()
        try:
            return await in_thread(self._make, self._name)
        finally:
            ended = time.monotonic()
            self._good_until = ended + max(_LEAST_S, _REST * (ended - began))


def _seen(look: asyncio.Task[T]) -> None:
    """Take note of what a look failed of, in case that nobody waits for it any more."""
    if not look.cancelled():
        look.exception()
