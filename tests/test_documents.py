"""The documents say what the code does: topics, routes, keys and commands are held against it."""

import re
from datetime import UTC
from pathlib import Path

import click
import pytest

from bridge.cli.main import main
from bridge.core.commands import COMMANDS, REBOOT
from bridge.model.faults import InvalidError
from bridge.model.reply import Outcome
from bridge.persons.schema import parse_person
from bridge.web.errors import STATUS
from tests.support.web import WebServerUnderTest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
MQTT = (ROOT / "docs" / "mqtt.md").read_text()
HTTP = (ROOT / "docs" / "http.md").read_text()


def test_every_command_topic_is_documented() -> None:
    for command in COMMANDS:
        if command.for_bridge:
            assert f"`B/bridge/{command.topic}`" in MQTT
        if command.for_terminal and command is not REBOOT:
            assert f"`B/terminal/<SN>/{command.topic}`" in MQTT
        if command.for_group:
            assert command.topic in next(line for line in MQTT.splitlines() if "B/group/<name>/open/set" in line)
        assert f"`{command.name}`" in MQTT


def test_every_outcome_is_documented_and_no_other() -> None:
    table = MQTT.partition("| `outcome` | means |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([a-z]+)` \|", table, re.MULTILINE)) == {outcome.value for outcome in Outcome}
    for readme in ("README.md", "README.zh-CN.md"):
        text = (ROOT / readme).read_text()
        for outcome in Outcome:
            assert f"`{outcome.value}`" in text


def test_every_field_of_a_person_is_documented_and_no_other() -> None:
    table = MQTT.partition("### A person")[2].partition("A missing field")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    with pytest.raises(InvalidError) as caught:
        parse_person(dict.fromkeys(documented, object()), timezone=UTC)
    assert {fault.path for fault in caught.value.faults} == documented
    assert not [fault for fault in caught.value.faults if "unknown key" in fault.message]


async def test_every_route_is_documented() -> None:
    site = WebServerUnderTest()
    routes = site.server.routes
    site.verifier.close()
    for method, path in routes:
        if method == "HEAD":
            continue
        shown = path.replace("/reboot", "/open")
        assert f"`{method} {shown}`" in HTTP, f"{method} {path}"
    for status in set(STATUS.values()):
        assert f"| {status} |" in HTTP


def test_every_command_of_the_command_line_is_named_in_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert isinstance(main, click.Group)
    for name in main.commands:
        assert f"`{name}`" in changelog or f"`facebridge {name}`" in changelog


def test_every_command_for_persons_and_every_option_of_the_log_is_documented() -> None:
    text = (ROOT / "docs" / "persons.md").read_text()
    assert isinstance(main, click.Group)
    persons, log = main.commands["persons"], main.commands["log"]
    assert isinstance(persons, click.Group)
    for name in persons.commands:
        assert f"facebridge persons {name}" in text
    for parameter in log.params:
        if parameter.name != "configuration":
            assert any(option in text for option in parameter.opts), parameter.opts


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_to_headings_lead_somewhere(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", document.read_text()):
        linked = document.parent / target if target else document
        headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        # A Chinese page gives its headings the anchors of the English page, too.
        anchors |= set(re.findall(r'^<a id="([\w-]+)"></a>$', linked.read_text(), re.MULTILINE))
        assert anchor in anchors, anchor


def test_every_picture_is_shown_and_none_is_large() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    linked = {
        (document.parent / target).resolve()
        for document in documents
        for target in re.findall(r"\]\(([^)#:]+\.png)\)", document.read_text())
    }
    pictures = set((ROOT / "docs" / "pictures").iterdir())
    assert pictures <= linked
    assert all(picture.stat().st_size < 150_000 for picture in pictures)


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    named = re.findall(
        r"`((?:bridge|tests|tools|docs|scripts|benchmarks|examples|ha_addon)/[\w/.-]*)`", document.read_text()
    )
    assert not [name for name in named if not (ROOT / name).exists()]
