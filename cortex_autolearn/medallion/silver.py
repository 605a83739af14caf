"""From a stretch of bronze to silver lines.

A silver line is the record as it was written, made one line, with our keys added (FORMATS: "A task, as silver holds
it"). :class:`Refiner` maps objects to lines and facts and :func:`latest` merges them; both are pure and associative, so
that the same records give the same silver however they are cut into parts.
"""

from __future__ import annotations

import base64
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import msgspec

from cortex_autolearn.canonical import quick
from cortex_autolearn.canonical.reader import MAX_KEPT_KEYS
from cortex_autolearn.jsonstream import Broken
from cortex_autolearn.model import rawjson
from cortex_autolearn.model.ledger import Facts
from cortex_autolearn.model.rawjson import Fields
from cortex_autolearn.model.records import COMPLETED, FAILED, LOOSE, Canonical, Rejected, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cortex_autolearn.canonical import TaskReader
    from cortex_autolearn.canonical.layouts import State
    from cortex_autolearn.jsonstream import Object
    from cortex_autolearn.model.records import Layout


Refined = tuple[str, int, int, int | None, int, bytes, Facts]
"""A task from one record: its id, final or not, rank and day; the record's offset in the source; its silver line (with
line feed); and what else its row holds. A plain tuple, as every record of the fleet makes one."""


class Unfit(NamedTuple):
    """What cannot become silver. ``text`` is None when it is too long to keep; ``is_object``: it was valid JSON."""

    offset: int
    length: int
    reason: str
    text: bytes | None
    is_object: bool


_ADDED: Final = (
    ("layer", str),
    ("processed_at", str),
    ("duration_seconds", int | float | None),
    ("is_success", bool),
    ("is_failure", bool),
    ("has_error", bool),
    ("quality_score", int | float | None),
    ("canonical", Canonical),
)
"""Our keys, in the order in which those that a record lacks are appended."""
_NAMES: Final = tuple(name for name, _ in _ADDED)
_LAYER: Final = ["layer"]
_REPLACED: Final = ("layer", "canonical")
"""Those of our keys whose value is ours even where the record has one."""


_Learned = dict["State", bytes]
"""For each state what is added to a record between its duration and its canonical reading."""


class _Plan:
    """What to add to records of one layout: the keys they lack, and the values of theirs to replace."""

    def __init__(self, keys: tuple[str, ...], processed_at: str, learned: dict[tuple[str, ...], _Learned]) -> None:
        lacking = [index for index, name in enumerate(_NAMES) if name not in keys]
        self.make: Callable[..., Any] = msgspec.defstruct("Added", [_ADDED[index] for index in lacking], gc=False)
        # An itemgetter of one index gives the item itself, so there are always at least two: the last is cut off.
        self.pick = itemgetter(*lacking, 0, 0)
        self.picked = len(lacking)
        self.replaced: list[str] = [name for name in _REPLACED if name in keys]
        self._lacking = [_NAMES[index] for index in lacking]
        self.takes_seconds = "duration_seconds" in self._lacking
        self.before = self._members({"layer": "silver", "processed_at": processed_at})
        if self.takes_seconds:
            self.before += b',"duration_seconds":'
        # What is added depends on nothing but the keys that lack, so layouts that lack the same share it.
        self.behind = learned.setdefault(tuple(self._lacking), {})
        self._behind_layer = keys[keys.index("layer") + 1 :] if "layer" in keys else ()
        self._overhead = sum(len(key.encode()) + 4 for key in self._behind_layer)

    def learn(self, state: State) -> bytes:
        """Return what is added behind the duration up to the canonical reading; worked out once a state."""
        members = {
            "is_success": state.status == COMPLETED,
            "is_failure": state.status == FAILED,
            "has_error": state.error is not None,
            "quality_score": state.quality,
        }
        if len(self.behind) >= _MAX_STATES:
            self.behind.clear()
        found = self.behind[state] = self._members(members) + b',"canonical":'
        return found

    def with_layer(self, raw: bytes, fields: Fields, spacing: int, added: bytes) -> bytes:
        """Return the line of a record whose ``layer`` is replaced by ours; ``added`` are the other keys."""
        behind = self._behind_layer
        # Of each key behind it: the quotes, the colon and the comma, and a space after colon and comma.
        end = len(raw) - 1 - self._overhead - 2 * spacing * len(behind) - sum([len(fields[key]) for key in behind])
        start = end - len(fields["layer"])
        return b'%b"silver"%b%b}\n' % (raw[:start], raw[end:-1], added)

    def _members(self, members: dict[str, Any]) -> bytes:
        lacking = [(name, value) for name, value in members.items() if name in self._lacking]
        return b"".join(b',"%b":%b' % (name.encode(), _encode(value)) for name, value in lacking)


class _Identity(msgspec.Struct):
    """What tells whose a silver line is."""

    canonical: Canonical


class Quarantined(NamedTuple):
    """What a quarantine line keeps, why, and from where."""

    reason: str
    path: str
    offset: int
    length: int
    text: bytes | None


_Position = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""What a file can have, and the state can hold."""


class _Quarantined(msgspec.Struct):
    reason: str
    file: str
    offset: _Position
    length: _Position
    text: str | None = None
    text_base64: str | None = None


_decode_quarantined = msgspec.json.Decoder(_Quarantined).decode
_decode_identity = msgspec.json.Decoder(_Identity).decode
_LINE_FEED: Final = 0x0A  # looked for as a number: `b"x" in data` raises and drops a TypeError first
_RETURN: Final = 0x0D
_MAX_PLANS: Final = 4_096
_MAX_STATES: Final = 4_096
_encode = msgspec.json.Encoder().encode


class Refiner:
    """Turns what a bronze file holds into silver lines, and says of the rest why not.

    Arguments:
        processed_at: RFC 3339, written into every line.
    """

    def __init__(self, processed_at: str) -> None:
        self.processed_at = processed_at
        self._plans: dict[Layout, _Plan] = {}
        self._learned: dict[tuple[str, ...], _Learned] = {}

    def refine(self, items: Iterable[Object | Broken], reader: TaskReader) -> tuple[list[Refined], list[Unfit]]:
        """Refine objects and broken stretches of one file, in order."""
        refined: list[Refined] = []
        unfit: list[Unfit] = []
        read, quick_line = quick.read, self._quick_line
        for item in items:
            if type(item) is not tuple:
                assert isinstance(item, Broken)
                unfit.append(broken(item))
                continue
            offset, raw, fields = item
            found = read(reader, raw, fields)
            if found is not None:
                at, spacing, task_id, state, took, canonical, day, rank_us, rest = found
                line = quick_line(raw, fields, at, spacing, state, took, canonical)
                if line:
                    refined.append((task_id, state.final, rank_us, day, offset, line, rest))
                    continue
            task = reader.read(raw, fields)
            if isinstance(task, Rejected):
                unfit.append(rejected(item, task))
            else:
                refined.append(_of_task(offset, self.line(raw, fields, task), task))
        return refined, unfit

    def _quick_line(  # noqa: PLR0913, PLR0917 - the parts of a reading, given by position in the hot path
        self, raw: bytes, fields: Fields, at: Layout, spacing: int, state: State, took: bytes, canonical: bytes
    ) -> bytes:
        """Return the silver line of a plain record; nothing where only the long way knows how."""
        if _LINE_FEED in raw or _RETURN in raw:
            return b""
        plan = self._plans.get(at) or self._plan_of(at)
        behind = plan.behind.get(state) or plan.learn(state)
        if not plan.takes_seconds:
            took = b""
        if not plan.replaced:
            return b"%b%b%b%b%b}\n" % (raw[:-1], plan.before, took, behind, canonical)
        if plan.replaced != _LAYER:
            return b""
        return plan.with_layer(raw, fields, spacing, b"%b%b%b%b" % (plan.before, took, behind, canonical))

    def _plan_of(self, layout: Layout) -> _Plan:
        plan = self._plans.get(layout)
        if plan is None:
            plan = _Plan(layout.keys, self.processed_at, self._learned)
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            if len(layout.keys) <= MAX_KEPT_KEYS:
                self._plans[layout] = plan
        return plan

    def line(self, raw: bytes, fields: Fields, task: Task) -> bytes:
        """Return the silver line of a record, with its line feed.

        Arguments:
            raw: the record's own bytes.
            fields: its top level.
            task: our reading of it.
        """
        plan = self._plan_of(task.layout)
        canonical = task.canonical
        status = canonical.status
        values = (
            "silver",
            self.processed_at,
            canonical.duration_seconds,
            status == COMPLETED,
            status == FAILED,
            canonical.error is not None,
            canonical.quality_score,
            canonical,
        )
        added = _encode(plan.make(*plan.pick(values)[: plan.picked]))
        if plan.replaced:
            new = {name: _encode(values[_NAMES.index(name)]) for name in plan.replaced}
            raw = _set(raw, new) if task.spacing == LOOSE else _set_by_length(raw, fields, new, task.spacing)
        raw = _one_line(raw)
        if len(added) == 2:
            return raw + b"\n"
        return b"%b,%b\n" % (raw[:-1], added[1:])


def broken(stretch: Broken) -> Unfit:
    """Return what is kept of a stretch that holds no object."""
    return Unfit(stretch.offset, stretch.length, stretch.reason, stretch.text, is_object=False)


def rejected(found: Object, why: Rejected) -> Unfit:
    """Return what is kept of an object that is no task."""
    return Unfit(found[0], len(found[1]), why.reason, found[1], is_object=True)


def latest(refined: Sequence[Refined]) -> dict[str, Refined]:
    """Return for each task the record that stands, of records of one file in their order; in that order as well."""
    standing = {one[0]: one for one in refined}
    if len(standing) == len(refined):
        return standing
    standing = {}
    for one in refined:
        task_id = one[0]
        other = standing.get(task_id)
        if other is not None:
            # A final status beats one that is not; then the later instant; then the later offset, which is this one.
            if one[1:3] < other[1:3]:
                continue
            del standing[task_id]
        standing[task_id] = one
    return standing


def _of_task(offset: int, line: bytes, task: Task) -> Refined:
    return task.canonical.task_id, int(task.final), task.rank_us, task.day, offset, line, facts(task)


def same_line(line: bytes, other: bytes, processed_at: str) -> bool:
    """Tell whether two silver lines say the same, whenever they were written; ``line`` at ``processed_at``."""
    stamp = processed_at.encode()
    where = line.rfind(stamp)
    if where < 0:
        return line == other
    end = where + len(stamp)
    return len(line) == len(other) and line[:where] == other[:where] and line[end:] == other[end:]


def facts(task: Task) -> Facts:
    """Return what the row of a task holds besides its identity, its rank and its places."""
    canonical = task.canonical
    return (
        canonical.master,
        canonical.status,
        canonical.duration_seconds,
        canonical.quality_score,
        canonical.retry_count,
        int(canonical.error is not None),
        task.output_chars,
        task.created_us,
        task.completed_us,
    )


def is_line_of(line: bytes, task_id: str) -> bool:
    """Tell whether bytes are one whole silver line of ours, of this task."""
    if not line.endswith(b"}\n"):
        return False
    try:
        line.decode()  # what is not asked for is passed over, whether it is text or not
        return _decode_identity(line).canonical.task_id == task_id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def quarantined(line: bytes) -> Quarantined | None:
    """Take a quarantine line apart; None when it is not one that we wrote."""
    try:
        found = _decode_quarantined(line)
        text = None if found.text is None else found.text.encode()
        if found.text_base64 is not None:
            text = base64.b64decode(found.text_base64)
    except (msgspec.DecodeError, ValueError):  # no UTF-8, or no base64
        return None
    return Quarantined(found.reason, found.file, found.offset, found.length, text)


def _one_line(raw: bytes) -> bytes:
    """Remove line breaks: inside of strings JSON has no raw ones, so these stand between tokens."""
    if _LINE_FEED in raw or _RETURN in raw:
        return raw.replace(b"\n", b"").replace(b"\r", b"")
    return raw


def _set(raw: bytes, values: dict[str, bytes]) -> bytes:
    """Put new values in the place of those that a record has for these keys."""
    parts = []
    done = 0
    for key, start, end in rawjson.spans(raw):
        if key in values:
            parts += [raw[done:start], values[key]]
            done = end
    return b"".join([*parts, raw[done:]])


def _set_by_length(raw: bytes, fields: Fields, values: dict[str, bytes], spacing: int) -> bytes:
    """Do the same for a compact or spaced record, where lengths alone tell what stands where."""
    parts = []
    done = 0
    position = -spacing  # the brace has no space behind it, a comma may have one
    for key, value in fields.items():
        # The brace or comma, the quotes, the colon, and a space after comma and colon.
        start = position + len(key.encode()) + 4 + 2 * spacing
        position = start + len(value)
        if key in values:
            parts += [raw[done:start], values[key]]
            done = position
    return b"".join([*parts, raw[done:]])
