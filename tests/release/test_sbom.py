"""The bill of materials that a release contains."""

import json
import subprocess
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from bridge import __version__
from tests.release.locks import ROOT, pins


@pytest.mark.timeout(300)  # the tool needs ten seconds of processor time
def test_it_names_this_version_and_all_that_is_locked(tmp_path: Path) -> None:
    file = tmp_path / "facebridge.cdx.json"
    subprocess.run([ROOT / "scripts" / "sbom", file], check=True, capture_output=True, cwd=tmp_path)
    bill = json.loads(file.read_text())
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(file.read_text()) is None
    assert validator.validate_str(json.dumps(bill | {"components": [{"name": "no type"}]})) is not None

    main = bill["metadata"]["component"]
    assert (main["name"], main["version"]) == ("facebridge", __version__)
    assert main["licenses"][0]["license"]["id"] == "MIT"
    listed = {(one["name"], one["version"]) for one in bill["components"]}
    assert listed == {(pin.name, pin.version) for pin in pins("requirements.lock")}
    for one in bill["components"]:
        (reference,) = one["externalReferences"]
        assert {part["alg"] for part in reference["hashes"]} == {"SHA-256"}, one["name"]
