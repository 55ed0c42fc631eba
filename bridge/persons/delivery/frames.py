"""Encodes the frames of persons; a photo is loaded only when it is about to be sent."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bridge.model.person import ALWAYS, Person
from bridge.model.person_entry import PersonEntry
from bridge.model.secret import Secret
from bridge.protocol.encoding import EscapedPhoto, LocalProtocolError, encode_photo
from bridge.protocol.requests import (
    NO_LIMIT,
    NO_NUMBER,
    UNLIMITED_PASSES,
    PersonFields,
    encode_remove_everyone,
    encode_remove_person,
    encode_set_person,
)

_CACHE_LENGTH = 16 * 1024 * 1024
"""Length of the photos that are cached: about eighty escaped ones.

One person goes to many terminals within seconds, and then not again for weeks. Therefore the escaped form is cached
here and not stored: in the store it would more than double the size of every photo, to save 0.2 ms. A photo that was
just stored is cached, too, as it is: most terminals are connected and get it at once, and to read it takes 1 ms.
"""

_P = TypeVar("_P", EscapedPhoto, bytes)


class UnsendableError(Exception):
    """The stored person cannot be sent according to the protocol; only a change of the person helps."""


class FrameWriter:
    """Encodes the frame for a person's entry."""

    def __init__(self, load_photo: Callable[[str], Awaitable[bytes | None]]) -> None:
        """Begin with an empty cache.

        Args:
            load_photo: returns a stored photo by its SHA-256; None if it is missing or damaged.
        """
        self._load_photo = load_photo
        # An escaped photo, or the bytes of one that was not sent yet.
        self._cache: OrderedDict[str, EscapedPhoto | bytes] = OrderedDict()
        self._cached_length = 0
        self._reading = asyncio.Lock()

    def remember(self, sha256: str, jpeg: bytes) -> None:
        """Cache a photo that is stored now."""
        if sha256 not in self._cache:
            self._put(sha256, jpeg)

    async def write(self, entry: PersonEntry, *, msgid: str, key: Secret | None) -> bytes:
        """Return the frame that makes the terminal hold the person as in the entry, or remove the person.

        Args:
            entry: of the person, or of the removal of everyone.
            msgid: of the frame.
            key: the terminal's secret, if it has one.

        Raises:
            UnavailableError: the photo cannot be read now.
            UnsendableError: the entry cannot be sent at all.
        """
        secret = None if key is None else key.reveal()
        try:
            if entry.person_id is None:
                return encode_remove_everyone(msgid=msgid, sn=entry.sn, key=secret)
            if entry.person is None or not entry.person.enabled:
                return encode_remove_person(entry.person_id, msgid=msgid, sn=entry.sn, key=secret)
            photo = await self._photo(entry.person.photo)
            return encode_set_person(_fields(entry.person, photo, secret), msgid=msgid, sn=entry.sn)
        except LocalProtocolError as error:
            raise UnsendableError(f"the bridge cannot write it as the terminal's protocol wants it: {error}") from error

    async def _photo(self, sha256: str) -> EscapedPhoto:
        photo = self._cached(sha256)
        if photo is not None:
            return photo
        # A change for a group needs the same photo for all members at once: the first loads it for the others.
        async with self._reading:
            photo = self._cached(sha256)
            if photo is None:
                photo = await self._read(sha256)
            return photo

    def _cached(self, sha256: str) -> EscapedPhoto | None:
        photo = self._cache.get(sha256)
        if isinstance(photo, bytes):
            photo = self._put(sha256, encode_photo(photo))
        elif photo is not None:
            self._cache.move_to_end(sha256)
        return photo

    async def _read(self, sha256: str) -> EscapedPhoto:
        jpeg = await self._load_photo(sha256)
        if jpeg is None:
            raise UnsendableError("photo: missing or damaged in the store; set the person's picture again")
        return self._put(sha256, encode_photo(jpeg))

    def _put(self, sha256: str, photo: _P) -> _P:
        self._cached_length += len(photo) - len(self._cache.pop(sha256, ""))
        self._cache[sha256] = photo
        while self._cached_length > _CACHE_LENGTH:
            _, oldest = self._cache.popitem(last=False)
            self._cached_length -= len(oldest)
        return photo


def _fields(person: Person, photo: EscapedPhoto, key: str | None) -> PersonFields:
    """Fill in the values that the terminal needs for fields that the user did not set (docs/protocol.md)."""
    weekly = person.weekly
    if weekly is None and person.weekly_taken_back:
        # It is not documented that an absent field clears the terminal's rule.
        weekly = ALWAYS
    return PersonFields(
        id=person.id,
        name=person.name,
        card=person.card or NO_NUMBER,
        id_number=person.id_number or NO_NUMBER,
        photo=photo,
        start_ts=NO_LIMIT if person.valid_from is None else person.valid_from,
        end_ts=NO_LIMIT if person.valid_until is None else person.valid_until,
        pass_count=UNLIMITED_PASSES if person.pass_count is None else person.pass_count,
        visitor=person.visitor,
        weekly=None if weekly is None else weekly.by_day(),
        key=key,
    )
