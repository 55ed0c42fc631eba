"""The flow files of examples/node-red, as a user has them after an import: broker and settings filled in."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "examples" / "node-red"
LANGUAGES = ("en", "zh-CN")
NAMES = tuple(sorted(path.stem for path in (FOLDER / "en").glob("*.json")))


def read(name: str, language: str) -> list[dict[str, Any]]:
    """Return the nodes of a file."""
    nodes: list[dict[str, Any]] = json.loads((FOLDER / language / f"{name}.json").read_text())
    return nodes


class FlowFile:
    """One of them; its nodes are spoken of by their English names, whatever its language.

    Args:
        name: of the file, without its ending.
        language: its folder.
        broker_port: what a user enters in the broker's node.
        settings: what a user enters in the tab's.
    """

    def __init__(self, name: str, language: str, broker_port: int, **settings: object) -> None:
        self.nodes = read(name, language)
        self._english = read(name, "en")
        tab = self.nodes[0]
        known = {setting["name"] for setting in tab["env"]}
        assert known >= settings.keys(), known
        for setting in tab["env"]:
            if setting["name"] in settings:
                setting["value"] = str(settings[setting["name"]])
        for node in self.nodes:
            if node["type"] == "mqtt-broker":
                node.update(broker="127.0.0.1", port=str(broker_port))

    def node(self, english: str) -> dict[str, Any]:
        """Return the node of this English name."""
        (index,) = (number for number, node in enumerate(self._english) if node.get("name") == english)
        return self.nodes[index]

    def texts(self) -> Sequence[str]:
        """Return the English names of the nodes that put an outcome into words."""
        return [node["name"] for node in self._english if node["type"] == "template"]

    def says(self, english: str, text: str) -> bool:
        """Whether a text is what this template node makes."""
        # What stands in a section may be there more than once, or not at all.
        template = re.sub(r"\{\{#([\w.]+)\}\}.*?\{\{/\1\}\}", "{{}}", self.node(english)["template"])
        parts = re.split(r"\{\{.*?\}\}+", template)
        return re.fullmatch(".*".join(map(re.escape, parts)), text, re.DOTALL) is not None
