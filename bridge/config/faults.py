"""What is wrong with a configuration, and where."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationFault:
    """One thing that is wrong.

    Attributes:
        file: as the user named it; for an override the environment variable.
        line: in the file, from 1; None where no line is to blame.
        path: the key, as `terminals.known.T1.name`; empty for the whole.
        message: what is wrong (and what is allowed); never a secret.
    """

    file: str
    line: int | None
    path: str
    message: str

    def __str__(self) -> str:
        return ": ".join(
            part for part in (f"{self.file}:{self.line}" if self.line else self.file, self.path, self.message) if part
        )


class ConfigurationError(Exception):
    """The configuration cannot be used.

    Attributes:
        faults: all that is wrong with it, by line.
    """

    def __init__(self, faults: Sequence[ConfigurationFault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: (fault.line or 0, fault.path)))
        super().__init__("\n".join(map(str, self.faults)))
