"""Files replaced whole and appended to, and what a refusal of the system means.

Which files there are, and which may be read, is ``tree``'s business; the database has its own modules.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_CHUNK: Final = 1 << 20
_TEMPORARY: Final = re.compile(r"\..+\.[0-9a-f]{16}\.tmp", re.DOTALL)

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
    errno.ELOOP: ("A link stands where the file itself must be, or links lead in a circle: move it away", False),
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


def replace(path: Path, data: bytes | Iterable[bytes], below: Path | None = None) -> None:
    """Replace ``path`` whole: readers see the old content or the new, also after a crash or a power cut.

    Missing folders are created, but for ``below`` (see :func:`make_folder`). The new file has mode 0644 less the umask;
    a link at ``path`` is itself replaced.
    When ``data`` raises, that error passes through and nothing has changed.

    Raises:
        BoundaryError: a file operation failed, and no temporary file is left. The old content stands, or, when it
            was the sync of the folder that failed, the new.
    """
    temporary = stage(path, data, below)
    try:
        with wrap("replace", path):
            os.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    fsync_dir(path.parent)


def stage(path: Path, data: bytes | Iterable[bytes], below: Path | None = None) -> Path:
    """Write what is to replace ``path`` to a temporary file beside it, durably, and return that file's path.

    Raises:
        BoundaryError: a file operation failed, and no temporary file is left.
    """
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.tmp")
    with wrap("create the folder of", path):
        make_folder(path.parent, below)
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


def make_folder(folder: Path, below: Path | None = None) -> None:
    """Create ``folder`` and its missing parents, each fsynced into the one above. Raises OSError.

    ``below`` is never created: ROOT that was moved away, say, for what is made in its place would pass for it.
    """
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
    except FileNotFoundError:
        if folder.parent == below:
            raise
        make_folder(folder.parent, below)
        make_folder(folder, below)
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


def require_regular(path: Path, mode: int) -> None:
    """Raise :class:`BoundaryError` for anything but a regular file, by its ``st_mode``."""
    if not stat.S_ISREG(mode):
        hint = "Only regular files are read and written here: move it away"
        raise BoundaryError("open", str(path), f"it is {kind_of(mode)}", hint=hint, retryable=False)


def kind_of(mode: int) -> str:
    """Say what stands in the place of a regular file, by its ``st_mode``."""
    match stat.S_IFMT(mode):
        case stat.S_IFDIR:
            return "a folder"
        case stat.S_IFIFO:
            return "a FIFO"
        case stat.S_IFSOCK:
            return "a socket"
        case _:
            return "a device"
