"""The daemon towards its operators: health, readiness, metrics, status, and what systemd is told."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from service_support import PATIENCE_S, PROGRAM, address, daemon, get, health, stop, until
from support import good, line

from cortex_autolearn import settings
from cortex_autolearn.adapters import lock, observe
from cortex_autolearn.adapters.metrics import Family, Sample, render
from cortex_autolearn.adapters.systemd import Notifier
from cortex_autolearn.daemon import Daemon
from cortex_autolearn.model import layout
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.service import Service, numbers, stale_after_s
from cortex_autolearn.wiring import build

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[1]
UNITS = ("_seconds", "_bytes", "_ratio", "_usd")
QUICK = {"CORTEX_AUTOLEARN__DAEMON__HEARTBEAT_S": "1"}


def metrics_of(root: Path) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Ask for the metrics, and return each sample's value by its name and labels, as a Prometheus would read them."""
    status, head, body = get(address(root), "/metrics")
    assert status == 200
    assert "content-type: text/plain; version=" in head
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


def test_a_daemon_is_asked(tmp_path: Path) -> None:
    """Health, readiness, numbers and status are told while it runs, and what it did shows in them."""
    bronze = tmp_path / layout.BRONZE
    bronze.mkdir(parents=True)
    (bronze / "a.jsonl").write_bytes(
        b"".join(line(good(f"t{n}")) for n in range(50)) + line(good("bad", status="failed"))
    )
    with daemon(tmp_path) as process:
        to = address(tmp_path)
        assert get(to, "/healthz")[0] == 200
        until(lambda: get(to, "/readyz")[0] == 200, "readiness")
        found: dict[Any, float] = {}

        def is_collected() -> bool:
            # Tasks are decided on a moment before their run has ended, is recorded, and is counted.
            found.update(metrics_of(tmp_path))
            return (
                found["cortex_autolearn_tasks_waiting", ()] == 0
                and found["cortex_autolearn_tasks", (("state", "final"),)] == 51
                and found["cortex_autolearn_job_runs_total", (("job", "collection"), ("result", "ok"))] >= 1
                and ("cortex_autolearn_job_last_success_timestamp_seconds", (("job", "collection"),)) in found
            )

        until(is_collected, "the collection")
        told = json.loads(get(to, "/status")[2])
        split = {
            name: len((tmp_path / layout.OUTCOMES / name / "20251126.jsonl").read_bytes().splitlines())
            for name in ("training", "validation")
        }
        assert sum(split.values()) == 50
        for name, count in split.items():
            assert found["cortex_autolearn_collected_examples", (("split", name),)] == count
        assert told["data_collection"]["training_examples"] == split["training"]
        assert found["cortex_autolearn_training_examples_target", ()] == told["data_collection"]["min_required"]
        assert found["cortex_autolearn_tasks_rejected", (("reason", "Not successful"),)] == 1
        assert found["cortex_autolearn_job_runs_total", (("job", "collection"), ("result", "ok"))] >= 1
        assert found["cortex_autolearn_job_runs_total", (("job", "collection"), ("result", "failed"))] == 0
        assert found["cortex_autolearn_job_duration_seconds_count", (("job", "collection"),)] >= 1
        assert (
            abs(found["cortex_autolearn_job_last_success_timestamp_seconds", (("job", "collection"),)] - time.time())
            < 60
        )
        assert found["cortex_autolearn_job_next_run_timestamp_seconds", (("job", "medallion"),)] > time.time()
        assert found["cortex_autolearn_silver_lag_bytes", ()] == 0
        assert found["cortex_autolearn_state_readable", ()] == 1
        assert found["cortex_autolearn_log_lines_dropped_total", (("cause", "queue_full"),)] == 0
        assert found["cortex_autolearn_events_total", (("event", "daemon_started"),)] == 1
        assert found["process_resident_memory_bytes", ()] > 1e6
        assert health(tmp_path) == (0, {"ok": True, "status": "ok", "by": "http"})
        assert health(tmp_path, "--ready")[0] == 0
        code, log = stop(process)
    assert code == 0
    assert '"http_listening"' in log
    assert health(tmp_path)[0] == 1
    assert health(tmp_path)[1]["status"] == "no daemon runs here"


def test_names_follow_the_conventions() -> None:
    """A metric's name is its unit's and its kind's; its labels are words; it has a sentence of help."""
    names = [family.name for family in numbers.FAMILIES]
    assert len(set(names)) == len(names)
    for family in numbers.FAMILIES:
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z]", family.name), family
        assert not family.name.endswith(("_total", "_count", "_sum", "_info", "_bucket")), family
        assert family.help.endswith("."), family
        assert all(re.fullmatch(r"[a-z]+", label) for label in family.labels), family
        if family.kind == "histogram":
            assert family.name.endswith(UNITS), family
        for word in ("second", "byte", "dollar"):
            if word in family.help.lower() and "since 1970" not in family.help and "loop" not in family.help:
                assert family.name.endswith(UNITS), family


def test_a_test_of_two_models_has_its_place() -> None:
    """What runs against what shows by variant, with the gain by measure, as soon as somebody hands it in."""
    test = numbers.Test(
        "security-master-ft-20251127-001",
        "security-master",
        (numbers.Variant("a", {"completed": 90, "failed": 2}, 4.1), numbers.Variant("b", {"completed": 10}, None)),
        {"quality": 0.03},
    )
    text = render(numbers.FAMILIES, numbers._of_test(test))[0].decode()
    labels = 'master="security-master",outcome="completed",test="security-master-ft-20251127-001",variant="b"'
    assert f"cortex_autolearn_ab_test_tasks{{{labels}}} 10.0" in text
    assert 'measure="quality"' in text
    assert text.count("ab_test_quality_score{") == 1


def test_a_look_that_fails_loses_no_event(tmp_path: Path) -> None:
    """Events and decisions are counted once, also where a look at something else failed in between."""
    ledger = numbers.Ledger()
    with closing(build(tmp_path, environ={}, init=True)) as app:
        with app.store.write() as transaction:
            transaction.event("auto_rollback")
            transaction.connection.execute("ALTER TABLE models RENAME TO away")
        with pytest.raises(BoundaryError):
            ledger.read(app)
        with app.store.write() as transaction:
            transaction.connection.execute("ALTER TABLE away RENAME TO models")
        assert ledger.read(app).events == {"auto_rollback": 1}
        assert ledger.read(app).events == {"auto_rollback": 1}


def test_a_sample_must_be_declared() -> None:
    """What no family announces, or with other labels than announced, is a bug and no number."""
    family = Family("things", "gauge", "Things.", ("kind",))
    with pytest.raises(ValueError, match="things"):
        render([], [Sample(family, ("a",), 1)])
    with pytest.raises(ValueError, match="things"):
        render([family], [Sample(family, (), 1)])


@pytest.mark.parametrize(("before", "after"), [(1, 3_600), (3_600, 1)], ids=["slower", "faster"])
def test_a_reload_changes_the_heartbeat(tmp_path: Path, before: int, after: int) -> None:
    """A heartbeat is late by the pause that it was made for: neither /healthz nor the watchdog takes another's."""
    config = tmp_path / layout.CONFIG
    config.write_text(f"[daemon]\nheartbeat_s = {before}\n")
    stale_s = stale_after_s(1)
    with daemon(tmp_path) as process:
        to = address(tmp_path)
        until(lambda: get(to, "/readyz")[0] == 200, "readiness")
        config.write_text(f"[daemon]\nheartbeat_s = {after}\n")
        process.send_signal(signal.SIGHUP)
        said = until(
            lambda: (told := json.loads(get(to, "/healthz")[2]))["heartbeat_age_seconds"] > stale_s and told,
            "an age that would be late for the other pause",
        )
        assert said["status"] == "ok"
        fed_at = (tmp_path / layout.DAEMON_LOCK).stat().st_mtime
        until(lambda: (tmp_path / layout.DAEMON_LOCK).stat().st_mtime > fed_at, "the watchdog's food")
        assert stop(process)[0] == 0


def test_health_without_http(tmp_path: Path) -> None:
    """Where HTTP is off, the lock and the time of its file tell; readiness cannot be told."""
    with daemon(tmp_path, "--set", "http.enabled=false", environ=QUICK) as process:
        until(lambda: "stale_after_s" in lock.holder(tmp_path / layout.DAEMON_LOCK), "the note")
        assert health(tmp_path) == (0, {"ok": True, "status": "ok", "by": "heartbeat"})
        assert health(tmp_path, "--ready")[0] == 1
        process.send_signal(signal.SIGSTOP)
        os.utime(tmp_path / layout.DAEMON_LOCK, (1, 1))  # as if it had stood still for long
        code, said = health(tmp_path)
        assert code == 1
        assert "heartbeat" in said["status"]
        process.send_signal(signal.SIGCONT)
        until(lambda: health(tmp_path)[0] == 0, "the heartbeat")


def test_a_stopped_process_is_unhealthy(tmp_path: Path) -> None:
    """When the loop does not turn, nobody answers, and the command says so within its time."""
    with daemon(tmp_path) as process:
        address(tmp_path)
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        code, said = health(tmp_path)
        assert code == 1
        assert "cannot ask" in said["status"]
        assert time.monotonic() - began < 12
        process.send_signal(signal.SIGCONT)
        until(lambda: health(tmp_path)[0] == 0, "the answer")


def test_a_port_that_is_taken_stops_nothing(tmp_path: Path) -> None:
    """The daemon works without HTTP, says why it does not answer, and is healthy by its heartbeat."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with daemon(tmp_path, "--set", f"http.port={port}") as process:
            until(lambda: "stale_after_s" in lock.holder(tmp_path / layout.DAEMON_LOCK), "the note")
            assert health(tmp_path)[1] == {"ok": True, "status": "ok", "by": "heartbeat"}
            code, log = stop(process)
    assert code == 0
    told = next(json.loads(one) for one in log.splitlines() if '"http_unavailable"' in one)
    assert str(port) in told["subject"]
    assert "http.port" in told["hint"]


def test_the_settings_of_http_hold_from_the_start_on(tmp_path: Path) -> None:
    """Who changes the port while it cannot be had, and reloads, is told to start anew: until then it is the old one."""
    logging = observe.configure(level="info", fmt="json", file=None, queue_size=1_000, stream=io.StringIO())
    local = ("127.0.0.1", 0)
    with closing(socket.create_server(local)) as taken, closing(socket.create_server(local)) as spare:
        port, other = taken.getsockname()[1], spare.getsockname()[1]
        app = build(tmp_path, environ={}, flags={"http.port": port}, logging=logging, init=True)
        often = {"WATCHDOG_USEC": "60000", "NOTIFY_SOCKET": str(tmp_path / "notify")}
        daemon = Daemon(app, service=Service(app, often, retry_s=0.05), install_signals=False)

        def noted() -> dict[str, Any]:
            return lock.holder(tmp_path / layout.DAEMON_LOCK)

        async def main() -> Any:
            async with asyncio.timeout(PATIENCE_S):
                running = asyncio.create_task(daemon.run())
                while "stale_after_s" not in noted():
                    await asyncio.sleep(0.01)
                app.reload(settings.load(tmp_path, environ={}, flags={"http.port": other}))
                spare.close()
                taken.close()
                while "http" not in noted():
                    await asyncio.sleep(0.01)
                found = noted()["http"]
                daemon.stop("end of the test")
                await running
                return found

        try:
            assert asyncio.run(main()) == ["127.0.0.1", port]
        finally:
            app.close()


def test_not_ready_says_why(tmp_path: Path) -> None:
    """A state that cannot be written makes the daemon unready, and it is ready again once that is mended."""
    with daemon(tmp_path):
        to = address(tmp_path)
        until(lambda: get(to, "/readyz")[0] == 200, "readiness")
        folder = tmp_path / layout.AUTOLEARN
        folder.rename(folder.with_name("away"))
        folder.write_bytes(b"")
        until(lambda: get(to, "/readyz")[0] == 503, "unreadiness")
        assert "Not a directory" in json.loads(get(to, "/readyz")[2])["checks"]["state"]
        assert get(to, "/healthz")[0] == 200
        folder.unlink()
        folder.with_name("away").rename(folder)
        until(lambda: get(to, "/readyz")[0] == 200, "readiness")


def test_numbers_of_a_tree_that_cannot_be_read(tmp_path: Path) -> None:
    """Where runs fail for what keeps the numbers from being read, too, those of the process are told nevertheless."""
    failed = "cortex_autolearn_job_runs_total", (("job", "silver"), ("result", "failed"))
    folder = tmp_path / layout.BRONZE
    folder.mkdir(parents=True)
    (folder / "a.jsonl").write_bytes(line(good("t")))
    with daemon(tmp_path) as process:
        until(lambda: metrics_of(tmp_path)["cortex_autolearn_tasks", (("state", "final"),)] == 1, "the first task")
        folder.rename(folder.with_name("away"))
        folder.write_bytes(b"")
        until(lambda: metrics_of(tmp_path)[failed] > 0, "the failure")
        until(lambda: metrics_of(tmp_path)["cortex_autolearn_state_readable", ()] == 0, "a new look")
        found = metrics_of(tmp_path)
        assert ("cortex_autolearn_silver_lag_seconds", ()) not in found
        assert ("cortex_autolearn_job_last_success_timestamp_seconds", (("job", "collection"),)) in found
        folder.unlink()
        folder.with_name("away").rename(folder)
        until(lambda: metrics_of(tmp_path)["cortex_autolearn_state_readable", ()] == 1, "all numbers")
        code, log = stop(process)
    assert code == 0
    told = next(json.loads(one) for one in log.splitlines() if '"http_failed"' in one)
    assert (told["path"], told["subject"]) == ("/metrics", str(folder))


def test_public_without_leave_is_refused(tmp_path: Path) -> None:
    """The daemon does not start on an address that others reach, unless it was told that they may."""
    command = [*PROGRAM, "run", "--init", "--root", str(tmp_path), "--set", "http.host=0.0.0.0"]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 78
    assert "http.allow_public" in refused.stderr
    with daemon(tmp_path, "--set", "http.host=0.0.0.0", "--set", "http.allow_public=true"):
        host, port = address(tmp_path)
        assert host == "0.0.0.0"
        assert get(("127.0.0.1", port), "/healthz", host=f"127.0.0.1:{port}")[0] == 200
        assert get(("127.0.0.1", port), "/healthz", host="evil.example")[0] == 421


# --- systemd ----------------------------------------------------------------------------------------------------------


class Listener:
    """Stands where systemd stands: a datagram socket that keeps what it was told."""

    def __init__(self, name: str) -> None:
        self.told: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{name[1:]}" if name.startswith("@") else name)
        self._socket.settimeout(0.05)

    def hears(self, words: str) -> str | None:
        """Take in what came, and return the first message that holds ``words``."""
        try:
            while True:
                self.told.append(self._socket.recv(65_536).decode())
        except TimeoutError:
            pass
        return next((one for one in self.told if words in one), None)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Listener]]:
    name = f"@cortex-autolearn-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    with closing(Listener(name)) as one:
        yield name, one


def test_systemd_is_told(tmp_path: Path, listener: tuple[str, Listener]) -> None:
    """READY when it works, the watchdog's food in time, RELOADING with the clock and READY again, STOPPING with time."""
    name, ear = listener
    root = tmp_path / "root"
    root.mkdir()
    with daemon(root, environ={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "900000", **QUICK}) as process:
        until(lambda: ear.hears("READY=1"), "READY")
        assert not any("STOPPING" in one or "RELOADING" in one for one in ear.told)
        assert get(address(root), "/healthz")[0] == 200  # what is said to be ready answers
        until(lambda: sum("WATCHDOG=1" in one for one in ear.told) >= 3 or ear.hears("nothing"), "the watchdog's food")
        assert ear.hears("STATUS=")
        process.send_signal(signal.SIGHUP)
        reloading = until(lambda: ear.hears("RELOADING=1"), "RELOADING")
        stamp = int(re.search(r"MONOTONIC_USEC=(\d+)", reloading)[1])  # type: ignore[index]
        assert 0 <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000 - stamp < 60_000_000
        until(
            lambda: "READY=1" in "".join(ear.told[ear.told.index(reloading) + 1 :]) or ear.hears("nothing"),
            "READY again",
        )
        code, _ = stop(process)
        assert code == 0
        assert ear.hears("STOPPING=1")
        assert ear.hears("EXTEND_TIMEOUT_USEC=")


def test_a_blocked_process_feeds_nothing(tmp_path: Path, listener: tuple[str, Listener]) -> None:
    """While the loop stands still the watchdog hears nothing."""
    name, ear = listener
    root = tmp_path / "root"
    root.mkdir()
    with daemon(root, environ={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "600000"}) as process:
        until(lambda: ear.hears("WATCHDOG=1"), "the first food")
        process.send_signal(signal.SIGSTOP)
        ear.hears("nothing")
        ear.told.clear()
        ends_at = time.monotonic() + 1.0
        while time.monotonic() < ends_at:
            ear.hears("nothing")
        assert not any("WATCHDOG" in one for one in ear.told)


@pytest.mark.parametrize(
    ("environ", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_whose_watchdog_it_is(environ: dict[str, str], watchdog_s: float | None) -> None:
    """Only the process that is meant feeds it, and only where one is asked for."""
    assert Notifier(environ, pid=7).watchdog_s == watchdog_s


@pytest.mark.parametrize(
    "name", ["", "relative", "vsock:2:1234", "/nowhere/there/is/no/socket", "@nobody-listens-here"]
)
def test_nobody_to_tell_fails_nothing(name: str) -> None:
    """Without a socket, or with one that is dead, telling does nothing and raises nothing."""
    notifier = Notifier({"NOTIFY_SOCKET": name})
    for tell in (notifier.alive, notifier.reloading, lambda: notifier.ready("well"), lambda: notifier.extend(1.5)):
        tell()
    assert notifier.failed == (4 if notifier.is_heard else 0)
    assert notifier.is_heard == (name[:1] in {"/", "@"})


def test_a_status_is_one_line(tmp_path: Path) -> None:
    """Whatever stands in a status, it cannot say another thing to systemd."""
    with closing(Listener(str(tmp_path / "notify"))) as ear:
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}).status("a\nSTOPPING=1\n" + "b" * 1_000)
        told = until(lambda: ear.hears("STATUS="), "the status")
        assert "\n" not in told
        assert len(told) < 300


# --- what ships beside the package ------------------------------------------------------------------------------------


def test_the_example_is_right(tmp_path: Path) -> None:
    """The configuration that is shipped as an example is accepted, and says the defaults as it claims."""
    loaded = settings.load(tmp_path, environ={}, config=REPOSITORY / "systemd" / "cortex-autolearn.toml")
    given = {row.key: row.value for row in settings.show(loaded) if row.origin != "default"}
    defaults = {item.key: item.default for item in settings.fields()}
    assert given
    assert given == {key: defaults[key] for key in given}
