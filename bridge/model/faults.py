"""What is wrong with something a user gave, said so that they can put it right."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from bridge.model.json_schema import JsonSchema, output_schema, text


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        path: where, as `weekly.Monday` or `persons.2.photo`; empty for the whole.
        message: what is wrong and what would be right; never a secret or a picture.
    """

    path: str
    message: str

    def below(self, parent: str) -> "Fault":
        """Return the same fault as seen from one level further out."""
        return Fault(f"{parent}.{self.path}" if self.path else parent, self.message)

    def as_json(self) -> dict[str, str]:
        """Return the entry of a reply's `errors`."""
        return {"path": self.path, "message": self.message}


FAULT_SCHEMA: JsonSchema = output_schema(
    {
        "path": text("where, as `weekly.Monday` or `persons.2.photo`; empty for the whole"),
        "message": text("what is wrong and what would be right"),
    },
    title="Fault",
    description="One thing that is wrong with a command.",
)
"""What `Fault.as_json` gives."""


class InvalidError(Exception):
    """Something a user gave cannot be understood or is not allowed.

    Attributes:
        faults: all that is wrong, at least one.
    """

    code = "invalid"

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(
            "; ".join(f"{fault.path}: {fault.message}" if fault.path else fault.message for fault in faults)
        )
        self.faults = tuple(faults)

    @classmethod
    def at(cls, path: str, message: str) -> "InvalidError":
        """Build the error for a single fault."""
        return cls([Fault(path, message)])


class UnavailableError(Exception):
    """The bridge itself cannot do it now: the store is full, locked or gone."""

    code = "unavailable"


def unknown_key(key: object, known: Iterable[str]) -> str:
    """Say that a key is unknown, with the nearest known one where one is near."""
    shown = shorten(str(key), 40)
    known = list(known)
    lower = {name.lower(): name for name in known}
    near = get_close_matches(str(key).lower()[:64], lower, n=1)
    if near:
        return f"unknown key {shown!r} (did you mean {lower[near[0]]!r}?)"
    return f"unknown key {shown!r} (known: {', '.join(known)})"


def shorten(text: str, limit: int = 80) -> str:
    """Cut what a stranger sent and take its control characters out, for a log line or an error."""
    cleaned = "".join(character if character.isprintable() else "�" for character in text[: limit + 1])
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + "…"
