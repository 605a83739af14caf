"""How long to keep asking a provider that is busy."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from cortex_autolearn.adapters.claude import faults
from cortex_autolearn.adapters.claude.line import Fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_Made = TypeVar("_Made")


class Patience(NamedTuple):
    """How long to keep asking a provider that is busy: so many tries of one request, and so many seconds in all.

    Between two tries lies what the provider asked for, else ``first_s`` doubled each time up to ``most_s``, less up to
    half by chance. Where it asks for more than is left, it is not waited for: the next run comes soon enough.
    ``answer_s`` is how long a try waits for the next bytes of an answer; a batch that is sent waits five times as long.
    """

    tries: int = 6
    total_s: float = 120.0
    first_s: float = 1.0
    most_s: float = 30.0
    answer_s: float = 120.0


class Run:
    """Requests that wait for a busy provider together.

    ``stopped`` ends every wait: what has not been answered by then is given up. ``lost`` tells that one that was given
    up had been sent before, and its answer got lost: it may have been done, and charged, for nobody.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._free_at = 0.0
        self.stopped = asyncio.Event()
        self.lost = False

    async def patiently(self, attempt: Callable[[], Awaitable[_Made]], *, is_paid: bool = False) -> _Made:
        """Make a request, again where that may help.

        Arguments:
            attempt: makes it once.
            is_paid: its answer costs money: where one got lost, no other is asked for.

        Raises:
            Fault: that of the last try.
        """
        clock = asyncio.get_running_loop().time
        begun = clock()
        tries = 0
        lost = False
        while True:
            # A limit that one request has met is not run into by the others.
            if (pause := self._free_at - clock()) > 0 and not await self._wait(pause):
                raise Fault("given up", sent=False)
            try:
                tries += 1
                return await attempt()
            except Fault as fault:
                is_lost = faults.may_be_charged(fault)
                lost = lost or is_lost
                wait = self._backoff(fault, tries)
                over = tries >= self._patience.tries or clock() + wait - begun > self._patience.total_s
                over = over or self.stopped.is_set() or not faults.may_pass(fault) or (is_paid and is_lost)
                if not over and fault.retry_after_s is not None:
                    self._free_at = max(self._free_at, clock() + wait)
                if over or not await self._wait(wait):
                    self.lost = self.lost or lost
                    raise

    def _backoff(self, fault: Fault, tries: int) -> float:
        if fault.retry_after_s is not None:
            return fault.retry_after_s
        # Chance keeps several processes from coming back at the same moment.
        longest = min(self._patience.first_s * 2.0 ** (tries - 1), self._patience.most_s)
        return longest * random.uniform(0.5, 1)  # noqa: S311 - spreads, protects nothing

    async def _wait(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self.stopped.wait(), seconds)
        except TimeoutError:
            return True
        return False
