"""Faults of a configuration, each with the file and line, or the environment variable, that it comes from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.config.document import KeyPath
from bridge.model.faults import shorten


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationFault:
    """One fault of a configuration.

    Attributes:
        file: the file as the user named it; for an override, the environment variable.
        line: the line in the file, from 1; None if the fault has none.
        path: the key, as `terminals.known.T1.name`; empty for the whole file.
        message: the fault and what is allowed; never a secret.
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
        faults: all its faults, by line.
    """

    def __init__(self, faults: Sequence[ConfigurationFault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: (fault.line or 0, fault.path)))
        super().__init__("\n".join(map(str, self.faults)))


class FaultLocator:
    """Finds the line of the file, or the environment variable, that the value of a key comes from."""

    def __init__(self, file: Path, lines: Mapping[KeyPath, int], set_by: Mapping[KeyPath, str]) -> None:
        """Create a locator.

        Args:
            file: the configuration file.
            lines: the line of each key in the file.
            set_by: the environment variable of each key that one has set.
        """
        self._file = file
        self._lines = lines
        self._set_by = set_by

    def is_overridden(self, path: KeyPath) -> bool:
        """Return whether an environment variable has set this key or one above it."""
        return any(above in self._set_by for above in _upwards(path))

    def fault(self, path: KeyPath, message: str) -> ConfigurationFault:
        """Return a fault of a key, with the place its value comes from."""
        # The variable first: it has replaced the value in the file.
        for above in _upwards(path):
            if above in self._set_by:
                return located_fault(self._set_by[above], None, path, message)
        line = next((self._lines[above] for above in _upwards(path) if above in self._lines), 1)
        return located_fault(self._file, line, path, message)


def located_fault(file: Path | str, line: int | None, path: KeyPath, message: str) -> ConfigurationFault:
    """Return a fault whose place is known; long names in the path are cut."""
    return ConfigurationFault(
        file=str(file), line=line, path=".".join(shorten(part, 64) for part in path), message=message
    )


def _upwards(path: KeyPath) -> list[KeyPath]:
    """Return a path and all paths above it, the nearest first."""
    return [path[:length] for length in range(len(path), -1, -1)]
