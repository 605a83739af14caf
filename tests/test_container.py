"""The image, really built and really run: read-only, without capabilities, as nobody's user, and healthy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from service_support import NOT_ASKED, until
from support import good, line

from cortex_autolearn.model import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPT = Path(__file__).with_name("podman_alone.sh")
IMAGE, BASE = "localhost/cortex-autolearn", "localhost/cortex-autolearn-base"
USER = 10_001
MEMORY_MB = 128
CONFINED = (
    "--read-only",
    "--read-only-tmpfs=false",  # as docker does: podman's own would have a /tmp to write to
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--network=none",
    f"--memory={MEMORY_MB}m",
    # Not podman's own: whoever runs this may not raise them.
    "--ulimit=nofile=1024:1024",
    "--ulimit=nproc=1024:1024",
)


def why_not() -> str:
    """Return why no container can be built and run here, or nothing."""
    if NOT_ASKED or os.geteuid() != 0:
        return NOT_ASKED or "needs root, to build and run containers"
    missing = [name for name in ("buildah", "podman", "mmdebstrap", "unshare") if not shutil.which(name)]
    return f"needs {', '.join(missing)}" if missing else ""


pytestmark = [
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
    pytest.mark.timeout(900),
]


def must(*command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    )
    assert done.returncode == 0, (command, done.returncode, done.stdout[-3_000:], done.stderr[-3_000:])
    return done.stdout.strip()


class Engine:
    """Containers with a storage of their own, of which nothing is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _buildah(self) -> tuple[str, ...]:
        return "buildah", "--root", str(self.folder / "store"), "--runroot", str(self.folder / "run")

    def build_base(self) -> None:
        """Make a base from Debian's packages."""
        buildah = self._buildah()
        tar = Path(
            os.environ.get("AUTOLEARN_BASE_TAR", "") or self.folder / "base.tar"
        )  # one that is there saves minutes
        if not tar.exists():
            packages = "--include=python3,python3-venv,ca-certificates"
            must("mmdebstrap", "--quiet", "--variant=minbase", packages, "bookworm", str(tar))
        made = must(*buildah, "from", "scratch")
        must(*buildah, "add", "--quiet", made, str(tar), "/")
        must(*buildah, "commit", "--quiet", "--format=docker", made, BASE)
        must(*buildah, "rm", made)

    def build(self, image: str, *given: str) -> None:
        """Make the image from it as the Dockerfile says."""
        # The registry is reached as it is from here.
        trust = ["--volume", "/etc/ssl/certs:/etc/ssl/certs:ro"]
        arguments = ["--isolation=chroot", "--format=docker", f"--build-arg=BASE={BASE}", "--build-arg=REVISION=abc123"]
        must(*self._buildah(), "bud", *arguments, *given, *trust, "--tag", image, str(REPOSITORY))

    def podman(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Call podman."""
        command = ["unshare", "--mount", "--propagation", "private", "bash", str(SCRIPT), str(self.folder), *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=self.folder)  # conmon leaves notes there

    def check(self, *words: str) -> str:
        """Call podman, which must succeed."""
        done = self.podman(*words)
        assert done.returncode == 0, (words, done.returncode, done.stdout[-3_000:], done.stderr[-3_000:])
        return done.stdout.strip()

    def inspect(self, name: str) -> Any:
        """Return all that podman knows of a container or an image."""
        return json.loads(self.check("inspect", name))[0]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    # podman's runroot must be shorter than 50 characters, which pytest's own folders are not.
    one = Engine(Path(tempfile.mkdtemp(prefix="al-", dir="/var/tmp")))
    one.folder.chmod(0o711)
    try:
        one.build_base()
        one.build(IMAGE)
        yield one
    finally:
        one.podman("rm", "--all", "--force", "--time=0")
        one.podman("rmi", "--all", "--force")
        shutil.rmtree(one.folder, ignore_errors=True)


class Container:
    """A daemon in a container over a tree of the host's."""

    def __init__(self, engine: Engine, name: str, root: Path) -> None:
        self.engine, self.name, self.root = engine, name, root
        engine.check("run", "--detach", f"--name={name}", *CONFINED, f"--volume={root}:/srv/cortex", IMAGE)
        self.pid = int(engine.inspect(name)["State"]["Pid"])

    def healthy(self, *options: str) -> bool:
        return self.engine.podman("exec", self.name, "cortex-autolearn", "health", *options).returncode == 0

    def logs(self) -> str:
        done = self.engine.podman("logs", self.name)
        return done.stdout + done.stderr

    def exit_code(self) -> int | None:
        state = self.engine.inspect(self.name)["State"]
        return None if state["Running"] else int(state["ExitCode"])


@pytest.fixture
def root(engine: Engine) -> Path:
    """A fleet's tree of the container's user, where that user can reach it."""
    tree = engine.folder / f"tree-{time.monotonic_ns()}"
    (tree / layout.BRONZE).mkdir(parents=True)
    (tree / layout.SILVER).mkdir(parents=True)
    for folder, _, _ in os.walk(tree):
        os.chown(folder, USER, USER)
    return tree


@pytest.fixture
def container(engine: Engine, root: Path) -> Iterator[Container]:
    name = f"autolearn-{os.getpid()}-{time.monotonic_ns()}"
    try:
        yield Container(engine, name, root)
    finally:
        engine.podman("rm", "--force", "--time=0", name)


def collected(root: Path) -> set[str]:
    files = (root / layout.OUTCOMES).glob("*/*.jsonl")
    return {json.loads(one)["task_id"] for path in files for one in path.read_bytes().splitlines()}


def test_the_image_says_what_it_is(engine: Engine) -> None:
    """Its labels, user, volume, stop signal and health check stand in it, and its program is no shell."""
    image = engine.inspect(IMAGE)
    config = image["Config"]
    assert config["User"] == f"{USER}:{USER}"
    assert config["Entrypoint"] == ["cortex-autolearn"]
    assert config["Cmd"] == ["run"]
    assert list(config["Volumes"]) == ["/srv/cortex"]
    assert config["StopSignal"] in {"SIGTERM", "15"}
    assert config["Labels"]["org.opencontainers.image.licenses"] == "MIT"
    assert config["Labels"]["org.opencontainers.image.revision"] == "abc123"
    assert image["HealthCheck" if "HealthCheck" in image else "Healthcheck"]["Test"] == [
        "CMD",
        "cortex-autolearn",
        "health",
    ]


def test_an_extra_comes_where_it_is_asked_for(engine: Engine) -> None:
    """A backend that trains at a provider needs a package that others do not carry; it has the lock's version."""
    asked = "import importlib.metadata as m, cortex_autolearn; print(m.version('boto3'))"
    engine.build(f"{IMAGE}-bedrock", "--build-arg=EXTRAS=bedrock")
    run = ("run", "--rm", *CONFINED, "--entrypoint=python3")
    found = engine.check(*run, f"{IMAGE}-bedrock", "-c", asked)
    assert f"\nboto3=={found} " in (REPOSITORY / "requirements.lock").read_text()
    assert "PackageNotFoundError" in engine.podman(*run, IMAGE, "-c", asked).stderr


def test_it_works_confined(container: Container, root: Path) -> None:
    """Read-only, without capabilities and in little memory it becomes healthy, and collects what the host writes."""
    until(container.healthy, "health", 60.0)
    assert container.healthy("--ready")
    assert container.engine.podman("healthcheck", "run", container.name).returncode == 0
    status = dict(
        one.split(":\t", 1) for one in Path(f"/proc/{container.pid}/status").read_text().splitlines() if ":\t" in one
    )
    assert status["Uid"].split() == [str(USER)] * 4
    assert (int(status["CapEff"], 16), int(status["CapBnd"], 16), status["NoNewPrivs"]) == (0, 0, "1")
    refused = container.engine.podman("exec", container.name, "python3", "-c", "open('/opt/x', 'w')")
    assert "Read-only file system" in refused.stderr
    # As Cortex's script does: silver of its own, written by another process on the host.
    (root / layout.SILVER / "20251126.jsonl").write_bytes(b"".join(line(good(f"s{n}")) for n in range(10)))
    (root / layout.BRONZE / "a.jsonl").write_bytes(b"".join(line(good(f"b{n}")) for n in range(10)))
    wanted = {f"{kind}{n}" for kind in "sb" for n in range(10)}
    until(lambda: collected(root) == wanted, lambda: container.logs()[-3_000:], 30.0)
    print("resident:", status["VmRSS"].strip())


def test_sqlite_finds_room_to_sort(container: Container) -> None:
    """What is too much for SQLite's memory is sorted in the volume: nothing else can be written to."""
    until(container.healthy, "health", 60.0)
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)"
    ask = f"import sqlite3; sqlite3.connect(':memory:').execute('{numbers} SELECT hex(i) FROM n ORDER BY 1').fetchone()"
    done = container.engine.podman("exec", container.name, "python3", "-c", ask)
    assert done.returncode == 0, done.stderr


def test_the_memory_limit_holds(container: Container) -> None:
    """The limit is the container's, the daemon keeps far below it, and what exceeds it is killed and nothing else."""
    until(container.healthy, "health", 60.0)
    groups = dict(one.split(":", 2)[1:] for one in Path(f"/proc/{container.pid}/cgroup").read_text().splitlines())
    v1 = Path("/sys/fs/cgroup/memory" + groups.get("memory", "/none"), "memory.limit_in_bytes")
    v2 = Path("/sys/fs/cgroup" + groups.get("", "/none"), "memory.max")
    limit = int((v1 if v1.exists() else v2).read_text())
    assert limit == MEMORY_MB << 20
    greedy = container.engine.podman("exec", container.name, "python3", "-c", f"x = b'x' * ({MEMORY_MB} << 21)")
    assert greedy.returncode == 137
    assert container.healthy()


def test_sigterm_drains(container: Container, root: Path) -> None:
    """As process 1 it hears the stop signal, ends its jobs, says so, and exits 0."""
    until(container.healthy, "health", 60.0)
    (root / layout.BRONZE / "a.jsonl").write_bytes(b"".join(line(good(f"b{n}")) for n in range(2_000)))
    container.engine.check("stop", "--time=60", container.name)
    assert container.exit_code() == 0
    assert '"daemon_stopped","reason":"SIGTERM","code":0' in container.logs()
    assert not container.healthy()


def test_a_second_instance_is_refused(container: Container, root: Path) -> None:
    """On the same volume another one ends with 75, and the first goes on."""
    until(container.healthy, "health", 60.0)
    name = f"{container.name}-second"
    try:
        second = Container(container.engine, name, root)
        until(lambda: second.exit_code() is not None, "the end of the second one", 60.0)
        assert second.exit_code() == 75
        assert "another_daemon_runs" in second.logs()
    finally:
        container.engine.podman("rm", "--force", "--time=0", name)
    assert container.healthy()


def test_an_unhealthy_daemon_is_seen(container: Container) -> None:
    """A process that stands still fails the image's own health check."""
    # Ready, not only alive: a daemon that has not opened its port yet is judged by its lock, however still it stands.
    until(lambda: container.healthy("--ready"), "readiness", 60.0)
    os.kill(container.pid, 19)
    assert container.engine.podman("healthcheck", "run", container.name).returncode != 0
    os.kill(container.pid, 18)
    until(lambda: container.engine.podman("healthcheck", "run", container.name).returncode == 0, "health", 30.0)
