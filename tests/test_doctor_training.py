"""The doctor's looks at trainings: each thing that keeps one from starting or ending, and what to do about it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from test_doctor import checks
from test_fine_tune_cli import EXPORT, FEW, call, model_of, root

from cortex_autolearn.cli import main
from cortex_autolearn.model import layout

if TYPE_CHECKING:
    from pathlib import Path

    from cortex_autolearn.doctor import Check

__all__ = ["root"]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:click")

DAY_US = 86_400_000_000
FEW_FLAGS = {"training__min_examples": 8}


def look(root: Path, **flags: object) -> dict[str, Check]:
    names = ("readiness", "training", "backend", "trigger")
    return {name: check for name, check in checks(root, **flags).items() if name in names}


def ready(root: Path, *options: str) -> None:
    """Run the daily look."""
    result = cli_call("run-once", "readiness", *FEW, *options, "--root", str(root))
    assert result.exit_code == 0, result.output


def cli_call(*args: str) -> Result:
    return CliRunner().invoke(main, list(args))


def edit(root: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(root / layout.STATE)) as connection, connection:
        assert connection.execute(statement, values).rowcount


def exported(root: Path) -> str:
    """Start a training that waits for a person."""
    call(root, "trigger", "--force", *EXPORT)
    return model_of(root)


class TestWell:
    def test_too_few_is_no_fault(self, root: Path) -> None:
        """That examples are missing is how it begins."""
        found = look(root)
        assert {name: check.verdict for name, check in found.items()} == {"readiness": "ok", "backend": "ok"}
        assert found["readiness"].found == "global: 8 of 1,000 new examples"
        assert found["backend"].found == "exemplar on claude-haiku-5-5; no dataset was built to look at yet"

    def test_after_a_training(self, root: Path) -> None:
        """When a model was made, it begins anew."""
        ready(root)
        found = look(root, **FEW_FLAGS)
        assert {name: check.verdict for name, check in found.items()} == {"readiness": "ok", "backend": "ok"}
        assert found["readiness"].found == "global: 0 of 8 new examples"
        assert found["backend"].found == "exemplar on claude-haiku-5-5 can be trained on 1 dataset"


class TestNotStarted:
    def test_nobody_looked(self, root: Path) -> None:
        """Enough examples and no look at them: when it comes, and how to look now."""
        found = look(root, **FEW_FLAGS)["readiness"]
        assert (found.verdict, found.found) == ("warn", "global: 8 of 8 new examples; nobody looked yet")
        assert found.remedy == "The daemon looks every day at 03:00; now: cortex-autolearn fine-tune trigger"

    def test_fewer_at_the_last_look(self, root: Path) -> None:
        """What came since the last look waits for the next."""
        cli_call("run-once", "readiness", "--root", str(root))
        found = look(root, **FEW_FLAGS)["readiness"]
        assert found.found == "global: 8 of 8 new examples; there were fewer at the last look, just now"

    def test_why_by_the_last_look(self, root: Path) -> None:
        """What the last look decided is told, with what to do about it."""
        name = exported(root)
        call(root, "cancel", name)
        ready(root)
        found = look(root, **FEW_FLAGS)["readiness"]
        assert found.verdict == "warn"
        assert found.found == (
            f"global: 8 of 8 new examples; not started just now: 1 training in a row made no model, the last one {name}"
        )
        assert found.remedy.startswith("It is tried again after 20")
        assert found.remedy.endswith("not to wait: cortex-autolearn fine-tune trigger --force")

    @pytest.mark.parametrize(
        ("unreadable", "options", "reason", "remedy"),
        [
            (3, [], "5 of 8 examples are left after cleaning", "dataset build"),
            (0, ["--set", "dataset.max_example_chars=100"], "no training example is left", "fine-tune trigger"),
        ],
    )
    def test_cleaning(self, root: Path, unreadable: int, options: list[str], reason: str, remedy: str) -> None:
        """Few examples that are left, or none, are told of with where to look."""
        (path,) = (root / layout.OUTCOMES / "training").iterdir()
        path.write_bytes(path.read_bytes().replace(b"Look at", b"Look \xe9t", unreadable))
        ready(root, *options)
        found = look(root, **FEW_FLAGS)["readiness"]
        assert (found.verdict, reason in found.found, remedy in found.remedy) == ("warn", True, True), found


class TestUnderWay:
    def test_waits_for_a_person(self, root: Path) -> None:
        """A person who is waited for is told with what, and how to end it."""
        name = exported(root)
        found = look(root)["training"]
        assert (found.verdict, found.found) == (
            "warn",
            f"{name} (global, export) waits for a person; its files are in {layout.MODELS}/{name}",
        )
        assert f"fine-tune complete {name} --model ID; or: cortex-autolearn fine-tune cancel {name}" in found.remedy
        assert "readiness" not in look(root, **FEW_FLAGS)

    def test_past_its_deadline(self, root: Path) -> None:
        """One that no look could end in time is wrong, and can be given up."""
        name = self.running(root)
        edit(root, "UPDATE training_jobs SET submitted_us = submitted_us - ?, polled_us = polled_us - ?", 3 * DAY_US, 1)
        found = look(root)["training"]
        assert found.verdict == "fail"
        assert found.found == f"{name} (global, export) is past its deadline: it was submitted 3 days ago"
        assert f"fine-tune cancel {name} --give-up" in found.remedy

    def test_nobody_looks_at_it(self, root: Path) -> None:
        """One that is not polled is wrong: no daemon runs, or it hangs."""
        name = self.running(root)
        edit(root, "UPDATE training_jobs SET polled_us = polled_us - ?", DAY_US // 2)
        found = look(root)["training"]
        assert (found.verdict, found.found) == ("fail", f"{name} (global, export) was last looked at 12 h ago")
        assert look(root, training__poll_s=86_400)["training"].verdict == "ok"

    def test_backend_is_away(self, root: Path) -> None:
        """What the backend said at the last look is told, also of one that is to end."""
        name = exported(root)
        manifest = root / layout.MODELS / name / "manifest.json"
        manifest.unlink()
        manifest.mkdir()  # what cannot be read gives no answer
        call(root, "cancel", name)
        found = look(root)["training"]
        assert found.verdict == "warn"
        assert found.found.startswith(f"{name} (global, export) is to end, and its backend has not ended it yet; ")
        assert "manifest.json: " in found.found
        assert found.remedy.endswith("--give-up")

    def test_failed(self, root: Path) -> None:
        """The last training's failure is told with its reason."""
        name = self.running(root)
        edit(root, "UPDATE training_jobs SET state = 'failed', ended_us = 1, seen = json_set(seen, '$.reason', 'NaN')")
        found = look(root)["training"]
        assert (found.verdict, found.found) == ("warn", f"the last one, {name}, failed: NaN")

    @staticmethod
    def running(root: Path) -> str:
        """A training that runs and waits for nobody."""
        name = exported(root)
        edit(root, "UPDATE training_jobs SET seen = json_set(seen, '$.waiting_for_person', json('false'))")
        return name


class TestBackend:
    def test_dataset_that_was_damaged(self, root: Path) -> None:
        """A dataset that cannot be trained on is found without asking anybody."""
        ready(root)
        (path,) = (root / layout.DATASETS).glob("*/train.jsonl")
        path.write_text("{}\n")
        found = look(root)["backend"]
        assert found.verdict == "fail"
        assert found.remedy

    def test_price_that_nobody_gave(self, root: Path) -> None:
        """A base whose price is unknown is worth a word."""
        ready(root)
        found = look(root, training__base_model="claude-next")["backend"]
        assert (found.verdict, found.found) == (
            "warn",
            "exemplar on claude-next: the price of serving with claude-next is unknown",
        )


class TestTriggerFile:
    def test_ours(self, root: Path) -> None:
        """One that tells of what is under way is right."""
        name = exported(root)
        assert look(root)["trigger"].found == f"it tells of {name}"

    def test_removed(self, root: Path) -> None:
        """One that is missing is written by the next look."""
        name = exported(root)
        (root / layout.FINE_TUNE_TRIGGER).unlink()
        found = look(root)["trigger"]
        assert found.found == f"{layout.FINE_TUNE_TRIGGER} is not there, though {name} is under way"
        cli_call("run-once", "training", "--root", str(root))
        assert look(root)["trigger"].verdict == "ok"

    def test_stale(self, root: Path) -> None:
        """One that a kill left behind is explained, and its remedy clears it."""
        name = exported(root)
        left = (root / layout.FINE_TUNE_TRIGGER).read_bytes()
        call(root, "cancel", name)
        (root / layout.FINE_TUNE_TRIGGER).write_bytes(left)
        found = look(root)["trigger"]
        assert found.verdict == "warn"
        assert found.found.startswith(
            f"{layout.FINE_TUNE_TRIGGER} is stale: it tells of a training that is not under way (model {name}, job "
        )
        cli_call("run-once", "training", "--root", str(root))
        assert "trigger" not in look(root)

    @pytest.mark.parametrize(
        ("text", "names"),
        [('{"model": "x-1", "job": 3}', "model x-1"), ("touched", "it names no model"), ("[]", "it names no model")],
    )
    def test_of_another(self, root: Path, text: str, names: str) -> None:
        """One that another program wrote is shown, and left to a person."""
        (root / layout.FINE_TUNE_TRIGGER).write_text(text)
        found = look(root)["trigger"]
        assert (found.verdict, found.found) == ("warn", f"{layout.FINE_TUNE_TRIGGER} is not ours ({names})")
        assert "remove it" in found.remedy
