"""Faults in what a user gave, worded so that the user can mend them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from bridge.model.json_schema import JsonSchema, output_schema, text
from bridge.model.messages import message


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        path: the place, such as `weekly.Monday` or `persons.2.photo`; empty for the whole value.
        message: the fault and the remedy; never contains a secret or a photo.
    """

    path: str
    message: str

    def below(self, parent: str) -> "Fault":
        """Return the same fault with `parent` in front of its path."""
        return Fault(f"{parent}.{self.path}" if self.path else parent, self.message)

    def as_json(self) -> dict[str, str]:
        """Return the entry of a reply's `errors`."""
        return {"path": self.path, "message": self.message}


FAULT_SCHEMA: JsonSchema = output_schema(
    {
        "path": text("the place, such as `weekly.Monday` or `persons.2.photo`; empty for the whole value"),
        "message": text("the fault and the remedy"),
    },
    title="Fault",
    description="One fault of a command.",
)
"""The schema of `Fault.as_json`."""


class InvalidError(Exception):
    """A value that a user gave cannot be understood or is not allowed.

    Attributes:
        faults: all faults, at least one.
    """

    code = "invalid"

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(
            "; ".join(f"{fault.path}: {fault.message}" if fault.path else fault.message for fault in faults)
        )
        self.faults = tuple(faults)

    @classmethod
    def at(cls, path: str, message: str) -> "InvalidError":
        """Return the error for a single fault."""
        return cls([Fault(path, message)])


class UnavailableError(Exception):
    """The bridge cannot do this now: the store is full, locked or missing."""

    code = "unavailable"


def unknown_key(key: object, known: Iterable[str]) -> str:
    """Return the message for an unknown key, with the most similar known key if there is one."""
    shown = shorten(str(key), 40)
    known = list(known)
    lower = {name.lower(): name for name in known}
    near = get_close_matches(str(key).lower()[:64], lower, n=1)
    if near:
        return message("unknown key %(key)s (did you mean %(near)s?)", key=repr(shown), near=repr(lower[near[0]]))
    return message("unknown key %(key)s (known: %(known)s)", key=repr(shown), known=", ".join(known))


def shorten(text: str, limit: int = 80) -> str:
    """Shorten untrusted text and replace its control characters, for a log line or a message."""
    if len(text) <= limit and text.isprintable():
        return text
    cleaned = "".join(character if character.isprintable() else "�" for character in text[: limit + 1])
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + "…"
