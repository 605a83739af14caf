"""What this machine has mounted, and which of it is a network: inotify does not hear there what others write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_NETWORK: Final = frozenset(
    ["nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "virtiofs"]
)


def network_filesystem(path: str, mounts: str) -> str | None:
    """Return the kind of the network file system that ``path`` lies on, or None where events can be trusted.

    Arguments:
        path: absolute, links resolved.
        mounts: text of ``/proc/self/mounts``.
    """
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1])
        # The last of equally long ones hides those before it.
        if len(point) >= len(best) and (path == point or path.startswith(point.rstrip("/") + "/")):
            best, kind = point, fields[2]
    return kind if kind in _NETWORK or kind.startswith("fuse.") else None


def read() -> str:
    """Return the text of ``/proc/self/mounts``; nothing where there is none."""
    try:
        return Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""  # not Linux: watchfiles knows its own ways there
