"""The flow files of examples/node-red, with broker and settings filled in as a user does after an import."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "examples" / "node-red"
LANGUAGES = ("en", "zh-CN")
NAMES = tuple(sorted(path.stem for path in (FOLDER / "en").glob("*.json")))


def read(name: str, language: str) -> list[dict[str, Any]]:
    """Return the nodes of a flow file."""
    nodes: list[dict[str, Any]] = json.loads((FOLDER / language / f"{name}.json").read_text())
    return nodes


class FlowFile:
    """A flow file; in all languages, tests refer to its nodes by their English names.

    Args:
        name: the name of the file, without the suffix.
        language: the name of its folder.
        broker_port: the port that a user enters in the broker's node.
        settings: the values that a user enters in the tab's settings.
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
        """Return the node with this English name."""
        (index,) = (number for number, node in enumerate(self._english) if node.get("name") == english)
        return self.nodes[index]

    def template_nodes(self) -> Sequence[str]:
        """Return the English names of the template nodes, which make the texts for users."""
        return [node["name"] for node in self._english if node["type"] == "template"]

    def is_text_of(self, english: str, text: str) -> bool:
        """Tell whether a template node can have made this text."""
        # The content of a section can appear any number of times.
        template = re.sub(r"\{\{#([\w.]+)\}\}.*?\{\{/\1\}\}", "{{}}", self.node(english)["template"])
        parts = re.split(r"\{\{.*?\}\}+", template)
        return re.fullmatch(".*".join(map(re.escape, parts)), text, re.DOTALL) is not None
