"""Brings every photo under the key that the configuration gives first."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy import RowMapping, select, update

from bridge.model.faults import UnavailableError
from bridge.store.database import Database
from bridge.store.errors import PhotoKeyError
from bridge.store.photo_cipher import PhotoCipher
from bridge.store.tables import PHOTO

_LOGGER = logging.getLogger(__name__)

_BATCH = 20
"""Photos in one transaction: some two megabytes, so that no person change waits long for its own."""

_PAUSE = 5.0
"""Seconds before a store that failed is asked again."""


class PhotoRotation:
    """Encrypts what is not encrypted yet, and anew what another key encrypts."""

    def __init__(self, database: Database, cipher: PhotoCipher) -> None:
        self._database = database
        self._cipher = cipher

    async def require_keys(self) -> None:
        """Make sure that every photo can be decrypted.

        Raises:
            PhotoKeyError: a key is missing.
            UnavailableError: the store cannot be read.
        """
        async with self._database.reading() as connection:
            self._cipher.require((await connection.execute(select(PHOTO.c.key_id).distinct())).scalars().all())

    async def run(self) -> None:
        """Go through all photos once; returns when every one is under the first key."""
        after, done = "", 0
        while True:
            try:
                last, changed = await self._rotate(after)
            except UnavailableError as error:
                _LOGGER.warning("photos cannot be encrypted now, trying again: %s", error)
                await asyncio.sleep(_PAUSE)
                continue
            if last is None:
                break
            after, done = last, done + changed
        if done:
            await self._shed()
            _LOGGER.info("%s photos were encrypted; all have the first key of store.photo_key now", done)

    async def _rotate(self, after: str) -> tuple[str | None, int]:
        """Encrypt the next photos; return the last one looked at, None where there is none, and how many changed."""
        other = PHOTO.c.key_id.is_distinct_from(self._cipher.key_id)
        to_do = select(PHOTO).where(PHOTO.c.sha256 > after, other).order_by(PHOTO.c.sha256).limit(_BATCH)
        async with self._database.writing() as connection:
            rows = (await connection.execute(to_do)).mappings().all()
            encrypted = await asyncio.to_thread(self._encrypted, rows)
            for sha256, jpeg in encrypted.items():
                values = {"jpeg": jpeg, "key_id": self._cipher.key_id}
                await connection.execute(update(PHOTO).where(PHOTO.c.sha256 == sha256).values(values))
        return (rows[-1]["sha256"] if rows else None), len(encrypted)

    def _encrypted(self, rows: Sequence[RowMapping]) -> dict[str, bytes]:
        encrypted: dict[str, bytes] = {}
        for row in rows:
            try:
                encrypted[row["sha256"]] = self._cipher.encrypt(self._cipher.decrypt(row["jpeg"], row["key_id"]))
            except PhotoKeyError as error:
                _LOGGER.warning("a photo keeps its old key: %s", error)
        return encrypted

    async def _shed(self) -> None:
        """Let go of the photos as they were before."""
        while True:
            with suppress(UnavailableError):
                if await self._database.shed():
                    return
            await asyncio.sleep(_PAUSE)
