"""The router: who serves which task, and that a caller gets an answer whatever becomes of the file."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cortex_autolearn
from cortex_autolearn.exemplars import index
from cortex_autolearn.model import layout, routing
from cortex_autolearn.model.choice import Choice
from cortex_autolearn.model.routing import Route, Served
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.rollout import routes as rollout_routes
from cortex_autolearn.rollout.registry import Serving
from cortex_autolearn.router import LOOK_EVERY_S, MAX_ROUTES_BYTES, Router

HERE = Path(__file__).parents[1]
TEST = "security-master-ft-20251127-001"
BASE = Served("claude-sonnet-5", "v1.0.0", "base")
TUNED = Served("ft-20251127-001", "ft-20251127-001", "exemplar")

NOTICED_S = 0.1
"""A new file has to be noticed within this time."""


def put(root: Path, content: dict[str, Route] | bytes | Any) -> Path:
    """Replace the routes atomically, as the daemon does."""
    path = root / layout.ROUTES
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, bytes):
        content = orjson.dumps(routing.document(content, generated_at="2025-11-27T02:00:00Z"))
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
    return path


def experiment(percentage: float = 10, version: str = TUNED.version) -> Route:
    return Route(BASE, Served(version, version, "exemplar"), f"security-master-{version}", percentage)


def after_a_look(router: Router, master: str = "security-master", task_id: str = "t") -> Choice:
    """Choose when the next look is due."""
    time.sleep(LOOK_EVERY_S * 1.1)
    return router.choose(master, task_id)


# --- who serves ------------------------------------------------------------------------------------------------------


def test_nothing_known_is_the_default_champion(tmp_path: Path) -> None:
    """Without a file, or even without ROOT, every master is served by its first version."""
    for root in (tmp_path, tmp_path / "nowhere"):
        router = cortex_autolearn.Router(root)
        choice = router.choose("security-master", "t1")
        assert choice == Choice("v1.0.0", "v1.0.0", "a", None, 0, None, "base", "security-master")


def test_a_root_that_is_none_is_told_of(tmp_path: Path) -> None:
    """A mistyped ROOT looks like one whose routes are still to come; where it is a fleet's, nothing is wrong."""
    router = cortex_autolearn.Router(tmp_path)
    assert router.trouble == f"{tmp_path} holds no folder coordination/"
    (tmp_path / layout.COORDINATION).symlink_to("x" * 300)  # cannot be looked at
    assert after_a_look(router).version == "v1.0.0"
    assert router.trouble is not None
    (tmp_path / layout.COORDINATION).unlink()
    (tmp_path / layout.COORDINATION).mkdir()
    assert after_a_look(router).version == "v1.0.0"
    assert router.trouble is None


def test_without_experiment_all_goes_to_the_champion(tmp_path: Path) -> None:
    """A master without an experiment is served by its champion; a master that is not listed, by the default."""
    put(tmp_path, {"security-master": Route(BASE)})
    router = Router(tmp_path)
    chosen = {router.choose("security-master", f"t{number}") for number in range(1_000)}
    assert chosen == {Choice("claude-sonnet-5", "v1.0.0", "a", None, 0, None, "base", "security-master")}
    assert router.choose("cicd-master", "t1").model == "v1.0.0"


@pytest.mark.parametrize("percentage", [0, 1, 10, 12.5, 50, 99, 100])
def test_experiment_goes_by_the_hash(tmp_path: Path, percentage: float) -> None:
    """In an experiment the hash decides, by the percentage; whoever gets the challenger gets the champion to fall back on."""
    put(tmp_path, {"security-master": experiment(percentage)})
    router = Router(tmp_path)
    champion = Choice(*BASE[:2], "a", TEST, percentage, None, "base", "security-master")
    challenger = Choice(*TUNED[:2], "b", TEST, percentage, champion, "exemplar", "security-master")
    for number in range(2_000):
        task_id = f"task-{number}"
        digest = md5_hex(task_id)
        expected = champion if int(digest[:8], 16) % 100 < 100 - percentage else challenger
        assert router.choose("security-master", task_id) == expected


def md5_hex(task_id: str) -> str:
    return hashlib.md5(task_id.encode(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("name", ["security", "security-master", "security-agent", " Security-Master ", "SECURITY"])
def test_master_in_any_spelling(tmp_path: Path, name: str) -> None:
    """A master is found with its suffix, with another or without, as the canonical reading has it."""
    put(tmp_path, {"security-master": experiment(100)})
    assert Router(tmp_path).choose(name, "t1").version == TUNED.version
    put(tmp_path, orjson.dumps({"masters": {name.strip(): {"champion": TUNED._asdict()}}}))
    assert Router(tmp_path).choose("security-master", "t1").version == TUNED.version


class Hostile(str):
    """Text that answers nothing."""

    __slots__ = ()
    __hash__ = str.__hash__

    def encode(self, *args: Any, **kwargs: Any) -> bytes:
        raise OSError("no")

    def strip(self, *args: Any) -> str:
        raise OSError("no")


@pytest.mark.parametrize(
    "master", ["", "../up", "a/b", "x" * 1000, "é", "\udcff", "\0", None, 7, [], {}, b"a", Hostile("a")], ids=ascii
)
@pytest.mark.parametrize("task_id", ["", "t", "\ud800", "\0", None, 7, b"t", object, Hostile("t")], ids=ascii)
def test_choose_never_raises(tmp_path: Path, master: Any, task_id: Any) -> None:
    """Whatever is passed, the default champion serves, under the master's name as it was given, where that is text."""
    put(tmp_path, {"security-master": experiment(50)})
    router = Router(tmp_path)
    for _ in range(2):
        choice = router.choose(master, task_id)
        assert (choice.version, choice.variant, choice.experiment) == ("v1.0.0", "a", None)
        if type(master) is str:
            assert choice.master == master
    assert router.choose("security-master", task_id).version in {"v1.0.0", TUNED.version}


def test_id_that_cannot_be_recorded_is_the_champions(tmp_path: Path) -> None:
    """An id that is no text is part of no experiment: its master's champion serves."""
    put(tmp_path, {"security-master": experiment(99)})
    router = Router(tmp_path)
    for task_id in (None, 7, b"t", object):
        assert router.choose("security", task_id) == router.choose("security", "t").fallback  # type: ignore[arg-type]


def test_many_unknown_masters_take_no_memory(tmp_path: Path) -> None:
    """Names that come from outside are not remembered without end."""
    router = Router(tmp_path)
    for number in range(10_000):
        router.choose(f"m{number}", "t")
        router.choose(f"{number}" * 100, "t")
    assert len(router._loaded.arms) <= 4_096
    assert router.choose("m9999", "t").master == "m9999-master"


def assert_noticed(router: Router, version: str) -> None:
    """Check that what was just written is followed by whoever asks 100 ms later, or before."""
    written = asked = time.monotonic()
    while router.choose("security", "t").version != version:
        assert asked - written < NOTICED_S
        asked = time.monotonic()


# --- a new file ------------------------------------------------------------------------------------------------------


def test_new_file_is_noticed_within_a_tenth_of_a_second(tmp_path: Path) -> None:
    """The first file, a replaced one and one written in place are followed within 100 ms, without a thread."""
    router = Router(tmp_path)
    threads = threading.active_count()
    path = tmp_path / layout.ROUTES
    for number in range(30):
        content = orjson.dumps(
            routing.document({"security-master": experiment(100, f"ft-20251127-{number:03d}")}, generated_at="")
        )
        if number % 3:
            put(tmp_path, content)
        else:  # of the same size, in the same file, and maybe within the same tick of the file system's clock
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        assert_noticed(router, f"ft-20251127-{number:03d}")
    assert threading.active_count() == threads


def test_file_is_looked_at_twenty_times_a_second(tmp_path: Path) -> None:
    """Between two looks nothing is asked of the file system, and of a file that stays, only what it looks like."""
    put(tmp_path, {"security-master": Route(BASE)})
    router = Router(tmp_path)
    while router._loaded.signature is None:  # until the file is old enough to be known by its looks
        after_a_look(router)
    known = router._loaded
    looks = set()
    started = time.monotonic()
    while time.monotonic() - started < 0.5:
        router.choose("security-master", "t")
        looks.add(router._look_at)
    assert len(looks) <= 11
    assert router._loaded is known


DAMAGES: dict[str, Any] = {
    "deleted": lambda path, _: path.unlink(),
    "folder deleted": lambda path, _: (path.unlink(), path.parent.rmdir()),
    "empty": lambda path, _: path.write_bytes(b""),
    "half": lambda path, data: path.write_bytes(data[: len(data) // 2]),
    "NUL": lambda path, data: path.write_bytes(bytes(len(data))),
    "no JSON": lambda path, _: path.write_bytes(b"\xff\xfe{}"),
    "deep": lambda path, _: path.write_bytes(b"[" * 100_000),
    "NaN": lambda path, data: path.write_bytes(data.replace(b"10", b"NaN")),
    "too large": lambda path, data: path.write_bytes(data + b" " * MAX_ROUTES_BYTES),
    "sparse": lambda path, _: os.truncate(path, 1 << 40),
    "folder": lambda path, _: (path.unlink(), path.mkdir()),
    "FIFO": lambda path, _: (path.unlink(), subprocess.run(["mkfifo", path], check=True)),
    "link": lambda path, _: (path.rename(path.with_name("x")), path.symlink_to("x")),
    "link to itself": lambda path, _: (path.unlink(), path.symlink_to(path)),
    "link to a device": lambda path, _: (path.unlink(), path.symlink_to("/dev/zero")),
    "file for a folder": lambda path, _: (path.unlink(), path.parent.rmdir(), path.parent.write_bytes(b"")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_last_good_routes_stay(tmp_path: Path, damage: str) -> None:
    """Whatever becomes of the file, the last good routes are followed, at once, and the router says why; then the new ones."""
    path = put(tmp_path, {"security-master": experiment(10)})
    router = Router(tmp_path)
    good = [router.choose("security-master", f"t{number}") for number in range(100)]
    DAMAGES[damage](path, path.read_bytes())
    before = time.monotonic()
    after_a_look(router)
    assert time.monotonic() - before < 1
    assert [router.choose("security-master", f"t{number}") for number in range(100)] == good
    assert str(path) in (router.trouble or "")
    fresh = Router(tmp_path)
    assert fresh.choose("security-master", "t").version == "v1.0.0"
    if path.is_dir():
        path.rmdir()
    if path.parent.is_file():
        path.parent.unlink()
    path.unlink(missing_ok=True)
    put(tmp_path, {"security-master": Route(TUNED)})
    assert after_a_look(router).version == TUNED.version
    assert router.trouble is None
    assert after_a_look(fresh).version == TUNED.version


def test_same_file_again_is_no_trouble(tmp_path: Path) -> None:
    """A file that went away and came back as it was is followed, and nothing is wrong any more."""
    path = put(tmp_path, {"security-master": experiment(10)})
    router = Router(tmp_path)
    path.rename(path.with_suffix(".away"))
    after_a_look(router)
    assert "No such file" in (router.trouble or "")
    path.with_suffix(".away").rename(path)
    after_a_look(router)
    assert router.trouble is None


def test_every_truncation_keeps_the_last_good_routes(tmp_path: Path) -> None:
    """A file cut anywhere, byte by byte, is never followed."""
    data = orjson.dumps(routing.document({"security-master": experiment(10)}, generated_at="2025-11-27T02:00:00Z"))
    path = put(tmp_path, data)
    router = Router(tmp_path)
    good = router.choose("security-master", "t")
    for length in range(len(data)):
        path.write_bytes(data[:length])
        router._look_at = 0.0
        assert router.choose("security-master", "t") == good
        assert router.trouble is not None


SERVED: dict[str, Any] = {"model": "m", "version": "v", "kind": "base"}
GOOD: dict[str, Any] = {"champion": SERVED, "challenger": SERVED, "experiment": "e", "challenger_percentage": 10}


BAD_SERVED: list[dict[str, Any]] = [
    *({"model": bad} for bad in ("", None, 7, "x" * 2_049, "a\nb")),
    *({"version": bad} for bad in ("", None, "../up")),
    *({"kind": bad} for bad in ("", None, 1)),
]
BAD_ROUTES: list[dict[str, Any]] = [
    *({"champion": SERVED | bad} for bad in BAD_SERVED),
    {"champion": None},
    {"champion": "v1.0.0"},
    {"champion": []},
    {"challenger": {}},
    {"challenger": "ft-1"},
    *({"experiment": bad} for bad in ("../up", 7, "")),
    *({"challenger_percentage": bad} for bad in (None, "10", -1, 101, True)),
]
BAD_MASTERS: list[Any] = [None, [], {"../up": GOOD}, {"": GOOD}, {"a": GOOD, "a-master": GOOD}, {"a": None}, {"a": {}}]


@pytest.mark.parametrize(
    "document",
    [None, [], {}]
    + [{"masters": masters} for masters in BAD_MASTERS]
    + [{"masters": {"good": GOOD, "a": GOOD | bad}} for bad in BAD_ROUTES],
)
def test_nonsense_is_refused_as_a_whole(tmp_path: Path, document: Any) -> None:
    """A document with one thing in it that cannot be is not followed, not even in the rest."""
    put(tmp_path, {"security-master": experiment(10)})
    router = Router(tmp_path)
    good = router.choose("security-master", "t")
    put(tmp_path, orjson.dumps(document))
    assert after_a_look(router) == good
    assert router.choose("good", "t").version == "v1.0.0"
    assert router.trouble is not None


def test_half_an_experiment_is_none(tmp_path: Path) -> None:
    """A challenger without an experiment, and an experiment without a challenger, leave all tasks to the champion."""
    for missing in ("challenger", "experiment"):
        put(tmp_path, orjson.dumps({"masters": {"a": GOOD | {missing: None, "challenger_percentage": 100}}}))
        choice = Router(tmp_path).choose("a", "t")
        assert (choice.variant, choice.experiment, choice.challenger_percentage) == ("a", None, 0)


ODDITIES = """
import json, os, sys, time
from cortex_autolearn import Router
from cortex_autolearn.model import layout
root, case = sys.argv[1:]
path = os.path.join(root, layout.ROUTES)
def put(version):
    champion = {"model": version, "version": version, "kind": "base"}
    with open(path + ".tmp", "w") as file:
        json.dump({"masters": {"a-master": {"champion": champion}}}, file)
    os.replace(path + ".tmp", path)
def wait_for(router, version):
    deadline = time.monotonic() + 5
    while router.choose("a", "t").version != version:
        assert time.monotonic() < deadline, router.trouble
put("v1")
router = Router(root)
assert router.choose("a", "t").version == "v1"
if case == "fork":
    child = os.fork()
    if child:
        put("v2")
    wait_for(router, "v2")
    if child == 0:
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
elif case == "rights":
    os.chmod(path, 0o000)
    if os.geteuid() == 0:
        os.setuid(65534)
    time.sleep(0.06)
    assert router.choose("a", "t").version == "v1"
    print(router.trouble)
elif case == "relative":
    os.chdir("/")
    put("v2")
    wait_for(router, "v2")
elif case == "gone":
    os.chdir(root)
    relative = Router(".")
    os.chdir("/")
    put("v3")
    wait_for(relative, "v3")
"""


@pytest.mark.parametrize("case", ["fork", "rights", "relative", "gone"])
def test_process_that_changes(tmp_path: Path, case: str) -> None:
    """A fork, lost rights and another current folder change nothing of what a router knows and sees."""
    (tmp_path / layout.AUTOLEARN).mkdir(parents=True)
    if case == "rights":  # pytest's folders are private, and the process becomes somebody else
        for folder in (tmp_path, *tmp_path.parents):
            if folder.owner() == "root" and folder.stat().st_mode & 0o777 == 0o700 and folder != Path("/root"):
                folder.chmod(0o711)
    done = subprocess.run([sys.executable, "-c", ODDITIES, tmp_path, case], capture_output=True, text=True, cwd=HERE)
    assert done.returncode == 0, done.stderr
    if case == "rights":
        assert "Permission denied" in done.stdout


def test_threads_share_a_router(tmp_path: Path) -> None:
    """Threads that choose while the file is replaced see whole documents only, each later than the last."""
    put(tmp_path, {"security-master": experiment(50, "ft-20251127-000")})
    router = Router(tmp_path)
    wrong: list[object] = []
    ended = threading.Event()

    def choose() -> None:
        last = ""
        while not ended.is_set():
            choice = router.choose("security-master", "task-2")
            if choice.version < last or choice.experiment != f"security-master-{choice.version}":
                wrong.append((choice, last))
            last = choice.version

    threads = [threading.Thread(target=choose) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(1, 40):
        put(tmp_path, {"security-master": experiment(50, f"ft-20251127-{number:03d}")})
        time.sleep(0.005)
    ended.set()
    for thread in threads:
        thread.join(10)
    assert wrong == []
    assert after_a_look(router, task_id="task-2").version == "ft-20251127-039"


def test_threads_that_come_after_a_rest_know_what_is_new(tmp_path: Path) -> None:
    """However long nobody asked, of many who then ask at once none is sent to who served before."""
    put(tmp_path, {"security-master": Route(BASE)})
    router = Router(tmp_path)
    stale: list[str] = []

    def choose(together: threading.Barrier, version: str) -> None:
        together.wait()
        chosen = router.choose("security-master", "t").version
        if chosen != version:
            stale.append(chosen)

    for number in range(20):
        version = f"ft-20251127-{number:03d}"
        put(tmp_path, {"security-master": Route(Served(version, version))})
        time.sleep(LOOK_EVERY_S * 3)
        together = threading.Barrier(16)
        threads = [threading.Thread(target=choose, args=(together, version)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert stale == []


def test_thread_that_is_lost_while_it_looks_stops_no_other(tmp_path: Path) -> None:
    """When a look never ends (its thread hangs, or stayed behind in a fork), the next one is made all the same."""
    put(tmp_path, {"security-master": Route(BASE)})
    router = Router(tmp_path)
    assert router._looking.acquire(blocking=False)
    put(tmp_path, {"security-master": Route(TUNED)})
    assert_noticed(router, TUNED.version)


def test_choice_and_router_travel(tmp_path: Path) -> None:
    """A choice and a router can be sent to another process, and the choice still writes its request."""
    put(tmp_path, {"security-master": Route(BASE)})
    router: Router = pickle.loads(pickle.dumps(Router(tmp_path)))  # noqa: S301 -- our own
    choice = router.choose("security-master", "t")
    sent: Choice = pickle.loads(pickle.dumps(choice))  # noqa: S301 -- likewise
    assert sent == choice
    assert sent.request(system="s", input="i") == choice.request(system="s", input="i")
    assert hash(sent) == hash(choice)
    with pytest.raises(AttributeError):
        choice.model = "other"  # type: ignore[misc]


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("base", {"model": "m", "max_tokens": 100, "system": "s", "messages": [{"role": "user", "content": "i"}]}),
        (
            "openai",
            {
                "model": "m",
                "max_completion_tokens": 100,
                "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "i"}],
            },
        ),
        (
            "bedrock",
            {
                "modelId": "m",
                "system": [{"text": "s"}],
                "messages": [{"role": "user", "content": [{"text": "i"}]}],
                "inferenceConfig": {"maxTokens": 100},
            },
        ),
    ],
)
def test_request_is_what_the_providers_client_takes(tmp_path: Path, kind: str, expected: dict[str, Any]) -> None:
    """Each kind of model gets the arguments of its provider's client."""
    put(tmp_path, {"a-master": Route(Served("m", "v", kind))})
    choice = Router(tmp_path).choose("a", "t")
    assert choice.request(system="s", input="i", max_tokens=100) == expected
    # The one client that must be told a limit is told one; of the others the model's own holds.
    assert ("8192" in json.dumps(choice.request(system="s", input="i"))) is (kind == "base")


def model_with_examples(folder: Path, base: str) -> None:
    """Write the folder of a model with two worked examples."""
    folder.mkdir(parents=True)
    examples = [
        {"task_id": "e1", "master": "a-master", "task_type": "scan", "input": "Check the gateway's certificate", "output": "Renewed."},
        {"task_id": "e2", "master": "a-master", "task_type": "scan", "input": "Count the open ports", "output": "Three."},
    ]  # fmt: skip
    lines = [json.dumps(one).encode() + b"\n" for one in examples]
    (folder / "examples.jsonl").write_bytes(b"".join(lines))
    starts = [0, len(lines[0])]
    rows = [
        index.Row(start, len(line), one["master"], one["task_type"], one["input"], one["output"])
        for start, line, one in zip(starts, lines, examples, strict=True)
    ]
    index.write(folder / "index.db", rows)
    sizes = {name: {"bytes": (folder / name).stat().st_size} for name in ("examples.jsonl", "index.db")}
    manifest = {"format": 1, "kind": "exemplar", "base": base, "files": sizes, "recipe": {"k": 1}}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_models_that_are_asked_stay_open(tmp_path: Path) -> None:
    """Of more models than are kept open the one that was not asked for longest is closed, not the one opened first."""
    versions = [f"ft-20251127-{number:03d}" for number in range(1, 11)]
    masters = {version: f"m{version[-3:]}-master" for version in versions}
    put(tmp_path, {master: Route(Served(BASE.model, version, "exemplar")) for version, master in masters.items()})
    for version in versions:
        model_with_examples(tmp_path / layout.MODELS / version, BASE.model)
    router = Router(tmp_path)

    def ask(version: str) -> None:
        router.choose(masters[version], "t").request(system="s", input="Is it valid?")

    def opened() -> set[str]:
        links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return {Path(link).parent.name for link in links if link.endswith("/examples.jsonl")}

    for version in versions[:8]:
        ask(version)
    ask(versions[0])
    for version in versions[8:]:
        ask(version)
    assert opened() == {versions[0], *versions[3:]}


def test_exemplar_model_brings_its_examples(tmp_path: Path) -> None:
    """A model with examples asks its base model, with the example that fits the task; without its folder it says so."""
    put(tmp_path, {"a-master": Route(TUNED)})
    choice = Router(tmp_path).choose("a", "t")
    with pytest.raises(BoundaryError, match=TUNED.version):
        choice.request(system="s", input="Is the certificate of the gateway valid?")
    model_with_examples(tmp_path / layout.MODELS / TUNED.version, "claude-sonnet-5")
    request = choice.request(
        system="s", input="Is the certificate of the gateway valid?", task_type="scan", max_tokens=50
    )
    assert (request["model"], request["max_tokens"]) == ("claude-sonnet-5", 50)
    assert "Renewed." in json.dumps(request)
    assert "Three." not in json.dumps(request)
    assert request["messages"][-1]["role"] == "user"
    assert "Is the certificate of the gateway valid?" in json.dumps(request["messages"][-1])
    sent: Choice = pickle.loads(pickle.dumps(choice))  # noqa: S301 -- our own
    assert sent.request(system="s", input="Count ports") == choice.request(system="s", input="Count ports")


def test_request_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    """A kind that a newer version wrote is an error that says so; so is a choice made by hand."""
    put(tmp_path, {"a-master": Route(Served("m", "v", "telepathy"))})
    with pytest.raises(BoundaryError, match=r"the kind 'telepathy' are not known.*at least as new"):
        Router(tmp_path).choose("a", "t").request(system="s", input="i")
    with pytest.raises(ValueError, match="did not come from a Router"):
        Choice("m", "v").request(system="s", input="i")


# --- what is written -------------------------------------------------------------------------------------------------

NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)
SERVED_ONES = st.tuples(
    st.text(st.characters(categories=["L", "N"]), min_size=1), NAMES, st.sampled_from(["base", "exemplar"])
).map(lambda fields: Served(*fields))
ROUTES = st.one_of(
    SERVED_ONES.map(Route),
    st.tuples(SERVED_ONES, SERVED_ONES, NAMES, st.integers(0, 100)).map(lambda fields: Route(*fields)),
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(NAMES.map(layout.master_name).map(str), ROUTES))
def test_what_is_written_is_read(routes: dict[str, Route]) -> None:
    """Routes come back from their document as they were."""
    assert routing.routes_of(orjson.loads(orjson.dumps(routing.document(routes, generated_at="now")))) == routes


def test_registry_becomes_the_document() -> None:
    """Masters that are tested or watched have their challenger in the document, all others their champion alone."""
    models = {"ft-20251127-001": TUNED, "v1.0.0": BASE}
    tested = Serving("security-master", "v1.0.0", "testing", "ft-20251127-001", TEST)
    watched = Serving("cicd-master", "ft-20251127-001", "watching", "v1.0.0", f"{TEST}-watch")
    others = [
        Serving("a-master", "v2.0.0"),
        Serving("b-master", "v1.0.0", "deploying", "ft-20251127-001"),
        Serving("c-master", "v1.0.0", "paused", "ft-20251127-001", "c-master-ft-20251127-001"),
    ]
    document = rollout_routes.document(
        [tested, watched, *others],
        models=models,
        percentages={TEST: 10, f"{TEST}-watch": 20},
        generated_at="2025-11-27T02:00:00Z",
    )
    base, tuned = BASE._asdict(), TUNED._asdict()
    alone = {"challenger": None, "experiment": None, "challenger_percentage": 0}
    assert document == {
        "generated_at": "2025-11-27T02:00:00Z",
        "masters": {
            "a-master": {"champion": {"model": "v2.0.0", "version": "v2.0.0", "kind": "base"}, **alone},
            "b-master": {"champion": base, **alone},
            "c-master": {"champion": base, **alone},
            "cicd-master": {
                "champion": tuned,
                "challenger": base,
                "experiment": f"{TEST}-watch",
                "challenger_percentage": 20,
            },
            "security-master": {
                "champion": base,
                "challenger": tuned,
                "experiment": TEST,
                "challenger_percentage": 10,
            },
        },
    }
    assert list(document["masters"]) == sorted(document["masters"])


# --- what it costs ---------------------------------------------------------------------------------------------------

IMPORTS = """
import sys, time
started = time.process_time()
from cortex_autolearn import record
middle = time.process_time()
from cortex_autolearn import Router
router = Router(".")
router.choose("security-master", "t1").request(system="s", input="i")
print(time.process_time() - middle, time.process_time() - started)
print(*sorted(sys.modules))
"""
HEAVY = (
    "msgspec structlog click apscheduler watchfiles anthropic boto3 openai numpy asyncio sqlite3 subprocess socket ssl "
    "multiprocessing logging tempfile http email cortex_autolearn.settings cortex_autolearn.exemplars "
    "cortex_autolearn.adapters cortex_autolearn.canonical cortex_autolearn.model.policy"
).split()


def test_router_imports_nothing_heavy(tmp_path: Path) -> None:
    """Router and record, imported and used, bring in the standard library's light parts and orjson; nothing that takes long."""
    runs = []
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", IMPORTS],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(HERE)},
        )
        times, modules = done.stdout.splitlines()
        assert set(HEAVY).isdisjoint(modules.split())
        runs.append([float(one) for one in times.split()])
    router_s, both_s = map(min, zip(*runs, strict=True))
    assert router_s < 0.05
    assert both_s < 0.25


def test_choice_takes_microseconds(tmp_path: Path) -> None:
    """A choice takes a few microseconds, looks at the file included (benchmarks/router.py measures it well)."""
    put(tmp_path, {"security-master": experiment(10)})
    router = Router(tmp_path)
    ids = [f"task-{number}" for number in range(10_000)]
    took = []
    for _ in range(5):
        started = time.process_time()
        for task_id in ids:
            router.choose("security-master", task_id)
        took.append(time.process_time() - started)
    assert min(took) / len(ids) < 10e-6
