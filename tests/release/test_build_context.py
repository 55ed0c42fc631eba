"""`docker compose up --build` sends nothing to a build but the source: no key, no password, no database."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest
import yaml

from tests.support.build_context import is_sent, read_rules, sent_files

ROOT = Path(__file__).parents[2]

SECRETS = (
    ".env", ".git/config", ".ssh/id_ed25519", ".venv/lib/module.py", "authority/ca.key", "bridge/.env",
    "bridge/facebridge.db", "bridge/secrets.yaml", "bridge/web/server.key", "bridge/web/server.pem", "dist/key.py",
    "examples/broker/facebridge/secrets.yaml", "examples/broker/mosquitto/passwords", "examples/secrets.py",
    "facebridge.db", "facebridge.db-wal", "passwords", "secrets.yaml", "secrets.yaml.old", "tests/core/key.pem",
)  # fmt: skip
"""Files that users keep in a checkout, or could."""


SOURCE = re.compile(r"bridge/.*\.py|bridge/web/page/.*\.(?:css|html|js|mo|svg)")
"""The files of the package: the code, and what the page is made of."""


def tracked(root: Path) -> list[str]:
    """Return the files of the repository."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    return [name for name in listed.split("\0") if name and (root / name).is_file()]


def copied() -> set[str]:
    """Return what the Dockerfile uses of the context: files, and folders without a slash at the end."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    words = [words.split()[:-1] for words in re.findall(r"^COPY (?!--)(.+)$", text, re.MULTILINE)]
    mounts = re.findall(r"--mount=type=bind,source=([^,\s]+)", text)
    return {word for line in words for word in line} | set(mounts)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in which a user has followed examples/broker, run the bridge and left more secrets."""
    for name in tracked(ROOT):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    broker = tmp_path / "examples" / "broker"
    subprocess.run(["./make-certificates", "broker", "192.0.2.7"], cwd=broker, check=True, capture_output=True)
    assert (broker / "authority" / "ca.key").is_file()
    for name in SECRETS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("secret")
    return tmp_path


def test_a_build_gets_the_source_and_nothing_else(checkout: Path) -> None:
    files = {file.relative_to(checkout).as_posix() for file in checkout.rglob("*") if file.is_file()}
    allowed = {name for name in files if name in copied() or SOURCE.fullmatch(name)}
    assert set(sent_files(checkout)) == allowed
    assert not allowed & set(SECRETS)
    assert not [name for name in allowed if re.search(r"\.(?:key|pem|srl|csr|db|yaml)|passwords?$", name)]


def test_the_build_gets_all_that_it_copies() -> None:
    rules = read_rules((ROOT / ".dockerignore").read_text())
    assert all(is_sent(name, rules) for name in copied())
    package = {name for name in tracked(ROOT) if SOURCE.fullmatch(name)}
    # Folders too, for tools that skip excluded folders.
    package |= {str(parent) for name in package for parent in PurePosixPath(name).parents if parent.parts}
    assert not [name for name in package if not is_sent(name, rules)]


def test_the_wheel_contains_the_source_and_nothing_else(checkout: Path) -> None:
    (checkout / "bridge" / "passwords").write_text("secret")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "."]
    subprocess.run([*command, "--wheel-dir", "made"], cwd=checkout, check=True, capture_output=True)
    (wheel,) = (checkout / "made").glob("*.whl")
    package = {name for name in tracked(ROOT) if SOURCE.fullmatch(name)}
    assert {"bridge/web/page/templates/layout.html", "bridge/web/page/locale/zh_CN/LC_MESSAGES/page.mo"} <= package
    names = zipfile.ZipFile(wheel).namelist()
    metadata = re.compile(r"[^/]+\.dist-info/.+|[^/]+\.data/data/share/facebridge/requirements\.lock")
    assert {name for name in names if not metadata.fullmatch(name)} == package


def test_the_image_is_made_of_the_wheel() -> None:
    # Only the last stage is the image: it copies nothing from the context, and mounts nothing of it.
    *_, build, last = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    copied_from = re.findall(r"^(?:COPY|ADD)\b(.*)", last, re.MULTILINE)
    assert copied_from == [" --from=packages /dependencies /usr/local", " --from=packages /facebridge /usr/local"]
    assert "--mount" not in last
    installed = re.findall(r"--prefix (\S+)(.*)", build)
    assert installed == [("/dependencies", ""), ("/facebridge", " /wheel/facebridge-*.whl")]


def test_the_example_builds_this_folder_with_these_rules() -> None:
    compose = yaml.safe_load((ROOT / "examples" / "broker" / "compose.yaml").read_text())
    assert (ROOT / "examples" / "broker" / compose["services"]["bridge"]["build"]).resolve() == ROOT
    # Docker would prefer such a file.
    assert not list(ROOT.glob("?*.dockerignore"))


@pytest.mark.parametrize(
    ("rules", "sent", "not_sent"),
    [
        ("", ["a", "a/b"], []),
        ("# c\n\n a \n", ["b", "b/a", "aa"], ["a", "a/b", "a/b/c"]),
        (" #a", ["a"], ["#a"]),
        ("/a/", ["b/a"], ["a", "a/b"]),
        ("a/../b/./c", ["a", "c"], ["b/c", "b/c/d"]),
        ("*.key", ["a/b.key", "key"], ["a.key", ".key", "a.key/b"]),
        ("**/*.key", ["a.keys"], ["a.key", "a/b/c.key"]),
        ("**/a", ["ba", "b/ca"], ["a", "b/a", "b/c/a", "b/a/c"]),
        ("a/**", ["a", "b/a"], ["a/b", "a/b/c"]),
        ("a/**/c", ["a/b"], ["a/c", "a/b/c", "a/b/b/c"]),
        ("a?", ["a", "a/b"], ["ab", "ab/c"]),
        ("[ab].pem", ["c.pem"], ["a.pem", "b.pem"]),
        ("[^ab].pem", ["a.pem"], ["c.pem"]),
        ("\\*", ["a"], ["*"]),
        ("a.b", ["acb"], ["a.b"]),
        ("*\n!a", ["a", "a/b/c"], ["b", "b/a"]),
        ("*\n!a/b", ["a/b", "a/b/c"], ["a/c", "b"]),
        ("*\n!a/**/*.py", ["a/x.py", "a/b/c/x.py"], ["a/x.key", "a/b/x.pyc", "x.py", "b/x.py"]),
        ("!a\n*", [], ["a", "b"]),
        ("*\n!a\n**/*.key", ["a/b"], ["a/b.key", "c"]),
        ("*\n! a", ["a"], ["b"]),
    ],
)
def test_rules_are_dockers(rules: str, sent: list[str], not_sent: list[str]) -> None:
    read = read_rules(rules)
    assert [path for path in [*sent, *not_sent] if is_sent(path, read)] == sent
