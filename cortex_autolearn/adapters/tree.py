"""The tree below ROOT: what is there, and what of it may be read.

The tree is shared with agents and shell scripts, so what lies there is not trusted to be a regular file in its place.
Where files belong is ``model.layout``'s business, what is in them their readers'; how they are written, ``files``'.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from cortex_autolearn.adapters.files import kind_of, replace, require_regular, wrap
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_RETRIES: Final = 3
_GONE: Final = (errno.ENOENT, errno.ENOTDIR)


@dataclass(frozen=True, slots=True)
class Entry:
    """One regular file that a scan found. A link's numbers are those of the file it leads to."""

    relative: str
    """Its path below ROOT, written with ``/``."""
    device: int
    inode: int
    size: int
    """In bytes."""
    mtime_ns: int
    """Nanoseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A directory entry with the right suffix that may not be read, and why; for the caller to log once."""

    relative: str
    """Its path below ROOT; bytes that are not UTF-8 are written as escapes."""
    reason: str
    """A short noun phrase from a small fixed set."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What a folder holds, both lists sorted by name."""

    entries: list[Entry]
    refused: list[Refused]


class Tree:
    """The tree below ROOT. Holds no open file; everything is looked up afresh, as others change it all the time.

    A folder may be a link to anywhere: an operator put it there, to another disk say. A *file* that is a link must
    lead to a place below the real ROOT or below the real folder it stands in.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def path(self, relative: str) -> Path:
        """Return where ``relative`` (from ``model.layout``) lies.

        Raises:
            BoundaryError: it is empty, absolute, holds a NUL or would leave ROOT by ``..``.
        """
        parts = relative.split("/")
        if not relative or relative.startswith("/") or "\0" in relative or ".." in parts:
            hint = "Use a path below ROOT, without '..'"
            raise BoundaryError("use a path", ascii(relative), "it leaves ROOT", hint=hint, retryable=False)
        return self.root.joinpath(*parts)

    def open_input(self, relative: str) -> BinaryIO | None:
        """Open a file of the fleet's for reading, at its start; never blocks, whatever stands there.

        Returns:
            the open file, or None when there is none (any more): with files that others rotate, that is no error.

        Raises:
            BoundaryError: it is a FIFO, a device, a folder, a link that leaves the tree, or may not be read.
        """
        path = self.path(relative)
        with wrap("read", path):
            for _ in range(_RETRIES):
                try:
                    opened = self._open_checked(path)
                except OSError as error:
                    if error.errno in _GONE:
                        return None
                    raise
                if opened is not None:
                    return opened
        hint = "It is replaced over and over while it is opened; the next run looks again"
        raise BoundaryError("read", str(path), "it did not hold still", hint=hint, retryable=True)

    def scan(self, folder: str, suffix: str) -> Scan:
        """List the regular files in ``folder`` (not below it) whose names end in ``suffix``.

        Hidden and temporary names (``.x``, ``x.tmp``, ``x~``) are skipped without a word, other things that are not
        readable files are returned as refused. A folder that is not there is empty. Two names of one file (links)
        are two entries with the same device and inode.

        Raises:
            BoundaryError: the folder cannot be listed.
        """
        path = self.path(folder)
        found = Scan([], [])
        with wrap("list", path):
            try:
                with os.scandir(path) as listing:
                    inside = [entry for entry in listing if _is_wanted(entry.name, suffix)]
            except FileNotFoundError:
                return found
            inside.sort(key=lambda entry: entry.name)
            real_folder = os.path.realpath(path)
            for entry in inside:
                relative = f"{folder.rstrip('/')}/{entry.name}"
                result = self._examine(entry, relative, real_folder)
                if isinstance(result, Entry):
                    found.entries.append(result)
                elif result is not None:
                    found.refused.append(result)
        return found

    def entries(self, folder: str, suffix: str) -> list[Entry]:
        """List the regular files in ``folder`` as :meth:`scan` does, leaving out what may not be read."""
        return self.scan(folder, suffix).entries

    def entry(self, relative: str) -> Entry | None:
        """Look at one file as :meth:`scan` does; None when it is not there.

        Raises:
            BoundaryError: it is no regular file, or may not be read.
        """
        opened = self.open_input(relative)
        if opened is None:
            return None
        with opened:
            status = os.fstat(opened.fileno())
        return Entry(relative, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def folders(self, folder: str) -> list[str]:
        """List the names of the folders in ``folder``; none where it is not there.

        Raises:
            BoundaryError: it cannot be listed.
        """
        path = self.path(folder)
        with wrap("list", path):
            try:
                with os.scandir(path) as listing:
                    return sorted(entry.name for entry in listing if entry.is_dir() and _is_utf8(entry.name))
            except FileNotFoundError:
                return []

    def replace(self, relative: str, data: bytes | Iterable[bytes]) -> None:
        """Replace a file below ROOT whole; see :func:`replace`."""
        replace(self.path(relative), data, self.root)

    def size(self, relative: str) -> int:
        """Return a regular file's size in bytes; 0 where there is none.

        Raises:
            BoundaryError: its folder cannot be searched.
        """
        path = self.path(relative)
        with wrap("look at", path):
            try:
                status = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                return 0
        return status.st_size if stat.S_ISREG(status.st_mode) else 0

    def remove(self, relative: str) -> None:
        """Remove a file below ROOT; that it is gone already is no error.

        Raises:
            BoundaryError: it cannot be removed.
        """
        path = self.path(relative)
        with wrap("remove", path), suppress(FileNotFoundError):
            path.unlink()

    def remove_folder(self, relative: str) -> None:
        """Remove a folder below ROOT and the files in it; that it is gone already is no error.

        A folder that holds folders is left with what else it holds removed. A link is never followed.

        Raises:
            BoundaryError: it is a link, or something in it cannot be removed.
        """
        path = self.path(relative)
        with wrap("remove", path), suppress(FileNotFoundError):
            with os.scandir(path) as listing:
                inside = [entry.path for entry in listing if not entry.is_dir(follow_symlinks=False)]
            for one in inside:
                with suppress(FileNotFoundError):
                    os.unlink(one)
            path.rmdir()

    def _open_checked(self, path: Path) -> BinaryIO | None:
        """Open ``path``; None when what was opened is not what stands there: it was replaced meanwhile."""
        require_regular(path, os.stat(path).st_mode)  # before opening: opening a device may already do something
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            status = os.fstat(opened)
            require_regular(path, status.st_mode)
            real = os.path.realpath(path)
            self._require_inside(path, real)
            # The path was resolved after opening, so the two may differ; the file itself tells.
            same = os.path.samestat(status, os.lstat(real))
        except BaseException:
            os.close(opened)
            raise
        if same:
            return os.fdopen(opened, "rb")
        os.close(opened)
        return None

    def _require_inside(self, path: Path, real: str) -> None:
        if not self._is_inside(real, os.path.realpath(path.parent)):
            hint = "Put the file itself there, or link the whole folder"
            raise BoundaryError("read", str(path), f"it is a link to {real}", hint=hint, retryable=False)

    def _is_inside(self, real: str, real_folder: str) -> bool:
        return _is_below(real, real_folder) or _is_below(real, os.path.realpath(self.root))

    def _examine(self, entry: os.DirEntry[str], relative: str, real_folder: str) -> Entry | Refused | None:
        if not _is_utf8(entry.name):
            return Refused(relative.encode("utf-8", "backslashreplace").decode(), "a name that is not UTF-8")
        try:
            if entry.is_symlink() and not self._is_inside(os.path.realpath(entry.path), real_folder):
                return Refused(relative, "a link that leaves the tree")
            status = entry.stat()
        except FileNotFoundError:
            return Refused(relative, "a link to nothing") if os.path.islink(entry.path) else None
        except OSError as error:
            return Refused(relative, "a link in a circle" if error.errno == errno.ELOOP else "not readable")
        if not stat.S_ISREG(status.st_mode):
            return Refused(relative, kind_of(status.st_mode))
        return Entry(relative, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _is_wanted(name: str, suffix: str) -> bool:
    return name.endswith(suffix) and not name.startswith(".") and not name.endswith((".tmp", "~"))


def _is_below(real: str, real_folder: str) -> bool:
    return real.startswith(real_folder.rstrip("/") + "/")


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
