"""What the reader promises for each kind of line that was found in the fleet's files."""

import json
import re
import time
import tracemalloc

import pytest

from cortex_autolearn.jsonscan.strict import MAX_KEYS, parse
from cortex_autolearn.jsonstream import MAX_DEPTH, Broken, Item, Reader, read

BEFORE = b'{"task_id":"before","n":{"task_id":"phantom"}}'
AFTER = b'{"task_id":"after"}\n{"task_id":"last"}\n'
FRAME = ["before", "after", "last"]


def run(data: bytes, *, closed: bool = False) -> tuple[list[Item], Reader]:
    reader = Reader()
    return reader.feed(data) + reader.finish(closed=closed), reader


def ids(items: list[Item]) -> list[object]:
    return [json.loads(bytes(item[2].get("task_id", b"null"))) for item in items if not isinstance(item, Broken)]


def broken(items: list[Item]) -> list[Broken]:
    return [item for item in items if isinstance(item, Broken)]


BAD = {
    "truncated": (b'{"task_id":"x","output":"hello wor', "truncated object"),
    "truncated number": (b'{"task_id":"x","retries":1', "truncated object"),
    "truncated before a value": (b'{"task_id":"x","meta":', "truncated object"),
    "truncated in an array": (b'{"task_id":"x","items":[{"task_id":"phantom"},', "truncated object"),
    "truncated after a backslash": (b'{"task_id":"x","output":"C:\\', "truncated object"),
    "truncated, many lines": (b'{\n  "task_id": "x",\n  "meta": {\n    "a": 1', "truncated object"),
    "invalid UTF-8": (b'{"task_id":"x","output":"\xff\xfe"}', "invalid UTF-8"),
    "NaN": (b'{"task_id":"x","score":NaN}', "malformed object: not a JSON value (NaN)"),
    "lone surrogate": (b'{"task_id":"x","output":"\\ud800"}', "malformed object: lone surrogate"),
    "bad escape": (b'{"task_id":"x","output":"\\x41"}', "malformed object: invalid escaped character"),
    "control character": (b'{"task_id":"x","output":"a\x01b"}', "malformed object: invalid character"),
    "NUL bytes": (b"\0" * 64, "NUL bytes"),
    "trailing comma": (b'{"task_id":"x","meta":{"task_id":"phantom"},}', "malformed object: trailing comma"),
    "trailing comma in an array": (b'{"a":[{"task_id":"phantom"},]}', "malformed object: trailing comma"),
    "comment": (b'{"task_id":"x", // see {b} or {"task_id":"phantom"}\n"n":1}', "malformed object: comment"),
    "block comment": (b'{"task_id":"x", /* {"task_id":"phantom"} */ "n":1}', "malformed object: comment"),
    "hash comment": (b'{"task_id":"x", # {"task_id":"phantom"}\n "n":1}', "malformed object: comment"),
    "empty value": (b'{"task_id": ,"meta":{"task_id":"phantom"}}', "malformed object: missing value"),
    "missing comma": (b'{"a":[{"x":1} {"task_id":"phantom"}]}', "malformed object: unexpected bracket"),
    "single quotes": (b"{'task_id':'{\"task_id\":\"phantom\"}'}", "malformed object: text in single quotes"),
    "unquoted key": (b"{task_id: 1}", "malformed object: key without quotes"),
    "nesting of 10,000": (b'{"task_id":"x","a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nested too deeply"),
    "array of 10,000": (b"[" * 10_000 + b"]" * 10_000, "nested too deeply"),
    "not JSON": (b"Traceback (most recent call last):", "not JSON"),
    "closing brace": (b"}", "not JSON"),
    "closing bracket": (b"]", "not JSON"),
    "empty object in text": (b"x = {}", "not JSON"),
    "braces in text": (b"Traceback {foo}", "not JSON"),
    "array": (b"[1,2,3]", "not an object"),
    "array of objects": (b'[{"task_id":"phantom"}]', "not an object"),
    "array over lines": (b'[\n{"task_id":"phantom"},\n{"task_id":"phantom"}\n]', "not an object"),
    "string": (b'"text {"', "not an object"),
    "number": (b"42", "not an object"),
    "null": (b"null", "not an object"),
    "trailing comma, indent 2": (
        b'{\n  "a": [\n    {\n      "x": 1\n    },\n  ]\n}',
        "malformed object: trailing comma",
    ),
    "trailing comma, indent 0": (b'{\n"a": [\n{\n"x": 1\n},\n{\n"y": 2\n},\n]\n}', "malformed object: trailing comma"),
    "NaN, indent 0": (b'{\n"a": NaN,\n"b": {\n"x": 1\n}\n}', "malformed object: not a JSON value (NaN)"),
    "line break in text": (
        b'{\n "a": "x\ny",\n "b": [\n  {\n   "x": 1\n  }\n ]\n}',
        "malformed object: line break in a string",
    ),
}


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_stretch_is_quarantined_once_and_its_neighbours_are_kept(kind: str, end: bytes) -> None:
    """Each bad kind between good lines: good lines kept, the bad stretch quarantined whole, once, with its reason."""
    text, reason = BAD[kind]
    items, reader = run(BEFORE + end + text + end + AFTER)
    assert ids(items) == FRAME
    assert broken(items) == [Broken(len(BEFORE + end), len(text), reason, text)]
    assert reader.consumed == reader.whitespace + reader.object_bytes + reader.broken_bytes


GOOD = {
    "byte order mark": (b'\xef\xbb\xbf{"task_id":"x"}\n', ["x"]),
    "glued": (b'{"task_id":"x"}{"task_id":"y"} \t{"task_id":"z","n":[{}]}\n', ["x", "y", "z"]),
    "CRLF": (b'{"task_id":"x"}\r\n\r\n{"task_id":"y"}\r\n', ["x", "y"]),
    "blank lines": (b' \n\n\t{"task_id":"x"}  \n\n', ["x"]),
    "jq": (b'{\n  "task_id": "x",\n  "meta": {\n    "task_id": "phantom"\n  }\n}\n', ["x"]),
    "indent 0": (b'{\n"task_id": "x",\n"a": [\n{\n"task_id": "phantom"\n},\n{}\n]\n}\n', ["x"]),
    "compact items in column 0": (b'{"task_id":"x","a":[\n{"task_id":"p"},\n{"task_id":"q"}\n]}\n', ["x"]),
    "a closing brace in column 0": (b'{\n  "task_id": "x", "a": {\n}, "b": 1}\n', ["x"]),
    "huge number": (b'{"task_id":"x","n":1e999,"m":' + b"9" * 5000 + b"}\n", ["x"]),
    "brackets in strings": (b'{"task_id":"x","s":"' + b"[{" * 2000 + b'"}\n', ["x"]),
    "deep, but not too deep": (
        b'{"task_id":"x","a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}\n",
        ["x"],
    ),
    "a line of 50 MB": (b'{"task_id":"x","output":"' + b"y" * 50_000_000 + b'"}\n', ["x"]),
}


@pytest.mark.parametrize("kind", GOOD)
def test_what_is_whole_is_kept(kind: str) -> None:
    """Whatever way a good object is written, it is yielded with its exact bytes, and nothing inside it is."""
    text, expected = GOOD[kind]
    items, reader = run(BEFORE + b"\n" + text + AFTER)
    assert ids(items) == ["before", *expected, "after", "last"]
    assert not broken(items)
    for offset, exact, fields in (item for item in items if not isinstance(item, Broken)):
        assert (BEFORE + b"\n" + text + AFTER)[offset : offset + len(exact)] == exact
        assert all(bytes(raw) in exact for raw in fields.values())
        assert "task_id" in fields
    assert reader.whitespace + reader.object_bytes == reader.consumed == len(BEFORE + b"\n" + text + AFTER)


RESYNC = [
    (b'{"task_id":"a","output":"hello wor{"task_id":"b","n":{"x":1}}', b'{"task_id":"a","output":"hello wor', ["b"]),
    (b'{"task_id":"a","output":"hello wor{ "task_id": "b"}', b'{"task_id":"a","output":"hello wor', ["b"]),
    (b'{"task_id":"a","outp{"task_id":"b"}', b'{"task_id":"a","outp', ["b"]),
    (b'{"task_id":"a","output":"he said \\{"task_id":"b"}', b'{"task_id":"a","output":"he said \\', ["b"]),
    (b'{"task_id":"a","output":"{"task_id":"b"}', b'{"task_id":"a","output":"', ["b"]),
    (b'{"task_id":"a","retries":1{"task_id":"b"}{"task_id":"c"}', b'{"task_id":"a","retries":1', ["b", "c"]),
    (b'{"task_id":"a",{"task_id":"b"}', b'{"task_id":"a",', ["b"]),
    (b'{{"task_id":"b"}', b"{", ["b"]),
    (b'{"task_id":"a","meta":{"task_id":"phantom"}', b'{"task_id":"a","meta":{"task_id":"phantom"}', []),
    (b'{"task_id":"a","output":"hello wor{\n  "task_id": "b"\n}', b'{"task_id":"a","output":"hello wor', ["b"]),
    (b'\0\0\0\0{"task_id":"b"}', b"\0\0\0\0", ["b"]),
    (b'\0\0\0\0{\n  "task_id": "b"\n}', b"\0\0\0\0", ["b"]),
    (b'}{"task_id":"b"}', b"}", ["b"]),
    (b'2025-11-27 INFO: {"task_id":"b"}', b"2025-11-27 INFO:", ["b"]),
    (b'[2025-11-27 10:00:00] INFO: {"task_id":"b"}', b"[2025-11-27 10:00:00] INFO:", ["b"]),
    (b'[1,2,3] {"task_id":"b"}', b"[1,2,3]", ["b"]),
    (b'INFO {"task_id":\n "b"}', b"INFO", ["b"]),
]


@pytest.mark.parametrize(("line", "bad", "expected"), RESYNC)
def test_an_object_after_a_tear_or_after_text_is_kept(line: bytes, bad: bytes, expected: list[str]) -> None:
    """What precedes a whole object on its line is quarantined alone; the object, and the lines around, are kept."""
    items, _ = run(BEFORE + b"\n" + line + b"\n" + AFTER)
    assert ids(items) == ["before", *expected, "after", "last"]
    assert [item.text for item in broken(items)] == [bad]


def test_text_that_holds_parts_of_a_record_yields_none_of_them() -> None:
    """The second line of a record whose writer did not escape a line break is no source of tasks."""
    items, _ = run(b'{"task_id":"x","s":"one\ntwo","a":[{"task_id":"p"},{"task_id":"q"}],"m":{"y":2}}\n' + AFTER)
    assert ids(items) == ["after", "last"]
    assert len(broken(items)) == 2


RECORD = {
    "task_id": "torn",
    "description": 'see {"a":1} and "q" [x] // http://x {',
    "output": {"files": [{"path": "a.py", "n": 1}, {"path": "b{", "n": -2.5e3}], "ok": True, "none": None},
    "tags": ["x", "y{", "日本 \\ \n\t", "{"],
    "empty": {},
    "none": [],
    "meta": {"w": {"deep": [[{"z": 1}]]}},
}
NEXT = [{"task_id": "g1", "output": {"a": [{"b": 1}]}, "s": "x{"}, {"task_id": "g2", "m": {"n": {}}}, {"task_id": "g3"}]


def encode(value: object, indent: int | None) -> bytes:
    separators = (",", ":") if indent is None else None
    return json.dumps(value, indent=indent, ensure_ascii=False, separators=separators).encode()


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("after", [None, 2])
@pytest.mark.parametrize("indent", [None, 0, 2, 4])
def test_a_record_torn_anywhere_costs_no_other_record(indent: int | None, after: int | None, end: bytes) -> None:
    """Torn at any byte, compact or over many lines: one broken stretch, every record after it, and no phantom."""
    text = encode(RECORD, indent)
    rest = b"".join(encode(record, after) + b"\n" for record in NEXT)
    for at in range(1, len(text)):
        items, _ = run(text[:at] + end + rest)
        # An array's objects are in column 0, as the next record is: with no indentation the two look the same.
        same = indent == 0 and after is not None and text[:at].rstrip().endswith((b"[", b","))
        assert ids(items) == ["g1", "g2", "g3"] or (same and ids(items) == ["g2", "g3"]), text[:at]
        assert len(broken(items)) == 1


@pytest.mark.parametrize("indent", [None, 2])
def test_a_record_glued_to_a_torn_one_is_kept(indent: int | None) -> None:
    """Without even a line break in between the next record is kept, but for a tear where a value was to come."""
    text = encode(RECORD, indent)
    rest = b"".join(encode(record, None) + b"\n" for record in NEXT)
    for at in range(1, len(text)):
        items, _ = run(text[:at] + rest)
        lost = value_is_due(text[:at]) and not text[:at].endswith(b"\n")
        assert ids(items) == (["g2", "g3"] if lost else ["g1", "g2", "g3"]), text[:at]
        assert len(broken(items)) == 1


def value_is_due(prefix: bytes) -> bool:
    """Whether valid JSON may go on with an object after the prefix."""
    closers = ""
    for token in re.findall(rb'"(?:[^"\\]|\\.)*"|"|[{}\[\]]', prefix):
        if token in b"{[":
            closers = ("}" if token == b"{" else "]") + closers
        elif token in b"}]":
            closers = closers[1:]
    try:
        json.loads(prefix.decode(errors="replace") + "{}" + closers)
    except json.JSONDecodeError:
        return False
    return True


def test_the_last_object_needs_no_line_break() -> None:
    """A closing brace completes an object, whether or not its line has ended."""
    items, reader = run(b'{"task_id":"a"}\n{"task_id":"b"}')
    assert ids(items) == ["a", "b"]
    assert reader.consumed == 31


@pytest.mark.parametrize(
    "tail", [b'{"task_id":"b', b"{\n", b'{"a":"\xc3', b"Trace", b"\xef\xbb", b"42", b'{"a":1 {"b":2}']
)
def test_an_unfinished_tail_waits_until_the_file_is_closed(tail: bytes) -> None:
    """A tail is left for the next run; when the file grows no more it is quarantined, and good objects in it kept."""
    items, reader = run(b'{"task_id":"a"}\n' + tail)
    assert ids(items) == ["a"]
    assert not broken(items)
    assert reader.consumed == 16
    items, reader = run(b'{"task_id":"a"}\n' + tail, closed=True)
    assert b"".join(i.text or b"" for i in broken(items)) + b"".join(
        i[1] for i in items[2:] if not isinstance(i, Broken)
    )
    assert reader.consumed == 16 + len(tail.rstrip()) + (len(tail) - len(tail.rstrip()))
    assert len(broken(items)) == 1


def test_closing_resynchronises_inside_the_tail() -> None:
    """A whole object after a tear in the last bytes of a closed file is yielded."""
    items, reader = run(b'{"task_id":"a","n":1{"task_id":"b"}', closed=True)
    assert ids(items) == ["b"]
    assert reader.consumed == 35


def test_a_reader_goes_on_after_finish() -> None:
    """What was pending at the end of a run is completed by the bytes that come later."""
    reader = Reader(100)
    assert reader.feed(b'{"task_') + reader.finish() == []
    assert ids(reader.feed(b'id":"a"}\n')) == ["a"]
    assert reader.consumed == 116


def test_read_yields_the_items_of_all_chunks() -> None:
    """The generator gives what the reader gives, with offsets in the file."""
    items = list(read([b'{"task_id":"a"}\n{"ta', b'sk_id":"b"}\n{"c'], start=1000, closed=True))
    assert ids(items) == ["a", "b"]
    assert [item[0] for item in items if not isinstance(item, Broken)] == [1000, 1016]
    assert broken(items) == [Broken(1032, 3, "truncated object", b'{"c')]


@pytest.mark.parametrize(
    "text",
    [
        b'{"task_id":"x","s":"' + b"y" * 1_000_000 + b'"}',
        b'{\n"task_id":"x","s":["' + b'yyyyyyyy",\n"' * 50_000 + b'"]}',
        b"\0" * 1_000_000,
        b"{" * 300_000,
        b'{"a":"' + b"y" * 1_000_000,
    ],
)
def test_what_is_over_the_limit_is_quarantined_by_position_and_not_held(text: bytes) -> None:
    """A stretch over the limit has no text, costs no memory beyond the limit and a chunk, and no later record."""
    limit, size = 100_000, 10_000
    data = text + b"\n" + AFTER
    reader = Reader(max_object_bytes=limit)
    items: list[Item] = []
    tracemalloc.start()
    try:
        for at in range(0, len(data), size):
            items += reader.feed(data[at : at + size])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    items += reader.finish(closed=True)
    assert ids(items) == ["after", "last"]
    assert {(item.reason, item.text) for item in broken(items)} == {(f"over {limit} bytes", None)}
    assert reader.broken_bytes == len(text)
    stack = 300_000 if text.startswith(b"{{") else 0  # one byte a bracket
    assert peak < 8 * limit + 3 * stack


ADVERSARIAL = [
    b"{",
    b'{"a":',
    b'{"a":1 ',
    b"[",
    b'"',
    b'{"',
    b"}",
    b"'",
    b"/*",
    b'{"a":1}',
    b'x{"',
    b'{"a":1\n',
    b'{\n"a": [\n',
]


@pytest.mark.parametrize("piece", ADVERSARIAL)
def test_the_work_is_linear(piece: bytes) -> None:
    """Four times the bytes take about four times the time, however unkind they are."""

    def seconds(count: int) -> float:
        data = piece * count
        began = time.process_time()
        for _ in read((data[at : at + 65536] for at in range(0, len(data), 65536)), closed=True):
            pass
        return time.process_time() - began

    few, many = min(seconds(20_000), seconds(20_000)), seconds(80_000)
    assert many < 10 * few + 0.2


def test_a_pending_stretch_is_not_read_again() -> None:
    """An unfinished object is not scanned from its start with each chunk that comes."""
    data = b'{\n  "a": "' + b"x" * 20_000_000 + b'"\n}\n'
    began = time.process_time()
    items = list(read(data[at : at + 16384] for at in range(0, len(data), 16384)))
    assert time.process_time() - began < 5
    assert len(items) == 1
    assert not broken(items)


WIDE = {
    "at the top": b'{"task_id":"x",%b}',
    "below": b'{"task_id":"x","metadata":{%b}}',
    "over many lines": b'{\n  "task_id": "x",\n  "list": [{}, {%b}]\n}',
}


@pytest.mark.parametrize("where", WIDE)
def test_an_object_of_too_many_keys_is_quarantined(where: str) -> None:
    """Once, with its text, wherever in the record it stands; the records beside it are read."""
    text = WIDE[where] % b",".join(b'"%x":1' % number for number in range(MAX_KEYS + 1))
    items, reader = run(b'{"task_id":"before"}\n' + text + b"\n" + AFTER)
    assert ids(items) == FRAME
    assert [(item.reason, item.text) for item in broken(items)] == [("too many keys", text)]
    assert reader.broken_bytes == len(text)


def test_what_has_too_many_keys_is_never_made() -> None:
    """Python takes thirty times the record for it: one of 64 MiB would end the daemon, at each start anew."""
    text = WIDE["at the top"] % b",".join(b'"%x":1' % number for number in range(4 * MAX_KEYS))
    tracemalloc.start()
    try:
        assert parse(text) == "too many keys"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(text)


def test_many_keys_in_many_objects_are_no_harm() -> None:
    """They count for each object, and a text may hold any number of colons."""
    inside = b",".join(b'{"a":1,"b":{}}' for _ in range(MAX_KEYS // 2))
    keys = b",".join(b'"%x":1' % number for number in range(MAX_KEYS - 3))
    text = b'{"task_id":"x","output":[%b],"said":"%b",%b}\n' % (inside, b'{\\":' * MAX_KEYS, keys)
    items, _ = run(text)
    assert ids(items) == ["x"]
    assert not broken(items)
