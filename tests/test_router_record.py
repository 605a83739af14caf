"""Recording what the router chose: the record tells who answered, which arm the task is in, and who was tried in vain."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from cortex_autolearn.model import layout, routing
from cortex_autolearn.model.choice import Choice
from cortex_autolearn.model.routing import Route, Served
from cortex_autolearn.record import record
from cortex_autolearn.router import Router

CHAMPION = Choice("claude-sonnet-5", "v1.0.0", "a", "test-1", 10)
CHALLENGER = Choice("arn:aws:1", "ft-20251127-001", "b", "test-1", 10, CHAMPION, "bedrock")
ALONE = Choice("claude-sonnet-5", "v1.0.0")
OTHER = Choice("x", "v0.9.0")
TUNED = Served("tuned", "ft-20251127-001", "base")
EXPERIMENT = Route(Served("v1.0.0", "v1.0.0", "base"), TUNED, "security-master-ft-20251127-001", 50)

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")

ANSWERED = {"model": "v1.0.0", "variant": "a", "experiment": "test-1"}
RESCUED = {"model": "v1.0.0", "variant": "b", "experiment": "test-1", "fallback_from": "ft-20251127-001"}


def recorded(root: Path, **fields: Any) -> dict[str, Any]:
    """Record a task and return what its record says of the routing."""
    (root / layout.COORDINATION).mkdir(exist_ok=True)
    path = record(root, task_id="t", master="a-master", status="completed", **fields)
    found = json.loads(path.read_bytes().splitlines()[-1])
    return {name: found[name] for name in ("model", "variant", "experiment", "fallback_from") if name in found}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"choice": CHAMPION}, ANSWERED),
        ({"choice": CHALLENGER}, {"model": "ft-20251127-001", "variant": "b", "experiment": "test-1"}),
        ({"choice": ALONE}, {"model": "v1.0.0", "variant": "a"}),
        ({"choice": None}, {}),
        ({"choice": CHAMPION, "model": "v1.0.0", "variant": "a"}, ANSWERED),
        ({"choice": CHAMPION, "fallback_from": CHALLENGER}, RESCUED),
        ({"choice": CHALLENGER, "fallback_from": CHALLENGER}, RESCUED),
        ({"choice": CHALLENGER, "fallback_from": "ft-20251127-001"}, RESCUED),
        ({"choice": CHALLENGER, "fallback_from": "arn:aws:1"}, RESCUED),
        ({"choice": CHAMPION, "fallback_from": "ft-20251127-001"}, RESCUED | {"variant": "a"}),
        ({"choice": ALONE, "fallback_from": "other"}, {"model": "v1.0.0", "variant": "a", "fallback_from": "other"}),
        ({"model": "v1.0.0", "fallback_from": CHALLENGER}, {"model": "v1.0.0", "fallback_from": "ft-20251127-001"}),
        ({"model": "v1.0.0", "fallback_from": "ft-1"}, {"model": "v1.0.0", "fallback_from": "ft-1"}),
    ],
)
def test_record_tells_what_the_router_chose(tmp_path: Path, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """Models are named by their versions; a task that the champion rescued stays in the challenger's arm."""
    assert recorded(tmp_path, **fields) == expected


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"choice": "v1.0.0"}, "choice is a str: only what a Router chose"),
        ({"choice": CHAMPION, "model": "ft-1"}, "model is 'ft-1' beside a choice that says 'v1.0.0'"),
        ({"choice": CHALLENGER, "variant": "a"}, "variant is 'a' beside a choice that says 'b'"),
        ({"choice": ALONE, "experiment": "e"}, "experiment is 'e' beside a choice that says None"),
        ({"choice": CHAMPION, "fallback_from": CHAMPION}, "fallback_from is the choice, which has no fallback"),
        ({"fallback_from": 7}, "fallback_from is a int: only text"),
        ({"choice": OTHER, "fallback_from": ["x"]}, "fallback_from is a list: only text"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    """A record that would tell two stories is an error that says which; nothing is written."""
    with pytest.raises(ValueError, match=said):
        recorded(tmp_path, **fields)
    assert not (tmp_path / layout.BRONZE).exists()


def readmes_caller(root: Path, fails: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what the README's function stands among, where some models fail."""

    def create(*, model: str, **_: object) -> SimpleNamespace:
        if model in fails:
            raise ConnectionError(model)
        return SimpleNamespace(content=[SimpleNamespace(text=f"{model} did it")])

    example = next(
        one for one in re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE) if "def work(" in one
    )
    client = SimpleNamespace(messages=SimpleNamespace(create=create))
    names: dict[str, Any] = {"client": client, "SYSTEM": "You are the security-master."}
    exec(example.replace("/srv/cortex", str(root)), names)  # noqa: S102 -- the README is ours
    names["NAMES"]["v1.0.0"] = "champion"
    return names


@pytest.mark.parametrize("fails", [(), ("champion",), ("tuned",), ("champion", "tuned")])
def test_the_readmes_caller_records_whatever_happens(tmp_path: Path, fails: tuple[str, ...]) -> None:
    """The README's function, as it stands there: each task leaves one record, one that failed and one rescued as well."""
    document = routing.document({"security-master": EXPERIMENT}, generated_at="2025-11-27T02:00:00Z")
    path = tmp_path / layout.ROUTES
    path.parent.mkdir(parents=True)
    path.write_bytes(orjson.dumps(document))
    (tmp_path / layout.COORDINATION).mkdir()

    names = readmes_caller(tmp_path, fails)
    for number in range(20):
        with suppress(ConnectionError):
            assert names["work"](f"t{number}", "Look at it.").endswith("did it")
    rows = [
        json.loads(line) for file in (tmp_path / layout.BRONZE).iterdir() for line in file.read_bytes().splitlines()
    ]
    assert [row["task_id"] for row in rows] == [f"t{number}" for number in range(20)]
    assert all(row["created_at"] <= row["completed_at"] for row in rows)
    told = {(row["variant"], row["status"], row["model"], row.get("fallback_from"), "error" in row) for row in rows}
    completed, tuned = "failed" if "champion" in fails else "completed", "ft-20251127-001"
    rescued = ("b", completed, "v1.0.0", tuned, "champion" in fails)
    tried = rescued if "tuned" in fails else ("b", "completed", tuned, None, False)
    assert told == {("a", completed, "v1.0.0", None, "champion" in fails), tried}


@pytest.mark.parametrize("task", ["Look at it.", "Look at report-\udcff.txt."])
def test_the_readmes_caller_has_its_answer_without_a_record(
    tmp_path: Path, task: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A tree that cannot be written, or a text that cannot be recorded, costs no answer, and is told."""
    work = readmes_caller(tmp_path)["work"]  # ROOT has no coordination/
    assert work("t1", task) == "champion did it"
    assert "t1 was not recorded" in caplog.text
    with pytest.raises(ConnectionError):
        readmes_caller(tmp_path, ("champion",))["work"]("t2", task)


def test_a_choice_for_another_master_is_refused(tmp_path: Path) -> None:
    """A choice that strayed to another master's task would count in neither master's test, and nobody would be told."""
    (tmp_path / layout.COORDINATION).mkdir()
    choice = Router(tmp_path).choose("development", "t1")
    with pytest.raises(ValueError, match="master is 'security-master' beside a choice for 'development-master'"):
        record(tmp_path, task_id="t1", master="security-master", status="completed", choice=choice)
    for same in ("development-master", "Development", "development-agent"):
        record(tmp_path, task_id="t1", master=same, status="completed", choice=choice)
