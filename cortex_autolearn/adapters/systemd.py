"""Tells systemd how the process is, by the protocol of sd_notify(3): datagrams to the socket that it names.

Nothing here can fail the daemon: where no socket is named nothing is sent, and a datagram that does not get through is
one less. What is told when is the service's business.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_MICRO: Final = 1_000_000
_MAX_STATUS_CHARS: Final = 200


class Notifier:
    """The one who tells.

    Arguments:
        environ: the environment; ``NOTIFY_SOCKET`` names the socket, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` how often
            systemd wants to hear from whom.
        pid: this process.
    """

    def __init__(self, environ: Mapping[str, str], pid: int | None = None) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(environ, os.getpid() if pid is None else pid)
        """Seconds after which systemd takes a silent process for dead; None where it does not look."""
        self.failed = 0
        """Datagrams that did not get through."""

    @property
    def is_heard(self) -> bool:
        """Whether there is anybody to tell."""
        return self._address is not None

    def ready(self, status: str) -> None:
        """Say that the start, or a reload, is over."""
        self._send("READY=1", _status(status))

    def status(self, status: str) -> None:
        """Say in a line what is going on."""
        self._send(_status(status))

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """Say that the configuration is being read again; :meth:`ready` ends that."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000}")

    def stopping(self, status: str) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1", _status(status))

    def extend(self, seconds: float) -> None:
        """Ask for that much more time from now on, to start or to stop."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * _MICRO)}")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            # A socket of its own each time: systemd may have begun anew on the same path.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as one:
                one.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            self.failed += 1


def _address(named: str) -> bytes | None:
    """Return the address of a socket by its path, or, after an @, its abstract name; None for anything else."""
    if named.startswith("@"):
        return b"\0" + os.fsencode(named[1:])
    return os.fsencode(named) if named.startswith("/") else None


def _watchdog_s(environ: Mapping[str, str], pid: int) -> float | None:
    asked = environ.get("WATCHDOG_USEC", "")
    whose = environ.get("WATCHDOG_PID", "") or str(pid)
    if not (asked.isascii() and asked.isdigit()) or whose != str(pid):
        return None
    return int(asked) / _MICRO or None


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.split())[:_MAX_STATUS_CHARS]
