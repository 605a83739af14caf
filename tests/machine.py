"""A machine with a real systemd, for the tests of the unit: a container over an overlay of the running system."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service_support import NOT_ASKED, until

from cortex_autolearn.model import layout

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[1]
UNIT = "cortex-autolearn"
ROOT = "/srv/cortex"
PYTHON = "/usr/bin/python3"
INSTALLED = (
    "cortex_autolearn",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "requirements.lock",
    "systemd",
)


def why_not() -> str:
    """Return why no machine can be booted here, or nothing."""
    if NOT_ASKED or os.geteuid() != 0:
        return NOT_ASKED or "needs root, to boot a container"
    missing = [name for name in ("systemd-nspawn", "unshare", "nsenter", "systemd-analyze") if not shutil.which(name)]
    if missing or not Path("/lib/systemd/systemd").exists():
        return f"needs systemd and systemd-container; missing: {', '.join(missing) or '/lib/systemd/systemd'}"
    if subprocess.run([PYTHON, "-c", "import ensurepip"], capture_output=True).returncode:
        return f"needs {PYTHON} with python3-venv"
    probe = subprocess.run(["unshare", "--mount", "--propagation", "private", "true"], capture_output=True)
    return "" if probe.returncode == 0 else "needs the right to make a mount namespace"


def checkout(folder: Path) -> Path:
    """Copy what an installation needs of this repository."""
    folder.mkdir()
    for name in INSTALLED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)
    pinned = re.findall(r"^([a-z0-9._-]+==[^ ;]+)", (REPOSITORY / "requirements.lock").read_text(), re.MULTILINE)
    (folder / "constraints.txt").write_text("\n".join(pinned) + "\n")
    return folder


class Machine:
    """The booted machine; :meth:`close` leaves nothing of it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._log = (folder / "console.log").open("wb")
        over = folder / "overlay"
        over.mkdir()
        script = Path(__file__).with_name("machine_boot.sh")
        self._nspawn = subprocess.Popen(
            [
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "bash",
                str(script),
                str(over),
                str(checkout(folder / "src")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self._init = until(self._leader, "systemd as process 1", 30.0)
            until(lambda: self.run("systemctl", "is-active", "basic.target").stdout == "active\n", "the boot", 60.0)
        except BaseException:
            self.close()
            raise

    def install(self) -> None:
        """Install the package, the unit and the fleet's user as the README of the unit says."""
        self.check(PYTHON, "-m", "venv", "/opt/cortex-autolearn")
        self.check(
            "/opt/cortex-autolearn/bin/pip",
            "install",
            "--quiet",
            "--constraint",
            "/checkout/constraints.txt",
            "/checkout",
        )
        self.check("useradd", "--system", "--create-home", "--home-dir", ROOT, "--shell", "/usr/sbin/nologin", "cortex")
        self.check("runuser", "-u", "cortex", "--", "mkdir", "-p", f"{ROOT}/{layout.BRONZE}")
        self.check("install", "-m", "0644", f"/checkout/systemd/{UNIT}.service", "/etc/systemd/system/")
        self.check("systemctl", "daemon-reload")

    def run(self, *command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program in the machine, as root."""
        target = [
            "nsenter",
            "--target",
            str(self._init),
            "--mount",
            "--uts",
            "--ipc",
            "--pid",
            "--root",
            "--wd",
            "--",
        ]
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("CORTEX_", "ANTHROPIC_"))}
        environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return subprocess.run([*target, *command], capture_output=True, text=True, input=text, env=environ)

    def check(self, *command: str, text: str | None = None) -> str:
        """Run a program that must succeed, and return what it prints."""
        done = self.run(*command, text=text)
        assert done.returncode == 0, (command, done.returncode, done.stdout[-2_000:], done.stderr[-2_000:])
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """Write a file in the machine, with its folders."""
        self.check("mkdir", "-p", str(Path(path).parent))
        self.check("tee", path, text=text)

    def drop_in(self, **settings: str | list[str]) -> None:
        """Change the service's settings, and let systemd read them; without any, take the changes back."""
        lines = [
            f"{key}={value}"
            for key, values in settings.items()
            for value in ([values] if isinstance(values, str) else values)
        ]
        self.write(f"/etc/systemd/system/{UNIT}.service.d/test.conf", "\n".join(["[Service]", *lines, ""]))
        self.check("systemctl", "daemon-reload")

    def systemctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Ask systemd something about the unit."""
        return self.run("systemctl", *words, UNIT)

    def show(self, name: str) -> str:
        """Return a property of the unit."""
        return self.check("systemctl", "show", "--value", "--property", name, UNIT).strip()

    def journal(self) -> str:
        """Return all that the unit has said."""
        return self.check("journalctl", "--no-pager", "--output=cat", f"--unit={UNIT}")

    def until(self, what: str, condition: Callable[[], Any], patience_s: float = 30.0) -> Any:
        """Wait for something in the machine; tell what the unit said when it does not come."""
        try:
            return until(condition, what, patience_s)
        except AssertionError as error:
            raise AssertionError(
                f"{error}\n{self.systemctl('status', '--no-pager').stdout}\n{self.journal()[-4_000:]}"
            ) from None

    def close(self) -> None:
        """End the machine."""
        if self._nspawn.poll() is None:
            os.killpg(self._nspawn.pid, signal.SIGKILL)
            self._nspawn.wait()
        init = getattr(self, "_init", None)
        if init is not None:
            with suppress(ProcessLookupError):
                os.kill(init, signal.SIGKILL)  # process 1 of its namespace: all others go with it
        self._log.close()

    def _leader(self) -> int | None:
        assert self._nspawn.poll() is None, Path(self._log.name).read_text()
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        for child in map(int, children):
            try:
                command = Path(f"/proc/{child}/comm").read_text().strip()
            except OSError:
                continue
            if command == "systemd":
                return child
        return None
