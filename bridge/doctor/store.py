"""The store: whether it can be used, where it lies, and what waits in it."""

import shutil
from datetime import datetime, timedelta
from pathlib import Path

from bridge.doctor.findings import Finding, found
from bridge.store.inspection import StoreInspection

_LITTLE_ROOM = 500_000_000
"""Bytes free below which somebody should look: some thousand photos more, and logs beside them."""
_NO_ROOM = 20_000_000
"""Bytes free below which the next larger change may be refused."""

_LARGE_WAL = 256_000_000
"""Bytes of SQLite's log: it is taken up at every thousand pages, unless somebody reads for long."""

_LONG = timedelta(days=1)
"""After which a change that nobody confirmed is worth a look: a terminal that is only restarted is back by then."""

_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs", "virtiofs"}
)
_MOUNTS = Path("/proc/self/mountinfo")
_MEMORY = frozenset({"tmpfs", "ramfs"})


def judge_store(seen: StoreInspection, shown_url: str, now: datetime, *, bridge_running: bool) -> list[Finding]:
    """Say what was seen in the store."""
    if not seen.exists:
        code = "store_unusable" if bridge_running else "store_absent"
        return [found(code, f"there is no store at {shown_url} yet; the bridge makes it when it starts")]
    if seen.is_foreign:
        return [
            found(
                "store_foreign",
                f"{shown_url} holds a database of another program",
                "give Facebridge a file or database of its own: store.url",
            )
        ]
    if seen.damage is not None:
        return [
            found(
                "store_unusable",
                f"the store {shown_url} cannot be used: {seen.damage}",
                "restore a backup (`facebridge restore FILE`), or move the file away to start empty",
            )
        ]
    if seen.is_old:
        return [
            found(
                "store_old_schema",
                "the store was written by an older version; the bridge brings it up to date when it starts",
                "make a backup before: `facebridge backup FILE`",
            )
        ]
    return _judge_content(seen, shown_url, now)


def _judge_content(seen: StoreInspection, shown_url: str, now: datetime) -> list[Finding]:
    pending = sum(seen.pending.values())
    findings = [
        found(
            "store_ok",
            f"{shown_url} can be used; {seen.photos:,} photos, {pending:,} changes pending,"
            f" {sum(seen.refused.values()):,} refused",
        )
    ]
    if seen.photo_key_problem is not None:
        findings.append(
            found("store_photo_key", seen.photo_key_problem, "give the old key too: store.photo_key: [new, old]")
        )
    if seen.oldest_pending is not None and now - seen.oldest_pending > _LONG:
        days = (now - seen.oldest_pending) // timedelta(days=1)
        findings.append(
            found(
                "store_pending_long",
                f"{pending:,} changes wait for {len(seen.pending)} terminals, the oldest for {days} days",
                "look at the terminals that are offline, or forget those that are gone;"
                " `facebridge persons verify` lists the changes",
            )
        )
    if seen.wal_bytes > _LARGE_WAL:
        findings.append(
            found(
                "store_wal_large",
                f"SQLite's log beside the store has grown to {seen.wal_bytes / 1e6:,.0f} MB",
                "look for a program that keeps the store open; a restart of the bridge takes the log up",
            )
        )
    return findings


def judge_place(file: Path) -> list[Finding]:
    """Say what is to be said of where the file lies, there or not."""
    try:
        mounts = _MOUNTS.read_text()
    except OSError:
        mounts = ""
    return judge_filesystem(filesystem_of(file, mounts)) + _judge_disk(file) + _judge_mode(file)


def judge_filesystem(kind: str | None) -> list[Finding]:
    """Say what is to be said of a type of file system; None for one that cannot be told."""
    findings = []
    if kind in _MEMORY:
        findings.append(
            found(
                "store_on_tmpfs",
                f"the store lies in memory ({kind}): it is gone when the machine restarts",
                "put it on a disk: store.url",
            )
        )
    elif kind in _NETWORK:
        findings.append(
            found(
                "store_on_network",
                f"the store lies on a network or shared folder ({kind}), where SQLite's locks and log do not hold",
                "put it on a disk of this machine, or use PostgreSQL: store.url",
            )
        )
    elif kind == "overlay":
        findings.append(
            found(
                "store_on_overlay",
                "the store lies in a container's own layer, which goes when the container is replaced",
                "put it on a volume",
            )
        )
    return findings


def filesystem_of(file: Path, mounts: str) -> str | None:
    """Return the type of the file system that a file lies on; None where it cannot be told.

    Args:
        file: there or not.
        mounts: `/proc/self/mountinfo` (proc(5)).
    """
    folder = file.absolute().parent.resolve()
    best: tuple[int, str | None] = (-1, None)
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.partition(" ")[0]
        if len(fields) < 5 or not kind:
            continue
        point = Path(fields[4].encode().decode("unicode_escape"))
        # Of two on one place, the later lies on top.
        if folder.is_relative_to(point) and len(point.parts) >= best[0]:
            best = (len(point.parts), kind)
    return best[1]


def _judge_disk(file: Path) -> list[Finding]:
    try:
        free = shutil.disk_usage(file.absolute().parent).free
    except OSError as error:
        what = f"the store's folder {file.absolute().parent} cannot be used: {error.strerror}"
        return [found("store_unusable", what, "make it, or set store.url")]
    if free < _NO_ROOM:
        code, what = "store_disk_full", "there is no room left on the store's disk: changes are refused"
    elif free < _LITTLE_ROOM:
        code, what = "store_disk_low", "the store's disk is nearly full"
    else:
        return []
    return [found(code, f"{what} ({free / 1e6:,.0f} MB free)", "make room")]


def _judge_mode(file: Path) -> list[Finding]:
    try:
        mode = file.stat().st_mode
    except OSError:
        return []
    if not mode & 0o077:
        return []
    what = f"other users of this machine may read the store, names and faces included (mode {mode & 0o777:o})"
    return [found("store_readable", what, f"chmod 600 {file}")]
