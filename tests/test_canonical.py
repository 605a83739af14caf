"""Our reading of a task record: every row of the table, and that no shortcut of the reader changes what it reads.

The table stands here a second time, as FORMATS has it, together with a reader of the plainest kind.
"""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cortex_autolearn import jsonstream
from cortex_autolearn.canonical import NO_RANK, OUTPUT_CHARS_CAP, Readers, ScoreScale, TaskReader, master_name
from cortex_autolearn.model import instants
from cortex_autolearn.model import policy as policies
from cortex_autolearn.model.records import Canonical, Rejected, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

TASK_ID = ("task_id", "id")
NAMING = ("master", "parent_master", "assigned_master")
ASSIGNING = ("assigned_to", "metadata.assigned_to", "original_task.assigned_to", "payload.category")
TASK_TYPE = ("task_type", "type", "original_task.type", "payload.category", "worker_type")
INPUT = (
    "input",
    "prompt",
    "task_description",
    "context.task_description",
    "description",
    "original_task.description",
    "payload.query",
    "title",
    "task_title",
)
OUTPUT = (
    "output",
    "result.answer",
    "result.message",
    "result.summary",
    "results.summary",
    "work_summary",
    "conclusion",
    "answer",
    "result",
    "results",
    "execution.result",
    "output_data",
)
STATUS = ("status", "completion.status")
QUALITY = ("quality_score", "quality_metrics.quality_score")
CREATED = ("created_at", "metadata.created_at", "original_task.created_at", "task_data.created_at")
STARTED = (
    "started_at",
    "execution.started_at",
    "execution_summary.started_at",
    "metadata.started_at",
    "execution_start",
)
COMPLETED = (
    "completed_at",
    "execution.completed_at",
    "completion.completed_at",
    "completion_time",
    "metadata.completed_at",
    "execution.ended_at",
    "failed_at",
    "execution_end",
)
SECONDS = ("duration_seconds", "execution_summary.duration_seconds", "metadata.processing_time_ms")
MINUTES = ("duration_minutes", "execution.duration_minutes", "execution_time_minutes", "completion.duration_minutes")
ERROR = ("error", "execution.error", "failure_reason", "zombie_reason", "kill_reason", "errors")
RETRIES = ("retry_count", "retries", "metrics.retries", "attempts")
COST = ("cost_usd", "cost")

EMPTY: tuple[Any, ...] = (None, "", [], {}, {"a": None}, {"a": "", "b": [], "c": {"d": {}}})
KNOWN = ("coordinator", "development", "security", "inventory", "cicd", "infrastructure", "testing")
WORDS = {
    "completed": ("completed", "complete", "success", "succeeded", "done"),
    "failed": ("failed", "failure", "error", "timeout", "timed_out", "zombie", "stuck", "killed"),
    "cancelled": ("cancelled", "canceled", "skipped"),
}


def read_bytes(data: bytes, reader: TaskReader | None = None) -> Task | Rejected:
    """Read the one record in ``data``."""
    (item,) = jsonstream.read([data], closed=True)
    assert not isinstance(item, jsonstream.Broken), item
    _, raw, fields = item
    return (reader or TaskReader()).read(raw, fields)


def read(record: dict[str, Any], reader: TaskReader | None = None, **style: Any) -> Task:
    task = read_bytes(json.dumps(record, **style).encode(), reader)
    assert isinstance(task, Task), task
    return task


def reading(fields: dict[str, Any], reader: TaskReader | None = None) -> Canonical:
    """Read a task of which only ``fields`` matter; their names are dotted paths."""
    return read(build({"task_id": "t", **fields}), reader).canonical


def build(fields: dict[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for path, value in fields.items():
        inner = record
        *above, last = path.split(".")
        for key in above:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return record


def at(second: int) -> str:
    """An instant as the records have it."""
    return f"2025-11-16T10:00:{second:02d}Z"


def moment(second: int) -> datetime:
    return datetime(2025, 11, 16, 10, 0, second, tzinfo=UTC)


def facts(task: Task | Rejected) -> tuple[Any, ...]:
    """All that a reading says about its record, and nothing of how it was read."""
    assert isinstance(task, Task), task
    return (
        task.canonical,
        task.day,
        task.final,
        task.rank_us,
        task.created_us,
        task.completed_us,
        task.output_chars,
    )


def identity(value: Any) -> Any:
    return value


Sample = tuple[str, tuple[str, ...], "Callable[[int], Any]", "Callable[[Any], Any]"]

# Canonical field, its places in order, a value by number, and what the value must become.
ROWS: list[Sample] = [
    ("task_type", TASK_TYPE, "kind-{}".format, identity),
    ("status", STATUS, "odd-{}".format, identity),
    ("quality_score", QUALITY, lambda n: 1 + n / 4, identity),
    ("created_at", CREATED, at, lambda text: datetime.fromisoformat(text)),
    ("started_at", STARTED, at, lambda text: datetime.fromisoformat(text)),
    ("completed_at", COMPLETED, at, lambda text: datetime.fromisoformat(text)),
    ("error", ERROR, "went wrong {}".format, identity),
    ("model", ("model",), "model-{}".format, identity),
    ("variant", ("variant",), "v{}".format, identity),
    ("experiment", ("experiment",), "test-{}".format, identity),
    ("fallback_from", ("fallback_from",), "model-{}".format, identity),
    ("cost_usd", COST, lambda n: n / 100 + 0.01, identity),
    ("master", NAMING, "m{}-master".format, identity),
    ("master", ASSIGNING, "a{}-master".format, identity),
]
PAIRS = [(name, places, i, value, turned) for name, places, value, turned in ROWS for i in range(len(places))]


class TestWhichPlaceWins:
    @pytest.mark.parametrize(("name", "places", "i", "value", "turned"), PAIRS)
    def test_every_place_of_a_row_is_read_when_it_stands_alone(
        self, name: str, places: tuple[str, ...], i: int, value: Callable[[int], Any], turned: Callable[[Any], Any]
    ) -> None:
        """A row of the table is taken from each of its places."""
        assert getattr(reading({places[i]: value(i)}), name) == turned(value(i))

    @pytest.mark.parametrize(("name", "places", "i", "value", "turned"), PAIRS)
    def test_the_first_listed_place_wins_whatever_the_order_in_the_record(
        self, name: str, places: tuple[str, ...], i: int, value: Callable[[int], Any], turned: Callable[[Any], Any]
    ) -> None:
        """Of all places from the i-th on, the i-th wins, also when it stands last in the record."""
        fields = {places[j]: value(j) for j in reversed(range(i, len(places)))}
        assert getattr(reading(fields), name) == turned(value(i))

    @pytest.mark.parametrize("empty", EMPTY, ids=repr)
    @pytest.mark.parametrize(("name", "places", "i", "value", "turned"), [pair for pair in PAIRS if pair[2]])
    def test_an_empty_value_is_passed_over(
        self,
        name: str,
        places: tuple[str, ...],
        i: int,
        value: Callable[[int], Any],
        turned: Callable[[Any], Any],
        empty: Any,
    ) -> None:
        """Null, empty text, an empty list, an empty object or an object of such count as absent."""
        fields = {places[j]: empty for j in range(i)} | {places[i]: value(i)}
        assert getattr(reading(fields), name) == turned(value(i))

    @pytest.mark.parametrize("parent", ["text", 5, [], [{"created_at": at(1)}], True, None])
    def test_a_parent_that_is_no_object_holds_nothing(self, parent: Any) -> None:
        """A dotted path leads through objects only."""
        assert reading({"metadata": parent, "task_data.created_at": at(7)}).created_at == moment(7)

    @pytest.mark.parametrize("path", INPUT)
    def test_the_input_is_named_by_its_path(self, path: str) -> None:
        """Long texts are not repeated: the reading says where what was asked stands."""
        later = INPUT[INPUT.index(path) :]
        assert reading(dict.fromkeys(later, "asked")).input_field == path

    @pytest.mark.parametrize("path", OUTPUT)
    def test_the_output_is_named_by_its_path(self, path: str) -> None:
        """The first place of an output wins; a whole result stands behind the parts of it that say more."""
        later = [one for one in OUTPUT[OUTPUT.index(path) :] if one in (path, "work_summary", "conclusion", "answer")]
        later = [one for one in later if OUTPUT.index(one) >= OUTPUT.index(path)]
        assert reading(dict.fromkeys(later, "answered")).output_field == path

    def test_an_output_may_be_an_object_or_a_list(self) -> None:
        """An object or list is an output as its compact JSON, which is what is counted."""
        record = {"task_id": "t", "results": {"found": [1, 2], "note": "fine"}}
        task = read(record, indent=4)
        assert task.canonical.output_field == "results"
        assert task.output_chars == len('{"found":[1,2],"note":"fine"}')

    @pytest.mark.parametrize("white", [b"[ ]", b"{ }", b'{ "a" : null }', b'{"a": [\n]}'])
    def test_white_space_inside_does_not_fill_a_value(self, white: bytes) -> None:
        """What is empty stays empty however it is laid out."""
        task = read_bytes(b'{"task_id":"t","input":' + white + b',"prompt":"asked"}')
        assert isinstance(task, Task)
        assert task.canonical.input_field == "prompt"

    @pytest.mark.parametrize("full", [[None], [{}], " ", 0, False, {"a": [None]}, {"a": 0}])
    def test_everything_else_is_a_value(self, full: Any) -> None:
        """A list that holds something, white space, zero and false are no absence."""
        assert reading({"input": full, "prompt": "asked"}).input_field == "input"


class TestTaskId:
    @pytest.mark.parametrize(
        ("task_id", "expected"),
        [
            ("task-1", "task-1"),
            ("  ", "  "),
            ("../../etc/passwd", "../../etc/passwd"),
            ("Äpfel-🍏", "Äpfel-🍏"),
            ("a\0b", "a\0b"),
            ("a\nb", "a\nb"),
            ("x" * 5_000, "x" * 5_000),
            (7, "7"),
            (-0.50, "-0.5"),
            (10**30, "1" + "0" * 30),
        ],
    )
    def test_a_task_id_is_any_text_that_is_not_empty_or_a_number(self, task_id: Any, expected: str) -> None:
        """Task ids never become paths, so any text will do; a number counts as its digits."""
        assert read({"task_id": task_id}).canonical.task_id == expected
        assert read({"id": task_id, "task_id": ""}).canonical.task_id == expected

    @pytest.mark.parametrize("record", [{}, {"task_id": None}, {"task_id": "", "id": {}}, {"title": "x"}])
    def test_a_record_without_an_id_is_rejected(self, record: dict[str, Any]) -> None:
        """What cannot be told apart cannot be a task."""
        task = read_bytes(json.dumps(record).encode())
        assert task == Rejected("no task id")

    @pytest.mark.parametrize("task_id", [True, [1], {"a": 1}])
    def test_an_id_of_another_type_is_rejected(self, task_id: Any) -> None:
        """The first id that is present must be text or a number; none is made up."""
        assert isinstance(read_bytes(json.dumps({"task_id": task_id, "id": "t"}).encode()), Rejected)

    def test_a_number_is_kept_as_it_is_written(self) -> None:
        """Digits are not lost to a float."""
        task = read_bytes(b'{"task_id":12345678901234567890.10}')
        assert isinstance(task, Task)
        assert task.canonical.task_id == "12345678901234567890.10"


class TestRepeatedKeys:
    @pytest.mark.parametrize(
        "record",
        [
            b'{"task_id":"a","status":"done","task_id":"b"}',
            b'{"task_id":"a","task_id":"a"}',
            b'{"task_id": "a", "status": "done", "status": "failed"}',
            b'{\n  "task_id": "a",\n  "x": 1,\n  "x": 1\n}',
            b'{"task_id":"a","x":1,"\\u0078":2}',
            b'{ "task_id" :"a","x":"\xc3\xa9","y":{"y":1},"x":""}',
            '{"task_id":"a","é":1,"é":2}'.encode(),
            b'{"task_id":"a","x":"}","x":"{"}',
            b'{"task_id":"a","":1,"":2}',
            b'{"task_id":"a","x":"\\"","x":[1,{"x":2}]}',
        ],
    )
    def test_a_record_that_repeats_a_key_is_rejected(self, record: bytes) -> None:
        """No key may stand twice in silver, however it is spelled or laid out."""
        task = read_bytes(record)
        assert isinstance(task, Rejected)
        assert "twice" in task.reason

    @pytest.mark.parametrize(
        "record",
        [
            b'{"task_id":"a","x":{"task_id":"b","task_id":"c"}}',
            b'{ "task_id" : "a" , "x" : [ {"y":1,"y":2} ] }',
            b'{"task_id":"a","Task_id":"b","task_id ":"c"}',
            b'{"task_id":"a","x":"\\"task_id\\":1"}',
            b'{"task_id":"a","\\u00e9":1,"e":2}',
            b'{"task_id":"a", "n":' + b"9" * 5_000 + b"}",
        ],
    )
    def test_what_only_looks_repeated_is_not_rejected(self, record: bytes) -> None:
        """Only the top level counts, and only keys that are equal."""
        task = read_bytes(record)
        assert isinstance(task, Task)
        assert task.canonical.task_id == "a"

    @given(
        st.lists(
            st.tuples(st.text(max_size=4), st.one_of(st.integers(), st.text(max_size=6), st.just({}))), max_size=6
        ),
        st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")]),
        st.booleans(),
    )
    def test_a_record_is_rejected_for_a_repeated_key_exactly_when_it_has_one(
        self, pairs: list[tuple[str, Any]], separators: tuple[str, str], escaped: bool
    ) -> None:
        """The cheap proofs that no key stands twice agree with looking at every key."""
        comma, colon = separators
        pairs = [("task_id", "t"), *[(key, value) for key, value in pairs if key not in TASK_ID]]
        written = comma.join(
            json.dumps(key, ensure_ascii=escaped) + colon + json.dumps(value, ensure_ascii=escaped)
            for key, value in pairs
        )
        task = read_bytes(f"{{{written}}}".encode())
        assert isinstance(task, Rejected) == (len({key for key, _ in pairs}) < len(pairs))


class TestMaster:
    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("security", "security-master"),
            ("security-master", "security-master"),
            ("security-agent", "security-master"),
            ("  Security-Master \n", "security-master"),
            ("SECURITY-AGENT", "security-master"),
            ("my.team_7", "my.team_7-master"),
            ("x" * 121, "x" * 121 + "-master"),
            ("0", "0-master"),
        ],
    )
    @pytest.mark.parametrize("place", NAMING)
    def test_a_field_that_names_a_master_may_hold_any_valid_name(self, place: str, written: str, expected: str) -> None:
        """Trimmed, in lower case, and with one suffix."""
        assert reading({place: written}).master == expected
        assert master_name(written) == expected

    @pytest.mark.parametrize(
        "written",
        ["../x", "a/b", "x" * 122, "x" * 500, ".x", "-x", "-master", "-agent", " ", "two words", "ä", "a\0", "a\n b"],
    )
    @pytest.mark.parametrize("place", [*NAMING, *ASSIGNING])
    def test_a_name_that_cannot_be_part_of_a_path_is_no_master(self, place: str, written: str) -> None:
        """A report's name is made of a master's: what may not be one is refused, never escaped."""
        assert reading({place: written}).master is None

    @pytest.mark.parametrize("place", ASSIGNING)
    @pytest.mark.parametrize("name", KNOWN)
    def test_a_field_that_may_name_others_names_a_known_master(self, place: str, name: str) -> None:
        """The masters that every fleet has are known by their bare names."""
        assert reading({place: name}).master == f"{name}-master"
        assert reading({place: f" {name.upper()} "}).master == f"{name}-master"

    @pytest.mark.parametrize("place", ASSIGNING)
    @pytest.mark.parametrize("written", ["jane", "worker-7", "ops", "security team"])
    def test_a_field_that_may_name_others_names_nobody_else(self, place: str, written: str) -> None:
        """A person or a worker is no master."""
        assert reading({place: written}).master is None

    @pytest.mark.parametrize("place", ASSIGNING)
    @pytest.mark.parametrize("written", ["ops-master", "ops-agent", " Ops-Agent"])
    def test_a_field_that_may_name_others_names_a_master_that_says_so(self, place: str, written: str) -> None:
        """Written with its suffix a name is a master's wherever it stands."""
        assert reading({place: written}).master == "ops-master"

    def test_a_folder_of_the_fleet_makes_a_master_known(self) -> None:
        """The folders of coordination/masters add to the known ones, as soon as they are there."""
        folders: list[str] = []
        readers = Readers(policies.MedallionPolicy(), lambda: folders)
        readers.refresh()
        assert reading({"assigned_to": "ops"}, readers.of("a.jsonl")).master is None
        folders += ["Ops", "billing-master"]
        readers.refresh()
        assert reading({"assigned_to": "ops"}, readers.of("a.jsonl")).master == "ops-master"
        assert reading({"assigned_to": "billing"}, readers.of("a.jsonl")).master == "billing-master"

    def test_an_unusable_name_gives_way_to_the_next_place(self) -> None:
        """A master is any valid name, so an invalid one does not count; it is flagged."""
        found = reading({"master": "../x", "parent_master": 5, "assigned_master": ["a"], "assigned_to": "testing"})
        assert found.master == "5-master"
        assert "master_unusable" in found.flags
        assert reading({"master": "../x", "assigned_to": "testing"}).master == "testing-master"


class TestStatus:
    @pytest.mark.parametrize(("word", "meant"), [(word, meant) for meant, words in WORDS.items() for word in words])
    def test_the_fleets_words_for_an_end_are_one(self, word: str, meant: str) -> None:
        """Each word is read in any case and with white space around it, and ends the task."""
        for spelled in (word, word.upper(), f" {word.title()}\t"):
            task = read({"task_id": "t", "status": spelled})
            assert (task.canonical.status, task.final) == (meant, True)

    @pytest.mark.parametrize("word", ["pending", "in_progress", "Blocked ", "completed!", "partially done", "200"])
    def test_any_other_word_stays_and_ends_nothing(self, word: str) -> None:
        """What we do not know is not taken for an end."""
        task = read({"task_id": "t", "status": word})
        assert (task.canonical.status, task.final) == (word.strip().lower(), False)
        assert task.canonical.flags == []

    @pytest.mark.parametrize("status", [None, "", [], {}])
    def test_no_status_is_flagged_and_ends_nothing(self, status: Any) -> None:
        """A record that does not say how it stands is no outcome."""
        for record in ({"task_id": "t", "status": status}, {"task_id": "t"}):
            task = read(record)
            assert (task.canonical.status, task.final, task.canonical.flags) == (None, False, ["no_status"])

    @pytest.mark.parametrize("status", [True, ["completed"], {"a": 1}, "   "])
    def test_a_status_that_is_no_word_is_flagged(self, status: Any) -> None:
        """It is present, so nothing else is looked at, and it says nothing."""
        task = read({"task_id": "t", "status": status, "completion": {"status": "completed"}})
        assert (task.canonical.status, task.final) == (None, False)
        assert len(task.canonical.flags) == 1


class TestQuality:
    @pytest.mark.parametrize("score", [1, 1.0, 2.5, 4, 5, 5.0, 4.999999])
    def test_a_number_from_1_to_5_is_a_score(self, score: float) -> None:
        """It is taken as it stands, integers as integers."""
        found = reading({"quality_score": score}).quality_score
        assert found == score
        assert type(found) is type(score)

    @pytest.mark.parametrize("score", [0.8, 0, 0.999, -3, 5.0001, 6, 87, 1e308, "4", "high", True, [4], {"a": 4}])
    def test_what_is_on_another_scale_is_no_score(self, score: Any) -> None:
        """Scores of 0..1 and 0..100 and words exist in this fleet and are not 1..5; they are flagged."""
        found = reading({"quality_score": score, "quality_metrics.quality_score": 4})
        assert found.quality_score is None
        assert len([flag for flag in found.flags if flag.startswith("quality")]) == 1

    @pytest.mark.parametrize(("score", "expected"), [(0, 1), (0.5, 3), (0.8, 4.2), (1, 5), (1.01, None), (-0.1, None)])
    def test_a_declared_scale_is_mapped_linearly(self, score: float, expected: float | None) -> None:
        """The lowest score becomes 1, the highest 5, and what lies outside is none."""
        reader = TaskReader(scale=ScoreScale("outcome.score", 0, 1))
        assert reading({"outcome.score": score, "quality_score": 4}, reader).quality_score == (
            None if expected is None else pytest.approx(expected)
        )

    def test_a_scale_holds_for_the_files_it_is_declared_for(self) -> None:
        """The first declared scale whose glob fits the file's name holds, and for that file's records only."""
        policy = policies.MedallionPolicy(
            score_scale=(
                policies.ScoreScale(files="percent-*.jsonl", field="score", low=0, high=100),
                policies.ScoreScale(files="*-unit.jsonl", low=0, high=1),
            )
        )
        readers = Readers(policy, list)
        readers.refresh()
        assert reading({"score": 75}, readers.of("x/percent-1.jsonl")).quality_score == 4
        assert reading({"quality_score": 0.75}, readers.of("x/by-unit.jsonl")).quality_score == 4
        assert reading({"quality_score": 0.75}, readers.of("x/other.jsonl")).quality_score is None
        assert reading({"quality_score": 3}, readers.of("x/percent-1.jsonl")).quality_score == 3


class TestTimes:
    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("2025-11-16T10:00:00Z", datetime(2025, 11, 16, 10, tzinfo=UTC)),
            ("2025-11-16T10:00:00z", datetime(2025, 11, 16, 10, tzinfo=UTC)),
            ("2025-11-16T10:00:00-0600", datetime(2025, 11, 16, 16, tzinfo=UTC)),
            ("2025-11-16T10:00:00-06:00", datetime(2025, 11, 16, 16, tzinfo=UTC)),
            ("2025-11-16T10:00:00+0530", datetime(2025, 11, 16, 4, 30, tzinfo=UTC)),
            ("2025-11-16 10:00:00+00:00", datetime(2025, 11, 16, 10, tzinfo=UTC)),
            ("2025-11-16T10:00:00.5Z", datetime(2025, 11, 16, 10, 0, 0, 500_000, tzinfo=UTC)),
            ("2025-11-16T10:00:00.123456-06:00", datetime(2025, 11, 16, 16, 0, 0, 123_456, tzinfo=UTC)),
            ("2025-11-16T10:00:00.123456789Z", datetime(2025, 11, 16, 10, 0, 0, 123_457, tzinfo=UTC)),
            ("2024-02-29T23:59:59-0600", datetime(2024, 3, 1, 5, 59, 59, tzinfo=UTC)),
            ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
            ("9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ],
    )
    def test_every_way_to_write_an_instant_is_read(self, written: str, expected: datetime) -> None:
        """With an offset or Z, with or without fractions; the reading is in UTC and not flagged."""
        task = read({"task_id": "t", "status": "done", "completed_at": written, "created_at": written})
        assert (task.canonical.completed_at, task.canonical.created_at) == (expected, expected)
        assert task.canonical.flags == []
        assert task.day == expected.year * 10_000 + expected.month * 100 + expected.day
        assert task.completed_us is not None
        assert instants.from_us(task.completed_us) == expected
        assert task.rank_us == task.completed_us == task.created_us

    @pytest.mark.parametrize(
        "written",
        [
            "yesterday",
            "2025-13-01T00:00:00Z",
            "2025-02-30T00:00:00Z",
            "2025-11-16",
            "2025-11-16T25:00:00Z",
            1_763_246_282,
            1.5,
            True,
            ["2025-11-16T10:00:00Z"],
            {"at": "2025-11-16T10:00:00Z"},
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-14:00",
            " 2025-11-16T10:00:00Z",
        ],
    )
    @pytest.mark.parametrize(
        ("name", "places"), [("created_at", CREATED), ("started_at", STARTED), ("completed_at", COMPLETED)]
    )
    def test_an_unreadable_time_is_null_and_flagged(self, name: str, places: tuple[str, ...], written: Any) -> None:
        """It is present, so it is what the record says; that it cannot be read is said."""
        found = reading({places[0]: written, places[1]: at(5), "status": "done"})
        assert getattr(found, name) is None
        assert len(found.flags) == 1

    def test_a_time_without_offset_takes_that_of_the_records_other_times(self) -> None:
        """The first of created, started, completed, updated and ingested that has one lends it."""
        naive = "2025-11-16T10:00:00"
        offset = "2025-11-16T09:00:00-0600"
        expected = datetime(2025, 11, 16, 16, tzinfo=UTC)
        for lender in ("created_at", "started_at", "updated_at", "ingested_at"):
            found = reading(
                {"completed_at": naive, lender: offset, "status": "done"}, TaskReader(naive_zone=ZoneInfo("Asia/Tokyo"))
            )
            assert found.completed_at == expected, lender
            assert found.flags == ["time_without_offset"]
        found = reading({"completed_at": naive, "created_at": "2025-11-16T09:00:00+02:00", "started_at": offset})
        assert found.completed_at == datetime(2025, 11, 16, 8, tzinfo=UTC)

    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("2025-07-01T12:00:00", "2025-07-01T17:00:00Z"),
            ("2025-12-01T12:00:00", "2025-12-01T18:00:00Z"),
            ("2025-11-02T00:30:00", "2025-11-02T05:30:00Z"),
            ("2025-11-02T01:30:00", "2025-11-02T06:30:00Z"),  # stands twice that night: the first one
            ("2025-11-02T02:30:00", "2025-11-02T08:30:00Z"),
            ("2025-03-09T01:59:59", "2025-03-09T07:59:59Z"),
            ("2025-03-09T02:30:00", "2025-03-09T08:30:00Z"),  # does not exist that night
            ("2025-03-09T03:00:00", "2025-03-09T08:00:00Z"),
        ],
    )
    def test_a_time_without_any_offset_is_in_the_configured_zone(self, written: str, expected: str) -> None:
        """Summer time included; the reading is flagged."""
        reader = TaskReader(naive_zone=ZoneInfo("America/Chicago"))
        found = reading({"completed_at": written, "status": "done"}, reader)
        assert found.completed_at == datetime.fromisoformat(expected)
        assert found.flags == ["time_without_offset"]

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"completed_at": at(1), "updated_at": at(9)}, moment(1)),
            ({"updated_at": at(2), "ingested_at": at(9)}, moment(2)),
            ({"completed_at": "soon", "updated_at": at(3)}, moment(3)),
            ({"updated_at": "soon", "ingested_at": at(4)}, moment(4)),
            ({"updated_at": "", "ingested_at": at(4)}, moment(4)),
            ({"updated_at": "2025-11-16T10:00:05"}, moment(5)),
            ({"updated_at": "2025-11-16T04:00:06", "created_at": "2025-11-16T03:00:00-0600"}, moment(6)),
            ({"created_at": at(9), "started_at": at(9)}, None),
        ],
    )
    def test_a_record_ranks_by_the_first_readable_of_three_times(
        self, fields: dict[str, Any], expected: datetime | None
    ) -> None:
        """Completed, updated, ingested; created and started do not tell which record of a task is later."""
        task = read(build({"task_id": "t", **fields}))
        assert task.rank_us == (NO_RANK if expected is None else round(expected.timestamp() * 1e6))

    @pytest.mark.parametrize(
        ("fields", "day"),
        [
            ({"completed_at": "2025-11-16T23:30:00-0600", "created_at": "2025-11-16T10:00:00Z"}, 20251117),
            ({"created_at": "2025-11-16T01:00:00+0200"}, 20251115),
            ({"started_at": "2025-11-16T01:00:00Z"}, None),
            ({"completed_at": "?", "created_at": "2025-11-16T01:00:00Z"}, 20251116),
        ],
    )
    def test_the_day_is_that_of_completion_in_utc_else_of_creation(
        self, fields: dict[str, str], day: int | None
    ) -> None:
        """A day file holds the tasks completed on that UTC day, else those created."""
        assert read({"task_id": "t", **fields}).day == day


class TestDuration:
    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"duration_seconds": 12.5, "metadata.processing_time_ms": 1}, 12.5),
            ({"duration_seconds": 0, "metadata.processing_time_ms": 1}, 0),
            ({"duration_seconds": None, "execution_summary.duration_seconds": 7, "metadata.processing_time_ms": 1}, 7),
            ({"metadata.processing_time_ms": 2500, "completed_at": at(30), "started_at": at(10)}, 2.5),
            ({"completed_at": at(30), "started_at": at(10), "created_at": at(0), "duration_minutes": 9}, 20),
            ({"completed_at": "2025-11-16T10:00:00.25Z", "started_at": "2025-11-16T09:59:59.5Z"}, 0.75),
            ({"completed_at": at(30), "created_at": at(5), "duration_minutes": 9}, 25),
            ({"completed_at": at(30), "started_at": "?", "created_at": at(5)}, 25),
            ({"completed_at": at(30), "duration_minutes": 9}, 540),
            ({"started_at": at(30), "created_at": at(0)}, None),
            ({"duration_minutes": 0, "execution.duration_minutes": 0.5, "execution_time_minutes": 4}, 30),
            ({"duration_minutes": -3, "execution_time_minutes": 4, "completion.duration_minutes": 9}, 240),
            ({"completion.duration_minutes": 9}, 540),
            ({"duration_minutes": 0, "completion.duration_minutes": 0}, None),
            ({"duration_seconds": "12.5"}, 12.5),
            ({"duration_seconds": " 12 "}, 12),
            ({"duration_seconds": "12", "metadata.processing_time_ms": 1}, 12),
            ({"metadata.processing_time_ms": "1500"}, 1.5),
            ({"duration_minutes": "5"}, 300),
            ({"duration_minutes": "0", "execution_time_minutes": " 0.5 "}, 30),
            (
                {"duration_minutes": "some", "execution_time_minutes": "-4", "completion.duration_minutes": "1e999"},
                None,
            ),
        ],
    )
    def test_the_first_way_to_tell_a_duration_wins(self, fields: dict[str, Any], expected: float | None) -> None:
        """Measured seconds, milliseconds, completed less started, less created, positive minutes."""
        assert reading(fields).duration_seconds == expected

    @pytest.mark.parametrize(
        "value", [-1, 1e308, -1e308, "fast", "1,5", "nan", "inf", "1e999", True, [3], {"s": 3}, 10**40]
    )
    def test_a_measured_duration_that_is_none_is_null_and_flagged(self, value: Any) -> None:
        """It is present, so it is what the record says, and nothing else is looked at."""
        found = reading({"duration_seconds": value, "duration_minutes": 5, "status": "done"})
        assert found.duration_seconds is None
        assert found.flags == ["duration_unreadable"]

    @pytest.mark.parametrize("field", ["duration_seconds", "duration_minutes"])
    def test_a_duration_written_as_text_is_flagged(self, field: str) -> None:
        """It is read, and said."""
        assert reading({field: "45", "status": "done"}).flags == ["duration_as_text"]
        assert reading({field: 45, "status": "done"}).flags == []

    @pytest.mark.parametrize("begin", ["started_at", "created_at"])
    def test_an_end_before_its_start_is_null_and_flagged(self, begin: str) -> None:
        """A clock that ran backwards tells no duration; nothing else is put in its place."""
        found = reading({begin: at(30), "completed_at": at(29), "duration_minutes": 5, "status": "done"})
        assert found.duration_seconds is None
        assert found.flags == ["end_before_start"]

    def test_a_tenth_of_a_second_is_a_duration(self) -> None:
        """Zero seconds between two times is one as well."""
        assert reading({"started_at": at(3), "completed_at": at(3)}).duration_seconds == 0


class TestErrorAndRetries:
    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            ("disk full", "disk full"),
            ({"code": 7, "why": "no"}, '{"code":7,"why":"no"}'),
            (["a", "b"], '["a","b"]'),
            (7, "7"),
            (True, "true"),
            ({"code": None}, None),
            ([], None),
            (False, None),
        ],
    )
    def test_an_error_is_text(self, error: Any, expected: str | None) -> None:
        """Anything but text counts as its compact JSON; empty values and false are no error."""
        assert reading({"error": error}).error == expected

    @pytest.mark.parametrize(
        ("errors", "expected"),
        [
            (["", None, {}, "third", "fourth"], "third"),
            ([{"a": None}, {"a": 1}], '{"a":1}'),
            ([], None),
            ([None, "", []], None),
            ("one text", "one text"),
            ({"a": "b"}, '{"a":"b"}'),
        ],
    )
    def test_of_a_list_of_errors_the_first_that_is_not_empty_counts(self, errors: Any, expected: str | None) -> None:
        """A list of nothing is no error."""
        assert reading({"errors": errors}).error == expected

    def test_an_error_that_is_false_lets_the_next_place_speak(self) -> None:
        """``false`` says that there was none there; it is flagged."""
        found = reading({"error": False, "failure_reason": "killed by hand", "status": "failed"})
        assert (found.error, found.flags) == ("killed by hand", ["error_is_false"])

    @pytest.mark.parametrize("count", [0, "0", 0.0, " 0 "])
    def test_a_count_of_no_errors_is_no_error(self, count: Any) -> None:
        """``errors`` may hold how many there were: none is flagged, and what follows speaks for itself."""
        found = reading({"errors": count, "status": "done"})
        assert (found.error, found.flags) == (None, ["errors_is_zero"])

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [({"errors": 3}, "3"), ({"errors": "2"}, "2"), ({"error": 0}, "0"), ({"errors": [0]}, "0")],
    )
    def test_any_other_count_is_an_error(self, fields: dict[str, Any], expected: str) -> None:
        """Some errors are errors, and only ``errors`` counts them."""
        found = reading({**fields, "status": "done"})
        assert (found.error, found.flags) == (expected, [])

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({}, 0),
            ({"retry_count": 2, "retries": 5}, 2),
            ({"retry_count": 0, "retries": 5}, 0),
            ({"retries": 3}, 3),
            ({"metrics.retries": 4, "attempts": 9}, 4),
            ({"attempts": 3}, 2),
            ({"attempts": 1}, 0),
            ({"attempts": 0}, 0),
            ({"max_retries": 3}, 0),
            ({"retry_count": -1}, 0),
            ({"retry_count": "2"}, 2),
            ({"retry_count": "some"}, 0),
            ({"retry_count": None, "attempts": 2}, 1),
            ({"retries": [{"at": 1}, {"at": 2}]}, 2),
            ({"attempts": ["a", "b", "c"]}, 2),
            ({"attempts": [{"at": 1}]}, 0),
            ({"retry_count": [], "attempts": [[], None]}, 1),
            ({"attempts": {"first": 1}}, 0),
        ],
    )
    def test_retries_are_counted(self, fields: dict[str, Any], expected: int) -> None:
        """Attempts are one more than retries; what was allowed is not what happened."""
        assert reading(fields).retry_count == expected

    def test_unreadable_retries_are_flagged(self) -> None:
        """Nothing is guessed without a word."""
        assert reading({"retry_count": "some", "status": "done"}).flags == ["retries_unreadable"]
        assert reading({"attempts": {"first": 1}, "status": "done"}).flags == ["retries_unreadable"]
        assert reading({"attempts": ["a", "b"], "status": "done"}).flags == []


class TestOutputCharacters:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("x" * 19, 19),
            ("x" * 20, 20),
            ("a b\tc\nd", 4),
            ("\u00a0\u2003\u3000\u2028\u2029" + "x", 1),
            ("\u200b\u200d\ufeff\u00ad\u0000\u001b\u202e" + "xy", 2),
            ("\ue000\U000f0000\ufdd0\u0378" + "x", 1),
            ("é" * 20, 20),
            ("🍏" * 21, 21),
            ("e\u0301", 2),
            ('"\\/' * 5, 15),
            ("\\" * 30, 30),
            ("x" * 99, 99),
            ("x" * 100, 100),
            ("x" * 5_000, OUTPUT_CHARS_CAP),
            (" " * 5_000 + "x" * 30, 30),
            ("\u200b" * 5_000 + "x" * 30, 30),
            ("null", 0),
            (" N/A ", 0),
            ("OK", 0),
            ("{}", 0),
        ],
    )
    def test_visible_characters_are_counted(self, text: str, expected: int) -> None:
        """All but Unicode's separators and controls; a placeholder has none."""
        for escaped in (True, False):
            assert read({"task_id": "t", "output": text}, ensure_ascii=escaped).output_chars == expected

    @given(st.text(st.one_of(st.characters(), st.sampled_from(' \n\u200b\u2028\\"x')), max_size=400), st.booleans())
    @example("\\" * 120, False)
    @example(" " * 101 + "x" * 99, True)
    def test_visible_characters_are_counted_in_any_text(self, text: str, escaped: bool) -> None:
        """The quick answers agree with looking at every character's category."""
        text = text.encode("utf-8", "ignore").decode()
        visible = sum(unicodedata.category(one)[0] not in "ZC" for one in text)
        counted = read({"task_id": "t", "output": text}, ensure_ascii=escaped).output_chars
        assert counted == min(visible, OUTPUT_CHARS_CAP) or (counted == 0 and visible < 20)

    def test_no_output_has_no_characters(self) -> None:
        """Nothing is nothing."""
        assert read({"task_id": "t", "output": {"a": None}}).output_chars == 0


# --- a reader of the plainest kind -----------------------------------------------------------------------------------


def get(record: dict[str, Any], path: str) -> Any:
    value: Any = record
    for key in path.split("."):
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return value


def is_empty(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(is_empty, value.values()))
    return value is None or value in ("", []) if not isinstance(value, bool | int | float) else False


def pick(record: dict[str, Any], places: Iterable[str]) -> tuple[str | None, Any]:
    return next(((path, get(record, path)) for path in places if not is_empty(get(record, path))), (None, None))


def as_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def plain_name(value: Any) -> str | None:
    text = as_text(value)
    name = "" if text is None else text.strip().lower().removesuffix("-master").removesuffix("-agent")
    valid = 0 < len(name) <= 121 and name[0].isalnum() and all(one.isalnum() or one in "._-" for one in name)
    return f"{name}-master" if valid and name.isascii() else None


def plain_master(record: dict[str, Any]) -> str | None:
    for path in (*NAMING, *ASSIGNING):
        value = get(record, path)
        name = None if is_empty(value) else plain_name(value)
        if name is None:
            continue
        said = str(value).strip().lower().endswith(("-master", "-agent"))
        if path in NAMING or said or name.removesuffix("-master") in KNOWN:
            return name
    return None


def plain_times(record: dict[str, Any]) -> list[datetime | None]:
    found = []
    for places in (CREATED, STARTED, COMPLETED):
        _, value = pick(record, places)
        try:
            found.append(datetime.fromisoformat(value) if isinstance(value, str) else None)
        except ValueError:
            found.append(None)
    zones = [one.tzinfo for one in found if one is not None and one.tzinfo is not None]
    zone = zones[0] if zones else UTC
    return [None if one is None else (one if one.tzinfo else one.replace(tzinfo=zone)).astimezone(UTC) for one in found]


def plain_number(value: Any) -> Any:
    if isinstance(value, str):
        return float(value) if value.replace(".", "", 1).isdigit() else None
    return value


def plain_duration(
    record: dict[str, Any], created: datetime | None, started: datetime | None, end: datetime | None
) -> Any:
    path, value = pick(record, SECONDS)
    if path is not None:
        value = plain_number(value)
        if not is_number(value) or value < 0:
            return None
        return value / 1000 if path.endswith("_ms") else value
    begin = started or created
    if begin is not None and end is not None:
        return (end - begin).total_seconds() if end >= begin else None
    minutes = (plain_number(get(record, path)) for path in MINUTES)
    return next((value * 60 for value in minutes if is_number(value) and value > 0), None)


def plain_reading(record: dict[str, Any]) -> dict[str, Any]:
    """Read a record by the table, slowly; flags are left out."""
    _, status = pick(record, STATUS)
    word = (as_text(status) or "").strip().lower()
    _, score = pick(record, QUALITY)
    created, started, completed = plain_times(record)
    error: Any = None
    for path in ERROR:
        value = get(record, path)
        if path == "errors" and isinstance(value, list):
            value = next((one for one in value if not is_empty(one)), None)
        elif path == "errors" and plain_number(value) == 0:
            continue
        if not is_empty(value) and value is not False:
            error = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
            break
    counted, tries = pick(record, RETRIES)
    if isinstance(tries, str):
        tries = int(tries) if tries.isdigit() else 0
    tries = len(tries) if isinstance(tries, list) else tries
    tries = int(tries) if is_number(tries) else 0
    return {
        "task_id": as_text(pick(record, TASK_ID)[1]),
        "master": plain_master(record),
        "task_type": as_text(pick(record, TASK_TYPE)[1]),
        "input_field": pick(record, INPUT)[0],
        "output_field": pick(record, OUTPUT)[0],
        "status": next((meant for meant, words in WORDS.items() if word in words), word or None),
        "quality_score": score if is_number(score) and 1 <= score <= 5 else None,
        "created_at": created,
        "started_at": started,
        "completed_at": completed,
        "duration_seconds": plain_duration(record, created, started, completed),
        "error": error,
        "retry_count": max(0, tries - 1 if counted == "attempts" else tries),
        "model": as_text(pick(record, ("model",))[1]),
    }


INSTANTS = st.builds(
    lambda seconds, hours, naive: (
        (datetime(2025, 11, 1, tzinfo=UTC) + timedelta(seconds=seconds))
        .astimezone(timezone(timedelta(hours=hours)))
        .replace(tzinfo=None if naive else timezone(timedelta(hours=hours)))
        .isoformat()
    ),
    st.integers(0, 300),
    st.sampled_from([0, -6, 5.5]),
    st.booleans(),
)
SPECIAL: dict[Sequence[str], st.SearchStrategy[Any]] = {
    (*CREATED, *STARTED, *COMPLETED): INSTANTS | st.just("later"),
    STATUS: st.sampled_from([*WORDS["completed"], *WORDS["failed"], "Skipped", "pending", 5]),
    (*NAMING, *ASSIGNING): st.sampled_from(["security", "Jane", "ops-agent", "a b", "x-master", 7]),
    QUALITY: st.sampled_from([0.8, 1, 4, 4.5, 5, 6, "4", True]),
    (*SECONDS, *MINUTES): st.sampled_from([0, 1, 2.5, 30, "30", "x", -1, True]),
    RETRIES: st.sampled_from([0, 1, 3, "2", "x", -1, True, ["a", "b"]]),
    ERROR: st.sampled_from(["bad", ["", "worse"], [], [None], {"code": 5}, False, 3, 0, "0"]),
    TASK_ID: st.sampled_from(["t1", "t2", 7]),
}
PLACES = sorted({path for paths in SPECIAL for path in paths} | {*INPUT, *OUTPUT, *TASK_TYPE, "model"})
ANYTHING = st.sampled_from([*EMPTY, "text", "é \u2028", 5, [1], {"a": "b"}, "x" * 300])


def value_for(path: str) -> st.SearchStrategy[Any]:
    special = [strategy for paths, strategy in SPECIAL.items() if path in paths]
    return st.one_of(*special, ANYTHING) if special else ANYTHING


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """A record with values in some of the table's places, and in any order."""
    fields: dict[str, Any] = {}
    for path in draw(st.lists(st.sampled_from(PLACES), unique=True, max_size=14)):
        if not any(other.startswith(f"{path}.") or path.startswith(f"{other}.") for other in fields):
            fields[path] = draw(value_for(path))
    record = build(fields)
    record["task_id"] = draw(st.sampled_from(["t1", "t2", 7]))
    return dict(draw(st.permutations(list(record.items()))))


LONG_USED = TaskReader()


class TestShortcuts:
    @given(records())
    def test_the_reader_reads_as_the_table_says(self, record: dict[str, Any]) -> None:
        """Whatever stands in the places of the table, the reading is that of a reader without any shortcut."""
        canonical = read(record, LONG_USED).canonical
        expected = plain_reading(record)
        found = {name: getattr(canonical, name) for name in expected}
        if isinstance(expected["duration_seconds"], float):
            expected["duration_seconds"] = pytest.approx(expected["duration_seconds"])
        assert found == expected

    @given(st.lists(records(), max_size=12))
    def test_what_a_reader_read_before_changes_nothing(self, several: list[dict[str, Any]]) -> None:
        """What a reader has learned from other records never shows in the next one."""
        learned = TaskReader()
        for record in several * 2:
            assert facts(read(record, learned)) == facts(read(record)) == facts(read(record, LONG_USED))

    @given(records())
    def test_the_layout_of_the_json_changes_nothing(self, record: dict[str, Any]) -> None:
        """Compact, spaced, over many lines, escaped or not: it is the same record."""
        expected = read(record, separators=(",", ":"))
        styles: list[dict[str, Any]] = [{}, {"indent": 2}, {"separators": (" , ", " :\t")}, {"indent": 0}]
        for style in styles:
            assert facts(read(record, **style)) == facts(expected)
            raw = read(record, LONG_USED, **style, ensure_ascii=False)
            assert facts(raw) == facts(read(record, ensure_ascii=False))

    @given(records(), st.randoms(use_true_random=False))
    def test_the_order_of_the_keys_changes_nothing(self, record: dict[str, Any], random: Any) -> None:
        """Which place wins is the table's order, never the record's."""
        items = list(record.items())
        random.shuffle(items)
        assert facts(read(dict(items), LONG_USED)) == facts(read(record))

    def test_more_layouts_and_spellings_than_are_remembered_are_read_rightly(self) -> None:
        """What is remembered is bounded, and being forgotten changes nothing."""
        reader = TaskReader()
        for number in range(9_000):
            record = {
                "task_id": f"t{number}",
                f"k{number}": 1,
                "status": f"odd-{number}",
                "model": f"m{number % 5_000}",
            }
            found = read(record, reader).canonical
            assert (found.status, found.model) == (f"odd-{number}", f"m{number % 5_000}")

    @pytest.mark.parametrize("twin", ['"a"', '"\\u0061"', '"a"  ', "null", '""', "5", "[]"])
    def test_a_spelling_that_was_read_decides_only_for_its_own_place(self, twin: str) -> None:
        """A value first seen at a place that gave way is not mistaken for the row's meaning."""
        reader = TaskReader()
        first = f'{{"task_id":"t","master":{twin},"parent_master":"x"}}'.encode()
        second = f'{{"task_id":"t","master":{twin},"parent_master":"y"}}'.encode()
        for data in (first, second, first, second):
            assert facts(read_bytes(data, reader)) == facts(read_bytes(data))
