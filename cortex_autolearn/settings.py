"""The configuration: ``cortex-autolearn.toml``, environment and flags become one frozen :class:`Settings`.

A flag beats the environment, which beats the file, which beats the default. Everything that is wrong is reported at
once, a bad value that a stronger source overrides included: a wrong file is wrong. The policies and their limits are
declared in ``model.policy``; finding and naming the given values is the work of ``settings_sources``.

To add a section, declare its struct (``model.policy`` says how) and add a line to :class:`Settings`.
"""

from __future__ import annotations

import math
import zoneinfo
from difflib import get_close_matches
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from msgspec import NODEFAULT, Struct

from cortex_autolearn.model.bedrock_policy import BedrockPolicy
from cortex_autolearn.model.judge_policy import JudgePolicy
from cortex_autolearn.model.layout import CONFIG
from cortex_autolearn.model.openai_policy import OpenaiPolicy
from cortex_autolearn.model.policy import (
    DaemonPolicy,
    GatePolicy,
    LogPolicy,
    MedallionPolicy,
    RetentionPolicy,
    SchedulePolicy,
    Shape,
    WatchPolicy,
    contradictions,
    shape_of,
)
from cortex_autolearn.model.rollout_policy import RolloutPolicy
from cortex_autolearn.model.service_policy import HttpPolicy
from cortex_autolearn.model.training_policy import DatasetPolicy, TrainingPolicy
from cortex_autolearn.settings_sources import (
    MASK,
    UNKNOWN,
    ConfigError,
    Field,
    Origin,
    Problem,
    Source,
    clipped,
    environment_name,
    flag_name,
    parsed,
    quoted,
    read_environment,
    read_file,
    read_flags,
    shown,
    suggest,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = [
    "ConfigError",
    "Field",
    "Loaded",
    "Origin",
    "Problem",
    "Row",
    "Settings",
    "fields",
    "load",
    "resolve",
    "rows",
    "show",
]

S = TypeVar("S", bound=Struct)

_REFUSALS: Final = (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError)


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything an operator may decide, a policy a section. ``Settings()`` is all defaults."""

    medallion: MedallionPolicy = msgspec.field(default_factory=MedallionPolicy)
    collect: GatePolicy = msgspec.field(default_factory=GatePolicy)
    judge: JudgePolicy = msgspec.field(default_factory=JudgePolicy)
    training: TrainingPolicy = msgspec.field(default_factory=TrainingPolicy)
    dataset: DatasetPolicy = msgspec.field(default_factory=DatasetPolicy)
    bedrock: BedrockPolicy = msgspec.field(default_factory=BedrockPolicy)
    openai: OpenaiPolicy = msgspec.field(default_factory=OpenaiPolicy)
    rollout: RolloutPolicy = msgspec.field(default_factory=RolloutPolicy)
    schedule: SchedulePolicy = msgspec.field(default_factory=SchedulePolicy)
    watch: WatchPolicy = msgspec.field(default_factory=WatchPolicy)
    log: LogPolicy = msgspec.field(default_factory=LogPolicy)
    retention: RetentionPolicy = msgspec.field(default_factory=RetentionPolicy)
    daemon: DaemonPolicy = msgspec.field(default_factory=DaemonPolicy)
    http: HttpPolicy = msgspec.field(default_factory=HttpPolicy)


class Loaded(Struct, frozen=True):
    """Settings and, for every dotted key, where its value came from.

    An origin reads ``default``, ``file PATH``, ``environment NAME`` or ``--set KEY``.
    """

    settings: Settings
    origins: dict[str, str]


class Row(Struct, frozen=True):
    """One line of ``config show``. ``value`` stands as in the file (TOML), ``plain`` as in JSON; secrets are masked."""

    key: str
    value: str
    origin: str
    plain: Any = None


def load(
    root: Path,
    *,
    environ: Mapping[str, str],
    config: Path | None = None,
    flags: Mapping[str, object] | None = None,
) -> Loaded:
    """Read the configuration of the tree at ``root``.

    Arguments:
        root: the folder that holds ``coordination/``; its ``cortex-autolearn.toml`` is read if there is one.
        environ: the environment; names that do not begin with ``CORTEX_AUTOLEARN__`` are ignored.
        config: a file to read instead of ``root``'s; it must exist.
        flags: dotted key → value, a text where the setting's type does not say otherwise; ``None`` means not given.

    Raises:
        ConfigError: with all that is wrong, in the order file, environment, flags, contradictions between settings.
    """
    settings, origins = resolve(
        Settings, config or root / CONFIG, required=config is not None, environ=environ, flags=flags or {}
    )
    return Loaded(settings, origins)


def resolve(
    schema: type[S], path: Path, *, required: bool, environ: Mapping[str, str], flags: Mapping[str, object]
) -> tuple[S, dict[str, str]]:
    """Do the work of :func:`load` for any struct of sections; ``required``: the file at ``path`` must exist."""
    known = {item.key: item for item in fields(schema)}
    problems: list[Problem] = []
    sections: dict[str, dict[str, Any]] = {info.name: {} for info in msgspec.structs.fields(schema)}
    sources = {key: Source(Origin.DEFAULT) for key in known}
    readers = (
        partial(read_file, path, required=required),
        partial(read_environment, environ),
        partial(read_flags, flags),
    )
    # The weakest source comes first, so that the strongest has the last word.
    for given in (given for read in readers for given in read(fields=known, problems=problems)):
        item = given.field
        value = _read(item.annotation, given.value, _At(given.source, item.key, item.secret, problems))
        if value is not _Bad.BAD:
            section, _, name = item.key.partition(".")
            sections[section][name] = value
            sources[item.key] = given.source
    built = {info.name: info.type(**sections[info.name]) for info in msgspec.structs.fields(schema)}
    bad = {problem.field for problem in problems}
    for section, policy in built.items():
        problems.extend(_contradiction_problems(section, policy, sources, bad))
    if problems:
        raise ConfigError(problems)
    return schema(**built), {key: str(source) for key, source in sources.items()}


def fields(schema: type[Struct] = Settings) -> list[Field]:
    """Return every setting, section by section, in the order of declaration."""
    return [
        _describe(f"{section.name}.{info.name}", info)
        for section in msgspec.structs.fields(schema)
        for info in msgspec.structs.fields(section.type)
    ]


def show(loaded: Loaded) -> list[Row]:
    """Return every setting with its effective value and where that came from."""
    return rows(loaded.settings, loaded.origins)


def rows(settings: Struct, origins: Mapping[str, str]) -> list[Row]:
    """Do the work of :func:`show` for any struct of sections."""
    result: list[Row] = []
    for item in fields(type(settings)):
        section, _, name = item.key.partition(".")
        value = getattr(getattr(settings, section), name)
        shape = shape_of(item.annotation)
        result.append(Row(item.key, _toml(shape, value), origins[item.key], _plain(shape, value)))
    return result


def _describe(key: str, info: msgspec.structs.FieldInfo, *, is_member: bool = False) -> Field:
    if info.required and not is_member:
        raise TypeError(f"the setting {key} has no default")
    shape = shape_of(info.type)
    inner, prefix = (shape, key) if shape.item is None else (shape_of(shape.item), f"{key}[]")
    inside = msgspec.structs.fields(inner.base) if inner.is_table else ()
    members = tuple(_describe(f"{prefix}.{member.name}", member, is_member=True) for member in inside)
    default: Any = info.default if info.default_factory is NODEFAULT else info.default_factory()
    kinds = {bool: "boolean", int: "integer", float: "number", str: "text"}
    return Field(
        key=key,
        type=kinds.get(shape.base) or {"a list": "list", "a table": "table"}.get(shape.noun, "choice"),
        default="" if info.required else _toml(shape, default),
        allowed=shape.allowed,
        description=shape.description,
        environment="" if is_member else environment_name(key),
        flag="" if is_member else flag_name(key),
        secret=shape.is_secret,
        members=members,
        annotation=info.type,
    )


def _toml(shape: Shape, value: Any) -> str:
    """Return a value as it stands in the file, masked where it is secret; an empty secret is seen to be empty."""
    if value is None:
        return ""
    if shape.extra.get("secret") and value:
        return quoted(MASK)
    if shape.item is not None:
        return "[" + ", ".join(_toml(shape_of(shape.item), item) for item in value) + "]"
    if shape.is_table:
        pairs = [
            f"{info.name} = {text}"
            for info in msgspec.structs.fields(value)
            if (text := _toml(shape_of(info.type), getattr(value, info.name)))
        ]
        return "{" + ", ".join(pairs) + "}"
    return quoted(value) if isinstance(value, str) else shown(value)


def _plain(shape: Shape, value: Any) -> Any:
    """Return a value as JSON holds it, masked as :func:`_toml` does."""
    if value is None:
        return None
    if shape.extra.get("secret") and value:
        return MASK
    if shape.item is not None:
        return [_plain(shape_of(shape.item), item) for item in value]
    if shape.is_table:
        members = msgspec.structs.fields(value)
        return {info.name: _plain(shape_of(info.type), getattr(value, info.name)) for info in members}
    return value


class _Bad(Enum):
    """Stands for a value that was refused (``None`` is a value)."""

    BAD = "bad"


class _At(Struct, frozen=True):
    """Where in the configuration a value stands."""

    source: Source
    key: str
    secret: bool
    problems: list[Problem]

    def inside(self, step: str) -> _At:
        return _At(self.source, self.key + step, self.secret, self.problems)

    def note(self, reason: str, *, value: str = "", allowed: str = "") -> _Bad:
        source = str(self.source)
        self.problems.append(Problem(source=source, field=self.key, value=value, allowed=allowed, reason=reason))
        return _Bad.BAD

    def refuse(self, shape: Shape, value: object, reason: str) -> _Bad:
        return self.note(reason, value=MASK if self.secret else shown(value), allowed=shape.allowed)


def _read(annotation: Any, value: object, at: _At) -> Any:
    """Return ``value`` as the type of a setting, or ``_Bad.BAD`` once all that is wrong with it is noted."""
    shape = shape_of(annotation)
    if value is None and shape.optional:
        return None
    if shape.item is not None and isinstance(value, list | tuple):
        return _read_list(annotation, shape, value, at)
    if shape.is_table and isinstance(value, dict):
        return _read_table(shape, value, at)
    reason = _refusal(annotation, shape, value, at)
    return at.refuse(shape, value, reason) if reason else msgspec.convert(value, annotation)


def _refusal(annotation: Any, shape: Shape, value: object, at: _At) -> str:
    """Return why ``value``, no list or table that was asked for, is refused, or nothing."""
    if isinstance(value, float) and not math.isfinite(value):
        return "not a finite number"
    if shape.item is not None or shape.is_table or not _converts(value, shape.base):
        return _mismatch(shape, value) + _hint(annotation, value, at)
    if not _converts(value, annotation):
        return "out of bounds" if shape.limits else "not in the form that is needed"
    return _text_reason(value, str(shape.extra.get("check", ""))) if isinstance(value, str) else ""


def _read_list(annotation: Any, shape: Shape, value: list[Any] | tuple[Any, ...], at: _At) -> Any:
    if not shape.limits.get("min_length", 0) <= len(value) <= shape.limits.get("max_length", len(value)):
        return at.refuse(shape, value, "out of bounds")
    items = [_read(shape.item, item, at.inside(f"[{index}]")) for index, item in enumerate(value)]
    return _Bad.BAD if _Bad.BAD in items else msgspec.convert(items, annotation)


def _read_table(shape: Shape, table: dict[Any, Any], at: _At) -> Any:
    known = {info.name: info for info in msgspec.structs.fields(shape.base)}
    before = len(at.problems)
    for name in (str(name) for name in table if name not in known):
        at.inside(f".{clipped(name)}").note(UNKNOWN + suggest(name, list(known), at.problems))
    values: dict[str, Any] = {}
    for name, info in known.items():
        if name in table:
            values[name] = _read(info.type, table[name], at.inside(f".{name}"))
        elif info.required:
            at.inside(f".{name}").note("missing", allowed=shape_of(info.type).allowed)
    # What is bad or missing is None for a moment, and contradicts nothing: the rest is judged nevertheless.
    missing = {name: None for name, info in known.items() if info.required}
    policy = shape.base(**missing | {name: None if value is _Bad.BAD else value for name, value in values.items()})
    sources = {f"{at.key}.{name}": at.source for name in known}
    at.problems.extend(_contradiction_problems(at.key, policy, sources, bad=set()))
    return policy if len(at.problems) == before else _Bad.BAD


def _converts(value: object, annotation: Any) -> bool:
    try:
        msgspec.convert(value, annotation, strict=True)
    except _REFUSALS:
        return False
    return True


def _contradiction_problems(
    key: str, policy: Struct, sources: Mapping[str, Source], bad: set[str]
) -> Iterator[Problem]:
    """Yield what contradicts itself in the table at ``key``; a field in ``bad`` has no value to judge."""
    shapes = {info.name: shape_of(info.type) for info in msgspec.structs.fields(policy)}
    for name, words, other in contradictions(policy):
        first, second = f"{key}.{name}", f"{key}.{other}"
        if not bad & {first, second}:
            blamed = sources[second] if sources[first].origin is Origin.DEFAULT else sources[first]
            values = [_toml(shapes[each], getattr(policy, each)) for each in (name, other)]
            reason = f"must be {words} {second} = {values[1]} ({sources[second]})"
            yield Problem(source=str(blamed), field=first, value=values[0], reason=reason)


def _mismatch(shape: Shape, value: object) -> str:
    if shape.base in (int, float) and type(value) is int:  # one that no machine number can hold
        return "out of bounds"
    return "not one of the choices" if shape.is_choice else f"not {shape.noun}"


def _hint(annotation: Any, value: object, at: _At) -> str:
    """Return what the writer probably overlooked, in brackets."""
    shape = shape_of(annotation)
    if at.source.origin is Origin.FILE:
        if isinstance(value, str) and not isinstance(parsed(value, annotation), str):
            return " (write it without quotes)"
        return " (write it in quotes)" if shape.base is str and not isinstance(value, dict | list) else ""
    return " (write it as JSON)" if isinstance(value, str) and (shape.is_table or shape.item is not None) else ""


def _text_reason(text: str, check: str) -> str:
    """Return why a text is refused beyond what its type says, or nothing."""
    if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        return "holds a NUL or bytes that are not UTF-8"
    match check:
        case "":
            return ""
        case "timezone":
            return _zone_reason(text)
        case "timezone_or_empty":
            return _zone_reason(text) if text else ""
        case _:
            raise ValueError(f"no check is called {check}")


def _zone_reason(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        zones = zoneinfo.available_timezones()
        if not zones:
            return "this machine has no time zone database; install the package tzdata"
        near = get_close_matches(clipped(name), sorted(zones), n=1)
        return "not a time zone" + (f"; did you mean {near[0]}?" if near else "")
    return ""
