"""How a command can end."""

from enum import StrEnum


class Outcome(StrEnum):
    """The `outcome` of a reply (CONTRACT, section 4); a fixed vocabulary of automations."""

    OK = "ok"
    """The terminal said status 0, or the bridge has done it."""
    REFUSED = "refused"
    """The terminal said another status."""
    ACCEPTED = "accepted"
    """A person change is stored and will be delivered; not the last word."""
    SUPERSEDED = "superseded"
    """A later change to the same person took its place before it was delivered."""
    OFFLINE = "offline"
    """The terminal is not connected; not carried out and will not be."""
    TIMEOUT = "timeout"
    """No answer by the deadline."""
    LOST = "lost"
    """The connection broke before the answer."""
    EXPIRED = "expired"
    """It reached the bridge later than the deadline allows; not carried out."""
    INVALID = "invalid"
    """It could not be understood or is not allowed."""
    UNAVAILABLE = "unavailable"
    """The bridge itself cannot take it now."""
