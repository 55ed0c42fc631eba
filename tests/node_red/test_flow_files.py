"""The contents of the flow files, and that the two languages of a flow are the same flow."""

import json
import re
from typing import Any

import pytest
from paho.mqtt.client import topic_matches_sub

from bridge.mqtt.access.roles import Role, TopicAccess, rules_of
from tests.node_red.flow_file import FOLDER, LANGUAGES, NAMES, read

CORE_NODES = {
    "tab", "comment", "inject", "debug", "catch", "complete", "function", "switch", "change", "template", "split",
    "csv", "file", "file in", "mqtt in", "mqtt out", "mqtt-broker", "http in", "http response",
}  # fmt: skip
TEXTS = {"name", "label", "info"}
"""Properties that contain only text for users."""


def without_texts(node: dict[str, Any]) -> dict[str, Any]:
    """Return the properties that must be the same in all languages: all but texts and comments."""
    kept = {key: value for key, value in node.items() if key not in TEXTS}
    if "template" in node:
        # Compare tags and placeholders; their order in a sentence may differ.
        parts = re.findall(r"\{\{.*?\}\}+|<(?!html )[^>]*>|^ .*;$", node["template"], re.MULTILINE)
        kept["template"] = sorted(parts)
    if "func" in node:
        kept["func"] = re.sub(r" *// .*$", "", node["func"], flags=re.MULTILINE)
    if "url" in node:
        kept["url"] = node["url"].removeprefix("/zh")
    return kept


def numbered(nodes: list[dict[str, Any]]) -> Any:
    """Return nodes without texts, and with their positions in place of their ids."""
    text = json.dumps([without_texts(node) for node in nodes], ensure_ascii=False)
    for position, node in enumerate(nodes):
        text = text.replace(node["id"], f"node {position}")
    return json.loads(text)


def test_each_file_exists_in_every_language() -> None:
    assert len(NAMES) == 6
    for language in LANGUAGES:
        assert {path.name for path in (FOLDER / language).iterdir()} == {f"{name}.json" for name in NAMES}
    for readme in ("README.md", "README.zh-CN.md"):
        text = (FOLDER / readme).read_text()
        for name in NAMES:
            assert f"/{name}.json" in text, readme
            for setting in read(name, "en")[0]["env"]:
                assert f"`{setting['name']}`" in text, readme


@pytest.mark.parametrize("name", NAMES)
def test_both_languages_are_the_same_flow(name: str) -> None:
    assert numbered(read(name, "en")) == numbered(read(name, "zh-CN"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_file_is_as_node_red_exports_it(name: str, language: str) -> None:
    nodes = read(name, language)
    text = (FOLDER / language / f"{name}.json").read_text()
    assert text == json.dumps(nodes, indent=4, ensure_ascii=False) + "\n"
    assert {node["type"] for node in nodes} <= CORE_NODES
    assert [node["type"] for node in nodes].count("tab") == 1
    assert not [node for node in nodes if "credentials" in node or node.get("password") or node.get("user")]
    assert not re.search(r'"(password|user|token)"', text)
    ids = {node["id"] for node in nodes}
    assert len(ids) == len(nodes)
    tab = nodes[0]["id"]
    for node in nodes[1:]:
        assert re.fullmatch(r"[0-9a-f]{16}", node["id"])
        assert node["type"] == "mqtt-broker" or node["z"] == tab
        assert {wire for output in node.get("wires", []) for wire in output} <= ids
        assert set(node.get("scope") or []) <= ids
        assert "broker" not in node or node["type"] == "mqtt-broker" or node["broker"] in ids


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_each_node_has_a_name_in_its_language(name: str, language: str) -> None:
    for node in read(name, language):
        name_or_label = node.get("label") or node["name"]
        assert name_or_label
        has_chinese = re.search(r"[\u4e00-\u9fff]", json.dumps(node, ensure_ascii=False)) is not None
        assert has_chinese == (language == "zh-CN") or (language == "zh-CN" and node["type"] == "template"), (
            name_or_label
        )


def test_ids_are_unique_over_all_files() -> None:
    seen: dict[str, str] = {}
    for language in LANGUAGES:
        for name in NAMES:
            for node in read(name, language):
                if node["type"] == "mqtt-broker":
                    # The flows of a language share the broker's node, so that a user enters its address once.
                    text = json.dumps(node)
                    assert seen.setdefault(node["id"], text) == text
                    assert seen.setdefault(f"broker {language}", node["id"]) == node["id"]
                else:
                    assert seen.setdefault(node["id"], f"{language}/{name}") == f"{language}/{name}"
                    assert list(seen).count(node["id"]) == 1
    assert seen["broker en"] != seen["broker zh-CN"]


def topics_in(node: dict[str, Any]) -> set[str]:
    """Return the topics of a node: its own and those in its function; `name` replaces each placeholder."""
    written = [
        topic
        for quote in '`"'
        for topic in re.findall(rf"topic: {quote}([^{quote}]*/[^{quote}]*){quote}", node.get("func", ""))
    ]
    named = [node["topic"]] if node["type"].startswith("mqtt ") and node["topic"] else []
    return {re.sub(r"\$\{.*?\}", "name", topic) for topic in (*written, *named)}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_roles_named_in_the_readme_are_enough(name: str, language: str) -> None:
    rules = rules_of([Role.OPERATOR, Role.ENROLLER], "node-red", base="facebridge", prefix="homeassistant")
    allowed = {access: [rule.topic for rule in rules if rule.access is access] for access in TopicAccess}
    checked = 0
    for node in read(name, language):
        access = TopicAccess.READ if node["type"] == "mqtt in" else TopicAccess.WRITE
        for topic in topics_in(node):
            assert any(topic_matches_sub(one, topic) for one in allowed[access]), f"{node['name']}: {topic}"
            checked += 1
    assert checked


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_commands_have_the_right_qos_and_expiry(name: str, language: str) -> None:
    for node in read(name, language):
        if node["type"] == "mqtt out":
            changes_persons = name in {"visitor", "persons-from-csv"}
            assert (node["qos"], node["retain"]) == ("1" if changes_persons else "0", "false")
            assert node["expiry"] == ("" if changes_persons else "5"), "a person change must not expire"
        if node["type"] == "mqtt-broker":
            assert (node["protocolVersion"], node["cleansession"]) == ("5", True)
