"""What stands in an output file beyond its committed length: ours, and cut; or another writer's, and kept first.

A killed process of ours leaves whole lines of its own and at most one that is torn. The original collector of Cortex
writes into the same folders as ours; one that still runs appends to our files. Its lines are not read here, and must
not be lost either. Which of the two a tail is follows from its lines alone: those of ours say where they come from.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cortex_autolearn.adapters import files
from cortex_autolearn.model import layout
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_CHUNK_BYTES: Final = 1 << 20
_LONGEST_LINE_BYTES: Final = 256 << 20
_NOTHING: Final = b" \t\r\n\0"  # a power cut may leave zeros


class NotKeptError(BoundaryError):
    """What another writer appended could not be copied, so the file must not be cut yet."""


class _Source(msgspec.Struct):
    file: str
    offset: int


class _Outcome(msgspec.Struct):
    """What together only an outcome line of ours has."""

    task_id: str
    split: str
    collected_at: str
    source: _Source


class _Example(msgspec.Struct, forbid_unknown_fields=True):
    """A chat example, and nothing else."""

    system: str
    messages: list[dict[str, str]]


_LINES: Final[dict[str, tuple[bytes, Callable[[bytes], Any]]]] = {
    layout.OUTCOMES: (b'{"task_id":"', msgspec.json.Decoder(_Outcome).decode),
    layout.TRAINING_VIEW: (b'{"system":"', msgspec.json.Decoder(_Example).decode),
}
"""How lines of ours begin and what reads them, in the folders that others write into as well."""


def keep_foreign(path: Path, relative: str, opened: int, start: int) -> None:
    """Copy what stands from ``start`` on to ``NAME.orphan-…``, durably, unless a process of ours left it there.

    The copy is named after the file's last change, so that a kill before the cut has it written once more, not twice.

    Arguments:
        path: of the file.
        relative: the same, below ROOT.
        opened: the file, open for reading.
        start: in bytes; what stands before is ours.

    Raises:
        NotKeptError: there is something to keep, and it cannot be written.
        OSError: it cannot be read.
    """
    form = next((_LINES[folder] for folder in _LINES if relative.startswith(f"{folder}/")), None)
    status = os.fstat(opened)
    if form is None or start >= status.st_size or all(_is_ours(line, *form) for line in _lines(opened, start)):
        return
    try:
        files.replace(path.with_name(f"{path.name}.orphan-{status.st_mtime_ns}"), _chunks(opened, start))
    except BoundaryError as error:
        raise NotKeptError(
            "keep what another program appended to", str(path), error.cause, hint=error.hint, retryable=error.retryable
        ) from error


def _is_ours(line: bytes, head: bytes, decode: Callable[[bytes], Any]) -> bool:
    if not line.strip(_NOTHING):
        return True
    try:
        decode(line)
    except (msgspec.ValidationError, RecursionError, UnicodeDecodeError):  # ours are not nested, and are UTF-8
        return False
    except msgspec.DecodeError:
        # No JSON: the last line of a killed process, torn anywhere.
        return not line.endswith(b"\n") and (line.startswith(head) or head.startswith(line))
    return line.startswith(head)


def _lines(opened: int, start: int) -> Iterator[bytes]:
    with open(opened, "rb", closefd=False) as file:
        file.seek(start)
        while line := file.readline(_LONGEST_LINE_BYTES):
            yield line


def _chunks(opened: int, start: int) -> Iterator[bytes]:
    while chunk := os.pread(opened, _CHUNK_BYTES, start):
        yield chunk
        start += len(chunk)
