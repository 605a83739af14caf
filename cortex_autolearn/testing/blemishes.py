"""What goes wrong between a writer and the disk: broken stretches, and oddities that only look broken.

A broken stretch is a spoilt extra copy of a record, written right before the good one (its writer crashed and tried
again): so nothing is lost by it, and no two stretches ever touch.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

from cortex_autolearn.testing.dice import Dice
from cortex_autolearn.testing.facts import Truth, Write

BROKEN = ("truncated", "nan", "garbage", "invalid_utf8", "trailing_comma", "comment", "empty_value")
"""Kinds that are not JSON: one stretch in quarantine each."""

UNUSABLE = ("missing_id", "repeated_key")
"""Kinds that are JSON objects and cannot become silver: one object in quarantine each."""

HARMLESS = ("glued", "bom", "crlf", "blank_lines", "torn")
"""Kinds of which every object is good."""

KINDS = BROKEN + UNUSABLE + HARMLESS

_BOM = b"\xef\xbb\xbf"

_NOISE = (
    "-- log rotated --",
    "curl: (28) operation timed out after 30001 milliseconds",
    "jq: error (at <stdin>:0): cannot iterate over null",
    "flock: resource temporarily unavailable, going on without",
)


def spoil(dice: Dice, kind: str, host: Write, *, gap: timedelta, number: int) -> list[Write]:
    """Return what is written instead of ``host`` when a blemish of ``kind`` befalls it.

    Arguments:
        dice: where to cut, and the like.
        kind: one of :data:`KINDS`.
        host: a whole record of one task.
        gap: how long nothing else is written after it.
        number: of the blemish, within its day; it names the file of an export.
    """
    if kind in BROKEN:
        truth = Truth(kind, None, high_quality=False, split=None, quarantined_stretches=1)
        return [replace(host, data=_broken(dice, kind, host), truth=truth), host]
    if kind in UNUSABLE:
        truth = Truth(kind, None, high_quality=False, split=None, quarantined_objects=1)
        return [replace(host, data=_unusable(kind, host), truth=truth), host]
    return _harmless(dice, kind, host, gap, number)


def _broken(dice: Dice, kind: str, host: Write) -> bytes:
    record = json.loads(host.data)
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    asked = json.dumps(host.truth.records[0].input, ensure_ascii=False)[1:-1]
    inside = text.index(asked) + dice.between(5, len(asked) - 5)
    match kind:
        case "truncated":
            spoilt = text[:inside].encode()
        case "nan":
            spoilt = f'{text[:-1]},"load":NaN}}'.encode()
        case "garbage":
            spoilt = dice.pick(_NOISE).encode()
        case "invalid_utf8":
            spoilt = text[:inside].encode() + b"\xff\xfe" + text[inside:].encode()
        case "trailing_comma":
            spoilt = f"{text[:-1]},}}".encode()
        case "comment":
            first, rest = json.dumps(record, ensure_ascii=False, indent=2).split("\n", 1)
            spoilt = f"{first}\n  // set by hand, see ticket {dice.between(100, 999)}\n{rest}".encode()
        case _:
            spoilt = f'{{"reviewed_by":,{text[1:]}'.encode()
    return spoilt + b"\n"


def _unusable(kind: str, host: Write) -> bytes:
    record = json.loads(host.data)
    if kind == "missing_id":
        record = {key: value for key, value in record.items() if key not in ("id", "task_id")}
        return json.dumps(record, ensure_ascii=False).encode() + b"\n"
    return json.dumps(record, ensure_ascii=False)[:-1].encode() + b', "status": "completed"}\n'


def _harmless(dice: Dice, kind: str, host: Write, gap: timedelta, number: int) -> list[Write]:
    truth = replace(host.truth, kind=kind)
    match kind:
        case "glued":
            twice = replace(truth, records=host.truth.records * 2)
            return [replace(host, data=host.data.rstrip(b"\n") + host.data, truth=twice)]
        case "bom":
            file = f"export-{host.at:%Y%m%d}-{number:02d}.jsonl"
            data = _BOM + host.data.replace(b"\n", b"\r\n")
            return [host, replace(host, file=file, data=data, truth=truth)]
        case "crlf":
            return [replace(host, data=host.data.replace(b"\n", b"\r\n"), truth=truth)]
        case "blank_lines":
            return [replace(host, data=b"\n  \n" + host.data + b"\n", truth=truth)]
        case _:
            cut = dice.between(len(host.data) // 4, len(host.data) * 3 // 4)
            later = host.at + min(gap / 2, timedelta(seconds=2))
            return [
                replace(host, data=host.data[:cut], truth=replace(truth, records=())),
                replace(host, at=later, data=host.data[cut:], truth=truth),
            ]
