"""The store in Home Assistant's backups, which copy the files of `/data` whether the app runs or not.

A copy of a database file during a write is useless. So `backup_exclude` in `ha_addon/config.yaml` leaves out the
database files, and one of two other files takes their place:

- While the app runs, Home Assistant calls `backup` before it copies, which writes `facebridge.backup`, and then
  `after-backup`, which deletes that file, so that photos are not kept twice.
- While the app is stopped, Home Assistant copies without a call. So the app gives the closed database a second name
  (a hard link) at its end, `facebridge.at-rest`, which is not left out, and removes that name at its start.

A restored `/data` then has one of the two files and no database, which the app recognises at its start. The backup
lacks the store only if the app was killed and not started again; Home Assistant's watchdog and the next start of the
machine do start it again.
"""

import asyncio
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.home_assistant_app.options import Container
from bridge.model.faults import UnavailableError

_LOGGER = logging.getLogger(__name__)

BACKUP = "facebridge.backup"
AT_REST = "facebridge.at-rest"


class RestoreError(Exception):
    """The file of a backup cannot be used; the message says why."""


async def write_backup(container: Container) -> None:
    """Write the store into the file that Home Assistant copies; does nothing if there is no store yet.

    Raises:
        StoreError: the store cannot be opened.
        UnavailableError: the store cannot be read or the file cannot be written.
    """
    if await asyncio.to_thread(container.store.exists):
        # Imported here, because `after-backup` does not need SQLAlchemy, whose import takes most of its time.
        from bridge.store.backup import back_up

        await back_up(container.store_url, container.data / BACKUP, lambda _done, _total: None)


def remove_backup(container: Container) -> None:
    """Delete that file, unless there is no store."""
    if container.store.exists():
        (container.data / BACKUP).unlink(missing_ok=True)


async def restore_from_backup(container: Container) -> None:
    """Restore the store if this `/data` comes from a backup, then delete leftovers of backups.

    Raises:
        RestoreError: the file of the backup cannot be used; it is kept.
    """
    at_rest, backup = container.data / AT_REST, container.data / BACKUP
    if not await asyncio.to_thread(container.store.exists):
        # The file of a stopped app is the newer one, because every start deletes it.
        found = next((file for file in (at_rest, backup) if file.exists()), None)
        if found is None:
            return
        from bridge.store.backup import restore
        from bridge.store.errors import StoreError

        try:
            await restore(found, container.store_url, lambda _done, _total: None)
        except (StoreError, UnavailableError) as error:
            raise RestoreError(f"{found}: the restored backup cannot be used: {error}") from None
        _LOGGER.warning(
            "this app was restored from a backup: all persons are sent to the terminals again. Persons who were added"
            " after the backup may still be on terminals; a sync with clear removes them"
        )
    await asyncio.to_thread(_delete_leftovers, container.data)


@contextmanager
def second_name_at_end(container: Container) -> Iterator[None]:
    """Give the closed database its second name at the end of the block, also after an error."""
    try:
        yield
    finally:
        log = container.data / f"{container.store.name}-wal"
        # A command that still reads keeps the write-ahead log; without it the database file is incomplete.
        if container.store.exists() and not (log.exists() and log.stat().st_size):
            at_rest = container.data / AT_REST
            try:
                at_rest.unlink(missing_ok=True)
                at_rest.hardlink_to(container.store)
            except OSError as error:
                _LOGGER.warning("a backup of the stopped app will not contain its data: %s", error.strerror)


def _delete_leftovers(data: Path) -> None:
    (data / AT_REST).unlink(missing_ok=True)
    (data / BACKUP).unlink(missing_ok=True)
    for unfinished in data.glob(f".{BACKUP}.*"):
        # The container ended during a backup.
        shutil.rmtree(unfinished, ignore_errors=True)
