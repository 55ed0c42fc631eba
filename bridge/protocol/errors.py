"""Protocol errors, by the side that caused them.

ProtocolError
├── LocalProtocolError     the bridge's: this must never be sent
└── RemoteProtocolError    the terminal's: this cannot be read
"""


class ProtocolError(Exception):
    """One side has broken the protocol."""


class LocalProtocolError(ProtocolError):
    """The bridge was about to send what must never be sent: a defect of the caller, which should have checked it."""


class RemoteProtocolError(ProtocolError):
    """The other side sent what cannot be read. Decoders raise no other exception.

    The message is a short hint. It never contains a part of the frame, so it may be logged.

    Attributes:
        msgid: the frame's msgid, if it could be read: printable, and of allowed length.
    """

    def __init__(self, message: str, *, msgid: str | None = None) -> None:
        super().__init__(message)
        self.msgid = msgid
