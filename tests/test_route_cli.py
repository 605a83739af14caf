"""``route`` and ``render``: what callers in other languages see, word for word, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from cortex_autolearn.cli.render import MAX_INPUT_BYTES
from cortex_autolearn.model import layout, routing
from cortex_autolearn.model.routing import Route, Served
from cortex_autolearn.model.training_policy import DEFAULT_SYSTEM_PROMPT
from cortex_autolearn.router import Router

TEST = "security-master-ft-20251127-001"
TUNED = Served("ft-20251127-001", "ft-20251127-001", "openai")
ROUTES = {
    "security-master": Route(Served("claude-sonnet-5", "v1.0.0"), TUNED, TEST, 10),
    "cicd-master": Route(Served("claude-sonnet-5", "v1.2.0")),
}
TO_CHALLENGER = "t-28"
TO_CHAMPION = "t-1"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A ROOT with routes and nothing else: no state, no bronze."""
    (tmp_path / layout.COORDINATION).mkdir()
    path = tmp_path / layout.ROUTES
    path.parent.mkdir(parents=True)
    path.write_bytes(orjson.dumps(routing.document(ROUTES, generated_at="2025-11-27T02:00:00Z")))
    return tmp_path


def call(
    root: Path, *args: str | bytes, stdin: bytes = b"", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Call the program as a shell does: a process of its own, arguments of any bytes."""
    cleared = {name: value for name, value in os.environ.items() if not name.startswith("CORTEX_")}
    command = [sys.executable, "-m", "cortex_autolearn", "--root", root, *args]
    return subprocess.run(command, input=stdin, capture_output=True, env=cleared | (env or {}))


def printed(root: Path, *args: str | bytes, stdin: bytes = b"", env: dict[str, str] | None = None) -> Any:
    done = call(root, *args, stdin=stdin, env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b"\n") == 1
    return json.loads(done.stdout)


def test_route_as_json(root: Path) -> None:
    """The object has the agreed keys; a master may be named without its suffix; nothing is written to ROOT."""
    before = sorted(root.rglob("*"))
    assert printed(root, "route", "security", TO_CHALLENGER, "--json") == {
        "master": "security-master",
        "task_id": TO_CHALLENGER,
        "variant": "b",
        "model": "ft-20251127-001",
        "version": "ft-20251127-001",
        "experiment": TEST,
        "challenger_percentage": 10,
        "kind": "openai",
    }
    assert printed(root, "route", "unheard-of", TO_CHALLENGER, "--json") == {
        "master": "unheard-of-master",
        "task_id": TO_CHALLENGER,
        "variant": "a",
        "model": "v1.0.0",
        "version": "v1.0.0",
        "experiment": None,
        "challenger_percentage": 0,
        "kind": "base",
    }
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize(
    ("master", "task_id", "expected"),
    [
        ("security", TO_CHALLENGER, f"ft-20251127-001: variant b of {TEST} (10 % of the tasks)\n"),
        (
            "security-master",
            TO_CHAMPION,
            f"v1.0.0, which its provider calls claude-sonnet-5: variant a of {TEST} (90 % of the tasks)\n",
        ),
        ("cicd", "t", "v1.2.0, which its provider calls claude-sonnet-5: champion of cicd-master\n"),
        ("other", "t", "v1.0.0: champion of other-master\n"),
    ],
)
def test_route_for_people(root: Path, master: str, task_id: str, expected: str) -> None:
    """Without --json it is one line."""
    done = call(root, "route", master, task_id)
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, expected, b"")


@pytest.mark.parametrize("locale", ["C.UTF-8", "C", "POSIX", "de_DE.ISO-8859-1"])
@pytest.mark.parametrize("raw", [b"\xff\xfe", "ü😀".encode(), b"a b\nc", b"\xed\xa0\x80", b"-x", b"\\"])
def test_any_bytes_are_a_task_id(root: Path, raw: bytes, locale: str) -> None:
    """An id of any bytes is routed by these bytes, whatever the locale; in JSON a byte that is no UTF-8 is U+FFFD."""
    found = printed(root, "route", "--json", "security", "--", raw, env={"LC_ALL": locale})
    expected = Router(root).choose("security", raw.decode("utf-8", "surrogateescape"))
    assert found["version"] == expected.version
    assert found["task_id"] == raw.decode("utf-8", "replace")


def test_render_prints_the_request(root: Path) -> None:
    """The request is for the model that was chosen, with the configured system prompt or another; stdin as it is."""
    text = "Look at the certificates.\nAll of them: ü😀\n"
    assert printed(root, "render", "cicd", "t", stdin=text.encode()) == {
        "model": "claude-sonnet-5",
        "max_tokens": 8192,
        "system": DEFAULT_SYSTEM_PROMPT.replace("{master}", "cicd-master"),
        "messages": [{"role": "user", "content": text}],
    }
    configured = ["--set", "training.system_prompt=You are the {master}."]
    assert printed(root, "render", "cicd", "t", *configured, stdin=b"x")["system"] == "You are the cicd-master."
    options = ["--system", "Be brief.", "--max-tokens", "100", "--task-type", "scan"]
    assert printed(root, "render", "security", TO_CHALLENGER, *options, stdin=b"x") == {
        "model": "ft-20251127-001",
        "max_completion_tokens": 100,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "x"}],
    }


@pytest.mark.parametrize(
    ("stdin", "said"),
    [
        (b"", "cannot read the input: stdin: it is empty. Hand over what the task asks"),
        (b" \n", "it is empty"),
        (b"abc\xffdef", "byte 3 is not UTF-8 (0xff). Convert it"),
        (b"x" * (MAX_INPUT_BYTES + 1), "it is longer than 16,777,216 bytes. Shorten it"),
    ],
    ids=["empty", "blank", "latin", "huge"],
)
def test_render_refuses_input_that_is_none(root: Path, stdin: bytes, said: str) -> None:
    """Input that no request can hold is an error in words, and prints no request."""
    done = call(root, "render", "security", "t", stdin=stdin)
    assert (done.returncode, done.stdout) == (1, b"")
    assert said in done.stderr.decode()


@pytest.mark.parametrize("command", ["route", "render"])
@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["../up", "t"], "'../up' is no name of a master"),
        (["", "t"], "'' is no name of a master"),
        (["security", ""], "it is empty"),
        (["security"], "Missing argument 'TASK_ID'"),
    ],
)
def test_wrong_usage_is_2(root: Path, command: str, args: list[str], said: str) -> None:
    """What can be no master and no id is wrong usage."""
    done = call(root, command, *args, stdin=b"x")
    assert (done.returncode, done.stdout) == (2, b"")
    assert said in done.stderr.decode()


@pytest.mark.parametrize("command", ["route", "render"])
def test_root_that_is_none_is_1(tmp_path: Path, command: str) -> None:
    """A wrong ROOT is an error that says what is missing, not the default champion."""
    done = call(tmp_path / "nowhere", command, "security", "t", stdin=b"x")
    assert (done.returncode, done.stdout) == (1, b"")
    assert f"cannot route a task: {tmp_path}/nowhere: it holds no folder coordination/" in done.stderr.decode()


def test_routes_that_cannot_be_followed_are_told(root: Path) -> None:
    """With a damaged file the default champion serves, and stderr says why; the exit code stays 0."""
    (root / layout.ROUTES).write_bytes(b"{")
    done = call(root, "route", "security", "t")
    assert (done.returncode, done.stdout) == (0, b"v1.0.0: champion of security-master\n")
    assert b"The routes are not followed, so this is the default champion: " in done.stderr


def test_kind_that_is_not_known_is_1(root: Path) -> None:
    """A model that this version cannot call is named, with the remedy."""
    document = routing.document({"a-master": Route(Served("m", "v9", "telepathy"))}, generated_at="")
    (root / layout.ROUTES).write_bytes(orjson.dumps(document))
    done = call(root, "render", "a", "t", stdin=b"x")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"cannot write a request: v9: models of the kind 'telepathy' are not known" in done.stderr
