"""facebridge-new-version, which installs as root: what it runs, and what it refuses to install."""

import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "systemd" / "facebridge-new-version"
TRAP = "import os, pathlib\npathlib.Path(os.environ['TRAPPED']).touch()\n"


class Index:
    """A folder from which pip installs, with a small facebridge and its only dependency.

    Args:
        folder: for the wheels.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.dependency = self.wheel("dependency", "2.0")
        self.facebridge = self.locked(f"dependency==2.0 --hash=sha256:{sha256(self.dependency)}")

    def locked(self, lock: str | None) -> Path:
        """Write the wheel of facebridge with this lock."""
        files = {} if lock is None else {"facebridge-1.0.data/data/share/facebridge/requirements.lock": lock}
        return self.wheel("facebridge", "1.0", "Requires-Dist: dependency\n", files)

    def wheel(self, name: str, version: str, metadata: str = "", files: Mapping[str, str] | None = None) -> Path:
        """Write a wheel of one module."""
        path = self._folder / f"{name}-{version}-py3-none-any.whl"
        info = f"{name}-{version}.dist-info"
        content = {
            f"{name}.py": f"VERSION = {version!r}\n",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            **(files or {}),
        }
        with zipfile.ZipFile(path, "w") as archive:
            for file, text in content.items():
                archive.writestr(file, text)
            archive.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in [*content, f"{info}/RECORD"]))
        return path

    def install(
        self, tmp_path: Path, what: str | Path, *words: str, caller: Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the script, from the caller's folder."""
        environment = {
            "PATH": os.environ["PATH"],
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self._folder),
            "PIP_CONFIG_FILE": os.devnull,
            **variables,
        }
        return subprocess.run(
            [SCRIPT, sys.executable, tmp_path / "made", what, *words],
            cwd=caller or tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def versions(tmp_path: Path) -> str:
    code = "import dependency, facebridge; print(dependency.VERSION, facebridge.VERSION)"
    python = tmp_path / "made" / "bin" / "python"
    return subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False).stdout.strip()


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(tmp_path / "index")


def test_no_code_of_the_callers_folder_runs(tmp_path: Path, index: Index) -> None:
    caller, trapped = tmp_path / "caller", tmp_path / "trapped"
    for name in ("venv", "ensurepip", "pip", "pathlib", "sitecustomize", "usercustomize", "runpy", "encodings"):
        (caller / name).mkdir(parents=True)
        (caller / name / "__init__.py").write_text(TRAP)
        (caller / name / "__main__.py").write_text(TRAP)
    (caller / "setup.py").write_text(TRAP)
    variables = {"TRAPPED": str(trapped), "PYTHONPATH": str(caller), "PYTHONSTARTUP": str(caller / "setup.py")}
    done = index.install(tmp_path, index.facebridge, caller=caller, **variables)
    assert done.returncode == 0, done.stderr
    assert versions(tmp_path) == "2.0 1.0"
    assert not trapped.exists()


def test_the_hashes_of_the_lock_decide(tmp_path: Path, index: Index) -> None:
    index.wheel("dependency", "2.0", "Summary: another file of the same name and version\n")
    done = index.install(tmp_path, "facebridge==1.0")
    assert done.returncode == 1
    assert "HASH" in done.stderr.upper()


def test_a_dependency_that_the_lock_does_not_name_is_refused(tmp_path: Path, index: Index) -> None:
    index.wheel("more", "1.0")
    dependency = index.wheel("dependency", "2.0", "Requires-Dist: more\n")
    index.locked(f"dependency==2.0 --hash=sha256:{sha256(dependency)}")
    done = index.install(tmp_path, "facebridge")
    assert done.returncode == 1
    assert "--require-hashes" in done.stderr


def test_a_wheel_without_a_lock_is_refused(tmp_path: Path, index: Index) -> None:
    index.locked(None)
    done = index.install(tmp_path, "facebridge")
    assert done.returncode == 1
    assert "brings no requirements.lock" in done.stderr


def test_a_source_archive_is_not_built(tmp_path: Path, index: Index) -> None:
    trapped = tmp_path / "trapped"
    source = tmp_path / "dependency-2.0"
    source.mkdir()
    (source / "setup.py").write_text(TRAP)
    index.dependency.unlink()
    archive = index.dependency.with_name("dependency-2.0.tar.gz")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source, source.name)
    index.locked(f"dependency==2.0 --hash=sha256:{sha256(archive)}")
    assert index.install(tmp_path, "facebridge", TRAPPED=str(trapped)).returncode == 1
    assert not trapped.exists()


@pytest.mark.parametrize("pinned", [True, False], ids=["requirement", "file"])
def test_the_hash_of_the_wheel_decides_if_it_is_given(tmp_path: Path, index: Index, pinned: bool) -> None:
    what = "facebridge==1.0" if pinned else index.facebridge
    assert index.install(tmp_path, what, "0" * 64).returncode == 1
    assert versions(tmp_path) == ""
    done = index.install(tmp_path, what, sha256(index.facebridge))
    assert done.returncode == 0, done.stderr
    assert versions(tmp_path) == "2.0 1.0"


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("/tmp", "neither a wheel nor a requirement"),
        ("/nothing-1.0.whl", "there is no such wheel"),
        ("git+https://example.org/facebridge", "neither a wheel nor a requirement"),
        ("facebridge @ file:///tmp", "neither a wheel nor a requirement"),
        ("--editable", "not a requirement for facebridge"),
        ("facebridge-tools", "not a requirement for facebridge"),
        ("other", "not a requirement for facebridge"),
    ],
)
def test_other_things_are_refused_before_anything_is_made(
    tmp_path: Path, index: Index, what: str, message: str
) -> None:
    done = index.install(tmp_path, what)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "made").exists()
