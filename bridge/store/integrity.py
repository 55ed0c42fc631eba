"""Checks a store in the background: opening a store of 4 GB took two minutes while it was read whole.

A bridge marks the store while it runs, and a clean end removes the mark. A store with the mark at the start was left by
a crash or a power cut, and is checked at once; any other store is checked every few weeks. The bridge serves meanwhile:
reads of a damaged part fail by themselves, and doors need no store.

A damaged photo is repaired by setting the person's picture again, the names for searches at the next start
(`bridge.store.name_repair`), other damage by restoring a backup. Photos that are
known to be damaged are compared again every few seconds, so that the report ends with the repair.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, inspect, select, text

from bridge.model.faults import UnavailableError
from bridge.store import name_repair
from bridge.store.counters import put_counter, read_counter
from bridge.store.database import Database
from bridge.store.errors import DamagedPartError, PhotoDamagedError, PhotoKeyError
from bridge.store.person_names import NAMES_DAMAGED, leave_alone
from bridge.store.photos import PhotoCipher, read_intact_photo
from bridge.store.tables import GROUP_PERSON, PERSON_ENTRY, PERSON_NAME, PHOTO

_LOGGER = logging.getLogger(__name__)

UNCLEAN = "unclean"
DAMAGED = "damaged"
DAMAGED_PHOTOS = "damaged_photos"
_CHECKED_AT = "checked_at"
"""Names of counters: 1 while a bridge runs; 1 after a check that failed; the number of photos that are known to be
damaged; when the last check was passed."""

_INTERVAL = timedelta(days=30)
"""Interval of checks after clean ends: they find errors of the disk before the last good backup is gone."""

_LOOK_SECONDS = 3600.0
"""Interval at which the bridge finds out whether a check is due."""

_REPAIR_SECONDS = 5.0
"""Interval at which damaged photos are compared again; a photo costs 0.3 ms."""

_PHOTOS = 10
"""Photos that one query reads: one megabyte, so that a short read waits some milliseconds at most."""

_MAX_DAMAGED_PHOTOS = 1_000
"""Damaged photos that are remembered: with more of them the disk fails, and the check reports it as such."""

_LOGGED_PERSONS = 20
"""Persons with a damaged photo that the log names, per photo: on terminals, and as many in groups."""

_BYTES_PER_SECOND = 20_000_000
"""Rate at which photos are read: a fraction of what a slow disk gives. 4 GB take four minutes."""


class IntegrityCheck:
    """Marks the store while the bridge runs, checks it, and reports damage until it is repaired."""

    def __init__(
        self,
        database: Database,
        cipher: PhotoCipher,
        now: Callable[[], datetime],
        report: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        """Store the dependencies.

        Args:
            database: the store.
            cipher: decrypts photos.
            now: returns the time.
            report: called with the present damage and its remedy as a text for people, without data of persons; with
                None when there is none any more.
        """
        self._database = database
        self._cipher = cipher
        self._now = now
        self._report = report
        self._is_due = False
        self._damage: str | None = None
        # The check does not read every page: the list of free pages, for example. Such damage is known from its effect.
        self._damage_in_use: str | None = None
        self._damaged_photos: set[str] = set()
        self._logged_photos: set[str] = set()
        self._names_damaged = False
        self._wake = asyncio.Event()
        database.watch_names(self._found_damaged_names)

    async def begin(self) -> None:
        """Find out how the store was left, and mark it. Raises UnavailableError if the store cannot be read."""
        marks = await self._database.read(_read_marks)
        try:
            await self._database.write(put_counter, UNCLEAN, 1)
        except UnavailableError as error:
            # Doors must open with a full disk too.
            _LOGGER.warning("the store cannot be marked as in use: %s", error)
        if marks[DAMAGED]:
            self._damage = "found by the last check"
        self._names_damaged = bool(marks[NAMES_DAMAGED])
        if self._names_damaged:
            try:
                await name_repair.replace_damaged_table(self._database)
            except UnavailableError as error:
                _LOGGER.warning("the names for searches cannot be repaired now: %s", error)
        if marks[DAMAGED] or marks[DAMAGED_PHOTOS]:
            self._is_due = True
        if marks[DAMAGED] or marks[DAMAGED_PHOTOS] or self._names_damaged:
            self._report(_describe(self._damage, marks[DAMAGED_PHOTOS], names_damaged=self._names_damaged))
        if marks[UNCLEAN] and self._is_file:
            _LOGGER.warning("the store was not closed cleanly: it is checked in the background")
            self._is_due = True

    async def end(self) -> None:
        """Remove the mark; to be called when nothing else uses the store."""
        # A store that cannot be written to now is checked at the next start.
        with suppress(UnavailableError):
            await self._database.write(put_counter, UNCLEAN, None)

    async def run(self) -> None:
        """Check when it is due, until cancelled."""
        while True:
            try:
                if self._names_damaged:
                    await name_repair.refill(self._database)
                    self._names_damaged = await name_repair.are_damaged(self._database)
                    self._report_present()
                if self._is_due or await self._is_old():
                    await self.check()
                else:
                    await self.compare_again()
            except UnavailableError as error:
                _LOGGER.warning("the store cannot be checked now: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(_REPAIR_SECONDS if self._damaged_photos else _LOOK_SECONDS):
                    await self._wake.wait()
            self._wake.clear()

    def photo_damaged(self, sha256: str) -> None:
        """Note a photo that was found to be damaged when it was read; it is compared again, and then reported."""
        if len(self._damaged_photos) < _MAX_DAMAGED_PHOTOS and sha256 not in self._damaged_photos:
            self._damaged_photos.add(sha256)
            self._wake.set()

    def part_damaged(self) -> None:
        """Report that something could not be read or written because of damage, and check the whole store."""
        if self._damage_in_use is None:
            self._damage_in_use = "a part of its file cannot be used"
            self._damage = self._damage or self._damage_in_use
            self._report_present()
            self._is_due = True
            self._wake.set()

    def _found_damaged_names(self) -> None:
        if not self._names_damaged:
            self._names_damaged = True
            _LOGGER.error("%s", _NAMES_DAMAGED)
            self._report_present()

    def _report_present(self) -> None:
        damaged = len(self._damaged_photos)
        self._report(_describe(self._damage, damaged, names_damaged=self._names_damaged))

    async def check(self) -> str | None:
        """Read the whole store once; store and report the result.

        Returns:
            The damage; None if there is none.

        Raises:
            UnavailableError: the store cannot be read now.
        """
        self._damaged_photos.clear()
        self._damage = await self._find_damage()
        self._is_due = False
        damage = _describe(self._damage, len(self._damaged_photos), names_damaged=self._names_damaged)
        if damage is None:
            _LOGGER.info("the integrity check of the store found no damage")
            await self._database.write(put_counter, _CHECKED_AT, int(self._now().timestamp()))
        elif self._damage is not None:
            _LOGGER.error("the integrity check of the store failed: %s", damage)
        await self._store_and_report()
        return damage

    async def compare_again(self) -> None:
        """Compare the photos again that are known to be damaged. Raises UnavailableError."""
        if self._damaged_photos:
            for sha256 in sorted(self._damaged_photos):
                if await self._database.read(_photo_damage, self._cipher, sha256) is None:
                    self._damaged_photos.discard(sha256)
            if not self._damaged_photos:
                _LOGGER.info("no photo in the store is damaged any more")
            await self._store_and_report()

    @property
    def _is_file(self) -> bool:
        """Whether the store is a file; a database server checks its own."""
        return self._database.engine.dialect.name == "sqlite"

    async def _is_old(self) -> bool:
        if not self._is_file:
            return False
        checked_at = await self._database.read(read_counter, _CHECKED_AT)
        if checked_at is None:
            await self._database.write(put_counter, _CHECKED_AT, int(self._now().timestamp()))
            return False
        return self._now().timestamp() - checked_at > _INTERVAL.total_seconds()

    async def _store_and_report(self) -> None:
        """Report the present damage, and store it for `facebridge doctor` and the next start."""
        damaged = len(self._damaged_photos)
        try:
            await self._database.write(_store_damage, is_damaged=self._damage is not None, damaged_photos=damaged)
        finally:
            # Also if the store cannot be written to, as on a failing disk.
            self._report_present()
        await self._log_new_photos()

    async def _log_new_photos(self) -> None:
        """Name the persons of damaged photos, each photo once."""
        self._logged_photos &= self._damaged_photos
        for sha256 in sorted(self._damaged_photos - self._logged_photos):
            self._logged_photos.add(sha256)
            persons = await self._database.read(_persons_with, sha256)
            _LOGGER.error(
                "photo %s in the store is damaged and not sent: set the picture again of %s",
                sha256[:12],
                ", ".join(persons) or "no person",
            )

    async def _check_names(self) -> None:
        """Check the names for searches, which can be built from the persons."""
        with suppress(DamagedPartError):
            if await self._database.read(table_damage, PERSON_NAME.name) is None:
                return
        leave_alone(self._database.engine)
        await self._database.write(put_counter, NAMES_DAMAGED, 1)
        self._found_damaged_names()

    async def _find_damage(self) -> str | None:
        """Return damage other than that of single photos, which are added to `_damaged_photos`."""
        try:
            if self._is_file:
                for table in await self._database.read(_table_names):
                    if table == PERSON_NAME.name:
                        await self._check_names()
                    elif (damage := await self._database.read(table_damage, table)) is not None:
                        return damage
            after: str | None = ""
            while after is not None:
                after, size, damaged = await self._database.read(_check_photos, self._cipher, after)
                self._damaged_photos.update(damaged)
                if len(self._damaged_photos) > _MAX_DAMAGED_PHOTOS:
                    return f"more than {_MAX_DAMAGED_PHOTOS:,} photos"
                await asyncio.sleep(size / _BYTES_PER_SECOND)
        except DamagedPartError:
            return "a part of its file cannot be read"
        return self._damage_in_use


_NAMES_DAMAGED = (
    "the names for searches in the store are damaged, so lists and searches of persons fail or miss persons: restart"
    " the bridge, which then builds the names again; everything else works"
)


def _describe(damage: str | None, damaged_photos: int, *, names_damaged: bool) -> str | None:
    """Return the damage and its remedy; None if there is none."""
    if damage is not None:
        return (
            f"the store is damaged ({damage}): restore a backup (`facebridge restore FILE`); doors can be opened"
            " meanwhile, person changes may fail"
        )
    if names_damaged:
        return _NAMES_DAMAGED
    if damaged_photos:
        photos = f"{damaged_photos:,} photos in the store are" if damaged_photos > 1 else "1 photo in the store is"
        return f"{photos} damaged and not sent: set the picture of these persons again; the log names them"
    return None


def table_damage(connection: Connection, table: str) -> str | None:
    """Check the structure of one table of SQLite and its indexes; return the damage."""
    result = connection.execute(text(f"PRAGMA quick_check({table})")).scalar_one()
    return None if result == "ok" else f"table {table}"


def _table_names(connection: Connection) -> list[str]:
    """Return the tables whose structure is checked in one go; photos are read a few at a time."""
    return [name for name in inspect(connection).get_table_names() if name != PHOTO.name]


def _check_photos(connection: Connection, cipher: PhotoCipher, after: str) -> tuple[str | None, int, Sequence[str]]:
    """Compare some photos with their digests.

    Returns:
        The last one (None: none is left), the number of bytes that were read, and those that are damaged.
    """
    query = select(PHOTO.c.sha256, func.length(PHOTO.c.jpeg)).where(PHOTO.c.sha256 > after)
    rows = connection.execute(query.order_by(PHOTO.c.sha256).limit(_PHOTOS)).all()
    damaged = [sha256 for sha256, _ in rows if _photo_damage(connection, cipher, sha256) is not None]
    return (rows[-1].sha256 if rows else None), sum(size for _, size in rows), damaged


def _photo_damage(connection: Connection, cipher: PhotoCipher, sha256: str) -> str | None:
    """Return why a photo cannot be used; None if it is intact, or not there any more."""
    try:
        read_intact_photo(connection, cipher, sha256)
    except (PhotoDamagedError, PhotoKeyError) as error:
        return str(error)
    return None


def _persons_with(connection: Connection, sha256: str) -> Sequence[str]:
    """Return the first few places that have a person with a photo, as parts of a log line."""
    entry, kept = PERSON_ENTRY.c, GROUP_PERSON.c
    on_terminals = select(entry.sn, entry.person_id).where(entry.photo_sha256 == sha256)
    in_groups = select(kept.group_name, kept.person_id).where(kept.photo_sha256 == sha256)
    terminals = connection.execute(on_terminals.order_by(entry.sn, entry.person_id).limit(_LOGGED_PERSONS))
    groups = connection.execute(in_groups.order_by(kept.group_name, kept.person_id).limit(_LOGGED_PERSONS))
    return [
        *(f"person {row.person_id} on terminal {row.sn}" for row in terminals),
        *(f"person {row.person_id} in group {row.group_name}" for row in groups),
    ]


def _read_marks(connection: Connection) -> dict[str, int]:
    return {name: read_counter(connection, name) or 0 for name in (UNCLEAN, DAMAGED, DAMAGED_PHOTOS, NAMES_DAMAGED)}


def _store_damage(connection: Connection, *, is_damaged: bool, damaged_photos: int) -> None:
    put_counter(connection, DAMAGED, 1 if is_damaged else None)
    put_counter(connection, DAMAGED_PHOTOS, damaged_photos or None)
