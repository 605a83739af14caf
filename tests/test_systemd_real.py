"""The unit under a systemd that really booted: what it is told, what it does about it, and that all works hardened."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from anthropic_api import KEY as PROVIDER_KEY
from anthropic_api import AnthropicApi
from machine import PYTHON, REPOSITORY, ROOT, UNIT, Machine, why_not
from support import good, line

from cortex_autolearn.model import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
    pytest.mark.timeout(300),
]
UNIT_FILE = REPOSITORY / "systemd" / f"{UNIT}.service"
KEY = "sk-ant-api03-" + "Qp4" * 31
MAX_EXPOSURE = 1.6
BLOCKING = """
import asyncio, sys, time
from pathlib import Path
from cortex_autolearn import daemon

run = asyncio.run

def hanging(work):
    async def main():
        asyncio.get_running_loop().call_later(1.0, time.sleep, 3_600)
        return await work
    return run(main())

asyncio.run = hanging
sys.exit(daemon.serve(Path("/srv/cortex")))
"""


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("machine") / "m")
    try:
        machine.install()
        yield machine
    finally:
        machine.close()


@pytest.fixture
def machine(booted: Machine) -> Iterator[Machine]:
    """The machine, with the unit as it is shipped and not running."""
    yield booted
    booted.run("systemctl", "kill", "--signal=KILL", UNIT)
    booted.systemctl("stop")
    booted.run(
        "rm", "-rf", f"/etc/systemd/system/{UNIT}.service.d", f"{ROOT}/cortex-autolearn.toml", "/etc/cortex-autolearn"
    )
    booted.check("systemctl", "daemon-reload")
    booted.systemctl("reset-failed")


def healthy(machine: Machine, *options: str) -> bool:
    """Ask the daemon by its own command, as its user."""
    program = ["/opt/cortex-autolearn/bin/cortex-autolearn", "health", "--root", ROOT, *options]
    return machine.run("runuser", "-u", "cortex", "--", *program).returncode == 0


def fetch(machine: Machine, path: str) -> str:
    """GET a path of the daemon, in the machine."""
    program = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:9464{path}', timeout=10).read().decode())"
    return machine.check(PYTHON, "-c", program)


def events(machine: Machine, kind: str) -> list[dict[str, Any]]:
    done = machine.run("cat", f"{ROOT}/{layout.EVENTS}")
    return [one for one in map(json.loads, done.stdout.splitlines()) if one["event"] == kind]


def collected(machine: Machine) -> int:
    done = machine.run("sh", "-c", f"cat {ROOT}/{layout.OUTCOMES}/*/*.jsonl 2>/dev/null")
    return len(done.stdout.splitlines())


def test_exposure() -> None:
    """systemd's own judgement of the unit is at most 1.6, and it finds nothing wrong with the file."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT_FILE)], capture_output=True, text=True
    )
    overall = re.search(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)
    assert overall is not None, done.stdout + done.stderr
    print("exposure", overall[1])
    assert float(overall[1]) <= MAX_EXPOSURE


def test_starts_works_and_stops(machine: Machine) -> None:
    """As it is shipped it starts, says READY, collects what the fleet writes as another user, and drains at the stop."""
    assert machine.run("systemd-analyze", "verify", f"/etc/systemd/system/{UNIT}.service").stderr == ""
    machine.check("systemctl", "start", UNIT)
    assert machine.show("ActiveState") == "active"
    assert machine.show("StatusText")
    assert healthy(machine)
    assert healthy(machine, "--ready")
    records = b"".join(line(good(f"t{number}")) for number in range(20)).decode()
    machine.write(f"{ROOT}/{layout.BRONZE}/a.jsonl", records)
    machine.until("the collection", lambda: collected(machine) == 20)
    metrics = fetch(machine, "/metrics")
    assert "cortex_autolearn_collected_examples" in metrics
    assert "\nprocess_resident_memory_bytes " in metrics  # what is hardened does not hide the process from itself
    pid = machine.show("MainPID")
    status = dict(
        one.split(":\t", 1) for one in machine.check("cat", f"/proc/{pid}/status").splitlines() if ":\t" in one
    )
    assert status["NoNewPrivs"] == "1"
    assert int(status["CapEff"], 16) == 0
    assert status["Seccomp"] == "2"
    print("resident after a look at /metrics:", status["VmRSS"])
    machine.check("systemctl", "stop", UNIT)
    assert machine.show("Result") == "success"
    assert events(machine, "daemon_stopped")[-1]["reason"] == "SIGTERM"


def test_reload(machine: Machine) -> None:
    """A reload is waited for, takes the new configuration over, and a wrong one leaves the service running."""
    machine.check("systemctl", "start", UNIT)
    pid = machine.show("MainPID")
    machine.write(f"{ROOT}/cortex-autolearn.toml", "[collect]\nmin_quality = 4.5\n")
    machine.check("systemctl", "reload", UNIT)
    machine.until("the reload", lambda: '"collect.min_quality":"4.5"' in machine.journal())
    machine.until("its end", lambda: machine.show("ActiveState") == "active")
    machine.write(f"{ROOT}/cortex-autolearn.toml", "[collect]\nmin_quality = 'good'\n")
    machine.check("systemctl", "reload", UNIT)
    machine.until("the refusal", lambda: "reload_refused" in machine.journal())
    machine.until("its end", lambda: machine.show("ActiveState") == "active")
    assert machine.show("MainPID") == pid


def test_a_blocked_loop_is_killed_and_started_anew(machine: Machine) -> None:
    """When nothing feeds the watchdog, systemd kills the process, starts another, and nothing is lost."""
    machine.drop_in(WatchdogSec="2", RestartSec="100ms", TimeoutAbortSec="2")
    machine.check("systemctl", "start", UNIT)
    pid = machine.show("MainPID")
    machine.check("sleep", "5")  # more than twice the watchdog's time, and it lives
    assert machine.show("MainPID") == pid
    machine.check("kill", "-STOP", pid)
    machine.until("another process", lambda: machine.show("MainPID") not in {pid, "0"})
    machine.until("its start", lambda: machine.show("ActiveState") == "active")
    assert machine.show("NRestarts") == "1"
    assert "Watchdog timeout" in machine.journal()
    assert healthy(machine)


def test_a_loop_that_hangs_is_not_alive(machine: Machine) -> None:
    """It is the event loop that must turn: a process whose other threads go on is killed all the same."""
    machine.write(f"{ROOT}/block.py", BLOCKING)
    machine.drop_in(
        WatchdogSec="2", RestartSec="100ms", ExecStart=["", f"/opt/cortex-autolearn/bin/python {ROOT}/block.py"]
    )
    machine.check("systemctl", "start", UNIT)
    machine.until("another process", lambda: int(machine.show("NRestarts")) >= 1)
    assert "Watchdog timeout" in machine.journal()


def test_a_killed_process_is_started_anew(machine: Machine) -> None:
    """kill -9 costs nothing but a restart."""
    machine.drop_in(RestartSec="100ms")
    machine.check("systemctl", "start", UNIT)
    pid = machine.show("MainPID")
    machine.check("kill", "-KILL", pid)
    machine.until("another process", lambda: machine.show("MainPID") not in {pid, "0"})
    machine.until("its start", lambda: machine.show("ActiveState") == "active")
    assert healthy(machine)


def test_what_keeps_it_from_starting_may_last(machine: Machine) -> None:
    """A full disk, or a tree that is not there yet, is waited for, however many starts fail meanwhile."""
    machine.drop_in(RestartSec="100ms")
    state = f"{ROOT}/{layout.STATE}"
    machine.check("rm", "-rf", state, f"{state}-wal", f"{state}-shm")
    machine.check("runuser", "-u", "cortex", "--", "mkdir", "-p", state)  # in the way, as anything may be
    assert machine.systemctl("start").returncode != 0
    machine.until("more starts", lambda: int(machine.show("NRestarts")) > 12, 120)
    machine.check("rmdir", state)
    machine.until("a start that goes well", lambda: machine.show("ActiveState") == "active")
    assert healthy(machine)


def test_wrong_configuration_is_not_tried_again(machine: Machine) -> None:
    """Exit 78 fails the unit, once: what is wrong stands in the journal."""
    machine.drop_in(RestartSec="100ms")
    machine.write(f"{ROOT}/cortex-autolearn.toml", "[collect]\nmin_quality = 'good'\n")
    assert machine.systemctl("start").returncode != 0
    machine.until("the failure", lambda: machine.show("ActiveState") == "failed")
    machine.check("sleep", "1")  # several times RestartSec
    assert (machine.show("ExecMainStatus"), machine.show("NRestarts")) == ("78", "0")
    assert "collect.min_quality" in machine.journal()


def test_draining_asks_for_more_time(machine: Machine) -> None:
    """A drain that lasts longer than TimeoutStopSec is not cut off: the process asks for time as long as it lives."""
    machine.drop_in(TimeoutStopSec="2")
    machine.write(f"{ROOT}/cortex-autolearn.toml", "[daemon]\ndrain_grace_s = 60\n")
    machine.check("systemctl", "start", UNIT)
    # A job that waits for a writer outside: it cannot end before that lets go of the state.
    hold = f"import fcntl, time; f = open('{ROOT}/{layout.AUTOLEARN}/.writer.lock', 'a'); fcntl.flock(f, fcntl.LOCK_EX); time.sleep(8)"
    machine.check("systemd-run", "--unit=holder", PYTHON, "-c", hold)
    machine.write(f"{ROOT}/{layout.BRONZE}/drain.jsonl", line(good("drained")).decode())
    machine.until("a job that runs", lambda: machine.show("StatusText").startswith("Running"))
    machine.check("systemctl", "stop", UNIT)
    assert machine.show("Result") == "success"
    assert events(machine, "daemon_stopped")[-1]["reason"] == "SIGTERM"


def test_the_key_comes_as_a_credential(machine: Machine) -> None:
    """The service reads root's key file; nobody else does; without file there is no key; without fallback no start."""

    def has_key() -> bool:
        return bool(json.loads(fetch(machine, "/status"))["judge"]["has_key"])

    machine.check("systemctl", "start", UNIT)
    assert has_key() is False
    machine.check("systemctl", "stop", UNIT)
    machine.write("/etc/cortex-autolearn/anthropic_api_key", KEY + "\n")
    machine.check("chmod", "0600", "/etc/cortex-autolearn/anthropic_api_key")
    machine.check("systemctl", "start", UNIT)
    assert has_key() is True
    environ = machine.check("cat", f"/proc/{machine.show('MainPID')}/environ")
    assert KEY not in environ
    assert "CREDENTIALS_DIRECTORY=" in environ
    assert KEY not in machine.journal() + fetch(machine, "/status") + machine.check("systemctl", "show", UNIT)
    machine.check("systemctl", "stop", UNIT)
    machine.check("rm", "/etc/cortex-autolearn/anthropic_api_key")
    machine.drop_in(SetCredential="", Restart="no")
    assert machine.systemctl("start").returncode != 0
    assert machine.show("ExecMainStatus") == "243"


def test_a_second_daemon_is_refused(machine: Machine) -> None:
    """One daemon a tree: another ends with 75 at once."""
    machine.check("systemctl", "start", UNIT)
    program = ["/opt/cortex-autolearn/bin/cortex-autolearn", "run", "--root", ROOT]
    second = machine.run("runuser", "-u", "cortex", "--", *program)
    assert second.returncode == 75
    assert "another_daemon_runs" in second.stdout
    assert machine.show("ActiveState") == "active"


def test_the_provider_is_reached_from_inside(machine: Machine) -> None:
    """Confined as it is, the service calls out by HTTPS, checks the certificate, and has a task scored."""
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    bundle = "/etc/ssl/certs/of-the-test.pem"
    with AnthropicApi(tls=tls) as api:
        assert api.url.startswith("https://")
        machine.write("/etc/cortex-autolearn/anthropic_api_key", PROVIDER_KEY)
        machine.write(f"{ROOT}/cortex-autolearn.toml", "[judge]\nenabled = true\n")
        machine.write(bundle, authority.cert_pem.bytes().decode())
        machine.drop_in(Environment=f"ANTHROPIC_BASE_URL={api.url} SSL_CERT_FILE={bundle}")
        before = collected(machine)
        unscored = good("unscored", quality_score=..., output="All went well in the end. [[score 4.5]]")
        machine.write(f"{ROOT}/{layout.BRONZE}/unscored.jsonl", line(unscored).decode())
        machine.check("systemctl", "start", UNIT)
        machine.until("the score", lambda: collected(machine) == before + 1, 60.0)
        assert api.charges
