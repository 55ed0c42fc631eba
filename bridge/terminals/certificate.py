"""The certificate of the terminals' door, read again when its files change."""

import asyncio
import logging
import ssl

from bridge.config.settings import ServerTlsSettings

_LOGGER = logging.getLogger(__name__)

_INTERVAL = 10.0
"""Seconds between looks at the files: certificates are renewed weeks before they end."""


class CertificateError(Exception):
    """The certificate or its key cannot be used."""


class Certificate:
    """A TLS context that follows its files."""

    def __init__(self, settings: ServerTlsSettings, interval: float = _INTERVAL) -> None:
        """Read the files. Raises CertificateError."""
        self._settings = settings
        self._interval = interval
        self._stamps = self._look()
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._load(self.context)

    async def follow(self) -> None:
        """Read the files again whenever they have changed, until cancelled; what cannot be used changes nothing."""
        while True:
            await asyncio.sleep(self._interval)
            stamps = self._look()
            if stamps == self._stamps:
                continue
            self._stamps = stamps
            try:
                # First into a context of its own: half a pair would leave new connections without any.
                self._load(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
                self._load(self.context)
            except CertificateError as error:
                _LOGGER.error("keeping the old certificate: %s", error)  # noqa: TRY400  the message says it all
            else:
                _LOGGER.info("the terminals' certificate was read again")

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(self._settings.certificate, self._settings.key, password="")
        except ssl.SSLError as error:
            raise CertificateError(f"terminals.tls: {error.reason or 'certificate and key cannot be used'}") from None
        except OSError as error:
            raise CertificateError(f"terminals.tls: cannot be read: {error.strerror}") from None

    def _look(self) -> list[tuple[int, int] | None]:
        stamps: list[tuple[int, int] | None] = []
        for file in (self._settings.certificate, self._settings.key):
            try:
                status = file.stat()
            except OSError:
                stamps.append(None)
            else:
                stamps.append((status.st_mtime_ns, status.st_ino))
        return stamps
