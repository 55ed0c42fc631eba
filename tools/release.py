"""Prepares a release: writes the version, and cuts the changelogs.

`bridge/__init__.py` is the only place that contains the version. Everything else gets it from there when it is built.
"""

import argparse
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_VERSION_FILE = "bridge/__init__.py"
_CHANGELOGS = ("CHANGELOG.md", "ha_addon/CHANGELOG.md")
_VERSION_LINE = re.compile(r'^__version__ = "(.*)"$', re.MULTILINE)
_VERSION = re.compile(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?")
"""The versions that are both in Python's form (PEP 440) and ordered as semantic versions."""

_UNRELEASED = "## Unreleased"


class ReleaseError(Exception):
    """A release cannot be prepared."""


def read_version(text: str) -> str:
    """Return the version in the text of `bridge/__init__.py`."""
    found = _VERSION_LINE.search(text)
    if found is None:
        raise ReleaseError(f"{_VERSION_FILE}: there is no line `__version__ = …`")
    return found[1]


def cut_changelog(text: str, version: str, day: str) -> str:
    """Return a changelog in which the unreleased changes are those of a version.

    Args:
        text: the changelog.
        version: the new version.
        day: the date of the release, as 2026-11-28.

    Raises:
        ReleaseError: there is nothing unreleased, or the version is in the changelog already.
    """
    if re.search(rf"^## {re.escape(version)}\b", text, re.MULTILINE):
        raise ReleaseError(f"version {version} is in the changelog already")
    if not section(text, "Unreleased"):
        raise ReleaseError(f"the changelog has nothing under `{_UNRELEASED}`")
    return text.replace(_UNRELEASED, f"{_UNRELEASED}\n\n## {version} ({day})", 1)


def section(text: str, version: str) -> str:
    """Return the changes of a version without its heading; an empty string if there are none."""
    found = re.search(rf"^## {re.escape(version)}(?: \([\d-]+\))?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def prepare(root: Path, version: str, day: str) -> None:
    """Write the version and cut the changelogs of a checkout; change nothing if one of them is wrong.

    Raises:
        ReleaseError: the version has another form, or a changelog cannot be cut.
    """
    if not _VERSION.fullmatch(version):
        raise ReleaseError(f"version {version!r}: must look like 1.2.0 or 1.2.0rc1")
    source = (root / _VERSION_FILE).read_text()
    written = {_VERSION_FILE: source.replace(f'"{read_version(source)}"', f'"{version}"', 1)}
    for name in _CHANGELOGS:
        try:
            written[name] = cut_changelog((root / name).read_text(), version, day)
        except ReleaseError as error:
            raise ReleaseError(f"{name}: {error}") from None
    for name, text in written.items():
        (root / name).write_text(text)


def notes(root: Path) -> str:
    """Return the changes of the current version; before `prepare`, the unreleased ones.

    Raises:
        ReleaseError: the changelog has none.
    """
    version = read_version((root / _VERSION_FILE).read_text())
    text = (root / _CHANGELOGS[0]).read_text()
    found = section(text, version) or section(text, "Unreleased")
    if not found:
        raise ReleaseError(f"{_CHANGELOGS[0]}: there is nothing about version {version}")
    return found + "\n"


def main() -> int:
    """Run `prepare VERSION` or `notes`."""
    parser = argparse.ArgumentParser(description="Prepare a release.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("prepare").add_argument("version")
    commands.add_parser("notes")
    arguments = parser.parse_args()
    try:
        if arguments.command == "prepare":
            prepare(_ROOT, arguments.version, datetime.now(UTC).date().isoformat())
        else:
            sys.stdout.write(notes(_ROOT))
    except ReleaseError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
