"""TLS to the broker."""

import ssl

from bridge.config.settings import MqttTlsSettings


class TlsFilesError(Exception):
    """A file of `mqtt.tls` cannot be used; the text says which and why."""


def context_of(settings: MqttTlsSettings) -> ssl.SSLContext:
    """Read the files, at each attempt: a renewed certificate needs no restart.

    Raises:
        TlsFilesError: one of them cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca)
    except OSError as error:
        raise TlsFilesError(f"mqtt.tls.ca {settings.ca} cannot be used: {_reason(error)}") from None
    context.sslsocket_class = _ClosingSocket
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.certificate is not None:
        try:
            # The empty password: OpenSSL would ask the console for that of an encrypted key, and wait.
            context.load_cert_chain(settings.certificate, settings.key, password="")
        except OSError as error:
            files = " with mqtt.tls.key ".join(str(file) for file in (settings.certificate, settings.key) if file)
            raise TlsFilesError(f"mqtt.tls.certificate {files} cannot be used: {_reason(error)}") from None
    return context


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "no PEM, or encrypted").lower().replace("_", " ")
    return error.strerror or type(error).__name__


class _ClosingSocket(ssl.SSLSocket):
    """A socket that does not stay open when its handshake fails; paho forgets it."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise
