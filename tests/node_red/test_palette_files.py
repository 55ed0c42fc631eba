"""The files of the package for Node-RED's palette: what it contains, and that both languages say the same."""

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from bridge import __version__
from bridge.model.reply import Outcome
from tests.node_red.palette import OUTPUTS, PACKAGE, pack

LANGUAGES = ("en-US", "zh-CN")
EXAMPLES = sorted(path.name for path in (PACKAGE / "examples" / "en").glob("*.json"))
OWN_OUTCOMES = {"not_sent", "no_answer"}
"""Outcomes that the nodes add to those of the bridge."""


def catalogue(language: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((PACKAGE / "nodes/locales" / language / "facebridge.json").read_text())
    return content


def paths(value: Any, path: str = "") -> set[str]:
    if isinstance(value, dict):
        return {one for key, inner in value.items() for one in paths(inner, f"{path}.{key}" if path else key)}
    if isinstance(value, list):
        return {one for index, inner in enumerate(value) for one in paths(inner, f"{path}.{index}")}
    return {path}


def test_the_package_is_complete_and_has_the_version_of_the_bridge(tmp_path: Path) -> None:
    with tarfile.open(pack(tmp_path)) as package:
        names = {name.removeprefix("package/") for name in package.getnames()}
        described = package.extractfile("package/package.json")
        assert described is not None
        manifest = json.load(described)
    sources = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*") if path.is_file()}
    assert names == sources | {"LICENSE"}
    assert {"README.md", "README.zh-CN.md", "nodes/facebridge.js", "nodes/facebridge.html"} <= names
    assert manifest["version"] == __version__
    assert manifest["name"] == "node-red-contrib-facebridge"
    assert "node-red" in manifest["keywords"], "the flow library finds packages by this keyword"
    assert "dependencies" not in manifest
    assert list(manifest["node-red"]["nodes"].values()) == ["nodes/facebridge.js"]


def test_both_languages_have_the_same_texts() -> None:
    english, chinese = (catalogue(language) for language in LANGUAGES)
    assert paths(english) == paths(chinese)
    helps = [(PACKAGE / "nodes/locales" / language / "facebridge.html").read_text() for language in LANGUAGES]
    english_parts, chinese_parts = (re.findall(r"<code>.*?</code>|<(?:h3|dt|li)\b", one) for one in helps)
    # A term can come earlier or later in a sentence.
    assert sorted(english_parts) == sorted(part.replace("SN 或组", "SN or group") for part in chinese_parts)
    assert not re.search(r"[\u4e00-\u9fff]", helps[0])


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_has_help(language: str) -> None:
    text = (PACKAGE / "nodes/locales" / language / "facebridge.html").read_text()
    assert set(re.findall(r'data-help-name="([\w-]+)"', text)) == OUTPUTS.keys()


def test_every_text_that_the_code_uses_exists_and_no_other() -> None:
    page = (PACKAGE / "nodes/facebridge.html").read_text()
    scripts = "".join(path.read_text() for path in (PACKAGE / "nodes").rglob("*.js"))
    used = set(re.findall(r'data-i18n="([\w.-]+)"', page)) | set(re.findall(r'"(facebridge\.[\w.]+)"', scripts))
    rows = re.findall(r'^        (\w+): \["[\w-]+", \w+(?:\((.*)\))?\],$', page, re.MULTILINE)
    assert len(rows) == 9
    used |= {
        f"facebridge.label.{name}" for name in [name for name, _ in rows] + re.findall(r'\{ \w+: "(\w+)" \}\);', page)
    }
    for name, values in rows:
        words = re.findall(r'"(\w+)"', values)
        assert words[:1] in ([], [name])
        used |= {f"facebridge.{name}.{value}" for value in words[1:]}
    used |= {f"facebridge.{key}" for key in re.findall(r'texts\(this, "(\w+)"\)', page)}
    used |= {f"facebridge.status.{one}" for one in ("online", "offline")}
    used |= {f"facebridge.outcome.{one}" for one in {outcome.value for outcome in Outcome} | OWN_OUTCOMES}
    for kind, number in OUTPUTS.items():
        used |= {f"facebridge.outputs.{kind.removeprefix('facebridge-')}.{index}" for index in range(number)}
    assert paths(catalogue("en-US")) == used


def test_the_scripts_know_every_outcome_of_the_bridge() -> None:
    text = (PACKAGE / "nodes/lib/outcomes.js").read_text()
    assert set(re.findall(r'"([a-z_]+)"', text)) >= {outcome.value for outcome in Outcome} | OWN_OUTCOMES


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_the_same_flow_in_both_languages(name: str) -> None:
    flows = [json.loads((PACKAGE / "examples" / folder / name).read_text()) for folder in ("en", "zh-CN")]
    forms = []
    for nodes in flows:
        text = json.dumps([{key: one[key] for key in one if key not in ("name", "label", "info")} for one in nodes])
        for index, node in enumerate(nodes):
            text = text.replace(node["id"], str(index))
            if node["type"] in OUTPUTS:
                assert len(node["wires"]) == OUTPUTS[node["type"]]
        forms.append(text)
    assert forms[0] == forms[1]


def test_the_readme_names_every_example_and_node() -> None:
    assert len(EXAMPLES) == 3
    for readme in ("README.md", "README.zh-CN.md"):
        text = (PACKAGE / readme).read_text()
        assert all(f"**{kind.removeprefix('facebridge-')}**" in text for kind in OUTPUTS)
