"""The check of a payload with a schema, as docs/mqtt.md shows it, in an environment of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents.shown import ROOT, commands


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_shown_commands_check_a_person(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    environment = {**os.environ, "PATH": f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}"}
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    install, check = [one for one in commands(ROOT / "docs" / "mqtt.md") if "check-jsonschema" in one]

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    installed = run(install)
    assert installed.returncode == 0, installed.stderr
    person = tmp_path / "ada.json"
    person.write_text(json.dumps({"id": "1001", "name": "Ada", "enabled": True}))
    assert run(check).returncode == 0
    person.write_text(json.dumps({"id": "1001", "enabled": None}))
    wrong = run(check)
    assert wrong.returncode == 1
    assert "enabled" in wrong.stdout
