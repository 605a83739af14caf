"""Files below ROOT: what may be read, what a listing shows, and that replacing and appending leave no half file."""

from __future__ import annotations

import errno
import os
import resource
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cortex_autolearn.adapters import files
from cortex_autolearn.adapters.files import clean_temporaries, replace, wrap
from cortex_autolearn.adapters.tree import Entry, Refused, Tree
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parents[1]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A real tmpfs at ``folder``."""
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True)
    if made.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {made.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    (tmp_path / "root" / "silver").mkdir(parents=True)
    return Tree(tmp_path / "root")


def read(tree: Tree, relative: str) -> bytes | None:
    opened = tree.open_input(relative)
    if opened is None:
        return None
    with opened:
        return opened.read()


# --- paths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relative", ["", "/etc/passwd", "../x", "silver/../../x", "silver/..", "a\0b"])
def test_path_out_of_the_tree_is_refused(tree: Tree, relative: str) -> None:
    """A path that would leave ROOT, or is none, is refused by every door."""
    for door in (tree.path, tree.open_input, lambda it: tree.scan(it, "")):
        with pytest.raises(BoundaryError, match="leaves ROOT"):
            door(relative)


def test_path_is_below_root(tree: Tree) -> None:
    """A good path is joined to ROOT; dots within a name are fine."""
    assert tree.path("silver/a..b.jsonl") == tree.root / "silver" / "a..b.jsonl"


# --- opening --------------------------------------------------------------------------------------------------------


def test_regular_file_is_read(tree: Tree) -> None:
    """A regular file opens at its start; one that is not there is None, no error."""
    tree.path("silver/a.jsonl").write_bytes(b"text")
    assert read(tree, "silver/a.jsonl") == b"text"
    assert read(tree, "silver/b.jsonl") is None
    assert read(tree, "gold/b.jsonl") is None
    assert read(tree, "silver/a.jsonl/b") is None


@pytest.mark.parametrize("kind", ["FIFO", "socket", "folder", "device"])
def test_what_is_no_regular_file_is_refused_at_once(tree: Tree, kind: str) -> None:
    """A FIFO, socket, folder or device is refused without waiting for anybody."""
    path = tree.path("silver/x.jsonl")
    match kind:
        case "FIFO":
            os.mkfifo(path)
        case "socket":
            server = socket.socket(socket.AF_UNIX)
            server.bind(os.path.relpath(path))
            server.close()
        case "folder":
            path.mkdir()
        case _:
            if os.geteuid() != 0:
                pytest.skip("making a device needs root")
            os.mknod(path, 0o020_600, os.makedev(1, 5))
    with pytest.raises(BoundaryError, match=f"it is a {kind}") as caught:
        tree.open_input("silver/x.jsonl")
    assert not caught.value.retryable
    scan = tree.scan("silver", ".jsonl")
    assert (scan.entries, scan.refused) == ([], [Refused("silver/x.jsonl", f"a {kind}")])


def test_links_may_not_leave_the_tree(tree: Tree, tmp_path: Path) -> None:
    """A link within the tree is followed; one that leads out, in a circle or nowhere is refused with its reason."""
    tree.path("silver/a.jsonl").write_bytes(b"inside")
    tree.path("kept").mkdir()
    tree.path("kept/b.jsonl").write_bytes(b"elsewhere")
    outside = tmp_path / "secret.jsonl"
    outside.write_bytes(b"secret")
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2" / "c.jsonl").write_bytes(b"sibling whose name begins like ROOT's")
    links: dict[str, str | Path] = {
        "in": "a.jsonl", "across": "../kept/b.jsonl", "out": outside, "sibling": tmp_path / "root2" / "c.jsonl",
        "twice": "out.jsonl", "nowhere": "gone.jsonl", "circle": "circle.jsonl",
    }  # fmt: skip
    for name, target in links.items():
        tree.path(f"silver/{name}.jsonl").symlink_to(target)
    scan = tree.scan("silver", ".jsonl")
    assert [entry.relative for entry in scan.entries] == [f"silver/{it}.jsonl" for it in ("a", "across", "in")]
    assert {it.relative.removeprefix("silver/").removesuffix(".jsonl"): it.reason for it in scan.refused} == {
        "out": "a link that leaves the tree",
        "sibling": "a link that leaves the tree",
        "twice": "a link that leaves the tree",
        "nowhere": "a link to nothing",
        "circle": "a link in a circle",
    }
    assert read(tree, "silver/in.jsonl") == b"inside"
    assert read(tree, "silver/across.jsonl") == b"elsewhere"
    assert read(tree, "silver/nowhere.jsonl") is None
    for name in ("out", "sibling", "twice"):
        with pytest.raises(BoundaryError, match="it is a link to"):
            tree.open_input(f"silver/{name}.jsonl")
    with pytest.raises(BoundaryError, match="circle"):
        tree.open_input("silver/circle.jsonl")


def test_folder_may_be_a_link_to_another_disk(tree: Tree, tmp_path: Path) -> None:
    """A folder, or ROOT itself, that an operator linked elsewhere is read; a file in it may not lead out of it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "a.jsonl").write_bytes(b"there")
    (disk / "b.jsonl").symlink_to("a.jsonl")
    (disk / "c.jsonl").symlink_to("/etc/passwd")
    tree.path("linked").symlink_to(disk)
    (tmp_path / "alias").symlink_to(tree.root)
    for each in (tree, Tree(tmp_path / "alias")):
        scan = each.scan("linked", ".jsonl")
        assert [entry.relative for entry in scan.entries] == ["linked/a.jsonl", "linked/b.jsonl"]
        assert scan.refused == [Refused("linked/c.jsonl", "a link that leaves the tree")]
        assert read(each, "linked/b.jsonl") == b"there"
        with pytest.raises(BoundaryError):
            each.open_input("linked/c.jsonl")


def test_file_that_is_swapped_for_a_link_never_leaks(tree: Tree, tmp_path: Path) -> None:
    """However a file and a link out of the tree are exchanged under the reader, only the file's text is ever read."""
    (tmp_path / "secret").write_bytes(b"secret")
    path = tree.path("silver/x.jsonl")
    path.write_bytes(b"fine")
    stop = threading.Event()

    def swap() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            spare = path.with_name(f"spare{number % 2}")
            if number % 2:
                spare.symlink_to(tmp_path / "secret")
            else:
                spare.write_bytes(b"fine")
            spare.rename(path)

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen: set[bytes | None] = set()
    try:
        for _ in range(3_000):
            try:
                seen.add(read(tree, "silver/x.jsonl"))
            except BoundaryError:
                seen.add(b"refused")
    finally:
        stop.set()
        swapper.join()
    assert seen <= {b"fine", b"refused", None}
    assert b"fine" in seen


def test_refusals_leak_no_descriptor(tree: Tree) -> None:
    """Refusing a thousand files leaves as many files open as before."""
    tree.path("silver/out.jsonl").symlink_to("/etc/passwd")
    os.mkfifo(tree.path("silver/fifo.jsonl"))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(1_000):
        for name in ("out", "fifo"):
            with pytest.raises(BoundaryError):
                tree.open_input(f"silver/{name}.jsonl")
    assert len(os.listdir("/proc/self/fd")) == before


# --- listing --------------------------------------------------------------------------------------------------------


def test_scan_lists_regular_files_by_name(tree: Tree) -> None:
    """A listing holds the right suffix only, in order, with the numbers a cursor needs; no hidden or temporary file."""
    for name in ("b.jsonl", "a.jsonl", ".hidden.jsonl", ".x.jsonl.0123456789abcdef.tmp", "c.jsonl~", "d.tmp", "e.txt"):
        tree.path(f"silver/{name}").write_bytes(name.encode())
    scan = tree.scan("silver", ".jsonl")
    status = tree.path("silver/a.jsonl").stat()
    assert scan.entries[0] == Entry("silver/a.jsonl", status.st_dev, status.st_ino, 7, status.st_mtime_ns)
    assert [entry.relative for entry in scan.entries] == ["silver/a.jsonl", "silver/b.jsonl"]
    assert [entry.relative for entry in tree.scan("silver", "").entries][-1] == "silver/e.txt"
    assert tree.scan("silver/", ".jsonl") == scan


def test_scan_of_a_missing_folder_is_empty(tree: Tree) -> None:
    """A folder that is not there holds nothing; a file in its place is an error with a hint."""
    assert tree.scan("nowhere/at/all", ".jsonl").entries == []
    tree.path("file").touch()
    with pytest.raises(BoundaryError, match="a file where a folder must be"):
        tree.scan("file", "")


def test_name_that_is_not_utf8_is_refused(tree: Tree) -> None:
    """A file name that no database or JSON can hold is refused, readable in the log."""
    Path(os.fsdecode(os.fsencode(tree.path("silver")) + b"/\xff.jsonl")).touch()
    assert tree.scan("silver", ".jsonl").refused == [Refused("silver/\\udcff.jsonl", "a name that is not UTF-8")]


def test_huge_sparse_file_is_listed_and_opened(tree: Tree) -> None:
    """A file of 10 GB costs nothing until it is read."""
    with tree.path("silver/huge.jsonl").open("wb") as huge:
        huge.truncate(10 << 30)
    assert tree.scan("silver", ".jsonl").entries[0].size == 10 << 30
    opened = tree.open_input("silver/huge.jsonl")
    assert opened is not None
    with opened:
        assert opened.read(3) == b"\0\0\0"


# --- replacing ------------------------------------------------------------------------------------------------------


def test_replace_writes_whole_files(tmp_path: Path) -> None:
    """Bytes or pieces become the file's content, folders are made, the mode follows the umask, nothing else is left."""
    path = tmp_path / "a" / "b" / "routes.json"
    old = os.umask(0o027)
    try:
        replace(path, b"one")
        assert path.read_bytes() == b"one"
        pieces = [b"x" * 10, b"", b"y" * (3 << 20), b"z"] * 2
        replace(path, iter(pieces))
        replace(path.with_name("empty"), b"")
    finally:
        os.umask(old)
    assert path.read_bytes() == b"".join(pieces)
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(path.parent)) == ["empty", "routes.json"]


def test_replace_that_fails_changes_nothing(tmp_path: Path) -> None:
    """When the data raise, that error passes, the old content stands and no temporary file is left."""
    path = tmp_path / "routes.json"
    replace(path, b"old")

    def pieces() -> Iterator[bytes]:
        yield b"new" * 1_000_000
        raise FileNotFoundError(errno.ENOENT, "the source is gone")

    with pytest.raises(FileNotFoundError, match="the source is gone"):
        replace(path, pieces())
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["routes.json"]


def test_replace_on_a_folder_is_refused(tmp_path: Path) -> None:
    """A folder in the file's place is an error with a hint, and nothing is left behind."""
    (tmp_path / "x").mkdir()
    with pytest.raises(BoundaryError, match="A folder stands where a file must be"):
        replace(tmp_path / "x", b"new")
    (tmp_path / "file").touch()
    with pytest.raises(BoundaryError, match="a file where a folder must be"):
        replace(tmp_path / "file" / "x", b"new")
    assert sorted(os.listdir(tmp_path)) == ["file", "x"]


@needs_root
def test_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """On a full disk the error says so and what to do, the old content stands, and the next try succeeds."""
    with mounted(tmp_path / "disk", "size=64k") as disk:
        replace(disk / "x", b"old")
        for _ in range(3):
            with pytest.raises(BoundaryError, match="Free space") as caught:
                replace(disk / "x", b"n" * 200_000)
            assert not caught.value.retryable
        assert os.listdir(disk) == ["x"]
        assert (disk / "x").read_bytes() == b"old"
        replace(disk / "x", b"n" * 20_000)


@needs_root
def test_read_only_file_system_is_explained(tmp_path: Path) -> None:
    """On a read-only file system every writer says that it is read-only."""
    with mounted(tmp_path / "disk", "size=64k") as disk:
        (disk / "x").write_bytes(b"old")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(BoundaryError, match="read-only"):
            replace(disk / "x", b"new")
        with pytest.raises(BoundaryError, match="read-only"):
            replace(disk / "folder" / "x", b"new")


@pytest.mark.skipif(os.geteuid() != 0, reason="dropping privileges needs root")
def test_missing_permission_is_explained(tmp_path: Path) -> None:
    """A file or folder of another user's gives an error that names the path and speaks of ownership."""
    (tmp_path / "closed").mkdir(0o700)
    tmp_path.chmod(0o755)
    code = f"""
import os, sys
sys.path.insert(0, {str(HERE)!r})
from pathlib import Path
from cortex_autolearn.adapters.files import *
from cortex_autolearn.adapters.tree import *
from cortex_autolearn.ports import BoundaryError
closed = Path({str(tmp_path)!r}) / "closed"
tree = Tree(closed.parent)
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for call in (lambda: replace(closed / "x", b""),
             lambda: tree.open_input("closed/x"), lambda: tree.scan("closed", "")):
    try:
        call()
    except BoundaryError as error:
        print("owns it" in str(error) and "closed" in error.subject, error.retryable)
"""
    # The interpreter itself may lie where only root may read: it is started as root and drops its rights then.
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["True", "False"] * 3, told.stderr


def test_killed_replace_leaves_old_or_new(tmp_path: Path) -> None:
    """A kill -9 in the middle leaves the old content or the new, and a leftover that cleaning removes."""
    path = tmp_path / "x"
    contents = [letter * 3_000_000 for letter in (b"a", b"b")]
    code = (
        "import sys; from pathlib import Path; from cortex_autolearn.adapters.files import replace\n"
        "while True:\n    for letter in (b'a', b'b'): replace(Path(sys.argv[1]), letter * 3_000_000)"
    )
    replace(path, contents[0])
    for attempt in range(8):
        writer = subprocess.Popen([sys.executable, "-c", code, path], cwd=HERE)
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(0.25 + attempt * 0.0137)
        writer.kill()
        writer.wait()
        assert path.read_bytes() in contents
    (tmp_path / ".keep.tmp").touch()
    (tmp_path / ".dir.0123456789abcdef.tmp").mkdir()
    assert clean_temporaries(tmp_path, older_than_s=3_600) == 0
    leftovers = len(os.listdir(tmp_path)) - 3
    assert clean_temporaries(tmp_path, older_than_s=0) == leftovers
    assert sorted(os.listdir(tmp_path)) == [".dir.0123456789abcdef.tmp", ".keep.tmp", "x"]
    assert clean_temporaries(tmp_path / "nowhere", older_than_s=0) == 0


# --- errors ---------------------------------------------------------------------------------------------------------


def test_every_error_has_a_hint() -> None:
    """An operating system's error becomes one that says operation, subject, cause and what to do."""
    for number in errno.errorcode:
        with pytest.raises(BoundaryError) as caught, wrap("append to silver", "/x/y"):
            raise OSError(number, os.strerror(number))
        assert caught.value.hint
        assert str(caught.value).startswith(f"cannot append to silver: /x/y: {os.strerror(number)}. ")
        assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(BoundaryError, match="cannot read"), wrap("read", "x"):
        raise OSError("no number at all")


def test_wrap_lets_others_pass() -> None:
    """Errors that are no operating system's pass unchanged, boundary errors of an inner call among them."""
    inner = BoundaryError("a", "b", "c", hint="d", retryable=True)
    with pytest.raises(BoundaryError) as caught, wrap("read", "x"):
        raise inner
    assert caught.value is inner
    with pytest.raises(KeyError), wrap("read", "x"):
        raise KeyError


def test_too_many_open_files_is_retryable(tmp_path: Path) -> None:
    """Running out of descriptors is explained, and may pass by itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(tmp_path, os.O_RDONLY)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        with pytest.raises(BoundaryError, match="LimitNOFILE") as caught:
            files.fsync_dir(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.retryable
