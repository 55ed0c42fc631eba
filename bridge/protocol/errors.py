"""What can go wrong between the bridge and a terminal's bytes, told apart by whose fault it is.

ProtocolError
├── LocalProtocolError     ours: this must never be sent
└── RemoteProtocolError    theirs: this cannot be read
"""


class ProtocolError(Exception):
    """Either side broke the protocol."""


class LocalProtocolError(ProtocolError):
    """We were about to send what must never be sent: a defect of the caller, who should have checked."""


class RemoteProtocolError(ProtocolError):
    """The other side sent what cannot be read; the only exception that leaves a decoder.

    The message is a short hint and never holds a part of the frame, so it may be logged as it is.

    Attributes:
        msgid: the frame's own, where that much could be read: printable, and no longer than a msgid may be.
    """

    def __init__(self, message: str, *, msgid: str | None = None) -> None:
        super().__init__(message)
        self.msgid = msgid
