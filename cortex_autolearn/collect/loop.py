"""An event loop for one run of scoring, which ends when the process is to end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from cortex_autolearn.ports import RunHandle

_LOOK_S: Final = 0.1
_GRACE_S: Final = 8.0
"""So long the calls under way may take to be answered, when the process is to end."""


def complete(work: Coroutine[Any, Any, None], run: RunHandle) -> None:
    """Do the work, in this thread. Once the process is to end, give what is under way a moment, then cancel it."""
    asyncio.run(_stoppable(work, run))


async def _stoppable(work: Coroutine[Any, Any, None], run: RunHandle) -> None:
    task = asyncio.get_running_loop().create_task(work)
    while not task.done() and not run.is_ending():
        await asyncio.wait([task], timeout=_LOOK_S)
    await asyncio.wait([task], timeout=_GRACE_S)
    task.cancel()  # once: a second time would cancel what the work does to clean up
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
