"""All flows of both languages, imported into one Node-RED."""

from typing import Any

import pytest

from tests.node_red.flow_file import LANGUAGES, NAMES, FlowFile
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import mqtt_client
from tests.support.node_red import NodeRed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


async def test_all_flows_are_imported_without_warnings(node_red: NodeRed, mosquitto: Mosquitto) -> None:
    nodes: dict[str, dict[str, Any]] = {}
    for language in LANGUAGES:
        for name in NAMES:
            nodes |= {node["id"]: node for node in FlowFile(name, language, mosquitto.port).nodes}
    before = len(node_red.log)
    await node_red.deploy(list(nodes.values()))
    for name in ("Broker of Facebridge", "Facebridge 的 MQTT 服务器"):
        await node_red.wait_logged(f"[mqtt-broker:{name}] Connected to broker", before)
    kept = {node["id"]: node for node in await node_red.flows()}
    # Node-RED would add properties of this version that a file lacks.
    assert kept == nodes
    async with mqtt_client(mosquitto.port, "#") as client, node_red.watched():
        for node in nodes.values():
            if node["type"] == "inject" and not node["repeat"] and "1001" not in str(node["props"]):
                await node_red.press(node["id"])
        # Both languages share the topic of the echo; each flow recognizes its own.
        await client.wait_for_all("facebridge/terminal/FEDCBA9876543210/open/set", 2)
        await client.wait_for_all("facebridge/group/all/open/set", 2)
        await node_red.wait_shown(lambda shown: "persons.csv" in shown.text, "the missing files", number=2)
    assert not node_red.warnings(before), node_red.warnings(before)
    await node_red.deploy([])
