"""The wheel runs with the installers that people use, uvx and pipx; they download the dependencies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.release.locks import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    environment = {**os.environ, "PYTHON": sys.executable}
    subprocess.run([ROOT / "scripts" / "wheel", folder], check=True, capture_output=True, env=environment)
    (wheel,) = folder.glob("*.whl")
    return wheel


def run(folder: Path, *command: str | Path) -> str:
    """Run a command in an empty folder, without the checkout's environment; return its output."""
    home = {name: str(folder / name.lower()) for name in ("PIPX_HOME", "PIPX_BIN_DIR", "UV_TOOL_DIR")}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        command, cwd=folder, env=kept | home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_uvx_runs_the_demo_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    uvx = Path(sys.executable).with_name("uvx")
    output = run(tmp_path, uvx, "--from", wheel, "facebridge", "demo", "--once")
    assert '"command":"open"' in output
    assert output.rstrip().endswith("done")


def test_pipx_installs_upgrades_and_uninstalls_the_wheel(wheel: Path, tmp_path: Path) -> None:
    run(tmp_path, sys.executable, "-m", "pipx", "install", wheel)
    facebridge = tmp_path / "pipx_bin_dir" / "facebridge"
    assert run(tmp_path, facebridge, "demo", "--once").rstrip().endswith("done")
    assert "facebridge" in run(tmp_path, facebridge, "--version")
    run(tmp_path, sys.executable, "-m", "pipx", "upgrade", "facebridge")
    run(tmp_path, sys.executable, "-m", "pipx", "uninstall", "facebridge")
    assert not facebridge.exists()
