"""Builds wheels of Facebridge from the checkout: of several versions, and of versions that do not start."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bridge import __version__

ROOT = Path(__file__).parents[2]

Change = tuple[str, str, str]
"""A file, a text in it, and its replacement."""

NEVER_READY: Change = (
    "bridge/app.py",
    "        announce(bridge.describe())\n",
    '        raise RuntimeError("this version never starts")\n',
)
DIES_SOON: Change = (
    "bridge/app.py",
    "        await stop.wait()\n",
    '        await asyncio.sleep(2)\n        raise RuntimeError("this version dies soon")\n',
)


def build_wheels(folder: Path, versions: Mapping[str, tuple[Change, ...]], newer_stores: tuple[str, ...] = ()) -> None:
    """Build a wheel of each version into a folder.

    Args:
        folder: receives the wheels.
        versions: by version number, the changes of its source.
        newer_stores: the versions whose store has one more migration.
    """
    for version, changes in versions.items():
        source = folder / f"source-{version}"
        source.mkdir()
        for name in ("pyproject.toml", "requirements.lock", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        shutil.copytree(ROOT / "bridge", source / "bridge", ignore=shutil.ignore_patterns("__pycache__"))
        _change(source, ("bridge/__init__.py", f'"{__version__}"', f'"{version}"'))
        for change in changes:
            _change(source, change)
        if version in newer_stores:
            _add_migration(source / "bridge/store/migrations/versions")
        _pip("wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source))


def _add_migration(folder: Path) -> None:
    last = max(folder.glob("v*.py"))
    found = re.search(r'^revision\b.*= "(.+)"', last.read_text(), re.MULTILINE)
    assert found is not None
    (folder / "v9999_of_the_tests.py").write_text(
        f'revision = "9999"\ndown_revision = "{found[1]}"\n\n\ndef upgrade() -> None:\n    """Change nothing."""\n'
    )


def _change(source: Path, change: Change) -> None:
    file, before, after = change
    text = (source / file).read_text()
    assert text.count(before) == 1, f"{file} has changed: {before!r}"
    (source / file).write_text(text.replace(before, after))


def _pip(*words: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words],
        check=True,
        capture_output=True,
    )
