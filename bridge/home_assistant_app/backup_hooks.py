"""The store in Home Assistant's backups, which copy `/data` file by file, running or not.

A database that is written to while it is copied is no backup, so its files are left out (`backup_exclude` in
`ha_addon/config.yaml`) and something else stands for them:

- While the app runs Home Assistant calls `backup` before it copies, which writes `facebridge.backup`, and
  `after-backup` when it is done, which deletes it: faces are not kept twice for longer than that.
- A stopped app is copied without a word. So at its end the app gives the closed database a second name, a hard link,
  that is not left out, and takes it away at its start.

A restored `/data` then has one of the two and no database, by which it is known. Only of an app that was killed and
not started again a backup has nothing; Home Assistant's watchdog, and the next start of the machine, start it again.
"""

import asyncio
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.app import StartError
from bridge.home_assistant_app.options import Container
from bridge.model.faults import UnavailableError
from bridge.store.backup import back_up, restore
from bridge.store.errors import StoreError

_LOGGER = logging.getLogger(__name__)

BACKUP = "facebridge.backup"
AT_REST = "facebridge.at-rest"


async def write_backup(container: Container) -> None:
    """Write the store into the file that Home Assistant copies; nothing where there is no store yet.

    Raises:
        StoreError: the store cannot be opened.
        UnavailableError: store or file cannot be read or written.
    """
    if await asyncio.to_thread(container.store.exists):
        await back_up(container.store_url, container.data / BACKUP, lambda _done, _total: None)


def remove_backup(container: Container) -> None:
    """Delete that file again, unless it is all there is."""
    if container.store.exists():
        (container.data / BACKUP).unlink(missing_ok=True)


async def bring_back(container: Container) -> None:
    """Restore the store where this `/data` comes out of a backup, and tidy up where it does not.

    Raises:
        StartError: what is in the backup cannot be used; it is left where it is.
    """
    at_rest, backup = container.data / AT_REST, container.data / BACKUP
    if not await asyncio.to_thread(container.store.exists):
        # The one of a stopped app is the younger: it goes at every start.
        found = next((file for file in (at_rest, backup) if file.exists()), None)
        if found is None:
            return
        try:
            await restore(found, container.store_url, lambda _done, _total: None)
        except (StoreError, UnavailableError) as error:
            raise StartError(f"the restored backup cannot be used: {error}") from None
        _LOGGER.warning(
            "this app was restored from a backup: everything is sent to the terminals again. Persons who were added"
            " since the backup was made may still be on terminals; a sync with clear removes them"
        )
    await asyncio.to_thread(_tidy_up, container.data)


@contextmanager
def left_at_rest(container: Container) -> Iterator[None]:
    """Give the closed database its second name when the block ends, however it ends."""
    try:
        yield
    finally:
        log = container.data / f"{container.store.name}-wal"
        # A command that still reads keeps the log, without which the file is not all of it.
        if container.store.exists() and not (log.exists() and log.stat().st_size):
            at_rest = container.data / AT_REST
            try:
                at_rest.unlink(missing_ok=True)
                at_rest.hardlink_to(container.store)
            except OSError as error:
                _LOGGER.warning("a backup of the stopped app will not hold its data: %s", error.strerror)


def _tidy_up(data: Path) -> None:
    (data / AT_REST).unlink(missing_ok=True)
    (data / BACKUP).unlink(missing_ok=True)
    for half in data.glob(f".{BACKUP}.*"):
        # Of a backup that was cut off by the end of the container.
        shutil.rmtree(half, ignore_errors=True)
