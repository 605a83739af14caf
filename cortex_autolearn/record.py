"""Public face for writers: append one task record to bronze.

Knows what a valid record is and how to append a whole line beside other writers; how records are read, settled and
refined is ``canonical``'s and ``medallion``'s. Meant for the agents themselves, so it imports little and keeps nothing.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import re
import stat
import time
from collections.abc import Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from cortex_autolearn.model import layout
from cortex_autolearn.model.choice import Choice
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_RECORD_BYTES: Final = 64 << 20
"""A record as JSON may be this long, in bytes: what the medallion reads."""
MAX_NESTING: Final = 100
"""Lists and objects within one another, counted from the field."""
LOCK_TIMEOUT_S: Final = 30.0
"""How long one call waits for other writers, in seconds."""

_OPERATION: Final = "record a task"
_JSON: Final = "JSON: text, numbers, true, false, null, lists and objects of these, and aware datetimes"

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]([01]\d|2[0-3]):\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:?\d\d)?", re.ASCII)

_HINTS: Final[dict[int, str]] = {
    errno.ENOSPC: "Free space on this file system; nothing was appended",
    errno.EDQUOT: "Free space, or raise the disk quota of this user; nothing was appended",
    errno.EACCES: "Check who owns the file and its folder, and under which user this runs",
    errno.EPERM: "Check who owns the file and its folder, and under which user this runs",
    errno.EROFS: "The file system is read-only: check its mount",
    errno.ELOOP: "A link stands where the file must be: move it away",
    errno.ENOTDIR: "A file stands where a folder must be: move it away",
    errno.EMFILE: "This process has too many files open",
}


def record(
    root: str | os.PathLike[str],
    *,
    task_id: str,
    master: str,
    status: str,
    task_type: str | None = None,
    input: object = None,  # noqa: A002 -- the field's name in the record
    output: object = None,
    created_at: datetime | str | None = None,
    started_at: datetime | str | None = None,
    completed_at: datetime | str | None = None,
    duration_seconds: float | None = None,
    quality_score: float | None = None,
    error: str | None = None,
    retry_count: int = 0,
    model: str | None = None,
    variant: str | None = None,
    experiment: str | None = None,
    choice: Choice | None = None,
    fallback_from: Choice | str | None = None,
    cost_usd: float | None = None,
    metadata: Mapping[str, object] | None = None,
    **extra: object,
) -> Path:
    """Append one record of a task to today's bronze file (by UTC), as one whole line, beside any number of writers.

    A task may be recorded several times while it moves; the latest final record stands. A line is on disk when the
    operating system writes it there: a crash of this process loses nothing, a power cut may. Blocks for well under a
    millisecond, or while others write.

    Arguments:
        root: the folder that holds ``coordination/``.
        task_id: any non-empty text; one task keeps one id.
        master: which master did it: 1 to 121 letters, digits, dots, dashes, underscores, and ``-master`` or not.
        status: ``completed``, ``failed`` and ``cancelled`` are final; any other word says that it still moves.
        task_type: what kind of task it is.
        input: what was asked: text, or anything that JSON can hold.
        output: what came back: likewise.
        created_at: when it was asked: an aware datetime, or a time as text (RFC 3339), which is kept as it is.
        started_at: when work began: likewise.
        completed_at: when it ended, well or not: likewise.
        duration_seconds: how long the work took, 0 or more.
        quality_score: 1 (worst) to 5 (best).
        error: what went wrong; None when nothing did.
        retry_count: how many tries failed before this one.
        model: which model answered, by its version in the fleet (``v1.0.0``, ``ft-20251127-001``).
        variant: which variant of an experiment the task was assigned to.
        experiment: which one.
        choice: what the router chose: stands for ``model``, ``variant`` and ``experiment``.
        fallback_from: which model was tried first and did not answer, as a choice or by its version. Where it is
            ``choice`` itself, the champion answered.
        cost_usd: what it cost, in dollars.
        metadata: anything else that JSON can hold, under text keys.
        extra: further top-level fields. None leaves a field out, here as above.

    Returns:
        the file that was appended to.

    Raises:
        ValueError: an argument is not as said above; the text names it. Nothing was appended.
        BoundaryError: the file could not be written. Nothing was appended, and the file ends as it did before.
    """
    given = {"model": model, "variant": variant, "experiment": experiment}
    tried, routed = _routed(choice, fallback_from, given)
    fields: dict[str, object] = {
        "task_id": _text("task_id", task_id, empty_allowed=False),
        "master": _master(master),
        "task_type": _optional_text("task_type", task_type),
        "status": _text("status", status, empty_allowed=False),
        "input": input,
        "output": output,
        "created_at": _time("created_at", created_at),
        "started_at": _time("started_at", started_at),
        "completed_at": _time("completed_at", completed_at),
        "duration_seconds": _number("duration_seconds", duration_seconds, at_least=0),
        "quality_score": _number("quality_score", quality_score, at_least=1, at_most=5),
        "error": _optional_text("error", error),
        "retry_count": _count("retry_count", retry_count),
        **{name: _optional_text(name, value) for name, value in routed.items()},
        "fallback_from": _optional_text("fallback_from", tried),
        "cost_usd": _number("cost_usd", cost_usd, at_least=0),
        "metadata": _object("metadata", metadata),
        **extra,
    }
    if choice is not None and choice.master and layout.master_name(master) != layout.master_name(choice.master):
        raise ValueError(f"master is {master!r} beside a choice for {choice.master!r}: it would count in no test")
    line = _encode({name: value for name, value in fields.items() if value is not None})
    path = _bronze_file(Path(root))
    with _explained(path):
        _append(path, line)
    return path


def _routed(
    choice: Choice | None, tried: Choice | str | None, given: dict[str, str | None]
) -> tuple[str | None, dict[str, str | None]]:
    """Return the version that was tried in vain, and model, variant and experiment: as ``given``, or the choice's."""
    if choice is not None and not isinstance(choice, Choice):
        raise ValueError(f"choice is a {type(choice).__name__}: only what a Router chose is allowed")
    if choice is not None and choice.fallback is not None and tried in (choice.version, choice.model):
        tried = choice
    version = tried.version if isinstance(tried, Choice) else tried
    if choice is None:
        return version, given
    answered = choice if choice != tried else choice.fallback
    if answered is None:
        raise ValueError("fallback_from is the choice, which has no fallback: pass the choice that answered")
    # Whoever answered, the task stays assigned to the arm that was tried.
    assigned = tried if isinstance(tried, Choice) else choice
    routed = {"model": answered.version, "variant": assigned.variant, "experiment": assigned.experiment}
    for name, value in given.items():
        if value not in (None, routed[name]):
            raise ValueError(f"{name} is {value!r} beside a choice that says {routed[name]!r}: leave it to the choice")
    return version, routed


def _encode(fields: dict[str, object]) -> bytes:
    for name, value in fields.items():
        _require_json(name, value, 0)
    try:
        encoded = orjson.dumps(fields, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)
    except TypeError as error:  # what the checks above let through: a subclass that orjson does not take
        raise ValueError(f"the record cannot be written as JSON: {error}") from error
    if len(encoded) > MAX_RECORD_BYTES:
        raise ValueError(f"the record is {len(encoded):,} bytes as JSON: at most {MAX_RECORD_BYTES:,} are allowed")
    return encoded


def _require_json(name: str, value: object, depth: int) -> None:
    """Raise a ValueError that says which part of which field JSON cannot hold exactly."""
    match value:
        case str():
            _require_unicode(name, value)
        case None | bool():
            pass
        case int():
            if not -(1 << 63) <= value < 1 << 64:
                raise ValueError(f"{name} is an integer of more than 64 bits: pass it as text")
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{name} is {value}: only finite numbers are allowed")
        case datetime():
            _require_aware(name, value)
        case dict() | list() | tuple():
            if depth >= MAX_NESTING:
                raise ValueError(f"{name} is nested too deep: at most {MAX_NESTING} levels are allowed")
            _require_json_inside(name, value, depth + 1)
        case _:
            raise ValueError(f"{name} is a {type(value).__name__}: only {_JSON}, are allowed")


def _require_json_inside(
    name: str, value: dict[object, object] | list[object] | tuple[object, ...], depth: int
) -> None:
    if not isinstance(value, dict):
        for index, part in enumerate(value):
            _require_json(f"{name}[{index}]", part, depth)
        return
    for key, part in value.items():
        if not isinstance(key, str):
            raise ValueError(f"{name} has the key {key!r}, a {type(key).__name__}: only text keys are allowed")
        _require_unicode(f"a key of {name}", key)
        _require_json(f"{name}.{key}", part, depth)


def _require_unicode(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} holds half a surrogate pair at position {error.start}: only valid Unicode is allowed; decode "
            "bytes with errors='replace'"
        ) from error


def _require_aware(name: str, value: datetime) -> None:
    if value.utcoffset() is None:
        raise ValueError(f"{name} is a datetime without a time zone: pass an aware one, datetime.now(UTC) say")


def _text(name: str, value: object, *, empty_allowed: bool) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is a {type(value).__name__}: only text is allowed")
    if not empty_allowed and not value.strip():
        raise ValueError(f"{name} is empty: pass at least one visible character")
    return value


def _optional_text(name: str, value: object) -> str | None:
    return None if value is None else _text(name, value, empty_allowed=True)


def _master(value: object) -> str:
    name = layout.safe_name("master", _text("master", value, empty_allowed=False))
    if layout.master_name(name) is None:  # with -master behind it, it would be no name
        raise ValueError(f"master {name!r} is too long: at most 121 characters before -master are allowed")
    return name


def _number(name: str, value: object, *, at_least: float, at_most: float = math.inf) -> float | None:
    if value is None:
        return None
    allowed = f"{at_least} or more" if at_most == math.inf else f"{at_least} to {at_most}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is a {type(value).__name__}: only a number, {allowed}, is allowed")
    if isinstance(value, int) and value.bit_length() > 64:  # some of these are no floats, and too long to be shown
        raise ValueError(f"{name} is an integer of more than 64 bits: only {allowed} is allowed")
    if not (math.isfinite(value) and at_least <= value <= at_most):
        raise ValueError(f"{name} is {value}: only {allowed} is allowed")
    return value


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} is {value!r}: only a whole number, 0 or more, is allowed")
    return value


def _time(name: str, value: object) -> str | None:
    match value:
        case None:
            return None
        case datetime():
            _require_aware(name, value)
            try:
                return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
            except OverflowError as error:
                raise ValueError(f"{name} is {value}: only the years 1 to 9999 in UTC are allowed") from error
        case str():
            if not _is_time(value):
                raise ValueError(f"{name} is {value!r}: only a time like 2026-01-31T08:30:00Z is allowed")
            return value
        case _:
            raise ValueError(f"{name} is a {type(value).__name__}: only an aware datetime or a time as text is allowed")


def _is_time(text: str) -> bool:
    """Tell whether every reader of the fleet reads ``text`` as a date with its time of day."""
    if _TIME.fullmatch(text) is None:
        return False
    try:
        datetime.fromisoformat(text.upper())
    except ValueError:
        return False
    return True


def _object(name: str, value: object) -> dict[object, object] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is a {type(value).__name__}: only an object with text keys is allowed")
    return dict(value)


def _bronze_file(root: Path) -> Path:
    with _explained(root):
        if (root / layout.COORDINATION).is_dir():
            return root / layout.BRONZE / f"{datetime.now(UTC):%Y%m%d}.jsonl"
    hint = "Pass the folder that holds coordination/, or create it there with: cortex-autolearn run --init"
    raise BoundaryError(_OPERATION, str(root), "it holds no folder coordination/", hint=hint, retryable=False)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = _HINTS.get(error.errno or 0, "Look this error up; nothing was appended")
        cause = error.strerror or str(error)
        retryable = error.errno in (errno.EMFILE, errno.EAGAIN, errno.ESTALE)
        raise BoundaryError(_OPERATION, str(path), cause, hint=hint, retryable=retryable) from error


def _append(path: Path, line: bytes) -> None:
    """Append ``line`` whole or not at all, under a lock that all writers of this file take."""
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        opened = _open(path)
        try:
            _lock(opened, path, deadline)
            try:
                # Whoever held the lock before may have moved the file away: then ours is nobody's any more.
                if _is_still_there(opened, path):
                    _write_whole(opened, line)
                    return
            finally:
                fcntl.flock(opened, fcntl.LOCK_UN)  # closing is not enough when another thread forked meanwhile
        finally:
            os.close(opened)


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        opened = os.open(path, flags, 0o644)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = os.open(path, flags, 0o644)
    if stat.S_ISREG(os.fstat(opened).st_mode):
        return opened
    os.close(opened)
    hint = "Move away what stands there"
    raise BoundaryError(_OPERATION, str(path), "it is not a regular file", hint=hint, retryable=False)


def _lock(opened: int, path: Path, deadline: float) -> None:
    """Take the lock, or give up at ``deadline`` (monotonic seconds): its holder may be stopped for good."""
    pause_s = 0.0001
    while True:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                cause = f"another process has held the lock for {LOCK_TIMEOUT_S:.0f} s"
                hint = "Find it with: lsof, and see whether it is stopped"
                raise BoundaryError(_OPERATION, str(path), cause, hint=hint, retryable=True) from None
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.005)
        else:
            return


def _is_still_there(opened: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(opened), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _write_whole(opened: int, line: bytes) -> None:
    before = os.fstat(opened).st_size
    if before and os.pread(opened, 1, before - 1) != b"\n":
        line = b"\n" + line  # a killed writer left half a line: it must not swallow ours
    written = 0
    try:
        while written < len(line):  # one round, unless the disk fills up in the middle
            written += os.write(opened, line[written:] if written else line)
    except BaseException:
        # Cut off what is ours. Writers that take no lock (the fleet's scripts) may have appended behind it: then the
        # half line stays, for the reader to quarantine, as cutting would take theirs too.
        if written and os.fstat(opened).st_size == before + written:
            os.ftruncate(opened, before)
        raise
