"""An event loop for one run of scoring, which ends when the process is to end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from cortex_autolearn.collect.needs import ScoringRun

_LOOK_S: Final = 0.1
_GRACE_S: Final = 8.0
"""So long the calls under way may take to be answered, when the process is to end."""


def complete(work: Coroutine[Any, Any, None], run: ScoringRun) -> None:
    """Do the work, in this thread. Once the process is to end, give what is under way a moment, then cancel it."""
    asyncio.run(_stoppable(work, run))


async def _stoppable(work: Coroutine[Any, Any, None], run: ScoringRun) -> None:
    """Do the work; once the process is to end, give what is under way a moment, then cancel it."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    ends_at: float | None = None
    while not task.done():
        await asyncio.wait([task], timeout=_LOOK_S)
        if run.is_ending():
            ends_at = loop.time() + _GRACE_S if ends_at is None else ends_at
            if loop.time() >= ends_at:
                task.cancel()
    if not task.cancelled():
        task.result()
