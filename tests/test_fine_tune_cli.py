"""``fine-tune`` on the command line: what it prints, word for word, and how it ends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from support import Rooms, events, good

from cortex_autolearn.cli import main
from cortex_autolearn.collect.split import split_of
from cortex_autolearn.exemplars import open_model
from cortex_autolearn.model import layout

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:click")

TRAINING, VALIDATION = 8, 3
FEW = ("--set", f"training.min_examples={TRAINING}")
EXPORT = ("--set", "training.backend=export")


def call(root: Path, *args: str) -> Result:
    cleared = {name: None for name in os.environ if name.startswith("CORTEX_")}
    command = ["fine-tune", *args, "--root", str(root)]
    return CliRunner().invoke(main, command, prog_name="cortex-autolearn", env=cleared)


def answer(root: Path, *args: str, exit_code: int = 0) -> Any:
    result = call(root, *args, "--json")
    assert result.exit_code == exit_code, result.output
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def plain(root: Path, text: str) -> str:
    """What was printed, without what differs from call to call: days, instants, tokens, digests, folders."""
    text = text.replace(f" --root {root}", "").replace(str(root), "ROOT")
    text = re.sub(r"ft-\d{8}-", "ft-TODAY-", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "NOW", text)
    return re.sub(r"\b[0-9a-f]{12}\b", "DATASET", text)


def said(root: Path, *args: str, exit_code: int = 0) -> str:
    """What a call prints to stdout."""
    result = call(root, *args)
    assert result.exit_code == exit_code, result.output
    return plain(root, result.stdout)


def refused(root: Path, *args: str, exit_code: int = 2) -> str:
    """The error that a call ends with."""
    result = call(root, *args)
    assert (result.exit_code, result.stdout) == (exit_code, ""), result.output
    return plain(root, result.stderr).strip().splitlines()[-1]


def model_of(root: Path, number: int = 1) -> str:
    """The id of the n-th training."""
    found: str = answer(root, "jobs")["jobs"][number - 1]["model_id"]
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A ROOT with collected outcomes of one master."""
    names = [f"task-{number}" for number in range(80)]
    chosen = [name for name in names if split_of(name, 80) == "training"][:TRAINING]
    chosen += [name for name in names if split_of(name, 80) == "validation"][:VALIDATION]
    with Rooms(tmp_path) as rooms:
        rooms.put(
            "tasks.jsonl", *(good(name, input=f"Look at host {name}: {name}a {name}b {name}c") for name in chosen)
        )
        rooms.everything()
    return tmp_path


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A ROOT in which nothing ran yet."""
    (tmp_path / layout.COORDINATION).mkdir()
    return tmp_path


class TestStatus:
    def test_before_the_first(self, root: Path) -> None:
        """How far the first training is, and what it would cost."""
        shown = said(root, "status")
        assert re.sub(r"[\d,]+ tokens", "N tokens", shown) == (
            "Training examples: 8 of 1,000 (0.8 %)\n"
            "  global: 8 new since its last training, 1,000 needed\n"
            "A training now: N tokens, 0.00 USD, exemplar on claude-haiku-5-5\n"
            "Models trained: 0\n"
        )

    def test_json_has_the_names_that_are_agreed_on(self, root: Path) -> None:
        """The three parts with the names and types of the contract; more may stand beside them."""
        found = answer(root, "status")
        assert list(found) == ["data_collection", "fine_tuning", "cost_estimate"]
        assert (
            found["data_collection"].items() >= {"training_examples": 8, "min_required": 1000, "ready": False}.items()
        )
        assert found["data_collection"]["progress_percent"] == 0.8
        assert (found["fine_tuning"]["has_triggered"], found["fine_tuning"]["models_trained"]) == (False, 0)
        assert found["cost_estimate"].keys() >= {"example_count", "estimated_tokens", "estimated_cost_usd"}

    def test_while_a_person_is_waited_for(self, root: Path) -> None:
        """What is under way is shown with what it waits for, as a command that works."""
        call(root, "trigger", "--force", *EXPORT)
        shown = said(root, "status").splitlines()
        assert shown[-2] == "Under way: ft-TODAY-001 (global, export): running"
        assert shown[-1] == (
            f"  waiting for a person: train with the files in {layout.MODELS}/ft-TODAY-001, then run: "
            "cortex-autolearn fine-tune complete ft-TODAY-001 --model ID"
        )
        found = answer(root, "status")["fine_tuning"]
        assert found["has_triggered"] is True
        assert found["active"][0]["waits_for_person"] is True

    def test_why_nothing_was_triggered(self, root: Path) -> None:
        """Why the last look started nothing stands below the numbers, where they do not say it."""
        call(root, "trigger", "--force", *EXPORT)
        call(root, "cancel", model_of(root))
        cleared = {name: None for name in os.environ if name.startswith("CORTEX_")}
        result = CliRunner().invoke(main, ["run-once", "readiness", *FEW, "--root", str(root)], env=cleared)
        assert result.exit_code == 0, result.output
        assert said(root, "status", *FEW).splitlines()[-1] == (
            "Not started: global: 1 training in a row made no model, the last one ft-TODAY-001, until NOW (NOW)"
        )

    def test_without_a_state(self, empty: Path) -> None:
        """A ROOT in which nothing ran has none of all that, and nothing is written by looking."""
        assert said(empty, "status").splitlines()[0] == "Training examples: 0 of 1,000 (0 %)"
        assert not (empty / layout.AUTOLEARN).exists()


class TestTrigger:
    def test_too_few(self, root: Path) -> None:
        """With too few examples nothing is started, and the exit code says so."""
        numbers = "Training examples: 8, new: 8, needed: 1,000\n"
        assert said(root, "trigger", exit_code=1) == "Not started: global: 8 of 1000 new examples\n" + numbers
        dry = said(root, "trigger", "--dry-run", exit_code=1)
        assert dry == "Would not start: global: 8 of 1000 new examples\n" + numbers
        found = answer(root, "trigger", exit_code=1)
        assert found.items() >= {"decision": "wait", "reason": "too_few_examples", "new": 8, "needed": 1000}.items()

    def test_dry_run_does_nothing(self, root: Path) -> None:
        """What would happen is said; no dataset is built and nothing is started."""
        assert said(root, "trigger", "--dry-run", *FEW) == (
            "Would build a dataset for global, and train on what cleaning leaves of it\n"
            "Training examples: 8, new: 8, needed: 8\n"
        )
        assert answer(root, "trigger", "--dry-run", *FEW)["decision"] == "build"
        assert not (root / layout.DATASETS).exists()
        assert answer(root, "jobs") == {"jobs": []}

    def test_exemplar(self, root: Path) -> None:
        """A training that works here is done when the command ends, and the operator sees what it was made of."""
        shown = said(root, "trigger", *FEW)
        shown = re.sub(r"(estimated_added_usd_per_task|estimated_tokens|estimated_seconds|by): .*", r"\1: N", shown)
        assert shown == (
            "Started: global, on dataset DATASET\n"
            "Training examples: 8, new: 8, needed: 8\n"
            "After cleaning: 8\n"
            "  model_id: ft-TODAY-001\n"
            "  scope: global\n"
            "  backend: exemplar\n"
            "  dataset_id: DATASET\n"
            "  base: claude-haiku-5-5\n"
            "  train: 8\n"
            "  validation: 3\n"
            "  hyperparameters: n_epochs=3, batch_size=32\n"
            "  attempt: 1\n"
            "  by: N\n"
            "  estimated_tokens: N\n"
            "  estimated_cost_usd: 0.0\n"
            "  estimated_storage_usd_per_month: 0.0\n"
            "  estimated_added_usd_per_task: N\n"
            "  estimated_seconds: N\n"
            "ft-TODAY-001 (global, exemplar): succeeded\n"
        )
        with open_model(root / layout.MODELS / model_of(root)) as model:
            assert model.size == TRAINING
        assert not (root / layout.FINE_TUNE_TRIGGER).exists()
        assert said(root, "status").splitlines()[1] == "  global: 0 new since its last training, 1,000 needed"

    def test_json(self, root: Path) -> None:
        """The decision with its numbers, the configuration, and the job as ``jobs`` shows it."""
        found = answer(root, "trigger", *FEW)
        assert found.items() >= {"decision": "start", "scope": "global", "attempt": 1, "train_split": 8}.items()
        assert found["configuration"]["estimated_cost_usd"] == 0
        assert found["job"] == answer(root, "jobs")["jobs"][0]

    def test_never_a_second(self, root: Path) -> None:
        """One that is under way is shown instead, forced or not; the exit code says that none was started."""
        call(root, "trigger", "--force", *EXPORT)
        for options in ((), ("--force",), ("--force", "--dry-run")):
            assert said(root, "trigger", *options, exit_code=1) == (
                "Under way already: ft-TODAY-001 (global). Nothing else of this scope is started\n"
            )
        assert answer(root, "trigger", "--force", exit_code=1)["decision"] == "poll"

    def test_two_processes_at_once(self, root: Path) -> None:
        """Two people at the same time start one training."""
        command = [sys.executable, "-m", "cortex_autolearn", "fine-tune", "trigger", "--force", *EXPORT, "--json"]
        both = [subprocess.Popen([*command, "--root", root], stdout=subprocess.PIPE, text=True) for _ in range(2)]
        found = [json.loads(one.communicate()[0])["decision"] for one in both]
        assert sorted(found) == ["poll", "start"]
        assert len(answer(root, "jobs")["jobs"]) == 1
        assert [one["event"] for one in events(root)].count("fine_tune_triggered") == 1

    def test_master(self, root: Path) -> None:
        """A model for one master, named as a person would; it does not stand in the way of one for all."""
        assert answer(root, "trigger", "--force", "--master", "Security")["scope"] == "security-master"
        assert answer(root, "trigger", "--force")["scope"] == "global"
        assert [job["scope"] for job in answer(root, "jobs")["jobs"]] == ["security-master", "global"]

    def test_unknown_master(self, root: Path) -> None:
        """A master without examples is an error that names those with some, and no run."""
        for options in ((), ("--dry-run",), ("--force",)):
            assert refused(root, "trigger", "--master", "securty", *options) == (
                "Error: securty-master has no training examples; these masters have some: security-master (8)."
            )
        assert refused(root, "trigger", "--master", "../x") == "Error: '../x' cannot be the name of a master."
        with Rooms(root) as rooms, rooms.store.read() as reading:
            assert reading.last_run("training") is None

    def test_no_examples(self, empty: Path) -> None:
        """Forced without any example, it says what to do first."""
        assert said(empty, "trigger", "--force", exit_code=1) == (
            "Not started: global: nothing is collected yet. Run: cortex-autolearn medallion, then: cortex-autolearn "
            "collect\nTraining examples: 0, new: 0, needed: 1,000\n"
        )

    def test_free_of_charge(self, root: Path) -> None:
        """A training that costs nothing needs no budget."""
        assert answer(root, "trigger", *FEW, "--set", "training.budget_usd=0")["decision"] == "start"

    def test_wrong_setting(self, root: Path) -> None:
        """A backend that there is none of is an error of the configuration, with those there are."""
        result = call(root, "trigger", "--force", "--set", "training.backend=bedrok")
        assert result.exit_code == 78
        assert '"exemplar"' in result.stderr
        assert answer(root, "jobs") == {"jobs": []}


class TestJobs:
    def test_none(self, root: Path) -> None:
        """Without a training there is a word on how to see how far things are."""
        result = call(root, "jobs")
        assert (result.exit_code, result.stdout) == (0, "")
        assert plain(root, result.stderr) == "No training yet. How far things are: cortex-autolearn fine-tune status\n"
        assert answer(root, "jobs") == {"jobs": []}

    def test_one_of_each_end(self, root: Path) -> None:
        """Each training in its line, with how it ended and what was measured."""
        call(root, "trigger", "--force", *EXPORT)
        call(root, "cancel", model_of(root))
        call(root, "trigger", "--force")
        head, first, second = said(root, "jobs").splitlines()
        assert head.split() == "MODEL SCOPE BACKEND DATASET STATE PROGRESS ASKED AT MEASURED, AND WHY".split()
        assert first.split() == "ft-TODAY-001 global export DATASET cancelled NOW cancelled".split()
        assert second.split()[:7] == "ft-TODAY-002 global exemplar DATASET succeeded 100 %".split()
        assert "examples 8, held_out 3, leaked 0" in second
        found = answer(root, "jobs")["jobs"]
        assert [job["state"] for job in found] == ["cancelled", "succeeded"]
        assert found[1]["metrics"]["examples"] == 8
        assert found[1]["progress_percent"] == 100


class TestCancel:
    def test_waiting_for_a_person(self, root: Path) -> None:
        """A training that waits for a person ends; the trigger file is gone, and the event says who ended it."""
        call(root, "trigger", "--force", *EXPORT)
        assert (root / layout.FINE_TUNE_TRIGGER).exists()
        assert said(root, "cancel", model_of(root)) == "ft-TODAY-001 (global, export): cancelled: cancelled\n"
        assert not (root / layout.FINE_TUNE_TRIGGER).exists()
        last = events(root)[-1]
        assert (last["event"], last["reason"]) == ("fine_tune_failed", "cancelled by a person")

    def test_says_when_another_one_starts(self, root: Path) -> None:
        """It ends one training: the look of the day after finds the same examples, and whoever cancelled is told so."""
        call(root, "trigger", *FEW, *EXPORT)
        told = call(root, "cancel", model_of(root)).stderr
        found = re.fullmatch(
            r"The daily look starts another training of global after (\d{4}-\d\d-\d\d \d\d:\d\d) UTC, where enough "
            r"examples are new; a training.min_examples out of reach keeps it from that.\n",
            told,
        )
        assert found is not None, told
        shown = answer(root, "trigger", *FEW, *EXPORT, exit_code=1)
        assert shown["reason"] == "backing_off"
        assert shown["until"].startswith(found[1].replace(" ", "T"))
        call(root, "trigger", "--force", *FEW, *EXPORT)
        assert answer(root, "cancel", model_of(root, 2))["state"] == "cancelled"
        until = answer(root, "trigger", *FEW, *EXPORT, exit_code=1)["until"]
        assert until > shown["until"]

    def test_json(self, root: Path) -> None:
        """The training as ``jobs`` shows it."""
        call(root, "trigger", "--force", *EXPORT)
        assert answer(root, "cancel", model_of(root)) == answer(root, "jobs")["jobs"][0]

    def test_errors(self, root: Path) -> None:
        """What is not there, and what has ended, is said with what there is."""
        assert refused(root, "cancel", "ft-1") == "Error: there is no training 'ft-1'; the latest are: none yet."
        call(root, "trigger", "--force")
        name = model_of(root)
        assert refused(root, "cancel", name) == "Error: ft-TODAY-001 has ended already: it succeeded."
        assert refused(root, "cancel", "ft-1") == "Error: there is no training 'ft-1'; the latest are: ft-TODAY-001."
        call(root, "trigger", "--force", *EXPORT)
        call(root, "cancel", model_of(root, 2))
        assert refused(root, "cancel", model_of(root, 2)) == "Error: ft-TODAY-002 has ended already: it was cancelled."

    def test_backend_that_does_not_answer(self, root: Path) -> None:
        """While its backend does not answer the training stays, with the reason; a person may give it up."""
        call(root, "trigger", "--force", *EXPORT)
        name = model_of(root)
        manifest = root / layout.MODELS / name / "manifest.json"
        manifest.unlink()
        manifest.mkdir()  # what cannot be read gives no answer
        result = call(root, "cancel", name)
        assert result.exit_code == 1
        assert plain(root, result.stdout).startswith("ft-TODAY-001 (global, export): running: waiting for a person")
        (trouble,) = plain(root, result.stderr).splitlines()
        assert trouble.startswith("Not done yet: ROOT/llm-mesh/auto-learning/models/ft-TODAY-001/manifest.json: ")
        assert said(root, "cancel", name, "--give-up").startswith("ft-TODAY-001 (global, export): cancelled")
        assert answer(root, "status")["fine_tuning"]["active"] == []


class TestComplete:
    def test_hands_in(self, root: Path) -> None:
        """What was trained elsewhere becomes a model of ours, under the provider's name."""
        call(root, "trigger", "--force", *EXPORT)
        shown = said(root, "complete", model_of(root), "--model", "my-provider/tuned-7")
        assert shown == "ft-TODAY-001 (global, export): succeeded\n"
        (job,) = answer(root, "jobs")["jobs"]
        assert job["artefact"] == "my-provider/tuned-7"
        assert answer(root, "status")["fine_tuning"].items() >= {"models_trained": 1, "has_triggered": False}.items()
        assert [one["event"] for one in events(root)][-1] == "fine_tune_completed"

    def test_errors(self, root: Path) -> None:
        """A job that is not there, has ended, or is trained by its backend; an id that is none."""
        call(root, "trigger", "--force")
        name = model_of(root)
        assert refused(root, "complete", "ft-1", "--model", "x").startswith("Error: there is no training 'ft-1'; ")
        assert refused(root, "complete", name, "--model", "x") == (
            "Error: ft-TODAY-001 has ended already: it succeeded."
        )
        assert refused(root, "complete", name) == "Error: Missing option '--model'."
        assert refused(root, "complete", name, "--model", "my model") == (
            "Error: 'my model' cannot be the id of a model: 1 to 256 letters, digits and ._:@/- are."
        )


@pytest.mark.parametrize("command", ["status", "jobs", "trigger", "cancel", "complete"])
def test_help_teaches(root: Path, command: str) -> None:
    """Each help says what the command does, and shows a call of it that stands for itself."""
    shown = said(root, command, "--help")
    assert f"Example:  cortex-autolearn fine-tune {command}" in shown
    assert len(shown.split("Options:")[0].split()) > 15


def test_help_of_the_group(root: Path) -> None:
    """The group names its commands and where they are set."""
    shown = said(root, "--help")
    assert "[training]" in shown
    assert all(f"\n  {name} " in shown for name in ("status", "jobs", "trigger", "cancel", "complete"))
