"""Shared by the tests of the daemon's outside: a daemon as a process of its own, asked over real sockets."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cortex_autolearn.adapters import lock
from cortex_autolearn.model import layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

PATIENCE_S = 20.0
NOT_ASKED = "" if "AUTOLEARN_REAL_TESTS" in os.environ else "boots or builds a machine; AUTOLEARN_REAL_TESTS=1 runs it"
"""Why the tests that take a machine of their own do not run; .ci/run asks for them."""
PROGRAM = [sys.executable, "-m", "cortex_autolearn"]


def until(condition: Callable[[], Any], what: object, patience_s: float = PATIENCE_S) -> Any:
    """Wait until ``condition`` is true, and return what it is."""
    deadline = time.monotonic() + patience_s
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {patience_s} s for {what}"
        time.sleep(0.01)
    return result


@contextmanager
def daemon(root: Path, *options: str, environ: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run the daemon on ``root``, answering on a free port; killed in the end where it still runs."""
    process = subprocess.Popen(
        [*PROGRAM, "run", "--init", "--root", str(root), "--set", "http.port=0", *options],
        env={**os.environ, **(environ or {})},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def address(root: Path) -> tuple[str, int]:
    """Wait until the daemon has noted where it answers, and return that."""

    def noted() -> Any:
        return lock.holder(root / layout.DAEMON_LOCK).get("http")

    host, port = until(noted, "the address")
    return str(host), int(port)


def raw(to: tuple[str, int], data: bytes, *, timeout_s: float = 15.0) -> bytes:
    """Send bytes, and return all that comes back."""
    with socket.create_connection(to, timeout=timeout_s) as connection:
        connection.sendall(data)
        got = b""
        while chunk := connection.recv(65_536):
            got += chunk
    return got


def get(to: tuple[str, int], path: str, *, host: str = "localhost", method: str = "GET") -> tuple[int, str, str]:
    """Ask, and return status, header and content."""
    got = raw(to, f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    head, _, body = got.decode().partition("\r\n\r\n")
    return int(head.split()[1]), head, body


def stop(process: subprocess.Popen[str]) -> tuple[int, str]:
    """End a daemon as a supervisor does; return its exit code and its log."""
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out


def health(root: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Run the command ``health`` and return its exit code and what it says."""
    done = subprocess.run([*PROGRAM, "health", "--json", "--root", str(root), *options], capture_output=True, text=True)
    return done.returncode, json.loads(done.stdout) if done.stdout else {"status": done.stderr}
