"""Photos encrypted at rest (`store.photo_key`)."""

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Sequence

from cryptography.fernet import Fernet, InvalidToken

from bridge.model.secret import Secret
from bridge.store.errors import PhotoKeyError


class PhotoCipher:
    """Encrypts with the first of its keys, and decrypts with any; without a key photos are kept as they are.

    Fernet (AES-128-CBC with HMAC-SHA256), its token kept as bytes rather than base64, a third shorter.
    """

    def __init__(self, keys: Sequence[Secret] = ()) -> None:
        """Take Fernet keys, each 32 bytes in URL-safe base64; raises ValueError for another one."""
        self._ciphers = {_key_id(key): Fernet(key.reveal()) for key in keys}
        self._first = next(iter(self._ciphers), None)

    @property
    def key_id(self) -> str | None:
        """Names the key that photos are encrypted with; None for none."""
        return self._first

    def encrypt(self, jpeg: bytes) -> bytes:
        """Return what is to be kept of a photo, under `key_id`."""
        return jpeg if self._first is None else urlsafe_b64decode(self._ciphers[self._first].encrypt(jpeg))

    def decrypt(self, kept: bytes, key_id: str | None) -> bytes:
        """Return the photo.

        Raises:
            PhotoKeyError: it is encrypted with a key that is not given, or was changed by somebody.
        """
        if key_id is None:
            return kept
        self.require([key_id])
        try:
            return self._ciphers[key_id].decrypt(urlsafe_b64encode(kept))
        except InvalidToken:
            raise PhotoKeyError("a photo in the store was changed or damaged since it was encrypted") from None

    def require(self, key_ids: Collection[str | None]) -> None:
        """Make sure that every one of these keys is given. Raises PhotoKeyError."""
        if not self._ciphers.keys() >= {key_id for key_id in key_ids if key_id is not None}:
            raise PhotoKeyError(
                "photos in the store are encrypted with a key that store.photo_key does not give: give that key; to"
                " change it, give [new key, old key] until the log says that all photos have the new one"
            )


def _key_id(key: Secret) -> str:
    # One way, of 256 random bits: it tells two keys apart and says nothing about either.
    return hashlib.sha256(b"facebridge photo key " + key.reveal().encode()).hexdigest()[:16]
