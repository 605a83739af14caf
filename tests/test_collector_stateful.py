"""The collector against a model of a page: whatever the fleet, people and Cortex's scripts write, in any order.

Real files and a real state on one side; on the other a list of what was written and the rule in a few lines. After each
collection the set, its files, the training view and every count must be those of the model.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode
from collections import Counter
from contextlib import ExitStack
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from support import NOW, Handle, Rooms, check_compacted, check_state, good, quick_folder
from support import slow as slow_test

from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.judging import Label
from cortex_autolearn.model.policy import GatePolicy
from cortex_autolearn.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BRONZE, CORTEX = 0, 1
TASKS = tuple(f"task-{number}" for number in range(6))
DAYS = (20251124, 20251125, 20251126)
FILES = ("a.jsonl", "b.jsonl")
THEIRS = "20251126.jsonl"
SLOW = "slow.jsonl"
FINAL = {"completed": "completed", "done": "completed", "failed": "failed", "cancelled": "cancelled"}

CHANGES: dict[str, dict[str, Any]] = {
    "good by another word": {"status": "done"},
    "failed": {"status": "failed"},
    "cancelled": {"status": "cancelled"},
    "running": {"status": "running"},
    "silent": {"output": "OK"},
    "short": {"output": "twenty-four characters .."},
    "in error": {"error": "the disk was full"},
    "retried": {"retry_count": 2},
    "unscored": {"quality_score": ...},
    "scored low": {"quality_score": 2.5},
    "scored fairly": {"quality_score": 4.2},
    "scored just well enough": {"quality_score": 4.0},
    "just not trivial": {"duration_seconds": 10},
    "just not too slow": {"duration_seconds": 600},
    "trivial": {"duration_seconds": 3},
    "slow": {"duration_seconds": 900},
    "of unknown duration": {"duration_seconds": ..., "created_at": ..., "started_at": ...},
    "not asked": {"input": ...},
}
BROKEN = (
    b'{"task_id": "task-1", "status": "completed", }\n',
    b'{"task_id": "task-2", "task_id": "task-3", "status": "completed"}\n',
    b'{"status": "completed", "output": "whose task this was is not said"}\n',
    b"Traceback (most recent call last):\n",
    b'{"task_id": "task-4", "output": "\xff"}\n',
)
POLICIES = (
    GatePolicy(),
    GatePolicy(min_quality=4.4),
    GatePolicy(min_quality=2.0, training_percent=20),
    GatePolicy(min_output_chars=40),
    GatePolicy(min_duration_s=0.0, max_duration_s=1_000.0),
    GatePolicy(min_quality=4.2, min_duration_s=3.0, max_duration_s=30.0, min_output_chars=23),
    GatePolicy(min_quality=2.5, min_duration_s=30.0, max_duration_s=900.0),
)
"""Two of them have their limits just where records lie."""

tasks = st.sampled_from(TASKS)
kinds = st.sets(st.sampled_from(sorted(CHANGES)), max_size=3)
hours = st.sampled_from([8, 9])
forms = st.sampled_from(["compact", "compact", "pretty", "crlf"])


class Record(NamedTuple):
    """A record as it was written, and what orders it among those of its task."""

    key: tuple[int, int, str, int]  # final, rank, file, place
    fields: dict[str, Any]
    day: int


class Held(NamedTuple):
    """A task in the set, as its line must hold it."""

    split: str
    day: int
    output: str
    asked: bool
    quality: float
    by: str | None
    since: str


class Collecting(RuleBasedStateMachine):
    """Everybody who writes, the medallion and the collector; and what must come of it."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.root: Path = self.stack.enter_context(quick_folder())
        self.clock = FakeClock(NOW)
        self.policy = POLICIES[0]
        self.rooms = Rooms(self.root, gate=self.policy, clock=self.clock)
        self.number = 0
        self.unread: list[tuple[int, str, Record]] = []
        self.stands: dict[tuple[str, int], Record] = {}
        self.waiting: set[tuple[str, int]] = set()
        self.labels: dict[str, float] = {}
        self.heard: set[str] = set()  # tasks labelled since the rule last met them
        self.held: dict[str, Held] = {}
        self.broken: dict[str, list[bytes]] = {name: [] for name in FILES}
        self.half: tuple[bytes, str, Record] | None = None

    def teardown(self) -> None:
        self.rooms.close()
        self.stack.close()

    # --- what is written ------------------------------------------------------------------------------------------

    @rule(
        task_id=tasks,
        kinds=kinds,
        name=st.sampled_from(FILES),
        day=st.sampled_from(DAYS),
        hour=hours,
        form=forms,
    )
    def the_fleet_writes(self, task_id: str, kinds: set[str], name: str, day: int, hour: int, form: str) -> None:
        """A first record, or a later, earlier, equal or regraded one of a task that is known."""
        record = self.record(task_id, kinds, day, hour, name)
        self.rooms.put(name, bytes_of(record.fields, form))
        self.unread.append((BRONZE, task_id, record))

    @rule(name=st.sampled_from(FILES), again=st.integers(1, 4))
    def what_was_delivered_comes_again(self, name: str, again: int) -> None:
        """The same bytes, at the end of the same or of the other file."""
        for task_id, origin in sorted(self.stands)[:again]:
            if origin == BRONZE:
                old = self.stands[task_id, origin]
                self.number += 1
                self.rooms.put(name, bytes_of(old.fields, "compact"))
                key = (*old.key[:2], name, self.number)
                self.unread.append((BRONZE, task_id, old._replace(key=key)))

    @rule(name=st.sampled_from(FILES), broken=st.sampled_from(BROKEN))
    def something_broken_is_written(self, name: str, broken: bytes) -> None:
        self.rooms.put(name, broken)
        self.broken[name].append(broken)

    @rule(task_id=tasks, kinds=kinds, day=st.sampled_from(DAYS), cut=st.integers(1, 60))
    def a_record_is_still_being_written(self, task_id: str, kinds: set[str], day: int, cut: int) -> None:
        """Half of it is there; the other half comes with the next such step."""
        if self.half is not None:
            rest, old_id, record = self.half
            self.rooms.put(SLOW, rest)
            self.unread.append((BRONZE, old_id, record))
            self.half = None
            return
        record = self.record(task_id, kinds, day, 9, SLOW)
        whole = bytes_of(record.fields, "compact")
        self.rooms.put(SLOW, whole[:cut])
        self.half = (whole[cut:], task_id, record)

    @rule(task_id=tasks, kinds=kinds, day=st.sampled_from(DAYS), hour=hours, form=forms)
    def cortex_writes_silver(self, task_id: str, kinds: set[str], day: int, hour: int, form: str) -> None:
        """Of a task that bronze may have as well; the record that ranks higher is the one that counts."""
        record = self.record(task_id, kinds, day, hour, THEIRS)
        self.rooms.put(THEIRS, bytes_of(record.fields, form), folder=layout.SILVER)
        self.unread.append((CORTEX, task_id, record))

    @rule(task_id=tasks, score=st.sampled_from([1.0, 4.0, 5.0]))
    def a_person_labels(self, task_id: str, score: float) -> None:
        """A task that is known, or one that is not there yet."""
        with self.rooms.store.write() as transaction:
            transaction.put_label(Label(task_id, score, "", "ada", 0))
        self.labels[task_id] = score
        self.heard.add(task_id)

    # --- what is done ---------------------------------------------------------------------------------------------

    @rule()
    def bronze_is_refined(self) -> None:
        self.refine()

    @rule()
    def every_file_goes_on(self) -> None:
        """Behind a whole record nothing waits: all that was broken before it stands in quarantine."""
        for name in FILES:
            self.the_fleet_writes("task-0", set(), name, DAYS[0], 8, "compact")
        self.refine()
        assert self.quarantined() == {name: b"".join(b"".join(texts).split()) for name, texts in self.broken.items()}

    @rule()
    def bronze_is_read_again(self) -> None:
        """``medallion --rebuild``: every record comes to stand anew, the set stays."""
        self.rooms.medallion.rebuild(Handle())
        self.read(BRONZE)
        self.waiting |= {one for one in self.stands if one[1] == BRONZE}

    @rule(policy=st.sampled_from(POLICIES))
    def the_limits_change(self, policy: GatePolicy) -> None:
        """With a new start: what was decided stays decided until somebody asks for it again."""
        self.rooms.close()
        self.policy = policy
        self.rooms = Rooms(self.root, gate=policy, clock=self.clock)

    @precondition(lambda self: self.held and not self.waiting)
    @rule(
        data=st.data(),
        cut=st.booleans(),
        folder=st.sampled_from([layout.OUTCOMES, layout.TRAINING_VIEW]),
        day=st.none() | st.sampled_from(DAYS),
    )
    def an_outcome_file_is_damaged(self, data: st.DataObject, cut: bool, folder: str, day: int | None) -> None:
        """Emptied or cut by somebody else; any collection writes it again. Labels may wait meanwhile."""
        files = [path for path in sorted((self.root / folder).rglob("*.jsonl")) if path.stat().st_size]
        path = data.draw(st.sampled_from(files), "file") if files else None
        if path is not None:
            os.truncate(path, path.stat().st_size // 2 if cut else 0)
        if day is None:
            self.what_is_new_is_collected()
        else:
            self.a_day_is_decided_again(day)

    @rule()
    def what_is_new_is_collected(self) -> None:
        self.collect(lambda task_id: (task_id, self.winner(task_id)) in self.waiting)
        self.waiting.clear()

    @rule()
    def all_that_was_written_is_collected(self) -> None:
        """As the daemon does when files have changed."""
        self.refine()
        self.what_is_new_is_collected()

    @rule()
    def everything_is_decided_again(self) -> None:
        """``collect --all``."""
        self.collect(lambda _: True, everything=True)
        self.waiting.clear()

    @rule(day=st.sampled_from(DAYS))
    def a_day_is_decided_again(self, day: int) -> None:
        """``collect --date``: that day's tasks, and nobody else's turn is lost."""
        self.collect(lambda task_id: self.stands[task_id, self.winner(task_id)].day == day, day=day)

    # --- the model ------------------------------------------------------------------------------------------------

    def record(self, task_id: str, kinds: set[str], day: int, hour: int, name: str) -> Record:
        """Return a record that holds an answer of its own; the place only orders it within its file."""
        self.number += 1
        when = f"{day // 10_000}-{day // 100 % 100:02}-{day % 100:02}T{hour:02}:00:00Z"
        fields: dict[str, Any] = {
            "output": f"answer {self.number} to a question that took some work",
            "completed_at": when,
        }
        for kind in sorted(kinds):
            fields |= CHANGES[kind]
        fields = good(task_id, **fields)
        final = fields["status"] in FINAL
        if not final:
            fields["updated_at"] = fields.pop("completed_at")
        return Record((final, hour + 100 * day, name, self.number), fields, day)

    def refine(self) -> None:
        """Let bronze become silver, and take note of Cortex's; silver holds what stands."""
        self.rooms.refine()
        self.read(BRONZE)
        self.read(CORTEX)
        check_compacted(self.root)
        found = {one["task_id"]: one.get("output") for one in self.rooms.silver_objects()}
        bronze = {task_id: one.fields.get("output") for (task_id, origin), one in self.stands.items() if not origin}
        assert found == bronze
        for name, text in self.quarantined().items():
            assert b"".join(b"".join(self.broken[name]).split()).startswith(text)

    def read(self, origin: int) -> None:
        for entry in [one for one in self.unread if one[0] == origin]:
            self.unread.remove(entry)
            _, task_id, record = entry
            old = self.stands.get((task_id, origin))
            if old is None or record.key > old.key:
                self.stands[task_id, origin] = record
                self.waiting.add((task_id, origin))

    def winner(self, task_id: str) -> int:
        """Return whose record of a task counts: the one that ranks higher, and of two equal ones bronze's."""
        return max(
            (origin for origin in (BRONZE, CORTEX) if (task_id, origin) in self.stands),
            key=lambda origin: (self.stands[task_id, origin].key[:2], -origin),
        )

    def collect(self, is_asked: Callable[[str], bool], **options: Any) -> None:
        """Let the rule decide, and compare all there is to see."""
        self.clock.advance(1)
        known = {task_id for task_id, _ in self.stands if self.stands[task_id, self.winner(task_id)].key[0]}
        asked = {task_id for task_id in known if is_asked(task_id)}
        is_day = "day" in options
        late = {one for one in self.heard & known if not (is_day and (one, self.winner(one)) in self.waiting)}
        self.heard.clear()
        expected = {"processed": 0, "high_quality": 0, "already_collected": 0, "withdrawn": 0}
        expected |= {"training": 0, "validation": 0}
        rejected: Counter[str] = Counter()
        for task_id in asked | late:
            self.decide(task_id, expected, rejected)
        assert self.rooms.collect(**options) == {**expected, "rejected": rejected}
        self.check_set()

    def decide(self, task_id: str, counts: dict[str, int], rejected: Counter[str]) -> None:
        record, old = self.stands[task_id, self.winner(task_id)], self.held.get(task_id)
        label = self.labels.get(task_id)
        quality = record.fields.get("quality_score") if label is None else label
        reason = self.reason(record.fields, quality)
        counts["processed"] += 1
        if reason is not None:
            rejected[reason] += 1
            counts["withdrawn"] += self.held.pop(task_id, None) is not None
            return
        assert quality is not None
        if old is None:
            share = int(sha256(task_id.encode()).hexdigest()[:8], 16) % 100
            split = "training" if share < self.policy.training_percent else "validation"
            counts["high_quality"] += 1
            counts[split] += 1
            since = instants.to_text(self.clock.now())
        else:
            split, since = old.split, old.since
            counts["already_collected"] += 1
        by = None if label is None else "person"
        self.held[task_id] = Held(
            split, record.day, record.fields["output"], "input" in record.fields, quality, by, since
        )

    def reason(self, fields: dict[str, Any], quality: float | None) -> str | None:
        """Return the first reason that speaks against a task; None where there is none."""
        policy, duration = self.policy, fields.get("duration_seconds")
        output = fields.get("output") or ""
        visible = 0 if output == "OK" else len(output.replace(" ", ""))
        against = [
            ("Not successful", FINAL[fields["status"]] != "completed"),
            ("No output", visible < policy.min_output_chars),
            ("Has errors", "error" in fields),
            ("Has retries", fields.get("retry_count", 0) > 0),
            ("No quality score", quality is None),
            ("Quality score too low", quality is not None and quality < policy.min_quality),
            ("Too fast (trivial)", duration is not None and duration < policy.min_duration_s),
            ("Too slow (timeout)", duration is not None and duration > policy.max_duration_s),
            ("Duration unknown", duration is None),
        ]
        return next((reason for reason, holds in against if holds), None)

    def check_set(self) -> None:
        """Each task of the set has one line, in the file of its split and day, and one example if it was asked for."""
        lines = {}
        for split, day, one in self.lines(layout.OUTCOMES):
            assert one["task_id"] not in lines, "it stands twice"
            assert one["split"] == split
            quality, by, since = one["quality_score"], one.get("quality_source"), one["collected_at"]
            lines[one["task_id"]] = Held(split, day, one["output"], one["input"] is not None, quality, by, since)
        assert lines == self.held
        shown = Counter((*where, one["messages"][1]["content"]) for *where, one in self.lines(layout.TRAINING_VIEW))
        assert shown == Counter(held[:3] for held in self.held.values() if held.asked)
        check_state(self.root)

    def quarantined(self) -> dict[str, bytes]:
        """Return what of each file stands in quarantine, in its order there, without white space."""
        found: dict[str, list[tuple[int, bytes]]] = {name: [] for name in FILES}
        for one in self.rooms.quarantine():
            text = one["text"].encode() if "text" in one else b64decode(one["text_base64"])
            found[one["file"].rpartition("/")[2]].append((one["offset"], text))
        return {name: b"".join(b"".join(text for _, text in sorted(texts)).split()) for name, texts in found.items()}

    def lines(self, folder: str) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """Yield split, day and content of each line below a folder."""
        for path in sorted((self.root / folder).rglob("*.jsonl")):
            for line in path.read_bytes().splitlines():
                yield path.parent.name, int(path.stem), json.loads(line)


def bytes_of(fields: dict[str, Any], form: str) -> bytes:
    """Return a record as the fleet's various writers write it."""
    text = json.dumps(fields, indent=2 if form == "pretty" else None).encode() + b"\n"
    return text.replace(b"\n", b"\r\n") if form == "crlf" else text


def play(examples: int, steps: int) -> None:
    how = settings(max_examples=examples, stateful_step_count=steps, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Collecting, settings=how)


@pytest.mark.timeout(300)
def test_the_set_is_what_the_rule_says() -> None:
    """Whatever is written and done, in any order: after each collection the set, its files and all counts are right."""
    play(60, 40)


@slow_test
@pytest.mark.timeout(3_600)
def test_the_set_is_what_the_rule_says_at_length() -> None:
    """The same over many long lives."""
    play(1_000, 80)
