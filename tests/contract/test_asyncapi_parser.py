"""AsyncAPI's own parser reads the document (`scripts/asyncapi-parser` installs it)."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "asyncapi.json"

EXPLAINED = {
    # Every tool for AsyncAPI 3 reads 3.0.0; 3.1.0 adds nothing for MQTT.
    "asyncapi-latest-version",
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def check(path: Path) -> Any:
    command = os.environ.get("ASYNCAPI_PARSER")
    assert command, "ASYNCAPI_PARSER is to be what scripts/asyncapi-parser prints"
    done = subprocess.run([command, path], check=False, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_parser_accepts_the_document() -> None:
    found = check(DOCUMENT)
    assert found["understood"]
    assert [one for one in found["complaints"] if one["code"] not in EXPLAINED] == []


@pytest.mark.parametrize("defect", ["a reference into nothing", "an action that is none", "a key that is unknown"])
def test_the_parser_reports_a_defect(defect: str, tmp_path: Path) -> None:
    document = json.loads(DOCUMENT.read_text())
    if defect == "a reference into nothing":
        document["components"]["messages"]["reply"]["payload"]["$ref"] += "s"
    elif defect == "an action that is none":
        document["operations"]["sendTerminalReply"]["action"] = "publish"
    else:
        document["channels"]["terminalReply"]["topic"] = "a/b"
    broken = tmp_path / "asyncapi.json"
    broken.write_text(json.dumps(document))
    assert {one["code"] for one in check(broken)["complaints"]} - EXPLAINED
