"""Values looked at as bytes: what is found is what a JSON reader finds, and looking takes little whatever stands there."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex_autolearn.model import rawjson

if TYPE_CHECKING:
    from collections.abc import Callable

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(WORDS, inside, max_size=4),
    max_leaves=12,
)
STYLES: list[dict[str, Any]] = [
    {"separators": (",", ":")},
    {"ensure_ascii": False},
    {"indent": 2, "separators": (" ,", " : ")},
]
MIB = 1 << 20


class TestWhereValuesStand:
    @given(st.lists(st.tuples(WORDS, VALUES), max_size=6), st.sampled_from(STYLES))
    def test_every_key_has_its_value(self, members: list[tuple[str, Any]], style: dict[str, Any]) -> None:
        """Keys come in their order, those that stand twice as well, each with just the bytes of its value."""
        between, colon = style.get("separators", (", ", ": "))
        written = [json.dumps(key, **style) + colon + json.dumps(value, **style) for key, value in members]
        raw = ("{ " + between.join(written) + "\n}").encode()
        found = [(key, raw[start:end]) for key, start, end in rawjson.spans(raw)]
        assert found == [(key, json.dumps(value, **style).encode()) for key, value in members]

    @given(st.lists(VALUES, max_size=6), st.sampled_from(STYLES))
    def test_every_entry_of_a_list(self, values: list[Any], style: dict[str, Any]) -> None:
        """Entries come in their order, each with just its bytes."""
        found = list(rawjson.entries(json.dumps(values, **style).encode()))
        assert [json.loads(one) for one in found] == values
        assert all(one == one.strip() for one in found)


class TestText:
    @given(VALUES, st.booleans())
    def test_a_value_is_the_same_text_however_its_writer_escapes(self, value: Any, slashes: bool) -> None:
        """An object or list counts as its compact JSON, in which only quotes, backslashes and controls are escaped."""
        value = [value, {'a "b\\u00e9 \\/\n': "Straße 😀 </b>"}]
        plain = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        written = plain.replace("/", "\\/") if slashes else json.dumps(value, indent=1)
        assert rawjson.text_of(written.encode()) == plain

    def test_a_letter_that_anybody_can_read_needs_no_escape(self) -> None:
        """Whatever was escaped, ASCII as well; what JSON must escape stays so, and numbers keep their digits."""
        written = rb'{"p\u0061th": ["\u003c\u002Fb\u003e\u0022\u005c\u0000\u000a", 1.50, 12345678901234567890123]}'
        assert rawjson.text_of(written) == r'{"path":["</b>\"\\\u0000\n",1.50,12345678901234567890123]}'


LARGE: dict[str, Callable[[int], bytes]] = {
    "a long key": lambda size: b'{ "%b":1}' % (b"k" * size),
    "a long key of escapes": lambda size: b'{ "%b":1}' % (b"\\n" * (size // 2)),
    "a list of objects": lambda size: b'{ "a":[%b{}]}' % (b"{}," * (size // 3)),
    "a list of texts": lambda size: b'{ "a":[%b""]}' % (b'"",' * (size // 3)),
    "a long text": lambda size: b'{ "a":"%b"}' % ("é".encode() * (size // 2)),
}


class TestLimits:
    @pytest.mark.parametrize("kind", LARGE)
    def test_a_look_takes_no_more_than_a_few_copies(self, kind: str) -> None:
        """A record of 64 MiB may come any day, and the service has a gigabyte."""
        raw = LARGE[kind](2 * MIB)
        tracemalloc.start()
        try:
            assert rawjson.repeated_key(raw) is None
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        size = len(raw)
        assert peak < 3 * size

    def test_of_a_list_only_what_is_asked_for_is_made(self) -> None:
        """A long list of errors is looked through one by one."""
        raw = b'[%b"broken"]' % (b'"", ' * (MIB // 4))
        tracemalloc.start()
        try:
            assert next(one for one in rawjson.entries(raw) if not rawjson.is_empty(one)) == b'"broken"'
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < MIB // 16

    def test_many_keys_beside_a_letter_that_is_not_ascii(self) -> None:
        """The time grows with the record and no faster."""
        raw = '{ "é":1,'.encode() + b",".join(b'"k%d":1' % number for number in range(40_000)) + b"}"
        began = time.process_time()
        assert rawjson.repeated_key(raw) is None
        assert time.process_time() - began < 2

    @pytest.mark.parametrize("kind", LARGE)
    def test_taking_escapes_away_takes_no_more_than_a_few_copies(self, kind: str) -> None:
        """Neither where there are many, nor where one is followed by much that has none; the time grows likewise."""
        raw = b'["\\/",%b,"\\/"]' % LARGE[kind](2 * MIB).replace(b"\\n", b"\\/")
        began = time.process_time()
        plain = rawjson.text_of(raw)
        assert time.process_time() - began < 2
        assert json.loads(plain) == json.loads(raw)
        tracemalloc.start()
        try:
            rawjson.text_of(raw)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 5 * len(raw)
