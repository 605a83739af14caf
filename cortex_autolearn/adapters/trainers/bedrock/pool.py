"""A few threads for calls that may hang: whoever asks waits only so long, and no thread keeps a process from leaving.

That is what the standard library's pool does not do: it waits at the end of the process for what still runs.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_IDLE_S: Final = 30.0
"""A thread without work for so long ends."""

_Result = TypeVar("_Result")


class Pool:
    """Threads that are started as they are needed.

    Arguments:
        size: how many there are at most; what comes beyond that waits.
        name: what the threads are called.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._threads = 0
        self._asked = 0

    def run(self, work: Callable[[], _Result], timeout_s: float) -> _Result:
        """Have a thread do some work and return its result, or raise what it raised.

        Raises:
            TimeoutError: it was not done in time. What has begun goes on; what has not will not.
        """
        future: Future[_Result] = Future()
        with self._lock:
            self._queue.put((future, work))
            self._asked += 1
            if self._threads < min(self._size, self._asked):
                self._threads += 1
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
        try:
            return future.result(timeout_s)
        finally:
            future.cancel()

    def _work(self) -> None:
        while True:
            try:
                future, work = self._queue.get(timeout=_IDLE_S)
            except queue.Empty:
                with self._lock:
                    if self._queue.empty():
                        self._threads -= 1
                        return
                continue
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:  # noqa: BLE001 -- whoever asked is to have it
                    future.set_exception(error)
            with self._lock:
                self._asked -= 1
            del future, work
