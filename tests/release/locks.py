"""A reader of the lock files."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Pin:
    """A package of a lock file."""

    name: str
    version: str
    hashes: tuple[str, ...]


def pins(file: str) -> Iterator[Pin]:
    """Read a lock file of the repository."""
    lines = (line for line in (ROOT / file).read_text().splitlines() if not line.startswith("#"))
    for entry in re.split(r"\n(?=\S)", "\n".join(lines)):
        words = re.split(r" *\\\n *", entry.strip())
        requirement = Requirement(words[0])
        (version,) = requirement.specifier
        assert version.operator == "==", words[0]
        yield Pin(canonicalize_name(requirement.name), version.version, tuple(words[1:]))
