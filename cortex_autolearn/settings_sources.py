"""What was given, where, and what was wrong with it: configuration file, environment, flags.

Finds out which setting each given value is meant for, parses what came as text, and refuses names that exist nowhere.
Whether a value is allowed is decided by ``settings``, which imports this module.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import stat
import tomllib
from datetime import date, datetime, time
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from cortex_autolearn.model.policy import shape_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PREFIX: Final = "CORTEX_AUTOLEARN__"
MASK: Final = "********"
UNKNOWN: Final = "unknown setting"
FILE_LIMIT_BYTES: Final = 1024**2

_SHOWN_CHARS: Final = 80
_SUGGESTIONS_UNTIL: Final = 100  # difflib is slow: a large file of junk must not keep the start waiting
_NEAR: Final = 0.7
_VERY_NEAR: Final = 0.85
_BOOLS: Final = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
_ADDRESS: Final = re.compile(r"(?:tcp|udp|sctp)://")
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,600}")  # Python may refuse to convert more than 640 digits
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]{1,600}(?:\.[0-9]{0,600})?|\.[0-9]{1,600})(?:[eE][+-]?[0-9]{1,9})?")


class Origin(StrEnum):
    """The kinds of source, the weakest first."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    FLAG = "flag"


class Source(Struct, frozen=True):
    """Where a value came from; its text is ``file PATH``, ``environment NAME``, ``--set KEY`` or ``default``."""

    origin: Origin
    where: str = ""

    def __str__(self) -> str:
        return self.where if self.origin is Origin.FLAG else f"{self.origin} {self.where}".rstrip()


class Field(Struct, frozen=True, kw_only=True):
    """One setting, described for tables, messages and the command line."""

    key: str
    """Dotted: ``collect.min_quality``; of a table in a list: ``medallion.score_scale[].low``."""
    type: str
    """``integer``, ``number``, ``boolean``, ``text``, ``choice``, ``list`` or ``table``."""
    default: str
    """As it would stand in the file; empty when it must be given (only in ``members``)."""
    allowed: str
    description: str
    environment: str
    """Name of its environment variable; empty for members."""
    flag: str
    """How the command line gives it, ``--set collect.min_quality``; empty for members."""
    secret: bool
    """Whether the value, or a part of it, must never be shown."""
    members: tuple[Field, ...]
    """The keys of each table, for a list of tables or a table."""
    annotation: Any
    """The type with its limits, for ``settings``."""


class Problem(Struct, frozen=True, kw_only=True):
    """One thing that is wrong with the configuration; its text is one line."""

    source: str
    field: str = ""
    """Dotted key; empty when the source as a whole is wrong."""
    value: str = ""
    """As given, shortened, masked when secret; withheld when the setting is unknown, as it may be a misspelt secret."""
    allowed: str = ""
    reason: str

    def __str__(self) -> str:
        value = f" = {self.value}" if self.value else ""
        field = f"{self.field}{value}: " if self.field else ""
        allowed = f"; allowed: {self.allowed}" if self.allowed else ""
        return _one_line(f"{self.source}: {field}{self.reason}{allowed}")


class ConfigError(Exception):
    """The configuration is wrong. ``problems`` holds all that is wrong with it; the text has one line for each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = list(problems)


class Given(Struct, frozen=True):
    """A value that somebody gave for a setting, not checked yet."""

    field: Field
    value: object
    source: Source


def read_file(path: Path, *, required: bool, fields: Mapping[str, Field], problems: list[Problem]) -> list[Given]:
    """Return what the TOML file at ``path`` gives; append what is wrong with it to ``problems``.

    A file that is not there gives nothing unless it is ``required``. Never raises for anything a file may be.
    """
    source = Source(Origin.FILE, str(path))
    document: dict[str, Any] = {}
    try:
        document = _parse(_read_bytes(path, required=required))
    except _UnreadableError as error:
        problems.append(Problem(source=str(source), reason=str(error)))
    sections = {key.partition(".")[0] for key in fields}
    given: list[Given] = []
    for section, table in document.items():
        if section not in sections:
            reason = "unknown section" if isinstance(table, dict) else UNKNOWN
            reason += suggest(section, [*sections, *fields], problems)
            problems.append(Problem(source=str(source), field=clipped(section), reason=reason))
        elif not isinstance(table, dict):
            problems.append(
                Problem(source=str(source), field=section, reason="not a table", allowed=f"a section, [{section}]")
            )
        else:
            given += _read_section(section, table, source, fields, problems)
    return given


def read_environment(
    environ: Mapping[str, str], *, fields: Mapping[str, Field], problems: list[Problem]
) -> list[Given]:
    """Return what ``CORTEX_AUTOLEARN__SECTION__KEY`` variables give; append unknown ones to ``problems``.

    A setting's name with one underscore for two would have no effect, so it is unknown as well. Others that begin with
    ``CORTEX_AUTOLEARN_`` are somebody's own, and so is the address that Kubernetes gives every process beside a service
    called cortex-autolearn-http, in ``CORTEX_AUTOLEARN_HTTP_PORT``.
    """
    known = {field.environment: field for field in fields.values()}
    meant = {_single(name): name for name in known}
    given: list[Given] = []
    for name, text in environ.items():
        if name in known:
            field = known[name]
            given.append(Given(field, parsed(text, field.annotation), Source(Origin.ENVIRONMENT, name)))
        elif name.upper().startswith(PREFIX):
            source = str(Source(Origin.ENVIRONMENT, clipped(name)))
            problems.append(Problem(source=source, reason=_unknown_variable(name, list(known), problems)))
        elif _single(name) in meant and not _ADDRESS.match(text):
            source = str(Source(Origin.ENVIRONMENT, clipped(name)))
            problems.append(Problem(source=source, reason=f"unknown variable; did you mean {meant[_single(name)]}?"))
    return given


def read_flags(flags: Mapping[str, object], *, fields: Mapping[str, Field], problems: list[Problem]) -> list[Given]:
    """Return what ``flags`` (dotted key → value) gives; ``None`` is a flag that was not used.

    A text for a setting that is none is parsed as an environment variable would be.
    """
    given: list[Given] = []
    for key, value in flags.items():
        if value is None:
            continue
        if key in fields:
            field = fields[key]
            meant = parsed(value, field.annotation) if isinstance(value, str) else value
            given.append(Given(field, meant, Source(Origin.FLAG, field.flag)))
        else:
            source = str(Source(Origin.FLAG, flag_name(clipped(key))))
            problems.append(Problem(source=source, field=clipped(key), reason=UNKNOWN + suggest(key, fields, problems)))
    return given


def environment_name(key: str) -> str:
    """``collect.min_quality`` → ``CORTEX_AUTOLEARN__COLLECT__MIN_QUALITY``."""
    return PREFIX + key.replace(".", "__").upper()


def flag_name(key: str) -> str:
    """``collect.min_quality`` → ``--set collect.min_quality``."""
    return f"--set {key}"


def shown(value: object) -> str:
    """Return a value as a message shows it: a scalar as it stands in TOML, shortened; of a collection its size."""
    text = f"a {type(value).__name__}"
    match value:
        case bool():
            text = "true" if value else "false"
        case int():
            text = str(value) if value.bit_length() < 256 else f"an integer of {value.bit_length()} bits"
        case float():
            text = repr(value)
        case str():
            text = quoted(clipped(value))
        case datetime() | date() | time():
            text = value.isoformat()
        case dict():
            text = f"a table with {len(value)} keys"
        case list() | tuple():
            text = f"a list of {len(value)}"
    return text


def quoted(text: str) -> str:
    """Return ``text`` as a TOML basic string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def parsed(text: str, annotation: Any) -> object:
    """Return what ``text`` means for a setting of this type, or ``text`` itself where it means nothing.

    A number is decimal digits; a bool true/false, yes/no, on/off or 1/0 in any case; a list or table is JSON; a text
    stands for itself, spaces included. Empty means none where that is allowed.
    """
    shape = shape_of(annotation)
    word = text.strip()
    if shape.optional and not word:
        return None
    if shape.base is bool:
        return _BOOLS.get(word.lower(), text)
    if shape.base in (int, float) or shape.is_number_or_word:
        return _parsed_number(word, is_float=shape.base is float)
    return _parsed_json(text) if shape.item is not None or shape.is_table else text


def _parsed_number(word: str, *, is_float: bool) -> object:
    if _INTEGER.fullmatch(word):
        return int(word)
    return float(word) if is_float and _NUMBER.fullmatch(word) else word


def _parsed_json(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return text


class _UnreadableError(Exception):
    """Why the file as a whole gives nothing, in words."""


def _read_bytes(path: Path, *, required: bool) -> bytes:
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _UnreadableError("not a regular file")
            data = file.read(FILE_LIMIT_BYTES + 1)
    except FileNotFoundError:
        if path.is_symlink():
            raise _UnreadableError("cannot be read: a link to a file that does not exist") from None
        if required:
            raise _UnreadableError("cannot be read: it does not exist") from None
        return b""
    except IsADirectoryError:
        raise _UnreadableError("not a regular file") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        cause = error.strerror if isinstance(error, OSError) else None
        raise _UnreadableError(f"cannot be read: {cause or error}") from None
    if len(data) > FILE_LIMIT_BYTES:
        raise _UnreadableError(f"larger than {FILE_LIMIT_BYTES} bytes")
    return data


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a FIFO at once, so that it can be refused: a plain open waits for its writer, for ever."""
    return os.open(path, flags | os.O_NONBLOCK)


def _parse(data: bytes) -> dict[str, Any]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise _UnreadableError(f"not UTF-8: line {line}, byte {column} of the line") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _UnreadableError(_syntax_reason(str(error), text)) from None
    except ValueError:  # Python's limit on the digits of an integer
        raise _UnreadableError("not valid TOML: an integer has too many digits") from None
    except RecursionError:
        raise _UnreadableError("not valid TOML: nested too deeply") from None


def _syntax_reason(message: str, text: str) -> str:
    text = text.replace("\r\n", "\n")
    if found := re.search(r" \(at line (\d+), column (\d+)\)$", message):
        line, column = found.group(1), found.group(2)
    else:
        line, column = str(text.count("\n") + 1), str(len(text) - text.rfind("\n"))
    what = re.sub(r" \(at [^()]*\)$", "", message)
    return f"line {line}, column {column}: not valid TOML: {what}"


def _read_section(
    section: str, table: dict[str, Any], source: Source, fields: Mapping[str, Field], problems: list[Problem]
) -> list[Given]:
    given: list[Given] = []
    for name, value in table.items():
        # A quoted key may hold a dot, and must not pass for the key of a nested table.
        field = fields.get(f"{section}.{name}") if "." not in name else None
        if field is not None:
            given.append(Given(field, value, source))
        else:
            reason = UNKNOWN + suggest(f"{section}.{name}", fields, problems)
            problems.append(Problem(source=str(source), field=f"{section}.{clipped(name)}", reason=reason))
    return given


def _single(name: str) -> str:
    """Return a variable's name as who writes one underscore for two would: no two settings have the same."""
    return re.sub("__+", "_", name.upper())


def _unknown_variable(name: str, known: Sequence[str], problems: Sequence[Problem]) -> str:
    upper = name.upper()
    if upper in known:
        return f"unknown variable, names are upper case; did you mean {upper}?"
    inside = [other for other in known if other.startswith(upper.rstrip("_") + "__")]
    if inside and upper.rstrip("_") + "__" != PREFIX:
        return f"names a section, not a setting; write {upper.rstrip('_')}__KEY, such as {inside[0]}"
    return "unknown variable" + suggest(upper, known, problems)


def suggest(name: str, known: Sequence[str] | Mapping[str, Field], problems: Sequence[Problem]) -> str:
    """Return ``; did you mean …?`` for a name that is near a known one, else nothing."""
    if len(name) > _SHOWN_CHARS or len(problems) > _SUGGESTIONS_UNTIL:
        return ""
    tail = name.removeprefix(_section_of(name))
    tails = {other: other.removeprefix(_section_of(other)) for other in sorted(known)}
    near = [other for other, own in tails.items() if own == tail]
    if not near:  # what two names of one section have in common says nothing
        inside = {own: other for other, own in tails.items() if _section_of(other) == _section_of(name)}
        near = [inside[own] for own in difflib.get_close_matches(tail, inside, n=1, cutoff=_NEAR)]
    if not near:
        others = {other.removeprefix(PREFIX): other for other in tails if _section_of(other) != _section_of(name)}
        whole = name.removeprefix(PREFIX)
        near = [others[own] for own in difflib.get_close_matches(whole, others, n=1, cutoff=_VERY_NEAR)]
    return f"; did you mean {near[0]}?" if near else ""


def _section_of(name: str) -> str:
    """Return the beginning of a setting's or a variable's name that says its section; mostly nothing."""
    for mark in (".", "__"):
        head, found, _ = name.rpartition(mark)
        if found:
            return head + mark
    return ""


def clipped(name: str) -> str:
    """Return a name that somebody wrote, shortened to what a message can carry."""
    return name if len(name) <= _SHOWN_CHARS else name[:_SHOWN_CHARS] + "…"


def _one_line(text: str) -> str:
    """Escape what would break the line or steer a terminal: names and paths may hold anything."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
