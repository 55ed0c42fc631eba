"""Releases: the version in one place, the changelogs, and what `scripts/release build` makes."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bridge import __version__
from tests.release.locks import ROOT
from tools.release import ReleaseError, cut_changelog, notes, prepare, section

CHANGELOG = "# Changelog\n\nText.\n\n## Unreleased\n\n### Added\n- new\n\n## 1.0.0 (2026-11-01)\n\n- old\n"


def checkout(folder: Path) -> Path:
    for name in ("bridge/__init__.py", "CHANGELOG.md", "ha_addon/CHANGELOG.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def test_the_unreleased_changes_become_those_of_the_version() -> None:
    cut = cut_changelog(CHANGELOG, "1.1.0", "2026-11-28")
    assert "## Unreleased\n\n## 1.1.0 (2026-11-28)\n\n### Added\n- new\n\n## 1.0.0 (2026-11-01)" in cut
    assert section(cut, "1.1.0") == "### Added\n- new"
    assert section(cut, "1.0.0") == "- old"
    assert not section(cut, "Unreleased")
    assert not section(cut, "1.1")


@pytest.mark.parametrize(
    ("text", "version", "fault"),
    [
        (CHANGELOG, "1.0.0", "is in the changelog already"),
        (cut_changelog(CHANGELOG, "1.1.0", "2026-11-28"), "1.2.0", "nothing under"),
        ("# Changelog\n", "1.0.0", "nothing under"),
    ],
)
def test_a_changelog_that_cannot_be_cut_is_a_fault(text: str, version: str, fault: str) -> None:
    with pytest.raises(ReleaseError, match=fault):
        cut_changelog(text, version, "2026-11-28")


def test_prepare_writes_the_version_and_cuts_both_changelogs(tmp_path: Path) -> None:
    root = checkout(tmp_path)
    prepare(root, "7.8.9", "2026-11-28")
    assert '__version__ = "7.8.9"\n' in (root / "bridge/__init__.py").read_text()
    for name in ("CHANGELOG.md", "ha_addon/CHANGELOG.md"):
        assert "\n## 7.8.9 (2026-11-28)\n" in (root / name).read_text()
    assert notes(root) == section((ROOT / "CHANGELOG.md").read_text(), "Unreleased") + "\n"


@pytest.mark.parametrize("version", ["v1.0.0", "1.0", "1.0.0-rc1", "", "1.0.0\n"])
def test_prepare_refuses_other_forms_of_a_version(tmp_path: Path, version: str) -> None:
    with pytest.raises(ReleaseError, match="must look like"):
        prepare(checkout(tmp_path), version, "2026-11-28")


def test_prepare_changes_nothing_if_one_file_is_wrong(tmp_path: Path) -> None:
    root = checkout(tmp_path)
    (root / "ha_addon/CHANGELOG.md").write_text("# Changelog\n")
    with pytest.raises(ReleaseError, match=r"^ha_addon/CHANGELOG\.md: "):
        prepare(root, "7.8.9", "2026-11-28")
    assert (root / "CHANGELOG.md").read_text() == (ROOT / "CHANGELOG.md").read_text()
    assert __version__ in (root / "bridge/__init__.py").read_text()


def test_only_one_file_contains_the_version() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    of_version = re.compile(rf"version(?:__)?\W{{1,5}}{re.escape(__version__)}\b", re.IGNORECASE)
    generated = {"docs/asyncapi.json", "docs/openapi.json"}
    sources = ("pyproject.toml", ".yaml", ".yml", ".py", ".json", "Dockerfile")
    found = {
        name
        for name in listed.splitlines()
        if name.endswith(sources)
        and not name.startswith("tests/")
        and (ROOT / name).is_file()
        and of_version.search((ROOT / name).read_text())
    }
    assert found == {"bridge/__init__.py"} | generated
