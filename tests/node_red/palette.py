"""The nodes of `integrations/node-red` in a Node-RED, with a broker, a bridge and terminals."""

import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from bridge.simulator.client import ConnectionOptions
from bridge.simulator.terminal import SimulatedTerminal
from tests.support.killable_bridge import KillableBridge, fixed_port_configuration
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import MqttClient, mqtt_client
from tests.support.node_red import NodeRed, Shown

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "integrations" / "node-red"
OUTPUTS = {"facebridge-open": 3, "facebridge-person": 3, "facebridge-events": 4}
"""The number of outputs of each type of node."""

_TAB = "tab"
_BROKER = "broker"


def pack(folder: Path) -> Path:
    """Make the package as a release does; return its file."""
    subprocess.run([str(ROOT / "scripts" / "node-red-package"), str(folder)], check=True, capture_output=True)
    (package,) = folder.glob("*.tgz")
    return package


def install(package: Path, user_directory: Path) -> None:
    """Install the package into the user directory of a Node-RED, as its README says."""
    command = ["npm", "install", "--silent", "--no-fund", "--no-audit", "--offline"]
    subprocess.run([*command, "--prefix", user_directory, package], check=True, capture_output=True)


class PaletteFlow:
    """A flow of one Facebridge node, with inject nodes before it and a debug node behind each output.

    Args:
        broker_port: the port of the broker.
        protocol: the version of MQTT.
        kind: the type of the Facebridge node.
        properties: of the Facebridge node.
        presses: by the name of an inject node, the properties of its message.
    """

    def __init__(
        self,
        broker_port: int,
        protocol: Literal["5", "3.1.1"],
        kind: str,
        properties: dict[str, Any],
        presses: dict[str, dict[str, Any]],
    ) -> None:
        shown = {f"out{number}": number for number in range(OUTPUTS[kind])}
        common = {"name": "", "broker": _BROKER, "baseTopic": "facebridge", "targetType": "str", "timeout": 10}
        self.nodes: list[dict[str, Any]] = [
            {"id": _TAB, "type": "tab", "label": "test"},
            {
                "id": _BROKER, "type": "mqtt-broker", "broker": "127.0.0.1", "port": str(broker_port),
                "protocolVersion": {"5": "5", "3.1.1": "4"}[protocol], "autoConnect": True, "cleansession": True,
                "keepalive": "60", "autoUnsubscribe": True,
            },
            {"id": "node", "type": kind, "z": _TAB, **common, **properties, "wires": [[one] for one in shown]},
            *(
                {"id": one, "type": "debug", "z": _TAB, "active": True, "tosidebar": True, "complete": "true"}
                for one in shown
            ),
            *(
                {
                    "id": name, "type": "inject", "z": _TAB, "once": False, "wires": [["node"]],
                    "props": [{"p": key, "v": json.dumps(value), "vt": "json"} for key, value in message.items()],
                }
                for name, message in presses.items()
            ),
        ]  # fmt: skip


class PaletteSystem:
    """The running parts. The terminals are offline until a test runs them."""

    def __init__(self, node_red: NodeRed, broker: Mosquitto, bridge: KillableBridge, client: MqttClient) -> None:
        self.node_red = node_red
        self.broker = broker
        self.bridge = bridge
        self.client = client

    @asynccontextmanager
    async def flow(
        self, protocol: Literal["5", "3.1.1"], kind: str, presses: dict[str, dict[str, Any]], **properties: Any
    ) -> AsyncIterator[None]:
        """Run a flow while the block runs."""
        log_before = len(self.node_red.log)
        await self.node_red.deploy(PaletteFlow(self.broker.port, protocol, kind, properties, presses).nodes)
        await self.node_red.wait_logged("Connected to broker", log_before)
        try:
            yield
        finally:
            await self.node_red.deploy([])

    @asynccontextmanager
    async def terminal_connected(self, sn: str = "T1") -> AsyncIterator[SimulatedTerminal]:
        """Connect a terminal, and wait until the bridge publishes that it is online."""
        options = ConnectionOptions(first_retry_seconds=0.05, max_retry_seconds=0.3)
        before = len(self.client.heard)
        async with SimulatedTerminal(self.bridge.terminal_url, sn, options=options).running() as terminal:
            await self.client.wait_for(
                f"facebridge/terminal/{sn}/availability",
                lambda one: one.payload == b"online" and self.client.heard.index(one) >= before,
            )
            yield terminal

    async def sent(self, output: int, outcome: str, *, number: int = 1) -> dict[str, Any]:
        """Wait until an output has sent its `number`-th message with an outcome; return it."""

        def matches(shown: Shown) -> bool:
            return shown.node_id == f"out{output}" and json.loads(shown.text).get("outcome") == outcome

        shown = await self.node_red.wait_shown(matches, f"{outcome} on output {output}", number=number)
        message: dict[str, Any] = json.loads(shown.text)
        return message

    def messages(self, output: int) -> list[dict[str, Any]]:
        """Return all messages of an output."""
        return [json.loads(shown.text) for shown in self.node_red.shown if shown.node_id == f"out{output}"]


@asynccontextmanager
async def palette_system(node_red: NodeRed, folder: Path) -> AsyncIterator[PaletteSystem]:
    """Run a broker and a bridge beside a Node-RED that has the package."""
    (folder / "broker").mkdir()
    async with Mosquitto(folder / "broker", persistent=True) as broker:
        store = f"sqlite:///{folder / 'store.db'}"
        configuration = fixed_port_configuration(broker.port, ["T1", "T2"], store_url=store, commands={"deadline": 2})
        bridge = KillableBridge(folder, configuration)
        async with bridge.running(), mqtt_client(broker.port, "#") as client, node_red.watched():
            await client.wait_for("facebridge/bridge/availability", lambda one: one.payload == b"online")
            yield PaletteSystem(node_red, broker, bridge, client)
        assert "Traceback" not in bridge.full_log
