"""The line of a high-quality outcome, and the chat example made of it.

Both are put together from the bytes of the silver line: what was asked and answered passes through as it was written.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from cortex_autolearn.model import rawjson

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_decode_fields = msgspec.json.Decoder(rawjson.Fields).decode
_NULL: Final = b"null"
_QUOTE: Final = 0x22


class _Paths(msgspec.Struct):
    """Where a record's texts stand, as its canonical reading says."""

    task_id: str
    master: str | None
    input_field: str | None
    output_field: str | None


class Texts(msgspec.Struct):
    """What an outcome is made of: its canonical reading as JSON, what was asked and answered as JSON strings."""

    task_id: str
    master: str | None
    canonical: bytes
    asked: bytes
    answered: bytes


_decode_paths = msgspec.json.Decoder(_Paths).decode


def texts_of(silver: bytes) -> Texts | None:
    """Take one of our silver lines apart; None when it is none."""
    try:
        silver.isascii() or silver.decode()  # what passes through as it was written is not looked at again
        fields = _decode_fields(silver)
        return texts(bytes(fields["canonical"]), fields)
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
        return None


def texts(canonical: bytes, fields: rawjson.Fields) -> Texts:
    """Return what an outcome is made of.

    Arguments:
        canonical: the reading of the record, as JSON.
        fields: the record's top level.
    """
    paths = _decode_paths(canonical)
    asked, answered = _json_text(paths.input_field, fields), _json_text(paths.output_field, fields)
    return Texts(paths.task_id, paths.master, canonical, asked, answered)


def outcome_line(made_of: Texts, *, split: str, collected_at: str, file: bytes, offset: int) -> bytes:
    """Return an outcome's line with its line feed.

    Arguments:
        made_of: its reading and texts.
        split: ``training`` or ``validation``.
        collected_at: RFC 3339.
        file: the record's file, below ROOT, as JSON.
        offset: of the record in it.
    """
    return b'%b,"input":%b,"output":%b,"split":"%b","collected_at":"%b","source":{"file":%b,"offset":%d}}\n' % (
        made_of.canonical[:-1],
        made_of.asked,
        made_of.answered,
        split.encode(),
        collected_at.encode(),
        file,
        offset,
    )


def with_quality(made_of: Texts, quality: float, source: str) -> Texts:
    """Return what an outcome is made of, with a score that is not its own and whose it is: ``person`` or ``judge``."""
    canonical = _decode_fields(made_of.canonical)
    canonical |= {"quality_score": msgspec.Raw(_encode(quality)), "quality_source": msgspec.Raw(_encode(source))}
    return msgspec.structs.replace(made_of, canonical=_encode(canonical))


def as_json(text: str) -> bytes:
    """Return text as a JSON string."""
    return _encode(text)


def example_line(made_of: Texts, system_prompt: str) -> bytes:
    """Return the chat example of an outcome, with its line feed; nothing when it does not say what was asked.

    Arguments:
        made_of: its texts.
        system_prompt: ``{master}`` in it becomes the master's name.
    """
    if made_of.asked == _NULL:
        return b""
    master = made_of.master or "master"
    return b'{"system":%b,"messages":[{"role":"user","content":%b},{"role":"assistant","content":%b}]}\n' % (
        _system(system_prompt, master),
        made_of.asked,
        made_of.answered,
    )


@lru_cache(256)
def _system(prompt: str, master: str) -> bytes:
    return _encode(prompt.replace("{master}", master))


def texts_of_outcome(line: bytes) -> Texts:
    """Take an outcome's line apart, for its example."""
    fields = _decode_fields(line)
    asked, answered = bytes(fields["input"]), bytes(fields["output"])
    return Texts(_decode(fields["task_id"]), _decode(fields["master"]), b"", asked, answered)


def same_outcome(line: bytes, other: bytes) -> bool:
    """Tell whether two lines hold the same outcome, whenever it was collected."""
    try:
        left, right = _decode(line), _decode(other)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    left.pop("collected_at", None)
    right.pop("collected_at", None)
    return bool(left == right)


def is_line_of(line: bytes, task_id: str) -> bool:
    """Tell whether bytes are one whole outcome line, of this task."""
    if not line.endswith(b"}\n"):
        return False
    try:
        line.decode()
        return bool(_decode(_decode_fields(line)["task_id"]) == task_id)
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
        return False


def _json_text(path: str | None, fields: rawjson.Fields) -> bytes:
    """Return the text at a dotted path as a JSON string: one as it was written, anything else as compact JSON."""
    if path is None:
        return _NULL
    if "." not in path and path in fields:
        raw = bytes(fields[path])
        if raw[0] == _QUOTE:
            return raw
    text = rawjson.text_at(path, fields)
    return _NULL if text is None else _encode(text)
