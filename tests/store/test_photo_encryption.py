"""Photos at rest: encryption, rotation of the key, and erasure."""

import hashlib
import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Connection, select, update

from bridge.model.secret import Secret
from bridge.store.database import Database
from bridge.store.errors import PhotoDamagedError, PhotoKeyError
from bridge.store.photos import (
    PLAIN,
    PhotoCipher,
    PhotoRotation,
    add_photos,
    drop_unused_photos,
    read_intact_photo,
    read_photo,
)
from bridge.store.photos import key_ids as stored_key_ids
from bridge.store.tables import PHOTO

OLD, NEW = (Secret(Fernet.generate_key().decode()) for _ in range(2))
JPEG = b"\xff\xd8 a face, as plain as can be " * 500


def digest(name: str) -> str:
    return hashlib.sha256(JPEG + name.encode()).hexdigest()


async def keep(database: Database, cipher: PhotoCipher, *names: str) -> None:
    await database.write(add_photos, cipher, {digest(name): JPEG + name.encode() for name in names})


async def key_ids(database: Database) -> set[str | None]:
    return set(await database.read(stored_key_ids))


def on_the_disk(file: Path) -> bytes:
    return b"".join(part.read_bytes() for part in file.parent.glob("store.db*"))


async def test_an_encrypted_photo_is_readable_but_not_on_the_disk(sqlite: Database, file: Path) -> None:
    cipher = PhotoCipher([NEW])
    await keep(sqlite, cipher, "a")
    assert await sqlite.read(read_photo, cipher, digest("a")) == JPEG + b"a"
    assert JPEG[:60] not in on_the_disk(file)


async def test_rotation_replaces_an_old_key_and_no_key(database: Database, store_url: str) -> None:
    await keep(database, PhotoCipher(), "a")
    await keep(database, PhotoCipher([OLD]), *"bcdefghijklmnopqrstuvwxyz")
    cipher = PhotoCipher([NEW, OLD])
    rotation = PhotoRotation(database, cipher)
    await rotation.require_keys()
    await rotation.run()
    assert await key_ids(database) == {cipher.key_id}
    for name in "abz":
        assert await database.read(read_photo, PhotoCipher([NEW]), digest(name)) == JPEG + name.encode()
    await PhotoRotation(database, PhotoCipher([NEW])).require_keys()


async def test_rotation_leaves_no_plain_photo_on_the_disk(sqlite: Database, file: Path) -> None:
    await keep(sqlite, PhotoCipher(), "a", "b")
    assert JPEG[:60] in on_the_disk(file)
    await PhotoRotation(sqlite, PhotoCipher([NEW])).run()
    assert JPEG[:60] not in on_the_disk(file)


@pytest.mark.parametrize("given", [(), (NEW,)], ids=["no key", "another key"])
async def test_a_missing_key_is_reported_at_the_start(database: Database, given: tuple[Secret, ...]) -> None:
    await keep(database, PhotoCipher([OLD]), "a")
    with pytest.raises(PhotoKeyError, match=r"store\.photo_key does not give: give that key") as caught:
        await PhotoRotation(database, PhotoCipher(given)).require_keys()
    assert OLD.reveal() not in str(caught.value)


async def test_a_changed_photo_is_reported_and_not_returned(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    cipher = PhotoCipher([OLD])
    await keep(database, cipher, "a", "b")

    def mangle(connection: Connection) -> None:
        other = connection.execute(select(PHOTO.c.jpeg).where(PHOTO.c.sha256 == digest("b"))).scalar_one()
        connection.execute(update(PHOTO).where(PHOTO.c.sha256 == digest("a")).values(jpeg=other[:-1] + b"\x00"))

    await database.write(mangle)
    assert await database.read(read_photo, cipher, digest("a")) is None
    assert "changed or damaged" in caplog.text
    # The rotation leaves it as it is and continues.
    with caplog.at_level(logging.WARNING):
        await PhotoRotation(database, PhotoCipher([NEW, OLD])).run()
    assert "keeps its old key" in caplog.text
    assert await database.read(read_photo, PhotoCipher([NEW]), digest("b")) == JPEG + b"b"


async def test_a_deleted_photo_is_erased_from_the_disk(sqlite: Database, file: Path) -> None:
    await keep(sqlite, PLAIN, "a")
    assert await sqlite.checkpoint()
    assert JPEG[:60] in on_the_disk(file)
    assert await sqlite.write(drop_unused_photos, [digest("a")])
    assert not await sqlite.write(drop_unused_photos, [digest("b")])
    assert await sqlite.checkpoint()
    assert JPEG[:60] not in on_the_disk(file)


async def test_a_checkpoint_waits_for_a_reader_of_the_old_state(sqlite: Database, file: Path) -> None:
    await keep(sqlite, PhotoCipher(), "a")
    with closing(sqlite3.connect(file)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM photo").fetchall()
        assert not await sqlite.checkpoint()
        reader.rollback()
    assert await sqlite.checkpoint()


@pytest.mark.parametrize("cipher", [PLAIN, PhotoCipher([OLD])], ids=["plain", "encrypted"])
async def test_storing_a_damaged_photo_again_repairs_it(database: Database, cipher: PhotoCipher) -> None:
    await keep(database, cipher, "a", "b")

    def damage(connection: Connection) -> None:
        stored = connection.execute(select(PHOTO.c.jpeg).where(PHOTO.c.sha256 == digest("a"))).scalar_one()
        damaged = stored[:100] + bytes((stored[100] ^ 1,)) + stored[101:]
        connection.execute(update(PHOTO).where(PHOTO.c.sha256 == digest("a")).values(jpeg=damaged))

    await database.write(damage)
    assert await database.read(read_photo, cipher, digest("a")) is None
    with pytest.raises(PhotoDamagedError):
        await database.read(read_intact_photo, cipher, digest("a"))
    await keep(database, cipher, "a", "b")
    assert await database.read(read_photo, cipher, digest("a")) == JPEG + b"a"
    assert await database.read(read_photo, cipher, digest("b")) == JPEG + b"b"


async def test_storing_a_photo_whose_key_is_lost_encrypts_it_with_the_present_key(database: Database) -> None:
    await keep(database, PhotoCipher([OLD]), "a")
    await keep(database, PhotoCipher([NEW]), "a")
    assert await database.read(read_photo, PhotoCipher([NEW]), digest("a")) == JPEG + b"a"


async def test_an_intact_photo_is_not_written_again(database: Database) -> None:
    await keep(database, PhotoCipher([OLD]), "a")
    await keep(database, PhotoCipher([NEW, OLD]), "a")
    assert await key_ids(database) == {PhotoCipher([OLD]).key_id}
