"""What a supervisor says to the process: stop, stop at once, read the configuration again."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """Listens in the event loop of the main thread.

    Arguments:
        on_stop: called in the loop with the name of the first SIGTERM or SIGINT.
        on_leave: called with the name of the second one, wherever the process is; then it exits, with 128 and the
            signal's number.
        on_reload: called in the loop for every SIGHUP.
    """

    def __init__(
        self, *, on_stop: Callable[[str], None], on_leave: Callable[[str], None], on_reload: Callable[[], None]
    ) -> None:
        self._on_stop, self._on_leave, self._on_reload = on_stop, on_leave, on_reload

    def listen(self) -> None:
        """Begin to listen; the loop's end is the end of it, but for leaving at once."""
        loop = asyncio.get_running_loop()
        for number in _STOPPING:
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload)

    def _stop(self, number: signal.Signals) -> None:
        loop = asyncio.get_running_loop()
        for each in _STOPPING:
            # The next one must get through even when the loop is stuck, so it comes by another way.
            loop.remove_signal_handler(each)
            signal.signal(each, self._leave)
        self._on_stop(number.name)

    def _leave(self, number: int, _frame: FrameType | None) -> None:
        try:
            self._on_leave(signal.Signals(number).name)
        finally:
            os._exit(128 + number)
