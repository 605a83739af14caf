"""``replay``: recorded outcomes, and what would have been decided."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import click
import msgspec

from cortex_autolearn import settings
from cortex_autolearn.canonical import Readers, master_name
from cortex_autolearn.cli.call import Command, json_option, pass_call
from cortex_autolearn.cli.printing import note, plural, print_json, printable, table
from cortex_autolearn.jsonstream import Broken, Reader
from cortex_autolearn.model.records import Canonical, Task
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.rollout.replay import DEFAULT_PERCENTAGE, Question, Recording

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cortex_autolearn.canonical import TaskReader
    from cortex_autolearn.cli.call import Call
    from cortex_autolearn.jsonstream import Object

_CHUNK_BYTES: Final = 1 << 20
_GZIP: Final = b"\x1f\x8b"
_NOTED: Final = 5
_MODELS_SHOWN: Final = 20
_decode: Final = msgspec.json.Decoder(Canonical).decode


@click.command(cls=Command)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
@click.option("--champion", metavar="MODEL", required=True, help="The model that is there.")
@click.option("--challenger", metavar="MODEL", required=True, help="The model that may replace it.")
@click.option("--master", metavar="MASTER", help="Count the tasks of this master only.  [default: all]")
@click.option("--percentage", type=click.IntRange(1, 99), help="The challenger's share.  [default: the policy's]")
@click.option("--maturation", metavar="S", type=click.IntRange(0), help="A task's window.  [default: the policy's]")
@click.option(
    "--policy", "policy_file", metavar="FILE", type=click.Path(), help="Configuration whose [rollout] is tried."
)
@json_option
@pass_call
def replay(
    call: Call,
    *,
    files: tuple[str, ...],
    champion: str,
    challenger: str,
    master: str | None,
    percentage: int | None,
    maturation: int | None,
    policy_file: str | None,
    as_json: bool,
) -> None:
    """Put recorded outcomes of two models through the decision, as if they arrived live.

    The files hold task records, one task a line, with "model"; gzip too, and - is standard input. Tasks are assigned by
    their hash; of those done by both models, the outcome of the assigned one counts. Needs no ROOT.

    \b
    Example:  cortex-autolearn replay outcomes.jsonl --champion v1.0.0 --challenger ft-20251127-001
              cortex-autolearn replay *.jsonl.gz --champion A --challenger B --percentage 50 --set rollout.min_tasks=50
    """
    if champion == challenger:
        raise click.UsageError("--champion and --challenger are the same model.")
    loaded = _configuration(call, policy_file)
    policy = loaded.rollout
    if maturation is not None:
        policy = msgspec.structs.replace(policy, maturation_s=maturation)
    share = percentage or (
        DEFAULT_PERCENTAGE if policy.challenger_percentage == "auto" else policy.challenger_percentage
    )
    recording = Recording(Question(champion, challenger, share, _master(master)))
    _read(files, recording, Readers(loaded.medallion, lambda: ()))
    _require_models(recording, files)
    shown = recording.replay(policy).as_dict(recording.question)
    if as_json:
        print_json(shown)
    else:
        click.echo(_summary(shown))


def _configuration(call: Call, policy_file: str | None) -> settings.Settings:
    config = Path(policy_file) if policy_file else call.config
    return settings.load(call.root, environ=os.environ, config=config, flags=call.flags).settings


def _master(text: str | None) -> str | None:
    name = master_name(text)
    if text is not None and name is None:
        raise click.UsageError(f"{printable(text)!r} cannot be the name of a master.")
    return name


def _read(files: tuple[str, ...], recording: Recording, readers: Readers) -> None:
    """Read the rows of all files; what is broken is told with its place, and left out."""
    noted = 0
    first = ""
    found = False
    readers.refresh()
    for name in files:
        reader = readers.of(name)
        for item in _items(name):
            problem = _take(item, recording, reader)
            if not problem:
                found = True
                continue
            recording.left_out["unreadable"] += 1
            offset = item.offset if isinstance(item, Broken) else item[0]
            place = f"{name}{_line(name, offset)}" if noted <= _NOTED else name
            first = first or f"{place}: {problem}"
            noted += 1
            if noted <= _NOTED:
                note(f"{place}: left out: {problem}")
    if noted > _NOTED:
        note(f"{plural(noted - _NOTED, 'more object')} left out.")
    if not found:
        raise _refusal(", ".join(files), first or "it holds no task record")


def _take(item: Object | Broken, recording: Recording, reader: TaskReader) -> str:
    """Hand a row to the recording; return what is wrong with it, if anything."""
    if isinstance(item, Broken):
        return item.reason
    _, raw, fields = item
    ours = _canonical(fields)
    if ours is not None:
        recording.add(ours)
        return ""
    task = reader.read(raw, fields)
    if not isinstance(task, Task):
        return task.reason
    recording.add(task.canonical)
    return ""


def _canonical(fields: Mapping[str, msgspec.Raw]) -> Canonical | None:
    """Return our reading where a record brings it; None for somebody else's use of the word."""
    if "canonical" not in fields:
        return None
    try:
        ours = _decode(fields["canonical"])
    except msgspec.MsgspecError:
        return None
    times = (ours.created_at, ours.started_at, ours.completed_at)
    is_ours = ours.task_id and all(one is None or one.tzinfo for one in times)
    return ours if is_ours else None


def _items(name: str) -> Iterator[Object | Broken]:
    with _open(name) as file:
        stream = Reader()
        try:
            while chunk := file.read(_CHUNK_BYTES):
                yield from stream.feed(chunk)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _refusal(name, f"not whole: {error}") from None
        except OSError as error:
            raise _refusal(name, error.strerror or str(error)) from None
        yield from stream.finish(closed=True)


def _open(name: str) -> BinaryIO:
    if name == "-":
        return sys.stdin.buffer
    path = Path(name)
    if path.exists() and not path.is_file():
        raise _refusal(name, "not a regular file")
    try:
        with path.open("rb") as file:
            packed = file.read(len(_GZIP)) == _GZIP
        return cast("BinaryIO", gzip.open(path, "rb")) if packed else path.open("rb")
    except (OSError, ValueError) as error:
        raise _refusal(name, getattr(error, "strerror", None) or str(error)) from None


def _line(name: str, offset: int) -> str:
    """Return the line of an offset, for a message; nothing where the input cannot be read twice."""
    if name == "-":
        return f" byte {offset}"
    line = 1
    with _open(name) as file:
        while offset > 0 and (chunk := file.read(min(offset, _CHUNK_BYTES))):
            line += chunk.count(b"\n")
            offset -= len(chunk)
    return f" line {line}"


def _require_models(recording: Recording, files: tuple[str, ...]) -> None:
    """Refuse a model that has no row where its name seems mistyped, or nothing is there to replay; else say so."""
    asked = recording.question
    others = [name for name in recording.models if name not in {asked.champion, asked.challenger}]
    is_any = any(recording.models[model] for model in (asked.champion, asked.challenger))
    for option, model in (("--champion", asked.champion), ("--challenger", asked.challenger)):
        if recording.models[model]:
            continue
        known = [name for name, _ in recording.models.most_common(_MODELS_SHOWN)]
        near = get_close_matches(model, others, n=1)
        if is_any and not near:
            note(f"no row of {option} {printable(model)}: it has no outcome.")
            continue
        guess = f"did you mean {near[0]}? " if near else ""
        found = f"Found are {', '.join(known)}" if known else 'No row has a "model"'
        hint = f"{guess}{found}"
        raise BoundaryError("replay", ", ".join(files), f"no row of {option} {model}", hint=hint, retryable=False)


def _refusal(name: str, cause: str) -> BoundaryError:
    hint = "Give files of task records, a JSON object each, plain or packed by gzip"
    return BoundaryError("read", name, cause, hint=hint, retryable=False)


def _summary(shown: dict[str, Any]) -> str:
    after, gain, variants = shown["decided_after"], shown["gain"], shown["variants"]
    rows = [("", "MODEL", "TASKS", "COMPLETED", "QUALITY", "SECONDS")]
    for letter, one in variants.items():
        numbers = (f"{one['tasks']:,}", _number(one["completion_rate"], " %"), _number(one["avg_quality"]))
        rows.append((letter, one["name"], *numbers, _number(one["avg_duration"])))
    tasks = f"{plural(after['tasks'], 'task')}, {after['challenger_tasks']:,} of them the challenger's"
    out = {name: count for name, count in shown["rows"].items() if name != "counted"}
    left = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in out.items())
    points = _number(gain["completion_points"], " points", sign="+")
    lines = [
        f"Decision: {shown['decision']}, after {tasks}",
        *[f"  - {printable(reason)}" for reason in shown["reasons"]],
        "",
        table(rows),
        "",
        f"Gain: quality {_number(gain['quality'], sign='+')}, completion {points}",
        "Evidence: " + ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in shown["evidence"].items()),
        f"Rows: {shown['rows']['counted']:,} counted, in the order of {shown['order']}",
    ]
    return "\n".join(lines + ([f"Left out: {left}"] if left else []))


def _number(value: float | None, unit: str = "", *, sign: str = "") -> str:
    return "unknown" if value is None else f"{value:{sign}.4g}{unit}"
