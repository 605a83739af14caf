"""What follows from the keys of a record alone, and what the spellings of its short values mean.

Records of one writer have the same keys in the same order: which places hold what is worked out once for all of them.
Who works it out and reads them is ``reader``'s business, and ``quick``'s.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any, Final, NamedTuple

import msgspec

from cortex_autolearn.model.rawjson import Fields, Place
from cortex_autolearn.model.records import FINAL_STATUSES

END_BEFORE_START: Final = "end_before_start"
_encode: Final = msgspec.json.Encoder().encode

Read = Callable[[tuple[Place, ...], Fields, list[str]], Any]


class Group(NamedTuple):
    """Short rows of one layout: how to take their first candidates, what combinations of spellings mean, the rows."""

    pick: Callable[[Fields], tuple[msgspec.Raw, ...]]
    meanings: dict[bytes, tuple[Any, ...]]
    rows: tuple[tuple[tuple[Place, ...], Read], ...]


class Names:
    """Who did what with which model: the first short rows of a record, and their places in ``canonical`` as JSON."""

    __slots__ = ("before", "behind", "master")

    def __init__(self, meaning: tuple[Any, ...]) -> None:
        master, task_type, model, variant, experiment, fallback_from = meaning
        self.master: str | None = master
        self.before = _members(master=master, task_type=task_type) + b',"input_field":'
        named = _members(model=model, variant=variant, experiment=experiment, fallback_from=fallback_from)
        self.behind = named + b',"cost_usd":'


class State:
    """How a task went: the other short rows of a record, and their places in ``canonical`` as JSON."""

    __slots__ = (
        "before",
        "behind",
        "error",
        "errored",
        "final",
        "flags",
        "quality",
        "retries",
        "reversed_flags",
        "status",
    )

    def __init__(self, meaning: tuple[Any, ...], flags: list[str]) -> None:
        self.status: str | None
        self.quality: int | float | None
        self.error: str | None
        self.status, self.quality, self.error, retries = meaning
        self.retries: int = retries or 0
        self.final = int(self.status in FINAL_STATUSES)
        self.errored = int(self.error is not None)
        self.before = _members(status=self.status, quality_score=self.quality) + b","
        self.behind = _members(error=self.error, retry_count=self.retries)
        self.flags = _members(flags=flags)
        self.reversed_flags = _members(flags=[*flags, END_BEFORE_START])


class Layout:
    """What follows from the keys of a record alone, for all records with these keys in this order.

    ``keys`` are the keys; the rest is the reader's own. Compared by identity: a reader makes one for each.
    """

    __slots__ = (
        "compact_overhead",
        "cost",
        "has_status",
        "input",
        "is_plain",
        "keys",
        "measures_plainly",
        "minutes",
        "names",
        "output",
        "pick_names",
        "pick_state",
        "ranked_by",
        "seconds",
        "short",
        "spaced",
        "states",
        "task_id",
        "times",
    )

    def __init__(self, keys: tuple[str, ...], present: Callable[[str], tuple[Place, ...]]) -> None:
        self.keys = keys
        # The braces; for each key two quotes, a colon and a comma; and one comma less than keys.
        self.compact_overhead = sum(len(key) + 4 for key in keys) + 1
        self.short: tuple[Group, ...] = ()
        self.has_status = bool(present("status"))
        self.task_id = present("task_id")
        self.input = present("input")
        self.output = present("output")
        self.seconds = present("seconds")
        self.measures_plainly = [place.top for place in self.seconds] != ["metadata"]
        self.minutes = present("minutes")
        self.cost = present("cost")
        self.ranked_by = present("ranked_by")
        self.times = (present("created"), present("started"), present("completed"))
        # What ``quick`` goes by: whether it may read such records, and what spellings of short rows mean.
        decisive = (self.task_id, *filter(None, self.times))
        self.is_plain = self.has_status and all(places and not places[0].below for places in decisive)
        self.names: dict[bytes, Names] = {}
        self.states: dict[bytes, State] = {}
        self.pick_names: Callable[[Fields], tuple[msgspec.Raw, ...]] = nothing
        self.pick_state: Callable[[Fields], tuple[msgspec.Raw, ...]] = nothing
        # A spaced record in its parts: before each value, which is put between two of them, its key.
        self.spaced = list(chain.from_iterable((f', "{key}": '.encode(), b"") for key in keys))
        self.spaced[:1] = [f'{{"{key}": '.encode() for key in keys[:1]]
        self.spaced.append(b"}")

    def is_spaced(self, raw: bytes, fields: Fields) -> bool:
        """Tell whether ``raw`` is written with a space after each colon and comma and no key twice."""
        parts: list[bytes | msgspec.Raw] = [*self.spaced]
        parts[1::2] = fields.values()
        return b"".join(parts) == raw


def nothing(_: Fields) -> tuple[msgspec.Raw, ...]:
    """Take no candidates: what a layout without them does."""
    return ()


def _members(**values: Any) -> bytes:
    """Return members of a JSON object, each with a comma before it."""
    return b"".join(b',"%b":%b' % (name.encode(), _encode(value)) for name, value in values.items())
