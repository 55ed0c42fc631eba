"""The page that lists the examples for Home Assistant."""

from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from bridge.model.events import TERMINAL_MESSAGE_SCHEMA
from bridge.mqtt.topics import Topics
from tests.support.blueprints import BLUEPRINTS, EXAMPLES

README = (EXAMPLES / "README.md").read_text()
REPOSITORY = "https://github.com/facebridge/facebridge/blob/main"
FILES = sorted(BLUEPRINTS.rglob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_blueprint_has_an_import_button(file: Path) -> None:
    path = file.relative_to(EXAMPLES)
    address = quote(f"{REPOSITORY}/examples/home-assistant/{path}", safe="")
    button = f"(https://my.home-assistant.io/redirect/blueprint_import/?blueprint_url={address}) [{path.name}]({path})"
    assert README.count(button) == 1


def test_no_other_blueprint_is_listed() -> None:
    assert README.count("blueprint_import/?") == len(FILES) > 0


def test_the_package_of_messages_reads_what_the_bridge_publishes() -> None:
    (automation,) = yaml.safe_load((EXAMPLES / "packages" / "facebridge_messages.yaml").read_text())["automation"]
    (trigger,), (action,) = automation["triggers"], automation["actions"]
    assert trigger["topic"] == Topics("facebridge").terminal_message("+")
    assert action["event_data"].keys() == TERMINAL_MESSAGE_SCHEMA["properties"].keys()
    assert f"`{action['event']}`" in README


def test_package_matches_the_page() -> None:
    text = (EXAMPLES / "packages" / "facebridge_visitors.yaml").read_text()
    _, _, lines = README.partition("```yaml\n")
    assert lines.partition("```")[0] == "".join(
        line.removeprefix("#   ") + "\n"
        for line in text.partition("In configuration.yaml:\n#\n")[2].partition("#\n")[0].splitlines()
    )
    for domain, helpers in yaml.safe_load(text).items():
        for name in helpers:
            assert f"`{domain}.{name}`" in README
