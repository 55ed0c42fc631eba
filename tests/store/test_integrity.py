"""The bridge opens a store without reading it whole, and checks it in the background."""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert

from bridge.model.secret import Secret
from bridge.store.counters import read_counter
from bridge.store.database import Database
from bridge.store.inspection import inspect_store
from bridge.store.integrity import UNCLEAN, IntegrityCheck
from bridge.store.photos import PLAIN, PhotoCipher, add_photos
from bridge.store.tables import PHOTO

OTHER = "f" * 64

NOW = datetime(2026, 11, 24, 8, tzinfo=UTC)


class Reported:
    """Keeps the last report."""

    def __init__(self) -> None:
        self.text: str | None = None
        self.changed = asyncio.Event()

    def __call__(self, text: str | None) -> None:
        self.text = text
        self.changed.set()


def integrity(
    database: Database, cipher: PhotoCipher = PLAIN, report: Callable[[str | None], None] = lambda _: None
) -> IntegrityCheck:
    return IntegrityCheck(database, cipher, lambda: NOW, report)


def put_photos(connection: Connection, cipher: PhotoCipher, number: int) -> None:
    photos = [f"{index:02000}".encode() for index in range(number)]
    add_photos(connection, cipher, {hashlib.sha256(photo).hexdigest(): photo for photo in photos})


def put_damaged_photo(connection: Connection) -> None:
    connection.execute(insert(PHOTO).values(sha256=OTHER, jpeg=b"0"))


async def execute(database: Database, statement: str) -> None:
    def run(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    await database.write(run)


@pytest.fixture
async def store(sqlite: Database) -> Database:
    await sqlite.write(put_photos, PLAIN, 200)
    return sqlite


def damage(file: Path) -> None:
    """Overwrite two pages in the middle of the photos."""
    content = bytearray(file.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 8192] = b"\xff" * 8192
    file.write_bytes(content)


async def test_opening_does_not_read_the_whole_store(store: Database, file: Path) -> None:
    await store.close()
    damage(file)
    # The damage is among the photos: what takes no time to read does not find it.
    await (await Database.open(f"sqlite:///{file}")).close()


async def test_a_damaged_store_is_noticed_in_the_background(store: Database, file: Path) -> None:
    await store.close()
    damage(file)
    opened = await Database.open(f"sqlite:///{file}")
    reported = Reported()
    assert await integrity(opened, report=reported).check() is not None
    assert "restore a backup" in (reported.text or "")
    later = Reported()
    await integrity(opened, report=later).begin()
    assert "restore a backup" in (later.text or "")
    await opened.close()
    assert (await inspect_store(f"sqlite:///{file}", ())).damage is not None


async def test_a_photo_that_differs_from_its_digest_is_noticed(store: Database) -> None:
    check = integrity(store)
    assert await check.check() is None
    await execute(store, f"INSERT INTO photo (sha256, jpeg) VALUES ('{OTHER}', x'00')")
    assert "1 photo in the store is damaged" in (await check.check() or "")


async def test_an_encrypted_photo_that_was_changed_is_noticed(sqlite: Database) -> None:
    cipher = PhotoCipher([Secret("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=")])
    await sqlite.write(put_photos, cipher, 3)
    assert await integrity(sqlite, cipher).check() is None
    await execute(sqlite, "UPDATE photo SET jpeg = substr(jpeg, 2)")
    assert "3 photos in the store are damaged" in (await integrity(sqlite, cipher).check() or "")


async def test_only_an_unclean_end_leaves_a_mark(store: Database, caplog: pytest.LogCaptureFixture) -> None:
    first = integrity(store)
    await first.begin()
    await first.end()
    assert await store.read(read_counter, UNCLEAN) is None
    await integrity(store).begin()
    assert "not closed cleanly" not in caplog.text
    # The process died.
    await integrity(store).begin()
    assert "not closed cleanly" in caplog.text


async def test_a_store_without_damage_is_not_reported_any_more(store: Database, file: Path) -> None:
    await execute(store, f"INSERT INTO photo (sha256, jpeg) VALUES ('{OTHER}', x'00')")
    await integrity(store).check()
    assert (await inspect_store(f"sqlite:///{file}", ())).damaged_photos == 1
    await execute(store, f"DELETE FROM photo WHERE sha256 = '{OTHER}'")
    await integrity(store).check()
    assert (await inspect_store(f"sqlite:///{file}", ())).damaged_photos == 0


async def test_the_log_names_the_persons_of_a_damaged_photo(store: Database, caplog: pytest.LogCaptureFixture) -> None:
    await execute(store, f"INSERT INTO photo (sha256, jpeg) VALUES ('{OTHER}', x'00')")
    await execute(
        store,
        "INSERT INTO person_entry (sn, person_id, revision, photo_sha256, held, delivery, changed_at)"
        f" VALUES ('T1', '4711', 1, '{OTHER}', 1, 'confirmed', '2026-11-24 08:00:00')",
    )
    await execute(
        store,
        "INSERT INTO group_person (group_name, person_id, revision, desired, photo_sha256, changed_at)"
        f" VALUES ('staff', '4712', 2, '{{}}', '{OTHER}', '2026-11-24 08:00:00')",
    )
    check = integrity(store)
    await check.check()
    assert "set the picture again of person 4711 on terminal T1, person 4712 in group staff" in caplog.text
    caplog.clear()
    await check.compare_again()
    assert not caplog.text


async def test_a_photo_that_is_found_damaged_when_it_is_read_is_reported(database: Database) -> None:
    await database.write(put_photos, PLAIN, 1)
    reported = Reported()
    check = integrity(database, report=reported)
    running = asyncio.get_running_loop().create_task(check.run())
    await database.write(put_damaged_photo)
    check.photo_damaged(OTHER)
    async with asyncio.timeout(10):
        while reported.text is None:
            await reported.changed.wait()
            reported.changed.clear()
    assert "1 photo in the store is damaged" in reported.text
    running.cancel()
    # The next bridge on this store reports it from the start, and finds it again.
    later = Reported()
    second = integrity(database, report=later)
    await second.begin()
    assert later.text == reported.text
    await second.check()
    assert later.text == reported.text
    await execute(database, f"DELETE FROM photo WHERE sha256 = '{OTHER}'")
    await second.compare_again()
    assert later.text is None


async def test_damage_that_a_change_met_is_reported_although_the_check_does_not_find_it(store: Database) -> None:
    reported = Reported()
    check = integrity(store, report=reported)
    check.part_damaged()
    assert "the store is damaged" in (reported.text or "")
    assert "the store is damaged" in (await check.check() or "")
    # The next bridge checks it again. If no change meets the damage any more, the store counts as repaired.
    second = integrity(store, report=reported)
    await second.begin()
    assert "the store is damaged" in (reported.text or "")
    assert await second.check() is None
