"""The quick way through a record gives what the long way gives, and is taken where records are plain."""

import gc
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from test_canonical import records

from cortex_autolearn import jsonstream
from cortex_autolearn.canonical import ScoreScale, TaskReader, quick
from cortex_autolearn.jsonstream import Broken, Object
from cortex_autolearn.medallion import silver
from cortex_autolearn.medallion.silver import Refined, Refiner, Unfit
from cortex_autolearn.model.records import Rejected

STAMP = "2025-11-27T12:00:00Z"
PLAIN = {
    "task_id": "task-1",
    "master": "security-master",
    "task_type": "scan",
    "description": "look",
    "output": "what came of it " * 20,
    "status": "completed",
    "created_at": "2025-11-27T10:00:00Z",
    "started_at": "2025-11-27T10:00:01.500000Z",
    "completed_at": "2025-11-27T04:01:00-06:00",
    "error": None,
    "model": "m",
    "cost": 0.012653,
    "metadata": {"worker": "w", "tags": ["a"]},
    "quality_score": 4.5,
    "retries": 0,
}
COMPACT: dict[str, Any] = {"separators": (",", ":")}
SPACED: dict[str, Any] = {}


def objects(*raws: bytes) -> list[Object | Broken]:
    return list(jsonstream.read([b"\n".join(raws) + b"\n"], closed=True))


def long_way(items: list[Object | Broken], reader: TaskReader) -> tuple[list[Refined], list[Unfit]]:
    refiner = Refiner(STAMP)
    refined: list[Refined] = []
    unfit = []
    for item in items:
        if isinstance(item, Broken):
            unfit.append(Unfit(item.offset, item.length, item.reason, item.text, is_object=False))
            continue
        offset, raw, fields = item
        task = reader.read(raw, fields)
        if isinstance(task, Rejected):
            unfit.append(Unfit(offset, len(raw), task.reason, raw, is_object=True))
            continue
        line = refiner.line(raw, fields, task)
        identity = (task.canonical.task_id, int(task.final), task.rank_us, task.day)
        refined.append((*identity, offset, line, silver.facts(task)))
    return refined, unfit


def both(items: list[Object | Broken], reader: TaskReader | None = None, *, times: int = 2) -> list[Refined]:
    """Refine both ways, more than once so that what was learned is used; values of equal types, too."""
    reader, refiner = reader or TaskReader(), Refiner(STAMP)
    refined: list[Refined] = []
    for _ in range(times):
        refined, unfit = refiner.refine(items, reader)
        expected = long_way(items, TaskReader())
        assert (refined, unfit) == expected
        assert repr(refined) == repr(expected[0])
    return refined


def is_quick(record: dict[str, Any], **style: Any) -> bool:
    (item,) = objects(json.dumps(record, **style).encode())
    assert not isinstance(item, Broken)
    return quick.read(TaskReader(), item[1], item[2]) is not None


LONG_USED = TaskReader()


class TestTheSame:
    @given(st.lists(records(), min_size=1, max_size=8), st.sampled_from([COMPACT, SPACED]), st.booleans())
    def test_any_record_is_refined_as_on_the_long_way(
        self, several: list[dict[str, Any]], style: dict[str, Any], ensure_ascii: bool
    ) -> None:
        """Lines, rows and refusals are the same, byte for byte."""
        items = objects(*(json.dumps(one, ensure_ascii=ensure_ascii, **style).encode() for one in several))
        both(items)
        both(items, LONG_USED, times=1)

    @given(records(), st.sampled_from([COMPACT, SPACED]))
    def test_a_plain_record_with_odd_values_as_well(self, odd: dict[str, Any], style: dict[str, Any]) -> None:
        """Values of any kind, among those of a record that is plain otherwise."""
        items = objects(*(json.dumps(one, **style).encode() for one in (PLAIN, PLAIN | odd, odd | PLAIN)))
        both(items)
        both(items, LONG_USED, times=1)

    @given(st.sampled_from(sorted(PLAIN)), st.text(max_size=6), st.sampled_from([COMPACT, SPACED]))
    @example("task_id", 'a"b\\c\n\x7f', COMPACT)
    @example("output", "\x7f" * 300, COMPACT)
    def test_any_text_in_any_place(self, key: str, text: str, style: dict[str, Any]) -> None:
        """Escapes, quotes, control characters and whatever else a text may hold."""
        record = {**PLAIN, key: text * 40 if key == "output" else text}
        for ensure_ascii in (True, False):
            data = json.dumps(record, ensure_ascii=ensure_ascii, **style).encode("utf-8", "replace")
            both(objects(data))

    @pytest.mark.parametrize(
        "change",
        [
            {"layer": "bronze"},
            {"layer": {"a": [1, 2]}, "schlüssel": "ä", "zz": 1},
            {"canonical": {"task_id": "other"}},
            {"layer": "bronze", "canonical": 1},
            {"processed_at": "x", "is_success": 1, "has_error": None, "is_failure": 0},
            {"duration_seconds": 12.5},
            {"duration_seconds": "12"},
            {"metadata": {"processing_time_ms": 1500}},
            {"duration_minutes": 0},
            {"completed_at": None},
            {"completed_at": None, "metadata": {"completed_at": "2025-11-27T11:00:00Z"}},
            {"completed_at": None, "updated_at": "2025-11-27T11:00:00Z"},
            {"completed_at": "2025-11-27T09:00:00Z"},
            {"completed_at": "2025-11-27T11:00:00"},
            {"completed_at": "9999-12-31T23:59:59.999999-06:00"},
            {"created_at": "0001-01-01T00:00:00Z", "started_at": None, "completed_at": "9999-12-31T23:59:59.000001Z"},
            {"created_at": ""},
            {"started_at": "yesterday"},
            {"quality_score": "4"},
            {"quality_score": 7},
            {"quality_score": 4},
            {"quality_score": None, "quality_metrics": {"quality_score": 3}},
            {"cost": None},
            {"cost": True},
            {"cost": "0.1"},
            {"cost": -1},
            {"cost": 1e15},
            {"cost": 10**30},
            {"cost": 1e-7},
            {"cost_usd": None},
            {"output": ""},
            {"output": {}},
            {"output": {"a": None}},
            {"output": {"a": "b"}, "result": "r"},
            {"output": 'say "hi" \\ ' * 40},
            {"output": "\u00e9" * 200},
            {"output": " " * 500 + "x"},
            {"description": ""},
            {"description": ["a"]},
            {"task_id": 7},
            {"task_id": ""},
            {"task_id": "\u65e5\u672c"},
            {"task_id": None, "id": "other"},
            {"status": "whatever"},
            {"status": ""},
            {"error": "it broke, \u00e4h"},
            {"error": False},
            {"retries": "2"},
            {"master": "a b"},
        ],
    )
    def test_what_is_odd_is_read_the_long_way(self, change: dict[str, Any]) -> None:
        """Each oddity, beside plain records, in both styles."""
        for style in (COMPACT, SPACED):
            lines = [json.dumps(one, **style).encode() for one in (PLAIN, {**PLAIN, **change}, PLAIN)]
            both(objects(*lines))

    @pytest.mark.parametrize(
        "raw",
        [
            b'{"task_id":"a","status":"done","status":"failed"}',
            b'{"task_id":"a","status":"done","st\\u0061tus":"failed"}',
            b'{"task_id": "a","status":"done","x":1,"x":1}',
            b'{"task_id":"a","status":"done","cost":1.0}',
            b'{"task_id":"a","status":"done","cost":1e2}',
            b'{"task_id":"a","status":"done","cost":-0.0}',
            b'{"task_id":"a","status":"done","cost":' + b"9" * 5_000 + b"}",
            b'{"task_id":"\\u0061","status":"d\\u006fne"}',
            b'{"task_id":"a\\/b","status":"done","layer":"x"}',
            b'{"task_id":"a","metadata":{\n"b":1},"status":"done"}',
            b'{"task_id":"a","metadata":{\r"b":1},"status":"done","layer":1}',
            b'{"task_id": "a", "metadata": {\n"b":1}, "status": "done", "layer": [1,\n2], "z": 3}',
            b"{}",
            b'{"status":"done"}',
            b'{"task_id":"a"}',
            b'{"id":"a","status":"done"}',
            b'{"task_id":"a","id":"b","status":"done"}',
        ],
    )
    def test_odd_bytes(self, raw: bytes) -> None:
        """Repeated and escaped keys, line breaks inside, long numbers."""
        refined = both(objects(raw, raw))
        assert all(one[5].count(b"\n") == 1 and b"\r" not in one[5] for one in refined)

    def test_a_declared_scale_counts(self) -> None:
        """The quick way uses the same reader."""
        reader = TaskReader(scale=ScoreScale("score", 0, 1))
        items = objects(json.dumps({**PLAIN, "score": 0.5}, **COMPACT).encode())
        refined, _ = Refiner(STAMP).refine(items, reader)
        assert refined[0][6][3] == 3


class TestTaken:
    @pytest.mark.parametrize("style", [COMPACT, SPACED])
    @pytest.mark.parametrize(
        "change",
        [
            {},
            {"layer": "bronze"},
            {"completed_at": None, "status": "running"},
            {"completed_at": "2025-11-27T09:00:00Z"},
            {"quality_score": "n/a"},
            {"output": ""},
            {"output": {"summary": "x"}},
            {"error": "AssertionError", "status": "failed"},
        ],
    )
    def test_plain_records_go_the_quick_way(self, style: dict[str, Any], change: dict[str, Any]) -> None:
        """What nearly all records are like is what the quick way is for."""
        assert is_quick({**PLAIN, **change}, **style)

    def test_of_many_keys_nothing_is_remembered(self) -> None:
        """A record that has data as its keys takes memory only while it is read."""
        reader, refiner = TaskReader(), Refiner(STAMP)
        tracemalloc.start()
        for number in range(20):
            raw = json.dumps({"task_id": "t", "status": "done"} | {f"{number}-{key}": 1 for key in range(2_000)})
            refined, _ = refiner.refine(objects(raw.encode()), reader)
            assert refined[0][5].startswith(raw[:-1].encode())
        del raw, refined
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept < 1_000_000

    def test_what_is_remembered_is_bounded(self) -> None:
        """Many spellings and layouts change nothing but speed."""
        reader, refiner = TaskReader(), Refiner(STAMP)
        for number in range(9_000):
            raw = json.dumps({"task_id": "t", "status": "done", "error": f"e{number}", f"k{number}": 1}, **COMPACT)
            refined, _ = refiner.refine(objects(raw.encode()), reader)
            assert f'"error":"e{number}"'.encode() in refined[0][5].rpartition(b'"canonical"')[2]
