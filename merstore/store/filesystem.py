"""What kind of filesystem a store lies on, and whether LMDB's locks and maps can be trusted there."""

import os
import resource
import shutil
from pathlib import Path

# Kinds on which several machines may see one file: fcntl locks and shared memory maps do not reach
# across.
NETWORK = frozenset(
    (
        *(
            "nfs",
            "nfs4",
            "cifs",
            "smb3",
            "smbfs",
            "lustre",
            "glusterfs",
            "beegfs",
            "gpfs",
            "ceph",
            "afs",
        ),
        *(
            "9p",
            "ncpfs",
            "orangefs",
            "pvfs2",
            "panfs",
            "fuse.sshfs",
            "fuse.glusterfs",
            "fuse.cephfs",
        ),
        *("fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.juicefs", "fuse.beegfs"),
    )
)


def kind_of(path: Path) -> str:
    """The filesystem type of the mount that ``path`` lies on, as in ``/proc/self/mountinfo``;
    ``"unknown"`` elsewhere.
    """
    path = path.resolve()
    best, kind = -1, "unknown"
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return kind
    for line in lines:
        mount, _, rest = line.partition(" - ")
        point = Path(mount.split()[4].encode().decode("unicode_escape"))
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), rest.split()[0]
    return kind


def is_network(path: Path) -> bool:
    return kind_of(path) in NETWORK


def free_bytes(path: Path) -> int:
    return shutil.disk_usage(path).free


def is_full(directory: Path) -> bool:
    """Whether the disk has next to nothing left, or the system lets ``data.mdb`` grow no further."""
    size = (directory / "data.mdb").stat().st_size
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    near = 1 << 20
    return free_bytes(directory) < near or (limit != resource.RLIM_INFINITY and size > limit - near)


def can_write(directory: Path) -> bool:
    """Whether files in this directory can be created and written: permission, and a filesystem
    mounted for writing.
    """
    data = directory / "data.mdb"
    if not os.access(directory, os.W_OK) or os.statvfs(directory).f_flag & os.ST_RDONLY:
        return False
    return not data.exists() or os.access(data, os.W_OK)
