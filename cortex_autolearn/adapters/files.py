"""Files below ROOT: opened safely, listed, replaced whole and appended to.

The tree is shared with agents and shell scripts, so what lies there is not trusted to be a regular file in its place.
Where files belong is ``model.layout``'s business, what is in them their readers'; the database has its own module.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_CHUNK: Final = 1 << 20
_RETRIES: Final = 3
_TEMPORARY: Final = re.compile(r"\..+\.[0-9a-f]{16}\.tmp", re.DOTALL)
_GONE: Final = (errno.ENOENT, errno.ENOTDIR)

_HINTS: Final[dict[int, tuple[str, bool]]] = {
    errno.ENOSPC: ("Free space on this file system", False),
    errno.EDQUOT: ("Free space, or raise the disk quota of this user", False),
    errno.EFBIG: ("Raise the file size limit of this process or file system", False),
    errno.EACCES: ("Check who owns it and its folders, and under which user this runs", False),
    errno.EPERM: ("Check who owns it, under which user this runs, and whether it is marked immutable", False),
    errno.EROFS: ("The file system is read-only: check its mount, and ReadWritePaths in a systemd unit", False),
    errno.ENOENT: ("It does not exist, or vanished meanwhile; the next run looks again", True),
    errno.ENOTDIR: ("A part of the path is a file where a folder must be: move it away", False),
    errno.EISDIR: ("A folder stands where a file must be: move it away", False),
    errno.ENOTEMPTY: ("A folder stands where a file must be: move it away", False),
    errno.ELOOP: ("Its links lead in a circle: mend them", False),
    errno.ENAMETOOLONG: ("Use a shorter name or a ROOT that lies less deep", False),
    errno.EMFILE: ("This process has too many files open: raise its limit (LimitNOFILE, ulimit -n)", True),
    errno.ENFILE: ("This machine has too many files open: raise fs.file-max or stop what leaks them", True),
    errno.ENOMEM: ("This machine is short of memory", True),
    errno.EIO: ("The disk failed: check the kernel log and the disk's health", False),
    errno.ESTALE: ("The network file system changed underneath: check its mount if this lasts", True),
    errno.ETIMEDOUT: ("The network file system does not answer: check it if this lasts", True),
    errno.EBUSY: ("Something else is using it", True),
    errno.EAGAIN: ("Something else is using it", True),
    errno.ENOLCK: ("This file system is out of locks or has none: use a local one", True),
}
_NO_HINT: Final = ("Look the error up, or report it with the log lines around it", False)


@contextmanager
def wrap(operation: str, subject: object) -> Iterator[None]:
    """Turn an :class:`OSError` raised inside into a :class:`BoundaryError` with a hint chosen by its number.

    Arguments:
        operation: what is attempted, as a verb phrase ("append to silver").
        subject: what it is done to, mostly a path.
    """
    try:
        yield
    except OSError as error:
        hint, retryable = _HINTS.get(error.errno or 0, _NO_HINT)
        cause = error.strerror or str(error) or type(error).__name__
        raise BoundaryError(operation, str(subject), cause, hint=hint, retryable=retryable) from error


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
        replace(self.path(relative), data)

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

    def _open_checked(self, path: Path) -> BinaryIO | None:
        """Open ``path``; None when what was opened is not what stands there: it was replaced meanwhile."""
        _require_regular(path, os.stat(path).st_mode)  # before opening: opening a device may already do something
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            status = os.fstat(opened)
            _require_regular(path, status.st_mode)
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
            return Refused(relative, _kind(status.st_mode))
        return Entry(relative, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def replace(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Replace ``path`` whole: readers see the old content or the new, also after a crash or a power cut.

    Missing folders are created. The new file has mode 0644 less the umask; a link at ``path`` is itself replaced.
    When ``data`` raises, that error passes through and nothing has changed.

    Raises:
        BoundaryError: a file operation failed, and no temporary file is left. The old content stands, or, when it
            was the sync of the folder that failed, the new.
    """
    temporary = stage(path, data)
    try:
        with wrap("replace", path):
            os.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    fsync_dir(path.parent)


def stage(path: Path, data: bytes | Iterable[bytes]) -> Path:
    """Write what is to replace ``path`` to a temporary file beside it, durably, and return that file's path.

    Raises:
        BoundaryError: a file operation failed, and no temporary file is left.
    """
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.tmp")
    with wrap("create the folder of", path):
        make_folder(path.parent)
    with wrap("replace", path):
        opened = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        try:
            _write_chunks(opened, path, (data,) if isinstance(data, bytes) else data)
            with wrap("replace", path):
                os.fsync(opened)
        finally:
            os.close(opened)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    fsync_dir(path.parent)  # whoever commits its name relies on finding it
    return temporary


def append_line(path: Path, line: bytes) -> None:
    """Append one line by one write in append mode, so that many processes may do so at once. Not fsynced.

    A line feed is added where ``line`` has none, and one before it where the file ends in the middle of a line, which
    a killed writer left; at worst, when two see that at once, there is an empty line.

    Raises:
        ValueError: ``line`` holds a line feed before its end.
        BoundaryError: it could not be written, or not whole (then the next call starts on a new line).
    """
    body = line.removesuffix(b"\n")
    if b"\n" in body:
        raise ValueError("line holds a line feed before its end: pass one line")
    with wrap("append to", path):
        make_folder(path.parent)
        opened = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
        try:
            status = os.fstat(opened)
            _require_regular(path, status.st_mode)
            torn = status.st_size > 0 and os.pread(opened, 1, status.st_size - 1) != b"\n"
            whole = b"%b%b\n" % (b"\n" if torn else b"", body)
            if os.write(opened, whole) < len(whole):
                raise OSError(errno.ENOSPC, "only a part of the line could be written")
        finally:
            os.close(opened)


def make_folder(folder: Path) -> None:
    """Create ``folder`` and its missing parents, each fsynced into the one above. Raises OSError."""
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
    except FileNotFoundError:
        make_folder(folder.parent)
        make_folder(folder)
    else:
        fsync_dir(folder.parent)


def fsync_dir(path: Path) -> None:
    """Make names created, renamed or removed in the folder ``path`` survive a power cut.

    Raises:
        BoundaryError: the folder cannot be opened, or the disk failed. A file system that cannot do it is no error.
    """
    with wrap("sync the folder", path):
        opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(opened)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EROFS):
                raise
        finally:
            os.close(opened)


def clean_temporaries(folder: Path, older_than_s: float) -> int:
    """Remove what killed runs of :func:`replace` left in ``folder``, when untouched for ``older_than_s`` seconds.

    Only names that :func:`replace` gives are touched. Returns how many were removed; a missing folder has none.

    Raises:
        BoundaryError: the folder cannot be listed, or a leftover cannot be removed.
    """
    oldest_kept = time.time() - older_than_s
    removed = 0
    with wrap("clean", folder):
        try:
            with os.scandir(folder) as listing:
                leftovers = [entry for entry in listing if _TEMPORARY.fullmatch(entry.name)]
        except FileNotFoundError:
            return 0
        for entry in leftovers:
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) and status.st_mtime <= oldest_kept:
                    os.unlink(entry.path)
                    removed += 1
    return removed


def _write_chunks(opened: int, path: Path, chunks: Iterable[bytes]) -> None:
    # The caller's generator runs outside of ``wrap``: its errors are about what it reads, not about this file.
    pending = bytearray()
    for chunk in chunks:
        if len(pending) + len(chunk) > _CHUNK:
            _write_all(opened, path, pending)
            pending.clear()
        if len(chunk) > _CHUNK:
            _write_all(opened, path, chunk)
        else:
            pending += chunk
    _write_all(opened, path, pending)


def _write_all(opened: int, path: Path, data: bytes | bytearray) -> None:
    with wrap("replace", path), memoryview(data) as view:
        written = 0
        while written < len(view):
            written += os.write(opened, view[written:])


def _require_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        hint = "Only regular files are read and written here: move it away"
        raise BoundaryError("open", str(path), f"it is {_kind(mode)}", hint=hint, retryable=False)


def _kind(mode: int) -> str:
    match stat.S_IFMT(mode):
        case stat.S_IFDIR:
            return "a folder"
        case stat.S_IFIFO:
            return "a FIFO"
        case stat.S_IFSOCK:
            return "a socket"
        case _:
            return "a device"


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
