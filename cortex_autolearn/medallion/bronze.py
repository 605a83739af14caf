"""Which file is which, and from where on it is new.

Files of the fleet grow, are rotated, renamed, cut, replaced and delivered again. A file is recognised by device and
inode together with a digest of bytes that were read before (its *mark*); what cannot be recognised is read from its
beginning, which is always right: a record that stands already changes nothing.
"""

from __future__ import annotations

import re
from datetime import date
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from cortex_autolearn.model import instants

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cortex_autolearn.model.ledger import Source

HEAD_BYTES: Final = 1_024
TAIL_BYTES: Final = 256
_DATE: Final = re.compile(r"(?<!\d)(\d{4})[-_.]?(\d{2})[-_.]?(\d{2})(?!\d)")


class Found(NamedTuple):
    """A file as a look at its folder finds it."""

    path: str
    identity: str
    size: int
    mtime_ns: int


class Growth(NamedTuple):
    """A file that may hold something new. ``source`` is None for one never seen; ``closed``: it will not grow."""

    source: Source | None
    found: Found
    closed: bool


def growth(known: Iterable[Source], found: Iterable[Found], now_us: int, tail_grace_s: int) -> list[Growth]:
    """Return the files that need reading, in the order of their names.

    A known source that was renamed comes with its new path; one that was replaced comes at position 0. Files that
    have not changed since they were read are left out, unless an unfinished tail has waited for ``tail_grace_s``.
    """
    found = list(found)
    by_path = {source.path: source for source in known}
    present = {one.path: one for one in found}
    # A source that left its path, by identity: whoever bears that identity now is the same file under another name.
    moved = {
        source.identity: source
        for source in by_path.values()
        if source.path not in present or present[source.path].identity != source.identity
    }
    taken = {one.identity for one in found}
    plans = []
    for one in found:
        source = by_path.get(one.path)
        if source is None or source.identity != one.identity:
            renamed = moved.get(one.identity)
            if renamed is not None and renamed.position <= one.size:
                source = renamed._replace(path=one.path)
            elif source is not None and source.identity in taken:
                source = None  # it goes on under another name; what stands here now is a new file
            elif source is not None:
                source = source._replace(identity=one.identity, mark=b"", position=0, size=0, mtime_ns=0)
        plan = _plan(source, one, now_us, tail_grace_s, by_path)
        if plan is not None:
            plans.append(plan)
    return plans


def unread_bytes(plans: Iterable[Growth]) -> int:
    """Return how many bytes there are to read."""
    return sum(plan.found.size - (plan.source.position if plan.source else 0) for plan in plans)


def _plan(
    source: Source | None, found: Found, now_us: int, tail_grace_s: int, known: dict[str, Source]
) -> Growth | None:
    if source is None:
        return Growth(None, found, closed=False)
    unchanged = found.size == source.size and found.mtime_ns == source.mtime_ns
    waited = now_us - source.grown_us >= tail_grace_s * instants.SECOND_US
    closed = unchanged and source.position < found.size and waited
    if unchanged and not closed:
        same = known.get(found.path)
        return None if same is not None and same.identity == found.identity else Growth(source, found, closed=False)
    if found.size < source.position or (found.size == source.size and not unchanged):
        # Cut, or written again at the same size: nothing that was read can be relied on.
        source = source._replace(mark=b"", position=0)
    return Growth(source, found, closed)


def mark(head: bytes, tail: bytes) -> bytes:
    """Return the digest by which a file is recognised: of its first bytes and of those just before the cursor.

    Arguments:
        head: the first ``min(HEAD_BYTES, position)`` bytes.
        tail: the last ``min(TAIL_BYTES, position)`` bytes before the position.
    """
    return sha256(len(head).to_bytes(4, "big") + head + tail).digest()[:16]


def day_in_name(path: str) -> int | None:
    """Return the date in a file's name as YYYYMMDD, or None where there is none."""
    for match in _DATE.finditer(path.rsplit("/", 1)[-1]):
        year, month, day = map(int, match.groups())
        try:
            date(year, month, day)
        except ValueError:
            continue
        return year * 10_000 + month * 100 + day
    return None
