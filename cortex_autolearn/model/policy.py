"""What an operator may decide: one frozen policy per section of the configuration file, and how to read its limits.

Every leaf carries its limits and a one-line description in ``msgspec.Meta``; the table in the README, ``config show``
and the messages about bad values are made from them. ``extra`` may hold:

``secret``    (bool) the value is masked wherever it is shown.
``allowed``   (text) what is allowed, where the limits alone do not say it.
``check``     (text) a check by name that needs the outside world; ``settings`` makes it: ``timezone``,
              ``timezone_or_empty``.
``at_most``   (text) the field of the same struct that this one must not exceed.
``below``     (text) the field of the same struct that this one must stay below.
``days_below`` (text) the field of the same struct, in days, that this one, in seconds, must stay below.
``loopback_unless`` (text) the field of the same struct without which this address must be the machine's own.
``https_unless`` (text) the field of the same struct without which this URL must be https, or the machine's own.

The limits hold for values that came through ``settings``; building a policy in code checks nothing.

A new section is a struct (each field with a default), here or in a module ``model.*_policy``, and one line in
``settings.Settings``. A setting is a bool, int, float, str, a Literal of texts, a table (a struct), a tuple or list of
one of these, one of these or None, or a number or one of a few words:
``Annotated[Annotated[int, Meta(ge=1)] | Literal["auto"], Meta(description=…)]``.
"""

from __future__ import annotations

import json
import types
from operator import le, lt
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, get_args, get_origin

from msgspec import Meta, Struct
from msgspec.structs import fields

from cortex_autolearn.model.layout import LOG
from cortex_autolearn.model.service_policy import is_loopback, is_private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TIME_OF_DAY: Final = r"\A(?:[01][0-9]|2[0-3]):[0-5][0-9]\Z"
_DOTTED_PATH: Final = r"\A[^.]+(?:\.[^.]+)*\Z"
_FILE_NAME_GLOB: Final = r"\A[^/]+\Z"

_TIME_ALLOWED: Final = 'a time of day, "HH:MM"'
_ZONE_ALLOWED: Final = 'a time zone by its IANA name, such as "Europe/Berlin"'


class ScoreScale(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A source whose quality scores are on another scale: ``low`` … ``high`` is mapped linearly to 1 … 5."""

    files: Annotated[
        str,
        Meta(
            pattern=_FILE_NAME_GLOB,
            description="glob on the bronze file's name",
            extra={"allowed": "a glob on a file name, without /"},
        ),
    ] = "*"
    field: Annotated[
        str,
        Meta(
            pattern=_DOTTED_PATH,
            description="dotted path of the score in the record",
            extra={"allowed": 'a dotted path, such as "metrics.score"'},
        ),
    ] = "quality_score"
    low: Annotated[float, Meta(ge=-(10**9), le=10**9, description="the score that becomes 1", extra={"below": "high"})]
    high: Annotated[float, Meta(ge=-(10**9), le=10**9, description="the score that becomes 5")]


class MedallionPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[medallion]``: how bronze becomes silver."""

    follow_bronze: Annotated[bool, Meta(description="refine bronze as it grows, not only in the nightly run")] = True
    follow_debounce_ms: Annotated[
        int, Meta(ge=10, le=60_000, description="quiet time in milliseconds before grown bronze is refined")
    ] = 150
    naive_timezone: Annotated[
        str,
        Meta(
            description="zone of times written without an offset",
            extra={"check": "timezone", "allowed": _ZONE_ALLOWED},
        ),
    ] = "UTC"
    max_record_bytes: Annotated[
        int, Meta(ge=1024, le=1024**3, description="size in bytes above which a record is quarantined by position")
    ] = 64 * 1024**2
    tail_grace_s: Annotated[
        int,
        Meta(
            ge=1,
            le=31_536_000,
            description="seconds without growth after which an unfinished last record is quarantined",
        ),
    ] = 86_400
    score_scale: Annotated[
        tuple[ScoreScale, ...], Meta(max_length=100, description="sources whose scores are not on 1..5")
    ] = ()


class GatePolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[collect]``: which outcomes are good enough to learn from."""

    min_quality: Annotated[float, Meta(ge=1, le=5, description="lowest quality score that is collected")] = 4.0
    min_duration_s: Annotated[
        float,
        Meta(
            ge=0,
            le=31_536_000,
            description="seconds below which a task is trivial",
            extra={"at_most": "max_duration_s"},
        ),
    ] = 10.0
    max_duration_s: Annotated[
        float, Meta(ge=0, le=31_536_000, description="seconds above which a task counts as timed out")
    ] = 600.0
    min_output_chars: Annotated[int, Meta(ge=1, le=100, description="fewest visible characters of an output")] = 20
    training_percent: Annotated[
        int, Meta(ge=1, le=99, description="share of outcomes for training; the rest is for validation")
    ] = 80


class SchedulePolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[schedule]``: when the jobs run."""

    timezone: Annotated[
        str,
        Meta(
            description="zone of the times below; empty for the machine's",
            extra={"check": "timezone_or_empty", "allowed": f'{_ZONE_ALLOWED}, or ""'},
        ),
    ] = ""
    collection_every_s: Annotated[int, Meta(ge=60, le=86_400, description="seconds between collections")] = 3600
    scoring_every_s: Annotated[
        int, Meta(ge=60, le=86_400, description="seconds between looks for tasks that wait for a score")
    ] = 3600
    readiness_at: Annotated[
        str,
        Meta(pattern=_TIME_OF_DAY, description="when readiness is checked each day", extra={"allowed": _TIME_ALLOWED}),
    ] = "03:00"
    medallion_at: Annotated[
        str,
        Meta(
            pattern=_TIME_OF_DAY, description="when the full medallion runs each day", extra={"allowed": _TIME_ALLOWED}
        ),
    ] = "02:00"
    status_every_s: Annotated[int, Meta(ge=60, le=604_800, description="seconds between status log lines")] = 21_600


class WatchPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[watch]``: how changes in the tree are noticed."""

    enabled: Annotated[bool, Meta(description="wake jobs when files change, not only on the schedule")] = True
    polling: Annotated[
        Literal["auto", "always", "never"],
        Meta(description="look at the files instead of listening; auto: where listening is not possible"),
    ] = "auto"
    debounce_ms: Annotated[
        int, Meta(ge=10, le=60_000, description="quiet time in milliseconds before changes wake a job")
    ] = 50
    sweep_s: Annotated[int, Meta(ge=1, le=86_400, description="seconds between sweeps for changes nobody told of")] = 30


class LogPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[log]``: what the daemon says, and where."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="least severe level that is logged")
    ] = "info"
    format: Annotated[
        Literal["auto", "json", "console"], Meta(description="form of stdout; auto: console on a terminal, else json")
    ] = "auto"
    file: Annotated[
        str,
        Meta(
            max_length=4096,
            description="log file, absolute or relative to the root; empty for none",
            extra={"allowed": 'a path, or ""'},
        ),
    ] = LOG
    queue_size: Annotated[
        int, Meta(ge=100, le=1_000_000, description="lines that may wait to be written; more are dropped and counted")
    ] = 10_000


class RetentionPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[retention]``: how long fully processed files are kept."""

    bronze_days: Annotated[int, Meta(ge=0, le=36_500, description="days bronze files are kept; 0 for ever")] = 0
    silver_days: Annotated[int, Meta(ge=0, le=36_500, description="days silver files are kept; 0 for ever")] = 0


class DaemonPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[daemon]``: the life of the process."""

    drain_grace_s: Annotated[
        float, Meta(ge=0, le=3600, description="seconds running jobs may take to end when the daemon stops")
    ] = 20.0
    heartbeat_s: Annotated[
        float, Meta(ge=1, le=3600, description="seconds between looks for what no event or timer told of")
    ] = 30.0


class Shape(Struct, frozen=True):
    """The annotation of a setting taken apart, ``Annotated`` and ``None`` removed from around ``base``."""

    base: Any
    limits: dict[str, Any]
    """``ge``, ``gt``, ``le``, ``lt``, ``min_length``, ``max_length``: those that are set."""
    extra: dict[str, Any]
    description: str
    item: Any
    """Of a list: the annotation of its items; else None."""
    optional: bool

    @property
    def is_table(self) -> bool:
        """Whether a value is a struct."""
        return isinstance(self.base, type) and issubclass(self.base, Struct)

    @property
    def is_choice(self) -> bool:
        """Whether a value is one of a few words."""
        return get_origin(self.base) is Literal

    @property
    def is_number_or_word(self) -> bool:
        """Whether a value is a number or one of a few words."""
        return get_origin(self.base) in (Union, types.UnionType)

    @property
    def is_secret(self) -> bool:
        """Whether a value is secret or may hold something that is."""
        inside = [self.item] if self.item is not None else []
        inside += [info.type for info in fields(self.base)] if self.is_table else []
        return bool(self.extra.get("secret")) or any(shape_of(annotation).is_secret for annotation in inside)

    @property
    def noun(self) -> str:
        """What a value is, for a message."""
        if self.is_table:
            return "a table"
        if self.item is not None:
            return "a list"
        if self.is_choice:
            return "one of " + ", ".join(json.dumps(word) for word in get_args(self.base))
        if self.is_number_or_word:
            number, words = get_args(self.base)
            return f"{_NOUNS[number]} or {' or '.join(json.dumps(word) for word in get_args(words))}"
        return _NOUNS[self.base]

    @property
    def allowed(self) -> str:
        """What is allowed, for a message: ``a number from 1 to 5``."""
        if "allowed" in self.extra:
            return str(self.extra["allowed"])
        return self.noun + _bounds(self) + _inside(self) + _relations(self)


def shape_of(annotation: Any) -> Shape:
    """Take an annotation apart. Raises TypeError for a type that no setting can have."""
    limits: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    description = ""
    optional = False
    while True:
        origin, args = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            for meta in (meta for meta in args[1:] if isinstance(meta, Meta)):
                limits |= {name: getattr(meta, name) for name in _LIMITS if getattr(meta, name) is not None}
                extra |= meta.extra or {}
                description = description or meta.description or ""
            annotation = args[0]
        elif origin in (Union, types.UnionType) and len(args) == 2 and types.NoneType in args:
            optional = True
            annotation = args[1] if args[0] is types.NoneType else args[0]
        elif origin in (Union, types.UnionType) and len(args) == 2 and get_origin(args[1]) is Literal:
            number = shape_of(args[0])
            return Shape(Union[number.base, args[1]], number.limits, extra, description, None, optional)  # noqa: UP007
        else:
            break
    is_list = origin is list or (origin is tuple and len(args) == 2 and args[1] is Ellipsis)
    shape = Shape(annotation, limits, extra, description, args[0] if is_list else None, optional)
    is_choice = origin is Literal and all(isinstance(word, str) for word in args)
    if not (is_list or is_choice or shape.is_table or annotation in _NOUNS):
        raise TypeError(f"a setting cannot be {annotation}")
    return shape


def contradictions(policy: Struct) -> Iterator[tuple[str, str, str]]:
    """Yield (field, words, other field) where ``field`` is not, say, ``at most`` the ``other field``."""
    for info in fields(policy):
        extra = shape_of(info.type).extra
        for relation, (words, holds) in _RELATIONS.items():
            if relation in extra:
                value, other = getattr(policy, info.name), getattr(policy, extra[relation])
                if value is not None and other is not None and not holds(value, other):
                    yield info.name, words, extra[relation]


_NOUNS: Final[dict[Any, str]] = {bool: "true or false", int: "an integer", float: "a number", str: "text"}
_LIMITS: Final = {
    "ge": "at least",
    "gt": "above",
    "le": "at most",
    "lt": "below",
    "min_length": "at least",
    "max_length": "at most",
}
_RELATIONS: Final[dict[str, tuple[str, Callable[[Any, Any], bool]]]] = {
    "at_most": ("at most", le),
    "below": ("below", lt),
    "days_below": ("less than the days of", lambda seconds, days: seconds < days * 86_400),
    "loopback_unless": ("a loopback address, as long as", lambda host, is_public: is_public or is_loopback(host)),
    "https_unless": ("https, or a loopback address, as long as", lambda url, is_open: is_open or is_private(url)),
}


def _bounds(shape: Shape) -> str:
    limits = dict(shape.limits)
    unit = "entries" if shape.item is not None else "characters"
    both = ""
    if {"ge", "le"} <= limits.keys():
        both = f" from {limits.pop('ge')} to {limits.pop('le')}"
    if {"min_length", "max_length"} <= limits.keys():
        both += f" of {limits.pop('min_length')} to {limits.pop('max_length')} {unit}"
    words = [f"{_LIMITS[name]} {limit}{f' {unit}' if 'length' in name else ''}" for name, limit in limits.items()]
    return both + (f" of {' and '.join(words)}" if words else "")


def _inside(shape: Shape) -> str:
    if shape.item is not None:
        return f", each {shape_of(shape.item).allowed}"
    return " with " + ", ".join(info.name for info in fields(shape.base)) if shape.is_table else ""


def _relations(shape: Shape) -> str:
    return "".join(f", {words} {shape.extra[key]}" for key, (words, _) in _RELATIONS.items() if key in shape.extra)
