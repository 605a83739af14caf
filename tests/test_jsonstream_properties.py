"""Properties of the reader over random streams: nothing lost, nothing doubled, wherever the bytes are cut."""

import json
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex_autolearn.jsonstream import MAX_OBJECT_BYTES, Broken, Item, Reader, read

Seen = tuple[int, int, bytes | None, str]

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
values = st.recursive(
    scalars | st.sampled_from(['{"a":1}', "x{", "{", '"', "\\", "// {", "'", "\n{\n", "]", "}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
records = st.fixed_dictionaries({"task_id": st.just("good"), "a": values, "b": values})


class Piece(NamedTuple):
    text: bytes
    objects: tuple[bytes, ...]  # in the order in which they stand there


def written(record: dict[str, object], indent: int | None, *, escaped: bool) -> bytes:
    return json.dumps(record, indent=indent, ensure_ascii=escaped).encode()


compact = st.builds(written, records, st.none(), escaped=st.booleans())
pretty = st.builds(written, records, st.sampled_from([0, 2, 4]), escaped=st.booleans())
good = (compact | pretty).map(lambda text: Piece(text + b"\n", (text,)))
glued = st.lists(compact, min_size=2, max_size=3).map(lambda texts: Piece(b"".join(texts) + b"\n", tuple(texts)))
blank = st.sampled_from([b"\n", b"\r\n", b" \t\n", b"\n\n\n", b"\xef\xbb\xbf", b"  "]).map(lambda text: Piece(text, ()))

nested = b'{"x":{"phantom":1},"y":[{"phantom":2},{"phantom":3}]'
BROKEN = [
    nested + b",}",
    nested + b',"z":NaN}',
    nested + b',"z": ,"w":1}',
    nested + b',"z":"\xff"}',
    nested + b',"z":"\\ud800"}',
    nested + b' // {"phantom":4}\n}',
    b"{'x':'{\"phantom\":1}'}",
    b'{\n"x": [\n{\n"phantom": 1\n},\n],\n"y": {\n"phantom": 2\n}\n}',
    b'{\n  "x": "a\nb",\n  "y": [\n    {\n      "phantom": 1\n    }\n  ]\n}',
    b'[{"phantom":1},2]',
    b'[\n{"phantom":1}\n]',
    b"\0" * 20,
    b"Traceback (most recent call last):",
    b"x = {}",
    b"}",
    b"]]",
    b"42",
    b'"text"',
    nested,
    nested + b',"z":"hello',
    nested + b',"z":"C:\\',
    nested + b',"z":tru',
]
bad = st.sampled_from(BROKEN).map(lambda text: Piece(text + b"\n", ()))


@st.composite
def torn(draw: st.DrawFn) -> Piece:
    """A compact record that breaks off, and a line break after it."""
    text = draw(compact)
    return Piece(text[: draw(st.integers(1, len(text) - 1))] + b"\n", ())


# After a bad piece a compact line and the start of another record: until then a reader may not know what it sees.
anchored = st.builds(
    lambda piece, one, two: [piece, Piece(one + b"\n", (one,)), Piece(two + b"\n", (two,))],
    bad | torn(),
    compact,
    compact,
)
streams = st.lists(st.lists(good | glued | blank, max_size=3) | anchored, max_size=6).map(
    lambda groups: [piece for group in groups for piece in group]
)
# Anything at all, of the bytes that matter to a scanner.
SOUP = [
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"\n",
    b" ",
    b"a",
    b"1",
    b"\\",
    b"'",
    b"//",
    b"/*",
    b"*/",
    b"#",
    b"\0",
]
SOUP += [b"\xef\xbb\xbf", b"\xef", b'{"a":1}', b'"k"', b'{"', b'"a":', b"\r\n", b"null", b"\n{", b"\n}", b"\xff", b"{}"]
SOUP += [b'{"b":[1,{"c":2}]}\n', b"[1]", b"NaN", b"{\n", b"/"]
soup = st.lists(st.sampled_from(SOUP), max_size=40).map(b"".join)
data_of_any_kind = soup | streams.map(lambda pieces: b"".join(piece.text for piece in pieces))
limits = st.sampled_from([4, 10, 30, MAX_OBJECT_BYTES])


def seen(items: list[Item]) -> list[Seen]:
    return [
        (item.offset, item.length, item.text, item.reason)
        if isinstance(item, Broken)
        else (item[0], len(item[1]), item[1], "")
        for item in items
    ]


def in_one(data: bytes, limit: int, *, closed: bool) -> tuple[list[Seen], int]:
    reader = Reader(max_object_bytes=limit)
    return seen(reader.feed(data) + reader.finish(closed=closed)), reader.consumed


def is_white(text: bytes) -> bool:
    return not text.replace(b"\xef\xbb\xbf", b"").strip(b" \t\r\n")


@settings(deadline=None, max_examples=300)
@given(streams)
def test_every_good_object_is_kept_and_no_phantom_appears(pieces: list[Piece]) -> None:
    """Whatever stands between them, the good objects of a closed file come out, byte for byte, and nothing else."""
    data = b"".join(piece.text for piece in pieces)
    objects = [item[1] for item in read([data], closed=True) if not isinstance(item, Broken)]
    assert objects == [text for piece in pieces for text in piece.objects]


@settings(deadline=None)
@given(st.lists(good | glued | blank, max_size=8))
def test_valid_streams_leave_no_broken_stretch_and_nothing_pending(pieces: list[Piece]) -> None:
    """A stream of valid objects, written in any way, is read to its end without a quarantine."""
    data = b"".join(piece.text for piece in pieces)
    reader = Reader()
    items = reader.feed(data) + reader.finish()
    assert [item[1] for item in items if not isinstance(item, Broken)] == [t for p in pieces for t in p.objects]
    assert len(items) == sum(len(piece.objects) for piece in pieces)
    assert reader.consumed == len(data)


@settings(deadline=None, max_examples=300)
@given(data_of_any_kind, limits, st.booleans())
def test_every_byte_is_accounted_for(data: bytes, limit: int, closed: bool) -> None:
    """Bytes seen = objects + quarantined + white space + pending tail, and the items say which byte is which."""
    reader = Reader(7, max_object_bytes=limit)
    items = reader.feed(data) + reader.finish(closed=closed)
    assert reader.consumed - 7 == reader.whitespace + reader.object_bytes + reader.broken_bytes
    assert sum(size for _, size, _, reason in seen(items) if not reason) == reader.object_bytes
    position = 7
    for offset, size, text, reason in seen(items):
        assert is_white(data[position - 7 : offset - 7])
        assert size > 0
        assert text == data[offset - 7 : offset - 7 + size] or (text is None and reason.startswith("over"))
        position = offset + size
    assert is_white(data[position - 7 : reader.consumed - 7])
    assert not closed or reader.consumed == 7 + len(data)


def in_chunks(data: bytes, limit: int, sizes: list[int], *, closed: bool) -> tuple[list[Seen], int]:
    """One reader, fed pieces."""
    reader = Reader(max_object_bytes=limit)
    items: list[Item] = []
    at = 0
    while at < len(data):
        size = sizes[at % len(sizes)]
        items += reader.feed(data[at : at + size])
        assert reader.consumed == reader.whitespace + reader.object_bytes + reader.broken_bytes
        at += size
    return seen(items + reader.finish(closed=closed)), reader.consumed


def in_runs(data: bytes, limit: int, sizes: list[int], *, closed: bool) -> tuple[list[Seen], int]:
    """A new reader for each piece, which knows nothing but where the last one ended."""
    items: list[Item] = []
    consumed = end = 0
    while end < len(data):
        end = min(len(data), end + 3 * sizes[end % len(sizes)])
        reader = Reader(consumed, max_object_bytes=limit)
        items += reader.feed(data[consumed:end]) + reader.finish()
        consumed = reader.consumed
    reader = Reader(consumed, max_object_bytes=limit)
    items += reader.feed(data[consumed:]) + reader.finish(closed=closed)
    return seen(items), reader.consumed


def in_pauses(data: bytes, limit: int, sizes: list[int], *, closed: bool) -> tuple[list[Seen], int]:
    """One reader that is told at each piece that there is nothing more for now."""
    reader = Reader(max_object_bytes=limit)
    items: list[Item] = []
    at = 0
    while at < len(data):
        size = sizes[at % len(sizes)]
        items += reader.feed(data[at : at + size]) + reader.finish()
        at += size
    return seen(items + reader.finish(closed=closed)), reader.consumed


@pytest.mark.parametrize("way", [in_chunks, in_runs, in_pauses])
@settings(deadline=None, max_examples=300)
@given(data_of_any_kind, limits, st.lists(st.integers(1, 30), min_size=1, max_size=5) | st.just([1]), st.booleans())
def test_where_the_bytes_are_cut_makes_no_difference(
    way: Callable[..., tuple[list[Seen], int]], data: bytes, limit: int, sizes: list[int], closed: bool
) -> None:
    """Pieces of any size, pauses, and runs that start over from `consumed` give the items of one pass."""
    assert way(data, limit, sizes, closed=closed) == in_one(data, limit, closed=closed)


@settings(deadline=None, max_examples=300)
@given(data_of_any_kind, limits, st.lists(st.integers(0, 400), min_size=1, max_size=8))
def test_what_is_settled_stays_settled(data: bytes, limit: int, ends: list[int]) -> None:
    """The items of a prefix are the first items of the whole: bytes that come later change nothing."""
    whole, _ = in_one(data, limit, closed=True)
    for end in ends:
        items, _ = in_one(data[:end], limit, closed=False)
        assert items == whole[: len(items)]
