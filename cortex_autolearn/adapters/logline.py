"""What a log line looks like: the order of its fields, and values made fit for JSON or for a terminal.

No line carries a secret: it is masked by the rules of ``redact`` once it is whole, before anything is cut to a length.
No value can keep a line from being written: what JSON cannot hold becomes its repr, and what is too long is cut. Where
lines go is ``logsink``'s business; the fields are described in ``observe``.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import orjson

from cortex_autolearn.redact import redact

if TYPE_CHECKING:
    from types import TracebackType

MAX_LINE_BYTES: Final = 48 * 1024 - 1
"""No JSON line is longer, its line feed included: journald splits at 48 KiB."""
OWN_LOGGER: Final = "cortex_autolearn"

MAX_MESSAGE_CHARS: Final = 2_000
"""An exception's message is cut to this, so that it does not cost the frames."""
_KEY_CHARS: Final = 100
_MASK_BYTES: Final = 2 * 1024
_SHOWN_CHARS: Final = 4_000
_PLAIN_NODES: Final = 2_000
_RESERVED: Final = frozenset({"timestamp", "level", "logger", "truncated"})
# Subclasses and dataclasses pass through their own repr, which is where a type hides what must not be shown.
_JSON: Final = orjson.OPT_UTC_Z | orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS

Fields: TypeAlias = MutableMapping[str, Any]
"""A line's fields by name, as the processors of a line hand them on."""
ExcInfo: TypeAlias = "tuple[type[BaseException], BaseException, TracebackType | None]"
"""An exception as ``sys.exc_info`` gives it."""


def render(formatter: logging.Formatter, record: logging.LogRecord) -> bytes:
    """Return a record as its output shows it, line feed included; never raises."""
    try:
        return formatter.format(record).encode("utf-8", "backslashreplace") + b"\n"
    except Exception as error:  # noqa: BLE001 -- the arguments of a library's line may not fit its text
        fields = {"timestamp": _timestamp(record), "level": record.levelname.lower(), "logger": record.name}
        fields |= {"event": "log_line_unrenderable", "error.type": type(error).__name__}
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def own_record(event: str, keys: dict[str, object]) -> logging.LogRecord:
    """Return a record of the log about itself, as a warning of ours would give."""
    fields = {"levelname": "WARNING", "name": OWN_LOGGER, "msg": {"event": event, **keys}}
    return logging.makeLogRecord(fields | {"_logger": None, "_name": "warning"})  # as wrap_for_formatter does


def arrange(_logger: object, _method: str, event_dict: Fields) -> Fields:
    """Bring the fields into order, and an exception into fields."""
    record: logging.LogRecord = event_dict.pop("_record")
    fields: dict[str, Any] = {"timestamp": _timestamp(record), "level": record.levelname.lower()}
    if not event_dict.pop("_from_structlog"):
        fields["logger"] = record.name
    fields["event"] = event_dict.pop("event")
    exc_info = _exc_info(event_dict.pop("exc_info", None))
    for key, value in event_dict.items():
        fields[f"{key}_" if key in _RESERVED else key] = value
    if exc_info is not None:
        fields["exc_info"] = exc_info
    return fields


def masked(text: str) -> str:
    """Return a text with every secret in it masked."""
    return redact(text).text


def to_json(_logger: object, _method: str, fields: Fields) -> str:
    """Write the fields as one JSON object within the limit of a line."""
    if not any(type(value) is str and len(value) > MAX_LINE_BYTES for value in fields.values()):
        encoded = _encode(fields)
        if len(encoded) < MAX_LINE_BYTES:
            line = masked(encoded.decode())
            if len(line.encode()) < MAX_LINE_BYTES:
                return line
    return _fit(fields).decode()


def printable(_logger: object, _method: str, fields: Fields) -> Fields:
    """Turn values into text of bounded length that cannot drive the terminal."""
    exc_info: ExcInfo | None = fields.pop("exc_info", None)
    shown: Fields = {key: _show(_masked_value(key, text(value, str))) for key, value in fields.items()}
    if exc_info is not None:
        lines = masked("".join(traceback.format_exception(*exc_info, limit=-40))).rstrip().split("\n")
        shown["exception"] = "\n".join(map(_show, lines))[:MAX_LINE_BYTES]
    return shown


def text(value: object, how: Callable[[object], str]) -> str:
    """Return what ``how`` (str or repr) makes of anybody's value, or that it raised."""
    try:
        return _clean(how(value))
    except Exception as error:  # noqa: BLE001 -- anybody's __repr__ or __str__
        return f"<{type(value).__name__}: {how.__name__} raised {type(error).__name__}>"


def _masked_value(key: str, value: str) -> str:
    """Mask a value by what it is, and by what its key says of it."""
    shown = masked(value)
    beside = masked(f"{key}={shown}")
    return beside.removeprefix(f"{key}=") if beside != f"{key}={shown}" else shown


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _exc_info(value: object) -> ExcInfo | None:
    match value:
        case BaseException():
            return type(value), value, value.__traceback__
        case (type(), BaseException() as error, _):
            return type(error), error, error.__traceback__
        case _:
            return _exc_info(sys.exc_info()[1]) if value and value != (None, None, None) else None


def _encode(value: object) -> bytes:
    """Write anything as JSON: what JSON cannot hold becomes its repr."""
    try:
        return orjson.dumps(value, default=_stand_in, option=_JSON)
    except Exception:  # noqa: BLE001 -- half a surrogate, a circle, a long integer, a key that is no text, …
        return orjson.dumps(_plain(value, (), [_PLAIN_NODES]), option=_JSON)


def _stand_in(value: object) -> object:
    match value:
        case Mapping():
            return dict(value)
        case list() | tuple() if not hasattr(value, "_fields"):
            return list(value)
        case int() | float():
            return int(value) if isinstance(value, int) else float(value)
        case os.PathLike():
            return str(value)
        case _:
            return text(value, repr)


def _plain(value: object, above: tuple[int, ...], nodes_left: list[int]) -> object:
    """Return what of ``value`` can be encoded, circles and excess replaced by a mark."""
    nodes_left[0] -= 1
    if nodes_left[0] < 0 or id(value) in above:
        return "…"
    inside = (*above, id(value))
    if isinstance(value, Mapping):
        return {_clean(text(key, str)): _plain(part, inside, nodes_left) for key, part in list(value.items())}
    if type(value) in (list, tuple):
        return [_plain(part, inside, nodes_left) for part in cast("list[object]", value)]
    if type(value) is str:
        return _clean(value)
    try:
        return orjson.Fragment(orjson.dumps(value, default=_stand_in, option=_JSON))
    except Exception:  # noqa: BLE001
        return _clean(text(value, repr))


def _clean(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _fit(fields: Fields) -> bytes:
    """Write ``fields`` below the line limit, the longest values cut to one common length."""
    parts: dict[str, tuple[object, bytes]] = {}
    budget = MAX_LINE_BYTES - len('{"truncated":true}\n') - _MASK_BYTES
    for name, value in fields.items():
        key = _clean(name)[:_KEY_CHARS]
        # What is longer than twice the line is cut first, far behind what is shown of it.
        cut = masked(value[: 2 * MAX_LINE_BYTES])[:MAX_LINE_BYTES] if type(value) is str else value
        budget -= len(orjson.dumps(key)) + len(':"",')
        if budget < MAX_LINE_BYTES // 2:
            break  # thousands of keys: the rest is left out
        encoded = _encode(cut) if type(value) is str else masked(_encode(cut).decode()).encode()
        parts[key] = (cut, encoded)
    cap = _common_length([len(encoded) for _, encoded in parts.values()], budget)
    fitted = {
        key: orjson.Fragment(encoded if len(encoded) <= cap + 2 else _shorten(value, encoded, cap + 2))
        for key, (value, encoded) in parts.items()
    }
    # Once more, for what a key says of its value: "password" alone is a reason to mask.
    whole = masked(orjson.dumps(fitted | {"truncated": True}).decode()).encode()
    if len(whole) < MAX_LINE_BYTES:
        return whole
    first = {key: fitted[key] for key in ("timestamp", "level", "event") if key in fitted}
    return masked(orjson.dumps(first | {"truncated": True}).decode()).encode()


def _common_length(sizes: list[int], budget: int) -> int:
    """Return the greatest length to which all may be cut so that their sum stays within ``budget``."""
    left = budget
    for rank, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - rank)
        if size > share:
            return share
        left -= size
    return budget


def _shorten(value: object, encoded: bytes, most: int) -> bytes:
    text = (value if type(value) is str else encoded.decode())[:most]
    shortened = _encode(text)
    while len(shortened) > most:
        text = text[: max(0, min(len(text) - 1, len(text) * (most - 2) // len(shortened)))]
        shortened = _encode(text)
    return shortened


def _show(text: str) -> str:
    cut = text[:_SHOWN_CHARS]
    return cut if cut.isprintable() else repr(cut)
