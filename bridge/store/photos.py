"""Photos at rest: their encryption (`store.photo_key`), their queries, and the change to a new key."""

import asyncio
import hashlib
import logging
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import Connection, Insert, bindparam, delete, exists, select, update
from sqlalchemy.exc import DatabaseError

from bridge.model.faults import UnavailableError
from bridge.model.secret import Secret
from bridge.store.database import Database
from bridge.store.direct import DirectStatement
from bridge.store.errors import PhotoDamagedError, PhotoKeyError, is_damage
from bridge.store.insertion import batches, insert_in
from bridge.store.tables import GROUP_CHANGE_PERSON, GROUP_PERSON, PERSON_ENTRY, PHOTO

_LOGGER = logging.getLogger(__name__)

_ROTATED_PHOTOS = 20
"""Photos in one transaction: some two megabytes, so that a person change does not wait long for its own."""

_SHOWN_DIGITS = 12
"""Digits of a photo's SHA-256 in messages: enough to find it."""

_RETRY_SECONDS = 5.0
"""Pause after which a store that failed is tried again."""


class PhotoCipher:
    """Encrypts with the first of its keys and decrypts with any of them; without a key photos are stored as they are.

    The format is Fernet (AES-128-CBC with HMAC-SHA256); the token is stored as bytes, a third shorter than in base64.
    """

    def __init__(self, keys: Sequence[Secret] = ()) -> None:
        """Build the ciphers.

        Args:
            keys: Fernet keys, each 32 bytes in URL-safe base64.

        Raises:
            ValueError: a key is malformed.
        """
        self._ciphers = {_key_id(key): Fernet(key.reveal()) for key in keys}
        self._first = next(iter(self._ciphers), None)

    @property
    def key_id(self) -> str | None:
        """The id of the key that photos are encrypted with; None for no key."""
        return self._first

    def encrypt(self, jpeg: bytes) -> bytes:
        """Return the stored form of a photo, encrypted with the key of `key_id`."""
        return jpeg if self._first is None else urlsafe_b64decode(self._ciphers[self._first].encrypt(jpeg))

    def decrypt(self, stored: bytes, key_id: str | None) -> bytes:
        """Return the photo.

        Raises:
            PhotoKeyError: its key is not configured.
            PhotoDamagedError: it was changed since it was encrypted.
        """
        if key_id is None:
            return stored
        self.require([key_id])
        try:
            return self._ciphers[key_id].decrypt(urlsafe_b64encode(stored))
        except InvalidToken:
            raise PhotoDamagedError("a photo in the store was changed or damaged since it was encrypted") from None

    def require(self, key_ids: Collection[str | None]) -> None:
        """Raise PhotoKeyError unless all of these keys are configured."""
        if not self._ciphers.keys() >= {key_id for key_id in key_ids if key_id is not None}:
            raise PhotoKeyError(
                "photos in the store are encrypted with a key that store.photo_key does not give: give that key; to"
                " change it, give [new key, old key] until the log says that all photos have the new one"
            )


PLAIN = PhotoCipher()
"""Stores photos as they are."""


def read_photo(connection: Connection, cipher: PhotoCipher, sha256: str) -> bytes | None:
    """Return a photo's JPEG; None if it is missing or damaged, or cannot be decrypted."""
    try:
        return read_intact_photo(connection, cipher, sha256)
    except (PhotoKeyError, PhotoDamagedError) as error:
        _LOGGER.warning("photo %s cannot be read: %s", sha256[:_SHOWN_DIGITS], error)
        return None


def read_intact_photo(connection: Connection, cipher: PhotoCipher, sha256: str) -> bytes | None:
    """Return a photo's JPEG; None if it is missing.

    Raises:
        PhotoDamagedError: it differs from its digest, or its part of the file cannot be read.
        PhotoKeyError: its key is not configured.
    """
    try:
        rows = _PHOTO.rows(connection, {"for_sha256": sha256})
    except DatabaseError as error:
        if is_damage(error):
            raise PhotoDamagedError("the file is damaged where the photo is") from error
        raise
    if not rows:
        return None
    ((stored, key_id),) = rows
    jpeg = cipher.decrypt(stored, key_id)
    # Only an encrypted photo is authenticated. The digest costs 0.06 ms for 100 KB, on a reader's thread.
    if hashlib.sha256(jpeg).hexdigest() != sha256:
        raise PhotoDamagedError("the photo differs from its digest")
    return jpeg


def add_photos(connection: Connection, cipher: PhotoCipher, photos: Mapping[str, bytes]) -> Collection[str]:
    """Store photos by their SHA-256, also in place of those that are stored and damaged.

    A photo that is stored and intact stays as it is: to read it costs less than to write it again.

    Returns:
        The photos that were missing or damaged.
    """
    missing = photos.keys() - _intact(connection, cipher, photos)
    if missing:
        _PUT_PHOTO.run(
            connection,
            [
                {"sha256": sha256, "jpeg": cipher.encrypt(photos[sha256]), "key_id": cipher.key_id}
                for sha256 in sorted(missing)
            ],
        )
    return missing


def _intact(connection: Connection, cipher: PhotoCipher, photos: Mapping[str, bytes]) -> set[str]:
    """Return those of the photos that are stored and can be read."""
    intact: set[str] = set()
    for sha256, jpeg in photos.items():
        for stored, key_id in _PHOTO.rows(connection, {"for_sha256": sha256}):
            with suppress(PhotoKeyError, PhotoDamagedError):
                if cipher.decrypt(stored, key_id) == jpeg:
                    intact.add(sha256)
    return intact


def drop_unused_photos(connection: Connection, candidates: Collection[str]) -> bool:
    """Delete those of the photos that nothing refers to; return whether there was one."""
    dropped = 0
    for sha256s in batches(sorted(candidates)):
        dropped += connection.execute(_DROP_UNUSED, {"sha256s": sha256s}).rowcount
    return dropped > 0


def key_ids(connection: Connection) -> Sequence[str | None]:
    """Return the ids of the keys that stored photos are encrypted with; None: not encrypted."""
    return connection.execute(select(PHOTO.c.key_id).distinct()).scalars().all()


class PhotoRotation:
    """Encrypts all photos with the first key of the configuration."""

    def __init__(self, database: Database, cipher: PhotoCipher) -> None:
        self._database = database
        self._cipher = cipher

    async def require_keys(self) -> None:
        """Check that every photo can be decrypted.

        Raises:
            PhotoKeyError: a key is missing.
            UnavailableError: the store cannot be read.
        """
        self._cipher.require(await self._database.read(key_ids))

    async def run(self) -> None:
        """Visit all photos once; return when every photo that can be decrypted has the first key."""
        after, done = "", 0
        while True:
            try:
                last, changed = await self._database.write(_rotate, self._cipher, after)
            except UnavailableError as error:
                _LOGGER.warning("photos cannot be encrypted now, trying again: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if last is None:
                break
            after, done = last, done + changed
        if done:
            await self._erase_earlier_forms()
            _LOGGER.info("%s photos were encrypted; all have the first key of store.photo_key now", done)

    async def _erase_earlier_forms(self) -> None:
        while True:
            with suppress(UnavailableError):
                if await self._database.checkpoint():
                    return
            await asyncio.sleep(_RETRY_SECONDS)


def _rotate(connection: Connection, cipher: PhotoCipher, after: str) -> tuple[str | None, int]:
    """Encrypt the next photos; return the last one that was visited (None: none is left), and how many changed."""
    other_key = PHOTO.c.key_id.is_distinct_from(cipher.key_id)
    query = select(PHOTO).where(PHOTO.c.sha256 > after, other_key).order_by(PHOTO.c.sha256).limit(_ROTATED_PHOTOS)
    rows = connection.execute(query).mappings().all()
    changed = 0
    for row in rows:
        try:
            jpeg = cipher.encrypt(cipher.decrypt(row["jpeg"], row["key_id"]))
        except (PhotoKeyError, PhotoDamagedError) as error:
            _LOGGER.warning("a photo keeps its old key: %s", error)
            continue
        values = {"jpeg": jpeg, "key_id": cipher.key_id}
        connection.execute(update(PHOTO).where(PHOTO.c.sha256 == row["sha256"]).values(values))
        changed += 1
    return (rows[-1]["sha256"] if rows else None), changed


# Built once, as the statements at the end of `bridge.store.person_queries`.

_PHOTO = DirectStatement(
    lambda _: select(PHOTO.c.jpeg, PHOTO.c.key_id).where(PHOTO.c.sha256 == bindparam("for_sha256"))
)
_AMONG = PHOTO.c.sha256.in_(bindparam("sha256s", expanding=True))
_DROP_UNUSED = delete(PHOTO).where(
    _AMONG,
    *(
        ~exists().where(table.c.photo_sha256 == PHOTO.c.sha256)
        for table in (PERSON_ENTRY, GROUP_PERSON, GROUP_CHANGE_PERSON)
    ),
)


def _put_photo(dialect: str) -> Insert:
    insert = insert_in(dialect)(PHOTO)
    replaced = {"jpeg": insert.excluded.jpeg, "key_id": insert.excluded.key_id}
    return insert.on_conflict_do_update(index_elements=["sha256"], set_=replaced)


_PUT_PHOTO = DirectStatement(_put_photo, ["sha256", "jpeg", "key_id"])


def _key_id(key: Secret) -> str:
    # A one-way hash of 256 random bits: it distinguishes keys and reveals nothing about them.
    return hashlib.sha256(b"facebridge photo key " + key.reveal().encode()).hexdigest()[:16]
