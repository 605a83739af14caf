"""A lock that processes share: held by an open file, so that whoever is killed lets go of it.

The file stays behind and means nothing by itself; what stands in it tells a person who held the lock last.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import orjson

from cortex_autolearn.adapters import files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

_NOTE_BYTES: Final = 4_096


_WAIT_STEP_S: Final = 0.05


class FileLock:
    """One lock, by the path of its file; taken and let go of by one thread.

    Two objects exclude each other within one process as well.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened = -1

    def acquire(self) -> bool:
        """Take the lock if nobody holds it; never waits.

        Raises:
            BoundaryError: the file cannot be opened, or the file system has no locks.
        """
        assert self._opened < 0, "taken already"
        with files.wrap("lock", self._path):
            # Its own folder comes back; without the one above it ROOT moved, or its disk is gone: none is made there.
            files.make_folder(self._path.parent, self._path.parent.parent)
            opened = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(opened)
                return False
            except BaseException:
                os.close(opened)
                raise
        self._opened = opened
        return True

    def release(self) -> None:
        """Let go of the lock; does nothing when it is not held."""
        opened, self._opened = self._opened, -1
        if opened >= 0:
            os.close(opened)

    def note(self, holder: dict[str, Any]) -> None:
        """Write down who holds the lock, for :func:`holder`.

        Raises:
            BoundaryError: it cannot be written.
        """
        line = orjson.dumps(holder, option=orjson.OPT_APPEND_NEWLINE)
        with files.wrap("write to", self._path):
            os.ftruncate(self._opened, 0)
            os.pwrite(self._opened, line, 0)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock, after whoever holds it now."""
    with FileLock(path) as lock:
        while not lock.acquire():
            time.sleep(_WAIT_STEP_S)
        yield


def is_held(path: Path) -> bool:
    """Tell whether anybody holds the lock. Asking takes it for a moment, shared: others who ask are not misled.

    Raises:
        BoundaryError: the file cannot be opened.
    """
    with files.wrap("look at the lock", path):
        try:
            opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(opened)
    return False


def holder(path: Path) -> dict[str, Any]:
    """Return what the last holder noted about itself; nothing where that cannot be read."""
    try:
        with path.open("rb") as file:
            noted = orjson.loads(file.read(_NOTE_BYTES))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}
