"""The bridge opens a store without reading it whole, and checks it in the background."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection

from bridge.model.secret import Secret
from bridge.store.database import Database
from bridge.store.inspection import inspect_store
from bridge.store.integrity import UNCLEAN, IntegrityCheck, read_counter
from bridge.store.photos import PLAIN, PhotoCipher, add_photos

OTHER = "f" * 64

NOW = datetime(2026, 11, 24, 8, tzinfo=UTC)


def integrity(database: Database, cipher: PhotoCipher = PLAIN) -> IntegrityCheck:
    return IntegrityCheck(database, cipher, lambda: NOW)


def put_photos(connection: Connection, cipher: PhotoCipher, number: int) -> None:
    photos = [f"{index:02000}".encode() for index in range(number)]
    add_photos(connection, cipher, {hashlib.sha256(photo).hexdigest(): photo for photo in photos})


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
    assert await integrity(opened).check() is not None
    await opened.close()
    assert (await inspect_store(f"sqlite:///{file}", ())).damage is not None


async def test_a_photo_that_differs_from_its_digest_is_noticed(store: Database) -> None:
    check = integrity(store)
    assert await check.check() is None
    await execute(store, f"INSERT INTO photo (sha256, jpeg) VALUES ('{OTHER}', x'00')")
    assert "differs from its digest" in (await check.check() or "")


async def test_an_encrypted_photo_that_was_changed_is_noticed(sqlite: Database) -> None:
    cipher = PhotoCipher([Secret("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=")])
    await sqlite.write(put_photos, cipher, 3)
    assert await integrity(sqlite, cipher).check() is None
    await execute(sqlite, "UPDATE photo SET jpeg = substr(jpeg, 2)")
    assert "cannot be decrypted" in (await integrity(sqlite, cipher).check() or "")


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
    assert (await inspect_store(f"sqlite:///{file}", ())).damage is not None
    await execute(store, f"DELETE FROM photo WHERE sha256 = '{OTHER}'")
    await integrity(store).check()
    assert (await inspect_store(f"sqlite:///{file}", ())).damage is None
