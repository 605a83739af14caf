"""Datasets built from a real state and real files: what they hold, how they are frozen, and what a kill leaves."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from hashlib import sha256
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import pytest
from support import Handle, Killer, Rooms, events, good, quick_folder, slow

from cortex_autolearn import wiring
from cortex_autolearn.collect.split import split_of
from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.policy import GatePolicy
from cortex_autolearn.model.training_jobs import Estimate, Limits, Spec
from cortex_autolearn.model.training_policy import DatasetPolicy, MasterPrompt, TrainingPolicy
from cortex_autolearn.model.trainings import Training
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.settings import Settings
from cortex_autolearn.training import dataset, frozen
from cortex_autolearn.training.bands import METHOD
from cortex_autolearn.training.build import Builder, NothingToBuildError
from cortex_autolearn.training.freeze import Built

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORDS = "queue cache session parser ledger token index shard backup quota lease probe hook batch route".split()
KEY = "AKIA" + "ABCDEFGHIJKLMNOP"


def task(number: int, **changes: Any) -> dict[str, Any]:
    """Return a task that the collector keeps, with an input of its own."""
    draw = random.Random(number)
    text = f"Look at {number}: " + " ".join(draw.choices(WORDS, k=12))
    changes = {"input": text, "completed_at": f"2025-11-26T10:{number % 60:02d}:00Z", **changes}
    return good(f"task-{number}", **changes)


def training(count: int, start: int = 0) -> list[int]:
    """Return so many numbers of tasks of the training split."""
    return of_split("training", count, start)


def of_split(split: str, count: int, start: int = 0) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        if split_of(f"task-{start}") == split:
            found.append(start)
        start += 1
    return found


def written(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return what tells whether a file was written again; not when it was read, which the file system notes, too."""
    found = {path.name: path.stat() for path in folder.iterdir()}
    return {name: (one.st_ino, one.st_size, one.st_mtime_ns) for name, one in found.items()}


class Bench:
    """A ROOT, its rooms, and what builds datasets over it."""

    def __init__(self, root: Path, **policy: Any) -> None:
        self.rooms = Rooms(root)
        self.root = root
        self.files = self.rooms.tree
        self.use(**policy)

    def use(self, prompt: str = "You are the {master}.", **policy: Any) -> None:
        settings = Settings(training=TrainingPolicy(system_prompt=prompt), dataset=DatasetPolicy(**policy))
        self.builder = wiring.datasets(settings, self.rooms.store, self.rooms.tree, self.rooms.clock)

    def collect(self, *records: dict[str, Any] | bytes, name: str = "tasks.jsonl") -> None:
        self.rooms.put(name, *records)
        self.rooms.follow()
        self.rooms.collect()

    def build(self, scope: str = "global", limits: Limits | None = None) -> Built:
        return self.builder.build(scope, Handle(), limits)

    def open(self, built: Built) -> frozen.Dataset:
        return frozen.open_dataset(self.files, built.row.dataset_id)

    def tasks(self, built: Built, split: Any = "train") -> list[str]:
        return [one.task_id for one in self.open(built).iter_examples(split)]

    def folder(self, built: Built) -> Path:
        return self.root / layout.dataset_folder(built.row.dataset_id)


@contextmanager
def bench_over(root: Path, **policy: Any) -> Iterator[Bench]:
    bench = Bench(root, **policy)
    try:
        yield bench
    finally:
        bench.rooms.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_over(tmp_path) as one:
        yield one


class TestWhatItHolds:
    def test_examples_are_chat_messages_and_nothing_else(self, bench: Bench) -> None:
        """A line is what a provider may see; whose it is stands in the manifest, in the order of the lines."""
        first, second = training(2)
        bench.collect(
            task(first, output="It was mended, and a test guards it now"), task(second, master=..., task_type=...)
        )
        built = bench.build()
        lines = (bench.folder(built) / "train.jsonl").read_bytes().splitlines(keepends=True)
        members = bench.open(built).manifest.examples["train"]
        found = {member.task_id: json.loads(line) for member, line in zip(members, lines, strict=True)}
        assert found[f"task-{first}"] == {
            "system": "You are the security-master.",
            "messages": [
                {"role": "user", "content": task(first)["input"]},
                {"role": "assistant", "content": "It was mended, and a test guards it now"},
            ],
        }
        assert found[f"task-{second}"]["system"] == "You are the master."
        assert {(one.task_id, one.master, one.task_type) for one in members} == {
            (f"task-{first}", "security-master", "scan"),
            (f"task-{second}", None, None),
        }
        assert [one.digest for one in members] == [sha256(line).hexdigest() for line in lines]

    def test_splits_are_those_of_the_outcomes(self, bench: Bench) -> None:
        """Who is for validation was decided by the collector, for ever."""
        bench.collect(*map(task, range(40)))
        built = bench.build()
        for split, name in (("train", "training"), ("validation", "validation")):
            assert {split_of(one) for one in bench.tasks(built, split)} == {name}
        assert built.row.train + built.row.validation == 40
        assert built.dropped == {}

    def test_a_master_may_have_a_prompt_of_its_own(self, bench: Bench) -> None:
        """The template is the others'."""
        first, second = training(2)
        bench.use(system_prompts=(MasterPrompt(master="cicd-master", prompt="You release, {master}."),))
        bench.collect(task(first), task(second, master="cicd-master"))
        prompts = {one.master: one.system for one in bench.open(bench.build()).iter_examples("train")}
        assert prompts == {
            "security-master": "You are the security-master.",
            "cicd-master": "You release, cicd-master.",
        }

    def test_secrets_are_masked_everywhere_and_counted(self, bench: Bench) -> None:
        """In question, answer and prompt; counted by rule for what is in the dataset, and nowhere in its folder."""
        first, second = training(2)
        bench.use(prompt=f"You are the {{master}}. Never say {KEY}.")
        bench.collect(
            task(first, input=f"Rotate {KEY} and tell ada@example.org about it"),
            task(second, output=f"The key {KEY} was found in the log and is revoked"),
        )
        built = bench.build()
        assert built.redactions == {"aws": 2, "email": 1}
        for path in bench.folder(built).iterdir():
            assert KEY not in path.read_text()
            assert "ada@example.org" not in path.read_text()
        texts = {one.task_id: one for one in bench.open(built).iter_examples("train")}
        assert texts[f"task-{first}"].input == "Rotate [REDACTED:aws] and tell [REDACTED:email] about it"
        assert "[REDACTED:aws]" in texts[f"task-{first}"].system
        assert bench.open(built).manifest.redaction_version

    def test_escapes_inside_of_an_object_hide_no_secret(self, bench: Bench) -> None:
        """Writers escape ``=``, ``/``, ``@`` or whatever is not ASCII: masked is what the text says."""
        (number,) = training(1)
        record = task(
            number, output={"log": "für bob@example.org: https://bob:hunter2@db.example.org/x password=hunter2"}
        )
        escaped = json.dumps(record).replace("=", "\\u003d").replace("@", "\\u0040").replace("/", "\\/")
        bench.collect(escaped.encode() + b"\n")
        (example,) = bench.open(bench.build()).iter_examples("train")
        masked = (
            "für [REDACTED:email]: https://bob:[REDACTED:url-password]@db.example.org/x password=[REDACTED:assignment]"
        )
        assert json.loads(example.output) == {"log": masked}

    def test_what_makes_no_example_is_left_out_with_its_reason(self, bench: Bench) -> None:
        """Nothing asked, nothing but secrets, too long: each counted, and listed by task in the manifest."""
        kept, silent, secret, long = training(4)
        bench.use(max_example_chars=2_000)
        bench.collect(task(kept), task(silent, input=...), task(secret, input=KEY), task(long, output="word " * 1_000))
        built = bench.build()
        assert bench.tasks(built) == [f"task-{kept}"]
        assert built.dropped == {dataset.NO_INPUT: 1, dataset.ONLY_MASKED: 1, dataset.TOO_LONG: 1}
        listed = {one["task_id"]: one["reason"] for one in bench.open(built).manifest.dropped_examples}
        assert listed == {
            f"task-{silent}": dataset.NO_INPUT,
            f"task-{secret}": dataset.ONLY_MASKED,
            f"task-{long}": dataset.TOO_LONG,
        }

    def test_what_is_far_too_long_is_not_even_masked(self, bench: Bench) -> None:
        """Masking reads a text several times: one that cannot become short enough is left out before."""
        kept, long, longer = training(3)
        bench.use(max_example_chars=2_000)
        secrets = f"{KEY} " * 500
        bench.collect(task(kept), task(long, output=secrets), task(longer, output=secrets * 4))
        assert bench.build().dropped == {dataset.ONLY_MASKED: 1, dataset.TOO_LONG: 1}

    def test_lost_and_unreadable_texts_are_left_out(self, bench: Bench) -> None:
        """An outcome whose text is gone, and one that holds half of a surrogate pair, stop nothing."""
        kept, lost, broken = training(3)
        bench.collect(task(kept), task(lost))
        raw = json.dumps(task(broken, input="half of a pair: XX")).replace("XX", "\\ud800").encode()
        bench.rooms.put("more.jsonl", raw + b"\n")
        bench.rooms.follow()
        bench.rooms.collect()
        with bench.rooms.store.write() as transaction:
            transaction.connection.execute("UPDATE outcomes SET length = 0 WHERE task_id = ?", (f"task-{lost}",))
        built = bench.build()
        assert bench.tasks(built) == [f"task-{kept}"]
        assert built.dropped[dataset.NO_TEXT] == 1
        assert built.dropped.get(dataset.UNREADABLE, 0) == int(f"task-{broken}" in bench.rooms.collected())

    def test_a_byte_that_was_damaged_stops_nothing(self, bench: Bench) -> None:
        """An outcome whose text is no UTF-8 any more is left out, and its next record takes its place."""
        kept, broken = training(2)
        bench.collect(task(kept), task(broken))
        path = next((bench.root / layout.OUTCOMES / "training").glob("*.jsonl"))
        before = path.read_bytes()
        path.write_bytes(before.replace(b"Look at %d:" % broken, b"Look \xe9t %d:" % broken))
        built = bench.build()
        assert bench.tasks(built) == [f"task-{kept}"]
        assert built.dropped == {dataset.UNREADABLE: 1}
        bench.collect(task(broken, completed_at="2025-11-26T11:00:00Z"), name="later.jsonl")
        assert set(bench.tasks(bench.build())) == {f"task-{kept}", f"task-{broken}"}

    def test_the_manifest_adds_up(self, bench: Bench) -> None:
        """Counts by master and type, files by length and digest, and every outcome is in it or has its reason."""
        bench.collect(
            *(
                task(number, master=f"m{number % 3}-master", input=f"Look at part {number % 25} now")
                for number in range(60)
            )
        )
        built = bench.build()
        manifest = bench.open(built).manifest
        assert manifest.considered == 60 == built.row.train + built.row.validation + sum(built.dropped.values())
        for split in ("train", "validation"):
            path = bench.folder(built) / f"{split}.jsonl"
            assert manifest.files[split].bytes == path.stat().st_size
            assert manifest.files[split].sha256 == sha256(path.read_bytes()).hexdigest()
            assert sum(manifest.by_master[split].values()) == manifest.counts[split]
            assert sum(manifest.by_task_type[split].values()) == manifest.counts[split]
        assert manifest.tokens["train"] == built.row.tokens > 0
        assert manifest.configuration["near_duplicate_method"] == METHOD
        assert manifest.leakage["remaining"] == 0

    def test_only_committed_bytes_are_read(self, bench: Bench) -> None:
        """What stands behind the committed end of an outcome file is nobody's outcome."""
        (one,) = training(1)
        bench.collect(task(one))
        path = next((bench.root / layout.OUTCOMES / "training").glob("*.jsonl"))
        with path.open("ab") as file:
            file.write(path.read_bytes().replace(b"task-", b"fake-"))
        assert bench.tasks(bench.build()) == [f"task-{one}"]


class TestClean:
    def test_duplicates_and_near_ones_yield_to_the_newest(self, bench: Bench) -> None:
        """Equal but for case and blanks, and a word in thirty changed."""
        old, new, near = training(3)
        text = " ".join(f"{word}{number}" for number in (1, 2) for word in WORDS)
        bench.collect(
            task(old, input=text.upper(), completed_at="2025-11-20T10:00:00Z"),
            task(new, input=text, completed_at="2025-11-22T10:00:00Z"),
            task(near, input=text.replace("parser1", "lexer"), completed_at="2025-11-21T10:00:00Z"),
        )
        built = bench.build()
        assert bench.tasks(built) == [f"task-{new}"]
        assert built.dropped == {dataset.DUPLICATE: 1, dataset.NEAR_DUPLICATE: 1}
        assert {one["instead"] for one in bench.open(built).manifest.dropped_examples} == {f"task-{new}"}

    def test_the_threshold_is_a_setting(self, bench: Bench) -> None:
        """At 1 only the same words in the same order are near."""
        one, other = training(2)
        text = " ".join(f"{word}{number}" for number in (1, 2) for word in WORDS)
        bench.collect(task(one, input=text), task(other, input=text.replace("parser1", "lexer")))
        assert bench.build().row.train == 1
        bench.use(near_duplicate_threshold=1.0)
        assert bench.build().row.train == 2

    def test_nothing_of_validation_is_trained_on(self, bench: Bench) -> None:
        """Not its input, nor a near one; the training example goes, is counted, and none remains."""
        free, same, near = training(3)
        (held,) = of_split("validation", 1)
        text = " ".join(f"{word}{number}" for number in (1, 2) for word in WORDS)
        bench.collect(
            task(free),
            task(held, input=text, completed_at="2025-11-01T10:00:00Z"),
            task(same, input=text.title()),
            task(near, input=text.replace("parser1", "lexer")),
        )
        built = bench.build()
        assert bench.tasks(built) == [f"task-{free}"]
        assert bench.tasks(built, "validation") == [f"task-{held}"]
        assert bench.open(built).manifest.leakage == {
            dataset.SAME_AS_VALIDATION: 1,
            dataset.NEAR_VALIDATION: 1,
            "remaining": 0,
        }

    def test_what_was_validated_once_is_never_trained_on(self, bench: Bench) -> None:
        """Neither its task, though its split changes, nor its input, though its task is gone from the set."""
        (free,) = training(1)
        (moved, gone) = of_split("validation", 2)
        bench.collect(task(free), task(moved), task(gone))
        assert bench.build().row.validation == 2
        # A later record of one fails, so that it is withdrawn; the other is collected anew, all for training now.
        bench.collect(task(gone, error="found out later", completed_at="2025-11-26T12:00:00Z"), name="later.jsonl")
        with bench.rooms.store.write() as transaction:
            transaction.withdraw([f"task-{moved}"])
        again = Rooms(bench.root, gate=GatePolicy(training_percent=99))
        copy = next(number for number in training(50) if number not in (free, moved, gone))
        again.put("copy.jsonl", task(copy, input=task(gone)["input"].upper()))
        again.follow()
        again.collect(everything=True)
        again.close()
        built = bench.build()
        assert bench.tasks(built) == [f"task-{free}"]
        assert built.dropped[dataset.HELD_OUT] == 2

    def test_each_input_that_was_validated_is_held_out(self, bench: Bench) -> None:
        """Also the one that a later record of the task asked, when the task is gone from the set after that."""
        free, former, latter = training(3)
        (held,) = of_split("validation", 1)
        bench.collect(task(free), task(held))
        bench.build()
        texts = task(held)["input"], "Something else altogether is asked of it: mend the roof before winter comes"
        bench.collect(task(held, input=texts[1], completed_at="2025-11-26T12:00:00Z"), name="second.jsonl")
        bench.build()
        bench.collect(
            task(held, error="found out later", completed_at="2025-11-26T13:00:00Z"),
            *(task(number, input=text) for number, text in zip((former, latter), texts, strict=True)),
            name="third.jsonl",
        )
        built = bench.build()
        assert bench.tasks(built) == [f"task-{free}"]
        assert built.dropped == {dataset.HELD_OUT: 2}

    def test_limits_of_a_backend_make_the_settings_narrower(self, bench: Bench) -> None:
        """Its maxima cut, the newest stay; what it does not say stays as it was set."""
        bench.collect(
            *(
                task(number, completed_at=f"2025-11-26T{number // 60:02d}:{number % 60:02d}:00Z")
                for number in range(100)
            )
        )
        limits = Limits(max_train=7, max_validation=3, max_example_chars=100_000_000)
        built = bench.build(limits=limits)
        newest = [f"task-{number}" for number in range(99, -1, -1) if split_of(f"task-{number}") == "training"]
        assert set(bench.tasks(built)) == set(newest[:7])
        assert (built.row.train, built.row.validation) == (7, 3)
        assert bench.open(built).manifest.configuration["max_train"] == 7
        assert built.is_full
        assert bench.open(built).manifest.configuration["max_example_chars"] == DatasetPolicy().max_example_chars
        assert built.row.dataset_id != bench.build().row.dataset_id

    def test_no_master_has_more_than_its_share(self, bench: Bench) -> None:
        """One that does most of the work loses its oldest."""
        numbers = training(50)
        bench.use(max_share=0.6)
        bench.collect(
            *(task(number, master="a-master" if place < 45 else "b-master") for place, number in enumerate(numbers))
        )
        manifest = bench.open(bench.build()).manifest
        assert manifest.by_master["train"] == {"a-master": 7, "b-master": 5}
        assert manifest.dropped == {dataset.OVER_SHARE: 38}

    def test_a_scope_of_one_master(self, bench: Bench) -> None:
        """Only its work; a master without any is refused with those that have."""
        bench.collect(*(task(number, master=f"m{number % 2}-master") for number in range(30)))
        built = bench.build("m1-master")
        assert {one.master for one in bench.open(built).iter_examples("train")} == {"m1-master"}
        assert built.row.scope == "m1-master"
        with pytest.raises(NothingToBuildError, match="m0-master, m1-master"):
            bench.build("m7-master")


class TestFrozen:
    def test_built_twice_is_one_dataset(self, bench: Bench) -> None:
        """The second time nothing is written, told or noted."""
        bench.collect(*map(task, range(30)))
        built = bench.build()
        before = written(bench.folder(built))
        bench.rooms.clock.advance(3_600)
        again = bench.build()
        assert (built.created, again.created) == (True, False)
        assert again.row == built.row
        assert written(bench.folder(built)) == before
        assert [one["dataset_id"] for one in events(bench.root)] == [built.row.dataset_id]

    def test_another_root_gives_the_same_id(self, bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> None:
        """It follows from outcomes and settings alone, however these came to be collected."""
        records = list(map(task, range(40)))
        bench.collect(*records)
        with bench_over(tmp_path_factory.mktemp("other")) as other:
            other.rooms.clock.advance(86_400)
            for number, record in enumerate(reversed(records)):
                other.collect(record, name=f"{number}.jsonl") if number < 3 else other.rooms.put("rest.jsonl", record)
            other.collect(name="rest.jsonl")
            one, two = bench.build(), other.build()
            assert one.row.dataset_id == two.row.dataset_id
            for name in ("train.jsonl", "validation.jsonl"):
                assert (bench.folder(one) / name).read_bytes() == (other.folder(two) / name).read_bytes()

    @pytest.mark.parametrize("change", [{"seed": 1}, {"max_share": 0.7}, {"prompt": "Other."}])
    def test_other_settings_are_another_dataset(self, bench: Bench, change: dict[str, Any]) -> None:
        """With the former as its parent."""
        bench.collect(*map(task, range(20)))
        first = bench.build()
        bench.use(**change)
        second = bench.build()
        assert second.row.dataset_id != first.row.dataset_id
        assert (first.row.parent, second.row.parent) == (None, first.row.dataset_id)
        assert bench.build("security-master").row.parent is None

    def test_more_outcomes_are_another_dataset(self, bench: Bench) -> None:
        """And the instant up to which they went in moves on."""
        bench.collect(*map(task, range(20)))
        first = bench.build()
        bench.rooms.clock.advance(60)
        bench.collect(*map(task, range(20, 25)), name="more.jsonl")
        second = bench.build()
        assert second.row.parent == first.row.dataset_id
        assert second.covers_us == first.covers_us + 60_000_000
        assert set(bench.tasks(first)) < set(bench.tasks(second))

    @pytest.mark.parametrize("harm", ["gone", "manifest", "half", "another", "swapped", "cut", "changed", "strange"])
    def test_a_damaged_folder_comes_back(self, bench: Bench, harm: str) -> None:
        """Whatever was done to it: the same bytes stand there again, and nothing is told twice."""
        bench.collect(*map(task, range(20)))
        built = bench.build()
        folder = bench.folder(built)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        train = folder / "train.jsonl"
        match harm:
            case "gone":
                shutil.rmtree(folder)
            case "manifest":
                (folder / "manifest.json").write_text("{")
            case "half" | "another" | "swapped":
                manifest = json.loads(before["manifest.json"])
                examples = manifest["examples"]["train"]
                if harm == "half":
                    del manifest["examples"]["validation"]
                elif harm == "another":
                    manifest["dataset_id"] = "../../elsewhere"
                else:
                    examples[0]["task_id"], examples[1]["task_id"] = examples[1]["task_id"], examples[0]["task_id"]
                (folder / "manifest.json").write_text(json.dumps(manifest))
            case "cut":
                train.write_bytes(before["train.jsonl"][:-1])
            case "changed":
                train.write_bytes(before["train.jsonl"].replace(b"Look", b"Lock", 1))
            case _:
                train.unlink()
                train.symlink_to("/dev/null")
        bench.rooms.clock.advance(3_600)
        assert not bench.build().created
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        assert len(events(bench.root)) == 1

    def test_of_those_built_for_nothing_the_latest_is_kept(self, bench: Bench) -> None:
        """A dataset for a training that did not start goes when the next one comes; others, and those trained on, stay."""
        built = []
        for number in training(5):
            bench.collect(task(number), name=f"tasks-{number}.jsonl")
            built.append(bench.build())
        first, second, third, fourth, own = built
        bench.builder.spare("global", first.row.dataset_id)
        bench.builder.spare("global", first.row.dataset_id)
        assert bench.folder(first).exists()
        bench.builder.spare("global", second.row.dataset_id)
        spec = Spec(backend="export", model_id="ft-20261122-001", scope="global", base="b", dataset=second.ref)
        with bench.rooms.store.write() as transaction:
            estimate = Estimate(tokens=1, epochs=1, training_usd=0.0)
            ids = (spec.model_id, "global", second.row.dataset_id, "token")
            transaction.put_training(Training(*ids, spec, estimate, "a person", 1, 1))
        bench.builder.spare("global", third.row.dataset_id)
        bench.builder.spare("security-master", fourth.row.dataset_id)
        bench.builder.spare("global", own.row.dataset_id)
        there = [bench.folder(one).exists() for one in built]
        assert there == [False, True, False, True, True]

    def test_what_a_person_has_built_stays(self, bench: Bench) -> None:
        """Though the daily look had built the very same before, for nothing."""
        first, second = training(2)
        bench.collect(task(first))
        built = bench.build()
        bench.builder.spare("global", built.row.dataset_id)
        assert not bench.builder.build("global", Handle(), is_to_stay=True).created
        bench.collect(task(second), name="later.jsonl")
        bench.builder.spare("global", bench.build().row.dataset_id)
        assert bench.folder(built).exists()

    def test_a_damaged_dataset_is_not_read(self, bench: Bench) -> None:
        """A line that is not the one that was frozen, or is missing, or too many: never trained on."""
        bench.collect(*map(task, range(20)))
        built = bench.build()
        path = bench.folder(built) / "train.jsonl"
        whole = path.read_bytes()
        for harmed in (whole.replace(b"Look", b"Lock", 1), whole[: whole.index(b"\n") + 1], whole + whole, b""):
            path.write_bytes(harmed)
            with pytest.raises(BoundaryError, match="Build it again"):
                list(bench.open(built).iter_examples("train"))
            assert not bench.open(built).is_whole()
        path.unlink()
        with pytest.raises(BoundaryError, match="gone"):
            list(bench.open(built).iter_examples("train"))
        manifest = bench.folder(built) / "manifest.json"
        told = json.loads(manifest.read_bytes())
        for harmed_as, cause in (
            ({"examples": {}}, "does not list"),
            ({"files": {}}, "does not list"),
            ({"counts": {}}, "does not list"),
            ({"dataset_id": "0123456789ab"}, "another dataset"),
        ):
            manifest.write_text(json.dumps(told | harmed_as))
            with pytest.raises(BoundaryError, match=cause):
                bench.open(built)
        with pytest.raises(BoundaryError, match="not there"):
            frozen.open_dataset(bench.files, "0123456789ab")

    def test_it_covers_nothing_that_is_still_to_come(self, bench: Bench) -> None:
        """An outcome that was collected while the clock was ahead is in it, and those that come later are new all the same."""
        first, second = training(2)
        bench.rooms.clock.step(400 * 86_400)
        bench.collect(task(first))
        bench.rooms.clock.step(-400 * 86_400)
        bench.collect(task(second), name="later.jsonl")
        built = bench.build()
        assert set(bench.tasks(built)) == {f"task-{first}", f"task-{second}"}
        assert built.covers_us == built.row.covers_us == instants.to_us(bench.rooms.clock.now())

    def test_the_event_and_the_row_say_the_same(self, bench: Bench) -> None:
        """What happened is told by the transaction that noted it."""
        bench.collect(*map(task, range(20)))
        built = bench.build()
        (event,) = events(bench.root)
        assert event["event"] == "dataset_created"
        for name, value in {**built.as_dict(), "created": None}.items():
            assert name == "created" or event[name] == value, name
        with bench.rooms.store.read() as reading:
            assert reading.datasets() == [built.row]


class TestRefusals:
    def test_nothing_collected_yet(self, bench: Bench) -> None:
        """The words say what to run."""
        with pytest.raises(NothingToBuildError, match="nothing is collected yet.*cortex-autolearn collect"):
            bench.build()
        assert not (bench.root / layout.DATASETS).exists()

    def test_nothing_left_to_train_on(self, bench: Bench) -> None:
        """The words say why, and nothing is written."""
        (one,) = training(1)
        bench.collect(task(one, input=KEY))
        with pytest.raises(NothingToBuildError, match="Nothing but secrets: 1"):
            bench.build()
        assert not (bench.root / layout.DATASETS).exists()
        assert events(bench.root) == []

    def test_outcomes_that_somebody_cut(self, bench: Bench) -> None:
        """Half a line is nobody's text: refused, with what mends it; and mended, it goes on."""
        bench.collect(*map(task, training(5)))
        path = next((bench.root / layout.OUTCOMES / "training").glob("*.jsonl"))
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(BoundaryError, match="cortex-autolearn collect mends it") as caught:
            bench.build()
        assert caught.value.retryable
        bench.rooms.collect()
        assert bench.build().row.train == 5


class TestTogether:
    def test_two_builds_at_once_are_one_dataset(self, bench: Bench) -> None:
        """One waits for the other and finds what it built: one folder, one row, one event."""
        bench.collect(*map(task, range(40)))
        others = [Bench(bench.root) for _ in range(3)]
        with ThreadPoolExecutor(len(others)) as pool:
            built = list(pool.map(Bench.build, others))
        for other in others:
            other.rooms.close()
        assert len({one.row for one in built}) == 1
        assert [one.created for one in built].count(True) == 1
        assert len(events(bench.root)) == 1
        assert len(list((bench.root / layout.DATASETS).iterdir())) == 1

    def test_a_task_that_is_withdrawn_while_outcomes_are_read(self, bench: Bench) -> None:
        """The file is another one by then: it is read again, and the task is not in the dataset."""
        first, *others = training(10)
        bench.collect(*map(task, (first, *others)))
        rooms = bench.rooms

        class Meddling:
            """The tree, in which the collector withdraws a task when an outcome file is first opened."""

            is_done = False

            def __getattr__(self, name: str) -> Any:
                return getattr(rooms.tree, name)

            def open_input(self, relative: str) -> Any:
                if relative.startswith(layout.OUTCOMES) and not self.is_done:
                    self.is_done = True
                    bench.collect(task(first, error="found out later", completed_at="2025-11-26T20:00:00Z"))
                return rooms.tree.open_input(relative)

        files: Any = Meddling()
        builder = Builder(
            store=rooms.store,
            files=files,
            clock=rooms.clock,
            scratch=lambda: cast("BinaryIO", tempfile.TemporaryFile()),  # noqa: SIM115 - the builder closes it
            lock=nullcontext,
            training=TrainingPolicy(),
            policy=DatasetPolicy(),
        )
        built = builder.build("global", Handle())
        assert files.is_done
        assert set(bench.tasks(built)) == {f"task-{number}" for number in others}


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    server = Killer()
    yield server
    server.close()


class TestKilled:
    """Killed before any call that changes a file, in the middle of any write, and before and after any commit."""

    @pytest.fixture
    def collected(self) -> Iterator[Path]:
        with quick_folder() as folder:
            with bench_over(folder / "collected") as bench:
                bench.collect(*map(task, range(20)))
            yield folder

    def picture(self, root: Path) -> dict[str, bytes]:
        """All of the datasets, hidden files too, and what was told."""
        found = {str(path.relative_to(root)): path.read_bytes() for path in (root / layout.DATASETS).rglob("*.*")}
        found["events"] = json.dumps([one["dataset_id"] for one in events(root)]).encode()
        with bench_over(root) as bench, bench.rooms.store.read() as reading:
            found["rows"] = repr((reading.datasets(), sorted(reading.validated()), reading.begun_dataset())).encode()
        return found

    def test_killed_anywhere_and_repeated(self, killer: Killer, collected: Path) -> None:
        """As if it had never been disturbed: the same files, one row, one event, nothing left behind."""
        undisturbed = collected / "undisturbed"
        shutil.copytree(collected / "collected", undisturbed)
        calls = killer.work(undisturbed, task="dataset")["calls"]
        expected = self.picture(undisturbed)
        assert calls > 15
        for number in range(calls):
            root = collected / str(number)
            shutil.copytree(collected / "collected", root)
            assert killer.work(root, task="dataset", die_at=number)["died"], number
            killer.work(root, task="dataset")
            assert self.picture(root) == expected, number
            shutil.rmtree(root)

    @pytest.mark.parametrize("every", [3, pytest.param(1, marks=slow)])
    def test_killed_anywhere_and_continued_with_more_outcomes(
        self, killer: Killer, collected: Path, every: int
    ) -> None:
        """The next build is another dataset; of the killed one there is all, or nothing."""
        undisturbed = collected / "undisturbed"
        shutil.copytree(collected / "collected", undisturbed)
        calls = killer.work(undisturbed, task="dataset")["calls"]
        first = next((undisturbed / layout.DATASETS).iterdir()).name
        for number in range(0, calls, every):
            root = collected / str(number)
            shutil.copytree(collected / "collected", root)
            assert killer.work(root, task="dataset", die_at=number)["died"], number
            with bench_over(root, max_share=0.7) as bench:
                bench.collect(*map(task, range(20, 25)), name="more.jsonl")
                built = bench.build()
                with bench.rooms.store.read() as reading:
                    rows = [row.dataset_id for row in reading.datasets()]
            assert rows in ([built.row.dataset_id], [first, built.row.dataset_id]), number
            assert sorted(path.name for path in (root / layout.DATASETS).iterdir()) == sorted(rows), number
            shutil.rmtree(root)

    def test_a_folder_that_comes_back_is_killed_anywhere(self, killer: Killer, collected: Path) -> None:
        """Its row stands all the while; the next build makes it whole."""
        undisturbed = collected / "undisturbed"
        shutil.copytree(collected / "collected", undisturbed)
        killer.work(undisturbed, task="dataset")
        expected = self.picture(undisturbed)
        (folder,) = (undisturbed / layout.DATASETS).iterdir()
        (folder / "train.jsonl").write_bytes(b"harmed")
        copy = collected / "copy"
        shutil.copytree(undisturbed, copy)
        calls = killer.work(copy, task="dataset")["calls"]
        for number in range(0, calls, 2):
            root = collected / str(number)
            shutil.copytree(undisturbed, root)
            assert killer.work(root, task="dataset", die_at=number)["died"], number
            killer.work(root, task="dataset")
            assert self.picture(root) == expected, number
            shutil.rmtree(root)
