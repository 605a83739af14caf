"""Keeps what is too much for memory in a file that nobody else sees and that ends with the process."""

from __future__ import annotations

import os
from array import array
from typing import TYPE_CHECKING, BinaryIO

from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from types import TracebackType


class Scratch:
    """Bytes by number, in the order in which they were put; a context that closes the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._starts = array("q", [0])
        self._unwritten = False

    def put(self, data: bytes) -> int:
        """Keep bytes and return their number.

        Raises:
            BoundaryError: there is no room for them.
        """
        try:
            self._file.write(data)
        except OSError as error:
            raise _full(error) from error
        self._starts.append(self._starts[-1] + len(data))
        self._unwritten = True
        return len(self._starts) - 2

    def get(self, number: int) -> bytes:
        """Return the bytes of a number."""
        if self._unwritten:
            try:
                self._file.flush()
            except OSError as error:
                raise _full(error) from error
            self._unwritten = False
        start = self._starts[number]
        return os.pread(self._file.fileno(), self._starts[number + 1] - start, start)

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class Triples:
    """Word triples in a :class:`Scratch`; implements ``leakage.Shelf``."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch

    def put(self, triples: array[int]) -> int:
        """Keep triples and return their key."""
        return self._scratch.put(triples.tobytes())

    def get(self, key: int) -> array[int]:
        """Return what was kept under a key."""
        found = array("q")
        found.frombytes(self._scratch.get(key))
        return found


def _full(error: OSError) -> BoundaryError:
    hint = "A dataset is put together beside the state: free as much space there as the outcomes take"
    return BoundaryError("write to", "a temporary file", error.strerror or str(error), hint=hint, retryable=False)
