"""Bronze to silver with real files: what passes through, what stands, and that it never matters how it was cut."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import (
    NOW,
    Handle,
    Rooms,
    check_compacted,
    check_state,
    good,
    line,
    objects,
    other_lines,
    quick_folder,
    silver_bytes,
    slow,
)

from cortex_autolearn.medallion.silver import same_line
from cortex_autolearn.model import layout
from cortex_autolearn.testing import FakeClock, Fleet, append

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APPENDED = [
    "processed_at",
    "duration_seconds",
    "is_success",
    "is_failure",
    "has_error",
    "quality_score",
    "canonical",
]


@pytest.fixture
def root() -> Iterator[Path]:
    with quick_folder() as path:
        yield path


@pytest.fixture
def rooms(root: Path) -> Iterator[Rooms]:
    made = Rooms(root)
    yield made
    made.close()
    check_state(root)


def only(rooms: Rooms) -> bytes:
    (one,) = rooms.silver_lines()
    return one


def renamed(rooms: Rooms, old: str, new: str) -> None:
    (rooms.bronze / old).rename(rooms.bronze / new)


class TestSilverLine:
    @pytest.mark.parametrize(
        "record",
        [
            b'{"task_id":"t","n":1.50e+2,"m":-0,"big":123456789012345678901234567890,"e":"\\u00e9\\/"}',
            b'{ "task_id" : "t" ,\t"x" : [ 1 , { "a" : null } ] }',
            '{"task_id":"t","text":"é \\u2028 🍏"}'.encode(),
            b'{"task_id":"t","quality_score":"high","duration_seconds":null,"has_error":"?"}',
            b'{"task_id":"t","processed_at":"yesterday","is_success":1}',
            b'{"task_id":"t","":0,"a\\"b":1,"c\\\\":2}',
            b'{"task_id": "t", "n": ' + b"7" * 5_000 + b"}",
        ],
    )
    def test_a_records_own_bytes_pass_through(self, rooms: Rooms, record: bytes) -> None:
        """Numbers, escapes, white space within the line and unknown fields stay byte for byte, at the beginning."""
        rooms.put("a.jsonl", record + b"\n")
        rooms.follow()
        silver = only(rooms)
        assert silver.startswith(record[:-1].rstrip())
        kept, added = (json.loads(one, parse_int=str, parse_float=str) for one in (record, silver))
        assert {key: added[key] for key in kept} == kept
        assert [key for key in added if key not in kept] == [one for one in ["layer", *APPENDED] if one not in kept]

    def test_a_pretty_printed_record_becomes_one_line(self, rooms: Rooms) -> None:
        """Line breaks between tokens go, and nothing else; those inside of strings are escapes and stay."""
        record = good(output="line one\nline two\r\n", nested={"a": [1, 2], "b": {}})
        text = json.dumps(record, indent=2).replace("\n", "\r\n").encode()
        rooms.put("a.jsonl", text + b"\r\n")
        rooms.follow()
        assert only(rooms).startswith(text.replace(b"\r\n", b"")[:-1])
        assert {key: rooms.silver_objects()[0][key] for key in record} == record

    @pytest.mark.parametrize("style", [{"separators": (",", ":")}, {}, {"indent": 2}, {"separators": (" ,", "  :")}])
    def test_only_layer_and_canonical_are_written_over(self, rooms: Rooms, style: dict[str, Any]) -> None:
        """A record that has them keeps their place in it; every other key of ours that it has stays its own."""
        record = {
            "canonical": {"task_id": "forged", "layer": "x"},
            "layer": "bronze",
            "task_id": "t",
            "é": "layer",
            "status": "done",
            "is_success": "maybe",
            "quality_score": None,
            "duration_seconds": 7,
        }
        rooms.put("a.jsonl", json.dumps(record, ensure_ascii=False, **style).encode() + b"\n")
        rooms.follow()
        (silver,) = rooms.silver_objects()
        assert list(silver) == [*record, "processed_at", "is_failure", "has_error"]
        assert silver["layer"] == "silver"
        assert silver["canonical"]["task_id"] == "t"
        untouched = [key for key in record if key not in ("canonical", "layer")]
        assert {key: silver[key] for key in untouched} == {key: record[key] for key in untouched}

    def test_the_appended_values_are_the_canonical_ones(self, rooms: Rooms) -> None:
        """Success, failure and error as Cortex's own silver tells them."""
        rooms.put("a.jsonl", {"task_id": "a", "status": "done", "started_at": "2025-11-26T10:00:00Z"})
        rooms.put("a.jsonl", {"task_id": "b", "status": "zombie", "zombie_reason": "hung", "attempts": 3})
        rooms.put("a.jsonl", {"task_id": "c", "status": "running", "quality_metrics": {"quality_score": 3}})
        rooms.follow()
        told = {one["task_id"]: [one[key] for key in APPENDED[1:-1]] for one in rooms.silver_objects()}
        assert told == {
            "a": [None, True, False, False, None],
            "b": [None, False, True, True, None],
            "c": [None, False, False, False, 3],
        }
        assert {one["processed_at"] for one in rooms.silver_objects()} == {"2025-11-27T12:00:00.123456Z"}

    def test_a_record_that_repeats_a_key_is_quarantined(self, rooms: Rooms) -> None:
        """No key stands twice in silver."""
        rooms.put("a.jsonl", b'{"task_id":"a","x":1,"x":1}\n{ "task_id" : "b", "layer":1, "layer":2 }\n', good("c"))
        counts = rooms.follow()
        assert (counts["objects"], counts["silver"], counts["quarantined_objects"], counts["quarantined"]) == (
            3,
            1,
            2,
            2,
        )
        assert [one["reason"] for one in rooms.quarantine()] == [
            f"the key '{key}' stands twice" for key in ("x", "layer")
        ]

    def test_silver_can_be_read_by_jq(self, rooms: Rooms) -> None:
        """Cortex's scripts read silver with jq, a line a task."""
        if shutil.which("jq") is None:
            pytest.skip("no jq here")
        fleet = Fleet(3, start=datetime(2025, 11, 20, tzinfo=UTC), tasks_per_day=40)
        for write in fleet.writes(1):
            append(rooms.root, write)
        rooms.refine()
        path = next(iter(sorted(rooms.silver.glob("*.autolearn.jsonl"))))
        found = subprocess.run(["jq", "-r", ".canonical.task_id", path], capture_output=True, text=True, check=True)
        assert found.stdout.splitlines() == rooms.tasks(path.name[:8])

    @pytest.mark.parametrize(
        ("line", "other", "same"),
        [
            (b'{"a":1,"processed_at":"NOW","b":2}', b'{"a":1,"processed_at":"OLD","b":2}', True),
            (b'{"a":1,"processed_at":"NOW","b":2}', b'{"a":2,"processed_at":"OLD","b":2}', False),
            (b'{"a":1,"processed_at":"NOW","b":2}', b'{"a":1,"processed_at":"OLD","b":3}', False),
            (b'{"a":1,"processed_at":"NOW"}', b"", False),
            (b'{"a":1}', b'{"a":1}', True),
            (b'{"a":1}', b'{"a":2}', False),
        ],
    )
    def test_two_lines_are_the_same_but_for_when_they_were_written(self, line: bytes, other: bytes, same: bool) -> None:
        """A record read again is known by its line."""
        assert same_line(line, other, "NOW") == same


class TestWhichRecordStands:
    @pytest.mark.parametrize(
        ("worse", "better"),
        [
            (good(status="running", completed_at="2025-11-26T12:00:00Z"), good(completed_at="2025-11-26T10:00:00Z")),
            (good(completed_at="2025-11-26T10:00:00Z"), good(completed_at="2025-11-26T05:00:00-0600")),
            (good(status="failed"), good(completed_at="2025-11-26T10:00:00.000001Z")),
            (good(completed_at=...), good(completed_at=..., updated_at="2025-11-26T10:00:00Z")),
            (good(completed_at=..., ingested_at="2025-11-26T11:00:00Z"), good(completed_at="2025-11-26T11:00:01Z")),
            (
                good(completed_at=..., updated_at="2025-11-26T10:00:00Z", ingested_at="2025-11-26T19:00:00Z"),
                good(completed_at=..., updated_at="2025-11-26T10:00:01Z"),
            ),
            (good(status="pending", updated_at="2025-11-26T19:00:00Z"), good(status="cancelled", completed_at=...)),
        ],
    )
    @pytest.mark.parametrize("runs", ["one", "two"])
    @pytest.mark.parametrize("order", ["worse first", "better first"])
    def test_final_then_later_wins_in_any_order(
        self, rooms: Rooms, worse: dict[str, Any], better: dict[str, Any], runs: str, order: str
    ) -> None:
        """A final status beats one that is not; then the later instant; whichever came first, in one run or in two."""
        first, second = ((worse, 1), (better, 2)) if order == "worse first" else ((better, 2), (worse, 1))
        rooms.put("a.jsonl", {**first[0], "number": first[1]})
        if runs == "two":
            rooms.follow()
        rooms.put("a.jsonl", {**second[0], "number": second[1]})
        rooms.refine()
        (stands,) = rooms.silver_objects()
        assert stands["number"] == 2

    @pytest.mark.parametrize("first_read", ["a.jsonl", "b.jsonl"])
    def test_of_equals_the_later_place_stands(self, rooms: Rooms, first_read: str) -> None:
        """The later file name, then the later offset; whichever file was read first."""
        for name in (first_read, "b.jsonl" if first_read == "a.jsonl" else "a.jsonl"):
            rooms.put(name, good(number=f"{name} 1"), good(number=f"{name} 2"))
            rooms.follow()
        rooms.refine()
        (stands,) = rooms.silver_objects()
        assert stands["number"] == "b.jsonl 2"

    def test_a_superseded_line_leaves_the_file_at_the_next_compaction(self, rooms: Rooms) -> None:
        """Until then it stands there, dead in the state; compaction keeps the order of the others."""
        rooms.put("a.jsonl", good("a", status="running"), good("b"))
        rooms.follow()
        rooms.put("a.jsonl", good("c"), good("a"))
        rooms.follow()
        assert rooms.tasks() == ["a", "b", "c", "a"]
        assert rooms.medallion.compact(Handle()) == [20251126]
        assert rooms.tasks() == ["b", "c", "a"]
        assert rooms.medallion.compact(Handle()) == []

    def test_a_task_moves_to_another_day(self, rooms: Rooms) -> None:
        """It stands once, on the day of the record that stands."""
        rooms.put("a.jsonl", good("a", status="running", completed_at=...), good("b"))
        rooms.follow()
        rooms.put("a.jsonl", good("a", completed_at="2025-11-27T01:00:00Z"))
        counts = rooms.refine()
        assert counts["days"] == ["20251126", "20251127"]
        assert (rooms.tasks("20251126"), rooms.tasks("20251127")) == (["b"], ["a"])

    def test_any_task_id_is_told_apart(self, rooms: Rooms) -> None:
        """Two records of one task are one task whatever its id holds; different ids stay different."""
        ids = [
            "a\0b",
            "a",
            "a\0",
            "\0",
            "Ä",
            "A\u0308",
            "🍏",
            " ",
            "  ",
            "'",
            '"',
            "\\",
            "%",
            "a" * 3_000,
            "1",
            "01",
            "\u2028",
            "null",
        ]
        rooms.put("a.jsonl", *[good(one) for one in ids])
        rooms.follow()
        rooms.put("a.jsonl", *[good(one, completed_at="2025-11-26T11:00:00Z") for one in ids])
        assert rooms.refine()["silver"] == len(ids)
        assert rooms.tasks() == ids
        assert len(rooms.collected() or rooms.collect()) > 0
        assert set(rooms.collected()) == set(ids)

    def test_days_at_the_ends_of_the_calendar(self, rooms: Rooms) -> None:
        """The first and the last instant of the calendar have their day files and their gold like any other."""
        rooms.put("a.jsonl", good("first", completed_at="0001-01-01T00:00:00Z"))
        rooms.put("a.jsonl", good("last", completed_at="9999-12-31T23:59:59.999999Z"))
        rooms.everything()
        assert (rooms.tasks("00010101"), rooms.tasks("99991231")) == (["first"], ["last"])
        assert rooms.analytics(10101)["date"] == "00010101"
        (rooms.silver / "00010101.autolearn.jsonl").unlink()
        rooms.everything()
        assert rooms.tasks() == ["first", "last"]


class TestMalformed:
    """Between good lines, fourteen kinds of what is found in such files."""

    DEEP = b'{"task_id":"deep","x":' + b"[" * 10_000 + b"]" * 10_000 + b"}\n"
    LONG = b'{"task_id":"long","output":"' + b"x" * 50_000_000 + b'"}\n'
    # Name, bytes, the ids of the good objects in it, and the reasons of the bad stretches.
    KINDS: list[tuple[str, bytes, list[str], list[str]]] = [
        ("truncated", b'{"task_id":"cut","input":"abc\n', [], ["truncated object"]),
        ("invalid UTF-8", b'{"task_id":"u","input":"a\xffb"}\n', [], ["invalid UTF-8"]),
        ("BOM", b'\xef\xbb\xbf{"task_id":"bom"}\n', ["bom"], []),
        ("NaN", b'{"task_id":"nan","x":NaN}\n', [], ["malformed object: not a JSON value"]),
        ("lone surrogate", b'{"task_id":"s","x":"\\ud800"}\n', [], ["malformed object"]),
        ("NUL", b"\0\0\0\0\n", [], ["NUL bytes"]),
        ("glued", b'{"task_id":"g1"}{"task_id":"g2"} {"task_id":"g3"}\n', ["g1", "g2", "g3"], []),
        ("trailing comma", b'{"task_id":"comma",}\n', [], ["malformed object"]),
        ("comment", b'{"task_id":"comment" /* why */}\n', [], ["malformed object"]),
        ("empty value", b'{"task_id":"empty","x":,"y":1}\n', [], ["malformed object"]),
        ("nesting of 10,000", DEEP, [], ["nested too deeply"]),
        ("CRLF", b'{"task_id":"crlf"}\r\n\r\n', ["crlf"], []),
        ("not JSON", b"Traceback (most recent call last):\n", [], ["not JSON"]),
        ("not an object", b'["task_id", 7]\n', [], ["not an object"]),
    ]

    @pytest.mark.parametrize(("name", "data", "kept", "reasons"), KINDS, ids=[kind[0] for kind in KINDS])
    def test_every_good_line_is_kept_and_every_bad_one_quarantined_once(
        self, rooms: Rooms, name: str, data: bytes, kept: list[str], reasons: list[str]
    ) -> None:
        """Whatever stands between them, the lines before and behind are whole; and so after a second look."""
        path = rooms.put("a.jsonl", good("before"), data, good("behind"))
        rooms.refine()
        size = path.stat().st_size
        os.utime(path)
        again = rooms.refine()
        assert again["bytes_read"] == size
        assert (again["silver"], again["quarantined"]) == (0, len(reasons))  # met again, and not kept again
        dated = [one["canonical"]["task_id"] for one in rooms.silver_objects() if one["canonical"]["created_at"]]
        assert dated == ["before", "behind"]
        assert sorted(rooms.tasks()) == sorted(["before", "behind", *kept])
        quarantined = rooms.quarantine()
        assert len(quarantined) == len(reasons), quarantined
        for one, reason in zip(quarantined, reasons, strict=True):
            assert one["reason"].startswith(reason)
            assert one["file"] == f"{layout.BRONZE}/a.jsonl"
            assert path.read_bytes()[one["offset"] :].startswith(data.rstrip()[: one["length"]])

    def test_all_kinds_in_one_file(self, rooms: Rooms) -> None:
        """One does not hide another."""
        expected = ["line-0"]
        rooms.put("a.jsonl", {"task_id": "line-0"})
        for number, (_, data, kept, _) in enumerate(self.KINDS, 1):
            rooms.put("a.jsonl", data, {"task_id": f"line-{number}"})
            expected += [*kept, f"line-{number}"]
        counts = rooms.refine()
        assert rooms.tasks() == expected
        assert counts["quarantined"] == sum(len(reasons) for *_, reasons in self.KINDS)

    def test_a_line_of_50_megabytes_is_kept_and_one_over_the_limit_is_quarantined_by_position(self, root: Path) -> None:
        """A large record is a record; over the limit only where it stands is kept, not its text."""
        rooms = Rooms(root, max_record_bytes=1_000_000)
        path = rooms.put("a.jsonl", good("before"), self.LONG, good("behind"))
        rooms.refine()
        assert rooms.tasks() == ["before", "behind"]
        (one,) = rooms.quarantine()
        assert (one["offset"], one["length"]) == (len(line(good("before"))), len(self.LONG) - 1)
        assert "text" not in one
        rooms.close()
        os.utime(path)
        unlimited = Rooms(root)
        unlimited.refine()
        assert "long" in unlimited.tasks()
        unlimited.close()

    def test_a_record_of_a_limit_that_was_raised_is_mended(self, root: Path) -> None:
        """What was read once is made again from its record, however long the configuration lets that be."""
        with Rooms(root, max_record_bytes=1 << 28) as rooms:
            rooms.put("a.jsonl", good("long", output="x" * (65 << 20)))
            rooms.follow()
            (path,) = rooms.silver.iterdir()
            size = path.stat().st_size
            path.unlink()
            rooms.follow()
            assert path.stat().st_size == size

    def test_what_is_not_utf8_is_kept_in_base64(self, rooms: Rooms) -> None:
        """The quarantine loses nothing."""
        rooms.put("a.jsonl", b'{"task_id":"\xff"}\n')
        rooms.follow()
        (one,) = rooms.quarantine()
        assert one["text_base64"] == "eyJ0YXNrX2lkIjoi/yJ9"


class TestFiles:
    """Files grow, are replaced, cut, renamed, rotated and deleted."""

    def test_a_run_costs_what_is_new(self, rooms: Rooms) -> None:
        """A file that grew is read from where it ended; one that did not is not read."""
        rooms.put("a.jsonl", *[good(f"t{number}") for number in range(50)])
        rooms.follow()
        added = line(good("new"))
        rooms.put("a.jsonl", added)
        counts = rooms.follow()
        assert (counts["files"], counts["bytes_read"], counts["silver"]) == (1, len(added), 1)
        assert rooms.follow()["files"] == 0

    def test_a_touched_file_changes_nothing(self, rooms: Rooms) -> None:
        """Read again, each record is found to stand already, and what is quarantined is so once."""
        path = rooms.put("a.jsonl", good("a"), b"broken\n", good("b"), good("a", status="running"), {"x": 1}, good("b"))
        rooms.everything()
        before = (rooms.silver_lines(), rooms.quarantine(), other_lines(rooms.root))
        for _ in range(2):
            rooms.clock.advance(60)
            os.utime(path)
            counts, tally = rooms.everything()
            assert (counts["silver"], counts["quarantined"], tally["processed"]) == (0, 2, 0)
        assert (rooms.silver_lines(), rooms.quarantine(), other_lines(rooms.root)) == before

    def test_a_record_that_is_edited_in_place_is_taken(self, rooms: Rooms) -> None:
        """The same place, other bytes: what stands there now counts."""
        path = rooms.put("a.jsonl", good("a"), good("b", note="wrong"), good("c"))
        rooms.everything()
        assert set(rooms.collected()) == {"a", "b", "c"}
        path.write_bytes(path.read_bytes().replace(b'"note":"wrong"', b'"error":"x2345"'))
        rooms.everything()
        assert {one["task_id"]: one["canonical"]["error"] for one in rooms.silver_objects()} == {
            "a": None,
            "b": "x2345",
            "c": None,
        }
        assert set(rooms.collected()) == {"a", "c"}

    @pytest.mark.parametrize("how", ["rename over", "truncate and write", "delete and create"])
    @pytest.mark.parametrize("size", ["smaller", "same", "larger"])
    def test_a_replaced_file_is_read_from_its_beginning(self, rooms: Rooms, how: str, size: str) -> None:
        """However it was replaced, and whatever its size now: every record of it is taken, and the old ones stay."""
        path = rooms.put("a.jsonl", *[good(f"old-{number}") for number in range(3)])
        rooms.refine()
        count = {"smaller": 2, "same": 3, "larger": 5}[size]
        new = b"".join(line(good(f"new-{number}")) for number in range(count))
        if how == "rename over":
            (rooms.root / "new").write_bytes(new)
            (rooms.root / "new").rename(path)
        elif how == "delete and create":
            path.unlink()
            path.write_bytes(new)
        else:
            path.write_bytes(new)
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
        rooms.refine()
        expected = {f"old-{number}" for number in range(3)} | {f"new-{number}" for number in range(count)}
        assert set(rooms.tasks()) == expected
        assert len(rooms.tasks()) == len(expected)

    def test_a_log_that_is_copied_and_truncated(self, rooms: Rooms) -> None:
        """logrotate's copytruncate: the copy is known already, and what is written after the cut is new."""
        path = rooms.put("a.jsonl", *[good(f"t{number}") for number in range(9)])
        rooms.refine()
        shutil.copy(path, rooms.bronze / "a-1.jsonl")
        path.write_bytes(b"")
        rooms.put("a.jsonl", good("t9"))
        rooms.refine()
        assert sorted(rooms.tasks()) == sorted(f"t{number}" for number in range(10))

    def test_logs_that_are_rotated_in_a_chain(self, root: Path) -> None:
        """a becomes a-1, a-1 becomes a-2: nothing is read twice, and silver is that of a rebuild."""
        rooms = Rooms(root)
        for generation in range(5):
            rooms.put("a.jsonl", *[good(f"{generation}-{number}") for number in range(4)])
            counts, tally = rooms.everything()
            assert (counts["silver"], counts["superseded"], tally["high_quality"]) == (4, 0, 4)
            assert tally["already_collected"] == 0
            for number in range(generation, -1, -1):
                renamed(rooms, f"a-{number}.jsonl" if number else "a.jsonl", f"a-{number + 1}.jsonl")
            if generation % 2:
                assert rooms.refine()["bytes_read"] == 0
        rooms.refine()
        followed = silver_bytes(root)
        assert rooms.medallion.rebuild(Handle()).silver == 20
        rooms.refine()
        assert silver_bytes(root) == followed
        rooms.close()
        check_state(root)

    def test_a_renamed_file_keeps_its_cursor(self, rooms: Rooms) -> None:
        """It is the same file, so only what was appended since is read; its lines stand by its new name."""
        rooms.put("a.jsonl", good("t1"), good("t2"))
        rooms.put("b.jsonl", good("u1"))
        rooms.refine()
        renamed(rooms, "a.jsonl", "c.jsonl")
        added = line(good("t3"))
        rooms.put("c.jsonl", added)
        assert rooms.refine()["bytes_read"] == len(added)
        assert rooms.tasks() == ["u1", "t1", "t2", "t3"]

    def test_two_files_that_swap_their_names(self, rooms: Rooms) -> None:
        """Each is known by what it is, not by what it is called."""
        rooms.put("a.jsonl", good("a"))
        rooms.put("b.jsonl", good("b"), good("b2"))
        rooms.refine()
        renamed(rooms, "a.jsonl", "x.jsonl")
        renamed(rooms, "b.jsonl", "a.jsonl")
        renamed(rooms, "x.jsonl", "b.jsonl")
        assert rooms.refine()["silver"] == 0
        assert rooms.tasks() == ["b", "b2", "a"]

    def test_a_deleted_file_leaves_its_tasks(self, rooms: Rooms) -> None:
        """What was refined stays, and the same name may come back with something else."""
        path = rooms.put("a.jsonl", good("a"))
        rooms.refine()
        path.unlink()
        rooms.refine()
        rooms.put("a.jsonl", good("b"))
        rooms.refine()
        assert sorted(rooms.tasks()) == ["a", "b"]

    def test_a_source_that_is_delivered_again_whole(self, rooms: Rooms) -> None:
        """Under another name, or appended to itself: every task stands once and is collected once."""
        path = rooms.put("a.jsonl", *[good(f"t{number}") for number in range(6)])
        _, tally = rooms.everything()
        assert tally["high_quality"] == 6
        shutil.copy(path, rooms.bronze / "copy.jsonl")
        path.write_bytes(path.read_bytes() * 3)
        _, tally = rooms.everything()
        assert tally["high_quality"] == 0
        assert sorted(rooms.tasks()) == sorted(rooms.collected()) == [f"t{number}" for number in range(6)]
        check_compacted(rooms.root)

    def test_a_day_that_arrives_late(self, rooms: Rooms) -> None:
        """A file of last week, read today, goes to last week's day."""
        rooms.put("20251126.jsonl", good("now"))
        rooms.everything()
        rooms.put("20251118.jsonl", good("late", completed_at="2025-11-18T10:00:00Z"))
        counts, tally = rooms.everything()
        assert (counts["days"], tally["high_quality"]) == (["20251118"], 1)
        assert rooms.tasks("20251118") == ["late"]
        assert rooms.analytics(20251118)["summary"]["total_tasks"] == 1

    def test_an_unfinished_tail_waits_for_its_end(self, rooms: Rooms) -> None:
        """A record that is still being written is neither taken nor quarantined; its rest makes it whole."""
        text = line(good("b"))
        rooms.put("a.jsonl", good("a"), text[:100])
        assert rooms.follow()["objects"] == 1
        rooms.clock.advance(3_600)
        assert rooms.follow()["quarantined"] == 0
        rooms.put("a.jsonl", text[100:])
        counts = rooms.follow()
        assert (counts["silver"], counts["quarantined"]) == (1, 0)
        assert rooms.tasks() == ["a", "b"]

    def test_a_last_record_without_a_line_feed_is_taken(self, rooms: Rooms) -> None:
        """An object that is whole needs no line feed; the file may go on behind it."""
        rooms.put("a.jsonl", line(good("a"))[:-1])
        rooms.follow()
        assert rooms.tasks() == ["a"]
        rooms.put("a.jsonl", b"\n", good("b"))
        rooms.follow()
        assert rooms.tasks() == ["a", "b"]
        assert rooms.quarantine() == []

    def test_a_tail_that_never_ends_is_quarantined_after_its_grace(self, rooms: Rooms) -> None:
        """A day without growth: then its writer is dead. Growth begins the wait anew, a touch does not."""
        path = rooms.put("a.jsonl", good("a"), b'{"task_id":"b","inp')
        rooms.follow()
        rooms.clock.advance(80_000)
        rooms.put("a.jsonl", b"ut")
        rooms.follow()
        rooms.clock.advance(80_000)
        os.utime(path)
        assert rooms.follow()["quarantined"] == 0
        rooms.clock.advance(6_401)
        assert rooms.follow()["quarantined"] == 1
        (one,) = rooms.quarantine()
        assert (one["text"], one["offset"]) == ('{"task_id":"b","input', len(line(good("a"))))
        assert rooms.follow()["files"] == 0
        rooms.put("a.jsonl", b"\n", good("c"))
        rooms.follow()
        assert rooms.tasks() == ["a", "c"]

    def test_undated_records(self, root: Path) -> None:
        """The day in the file's name, else the day on which the task was first read; a rebuild keeps both."""
        rooms = Rooms(root)
        undated = {"created_at": ..., "completed_at": ...}
        rooms.put("export-2025-11-03.jsonl", good("named", **undated))
        rooms.put("tasks-20251399-20251104.jsonl", good("named too", **undated))
        rooms.put("a.jsonl", good("first", **undated))
        rooms.refine()
        rooms.clock.advance(86_400)
        rooms.put("a.jsonl", good("second", **undated), good("first", **undated))
        rooms.refine()
        expected = {"20251103": ["named"], "20251104": ["named too"], "20251127": ["first"], "20251128": ["second"]}
        assert {day: rooms.tasks(day) for day in expected} == expected
        rooms.clock.advance(86_400)
        rooms.medallion.rebuild(Handle())
        rooms.refine()
        assert {day: rooms.tasks(day) for day in expected} == expected
        rooms.close()
        check_state(root)

    @pytest.mark.parametrize("place", ["bronze", "silver"])
    def test_what_is_no_file_of_the_tree_does_no_harm(self, rooms: Rooms, tmp_path: Path, place: str) -> None:
        """FIFOs, folders, links out of the tree and hidden files are left alone; the others are read."""
        folder = rooms.bronze if place == "bronze" else rooms.silver
        folder.mkdir(parents=True, exist_ok=True)
        outside = tmp_path / "outside.jsonl"
        outside.write_bytes(line(good("outside")))
        os.mkfifo(folder / "fifo.jsonl")
        (folder / "folder.jsonl").mkdir()
        (folder / "link.jsonl").symlink_to(outside)
        (folder / "nowhere.jsonl").symlink_to(folder / "gone")
        (folder / ".hidden.jsonl").write_bytes(line(good("hidden")))
        (folder / "file.txt").write_bytes(line(good("text")))
        rooms.put("a.jsonl", good("a"))
        rooms.everything()
        assert set(rooms.collected()) == {"a"}

    @slow
    def test_a_sparse_file_of_10_gigabytes_does_no_harm(self, rooms: Rooms) -> None:
        """It is read to its end in bounded memory, and quarantined by position."""
        path = rooms.put("a.jsonl", good("a"))
        os.truncate(path, 10 << 30)
        rooms.put("b.jsonl", good("b"))
        rooms.refine()
        assert rooms.tasks() == ["a", "b"]
        rooms.clock.advance(90_000)
        rooms.refine()
        (one,) = rooms.quarantine()
        assert one["length"] == (10 << 30) - one["offset"]
        assert "text" not in one

    def test_an_unreadable_file_stops_no_other(self, rooms: Rooms) -> None:
        """It is told of, and left for the next run."""

        class Refusing:
            """A tree of which one file cannot be read to its end, as on a bad disk."""

            def __getattr__(self, name: str) -> Any:
                return getattr(rooms.tree, name)

            def open_input(self, relative: str) -> Any:
                opened = rooms.tree.open_input(relative)
                if relative.endswith("bad.jsonl"):
                    assert opened is not None
                    opened.close()
                    return _Bad(rooms.bronze / "bad.jsonl")
                return opened

        rooms.put("a.jsonl", good("a"))
        rooms.put("bad.jsonl", good("b"))
        rooms.put("c.jsonl", good("c"))
        troubled = Rooms(rooms.root, files=Refusing())
        counts = troubled.follow()
        assert counts["silver"] == 2
        (trouble,) = troubled.troubles
        assert "bad.jsonl" in trouble.subject
        assert trouble.hint
        troubled.close()
        rooms.refine()
        assert rooms.tasks() == ["a", "b", "c"]


class _Bad:
    """A file that breaks while it is read."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")

    def __enter__(self) -> _Bad:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def close(self) -> None:
        self._file.close()

    def fileno(self) -> int:
        return self._file.fileno()

    def seek(self, offset: int) -> int:
        return self._file.seek(offset)

    def read(self, _: int) -> bytes:
        raise OSError(5, "Input/output error")

    readinto = read


class TestCuttings:
    """The same input gives the same silver, however it was cut into runs."""

    @staticmethod
    def input() -> dict[str, bytes]:
        """Three files with all that makes it hard: tasks across files and days, duplicates, breaks, no dates."""
        kinds = [data for name, data, *_ in TestMalformed.KINDS if name not in ("nesting of 10,000", "BOM")]
        files: dict[str, list[bytes]] = {"a.jsonl": [], "b.jsonl": [], "tasks-20251120.jsonl": []}
        for number in range(8):
            task = f"task-{number}"
            pending = good(task, status="pending", completed_at=..., created_at=f"2025-11-2{number % 4}T23:00:00-0600")
            done = good(task, completed_at=f"2025-11-2{(number + 1) % 5}T10:00:00Z", number=number)
            files["a.jsonl"] += [line(pending), json.dumps(done, indent=2).encode() + b"\n"]
            files["b.jsonl"] += [line(done), line(pending), kinds[number % len(kinds)]]
            files["a.jsonl"] += [kinds[(number + 6) % len(kinds)]]
            files["tasks-20251120.jsonl"] += [line(good(f"undated-{number // 2}", created_at=..., completed_at=...))]
        return {name: b"".join(lines) for name, lines in files.items()}

    @given(st.data())
    @settings(max_examples=80)
    def test_random_cuttings(self, data: st.DataObject) -> None:
        """Any number of runs, each finding any more bytes of any file, compacting or not in between."""
        whole = self.input()
        with quick_folder() as folder:
            plain, cut = Rooms(folder / "plain"), Rooms(folder / "cut", clock=FakeClock(NOW))
            for name, content in whole.items():
                plain.put(name, content)
            plain.refine()
            done = dict.fromkeys(whole, 0)
            for _ in range(data.draw(st.integers(0, 6))):
                name = data.draw(st.sampled_from(sorted(whole)))
                more = data.draw(st.integers(0, len(whole[name]) - done[name]))
                cut.put(name, whole[name][done[name] : done[name] + more])
                done[name] += more
                cut.follow()
                if data.draw(st.booleans()):
                    cut.medallion.compact(Handle())
            for name, content in whole.items():
                cut.put(name, content[done[name] :])
            cut.refine()
            assert silver_bytes(folder / "cut") == silver_bytes(folder / "plain")
            assert sorted(map(str, cut.quarantine())) == sorted(map(str, plain.quarantine()))
            check_state(folder / "cut")
            check_compacted(folder / "cut")
            cut.medallion.rebuild(Handle())
            cut.refine()
            assert silver_bytes(folder / "cut") == silver_bytes(folder / "plain")
            plain.close()
            cut.close()

    def test_compacting_is_idempotent(self, rooms: Rooms) -> None:
        """Once compact, nothing is written again."""
        for name, content in self.input().items():
            rooms.put(name, content)
            rooms.follow()
        rooms.refine()
        before = {path: path.stat().st_mtime_ns for path in rooms.silver.iterdir()}
        rooms.refine()
        assert {path: path.stat().st_mtime_ns for path in rooms.silver.iterdir()} == before


class TestMending:
    """Silver is a projection: removed or cut by somebody else, it is written again."""

    @pytest.mark.parametrize("damage", ["removed", "cut", "emptied"])
    @pytest.mark.parametrize("by", ["follow", "compact"])
    def test_a_damaged_silver_file_comes_back(self, rooms: Rooms, damage: str, by: str) -> None:
        """By the next run, whichever it is, with every line."""
        rooms.put("a.jsonl", good("a"), good("b"), good("c"))
        rooms.follow()
        rooms.put("a.jsonl", good("a", completed_at="2025-11-26T11:00:00Z"))
        rooms.follow()
        path = rooms.silver / "20251126.autolearn.jsonl"
        if damage == "removed":
            path.unlink()
        else:
            os.truncate(path, path.stat().st_size // 2 if damage == "cut" else 0)
        if by == "follow":
            rooms.follow()
        rooms.medallion.compact(Handle())
        assert rooms.tasks() == ["b", "c", "a"]
        check_state(rooms.root)
        assert set(rooms.collected()) == set()
        assert rooms.collect()["high_quality"] == 3

    def test_damage_is_mended_before_more_is_appended(self, rooms: Rooms) -> None:
        """New lines never stand behind a hole."""
        rooms.put("a.jsonl", good("a"), good("b"))
        rooms.follow()
        os.truncate(rooms.silver / "20251126.autolearn.jsonl", 10)
        rooms.put("a.jsonl", good("c"))
        rooms.follow()
        assert rooms.tasks() == ["a", "b", "c"]

    def test_lines_that_are_left_are_kept_where_bronze_is_gone(self, rooms: Rooms) -> None:
        """Of a file that was cut, what is left is kept, whether or not its bronze is still there."""
        path = rooms.put("a.jsonl", good("a"), good("b"))
        rooms.follow()
        path.unlink()
        silver = rooms.silver / "20251126.autolearn.jsonl"
        os.truncate(silver, silver.stat().st_size - 5)
        rooms.follow()
        assert rooms.tasks() == ["a"]

    def test_bronze_that_lost_its_first_lines_still_mends(self, rooms: Rooms) -> None:
        """A record is found where it stands now."""
        path = rooms.put("a.jsonl", good("a"), good("b"), good("c"))
        rooms.follow()
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
        rooms.follow()
        (rooms.silver / "20251126.autolearn.jsonl").unlink()
        rooms.follow()
        rooms.medallion.compact(Handle())
        assert rooms.tasks()[-2:] == ["b", "c"]

    def test_another_process_that_compacts_meanwhile_is_no_damage(self, root: Path) -> None:
        """A file that is shorter because it was just compacted is not mended, whose bronze may be gone."""
        rooms = Rooms(root)
        path = rooms.put("a.jsonl", good("a", status="running"), good("b"))
        rooms.follow()
        rooms.put("a.jsonl", good("a"))
        rooms.follow()
        path.unlink()

        class Racing:
            """A tree that shows a compaction by another process between two looks."""

            raced = False

            def __getattr__(self, name: str) -> Any:
                if name in ("size", "entries") and not self.raced:
                    self.raced = True
                    rooms.medallion.compact(Handle())
                return getattr(rooms.tree, name)

        racing = Rooms(root, files=Racing())
        racing.medallion.mend()
        assert racing.tasks() == ["b", "a"]
        check_state(root)
        racing.close()
        rooms.close()

    def test_a_rebuild_gives_the_same_silver_and_quarantine(self, rooms: Rooms) -> None:
        """Whatever has happened to them meanwhile; what was collected stays collected, once."""
        for name, content in TestCuttings.input().items():
            rooms.put(name, content)
            rooms.everything()
        silver, collected = silver_bytes(rooms.root), rooms.collected()
        quarantine = sorted(map(str, rooms.quarantine()))
        for path in rooms.silver.iterdir():
            path.write_bytes(b"vandalised\n" * 200)
        rooms.medallion.rebuild(Handle())
        _, tally = rooms.everything()
        assert silver_bytes(rooms.root) == silver
        assert sorted(map(str, rooms.quarantine())) == quarantine
        assert rooms.collected() == collected
        assert (tally["high_quality"], tally["withdrawn"]) == (0, 0)


class TestSilverOfCortex:
    def test_it_is_read_and_never_touched(self, rooms: Rooms) -> None:
        """Its tasks are collected; its bytes stay, also through compaction and rebuild."""
        text = json.dumps(good("theirs"), indent=2) + "\n" + json.dumps(good("second")) + "\n"
        path = rooms.put("20251126.jsonl", text.encode(), folder=layout.SILVER)
        rooms.put("a.jsonl", good("ours"))
        before = path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns
        _, tally = rooms.everything()
        rooms.medallion.rebuild(Handle())
        rooms.everything()
        assert (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) == before
        assert tally["high_quality"] == 3
        assert set(rooms.collected()) == {"theirs", "second", "ours"}
        assert rooms.tasks() == ["ours"]

    def test_it_is_overwritten_with_other_lines(self, rooms: Rooms) -> None:
        """Cortex's script writes its file anew: what moved in it is found, what is new is taken."""
        path = rooms.put("20251126.jsonl", good("a"), good("b"), folder=layout.SILVER)
        rooms.adopt()
        path.write_bytes(line(good("b")))
        rooms.adopt()
        assert "b" in dict.fromkeys(rooms.collect() and rooms.collected())
        path.write_bytes(line(good("c")) + line(good("b", completed_at="2025-11-26T11:00:00Z")))
        rooms.adopt()
        rooms.collect()
        assert {"b", "c"} <= rooms.collected().keys()

    def test_what_is_broken_there_is_quarantined_once(self, rooms: Rooms) -> None:
        """With its place and reason, as in bronze: also when Cortex writes the file anew, and after a rebuild."""
        rooms.put("a.jsonl", b'{"task_id":"torn","a":1,}\n', good("ours"))
        broken = [b'{"task_id":"bad","output":}\n', b'{"no":"id"}\n', b"\xff\n", b'{"task_id":"t","a":1,"a":2}\n']
        path = rooms.put("20251126.jsonl", good("first"), *broken, good("last"), folder=layout.SILVER)
        rooms.follow()
        noted = rooms.adopt()
        assert (noted["objects"], noted["silver"], noted["quarantined"], noted["quarantined_objects"]) == (4, 2, 4, 2)
        relative = f"{layout.SILVER}/20251126.jsonl"
        kept = [one for one in rooms.quarantine() if one["file"] == relative]
        written = path.read_bytes()
        assert [(one["offset"], one["length"]) for one in kept] == [
            (written.index(one), len(one) - 1) for one in broken
        ]
        assert [one["reason"] for one in kept][1::2] == ["no task id", "the key 'a' stands twice"]
        assert [one.get("text") for one in kept] == [
            broken[0][:-1].decode(),
            '{"no":"id"}',
            None,
            broken[3][:-1].decode(),
        ]
        path.unlink()
        path.write_bytes(written + line(good("more")))
        assert rooms.adopt()["quarantined"] == 4  # met again, and not kept again
        rooms.medallion.rebuild(Handle())
        with rooms.store.read() as reading:
            assert sum(reading.quarantine_counts().values()) == 5
        path.unlink()
        path.write_bytes(written + line(good("even more")))
        rooms.adopt()
        assert sorted(map(str, (one for one in rooms.quarantine() if one["file"] == relative))) == sorted(
            map(str, kept)
        )
        assert len(rooms.quarantine()) == 5

    @pytest.mark.parametrize("first", ["ours", "theirs"])
    def test_a_task_of_both_counts_once(self, rooms: Rooms, first: str) -> None:
        """Whichever came first: one task in gold, one in the set, by the record that ranks higher."""
        deliveries = {
            "ours": lambda: rooms.put("a.jsonl", good("t", quality_score=4.2)),
            "theirs": lambda: rooms.put(
                "20251126.jsonl", good("t", completed_at="2025-11-26T11:00:00Z"), folder=layout.SILVER
            ),
        }
        for name in (first, "theirs" if first == "ours" else "ours"):
            deliveries[name]()
            rooms.everything()
        assert rooms.collected().keys() == {"t"}
        (outcome,) = objects(rooms.outcomes)
        assert outcome["quality_score"] == 4.5
        assert outcome["source"]["file"] == f"{layout.SILVER}/20251126.jsonl"
        assert rooms.analytics(20251126)["summary"]["total_tasks"] == 1

    def test_its_counts_add_up(self, rooms: Rooms) -> None:
        """Objects are new, superseded or unusable; what is broken is counted as well."""
        rooms.put("x.jsonl", good("a"), good("a"), {"no": "id"}, b"broken\n", good("b"), folder=layout.SILVER)
        counts = rooms.adopt()
        assert counts["objects"] == counts["silver"] + counts["superseded"] + counts["quarantined_objects"] == 4
        assert (counts["silver"], counts["quarantined"]) == (2, 2)


class TestAccounting:
    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_every_byte_is_accounted_for(self, rooms: Rooms, seed: int) -> None:
        """A fleet's days, in one run: what was read, stands, was superseded and is quarantined, to the number."""
        fleet = Fleet(seed, start=datetime(2025, 11, 20, tzinfo=UTC), tasks_per_day=50)
        for write in fleet.writes(4):
            append(rooms.root, write)
        expected = fleet.expected(4)
        counts = rooms.refine()
        assert counts["bytes_read"] == expected.bytes
        assert counts["objects"] == expected.objects
        assert counts["silver"] == expected.tasks
        assert counts["superseded"] == expected.superseded
        assert counts["quarantined_objects"] == expected.quarantined_objects
        assert counts["quarantined"] == expected.quarantined == len(rooms.quarantine())

    @pytest.mark.parametrize("seed", range(6))
    def test_the_fleets_oracle_agrees_however_the_days_are_cut(self, root: Path, seed: int) -> None:
        """Every task's facts, the collected set with its splits and the reasons of the others, exactly."""
        fleet = Fleet(seed, start=datetime(2025, 11, 20, tzinfo=UTC), tasks_per_day=30 + 10 * seed)
        expected = fleet.expected(3)
        clock = FakeClock(datetime(2025, 11, 20, tzinfo=UTC))
        rooms = Rooms(root, clock=clock)
        every = 1 + 37 * seed
        for number, write in enumerate(fleet.writes(3)):
            append(root, write)
            if number % every == every - 1 and number < 40 * every:
                clock.advance(max(0.0, (write.at - clock.now()).total_seconds()))
                rooms.follow()
                if number % 3:
                    rooms.collect()
        clock.advance(3 * 86_400)
        rooms.everything()
        found = {one["canonical"]["task_id"]: one for one in rooms.silver_objects()}
        assert found.keys() == expected.standing.keys()
        for task_id, facts in expected.standing.items():
            read = found[task_id]["canonical"]
            assert (read["master"], read["task_type"], read["status"]) == (facts.master, facts.task_type, facts.status)
            assert (read["quality_score"], read["retry_count"]) == (facts.quality_score, facts.retry_count)
            assert (read["error"], read["model"]) == (facts.error, facts.model)
            assert read["duration_seconds"] == (
                None if facts.duration_seconds is None else pytest.approx(facts.duration_seconds)
            )
            for name in ("created_at", "started_at", "completed_at"):
                instant = getattr(facts, name)
                assert read[name] == (None if instant is None else instant.isoformat().replace("+00:00", "Z"))
        days: dict[str, int] = {}
        for path in rooms.silver.glob("*.autolearn.jsonl"):
            days[path.name[:8]] = len(rooms.tasks(path.name[:8]))
        assert {day: count for day, count in days.items() if count} == expected.tasks_by_day
        assert rooms.collected() == expected.collected
        rooms.close()
        check_state(root)
        check_compacted(root)
        fresh = Rooms(root)
        tally = fresh.collect(everything=True)
        assert tally["rejected"] == expected.rejected
        assert (tally["already_collected"], tally["withdrawn"]) == (expected.high_quality, 0)
        fresh.close()


def test_a_rebuild_keeps_what_cannot_be_read_again(root: Path, rooms: Rooms) -> None:
    """Tasks and quarantined stretches of bronze files that are gone stay, with their lines; the others are made anew."""
    gone = rooms.put("tasks-20251126.jsonl", good("old"), b"not JSON at all\n")
    rooms.put("tasks-20251127.jsonl", good("new"), b"nor is this\n")
    rooms.refine()
    gone.unlink()
    rooms.medallion.rebuild(Handle())
    rooms.medallion.compact(Handle())
    lines = [json.loads(line) for path in rooms.silver.glob("*.jsonl") for line in path.read_bytes().splitlines()]
    assert sorted(line["task_id"] for line in lines) == ["new", "old"]
    quarantine = root / layout.QUARANTINE
    kept = [json.loads(line)["text"] for path in quarantine.iterdir() for line in path.read_bytes().splitlines()]
    assert sorted(kept) == ["nor is this", "not JSON at all"]


def test_nobody_waits_while_a_rebuild_looks_at_bronze(root: Path, rooms: Rooms) -> None:
    """Reading all of bronze takes long: other processes may change the state meanwhile."""
    rooms.put("tasks.jsonl", good("a"), good("b"))
    rooms.refine()
    is_free: list[bool] = []

    class Watching:
        """A tree that looks, whenever bronze is opened, whether another process could write."""

        def __getattr__(self, name: str) -> Any:
            return getattr(rooms.tree, name)

        def open_input(self, relative: str) -> Any:
            if relative.startswith(layout.BRONZE):
                with (root / layout.WRITER_LOCK).open("rb") as lock, suppress(BlockingIOError):
                    is_free.append(False)
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    is_free[-1] = True
            return rooms.tree.open_input(relative)

    with Rooms(root, files=Watching()) as watched:
        watched.medallion.rebuild(Handle())
        assert watched.tasks() == ["a", "b"]
    assert len(is_free) > 1
    assert all(is_free)


@pytest.mark.parametrize("field", ["cost", "quality_score", "duration_seconds", "retry_count"])
def test_a_number_beyond_all_numbers_is_no_stop(rooms: Rooms, field: str) -> None:
    """Valid JSON that no float can hold is an odd value of one record, not a failure of the run."""
    rooms.put("tasks.jsonl", b'{"task_id":"x","%b":1e400}\n' % field.encode(), good("y"))
    assert rooms.everything()[0]["silver"] == 2


@pytest.mark.parametrize("field", ["result", "error", "input", "created_at"])
def test_a_value_that_nests_deeply_is_no_stop(rooms: Rooms, field: str) -> None:
    """Whatever depth of a record is read as JSON, one record of it does not keep the others from being read."""
    deep = b'{"a":' * 700 + b"null" + b"}" * 700
    rooms.put("tasks.jsonl", b'{"task_id":"x","%b":%b}\n' % (field.encode(), deep), good("y"))
    assert rooms.everything()[0]["silver"] == 2
    assert rooms.quarantine() == []


def test_a_removed_quarantine_file_stops_nothing(root: Path, rooms: Rooms) -> None:
    """What it held comes back with a rebuild; what is quarantined from now on is kept as always."""
    rooms.put("tasks.jsonl", b"first\n")
    rooms.everything()
    for path in (root / layout.QUARANTINE).iterdir():
        path.unlink()
    rooms.put("tasks.jsonl", b"second\n")
    rooms.everything()
    assert [one["text"] for one in rooms.quarantine()] == ["second"]
    rooms.medallion.rebuild(Handle())
    assert sorted(one["text"] for one in rooms.quarantine()) == ["first", "second"]


@pytest.mark.parametrize("damage", [b'"text":"\xe1"', b'"text_base64":"removed"'])
def test_a_quarantine_file_that_was_edited_stops_nothing(root: Path, rooms: Rooms, damage: bytes) -> None:
    """A line that is not as we write them goes; the others stay, and so does the run."""
    rooms.put("tasks.jsonl", b"a secret that is not to be kept\n", b"other\n")
    rooms.everything()
    (path,) = (root / layout.QUARANTINE).iterdir()
    path.write_bytes(path.read_bytes().replace(b'"text":"a secret that is not to be kept"', damage))
    rooms.everything()
    assert [one["text"] for one in rooms.quarantine()] == ["other"]
    rooms.medallion.rebuild(Handle())
    assert len(rooms.quarantine()) == 2


@pytest.mark.parametrize(
    ("member", "other", "kept"),
    [
        (b'"offset":0', b'"offset":123456789012345678901', 1),
        (b'"offset":0', b'"offset":-1', 1),
        (b'"length":100', b'"length":123456789012345678901', 1),
        (b'"length":100', b'"length":1234567890123', 2),
    ],
)
def test_a_quarantine_file_with_other_numbers_stops_no_rebuild(
    root: Path, rooms: Rooms, member: bytes, other: bytes, kept: int
) -> None:
    """A place that no file can have is not as we write it; a length that its text has not is not looked for."""
    rooms.put("tasks.jsonl", b"x" * 100 + b"\n")
    rooms.everything()
    (path,) = (root / layout.QUARANTINE).iterdir()
    content = path.read_bytes()
    assert member in content
    path.write_bytes(content.replace(member, other).replace(b"x" * (len(other) - len(member)), b"", 1))
    rooms.medallion.rebuild(Handle())
    assert len(rooms.quarantine()) == kept


def test_a_rebuild_quarantines_nothing_twice(root: Path) -> None:
    """A record over the limit is kept by its position alone; and a file may come back after a rebuild without it."""
    with Rooms(root, max_record_bytes=4_096) as rooms:
        rooms.put("large.jsonl", good("large", output="x" * 5_000), good("small"))
        path = rooms.put("away.jsonl", b"not JSON at all\n")
        rooms.everything()
        content = path.read_bytes()
        path.unlink()
        rooms.medallion.rebuild(Handle())
        path.write_bytes(content)
        for _ in range(2):
            rooms.everything()
            rooms.medallion.rebuild(Handle())
        assert sorted(one["reason"] for one in rooms.quarantine()) == ["not JSON", "over 4096 bytes"]


def test_other_garbage_at_the_same_place_is_quarantined(rooms: Rooms) -> None:
    """A file that was replaced brings new content, though its place and length are those of the old."""
    path = rooms.put("tasks.jsonl", b"garbage one\n")
    rooms.everything()
    path.unlink()
    rooms.put("tasks.jsonl", b"garbage two\n")
    rooms.everything()
    assert [one["text"] for one in rooms.quarantine()] == ["garbage one", "garbage two"]


@pytest.mark.parametrize("how", ["replaced", "cut", "under another name"])
def test_a_rebuild_keeps_what_its_file_no_longer_holds(rooms: Rooms, how: str) -> None:
    """A file's name says nothing: what stood there and does not any more cannot be read again."""
    path = rooms.put("tasks.jsonl", *(good(f"old-{number}") for number in range(9)))
    rooms.refine()
    if how == "cut":
        os.truncate(path, 0)
    else:
        path.unlink()  # its inode is likely to be given to the next file
    rooms.put("others.jsonl" if how == "under another name" else "tasks.jsonl", *(good(f"new-{n}") for n in range(5)))
    rooms.refine()
    rooms.medallion.rebuild(Handle())
    rooms.medallion.compact(Handle())
    expected = [*(f"old-{number}" for number in range(9)), *(f"new-{number}" for number in range(5))]
    assert sorted(rooms.tasks()) == sorted(expected)
    assert sorted(one["task_id"] for one in rooms.silver_objects()) == sorted(expected)
