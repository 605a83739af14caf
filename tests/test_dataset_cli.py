"""``dataset`` on the command line: what it prints, and what it says of wrong ids and empty states."""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from support import Rooms, good

from cortex_autolearn.cli import main
from cortex_autolearn.model import layout
from cortex_autolearn.training import dataset

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:click")

KEY = "AKIA" + "ABCDEFGHIJKLMNOP"


def call(root: Path, *args: str) -> Result:
    cleared = {name: None for name in os.environ if name.startswith("CORTEX_")}
    command = [*args, "--root", str(root)]
    return CliRunner().invoke(main, command, prog_name="cortex-autolearn", env=cleared)


def answer(root: Path, *args: str) -> Any:
    result = call(root, *args, "--json")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def tasks(*numbers: int) -> list[dict[str, Any]]:
    return [
        good(
            f"task-{number}",
            master=f"{'cicd' if number % 2 else 'security'}-master",
            input=f"Look at part {number} of the ledger" if number % 10 else f"Rotate {KEY} in part {number}",
        )
        for number in numbers
    ]


def collect(root: Path, *records: dict[str, Any], name: str = "a.jsonl") -> None:
    with Rooms(root) as rooms:
        rooms.put(name, *records)
        rooms.follow()
        rooms.collect()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    collect(tmp_path, *tasks(*range(30)))
    return tmp_path


class TestBuild:
    def test_json_is_as_promised(self, root: Path) -> None:
        """The keys and types of the contract; the path is below the root and holds the three files."""
        built = answer(root, "dataset", "build")
        assert re.fullmatch("[0-9a-f]{12}", built["dataset_id"])
        assert built["path"] == f"llm-mesh/auto-learning/datasets/{built['dataset_id']}"
        assert built["train"] + built["validation"] + sum(built["dropped"].values()) == 30
        assert built["redactions"] == {"aws": 3}
        assert built["created"] is True
        assert sorted(os.listdir(root / built["path"])) == ["manifest.json", "train.jsonl", "validation.jsonl"]
        assert answer(root, "dataset", "build") == built | {"created": False}

    def test_it_says_what_was_built_and_what_was_left_out(self, root: Path) -> None:
        """In words and whole numbers."""
        few = ("--set", "dataset.max_train=5", "--set", "dataset.max_validation=1")
        first = call(root, "dataset", "build", *few)
        built = answer(root, "dataset", "build", *few)
        assert first.exit_code == 0
        assert first.stdout.splitlines() == [
            f"Built {built['dataset_id']}",
            f"Training:   5 examples, {built['tokens']:,} tokens",
            "Validation: 1 example",
            f"Path:       {built['path']}",
            "Left out:",
            *(f"  {reason}: {count}" for reason, count in built["dropped"].items()),
            "Masked:",
            f"  aws: {built['redactions']['aws']}",
        ]
        assert built["dropped"][dataset.OVER_MAXIMUM] > 10

    def test_of_one_master_by_any_of_its_names(self, root: Path) -> None:
        """``cicd`` and ``cicd-master`` are the same."""
        one = answer(root, "dataset", "build", "--master", "cicd")
        assert one["scope"] == "cicd-master"
        assert answer(root, "dataset", "build", "--master", "cicd-master")["dataset_id"] == one["dataset_id"]

    def test_nothing_collected_yet(self, tmp_path: Path) -> None:
        """The remedy stands in the message."""
        (tmp_path / layout.COORDINATION).mkdir()
        result = call(tmp_path, "dataset", "build")
        assert result.exit_code == 1
        assert "nothing is collected yet" in result.stderr
        assert "cortex-autolearn collect" in result.stderr

    def test_status_counts_tokens_as_they_were_measured(self, root: Path) -> None:
        """Once a dataset of all masters was built, its examples stand for those that were collected since."""
        before = answer(root, "status")["cost_estimate"]
        built = answer(root, "dataset", "build")
        settings = ("--set", "training.base_model=b", "--set", "training.epochs=2")
        after = answer(root, "status", *settings)["cost_estimate"]
        assert (before["is_measured"], after["is_measured"]) == (False, True)
        once = round(after["example_count"] * built["tokens"] / built["train"])
        assert after["estimated_tokens"] == once  # worked examples are read once
        elsewhere = answer(root, "status", *settings, "--set", "training.backend=export")["cost_estimate"]
        assert elsewhere["estimated_tokens"] == 2 * once

    def test_unknown_masters(self, root: Path) -> None:
        """One without work is told from one that cannot be; both without a bug report."""
        result = call(root, "dataset", "build", "--master", "nobody")
        assert (result.exit_code, "cicd-master, security-master" in result.stderr) == (1, True)
        assert call(root, "dataset", "build", "--master", "../up").exit_code == 2

    def test_a_wrong_setting(self, root: Path) -> None:
        """Refused with its limits."""
        result = call(root, "dataset", "build", "--set", "dataset.near_duplicate_threshold=2")
        assert result.exit_code == 78
        assert "near_duplicate_threshold" in result.stderr


class TestLookingOn:
    def test_none_yet(self, root: Path) -> None:
        """An empty list is no error; a dataset that is asked for is."""
        assert answer(root, "dataset", "list") == {"datasets": []}
        assert "cortex-autolearn dataset build" in call(root, "dataset", "list").stdout
        for command in ("show", "export"):
            result = call(root, "dataset", command)
            assert result.exit_code == 1
            assert "there is none yet" in result.stderr

    def test_a_list_of_all(self, root: Path) -> None:
        """The oldest first, with its parent, and whether its files are there."""
        first = answer(root, "dataset", "build")
        second = answer(root, "dataset", "build", "--set", "dataset.seed=1")
        shutil.rmtree(root / first["path"])
        rows = answer(root, "dataset", "list")["datasets"]
        assert [(row["dataset_id"], row["parent"], row["is_there"]) for row in rows] == [
            (first["dataset_id"], None, False),
            (second["dataset_id"], first["dataset_id"], True),
        ]
        lines = call(root, "dataset", "list").stdout.splitlines()
        assert lines[0].split()[:2] == ["DATASET", "SCOPE"]
        assert lines[1].endswith("its files are gone")
        assert len(lines) == 3

    def test_show_tells_the_manifest_without_its_lists(self, root: Path) -> None:
        """By any beginning of the id; without one, the newest."""
        built = answer(root, "dataset", "build")
        shown = answer(root, "dataset", "show", built["dataset_id"][:5])
        assert shown == answer(root, "dataset", "show")
        assert shown["counts"] == {"train": built["train"], "validation": built["validation"]}
        assert shown["is_whole"] is True
        assert not {"examples", "dropped_examples"} & shown.keys()
        text = call(root, "dataset", "show").stdout
        assert f"Dataset:     {built['dataset_id']}" in text
        assert "by master:" in text
        (root / built["path"] / "train.jsonl").write_text("")
        assert answer(root, "dataset", "show")["is_whole"] is False

    def test_ids_that_fit_none_or_several(self, root: Path) -> None:
        """Both say which there are."""
        ids = [
            answer(root, "dataset", "build", "--set", f"dataset.seed={seed}")["dataset_id"] for seed in range(17)
        ]  # two of seventeen begin alike
        begins = next(one for one in "0123456789abcdef" if sum(i.startswith(one) for i in ids) > 1)
        several = call(root, "dataset", "show", begins)
        assert several.exit_code == 1
        assert "Give more of the id" in several.stderr
        for wrong in ("zz", ""):
            none = call(root, "dataset", "show", wrong)
            assert none.exit_code == 1
            assert "there is none of this id" in none.stderr
            assert ids[-1] in none.stderr

    def test_diff(self, root: Path) -> None:
        """What came, what went, what is the same, and which settings differ."""
        first = answer(root, "dataset", "build")
        collect(root, *tasks(31, 32, 33, 34, 35), name="b.jsonl")
        second = answer(root, "dataset", "build", "--set", "dataset.max_share=0.9")
        found = answer(root, "dataset", "diff", first["dataset_id"], second["dataset_id"])
        added = found["train"]["added"] + found["validation"]["added"]
        assert sorted(added) == [f"task-{number}" for number in range(31, 36)]
        assert found["train"]["removed"] == found["train"]["changed"] == []
        assert found["train"]["same"] == first["train"]
        assert found["settings"] == {"max_share": [0.8, 0.9]}
        text = call(root, "dataset", "diff", second["dataset_id"], first["dataset_id"]).stdout
        assert f"{len(found['train']['added'])} removed" in text
        assert "  - task-31" in text
        assert "dataset.max_share: 0.9 → 0.8" in text


class TestExport:
    @pytest.fixture
    def built(self, root: Path) -> dict[str, Any]:
        built: dict[str, Any] = answer(root, "dataset", "build")
        return built

    def exported(self, root: Path, form: str) -> list[dict[str, Any]]:
        folder = root / "out"
        written = answer(root, "dataset", "export", "--format", form, "--to", str(folder))
        assert written["format"] == form
        assert sorted(os.listdir(folder)) == ["train.jsonl", "validation.jsonl"]
        lines = (folder / "train.jsonl").read_text().splitlines()
        assert written["train"]["examples"] == len(lines)
        return [json.loads(line) for line in lines]

    def test_claude_is_as_it_is_frozen(self, root: Path, built: dict[str, Any]) -> None:
        """Byte for byte, and no other key: what the provider refuses."""
        found = self.exported(root, "claude")
        for name in ("train.jsonl", "validation.jsonl"):
            assert (root / "out" / name).read_bytes() == (root / built["path"] / name).read_bytes()
        assert all(list(one) == ["system", "messages"] for one in found)

    def test_the_other_formats_hold_the_same(self, root: Path, built: dict[str, Any]) -> None:
        """Each in the shape its provider documents, with every text in its place."""
        claude = self.exported(root, "claude")
        bedrock = self.exported(root, "bedrock-conversation")
        openai = self.exported(root, "openai")
        plain = self.exported(root, "prompt-completion")
        assert built["train"] == len(claude) == len(bedrock) == len(openai) == len(plain)
        for one, other in zip(claude, bedrock, strict=True):
            assert other == {
                "schemaVersion": "bedrock-conversation-2024",
                "system": [{"text": one["system"]}],
                "messages": [{"role": m["role"], "content": [{"text": m["content"]}]} for m in one["messages"]],
            }
        for one, other in zip(claude, openai, strict=True):
            assert other == {"messages": [{"role": "system", "content": one["system"]}, *one["messages"]]}
        for one, other in zip(claude, plain, strict=True):
            asked, answered = (message["content"] for message in one["messages"])
            assert other == {"prompt": f"{one['system']}\n\n{asked}", "completion": answered}

    def test_a_damaged_dataset_is_not_exported(self, root: Path, built: dict[str, Any]) -> None:
        """Nothing half is left where it was to go."""
        path = root / built["path"] / "train.jsonl"
        path.write_bytes(path.read_bytes()[:-30])
        result = call(root, "dataset", "export", "--to", str(root / "out"))
        assert result.exit_code == 1
        assert "Build it again" in result.stderr
        assert os.listdir(root / "out") == []

    def test_a_frozen_dataset_is_not_exported_over_itself(self, root: Path, built: dict[str, Any]) -> None:
        """Nor over another: what is frozen stays so, by whatever way the folder is named."""
        (root / "link").symlink_to(root / layout.DATASETS)
        for folder in (root / built["path"], root / "link" / "new"):
            result = call(root, "dataset", "export", "--format", "openai", "--to", str(folder))
            assert result.exit_code == 2
            assert "export to another folder" in result.stderr
        assert answer(root, "dataset", "show")["is_whole"] is True
        assert os.listdir(root / layout.DATASETS) == [built["dataset_id"]]

    def test_an_unknown_format(self, root: Path, built: dict[str, Any]) -> None:
        """Wrong usage, with those that there are."""
        result = call(root, "dataset", "export", built["dataset_id"], "--format", "alpaca")
        assert result.exit_code == 2
        assert "bedrock-conversation" in result.stderr
