"""Which file system a path is on, and whether SQLite's log can work there.

Owns: file_system_of, is_shared, refuse_shared.  May import: kernel.
"""

from __future__ import annotations

import re
from pathlib import Path

from celeriac.kernel.errors import ImproperlyConfigured

MOUNTS = Path("/proc/self/mounts")
"""Where Linux lists what is mounted; other systems have no such list, and nothing is refused there."""

SHARED = frozenset(
    "nfs nfs4 cifs smb3 smbfs 9p afs ceph glusterfs lustre gpfs beegfs ncpfs vboxsf prl_fs drvfs"
    " davfs fuse.sshfs fuse.glusterfs fuse.ceph fuse.davfs2 fuse.rclone fuse.s3fs fuse.gcsfuse"
    " fuse.vmhgfs-fuse fuse.osxfs fuse.grpcfuse".split()
)
"""File systems whose other users do not see this machine's locks and shared memory."""

_ESCAPED = re.compile(r"\\([0-7]{3})")


def file_system_of(path: Path) -> tuple[str, str]:
    """Return the kind of file system that a path is on and where it is mounted.

    Two empty texts where the system does not say so.
    """
    try:
        lines = MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return "", ""
    inside = f"{path.resolve()}/"
    found = ("", "")
    for line in lines:
        words = line.split(" ")
        if len(words) < 3:
            continue
        point = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), words[1])
        # Of those at one place the last is seen.
        if inside.startswith(f"{point.rstrip('/')}/") and len(point) >= len(found[1]):
            found = words[2], point
    return found


def is_shared(kind: str, point: str) -> bool:
    """Return whether a file system is shared over a network, or with another machine's system."""
    # A sandbox may have its own root on 9p: nobody else uses that.
    return kind in SHARED and (kind, point) != ("9p", "/")


def refuse_shared(path: Path) -> None:
    """Let a file pass whose folder is on a local disk.

    :raises ImproperlyConfigured: it is not.
    """
    kind, point = file_system_of(path.parent)
    if is_shared(kind, point):
        raise ImproperlyConfigured(
            f"the SQLite file {path} would be on {kind} (mounted at {point}), where its log and its"
            " locks do not hold and tasks can be lost: name a file on a local disk"
            " (broker_url = 'sqlite:////var/lib/...'), or use a server for a broker. Where you know"
            " that only processes of this machine use it and that locks and shared memory work"
            " there: broker_transport_options = {'network_file_system': True}"
        )
