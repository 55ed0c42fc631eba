"""The store: whether the bridge can use it, where it lies, and how much waits in it."""

import asyncio
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from bridge.config.settings import StoreSettings
from bridge.doctor.findings import Finding, make_finding
from bridge.model.faults import UnavailableError
from bridge.model.terminal import Terminal
from bridge.store.engine import store_file
from bridge.store.errors import StoreError
from bridge.store.inspection import StoreInspection, inspect_store
from bridge.store.instance_lock import is_bridge_running

_LOW_DISK_BYTES = 500_000_000
"""Free space below which a look is due: some thousand photos more, and logs beside them."""
_FULL_DISK_BYTES = 20_000_000
"""Free space below which the next larger change may be refused."""

_LARGE_WAL_BYTES = 256_000_000
"""Size of SQLite's write-ahead log. SQLite normally writes it back every thousand pages, unless a reader stays open."""

_LONG_PENDING = timedelta(days=1)
"""A change that no terminal has confirmed for so long needs a look: a terminal that only restarts is back earlier."""

_NETWORK_FILESYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs", "virtiofs"}
)
_MEMORY_FILESYSTEMS = frozenset({"tmpfs", "ramfs"})
_MOUNTS = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class StoreCheck:
    """The result of the check of the store.

    Attributes:
        findings: what was found.
        inspection: the store's content; None if it cannot be read.
        bridge_running: whether a bridge runs on it.
    """

    findings: list[Finding]
    inspection: StoreInspection | None = None
    bridge_running: bool = False


async def check_store(settings: StoreSettings, now: datetime) -> StoreCheck:
    """Check whether the bridge can use the store. The store is opened read-only."""
    url = settings.url.reveal()
    try:
        file = store_file(url)
        if file is not None and (problem := await asyncio.to_thread(_access_problem, file)) is not None:
            return StoreCheck([make_finding("store_unusable", problem, "correct it, or set store.url")])
        inspection = await inspect_store(url, settings.photo_key)
        # The check creates the lock's file, so it is made only if there is a store.
        bridge_running = inspection.exists and await is_bridge_running(url)
    except (StoreError, UnavailableError) as error:
        return StoreCheck([make_finding("store_unusable", str(error), "see docs/operation.md, the store")])
    findings = list(evaluate_store(inspection, settings.shown_url, now, bridge_running=bridge_running))
    return StoreCheck(findings, inspection, bridge_running)


def _access_problem(file: Path) -> str | None:
    """Return why the bridge cannot read and write a file, which may not exist yet; None if it can."""
    folder = file.absolute().parent
    if not folder.is_dir():
        return f"the store's folder {folder} does not exist"
    if not file.exists():
        return None if os.access(folder, os.W_OK) else f"the store's folder {folder} is not writable"
    return None if os.access(file, os.R_OK | os.W_OK) else f"the store {file} is not readable and writable"


def evaluate_store(
    inspection: StoreInspection, shown_url: str, now: datetime, *, bridge_running: bool
) -> Iterator[Finding]:
    """Report the content of the store."""
    if not inspection.exists:
        code = "store_unusable" if bridge_running else "store_absent"
        yield make_finding(code, f"there is no store at {shown_url} yet; the bridge creates it when it starts")
    elif inspection.is_foreign:
        yield make_finding(
            "store_foreign",
            f"{shown_url} holds a database of another program",
            "give Facebridge a file or database of its own: store.url",
        )
    elif inspection.damage is not None:
        yield make_finding(
            "store_unusable",
            f"the store {shown_url} cannot be used: {inspection.damage}",
            "restore a backup (`facebridge restore FILE`), or move the file away to start with an empty store",
        )
    elif inspection.is_old:
        yield make_finding(
            "store_old_schema",
            "an older version wrote the store; the bridge updates it when it starts",
            "make a backup first: `facebridge backup FILE`",
        )
    else:
        yield from _evaluate_content(inspection, shown_url, now)


def _evaluate_content(inspection: StoreInspection, shown_url: str, now: datetime) -> Iterator[Finding]:
    pending = sum(inspection.pending.values())
    yield make_finding(
        "store_ok",
        f"{shown_url} can be used; {inspection.photos:,} photos, {pending:,} changes pending,"
        f" {sum(inspection.refused.values()):,} refused",
    )
    if inspection.photo_key_problem is not None:
        yield make_finding(
            "store_photo_key", inspection.photo_key_problem, "add the old key: store.photo_key: [new, old]"
        )
    if inspection.damaged_photos:
        yield make_finding(
            "store_photos_damaged",
            f"{inspection.damaged_photos:,} photos in the store are damaged; they are not sent to terminals",
            "set the picture of these persons again; the bridge's log names them",
        )
    if inspection.names_damaged:
        yield make_finding(
            "store_names_damaged",
            "the names for searches in the store are damaged: lists and searches of persons fail or miss persons",
            "restart the bridge: it builds the names again in the background; nothing else is affected",
        )
    if inspection.oldest_pending is not None and now - inspection.oldest_pending > _LONG_PENDING:
        days = (now - inspection.oldest_pending) // timedelta(days=1)
        yield make_finding(
            "store_pending_long",
            f"{pending:,} changes wait for {len(inspection.pending)} terminals, the oldest for {days} days",
            "look at the terminals that are offline, or forget those that are gone; `facebridge persons verify` lists"
            " the changes",
        )
    if inspection.wal_bytes > _LARGE_WAL_BYTES:
        yield make_finding(
            "store_wal_large",
            f"SQLite's write-ahead log has grown to {inspection.wal_bytes / 1e6:,.0f} MB",
            "look for a program that keeps the store open; a restart of the bridge writes the log back",
        )


def evaluate_groups(kept: Mapping[str, int], terminals: Iterable[Terminal]) -> Iterator[Finding]:
    """Report groups that keep persons and have no members.

    Args:
        kept: the number of persons that each group keeps.
        terminals: all known terminals.
    """
    members = {group for terminal in terminals for group in terminal.memberships}
    for group in sorted(kept.keys() - members):
        persons = f"{kept[group]:,} person{'' if kept[group] == 1 else 's'}"
        yield make_finding(
            "store_group_without_members",
            f"group {group} keeps {persons} and has no members",
            "give a terminal this group, or remove the persons from it: publish"
            f' {{"all": true, "confirm": "{group}"}} to B/group/{group}/person/remove',
        )


def check_store_location(file: Path) -> list[Finding]:
    """Check the file system, free space and mode of the store's file, which may not exist yet."""
    try:
        mounts = _MOUNTS.read_text()
    except OSError:
        mounts = ""
    return [*evaluate_filesystem(filesystem_of(file, mounts)), *_check_disk(file), *_check_mode(file)]


def evaluate_filesystem(filesystem: str | None) -> Iterator[Finding]:
    """Report what a type of file system means for the store; None if it is unknown."""
    if filesystem in _MEMORY_FILESYSTEMS:
        yield make_finding(
            "store_on_tmpfs",
            f"the store lies in memory ({filesystem}): it is lost when the machine restarts",
            "put it on a disk: store.url",
        )
    elif filesystem in _NETWORK_FILESYSTEMS:
        yield make_finding(
            "store_on_network",
            f"the store lies on a network or shared folder ({filesystem}), where SQLite's locks and write-ahead log are"
            " not reliable",
            "put it on a disk of this machine, or use PostgreSQL: store.url",
        )
    elif filesystem == "overlay":
        yield make_finding(
            "store_on_overlay",
            "the store lies in a container's own layer, which is deleted when the container is replaced",
            "put it on a volume",
        )


def filesystem_of(file: Path, mounts: str) -> str | None:
    """Return the type of the file system that holds a file; None if it is unknown.

    Args:
        file: a path, existing or not.
        mounts: the text of `/proc/self/mountinfo` (proc(5)).
    """
    folder = file.absolute().parent.resolve()
    best: tuple[int, str | None] = (-1, None)
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields, filesystem = left.split(), right.partition(" ")[0]
        if len(fields) < 5 or not filesystem:
            continue
        point = Path(fields[4].encode().decode("unicode_escape"))
        # If two are mounted on one point, the later one is visible.
        if folder.is_relative_to(point) and len(point.parts) >= best[0]:
            best = (len(point.parts), filesystem)
    return best[1]


def _check_disk(file: Path) -> Iterator[Finding]:
    try:
        free = shutil.disk_usage(file.absolute().parent).free
    except OSError:
        # `check_store` reports a folder that cannot be used.
        return
    if free < _FULL_DISK_BYTES:
        code, what = "store_disk_full", "the store's disk is full, so changes are refused"
    elif free < _LOW_DISK_BYTES:
        code, what = "store_disk_low", "the store's disk is nearly full"
    else:
        return
    yield make_finding(code, f"{what} ({free / 1e6:,.0f} MB free)", "free some space")


def _check_mode(file: Path) -> Iterator[Finding]:
    try:
        mode = file.stat().st_mode
    except OSError:
        return
    if mode & 0o077:
        yield make_finding(
            "store_readable",
            f"other users of this machine may read the store, names and faces included (mode {mode & 0o777:o})",
            f"chmod 600 {file}",
        )
