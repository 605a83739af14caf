"""The collector with the state and real files: each task once, for ever, and only while its record passes."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from support import PROMPT, Handle, Rooms, check_state, good, objects, quick_folder

from cortex_autolearn.collect import gate
from cortex_autolearn.collect.outcome import is_line_of, same_outcome
from cortex_autolearn.collect.split import split_of
from cortex_autolearn.model import layout
from cortex_autolearn.model.policy import GatePolicy
from cortex_autolearn.ports import OutputDamagedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY = 20251126
LATER = "2025-11-26T11:00:00Z"


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


def outcome(rooms: Rooms, task_id: str) -> dict[str, Any]:
    (found,) = [one for one in objects(rooms.outcomes) if one["task_id"] == task_id]
    return found


def views(root: Path) -> list[dict[str, Any]]:
    return objects(root / layout.TRAINING_VIEW)


class TestOutcome:
    def test_a_line_holds_the_canonical_fields_and_the_texts(self, rooms: Rooms) -> None:
        """The reading at top level, input and output as text, and where it came from."""
        first = json.dumps({"task_id": "x"}).encode() + b"\n"
        rooms.put("a.jsonl", first, good("t", cost=0.25, variant="b", experiment="e-1", model="m"))
        rooms.everything()
        (silver,) = [one for one in rooms.silver_objects() if one["task_id"] == "t"]
        found = outcome(rooms, "t")
        assert found == {
            **silver["canonical"],
            "input": "Look through the login code for weak spots",
            "output": "Two weak spots were found in the session handling, both mended",
            "split": split_of("t"),
            "collected_at": "2025-11-27T12:00:00.123456Z",
            "source": {"file": f"{layout.BRONZE}/a.jsonl", "offset": len(first)},
        }
        assert list(found)[:2] == ["task_id", "master"]

    @pytest.mark.parametrize("task_id", [f"task-{number}" for number in range(8)])
    def test_it_stands_in_the_file_of_its_split_and_day(self, rooms: Rooms, task_id: str) -> None:
        """``hq-outcomes/<split>/YYYYMMDD.jsonl``, by the silver day, not by the day of the run."""
        rooms.put("a.jsonl", good(task_id, completed_at="2025-11-19T23:59:59Z"))
        rooms.everything()
        path = rooms.outcomes / split_of(task_id) / "20251119.jsonl"
        assert [json.loads(one)["task_id"] for one in path.read_bytes().splitlines()] == [task_id]

    @pytest.mark.parametrize(
        ("fields", "asked", "answered"),
        [
            ({"output": 'line one\nline two \u2028 é 🍏 \\ " end'}, None, 'line one\nline two \u2028 é 🍏 \\ " end'),
            ({"output": ..., "results": {"b": [1, 2.50], "a": "twenty visible characters"}}, None, None),
            ({"input": ..., "context": {"task_description": "What is wrong?"}}, "What is wrong?", None),
            (
                {
                    "input": ...,
                    "context.task_description": "mistaken",
                    "context": {"task_description": "What is wrong?"},
                },
                "What is wrong?",
                None,
            ),
            ({"input": {"ask": "x", "n": 1}}, '{"ask":"x","n":1}', None),
            (
                {"output": ..., "result": {"summary": "", "answer": "an answer of enough characters"}},
                None,
                "an answer of enough characters",
            ),
        ],
    )
    def test_texts_are_taken_from_where_the_reading_says(
        self, rooms: Rooms, fields: dict[str, Any], asked: str | None, answered: str | None
    ) -> None:
        """A text as it stands, an object or list as its compact JSON."""
        rooms.put("a.jsonl", json.dumps(good("t", **fields), indent=3).encode())
        rooms.everything()
        found = outcome(rooms, "t")
        if asked is not None:
            assert found["input"] == asked
        if answered is not None:
            assert found["output"] == answered
        if "results" in fields:
            assert found["output"] == '{"b":[1,2.5],"a":"twenty visible characters"}'
        assert views(rooms.root)[0]["messages"] == [
            {"role": "user", "content": found["input"]},
            {"role": "assistant", "content": found["output"]},
        ]


class TestTrainingView:
    def test_an_example_is_what_a_trainer_takes(self, rooms: Rooms) -> None:
        """Chat messages, with a system prompt that names the master, and no other key."""
        rooms.put("a.jsonl", good("t", master="Security"))
        rooms.everything()
        (example,) = views(rooms.root)
        assert example == {
            "system": PROMPT.replace("{master}", "security-master"),
            "messages": [
                {"role": "user", "content": "Look through the login code for weak spots"},
                {"role": "assistant", "content": "Two weak spots were found in the session handling, both mended"},
            ],
        }

    def test_every_outcome_that_tells_what_was_asked_is_in_the_view(self, rooms: Rooms) -> None:
        """In the same order, split and day; one without input is an outcome and no example."""
        ids = [f"task-{number}" for number in range(30)]
        silent = {"input": None} | dict.fromkeys(("title", "description"))
        rooms.put(
            "a.jsonl",
            *[
                good(one, **({} if number % 3 else silent), output=f"{one} {'x' * 30}")
                for number, one in enumerate(ids)
            ],
        )
        rooms.everything()
        for split in ("training", "validation"):
            told = [one for one in objects(rooms.outcomes / split) if one["input"] is not None]
            shown = objects(rooms.root / layout.TRAINING_VIEW / split)
            assert [one["messages"][1]["content"] for one in shown] == [one["output"] for one in told]
        assert len(objects(rooms.outcomes)) == 30
        assert len(views(rooms.root)) == 20

    def test_a_task_without_a_master_has_an_example(self, rooms: Rooms) -> None:
        """What names nobody says so in words, never ``None`` or ``{master}``."""
        rooms.put("a.jsonl", good("t", master=None))
        rooms.everything()
        (example,) = views(rooms.root)
        assert "None" not in example["system"]
        assert "{" not in example["system"]


class TestOnce:
    def test_a_second_run_finds_nothing_new(self, rooms: Rooms) -> None:
        """What was decided is not decided again."""
        rooms.put("a.jsonl", good("a"), good("b", quality_score=2))
        assert rooms.everything()[1]["processed"] == 2
        before = sorted(map(str, objects(rooms.outcomes)))
        rooms.clock.advance(3_600)
        assert rooms.collect() == {
            "processed": 0,
            "high_quality": 0,
            "training": 0,
            "validation": 0,
            "rejected": {},
            "already_collected": 0,
            "withdrawn": 0,
        }
        assert sorted(map(str, objects(rooms.outcomes))) == before

    @pytest.mark.parametrize("how", ["day", "everything"])
    def test_deciding_again_collects_nothing_twice(self, rooms: Rooms, how: str) -> None:
        """Asked for again, a day or all: what is in the set is counted as such, and keeps its line."""
        rooms.put("a.jsonl", *[good(f"t{number}") for number in range(9)], good("weak", quality_score=1))
        rooms.everything()
        before = objects(rooms.outcomes)
        rooms.clock.advance(3_600)
        tally = rooms.collect(day=DAY) if how == "day" else rooms.collect(everything=True)
        assert (tally["processed"], tally["already_collected"], tally["high_quality"]) == (10, 9, 0)
        assert tally["rejected"] == {"Quality score too low": 1}
        assert objects(rooms.outcomes) == before

    def test_a_day_decides_about_that_day_only(self, rooms: Rooms) -> None:
        """``--date`` looks again at one day; what waits elsewhere goes on waiting."""
        rooms.put("a.jsonl", good("a"), good("b", completed_at="2025-11-25T10:00:00Z"))
        rooms.everything()
        rooms.put("a.jsonl", good("c", completed_at="2025-11-24T10:00:00Z"))
        rooms.refine()
        tally = rooms.collect(day=DAY)
        assert (tally["processed"], tally["already_collected"], tally["high_quality"]) == (1, 1, 0)
        assert rooms.collect()["high_quality"] == 1

    def test_only_final_tasks_meet_the_rule(self, rooms: Rooms) -> None:
        """A task that still moves is no outcome, whatever else it says."""
        rooms.put("a.jsonl", good("a", status="running"), good("b", status=None), good("c", status="cancelled"))
        assert rooms.everything()[1]["rejected"] == {"Not successful": 1}

    def test_many_tasks_are_decided_in_steps(self, rooms: Rooms) -> None:
        """More than one step takes: every task is decided, once."""
        rooms.put(
            "a.jsonl", *[good(f"t{number}", quality_score=4 + number % 2 / 2 - number % 3) for number in range(11_000)]
        )
        _, tally = rooms.everything()
        assert tally["processed"] == 11_000
        assert tally["high_quality"] == len(rooms.collected())
        assert rooms.collect()["processed"] == 0


class TestLaterRecords:
    def test_one_that_passes_takes_the_place_of_the_line(self, rooms: Rooms) -> None:
        """The set holds what stands now, once; the view follows."""
        rooms.put("a.jsonl", good("a", output="first answer, which was too hasty"), good("b"))
        rooms.everything()
        rooms.put("a.jsonl", good("a", completed_at=LATER, output="second answer, which is better"))
        _, tally = rooms.everything()
        assert (tally["already_collected"], tally["high_quality"], tally["withdrawn"]) == (1, 0, 0)
        assert outcome(rooms, "a")["output"] == "second answer, which is better"
        answers = [one["messages"][1]["content"] for one in views(rooms.root)]
        assert "second answer, which is better" in answers
        assert "first answer, which was too hasty" not in answers
        assert len(answers) == 2

    def test_one_of_another_day_moves_the_line(self, rooms: Rooms) -> None:
        """The line stands in the file of its silver day, and nowhere else; the split never changes."""
        ids = [f"t{number}" for number in range(12)]
        rooms.put("a.jsonl", *[good(one) for one in ids])
        rooms.everything()
        before = rooms.collected()
        rooms.put("a.jsonl", *[good(one, completed_at="2025-11-28T10:00:00Z") for one in ids[::2]])
        rooms.everything()
        assert rooms.collected() == before
        lines = [one for path in rooms.outcomes.rglob("20251128.jsonl") for one in path.read_bytes().splitlines()]
        moved = {json.loads(one)["task_id"] for one in lines}
        assert moved == set(ids[::2])
        assert len(views(rooms.root)) == 12

    def test_one_that_does_not_pass_takes_the_task_out(self, rooms: Rooms) -> None:
        """It leaves the set and the view, and is counted as withdrawn; the others keep their lines."""
        rooms.put("a.jsonl", *[good(f"t{number}") for number in range(6)])
        rooms.everything()
        rooms.put(
            "a.jsonl", good("t2", completed_at=LATER, retry_count=2), good("t4", completed_at=LATER, status="failed")
        )
        _, tally = rooms.everything()
        assert (tally["withdrawn"], tally["processed"]) == (2, 2)
        assert tally["rejected"] == {"Has retries": 1, "Not successful": 1}
        assert set(rooms.collected()) == {"t0", "t1", "t3", "t5"}
        assert len(views(rooms.root)) == 4

    def test_a_withdrawn_task_may_come_back(self, rooms: Rooms) -> None:
        """By a still later record that passes, to the split it was in."""
        rooms.put("a.jsonl", good("a"))
        rooms.everything()
        before = rooms.collected()
        rooms.put("a.jsonl", good("a", completed_at=LATER, error="no"))
        rooms.everything()
        assert rooms.collected() == {}
        rooms.put("a.jsonl", good("a", completed_at="2025-11-26T12:00:00Z"))
        _, tally = rooms.everything()
        assert (tally["high_quality"], rooms.collected()) == (1, before)

    def test_all_of_it_at_once(self, rooms: Rooms) -> None:
        """In one run tasks are new, replaced, moved and withdrawn, in the same files."""
        rooms.put("a.jsonl", *[good(f"t{number}") for number in range(40)])
        rooms.everything()
        changes = []
        for number in range(40):
            match number % 4:
                case 0:
                    changes.append(good(f"t{number}", completed_at=LATER, output=f"changed {number} {'y' * 30}"))
                case 1:
                    changes.append(good(f"t{number}", completed_at="2025-11-27T10:00:00Z"))
                case 2:
                    changes.append(good(f"t{number}", completed_at=LATER, quality_score=3))
        rooms.put("a.jsonl", *changes, *[good(f"new{number}") for number in range(5)])
        _, tally = rooms.everything()
        assert (tally["withdrawn"], tally["already_collected"], tally["high_quality"]) == (10, 20, 5)
        assert set(rooms.collected()) == {f"t{n}" for n in range(40) if n % 4 != 2} | {f"new{n}" for n in range(5)}
        assert len(views(rooms.root)) == 35


class TestPolicy:
    def test_another_rule_is_applied_when_asked(self, root: Path) -> None:
        """A changed limit holds for what is new; ``everything`` applies it to what was decided before."""
        rooms = Rooms(root)
        rooms.put("a.jsonl", good("fair", quality_score=4.0), good("fine", quality_score=4.8))
        rooms.everything()
        rooms.close()
        strict = Rooms(root, gate=GatePolicy(min_quality=4.5))
        assert strict.collect()["processed"] == 0
        tally = strict.collect(everything=True)
        assert (tally["already_collected"], tally["withdrawn"], tally["rejected"]) == (
            1,
            1,
            {"Quality score too low": 1},
        )
        assert set(strict.collected()) == {"fine"}
        strict.close()
        rooms = Rooms(root)
        assert rooms.collect(everything=True)["high_quality"] == 1
        rooms.close()
        check_state(root)

    def test_the_share_of_training_holds_for_what_is_new(self, root: Path) -> None:
        """A task that was collected keeps its split for ever."""
        rooms = Rooms(root)
        rooms.put("a.jsonl", *[good(f"t{number}") for number in range(30)])
        rooms.everything()
        before = rooms.collected()
        rooms.close()
        other = Rooms(root, gate=GatePolicy(training_percent=1))
        other.put("a.jsonl", *[good(f"t{number}", completed_at=LATER) for number in range(30)], good("task-001"))
        other.everything()
        found = other.collected()
        assert found.pop("task-001") == "validation"
        assert found == before
        other.close()

    @pytest.mark.parametrize("least", [1, 20, 21, 100])
    def test_the_least_output_is_the_policys(self, root: Path, least: int) -> None:
        """Up to the highest limit that may be set."""
        rooms = Rooms(root, gate=GatePolicy(min_output_chars=least))
        rooms.put("a.jsonl", good("enough", output="x" * least), good("short", output="x" * (least - 1)))
        rooms.everything()
        assert set(rooms.collected()) == {"enough"}
        rooms.close()

    def test_every_verdict_can_be_counted(self, rooms: Rooms) -> None:
        """Of the tasks that stand, each counts once, under the reason that holds for it."""
        policy = GatePolicy()
        rooms.put(
            "a.jsonl",
            good("a"),
            good("b"),
            good("c", quality_score=1),
            good("d", duration_seconds=1),
            good("e", status="run"),
        )
        rooms.put("20251126.jsonl", good("a", completed_at=LATER), good("c"), folder=layout.SILVER)
        rooms.everything()
        counts: dict[str, int] = {}
        with rooms.store.read() as reading:
            groups = reading.fact_groups(policy.min_output_chars, policy.min_duration_s, policy.max_duration_s)
        for facts, count in groups:
            verdict = gate.verdict(facts, policy)
            counts[verdict] = counts.get(verdict, 0) + count
        assert counts == {"kept": 2, "Quality score too low": 1, "Too fast (trivial)": 1}
        assert len(rooms.collected()) == counts["kept"]


class TestMending:
    @pytest.mark.parametrize("damage", ["removed", "cut", "emptied"])
    @pytest.mark.parametrize("which", [layout.OUTCOMES, layout.TRAINING_VIEW, "both"])
    def test_a_damaged_file_comes_back(self, rooms: Rooms, damage: str, which: str) -> None:
        """By the next run, with every line."""
        rooms.put("a.jsonl", *[good(f"t{number}") for number in range(20)])
        rooms.everything()
        before = rooms.collected(), sorted(map(str, views(rooms.root)))
        for folder in (layout.OUTCOMES, layout.TRAINING_VIEW) if which == "both" else (which,):
            for path in (rooms.root / folder).rglob("*.jsonl"):
                if damage == "removed":
                    path.unlink()
                else:
                    os.truncate(path, path.stat().st_size // 2 if damage == "cut" else 0)
        assert rooms.collect()["processed"] == 0
        assert (rooms.collected(), sorted(map(str, views(rooms.root)))) == before

    def test_another_file_in_the_folder_is_left_alone(self, root: Path) -> None:
        """What an operator keeps beside our files is not ours to remove, at no start and by no run."""
        rooms = Rooms(root)
        rooms.put("a.jsonl", good("a"), b"broken\n")
        rooms.everything()
        kept = []
        for folder in (f"{layout.OUTCOMES}/training", layout.QUARANTINE, f"{layout.TRAINING_VIEW}/training"):
            path = root / folder / "backup-of-mine.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("mine\n")
            kept.append(path)
        rooms.close()
        for _ in range(2):
            rooms = Rooms(root)
            rooms.everything()
            rooms.close()
        assert [path.read_text() for path in kept if path.exists()] == ["mine\n"] * len(kept)


def test_nothing_is_lost_while_silver_is_away(root: Path, rooms: Rooms) -> None:
    """A silver file that vanished fails the collector's step, which is made up for once the file was mended."""
    rooms.put("tasks.jsonl", good("a"), good("b"))
    rooms.follow()
    (path,) = rooms.silver.glob("*.jsonl")
    path.unlink()
    with pytest.raises(OutputDamagedError):
        rooms.collect()
    rooms.medallion.mend()
    assert rooms.collect()["high_quality"] == 2
    for file in (root / layout.OUTCOMES).glob("*/*.jsonl"):
        file.unlink()
    path.unlink()
    with pytest.raises(OutputDamagedError):
        rooms.collect()
    rooms.medallion.mend()
    rooms.collect()
    assert {one["task_id"] for one in objects(root / layout.OUTCOMES)} == {"a", "b"}


@pytest.mark.parametrize(
    ("written", "damaged"),
    [
        (b'"canonical":{"task_id":"a"', b'"canonical":{"task_id":"z"'),
        (b'"canonical":{"task_id":"a"', b'"canonical":{"task_id":"\xe1"'),
        (b'"task_type":"scan"', b'"\xf4ask_type":"scan"'),
        (b"Two weak spots", b"\xd4wo weak spots"),
        (b'"output_field"', b'"outpud_field"'),
    ],
)
def test_damage_that_leaves_the_length_is_mended(rooms: Rooms, written: bytes, damaged: bytes) -> None:
    """One changed byte in a silver line stops the collector once; the line is made again from its record."""
    rooms.put("tasks.jsonl", good("a"), good("b"))
    rooms.follow()
    (path,) = rooms.silver.glob("*.jsonl")
    path.write_bytes(path.read_bytes().replace(written, damaged, 1))
    with pytest.raises(OutputDamagedError) as raised:
        rooms.collect()
    rooms.medallion.mend(raised.value.relative)
    assert rooms.collect()["high_quality"] == 2


def test_bytes_that_are_no_text_are_no_outcome() -> None:
    """What is no UTF-8 any more is neither a task's line nor the same as any, and stops nothing."""
    broken = b'{"task_id":"caf\xe9","input":"a"}\n'
    assert not is_line_of(broken, "caf\xe9")
    assert not same_outcome(broken, broken)


def test_an_outcome_that_is_damaged_is_made_again(rooms: Rooms) -> None:
    """A byte that is no UTF-8 any more, in a line of the set, stops no later record of its task."""
    rooms.put("tasks.jsonl", good("a"))
    rooms.everything()
    (path,) = rooms.outcomes.glob("*/*.jsonl")
    path.write_bytes(path.read_bytes().replace(b"Two weak spots", b"\xd4wo weak spots", 1))
    assert rooms.collect(everything=True)["already_collected"] == 1
    assert objects(rooms.outcomes)[0]["output"] == good()["output"]


def test_an_outcome_that_is_written_again_keeps_its_time(root: Path, rooms: Rooms) -> None:
    """``collected_at`` is when the task came into the set, not when its file was mended."""
    rooms.put("tasks.jsonl", good("a"))
    rooms.everything()
    (before,) = objects(root / layout.OUTCOMES)
    for file in (root / layout.OUTCOMES).glob("*/*.jsonl"):
        file.unlink()
    rooms.clock.advance(3_600)
    rooms.collect()
    assert objects(root / layout.OUTCOMES) == [before]


def test_a_step_holds_a_bounded_amount_of_silver(rooms: Rooms) -> None:
    """Large outputs make short steps: memory does not grow with the size of tasks."""
    rooms.put("tasks.jsonl", *(good(f"t-{number}", output="long output " * 100_000) for number in range(40)))
    rooms.follow()
    steps: list[int] = []

    class Counting(Handle):
        def progress(self, done: int, total: int) -> None:
            steps.append(done)

    assert rooms.collector.run(Counting()).high_quality == 40
    assert len(steps) >= 3


class TestTwoAtOnce:
    def test_what_another_process_collects_meanwhile_is_not_collected_again(
        self, rooms: Rooms, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Both found an empty set when they began; one was done before the other's first step."""
        rooms.put("a.jsonl", good("a"), good("b"))
        rooms.refine()
        with Rooms(rooms.root) as other:
            sweep = rooms.collector._sweep

            def late(*arguments: Any) -> None:
                other.collect()
                sweep(*arguments)

            monkeypatch.setattr(rooms.collector, "_sweep", late)
            rooms.collect()
        assert sorted(one["task_id"] for one in objects(rooms.root / layout.OUTCOMES)) == ["a", "b"]
