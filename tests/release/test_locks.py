"""The lock files pin everything that is installed, with hashes, and the scripts install nothing else."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.release.locks import ROOT, pins

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
WANTED = {
    "requirements.lock": [*PROJECT["project"]["dependencies"], *EXTRAS["heif"], *EXTRAS["postgres"]],
    "requirements-build.lock": PROJECT["build-system"]["requires"],
    "requirements-test.lock": EXTRAS["test"],
}
"""By lock file, the requirements of pyproject.toml that it locks."""

COMPILED = ("aiohttp", "argon2-cffi-bindings", "cryptography", "orjson", "pillow", "pillow-heif", "psycopg-binary")
"""Packages with one wheel for each platform."""

INSTALLERS = (
    "Dockerfile", "ha_addon/Dockerfile", "examples/systemd/install", "examples/systemd/facebridge-new-version",
    "examples/systemd/facebridge-upgrade", "scripts/lib.sh", "scripts/lock", "scripts/run", "scripts/test",
    "scripts/wheel", "scripts/release", "scripts/assemble-app", ".github/workflows/app.yml",
    ".github/workflows/release.yml", ".github/workflows/test.yml",
)  # fmt: skip
"""Files that install Python packages which users run, or which make what users run."""


@pytest.mark.parametrize("file", WANTED)
def test_every_package_has_one_version_and_its_hashes(file: str) -> None:
    for pin in pins(file):
        assert pin.hashes, pin.name
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in pin.hashes), pin.name


@pytest.mark.parametrize("file", WANTED)
def test_a_lock_names_no_address(file: str) -> None:
    assert not re.findall(r"://|--index|--find-links|--extra", (ROOT / file).read_text())


@pytest.mark.parametrize("file", WANTED)
def test_a_lock_satisfies_the_requirements_of_the_project(file: str) -> None:
    # A lock lists what it adds to the others.
    locked = {pin.name: pin.version for one in WANTED for pin in pins(one)}
    own = {pin.name for pin in pins(file)}
    for text in WANTED[file]:
        wanted = Requirement(text)
        name = canonicalize_name(wanted.name)
        assert name in (own if file in ("requirements.lock", "requirements-build.lock") else locked), text
        assert locked[name] in wanted.specifier, text


def test_the_locks_agree_on_versions() -> None:
    versions: dict[str, set[str]] = {}
    for file in WANTED:
        for pin in pins(file):
            versions.setdefault(pin.name, set()).add(pin.version)
    assert not {name: found for name, found in versions.items() if len(found) > 1}


def test_the_hashes_are_those_of_all_platforms() -> None:
    locked = {pin.name: pin for pin in pins("requirements.lock")}
    # Wheels for four versions of Python and two processors are already eight files.
    assert all(len(locked[name].hashes) > 8 for name in COMPILED)


@pytest.mark.parametrize("file", INSTALLERS)
def test_pip_installs_wheels_with_hashes_only(file: str) -> None:
    text = "\n".join(line for line in (ROOT / file).read_text().splitlines() if not line.lstrip().startswith("#"))
    for command in re.findall(r"\bpip (?:install|wheel|download)\b.*", re.sub(r"\\\n\s*", "", text)):
        if "pip wheel" in command:
            # The build tools are locked, too.
            assert "--no-deps --no-build-isolation" in command, command
        elif "--editable" in command:
            # pip cannot check the hash of a folder.
            assert command.endswith(("--no-deps --no-build-isolation --editable .", "into .venv'")), command
        else:
            assert "--only-binary :all:" in command, command
            assert '"$@"' in command or "--require-hashes" in command or "--no-deps --no-index" in command, command
    for command in re.findall(r"\bpip_install (?!\(\)).*", text):
        assert ("--require-hashes" in command) != ("--no-deps" in command) or "/dev/stdin" in command, command
